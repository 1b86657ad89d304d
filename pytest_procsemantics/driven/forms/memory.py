"""Forms of calls on memory: what is resident, another process's memory, futexes.

Vectors of addresses speak of memory in the target, which `allocate` gives; only the vector itself
is passed here.
"""

from __future__ import annotations

import struct

from pytest_procsemantics.driven import constants as c
from pytest_procsemantics.driven.call import Call, Out, call
from pytest_procsemantics.driven.forms.form import LONG, form
from pytest_procsemantics.driven.forms.timers import timespec

PIECE = struct.Struct("<QQ")  # struct iovec: address, length
Pieces = list[tuple[int, int]]  # (address, length) each


@form("mincore")
def mincore(machine: str, address: int, length: int, page_size: int = 4096) -> Call:
    """Which pages are resident: a byte for each page, bit 0 set if it is. Source: mincore(2)."""
    return call(
        "mincore", address, length, Out(-(-length // page_size)), decode=lambda _, memory: memory[0]
    )


def _vector(pieces: Pieces) -> bytes:
    return b"".join(PIECE.pack(*piece) for piece in pieces)


@form("readv")
def readv(machine: str, fd: int, pieces: Pieces) -> Call:
    """Read into several pieces of memory: how many bytes. Source: readv(2)."""
    return call("readv", fd, _vector(pieces), len(pieces))


@form("writev")
def writev(machine: str, fd: int, pieces: Pieces) -> Call:
    """Write from several pieces of memory: how many bytes. Source: writev(2)."""
    return call("writev", fd, _vector(pieces), len(pieces))


@form("process_vm_readv")
def process_vm_readv(machine: str, pid: int, local: Pieces, remote: Pieces) -> Call:
    """Copy from another process's memory to the caller's: how many bytes. Source:
    process_vm_readv(2).
    """
    return call(
        "process_vm_readv", pid, _vector(local), len(local), _vector(remote), len(remote), 0
    )


@form("process_vm_writev")
def process_vm_writev(machine: str, pid: int, local: Pieces, remote: Pieces) -> Call:
    """Copy from the caller's memory to another process's: how many bytes. Source:
    process_vm_writev(2).
    """
    return call(
        "process_vm_writev", pid, _vector(local), len(local), _vector(remote), len(remote), 0
    )


@form("process_madvise")
def process_madvise(machine: str, pidfd: int, pieces: Pieces, advice: int) -> Call:
    """Give advice on another process's memory: how many bytes. Source: process_madvise(2)."""
    return call("process_madvise", pidfd, _vector(pieces), len(pieces), advice, 0)


@form("futex")
def futex(
    machine: str,
    address: int,
    operation: int,
    value: int,
    timeout: float | None = None,
    address2: int = 0,
    value3: int = 0,
) -> Call:
    """Wait on or wake at an address; the requeue operations and FUTEX_WAKE_OP take a number in
    place of `timeout`: the result. Source: futex(2).
    """
    takes_number = operation & c.FUTEX_CMD_MASK in (
        c.FUTEX_REQUEUE,
        c.FUTEX_CMP_REQUEUE,
        c.FUTEX_CMP_REQUEUE_PI,
        c.FUTEX_WAKE_OP,
    )
    fourth = int(timeout or 0) if takes_number else timespec(timeout)
    return call("futex", address, operation, value, fourth, address2, value3)


@form("get_robust_list")
def get_robust_list(machine: str, tid: int = 0) -> Call:
    """A thread's list of robust futexes: (address of its head, size of the head). Source:
    get_robust_list(2).
    """
    return call(
        "get_robust_list",
        tid,
        Out(8),
        Out(8),
        decode=lambda _, memory: tuple(LONG.unpack(part)[0] for part in memory),
    )
