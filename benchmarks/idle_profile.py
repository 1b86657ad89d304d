"""`python -m benchmarks.idle_profile FILE...`: pytest with the plugin on tests that do not use it, under cProfile.

Prints two numbers: microseconds in functions of the plugin, and in all of pytest, while the tests were collected and run.
What the plugin does for each test is too little to be seen in the time of a whole run.
"""

from __future__ import annotations

import contextlib
import cProfile
import io
import pstats
import sys
from typing import Any

import pytest

OURS = "pytest_procsemantics"


def profiled(arguments: list[str]) -> tuple[float, float]:
    """Seconds in functions of the plugin without what they call elsewhere, and in the whole run."""
    profile = cProfile.Profile()
    with contextlib.redirect_stdout(io.StringIO()):
        profile.enable()
        status = pytest.main(arguments)
        profile.disable()
    if status:
        raise SystemExit(f"pytest ended with {status}")
    stats: Any = pstats.Stats(profile)
    # Whoever is called by one of ours from outside counts in full: markers are looked at by pytest's own functions.
    ours = 0.0
    for (file, _, _), (_, _, own, _, callers) in stats.stats.items():
        if OURS in file:
            ours += own
        else:
            ours += sum(edge[3] for caller, edge in callers.items() if OURS in caller[0])
    return ours, stats.total_tt


if __name__ == "__main__":
    print(*(round(value * 1e6, 1) for value in profiled(sys.argv[1:])))
