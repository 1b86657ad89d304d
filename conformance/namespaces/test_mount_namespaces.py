"""mount_namespaces(7): lists of mounts, what spreads from one to another, and what is locked.

Each check has a mount namespace of its own first, from which no mount reaches the machine's.
"""

from __future__ import annotations

import pytest

from pytest_procsemantics import Process, Target, clause
from pytest_procsemantics.driven import Observer, fails
from pytest_procsemantics.driven.constants import (
    CLONE_NEWNS,
    CLONE_NEWUSER,
    EBUSY,
    EINVAL,
    EPERM,
    MNT_DETACH,
    MS_BIND,
    MS_NOATIME,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
    MS_SHARED,
    MS_SLAVE,
    MS_STRICTATIME,
    MS_UNBINDABLE,
    NS_GET_USERNS,
    SIGCHLD,
)
from pytest_procsemantics.lies import drops, in_child, leaves_out, lie, passes
from pytest_procsemantics.requirements import open_namespace, private_mounts

STAYS = leaves_out("unshare")
PRIVATE_AGAIN = passes(
    "a mount is private", "mount", 3, lambda flags: MS_PRIVATE if flags == MS_SHARED else flags
)


class Mounts:
    """A folder in which a process mounts, and the lists of mounts that others have of it."""

    def __init__(self, parent: Process, target: Target) -> None:
        private_mounts(parent, root=True)
        self.top = f"{target.folder()}/top"
        parent.sys.mkdir(self.top)
        parent.sys.mount("tmpfs", self.top, "tmpfs")
        for name in ("a", "b"):
            parent.sys.mkdir(f"{self.top}/{name}")

    def tags(self, process: Process) -> dict[str, str]:
        """Where something is mounted in the folder, and how it spreads, as a process sees it."""
        lines = Observer(process).read("/proc/self/mountinfo").decode().splitlines()
        fields = [line.split() for line in lines]
        return {
            words[4].removeprefix(self.top): " ".join(words[6 : words.index("-")])
            for words in fields
            if words[4].startswith(self.top)
        }

    def tag(self, process: Process, name: str = "") -> str:
        """How one of them spreads: shared:N, master:N, unbindable, or nothing where it is private."""
        return self.tags(process).get(name, "nothing is mounted")


@pytest.fixture
def mounts(parent: Process, target: Target) -> Mounts:
    """A mount of the parent's with two folders, a and b."""
    return Mounts(parent, target)


def mount_at(process: Process, mounts: Mounts, name: str) -> None:
    process.sys.mount("tmpfs", f"{mounts.top}/{name}", "tmpfs")


def spread(process: Process, mounts: Mounts, type: int) -> None:
    """Let the mount spread what is mounted below it in another way."""
    process.sys.mount(None, mounts.top, None, type)


# --- lists ---


@clause("mount_namespaces.7/mount-lists-isolated")
@lie(STAYS)
def test_two_namespaces_have_different_mounts(parent: Process, mounts: Mounts) -> None:
    one, other = parent.fork("one"), parent.fork("other")
    one.sys.unshare(CLONE_NEWNS)
    other.sys.unshare(CLONE_NEWNS)
    mount_at(one, mounts, "a")
    mount_at(other, mounts, "b")
    assert set(mounts.tags(one)) == {"", "/a"}
    assert set(mounts.tags(other)) == {"", "/b"}


@pytest.mark.parametrize("file", ["mounts", "mountinfo", "mountstats"])
@clause("mount_namespaces.7/proc-files-show-namespace-of-pid")
@lie(STAYS)
def test_the_files_of_a_process_show_its_mounts(parent: Process, mounts: Mounts, file: str) -> None:
    member = parent.fork("member")
    member.sys.unshare(CLONE_NEWNS)
    mount_at(member, mounts, "a")
    assert f"{mounts.top}/a ".encode() in Observer(parent).read(f"/proc/{member.pid}/{file}")
    assert f"{mounts.top}/a ".encode() not in Observer(parent).read(f"/proc/self/{file}")


@clause("mount_namespaces.7/members-see-the-same")
@lie(in_child("it leaves", lambda child: child.sys.unshare(CLONE_NEWNS)), STAYS)
def test_all_members_see_the_same(parent: Process, mounts: Mounts) -> None:
    member = parent.fork("member")
    member.sys.unshare(CLONE_NEWNS)
    mount_at(member.fork("another"), mounts, "a")
    assert set(mounts.tags(member)) == {"", "/a"}
    assert set(mounts.tags(parent)) == {""}


