"""clone(2): CLONE_FS, that is root, working directory and umask."""

from __future__ import annotations

from pytest_procsemantics import Process, Target
from pytest_procsemantics.alike import MakeWith, like_clone
from pytest_procsemantics.driven.constants import AT_FDCWD, CLONE_FS
from pytest_procsemantics.lies import adds, drops, lie


@like_clone("clone.2/fs-shares-working-directory")
@lie(drops(CLONE_FS))
def test_with_clone_fs_chdir_by_one_side_moves_the_other(
    parent: Process, target: Target, make: MakeWith
) -> None:
    folder = target.folder()
    child = make(parent, CLONE_FS)
    child.sys.chdir(folder)
    assert parent.sys.getcwd() == folder.encode()
    parent.sys.chdir("/")
    assert child.sys.getcwd() == b"/"


@like_clone("clone.2/fs-unset-copies-working-directory")
@lie(adds(CLONE_FS))
def test_without_clone_fs_chdir_moves_the_caller_only(
    parent: Process, target: Target, make: MakeWith
) -> None:
    folder = target.folder()
    parent.sys.chdir("/")
    child = make(parent, 0)
    child.sys.chdir(folder)
    assert parent.sys.getcwd() == b"/"
    parent.sys.chdir("/proc")
    assert child.sys.getcwd() == folder.encode()


@like_clone("clone.2/fs-shares-root")
@lie(drops(CLONE_FS))
def test_with_clone_fs_chroot_by_the_child_changes_the_parents_root(
    parent: Process, target: Target, make: MakeWith
) -> None:
    folder = target.folder()
    parent.make_file(f"{folder}/inside")
    child = make(parent, CLONE_FS)
    child.sys.chroot(folder)
    assert parent.sys.openat(AT_FDCWD, "/inside") > 0


@like_clone("clone.2/fs-unset-copies-root")
@lie(adds(CLONE_FS))
def test_without_clone_fs_chroot_changes_the_callers_root_only(
    parent: Process, target: Target, make: MakeWith
) -> None:
    folder = target.folder()
    parent.make_file(f"{folder}/inside")
    child = make(parent, 0)
    child.sys.chroot(folder)
    assert parent.sys.openat(AT_FDCWD, f"{folder}/inside") > 0
    assert child.sys.openat(AT_FDCWD, "/inside") > 0


@like_clone("clone.2/fs-shares-umask")
@lie(drops(CLONE_FS))
def test_with_clone_fs_the_umask_is_one(parent: Process, make: MakeWith) -> None:
    child = make(parent, CLONE_FS)
    child.sys.umask(0o123)
    assert parent.sys.umask(0o31) == 0o123
    assert child.sys.umask(0) == 0o31


@like_clone("clone.2/fs-unset-copies-umask")
@lie(adds(CLONE_FS))
def test_without_clone_fs_the_umask_is_a_copy(parent: Process, make: MakeWith) -> None:
    parent.sys.umask(0o22)
    child = make(parent, 0)
    assert child.sys.umask(0o123) == 0o22
    assert parent.sys.umask(0o31) == 0o22
    assert child.sys.umask(0) == 0o123
