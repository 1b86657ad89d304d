"""user_namespaces(7): what capabilities inside are worth for files, whose ids may have no map."""

from __future__ import annotations

import pytest

from pytest_procsemantics import Process, Target, clause
from pytest_procsemantics.driven import fails
from pytest_procsemantics.driven.constants import (
    AT_FDCWD,
    CLONE_NEWUSER,
    EACCES,
    EPERM,
    O_RDONLY,
    SIGCHLD,
)
from pytest_procsemantics.lies import lie, passes
from pytest_procsemantics.requirements import expect_own_id_map

FIRST = 100000  # of ten users and of ten groups, which are 0 to 9 inside
MAP = b"0 %d 10" % FIRST
STRANGER = FIRST + 10  # without a map
HAVE_A_MAP = passes("the strangers have a map", "write", 1, b"0 %d 20" % FIRST)


class Files:
    """A member who is root inside, and files of users and groups with and without a map."""

    def __init__(self, parent: Process, target: Target) -> None:
        expect_own_id_map(parent)
        self.folder = target.folder()
        self.outside = parent
        parent.sys.chmod(self.folder, 0o711)
        self.member = parent.clone(CLONE_NEWUSER | SIGCHLD, name="member")
        parent.write_to(f"/proc/{self.member.pid}/uid_map", MAP)
        parent.write_to(f"/proc/{self.member.pid}/gid_map", MAP)
        self.member.sys.setresgid(0, 0, 0)
        self.member.sys.setresuid(0, 0, 0)

    def of(self, user: int, group: int) -> str:
        """A file that nobody may read."""
        path = self.outside.make_file(f"{self.folder}/{user}-{group}", mode=0)
        self.outside.sys.chown(path, user, group)
        return path


@pytest.fixture
def files(parent: Process, target: Target) -> Files:
    """A member, and files for it."""
    return Files(parent, target)


@pytest.mark.parametrize(
    ("user", "group"),
    [pytest.param(STRANGER, FIRST + 1, id="user"), pytest.param(FIRST + 1, STRANGER, id="group")],
)
@clause("user_namespaces.7/file-capabilities-need-mapped-ids")
@lie(HAVE_A_MAP)
def test_a_file_without_a_map_of_both_ids_stays_closed(files: Files, user: int, group: int) -> None:
    member, mapped, stranger = files.member, files.of(FIRST + 1, FIRST + 1), files.of(user, group)
    member.sys.openat(AT_FDCWD, mapped, O_RDONLY)
    member.sys.chown(mapped, 2, 2)
    with fails(EACCES):
        member.sys.openat(AT_FDCWD, stranger, O_RDONLY)
    with fails(EPERM):
        member.sys.chown(stranger, 2, 2)


@clause("user_namespaces.7/fowner-needs-mapped-uid-only")
@lie(HAVE_A_MAP)
def test_the_mode_of_a_file_needs_a_map_of_its_user_only(files: Files) -> None:
    files.member.sys.chmod(files.of(FIRST + 1, STRANGER), 0o644)
    with fails(EPERM):
        files.member.sys.chmod(files.of(STRANGER, FIRST + 1), 0o644)
