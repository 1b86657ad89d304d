"""setns(2): the namespace of a descriptor, for each kind.

Where a process may join another's namespace whoever runs the suite: it has a user namespace of its own for it, or
is privileged.
"""

from __future__ import annotations

import pytest

from pytest_procsemantics import Process, Target, clause
from pytest_procsemantics.alike import by_kind
from pytest_procsemantics.driven import Observer, fails
from pytest_procsemantics.driven.constants import (
    AT_FDCWD,
    CLONE_FILES,
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
    CLONE_VM,
    EBADF,
    EINVAL,
    MS_BIND,
    O_DIRECTORY,
    O_PATH,
    O_RDONLY,
    SIGCHLD,
)
from pytest_procsemantics.driven.messages import receive_descriptor, send_descriptor
from pytest_procsemantics.lies import before_call, leaves_out, lie, passes, reports
from pytest_procsemantics.requirements import open_namespace, own_namespaces, private_mounts

STAYS = leaves_out("setns")
ANY_KIND = passes("the kind is not looked at", "setns", 1, 0)


def new_member(parent: Process, flags: int) -> Process:
    """A child of the parent in new namespaces that the parent may join."""
    own_namespaces(parent, flags & ~CLONE_NEWPID)
    return parent.clone3(flags, name="member")


@by_kind(
    cgroup="namespaces.7/cgroup-link-is-handle",
    ipc="namespaces.7/ipc-link-is-handle",
    mnt="namespaces.7/mnt-link-is-handle",
    net="namespaces.7/net-link-is-handle",
    time="namespaces.7/time-link-is-handle",
    user="namespaces.7/user-link-is-handle",
    uts=("namespaces.7/uts-link-is-handle", "setns.2/joins-by-magic-link"),
)
@clause("setns.2/nstype-zero-allows-any")
@lie(STAYS)
def test_the_link_of_a_process_leads_into_its_namespace(
    parent: Process, observer: Observer, kind: str, flag: int
) -> None:
    member = new_member(parent, flag)
    assert observer.namespace(parent, kind) != observer.namespace(member, kind)
    parent.sys.setns(open_namespace(parent, member, kind), 0)
    assert observer.namespace(parent, kind) == observer.namespace(member, kind)


@pytest.mark.parametrize(
    ("kind", "flag", "other"),
    [
        pytest.param(
            "cgroup",
            CLONE_NEWCGROUP,
            "uts",
            marks=clause("setns.2/newcgroup-needs-cgroup-link"),
            id="cgroup",
        ),
        pytest.param(
            "ipc", CLONE_NEWIPC, "uts", marks=clause("setns.2/newipc-needs-ipc-link"), id="ipc"
        ),
        pytest.param(
            "mnt", CLONE_NEWNS, "uts", marks=clause("setns.2/newns-needs-mount-link"), id="mnt"
        ),
        pytest.param(
            "net", CLONE_NEWNET, "uts", marks=clause("setns.2/newnet-needs-net-link"), id="net"
        ),
        pytest.param(
            "pid",
            CLONE_NEWPID,
            "uts",
            marks=clause("setns.2/newpid-needs-descendant-pid-link"),
            id="pid",
        ),
        pytest.param(
            "time", CLONE_NEWTIME, "uts", marks=clause("setns.2/newtime-needs-time-link"), id="time"
        ),
        pytest.param(
            "user", CLONE_NEWUSER, "uts", marks=clause("setns.2/newuser-needs-user-link"), id="user"
        ),
        pytest.param(
            "uts", CLONE_NEWUTS, "ipc", marks=clause("setns.2/newuts-needs-uts-link"), id="uts"
        ),
    ],
)
@clause("setns.2/einval-wrong-type")
@lie(ANY_KIND)
def test_a_flag_is_for_its_own_kind_only(parent: Process, kind: str, flag: int, other: str) -> None:
    own_namespaces(parent, CLONE_NEWUTS | CLONE_NEWIPC)
    member = parent.clone3(flag, name="member")
    with fails(EINVAL):
        parent.sys.setns(open_namespace(parent, parent, other), flag)
    assert parent.sys.setns(open_namespace(parent, member, kind), flag) == 0


@pytest.mark.parametrize(
    "flag",
    [
        pytest.param(CLONE_FILES, id="files"),
        pytest.param(CLONE_FS, id="fs"),
        pytest.param(CLONE_SYSVSEM, id="sysvsem"),
        pytest.param(CLONE_VM, id="vm"),
    ],
)
@clause("setns.2/not-every-attribute")
@lie(STAYS)
def test_what_is_no_namespace_cannot_be_joined(parent: Process, flag: int) -> None:
    with fails(EINVAL):
        parent.sys.setns(open_namespace(parent, parent, "uts"), flag)


@clause("setns.2/returns-zero")
@lie(reports("setns gives 1", "setns", lambda _: 1))
def test_success_is_zero(parent: Process) -> None:
    own_namespaces(parent, CLONE_NEWUTS)
    assert parent.sys.setns(open_namespace(parent, parent, "uts"), CLONE_NEWUTS) == 0


@clause("setns.2/ebadf-bad-descriptor", "setns.2/failure-returns-minus-one")
@lie(STAYS)
def test_what_is_not_open_is_refused(parent: Process) -> None:
    with fails(EBADF):
        parent.sys.setns(-1, 0)
    with fails(EBADF):
        parent.sys.setns(40, 0)
    with fails(EBADF):
        parent.sys.setns(parent.sys.openat(AT_FDCWD, "/proc/self/ns/uts", O_PATH), 0)


