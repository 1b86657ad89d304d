"""clone(2): CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWNET and so on, each with the flag and without.

What would change the machine is done in namespaces that the check has made before.
"""

from __future__ import annotations

import pytest

from pytest_procsemantics import Process, Target, clause
from pytest_procsemantics.alike import IS_CLONE, MakeWith, like_clone
from pytest_procsemantics.driven import Observer, fails
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
    CLONE_PARENT,
    CLONE_SIGHAND,
    CLONE_SYSVSEM,
    CLONE_THREAD,
    CLONE_VM,
    EADDRINUSE,
    ECHILD,
    EINVAL,
    ENOENT,
    EPERM,
    IPC_CREAT,
    P_ALL,
    SIGCHLD,
    SIGSTOP,
    SOCK_DGRAM,
    WALL,
    WEXITED,
    WNOHANG,
)
from pytest_procsemantics.driven.forms import abstract_address, capability
from pytest_procsemantics.lies import adds, drops, in_child, lie
from pytest_procsemantics.requirements import namespace_flags, own_namespaces, private_mounts

KEY = 0x70726F63  # of a message queue
CLONE_STOPPED = 0x02000000  # of Linux 2.6.0 to 2.6.37
AS_THREAD = CLONE_VM | CLONE_SIGHAND | CLONE_THREAD
PRIVILEGED = (
    CLONE_NEWCGROUP | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS
)

NO_THREAD = drops(CLONE_THREAD)


def is_new(observer: Observer, child: Process, parent: Process, kind: str) -> bool:
    """Whether the child is in another namespace of a kind than its parent."""
    return observer.namespace(child, kind) != observer.namespace(parent, kind)


@like_clone(IS_CLONE)
@lie(adds(CLONE_NEWCGROUP | CLONE_NEWPID | CLONE_NEWUSER))
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("cgroup", marks=clause("clone.2/newcgroup-unset-same")),
        pytest.param("pid", marks=clause("clone.2/newpid-unset-same")),
        pytest.param("user", marks=clause("clone.2/newuser-unset-same")),
    ],
)
def test_without_the_flag_the_namespace_is_the_callers(
    parent: Process, observer: Observer, make: MakeWith, kind: str
) -> None:
    assert not is_new(observer, make(parent, 0), parent, kind)


def expect_no_child(process: Process) -> None:
    """There is nobody whom a process could wait for."""
    with fails(ECHILD):
        process.sys.waitid(P_ALL, 0, WEXITED | WALL | WNOHANG)


# --- cgroup ---


@like_clone("clone.2/newcgroup-new-namespace")
@lie(drops(CLONE_NEWCGROUP))
def test_in_a_new_cgroup_namespace_the_childs_groups_are_the_roots(
    parent: Process, observer: Observer, make: MakeWith
) -> None:
    child = make(parent, namespace_flags(parent, CLONE_NEWCGROUP))
    assert is_new(observer, child, parent, "cgroup")
    lines = Observer(child).read("/proc/self/cgroup").splitlines()
    assert {line.rpartition(b":")[2] for line in lines} == {b"/"}


@like_clone("clone.2/stopped-bit-is-newcgroup")
@lie(
    drops(CLONE_NEWCGROUP),
    in_child(
        "the child is stopped",
        lambda child: child.post.sys.kill(child.own_pid, SIGSTOP),
        hangs=True,
    ),
)
def test_the_bit_of_clone_stopped_stops_no_child(
    parent: Process, observer: Observer, make: MakeWith
) -> None:
    child = make(parent, namespace_flags(parent, CLONE_STOPPED))
    assert child.sys.getpid() == child.own_pid
    assert is_new(observer, child, parent, "cgroup")


# --- ipc ---


@like_clone("clone.2/newipc-new-namespace")
@lie(drops(CLONE_NEWIPC))
def test_in_a_new_ipc_namespace_the_callers_queue_is_not_found(
    parent: Process, make: MakeWith
) -> None:
    own_namespaces(parent, CLONE_NEWIPC)
    parent.sys.msgget(KEY, IPC_CREAT | 0o600)
    child = make(parent, CLONE_NEWIPC)
    with fails(ENOENT):
        child.sys.msgget(KEY, 0)


@like_clone("clone.2/newipc-unset-same")
@lie(adds(CLONE_NEWIPC))
def test_without_clone_newipc_the_callers_queue_is_found(parent: Process, make: MakeWith) -> None:
    own_namespaces(parent, CLONE_NEWIPC)
    queue = parent.sys.msgget(KEY, IPC_CREAT | 0o600)
    child = make(parent, 0)
    assert child.sys.msgget(KEY, 0) == queue


