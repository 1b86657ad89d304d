"""The fixtures in a suite of somebody's own: verdicts, capture, and the ways in which a run is cut short."""

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

SUITE = """
import os, sys, warnings
import pytest

def test_passes(spawn):
    assert spawn(lambda: 5).result() == 5

@pytest.mark.procsem_primitives("thread", "fork")
def test_named(spawn):
    assert spawn(lambda: 5).result() == 5

def test_skips(spawn_fork):
    spawn_fork(pytest.skip, "not today").result()

def test_xfails(spawn_clone):
    spawn_clone(pytest.xfail, "known").result()

def test_fails(spawn_fork):
    spawn_fork(pytest.fail, "broken").result()

def test_asserts(spawn_fork):
    def compares():
        found = [1, 2]
        assert found == [1, 3]
    spawn_fork(compares).result()

def test_raises(spawn_fork):
    def divides():
        return 1 / 0
    spawn_fork(divides).result()

def test_warns(spawn_fork):
    spawn_fork(warnings.warn, "worn out").result()

@pytest.mark.parametrize("spawn", [1])
def test_of_another_spawn(spawn):
    assert spawn == 1
"""


def test_a_child_decides_over_its_test(
    pytester: pytest.Pytester, run: Callable[..., pytest.RunResult]
) -> None:
    pytester.makepyfile(SUITE)
    result = run("-rsx")
    primitives = ("fork", "clone", "clone3")
    missing = len([name for name in primitives if why_not(name)])
    result.assert_outcomes(passed=7 - missing, skipped=1 + missing, failed=3, xfailed=1, warnings=1)
    result.stdout.fnmatch_lines_random(
        [
            "SKIPPED*test_a_child_decides_over_its_test.py:*: not today",
            "E       Failed: broken",
            "E       assert [[]1, 2[]] == [[]1, 3[]]",
            "E*At index 1 diff: 2 != 3",
            "E       ZeroDivisionError: division by zero",
            "    return 1 / 0",
            "*UserWarning: worn out",
        ]
    )


@pytest.mark.parametrize("names", ["'vfork2'", "", "'fork', where='here'"])
def test_a_wrong_marker_is_one_message(pytester: pytest.Pytester, names: str) -> None:
    pytester.makepyfile(
        f"import pytest\n@pytest.mark.procsem_primitives({names})\ndef test_it(spawn): pass\n"
    )
    result = pytester.runpytest_inprocess("-p", "pytest_procsemantics.plugin")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*.py:2: procsem_primitives takes one or more of fork, clone*"])


TALKING = """
import os, sys
import pytest

def test_talks(spawn_fork):
    print("from the parent", end=".")
    def talks():
        print("printed")
        sys.stdout.flush()
        os.write(2, b"written\\n")
        os.system("echo by a shell")
    spawn_fork(talks, capture=False).result()
    child = spawn_fork(print, "kept")
    child.wait()
    assert child.stdout == "kept\\n"
    pytest.fail(pytrace=False)
"""


HANGING = """
import os, signal, sys, subprocess, time
import pytest

signal.signal(signal.SIGINT, signal.default_int_handler)  # a run in the background ignores it

def hangs(path):
    program = subprocess.Popen(["setsid", "sleep", "600"])
    with open(path + "~", "w") as file:
        file.write(f"{os.getpid()} {program.pid}")
    os.rename(path + "~", path)
    time.sleep(600)

@pytest.mark.parametrize("number", range(2))
def test_hangs(spawn_fork, number):
    spawn_fork(hangs, f"pids-{number}", timeout=600).wait()
"""