@pytest.mark.parametrize(
    ("path", "flags"),
    [
        pytest.param("/proc/self/exe", O_RDONLY, id="file"),
        pytest.param("/", O_RDONLY | O_DIRECTORY, id="folder"),
        pytest.param("/proc/self/status", O_RDONLY, id="proc"),
        pytest.param("/dev/null", O_RDONLY, id="device"),
    ],
)
@clause("setns.2/einval-not-a-namespace")
@lie(STAYS)
def test_what_is_no_namespace_is_refused(parent: Process, path: str, flags: int) -> None:
    with fails(EINVAL):
        parent.sys.setns(parent.sys.openat(AT_FDCWD, path, flags), 0)


# --- who is moved, and where to ---


@clause("namespaces.7/setns-joins-existing-namespace", "setns.2/joins-by-magic-link")
@lie(STAYS)
def test_the_caller_has_the_host_name_of_the_namespace(parent: Process) -> None:
    member = new_member(parent, CLONE_NEWUTS)
    member.sys.sethostname(b"joined")
    parent.sys.setns(open_namespace(parent, member, "uts"), CLONE_NEWUTS)
    assert parent.sys.uname().nodename == "joined"


@clause("setns.2/moves-the-calling-thread-only")
@lie(STAYS, before_call("setns", "the process goes first", lambda thread: goes_first(thread)))
def test_only_the_calling_thread_moves(parent: Process, observer: Observer) -> None:
    member = new_member(parent, CLONE_NEWUTS)
    before = observer.namespace(parent, "uts")
    thread = parent.thread()
    thread.sys.setns(open_namespace(parent, member, "uts"), CLONE_NEWUTS)
    assert observer.namespace(thread, "uts") == observer.namespace(member, "uts")
    assert observer.namespace(parent, "uts") == before


def goes_first(thread: Process) -> None:
    """Have the process that a thread belongs to leave its namespace."""
    assert thread.creation
    thread.creation.process.sys.unshare(CLONE_NEWUTS)


@clause("setns.2/link-changes-one-membership")
@lie(STAYS, before_call("setns", "another one", lambda caller: caller.sys.unshare(CLONE_NEWIPC)))
def test_one_link_changes_one_membership(parent: Process, observer: Observer) -> None:
    member = new_member(parent, CLONE_NEWUTS | CLONE_NEWIPC)
    before = observer.namespace(parent, "ipc")
    parent.sys.setns(open_namespace(parent, member, "uts"), 0)
    assert observer.namespace(parent, "uts") == observer.namespace(member, "uts")
    assert observer.namespace(parent, "ipc") == before != observer.namespace(member, "ipc")


@clause("setns.2/joins-by-bind-mount", "namespaces.7/bind-mount-keeps-alive")
@lie(STAYS, leaves_out("mount"))
def test_a_mount_of_the_link_leads_into_a_namespace_without_members(
    parent: Process, target: Target
) -> None:
    private_mounts(parent, CLONE_NEWUTS)
    member = parent.clone3(CLONE_NEWUTS, name="member")
    member.sys.sethostname(b"joined")
    path = parent.make_file(f"{target.folder()}/uts")
    parent.sys.mount(f"/proc/{member.pid}/ns/uts", path, None, MS_BIND)
    member.exit()
    member.wait_for_exit()
    parent.sys.setns(parent.sys.openat(AT_FDCWD, path, O_RDONLY), CLONE_NEWUTS)
    assert parent.sys.uname().nodename == "joined"


@clause("namespaces.7/open-descriptor-keeps-alive")
@lie(STAYS)
def test_a_descriptor_leads_into_a_namespace_without_members(parent: Process) -> None:
    member = new_member(parent, CLONE_NEWUTS)
    member.sys.sethostname(b"joined")
    descriptor = open_namespace(parent, member, "uts")
    member.exit()
    member.wait_for_exit()
    parent.sys.setns(descriptor, CLONE_NEWUTS)
    assert parent.sys.uname().nodename == "joined"


@clause("setns.2/descriptor-may-come-from-another-process")
@lie(STAYS)
def test_a_descriptor_may_come_from_another_process(parent: Process, observer: Observer) -> None:
    one, other = parent.sys.socketpair()
    member = new_member(parent, CLONE_NEWUTS)
    send_descriptor(member, other, open_namespace(member, member, "uts"))
    parent.sys.setns(receive_descriptor(parent, one), 0)
    assert observer.namespace(parent, "uts") == observer.namespace(member, "uts")


@clause("setns.2/children-inherit-joined-namespace")
@lie(STAYS)
def test_later_children_are_in_the_joined_namespace(parent: Process, observer: Observer) -> None:
    member = new_member(parent, CLONE_NEWUTS)
    parent.sys.setns(open_namespace(parent, member, "uts"), 0)
    assert observer.namespace(parent.fork(), "uts") == observer.namespace(member, "uts")


@clause("setns.2/mount-sets-root-and-working-directory")
@lie(STAYS)
def test_in_a_joined_mount_namespace_the_caller_is_at_its_root(
    parent: Process, target: Target
) -> None:
    private_mounts(parent)
    inside = f"{target.folder()}/inside"
    parent.sys.mkdir(inside)
    member = parent.clone(CLONE_NEWNS | SIGCHLD, name="member")
    descriptor = open_namespace(parent, member, "mnt")
    parent.sys.chroot(target.folder())
    parent.sys.chdir("/inside")
    parent.sys.setns(descriptor, CLONE_NEWNS)
    assert parent.sys.getcwd() == b"/"
    assert parent.sys.access(inside) == 0
