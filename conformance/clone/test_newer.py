"""clone3(2): the flags of Linux 7.1, which no manual page has yet.

A kernel that does not know a flag refuses it, so each check of a refusal shows first that the flag is known.
"""

from __future__ import annotations

import struct

import pytest

from pytest_procsemantics import Process, Target, clause
from pytest_procsemantics.driven import Observer, Out, fails
from pytest_procsemantics.driven.constants import (
    CLONE_AUTOREAP,
    CLONE_EMPTY_MNTNS,
    CLONE_FS,
    CLONE_NEWNS,
    CLONE_NNP,
    CLONE_PARENT,
    CLONE_PIDFD,
    CLONE_PIDFD_AUTOKILL,
    CLONE_SIGHAND,
    CLONE_THREAD,
    CLONE_VM,
    ECHILD,
    EINVAL,
    EPERM,
    P_ALL,
    PIDFD_GET_INFO,
    PIDFD_INFO_EXIT,
    POLLIN,
    PR_GET_NO_NEW_PRIVS,
    PR_SET_CHILD_SUBREAPER,
    SIG_IGN,
    SIGCHLD,
    SIGKILL,
    WALL,
    WEXITED,
    WNOHANG,
)
from pytest_procsemantics.lies import adds, drops, in_child, lie
from pytest_procsemantics.requirements import own_namespaces

AS_THREAD = CLONE_VM | CLONE_SIGHAND | CLONE_THREAD
AUTOKILL = CLONE_PIDFD_AUTOKILL | CLONE_AUTOREAP | CLONE_PIDFD
INFO_BYTES, INFO_STATUS = 88, 60  # of struct pidfd_info, and where the status is (linux/pidfd.h)

REAPS_NOT = drops(CLONE_AUTOREAP, hangs=True)
KILLS_NOT = drops(CLONE_PIDFD_AUTOKILL, hangs=True)


def with_pidfd(maker: Process, flags: int) -> tuple[Process, int]:
    """A child that reaps itself, and its maker's descriptor of it."""
    cell = maker.allocate(8)
    child = maker.clone3(CLONE_PIDFD | CLONE_AUTOREAP | flags, pidfd=cell, exit_signal=0)
    return child, maker.load(cell)


def status(process: Process, pidfd: int) -> int:
    """The wait status of an ended process, by a descriptor of it."""
    ask = Out(INFO_BYTES, struct.pack("<Q", PIDFD_INFO_EXIT))
    _, info = process.sys.ioctl(pidfd, PIDFD_GET_INFO, ask)
    return int.from_bytes(info[INFO_STATUS : INFO_STATUS + 4], "little")


def expect_no_child(process: Process) -> None:
    """There is nobody whom a process could wait for."""
    with fails(ECHILD):
        process.sys.waitid(P_ALL, 0, WEXITED | WALL | WNOHANG)


# --- CLONE_AUTOREAP ---


@clause("clone.2/autoreap")
@lie(REAPS_NOT)
def test_a_child_with_clone_autoreap_leaves_no_zombie(parent: Process, observer: Observer) -> None:
    child = parent.clone3(CLONE_AUTOREAP, exit_signal=0)
    child.exit()
    observer.wait_until_gone(child)
    expect_no_child(parent)


@clause("clone.2/autoreap-status-by-pidfd")
@lie(REAPS_NOT)
def test_its_exit_status_is_read_from_the_pidfd(parent: Process, observer: Observer) -> None:
    child, pidfd = with_pidfd(parent, 0)
    child.exit(42)
    assert parent.sys.poll([(pidfd, POLLIN)])[0][1] & POLLIN
    observer.wait_until_gone(child)
    assert status(parent, pidfd) == 42 << 8
    expect_no_child(parent)


