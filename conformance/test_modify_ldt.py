"""modify_ldt(2): whose the local descriptor table is."""

from __future__ import annotations

import struct

from pytest_procsemantics import Process, clause
from pytest_procsemantics.driven import Out
from pytest_procsemantics.driven.constants import CLONE_VM, SIGCHLD
from pytest_procsemantics.lies import EXEC_DOES_NOTHING, every_child, lie

READ, WRITE = 0, 0x11
ENTRY = struct.Struct("<4I")  # struct user_desc: number, base, limit, flags
IN_USE = 0x51  # a segment of 32 bits, with its limit in pages
SIZE = 8  # bytes of an entry in the table


def enters(process: Process, number: int) -> None:
    """Enter a segment into the table."""
    process.sys.raw("modify_ldt", WRITE, ENTRY.pack(number, 0x1000, 0xF, IN_USE), ENTRY.size)


def has(process: Process) -> tuple[bool, bool]:
    """Whether there is a first entry, and a second."""
    _, table = process.sys.raw("modify_ldt", READ, Out(2 * SIZE), 2 * SIZE)
    return any(table[:SIZE]), any(table[SIZE:])


@clause("modify_ldt.2/threads-share-table")
@lie(every_child(SIGCHLD))
def test_threads_share_the_table(parent: Process) -> None:
    thread = parent.thread()
    enters(parent, 0)
    enters(thread, 1)
    assert has(parent) == has(thread) == (True, True)


@clause("modify_ldt.2/fork-copies-table")
@lie(every_child(CLONE_VM | SIGCHLD))
def test_a_child_has_a_copy_of_the_table(parent: Process) -> None:
    enters(parent, 0)
    child = parent.fork()
    assert has(child) == (True, False)
    enters(child, 1)
    assert (has(child), has(parent)) == ((True, True), (True, False))


@clause("modify_ldt.2/exec-starts-empty")
@lie(EXEC_DOES_NOTHING)
def test_a_new_image_has_an_empty_table(parent: Process) -> None:
    enters(parent, 0)
    parent.execve()
    assert has(parent) == (False, False)
