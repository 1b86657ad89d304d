"""namespaces(7): the limits in /proc/sys/user, and how long a namespace lives.

Limits are written in a user namespace of the check's own only: in the first one they would bind everybody.
"""

from __future__ import annotations

import pytest

from pytest_procsemantics import Process, Target, clause
from pytest_procsemantics.alike import by_kind
from pytest_procsemantics.driven import Observer, fails
from pytest_procsemantics.driven.constants import (
    CLONE_NEWPID,
    CLONE_NEWTIME,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    EACCES,
    ENOSPC,
    MS_BIND,
    NS_GET_PARENT,
    NS_GET_USERNS,
    SIGCHLD,
)
from pytest_procsemantics.driven.errors import CallFailed
from pytest_procsemantics.lies import before_call, drops, in_maker, leaves_out, lie
from pytest_procsemantics.lies.generic import opened
from pytest_procsemantics.requirements import (
    mount_proc,
    open_namespace,
    own_namespaces,
    private_mounts,
)

MAXINT = 0x7FFFFFFF
NOT_LIMITED = leaves_out("write")
KINDS = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"]


def limit(process: Process, observer: Observer, kind: str, most: int) -> None:
    """Limit the namespaces of a kind in a user namespace that is not the observer's."""
    assert observer.namespace(process, "user") != observer.namespace(observer.process, "user")
    process.write_to(path(kind), b"%d" % most)


def path(kind: str) -> str:
    """Where the limit of a kind stands."""
    return f"/proc/sys/user/max_{kind}_namespaces"


def most(process: Process, kind: str) -> int:
    """The limit of a kind, as a process reads it."""
    return int(Observer(process).read(path(kind)))


@by_kind(
    cgroup="namespaces.7/max-cgroup-namespaces-limits",
    ipc="namespaces.7/max-ipc-namespaces-limits",
    mnt="namespaces.7/max-mnt-namespaces-limits",
    net="namespaces.7/max-net-namespaces-limits",
    pid="namespaces.7/max-pid-namespaces-limits",
    time="namespaces.7/max-time-namespaces-limits",
    user="namespaces.7/max-user-namespaces-limits",
    uts="namespaces.7/max-uts-namespaces-limits",
)
@clause("namespaces.7/limits-apply-to-root")
@lie(NOT_LIMITED)
def test_a_user_has_so_many_namespaces(
    parent: Process, observer: Observer, kind: str, flag: int
) -> None:
    own_namespaces(parent, CLONE_NEWUSER, root=True)
    first, second = parent.fork("first"), parent.fork("second")
    limit(parent, observer, kind, 1)
    first.sys.unshare(flag)
    with fails(ENOSPC):
        second.sys.unshare(flag)
    limit(parent, observer, kind, 2)
    second.sys.unshare(flag)


@clause("clone.2/enospc-user-namespace-count", "namespaces.7/limit-error-is-enospc")
@lie(NOT_LIMITED)
def test_each_primitive_says_that_there_is_no_room(parent: Process, observer: Observer) -> None:
    own_namespaces(parent, CLONE_NEWUSER, root=True)
    limit(parent, observer, "user", 0)
    with fails(ENOSPC):
        parent.clone(CLONE_NEWUSER | SIGCHLD)
    with fails(ENOSPC):
        parent.clone3(CLONE_NEWUSER)
    with fails(ENOSPC):
        parent.sys.unshare(CLONE_NEWUSER)


@clause("namespaces.7/limits-modifiable-by-privileged")
@lie(leaves_out("capset"))
def test_the_limits_are_written_with_privilege_only(parent: Process, observer: Observer) -> None:
    own_namespaces(parent, CLONE_NEWUSER, root=True)
    limit(parent, observer, "uts", 7)
    assert most(parent, "uts") == 7
    parent.sys.capset(0, 0, 0)
    with fails(EACCES):
        limit(parent, observer, "uts", 8)


@clause("namespaces.7/limits-of-openers-user-namespace")
@lie(NOT_LIMITED)
def test_each_user_namespace_has_limits_of_its_own(parent: Process, observer: Observer) -> None:
    before = most(parent, "uts")
    member = parent.fork("member")
    own_namespaces(member, CLONE_NEWUSER, root=True)
    limit(member, observer, "uts", 7)
    assert (most(member, "uts"), most(parent, "uts")) == (7, before)


@pytest.mark.parametrize("kind", KINDS)
@clause("namespaces.7/limit-default-in-descendants-is-maxint")
@lie(drops(CLONE_NEWUSER))
def test_a_new_user_namespace_sets_no_limit(parent: Process, observer: Observer, kind: str) -> None:
    own_namespaces(parent, CLONE_NEWUSER, root=True)
    limit(parent, observer, kind, 1000)
    assert most(parent.clone(CLONE_NEWUSER | SIGCHLD), kind) == MAXINT


