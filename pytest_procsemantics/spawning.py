"""The fixtures that make children in this process; each opens a spawner and closes it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pytest

from pytest_procsemantics import stash
from pytest_procsemantics.collection import PRIMITIVES_MARKER

if TYPE_CHECKING:
    from pytest_procsemantics.spawners import Clone, Clone3, Exec, Fork, PosixSpawn, Thread, Vfork

ERR = 2
FREEZING = ("vfork", "clone", "clone3")  # what can have a child on this process's memory
# What `spawn` stands for in a test without the marker: all that run any callable.
CALLABLE_PRIMITIVES = ("fork", "clone", "clone3", "vfork")


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


def _opened(request: pytest.FixtureRequest, primitive: str, name: str) -> Iterator[Any]:
    """A spawner of this class for one test, which is skipped where the primitive is missing."""
    from pytest_procsemantics import spawners
    from pytest_procsemantics.spawners.support import why_not

    if reason := why_not(primitive):
        pytest.skip(reason)
    with getattr(spawners, name)(request.config.stash[stash.SETTINGS].timeout) as spawner:
        if primitive in FREEZING:
            spawner.messages = _terminal(request.config)
        yield spawner


def _terminal(config: pytest.Config) -> int:
    """A descriptor of the standard error that pytest was started with, for what is said when a child takes it along."""
    found = config.stash.get(stash.TERMINAL, None)
    if found is None:
        capture: Any = config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled() if capture else nullcontext():
            found = os.dup(ERR)
        config.stash[stash.TERMINAL] = found
        config.add_cleanup(lambda: os.close(found))
    return found


@pytest.fixture(params=CALLABLE_PRIMITIVES)
def spawn(request: pytest.FixtureRequest) -> Any:
    """The test runs once for each primitive: spawn(function, *args, **kwargs) is spawn_fork, spawn_clone, spawn_clone3, spawn_vfork."""
    return request.getfixturevalue(f"spawn_{request.param}")


@pytest.fixture
def spawn_fork(request: pytest.FixtureRequest) -> Iterator[Fork]:
    """spawn_fork(function, *args, **kwargs): a child by fork; the test's end is the child's."""
    yield from _opened(request, "fork", "Fork")


@pytest.fixture
def spawn_clone(request: pytest.FixtureRequest) -> Iterator[Clone]:
    """spawn_clone(function, *args, flags=0, **kwargs): a child by clone; the test's end is the child's."""
    yield from _opened(request, "clone", "Clone")


@pytest.fixture
def spawn_clone3(request: pytest.FixtureRequest) -> Iterator[Clone3]:
    """spawn_clone3(function, *args, flags=0, set_tid=(), cgroup=None, exit_signal=SIGCHLD, **kwargs): a child by clone3."""
    yield from _opened(request, "clone3", "Clone3")


@pytest.fixture
def spawn_vfork(request: pytest.FixtureRequest) -> Iterator[Vfork]:
    """spawn_vfork(function, *args, **kwargs): a child by vfork, on this process's memory, over when the call returns."""
    yield from _opened(request, "vfork", "Vfork")


@pytest.fixture
def spawn_exec(request: pytest.FixtureRequest) -> Iterator[Exec]:
    """spawn_exec(program, *args, **kwargs): a program, or an importable function, by fork and execve."""
    yield from _opened(request, "exec", "Exec")


@pytest.fixture
def spawn_posix_spawn(request: pytest.FixtureRequest) -> Iterator[PosixSpawn]:
    """spawn_posix_spawn(program, *args, **kwargs): the same by posix_spawn."""
    yield from _opened(request, "posix_spawn", "PosixSpawn")


@pytest.fixture
def spawn_thread(request: pytest.FixtureRequest) -> Iterator[Thread]:
    """spawn_thread(function, *args, **kwargs): a thread of this process."""
    yield from _opened(request, "thread", "Thread")