@like_clone("clone.2/einval-newipc-sysvsem")
@lie(drops(CLONE_SYSVSEM), drops(CLONE_NEWIPC))
def test_clone_newipc_with_clone_sysvsem_is_refused(parent: Process, make: MakeWith) -> None:
    with fails(EINVAL):
        make(parent, namespace_flags(parent, CLONE_NEWIPC) | CLONE_SYSVSEM)
    expect_no_child(parent)


@like_clone("clone.2/newipc-sysvsem-unprivileged")
@lie(drops(CLONE_NEWIPC), drops(CLONE_FS))
def test_the_missing_privilege_is_told_before_the_bad_set(parent: Process, make: MakeWith) -> None:
    parent.sys.capset(0, 0, 0)
    with fails(EPERM):
        make(parent, CLONE_NEWIPC | CLONE_SYSVSEM)
    with fails(EINVAL):
        make(parent, CLONE_NEWNS | CLONE_FS)


# --- net ---


def bind_to(process: Process, name: str) -> None:
    """Take an abstract name (unix(7))."""
    socket = process.sys.socket(AF_UNIX, SOCK_DGRAM, 0)
    process.sys.bind(socket, abstract_address(name))


@like_clone("clone.2/newnet-new-namespace")
@lie(drops(CLONE_NEWNET))
def test_in_a_new_network_namespace_the_callers_name_is_free(
    parent: Process, target: Target, make: MakeWith
) -> None:
    bind_to(parent, target.folder())
    child = make(parent, namespace_flags(parent, CLONE_NEWNET))
    bind_to(child, target.folder())


@like_clone("clone.2/newnet-unset-same")
@lie(adds(CLONE_NEWNET | CLONE_NEWUSER))
def test_without_clone_newnet_the_callers_name_is_taken(
    parent: Process, target: Target, make: MakeWith
) -> None:
    bind_to(parent, target.folder())
    child = make(parent, 0)
    with fails(EADDRINUSE):
        bind_to(child, target.folder())


# --- mnt ---


def mount_points(process: Process) -> list[bytes]:
    """Where something is mounted, as a process sees it."""
    lines = Observer(process).read("/proc/self/mountinfo").splitlines()
    return [line.split()[4] for line in lines]


@like_clone("clone.2/newns-copies-mounts")
@lie(drops(CLONE_NEWNS))
def test_a_mount_in_a_new_mount_namespace_is_the_childs_alone(
    parent: Process, target: Target, make: MakeWith
) -> None:
    private_mounts(parent)
    before = mount_points(parent)
    child = make(parent, CLONE_NEWNS)
    assert mount_points(child) == before
    child.sys.mount("tmpfs", target.folder(), "tmpfs")
    assert mount_points(child) == [*before, target.folder().encode()]
    assert mount_points(parent) == before


@like_clone("clone.2/newns-unset-same")
@lie(adds(CLONE_NEWNS))
def test_without_clone_newns_a_mount_is_there_for_both(
    parent: Process, target: Target, make: MakeWith
) -> None:
    private_mounts(parent)
    child = make(parent, 0)
    child.sys.mount("tmpfs", target.folder(), "tmpfs")
    assert target.folder().encode() in mount_points(parent)


@like_clone("clone.2/newns-with-fs-refused")
@lie(drops(CLONE_FS), drops(CLONE_NEWNS))
def test_clone_newns_with_clone_fs_is_refused_to_all(parent: Process, make: MakeWith) -> None:
    with fails(EINVAL):
        make(parent, CLONE_NEWNS | CLONE_FS)
    parent.sys.capset(0, 0, 0)
    with fails(EINVAL):
        make(parent, CLONE_NEWNS | CLONE_FS)
    expect_no_child(parent)


# --- pid ---


@like_clone("clone.2/newpid-with-thread-refused")
@lie(NO_THREAD)
def test_clone_newpid_with_clone_thread_is_refused(
    parent: Process, observer: Observer, make: MakeWith
) -> None:
    before = observer.threads(parent)
    with fails(EINVAL):
        make(parent, CLONE_NEWPID | AS_THREAD)
    assert observer.threads(parent) == before


@clause("clone.2/newpid-with-parent-refused")
@lie(drops(CLONE_PARENT))
def test_clone_newpid_with_clone_parent_is_refused(parent: Process) -> None:
    caller = parent.fork("caller")
    with fails(EINVAL):
        caller.clone(namespace_flags(caller, CLONE_NEWPID) | CLONE_PARENT | SIGCHLD)


# --- user ---


@like_clone("clone.2/newuser-needs-no-privilege")
@lie(drops(CLONE_NEWUSER))
def test_without_privilege_the_child_has_all_of_it_in_its_own_namespace(
    parent: Process, make: MakeWith
) -> None:
    parent.sys.capset(0, 0, 0)
    child = make(parent, CLONE_NEWUSER)
    assert child.sys.capget().effective & capability("SYS_ADMIN")
    assert parent.sys.capget().effective == 0


