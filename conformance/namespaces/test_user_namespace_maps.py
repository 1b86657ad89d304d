"""user_namespaces(7): uid_map, gid_map, projid_map and setgroups."""

from __future__ import annotations

import pytest

from pytest_procsemantics import Process, Target, clause
from pytest_procsemantics.driven import Observer, Unsupported, fails
from pytest_procsemantics.driven.constants import (
    AT_FDCWD,
    CLONE_NEWUSER,
    EACCES,
    EINVAL,
    EPERM,
    ESPIPE,
    O_WRONLY,
    SEEK_SET,
    SIGCHLD,
)
from pytest_procsemantics.lies import drops, leaves_out, lie
from pytest_procsemantics.requirements import (
    become_ordinary,
    enter_user_namespace,
    expect_own_id_map,
    lose_capabilities,
    own_namespaces,
)
from pytest_procsemantics.requirements.surroundings import SOMEBODY

UIDS, GIDS, PROJECTS = (f"/proc/self/{name}_map" for name in ("uid", "gid", "projid"))
SETGROUPS = "/proc/self/setgroups"
NOTHING = leaves_out("write")
NO_LOSS = leaves_out("capset")
UNMAPPED = 0xFFFFFFFF


pytestmark = pytest.mark.usefixtures("mapper")


@pytest.fixture
def mapper(parent: Process) -> None:
    """The process of each check may map its own user."""
    expect_own_id_map(parent)


def expect_ids(process: Process, path: str) -> None:
    """Go on only where a process has ids of a kind, by the map of its own namespace."""
    if not lines_of(process, path):
        raise Unsupported(f"ids to map ({path} is empty in the user namespace of the start)")


def expect_setgroups(process: Process) -> None:
    """Go on only where a new user namespace begins with setgroups(2) allowed."""
    if lines_of(process, SETGROUPS) == [b"deny"]:
        raise Unsupported("setgroups (denied in the user namespace of the start)")


def new_member(parent: Process) -> Process:
    """A child in a new user namespace without maps."""
    return parent.clone(CLONE_NEWUSER | SIGCHLD, name="member")


def ranges(process: Process, path: str) -> list[list[int]]:
    """The lines of a map, as a process sees them."""
    return [[int(word) for word in line.split()] for line in lines_of(process, path)]


def lines_of(process: Process, path: str) -> list[bytes]:
    return Observer(process).read(path).splitlines()


# --- what a map says ---


@clause("user_namespaces.7/starts-without-mapping")
@lie(leaves_out("unshare"))
def test_a_new_namespace_has_no_maps(parent: Process) -> None:
    parent.sys.unshare(CLONE_NEWUSER)
    assert lines_of(parent, UIDS) == lines_of(parent, GIDS) == []


@clause("user_namespaces.7/map-shown-to-member-relative-to-parent")
@lie(NOTHING)
def test_a_member_sees_ids_of_the_parent_namespace(parent: Process) -> None:
    user, group = parent.sys.geteuid(), parent.sys.getegid()
    enter_user_namespace(parent, 7, 8)
    assert ranges(parent, UIDS) == [[7, user, 1]]
    assert ranges(parent, GIDS) == [[8, group, 1]]


@clause("user_namespaces.7/map-shown-relative-to-opener")
@lie(NOTHING)
def test_another_sees_ids_of_its_own_namespace(parent: Process) -> None:
    one, other = parent.fork("one"), parent.fork("other")
    enter_user_namespace(one, 7, 8)
    enter_user_namespace(other, 5, 8)
    assert ranges(parent, f"/proc/{one.pid}/uid_map") == [[7, parent.sys.geteuid(), 1]]
    assert ranges(other, f"/proc/{one.pid}/uid_map") == [[7, 5, 1]]


@clause("user_namespaces.7/unmapped-field-two-is-minus-one")
@lie(NOTHING)
def test_an_id_that_the_reader_does_not_map_is_shown_as_minus_one(parent: Process) -> None:
    one, other = parent.fork("one"), parent.fork("other")
    enter_user_namespace(one, 7, 8)
    other.sys.unshare(CLONE_NEWUSER)
    assert ranges(other, f"/proc/{one.pid}/uid_map") == [[7, UNMAPPED, 1]]


# --- how it is written ---


