"""What the tests of the spawners share."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from pytest_procsemantics import Clone, Clone3, Fork
from pytest_procsemantics.spawners.support import why_not

PROCESSES: dict[str, type[Fork | Clone | Clone3]] = {"fork": Fork, "clone": Clone, "clone3": Clone3}


@pytest.fixture
def fork() -> Iterator[Fork]:
    """Children by fork."""
    with Fork(timeout=20) as fork:
        yield fork


@pytest.fixture(params=PROCESSES)
def make(request: pytest.FixtureRequest) -> Iterator[Fork | Clone | Clone3]:
    """Children by each primitive that makes processes."""
    if reason := why_not(request.param):
        pytest.skip(reason)
    with PROCESSES[request.param](timeout=20) as make:
        yield make


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT is an interrupt, also in a run that was started in the background and ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
