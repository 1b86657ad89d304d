"""The agent's protocol: the same numbers as native/frames.h.

A frame is channel, length, payload; channel 0 is the hub, channel N the driven process in slot N. Lengths come from the
target and are not trusted: a frame has at most MAX_PAYLOAD bytes, a banner before the preamble at most MAX_BANNER.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, fields
from enum import IntEnum, IntFlag

PROTOCOL = 1
SLOTS = 32
EXECUTES = 0x100  # beside a slot's number in a frame to the hub: its packet asks for an exec
PACKET_LIMIT = 32768  # bytes of one packet to or from a driven process
MAX_PAYLOAD = 2 * PACKET_LIMIT  # bytes
MAX_BANNER = 1 << 16  # bytes
PREAMBLE = b"\x89PSEM\r\n\x1a"

UP = 180  # the descriptors that every driven process holds: UP is shared, UP + slot its own
CHANNELS = range(UP, UP + SLOTS + 1)


class Request(IntEnum):
    """What a driven process is asked to do."""

    CALL = 1
    EXEC = 2
    LOAD = 3
    STORE = 4
    TOUCH = 5
    WELCOME = 6
    FUNCTION = 7


class OwnFunction(IntEnum):
    """What stands for the address of a function and is none."""

    LEAVE_LOOP = 0
    TELL_TABLE = 1
    PUSH_CLEANUP = 2


class HubRequest(IntEnum):
    """What the hub is asked to do."""

    PING = 1
    NEW_ROOT = 2
    FREE_SLOT = 3
    NEW_FOLDER = 4
    END_OF_TEST = 5


class Kind(IntEnum):
    """What came up: the first three from a driven process, the others from the hub."""

    ANSWER = 1
    HELLO = 2
    IMAGE = 3
    GREETING = 16
    PONG = 17
    DEATH = 18
    REFUSED = 19
    CLEAN = 20
    FOLDER = 21
    STRAY = 22


class Ability(IntFlag):
    """What the hub found the target to offer."""

    SUBREAPER = 1
    INIT = 2
    PIDFD = 4
    THREAD_PIDFD = 8
    CREDENTIALS = 16
    PROC = 32


# channel, length, kind, serial, child's slot, bytes to give back, call number, six arguments
REQUEST = struct.Struct("<IIIIIIq6q")
REQUEST_SIZE = REQUEST.size - 8
FRAME = struct.Struct("<II")  # channel, bytes of payload
ANSWER = struct.Struct("<IIIIq")  # channel, length, kind, serial, result
HELLO = struct.Struct("<III4x")  # pid and tid as the process sees them, pid as the hub sees it
GREETING = struct.Struct("<6I6Q16s256s")
MAX_DATA = PACKET_LIMIT - REQUEST_SIZE  # bytes of arguments that go with one call


def padded(payload: bytes) -> bytes:
    """The payload, filled up so that the next frame begins at a multiple of 8 as the hub wants it."""
    return payload + bytes(-len(payload) % 8)


def welcome(slot: int, pid: int = 0) -> bytes:
    """The frame by which a new image takes a slot; who asks for an exec sends it behind.

    Args:
        slot: of the process that gets the image, or that it is to be.
        pid: as the process sees it; 0: the next agent that nobody waits for takes it.
    """
    return REQUEST.pack(slot, REQUEST_SIZE, Request.WELCOME, 0, 0, 0, 0, pid, 0, 0, 0, 0, 0)


@dataclass(frozen=True)
class Greeting:
    """What the agent says of itself and of the target; addresses are equal in every image of it."""

    protocol: int
    slots: int
    packet_limit: int
    page_size: int
    hub_pid: int
    abilities: Ability
    data_address: int
    room_size: int
    handler: int
    restorer: int
    counters: int
    last_signal: int
    machine: str
    path: bytes

    @classmethod
    def parse(cls, payload: bytes) -> Greeting:
        """Read a greeting's payload.

        Raises:
            struct.error: it has another length than this protocol's.
        """
        *numbers, machine, path = GREETING.unpack(payload)
        numbers[5] = Ability(numbers[5] & sum(Ability))
        name = machine.rstrip(b"\0").decode("ascii", "replace")
        values = (*numbers, name, path.rstrip(b"\0"))
        return cls(**{field.name: value for field, value in zip(fields(cls), values, strict=True)})
