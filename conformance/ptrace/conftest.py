"""Who traces and who is traced: the parent traces its child, as Yama allows it everywhere."""

from __future__ import annotations

import pytest

from pytest_procsemantics import Process
from pytest_procsemantics.driven.tracer import Tracer


@pytest.fixture
def tracer(parent: Process) -> Tracer:
    """The parent, who is going to trace."""
    return Tracer(parent)


@pytest.fixture
def tracee(parent: Process) -> Process:
    """A child of the parent, who is going to be traced."""
    return parent.fork("tracee")
