"""Forms of sockets. An address is the bytes of a struct sockaddr.

Descriptors and credentials as control data need a struct msghdr, which has addresses of the target:
make it with `allocate` and pass it to the plain sendmsg.
"""

from __future__ import annotations

import struct

from pytest_procsemantics.driven import constants as c
from pytest_procsemantics.driven.call import BadAnswer, Call, Out, call, counted
from pytest_procsemantics.driven.forms.form import INT, form, pair


def abstract_address(name: str) -> bytes:
    """The address of an AF_UNIX socket whose name is in no folder. Source: unix(7)."""
    return struct.pack("<Hx", c.AF_UNIX) + name.encode()


@form("socketpair")
def socketpair(
    machine: str, domain: int = c.AF_UNIX, type: int = c.SOCK_STREAM, protocol: int = 0
) -> Call:
    """Make two connected sockets: (one, other). Source: socketpair(2)."""
    return call("socketpair", domain, type, protocol, Out(8), decode=pair)


@form("getsockopt")
def getsockopt(machine: str, fd: int, level: int, option: int, size: int = 4) -> Call:
    """A socket's option: int; (pid, uid, gid) for SO_PEERCRED; bytes when `size` isn't 4. Source:
    getsockopt(2).
    """
    credentials = (level, option) == (c.SOL_SOCKET, c.SO_PEERCRED)
    size = 12 if credentials else size

    def decode(result: int, memory: tuple[bytes, ...]) -> object:
        value = counted("getsockopt", INT.unpack(memory[1])[0], memory[0])
        if credentials and len(value) == 12:
            return struct.unpack("<iii", value)
        return INT.unpack(value)[0] if len(value) == 4 else value

    return call("getsockopt", fd, level, option, Out(size), Out(4, INT.pack(size)), decode=decode)


@form("setsockopt")
def setsockopt(machine: str, fd: int, level: int, option: int, value: int | bytes) -> Call:
    """Set a socket's option: 0. Source: setsockopt(2)."""
    packed = INT.pack(value) if isinstance(value, int) else value
    return call("setsockopt", fd, level, option, packed, len(packed))


@form("sendto")
def sendto(
    machine: str, fd: int, data: bytes, flags: int = 0, address: bytes | None = None
) -> Call:
    """Send bytes over a socket: how many. Source: sendto(2)."""
    return call("sendto", fd, data, len(data), flags, address, len(address or b""))


@form("recvfrom")
def recvfrom(machine: str, fd: int, size: int, flags: int = 0) -> Call:
    """Receive bytes from a socket: bytes. Source: recvfrom(2)."""

    def decode(result: int, memory: tuple[bytes, ...]) -> bytes:
        if result > size and not flags & c.MSG_TRUNC:
            raise BadAnswer(f"recvfrom: expected at most {size} bytes, the target claims {result}")
        return memory[0][:result]

    return call("recvfrom", fd, Out(size), size, flags, None, None, decode=decode)


@form("bind")
def bind(machine: str, fd: int, address: bytes) -> Call:
    """Give a socket an address: 0. Source: bind(2)."""
    return call("bind", fd, address, len(address))


@form("connect")
def connect(machine: str, fd: int, address: bytes) -> Call:
    """Connect a socket: 0. Source: connect(2)."""
    return call("connect", fd, address, len(address))
