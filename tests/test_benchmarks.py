"""That the benchmarks still run; whether their bars hold is no matter of tests, which run beside others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_procsemantics.native import build

ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.skipif(
    not build.supported() or build.compiler() is None, reason="needs Linux and a C compiler"
)


def test_each_row_has_a_ratio() -> None:
    line = [sys.executable, "-m", "benchmarks", "--json", "--rounds", "2", "step", "root", "spawn"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr
    rows = json.loads(done.stdout)
    assert [row["bar"] for row in rows] == [1.5, None, 2.0, 1.3, None]
    assert all(row["ratio"] > 0 for row in rows)
