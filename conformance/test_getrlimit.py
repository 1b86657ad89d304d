"""getrlimit(2): limits over fork and execve."""

from __future__ import annotations

from pytest_procsemantics import Process, clause
from pytest_procsemantics.driven import fails
from pytest_procsemantics.driven.constants import EMFILE, F_GETFD, RLIMIT_NOFILE
from pytest_procsemantics.lies import in_image, leaves_out, lie


@clause("getrlimit.2/lower-nofile-keeps-open-descriptors")
@lie(
    in_image(
        "exec closes what lies above the limit", lambda image: image.sys.close_range(3, 100, 0)
    ),
    leaves_out("prlimit64"),
)
def test_a_limit_of_no_descriptors_closes_nothing(parent: Process) -> None:
    reader, _ = parent.sys.pipe()
    parent.sys.prlimit64(0, RLIMIT_NOFILE, (0, 0))
    child = parent.fork()
    child.execve()
    assert child.sys.fcntl(reader, F_GETFD) == 0
    with fails(EMFILE):
        child.sys.pipe()
