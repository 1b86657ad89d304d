"""The fixtures that make children in this process; each opens a spawner and closes it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from pytest_procsemantics import stash
from pytest_procsemantics.collection import PRIMITIVES_MARKER

if TYPE_CHECKING:
    from pytest_procsemantics.spawners import Clone, Clone3, Exec, Fork, PosixSpawn, Thread

# What `spawn` stands for in a test without the marker: all that run any callable.
CALLABLE_PRIMITIVES = ("fork", "clone", "clone3")


def choose(test: pytest.Item) -> None:
    """Have `spawn` make children in this test by what its marker names.

    Raises:
        pytest.Collector.CollectError: the marker names nothing that there is.
    """
    from pytest_procsemantics.spawners.support import REASONS

    mark = test.get_closest_marker(PRIMITIVES_MARKER)
    assert mark is not None
    names = [name for name in mark.args if name in REASONS]
    if not names or len(names) < len(mark.args) or mark.kwargs:
        path, line, _ = test.location
        where = path if line is None else f"{path}:{line + 1}"
        raise pytest.Collector.CollectError(
            f"{where}: {PRIMITIVES_MARKER} takes one or more of {', '.join(REASONS)}"
        )
    # A mark of the test's own goes before the parameters of the fixture.
    test.add_marker(pytest.mark.parametrize("spawn", names, indirect=True))


def _timeout(request: pytest.FixtureRequest, primitive: str) -> float:
    """Seconds from a child's start to its deadline; a primitive that is missing skips the test."""
    from pytest_procsemantics.spawners.support import why_not

    if reason := why_not(primitive):
        pytest.skip(reason)
    return request.config.stash[stash.SETTINGS].timeout


@pytest.fixture(params=CALLABLE_PRIMITIVES)
def spawn(request: pytest.FixtureRequest) -> Any:
    """The test runs once for each primitive: spawn(function, *args, **kwargs) is spawn_fork, spawn_clone, spawn_clone3."""
    return request.getfixturevalue(f"spawn_{request.param}")


@pytest.fixture
def spawn_fork(request: pytest.FixtureRequest) -> Iterator[Fork]:
    """spawn_fork(function, *args, **kwargs): a child by fork; the test's end is the child's."""
    timeout = _timeout(request, "fork")
    from pytest_procsemantics.spawners import Fork

    with Fork(timeout) as fork:
        yield fork


@pytest.fixture
def spawn_clone(request: pytest.FixtureRequest) -> Iterator[Clone]:
    """spawn_clone(function, *args, flags=0, **kwargs): a child by clone; the test's end is the child's."""
    timeout = _timeout(request, "clone")
    from pytest_procsemantics.spawners import Clone

    with Clone(timeout) as clone:
        yield clone


@pytest.fixture
def spawn_clone3(request: pytest.FixtureRequest) -> Iterator[Clone3]:
    """spawn_clone3(function, *args, flags=0, set_tid=(), cgroup=None, exit_signal=SIGCHLD, **kwargs): a child by clone3."""
    timeout = _timeout(request, "clone3")
    from pytest_procsemantics.spawners import Clone3

    with Clone3(timeout) as clone3:
        yield clone3


@pytest.fixture
def spawn_exec(request: pytest.FixtureRequest) -> Iterator[Exec]:
    """spawn_exec(program, *args, **kwargs): a program, or an importable function, by fork and execve."""
    timeout = _timeout(request, "exec")
    from pytest_procsemantics.spawners import Exec

    with Exec(timeout) as execute:
        yield execute


@pytest.fixture
def spawn_posix_spawn(request: pytest.FixtureRequest) -> Iterator[PosixSpawn]:
    """spawn_posix_spawn(program, *args, **kwargs): the same by posix_spawn."""
    timeout = _timeout(request, "posix_spawn")
    from pytest_procsemantics.spawners import PosixSpawn

    with PosixSpawn(timeout) as posix_spawn:
        yield posix_spawn


@pytest.fixture
def spawn_thread(request: pytest.FixtureRequest) -> Iterator[Thread]:
    """spawn_thread(function, *args, **kwargs): a thread of this process."""
    timeout = _timeout(request, "thread")
    from pytest_procsemantics.spawners import Thread

    with Thread(timeout) as thread:
        yield thread
