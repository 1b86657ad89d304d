"""ioctl_ns(2): which namespace owns another, which is its parent, what kind it is."""

from __future__ import annotations

import pytest

from pytest_procsemantics import Process, clause
from pytest_procsemantics.alike import NAMESPACES
from pytest_procsemantics.driven import fails
from pytest_procsemantics.driven.constants import (
    AT_FDCWD,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    EINVAL,
    ENOTTY,
    EPERM,
    F_GETFD,
    F_GETFL,
    FD_CLOEXEC,
    NS_GET_NSTYPE,
    NS_GET_OWNER_UID,
    NS_GET_PARENT,
    NS_GET_USERNS,
    O_ACCMODE,
    O_RDONLY,
    SIGCHLD,
)
from pytest_procsemantics.lies import drops, leaves_out, lie, passes
from pytest_procsemantics.requirements import open_namespace, own_namespaces
from pytest_procsemantics.requirements.surroundings import SOMEBODY

STAYS = leaves_out("ioctl")
KEEPS_USER = drops(CLONE_NEWUSER)


def inode(process: Process, descriptor: int) -> int:
    """What tells a namespace from all others, by a descriptor of it."""
    return int(process.sys.fstat(descriptor).ino)


def inode_of(process: Process, member: Process, kind: str) -> int:
    """The same, by a member of it."""
    return inode(process, open_namespace(process, member, kind))


def asked(process: Process, member: Process, kind: str, request: int) -> int:
    """What a request about a member's namespace gives."""
    return int(process.sys.ioctl(open_namespace(process, member, kind), request))


@pytest.mark.parametrize(
    ("kind", "flag"),
    [
        pytest.param("ipc", CLONE_NEWIPC, id="ipc"),
        pytest.param("mnt", CLONE_NEWNS, id="mnt"),
        pytest.param("net", CLONE_NEWNET, id="net"),
        pytest.param("pid", CLONE_NEWPID, id="pid"),
        pytest.param("uts", CLONE_NEWUTS, id="uts"),
    ],
)
@clause("ioctl_ns.2/get-userns-gives-owner", "user_namespaces.7/user-namespace-made-first")
@lie(KEEPS_USER)
def test_a_namespace_made_with_a_user_namespace_belongs_to_that(
    parent: Process, kind: str, flag: int
) -> None:
    own_namespaces(parent, CLONE_NEWUSER)
    member = parent.clone(CLONE_NEWUSER | flag | SIGCHLD, name="member")
    owner = asked(parent, member, kind, NS_GET_USERNS)
    assert inode(parent, owner) == inode_of(parent, member, "user")
    assert inode(parent, owner) != inode_of(parent, parent, "user")


@pytest.mark.parametrize("kind", ["cgroup", "ipc", "mnt", "net", "pid", "time", "uts"])
@clause("user_namespaces.7/nonuser-owned-by-creators-user-namespace")
@lie(
    passes(
        "a user namespace as well",
        "unshare",
        0,
        lambda flags: flags if flags & CLONE_NEWUSER else flags | CLONE_NEWUSER,
    )
)
def test_a_namespace_belongs_to_the_user_namespace_of_its_maker(parent: Process, kind: str) -> None:
    own_namespaces(parent, CLONE_NEWUSER)
    member = parent.fork("member")
    member.sys.unshare(NAMESPACES[kind])
    inner = member.fork("inner")
    owner = asked(parent, inner, kind, NS_GET_USERNS)
    assert inode(parent, owner) == inode_of(parent, parent, "user")


@clause("user_namespaces.7/owner-cannot-change")
@lie(passes("one's own of that kind too", "unshare", 0, CLONE_NEWUSER | CLONE_NEWUTS))
def test_a_namespace_stays_with_its_owner_when_a_member_moves_on(parent: Process) -> None:
    own_namespaces(parent, CLONE_NEWUSER | CLONE_NEWUTS)
    member = parent.fork("member")
    member.sys.unshare(CLONE_NEWUSER)
    owner = asked(parent, member, "uts", NS_GET_USERNS)
    assert inode(parent, owner) == inode_of(parent, parent, "user")
    with fails(EPERM):
        member.sys.sethostname(b"member")


@clause(
    "ioctl_ns.2/get-parent-of-pid-and-user",
    "pid_namespaces.7/parent-is-creators-namespace",
    "pid_namespaces.7/ns-get-parent-shows-parent",
)
@lie(drops(CLONE_NEWPID))
def test_the_parent_of_a_pid_namespace_is_its_makers(parent: Process) -> None:
    own_namespaces(parent, 0)
    maker = parent.clone(CLONE_NEWPID | SIGCHLD, name="maker")
    member = maker.clone(CLONE_NEWPID | SIGCHLD, name="member")
    above = asked(parent, member, "pid", NS_GET_PARENT)
    assert inode(parent, above) == inode_of(parent, maker, "pid")
    assert inode(parent, above) != inode_of(parent, member, "pid")


@clause("pid_namespaces.7/parent-is-creators-namespace")
@lie(leaves_out("unshare"))
def test_the_parent_of_an_unshared_pid_namespace_is_the_callers(parent: Process) -> None:
    own_namespaces(parent, 0)
    maker = parent.clone(CLONE_NEWPID | SIGCHLD, name="maker")
    maker.sys.unshare(CLONE_NEWPID)
    above = asked(parent, maker.fork(), "pid", NS_GET_PARENT)
    assert inode(parent, above) == inode_of(parent, maker, "pid")


