"""user_namespaces(7): which capabilities a process has in which user namespace, and what they are good for."""

from __future__ import annotations

import pytest

from pytest_procsemantics import Process, Target, clause
from pytest_procsemantics.driven import Observer, fails
from pytest_procsemantics.driven.constants import (
    AT_FDCWD,
    CAP_NET_RAW,
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWTIME,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    EPERM,
    MS_BIND,
    PR_CAP_AMBIENT,
    PR_CAP_AMBIENT_IS_SET,
    PR_GET_SECUREBITS,
    PR_SET_SECUREBITS,
    SECBIT_KEEP_CAPS,
    SECBIT_NOROOT,
    SIGCHLD,
)
from pytest_procsemantics.driven.forms import capability
from pytest_procsemantics.lies import (
    EXEC_DOES_NOTHING,
    drops,
    leaves_out,
    lie,
    passes,
)
from pytest_procsemantics.requirements import (
    become_ordinary,
    enter_user_namespace,
    lose_capabilities,
    mount_proc,
    open_namespace,
    own_namespaces,
    private_mounts,
    raise_ambient,
)
from pytest_procsemantics.requirements.surroundings import SOMEBODY

STAYS = leaves_out("unshare")


SAME = drops(CLONE_NEWUSER)


UNMAPPED = leaves_out("write")


BITS = SECBIT_KEEP_CAPS | SECBIT_NOROOT


CHARACTER_DEVICE = 0o020600


NULL = 0x103  # the device number of /dev/null


# --- capabilities ---


@clause(
    "user_namespaces.7/capabilities-isolated",
    "user_namespaces.7/capability-governs-owned-namespaces-only",
    "user_namespaces.7/sethostname-checked-against-owner",
)
@lie(SAME)
def test_capabilities_count_for_namespaces_that_the_own_one_owns(parent: Process) -> None:
    own_namespaces(parent, CLONE_NEWUTS)
    member = parent.clone(CLONE_NEWUSER | SIGCHLD, name="member")
    assert member.sys.capget().effective & capability("SYS_ADMIN")
    with fails(EPERM):
        member.sys.sethostname(b"member")
    member.sys.unshare(CLONE_NEWUTS)
    member.sys.sethostname(b"member")


@clause("user_namespaces.7/no-capabilities-in-parent-namespace")
@lie(SAME)
def test_there_is_no_capability_in_the_namespace_before(parent: Process, target: Target) -> None:
    private_mounts(parent, CLONE_NEWUSER | CLONE_NEWUTS, root=True)
    before = open_namespace(parent, parent, "uts")
    member = parent.clone(CLONE_NEWUSER | SIGCHLD, name="member")
    with fails(EPERM):
        member.sys.sethostname(b"member")
    with fails(EPERM):
        member.sys.mount("tmpfs", target.folder(), "tmpfs")
    with fails(EPERM):
        member.sys.setns(before, CLONE_NEWUTS)


@clause("user_namespaces.7/inner-process-may-chroot")
@lie(STAYS)
def test_inside_the_root_can_be_changed(parent: Process, target: Target) -> None:
    parent.sys.capset(0, 0, 0)
    with fails(EPERM):
        parent.sys.chroot(target.folder())
    parent.sys.unshare(CLONE_NEWUSER)
    assert parent.sys.chroot(target.folder()) == 0


@clause("user_namespaces.7/exec-recalculates-capabilities")
@lie(EXEC_DOES_NOTHING)
def test_exec_without_a_map_loses_all_capabilities(parent: Process) -> None:
    parent.sys.unshare(CLONE_NEWUSER)
    assert parent.sys.capget().effective
    parent.execve()
    assert parent.sys.capget()[:2] == (0, 0)


@clause("user_namespaces.7/exec-recalculates-capabilities")
@lie(EXEC_DOES_NOTHING)
def test_exec_as_an_inner_user_loses_all_capabilities(parent: Process) -> None:
    enter_user_namespace(parent, 7, 0)
    assert parent.sys.capget().effective
    parent.execve()
    assert parent.sys.capget()[:2] == (0, 0)


@clause("user_namespaces.7/exec-as-inner-root-keeps-capabilities")
@lie(passes("another user inside", "write", 1, lambda text: text.replace(b"0 ", b"7 ", 1)))
def test_exec_as_inner_root_keeps_all_capabilities(parent: Process) -> None:
    enter_user_namespace(parent, 0, 0)
    before = parent.sys.capget()
    parent.execve()
    assert parent.sys.capget()[:2] == before[:2] != (0, 0)


