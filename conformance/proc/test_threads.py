"""proc(5): /proc/self and /proc/thread-self, and the folder, name and children of each thread."""

from __future__ import annotations

from pytest_procsemantics import Process, clause
from pytest_procsemantics.driven import Observer, fails
from pytest_procsemantics.driven.constants import (
    AT_FDCWD,
    CLONE_THREAD,
    EINVAL,
    O_DIRECTORY,
    O_WRONLY,
    PR_GET_NAME,
    PR_SET_NAME,
)
from pytest_procsemantics.lies import (
    before_call,
    by_maker_too,
    drops,
    leaves_out,
    lie,
)

NO_THREAD = drops(CLONE_THREAD)


def links(process: Process) -> tuple[str, str]:
    """Where /proc/self and /proc/thread-self lead a process or thread."""
    reads = Observer(process)
    return reads.link("/proc/self"), reads.link("/proc/thread-self")


# --- self ---


@clause("proc.5/self-names-thread-group")
@lie(NO_THREAD)
def test_self_is_the_readers_process_and_thread_self_its_thread(parent: Process) -> None:
    thread, child = parent.thread(), parent.fork()
    assert links(thread) == (f"{parent.pid}", f"{parent.pid}/task/{thread.tid_seen}")
    assert links(child) == (f"{child.pid}", f"{child.pid}/task/{child.pid}")


@clause("proc.5/self-after-exec-by-thread")
@lie(NO_THREAD)
def test_after_exec_by_a_thread_both_name_the_leader(parent: Process) -> None:
    thread = parent.thread()
    thread.execve()
    assert links(thread) == (f"{parent.pid}", f"{parent.pid}/task/{parent.pid}")
    assert Observer(thread).read("/proc/self/status") != b""


# --- the folders of threads ---


def tasks(observer: Observer, process: Process) -> set[int]:
    """The threads that a process has a folder of."""
    calls = observer.process.sys
    folder = calls.openat(AT_FDCWD, f"/proc/{process.pid}/task", O_DIRECTORY)
    return {int(name) for name in calls.getdents64(folder) if name.isdigit()}


@clause("proc.5/task-directory-for-each-thread")
@lie(NO_THREAD, leaves_out("exit", hangs=True))
def test_task_has_a_folder_of_each_thread_until_its_end(
    parent: Process, observer: Observer
) -> None:
    before = tasks(observer, parent)
    thread = parent.thread()
    assert tasks(observer, parent) == before | {thread.tid_seen}
    thread.exit_thread()
    assert tasks(observer, parent) == before


def children(observer: Observer, thread: Process) -> list[int]:
    """Those in a thread's file."""
    path = f"/proc/{thread.pid}/task/{thread.tid_seen}/children"
    return [int(pid) for pid in observer.read(path).split()]


@clause("proc.5/task-children-lists-children")
@lie(leaves_out("wait4"), NO_THREAD)
def test_children_has_those_of_one_thread_until_they_are_waited_for(
    parent: Process, observer: Observer
) -> None:
    thread = parent.thread()
    first, second, other = parent.fork("first"), parent.fork("second"), thread.fork("other")
    first.exit()
    assert children(observer, parent) == [first.pid, second.pid]
    assert children(observer, thread) == [other.pid]
    parent.sys.wait4(first.own_pid)
    assert children(observer, parent) == [second.pid]


# --- names ---


@clause("proc.5/comm-per-thread")
@lie(by_maker_too("prctl"))
def test_each_thread_has_a_name_of_its_own(parent: Process, observer: Observer) -> None:
    parent.sys.prctl(PR_SET_NAME, b"before")
    thread = parent.thread()
    assert observer.read(f"{observer.folder(thread)}/comm") == b"before\n"
    thread.sys.prctl(PR_SET_NAME, b"after")
    assert observer.read(f"{observer.folder(thread)}/comm") == b"after\n"
    assert observer.read(f"/proc/{parent.pid}/task/{parent.pid}/comm") == b"before\n"


@clause("proc.5/comm-writable-by-siblings")
@lie(
    leaves_out("write"),
    before_call("write", "the writer's, too", lambda writer: writer.sys.prctl(PR_SET_NAME, b"new")),
)
def test_a_sibling_can_name_a_thread(parent: Process, observer: Observer) -> None:
    parent.sys.prctl(PR_SET_NAME, b"writer")
    thread = parent.thread()
    parent.write_to(f"{observer.folder(thread)}/comm", b"new")
    assert thread.sys.prctl(PR_GET_NAME) == b"new"
    assert parent.sys.prctl(PR_GET_NAME) == b"writer"


@clause("proc.5/comm-writable-by-own-threads-only")
@lie(leaves_out("write"))
def test_another_process_cannot_name_a_thread(parent: Process, observer: Observer) -> None:
    parent.sys.prctl(PR_SET_NAME, b"kept")
    child = parent.fork()
    name = parent.sys.openat(AT_FDCWD, f"/proc/{child.pid}/comm", O_WRONLY)
    with fails(EINVAL):
        parent.sys.write(name, b"new")
    assert child.sys.prctl(PR_GET_NAME) == b"kept"