@clause("clone.2/autoreap-status-by-pidfd")
@lie(REAPS_NOT)
def test_the_signal_that_ended_it_is_read_from_the_pidfd(
    parent: Process, observer: Observer
) -> None:
    child, pidfd = with_pidfd(parent, 0)
    parent.sys.kill(child.own_pid, SIGKILL)
    assert parent.sys.poll([(pidfd, POLLIN)])[0][1] & POLLIN
    observer.wait_until_gone(child)
    assert status(parent, pidfd) == SIGKILL
    expect_no_child(parent)


@clause("clone.2/autoreap-kept-over-reparenting")
@lie(REAPS_NOT)
def test_it_reaps_itself_under_a_subreaper_too(parent: Process, observer: Observer) -> None:
    parent.sys.prctl(PR_SET_CHILD_SUBREAPER, 1)
    parent.count_signals(SIGCHLD)
    maker = parent.fork("maker")
    child = maker.clone3(CLONE_AUTOREAP, exit_signal=0)
    maker.exit()
    maker.wait_for_exit()
    assert child.sys.getppid() == parent.own_pid
    child.exit()
    observer.wait_until_gone(child)
    expect_no_child(parent)
    assert parent.count(SIGCHLD) == 1


@clause("clone.2/autoreap-waits-for-last-thread")
@lie(REAPS_NOT)
def test_it_reaps_itself_when_its_last_thread_has_ended(
    parent: Process, observer: Observer
) -> None:
    child, pidfd = with_pidfd(parent, 0)
    thread = child.thread()
    child.post.sys.exit()
    observer.wait_for_state(child, "Z")
    assert parent.sys.poll([(pidfd, POLLIN)], 0) == [(pidfd, 0)]
    thread.post.sys.exit()
    observer.wait_until_gone(child)
    expect_no_child(parent)


@clause("clone.2/autoreap-not-inherited")
@lie(in_child("it is inherited", lambda child: child.sys.rt_sigaction(SIGCHLD, SIG_IGN)))
def test_the_children_of_such_a_child_are_waited_for(parent: Process) -> None:
    child = parent.clone3(CLONE_AUTOREAP, exit_signal=0)
    grandchild = child.fork("grandchild")
    grandchild.exit(77)
    assert child.sys.wait4(grandchild.own_pid).status == 77 << 8


@clause("clone.2/autoreap-bad-combinations")
@lie(drops(CLONE_AUTOREAP))
@pytest.mark.parametrize(
    ("flags", "exit_signal"),
    [
        pytest.param(0, SIGCHLD, id="exit signal"),
        pytest.param(CLONE_PARENT, 0, id="parent"),
        pytest.param(AS_THREAD, 0, id="thread"),
    ],
)
def test_what_would_tell_of_its_end_is_refused(
    parent: Process, flags: int, exit_signal: int
) -> None:
    caller = parent.fork("caller")
    caller.clone3(CLONE_AUTOREAP, exit_signal=0)
    with fails(EINVAL):
        caller.clone3(CLONE_AUTOREAP | flags, exit_signal=exit_signal)


@clause("clone.2/autoreap-child-cannot-clone-parent")
@lie(drops(CLONE_PARENT), drops(CLONE_AUTOREAP))
def test_such_a_child_cannot_make_a_sibling(parent: Process) -> None:
    child = parent.clone3(CLONE_AUTOREAP, exit_signal=0)
    with fails(EINVAL):
        child.clone(CLONE_PARENT | SIGCHLD)


# --- CLONE_NNP ---


@clause("clone.2/no-new-privs")
@lie(drops(CLONE_NNP))
def test_the_child_begins_with_no_new_privs(parent: Process) -> None:
    before = parent.sys.prctl(PR_GET_NO_NEW_PRIVS)
    child = parent.clone3(CLONE_NNP)
    assert child.sys.prctl(PR_GET_NO_NEW_PRIVS) == 1
    assert parent.sys.prctl(PR_GET_NO_NEW_PRIVS) == before


