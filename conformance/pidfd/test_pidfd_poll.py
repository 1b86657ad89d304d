"""pidfd_open(2): how poll and waitid tell of a process's end, and of a thread's."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_procsemantics import Process, clause
from pytest_procsemantics.driven import Observer, Step, fails
from pytest_procsemantics.driven.constants import (
    ECHILD,
    EPOLL_CTL_ADD,
    EPOLLIN,
    ESRCH,
    P_ALL,
    P_PIDFD,
    PIDFD_GET_INFO,
    PIDFD_INFO_EXIT,
    PIDFD_NONBLOCK,
    PIDFD_THREAD,
    POLLHUP,
    POLLIN,
    PTRACE_SEIZE,
    SIGCHLD,
    SIGSTOP,
    WALL,
    WEXITED,
    WNOHANG,
    WNOWAIT,
)
from pytest_procsemantics.lies import (
    EXEC_DOES_NOTHING,
    EXEC_IN_A_CHILD,
    acts_on_caller,
    every_child,
    in_child,
    leaves_out,
    lie,
    passes,
    reports,
)

NO_THREADS = every_child(SIGCHLD)
OF_CALLER = acts_on_caller("pidfd_open")
ENDS_AT_ONCE = in_child("the child ends at once", lambda child: child.exit())
ENDED = POLLIN | POLLHUP

Ask = Callable[[Process, int], int]  # what is ready of a descriptor now
Wait = Callable[[Process, int], Step]  # until something is
Do = Callable[[Process, Observer], None]  # with a leader


def polled(process: Process, pidfd: int) -> int:
    [(_, happened)] = process.sys.poll([(pidfd, POLLIN)], 0)
    return int(happened)


def selected(process: Process, pidfd: int) -> int:
    return POLLIN if process.sys.pselect6({pidfd}, 0) else 0


def epolled(process: Process, pidfd: int) -> int:
    return sum(events for events, _ in process.sys.epoll_wait(watching(process, pidfd), timeout=0))


def watching(process: Process, pidfd: int) -> int:
    """An epoll instance that watches it."""
    epoll = process.sys.epoll_create()
    process.sys.epoll_ctl(epoll, EPOLL_CTL_ADD, pidfd, EPOLLIN)
    return int(epoll)


def wait_by_poll(process: Process, pidfd: int) -> Step:
    return process.post.sys.poll([(pidfd, POLLIN)])  # type: ignore[no-any-return]


def wait_by_select(process: Process, pidfd: int) -> Step:
    return process.post.sys.pselect6({pidfd})  # type: ignore[no-any-return]


def wait_by_epoll(process: Process, pidfd: int) -> Step:
    return process.post.sys.epoll_wait(watching(process, pidfd))  # type: ignore[no-any-return]


def goes_on(leader: Process, observer: Observer) -> None:
    """The leader lives."""


def ends(leader: Process, observer: Observer) -> None:
    """The leader becomes a zombie, as its process has another thread."""
    leader.post.sys.exit(0)
    observer.wait_for_state(leader, "Z")


WAYS = pytest.mark.parametrize("ask", [polled, selected, epolled], ids=["poll", "select", "epoll"])
LEADERS = pytest.mark.parametrize("do", [goes_on, ends], ids=["leader-lives", "leader-is-a-zombie"])


# --- processes ---


@WAYS
@clause("pidfd_open.2/poll-not-readable-while-alive")
@lie(ENDS_AT_ONCE)
def test_while_a_process_lives_its_descriptor_is_not_readable(
    parent: Process, observer: Observer, ask: Ask
) -> None:
    child = parent.fork()
    pidfd = parent.sys.pidfd_open(child.own_pid, 0)
    assert ask(parent, pidfd) == 0
    parent.sys.kill(child.own_pid, SIGSTOP)
    observer.wait_for_state(child, "T")
    assert ask(parent, pidfd) == 0


@pytest.mark.parametrize(
    ("wait", "ask"),
    [
        pytest.param(wait_by_poll, polled, id="poll"),
        pytest.param(wait_by_select, selected, id="select"),
        pytest.param(wait_by_epoll, epolled, id="epoll"),
    ],
)
@clause("pidfd_open.2/poll-readable-when-ended")
@lie(acts_on_caller("pidfd_open", hangs=True))
def test_when_a_process_ends_its_descriptor_becomes_readable(
    parent: Process, observer: Observer, wait: Wait, ask: Ask
) -> None:
    child = parent.fork()
    pidfd = parent.sys.pidfd_open(child.own_pid, 0)
    answer = wait(parent, pidfd)
    child.exit()
    answer.arrives()
    assert ask(parent, pidfd) == POLLIN
    assert observer.state(child) == "Z"


@clause("pidfd_open.2/poll-works-for-non-parent")
@lie(OF_CALLER)
def test_who_is_not_the_parent_can_poll(parent: Process, observer: Observer) -> None:
    child, sibling = parent.fork(), parent.fork("sibling")
    pidfd = sibling.sys.pidfd_open(child.own_pid, 0)
    assert polled(sibling, pidfd) == 0
    child.exit()
    assert observer.state(child) == "Z"
    assert polled(sibling, pidfd) == POLLIN


@pytest.mark.parametrize("ask", [polled, epolled], ids=["poll", "epoll"])
@clause("pidfd_open.2/poll-hangup-when-reaped")
@lie(leaves_out("wait4"))
def test_after_the_wait_poll_says_hangup(parent: Process, ask: Ask) -> None:
    child = parent.fork()
    pidfd = parent.sys.pidfd_open(child.own_pid, 0)
    child.exit()
    assert ask(parent, pidfd) == POLLIN
    parent.sys.wait4(child.own_pid)
    assert ask(parent, pidfd) == ENDED


# --- waitid ---


@clause("pidfd_open.2/nonblock-waitid-of-ended-child")
@lie(reports("another child", "waitid", lambda info: info._replace(pid=1)))
def test_a_nonblocking_descriptor_of_an_ended_child_can_be_waited_on(parent: Process) -> None:
    child = parent.fork()
    pidfd = parent.sys.pidfd_open(child.own_pid, PIDFD_NONBLOCK)
    child.exit(3)
    assert polled(parent, pidfd) == POLLIN
    ended = parent.sys.waitid(P_PIDFD, pidfd, WEXITED)
    assert (ended.pid, ended.status) == (child.own_pid, 3)


@clause("pidfd_open.2/waitid-on-other-process")
@lie(passes("waitid takes any child", "waitid", 0, P_ALL))
def test_only_ones_own_child_can_be_waited_on(parent: Process) -> None:
    child, sibling = parent.fork(), parent.fork("sibling")
    pidfd = sibling.sys.pidfd_open(child.own_pid, 0)
    sibling.fork("nephew").exit()
    child.exit()
    with fails(ECHILD):
        sibling.sys.waitid(P_PIDFD, pidfd, WEXITED)


@pytest.mark.parametrize("flags", [0, PIDFD_NONBLOCK], ids=["blocking", "nonblocking"])
@clause("pidfd_open.2/waitid-after-reaping")
@lie(passes("waitid leaves the child", "waitid", 3, WEXITED | WNOWAIT))
def test_a_child_can_be_waited_on_once(parent: Process, flags: int) -> None:
    child = parent.fork()
    pidfd = parent.sys.pidfd_open(child.own_pid, flags)
    child.exit()
    parent.sys.waitid(P_PIDFD, pidfd, WEXITED)
    with fails(ECHILD):
        parent.sys.waitid(P_PIDFD, pidfd, WEXITED)


# --- threads ---


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param(
            0, marks=clause("pidfd_open.2/poll-of-multithreaded-waits-for-last"), id="process"
        ),
        pytest.param(
            PIDFD_THREAD,
            marks=clause("pidfd_open.2/thread-descriptor-of-leader-waits-for-group"),
            id="leader",
        ),
    ],
)
@lie(NO_THREADS)
def test_while_one_thread_lives_nothing_is_told(
    parent: Process, observer: Observer, flags: int
) -> None:
    leader = parent.fork("leader")
    thread = leader.thread()
    pidfd = parent.sys.pidfd_open(leader.own_pid, flags)
    ends(leader, observer)
    assert polled(parent, pidfd) == 0
    assert parent.sys.waitid(P_PIDFD, pidfd, WEXITED | WNOHANG) is None
    thread.exit_thread()
    assert wait_by_poll(parent, pidfd).arrives() == [(pidfd, POLLIN)]


@clause("pidfd_open.2/poll-thread-descriptor-at-threads-end")
@lie(OF_CALLER)
def test_the_end_of_a_thread_is_told_by_its_descriptor(parent: Process, observer: Observer) -> None:
    thread = parent.thread()
    pidfd = parent.sys.pidfd_open(thread.tid, PIDFD_THREAD)
    assert polled(parent, pidfd) == 0
    thread.exit_thread()
    observer.wait_until_gone(thread)
    assert polled(parent, pidfd) == ENDED


@clause("pidfd_open.2/poll-thread-descriptor-at-threads-end")
def test_the_end_of_the_leader_is_told_by_its_descriptor(
    parent: Process, observer: Observer
) -> None:
    leader = parent.fork("leader")
    thread = leader.thread()
    pidfd = parent.sys.pidfd_open(leader.own_pid, PIDFD_THREAD)
    assert polled(parent, pidfd) == 0
    ends(leader, observer)
    assert thread.sys.getpid() == leader.own_pid
    assert polled(parent, pidfd) == POLLIN


@clause("pidfd_open.2/poll-before-tracer-waits")
@lie(OF_CALLER)
def test_the_end_of_a_traced_thread_is_told_before_its_tracer_waits(
    parent: Process, observer: Observer
) -> None:
    thread = parent.fork().thread()
    parent.sys.ptrace(PTRACE_SEIZE, thread.tid, 0, 0)
    pidfd = parent.sys.pidfd_open(thread.tid, PIDFD_THREAD)
    thread.post.sys.exit(0)
    observer.wait_for_state(thread, "Z")
    assert polled(parent, pidfd) == POLLIN
    parent.sys.wait4(thread.tid, WALL)
    assert polled(parent, pidfd) == ENDED


# --- a thread that is no leader execs ---


@LEADERS
@clause("pidfd_open.2/exec-by-thread-gives-no-notice")
@lie(EXEC_IN_A_CHILD)
def test_when_a_thread_execs_nothing_is_told_of_the_process(
    parent: Process, observer: Observer, do: Do
) -> None:
    leader = parent.fork("leader")
    thread = leader.thread()
    pidfd = parent.sys.pidfd_open(leader.own_pid, 0)
    do(leader, observer)
    thread.execve()
    assert polled(parent, pidfd) == 0
    assert parent.sys.wait4(leader.own_pid, WNOHANG).pid == 0
    thread.exit(9)
    assert polled(parent, pidfd) == POLLIN
    assert parent.sys.wait4(leader.own_pid, WNOHANG)[:2] == (leader.own_pid, 9 << 8)


@LEADERS
@clause("pidfd_open.2/exec-by-thread-leaves-leaders-descriptor")
@lie(EXEC_IN_A_CHILD)
def test_the_leaders_descriptor_is_of_the_thread_that_execed(
    parent: Process, observer: Observer, do: Do
) -> None:
    leader = parent.fork("leader")
    thread = leader.thread()
    pidfd = parent.sys.pidfd_open(leader.own_pid, PIDFD_THREAD)
    do(leader, observer)
    thread.execve()
    assert polled(parent, pidfd) == 0
    assert parent.sys.ioctl(pidfd, PIDFD_GET_INFO, 0).pid == leader.own_pid
    thread.exit()
    assert polled(parent, pidfd) == POLLIN


@LEADERS
@clause("pidfd_open.2/exec-by-thread-ends-its-own-descriptor", "pidfd_info.2/exit-status-of-thread")
@lie(EXEC_DOES_NOTHING)
def test_the_descriptor_of_a_thread_ends_with_its_exec(
    parent: Process, observer: Observer, do: Do
) -> None:
    leader = parent.fork("leader")
    thread = leader.thread()
    pidfd = parent.sys.pidfd_open(thread.tid, PIDFD_THREAD)
    do(leader, observer)
    assert polled(parent, pidfd) == 0
    thread.execve()
    assert polled(parent, pidfd) == ENDED
    told = parent.sys.ioctl(pidfd, PIDFD_GET_INFO, PIDFD_INFO_EXIT)
    assert (told.mask & PIDFD_INFO_EXIT, told.exit_code) == (PIDFD_INFO_EXIT, 0)


@clause("pidfd_open.2/exec-by-thread-frees-its-id")
@lie(EXEC_DOES_NOTHING)
def test_after_its_exec_the_threads_id_names_nobody(parent: Process, observer: Observer) -> None:
    leader = parent.fork("leader")
    thread = leader.thread()
    former = thread.tid
    pidfd = parent.sys.pidfd_open(former, PIDFD_THREAD)
    thread.execve()
    assert observer.threads(thread) == 1
    with fails(ESRCH):
        parent.sys.tgkill(leader.own_pid, former, 0)
    with fails(ESRCH):
        parent.sys.kill(former, 0)
    with fails(ESRCH):
        parent.sys.pidfd_open(former, PIDFD_THREAD)
    with fails(ESRCH):
        parent.sys.pidfd_send_signal(pidfd, 0)
