"""What a process has more of after many children: descriptors, children, threads, memory."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from pytest_procsemantics.spawners import Clone, Clone3, Exec, Fork, PosixSpawn, Thread, Vfork
from pytest_procsemantics.spawners.support import why_not

# Children by one spawner, which then is closed, as a fixture is at the end of its test.
TOGETHER = 100
FUNCTIONS = 100  # one of so many programs is a fresh interpreter with a function
PARTS = 4  # in which the children are made, with a look after each
LEFT = 10  # one of so many children nobody waits for
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Holdings:
    """What this process has.

    Attributes:
        things: descriptors, children and threads.
        blocks: of memory, as Python's allocator counts them.
        kilobytes: of memory, as the kernel does.
    """

    things: int
    blocks: int
    kilobytes: float

    @classmethod
    def of_now(cls) -> Holdings:
        gc.collect()
        threads = os.listdir("/proc/self/task")
        lists = [Path(f"/proc/self/task/{thread}/children").read_text() for thread in threads]
        children = [pid for pids in lists for pid in pids.split()]
        things = len(threads) + len(children) + len(os.listdir("/proc/self/fd"))
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return cls(things, sys.getallocatedblocks(), pages * PAGE / 1024)


def nothing() -> None:
    pass


def callables(make: Any, count: int) -> None:
    for number in range(count):
        child = make(nothing)
        # The others are ended by the spawner.
        if number % LEFT:
            child.result()


def programs(start: Any, count: int) -> None:
    for number in range(count):
        child = start("true") if number % FUNCTIONS else start("os:getpid")
        if number % LEFT:
            child.result()


SPAWNERS: dict[str, tuple[type[Any], Callable[[Any, int], None]]] = {
    "fork": (Fork, callables),
    "clone": (Clone, callables),
    "clone3": (Clone3, callables),
    "vfork": (Vfork, callables),
    "exec": (Exec, programs),
    "posix_spawn": (PosixSpawn, programs),
    "thread": (Thread, callables),
}


def many(primitive: str, count: int) -> None:
    """Make children and have them end."""
    spawner, work = SPAWNERS[primitive]
    for begin in range(0, count, TOGETHER):
        with spawner(60) as spawn:
            work(spawn, min(TOGETHER, count - begin))


def growth(count: int) -> Iterator[tuple[str, Holdings]]:
    """What there is more of after many children, by primitive.

    It is that part of them that left least: whatever grows with the children grows in each.
    """
    for primitive in SPAWNERS:
        if why_not(primitive):
            continue
        many(primitive, TOGETHER)
        seen = [Holdings.of_now()]
        for _ in range(PARTS):
            many(primitive, count // PARTS)
            seen.append(Holdings.of_now())
        parts = (astuple(more(*pair)) for pair in pairwise(seen))
        yield primitive, Holdings(*map(min, zip(*parts, strict=True)))


def more(before: Holdings, after: Holdings) -> Holdings:
    pairs = zip(astuple(before), astuple(after), strict=True)
    return Holdings(*(late - early for early, late in pairs))
