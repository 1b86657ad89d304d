"""Every step of every process of one test, in order, readable like strace(1).

A step is noted when it is asked and when it is answered; with nothing between the two it is one line.
"""

from __future__ import annotations

import errno as errnos
import re
from collections.abc import Iterator
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from pytest_procsemantics.driven.call import Out
from pytest_procsemantics.driven.step import LOWEST_ERRNO, Step

if TYPE_CHECKING:
    from pytest_procsemantics.driven.process import Process

MOST_BYTES = 32  # shown of one argument
MOST_LINES = 400  # shown of one test: the first and the last half
MACHINE_WORD = 1 << 16  # from here on a number is likely an address
# Which argument is made of which flags, and which is a mode in octal.
FLAGS = {
    "clone": {0: "CLONE_"},
    "unshare": {0: "CLONE_"},
    "setns": {1: "CLONE_"},
    "open": {1: "O_"},
    "openat": {2: "O_"},
    "pipe2": {1: "O_"},
    "dup3": {2: "O_"},
    "mmap": {2: "PROT_", 3: "MAP_"},
    "mprotect": {2: "PROT_"},
}
MODES = {"umask": 0, "mkdir": 1, "chmod": 1, "fchmod": 1, "creat": 1, "mkdirat": 2, "openat": 3}
SIGNALS = {"kill": 1, "tkill": 1, "tgkill": 2, "rt_sigaction": 0}


class Transcript:
    """What happened in one test; `str()` is for people.

    Attributes:
        events: steps (twice: asked, answered), notes, and new processes by pid and name.
    """

    def __init__(self) -> None:
        self.events: list[Step | str | tuple[int, str]] = []

    def note(self, text: str) -> None:
        """Add a line that is no step."""
        self.events.append(f"# {text}")

    def note_birth(self, process: Process) -> None:
        """Add the first word of a new process."""
        self.events.append((process.pid, process.name))

    def note_end(self, process: Process) -> None:
        """Add the hub's word of an end."""
        how = "" if process.status is None else f", wait status {process.status:#x}"
        self.events.append(f"{process.pid:>7} {process.name}: has ended{how}")

    def last(self, process: Process) -> str:
        """What a process did last, in words."""
        for event in reversed(self.events):
            if isinstance(event, Step) and event.process is process:
                return f"last: {_asked(event)}{_answered(event)}"
        return "has done nothing yet"

    def __str__(self) -> str:
        lines = list(self._lines())
        if len(lines) > MOST_LINES:
            half = MOST_LINES // 2
            lines[half:-half] = [f"# ... {len(lines) - MOST_LINES} lines left out ..."]
        return "\n".join(lines)

    def _lines(self) -> Iterator[str]:
        events = self.events
        asked: set[Step] = set()
        previous: Step | str | tuple[int, str] = ""
        for event, following in zip_longest(events, events[1:], fillvalue=""):
            if isinstance(event, str):
                yield printable(event)
            elif isinstance(event, tuple):
                pid, name = event
                yield printable(f"{pid:>7} {name}: begins")
            elif event not in asked:
                asked.add(event)
                end = _answered(event) if following is event else " <unfinished ...>"
                yield printable(f"{_who(event)}{_asked(event)}{end}")
            elif previous is not event:
                yield printable(f"{_who(event)}<... {event.name}{_answered(event)}")
            previous = event


def _who(step: Step) -> str:
    return f"{step.process.pid:>7} {step.process.name}: "


def printable(text: str) -> str:
    """A target's text without control characters, which a terminal would obey."""
    return re.sub(r"[^\x20-\x7e -￿]", lambda found: f"\\x{ord(found[0]):02x}", text)


def _asked(step: Step) -> str:
    return (
        f"{step.name}({', '.join(_shown(step, index, arg) for index, arg in enumerate(step.args))})"
    )


def _answered(step: Step) -> str:
    if step.state == Step.WAITING:
        return " = ? (no answer yet)"
    if step.state == Step.GONE:
        return " = ? (ended)"
    if LOWEST_ERRNO <= step.result < 0:
        return f" = -1 {errnos.errorcode.get(-step.result, -step.result)}"
    if step.name == "load":
        return f" = {_bytes(step.data)}"
    if step.name.startswith("exec"):
        return " = new image"
    return f" = {_number(step.result)}"


def _shown(step: Step, index: int, arg: Any) -> str:
    from pytest_procsemantics.driven.constants import flag_names, signal_name

    if isinstance(arg, bytes | bytearray):
        return _bytes(bytes(arg))
    if isinstance(arg, Out):
        return f"[{arg.size} bytes]"
    if isinstance(arg, list | tuple):
        return f"[{', '.join(_shown(step, -1, one) for one in arg)}]"
    if not isinstance(arg, int):
        return "NULL" if arg is None else repr(arg)
    if prefix := FLAGS.get(step.name, {}).get(index):
        return flag_names(arg, prefix)
    if MODES.get(step.name) == index:
        return f"0{arg:o}" if arg else "0"
    if SIGNALS.get(step.name) == index:
        return signal_name(arg)
    return _number(arg)


def _bytes(value: bytes) -> str:
    text = repr(value[:MOST_BYTES])[1:]
    return f"{text}..." if len(value) > MOST_BYTES else text


def _number(value: int) -> str:
    return hex(value) if value >= MACHINE_WORD else str(value)