@pytest.mark.parametrize("path", [UIDS, GIDS, PROJECTS], ids=["uid", "gid", "projid"])
@clause("user_namespaces.7/map-written-once")
@lie(NOTHING)
def test_a_map_is_written_once(parent: Process, path: str) -> None:
    expect_ids(parent, path)
    number = parent.sys.geteuid() if path == UIDS else parent.sys.getegid()
    parent.sys.unshare(CLONE_NEWUSER)
    parent.write_to(SETGROUPS, b"deny")
    parent.write_to(path, b"0 %d 1" % number)
    with fails(EPERM):
        parent.write_to(path, b"0 %d 1" % number)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(
            b"x %d 1", marks=clause("user_namespaces.7/map-fields-must-be-numbers"), id="inside"
        ),
        pytest.param(
            b"0 x%d 1", marks=clause("user_namespaces.7/map-fields-must-be-numbers"), id="outside"
        ),
        pytest.param(
            b"-1 %d 1", marks=clause("user_namespaces.7/map-fields-must-be-numbers"), id="negative"
        ),
        pytest.param(
            b"0x10 %d 1",
            marks=clause("user_namespaces.7/map-fields-must-be-numbers"),
            id="hexadecimal",
        ),
        pytest.param(
            b"0 %d 0", marks=clause("user_namespaces.7/map-fields-must-be-numbers"), id="length"
        ),
        pytest.param(
            b"0 %d", marks=clause("user_namespaces.7/map-missing-field-refused"), id="two fields"
        ),
        pytest.param(
            b"0 %d 1 7",
            marks=clause("user_namespaces.7/map-missing-field-refused"),
            id="four fields",
        ),
        pytest.param(
            b"\n", marks=clause("user_namespaces.7/map-empty-write-refused"), id="no line"
        ),
        pytest.param(
            b"0 %d 1\n\n",
            marks=clause("user_namespaces.7/map-empty-write-refused"),
            id="empty line",
        ),
        pytest.param(
            b"0 %d 10\n5 70000 10",
            marks=clause("user_namespaces.7/map-ranges-may-not-overlap"),
            id="overlap inside",
        ),
        pytest.param(
            b"0 %d 1\n20 %d 10",
            marks=clause("user_namespaces.7/map-ranges-may-not-overlap"),
            id="overlap outside",
        ),
    ],
)
@lie(NOTHING)
def test_a_map_with_a_bad_line_is_refused(parent: Process, text: bytes) -> None:
    user = parent.sys.geteuid()
    parent.sys.unshare(CLONE_NEWUSER)
    with fails(EINVAL):
        parent.write_to(UIDS, text.replace(b"%d", b"%d" % user))
    parent.write_to(UIDS, b"010 %d 1" % user)
    assert ranges(parent, UIDS) == [[10, user, 1]]


@clause("user_namespaces.7/map-empty-write-refused")
@lie(NOTHING)
def test_an_empty_map_is_refused(parent: Process) -> None:
    user = parent.sys.geteuid()
    parent.sys.unshare(CLONE_NEWUSER)
    with fails(EINVAL):
        parent.write_to(UIDS, b"")
    parent.write_to(UIDS, b"0 %d 1" % user)


@clause("user_namespaces.7/map-shorter-than-page")
@lie(NOTHING)
def test_a_map_is_shorter_than_a_page(parent: Process, target: Target) -> None:
    line = b"0 %d 1" % parent.sys.geteuid()
    parent.sys.unshare(CLONE_NEWUSER)
    with fails(EINVAL):
        parent.write_to(UIDS, line.ljust(target.page_size))
    parent.write_to(UIDS, line.ljust(target.page_size - 1))


@clause("user_namespaces.7/map-write-at-offset-zero")
@lie(leaves_out("lseek"))
def test_a_map_is_written_at_the_beginning(parent: Process) -> None:
    line = b"0 %d 1" % parent.sys.geteuid()
    parent.sys.unshare(CLONE_NEWUSER)
    fd = parent.sys.openat(AT_FDCWD, UIDS, O_WRONLY)
    with fails(ESPIPE):
        parent.sys.pwrite(fd, line, 0)
    parent.sys.lseek(fd, 1, SEEK_SET)
    with fails(EINVAL):
        parent.sys.write(fd, line)
    parent.sys.lseek(fd, 0, SEEK_SET)
    parent.sys.write(fd, line)


@clause("user_namespaces.7/map-limit-340-lines")
@lie(NOTHING)
def test_a_map_has_at_most_340_lines(parent: Process) -> None:
    lines = [b"%d %d 1\n" % (number, number) for number in range(341)]
    path = f"/proc/{new_member(parent).pid}/uid_map"
    with fails(EINVAL):
        parent.write_to(path, b"".join(lines))
    parent.write_to(path, b"".join(lines[:340]))
    assert len(lines_of(parent, path)) == 340


@clause("user_namespaces.7/map-lines-in-any-order", "user_namespaces.7/only-mapped-ids-settable")
@lie(NOTHING)
def test_lines_stand_in_any_order(parent: Process, observer: Observer) -> None:
    member = new_member(parent)
    parent.write_to(f"/proc/{member.pid}/uid_map", b"10 2000 5\n0 1000 5")
    member.sys.setresuid(14, 4, 10)
    assert observer.status_field(member, "Uid").split()[:3] == ["2004", "1004", "2000"]
    with fails(EINVAL):
        member.sys.setresuid(-1, 5, -1)


