"""Makes `pytest` work in this checkout, whether the package is installed, editable or neither.

pytest refuses a plugin that is named here and was already loaded by its entry point or by -p, so
it is named only where nothing has loaded it.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from importlib import metadata
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent
PACKAGE = "pytest_procsemantics"


def refusal() -> str | None:
    """Tell why the plugin that would judge here does not belong to these checks, or None."""
    spec = importlib.util.find_spec(PACKAGE)
    assert spec is not None and spec.origin is not None
    folder = Path(spec.origin).resolve().parent.parent
    if folder == CHECKOUT:
        return None
    remedy = f"next: pip install {CHECKOUT}"
    found = {
        installed.version
        for installed in metadata.distributions(name="pytest-procsemantics")
        if Path(str(installed.locate_file(""))).resolve() == folder
    }
    if not found:
        return f"pytest-procsemantics comes from {folder}, its checks from {CHECKOUT}; {remedy}"
    ours = set(re.findall(r'^version = "(.+)"$', (CHECKOUT / "pyproject.toml").read_text(), re.M))
    if found != ours:
        versions = f"{', '.join(found)} is installed, its checks are {', '.join(ours)}"
        return f"pytest-procsemantics {versions}; {remedy}"
    return None


if importlib.util.find_spec(PACKAGE) is None:
    sys.path.insert(0, str(CHECKOUT))
REFUSAL = refusal()
PLUGIN = f"{PACKAGE}.plugin"
pytest_plugins = ["pytester", *([] if PLUGIN in sys.modules else [PLUGIN])]


def pytest_addoption() -> None:
    # The first hook of all: what does not fit together may fail in any later one.
    if REFUSAL is not None:
        raise pytest.UsageError(REFUSAL)
