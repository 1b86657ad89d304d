"""setns(2): the privilege that it takes, and when a kind cannot be joined."""

from __future__ import annotations

import pytest

from pytest_procsemantics import Process, clause
from pytest_procsemantics.alike import by_kind
from pytest_procsemantics.driven import fails
from pytest_procsemantics.driven.constants import (
    CLONE_FS,
    CLONE_NEWNS,
    CLONE_NEWTIME,
    CLONE_NEWUSER,
    EINVAL,
    EPERM,
    EUSERS,
    SIGCHLD,
)
from pytest_procsemantics.lies import drops, every_child, leaves_out, lie
from pytest_procsemantics.requirements import lose_capabilities, open_namespace, own_namespaces
from pytest_procsemantics.requirements.surroundings import SOMEBODY

STAYS = leaves_out("setns")
NO_THREAD = every_child(SIGCHLD)
STRANGER = SOMEBODY + 1


def new_owner(parent: Process, flag: int) -> Process:
    """A child in a new namespace that belongs to its user namespace."""
    own_namespaces(parent, flag)
    return parent.fork("owner")


@by_kind(
    cgroup="setns.2/cgroup-needs-sys-admin",
    ipc="setns.2/others-need-sys-admin",
    mnt="setns.2/mount-needs-sys-admin",
    net="setns.2/others-need-sys-admin",
    pid="setns.2/pid-needs-sys-admin",
    time="setns.2/others-need-sys-admin",
    uts="setns.2/others-need-sys-admin",
)
@lie(STAYS, leaves_out("capset"))
def test_to_join_takes_cap_sys_admin(parent: Process, kind: str, flag: int) -> None:
    owner = new_owner(parent, flag)
    descriptor = open_namespace(owner, owner, kind)
    owner.sys.setns(descriptor, flag)
    lose_capabilities(owner, "SYS_ADMIN")
    with fails(EPERM):
        owner.sys.setns(descriptor, flag)


@clause("setns.2/mount-needs-sys-chroot")
@lie(STAYS, leaves_out("capset"))
def test_to_join_a_mount_namespace_takes_cap_sys_chroot(parent: Process) -> None:
    own_namespaces(parent, CLONE_NEWNS)
    descriptor = open_namespace(parent, parent, "mnt")
    parent.sys.setns(descriptor, CLONE_NEWNS)
    lose_capabilities(parent, "SYS_CHROOT")
    with fails(EPERM):
        parent.sys.setns(descriptor, CLONE_NEWNS)


@by_kind(
    cgroup="setns.2/cgroup-needs-sys-admin-in-owner",
    ipc="setns.2/others-need-sys-admin-in-owner",
    mnt="setns.2/mount-needs-sys-admin-in-owner",
    net="setns.2/others-need-sys-admin-in-owner",
    pid="setns.2/pid-needs-sys-admin-in-owner",
    time="setns.2/others-need-sys-admin-in-owner",
    uts="setns.2/others-need-sys-admin-in-owner",
)
@lie(drops(CLONE_NEWUSER))
def test_capabilities_in_a_lower_user_namespace_do_not_suffice(
    parent: Process, kind: str, flag: int
) -> None:
    member = new_owner(parent, flag).clone(CLONE_NEWUSER | SIGCHLD, name="member")
    with fails(EPERM):
        member.sys.setns(open_namespace(member, member, kind), flag)


@pytest.mark.parametrize("kind", ["cgroup", "ipc", "mnt", "net", "pid", "time", "uts"])
@clause("setns.2/eperm-without-capability")
@lie(STAYS)
def test_without_privilege_not_even_the_own_namespace_is_joined(parent: Process, kind: str) -> None:
    parent.sys.capset(0, 0, 0)
    with fails(EPERM):
        parent.sys.setns(open_namespace(parent, parent, kind), 0)


# --- shared parts and threads ---


@clause("setns.2/mount-refused-with-shared-fs")
@lie(drops(CLONE_FS))
def test_who_shares_filesystem_attributes_joins_no_mount_namespace(parent: Process) -> None:
    own_namespaces(parent, CLONE_NEWNS)
    child = parent.clone(CLONE_FS | SIGCHLD)
    descriptor = open_namespace(child, parent, "mnt")
    with fails(EINVAL):
        child.sys.setns(descriptor, CLONE_NEWNS)
    child.sys.unshare(CLONE_FS)
    assert child.sys.setns(descriptor, CLONE_NEWNS) == 0


