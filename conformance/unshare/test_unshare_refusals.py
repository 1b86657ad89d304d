"""unshare(2): what is refused."""

from __future__ import annotations

import pytest

from pytest_procsemantics import Process, clause
from pytest_procsemantics.driven import Observer, fails
from pytest_procsemantics.driven.constants import (
    CLONE_CHILD_CLEARTID,
    CLONE_CHILD_SETTID,
    CLONE_IO,
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWTIME,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    CLONE_PARENT,
    CLONE_PARENT_SETTID,
    CLONE_PIDFD,
    CLONE_PTRACE,
    CLONE_SETTLS,
    CLONE_SIGHAND,
    CLONE_THREAD,
    CLONE_UNTRACED,
    CLONE_VFORK,
    CLONE_VM,
    EINVAL,
    ENOSPC,
    EPERM,
    SIGCHLD,
)
from pytest_procsemantics.driven.target import Target
from pytest_procsemantics.lies import drops, every_child, leaves_out, lie, passes
from pytest_procsemantics.requirements import (
    expect_own_id_map,
    namespace_flags,
    nest_user_namespaces,
    own_namespaces,
)

STAYS = leaves_out("unshare")
NO_THREADS = every_child(SIGCHLD)
DEEP = 40  # levels, more than there can be


@pytest.mark.parametrize(
    "flag",
    [
        pytest.param(CLONE_PIDFD, id="pidfd"),
        pytest.param(CLONE_PTRACE, id="ptrace"),
        pytest.param(CLONE_VFORK, id="vfork"),
        pytest.param(CLONE_PARENT, id="parent"),
        pytest.param(CLONE_SETTLS, id="settls"),
        pytest.param(CLONE_PARENT_SETTID, id="parent_settid"),
        pytest.param(CLONE_CHILD_CLEARTID, id="child_cleartid"),
        pytest.param(CLONE_UNTRACED, id="untraced"),
        pytest.param(CLONE_CHILD_SETTID, id="child_settid"),
        pytest.param(CLONE_IO, id="io"),
        pytest.param(1, id="lowest"),
        pytest.param(1 << 63, id="highest"),
    ],
)
@clause("unshare.2/einval-invalid-bit", "unshare.2/failure-returns-minus-one")
@lie(STAYS)
def test_a_flag_that_it_does_not_know_is_refused(parent: Process, flag: int) -> None:
    with fails(EINVAL):
        parent.sys.unshare(flag)


@pytest.mark.parametrize(
    "flag",
    [
        pytest.param(
            CLONE_THREAD, marks=clause("unshare.2/einval-thread-multithreaded"), id="thread"
        ),
        pytest.param(
            CLONE_SIGHAND, marks=clause("unshare.2/einval-sighand-multithreaded"), id="sighand"
        ),
        pytest.param(CLONE_VM, marks=clause("unshare.2/einval-vm-multithreaded"), id="vm"),
    ],
)
@lie(NO_THREADS)
def test_two_threads_may_not_give_the_flags_of_threads(parent: Process, flag: int) -> None:
    thread = parent.thread()
    with fails(EINVAL):
        parent.sys.unshare(flag)
    with fails(EINVAL):
        thread.sys.unshare(flag)


@clause("unshare.2/sighand-thread-vm-not-reversed")
@lie(STAYS)
def test_memory_and_handlers_that_are_shared_stay_so(parent: Process) -> None:
    child = parent.clone(CLONE_VM | CLONE_SIGHAND | SIGCHLD)
    with fails(EINVAL):
        child.sys.unshare(CLONE_SIGHAND)
    with fails(EINVAL):
        child.sys.unshare(CLONE_VM)


@clause("unshare.2/shared-memory-counts-as-threaded")
@lie(drops(CLONE_VM))
def test_who_shares_memory_may_not_unshare_it(parent: Process) -> None:
    child = parent.clone(CLONE_VM | SIGCHLD)
    with fails(EINVAL):
        child.sys.unshare(CLONE_VM)
    with fails(EINVAL):
        parent.sys.unshare(CLONE_VM)
    child.exit()
    assert parent.sys.unshare(CLONE_VM) == 0


@clause("unshare.2/thread-implies-vm")
@lie(drops(CLONE_VM))
def test_who_shares_memory_may_not_give_clone_thread(parent: Process) -> None:
    child = parent.clone(CLONE_VM | SIGCHLD)
    with fails(EINVAL):
        child.sys.unshare(CLONE_THREAD)


# --- privilege ---


