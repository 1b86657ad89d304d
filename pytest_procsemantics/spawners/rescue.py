"""What the watcher does at the deadline of a child that has its parent's memory, and has frozen a thread of it.

First an exception is raised in the child: a signal does it, which shows the stacks as well. A child that does not end
by it is killed, but only while all its threads rest: one that is killed in the midst of the interpreter leaves locks
to its parent, which would wait for them for ever. Otherwise the parent's process is ended too, with a message.
"""

from __future__ import annotations

import math
import os
import signal
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pytest_procsemantics.spawners import hang, way_back
from pytest_procsemantics.spawners.tree import Stranger, Tree, cpu_seconds, stat, state
from pytest_procsemantics.spawners.way_back import Records

NULL = b"\0"
# The child's pid, or 0 while there is none; its deadline on the monotonic clock; its number; what was done, as
# SERIAL x number + what, so that a late word is not taken for the next child's; descriptors of the parent's where the
# child writes its stacks and where messages go; looks at which it must rest to be killed; whether it is deaf; what it
# is; what the kernel said of it at its deadline.
RECORD = struct.Struct("<qdqqqqqq128s832s")
PID, CHILD, HEAD = struct.Struct("<q"), struct.Struct("<qdq"), struct.Struct("<qdqqqqqq128s")
WORD, DONE, FACTS = struct.Struct("<q"), 24, 192  # offsets
SERIAL = 4
UNTOUCHED, RAISED, KILLED, ENDED = range(4)  # ENDED: and its descendants with it

TICK = 0.05  # seconds between two looks
AGAIN = 1.0  # seconds of CPU after which the exception is raised once more: code in C may have swallowed it
AGAIN_IF_DEAF = 0.03  # the same for a child that hears it only while it holds the interpreter
TRIES_IF_DEAF = 10  # at such a time, for with CPython 3.13 it may be the moment in one of forty
MARK = b"\4"  # what a child writes behind its stacks when it has handled a signal: `handled` in native/vfork.c
ENOUGH = 2.0  # seconds of CPU after which it is clear that it is not heard
LONGEST = 60.0  # seconds in which a child that neither rests nor uses the processor may end
RESTING = 0.25  # seconds for which no thread of a child may move before it is killed
STOPPING = 1.0  # seconds for it to stop
ENDING = 15.0  # seconds for the watcher to end the descendants of a child


class Frozen:
    """The child that has frozen a thread of this process, for its watcher; there is one at a time.

    Args:
        view: the table's part for it.
    """

    def __init__(self, view: memoryview) -> None:
        self._view = view
        self._number = 0

    def enter(self, deadline: float, back: int, messages: int, is_deaf: bool, who: str) -> None:
        """Have a child watched that is about to be made.

        Args:
            deadline: on the monotonic clock.
            back: descriptor where it writes its stacks.
            messages: descriptor for what is said should this process be ended.
            is_deaf: whether it hears a signal only while it holds the interpreter.
            who: what it is, for this message.
        """
        # Who waits for the interpreter moves once in a switch interval.
        looks = math.ceil((RESTING + 2 * sys.getswitchinterval()) / TICK)
        self._number += 1
        numbers = 0, deadline, self._number, UNTOUCHED, back, messages, looks, is_deaf
        HEAD.pack_into(self._view, 0, *numbers, who.encode())

    def begins(self, pid: int) -> None:
        """In the child: say who it is."""
        PID.pack_into(self._view, 0, pid)

    def leave(self) -> tuple[int, str]:
        """The child has ended, and is not reaped yet.

        Returns:
            What was done to it, and what the kernel said of it then.
        """
        PID.pack_into(self._view, 0, 0)
        if not self._done():
            return UNTOUCHED, ""
        limit = time.monotonic() + ENDING
        while self._done() != ENDED and time.monotonic() < limit:
            time.sleep(TICK / 10)
        facts = RECORD.unpack_from(self._view)[-1]
        return self._done(), facts.rstrip(NULL).decode(errors="replace")

    def _done(self) -> int:
        number, done = divmod(WORD.unpack_from(self._view, DONE)[0], SERIAL)
        return done if number == self._number else UNTOUCHED


# --- in the watcher ---


@dataclass
class Late:
    """A child past its deadline, with the descendants that it had then."""

    number: int
    process: Stranger
    tree: Tree
    begin: float
    used: float  # seconds of CPU that it had at its deadline
    lines: list[str]
    raised: float = 0.0  # after so many more
    size: int = 0  # bytes of its stacks when it had handled a signal
    moves: tuple[int, ...] = ()
    rests: int = 0


