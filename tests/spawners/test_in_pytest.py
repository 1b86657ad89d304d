"""The fixtures in a suite of somebody's own: verdicts, markers, capture."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import pytest_procsemantics
from pytest_procsemantics.spawners.support import why_not
from pytest_procsemantics.spawning import CALLABLE_PRIMITIVES

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

# In a folder that sys.path does not have.
PROGRAMS = """
import os
import pytest

def compares():
    found = [1, 2]
    assert found == [1, 3]

def skips():
    pytest.skip("not this program")

@pytest.mark.procsem_primitives("exec", "posix_spawn", "fork")
def test_each(spawn):
    assert spawn(os.getppid).result() == os.getpid()

@pytest.mark.procsem_primitives("exec", "fork")
def test_lambda(spawn):
    assert spawn(lambda: 5).result() == 5

def test_program(spawn_exec, spawn_posix_spawn):
    assert spawn_exec("echo", "x").result() == spawn_posix_spawn("echo", "x").result()

def test_skips(spawn_exec):
    spawn_exec(skips).result()

def test_fails(spawn_posix_spawn):
    spawn_posix_spawn(compares).result()

def test_missing(spawn_exec):
    with pytest.raises(FileNotFoundError):
        spawn_exec("nonesuch")

@pytest.mark.procsem_primitives("fork", "exec", "posix_spawn", "thread")
def test_deadline(spawn):
    assert spawn(os.getpid).timeout == 25
    assert spawn(os.getpid, timeout=20).timeout == 20
"""


def test_a_child_decides_over_its_test(
    pytester: pytest.Pytester, run_apart: Callable[..., pytest.RunResult]
) -> None:
    # Apart, for within this process warnings would be errors, as they are here.
    pytester.makepyfile(SUITE)
    (pytester.mkdir("below") / "test_programs.py").write_text(PROGRAMS)
    result = run_apart("-rsx", "--import-mode=importlib", "--procsem-timeout=25")
    missing = len([name for name in CALLABLE_PRIMITIVES if why_not(name)])
    result.assert_outcomes(
        passed=18 - missing, skipped=2 + missing, failed=5, xfailed=1, warnings=1
    )
    result.stdout.fnmatch_lines_random(
        [
            "SKIPPED*test_a_child_decides_over_its_test.py:*: not today",
            "SKIPPED*: not this program",
            "E       Failed: broken",
            "E       assert [[]1, 2[]] == [[]1, 3[]]",
            "E*At index 1 diff: 2 != 3",
            "    assert found == [[]1, 3[]]",
            "E       ZeroDivisionError: division by zero",
            "    return 1 / 0",
            "*UserWarning: worn out",
            "E*TypeError: exec: a fresh interpreter can't import test_lambda.<locals>.<lambda> of *",
        ]
    )
    failures = re.findall(r"^_+ (\S+) _+\n.*?(?=^_{3,} )", result.stdout.str(), re.M | re.S)
    assert "test_fails" in failures


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


@pytest.mark.parametrize(
    ("mode", "primitive"),
    [
        *((mode, "fork") for mode in ("no", "sys", "fd", "tee-sys")),
        *((mode, "vfork") for mode in ("sys", "fd")),
    ],
)
def test_each_line_appears_once_with_every_capture(
    tmp_path: Path, mode: str, primitive: str
) -> None:
    if reason := why_not(primitive):
        pytest.skip(reason)
    (tmp_path / "test_it.py").write_text(TALKING.replace("spawn_fork", f"spawn_{primitive}"))
    (tmp_path / "pytest.ini").write_text("[pytest]\n")  # ends pytest's look at folders above
    line = [sys.executable, "-m", "pytest", "-p", "pytest_procsemantics.plugin"]
    line += ["-p", "no:cacheprovider", f"--capture={mode}", "test_it.py"]
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(pytest_procsemantics.__file__).parents[1]),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    text = subprocess.run(
        line,
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ).stdout
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


@pytest.mark.parametrize("core", ["ctrace", "sysmon"])
def test_lines_that_only_a_child_runs_are_covered(
    pytester: pytest.Pytester,
    run_apart: Callable[..., pytest.RunResult],
    monkeypatch: pytest.MonkeyPatch,
    core: str,
) -> None:
    pytest.importorskip("pytest_cov", reason="pytest-cov is not installed")
    if core == "sysmon" and sys.version_info < (3, 12):
        pytest.skip("sys.monitoring is there since Python 3.12")
    monkeypatch.setenv("COVERAGE_CORE", core)
    pytester.makepyfile(MEASURING, measured=MEASURED)
    options = ("-p", "pytest_cov", "--cov=measured", "--cov-report=term-missing", "-W", "error")
    result = run_apart(*options)
    missing = len([name for name in CALLABLE_PRIMITIVES if why_not(name)])
    result.assert_outcomes(passed=5 - missing, skipped=missing)
    result.stdout.re_match_lines([r"measured.py +7 +1 +86% +8$"])
    assert [path.name for path in pytester.path.glob(".coverage*")] == [".coverage"]
