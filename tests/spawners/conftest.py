"""What the tests of the spawners share."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from pytest_procsemantics import Child, ChildOverdue, Clone, Clone3, Fork, Vfork
from pytest_procsemantics.spawners import tree
from pytest_procsemantics.spawners.support import why_not

PROCESSES: dict[str, type[Fork | Clone | Clone3 | Vfork]] = {
    "fork": Fork,
    "clone": Clone,
    "clone3": Clone3,
    "vfork": Vfork,
}

Hook = Callable[[], object]

# Hooks can't be taken back, so these are there for all tests; most find nothing to do.
LOG: list[str] = []
IN_PARENT: list[Hook] = []
IN_CHILD: list[Hook] = []


def run(word: str, hooks: list[Hook]) -> None:
    LOG.append(word)
    for hook in hooks:
        hook()


os.register_at_fork(
    before=partial(run, "before", []),
    after_in_parent=partial(run, "parent", IN_PARENT),
    after_in_child=partial(run, "child", IN_CHILD),
)


@pytest.fixture
def fork() -> Iterator[Fork]:
    """Children by fork."""
    with Fork(timeout=20) as fork:
        yield fork


@pytest.fixture(params=PROCESSES)
def make(request: pytest.FixtureRequest) -> Iterator[Fork | Clone | Clone3 | Vfork]:
    """Children by each primitive that makes processes."""
    if reason := why_not(request.param):
        pytest.skip(reason)
    with PROCESSES[request.param](timeout=20) as make:
        yield make


@pytest.fixture
def vfork() -> Iterator[Vfork]:
    """Children by vfork."""
    if reason := why_not("vfork"):
        pytest.skip(reason)
    with Vfork(timeout=20) as vfork:
        yield vfork


@pytest.fixture
def steps() -> Iterator[list[int]]:
    """What another thread goes on to count."""
    steps, done = [0], threading.Event()

    def work() -> None:
        while not done.is_set():
            steps[0] += 1

    thread = threading.Thread(target=work)
    thread.start()
    yield steps
    done.set()
    thread.join()


@pytest.fixture
def has() -> Callable[[], tuple[list[str], list[int]]]:
    """Tells what this process has that a child could leave: descriptors and children."""
    return lambda: (sorted(os.listdir("/proc/self/fd")), tree.children(os.getpid()))


def rests(pid: int, state: str) -> bool:
    """Whether a process is in a state, and in S waits for something: it has the letter a little before that."""
    channel = Path(f"/proc/{pid}/wchan").read_text()
    return tree.state(pid) == state and (state != "S" or channel not in ("", "0"))


@pytest.fixture
def overdue() -> Callable[..., ChildOverdue]:
    """Gives the error of a child whose deadline comes when it has printed a line, and then is in a state.

    So no test depends on what a child does in a time.
    """

    def overdue(child: Child[object], state: str = "S") -> ChildOverdue:
        limit = time.monotonic() + 20
        while "\n" not in child.stdout or not rests(child.pid, state):
            assert child.alive and time.monotonic() < limit
            time.sleep(0.001)
        child.timeout = 0
        with pytest.raises(ChildOverdue) as caught:
            child.result()
        assert not child.alive
        return caught.value

    return overdue


@pytest.fixture
def hook_log() -> list[str]:
    """Which fork hooks ran: before, parent, child."""
    LOG.clear()
    return LOG


@pytest.fixture
def hanging_hook() -> Iterator[None]:
    """A fork hook that hangs in each child; the parent goes on when the child is in it."""
    reader, writer = os.pipe()

    def hook_that_hangs() -> None:
        os.write(writer, b"x")
        time.sleep(60)

    IN_CHILD.append(hook_that_hangs)
    IN_PARENT.append(lambda: os.read(reader, 1))
    yield
    IN_CHILD.clear()
    IN_PARENT.clear()
    os.close(reader)
    os.close(writer)


@pytest.fixture
def interrupting_hook() -> Iterator[None]:
    """A fork hook of the parent in which a Ctrl-C arrives, also in a run in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    IN_PARENT.append(lambda: signal.raise_signal(signal.SIGINT))
    yield
    IN_PARENT.clear()
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def beside() -> Iterator[None]:
    """A thread that does nothing."""
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    yield
    done.set()
    thread.join()
