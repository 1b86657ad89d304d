"""Forms of System V semaphores, shared memory and message queues, and of POSIX message queues."""

from __future__ import annotations

import struct
from typing import NamedTuple

from pytest_procsemantics.driven import constants as c
from pytest_procsemantics.driven.call import Call, Out, call, counted
from pytest_procsemantics.driven.forms.form import both, form, open_flags, path
from pytest_procsemantics.driven.forms.timers import TimerEvent, sigevent

SEMBUF = struct.Struct("<Hhh")  # number, operation, flags
SHMID = struct.Struct(
    "<iIIIII24xQqqqiiQ16x"
)  # ipc_perm: key and five ids; size, three times, creator, last user, attached
MESSAGE_TYPE = struct.Struct("<q")
MQ_ATTR = struct.Struct("<8xqq40x")  # most messages, bytes of one


class SharedMemory(NamedTuple):
    """A segment: bytes, pids of who made it and who last attached or detached, how often it is
    attached.
    """

    size: int
    creator: int
    last_user: int
    attached: int
    mode: int


@form("semop")
def semop(
    machine: str, semaphores: int, *operations: tuple[int, int] | tuple[int, int, int]
) -> Call:
    """Do operations on semaphores, each (number, operation[, flags]): 0. Source: semop(2)."""
    packed = b"".join(
        SEMBUF.pack(*operation, *(0,) * (3 - len(operation))) for operation in operations
    )
    return call("semop", semaphores, packed, len(operations))


@form("semctl")
def semctl(
    machine: str, semaphores: int, number: int, command: int, value: int | list[int] | Out = 0
) -> Call:
    """Control semaphores: the result; for GETALL with `value` semaphores, and for SETALL with a
    list of values: list, 0. Source: semctl(2).
    """
    if command == c.GETALL and isinstance(value, int):
        return call(
            "semctl",
            semaphores,
            number,
            command,
            Out(2 * value),
            decode=lambda _, memory: [n for (n,) in struct.iter_unpack("<H", memory[0])],
        )
    if isinstance(value, list):
        return call("semctl", semaphores, number, command, struct.pack(f"<{len(value)}H", *value))
    if isinstance(value, Out):
        return call(
            "semctl",
            semaphores,
            number,
            command,
            value,
            decode=both,
        )
    return call("semctl", semaphores, number, command, value)


@form("shmat")
def shmat(machine: str, segment: int, address: int = 0, flags: int = 0) -> Call:
    """Attach a segment: its address. Source: shmat(2)."""
    return call("shmat", segment, address, flags)


@form("shmctl")
def shmctl(machine: str, segment: int, command: int, argument: int | bytes | Out = 0) -> Call:
    """Control a segment: SharedMemory for IPC_STAT, else the result. Source: shmctl(2)."""
    if command == c.IPC_STAT and argument == 0:
        return call("shmctl", segment, command, Out(SHMID.size), decode=_segment)
    if isinstance(argument, Out):
        return call("shmctl", segment, command, argument, decode=both)
    return call("shmctl", segment, command, argument)


def _segment(result: int, memory: tuple[bytes, ...]) -> SharedMemory:
    _, _, _, _, _, mode, size, _, _, _, creator, last_user, attached = SHMID.unpack(memory[0])
    return SharedMemory(size, creator, last_user, attached, mode)


@form("msgsnd")
def msgsnd(machine: str, queue: int, type: int, text: bytes, flags: int = 0) -> Call:
    """Send a message to a queue: 0. Source: msgsnd(2)."""
    return call("msgsnd", queue, MESSAGE_TYPE.pack(type) + text, len(text), flags)


@form("msgrcv")
def msgrcv(machine: str, queue: int, size: int, type: int = 0, flags: int = 0) -> Call:
    """Take a message from a queue: (its type, bytes). Source: msgrcv(2)."""

    def decode(result: int, memory: tuple[bytes, ...]) -> tuple[int, bytes]:
        return MESSAGE_TYPE.unpack_from(memory[0])[0], counted(
            "msgrcv", result, memory[0][MESSAGE_TYPE.size :]
        )

    return call("msgrcv", queue, Out(MESSAGE_TYPE.size + size), size, type, flags, decode=decode)


@form("mq_open")
def mq_open(
    machine: str,
    name: str | bytes | int,
    flags: int,
    mode: int = 0o600,
    most: int = 1,
    size: int = 64,
) -> Call:
    """Open a queue by its name without the slash: a descriptor. Source: mq_open(3).

    A new one is for so many messages of so many bytes: as small as can be, for all that a user has
    must fit into RLIMIT_MSGQUEUE.
    """
    where = name if isinstance(name, int) else path(name)
    return call("mq_open", where, open_flags(machine, flags), mode, MQ_ATTR.pack(most, size))


@form("mq_notify")
def mq_notify(machine: str, queue: int, event: TimerEvent | None = None) -> Call:
    """Ask to be told of a message in an empty queue, as a timer tells of its time, or ask no more:
    0. Source: mq_notify(3).
    """
    return call("mq_notify", queue, sigevent(event))
