"""Forms of user and group ids and of capabilities."""

from __future__ import annotations

import struct
from typing import NamedTuple

from pytest_procsemantics.driven import constants as c
from pytest_procsemantics.driven.call import BadAnswer, Call, Out, call
from pytest_procsemantics.driven.forms.form import THREE_INTS, form

CAPABILITY_HEADER = struct.Struct("<Ii")  # version, pid
CAPABILITY_DATA = struct.Struct(
    "<6I"
)  # effective, permitted, inheritable of the low 32; then of the high 32
CAPABILITY_VERSION = 0x20080522  # _LINUX_CAPABILITY_VERSION_3: 64 capabilities
ID = struct.Struct("<I")


class Ids(NamedTuple):
    """Real, effective and saved id."""

    real: int
    effective: int
    saved: int


class Capabilities(NamedTuple):
    """Sets of capabilities as masks: bit CAP_CHOWN, and so on."""

    effective: int
    permitted: int
    inheritable: int


@form("getresuid")
def getresuid(machine: str) -> Call:
    """The user ids: Ids(real, effective, saved). Source: getresuid(2)."""
    return call("getresuid", Out(4), Out(4), Out(4), decode=_ids)


@form("getresgid")
def getresgid(machine: str) -> Call:
    """The group ids: Ids(real, effective, saved). Source: getresgid(2)."""
    return call("getresgid", Out(4), Out(4), Out(4), decode=_ids)


def _ids(result: int, memory: tuple[bytes, ...]) -> Ids:
    return Ids(*THREE_INTS.unpack(b"".join(memory)))


@form("getgroups")
def getgroups(machine: str, most: int = 1024) -> Call:
    """The supplementary groups: tuple, in the kernel's order; EINVAL if there are more than `most`.
    Source: getgroups(2).
    """

    def decode(result: int, memory: tuple[bytes, ...]) -> tuple[int, ...]:
        if not 0 <= result <= most:
            raise BadAnswer(
                f"getgroups: expected at most {most} groups, the target claims {result}"
            )
        return struct.unpack_from(f"<{result}I", memory[0])

    return call("getgroups", most, Out(4 * most), decode=decode)


@form("setgroups")
def setgroups(machine: str, groups: list[int] | tuple[int, ...]) -> Call:
    """Set the supplementary groups: 0. Source: setgroups(2)."""
    return call("setgroups", len(groups), struct.pack(f"<{len(groups)}I", *groups))


@form("capget")
def capget(machine: str, pid: int = 0) -> Call:
    """Capabilities(effective, permitted, inheritable) of a thread. Source: capget(2)."""

    def decode(result: int, memory: tuple[bytes, ...]) -> Capabilities:
        low = CAPABILITY_DATA.unpack(memory[0])
        return Capabilities(*(low[i] | low[i + 3] << 32 for i in range(3)))

    return call(
        "capget",
        CAPABILITY_HEADER.pack(CAPABILITY_VERSION, pid),
        Out(CAPABILITY_DATA.size),
        decode=decode,
    )


@form("capset")
def capset(machine: str, effective: int, permitted: int, inheritable: int, pid: int = 0) -> Call:
    """Set the calling thread's capabilities: 0. Source: capset(2)."""
    sets = (effective, permitted, inheritable)
    data = CAPABILITY_DATA.pack(
        *(mask & 0xFFFFFFFF for mask in sets), *(mask >> 32 for mask in sets)
    )
    return call("capset", CAPABILITY_HEADER.pack(CAPABILITY_VERSION, pid), data)


def capability(name: str) -> int:
    """The mask of a capability by its name without CAP_: "SYS_ADMIN". ValueError for a name that
    isn't one.
    """
    try:
        return 1 << int(getattr(c, f"CAP_{name}"))
    except AttributeError:
        raise ValueError(f"no capability {name!r}") from None
