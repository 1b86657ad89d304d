"""What every check is given: a target, a process on it to begin with, and a witness."""

from __future__ import annotations

import contextlib
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


@contextlib.contextmanager
def opened_target(config: pytest.Config) -> Iterator[Target]:
    """The run's target. Driver and driven processes share one processor: a step costs a tenth then."""
    settings = config.stash[stash.SETTINGS]
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {own_processor(sorted(allowed))})
    try:
        with Target.open(settings.target, settings.timeout) as target:
            yield target
    finally:
        os.sched_setaffinity(0, allowed)


class Given:
    """Gives each check the target, and ends there what the check made.

    A plugin that is told of the run and of each test: a fixture that asks pytest for them by `request`, a target by a
    fixture of the session, or another fixture between this and `parent`, costs each check as much as several steps do.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._item: pytest.Item | None = None
        self._has_begun = False
        self._running: Target | None = None
        self._closing = contextlib.ExitStack()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        self._item, self._has_begun = item, False

    # Not before pytest has ended what a Ctrl-C left of the last check.
    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        self._closing.close()

    def _target(self) -> Target:
        if self._running is None:
            self._running = self._closing.enter_context(opened_target(self._config))
        if not self._has_begun:
            self._begin(self._running)
            self._has_begun = True
        return self._running

    def _begin(self, target: Target) -> None:
        assert self._item
        run, check = self._config.stash, self._item.stash
        clauses = check.get(stash.CLAUSES, ())
        target.begin_test()
        self._item.addfinalizer(target.end_test)
        check[stash.TRANSCRIPT] = target.transcript
        if stash.FACTS not in run:
            run[stash.FACTS] = target.facts()
        require(target, clauses)

    @pytest.fixture
    def target(self) -> Target:
        """The target with nothing on it; whatever the check makes there is gone at its end."""
        return self._target()

    @pytest.fixture
    def parent(self) -> Process:
        """A fresh single-threaded process on the target, in a normal state."""
        return self._target().new_process()

    @pytest.fixture
    def observer(self) -> Observer:
        """A second witness: reads on the target what the kernel says of the processes there."""
        return self._target().observer


class Lying(Given):
    """The same for --procsem-prove."""

    @pytest.fixture(autouse=True)
    def lie(self, told_lie: Lie | None) -> Iterator[None]:
        """Before anything else of a check: what its processes do otherwise."""
        with told(told_lie, self._target()):
            yield


# The plugin reads the options first.
@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register((Lying if config.stash[stash.SETTINGS].prove else Given)(config))


@pytest.fixture
def program(parent: Process) -> Process:
    """The same process in an image that has the target's C library, for `program.lib.NAME(...)`."""
    return start_library(parent)
