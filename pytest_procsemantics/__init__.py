"""Does process creation here behave as documented?

A pytest plugin and a conformance suite for kernels, sandboxes, emulators and VMs that run a Linux executable.
Nothing is imported before it is asked for: a project that has the plugin and doesn't use it pays nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_procsemantics.clauses import clause as clause
    from pytest_procsemantics.driven import Process as Process
    from pytest_procsemantics.driven import Target as Target
    from pytest_procsemantics.spawners import Child as Child
    from pytest_procsemantics.spawners import ChildError as ChildError
    from pytest_procsemantics.spawners import ChildFailed as ChildFailed
    from pytest_procsemantics.spawners import ChildKilled as ChildKilled
    from pytest_procsemantics.spawners import ChildOverdue as ChildOverdue
    from pytest_procsemantics.spawners import Clone as Clone
    from pytest_procsemantics.spawners import Clone3 as Clone3
    from pytest_procsemantics.spawners import Exec as Exec
    from pytest_procsemantics.spawners import Fork as Fork
    from pytest_procsemantics.spawners import PosixSpawn as PosixSpawn
    from pytest_procsemantics.spawners import ProgramChild as ProgramChild
    from pytest_procsemantics.spawners import Spawner as Spawner
    from pytest_procsemantics.spawners import Thread as Thread
    from pytest_procsemantics.spawners import ThreadChild as ThreadChild
    from pytest_procsemantics.spawners import Vfork as Vfork

__version__ = "0.1.0"

SPAWNERS = (
    *("Child", "ChildError", "ChildFailed", "ChildKilled", "ChildOverdue", "ThreadChild"),
    *(
        "Clone",
        "Clone3",
        "Exec",
        "Fork",
        "PosixSpawn",
        "ProgramChild",
        "Spawner",
        "Thread",
        "Vfork",
    ),
)
PUBLIC = {"clause": "clauses", "Process": "driven", "Target": "driven"} | dict.fromkeys(
    SPAWNERS, "spawners"
)


def __getattr__(name: str) -> Any:
    if name in PUBLIC:
        return getattr(importlib.import_module(f"{__name__}.{PUBLIC[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
