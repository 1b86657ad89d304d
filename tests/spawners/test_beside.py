"""Beside plugins that many projects have, and in Python's strict modes: the same is seen. `tox -e beside` has all of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import pytest_procsemantics
from pytest_procsemantics.spawners.support import why_not

HERE = Path(__file__).parent

pytestmark = pytest.mark.skipif(
    why_not("fork") is not None, reason=f"needs fork: {why_not('fork')}"
)

VERDICTS = """
import pytest

def test_verdict_skips(spawn_fork):
    spawn_fork(pytest.skip, "not today").result()

def test_verdict_xfails(spawn_fork):
    spawn_fork(pytest.xfail, "known").result()

def test_verdict_fails(spawn_fork):
    spawn_fork(pytest.fail, "broken").result()

def test_verdict_asserts(spawn_fork):
    def compares():
        found = [1, 2]
        assert found == [1, 3]
    spawn_fork(compares).result()

def test_verdict_of_a_killed_child(spawn_exec):
    spawn_exec("sh", "-c", "kill -ABRT $$").result()
"""
# Of test_matrix.py all ends of one primitive, and some of another, each of which is a fresh interpreter.
CHOSEN = (
    "verdict or (fork and not MB) or (posix_spawn and (returns or raises or leaves) and not MB)"
)

IN_A_LOOP = """
import asyncio

async def test_in_a_loop(spawn_fork, spawn_posix_spawn):
    async def answers():
        await asyncio.sleep(0)
        return 5

    child = spawn_fork(int)
    other = spawn_posix_spawn("echo", "x")
    assert await asyncio.to_thread(child.result) == 0
    assert await asyncio.to_thread(other.result) == "x\\n"
"""
AGAIN = """
RUNS = []

def test_passes_when_it_runs_again(spawn_fork):
    RUNS.append(len(RUNS))
    assert spawn_fork(RUNS.copy).result() == [0, 1]
"""


class Companion(NamedTuple):
    """What a run has beside.

    Attributes:
        module: of the plugin; empty: it is Python's own.
        options: of Python, and behind "pytest" of pytest.
        test: one more, which passes.
        reruns: tests that it runs again.
    """

    module: str
    options: str
    test: str = ""
    reruns: int = 0


COMPANIONS = {
    "asyncio": Companion("pytest_asyncio", "pytest -p asyncio -o asyncio_mode=auto", IN_A_LOOP),
    "cov": Companion("pytest_cov", "pytest -p pytest_cov --cov=ends --cov-report="),
    "randomly": Companion("pytest_randomly", "pytest -p randomly"),
    "rerunfailures": Companion(
        "pytest_rerunfailures", "pytest -p rerunfailures --reruns=1", AGAIN, reruns=4
    ),
    "timeout by signal": Companion(
        "pytest_timeout", "pytest -p timeout --timeout=100 --timeout-method=signal"
    ),
    "timeout by thread": Companion(
        "pytest_timeout", "pytest -p timeout --timeout=100 --timeout-method=thread"
    ),
    "warnings are errors": Companion("", "-W error pytest -W error"),
    "development mode": Companion("", "-X dev pytest -W error"),
}

Outcomes = dict[str, int]


def outcomes(folder: Path, options: str, test: str = "") -> Outcomes:
    """Run ends and verdicts in a fresh folder; give what the last line counts."""
    for name in ("test_matrix.py", "ends.py"):
        shutil.copy(HERE / name, folder)
    (folder / "test_verdicts.py").write_text(VERDICTS)
    (folder / "test_more.py").write_text(test)
    # Ends pytest's look at folders above, and knows a mark without its plugin.
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = timeout\n")
    of_python, _, of_pytest = options.rpartition("pytest ")
    line = [sys.executable, *of_python.split(), "-m", "pytest", "-p", "pytest_procsemantics.plugin"]
    line += ["-p", "no:cacheprovider", *of_pytest.split()]
    done = subprocess.run(
        [*line, "-k", f"{CHOSEN} or test_more", str(folder)],
        cwd=folder,
        env={
            **{name: value for name, value in os.environ.items() if "PYTEST" not in name},
            "PYTHONPATH": str(Path(pytest_procsemantics.__file__).parents[1]),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        },
        capture_output=True,
        text=True,
    )
    print(done.stdout)  # which test it was that another plugin changed
    return pytest.RunResult.parse_summary_nouns(done.stdout.splitlines())


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """What is seen without any of them."""
    found = outcomes(tmp_path_factory.mktemp("alone"), "")
    assert found["passed"] > 20
    found.pop("deselected")
    assert found == {"passed": found["passed"], "skipped": 1, "xfailed": 1, "failed": 3}
    return found


@pytest.mark.parametrize("name", COMPANIONS)
def test_the_same_is_seen(alone: Outcomes, tmp_path: Path, name: str) -> None:
    module, options, test, reruns = COMPANIONS[name]
    if module:
        pytest.importorskip(module, reason=f"{module} is not installed; tox -e beside has it")
    found = outcomes(tmp_path, options, test)
    found.pop("deselected")
    assert found.pop("rerun", 0) == reruns
    assert found == {**alone, "passed": alone["passed"] + bool(test)}
