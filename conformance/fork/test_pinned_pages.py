"""fork(2): a page that the kernel holds for I/O stays the parent's; by a registered io_uring buffer."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from pytest_procsemantics import Process, clause
from pytest_procsemantics.driven import Out
from pytest_procsemantics.driven.constants import (
    CLONE_VM,
    IORING_ENTER_GETEVENTS,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    MAP_SHARED,
    PROT_READ,
    PROT_WRITE,
    SIGCHLD,
)
from pytest_procsemantics.driven.forms.memory import PIECE
from pytest_procsemantics.lies import allocations, every_child, in_child, lie

# linux/io_uring.h
READ_FIXED, WRITE_FIXED = 4, 5
OF_RING, OF_ENTRIES = 0, 0x10000000  # what a mapping is of
REGISTER_BUFFERS = 0
ENTRY = struct.Struct(
    "<BBHiQQII24x"
)  # operation, flags, priority, descriptor, offset, address, length
PARAMETERS = 120  # bytes of struct io_uring_params
TAIL_AT, ARRAY_AT = 44, 64  # in it, where the offsets of tail and array in the ring stand


@dataclass(frozen=True)
class Ring:
    """An io_uring of a process with one registered buffer, for one operation at a time."""

    process: Process
    fd: int
    tail: int
    entries: int

    def do(self, operation: int, fd: int, buffer: int, size: int) -> None:
        """Transfer so many bytes between a descriptor and the registered buffer."""
        self.process.store(self.entries, ENTRY.pack(operation, 0, 0, fd, 0, buffer, size, 0))
        tail = int.from_bytes(self.process.load_bytes(self.tail, 4), "little")
        self.process.store(self.tail, (tail + 1).to_bytes(4, "little"))
        self.process.sys.io_uring_enter(self.fd, 1, 1, IORING_ENTER_GETEVENTS, 0, 0)


def new_ring(process: Process, page: int) -> Ring:
    """A ring in whose array every place names the first entry, and a page as its buffer."""
    calls, size = process.sys, process.target.page_size
    fd, parameters = calls.io_uring_setup(1, Out(PARAMETERS))
    shown = PROT_READ | PROT_WRITE
    ring = calls.mmap(0, size, shown, MAP_SHARED, fd, OF_RING)
    entries = calls.mmap(0, size, shown, MAP_SHARED, fd, OF_ENTRIES)
    (tail,) = struct.unpack_from("<I", parameters, TAIL_AT)
    (array,) = struct.unpack_from("<I", parameters, ARRAY_AT)
    process.store(ring + array, bytes(4))
    calls.io_uring_register(fd, REGISTER_BUFFERS, PIECE.pack(page, size), 1)
    return Ring(process, fd, ring + tail, entries)


def parent_gets_the_copies(child: Process) -> None:
    """Leave the frames of the parent's pages to whoever holds them, as the first writer did once."""
    assert child.creation
    maker, kind = child.creation.process, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
    for start, size in allocations(child)[:1]:
        content = maker.load_bytes(start, size)
        maker.sys.mmap(start, size, PROT_READ | PROT_WRITE, kind, -1, 0)
        maker.store(start, content)


@clause("fork.2/pinned-pages-are-copied")
@lie(
    every_child(CLONE_VM | SIGCHLD),
    in_child("the parent gets the copy of a pinned page", parent_gets_the_copies),
)
def test_a_page_pinned_for_io_stays_the_parents(parent: Process) -> None:
    (page,) = parent.pages(1)
    ring = new_ring(parent, page)
    source, sink = parent.sys.pipe()
    child = parent.fork()
    parent.store(page, b"stored  ")
    ring.do(WRITE_FIXED, sink, page, 8)
    assert parent.sys.read(source, 8) == b"stored  "
    parent.sys.write(sink, b"received")
    ring.do(READ_FIXED, source, page, 8)
    assert parent.load_bytes(page, 8) == b"received"
    assert child.load(page) == page
