"""The fixtures that make children in this process; each opens a spawner and closes it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from pytest_procsemantics import stash

if TYPE_CHECKING:
    from pytest_procsemantics.spawners import Fork


@pytest.fixture
def spawn_fork(pytestconfig: pytest.Config) -> Iterator[Fork]:
    """spawn_fork(function, *args, **kwargs): the callable in a child by fork; all children are gone when the test ends."""
    from pytest_procsemantics.spawners import Fork

    with Fork(pytestconfig.stash[stash.SETTINGS].timeout) as fork:
        yield fork