@clause("namespaces.7/limits-are-per-user")
@lie(leaves_out("setresuid"))
def test_each_user_has_as_many(parent: Process, observer: Observer) -> None:
    member = parent.clone(CLONE_NEWUSER | SIGCHLD, name="member")
    parent.write_to(f"/proc/{member.pid}/uid_map", b"0 100000 10")
    limit(member, observer, "uts", 1)
    first, second = member.fork("first"), member.fork("second")
    first.sys.setresuid(0, 0, 0)
    second.sys.setresuid(-1, 3, -1)
    second.sys.capset(*[second.sys.capget().permitted] * 2, 0)
    first.sys.unshare(CLONE_NEWUTS)
    second.sys.unshare(CLONE_NEWUTS)
    with fails(ENOSPC):
        second.sys.unshare(CLONE_NEWUTS)


@clause("namespaces.7/limits-add-to-nesting-limits")
@lie(NOT_LIMITED)
def test_the_limit_holds_for_nested_namespaces(parent: Process, observer: Observer) -> None:
    own_namespaces(parent, CLONE_NEWUSER, root=True)
    limit(parent, observer, "pid", 2)
    inner = parent.clone(CLONE_NEWPID | SIGCHLD).clone(CLONE_NEWPID | SIGCHLD)
    with fails(ENOSPC):
        inner.clone(CLONE_NEWPID | SIGCHLD)


@clause("namespaces.7/namespaces-count-against-ancestors")
@lie(NOT_LIMITED)
def test_a_namespace_counts_in_all_user_namespaces_above(
    parent: Process, observer: Observer
) -> None:
    own_namespaces(parent, CLONE_NEWUSER, root=True)
    limit(parent, observer, "uts", 2)
    inner = parent.clone(CLONE_NEWUSER | CLONE_NEWUTS | SIGCHLD, name="inner")
    inner.fork("second").sys.unshare(CLONE_NEWUTS)
    assert most(inner, "uts") == MAXINT
    with fails(ENOSPC):
        inner.fork("third").sys.unshare(CLONE_NEWUTS)


@clause("namespaces.7/new-user-namespace-is-no-escape")
@lie(NOT_LIMITED)
def test_a_user_namespace_is_no_way_out(parent: Process, observer: Observer) -> None:
    own_namespaces(parent, CLONE_NEWUSER, root=True)
    limit(parent, observer, "uts", 0)
    parent.sys.unshare(CLONE_NEWUSER)
    with fails(ENOSPC):
        parent.sys.unshare(CLONE_NEWUTS)


# --- how long one lives ---


def wait_for_room(process: Process, flag: int) -> None:
    """Make a namespace, as soon as the kernel has done with one that is gone."""

    def is_made() -> bool:
        try:
            process.sys.unshare(flag)
        except CallFailed as error:
            if error.errno != ENOSPC:
                raise
            return False
        return True

    process.target.wait_until(is_made, f"{process} to have room for a namespace")


@clause("namespaces.7/torn-down-with-last-process")
@lie(before_call("exit_group", "another member stays", lambda member: member.fork(), hangs=True))
def test_a_namespace_ends_with_its_last_process(parent: Process, observer: Observer) -> None:
    own_namespaces(parent, CLONE_NEWUSER, root=True)
    limit(parent, observer, "uts", 1)
    member, other = parent.fork("member"), parent.fork("other")
    member.sys.unshare(CLONE_NEWUTS)
    with fails(ENOSPC):
        other.sys.unshare(CLONE_NEWUTS)
    member.exit()
    member.wait_for_exit()
    wait_for_room(other, CLONE_NEWUTS)


@clause("namespaces.7/torn-down-with-last-process")
@lie(leaves_out("setns", hangs=True))
def test_a_namespace_ends_when_its_last_process_leaves(parent: Process, observer: Observer) -> None:
    own_namespaces(parent, CLONE_NEWUSER | CLONE_NEWUTS, root=True)
    before = open_namespace(parent, parent, "uts")
    limit(parent, observer, "uts", 2)
    member, other = parent.fork("member"), parent.fork("other")
    member.sys.unshare(CLONE_NEWUTS)
    with fails(ENOSPC):
        other.sys.unshare(CLONE_NEWUTS)
    member.sys.setns(before, CLONE_NEWUTS)
    wait_for_room(other, CLONE_NEWUTS)


