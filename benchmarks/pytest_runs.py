"""Runs of pytest in a fresh interpreter and folder.

Only the plugins that are named are loaded, so that nothing of the environment is measured.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import programs, turns

ROOT = Path(__file__).resolve().parent.parent
PLUGIN = "pytest_procsemantics.plugin"
FIXTURES = "conformance.conftest"

TRIVIAL = """
import pytest

@pytest.mark.parametrize("n", range({count}))
def test_nothing(n):
    pass
"""

GUARDED = """
import pytest

@pytest.mark.parametrize("n", range({count}))
def test_nothing(leak_guard, n):
    pass
"""

CHECK = """
import pytest
from pytest_procsemantics import clause

@clause("fork.2/memory-is-copied")
@pytest.mark.parametrize("n", range({count}))
def test_twenty_steps(parent, n):
    for _ in range(20):
        assert parent.sys.getpid() == parent.pid
"""

# What pytest itself and the libraries that it loads anyway cost is no matter of ours.
START = f"""
import time, pytest
begin = time.process_time()
import {PLUGIN}
print(time.process_time() - begin)
"""


class Failed(Exception):
    """A run that was to pass did not."""


class Runs:
    """Runs below one folder, which keeps the compiled modules too: a first run is not measured.

    Args:
        folder: empty.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._environment = {
            **os.environ,
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTHONPATH": str(ROOT),
            "PYTHONPYCACHEPREFIX": str(folder / "cache"),
        }
        self._environment.pop("PYTHONDONTWRITEBYTECODE", None)
        self._environment.pop("PYTEST_ADDOPTS", None)

    def file(self, text: str, count: int) -> Path:
        """A file of `count` tests."""
        path = self._folder / f"test_{abs(hash(text))}_{count}.py"
        path.write_text(text.format(count=count))
        return path

    def command(self, path: Path, *plugins: str) -> list[str]:
        """The command line for one file."""
        options = ["-q", "--no-header", "-p", "no:cacheprovider", "--rootdir", str(self._folder)]
        options += ["-c", os.devnull]
        for plugin in plugins:
            options += ["-p", plugin]
        return [sys.executable, "-m", "pytest", *options, str(path)]

    def output(self, command: list[str]) -> str:
        """What a run prints.

        Raises:
            Failed: it did not pass.
        """
        done = subprocess.run(
            command, cwd=self._folder, env=self._environment, capture_output=True, text=True
        )
        if done.returncode:
            raise Failed(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
        return done.stdout


def each(runs: Runs, texts: tuple[str, ...], plugins: tuple[str, ...], rounds: int) -> list[float]:
    """Microseconds that one more test adds to a run, its collection included, for each kind of test.

    All kinds are in one run, by turns: the difference of two runs is one of two moments of the machine.
    """
    paths = [runs.file(text, rounds * turns.EACH) for text in texts]
    command = runs.command(paths[0], *plugins, "benchmarks.turns")
    lines = runs.output([*command, *map(str, paths[1:])]).splitlines()
    seen = {
        line.split()[1]: list(map(float, line.split()[2:]))
        for line in lines
        if line.startswith("turn ")
    }
    return [seen[path.name][0] + programs.undisturbed(seen[path.name][1:]) for path in paths]


def conformance_seconds() -> tuple[float, str]:
    """Seconds of the whole suite on this machine with one worker, and pytest's last line."""
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "conformance"]
    begin = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    last = done.stdout.strip().splitlines()[-1:] or ["no output"]
    return time.monotonic() - begin, last[0].strip("= ")