@clause("user_namespaces.7/securebits-reset-by-clone")
@lie(SAME)
def test_clone_clears_the_childs_securebits(parent: Process) -> None:
    own_namespaces(parent, CLONE_NEWUSER, root=True)
    parent.sys.prctl(PR_SET_SECUREBITS, BITS)
    child = parent.clone(CLONE_NEWUSER | SIGCHLD)
    assert child.sys.prctl(PR_GET_SECUREBITS) == 0
    assert parent.sys.prctl(PR_GET_SECUREBITS) == BITS


@clause("user_namespaces.7/securebits-reset-by-unshare")
@lie(STAYS)
def test_unshare_clears_the_callers_securebits(parent: Process) -> None:
    own_namespaces(parent, CLONE_NEWUSER, root=True)
    parent.sys.prctl(PR_SET_SECUREBITS, BITS)
    parent.sys.unshare(CLONE_NEWUSER)
    assert parent.sys.prctl(PR_GET_SECUREBITS) == 0


@clause("user_namespaces.7/securebits-reset-by-setns")
@lie(leaves_out("setns"))
def test_setns_clears_the_callers_securebits(parent: Process) -> None:
    own_namespaces(parent, CLONE_NEWUSER, root=True)
    member = parent.clone(CLONE_NEWUSER | SIGCHLD, name="member")
    parent.sys.prctl(PR_SET_SECUREBITS, BITS)
    parent.sys.setns(open_namespace(parent, member, "user"), CLONE_NEWUSER)
    assert parent.sys.prctl(PR_GET_SECUREBITS) == 0


@clause("user_namespaces.7/inheritable-and-ambient-cleared")
@lie(SAME)
def test_a_child_has_nothing_inheritable_and_nothing_ambient(parent: Process) -> None:
    own_namespaces(parent, CLONE_NEWUSER, root=True)
    raise_ambient(parent, "NET_RAW")
    child = parent.clone(CLONE_NEWUSER | SIGCHLD)
    assert child.sys.capget().inheritable == 0
    assert child.sys.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_NET_RAW) == 0
    assert parent.sys.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_NET_RAW) == 1


@clause("user_namespaces.7/inheritable-and-ambient-cleared")
@lie(STAYS)
def test_who_unshares_has_nothing_inheritable_and_nothing_ambient(parent: Process) -> None:
    own_namespaces(parent, CLONE_NEWUSER, root=True)
    raise_ambient(parent, "NET_RAW")
    parent.sys.unshare(CLONE_NEWUSER)
    assert parent.sys.capget().inheritable == 0
    assert parent.sys.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_NET_RAW) == 0


@clause("user_namespaces.7/capability-needs-membership")
@lie(leaves_out("capset"))
def test_a_capability_counts_while_it_is_effective(parent: Process) -> None:
    own_namespaces(parent, CLONE_NEWUSER | CLONE_NEWUTS)
    has = parent.sys.capget().permitted
    parent.sys.capset(has & ~capability("SYS_ADMIN"), has, 0)
    with fails(EPERM):
        parent.sys.sethostname(b"member")
    parent.sys.capset(has, has, 0)
    parent.sys.sethostname(b"member")


@clause("user_namespaces.7/capability-holds-in-descendants")
@lie(leaves_out("setns"))
def test_a_capability_holds_in_all_namespaces_below(parent: Process, observer: Observer) -> None:
    own_namespaces(parent, CLONE_NEWUSER)
    middle = parent.fork("middle")
    own_namespaces(middle, CLONE_NEWUSER)
    inner = middle.clone(CLONE_NEWUSER | CLONE_NEWUTS | SIGCHLD, name="inner")
    parent.sys.setns(open_namespace(parent, inner, "uts"), CLONE_NEWUTS)
    assert observer.namespace(parent, "uts") == observer.namespace(inner, "uts")


@clause("user_namespaces.7/owner-has-capabilities-in-further-descendants")
@lie(leaves_out("setresuid"))
def test_the_owner_has_capabilities_in_all_namespaces_below(parent: Process) -> None:
    owner = parent.fork("owner")
    become_ordinary(owner, owns_its_files=True)
    enter_user_namespace(owner, 7, 8)
    inner = owner.clone(CLONE_NEWUSER | SIGCHLD, name="inner")
    descriptor = open_namespace(parent, inner, "user")
    mate, stranger = parent.fork("mate"), parent.fork("stranger")
    become_ordinary(mate)
    become_another(stranger)
    with fails(EPERM):
        stranger.sys.setns(descriptor, CLONE_NEWUSER)
    assert mate.sys.setns(descriptor, CLONE_NEWUSER) == 0


def become_another(process: Process) -> None:
    """Take the ids of a user who is not the ordinary one."""
    other = SOMEBODY + 1
    process.sys.setresuid(other, other, other)


