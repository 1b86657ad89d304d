"""Whether vfork is a true one here, tried in a process of its own: what it is not, would end badly in this one.

Emulators of user mode and some sandboxes make a fork of it.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import threading
import time
from functools import cache
from pathlib import Path

from pytest_procsemantics.spawners.support import VFORK_WORDS
from pytest_procsemantics.spawners.tree import stat

LIMIT = 60.0  # seconds; it takes a tenth of one
SETTLING = 20.0  # seconds for a parent to rest: on a busy machine it may wait for a processor first
LOOK = 0.001  # seconds between two looks
ROUNDS = 3
TRUE = "a true vfork"
START = (
    "import sys; sys.path.insert(0, sys.argv[1]);"
    "from pytest_procsemantics.spawners.probe import found; print(found())"
)


@cache
def why_no_vfork() -> str | None:
    """The reason, or None."""
    from pytest_procsemantics.native import BuildFailed
    from pytest_procsemantics.spawners.frozen import native

    try:
        native()
    except (BuildFailed, OSError) as error:
        return str(error)
    root = str(Path(__file__).resolve().parents[2])
    line = [sys.executable, "-SsB", "-c", START, root]
    try:
        done = subprocess.run(
            line, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"could not be tried: {error}"
    word = done.stdout.strip()
    if word == TRUE:
        return None
    last = "".join(done.stderr.splitlines()[-1:])
    return word or f"its trial ended with status {done.returncode}: {last}"


class Trial:
    """A callable for a child, and what it sees of its parent.

    Args:
        leaves: whether it ends without unwinding.
    """

    def __init__(self, leaves: bool) -> None:
        self._leaves = leaves
        self._parent = f"{os.getpid()}/task/{threading.get_native_id()}"
        self.pid = 0
        self.state = ""

    def look(self) -> None:
        limit = time.monotonic() + SETTLING
        while (state := stat(self._parent)[0]) == "R" and time.monotonic() < limit:
            time.sleep(LOOK)
        self.state = state
        self.pid = os.getpid()
        if self._leaves:
            os._exit(0)


def found() -> str:
    """What vfork is here, in words."""
    from pytest_procsemantics.spawners import frozen

    of_all = frozen.native()
    for leaves in (False, True) * ROUNDS:
        trial, state = Trial(leaves), of_all.new_state()
        try:
            pid = frozen.run(VFORK_WORDS[platform.machine()], trial.look, state, trial)
        except OSError as error:
            return str(error.strerror)
        os.waitpid(pid, 0)
        if trial.pid != pid:
            return "the child gets a copy of the memory here, as in emulators"
        if trial.state != "D":
            return f"the parent is not frozen here, but in state {trial.state}"
        of_all.end_state(state)
    return TRUE
