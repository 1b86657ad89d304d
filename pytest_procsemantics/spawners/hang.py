"""Where a child stands that has reached its deadline, so that a reader can tell a lock from work from sleep.

The Python stacks come from faulthandler, which listens in the child to a real-time signal: its C handler works in a
thread that is stuck in a lock. The process ends by the same signal, which shows that the stacks are complete.
"""

from __future__ import annotations

import faulthandler
import os
import platform
import re
import signal
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pytest_procsemantics.spawners import way_back
from pytest_procsemantics.spawners.handle import Handle
from pytest_procsemantics.spawners.masks import catches, masks
from pytest_procsemantics.spawners.tree import cpu_seconds, stat
from pytest_procsemantics.spawners.way_back import Records

DUMPING = 2.0  # seconds for a child to write its stacks and end
# System calls that wait, with a descriptor as their first argument.
ON_DESCRIPTORS = re.compile(
    r"p?(read|write)(v|64)?|(recv|send)(from|to|msg)|accept4?|connect|flock|fcntl|epoll_p?wait|ioctl"
)
HERE = Path(__file__).parent
FROZEN = re.compile(r"\n\n(Current t|T)hread \S+ \(most recent call first\):(?=\n\n|$)")
MOST_FRAMES = 4  # of a thread that did not come along
SELDOM_USED = range(7, 0, -1)  # below SIGRTMAX: the lower ones have their users


@dataclass(frozen=True, slots=True)
class Beside:
    """The parent's threads at the spawn, apart from the one that spawned: in the child they don't exist.

    Attributes:
        threads: a line for each thread that Python knows, with where it was.
    """

    threads: tuple[str, ...]

    @classmethod
    def of_now(cls) -> Beside | None:
        """Those of this moment; None if there are none."""
        frames, own = sys._current_frames(), threading.get_ident()
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        lines = []
        for ident, frame in frames.items():
            if ident == own:
                continue
            places: list[str] = []
            while frame is not None and len(places) < MOST_FRAMES:
                places.append(
                    f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
                )
                frame = frame.f_back  # type: ignore[assignment]
            lines.append(f"{names.get(ident, hex(ident))}: {', from '.join(places)}")
        return cls(tuple(lines)) if lines else None


@cache
def listened_to() -> int | None:
    """The signal at which children write their stacks: one that nobody handles, ignores or blocks here, or None.

    faulthandler would take over a handler that is in C, which Python can't see.
    """
    found = masks("self")
    if not found:
        return None
    taken = found["SigBlk"] | found["SigIgn"] | found["SigCgt"]
    for below in SELDOM_USED:
        number = signal.SIGRTMAX - below
        if not taken >> (number - 1) & 1:
            return number
    return None


def listen(number: int, descriptor: int) -> None:
    """Have faulthandler write this process's stacks to a file, and end it, when the signal comes."""
    # With chain it goes on to the default action, which is the end.
    faulthandler.register(number, descriptor, all_threads=True, chain=True)


@dataclass(frozen=True, slots=True)
class Facts:
    """What can be seen of a process that does not end.

    Attributes:
        phase: fork hooks, callable or ending; program, where it runs no callable (any more).
        lines: what the kernel says.
        stacks: of its Python threads, as text.
        is_locked: it waits in futex(2), as for a lock.
    """

    phase: str
    lines: tuple[str, ...]
    stacks: str
    is_locked: bool

    @classmethod
    def of(cls, handle: Handle, back: int) -> Facts:
        """Look at a process, and have it write its stacks, which ends it.

        Args:
            handle: the process.
            back: descriptor of its way back; below 0: it has none.
        """
        folder = Path(f"/proc/{handle.pid}")
        lines = kernel_lines(folder)
        phase, stacks = "program", ""
        number = listened_to()
        if back >= 0 and _link(folder / "exe") == _link(Path("/proc/self/exe")):
            begin = os.fstat(back).st_size
            phase = Records.parse(way_back.read(back)).phase
            if number is not None and catches(handle.pid, number):
                handle.send(number)
                handle.ended(DUMPING)
                stacks = own_frames(
                    Records.parse(way_back.read(back, begin)).stray.decode(errors="replace")
                )
        # Not every kernel tells the channel.
        is_locked = "wait channel futex" in "".join(lines[:1]) or "system call futex" in lines
        return cls(phase, tuple(lines), stacks, is_locked)

    def message(self, who: str, seconds: float, beside: Beside | None) -> str:
        """All of it for people; the first line says what was awaited."""
        text = [
            f"{who} still ran at its deadline, {seconds:g} s after its start, and was ended (phase: {self.phase})"
        ]
        text += [f"  {line}" for line in self.lines]
        if beside is None:
            text.append("  threads of the parent at the spawn: 1")
        else:
            text.append(
                f"  threads of the parent at the spawn: {len(beside.threads) + 1}; not in the child:"
            )
            text += [f"    {line}" for line in beside.threads]
            if self.is_locked:
                text.append(
                    "  it waits for a lock: one that such a thread held at the spawn is never released here"
                )
        text.append(self.stacks or "  its Python stacks could not be had")
        return "\n".join(text)


def own_frames(text: str) -> str:
    """The stacks without the frames of the parent, which stand below ours in each child."""
    lines: list[str] = []
    is_below = False
    for line in text.splitlines():
        if not line.startswith("  "):
            is_below = False
        is_below = is_below or f'"{HERE}/' in line
        if not is_below:
            lines.append(line)
    # A thread of which nothing is left is the one that a child by vfork has frozen.
    whole = "\n".join(lines).strip()
    return FROZEN.sub("", whole)


def kernel_lines(folder: Path) -> list[str]:
    """What the kernel says of a process, given by its folder in /proc."""
    channel = _word(folder / "wchan")
    try:
        words = stat(folder.name)
    except OSError:
        return []
    lines = [
        f"state {words[0]}, wait channel {channel or 'not told'}, {cpu_seconds(words):.2f} s of CPU, threads: {words[17]}"
    ]
    call = _word(folder / "syscall").split()
    if call and call[0].isdecimal():
        lines.append(f"system call {_call_text(folder, int(call[0]), int(call[1], 0))}")
    with suppress(OSError):
        command = (folder / "cmdline").read_bytes().split(b"\0")
        lines.append("command line " + b" ".join(command[:8]).decode(errors="backslashreplace"))
    return lines


def _call_text(folder: Path, number: int, first: int) -> str:
    """A system call's name, with its descriptor and what that is."""
    from pytest_procsemantics.driven.constants.calls import NUMBERS

    numbers = NUMBERS.get(platform.machine(), {})
    name = next((name for name, value in numbers.items() if value == number), f"number {number}")
    if ON_DESCRIPTORS.fullmatch(name):
        with suppress(OSError):
            return f"{name} on descriptor {first}, {os.readlink(folder / 'fd' / str(first))}"
    return name


def _link(path: Path) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _word(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
