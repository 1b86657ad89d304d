"""pidfd_open(2): which process a descriptor is of, its flags, and what is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_procsemantics import Process, clause
from pytest_procsemantics.driven import Observer, fails
from pytest_procsemantics.driven.constants import (
    CLONE_NEWPID,
    CLONE_NEWUTS,
    CLONE_PIDFD,
    EBADF,
    ECHILD,
    EINVAL,
    EMFILE,
    EPERM,
    ESRCH,
    F_GETFD,
    F_GETFL,
    F_SETFD,
    FD_CLOEXEC,
    KCMP_FILE,
    MADV_COLD,
    O_CLOEXEC,
    O_NONBLOCK,
    P_PIDFD,
    PIDFD_NONBLOCK,
    PIDFD_THREAD,
    POLLIN,
    RLIMIT_NOFILE,
    SA_NOCLDWAIT,
    SA_RESTART,
    SIG_BLOCK,
    SIG_DFL,
    SIG_IGN,
    SIGCHLD,
    SIGUSR1,
    WEXITED,
    WNOHANG,
)
from pytest_procsemantics.driven.forms import Disposition
from pytest_procsemantics.driven.target import Target
from pytest_procsemantics.lies import (
    EXEC_CLOSES_NOTHING,
    EXEC_IN_A_CHILD,
    acts_on_caller,
    before_call,
    drops,
    in_child,
    leaves_out,
    lie,
    opened,
    passes,
    reports,
)
from pytest_procsemantics.requirements import new_init, own_namespaces
from pytest_procsemantics.requirements.surroundings import SOMEBODY

CLOSED = 99
NO_PID = 2**31 - 1  # more than a kernel has
BITS = range(32)
KNOWN = {PIDFD_THREAD, PIDFD_NONBLOCK}

OF_CALLER = acts_on_caller("pidfd_open")
NOTHING_OPENED = leaves_out("pidfd_open")
STAYS_A_ZOMBIE = leaves_out("wait4")


def its_own(child: Process) -> None:
    """Have the maker's pidfds replaced by such of the child itself."""
    for pidfd in opened(child, "pidfd_open"):
        child.sys.dup3(child.sys.pidfd_open(child.own_pid, 0), pidfd, O_CLOEXEC)


@clause("pidfd_open.2/makes-descriptor-for-process")
@lie(OF_CALLER)
def test_the_descriptor_is_of_the_process_with_the_pid(parent: Process, observer: Observer) -> None:
    first, second = parent.fork("first"), parent.fork("second")
    first.count_signals(SIGUSR1)
    second.count_signals(SIGUSR1)
    pidfd = parent.sys.pidfd_open(second.own_pid, 0)
    assert observer.fdinfo(parent, pidfd).get("Pid") == str(second.pid)
    parent.sys.pidfd_send_signal(pidfd, SIGUSR1)
    assert (first.count(SIGUSR1), second.count(SIGUSR1)) == (0, 1)


@clause("pidfd_open.2/own-pid-allowed")
@lie(NOTHING_OPENED)
def test_a_process_can_open_itself(parent: Process, observer: Observer) -> None:
    pidfd = parent.sys.pidfd_open(parent.own_pid, 0)
    assert observer.fdinfo(parent, pidfd).get("Pid") == str(parent.pid)
    assert parent.sys.poll([(pidfd, POLLIN)], 0) == [(pidfd, 0)]
    assert parent.sys.pidfd_send_signal(pidfd, 0) == 0


@clause("pidfd_open.2/lowest-free-descriptor")
@lie(reports("another number", "pidfd_open", lambda pidfd: pidfd + 1))
def test_the_descriptor_is_the_lowest_free_number(parent: Process) -> None:
    free = parent.sys.dup(0)
    parent.sys.close(free)
    assert parent.sys.pidfd_open(parent.own_pid, 0) == free


@clause("pidfd_open.2/returns-descriptor-or-minus-one")
@lie(before_call("pidfd_open", "a descriptor is left", lambda process: process.sys.dup(0)))
def test_a_refused_call_opens_nothing(parent: Process) -> None:
    free = parent.sys.dup(0)
    parent.sys.close(free)
    with fails(EINVAL):
        parent.sys.pidfd_open(-1, 0)
    with fails(ESRCH):
        parent.sys.pidfd_open(NO_PID, 0)
    assert parent.sys.pidfd_open(parent.own_pid, 0) == free
    assert parent.sys.fcntl(free, F_GETFD) == FD_CLOEXEC