# --- who may write it ---


@clause("user_namespaces.7/map-write-needs-setuid-inside")
def test_without_cap_setuid_inside_no_map_is_written(parent: Process) -> None:
    line = b"0 %d 1" % parent.sys.geteuid()
    parent.sys.unshare(CLONE_NEWUSER)
    lose_capabilities(parent, "SETUID")
    with fails(EPERM):
        parent.write_to(UIDS, line)


@clause("user_namespaces.7/map-writer-in-namespace-or-parent")
@lie(NOTHING)
def test_a_map_is_written_from_inside_or_from_the_next_above(parent: Process) -> None:
    middle = parent.fork("middle")
    enter_user_namespace(middle, 7, 8)
    path = f"/proc/{new_member(middle).pid}/uid_map"
    with fails(EPERM):
        parent.write_to(path, b"0 %d 1" % parent.sys.geteuid())
    middle.write_to(path, b"0 7 1")


@clause("user_namespaces.7/map-outer-ids-need-mapping-in-parent")
@lie(NOTHING)
def test_the_ids_above_must_be_mapped_there(parent: Process) -> None:
    enter_user_namespace(parent, 7, 8)
    path = f"/proc/{new_member(parent).pid}/uid_map"
    with fails(EPERM):
        parent.write_to(path, b"0 5 1")
    parent.write_to(path, b"0 7 1")


@clause("user_namespaces.7/map-of-outer-root-needs-setfcap-of-writer")
@lie(NO_LOSS)
def test_to_map_root_the_writer_above_needs_cap_setfcap(parent: Process) -> None:
    own_namespaces(parent, CLONE_NEWUSER, root=True)
    writer = parent.fork("writer")
    lose_capabilities(writer, "SETFCAP")
    path = f"/proc/{new_member(parent).pid}/uid_map"
    with fails(EPERM):
        writer.write_to(path, b"0 0 1")
    parent.write_to(path, b"0 0 1")


@clause("user_namespaces.7/map-of-outer-root-needs-setfcap-of-creator")
@lie(NO_LOSS)
def test_to_map_root_from_inside_the_maker_needs_cap_setfcap(parent: Process) -> None:
    own_namespaces(parent, CLONE_NEWUSER, root=True)
    lacks, has = parent.fork("lacks"), parent.fork("has")
    lose_capabilities(lacks, "SETFCAP")
    lacks.sys.unshare(CLONE_NEWUSER)
    has.sys.unshare(CLONE_NEWUSER)
    with fails(EPERM):
        lacks.write_to(UIDS, b"5 0 1")
    has.write_to(UIDS, b"5 0 1")


@clause("user_namespaces.7/map-arbitrary-with-setuid-in-parent")
@lie(NOTHING)
def test_with_cap_setuid_above_any_ids_are_mapped(parent: Process) -> None:
    path = f"/proc/{new_member(parent).pid}/uid_map"
    parent.write_to(path, b"0 100000 65536\n70000 300000 10")
    assert ranges(parent, path) == [[0, 100000, 65536], [70000, 300000, 10]]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("0 {0} 2", id="two ids"),
        pytest.param("0 {1} 1", id="another id"),
        pytest.param("0 {0} 1\n1 {1} 1", id="two lines"),
    ],
)
@clause("user_namespaces.7/map-single-line-without-privilege")
@lie(NOTHING)
def test_without_privilege_just_the_own_id_is_mapped(parent: Process, text: str) -> None:
    become_ordinary(parent, owns_its_files=True)
    user = parent.sys.geteuid()
    member = new_member(parent)
    with fails(EPERM):
        parent.write_to(f"/proc/{member.pid}/uid_map", text.format(user, user + 1).encode())
    with fails(EPERM):
        member.write_to(UIDS, text.format(user, user + 1).encode())
    member.write_to(UIDS, b"7 %d 1" % user)


@clause("user_namespaces.7/map-same-effective-uid-as-creator")
@lie(leaves_out("setresuid"))
def test_a_stranger_does_not_write_a_map(parent: Process) -> None:
    owner, mate, stranger = parent.fork("owner"), parent.fork("mate"), parent.fork("stranger")
    become_ordinary(owner, owns_its_files=True)
    become_ordinary(mate, owns_its_files=True)
    stranger.sys.setresuid(SOMEBODY + 1, SOMEBODY + 1, SOMEBODY + 1)
    path = f"/proc/{new_member(owner).pid}/uid_map"
    with fails(EACCES):
        stranger.sys.openat(AT_FDCWD, path, O_WRONLY)
    mate.write_to(path, b"0 %d 1" % SOMEBODY)


