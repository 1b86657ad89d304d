"""A new session: setsid(2)."""

from __future__ import annotations

from pytest_procsemantics import Process, clause
from pytest_procsemantics.driven.constants import CLONE_THREAD
from pytest_procsemantics.lies import drops, lie, reports


@clause("setsid.2/whole-process-changes")
@lie(drops(CLONE_THREAD))
def test_a_thread_takes_its_whole_process_to_a_new_session(parent: Process) -> None:
    child = parent.fork()
    thread = child.thread()
    thread.sys.setsid()
    assert child.sys.getsid(0) == child.own_pid


@clause("setsid.2/returns-new-session-id")
@lie(reports("setsid gives 0", "setsid", lambda session: 0))
def test_setsid_gives_the_id_of_the_new_session(parent: Process) -> None:
    child = parent.fork()
    assert child.sys.setsid() == child.own_pid
