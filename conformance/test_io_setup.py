"""io_setup(2): to whom a context of asynchronous I/O belongs."""

from __future__ import annotations

import struct

from pytest_procsemantics import Process, Target, clause
from pytest_procsemantics.driven import Out
from pytest_procsemantics.driven.constants import AT_FDCWD, CLONE_VM, SIGCHLD
from pytest_procsemantics.lies import before_call, drops, in_child, lie

# struct iocb: what comes back with the event, operation, descriptor, buffer, bytes (linux/aio_abi.h)
REQUEST = struct.Struct("<Q8xHhIQQ24x")
EVENT = struct.Struct("<QQqq")  # what the request had, its address, two results
READ = 0  # IOCB_CMD_PREAD
COOKIE = 4711
RING_HEAD = 32  # bytes of struct aio_ring before its events
RING = "/[aio] (deleted)"  # the name of the mapping


def new_context(process: Process) -> int:
    """A context, which is known by the address of its mapping."""
    return int.from_bytes(process.sys.io_setup(8, Out(8))[1], "little")


def new_request(process: Process, path: str) -> int:
    """The address of a request to read three bytes of a new file."""
    process.make_file(path, b"abc")
    request = process.allocate(2 * REQUEST.size)
    fd = process.sys.openat(AT_FDCWD, path)
    process.store(request, REQUEST.pack(COOKIE, READ, 0, fd, request + REQUEST.size, 3))
    return request


def submit(process: Process, context: int, request: int) -> int:
    """How many requests are accepted."""
    return int(process.sys.io_submit(context, 1, request.to_bytes(8, "little")))


def event(process: Process, context: int) -> tuple[int, int]:
    """What the next event's request had, and its result."""
    _, memory = process.sys.io_getevents(context, 1, 1, Out(EVENT.size), None)
    cookie, _, result, _ = EVENT.unpack(memory)
    return cookie, result


def unmaps(child: Process) -> None:
    """Have no ring of its maker's any more."""
    ring = child.target.observer.mapping(child, RING).addresses
    child.sys.munmap(ring.start, len(ring))


@clause("io_setup.2/clone-vm-shares-context")
@lie(drops(CLONE_VM))
def test_who_shares_the_memory_may_submit(parent: Process, target: Target) -> None:
    context = new_context(parent)
    request = new_request(parent, f"{target.folder()}/file")
    child = parent.clone(CLONE_VM | SIGCHLD)
    assert submit(child, context, request) == 1
    assert event(parent, context) == (COOKIE, 3)


@clause("io_setup.2/ring-mapping-visible-in-child")
@lie(in_child("it is not mapped", unmaps))
def test_the_ring_is_in_the_childs_memory(parent: Process) -> None:
    context = new_context(parent)
    child = parent.fork()
    assert child.load_bytes(context, RING_HEAD) == parent.load_bytes(context, RING_HEAD)


def ends_its_makers(child: Process) -> None:
    """Destroy the context of its maker, with which it shares the number."""
    assert child.creation
    maker = child.creation.process
    maker.sys.io_destroy(child.target.observer.mapping(maker, RING).addresses.start)


@clause("io_setup.2/exit-of-child-leaves-parents")
@lie(before_call("exit_group", "it ends its maker's", ends_its_makers))
def test_the_childs_end_leaves_the_parents_context(parent: Process, target: Target) -> None:
    context = new_context(parent)
    request = new_request(parent, f"{target.folder()}/file")
    parent.fork().exit()
    assert submit(parent, context, request) == 1
    assert event(parent, context) == (COOKIE, 3)