@clause("user_namespaces.7/projid-map-empty-write-once")
@lie(NOTHING)
def test_a_map_of_projects_is_written_without_privilege(parent: Process) -> None:
    expect_ids(parent, PROJECTS)
    parent.sys.unshare(CLONE_NEWUSER)
    parent.sys.capset(0, 0, 0)
    with fails(EINVAL):
        parent.write_to(PROJECTS, b"0 0 10\n5 100 10")
    parent.write_to(PROJECTS, b"0 0 1")
    with fails(EPERM):
        parent.write_to(PROJECTS, b"0 0 1")


# --- setgroups ---


@clause("user_namespaces.7/gid-map-needs-setgroups-deny")
@lie(NOTHING)
def test_without_privilege_groups_are_mapped_only_after_deny(parent: Process) -> None:
    expect_setgroups(parent)
    become_ordinary(parent, owns_its_files=True)
    group = parent.sys.getegid()
    parent.sys.unshare(CLONE_NEWUSER)
    with fails(EPERM):
        parent.write_to(GIDS, b"0 %d 1" % group)
    parent.write_to(SETGROUPS, b"deny")
    parent.write_to(GIDS, b"0 %d 1" % group)


@clause("user_namespaces.7/setgroups-file-writable-before-gid-map")
@lie(NOTHING)
def test_allow_and_then_deny_can_be_written(parent: Process) -> None:
    expect_setgroups(parent)
    parent.sys.unshare(CLONE_NEWUSER)
    parent.write_to(SETGROUPS, b"allow")
    assert lines_of(parent, SETGROUPS) == [b"allow"]
    parent.write_to(SETGROUPS, b"deny")
    assert lines_of(parent, SETGROUPS) == [b"deny"]


@clause("user_namespaces.7/setgroups-call-needs-gid-map")
@lie(leaves_out("setgroups"))
def test_without_a_map_of_groups_there_is_no_setgroups(parent: Process) -> None:
    member = new_member(parent)
    assert lines_of(member, SETGROUPS) == [b"allow"]
    with fails(EPERM):
        member.sys.setgroups([0])
    parent.write_to(f"/proc/{member.pid}/gid_map", b"0 0 10")
    member.sys.setgroups([9])
    assert member.sys.getgroups() == (9,)


@clause("user_namespaces.7/setgroups-deny-disables-call")
@lie(leaves_out("setgroups"))
def test_after_deny_there_is_no_setgroups(parent: Process) -> None:
    enter_user_namespace(parent, 7, 8)
    with fails(EPERM):
        parent.sys.setgroups([])
    with fails(EPERM):
        parent.fork().sys.setgroups([])


@clause("user_namespaces.7/setgroups-write-needs-sys-admin")
@lie(NO_LOSS)
def test_to_write_deny_takes_cap_sys_admin(parent: Process) -> None:
    parent.sys.unshare(CLONE_NEWUSER)
    lose_capabilities(parent, "SYS_ADMIN")
    with fails(EACCES):
        parent.write_to(SETGROUPS, b"deny")


@clause("user_namespaces.7/setgroups-deny-after-gid-map-refused")
@lie(NOTHING)
def test_after_the_map_of_groups_deny_is_refused(parent: Process) -> None:
    member = new_member(parent)
    parent.write_to(f"/proc/{member.pid}/gid_map", b"0 0 10")
    with fails(EPERM):
        member.write_to(SETGROUPS, b"deny")


@clause("user_namespaces.7/setgroups-allow-after-deny-refused")
@lie(NOTHING)
def test_after_deny_allow_is_refused(parent: Process) -> None:
    parent.sys.unshare(CLONE_NEWUSER)
    parent.write_to(SETGROUPS, b"deny")
    with fails(EPERM):
        parent.write_to(SETGROUPS, b"allow")


@clause(
    "user_namespaces.7/setgroups-inherited-by-child-namespace",
    "user_namespaces.7/setgroups-allow-after-deny-refused",
)
@lie(drops(CLONE_NEWUSER), leaves_out("unshare"))
def test_deny_holds_in_namespaces_below(parent: Process) -> None:
    enter_user_namespace(parent, 7, 8)
    member = new_member(parent)
    assert lines_of(member, SETGROUPS) == [b"deny"]
    assert lines_of(member, UIDS) == []
    with fails(EPERM):
        member.write_to(SETGROUPS, b"allow")


@clause("user_namespaces.7/setgroups-bad-word-refused")
@lie(NOTHING)
def test_no_other_word_is_taken(parent: Process) -> None:
    parent.sys.unshare(CLONE_NEWUSER)
    with fails(EINVAL):
        parent.write_to(SETGROUPS, b"maybe")