@clause("mount_namespaces.7/copied-mounts-have-new-ids")
@lie(STAYS)
def test_copies_have_ids_of_their_own(parent: Process, mounts: Mounts) -> None:
    member = parent.fork("member")
    member.sys.unshare(CLONE_NEWNS)
    assert not ids(member) & ids(parent)


def ids(process: Process) -> set[bytes]:
    """The ids of the mounts that a process sees."""
    lines = Observer(process).read("/proc/self/mountinfo").splitlines()
    return {line.split()[0] for line in lines}


@clause(
    "mount_namespaces.7/later-changes-do-not-show",
    "mount_namespaces.7/private-mount-does-not-propagate",
)
@lie(STAYS)
def test_below_a_private_mount_nothing_spreads(parent: Process, mounts: Mounts) -> None:
    member = parent.fork("member")
    member.sys.unshare(CLONE_NEWNS)
    mount_at(member, mounts, "a")
    mount_at(parent, mounts, "b")
    assert set(mounts.tags(member)) == {"", "/a"}
    assert set(mounts.tags(parent)) == {"", "/b"}
    member.sys.umount2(f"{mounts.top}/a", 0)
    assert set(mounts.tags(parent)) == {"", "/b"}


@clause("mount_namespaces.7/root-and-cwd-follow-to-copies")
@lie(STAYS)
def test_the_working_directory_is_in_the_copy(parent: Process, mounts: Mounts) -> None:
    member = parent.fork("member")
    member.sys.chdir(mounts.top)
    member.sys.unshare(CLONE_NEWNS)
    with fails(EBUSY):
        member.sys.umount2(mounts.top, 0)
    member.sys.chdir("/")
    member.sys.umount2(mounts.top, 0)
    assert (set(mounts.tags(member)), set(mounts.tags(parent))) == (set(), {""})


@clause("mount_namespaces.7/mount-point-of-other-namespace-removable")
@lie(STAYS)
def test_a_mount_point_of_another_namespace_can_be_removed(parent: Process, mounts: Mounts) -> None:
    member = parent.fork("member")
    member.sys.unshare(CLONE_NEWNS)
    mount_at(member, mounts, "a")
    assert parent.sys.rmdir(f"{mounts.top}/a") == 0
    assert set(mounts.tags(member)) == {""}


@clause("mount_namespaces.7/mount-point-of-own-namespace-busy")
@lie(leaves_out("mount"))
def test_a_mount_point_of_the_own_namespace_is_busy(parent: Process, mounts: Mounts) -> None:
    mount_at(parent, mounts, "a")
    with fails(EBUSY):
        parent.sys.rmdir(f"{mounts.top}/a")


# --- what spreads ---


@clause(
    "mount_namespaces.7/shared-mount-propagates-to-copy",
    "mount_namespaces.7/copy-keeps-propagation-type",
)
@lie(PRIVATE_AGAIN)
def test_below_a_shared_mount_all_spreads_both_ways(parent: Process, mounts: Mounts) -> None:
    spread(parent, mounts, MS_SHARED)
    member = parent.clone(CLONE_NEWNS | SIGCHLD, name="member")
    assert mounts.tag(member) == mounts.tag(parent) != ""
    mount_at(member, mounts, "a")
    mount_at(parent, mounts, "b")
    assert set(mounts.tags(member)) == set(mounts.tags(parent)) == {"", "/a", "/b"}
    member.sys.umount2(f"{mounts.top}/b", 0)
    assert set(mounts.tags(parent)) == {"", "/a"}


@clause("mount_namespaces.7/slave-mount-receives-only")
@lie(
    passes("it stays shared", "mount", 3, lambda flags: MS_SHARED if flags == MS_SLAVE else flags),
    passes("it is private", "mount", 3, lambda flags: MS_PRIVATE if flags == MS_SLAVE else flags),
)
def test_a_slave_receives_and_sends_nothing(parent: Process, mounts: Mounts) -> None:
    spread(parent, mounts, MS_SHARED)
    member = parent.clone(CLONE_NEWNS | SIGCHLD, name="member")
    spread(member, mounts, MS_SLAVE)
    mount_at(member, mounts, "a")
    mount_at(parent, mounts, "b")
    assert set(mounts.tags(member)) == {"", "/a", "/b"}
    assert set(mounts.tags(parent)) == {"", "/b"}


