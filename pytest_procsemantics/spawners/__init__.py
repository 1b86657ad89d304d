"""Primitives in this process: a Python callable, or a program, as a child of this one.

Works without pytest. Nothing is imported before it is asked for: not all of it exists on every system.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_procsemantics.spawners.child import Child as Child
    from pytest_procsemantics.spawners.clone import Clone as Clone
    from pytest_procsemantics.spawners.clone import Clone3 as Clone3
    from pytest_procsemantics.spawners.errors import ChildError as ChildError
    from pytest_procsemantics.spawners.errors import ChildFailed as ChildFailed
    from pytest_procsemantics.spawners.errors import ChildKilled as ChildKilled
    from pytest_procsemantics.spawners.errors import ChildOverdue as ChildOverdue
    from pytest_procsemantics.spawners.errors import ChildTraceback as ChildTraceback
    from pytest_procsemantics.spawners.fork import Fork as Fork
    from pytest_procsemantics.spawners.program import Exec as Exec
    from pytest_procsemantics.spawners.program import PosixSpawn as PosixSpawn
    from pytest_procsemantics.spawners.program import ProgramChild as ProgramChild
    from pytest_procsemantics.spawners.spawner import Spawner as Spawner
    from pytest_procsemantics.spawners.thread import Thread as Thread
    from pytest_procsemantics.spawners.thread import ThreadChild as ThreadChild
    from pytest_procsemantics.spawners.vfork import Vfork as Vfork

PUBLIC = {
    "Child": "child",
    "Clone": "clone",
    "Clone3": "clone",
    "ChildError": "errors",
    "ChildFailed": "errors",
    "ChildKilled": "errors",
    "ChildOverdue": "errors",
    "ChildTraceback": "errors",
    "Exec": "program",
    "Fork": "fork",
    "PosixSpawn": "program",
    "ProgramChild": "program",
    "Spawner": "spawner",
    "Thread": "thread",
    "ThreadChild": "thread",
    "Vfork": "vfork",
}


def __getattr__(name: str) -> Any:
    if name in PUBLIC:
        return getattr(importlib.import_module(f"{__name__}.{PUBLIC[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
