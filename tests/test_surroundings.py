"""Surroundings of a process that are its own, and programs for checks: for whoever runs the suite, and whatever lie is told."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pytest_procsemantics.driven import Target
from pytest_procsemantics.driven.constants import (
    CLONE_NEWNS,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    MS_REC,
    MS_SHARED,
    PR_SET_DUMPABLE,
)
from pytest_procsemantics.driven.errors import CallFailed, Unsupported
from pytest_procsemantics.driven.forms import capability
from pytest_procsemantics.lies import leaves_out, told
from pytest_procsemantics.requirements import (
    become_ordinary,
    enter_user_namespace,
    lose_capabilities,
    open_namespace,
    own_namespaces,
    private_mounts,
    raise_ambient,
)
from pytest_procsemantics.requirements.programs import file_capabilities

NAMED = ("NET_RAW", "AUDIT_READ")  # of the low and of the high half of a mask


@pytest.fixture(scope="module")
def local() -> Iterator[Target]:
    """This machine."""
    with Target.open() as target:
        yield target


def test_no_lie_leaves_a_process_out_of_its_own_namespaces(local: Target) -> None:
    with local.test() as target, told(leaves_out("unshare"), target):
        process, observer = target.new_process(), target.observer
        own_namespaces(process, CLONE_NEWUTS)
        assert observer.namespace(process, "uts") != observer.namespace(observer.process, "uts")


def test_no_lie_leaves_mounts_shared(local: Target) -> None:
    with local.test() as target:
        parent = target.new_process()
        own_namespaces(parent, CLONE_NEWNS)
        parent.sys.mount("none", "/", None, MS_REC | MS_SHARED)
        with told(leaves_out("mount"), target):
            child = parent.fork()
        private_mounts(child)
        assert b" shared:" in target.observer.read(f"/proc/{parent.pid}/mountinfo")
        assert b" shared:" not in target.observer.read(f"/proc/{child.pid}/mountinfo")


def test_only_the_named_capabilities_are_lost(local: Target) -> None:
    with local.test() as target:
        process = target.new_process()
        own_namespaces(process, CLONE_NEWUSER)
        before = process.sys.capget().effective
        lose_capabilities(process, "SYS_ADMIN", "SYS_TIME")
        lost = capability("SYS_ADMIN") | capability("SYS_TIME")
        assert process.sys.capget()[:2] == (before & ~lost, before & ~lost)
        assert before & lost == lost


def test_only_the_named_capability_becomes_ambient(local: Target) -> None:
    with local.test() as target:
        process = target.new_process()
        own_namespaces(process, CLONE_NEWUSER)
        raise_ambient(process, "NET_RAW")
        raise_ambient(process, "AUDIT_READ")
        sets, raised = target.observer.capabilities(process), map(capability, NAMED)
        assert sets.ambient == sets.inheritable == sum(raised)
        assert sets.permitted == sets.effective == sets.bounding


def test_capabilities_of_a_file_are_what_the_kernel_takes(local: Target) -> None:
    given = file_capabilities(capability("NET_RAW"), capability("AUDIT_READ"), effective=True)
    assert given == bytes.fromhex("01000002 00200000 00000000 00000000 20000000")


def test_a_namespace_is_opened_and_closed_by_exec(local: Target) -> None:
    with local.test() as target:
        process = target.new_process()
        descriptor = open_namespace(process, process, "uts")
        child = process.fork()
        child.execve()
        inode = process.sys.fstat(descriptor).ino
        assert target.observer.namespace(process, "uts") == f"uts:[{inode}]"
        with pytest.raises(CallFailed, match="EBADF"):
            child.sys.fstat(descriptor)


def test_a_kind_that_not_even_its_own_can_be_opened_is_unsupported(local: Target) -> None:
    with local.test() as target:
        process = target.new_process()
        child = process.fork()
        with pytest.raises(Unsupported, match=r"/proc/PID/ns/none \(open: ENOENT\)"):
            open_namespace(process, child, "none")


def test_that_only_the_others_cant_be_opened_is_a_failure(local: Target) -> None:
    with local.test() as target:
        process = target.new_process()
        process.sys.capset(0, 0, 0)
        child = process.fork()
        child.sys.prctl(PR_SET_DUMPABLE, 0)
        with pytest.raises(CallFailed, match="EACCES"):
            open_namespace(process, child, "uts")
        assert process.sys.dup(0) == 3


def test_an_entered_user_namespace_has_the_ids(local: Target) -> None:
    with local.test() as target:
        process = target.new_process()
        enter_user_namespace(process, 7, 8)
        assert (process.sys.getuid(), process.sys.getgid()) == (7, 8)


def test_an_ordinary_user_owns_the_files_of_its_process_where_it_shall(local: Target) -> None:
    with local.test() as target:
        process = target.new_process()
        become_ordinary(process, owns_its_files=True)
        user = process.sys.geteuid()
        assert user != 0
        assert process.sys.stat("/proc/self/uid_map").uid == user
