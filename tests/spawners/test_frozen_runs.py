"""A pytest of which a child by vfork has frozen the main thread: what can end both."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import pytest_procsemantics
from pytest_procsemantics.spawners import tree
from pytest_procsemantics.spawners.support import why_not

pytestmark = pytest.mark.skipif(why_not("vfork") is not None, reason=str(why_not("vfork")))

HANGING = """
import os, signal, subprocess, time

signal.signal(signal.SIGINT, signal.default_int_handler)  # a run in the background ignores it

def hangs():
    program = os.posix_spawnp("sleep", ["sleep", "600"], os.environ)
    with open("pids~", "w") as file:
        file.write(f"{os.getpid()} {program}")
    os.rename("pids~", "pids")
    HANGS

def test_hangs(spawn_vfork):
    spawn_vfork(hangs, timeout=600).wait()
"""
SLEEPING = HANGING.replace("HANGS", "time.sleep(600)")
LOOPING = HANGING.replace("HANGS", "while True: pass")

SPINNING = """
import itertools
import pytest

def spins():
    sum(itertools.repeat(0))

@pytest.mark.parametrize("number", range(2))
def test_spins(spawn_vfork, number):
    if number == 0:
        spawn_vfork(spins, timeout=0.1)
"""

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a pytest in a process group of its own; in the end its children have ended as well."""

    def start(suite: str, *arguments: str) -> subprocess.Popen[str]:
        (tmp_path / "test_it.py").write_text(suite)
        (tmp_path / "pytest.ini").write_text("[pytest]\n")  # ends pytest's look at folders above
        line = [sys.executable, "-m", "pytest", "-p", "pytest_procsemantics.plugin"]
        outer = {name: value for name, value in os.environ.items() if "PYTEST" not in name}
        root = str(Path(pytest_procsemantics.__file__).parents[1])
        return subprocess.Popen(
            [*line, "-p", "no:cacheprovider", *arguments, "test_it.py"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env={**outer, "PYTHONPATH": root, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        )

    yield start
    for pid in pids(tmp_path) if (tmp_path / "pids").exists() else ():
        limit = time.monotonic() + 20  # it takes a second, but for a busy machine
        while tree.state(pid) not in "XZ":
            assert time.monotonic() < limit, pid
            time.sleep(0.01)


def pids(folder: Path) -> list[int]:
    """The child, once it hangs, and its own child."""
    limit = time.monotonic() + 60
    while not (folder / "pids").exists():
        assert time.monotonic() < limit
        time.sleep(0.01)
    return list(map(int, (folder / "pids").read_text().split()))


@pytest.mark.parametrize("suite", [SLEEPING, LOOPING], ids=["sleeps", "loops"])
def test_an_interrupt_by_a_terminal(start: Start, tmp_path: Path, suite: str) -> None:
    run = start(suite)
    pids(tmp_path)
    os.killpg(run.pid, signal.SIGINT)
    assert "KeyboardInterrupt" in run.communicate()[0]
    assert run.returncode == pytest.ExitCode.INTERRUPTED


def test_a_kill_of_pytest(start: Start, tmp_path: Path) -> None:
    run = start(SLEEPING)
    pids(tmp_path)
    run.kill()
    run.communicate()


def test_a_timeout_by_thread(start: Start) -> None:
    run = start(SLEEPING, "-p", "timeout", "--timeout=1", "--timeout-method=thread")
    assert "+ Timeout +" in run.communicate()[0]


def test_a_child_that_keeps_the_interpreter_takes_pytest_along_with_a_message(start: Start) -> None:
    run = start(SPINNING)
    text = run.communicate()[0]
    assert re.search(r"child \d+ \(vfork of spins\) is past its deadline", text), text
    assert f"So this process, {run.pid}, is ended with it." in text
    stacks = text.partition("most recent call first")[2]
    assert "in spins" in stacks
    assert "in pytest_" not in stacks
    assert run.returncode == -signal.SIGKILL


def test_a_child_that_keeps_the_interpreter_takes_a_worker_along(start: Start) -> None:
    text = start(SPINNING, "-p", "xdist", "-n", "1").communicate()[0]
    assert re.search(r"child \d+ \(vfork of spins\) is past its deadline", text), text
    assert re.search(r"crashed while running '\S*::test_spins\[0\]'", text), text
    assert "1 failed, 1 passed" in text