@clause("pidfd_open.2/pid-is-looked-up-in-callers-namespace")
@lie(drops(CLONE_NEWPID))
def test_the_pid_is_a_number_of_the_callers_namespace(parent: Process, observer: Observer) -> None:
    init = new_init(parent)
    grandchild = init.fork("grandchild")
    first = init.sys.pidfd_open(1, 0)
    assert observer.fdinfo(init, first).get("Pid") == str(init.pid)
    second = init.sys.pidfd_open(grandchild.own_pid, 0)
    assert observer.fdinfo(init, second).get("Pid") == str(grandchild.pid)
    other = parent.sys.pidfd_open(1, 0)
    assert observer.fdinfo(parent, other).get("Pid") != str(init.pid)


@clause("pidfd_open.2/no-permission-needed-to-open")
@lie(leaves_out("setresuid"))
def test_opening_takes_no_right_over_the_process(parent: Process, observer: Observer) -> None:
    child = parent.fork()
    child.sys.setresuid(SOMEBODY, SOMEBODY, SOMEBODY)
    pidfd = child.sys.pidfd_open(parent.own_pid, 0)
    assert observer.fdinfo(child, pidfd).get("Pid") == str(parent.pid)
    with fails(EPERM):
        child.sys.pidfd_send_signal(pidfd, 0)


# --- over fork and exec ---


@clause("pidfd_open.2/close-on-exec-set")
@lie(EXEC_CLOSES_NOTHING)
def test_the_descriptor_is_closed_by_exec(parent: Process) -> None:
    pidfd = parent.sys.pidfd_open(parent.own_pid, 0)
    assert parent.sys.fcntl(pidfd, F_GETFD) == FD_CLOEXEC
    parent.execve()
    with fails(EBADF):
        parent.sys.fcntl(pidfd, F_GETFD)


@clause("pidfd_open.2/cloexec-can-be-cleared")
@lie(leaves_out("fcntl"))
def test_without_close_on_exec_the_descriptor_stays(parent: Process) -> None:
    child = parent.fork()
    pidfd = parent.sys.pidfd_open(child.own_pid, 0)
    parent.sys.fcntl(pidfd, F_SETFD, 0)
    parent.execve()
    assert parent.sys.poll([(pidfd, POLLIN)], 0) == [(pidfd, 0)]
    assert parent.sys.pidfd_send_signal(pidfd, 0) == 0
    child.exit()
    assert parent.sys.poll([(pidfd, POLLIN)]) == [(pidfd, POLLIN)]


@clause("pidfd_open.2/inherited-by-fork")
@lie(in_child("its descriptor is of itself", its_own))
def test_a_forked_child_has_the_descriptor(parent: Process, observer: Observer) -> None:
    opened_one = parent.fork("opened")
    pidfd = parent.sys.pidfd_open(opened_one.own_pid, 0)
    child = parent.fork()
    assert observer.fdinfo(child, pidfd).get("Pid") == str(opened_one.pid)
    assert observer.kcmp(parent, child, KCMP_FILE, pidfd, pidfd) == 0
    assert child.sys.pidfd_send_signal(pidfd, 0) == 0
    opened_one.exit()
    assert child.sys.poll([(pidfd, POLLIN)]) == [(pidfd, POLLIN)]


@clause("pidfd_open.2/keeps-process-over-targets-exec")
@lie(EXEC_IN_A_CHILD)
def test_the_descriptor_is_of_the_same_process_after_its_exec(parent: Process) -> None:
    child = parent.fork()
    pidfd = parent.sys.pidfd_open(child.own_pid, 0)
    child.execve()
    assert parent.sys.poll([(pidfd, POLLIN)], 0) == [(pidfd, 0)]
    assert parent.sys.pidfd_send_signal(pidfd, 0) == 0
    child.exit(5)
    assert parent.sys.poll([(pidfd, POLLIN)], 0) == [(pidfd, POLLIN)]
    assert parent.sys.waitid(P_PIDFD, pidfd, WEXITED | WNOHANG).status == 5


