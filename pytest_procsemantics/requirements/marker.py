"""The marker procsem_requires: a test of anybody's is skipped where this machine lacks something.

Unlike a check, such a test has no clause whose `since` could excuse a failure afterwards, so here
`kernel>=X.Y` is what it looks like: a comparison with this machine's release.
"""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Iterable

import pytest

from pytest_procsemantics import stash
from pytest_procsemantics.catalogue.vocabulary import split_requirement
from pytest_procsemantics.collection import REQUIRES_MARKER
from pytest_procsemantics.driven.constants.calls import NUMBERS
from pytest_procsemantics.driven.errors import Unsupported
from pytest_procsemantics.driven.spec import host_machine

TRIED: pytest.StashKey[dict[str, str | None]] = pytest.StashKey()  # in config.stash


class Skipper:
    """A plugin that looks at each test's words before its fixtures are set up."""

    # Before pytest's own look at skip marks, which then names the test and not this file.
    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        skip_unmet(item)


def skip_unmet(item: pytest.Item) -> None:
    """Mark a test to be skipped if this machine lacks what its markers ask for.

    The words of a test that no test before it had are tried on a local target that ends at once:
    a child of pytest's own would be in the way of tests that wait for any child.
    """
    words = [word for mark in item.iter_markers(REQUIRES_MARKER) for word in mark.args]
    if not words:
        return
    reasons = item.config.stash.setdefault(TRIED, {})
    new = [word for word in dict.fromkeys(words) if word not in reasons]
    if new:
        reasons.update(_reasons(new, item.config.stash[stash.SETTINGS].timeout))
    lacking = [f"{word} ({reasons[word]})" for word in dict.fromkeys(words) if reasons[word]]
    if lacking:
        item.add_marker(pytest.mark.skip(str(Unsupported(*lacking))))


def why_not_here() -> str | None:
    """The reason why nothing can be driven on this machine, or None."""
    if sys.platform != "linux":
        return f"no Linux but {platform.system()}"
    if host_machine() not in NUMBERS:
        return f"no agent for {host_machine()}"
    return None


def _reasons(words: Iterable[str], timeout: float) -> dict[str, str | None]:
    if reason := why_not_here():
        return dict.fromkeys(words, reason)
    reasons: dict[str, str | None] = {}
    to_try = []
    for word in words:
        kind, argument = split_requirement(word)
        if kind == "kernel":
            reasons[word] = _older_than(argument)
        else:
            to_try.append(word)
    if to_try:
        from pytest_procsemantics.driven import Target
        from pytest_procsemantics.requirements import tried

        with Target.open("local", timeout) as target:
            reasons.update(tried(target, to_try))
    return reasons


def _older_than(version: str) -> str | None:
    release = platform.release()
    return f"is {release}" if _numbers(release) < _numbers(version) else None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, [*re.findall(r"\d+", version), "0", "0"][:3]))
