"""Runs of pytest in a fresh interpreter and folder, measured by the processor time that they take.

Only the plugins that are named are loaded, so that nothing of the environment is measured.
"""

from __future__ import annotations

import math
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

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

    def seconds(self, path: Path, *plugins: str) -> float:
        """Processor time of one run with all its children.

        Raises:
            Failed: with what it printed.
        """
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.output(self.command(path, *plugins))
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime

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


def each(
    runs: Runs,
    texts: tuple[str, ...],
    plugins: tuple[str, ...],
    counts: tuple[int, int],
    rounds: int,
) -> list[float]:
    """Seconds that one more test adds to a run, for each kind of test.

    The least of many runs of each length, by turns: the difference of two single runs may even be negative.
    """
    least = {(text, count): math.inf for text in texts for count in counts}
    for _ in range(rounds):
        for text, count in least:
            seen = runs.seconds(runs.file(text, count), *plugins)
            least[text, count] = min(least[text, count], seen)
    few, many = counts
    return [(least[text, many] - least[text, few]) / (many - few) for text in texts]


def conformance_seconds() -> tuple[float, str]:
    """Seconds of the whole suite on this machine with one worker, and pytest's last line."""
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "conformance"]
    begin = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    last = done.stdout.strip().splitlines()[-1:] or ["no output"]
    return time.monotonic() - begin, last[0].strip("= ")
