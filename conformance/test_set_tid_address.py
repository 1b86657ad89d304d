"""set_tid_address(2): the word that is zeroed at a thread's end."""

from __future__ import annotations

import pytest

from pytest_procsemantics import Process, clause
from pytest_procsemantics.alike import Make, MakeWith, by_any_process, like_clone
from pytest_procsemantics.driven import Observer
from pytest_procsemantics.driven.constants import (
    CLONE_CHILD_CLEARTID,
    CLONE_CHILD_SETTID,
    CLONE_FILES,
    CLONE_FS,
    CLONE_SIGHAND,
    CLONE_SYSVSEM,
    CLONE_THREAD,
    CLONE_VM,
    PR_GET_TID_ADDRESS,
    SIGKILL,
)
from pytest_procsemantics.lies import adds, drops, in_child, leaves_out, lie, reports

UNTOUCHED = 77
THREAD = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM
NO_WORD = leaves_out("set_tid_address")


def new_cell(process: Process, *, shared: bool = False) -> int:
    """Memory for a thread id, which holds none yet."""
    cell = process.allocate(8, shared=shared)
    process.store(cell, UNTOUCHED)
    return cell


@clause("set_tid_address.2/returns-callers-tid")
@lie(reports("it gives 0", "set_tid_address", lambda _: 0))
def test_the_callers_thread_id_is_given(parent: Process) -> None:
    cell, thread = new_cell(parent), parent.thread()
    assert parent.sys.set_tid_address(cell) == parent.sys.gettid()
    assert thread.sys.set_tid_address(cell) == thread.sys.gettid() != parent.own_pid


@clause("set_tid_address.2/always-succeeds")
@lie(NO_WORD)
@pytest.mark.parametrize(
    "address", [0, 3, 8, (1 << 64) - 1], ids=["null", "odd", "unmapped", "last"]
)
def test_any_address_will_do(parent: Process, address: int) -> None:
    thread = parent.thread()
    assert thread.sys.set_tid_address(address) == thread.tid
    assert thread.sys.prctl(PR_GET_TID_ADDRESS) == address


# --- who has one ---


@clause("set_tid_address.2/addresses-are-null-by-default")
@lie(adds(CLONE_CHILD_CLEARTID))
def test_a_thread_has_no_word_at_first(parent: Process) -> None:
    cell = new_cell(parent)
    parent.sys.set_tid_address(cell)
    thread = parent.clone(THREAD, child_tid=cell)
    assert thread.sys.prctl(PR_GET_TID_ADDRESS) == 0
    thread.exit_thread()
    assert parent.load(cell) == UNTOUCHED


@by_any_process("set_tid_address.2/clear-address-not-inherited-by-fork")
@lie(in_child("it is inherited", lambda child: child.sys.set_tid_address(0x1000)))
def test_a_child_has_no_word(parent: Process, make: Make) -> None:
    parent.sys.set_tid_address(new_cell(parent))
    assert make(parent).sys.prctl(PR_GET_TID_ADDRESS) == 0


@like_clone("set_tid_address.2/child-cleartid-sets-clear-child-tid")
@lie(drops(CLONE_CHILD_CLEARTID))
def test_clone_child_cleartid_names_the_word(parent: Process, make: MakeWith) -> None:
    cell = new_cell(parent)
    child = make(parent, CLONE_CHILD_CLEARTID, child_tid=cell)
    assert child.sys.prctl(PR_GET_TID_ADDRESS) == cell


@like_clone("set_tid_address.2/settid-address-not-inherited")
@lie(adds(CLONE_CHILD_SETTID))
def test_a_childs_child_stores_nothing(parent: Process, make: MakeWith) -> None:
    cell = new_cell(parent, shared=True)
    child = make(parent, CLONE_CHILD_SETTID, child_tid=cell)
    child.store(cell, UNTOUCHED)
    make(child, 0, child_tid=cell)
    assert parent.load(cell) == UNTOUCHED


# --- when it is zeroed ---


@clause("set_tid_address.2/addresses-are-per-thread")
@lie(NO_WORD)
def test_each_threads_end_zeroes_its_own_word(parent: Process) -> None:
    first, second = new_cell(parent), new_cell(parent)
    ends, stays = parent.thread("ends"), parent.thread("stays")
    ends.sys.set_tid_address(first)
    stays.sys.set_tid_address(second)
    ends.exit_thread()
    assert (parent.load(first), parent.load(second)) == (0, UNTOUCHED)


@clause("set_tid_address.2/null-turns-off")
@lie(NO_WORD)
def test_without_an_address_nothing_is_zeroed(parent: Process) -> None:
    cell = new_cell(parent)
    thread = parent.clone(THREAD | CLONE_CHILD_CLEARTID, child_tid=cell)
    thread.sys.set_tid_address(0)
    thread.exit_thread()
    assert parent.load(cell) == UNTOUCHED


@like_clone("set_tid_address.2/zero-written-for-sharing-process")
@lie(drops(CLONE_VM), NO_WORD)
def test_a_process_that_shares_the_memory_zeroes_it_too(parent: Process, make: MakeWith) -> None:
    cell = new_cell(parent)
    child = make(parent, CLONE_VM)
    child.sys.set_tid_address(cell)
    child.exit()
    assert parent.load(cell) == 0


@like_clone("set_tid_address.2/zero-written-on-death-by-signal")
@lie(NO_WORD)
def test_it_is_zeroed_when_a_signal_ends_it(parent: Process, make: MakeWith) -> None:
    cell = new_cell(parent)
    child = make(parent, CLONE_VM)
    child.sys.set_tid_address(cell)
    parent.sys.kill(child.own_pid, SIGKILL)
    child.wait_for_exit()
    assert parent.load(cell) == 0


@clause("set_tid_address.2/leader-exit-writes-too")
@lie(NO_WORD)
def test_it_is_zeroed_when_the_leader_ends_before_another(
    parent: Process, observer: Observer
) -> None:
    cell = new_cell(parent, shared=True)
    leader = parent.fork("leader")
    thread = leader.thread()
    leader.sys.set_tid_address(cell)
    leader.post.sys.exit(0)
    observer.wait_for_state(leader, "Z")
    assert parent.load(cell) == 0
    assert thread.sys.getpid() == leader.own_pid
