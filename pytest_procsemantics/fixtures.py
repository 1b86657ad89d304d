"""The fixtures of every project that installs the plugin. Nothing is imported before one is used."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

import pytest

from pytest_procsemantics import stash

if TYPE_CHECKING:
    from pytest_procsemantics.driven import Target
    from pytest_procsemantics.lies import Lie

TRANSCRIPTS = "procsemantics-transcripts"


@pytest.fixture(scope="session")
def _procsem_target(pytestconfig: pytest.Config) -> Iterator[Target]:
    """This machine as a target, started once for all tests."""
    from pytest_procsemantics.requirements.marker import why_not_here

    if reason := why_not_here():
        pytest.skip(f"procsem needs Linux and an agent ({reason})")
    from pytest_procsemantics.driven import Target

    pytestconfig.pluginmanager.register(Transcripts(), TRANSCRIPTS)
    with Target.open("local", pytestconfig.stash[stash.SETTINGS].timeout) as target:
        yield target


@pytest.fixture
def told_lie() -> Lie | None:
    """The lie that --procsem-prove tells this time, for fixtures that give a check its target."""
    return None  # the proof parametrises its tests with another value


@pytest.fixture
def procsem(
    _procsem_target: Target, told_lie: Lie | None, request: pytest.FixtureRequest
) -> Iterator[Target]:
    """Driven processes on this machine and a witness of them; all is gone when the test ends."""
    from pytest_procsemantics.lies.telling import told

    with _procsem_target.test() as target, told(told_lie, target):
        request.node.stash[stash.TRANSCRIPT] = target.transcript
        yield target


@pytest.fixture
def leak_guard(request: pytest.FixtureRequest) -> None:
    """Fail the test if it leaves a child, descriptor, thread or segment in /dev/shm behind."""
    from pytest_procsemantics.leaks import guard, snapshot

    if reason := snapshot.why_not_here():
        pytest.skip(f"leak_guard needs Linux and its /proc ({reason})")
    guard.ready(request.config, is_for_all=False).begin(request.node)


class Transcripts:
    """A plugin that shows the steps of a failed test; for checks the judge does it."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        is_ours = stash.TRANSCRIPT in item.stash and stash.CLAUSES not in item.stash
        if report.failed and is_ours:
            from pytest_procsemantics.report import text

            report.sections.append(("transcript", text.block(str(item.stash[stash.TRANSCRIPT]))))
        return report
