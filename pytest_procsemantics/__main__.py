"""`python -m pytest_procsemantics [pytest arguments]` runs the conformance suite from anywhere.

It runs with the suite's own settings, whatever those of the current folder are. A check is named
as a run prints it: `conformance/exit/test_exit.py::test_name`.
"""

from __future__ import annotations

import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from pytest_procsemantics import native

PACKAGE = Path(__file__).resolve().parent
# Beside the package in a checkout, in it when installed.
ROOT = PACKAGE if (PACKAGE / "conformance").is_dir() else PACKAGE.parent
SUITE = ROOT / "conformance"


def main(arguments: list[str]) -> int:
    """Run the suite, or the checks that the arguments name.

    Returns:
        pytest's exit status, or the plugin's own above them.
    """
    named = [check(argument) or argument for argument in arguments]
    if named == arguments and not any(map(inside, arguments)):
        named.append(str(SUITE))
    installed = entry_points(group="pytest11", name="procsemantics")
    # By its entry point's name where it has one: under two names pytest refuses it.
    plugin = "procsemantics" if installed else "pytest_procsemantics.plugin"
    options = [
        *("-c", str(SUITE / "suite.ini"), f"--rootdir={ROOT}", "-p", plugin),
        # Not among the installed files.
        *("-o", f"cache_dir={native.cache_folder() / 'pytest'}"),
        # To run this file the package itself had to be imported; it has no asserts to rewrite.
        *("-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning"),
    ]
    return int(pytest.main([*options, *named]))


def check(argument: str) -> str | None:
    """Give the full path of a check that is named from the suite's root, else None."""
    path, colons, rest = argument.partition("::")
    if Path(path).parts[:1] == (SUITE.name,) and (ROOT / path).exists():
        return f"{ROOT / path}{colons}{rest}"
    return None


def inside(argument: str) -> bool:
    """Whether the argument is the full path of something in the suite."""
    return SUITE in [Path(argument), *Path(argument).parents]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
