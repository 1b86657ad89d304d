"""setns(2): the namespaces of a process, by a descriptor of it (Linux 5.8)."""

from __future__ import annotations

import struct

import pytest

from pytest_procsemantics import Process, clause
from pytest_procsemantics.driven import Observer, fails
from pytest_procsemantics.driven.constants import (
    CLONE_FS,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    CLONE_PIDFD,
    CLONE_VM,
    EINVAL,
    EPERM,
    ESRCH,
    PIDFD_THREAD,
    PR_SET_DUMPABLE,
    SIGCHLD,
)
from pytest_procsemantics.lies import leaves_out, lie, passes
from pytest_procsemantics.requirements import own_namespaces

STAYS = leaves_out("setns")


@clause("setns.2/pidfd-moves-into-named-namespaces", "setns.2/pidfd-leaves-other-namespaces")
@lie(
    STAYS,
    passes("uts alone", "setns", 1, CLONE_NEWUTS),
    passes("net too", "setns", 1, CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET),
)
def test_just_the_named_kinds_are_joined(parent: Process, observer: Observer) -> None:
    own_namespaces(parent, CLONE_NEWUTS)
    member = parent.clone(CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | SIGCHLD, name="member")
    before = observer.namespace(parent, "net")
    parent.sys.setns(parent.sys.pidfd_open(member.pid, 0), CLONE_NEWUTS | CLONE_NEWIPC)
    assert observer.namespace(parent, "uts") == observer.namespace(member, "uts")
    assert observer.namespace(parent, "ipc") == observer.namespace(member, "ipc")
    assert observer.namespace(parent, "net") == before != observer.namespace(member, "net")


@clause("setns.2/pidfd-of-clone-serves")
@lie(STAYS)
def test_a_descriptor_from_clone_serves(parent: Process, observer: Observer) -> None:
    own_namespaces(parent, CLONE_NEWUTS)
    cell = parent.allocate(4)
    member = parent.clone(CLONE_PIDFD | CLONE_NEWUTS | SIGCHLD, parent_tid=cell, name="member")
    (pidfd,) = struct.unpack("<i", parent.load_bytes(cell, 4))
    parent.sys.setns(pidfd, CLONE_NEWUTS)
    assert observer.namespace(parent, "uts") == observer.namespace(member, "uts")


@clause("setns.2/pidfd-of-a-thread")
@lie(STAYS, passes("the leader", "pidfd_open", 0, lambda tid: tid - 1))
def test_a_threads_namespace_is_joined_by_a_descriptor_of_the_thread(
    parent: Process, observer: Observer
) -> None:
    own_namespaces(parent, CLONE_NEWUTS)
    thread = parent.fork().thread()
    thread.sys.unshare(CLONE_NEWUTS)
    parent.sys.setns(parent.sys.pidfd_open(thread.tid, PIDFD_THREAD), CLONE_NEWUTS)
    assert observer.namespace(parent, "uts") == observer.namespace(thread, "uts")


@clause("setns.2/pidfd-moves-atomically")
@lie(passes("what can be had", "setns", 1, CLONE_NEWUTS))
def test_where_one_kind_is_refused_none_is_joined(parent: Process, observer: Observer) -> None:
    own_namespaces(parent, CLONE_NEWUTS)
    before = observer.namespace(parent, "uts")
    member = parent.clone(CLONE_NEWUSER | CLONE_NEWUTS | SIGCHLD, name="member")
    pidfd = parent.sys.pidfd_open(member.pid, 0)
    parent.thread()
    with fails(EINVAL):
        parent.sys.setns(pidfd, CLONE_NEWUTS | CLONE_NEWUSER)
    assert observer.namespace(parent, "uts") == before
    parent.sys.setns(pidfd, CLONE_NEWUTS)
    assert observer.namespace(parent, "uts") == observer.namespace(member, "uts")


@clause("setns.2/pidfd-moves-atomically")
@lie(STAYS)
def test_many_kinds_are_joined_by_one_call(parent: Process, observer: Observer) -> None:
    flags = CLONE_NEWUSER | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNS
    member = parent.clone(flags | SIGCHLD, name="member")
    parent.sys.setns(parent.sys.pidfd_open(member.pid, 0), flags)
    assert [observer.namespace(parent, kind) for kind in ("user", "uts", "ipc", "mnt")] == [
        observer.namespace(member, kind) for kind in ("user", "uts", "ipc", "mnt")
    ]


@clause("setns.2/pidfd-user-namespace-with-others")
@lie(passes("no user namespace", "setns", 1, lambda flags: flags & ~CLONE_NEWUSER))
def test_the_user_namespace_gives_the_right_to_join_the_others(
    parent: Process, observer: Observer
) -> None:
    parent.sys.capset(0, 0, 0)
    member = parent.clone(CLONE_NEWUSER | CLONE_NEWUTS | SIGCHLD, name="member")
    pidfd = parent.sys.pidfd_open(member.pid, 0)
    with fails(EPERM):
        parent.sys.setns(pidfd, CLONE_NEWUTS)
    parent.sys.setns(pidfd, CLONE_NEWUSER | CLONE_NEWUTS)
    assert observer.namespace(parent, "uts") == observer.namespace(member, "uts")


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param(0, id="none"),
        pytest.param(CLONE_FS, id="fs"),
        pytest.param(CLONE_VM, id="vm"),
        pytest.param(CLONE_NEWUTS | CLONE_FS, id="uts with fs"),
        pytest.param(-1, id="all bits"),
    ],
)
@clause("setns.2/einval-pidfd-invalid-nstype")
@lie(STAYS)
def test_what_does_not_name_namespaces_is_refused(parent: Process, flags: int) -> None:
    own_namespaces(parent, CLONE_NEWUTS)
    with fails(EINVAL):
        parent.sys.setns(parent.sys.pidfd_open(parent.pid, 0), flags)


@clause("setns.2/esrch-pidfd-of-zombie", "setns.2/esrch-pidfd-of-reaped-process")
@lie(STAYS)
def test_nobody_joins_a_process_that_has_ended(parent: Process, observer: Observer) -> None:
    own_namespaces(parent, CLONE_NEWUTS)
    before = observer.namespace(parent, "uts")
    member = parent.clone(CLONE_NEWUTS | SIGCHLD, name="member")
    pidfd = parent.sys.pidfd_open(member.pid, 0)
    member.exit()
    with fails(ESRCH):
        parent.sys.setns(pidfd, CLONE_NEWUTS)
    member.wait_for_exit()
    with fails(ESRCH):
        parent.sys.setns(pidfd, CLONE_NEWUTS)
    assert observer.namespace(parent, "uts") == before


@clause("setns.2/eperm-pidfd-not-traceable")
@lie(STAYS, leaves_out("prctl"))
def test_nobody_joins_a_process_that_it_may_not_trace(parent: Process) -> None:
    own_namespaces(parent, CLONE_NEWUSER | CLONE_NEWUTS)
    member = parent.fork("member")
    pidfd = parent.sys.pidfd_open(member.pid, 0)
    member.sys.prctl(PR_SET_DUMPABLE, 0)
    with fails(EPERM):
        parent.sys.setns(pidfd, CLONE_NEWUTS)
    member.sys.prctl(PR_SET_DUMPABLE, 1)
    assert parent.sys.setns(pidfd, CLONE_NEWUTS) == 0