def closes_all(member: Process) -> None:
    """Have the maker of a process close what it has opened."""
    assert member.creation
    for descriptor in opened(member):
        member.creation.process.sys.close(descriptor)


@clause("namespaces.7/pinned-by-descriptor-or-bind-mount")
@lie(before_call("exit_group", "the descriptor is closed", closes_all))
def test_a_descriptor_keeps_a_namespace(parent: Process, observer: Observer) -> None:
    own_namespaces(parent, CLONE_NEWUSER, root=True)
    limit(parent, observer, "uts", 1)
    member, other = parent.fork("member"), parent.fork("other")
    member.sys.unshare(CLONE_NEWUTS)
    descriptor = open_namespace(parent, member, "uts")
    member.exit()
    member.wait_for_exit()
    with fails(ENOSPC):
        other.sys.unshare(CLONE_NEWUTS)
    parent.sys.close(descriptor)
    wait_for_room(other, CLONE_NEWUTS)


@clause("namespaces.7/pinned-by-descriptor-or-bind-mount")
@lie(leaves_out("mount"))
def test_a_mount_keeps_a_namespace(parent: Process, observer: Observer, target: Target) -> None:
    private_mounts(parent, CLONE_NEWUSER, root=True)
    limit(parent, observer, "uts", 1)
    member, other = parent.fork("member"), parent.fork("other")
    member.sys.unshare(CLONE_NEWUTS)
    file = parent.make_file(f"{target.folder()}/uts")
    parent.sys.mount(f"/proc/{member.pid}/ns/uts", file, None, MS_BIND)
    member.exit()
    member.wait_for_exit()
    with fails(ENOSPC):
        other.sys.unshare(CLONE_NEWUTS)
    parent.sys.umount2(file, 0)
    wait_for_room(other, CLONE_NEWUTS)


@clause("namespaces.7/user-pinned-by-owned-namespace")
@lie(drops(CLONE_NEWUSER))
def test_a_user_namespace_lives_while_it_owns_another(parent: Process) -> None:
    own_namespaces(parent, CLONE_NEWUSER)
    member = parent.clone(CLONE_NEWUSER | CLONE_NEWUTS | SIGCHLD, name="member")
    owned, inode = open_namespace(parent, member, "uts"), inode_of(parent, member)
    member.exit()
    member.wait_for_exit()
    owner = parent.sys.ioctl(owned, NS_GET_USERNS)
    assert parent.sys.fstat(owner).ino == inode
    assert parent.sys.setns(owner, CLONE_NEWUSER) == 0


@clause("namespaces.7/hierarchical-pinned-by-child")
@lie(leaves_out("unshare"))
def test_a_user_namespace_lives_while_it_has_a_child(parent: Process) -> None:
    own_namespaces(parent, CLONE_NEWUSER)
    member = parent.fork("member")
    own_namespaces(member, CLONE_NEWUSER)
    inode = inode_of(parent, member)
    member.sys.unshare(CLONE_NEWUSER)
    upper = parent.sys.ioctl(open_namespace(parent, member, "user"), NS_GET_PARENT)
    assert parent.sys.fstat(upper).ino == inode
    assert parent.sys.setns(upper, CLONE_NEWUSER) == 0


def inode_of(process: Process, member: Process) -> int:
    """What tells the user namespace of a member from others."""
    return int(process.sys.stat(f"/proc/{member.pid}/ns/user").ino)


@clause("namespaces.7/time-pinned-by-time-for-children")
@lie(in_maker("it makes another one", lambda maker: maker.sys.unshare(CLONE_NEWTIME)))
def test_a_time_namespace_lives_while_children_would_be_put_there(
    parent: Process, observer: Observer
) -> None:
    own_namespaces(parent, CLONE_NEWTIME)
    first = parent.fork("first")
    named = observer.namespace(first, "time")
    first.exit()
    first.wait_for_exit()
    assert observer.namespace(parent.fork("second"), "time") == named


@clause("namespaces.7/pid-pinned-by-proc-mount")
@lie(leaves_out("mount"))
def test_a_mount_of_proc_keeps_a_pid_namespace(
    parent: Process, observer: Observer, target: Target
) -> None:
    private_mounts(parent, CLONE_NEWUSER, root=True)
    limit(parent, observer, "pid", 1)
    init = parent.clone(CLONE_NEWPID | SIGCHLD, name="init")
    mount_proc(init, target.folder())
    init.exit()
    init.wait_for_exit()
    with fails(ENOSPC):
        parent.fork("other").sys.unshare(CLONE_NEWPID)
    parent.sys.umount2(target.folder(), 0)
    wait_for_room(parent, CLONE_NEWPID)
