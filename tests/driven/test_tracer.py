"""A tracer's words against what Python makes of the same status."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from pytest_procsemantics.driven import Target
from pytest_procsemantics.driven.constants import PTRACE_EVENT_EXIT, PTRACE_O_TRACEEXIT
from pytest_procsemantics.driven.tracer import NOTHING, Tracer, end, stop
from pytest_procsemantics.native import build

pytestmark = pytest.mark.skipif(
    not build.supported(), reason=f"no agent for {sys.platform} {build.host()}"
)


def test_words_are_status_words() -> None:
    stopped = stop(5, PTRACE_EVENT_EXIT).status
    assert os.WIFSTOPPED(stopped)
    assert stopped >> 8 == signal.SIGTRAP | PTRACE_EVENT_EXIT << 8
    assert os.WSTOPSIG(stop(5, signal=signal.SIGSTOP).status) == signal.SIGSTOP
    assert os.waitstatus_to_exitcode(end(5, 7).status) == 7
    assert os.waitstatus_to_exitcode(end(5, signal=signal.SIGKILL).status) == -signal.SIGKILL


def test_a_tracee_that_was_attached_goes_on_and_is_told_of_at_its_end() -> None:
    with Target.open() as target, target.test():
        parent = target.new_process()
        tracee, tracer = parent.fork("tracee"), Tracer(parent)
        tracer.attach(tracee, PTRACE_O_TRACEEXIT)
        assert tracee.sys.getpid() == tracee.own_pid
        assert tracer.told_now() == NOTHING
        tracee.post.sys.exit_group(3)
        assert tracer.told() == stop(tracee.tid, PTRACE_EVENT_EXIT)
        assert tracer.message(tracee.tid) == 3 << 8
        tracer.go_on(tracee.tid)
        assert tracer.told() == end(tracee.tid, 3)
