"""What every check is given: a target, a process on it to begin with, and a witness."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from pytest_procsemantics import stash
from pytest_procsemantics.driven import Observer, Process, Target
from pytest_procsemantics.driven.library_start import start_library
from pytest_procsemantics.lies import Lie, told
from pytest_procsemantics.requirements import require


def own_processor(allowed: list[int]) -> int:
    """The processor for this worker: another one for each, as far as they go."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    return allowed[int(worker) % len(allowed)]


@pytest.fixture(scope="session")
def running_target(pytestconfig: pytest.Config) -> Iterator[Target]:
    """The run's target. Driver and driven processes share one processor: a step costs a tenth then."""
    settings = pytestconfig.stash[stash.SETTINGS]
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {own_processor(sorted(allowed))})
    try:
        with Target.open(settings.target, settings.timeout) as target:
            yield target
    finally:
        os.sched_setaffinity(0, allowed)


@pytest.fixture
def target(
    running_target: Target, told_lie: Lie | None, request: pytest.FixtureRequest
) -> Iterator[Target]:
    """The target with nothing on it; whatever the check makes there is gone at its end."""
    node, config = request.node, request.config
    with running_target.test() as target:
        node.stash[stash.TRANSCRIPT] = target.transcript
        if stash.FACTS not in config.stash:
            config.stash[stash.FACTS] = target.facts()
        require(target, node.stash.get(stash.CLAUSES, ()))
        with told(told_lie, target):
            yield target


@pytest.fixture
def parent(target: Target) -> Process:
    """A fresh single-threaded process on the target, in a normal state."""
    return target.new_process()


@pytest.fixture
def program(parent: Process) -> Process:
    """The same process in an image that has the target's C library, for `program.lib.NAME(...)`."""
    return start_library(parent)


@pytest.fixture
def observer(target: Target) -> Observer:
    """A second witness: reads on the target what the kernel says of the processes there."""
    return target.observer