class Rescue:
    """Ends a child that is late.

    Args:
        view: the table's part for it.
        parent: the process whose thread it has frozen.
        listened: the signal that raises in it.
    """

    def __init__(self, view: memoryview, parent: Stranger, listened: int) -> None:
        self._view = view
        self._parent = parent
        self._listened = listened
        self._late: Late | None = None

    def look(self) -> None:
        """Take the next step, if a child is late."""
        pid, deadline, number = CHILD.unpack_from(self._view)
        late = self._late
        if late is None:
            if pid and time.monotonic() >= deadline:
                self._begin(pid, number)
        elif pid != late.process.pid or late.process.ended(0):
            late.tree.end()
            os.close(late.process.pidfd)
            self._late = None
            self._note(late.number, ENDED)
        else:
            self._go_on(late)

    def child(self) -> int:
        """Its pid, or 0."""
        return int(PID.unpack_from(self._view)[0])

    def _note(self, number: int, done: int) -> None:
        WORD.pack_into(self._view, DONE, SERIAL * number + done)

    def _begin(self, pid: int, number: int) -> None:
        with suppress(OSError):
            process = Stranger(pid)
            # The record is cleared before the child is reaped: if it still stands, this is the child.
            if CHILD.unpack_from(self._view)[::2] != (pid, number):
                os.close(process.pidfd)
                return
            self._note(number, RAISED)
            folder = Path(f"/proc/{pid}")
            lines = hang.kernel_lines(folder)
            facts = "\n".join(lines).encode(errors="replace")
            struct.pack_into(f"{RECORD.size - FACTS}s", self._view, FACTS, facts)
            begin = time.monotonic()
            self._late = Late(number, process, Tree(process), begin, seconds(pid), lines)
            process.send(self._listened)

    def _go_on(self, late: Late) -> None:
        folder = Path(f"/proc/{late.process.pid}")
        moves = movements(folder)
        late.rests = late.rests + 1 if moves and moves == late.moves else 0
        late.moves = moves
        used = seconds(late.process.pid) - late.used
        _, _, _, _, _, _, looks, is_deaf, _, _ = RECORD.unpack_from(self._view)
        if late.rests >= looks:
            self._kill(late)
        elif used > ENOUGH or time.monotonic() - late.begin > LONGEST:
            self._end_all(late)
        elif used > late.raised + (AGAIN_IF_DEAF if is_deaf else AGAIN):
            late.raised = used
            late.process.send(self._listened)
            for _ in range(TRIES_IF_DEAF - 1 if is_deaf else 0):
                if late.process.ended(TICK / TRIES_IF_DEAF):
                    break
                if self._has_handled(late):
                    late.process.send(self._listened)

    @contextmanager
    def _parents_file(self, descriptor: int, flags: int = os.O_RDONLY) -> Iterator[int]:
        """What the parent has open there, opened anew."""
        file = os.open(f"/proc/{self._parent.pid}/fd/{descriptor}", flags)
        try:
            yield file
        finally:
            os.close(file)

    def _has_handled(self, late: Late) -> bool:
        """Whether the child has handled a signal since this was last so.

        One that came earlier would be handled within, and after some of them its stack for that is full.
        """
        _, _, _, _, back, *_ = RECORD.unpack_from(self._view)
        with suppress(OSError), self._parents_file(back) as file:
            size = os.fstat(file).st_size
            if size > late.size and os.pread(file, 1, size - 1) == MARK:
                late.size = size
                return True
        return False

    def _kill(self, late: Late) -> None:
        """Kill a child that rests, if it still does when it is stopped."""
        process = late.process
        process.send(signal.SIGSTOP)
        limit = time.monotonic() + STOPPING
        while state(process.pid) not in "TtZX" and time.monotonic() < limit:
            time.sleep(TICK / 10)
        now = movements(Path(f"/proc/{process.pid}"), is_stopped=True)
        # To stop is one move; a thread that had begun to move made another one.
        steps = [after - before for before, after in zip(late.moves, now, strict=False)]
        if len(now) == len(late.moves) and max(steps) <= 1:
            self._note(late.number, KILLED)
            process.send(signal.SIGKILL)
        else:
            late.rests = 0
            process.send(signal.SIGCONT)

    def _end_all(self, late: Late) -> None:
        """End the child and the process whose memory it has, and say why."""
        _, _, _, _, back, messages, _, _, who, _ = RECORD.unpack_from(self._view)
        stacks = ""
        with suppress(OSError), self._parents_file(back) as file:
            stacks = own_stacks(file)
        text = [
            f"\npytest-procsemantics: child {late.process.pid} ({who.rstrip(NULL).decode(errors='replace')})"
            " is past its deadline, and no exception ends it: it is in the midst of the interpreter that it shares"
            f" with this process. So this process, {self._parent.pid}, is ended with it.",
            *(f"  {line}" for line in late.lines),
            f"{stacks}\n",
        ]
        flags = os.O_WRONLY | os.O_APPEND | os.O_NOCTTY | os.O_NONBLOCK
        with suppress(OSError), self._parents_file(messages, flags) as file:
            os.write(file, "\n".join(text).encode(errors="replace"))
        # The parent first: its frozen thread must not come to run.
        self._parent.send(signal.SIGKILL)
        Tree(late.process).end()


def own_stacks(file: int) -> str:
    """The stacks that a child has written to its file, without the frames of its parent."""
    text = Records.parse(way_back.read(file).replace(MARK, b"")).stray.decode(errors="replace")
    # Each signal has them written, and the first time is as good as any.
    again = text.find("\n" + text.partition("\n")[0] + "\n")
    return hang.own_frames(text if again < 0 else text[:again])


def seconds(pid: int) -> float:
    """Of the processor that a process has used; 0 if it is gone."""
    with suppress(OSError):
        return cpu_seconds(stat(pid))
    return 0.0


def movements(folder: Path, is_stopped: bool = False) -> tuple[int, ...]:
    """How often each thread of a process has left the processor; empty if one of them does not rest.

    Who waits for the interpreter looks again every few milliseconds, so it moves.
    """
    found = []
    with suppress(OSError):
        for thread in sorted((folder / "task").iterdir()):
            lines = (line.split(":\t") for line in (thread / "status").read_text().splitlines())
            words = {line[0]: line[1] for line in lines if len(line) > 1}
            if not is_stopped and not words["State"].startswith("S"):
                return ()
            switches = (f"{kind}_ctxt_switches" for kind in ("voluntary", "nonvoluntary"))
            found.append(sum(int(words[name]) for name in switches))
        return tuple(found)
    return ()
