"""pytest's hooks, and nothing else: what they do stands in the modules that they call.

This module is imported in every project that installs the plugin, so it imports next to nothing.
The hooks that cost something for each test are registered when the first check is collected.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from pytest_procsemantics import collection, settings, spawning, stash
from pytest_procsemantics.fixtures import _procsem_target as _procsem_target
from pytest_procsemantics.fixtures import leak_guard as leak_guard
from pytest_procsemantics.fixtures import procsem as procsem
from pytest_procsemantics.fixtures import told_lie as told_lie
from pytest_procsemantics.spawning import spawn as spawn
from pytest_procsemantics.spawning import spawn_clone as spawn_clone
from pytest_procsemantics.spawning import spawn_clone3 as spawn_clone3
from pytest_procsemantics.spawning import spawn_exec as spawn_exec
from pytest_procsemantics.spawning import spawn_fork as spawn_fork
from pytest_procsemantics.spawning import spawn_posix_spawn as spawn_posix_spawn
from pytest_procsemantics.spawning import spawn_thread as spawn_thread
from pytest_procsemantics.spawning import spawn_vfork as spawn_vfork

JUDGE, SELECTION, RESULTS, FILE, PROOF, MATRIX, SKIPPER = (
    f"procsemantics-{part}"
    for part in ("judge", "selection", "results", "file", "proof", "matrix", "skipper")
)


def pytest_addoption(parser: pytest.Parser) -> None:
    settings.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    chosen = config.stash[stash.SETTINGS] = settings.resolve(config)
    for line in collection.MARKERS:
        config.addinivalue_line("markers", line)
    # The controller of pytest-xdist sees no test, only reports.
    if config.getoption("dist", "no") != "no" and not hasattr(config, "workerinput"):
        _write_results(config)
    if chosen.patterns or chosen.coverage or chosen.prove or chosen.json:
        _judge_checks(config)
    if chosen.prove:
        _prove_checks(config)
    if chosen.json:
        _write_file(config, chosen.json)
    if chosen.leak_guard:
        _guard_leaks(config)


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.definition.get_closest_marker(collection.PRIMITIVES_MARKER):
        spawning.choose(metafunc.definition)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    tests = collection.marked(report.result) if report.passed else []
    if tests:
        collection.ready(report, tests)
    if any(stash.CLAUSES in test.stash for test in tests):
        _judge_checks(collector.config)
    if any(test.get_closest_marker(collection.REQUIRES_MARKER) for test in tests):
        _skip_unmet(collector.config)
    return report


def _skip_unmet(config: pytest.Config) -> None:
    """Register what looks at procsem_requires; the second time nothing is left to do."""
    if config.pluginmanager.has_plugin(SKIPPER):
        return
    from pytest_procsemantics.requirements.marker import Skipper

    config.pluginmanager.register(Skipper(), SKIPPER)


def _judge_checks(config: pytest.Config) -> None:
    """Register what only runs with checks need; the second time nothing is left to do."""
    if config.pluginmanager.has_plugin(JUDGE):
        return
    from pytest_procsemantics.report.judge import Judge

    chosen = config.stash[stash.SETTINGS]
    config.pluginmanager.register(Judge(config, chosen), JUDGE)
    config.pluginmanager.register(collection.Selection(chosen), SELECTION)
    # Workers report, the process that started them writes.
    if not hasattr(config, "workerinput"):
        _write_results(config)


def _prove_checks(config: pytest.Config) -> None:
    from pytest_procsemantics.lies.prove import Proof
    from pytest_procsemantics.report.matrix import Matrix

    config.pluginmanager.register(Proof(config.stash[stash.SETTINGS]), PROOF)
    if not hasattr(config, "workerinput"):
        config.stash[stash.MATRIX] = matrix = Matrix()
        config.pluginmanager.register(matrix, MATRIX)


def _guard_leaks(config: pytest.Config) -> None:
    from pytest_procsemantics.leaks import guard, snapshot

    if reason := snapshot.why_not_here():
        config.pluginmanager.register(guard.Absent(reason))
    else:
        guard.ready(config, is_for_all=True)


def _write_file(config: pytest.Config, path: Path) -> None:
    from pytest_procsemantics.report.file import Herald, Writer

    is_worker = hasattr(config, "workerinput")
    part = Herald() if is_worker else Writer(config, path, config.stash[stash.RESULTS])
    config.pluginmanager.register(part, FILE)


def _write_results(config: pytest.Config) -> None:
    if stash.RESULTS in config.stash:
        return
    from pytest_procsemantics.report.results import Results

    results = config.stash[stash.RESULTS] = Results(config, config.stash[stash.SETTINGS])
    config.pluginmanager.register(results, RESULTS)