@clause("mount_namespaces.7/copy-of-slave-is-slave")
@lie(passes("it is private", "mount", 3, lambda flags: MS_PRIVATE if flags == MS_SLAVE else flags))
def test_the_copy_of_a_slave_has_the_same_master(parent: Process, mounts: Mounts) -> None:
    spread(parent, mounts, MS_SHARED)
    tag = mounts.tag(parent)
    member = parent.clone(CLONE_NEWNS | SIGCHLD, name="member")
    spread(member, mounts, MS_SLAVE)
    inner = member.clone(CLONE_NEWNS | SIGCHLD, name="inner")
    master = tag.replace("shared:", "master:")
    assert mounts.tag(inner) == mounts.tag(member) == master != tag


@clause("mount_namespaces.7/rprivate-stops-propagation")
@lie(leaves_out("mount"))
def test_made_slaves_all_mounts_send_nothing(parent: Process, mounts: Mounts) -> None:
    spread(parent, mounts, MS_SHARED)
    member = parent.clone(CLONE_NEWNS | SIGCHLD, name="member")
    member.sys.mount(None, "/", None, MS_SLAVE | MS_REC)
    mount_at(member, mounts, "a")
    assert set(mounts.tags(member)) == {"", "/a"}
    assert set(mounts.tags(parent)) == {""}


@clause("mount_namespaces.7/mountinfo-tags")
@lie(leaves_out("mount"))
def test_mountinfo_tells_how_a_mount_spreads(parent: Process, mounts: Mounts) -> None:
    assert mounts.tag(parent) == ""
    spread(parent, mounts, MS_UNBINDABLE)
    assert mounts.tag(parent) == "unbindable"
    spread(parent, mounts, MS_SHARED)
    tag = mounts.tag(parent)
    assert tag.startswith("shared:")
    parent.clone(CLONE_NEWNS | SIGCHLD, name="peer")
    spread(parent, mounts, MS_SLAVE)
    assert mounts.tag(parent) == tag.replace("shared:", "master:")


@clause("mount_namespaces.7/new-mount-below-shared-is-shared")
@lie(PRIVATE_AGAIN)
def test_a_mount_below_a_shared_one_is_shared(parent: Process, mounts: Mounts) -> None:
    mount_at(parent, mounts, "a")
    spread(parent, mounts, MS_SHARED)
    mount_at(parent, mounts, "b")
    assert mounts.tag(parent, "/a") == ""
    assert mounts.tag(parent, "/b").startswith("shared:")


@clause("mount_namespaces.7/unbindable-refuses-bind")
@lie(passes("it is private", "mount", 3, lambda f: MS_PRIVATE if f == MS_UNBINDABLE else f))
def test_an_unbindable_mount_is_not_bound(parent: Process, target: Target, mounts: Mounts) -> None:
    other = f"{target.folder()}/other"
    parent.sys.mkdir(other)
    spread(parent, mounts, MS_UNBINDABLE)
    with fails(EINVAL):
        parent.sys.mount(mounts.top, other, None, MS_BIND)
    spread(parent, mounts, MS_PRIVATE)
    parent.sys.mount(mounts.top, other, None, MS_BIND)


@clause("mount_namespaces.7/unbindable-mount-copied")
def test_the_copy_of_an_unbindable_mount_is_unbindable(parent: Process, mounts: Mounts) -> None:
    spread(parent, mounts, MS_UNBINDABLE)
    member = parent.clone(CLONE_NEWNS | SIGCHLD, name="member")
    assert mounts.tag(member) == "unbindable"


@clause("mount_namespaces.7/peer-group-left-when-namespace-ends")
@lie(
    passes("a slave is private", "mount", 3, lambda f: MS_PRIVATE if f == MS_SLAVE else f),
)
def test_with_its_namespace_a_mount_leaves_its_group(parent: Process, mounts: Mounts) -> None:
    spread(parent, mounts, MS_SHARED)
    member = parent.clone(CLONE_NEWNS | SIGCHLD, name="member")
    spread(parent, mounts, MS_SLAVE)
    assert mounts.tag(parent).startswith("master:")
    member.exit()
    member.wait_for_exit()
    parent.target.wait_until(lambda: not mounts.tag(parent), "the mount to be alone")


# --- less privileged ---


def less_privileged(parent: Process) -> Process:
    """A child with mounts that another user namespace owns, in which it is privileged."""
    return parent.clone(CLONE_NEWUSER | CLONE_NEWNS | SIGCHLD, name="member")