# --- flags ---


@clause("pidfd_open.2/nonblock-sets-o-nonblock", "pidfd_open.2/accepted-flag-has-its-effect")
@lie(passes("pidfd_open drops its flags", "pidfd_open", 1, 0))
def test_pidfd_nonblock_makes_a_nonblocking_descriptor(parent: Process) -> None:
    pidfd = parent.sys.pidfd_open(parent.own_pid, PIDFD_NONBLOCK)
    assert parent.sys.fcntl(pidfd, F_GETFL) & O_NONBLOCK
    other = parent.sys.pidfd_open(parent.own_pid, 0)
    assert not parent.sys.fcntl(other, F_GETFL) & O_NONBLOCK


@clause("pidfd_open.2/thread-flag-refers-to-thread", "pidfd_open.2/accepted-flag-has-its-effect")
@lie(OF_CALLER)
def test_pidfd_thread_makes_a_descriptor_of_one_thread(parent: Process) -> None:
    parent.sys.rt_sigprocmask(SIG_BLOCK, {SIGUSR1})
    thread = parent.thread()
    pidfd = parent.sys.pidfd_open(thread.tid, PIDFD_THREAD)
    parent.sys.pidfd_send_signal(pidfd, SIGUSR1)
    assert thread.sys.rt_sigpending() == {SIGUSR1}
    assert parent.sys.rt_sigpending() == set()


@clause("pidfd_open.2/without-thread-flag-thread-id-refused")
def test_without_pidfd_thread_no_other_thread_can_be_opened(parent: Process) -> None:
    thread = parent.thread()
    with fails(EINVAL):
        parent.sys.pidfd_open(thread.tid, 0)


@pytest.mark.parametrize("flag", [1 << bit for bit in BITS if 1 << bit not in KNOWN], ids=hex)
@clause("pidfd_open.2/einval-flags", "pidfd_open.2/accepted-flag-has-its-effect")
@lie(passes("pidfd_open drops its flags", "pidfd_open", 1, 0))
def test_a_flag_that_it_does_not_know_is_refused(parent: Process, flag: int) -> None:
    with fails(EINVAL):
        parent.sys.pidfd_open(parent.own_pid, flag)


# --- what cannot be opened ---


@pytest.mark.parametrize("pid", [0, -1, -(2**31)])
@clause("pidfd_open.2/einval-pid")
@lie(NOTHING_OPENED)
def test_a_number_that_is_no_pid_is_refused(parent: Process, pid: int) -> None:
    with fails(EINVAL):
        parent.sys.pidfd_open(pid, 0)


@clause("pidfd_open.2/emfile")
@lie(leaves_out("prlimit64"))
def test_at_the_limit_of_descriptors_nothing_is_opened(parent: Process) -> None:
    free = parent.sys.dup(0)
    parent.sys.close(free)
    _, hard = parent.sys.prlimit64(0, RLIMIT_NOFILE)
    parent.sys.prlimit64(0, RLIMIT_NOFILE, (free, hard))
    with fails(EMFILE):
        parent.sys.pidfd_open(parent.own_pid, 0)
    parent.sys.prlimit64(0, RLIMIT_NOFILE, (free + 1, hard))
    assert parent.sys.pidfd_open(parent.own_pid, 0) == free


@clause("pidfd_open.2/esrch-no-process")
@lie(STAYS_A_ZOMBIE, passes("pidfd_open takes init", "pidfd_open", 0, 1))
def test_a_pid_that_nobody_has_is_refused(parent: Process) -> None:
    child = parent.fork()
    child.exit()
    parent.sys.wait4(child.own_pid)
    with fails(ESRCH):
        parent.sys.pidfd_open(child.own_pid, 0)
    with fails(ESRCH):
        parent.sys.pidfd_open(NO_PID, 0)


@clause("pidfd_open.2/zombie-can-be-opened")
@lie(before_call("pidfd_open", "the child is reaped", lambda process: process.sys.wait4(-1)))
def test_a_zombie_can_be_opened(parent: Process) -> None:
    child = parent.fork()
    child.exit(7)
    pidfd = parent.sys.pidfd_open(child.own_pid, 0)
    assert parent.sys.poll([(pidfd, POLLIN)], 0) == [(pidfd, POLLIN)]
    ended = parent.sys.waitid(P_PIDFD, pidfd, WEXITED)
    assert (ended.pid, ended.status) == (child.own_pid, 7)


