"""What the tests of the plugin share; nothing here speaks to a kernel."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import pytest_procsemantics

Run = Callable[..., pytest.RunResult]

# The same plugins in every environment, whether the package is installed or not.
PLUGINS = ("pytest_procsemantics.plugin", "xdist", "timeout")


@pytest.fixture
def without_proc() -> str:
    """A specification of a target where no proc is mounted."""
    return """exec:unshare --user --map-root-user --mount
        sh -c 'mount -t tmpfs none /proc && exec "$0" "$@"'"""


@pytest.fixture(params=[(), ("-n", "1")], ids=["one-process", "xdist"])
def options(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Whether the tests of a run take place in its own process, or in a worker's, which sends what it finds.

    What several workers find together has tests with parameters of their own.
    """
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def run(
    options: tuple[str, ...], pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> Run:
    """Run pytest on the files of `pytester`: within this process, which saves a start, and with workers."""
    return _prepared(pytester.runpytest_inprocess, options, monkeypatch)


@pytest.fixture
def run_apart(
    options: tuple[str, ...], pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> Run:
    """The same in a process of its own, for tests that look at it, change what is imported there, or end it."""
    return _prepared(pytester.runpytest_subprocess, options, monkeypatch)


def _prepared(runner: Run, options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONPATH", str(Path(pytest_procsemantics.__file__).parents[1]))
    # A file that is written twice within a second must not be taken for what was compiled of it first.
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    # Under CI pytest says the same message again in its short summary.
    for name in ("PYTEST_ADDOPTS", "CI", "BUILD_NUMBER"):
        monkeypatch.delenv(name, raising=False)
    plugins = [word for name in PLUGINS for word in ("-p", name)]
    return lambda *args: runner(*plugins, *options, *args)
