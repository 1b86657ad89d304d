"""Filters of system calls, as seccomp(2) takes them: classic BPF, in the memory of a driven process."""

from __future__ import annotations

import struct

from pytest_procsemantics.driven.constants import (
    BPF_ABS,
    BPF_JEQ,
    BPF_JMP,
    BPF_K,
    BPF_LD,
    BPF_RET,
    BPF_W,
    SECCOMP_RET_ALLOW,
    SECCOMP_RET_ERRNO,
)
from pytest_procsemantics.driven.process import Process

INSTRUCTION = struct.Struct("<HBBI")  # struct sock_filter: code, jump if true, if false, operand


def answering(process: Process, call: str, action: int) -> tuple[int, int]:
    """A filter in the process's memory that answers one call: its number of instructions, and its address.

    Args:
        process: who gets it.
        call: a system call; all others are allowed.
        action: SECCOMP_RET_ and its data.
    """
    program = [
        (BPF_LD | BPF_W | BPF_ABS, 0, 0, 0),  # the call's number comes first in struct seccomp_data
        (BPF_JMP | BPF_JEQ | BPF_K, 0, 1, process.sys.number(call)),
        (BPF_RET | BPF_K, 0, 0, action),
        (BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW),
    ]
    address = process.allocate(INSTRUCTION.size * len(program))
    process.store(address, b"".join(INSTRUCTION.pack(*line) for line in program))
    return len(program), address


def refusing(process: Process, call: str, errno: int) -> tuple[int, int]:
    """A filter that refuses one call with an error, as `answering`."""
    return answering(process, call, SECCOMP_RET_ERRNO | errno)
