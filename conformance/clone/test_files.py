"""clone(2): CLONE_FILES."""

from __future__ import annotations

from pytest_procsemantics import Process, Target, clause
from pytest_procsemantics.alike import MakeWith, like_clone
from pytest_procsemantics.driven import Observer, fails
from pytest_procsemantics.driven.constants import (
    AT_FDCWD,
    CLONE_FILES,
    EBADF,
    F_GETFD,
    F_GETFL,
    F_SETFD,
    F_SETFL,
    FD_CLOEXEC,
    KCMP_FILES,
    O_APPEND,
    O_RDWR,
)
from pytest_procsemantics.lies import EXEC_DOES_NOTHING, adds, drops, in_child, lie, opened


@like_clone("clone.2/files-open-by-child-valid-in-parent", "tutorial/clone-chooses-files")
@lie(drops(CLONE_FILES))
def test_a_descriptor_opened_by_the_child_is_valid_in_the_parent(
    parent: Process, make: MakeWith
) -> None:
    child = make(parent, CLONE_FILES)
    reader, _ = child.sys.pipe()
    assert parent.sys.fcntl(reader, F_GETFD) == 0


@like_clone("clone.2/files-open-by-parent-valid-in-child")
@lie(drops(CLONE_FILES))
def test_a_descriptor_opened_by_the_parent_is_valid_in_the_child(
    parent: Process, make: MakeWith
) -> None:
    child = make(parent, CLONE_FILES)
    reader, _ = parent.sys.pipe()
    assert child.sys.fcntl(reader, F_GETFD) == 0


@like_clone("clone.2/files-close-affects-other")
@lie(drops(CLONE_FILES))
def test_a_descriptor_closed_by_one_side_is_closed_in_the_other(
    parent: Process, make: MakeWith
) -> None:
    reader, writer = parent.sys.pipe()
    child = make(parent, CLONE_FILES)
    child.sys.close(writer)
    with fails(EBADF):
        parent.sys.write(writer, b"x")
    parent.sys.close(reader)
    with fails(EBADF):
        child.sys.fcntl(reader, F_GETFD)


@like_clone("clone.2/files-flags-affect-other")
@lie(drops(CLONE_FILES))
def test_close_on_exec_set_by_one_side_is_the_others(parent: Process, make: MakeWith) -> None:
    reader, writer = parent.sys.pipe()
    child = make(parent, CLONE_FILES)
    child.sys.fcntl(reader, F_SETFD, FD_CLOEXEC)
    parent.sys.fcntl(writer, F_SETFD, FD_CLOEXEC)
    assert parent.sys.fcntl(reader, F_GETFD) == FD_CLOEXEC
    assert child.sys.fcntl(writer, F_GETFD) == FD_CLOEXEC


@like_clone("clone.2/files-unset-copies", "tutorial/clone-chooses-files")
@lie(adds(CLONE_FILES))
def test_without_clone_files_a_close_is_the_childs_own(parent: Process, make: MakeWith) -> None:
    _, writer = parent.sys.pipe()
    child = make(parent, 0)
    child.sys.close(writer)
    assert parent.sys.write(writer, b"x") == 1


@like_clone("clone.2/files-unset-copies")
@lie(adds(CLONE_FILES))
def test_without_clone_files_an_opening_is_the_callers_own(parent: Process, make: MakeWith) -> None:
    child = make(parent, 0)
    reader, _ = parent.sys.pipe()
    with fails(EBADF):
        child.sys.fcntl(reader, F_GETFD)


def opens_anew(child: Process) -> None:
    """Replace each of the maker's files by an opening of the child's own."""
    for fd in opened(child):
        again = child.sys.openat(AT_FDCWD, f"/proc/self/fd/{fd}", O_RDWR)
        child.sys.dup2(again, fd)


@like_clone("clone.2/files-unset-shares-descriptions")
@lie(in_child("the child has openings of its own", opens_anew))
def test_without_clone_files_the_open_files_are_shared(
    parent: Process, target: Target, make: MakeWith
) -> None:
    path = parent.make_file(f"{target.folder()}/file", b"0123456789")
    fd = parent.sys.openat(AT_FDCWD, path, O_RDWR)
    child = make(parent, 0)
    assert child.sys.read(fd, 4) == b"0123"
    assert parent.sys.read(fd, 4) == b"4567"
    child.sys.fcntl(fd, F_SETFL, O_APPEND)
    assert parent.sys.fcntl(fd, F_GETFL) & O_APPEND


@clause("clone.2/files-exec-unshares-table")
@lie(EXEC_DOES_NOTHING)
def test_a_sharer_that_execs_gets_a_table_of_its_own(parent: Process) -> None:
    stays, goes = parent.sys.pipe()
    parent.sys.fcntl(goes, F_SETFD, FD_CLOEXEC)
    child = parent.clone3(CLONE_FILES)
    child.execve()
    with fails(EBADF):
        child.sys.fcntl(goes, F_GETFD)
    child.sys.close(stays)
    assert parent.sys.fcntl(stays, F_GETFD) == 0
    assert parent.sys.fcntl(goes, F_GETFD) == FD_CLOEXEC


@clause("clone.2/files-exec-unshares-table")
@lie(EXEC_DOES_NOTHING)
def test_the_kernel_has_two_tables_after_the_exec(parent: Process, observer: Observer) -> None:
    child = parent.clone3(CLONE_FILES)
    assert observer.kcmp(parent, child, KCMP_FILES) == 0
    child.execve()
    assert observer.kcmp(parent, child, KCMP_FILES) != 0