@pytest.mark.parametrize(
    "disposition",
    [
        pytest.param(
            lambda target: Disposition(SIG_IGN),
            marks=clause("pidfd_open.2/sigchld-ignored-no-guarantee"),
            id="ignored",
        ),
        pytest.param(
            lambda target: Disposition(SIG_DFL, SA_NOCLDWAIT),
            marks=clause("pidfd_open.2/sa-nocldwait-no-guarantee"),
            id="nocldwait",
        ),
        pytest.param(
            lambda target: target.counting(SA_NOCLDWAIT | SA_RESTART, ()),
            marks=clause("pidfd_open.2/sa-nocldwait-no-guarantee"),
            id="nocldwait-handled",
        ),
    ],
)
@lie(leaves_out("rt_sigaction"))
def test_of_a_child_that_leaves_no_zombie_nothing_can_be_opened(
    parent: Process, target: Target, disposition: Callable[[Target], Disposition]
) -> None:
    parent.sys.rt_sigaction(SIGCHLD, disposition(target))
    child = parent.fork()
    child.exit()
    with fails(ECHILD):
        parent.sys.wait4(child.own_pid)
    with fails(ESRCH):
        parent.sys.pidfd_open(child.own_pid, 0)


@clause("pidfd_open.2/reaped-elsewhere-no-guarantee")
@lie(STAYS_A_ZOMBIE)
def test_a_child_that_another_thread_waited_for_cannot_be_opened(parent: Process) -> None:
    thread = parent.thread()
    child = parent.fork()
    child.exit()
    thread.sys.wait4(child.own_pid)
    with fails(ESRCH):
        parent.sys.pidfd_open(child.own_pid, 0)


@clause("pidfd_open.2/clone-pidfd-is-safe")
@lie(drops(CLONE_PIDFD))
def test_clone_pidfd_gives_a_descriptor_of_a_child_that_leaves_no_zombie(parent: Process) -> None:
    parent.sys.rt_sigaction(SIGCHLD, SIG_IGN)
    cell = parent.allocate(8)
    parent.store(cell, CLOSED)
    child = parent.clone(CLONE_PIDFD | SIGCHLD, parent_tid=cell)
    child.exit()
    [(_, happened)] = parent.sys.poll([(parent.load(cell), POLLIN)])
    assert happened & POLLIN
    with fails(ESRCH):
        parent.sys.pidfd_send_signal(parent.load(cell), 0)


# --- what it is good for ---


@clause("pidfd_open.2/setns-possible")
@lie(leaves_out("setns"))
def test_setns_takes_the_descriptor(parent: Process) -> None:
    own_namespaces(parent, CLONE_NEWUTS)
    child = parent.fork()
    child.sys.unshare(CLONE_NEWUTS)
    child.sys.sethostname(b"elsewhere")
    pidfd = parent.sys.pidfd_open(child.own_pid, 0)
    parent.sys.setns(pidfd, CLONE_NEWUTS)
    assert parent.sys.uname().nodename == "elsewhere"


@clause("pidfd_open.2/process-madvise-possible")
@lie(OF_CALLER)
def test_process_madvise_takes_the_descriptor(parent: Process, target: Target) -> None:
    child = parent.fork()
    [page] = child.pages(1)
    pidfd = parent.sys.pidfd_open(child.own_pid, 0)
    advised = parent.sys.process_madvise(pidfd, [(page, target.page_size)], MADV_COLD)
    assert advised == target.page_size
    child.exit()
    parent.sys.wait4(child.own_pid)
    with fails(ESRCH):
        parent.sys.process_madvise(pidfd, [(page, target.page_size)], MADV_COLD)


@clause("pidfd_open.2/read-gives-einval")
@lie(leaves_out("read"))
def test_nothing_can_be_read_from_the_descriptor(parent: Process) -> None:
    child = parent.fork()
    pidfd = parent.sys.pidfd_open(child.own_pid, 0)
    with fails(EINVAL):
        parent.sys.read(pidfd, 8)
    child.exit()
    with fails(EINVAL):
        parent.sys.read(pidfd, 8)
