"""Each entry of the package's own baseline is confirmed by a program that has nothing of ours in it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from pytest_procsemantics.baselines import Baseline, KnownDeviation

WITNESSES = Path(__file__).parent.parent / "conformance" / "witnesses"
COMPILER = next((found for found in map(shutil.which, ("cc", "gcc", "clang")) if found), None)


@pytest.mark.skipif(COMPILER is None, reason="needs a C compiler (cc, gcc or clang) in PATH")
@pytest.mark.parametrize("deviation", Baseline.load("linux").deviations, ids=lambda one: one.clause)
def test_the_witness_sees_the_deviation(deviation: KnownDeviation, tmp_path: Path) -> None:
    program = tmp_path / "witness"
    assert COMPILER and deviation.witness
    source = WITNESSES / deviation.witness
    options = ("-static", "-Wall", "-Wextra", "-Wno-unused-result")
    subprocess.run([COMPILER, *options, "-o", program, source], check=True)
    seen = subprocess.run([program], capture_output=True, text=True, timeout=60)
    assert seen.returncode == 0, seen.stdout
