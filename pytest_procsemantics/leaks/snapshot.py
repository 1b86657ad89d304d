"""What this process has at one moment: children, descriptors, threads, and segments in /dev/shm.

Only what /proc has of this process is read, not that of all: a snapshot costs the same on a machine
with many processes. A child that has ended and was not waited for is a child here; that it is a
zombie is told when it is described.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shlex
import sys
from collections.abc import Iterator
from typing import Final, NamedTuple

CHILD: Final = "child"
DESCRIPTOR: Final = "descriptor"
THREAD: Final = "thread"
SEGMENT: Final = "segment"

SEGMENTS: Final = "/dev/shm"
# 0, 1 and 2 lead somewhere else whenever pytest suspends its capture.
STANDARD: Final = frozenset({"0", "1", "2"})


class Thing(NamedTuple):
    """Something that a test can leave behind, by what tells it apart from others of its kind."""

    kind: str
    number: int  # pid, descriptor, thread id, or inode
    target: str = ""  # of a descriptor: where its link leads; of a segment: its name


Snapshot = frozenset[Thing]


def why_not_here() -> str | None:
    """The reason why no snapshot can be taken on this machine, or None."""
    if sys.platform != "linux":
        return f"no Linux but {sys.platform}"
    return None if os.path.isdir("/proc/self/task") else "no /proc"


def look() -> Snapshot:
    """Take a snapshot of this process."""
    return frozenset([*_children(), *_descriptors(), *_threads(), *_segments()])


def _children() -> Iterator[Thing]:
    for pid in children_of("self"):
        yield Thing(CHILD, pid)
    # What multiprocessing starts by its fork server are that one's children.
    if server := forkserver():
        for pid in children_of(str(server)):
            yield Thing(CHILD, pid)


def forkserver() -> int | None:
    """The pid of multiprocessing's fork server, if this process has started one."""
    module = sys.modules.get("multiprocessing.forkserver")
    pid: int | None = getattr(getattr(module, "_forkserver", None), "_forkserver_pid", None)
    return pid


def children_of(process: str) -> list[int]:
    """The children of a process, given by its pid or as "self"; none if it is gone."""
    if not _kernel_lists_children():
        return _children_by_pass(process)
    pids: list[int] = []
    # Each thread has a list of those that it made. Any of them may end meanwhile.
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for thread in os.listdir(f"/proc/{process}/task"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                pids += map(int, read(f"/proc/{process}/task/{thread}/children").split())
    return pids


@functools.cache
def _kernel_lists_children() -> bool:
    """Whether the kernel was built with CONFIG_PROC_CHILDREN."""
    return os.path.exists(f"/proc/self/task/{os.readlink('/proc/self')}/children")


def _children_by_pass(process: str) -> list[int]:
    """The same by one pass over all processes."""
    parent = os.readlink("/proc/self") if process == "self" else process
    pids = [name for name in os.listdir("/proc") if name.isdigit()]
    return [int(pid) for pid in pids if status(pid)[1:2] == [parent]]


def status(pid: str) -> list[str]:
    """State, parent's pid and what follows them in /proc/PID/stat; empty if the process is gone."""
    try:
        # The name before them is in brackets, and may have any character in it.
        return read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def command_line(pid: int) -> str:
    """Program and arguments, quoted; empty if the process has ended, also as a zombie."""
    try:
        words = read(f"/proc/{pid}/cmdline").rstrip("\0")
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return shlex.join(words.split("\0")) if words else ""


def _descriptors() -> Iterator[Thing]:
    for name in os.listdir("/proc/self/fd"):
        # The listing has its own descriptor too, which is closed by now.
        with contextlib.suppress(FileNotFoundError):
            if name not in STANDARD:
                yield Thing(DESCRIPTOR, int(name), os.readlink(f"/proc/self/fd/{name}"))


def _threads() -> Iterator[Thing]:
    return (Thing(THREAD, int(name)) for name in os.listdir("/proc/self/task"))


def _segments() -> Iterator[Thing]:
    # A folder is somebody's place for temporary files.
    with contextlib.suppress(FileNotFoundError), os.scandir(SEGMENTS) as entries:
        for entry in entries:
            if entry.is_file(follow_symlinks=False):
                yield Thing(SEGMENT, entry.inode(), entry.name)


def read(path: str) -> str:
    """A file of /proc, whose bytes may be no text."""
    with open(path, "rb", buffering=0) as file:
        return os.fsdecode(file.readall() or b"")