@clause("mount_namespaces.7/other-owner-is-less-privileged")
@lie(drops(CLONE_NEWUSER))
def test_the_copy_belongs_to_another_user_namespace(parent: Process, mounts: Mounts) -> None:
    member = less_privileged(parent)
    mine = parent.sys.ioctl(open_namespace(parent, parent, "mnt"), NS_GET_USERNS)
    other = parent.sys.ioctl(open_namespace(parent, member, "mnt"), NS_GET_USERNS)
    assert parent.sys.fstat(mine).ino != parent.sys.fstat(other).ino


@clause(
    "mount_namespaces.7/shared-reduced-to-slave",
    "mount_namespaces.7/less-privileged-mounts-do-not-propagate-back",
)
@lie(drops(CLONE_NEWUSER))
def test_less_privileged_a_shared_mount_is_a_slave(parent: Process, mounts: Mounts) -> None:
    spread(parent, mounts, MS_SHARED)
    tag = mounts.tag(parent)
    member = less_privileged(parent)
    assert mounts.tag(member) == tag.replace("shared:", "master:") != tag
    mount_at(member, mounts, "a")
    mount_at(parent, mounts, "b")
    assert set(mounts.tags(member)) == {"", "/a", "/b"}
    assert set(mounts.tags(parent)) == {"", "/b"}


@clause("mount_namespaces.7/locked-mount-cannot-be-unmounted")
@lie(drops(CLONE_NEWUSER))
def test_less_privileged_no_single_mount_is_taken_off(parent: Process, mounts: Mounts) -> None:
    member = less_privileged(parent)
    with fails(EINVAL):
        member.sys.umount2(mounts.top, 0)
    with fails(EINVAL):
        member.sys.umount2(mounts.top, MNT_DETACH)


@clause("mount_namespaces.7/stacking-on-locked-mount-allowed")
@lie(leaves_out("mount"), drops(CLONE_NEWUSER))
def test_less_privileged_a_mount_goes_on_top_and_off_again(parent: Process, mounts: Mounts) -> None:
    member = less_privileged(parent)
    mount_at(member, mounts, "")
    assert member.sys.umount2(mounts.top, 0) == 0
    with fails(EINVAL):
        member.sys.umount2(mounts.top, 0)


@clause("mount_namespaces.7/whole-unit-may-be-unmounted")
@lie(drops(CLONE_NEWUSER))
def test_less_privileged_what_came_as_one_goes_as_one(
    parent: Process, target: Target, mounts: Mounts
) -> None:
    unit = f"{target.folder()}/unit"
    parent.sys.mkdir(unit)
    parent.sys.mount("tmpfs", unit, "tmpfs")
    parent.sys.mkdir(f"{unit}/inner")
    parent.sys.mount("tmpfs", f"{unit}/inner", "tmpfs")
    spread(parent, mounts, MS_SHARED)
    member = less_privileged(parent)
    parent.sys.mount(unit, f"{mounts.top}/a", None, MS_BIND | MS_REC)
    assert set(mounts.tags(member)) == {"", "/a", "/a/inner"}
    with fails(EINVAL):
        member.sys.umount2(f"{mounts.top}/a/inner", 0)
    member.sys.umount2(f"{mounts.top}/a", MNT_DETACH)
    assert set(mounts.tags(member)) == {""}


@pytest.mark.parametrize(
    ("first", "then"),
    [
        pytest.param(
            MS_RDONLY, 0, marks=clause("mount_namespaces.7/locked-readonly-flag"), id="readonly"
        ),
        pytest.param(
            MS_NOSUID | MS_NOEXEC,
            MS_NOEXEC,
            marks=clause("mount_namespaces.7/locked-nosuid-and-noexec-flags"),
            id="nosuid",
        ),
        pytest.param(
            MS_NOSUID | MS_NOEXEC,
            MS_NOSUID,
            marks=clause("mount_namespaces.7/locked-nosuid-and-noexec-flags"),
            id="noexec",
        ),
        pytest.param(
            MS_NOATIME,
            MS_STRICTATIME,
            marks=clause("mount_namespaces.7/locked-atime-flags"),
            id="noatime",
        ),
    ],
)
@lie(drops(CLONE_NEWUSER))
def test_less_privileged_a_mount_keeps_its_flags(
    parent: Process, mounts: Mounts, first: int, then: int
) -> None:
    parent.sys.mount(None, mounts.top, None, MS_REMOUNT | MS_BIND | first)
    member = less_privileged(parent)
    with fails(EPERM):
        member.sys.mount(None, mounts.top, None, MS_REMOUNT | MS_BIND | then)
    member.sys.mount(None, mounts.top, None, MS_REMOUNT | MS_BIND | first)
