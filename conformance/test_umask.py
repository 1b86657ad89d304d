"""The mode that new files don't get: umask(2)."""

from __future__ import annotations

from pytest_procsemantics import Process, clause
from pytest_procsemantics.driven.constants import CLONE_FS
from pytest_procsemantics.lies import drops, lie


@clause("umask.2/threads-share")
@lie(drops(CLONE_FS))
def test_a_thread_that_sets_the_mask_sets_it_for_all(parent: Process) -> None:
    thread = parent.thread()
    thread.sys.umask(0o077)
    assert parent.sys.umask(0) == 0o077
