"""execve(2): requests in progress of asynchronous I/O are cancelled."""

from __future__ import annotations

import struct

from pytest_procsemantics import Process, clause
from pytest_procsemantics.driven import Out, fails
from pytest_procsemantics.driven.constants import (
    EAGAIN,
    ECANCELED,
    EFD_NONBLOCK,
    IORING_OP_POLL_ADD,
    MAP_SHARED,
    PROT_READ,
    PROT_WRITE,
)
from pytest_procsemantics.lies import EXEC_DOES_NOTHING, lie

# struct iocb (linux/aio_abi.h): opcode, descriptor, events, and the eventfd that counts completions.
IOCB = struct.Struct("<8x8xHhIQ8x8x8xII")
IOCB_CMD_POLL, IOCB_FLAG_RESFD = 5, 1
# struct io_uring_params and parts of it (linux/io_uring.h): offsets of tails and completions.
PARAMS_BYTES, SQ_TAIL, CQ_TAIL, CQ_CQES = 120, 44, 84, 100
SQE = struct.Struct("<BxxxiQQII32x")  # opcode, descriptor, offset, address, length, events
IORING_OFF_SQES = 0x10000000
RESULT = 8  # of a completion
POLLIN = 1


@clause("execve.2/async-io-cancelled")
@lie(EXEC_DOES_NOTHING)
def test_outstanding_asynchronous_io_is_cancelled(parent: Process) -> None:
    reader, writer = parent.sys.pipe()
    completions = parent.sys.eventfd2(0, EFD_NONBLOCK)
    _, context = parent.sys.io_setup(1, Out(8))
    request, list_of_one = parent.allocate(IOCB.size), parent.allocate(8)
    fields = (IOCB_CMD_POLL, 0, reader, POLLIN, IOCB_FLAG_RESFD, completions)
    parent.store(request, IOCB.pack(*fields))
    parent.store(list_of_one, request)
    assert parent.sys.io_submit(int.from_bytes(context, "little"), 1, list_of_one) == 1
    with fails(EAGAIN):
        parent.sys.read(completions, 8)
    parent.execve()
    assert parent.sys.read(completions, 8) == (1).to_bytes(8, "little")
    parent.sys.write(writer, b"x")
    with fails(EAGAIN):
        parent.sys.read(completions, 8)


@clause("execve.2/userfaultfd-and-io-uring-not-kept")
@lie(EXEC_DOES_NOTHING)
def test_requests_of_io_uring_are_cancelled(parent: Process) -> None:
    reader, _ = parent.sys.pipe()
    ring, told = parent.sys.io_uring_setup(1, Out(PARAMS_BYTES))
    size, access = parent.target.page_size, PROT_READ | PROT_WRITE
    queues = parent.sys.mmap(0, size, access, MAP_SHARED, ring, 0)
    requests = parent.sys.mmap(0, size, access, MAP_SHARED, ring, IORING_OFF_SQES)
    sent, done, completion = (
        queues + int.from_bytes(told[at : at + 4], "little") for at in (SQ_TAIL, CQ_TAIL, CQ_CQES)
    )
    child = parent.fork()
    child.store(requests, SQE.pack(IORING_OP_POLL_ADD, reader, 0, 0, 0, POLLIN))
    child.store(sent, (1).to_bytes(4, "little"))
    assert child.sys.io_uring_enter(ring, 1, 0, 0, 0, 0) == 1
    assert parent.load_bytes(done, 4) == bytes(4)
    child.execve()
    assert parent.load_bytes(done, 4) == (1).to_bytes(4, "little")
    assert parent.load_bytes(completion + RESULT, 4) == struct.pack("<i", -ECANCELED)
