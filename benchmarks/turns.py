"""A plugin for pytest, `-p benchmarks.turns`: what one test of each file costs in one and the same run.

The files take turns of EACH tests, so that all meet the same neighbours, and the first of each turn, which finds the
caches full of another file, is not counted. Prints a line `turn FILE MICROSECONDS...` for each file: of the collection
of one test, and then of one test in each turn.
"""

from __future__ import annotations

import collections
import time
from collections.abc import Generator

import pytest

EACH = 10  # tests of a file before it is the next one's turn, with the one that is not counted

_collected: dict[str, float] = {}  # seconds by file
_turns: dict[str, list[list[float]]] = collections.defaultdict(list)  # seconds by file, turn, test


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    begin = time.perf_counter()
    report = yield
    if isinstance(collector, pytest.Module):
        _collected[collector.path.name] = time.perf_counter() - begin
    return report


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    files: dict[str, list[pytest.Item]] = collections.defaultdict(list)
    for item in items:
        files[item.path.name].append(item)
    items[:] = [
        item
        for begin in range(0, max(map(len, files.values())), EACH)
        for tests in files.values()
        for item in tests[begin : begin + EACH]
    ]


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, object, object]:
    turns = _turns[item.path.name]
    if not turns or len(turns[-1]) == EACH:
        turns.append([])
    begin = time.perf_counter()
    outcome = yield
    turns[-1].append(time.perf_counter() - begin)
    return outcome


def pytest_unconfigure() -> None:
    for file, turns in _turns.items():
        tests = sum(map(len, turns))
        of_turns = [sum(turn[1:]) / (len(turn) - 1) for turn in turns]
        seen = [_collected[file] / tests, *of_turns]
        print("turn", file, *(f"{seconds * 1e6:.1f}" for seconds in seen))
