"""The marker procsem_requires and the fixture procsem, in the tests of another project."""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., pytest.RunResult]

# --- the marker ---

MARKED = """
import pytest

@pytest.mark.procsem_requires("fs:proc", "unprivileged", "kernel>=2.6")
def test_runs(): pass

@pytest.mark.procsem_requires("kernel>=99.0", "fs:proc")
class TestClass:
    @pytest.mark.procsem_requires("fs:nonesuch")
    def test_lacks(self): raise AssertionError
"""


def test_a_test_is_skipped_with_all_that_is_missing(run: Run, pytester: pytest.Pytester) -> None:
    path = pytester.makepyfile(MARKED)
    result = run("-rs", "-vv")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(
        [
            f"SKIPPED * {path.name}:*: needs fs:nonesuch (not in /proc/filesystems)"
            f" and kernel>=99.0 (is {platform.release()})"
        ]
    )


def test_nothing_runs_beside_a_test_with_a_marker(
    run_apart: Run, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile("""
        import os
        import pytest

        @pytest.mark.procsem_requires("unprivileged")
        def test_children():
            with pytest.raises(ChildProcessError):
                os.waitpid(-1, os.WNOHANG)
    """)
    run_apart().assert_outcomes(passed=1)


def test_another_system_lacks_every_word(monkeypatch: pytest.MonkeyPatch) -> None:
    from pytest_procsemantics.requirements import marker

    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    assert marker._reasons(["userns", "kernel>=2.6"], 1.0) == {
        "userns": "no Linux but Darwin",
        "kernel>=2.6": "no Linux but Darwin",
    }


# --- the fixture ---


def test_any_project_can_drive_processes(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        import os
        import pytest

        @pytest.mark.parametrize("turn", range(3))
        def test_vfork(procsem, turn):
            assert procsem.timeout == 20
            parent = procsem.new_process()
            child = parent.vfork()
            answer = parent.post.sys.getpid()
            assert procsem.observer.state(parent) == "D"
            child.exit()
            assert answer.arrives() == parent.pid
            assert os.path.isdir(procsem.folder())
            assert "vfork" in str(procsem.transcript)
    """)
    run("--procsem-timeout=20").assert_outcomes(passed=3)


def test_a_failed_test_shows_its_steps(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        def test_fails(procsem):
            procsem.new_process().sys.getppid()
            raise AssertionError("no good")

        def test_passes(procsem):
            procsem.new_process().sys.getpgid(0)
    """)
    result = run("-rP")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*no good*", "*transcript*", "*getppid*"])
    result.stdout.no_fnmatch_line("*getpgid*=*")


def test_fixture_and_marker_stand_in_the_reference(run: Run) -> None:
    run("--fixtures").stdout.fnmatch_lines(["procsem -- *", "*Driven processes on this machine*"])
    reference = (Path(__file__).parent.parent / "docs/reference/fixtures.md").read_text()
    assert "`procsem`" in reference
    assert "`procsem_requires(" in reference


# --- the fixtures of the checks ---


# pytest-xdist has its own way to tell of an interrupted worker.
@pytest.mark.parametrize("options", [()], indirect=True, ids=["one-process"])
def test_an_interrupt_in_a_check_is_nothing_else(run_apart: Run, pytester: pytest.Pytester) -> None:
    """The target is still there when pytest ends what the check had."""
    conftest = Path(__file__).parents[1] / "conformance/conftest.py"
    pytester.makeconftest(conftest.read_text(encoding="utf-8"))
    pytester.makepyfile("""
        from pytest_procsemantics import clause

        @clause("fork.2/memory-is-copied")
        def test_interrupted(parent):
            parent.fork()
            raise KeyboardInterrupt
    """)
    result = run_apart()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert "Traceback" not in str(result.stdout) + str(result.stderr)
