"""A watcher beside this process: it ends the children, with their descendants, when nobody else does.

That is when this process died without a word (SIGKILL, os._exit), or as a worker of pytest-xdist lost the process that
controls it, and when a child is past its deadline while the test waits for something else. It is started at the first
spawn and is no child of this process: tests wait for any child, and count them. The children stand in a table in
memory that both have, so a spawn costs no message.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import select
import signal
import struct
import sys
import time
from contextlib import suppress
from errno import ENOTSUP
from functools import cache
from os import getpid
from pathlib import Path

from pytest_procsemantics.spawners import rescue
from pytest_procsemantics.spawners.hang import DUMPING
from pytest_procsemantics.spawners.masks import catches
from pytest_procsemantics.spawners.rescue import RECORD, Frozen, Rescue
from pytest_procsemantics.spawners.tree import Stranger, Tree

SLOTS = 1024  # children at a time that are watched; further ones are not
DEADLINES = SLOTS * 8  # offset of the second column
HEAD = DEADLINES + SLOTS * 8  # offset of what follows
# The signal at which children write their stacks, or 0; the watcher's pid, once it watches; whether there may be
# children that freeze a thread of their parent, which nobody but the watcher can look after; the parent's pid.
HEADER, WORD = struct.Struct("<qqqq"), struct.Struct("<q")
WATCHES, LOOKS_OFTEN = HEAD + 8, HEAD + 16
FROZEN = HEAD + HEADER.size
SIZE = FROZEN + RECORD.size
ENDED = -1.0  # the watcher ended it for its deadline

TICK = 1.0  # seconds between two looks at the deadlines
LOOK = 0.001  # seconds between two looks whether the watcher has started
STARTING = 60.0  # seconds for the watcher to start, which takes a tenth of one
GRACE = 2.0  # seconds after a deadline that the parent has to notice it, with a better message
TABLE, PARENT, CONTROLLER = 3, 4, 5  # the watcher's descriptors; the last one only beside a worker
WORKER = "PYTEST_XDIST_WORKER"  # a variable that its workers have

START = (
    "import sys; sys.path.insert(0, sys.argv[1]);"
    "from pytest_procsemantics.spawners.watch import main; main()"
)
# Of the environment: what an interpreter may need to find itself.
PASSED = ("PATH", "PYTHONHOME", "LD_LIBRARY_PATH")
# The shell goes away at once, so that the watcher is nobody's child here.
SHELL = '"$@" &'


def columns(view: mmap.mmap) -> tuple[memoryview[int], memoryview[float]]:
    """Of each slot the pid, or 0, and the deadline on the monotonic clock, or ENDED, which is written first."""
    memory = memoryview(view)
    return memory[:DEADLINES].cast("q"), memory[DEADLINES:HEAD].cast("d")


class Table:
    """A process's children, for its watcher.

    Args:
        listened: the signal at which children write their stacks; None: there is none.
    """

    def __init__(self, listened: int | None) -> None:
        self._owner = getpid()
        self._free: list[int] = []
        self._frozen: Frozen | None = None
        # Before Linux 5.3, and where no program may be started, nobody watches.
        with suppress(OSError):
            self._view = _started(listened or 0)
            self._pids, self._deadlines = columns(self._view)
            self._free = list(range(SLOTS - 1, -1, -1))

    def note(self, pid: int, deadline: float) -> int:
        """Have a child watched.

        Returns:
            Its slot, or -1 if it can't be watched.
        """
        # The children of a child are in its tree, and their parent can't free slots here.
        if not self._free or getpid() != self._owner:
            return -1
        slot = self._free.pop()
        self._deadlines[slot] = deadline
        self._pids[slot] = pid
        return slot

    def frozen(self) -> Frozen:
        """The part for children that freeze a thread of this process, with a watcher that looks after them.

        Raises:
            OSError: there is none.
        """
        if self._frozen is None:
            if not self._free:
                raise OSError(ENOTSUP, "no watcher can be started, and a deadline would not hold")
            WORD.pack_into(self._view, LOOKS_OFTEN, 1)
            limit = time.monotonic() + STARTING
            while not self._watcher():
                if time.monotonic() > limit:
                    raise OSError(ENOTSUP, "the watcher does not start")
                time.sleep(LOOK)
            self._frozen = Frozen(memoryview(self._view)[FROZEN:])
        try:
            os.kill(self._watcher(), 0)
        except ProcessLookupError:
            raise OSError(ENOTSUP, "the watcher was killed") from None
        return self._frozen

    def _watcher(self) -> int:
        return int(WORD.unpack_from(self._view, WATCHES)[0])

    def ends(self, slot: int) -> bool:
        """Whether the watcher ends, or ended, this child for its deadline."""
        return bool(self._deadlines[slot] == ENDED)

    def drop(self, slot: int) -> bool:
        """Watch a child no longer, which has ended and is not reaped yet; give the same."""
        self._pids[slot] = 0
        deadline = self._deadlines[slot]
        self._free.append(slot)
        return bool(deadline == ENDED)


@cache
def table_of(pid: int, listened: int | None) -> Table | None:
    """The table of this process, whose pid it is; None off Linux."""
    return Table(listened) if sys.platform == "linux" else None


def _started(listened: int) -> mmap.mmap:
    """Start a watcher of this process; give the table that it reads."""
    table = os.memfd_create("procsem-watched")
    try:
        os.ftruncate(table, SIZE)
        view = mmap.mmap(table, SIZE)
        HEADER.pack_into(view, HEAD, listened, 0, 0, getpid())
        given = [table, os.pidfd_open(getpid())]
        try:
            # A worker in a call that blocks goes on for seconds without its controller.
            if WORKER in os.environ:
                given.append(os.pidfd_open(os.getppid()))
            root = str(Path(__file__).resolve().parents[2])
            environment = {name: os.environ[name] for name in PASSED if name in os.environ}
            line = ["sh", "-c", SHELL, "sh", sys.executable, "-SsB", "-c", START, root]
            null = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(3)]
            # Out of the way of each other first.
            moved = [fcntl.fcntl(one, fcntl.F_DUPFD_CLOEXEC, 10) for one in given]
            try:
                places = enumerate(moved, TABLE)
                actions = [*null, *((os.POSIX_SPAWN_DUP2, *place[::-1]) for place in places)]
                pid = os.posix_spawn("/bin/sh", line, environment, file_actions=actions)
            finally:
                for descriptor in moved:
                    os.close(descriptor)
            with suppress(ChildProcessError):  # SIGCHLD is ignored
                os.waitpid(pid, 0)
        finally:
            for descriptor in given[1:]:
                os.close(descriptor)
    finally:
        os.close(table)
    return view


# --- in the watcher ---


def main() -> None:
    """Watch until the parent has ended."""
    os.setsid()
    os.chdir("/")
    waiting = {PARENT, CONTROLLER} if is_open(CONTROLLER) else {PARENT}
    os.closerange(max(waiting) + 1, os.sysconf("SC_OPEN_MAX"))
    view = mmap.mmap(TABLE, SIZE)
    pids, deadlines = columns(view)
    listened, _, _, pid = HEADER.unpack_from(view, HEAD)
    parent, looked = Stranger(pid, PARENT), 0.0
    frozen = Rescue(memoryview(view)[FROZEN:], parent, listened)
    WORD.pack_into(view, WATCHES, getpid())
    while PARENT in waiting:
        tick = rescue.TICK if WORD.unpack_from(view, LOOKS_OFTEN)[0] else TICK
        ended = select.select(waiting, (), (), tick)[0]
        if ended:
            waiting.difference_update(ended)
            if child := frozen.child():
                # A worker without a controller, of which a thread is frozen, must not come to run without the child.
                parent.send(signal.SIGKILL)
                _end(child, 0)
            for pid in filter(None, pids):
                _end(pid, 0)
            continue
        frozen.look()
        now = time.monotonic()
        if now - looked < TICK:
            continue
        looked = now
        for slot, pid in enumerate(pids):
            if pid and 0 < deadlines[slot] < now - GRACE:
                deadlines[slot] = ENDED
                _end(pid, listened)


def is_open(descriptor: int) -> bool:
    """Whether this process has been given a descriptor."""
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _end(pid: int, listened: int) -> None:
    with suppress(OSError):
        process = Stranger(pid)
        tree = Tree(process)
        if listened and catches(pid, listened):
            process.send(listened)
            process.ended(DUMPING)
        tree.end()