@pytest.mark.parametrize(
    "flag",
    [
        pytest.param(
            CLONE_NEWCGROUP, marks=clause("unshare.2/newcgroup-needs-sys-admin"), id="cgroup"
        ),
        pytest.param(CLONE_NEWIPC, marks=clause("unshare.2/newipc-needs-sys-admin"), id="ipc"),
        pytest.param(CLONE_NEWNET, marks=clause("unshare.2/newnet-needs-sys-admin"), id="net"),
        pytest.param(CLONE_NEWNS, marks=clause("unshare.2/newns-needs-sys-admin"), id="mnt"),
        pytest.param(CLONE_NEWPID, marks=clause("unshare.2/newpid-needs-sys-admin"), id="pid"),
        pytest.param(CLONE_NEWTIME, marks=clause("unshare.2/newtime-needs-sys-admin"), id="time"),
        pytest.param(CLONE_NEWUTS, marks=clause("unshare.2/newuts-needs-sys-admin"), id="uts"),
    ],
)
@clause("unshare.2/eperm-without-privilege")
@lie(STAYS)
def test_a_new_namespace_takes_privilege(parent: Process, flag: int) -> None:
    parent.sys.capset(0, 0, 0)
    with fails(EPERM):
        parent.sys.unshare(flag)


@clause("unshare.2/all-but-user-need-sys-admin")
@lie(STAYS)
def test_only_a_user_namespace_takes_none(parent: Process, observer: Observer) -> None:
    before = observer.namespace(parent, "user")
    parent.sys.capset(0, 0, 0)
    with fails(EPERM):
        parent.sys.unshare(CLONE_NEWUTS)
    parent.sys.unshare(CLONE_NEWUSER)
    assert observer.namespace(parent, "user") != before


@clause("unshare.2/newuser-needs-mapped-uid")
@lie(STAYS)
def test_without_a_mapped_user_a_second_user_namespace_is_refused(parent: Process) -> None:
    parent.sys.unshare(CLONE_NEWUSER)
    with fails(EPERM):
        parent.sys.unshare(CLONE_NEWUSER)


@clause("unshare.2/newuser-needs-mapped-gid")
@lie(STAYS)
def test_without_a_mapped_group_a_second_user_namespace_is_refused(parent: Process) -> None:
    expect_own_id_map(parent)
    user = parent.sys.geteuid()
    parent.sys.unshare(CLONE_NEWUSER)
    parent.write_to("/proc/self/uid_map", b"0 %d 1" % user)
    with fails(EPERM):
        parent.sys.unshare(CLONE_NEWUSER)


@clause("unshare.2/eperm-newuser-in-chroot")
@lie(leaves_out("chroot"))
def test_in_another_root_a_user_namespace_is_refused(parent: Process, target: Target) -> None:
    own_namespaces(parent, CLONE_NEWUSER)
    parent.sys.chroot(target.folder())
    with fails(EPERM):
        parent.sys.unshare(CLONE_NEWUSER)


# --- threads and namespaces ---


@clause("unshare.2/newuser-refused-for-threads")
@lie(NO_THREADS)
def test_with_a_second_thread_a_user_namespace_is_refused(parent: Process) -> None:
    thread = parent.thread()
    with fails(EINVAL):
        parent.sys.unshare(CLONE_NEWUSER)
    with fails(EINVAL):
        thread.sys.unshare(CLONE_NEWUSER)
    thread.exit_thread()
    assert parent.sys.unshare(CLONE_NEWUSER) == 0


@clause("unshare.2/newpid-implies-thread")
@lie(NO_THREADS)
def test_with_a_second_thread_a_pid_namespace_is_refused(parent: Process) -> None:
    own_namespaces(parent, CLONE_NEWUSER)
    parent.thread()
    with fails(EINVAL):
        parent.sys.unshare(CLONE_NEWPID)


@clause("unshare.2/refused-call-changes-nothing")
@lie(passes("the first of them all the same", "unshare", 0, CLONE_NEWUTS))
def test_a_refused_call_makes_no_namespace(parent: Process, observer: Observer) -> None:
    own_namespaces(parent, CLONE_NEWUTS)
    before = observer.namespace(parent, "uts")
    parent.thread()
    with fails(EINVAL):
        parent.sys.unshare(CLONE_NEWUTS | CLONE_NEWUSER)
    assert observer.namespace(parent, "uts") == before


@clause("unshare.2/einval-newpid-twice")
@lie(STAYS)
def test_a_second_pid_namespace_is_refused(parent: Process) -> None:
    parent.sys.unshare(namespace_flags(parent, CLONE_NEWPID))
    with fails(EINVAL):
        parent.sys.unshare(CLONE_NEWPID)
    parent.fork()
    with fails(EINVAL):
        parent.sys.unshare(CLONE_NEWPID)


# --- depth ---


@clause("unshare.2/enospc-user-depth")
@lie(STAYS)
def test_user_namespaces_nest_to_a_limit(parent: Process) -> None:
    nest_user_namespaces(parent, DEEP)
    with fails(ENOSPC):
        parent.sys.unshare(CLONE_NEWUSER)
