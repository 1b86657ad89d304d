"""However pytest ends, its children and their descendants end too: overseer.py looks, for a descendant in a session of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pytest_procsemantics
from pytest_procsemantics.spawners.support import REASONS, why_not

OVERSEER = Path(__file__).parents[1] / "overseer.py"

pytestmark = pytest.mark.skipif(
    any(map(why_not, REASONS)),
    reason=f"needs all primitives: {[*filter(None, map(why_not, REASONS))]}",
)

SUITE = """
import os, subprocess, time
import pytest

# Which children are in a session of their own, and not only a descendant of theirs.
APART = os.environ["APART"].split()
# Who is in the last session tells so.
LINE = "setsid sh -c 'echo >&9; exec sleep 600' & wait"

def waits(writer, is_apart):
    if is_apart:
        os.setsid()
    os.dup2(writer, 9)
    subprocess.Popen(["sh", "-c", LINE], pass_fds=(9,))
    time.sleep(600)

@pytest.fixture
def children(spawn_fork, spawn_clone, spawn_clone3, spawn_exec, spawn_posix_spawn):
    reader, writer = os.pipe()
    found = []
    for make in (spawn_fork, spawn_clone, spawn_clone3):
        found.append(make(waits, writer, make.primitive in APART, timeout=600))
    for start in (spawn_exec, spawn_posix_spawn):
        words = ("setsid",) if start.primitive in APART else ()
        found.append(start(*words, "sh", "-c", LINE, fds={9: writer}, timeout=600))
    for _ in found:
        assert os.read(reader, 1)
    os.close(reader)
    os.close(writer)
    pid = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
    with open(f"/proc/{pid}/fd/1", "w") as output:
        print("ready", file=output)
    return found

def test_waits(children):
    children[-1].wait()

def test_next():
    pass
"""

End = Callable[..., dict[str, Any]]


def oversee(whom: str, number: int, command: list[str], **variables: str) -> dict[str, Any]:
    """Run a command, end somebody by a signal when it is ready, and tell what was seen; nothing may be left."""
    # Asleep, so that an interrupt comes while pytest waits: where it comes at the end of a `with`
    # of CPython 3.11, its traceback has no line, and pytest can't report it.
    words = [whom, str(int(number)), "asleep", sys.executable, *command]
    line = [sys.executable, str(OVERSEER), *words]
    outer = {name: value for name, value in os.environ.items() if "PYTEST" not in name}
    root = str(Path(pytest_procsemantics.__file__).parents[1])
    environment = {**outer, "PYTHONPATH": root, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **variables}
    done = subprocess.run(line, env=environment, stdout=subprocess.PIPE, check=True)
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["processes"] == [], report
    return report


@pytest.fixture
def end(tmp_path: Path) -> End:
    """Run the suite, and end somebody by a signal when its children are there."""
    (tmp_path / "test_it.py").write_text(SUITE)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")  # ends pytest's look at folders above
    command = ["-m", "pytest", "-p", "pytest_procsemantics.plugin", "-p", "no:cacheprovider"]
    command += ["-s", "--basetemp", str(tmp_path / "base"), str(tmp_path)]

    def end(
        whom: str, number: int, *arguments: str, apart: str = "clone posix_spawn"
    ) -> dict[str, Any]:
        report = oversee(whom, number, [*command, *arguments], APART=apart)
        assert report["seen"] >= 13, report
        return report

    return end


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("workers", [(), ("-p", "xdist", "-n", "1")], ids=["one-process", "xdist"])
def test_pytest_is_killed(end: End, number: int, workers: tuple[str, ...]) -> None:
    assert end("driver", number, *workers)["status"] == -number


def test_pytest_is_interrupted(end: End) -> None:
    report = end("driver", signal.SIGINT)
    assert report["status"] == pytest.ExitCode.INTERRUPTED, report["output"] + report["errors"]
    assert "KeyboardInterrupt" in report["output"]


@pytest.mark.parametrize("workers", [(), ("-p", "xdist", "-n", "1")], ids=["one-process", "xdist"])
def test_pytest_is_interrupted_by_a_terminal(end: End, workers: tuple[str, ...]) -> None:
    # A child that this ends leaves its descendants in other sessions as orphans.
    report = end("group", signal.SIGINT, *workers, apart=" ".join(REASONS))
    assert report["status"] == pytest.ExitCode.INTERRUPTED, report["output"] + report["errors"]


def test_a_worker_is_killed(end: End) -> None:
    report = end("child", signal.SIGKILL, "-p", "xdist", "-n", "1", "--max-worker-restart=0")
    assert re.search(r"crashed while running '\S*::test_waits'", report["output"])


# The time of a test's function begins when its children are there.
TIMEOUT = ("-p", "timeout", "--timeout=0.2", "-o", "timeout_func_only=true")


def test_a_timeout_by_signal_fails_the_test_and_goes_on(end: End) -> None:
    output = end("nobody", 0, *TIMEOUT, "--timeout-method=signal")["output"]
    assert re.search(r"Failed: Timeout \(?>0\.2s", output), output
    assert "1 failed, 1 passed" in output


def test_a_timeout_by_thread_leaves_without_a_word(end: End) -> None:
    report = end("nobody", 0, *TIMEOUT, "--timeout-method=thread")
    assert "+ Timeout +" in report["output"] + report["errors"]
    assert report["status"] == 1, report["output"] + report["errors"]


def test_a_timeout_by_thread_in_a_worker_is_reported(end: End) -> None:
    workers = ("-p", "xdist", "-n", "1", "--max-worker-restart=0")
    report = end("nobody", 0, *TIMEOUT, "--timeout-method=thread", *workers)
    assert re.search(r"crashed while running '\S*::test_waits'", report["output"])


HANGING = """
import os, time
from pytest_procsemantics import Exec
from pytest_procsemantics.spawners import program

def waits(*arguments, word=program._word):
    print("ready", flush=True)
    return word(*arguments)

program._word = waits
os.register_at_fork(after_in_child=lambda: time.sleep(600))
Exec(600)("true")
"""


def test_a_child_that_hangs_on_its_way_to_a_program_ends_too() -> None:
    report = oversee("driver", signal.SIGKILL, ["-c", HANGING])
    assert (report["seen"], report["status"]) == (1, -signal.SIGKILL)
