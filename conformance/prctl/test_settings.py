"""prctl(2): the name, timer slack, machine checks, memory and other settings; what is refused."""

from __future__ import annotations

import pytest

from pytest_procsemantics import Process, clause
from pytest_procsemantics.alike import Make, MakeWith, by_any_copy, by_any_primitive, like_clone
from pytest_procsemantics.driven import Observer, Out, fails
from pytest_procsemantics.driven.constants import (
    CLONE_CHILD_CLEARTID,
    CLONE_VM,
    EACCES,
    EFAULT,
    EINVAL,
    EPERM,
    MAP_ANONYMOUS,
    MAP_PRIVATE,
    PR_GET_CHILD_SUBREAPER,
    PR_GET_IO_FLUSHER,
    PR_GET_KEEPCAPS,
    PR_GET_MDWE,
    PR_GET_MEMORY_MERGE,
    PR_GET_NAME,
    PR_GET_PDEATHSIG,
    PR_GET_THP_DISABLE,
    PR_GET_TID_ADDRESS,
    PR_GET_TIMERSLACK,
    PR_GET_TSC,
    PR_MCE_KILL,
    PR_MCE_KILL_DEFAULT,
    PR_MCE_KILL_EARLY,
    PR_MCE_KILL_GET,
    PR_MCE_KILL_SET,
    PR_MDWE_NO_INHERIT,
    PR_MDWE_REFUSE_EXEC_GAIN,
    PR_SET_IO_FLUSHER,
    PR_SET_KEEPCAPS,
    PR_SET_MDWE,
    PR_SET_MEMORY_MERGE,
    PR_SET_MM,
    PR_SET_MM_START_CODE,
    PR_SET_NAME,
    PR_SET_THP_DISABLE,
    PR_SET_TIMERSLACK,
    PR_SET_TSC,
    PR_TSC_ENABLE,
    PR_TSC_SIGSEGV,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
    SIGCHLD,
)
from pytest_procsemantics.lies import (
    EXEC_DOES_NOTHING,
    by_maker_too,
    drops,
    in_child,
    in_image,
    instead,
    leaves_out,
    lie,
    passes,
    reports,
)

NOT_SET = leaves_out("prctl")
NOWHERE = 8  # in the page at 0, where nothing is mapped
UNKNOWN = 99999


# --- the name ---


@clause("prctl.2/name-of-calling-thread")
@lie(by_maker_too("prctl"))
def test_the_name_is_the_threads_own(parent: Process, observer: Observer) -> None:
    parent.sys.prctl(PR_SET_NAME, b"alpha")
    thread = parent.thread()
    thread.sys.prctl(PR_SET_NAME, b"beta")
    assert thread.sys.prctl(PR_GET_NAME) == b"beta"
    assert parent.sys.prctl(PR_GET_NAME) == b"alpha"
    assert observer.read(f"{observer.folder(thread)}/comm") == b"beta\n"
    assert observer.read(f"{observer.folder(parent)}/comm") == b"alpha\n"


@clause("prctl.2/name-truncated")
@lie(passes("cut earlier", "prctl", 1, lambda name: name[:14] if isinstance(name, bytes) else name))
def test_a_long_name_is_cut(parent: Process) -> None:
    parent.sys.prctl(PR_SET_NAME, b"fifteen-chars-xyz")
    assert parent.sys.prctl(PR_GET_NAME) == b"fifteen-chars-x"


# --- timers, machine checks, I/O, the clock's instruction ---


@clause("prctl.2/timer-slack-zero-resets")
@lie(passes("0 changes nothing", "prctl", 1, lambda slack: slack or 777))
def test_zero_resets_the_timer_slack(parent: Process) -> None:
    before = parent.sys.prctl(PR_GET_TIMERSLACK)
    parent.sys.prctl(PR_SET_TIMERSLACK, 777)
    assert parent.sys.prctl(PR_GET_TIMERSLACK) == 777
    parent.sys.prctl(PR_SET_TIMERSLACK, 0)
    assert parent.sys.prctl(PR_GET_TIMERSLACK) == before


def kills_late(process: Process) -> None:
    """Have the system's policy for machine checks."""
    process.sys.prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_DEFAULT)


@by_any_primitive("prctl.2/mce-policy-inherited-by-children")
@lie(in_child("it is the system's", kills_late))
def test_a_child_has_its_makers_policy_for_machine_checks(parent: Process, make: Make) -> None:
    parent.sys.prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY)
    assert make(parent).sys.prctl(PR_MCE_KILL_GET) == PR_MCE_KILL_EARLY


@clause("prctl.2/mce-policy-kept-over-exec")
@lie(in_image("it is the system's", kills_late))
def test_the_policy_for_machine_checks_stays_over_exec(parent: Process) -> None:
    parent.sys.prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY)
    parent.execve()
    assert parent.sys.prctl(PR_MCE_KILL_GET) == PR_MCE_KILL_EARLY


