"""Hooks that compare what the process has before a test and after its teardown.

Registered by --procsem-leak-guard for every test, or by the first use of leak_guard for those that
use it. The hooks lie around all fixtures of a test and inside what plugins do around its whole
protocol: timers of pytest-timeout and of faulthandler are there at both looks.
"""

from __future__ import annotations

import contextlib
import gc
import sys
import time
import warnings
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Any, Final

import pytest

from pytest_procsemantics.leaks.known import kept_for_good
from pytest_procsemantics.leaks.leak import Leak, described
from pytest_procsemantics.leaks.makers import Makers
from pytest_procsemantics.leaks.snapshot import DESCRIPTOR, SEGMENT, Snapshot, Thing, look

NAME: Final = "procsemantics-leaks"
GRACE: Final = 1.0  # seconds for what is already ending: a thread on its way out, a killed child
PAUSE: Final = 0.01  # seconds between two looks meanwhile


@dataclass
class Watched:
    """A test in progress."""

    item: pytest.Item
    before: Snapshot
    modules: frozenset[str]
    has_failed: bool = False


class Guard:
    """A plugin that fails a test, in its teardown, for what it leaves behind.

    Args:
        is_for_all: guard every test, not only those for which `begin` is called.
        allowed: kinds and globs of targets that are no leaks.
    """

    def __init__(
        self, *, is_for_all: bool, is_worker: bool, allowed: tuple[tuple[str, str], ...]
    ) -> None:
        self._is_for_all = is_for_all
        self._allowed = allowed
        self._makers = Makers(is_alone=not is_worker)
        self._watched: Watched | None = None
        # What fixtures of wider scope than a test began, as long as they are set up.
        self._owned: dict[pytest.FixtureDef[Any], dict[Thing, str]] = {}
        # What they had begun when their teardown was over.
        self._due: dict[Thing, str] = {}

    def begin(self, item: pytest.Item) -> None:
        """Look at what is there before a test; the second time in a test does nothing."""
        if self._watched is None:
            self._makers.forget()
            self._watched = Watched(item, look(), frozenset(sys.modules))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, None, None]:
        if self._is_for_all:
            self.begin(item)
        return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
    ) -> Generator[None, object, object]:
        if self._watched is None or fixturedef.scope == "function":
            return (yield)
        before, modules = look(), frozenset(sys.modules)
        try:
            return (yield)
        finally:
            origin = f"the setup of fixture {fixturedef.argname!r} ({fixturedef.scope}) for"
            # What a fixture that this one asked for began is that one's.
            made = look() - before - self._all_owned()
            made = self._ours(made - kept_for_good(made, before, modules))
            self._owned[fixturedef] = dict.fromkeys(made, f"{origin} {self._watched.item.nodeid}")

    def pytest_fixture_post_finalizer(self, fixturedef: pytest.FixtureDef[Any]) -> None:
        self._due.update(self._owned.pop(fixturedef, {}))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        # Only an Exception does pytest keep for whoever debugs afterwards: no skip, no pytest.fail.
        if self._watched is not None and call.excinfo and call.excinfo.errisinstance(Exception):
            self._watched.has_failed = True
        return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, None, None]:
        try:
            result = yield
        except (Exception, pytest.fail.Exception):
            if self._watched is not None:
                self._watched.has_failed = True
            if message := self._end(item):
                item.add_report_section("teardown", "leaks", message)
            raise
        if message := self._end(item):
            pytest.fail(message, pytrace=False)
        return result

    def pytest_unconfigure(self) -> None:
        self._makers.close()

    def _end(self, item: pytest.Item) -> str:
        """Compare, and give the message about all leaks; empty without any."""
        watched, self._watched = self._watched, None
        due, self._due = self._due, {}
        if watched is None and not due:
            return ""
        origins = dict(due)
        if watched is not None:
            origins |= dict.fromkeys(self._begun(watched) - due.keys(), item.nodeid)
        if look().isdisjoint(origins):
            return ""
        caught = collect_garbage()
        found = [described(thing, origins[thing]) for thing in sorted(staying(origins))]
        leaks = [leak for leak in found if leak and not leak.is_allowed(self._allowed)]
        # As an error a warning would take the place of the leaks.
        with contextlib.suppress(*([Warning] if leaks else [])):
            for one in caught:
                warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
        return told(leaks)

    def _begun(self, watched: Watched) -> Snapshot:
        """What is there now because of the test."""
        new = look() - watched.before - self._all_owned()
        if not new:
            return new
        new -= kept_for_good(new, watched.before, watched.modules)
        if watched.has_failed:
            # Whoever wants to look at the failure afterwards keeps the local variables of its
            # frames alive, and with them what is open there.
            new = frozenset(thing for thing in new if thing.kind != DESCRIPTOR)
        return self._ours(new)

    def _ours(self, things: Snapshot) -> Snapshot:
        return frozenset(
            thing for thing in things if thing.kind != SEGMENT or self._makers.is_ours(thing.target)
        )

    def _all_owned(self) -> set[Thing]:
        return set().union(*self._owned.values())


class Absent:
    """A plugin that says in the header why a run is not guarded: an ini file is for all machines."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def pytest_report_header(self) -> str:
        return f"procsem leak guard: off, needs Linux and its /proc ({self._reason})"


def ready(config: pytest.Config, *, is_for_all: bool) -> Guard:
    """The guard of a run, registered when it is first asked for."""
    plugins = config.pluginmanager
    found = plugins.get_plugin(NAME)
    if isinstance(found, Guard):
        return found
    from pytest_procsemantics import stash

    guard = Guard(
        is_for_all=is_for_all,
        is_worker=hasattr(config, "workerinput"),
        allowed=config.stash[stash.SETTINGS].leaks_allowed,
    )
    plugins.register(guard, NAME)
    return guard


def collect_garbage() -> list[warnings.WarningMessage]:
    """Close what is open in garbage.

    Returns:
        The warnings of that. Left alone they would be told as the next test's.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gc.collect()
    return caught


def staying(things: Iterable[Thing]) -> Snapshot:
    """Those of the things that are still there when what was ending has ended."""
    deadline = time.monotonic() + GRACE
    left = frozenset(things)
    while (left := look() & left) and time.monotonic() < deadline:
        time.sleep(PAUSE)
    return left


def told(leaks: list[Leak]) -> str:
    """The message about leaks; empty if there are none."""
    if not leaks:
        return ""
    count = "1 leak" if len(leaks) == 1 else f"{len(leaks)} leaks"
    return "\n".join(
        [
            f"{count}: expected nothing new after the teardown, found",
            *(f"  {leak}" for leak in leaks),
            "what is to stay belongs into a fixture of wider scope, or into procsem_leak_allow",
        ]
    )