@clause("clone.2/no-new-privs-only-by-its-flag")
@lie(adds(CLONE_NNP))
def test_the_other_flags_set_no_no_new_privs(parent: Process) -> None:
    child, _ = with_pidfd(parent, 0)
    assert child.sys.prctl(PR_GET_NO_NEW_PRIVS) == parent.sys.prctl(PR_GET_NO_NEW_PRIVS)


@clause("clone.2/no-new-privs-with-thread-refused")
@lie(drops(CLONE_NNP))
def test_a_thread_cannot_begin_with_no_new_privs(parent: Process) -> None:
    parent.clone3(CLONE_NNP)
    with fails(EINVAL):
        parent.clone3(CLONE_NNP | AS_THREAD)


# --- CLONE_PIDFD_AUTOKILL ---


@clause("clone.2/pidfd-autokill")
@lie(KILLS_NOT)
def test_the_end_of_the_descriptor_kills_the_child(parent: Process, target: Target) -> None:
    child, pidfd = with_pidfd(parent, CLONE_PIDFD_AUTOKILL | CLONE_NNP)
    other = parent.sys.pidfd_open(child.own_pid, 0)
    parent.sys.close(pidfd)
    target.wait_for_end(child)
    target.observer.wait_until_gone(child)
    assert status(parent, other) == SIGKILL


@clause("clone.2/pidfd-autokill-only-by-clone-descriptor")
@lie(KILLS_NOT)
def test_only_the_last_copy_of_that_descriptor_kills(parent: Process, target: Target) -> None:
    child, pidfd = with_pidfd(parent, CLONE_PIDFD_AUTOKILL | CLONE_NNP)
    parent.sys.close(parent.sys.pidfd_open(child.own_pid, 0))
    parent.sys.close(parent.sys.dup(pidfd))
    assert child.sys.getppid() == parent.own_pid
    parent.sys.close(pidfd)
    target.wait_for_end(child)


@clause("clone.2/pidfd-autokill-bad-combinations")
@lie(drops(CLONE_PIDFD_AUTOKILL))
@pytest.mark.parametrize(
    "flags",
    [
        pytest.param(CLONE_AUTOREAP, id="without pidfd"),
        pytest.param(CLONE_PIDFD, id="without autoreap"),
        pytest.param(CLONE_PIDFD | CLONE_AUTOREAP | AS_THREAD, id="thread"),
    ],
)
def test_clone_pidfd_autokill_needs_its_companions(parent: Process, flags: int) -> None:
    with_pidfd(parent, CLONE_PIDFD_AUTOKILL | CLONE_NNP)
    with fails(EINVAL):
        parent.clone3(CLONE_PIDFD_AUTOKILL | flags, pidfd=parent.allocate(8), exit_signal=0)


@clause("clone.2/pidfd-autokill-needs-privilege-or-nnp")
@lie(adds(CLONE_NNP))
def test_without_privilege_clone_pidfd_autokill_takes_clone_nnp(parent: Process) -> None:
    parent.sys.capset(0, 0, 0)
    with fails(EPERM):
        parent.clone3(AUTOKILL, pidfd=parent.allocate(8), exit_signal=0)
    assert parent.clone3(AUTOKILL | CLONE_NNP, pidfd=parent.allocate(8), exit_signal=0).pid


# --- CLONE_EMPTY_MNTNS ---


@clause("clone.2/empty-mntns")
@lie(drops(CLONE_EMPTY_MNTNS))
def test_the_child_begins_with_the_root_mount_alone(parent: Process, observer: Observer) -> None:
    own_namespaces(parent, CLONE_NEWNS)
    mounts = f"/proc/{parent.pid}/mountinfo"
    before = observer.read(mounts)
    child = parent.clone3(CLONE_EMPTY_MNTNS)
    assert observer.namespace(child, "mnt") != observer.namespace(parent, "mnt")
    assert observer.read(f"/proc/{child.pid}/mountinfo").count(b"\n") == 1
    assert observer.read(mounts) == before
    with fails(EINVAL):
        parent.clone3(CLONE_EMPTY_MNTNS | CLONE_FS)