@clause("prctl.2/io-flusher-needs-capability")
@lie(NOT_SET)
def test_an_io_flusher_takes_a_capability(parent: Process) -> None:
    parent.sys.capset(0, 0, 0)
    with fails(EPERM):
        parent.sys.prctl(PR_SET_IO_FLUSHER, 1)
    with fails(EPERM):
        parent.sys.prctl(PR_GET_IO_FLUSHER)


@by_any_copy("prctl.2/tsc-flag-inherited-by-fork")
@lie(in_child("it may be read", lambda child: child.sys.prctl(PR_SET_TSC, PR_TSC_ENABLE)))
def test_a_forked_child_may_not_read_the_time_stamp_counter_either(
    parent: Process, make: Make
) -> None:
    parent.sys.prctl(PR_SET_TSC, PR_TSC_SIGSEGV)
    assert make(parent).sys.prctl(PR_GET_TSC) == PR_TSC_SIGSEGV


@clause("prctl.2/tsc-flag-over-exec")
@lie(in_image("it may be read", lambda image: image.sys.prctl(PR_SET_TSC, PR_TSC_ENABLE)))
def test_the_flag_of_the_time_stamp_counter_stays_over_exec(parent: Process) -> None:
    parent.sys.prctl(PR_SET_TSC, PR_TSC_SIGSEGV)
    parent.execve()
    assert parent.sys.prctl(PR_GET_TSC) == PR_TSC_SIGSEGV


# --- memory ---


@by_any_copy("prctl.2/thp-disable-inherited-by-fork")
@lie(in_child("they are allowed", lambda child: child.sys.prctl(PR_SET_THP_DISABLE, 0)))
def test_a_forked_child_has_no_huge_pages_either(parent: Process, make: Make) -> None:
    parent.sys.prctl(PR_SET_THP_DISABLE, 1)
    assert make(parent).sys.prctl(PR_GET_THP_DISABLE) == 1


@clause("prctl.2/thp-disable-shared-with-memory")
@lie(instead("vfork", SIGCHLD))
def test_the_child_of_vfork_forbids_its_parent_huge_pages(parent: Process) -> None:
    child = parent.vfork()
    child.sys.prctl(PR_SET_THP_DISABLE, 1)
    child.exit()
    assert parent.sys.prctl(PR_GET_THP_DISABLE) == 1


@like_clone("prctl.2/thp-disable-shared-with-memory")
@lie(drops(CLONE_VM))
def test_who_shares_the_memory_is_forbidden_huge_pages_too(parent: Process, make: MakeWith) -> None:
    child = make(parent, CLONE_VM)
    child.sys.prctl(PR_SET_THP_DISABLE, 1)
    assert parent.sys.prctl(PR_GET_THP_DISABLE) == 1


@clause("prctl.2/thp-disable-einval")
@lie(NOT_SET)
@pytest.mark.parametrize(
    "args",
    [
        pytest.param((PR_SET_THP_DISABLE, 1, 1, 0, 0), id="third"),
        pytest.param((PR_SET_THP_DISABLE, 1, 0, 1, 0), id="fourth"),
        pytest.param((PR_SET_THP_DISABLE, 1, 0, 0, 1), id="fifth"),
        pytest.param((PR_GET_THP_DISABLE, 1, 0, 0, 0), id="get"),
    ],
)
def test_unused_arguments_of_thp_disable_must_be_zero(
    parent: Process, args: tuple[int, ...]
) -> None:
    with fails(EINVAL):
        parent.sys.prctl(*args)
    assert parent.sys.prctl(PR_GET_THP_DISABLE) == 0


def maps_writable_and_executable(process: Process) -> int:
    """Map a page with both; gives its address."""
    protection = PROT_READ | PROT_WRITE | PROT_EXEC
    return int(process.sys.mmap(0, 1, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))


@by_any_copy("prctl.2/mdwe-inherited-by-fork")
@lie(NOT_SET)
def test_a_forked_child_is_refused_writable_code_too(parent: Process, make: Make) -> None:
    parent.sys.prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN)
    child = make(parent)
    assert child.sys.prctl(PR_GET_MDWE) == PR_MDWE_REFUSE_EXEC_GAIN
    with fails(EACCES):
        maps_writable_and_executable(child)


ALL_OF_MDWE = PR_MDWE_REFUSE_EXEC_GAIN | PR_MDWE_NO_INHERIT
INHERITED = passes(
    "it is inherited",
    "prctl",
    1,
    lambda mask: mask & ~PR_MDWE_NO_INHERIT if isinstance(mask, int) else mask,
)


@by_any_copy("prctl.2/mdwe-no-inherit")
@lie(INHERITED)
def test_with_no_inherit_a_forked_child_may_have_writable_code(parent: Process, make: Make) -> None:
    parent.sys.prctl(PR_SET_MDWE, ALL_OF_MDWE)
    child = make(parent)
    assert child.sys.prctl(PR_GET_MDWE) == 0
    assert maps_writable_and_executable(child)
    with fails(EACCES):
        maps_writable_and_executable(parent)


@clause("prctl.2/mdwe-no-inherit")
@lie(instead("vfork", SIGCHLD))
def test_with_no_inherit_the_child_of_vfork_has_its_parents_memory(parent: Process) -> None:
    parent.sys.prctl(PR_SET_MDWE, ALL_OF_MDWE)
    assert parent.vfork().sys.prctl(PR_GET_MDWE) == ALL_OF_MDWE


