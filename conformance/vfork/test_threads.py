"""vfork(2), NOTES and BUGS: a vfork in one of several threads, and terminals."""

from __future__ import annotations

from typing import Any

from pytest_procsemantics import Process, clause
from pytest_procsemantics.driven import Observer, Step
from pytest_procsemantics.driven.constants import (
    CLONE_VFORK,
    CLONE_VM,
    SIG_IGN,
    SIGCHLD,
    SIGKILL,
    SIGSTOP,
    SIGTTIN,
)
from pytest_procsemantics.driven.forms.identity import Ids
from pytest_procsemantics.lies import Lie, in_child, instead, lie

IS_FORK = instead("vfork", SIGCHLD)
DOES_NOT_SUSPEND = instead("vfork", CLONE_VM | SIGCHLD)
DOES_NOT_SHARE = instead("vfork", CLONE_VFORK | SIGCHLD)
NOBODY = 65534


def suspends_all(child: Process) -> None:
    """Keep the whole process of the maker from running."""
    if child.name == "child":
        observer = child.target.observer
        observer.process.sys.kill(child.sys.getppid(), SIGSTOP)
        observer.wait_for_state(child.target.processes[1], "T")


@clause("vfork.2/only-calling-thread-suspended")
@lie(DOES_NOT_SUSPEND, in_child("the whole process is suspended", suspends_all, hangs=True))
def test_only_the_calling_thread_stands_still(parent: Process, observer: Observer) -> None:
    caller = parent.thread("caller")
    child = caller.vfork()
    answer = caller.post.sys.gettid()
    assert parent.sys.getpid() == parent.own_pid
    assert observer.state(caller) == "D"
    assert not answer.ready
    child.exit()
    assert answer.arrives() == caller.tid


@clause("vfork.2/other-threads-share-memory-with-child")
@lie(DOES_NOT_SHARE, IS_FORK)
def test_a_running_thread_and_the_child_share_memory(parent: Process) -> None:
    cell = parent.allocate(8)
    child = parent.thread("caller").vfork()
    parent.store(cell, 3)
    assert child.load(cell) == 3
    child.store(cell, 4)
    assert parent.load(cell) == 4


class ChangesAll(Process):
    def ask_call(self, name: str, number: int, args: Any, decode: Any = None) -> Step:
        """Have the child change its ids with the thread's."""
        if (name, self.name) == ("setresuid", "other"):
            everybody = self.target.processes.values()
            (child,) = [process for process in everybody if process.name == "child"]
            child.ask_call(name, number, args, decode).arrives()
        return super().ask_call(name, number, args, decode)


@clause("vfork.2/setuid-in-other-thread-leaves-child")
@lie(DOES_NOT_SHARE, Lie("ids are one for thread and child", ChangesAll))
def test_a_threads_change_of_ids_is_not_the_childs(parent: Process) -> None:
    cell = parent.allocate(8)
    other = parent.thread("other")
    child = parent.vfork()
    before = child.sys.getresuid()
    other.sys.setresuid(NOBODY, NOBODY, NOBODY)
    other.store(cell, 5)
    assert other.sys.getresuid() == Ids(NOBODY, NOBODY, NOBODY)
    assert child.sys.getresuid() == before != other.sys.getresuid()
    assert child.load(cell) == 5


# --- terminals ---


IGNORES = in_child(
    "a vfork child is spared", lambda child: child.sys.rt_sigaction(SIGTTIN, SIG_IGN), hangs=True
)


@clause("vfork.2/no-sigttou-protection")
@lie(DOES_NOT_SUSPEND, IGNORES)
def test_a_child_in_the_background_is_stopped_when_it_reads_the_terminal(
    parent: Process, observer: Observer
) -> None:
    leader = parent.fork("leader")
    terminal = leader.lead_session()
    worker = leader.fork("worker")
    worker.sys.setpgid(0, 0)
    child = worker.vfork()
    child.post.sys.read(terminal, 1)
    observer.wait_for_state(child, "T")
    assert observer.state(worker) == "D"
    observer.process.sys.kill(child.pid, SIGKILL)
    observer.wait_for_state(worker, "T")