@clause(
    "ioctl_ns.2/get-parent-of-pid-and-user",
    "user_namespaces.7/parent-is-creators-namespace",
    "user_namespaces.7/ns-get-parent-shows-parent",
)
@lie(KEEPS_USER)
def test_the_parent_of_a_user_namespace_is_its_makers(parent: Process) -> None:
    own_namespaces(parent, CLONE_NEWUSER)
    member = parent.clone(CLONE_NEWUSER | SIGCHLD, name="member")
    above = asked(parent, member, "user", NS_GET_PARENT)
    assert inode(parent, above) == inode_of(parent, parent, "user")


@clause("user_namespaces.7/parent-is-creators-namespace")
@lie(leaves_out("unshare"))
def test_the_parent_of_an_unshared_user_namespace_is_the_one_before(parent: Process) -> None:
    own_namespaces(parent, CLONE_NEWUSER)
    maker = parent.fork("maker")
    maker.sys.unshare(CLONE_NEWUSER)
    above = asked(parent, maker, "user", NS_GET_PARENT)
    assert inode(parent, above) == inode_of(parent, parent, "user")


@clause("ioctl_ns.2/user-parent-equals-userns")
@lie(leaves_out("ioctl"))
def test_the_owner_of_a_user_namespace_is_its_parent(parent: Process) -> None:
    member = parent.clone(CLONE_NEWUSER | SIGCHLD, name="member")
    above = asked(parent, member, "user", NS_GET_PARENT)
    owner = asked(parent, member, "user", NS_GET_USERNS)
    assert inode(parent, above) == inode(parent, owner) == inode_of(parent, parent, "user")


@pytest.mark.parametrize("request_", [NS_GET_PARENT, NS_GET_USERNS], ids=["parent", "userns"])
@clause("ioctl_ns.2/new-descriptor-has-cloexec")
@lie(leaves_out("ioctl"))
def test_the_new_descriptor_is_for_reading_and_closed_by_exec(
    parent: Process, request_: int
) -> None:
    member = parent.clone(CLONE_NEWUSER | SIGCHLD, name="member")
    above = asked(parent, member, "user", request_)
    assert parent.sys.fcntl(above, F_GETFD) == FD_CLOEXEC
    assert parent.sys.fcntl(above, F_GETFL) & O_ACCMODE == O_RDONLY


@clause(
    "ioctl_ns.2/eperm-out-of-scope",
    "user_namespaces.7/ns-get-parent-shows-parent",
)
@lie(leaves_out("unshare"), STAYS)
def test_what_lies_above_the_own_user_namespace_is_not_shown(parent: Process) -> None:
    parent.sys.unshare(CLONE_NEWUSER)
    with fails(EPERM):
        asked(parent, parent, "user", NS_GET_PARENT)
    with fails(EPERM):
        asked(parent, parent, "uts", NS_GET_USERNS)


@clause("ioctl_ns.2/eperm-out-of-scope", "pid_namespaces.7/ns-get-parent-shows-parent")
@lie(drops(CLONE_NEWPID))
def test_what_lies_above_the_own_pid_namespace_is_not_shown(parent: Process) -> None:
    own_namespaces(parent, 0)
    init = parent.clone(CLONE_NEWPID | SIGCHLD, name="init")
    inner = init.clone(CLONE_NEWPID | SIGCHLD, name="inner")
    assert inode(init, asked(init, inner, "pid", NS_GET_PARENT)) == inode_of(init, init, "pid")
    with fails(EPERM):
        asked(init, init, "pid", NS_GET_PARENT)


@pytest.mark.parametrize("kind", ["cgroup", "ipc", "mnt", "net", "time", "uts"])
@clause("ioctl_ns.2/parent-of-flat-namespace")
@lie(STAYS)
def test_a_kind_without_levels_has_no_parent(parent: Process, kind: str) -> None:
    with fails(EINVAL):
        asked(parent, parent, kind, NS_GET_PARENT)


@pytest.mark.parametrize(("kind", "flag"), NAMESPACES.items(), ids=NAMESPACES)
@clause("ioctl_ns.2/nstype-is-clone-flag")
@lie(STAYS)
def test_the_kind_is_told_as_the_flag_of_clone(parent: Process, kind: str, flag: int) -> None:
    assert asked(parent, parent, kind, NS_GET_NSTYPE) == flag


@clause("ioctl_ns.2/owner-uid-of-user-namespace")
@lie(leaves_out("setresuid"))
def test_the_owner_is_the_effective_user_of_the_maker(parent: Process) -> None:
    maker = parent.fork("maker")
    maker.sys.setresuid(-1, SOMEBODY, -1)
    maker.sys.unshare(CLONE_NEWUSER)
    assert asked(parent, maker, "user", NS_GET_OWNER_UID) == SOMEBODY


@pytest.mark.parametrize("kind", ["cgroup", "ipc", "mnt", "net", "pid", "time", "uts"])
@clause("ioctl_ns.2/owner-uid-of-other-kind")
@lie(STAYS)
def test_only_a_user_namespace_has_a_user_as_owner(parent: Process, kind: str) -> None:
    with fails(EINVAL):
        asked(parent, parent, kind, NS_GET_OWNER_UID)


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(NS_GET_NSTYPE, id="nstype"),
        pytest.param(NS_GET_OWNER_UID, id="owner"),
        pytest.param(NS_GET_PARENT, id="parent"),
        pytest.param(NS_GET_USERNS, id="userns"),
    ],
)
@clause("ioctl_ns.2/enotty-not-a-namespace")
@lie(STAYS)
def test_what_is_no_namespace_knows_no_such_request(parent: Process, request_: int) -> None:
    with fails(ENOTTY):
        parent.sys.ioctl(parent.sys.openat(AT_FDCWD, "/dev/null"), request_)
    with fails(ENOTTY):
        parent.sys.ioctl(parent.sys.openat(AT_FDCWD, "/proc/self"), request_)
