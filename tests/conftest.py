"""What the tests of the plugin share; nothing here speaks to a kernel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import pytest_procsemantics

Run = Callable[..., pytest.RunResult]

# The same plugins in every environment, whether the package is installed or not.
PLUGINS = ("pytest_procsemantics.plugin", "xdist", "timeout")


@pytest.fixture(params=[(), ("-n", "2")], ids=["one-process", "xdist"])
def run(
    request: pytest.FixtureRequest, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> Run:
    """Run pytest on the files of `pytester`, in one process and under xdist."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONPATH", str(Path(pytest_procsemantics.__file__).parents[1]))
    # Under CI pytest says the same message again in its short summary.
    for name in ("PYTEST_ADDOPTS", "CI", "BUILD_NUMBER"):
        monkeypatch.delenv(name, raising=False)
    plugins = [word for name in PLUGINS for word in ("-p", name)]
    return lambda *args: pytester.runpytest_subprocess(*plugins, *request.param, *args)
