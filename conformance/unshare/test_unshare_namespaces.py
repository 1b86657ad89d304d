"""unshare(2): new namespaces, for the caller or for its children."""

from __future__ import annotations

import pytest

from pytest_procsemantics import Process, Target, clause
from pytest_procsemantics.alike import by_kind
from pytest_procsemantics.driven import Observer
from pytest_procsemantics.driven.constants import (
    AF_UNIX,
    CLONE_FS,
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWTIME,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    CLONE_SYSVSEM,
    CLONE_VFORK,
    KCMP_FS,
    KCMP_SYSVSEM,
    SIGCHLD,
    SOCK_DGRAM,
)
from pytest_procsemantics.driven.forms import abstract_address
from pytest_procsemantics.lies import leaves_out, lie, passes
from pytest_procsemantics.requirements import namespace_flags, own_namespaces, private_mounts

STAYS = leaves_out("unshare")
OTHERS = (
    CLONE_NEWCGROUP
    | CLONE_NEWIPC
    | CLONE_NEWNET
    | CLONE_NEWNS
    | CLONE_NEWPID
    | CLONE_NEWTIME
    | CLONE_NEWUTS
)


def unshare(process: Process, flags: int) -> None:
    """With a user namespace where the process needs one for it."""
    process.sys.unshare(namespace_flags(process, flags))


@by_kind(
    cgroup="unshare.2/newcgroup-new-namespace",
    ipc="unshare.2/newipc-new-namespace",
    mnt="unshare.2/newns-private-copy",
    net="unshare.2/newnet-new-namespace",
    user="unshare.2/newuser-moves-caller",
    uts="unshare.2/newuts-private-copy",
)
@lie(STAYS)
def test_the_caller_moves_into_a_new_namespace(
    parent: Process, observer: Observer, kind: str, flag: int
) -> None:
    child = parent.fork()
    before = observer.namespace(parent, kind)
    unshare(child, flag)
    assert observer.namespace(child, kind) != before
    assert observer.namespace(parent, kind) == before


@clause("unshare.2/newcgroup-new-namespace")
@lie(STAYS)
def test_in_a_new_cgroup_namespace_the_callers_groups_are_the_roots(parent: Process) -> None:
    unshare(parent, CLONE_NEWCGROUP)
    lines = Observer(parent).read("/proc/self/cgroup").splitlines()
    assert {line.rpartition(b":")[2] for line in lines} == {b"/"}


@clause("unshare.2/newnet-new-namespace")
@lie(STAYS)
def test_in_a_new_network_namespace_a_name_is_free_again(parent: Process, target: Target) -> None:
    address = abstract_address(target.folder())
    parent.sys.bind(parent.sys.socket(AF_UNIX, SOCK_DGRAM, 0), address)
    unshare(parent, CLONE_NEWNET)
    parent.sys.bind(parent.sys.socket(AF_UNIX, SOCK_DGRAM, 0), address)


@clause("unshare.2/newuts-private-copy")
@lie(STAYS)
def test_the_names_of_a_new_uts_namespace_are_copies(parent: Process) -> None:
    own_namespaces(parent, CLONE_NEWUTS)
    parent.sys.sethostname(b"before")
    child = parent.fork()
    child.sys.unshare(CLONE_NEWUTS)
    assert child.sys.uname().nodename == "before"
    child.sys.sethostname(b"after")
    assert parent.sys.uname().nodename == "before"


def mount_points(process: Process) -> list[bytes]:
    """Where something is mounted, as a process sees it, sorted."""
    lines = Observer(process).read("/proc/self/mountinfo").splitlines()
    return sorted(line.split()[4] for line in lines)


@clause("unshare.2/newns-private-copy")
@lie(STAYS)
def test_the_mounts_of_a_new_namespace_are_copies(parent: Process, target: Target) -> None:
    private_mounts(parent)
    before, child = mount_points(parent), parent.fork()
    child.sys.unshare(CLONE_NEWNS)
    assert mount_points(child) == before
    child.sys.mount("tmpfs", target.folder(), "tmpfs")
    assert target.folder().encode() in mount_points(child)
    assert mount_points(parent) == before