@clause("prctl.2/mdwe-over-exec")
@lie(NOT_SET)
def test_the_refusal_of_writable_code_stays_over_exec(parent: Process) -> None:
    parent.sys.prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN)
    parent.execve()
    assert parent.sys.prctl(PR_GET_MDWE) == PR_MDWE_REFUSE_EXEC_GAIN


@clause("prctl.2/mdwe-over-exec")
@lie(EXEC_DOES_NOTHING, INHERITED)
def test_with_no_inherit_it_does_not_stay_over_exec(parent: Process) -> None:
    parent.sys.prctl(PR_SET_MDWE, ALL_OF_MDWE)
    parent.execve()
    assert parent.sys.prctl(PR_GET_MDWE) == 0


@clause("prctl.2/mdwe-cannot-be-changed")
@lie(NOT_SET)
@pytest.mark.parametrize("mask", [0, PR_MDWE_REFUSE_EXEC_GAIN])
def test_the_refusal_of_writable_code_cannot_be_taken_back(parent: Process, mask: int) -> None:
    parent.sys.prctl(PR_SET_MDWE, ALL_OF_MDWE)
    with fails(EPERM):
        parent.sys.prctl(PR_SET_MDWE, mask)
    assert parent.sys.prctl(PR_GET_MDWE) == ALL_OF_MDWE


@by_any_copy("prctl.2/memory-merge-inherited-by-fork")
@lie(in_child("pages stay apart", lambda child: child.sys.prctl(PR_SET_MEMORY_MERGE, 0)))
def test_pages_of_a_forked_child_may_be_merged_too(parent: Process, make: Make) -> None:
    parent.sys.prctl(PR_SET_MEMORY_MERGE, 1)
    assert make(parent).sys.prctl(PR_GET_MEMORY_MERGE) == 1


@clause("prctl.2/memory-merge-kept-over-exec")
@lie(in_image("pages stay apart", lambda image: image.sys.prctl(PR_SET_MEMORY_MERGE, 0)))
def test_pages_of_a_new_image_may_be_merged_too(parent: Process) -> None:
    parent.sys.prctl(PR_SET_MEMORY_MERGE, 1)
    parent.execve()
    assert parent.sys.prctl(PR_GET_MEMORY_MERGE) == 1


# --- the address for the thread's id ---


@clause("prctl.2/tid-address-tells-clear-child-tid")
@lie(leaves_out("set_tid_address"))
def test_the_address_that_was_set_can_be_read(parent: Process) -> None:
    cell = parent.allocate(8)
    parent.sys.set_tid_address(cell)
    assert parent.sys.prctl(PR_GET_TID_ADDRESS) == cell


@clause("prctl.2/tid-address-tells-clear-child-tid")
@lie(drops(CLONE_CHILD_CLEARTID))
def test_the_address_that_clone_was_given_can_be_read(parent: Process) -> None:
    cell = parent.allocate(8)
    child = parent.clone(CLONE_CHILD_CLEARTID | SIGCHLD, child_tid=cell)
    assert child.sys.prctl(PR_GET_TID_ADDRESS) == cell
    assert parent.fork().sys.prctl(PR_GET_TID_ADDRESS) == 0


# --- results and errors ---


@clause("prctl.2/returns-zero-or-value")
@lie(reports("it gives 2", "prctl", lambda _: 2))
def test_an_option_gives_zero_or_what_was_asked_for(parent: Process) -> None:
    assert parent.sys.prctl(PR_SET_KEEPCAPS, 1) == 0
    assert parent.sys.prctl(PR_GET_KEEPCAPS) == 1
    assert parent.sys.prctl(PR_GET_PDEATHSIG, Out(4)) == (0, bytes(4))


@clause("prctl.2/einval-unknown-option")
@lie(passes("it is known", "prctl", 0, PR_GET_KEEPCAPS))
def test_an_unknown_option_is_refused(parent: Process) -> None:
    with fails(EINVAL):
        parent.sys.prctl(UNKNOWN)


@clause("prctl.2/efault")
@lie(NOT_SET)
@pytest.mark.parametrize(
    "option",
    [
        pytest.param(PR_GET_CHILD_SUBREAPER, id="get subreaper"),
        pytest.param(PR_GET_NAME, id="get name"),
        pytest.param(PR_GET_PDEATHSIG, id="get pdeathsig"),
        pytest.param(PR_SET_NAME, id="set name"),
    ],
)
def test_a_bad_address_is_refused(parent: Process, option: int) -> None:
    with fails(EFAULT):
        parent.sys.prctl(option, NOWHERE)


@clause("prctl.2/set-mm-needs-capability")
@lie(NOT_SET)
def test_the_borders_of_memory_take_a_capability(parent: Process) -> None:
    parent.sys.capset(0, 0, 0)
    with fails(EPERM):
        parent.sys.prctl(PR_SET_MM, PR_SET_MM_START_CODE, 4096)