@clause("setns.2/user-refused-with-shared-fs")
@lie(drops(CLONE_FS))
def test_who_shares_filesystem_attributes_joins_no_user_namespace(parent: Process) -> None:
    member = parent.clone(CLONE_NEWUSER | SIGCHLD, name="member")
    descriptor = open_namespace(parent, member, "user")
    child = parent.clone(CLONE_FS | SIGCHLD)
    with fails(EINVAL):
        child.sys.setns(descriptor, CLONE_NEWUSER)
    child.sys.unshare(CLONE_FS)
    assert child.sys.setns(descriptor, CLONE_NEWUSER) == 0


@clause("setns.2/user-refused-for-threads")
@lie(NO_THREAD)
def test_with_a_second_thread_no_user_namespace_is_joined(parent: Process) -> None:
    member = parent.fork("member")
    member.sys.unshare(CLONE_NEWUSER)
    descriptor = open_namespace(parent, member, "user")
    thread = parent.thread()
    with fails(EINVAL):
        parent.sys.setns(descriptor, CLONE_NEWUSER)
    thread.exit_thread()
    assert parent.sys.setns(descriptor, CLONE_NEWUSER) == 0


@clause("setns.2/time-refused-for-threads")
@lie(NO_THREAD)
def test_with_a_second_thread_no_time_namespace_is_joined(parent: Process) -> None:
    own_namespaces(parent, CLONE_NEWTIME)
    descriptor = open_namespace(parent, parent, "time_for_children")
    thread = parent.thread()
    with fails(EUSERS):
        parent.sys.setns(descriptor, CLONE_NEWTIME)
    thread.exit_thread()
    assert parent.sys.setns(descriptor, CLONE_NEWTIME) == 0


# --- user namespaces ---


@clause("setns.2/user-reenter-refused")
@lie(STAYS)
def test_the_own_user_namespace_is_not_entered_again(parent: Process) -> None:
    own_namespaces(parent, CLONE_NEWUSER)
    parent.sys.capset(0, 0, 0)
    with fails(EINVAL):
        parent.sys.setns(open_namespace(parent, parent, "user"), CLONE_NEWUSER)
    assert parent.sys.capget().effective == 0


@clause("setns.2/user-only-descendants")
@lie(drops(CLONE_NEWUSER))
def test_neither_a_parent_nor_a_sibling_user_namespace_is_joined(parent: Process) -> None:
    own_namespaces(parent, CLONE_NEWUSER)
    upper = open_namespace(parent, parent, "user")
    sibling = parent.fork("sibling")
    sibling.sys.unshare(CLONE_NEWUSER)
    aside = open_namespace(parent, sibling, "user")
    child = parent.clone(CLONE_NEWUSER | SIGCHLD)
    with fails(EPERM):
        child.sys.setns(aside, CLONE_NEWUSER)
    with fails(EPERM):
        child.sys.setns(upper, CLONE_NEWUSER)


@clause("setns.2/user-needs-sys-admin-in-target", "user_namespaces.7/owner-has-all-capabilities")
@lie(STAYS)
def test_a_stranger_may_not_join_a_user_namespace(parent: Process) -> None:
    owner = parent.fork("owner")
    owner.sys.setresuid(SOMEBODY, SOMEBODY, SOMEBODY)
    owner.sys.unshare(CLONE_NEWUSER)
    descriptor = open_namespace(parent, owner, "user")
    mate, stranger = parent.fork("mate"), parent.fork("stranger")
    mate.sys.setresuid(SOMEBODY, SOMEBODY, SOMEBODY)
    stranger.sys.setresuid(STRANGER, STRANGER, STRANGER)
    with fails(EPERM):
        stranger.sys.setns(descriptor, CLONE_NEWUSER)
    assert mate.sys.setns(descriptor, CLONE_NEWUSER) == 0


@clause("setns.2/user-gives-all-capabilities")
@lie(STAYS)
def test_who_joins_a_user_namespace_has_all_capabilities_in_it(parent: Process) -> None:
    member = parent.clone(CLONE_NEWUSER | SIGCHLD, name="member")
    parent.sys.capset(0, 0, 0)
    parent.sys.setns(open_namespace(parent, member, "user"), CLONE_NEWUSER)
    assert parent.sys.capget() == member.sys.capget()
    assert parent.sys.capget().effective > 0
