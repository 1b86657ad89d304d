"""signal(7): who gets a signal, and which wait."""

from __future__ import annotations

import pytest

from pytest_procsemantics import Process, clause
from pytest_procsemantics.driven import Observer
from pytest_procsemantics.driven.constants import (
    CLONE_SIGHAND,
    CLONE_THREAD,
    P_PID,
    SIG_BLOCK,
    SIG_IGN,
    SIGALRM,
    SIGCONT,
    SIGTSTP,
    SIGTTIN,
    SIGTTOU,
    SIGURG,
    SIGUSR1,
    WEXITED,
)
from pytest_procsemantics.lies import (
    ENDED_CHILDREN_VANISH,
    drops,
    in_image,
    in_library_child,
    lie,
    passes,
)


@clause("signal.7/disposition-is-per-process")
@lie(drops(CLONE_THREAD | CLONE_SIGHAND))
def test_a_disposition_is_one_for_all_threads(parent: Process) -> None:
    thread = parent.thread()
    thread.sys.rt_sigaction(SIGUSR1, SIG_IGN)
    assert parent.sys.rt_sigaction(SIGUSR1).handler == SIG_IGN


@clause("signal.7/sigcont-and-stop-discard-each-other")
@lie(passes("SIGCONT is another", "kill", 1, lambda it: SIGURG if it == SIGCONT else it))
@pytest.mark.parametrize(
    "stop",
    [
        pytest.param(SIGTSTP, id="TSTP"),
        pytest.param(SIGTTIN, id="TTIN"),
        pytest.param(SIGTTOU, id="TTOU"),
    ],
)
def test_a_stop_and_a_continuation_discard_each_other(parent: Process, stop: int) -> None:
    child = parent.fork()
    child.sys.rt_sigprocmask(SIG_BLOCK, {SIGCONT, stop})
    parent.sys.kill(child.own_pid, stop)
    assert child.sys.rt_sigpending() == {stop}
    parent.sys.kill(child.own_pid, SIGCONT)
    assert child.sys.rt_sigpending() == {SIGCONT}
    parent.sys.kill(child.own_pid, stop)
    assert child.sys.rt_sigpending() == {stop}


def main_blocks(new: Process) -> None:
    """Let the maker of a thread block the signal."""
    if new.name == "thread":
        assert new.creation
        new.creation.process.sys.rt_sigprocmask(SIG_BLOCK, {SIGALRM})


@clause("signal.7/process-signal-prefers-main-thread")
@lie(in_library_child("the main thread blocks it", main_blocks))
def test_a_signal_for_a_process_is_the_main_threads(program: Process) -> None:
    program.lib.signal(SIGALRM, program.lib.handler(1))
    sender = program.lib.fork("sender")
    program.lib.pthread_create()
    sender.sys.kill(program.own_pid, SIGALRM)
    assert program.sys.getpid() == program.own_pid
    sender.sys.kill(program.own_pid, SIGALRM)
    assert program.sys.getpid() == program.own_pid
    assert [note.tid for note in program.lib.notes()] == [program.tid, program.tid]


@clause("signal.7/sigchld-default-is-ignored")
@lie(ENDED_CHILDREN_VANISH)
def test_sigchld_does_nothing_by_default_and_leaves_a_zombie(
    parent: Process, observer: Observer
) -> None:
    child = parent.fork()
    child.exit()
    observer.wait_for_state(child, "Z")
    assert parent.sys.getpid() == parent.own_pid
    assert parent.sys.waitid(P_PID, child.own_pid, WEXITED).pid == child.own_pid


@clause("signal.7/exec-keeps-pending-thread-directed")
@lie(in_image("exec takes it", lambda image: image.sys.rt_sigtimedwait({SIGUSR1}, 0)))
def test_a_signal_for_the_thread_waits_over_exec(parent: Process, observer: Observer) -> None:
    parent.sys.rt_sigprocmask(SIG_BLOCK, {SIGUSR1})
    parent.sys.tgkill(parent.own_pid, parent.tid, SIGUSR1)
    before = observer.status_field(parent, "SigPnd")
    parent.execve()
    assert observer.status_field(parent, "SigPnd") == before
    assert int(before, 16) == 1 << SIGUSR1 - 1
