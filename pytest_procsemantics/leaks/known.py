"""What is new after a test and yet no leak: what libraries keep for good, once they were used.

Capture files, timers of pytest-timeout and faulthandler, threads and sockets of pytest-xdist and
the like are not here: they are there before a test's first snapshot and still after its last.
"""

from __future__ import annotations

import re
import sys
import threading
from importlib.machinery import EXTENSION_SUFFIXES
from typing import Final

from pytest_procsemantics.leaks.snapshot import (
    CHILD,
    DESCRIPTOR,
    THREAD,
    Snapshot,
    Thing,
    command_line,
    forkserver,
)

# Libraries of cryptography keep one of these open for the whole process.
OPENED_ONCE: Final = ("/dev/urandom", "/dev/random")
# Of the pool that an event loop has for calls that block: they end with the loop, which may be that
# of a fixture of wider scope. A loop that a test leaves open is told by its descriptors.
THREAD_OF_EVENT_LOOP: Final = re.compile(r"asyncio_\d+")
WATCHED: Final = "/memfd:procsem-watched (deleted)"
WATCHER: Final = "pytest_procsemantics.spawners.watch"


def kept_for_good(new: Snapshot, before: Snapshot, modules: frozenset[str]) -> Snapshot:
    """Those of the new things that are a library's own.

    Args:
        new: not in `before`.
        modules: names of what was imported when `before` was looked at.
    """
    long_lived = _of_multiprocessing() | _of_targets()
    kept = {
        thing for thing in new if (thing.kind, thing.number) in long_lived or _is_of_watcher(thing)
    }
    open_before = {thing.target for thing in before if thing.kind == DESCRIPTOR}
    for device in OPENED_ONCE:
        opened = sorted(one for one in new if one.kind == DESCRIPTOR and one.target == device)
        if device not in open_before:
            kept.update(opened[:1])
    names = {thread.native_id: thread.name for thread in threading.enumerate()}
    threads = {thing for thing in new if thing.kind == THREAD}
    # The module threading knows only those that it started.
    native = {thing for thing in threads if thing.number not in names}
    if native and _is_library_new(modules):
        kept |= native
    kept.update(
        thing for thing in threads - native if THREAD_OF_EVENT_LOOP.fullmatch(names[thing.number])
    )
    return frozenset(kept)


def _of_multiprocessing() -> set[tuple[str, int | None]]:
    """The resource tracker and the fork server: one of each, until the interpreter ends."""
    module = sys.modules.get("multiprocessing.resource_tracker")
    tracker = getattr(module, "_resource_tracker", None)
    module = sys.modules.get("multiprocessing.forkserver")
    server = getattr(module, "_forkserver", None)
    return {
        (CHILD, getattr(tracker, "_pid", None)),
        (DESCRIPTOR, getattr(tracker, "_fd", None)),
        (CHILD, forkserver()),
        (DESCRIPTOR, getattr(server, "_forkserver_alive_fd", None)),
    }


def _of_targets() -> set[tuple[str, int | None]]:
    """Agents of this package: one that was started for a test waits for the next one."""
    module = sys.modules.get("pytest_procsemantics.driven.link")
    found: set[tuple[str, int | None]] = set()
    for link in getattr(module, "RUNNING", ()):
        found.add((CHILD, link.keeper_pid))
        found.update((DESCRIPTOR, number) for number in link.descriptors)
    return found


def _is_of_watcher(thing: Thing) -> bool:
    """The watcher of this package's spawners, and its table: one of each, from the first spawn on."""
    if thing.kind == DESCRIPTOR:
        return thing.target == WATCHED
    # It is a child of this process only where that inherits orphans.
    return thing.kind == CHILD and WATCHER in command_line(thing.number)


def _is_library_new(modules: frozenset[str]) -> bool:
    """Whether an extension module that isn't Python's own was imported since: NumPy's BLAS, say, starts its threads then."""
    for name in sys.modules.keys() - modules:
        file = getattr(sys.modules.get(name), "__file__", None) or ""
        is_pythons = name.partition(".")[0] in sys.stdlib_module_names
        if not is_pythons and file.endswith(tuple(EXTENSION_SUFFIXES)):
            return True
    return False
