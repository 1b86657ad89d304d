"""A process that traces others, in the words of ptrace(2).

A tracee is known by its id, for a new one says its first word after its tracer has let it go on. What `told` gives is
compared with `stop(...)` and `end(...)`: the very status word of wait(2), so that nothing in it is overlooked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pytest_procsemantics.driven.call import Out
from pytest_procsemantics.driven.constants import (
    PTRACE_ATTACH,
    PTRACE_CONT,
    PTRACE_GETEVENTMSG,
    PTRACE_SEIZE,
    PTRACE_SETOPTIONS,
    SIGTRAP,
    WALL,
    WNOHANG,
)

if TYPE_CHECKING:
    from pytest_procsemantics.driven.process import Process

STOPPED = 0x7F  # the low byte of the status of who is stopped


class Told(NamedTuple):
    """What a wait tells a tracer: of whom, and the status word."""

    id: int
    status: int


NOTHING = Told(0, 0)


def stop(id: int, event: int = 0, signal: int = SIGTRAP) -> Told:
    """What is told of a tracee that stops, at an event (PTRACE_EVENT_...) or by a signal."""
    return Told(id, event << 16 | signal << 8 | STOPPED)


def end(id: int, code: int = 0, signal: int = 0) -> Told:
    """What is told of a tracee that ends."""
    return Told(id, code << 8 | signal)


class Tracer:
    """The requests of one process.

    Args:
        process: who traces. Where Yama restricts ptrace it must be an ancestor of its tracees.
    """

    def __init__(self, process: Process) -> None:
        self.process = process

    def __repr__(self) -> str:
        return f"tracer {self.process}"

    def seize(self, tracee: Process, options: int = 0) -> None:
        """Trace a process or thread by PTRACE_SEIZE, which doesn't stop it."""
        __tracebackhide__ = True
        self.process.sys.ptrace(PTRACE_SEIZE, tracee.tid, 0, options)

    def attach(self, tracee: Process, options: int = 0) -> None:
        """Trace a process or thread by PTRACE_ATTACH, and let it go on from the stop that this gives."""
        __tracebackhide__ = True
        self.process.sys.ptrace(PTRACE_ATTACH, tracee.tid, 0, 0)
        self.told(tracee.tid)
        self.process.sys.ptrace(PTRACE_SETOPTIONS, tracee.tid, 0, options)
        self.go_on(tracee.tid)

    def told(self, id: int = -1, options: int = 0) -> Told:
        """Wait for what is next, of any tracee or of one."""
        __tracebackhide__ = True
        return Told(*self.process.sys.wait4(id, WALL | options)[:2])

    def told_now(self, id: int = -1) -> Told:
        """What there is to tell without waiting: perhaps NOTHING."""
        __tracebackhide__ = True
        return self.told(id, WNOHANG)

    def go_on(self, id: int, signal: int = 0) -> None:
        """Let a stopped tracee go on, with this signal or none."""
        __tracebackhide__ = True
        self.process.sys.ptrace(PTRACE_CONT, id, 0, signal)

    def message(self, id: int) -> int:
        """What the event at which a tracee stands has to say (PTRACE_GETEVENTMSG)."""
        __tracebackhide__ = True
        _, word = self.process.sys.ptrace(PTRACE_GETEVENTMSG, id, 0, Out(8))
        return int.from_bytes(word, "little")
