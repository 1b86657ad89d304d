"""fork(2), ERRORS, and vfork(2): what refuses a child, and that there is none then."""

from __future__ import annotations

import pytest

from pytest_procsemantics import Process, clause
from pytest_procsemantics.alike import Make, like_fork_and_vfork
from pytest_procsemantics.driven import CallFailed, Target, Unsupported, fails
from pytest_procsemantics.driven.constants import (
    AT_FDCWD,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_VFORK,
    CLONE_VM,
    EAGAIN,
    ECHILD,
    ENOMEM,
    ITIMER_REAL,
    O_WRONLY,
    P_ALL,
    RLIM_INFINITY,
    RLIMIT_AS,
    SCHED_DEADLINE,
    SCHED_FLAG_RESET_ON_FORK,
    SCHED_OTHER,
    SIGALRM,
    SIGCHLD,
    WALL,
    WEXITED,
    WNOHANG,
)
from pytest_procsemantics.driven.creation import Creation
from pytest_procsemantics.driven.forms.scheduling import CPU_BYTES, SchedAttr
from pytest_procsemantics.lies import Lie, instead, leaves_out, lie, passes
from pytest_procsemantics.requirements import at_the_limit, become_ordinary, namespace_flags

NOT_LIMITED = passes("limits are not set", "prlimit64", 2, 0)
HUGE = 2 << 20  # bytes
OFTEN = 0.0001  # seconds
MILLISECOND = 10**6  # in nanoseconds
SPARING = SchedAttr(
    SCHED_DEADLINE, runtime=MILLISECOND, deadline=100 * MILLISECOND, period=100 * MILLISECOND
)


@like_fork_and_vfork("fork.2/eagain-rlimit-nproc", vfork="vfork.2/errors-like-fork")
@lie(NOT_LIMITED)
def test_at_the_users_limit_of_processes_fork_is_refused(parent: Process, make: Make) -> None:
    with at_the_limit(parent), fails(EAGAIN):
        make(parent)
    assert make(parent).sys.getppid() == parent.own_pid


@like_fork_and_vfork("fork.2/failure-returns-error-and-no-child", vfork="vfork.2/errors-like-fork")
@lie(NOT_LIMITED)
def test_a_refused_fork_leaves_no_child(parent: Process, make: Make) -> None:
    with at_the_limit(parent), fails(EAGAIN):
        make(parent)
    with fails(ECHILD):
        parent.sys.waitid(P_ALL, 0, WEXITED | WALL | WNOHANG)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(Process.fork, id="fork", marks=clause("fork.2/enomem-dead-namespace-init")),
        pytest.param(Process.vfork, id="vfork", marks=clause("vfork.2/enomem-dead-namespace-init")),
    ],
)
@lie(leaves_out("unshare"))
def test_in_a_pid_namespace_whose_init_has_ended_fork_is_refused(
    parent: Process, make: Make
) -> None:
    parent.sys.unshare(namespace_flags(parent, CLONE_NEWPID))
    init = make(parent)
    assert init.own_pid == 1
    init.exit()
    init.wait_for_exit()
    with fails(ENOMEM):
        make(parent)
    assert parent.sys.getpid() == parent.own_pid


@clause("fork.2/eagain-deadline-without-reset-on-fork")
@lie(leaves_out("sched_setattr"))
def test_a_deadline_thread_may_not_fork_without_the_flag(parent: Process) -> None:
    parent.sys.sched_setaffinity(0, range(8 * CPU_BYTES))
    parent.sys.sched_setattr(0, SPARING)
    with fails(EAGAIN):
        parent.fork()
    parent.sys.sched_setattr(0, SPARING._replace(flags=SCHED_FLAG_RESET_ON_FORK))
    assert parent.fork().sys.sched_getattr().policy == SCHED_OTHER


def in_a_namespace_with_few_ids(process: Process) -> Process:
    """Process 1 of a pid namespace that has 300 ids and no more (pid_namespaces(7)).

    It is made by an ordinary user: where the limit is the whole machine's it can't be changed then.
    """
    become_ordinary(process)
    try:
        process.sys.unshare(CLONE_NEWUSER | CLONE_NEWPID)
        init = process.fork("init")
        limit = init.sys.openat(AT_FDCWD, "/proc/sys/kernel/pid_max", O_WRONLY)
        init.sys.write(limit, b"301")
    except CallFailed as error:
        raise Unsupported(f"a pid_max of the namespace's own ({error.strerror})") from None
    return init


def use_up_ids(init: Process, count: int) -> None:
    """Have children that end and are not waited for."""
    for _ in range(count):
        init.fork().exit()


@clause("fork.2/eagain-pid-max")
@lie(leaves_out("write"))
def test_with_every_id_in_use_fork_is_refused(parent: Process) -> None:
    init = in_a_namespace_with_few_ids(parent)
    use_up_ids(init, 200)
    with fails(EAGAIN):
        use_up_ids(init, 100)
    init.sys.wait4(300)
    assert init.fork().own_pid == 300


def room_of(target: Target) -> int:
    """Bytes of memory and swap together, where the kernel judges each area by them alone."""
    observer = target.observer
    if observer.process.sys.getrlimit(RLIMIT_AS)[0] != RLIM_INFINITY:
        raise Unsupported("areas beyond all memory (RLIMIT_AS is set)")
    if observer.read("/proc/sys/vm/overcommit_memory").strip() != b"0":
        raise Unsupported("the heuristic of overcommit (overcommit_memory is not 0)")
    words = observer.read("/proc/meminfo").split()
    sizes = [int(words[words.index(name) + 1]) for name in (b"MemTotal:", b"SwapTotal:")]
    return sum(sizes) * 1024


@clause("fork.2/enomem-commit-accounting")
@lie(instead("fork", CLONE_VM | SIGCHLD))
def test_an_area_beyond_all_memory_is_not_copied(parent: Process, target: Target) -> None:
    size = room_of(target) * 7 // 10 // HUGE * HUGE
    parent.allocate(size)
    assert parent.fork().sys.getppid() == parent.own_pid
    parent.allocate(size)  # next to the other one, so that both become one area
    with fails(ENOMEM):
        parent.fork()


@clause("vfork.2/no-commit-of-parents-size")
@lie(instead("vfork", SIGCHLD), instead("vfork", CLONE_VFORK | SIGCHLD))
def test_vfork_needs_no_memory_for_such_an_area(parent: Process, target: Target) -> None:
    size = room_of(target) * 7 // 10 // HUGE * HUGE
    parent.allocate(size)
    parent.allocate(size)
    assert parent.vfork().sys.getppid() == parent.own_pid


class IsInterrupted(Process):
    def actual(self, creation: Creation) -> Creation:
        """Wait for a signal, and make nothing."""
        return Creation(creation.primitive, "ppoll", (0, 0, 0, 0, 8), creation.flags)


@clause("fork.2/erestartnointr-only-in-trace")
@lie(Lie("fork ends with EINTR", IsInterrupted))
def test_a_signal_never_interrupts_fork(parent: Process) -> None:
    parent.count_signals(SIGALRM)
    parent.sys.setitimer(ITIMER_REAL, OFTEN, OFTEN)
    use_up_ids(parent, 300)
    assert parent.count(SIGALRM) > 0
