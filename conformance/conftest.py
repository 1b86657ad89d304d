"""What every check is given: a target, a process on it to begin with, and a witness."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pytest

from pytest_procsemantics import stash
from pytest_procsemantics.driven import Observer, Process, Target
from pytest_procsemantics.driven.constants import CLONE_NEWIPC, IPC_PRIVATE
from pytest_procsemantics.driven.library_start import start_library
from pytest_procsemantics.driven.tracer import Tracer
from pytest_procsemantics.lies import Lie, told
from pytest_procsemantics.requirements import own_namespaces, require


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
        self._next: pytest.Item | None = None  # has nothing of the target yet
        self._running: Target | None = None
        self._closing = contextlib.ExitStack()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        self._next = item

    # Not before pytest has ended what a Ctrl-C left of the last check.
    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        self._closing.close()

    def _target(self) -> Target:
        if self._running is None:
            self._running = self._closing.enter_context(opened_target(self._config))
        if self._next is not None:
            self._begin(self._running, self._next)
            self._next = None
        return self._running

    def _begin(self, target: Target, item: pytest.Item) -> None:
        run, clauses = self._config.stash, item.stash.get(stash.CLAUSES, ())
        target.begin_test()
        item.addfinalizer(target.end_test)
        item.stash[stash.TRANSCRIPT] = target.transcript
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


class GivenWithLies(Given):
    """The same for --procsem-prove, where each check is told lies, and one fixture more is no matter."""

    @pytest.fixture
    def target(self, told_lie: Lie | None) -> Iterator[Target]:
        """The target, with processes that do otherwise."""
        with told(told_lie, self._target()):
            yield self._target()

    @pytest.fixture
    def parent(self, target: Target) -> Process:
        """A process that does otherwise."""
        return target.new_process()

    @pytest.fixture
    def observer(self, target: Target) -> Observer:
        """The second witness, which always tells the truth."""
        return target.observer


# The plugin reads the options first.
@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(
        (GivenWithLies if config.stash[stash.SETTINGS].prove else Given)(config)
    )


@pytest.fixture
def program(parent: Process) -> Process:
    """The same process in an image that has the target's C library, for `program.lib.NAME(...)`."""
    return start_library(parent)


@pytest.fixture
def semaphore(parent: Process) -> int:
    """A semaphore of value 0, in a namespace that ends with the parent and its children."""
    own_namespaces(parent, CLONE_NEWIPC)
    return int(parent.sys.semget(IPC_PRIVATE, 1, 0o600))


# For the checks of ptrace alone, and here all the same: with a conftest.py in one folder pytest looks up for each check
# of the others which hooks it must not call.
@pytest.fixture
def tracer(parent: Process) -> Tracer:
    """Who traces others: the parent of the tracee, as Yama allows it everywhere."""
    return Tracer(parent)


@pytest.fixture
def tracee(parent: Process) -> Process:
    """A child of the parent, who is going to be traced."""
    return parent.fork("tracee")
