"""Primitives in this process: a Python callable as a child of this one.

Works without pytest; imported when a fixture is used.
"""

from __future__ import annotations

from pytest_procsemantics.spawners.child import Child as Child
from pytest_procsemantics.spawners.errors import ChildError as ChildError
from pytest_procsemantics.spawners.errors import ChildFailed as ChildFailed
from pytest_procsemantics.spawners.errors import ChildKilled as ChildKilled
from pytest_procsemantics.spawners.errors import ChildOverdue as ChildOverdue
from pytest_procsemantics.spawners.errors import ChildTraceback as ChildTraceback
from pytest_procsemantics.spawners.fork import Fork as Fork