@like_clone("clone.2/newuser-makes-other-namespaces-possible")
@lie(drops(CLONE_NEWUSER))
def test_with_clone_newuser_the_other_flags_take_no_privilege(
    parent: Process, make: MakeWith
) -> None:
    parent.sys.capset(0, 0, 0)
    assert make(parent, CLONE_NEWUSER | PRIVILEGED).own_pid == 1
    with fails(EPERM):
        make(parent, PRIVILEGED)


@like_clone("clone.2/newuser-with-thread-refused")
@lie(NO_THREAD)
def test_clone_newuser_with_clone_thread_is_refused(
    parent: Process, observer: Observer, make: MakeWith
) -> None:
    before = observer.threads(parent)
    with fails(EINVAL):
        make(parent, CLONE_NEWUSER | AS_THREAD)
    assert observer.threads(parent) == before


@clause("clone.2/newuser-with-parent-refused")
@lie(drops(CLONE_PARENT))
def test_clone_newuser_with_clone_parent_is_refused(parent: Process) -> None:
    caller = parent.fork("caller")
    with fails(EINVAL):
        caller.clone(CLONE_NEWUSER | CLONE_PARENT | SIGCHLD)


@like_clone("clone.2/newuser-with-fs-refused")
@lie(drops(CLONE_FS), drops(CLONE_NEWUSER))
def test_clone_newuser_with_clone_fs_is_refused(parent: Process, make: MakeWith) -> None:
    with fails(EINVAL):
        make(parent, CLONE_NEWUSER | CLONE_FS)
    expect_no_child(parent)


# --- uts ---


@like_clone("clone.2/newuts-copies-names")
@lie(drops(CLONE_NEWUTS))
def test_in_a_new_uts_namespace_the_names_are_a_copy(parent: Process, make: MakeWith) -> None:
    own_namespaces(parent, CLONE_NEWUTS)
    parent.sys.sethostname(b"before")
    child = make(parent, CLONE_NEWUTS)
    assert child.sys.uname().nodename == "before"
    child.sys.sethostname(b"after")
    assert parent.sys.uname().nodename == "before"


@like_clone("clone.2/newuts-unset-same")
@lie(adds(CLONE_NEWUTS))
def test_without_clone_newuts_the_names_are_the_same(parent: Process, make: MakeWith) -> None:
    own_namespaces(parent, CLONE_NEWUTS)
    child = make(parent, 0)
    child.sys.sethostname(b"after")
    assert parent.sys.uname().nodename == "after"


# --- time ---


@clause("clone.2/newtime-by-clone3")
@lie(drops(CLONE_NEWTIME))
def test_clone3_puts_the_child_in_a_new_time_namespace(parent: Process, observer: Observer) -> None:
    child = parent.clone3(namespace_flags(parent, CLONE_NEWTIME))
    assert is_new(observer, child, parent, "time")
    assert observer.namespace(child, "time") == observer.namespace(child, "time_for_children")


# --- privilege ---


@like_clone("clone.2/namespace-flags-need-sys-admin")
@lie(drops(PRIVILEGED))
@pytest.mark.parametrize(
    "flag",
    [
        pytest.param(CLONE_NEWCGROUP, id="cgroup"),
        pytest.param(CLONE_NEWIPC, id="ipc"),
        pytest.param(CLONE_NEWNS, id="mnt"),
        pytest.param(CLONE_NEWNET, id="net"),
        pytest.param(CLONE_NEWPID, id="pid"),
        pytest.param(CLONE_NEWUTS, id="uts"),
    ],
)
def test_without_privilege_a_new_namespace_is_refused(
    parent: Process, make: MakeWith, flag: int
) -> None:
    parent.sys.capset(0, 0, 0)
    with fails(EPERM):
        make(parent, flag)
    expect_no_child(parent)


@clause("clone.2/newuser-new-namespace")
@lie(drops(CLONE_NEWUSER))
def test_the_child_is_in_a_new_user_namespace(parent: Process, observer: Observer) -> None:
    child = parent.clone(CLONE_NEWUSER | SIGCHLD)
    assert observer.namespace(child, "user") != observer.namespace(parent, "user")
    assert child.sys.capget().effective == child.sys.capget().permitted != 0


@clause("clone.2/newpid-child-is-init")
@lie(drops(CLONE_NEWPID))
def test_the_child_is_process_1_of_a_new_namespace(parent: Process, observer: Observer) -> None:
    child = parent.clone(CLONE_NEWUSER | CLONE_NEWPID | SIGCHLD)
    assert (child.sys.getpid(), child.sys.getppid()) == (1, 0)
    assert observer.status_field(child, "NSpid").split() == [str(child.pid), "1"]