class Pytest:
    """A pytest of its own."""

    def __init__(self, folder: Path, suite: str, *arguments: str) -> None:
        (folder / "test_it.py").write_text(suite)
        self.folder = folder
        line = [sys.executable, "-m", "pytest", "-p", "pytest_procsemantics.plugin"]
        self.process = subprocess.Popen(
            [*line, "-p", "no:cacheprovider", "-c", os.devnull, *arguments, "test_it.py"],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={
                **os.environ,
                "PYTHONPATH": str(Path(pytest_procsemantics.__file__).parents[1]),
                "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            },
        )

    def pids(self, number: int = 0) -> list[int]:
        """A hanging child, and its child that is in another session."""
        path = self.folder / f"pids-{number}"
        limit = time.monotonic() + 60
        while not path.exists():
            assert time.monotonic() < limit, self.process.communicate()[0]
            time.sleep(0.01)
        return list(map(int, path.read_text().split()))

    def end(self) -> str:
        """What it printed, after it has ended."""
        try:
            return self.process.communicate(timeout=60)[0]
        finally:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[Path]:
    """A folder for a pytest whose children hang."""
    yield tmp_path
    for path in tmp_path.glob("pids-*"):
        for pid in map(int, path.read_text().split()):
            assert gone(pid), pid


def gone(pid: int) -> bool:
    """Whether a process ends within seconds that a busy machine may need; it is allowed one."""
    limit = time.monotonic() + 20
    while tree.state(pid) not in "XZ":
        if time.monotonic() > limit:
            return False
        time.sleep(0.01)
    return True


def test_an_interrupt_ends_children_and_run(hanging: Path) -> None:
    run = Pytest(hanging, HANGING)
    run.pids()
    run.process.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in run.end()
    assert run.process.returncode == pytest.ExitCode.INTERRUPTED


def test_a_timeout_by_signal_fails_the_test_and_goes_on(hanging: Path) -> None:
    run = Pytest(hanging, HANGING, "-p", "timeout", "--timeout=2", "--timeout-method=signal")
    output = run.end()
    assert "2 failed" in output, output
    assert re.search(r"Failed: Timeout \(?>2\.0s", output), output


def test_a_timeout_by_thread_ends_the_children_too(hanging: Path) -> None:
    run = Pytest(hanging, HANGING, "-p", "timeout", "--timeout=2", "--timeout-method=thread")
    assert "+ Timeout +" in run.end()
    assert run.pids()


def test_a_killed_pytest_leaves_no_child(hanging: Path) -> None:
    run = Pytest(hanging, HANGING)
    run.pids()
    run.process.kill()
    run.end()


def test_a_killed_worker_leaves_no_child_and_is_reported(hanging: Path) -> None:
    run = Pytest(hanging, HANGING, "-p", "xdist", "-n", "1", "--max-worker-restart=0")
    worker = int(Path(f"/proc/{run.pids()[0]}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(worker, signal.SIGKILL)
    assert re.search(r"crashed while running '\S*::test_hangs\[0\]'", run.end())


@pytest.mark.parametrize("mode", ["no", "sys", "fd", "tee-sys"])
def test_each_line_appears_once_with_every_capture(hanging: Path, mode: str) -> None:
    text = Pytest(hanging, TALKING, f"--capture={mode}").end()
    seen = {word: text.count(f"{word}\n") for word in ("printed", "written", "by a shell", "kept")}
    # tee-sys shows what it captures while it comes, and again with the failure.
    assert text.count("from the parent.") == seen["printed"]
    assert seen == {
        "printed": 2 if mode == "tee-sys" else 1,
        "written": 1,
        "by a shell": 1,
        "kept": 0,
    }


MEASURED = """
def in_the_parent():
    return 1

def in_a_child():
    number = 2
    if number:
        return number
    return 3
"""

MEASURING = """
import measured

def test_it(spawn):
    measured.in_the_parent()
    assert spawn(measured.in_a_child).result() == 2

def test_nothing(spawn_fork):
    spawn_fork(int).result()
"""


def test_lines_that_only_a_child_runs_are_covered(
    pytester: pytest.Pytester, run: Callable[..., pytest.RunResult]
) -> None:
    pytest.importorskip("pytest_cov", reason="pytest-cov is not installed")
    pytester.makepyfile(MEASURING, measured=MEASURED)
    result = run("-p", "pytest_cov", "--cov=measured", "--cov-report=term-missing", "-W", "error")
    result.assert_outcomes(passed=4 - len([name for name in ("clone", "clone3") if why_not(name)]))
    result.stdout.re_match_lines([r"measured.py +7 +1 +86% +8$"])
    assert [path.name for path in pytester.path.glob(".coverage*")] == [".coverage"]