@pytest.mark.parametrize(
    "flag",
    [
        pytest.param(CLONE_NEWNS, marks=clause("unshare.2/newns-implies-fs"), id="mnt"),
        pytest.param(CLONE_NEWUSER, marks=clause("unshare.2/newuser-implies-fs"), id="user"),
    ],
)
@lie(STAYS)
def test_filesystem_attributes_are_unshared_as_well(
    parent: Process, observer: Observer, flag: int
) -> None:
    child = parent.clone(CLONE_FS | SIGCHLD)
    unshare(child, flag)
    assert observer.kcmp(parent, child, KCMP_FS) != 0


@clause("unshare.2/newipc-implies-sysvsem")
@lie(STAYS)
def test_semaphore_adjustments_are_unshared_as_well(parent: Process, observer: Observer) -> None:
    child = parent.clone(CLONE_SYSVSEM | SIGCHLD)
    unshare(child, CLONE_NEWIPC)
    assert observer.kcmp(parent, child, KCMP_SYSVSEM) != 0


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param(CLONE_NEWIPC | CLONE_SYSVSEM, id="ipc with sysvsem"),
        pytest.param(CLONE_NEWNS | CLONE_FS, id="mnt with fs"),
        pytest.param(CLONE_NEWUSER | CLONE_FS, id="user with fs"),
    ],
)
@clause("unshare.2/sharing-flags-may-go-with-namespaces")
@lie(passes("a bad flag", "unshare", 0, lambda flags: flags | CLONE_VFORK))
def test_what_a_namespace_implies_may_be_named(parent: Process, flags: int) -> None:
    unshare(parent, flags)


@clause("unshare.2/namespace-of-the-calling-thread-only")
@lie(STAYS)
def test_only_the_calling_thread_moves(parent: Process, observer: Observer) -> None:
    own_namespaces(parent, CLONE_NEWUTS)
    thread = parent.thread()
    thread.sys.unshare(CLONE_NEWUTS)
    assert observer.namespace(thread, "uts") != observer.namespace(parent, "uts")


@clause("unshare.2/user-with-others-needs-no-privilege")
@lie(passes("no user namespace", "unshare", 0, lambda flags: flags & ~CLONE_NEWUSER))
def test_with_a_user_namespace_the_others_take_no_privilege(
    parent: Process, observer: Observer
) -> None:
    before = observer.namespace(parent, "uts")
    parent.sys.capset(0, 0, 0)
    parent.sys.unshare(CLONE_NEWUSER | OTHERS)
    assert observer.namespace(parent, "uts") != before


@clause("unshare.2/newuser-gives-all-capabilities")
@lie(STAYS)
def test_in_a_new_user_namespace_the_caller_has_all_capabilities(
    parent: Process, observer: Observer
) -> None:
    parent.sys.capset(0, 0, 0)
    parent.sys.unshare(CLONE_NEWUSER)
    has, most = parent.sys.capget(), int(observer.status_field(parent, "CapBnd"), 16)
    assert has.effective == has.permitted == most > 0


# --- for the children ---


@clause("unshare.2/newpid-children-in-new-namespace", "unshare.2/newpid-caller-not-moved")
@lie(STAYS)
def test_the_callers_children_are_in_the_new_pid_namespace(
    parent: Process, observer: Observer
) -> None:
    before = observer.namespace(parent, "pid")
    unshare(parent, CLONE_NEWPID)
    child = parent.fork()
    assert parent.sys.getpid() == parent.pid
    assert observer.namespace(parent, "pid") == before
    assert observer.namespace(child, "pid") != before
    assert observer.status_field(child, "NSpid").split() == [str(child.pid), "1"]


@clause("unshare.2/newpid-first-child-is-init")
@lie(STAYS)
def test_the_first_child_is_the_new_namespaces_init(parent: Process) -> None:
    unshare(parent, CLONE_NEWPID)
    init, second = parent.fork("init"), parent.fork("second")
    assert (init.sys.getpid(), init.sys.getppid()) == (1, 0)
    assert second.sys.getpid() == 2
    orphan = second.fork("orphan")
    second.exit()
    second.wait_for_exit()
    assert orphan.sys.getppid() == 1


@clause("unshare.2/newtime-children-in-new-namespace", "unshare.2/newtime-caller-not-moved")
@lie(STAYS)
def test_the_callers_children_are_in_the_new_time_namespace(
    parent: Process, observer: Observer
) -> None:
    before = observer.namespace(parent, "time")
    unshare(parent, CLONE_NEWTIME)
    child = parent.fork()
    assert observer.namespace(parent, "time") == before
    assert observer.namespace(child, "time") != before
    assert observer.namespace(child, "time") == observer.namespace(parent, "time_for_children")
