"""That the benchmarks still run; whether bars of time hold is no matter of tests, which run beside others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pytest_procsemantics.native import build
from pytest_procsemantics.spawners.support import why_not

ROOT = Path(__file__).resolve().parent.parent


def rows_of(*arguments: str) -> list[dict[str, Any]]:
    """What the benchmarks find."""
    line = [sys.executable, "-m", "benchmarks", "--json", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


@pytest.mark.skipif(
    not build.supported() or build.compiler() is None, reason="needs Linux and a C compiler"
)
def test_each_row_has_a_ratio() -> None:
    rows = rows_of("--rounds", "2", "step", "root", "spawn", "vfork")
    frozen = [0.05, 1.0, None] if why_not("vfork") is None else []
    assert [row["bar"] for row in rows] == [1.5, None, 2.0, 1.3, None, *frozen]
    assert all(row["ratio"] > 0 for row in rows)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_many_children_leave_nothing() -> None:
    rows = rows_of("growth", "--count", "240")
    assert rows and not [row for row in rows if not row["held"]]


@pytest.mark.skipif(why_not("vfork") is not None, reason=str(why_not("vfork")))
def test_children_by_vfork_spoil_nothing() -> None:
    line = [sys.executable, "-X", "dev", "-m", "benchmarks.vfork_endurance"]
    counts = ["--returns", "100", "--ends", "30", "--hangs", "1", "--keeps", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*line, *counts], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("KB each") == 5
    assert done.stdout.count("1 w") + done.stdout.count("1 s") == 5
