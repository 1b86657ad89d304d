"""Pipes with an end in several processes: pipe(7)."""

from __future__ import annotations

from pytest_procsemantics import Process, clause
from pytest_procsemantics.driven.constants import POLLHUP, POLLIN
from pytest_procsemantics.lies import in_child, leaves_out, lie


def close_the_write_end(process: Process) -> None:
    process.sys.close(4)


@clause("pipe.7/end-of-file-needs-all-write-ends-closed")
@lie(in_child("the child has no write end", close_the_write_end), leaves_out("close"))
def test_the_childs_write_end_holds_back_the_end_of_file(parent: Process) -> None:
    reader, writer = parent.sys.pipe()
    child = parent.fork()
    parent.sys.close(writer)
    assert parent.sys.poll([(reader, POLLIN)], timeout=0) == [(reader, 0)]
    child.exit()
    assert parent.sys.poll([(reader, POLLIN)], timeout=0) == [(reader, POLLHUP)]