@clause("user_namespaces.7/unowned-resources-refused")
@lie(leaves_out("mknodat"))
def test_what_no_namespace_owns_is_out_of_reach(parent: Process, target: Target) -> None:
    own_namespaces(parent, CLONE_NEWUSER, root=True)
    with fails(EPERM):
        parent.sys.mknodat(AT_FDCWD, f"{target.folder()}/null", CHARACTER_DEVICE, NULL)


@pytest.mark.parametrize(
    "flag",
    [
        pytest.param(CLONE_NEWCGROUP, id="cgroup"),
        pytest.param(CLONE_NEWIPC, id="ipc"),
        pytest.param(CLONE_NEWNET, id="net"),
        pytest.param(CLONE_NEWNS, id="mnt"),
        pytest.param(CLONE_NEWPID, id="pid"),
        pytest.param(CLONE_NEWTIME, id="time"),
        pytest.param(CLONE_NEWUTS, id="uts"),
    ],
)
@clause("user_namespaces.7/others-with-sys-admin-inside")
@lie(STAYS)
def test_the_other_kinds_take_cap_sys_admin_inside(parent: Process, flag: int) -> None:
    parent.sys.capset(0, 0, 0)
    parent.sys.unshare(CLONE_NEWUSER)
    child = parent.fork()
    lose_capabilities(child, "SYS_ADMIN")
    with fails(EPERM):
        child.sys.unshare(flag)
    parent.sys.unshare(flag)


# --- mounts ---


def mount_points(process: Process) -> list[bytes]:
    """Where something is mounted, as a process sees it."""
    lines = Observer(process).read("/proc/self/mountinfo").splitlines()
    return [line.split()[4] for line in lines]


@pytest.mark.parametrize(
    ("type", "flags", "namespaces"),
    [
        pytest.param(None, MS_BIND, 0, id="bind"),
        pytest.param("tmpfs", 0, 0, id="tmpfs"),
        pytest.param("ramfs", 0, 0, id="ramfs"),
        pytest.param("devpts", 0, 0, id="devpts"),
        pytest.param("mqueue", 0, CLONE_NEWIPC, id="mqueue"),
        pytest.param("sysfs", 0, CLONE_NEWNET, id="sysfs"),
    ],
)
@clause("user_namespaces.7/inner-root-may-mount")
@lie(leaves_out("mount"))
def test_inner_root_mounts(
    parent: Process, target: Target, type: str | None, flags: int, namespaces: int
) -> None:
    private_mounts(parent, CLONE_NEWUSER | namespaces, root=True)
    parent.sys.mount(target.folder(), target.folder(), type, flags)
    assert target.folder().encode() in mount_points(parent)


@clause("user_namespaces.7/mount-proc-needs-pid-namespace")
@lie(leaves_out("mount"))
def test_proc_is_mounted_in_an_owned_pid_namespace_only(parent: Process, target: Target) -> None:
    private_mounts(parent, CLONE_NEWUSER, root=True)
    with fails(EPERM):
        parent.sys.mount("proc", target.folder(), "proc")
    init = parent.clone(CLONE_NEWPID | SIGCHLD, name="init")
    mount_proc(init, target.folder())


@clause("user_namespaces.7/inner-root-may-mount-cgroup2")
@lie(leaves_out("mount"))
def test_cgroups_are_mounted_in_an_owned_cgroup_namespace_only(
    parent: Process, target: Target
) -> None:
    private_mounts(parent, CLONE_NEWUSER, root=True)
    with fails(EPERM):
        parent.sys.mount("cgroup2", target.folder(), "cgroup2")
    parent.sys.unshare(CLONE_NEWCGROUP)
    assert parent.sys.mount("cgroup2", target.folder(), "cgroup2") == 0


@clause("user_namespaces.7/inner-init-with-maps")
@lie(drops(CLONE_NEWPID), drops(CLONE_NEWNS), UNMAPPED)
def test_an_ordinary_user_makes_an_init_that_is_root(parent: Process, target: Target) -> None:
    become_ordinary(parent, owns_its_files=True)
    user, group = parent.sys.getuid(), parent.sys.getgid()
    init = parent.clone(CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | SIGCHLD, name="init")
    parent.write_to(f"/proc/{init.pid}/uid_map", b"0 %d 1" % user)
    parent.write_to(f"/proc/{init.pid}/setgroups", b"deny")
    parent.write_to(f"/proc/{init.pid}/gid_map", b"0 %d 1" % group)
    assert (init.sys.getpid(), init.sys.getuid(), init.sys.getgid()) == (1, 0, 0)
    assert init.sys.capget().effective & capability("SYS_ADMIN")
    mount_proc(init, "/proc")
    assert Observer(init).link("/proc/self") == "1"
