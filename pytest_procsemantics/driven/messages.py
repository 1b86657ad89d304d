"""What goes over an AF_UNIX socket beside the bytes: descriptors and credentials (unix(7)).

A struct msghdr holds addresses of the process that sends or receives, so this is no form of a call: the process
allocates the memory and is asked for sendmsg and recvmsg.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from pytest_procsemantics.driven.constants import (
    SCM_CREDENTIALS,
    SCM_RIGHTS,
    SO_PASSCRED,
    SOL_SOCKET,
)
from pytest_procsemantics.driven.errors import Deviation
from pytest_procsemantics.driven.process import Process

HEADER = struct.Struct(
    "<QIxxxxQQQQi4x"
)  # name, its length, vector, its length, control, its length, flags
VECTOR = struct.Struct("<QQ")  # address, bytes
CONTROL = struct.Struct("<Qii")  # length with this head, level, type
CREDENTIALS = struct.Struct("<iII")
ROOM = 64  # bytes of control data: one message of either kind
PAYLOAD = b"m"  # control data goes with at least one byte


class Credentials(NamedTuple):
    """Who sent a message, as the receiver's namespaces see it (unix(7), SCM_CREDENTIALS)."""

    pid: int
    uid: int
    gid: int


def send_descriptor(process: Process, socket: int, descriptor: int) -> None:
    """Send an open file over a socket (SCM_RIGHTS)."""
    _send(process, socket, SCM_RIGHTS, struct.pack("<i", descriptor))


def receive_descriptor(process: Process, socket: int) -> int:
    """Receive an open file: its descriptor.

    Raises:
        Deviation: the message has none.
    """
    return int(struct.unpack("<i", _receive(process, socket, SCM_RIGHTS, 4))[0])


def send_credentials(process: Process, socket: int, credentials: Credentials) -> None:
    """Send credentials, which must be the process's own unless it is privileged (SCM_CREDENTIALS)."""
    _send(process, socket, SCM_CREDENTIALS, CREDENTIALS.pack(*credentials))


def receive_credentials(process: Process, socket: int) -> Credentials:
    """Receive the credentials that a message was sent with; ask for them with `accept_credentials` before it is.

    Raises:
        Deviation: the message has none.
    """
    data = _receive(process, socket, SCM_CREDENTIALS, CREDENTIALS.size)
    return Credentials(*CREDENTIALS.unpack(data))


def accept_credentials(process: Process, socket: int) -> None:
    """Let what arrives at a socket have its sender's credentials (SO_PASSCRED)."""
    process.sys.setsockopt(socket, SOL_SOCKET, SO_PASSCRED, 1)


def _message(process: Process, control: bytes) -> tuple[int, int]:
    """Lay out a message of one byte in memory of the process: the addresses of its header and control data."""
    start = process.allocate(HEADER.size + VECTOR.size + ROOM + len(PAYLOAD))
    vector = start + HEADER.size
    data = vector + VECTOR.size
    payload = data + ROOM
    header = HEADER.pack(0, 0, vector, 1, data, len(control), 0)
    process.store(
        start,
        header + VECTOR.pack(payload, len(PAYLOAD)) + control.ljust(ROOM, b"\0") + PAYLOAD,
    )
    return start, data


def _send(process: Process, socket: int, kind: int, data: bytes) -> None:
    control = CONTROL.pack(CONTROL.size + len(data), SOL_SOCKET, kind) + data
    header, _ = _message(process, control + bytes(-len(control) % 8))
    process.sys.sendmsg(socket, header, 0)


def _receive(process: Process, socket: int, kind: int, size: int) -> bytes:
    header, control = _message(process, bytes(ROOM))
    process.sys.recvmsg(socket, header, 0)
    content = process.load_bytes(control, ROOM)
    length, level, found = CONTROL.unpack_from(content)
    if (length, level, found) != (CONTROL.size + size, SOL_SOCKET, kind):
        raise Deviation(
            f"expected control data of type {kind} with {size} bytes, "
            f"the target gave type {found} with {length} bytes in all"
        )
    return content[CONTROL.size : CONTROL.size + size]
