"""namespaces(7): the links in /proc/PID/ns, and what members of a namespace share."""

from __future__ import annotations

import re
import stat

import pytest

from pytest_procsemantics import Process, clause
from pytest_procsemantics.alike import Make
from pytest_procsemantics.driven import Observer, fails
from pytest_procsemantics.driven.constants import (
    AT_FDCWD,
    AT_SYMLINK_NOFOLLOW,
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWTIME,
    CLONE_NEWUTS,
    EACCES,
    O_DIRECTORY,
    PR_SET_DUMPABLE,
    SIGCHLD,
)
from pytest_procsemantics.lies import EXEC_IN_A_CHILD, drops, in_child, leaves_out, lie, passes
from pytest_procsemantics.requirements import namespace_flags, open_namespace, own_namespaces

KINDS = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"]
ENTRIES = sorted([*KINDS, "pid_for_children", "time_for_children"])
OWN = CLONE_NEWCGROUP | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWUTS
STAYS = leaves_out("unshare")
LEAVES = in_child("it unshares", lambda child: child.sys.unshare(namespace_flags(child, OWN)))


def differing(observer: Observer, one: Process, other: Process) -> set[str]:
    """The kinds of which two processes have different namespaces."""
    return {
        kind for kind in KINDS if observer.namespace(one, kind) != observer.namespace(other, kind)
    }


# --- the links ---


@clause("namespaces.7/one-entry-for-each-namespace")
@lie(leaves_out("getdents64"))
def test_there_is_an_entry_for_each_kind(parent: Process) -> None:
    folder = parent.sys.openat(AT_FDCWD, "/proc/self/ns", O_DIRECTORY)
    names = {name.decode() for name in parent.sys.getdents64(folder)} - {".", ".."}
    assert names == set(ENTRIES)


@pytest.mark.parametrize("entry", ENTRIES)
@clause("namespaces.7/entries-are-symbolic-links", "namespaces.7/link-text-is-type-and-inode")
@lie(leaves_out("newfstatat"))
def test_an_entry_is_a_link_that_names_kind_and_inode(parent: Process, entry: str) -> None:
    path = f"/proc/self/ns/{entry}"
    kind = entry.removesuffix("_for_children")
    assert stat.S_ISLNK(parent.sys.fstatat(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW).mode)
    inode = parent.sys.fstatat(AT_FDCWD, path).ino
    assert Observer(parent).link(path) == f"{kind}:[{inode}]"


@clause("namespaces.7/same-namespace-same-inode")
@lie(STAYS)
def test_the_entries_of_members_of_one_namespace_are_one_file(
    parent: Process, observer: Observer
) -> None:
    own_namespaces(parent, CLONE_NEWUTS)
    child = parent.fork()
    assert {kind for kind in KINDS if file_of(parent, kind) != file_of(child, kind)} == set()
    child.sys.unshare(CLONE_NEWUTS)
    assert {kind for kind in KINDS if file_of(parent, kind) != file_of(child, kind)} == {"uts"}


def file_of(process: Process, kind: str) -> tuple[int, int]:
    """The device and the inode of a namespace of a process."""
    found = process.sys.fstatat(AT_FDCWD, f"/proc/self/ns/{kind}")
    return found.dev, found.ino


@clause("namespaces.7/open-gives-handle-of-that-process")
@lie(STAYS, passes("one's own", "openat", 1, lambda path: re.sub(r"/\d+/", "/self/", str(path))))
def test_an_open_entry_is_the_namespace_of_the_process_in_its_path(
    parent: Process, observer: Observer
) -> None:
    child = parent.fork()
    child.sys.unshare(namespace_flags(child, CLONE_NEWUTS))
    descriptor = parent.sys.openat(AT_FDCWD, f"/proc/{child.pid}/ns/uts")
    inode = parent.sys.fstat(descriptor).ino
    assert observer.namespace(child, "uts") == f"uts:[{inode}]"
    assert observer.namespace(parent, "uts") != f"uts:[{inode}]"


@clause("namespaces.7/links-need-ptrace-read-access")
@lie(leaves_out("prctl"))
def test_the_links_are_read_by_those_only_who_may_trace(parent: Process) -> None:
    parent.sys.capset(0, 0, 0)
    child = parent.fork()
    assert Observer(parent).namespace(child, "uts") == Observer(child).namespace(child, "uts")
    child.sys.prctl(PR_SET_DUMPABLE, 0)
    with fails(EACCES):
        Observer(parent).link(f"/proc/{child.pid}/ns/uts")
    with fails(EACCES):
        open_namespace(parent, child, "uts")


# --- who is in which ---


@clause("namespaces.7/clone-puts-child-in-new-namespaces")
@lie(drops(CLONE_NEWUTS), drops(CLONE_NEWPID), drops(CLONE_NEWNET))
def test_clone_puts_the_child_in_all_namespaces_that_it_makes(
    parent: Process, observer: Observer
) -> None:
    own_namespaces(parent, CLONE_NEWUTS)
    before = [observer.namespace(parent, kind) for kind in KINDS]
    child = parent.clone3(OWN | CLONE_NEWPID)
    assert differing(observer, parent, child) == {"cgroup", "ipc", "mnt", "net", "pid", "uts"}
    assert [observer.namespace(parent, kind) for kind in KINDS] == before


@clause("namespaces.7/unshare-puts-caller-in-new-namespaces")
@lie(STAYS, passes("one less", "unshare", 0, lambda flags: flags & ~CLONE_NEWIPC))
def test_unshare_puts_the_caller_in_all_namespaces_that_it_makes(
    parent: Process, observer: Observer
) -> None:
    own_namespaces(parent, CLONE_NEWUTS)
    child = parent.fork()
    child.sys.unshare(OWN)
    assert differing(observer, parent, child) == {"cgroup", "ipc", "mnt", "net", "uts"}


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(Process.fork, id="fork"),
        pytest.param(Process.vfork, id="vfork"),
        pytest.param(Process.clone, id="clone"),
        pytest.param(Process.clone3, id="clone3"),
    ],
)
@clause("namespaces.7/child-inherits-all-namespaces")
@lie(LEAVES)
def test_without_flags_a_child_is_in_all_its_parents_namespaces(
    parent: Process, observer: Observer, make: Make
) -> None:
    own_namespaces(parent, CLONE_NEWUTS)
    assert differing(observer, parent, make(parent)) == set()


@clause("namespaces.7/changes-visible-to-members", "namespaces.7/changes-invisible-outside")
@lie(STAYS, LEAVES)
def test_a_change_is_seen_by_members_and_by_nobody_else(parent: Process) -> None:
    own_namespaces(parent, CLONE_NEWUTS)
    parent.sys.sethostname(b"outside")
    child = parent.fork()
    child.sys.unshare(CLONE_NEWUTS)
    child.fork("grandchild").sys.sethostname(b"inside")
    assert child.sys.uname().nodename == "inside"
    assert parent.sys.uname().nodename == "outside"


# --- pid ---


@clause("namespaces.7/pid-link-is-handle")
@lie(drops(CLONE_NEWPID))
def test_the_link_of_a_pid_namespace_is_its_members(parent: Process, observer: Observer) -> None:
    own_namespaces(parent, CLONE_NEWUTS)
    init = parent.clone(CLONE_NEWPID | SIGCHLD, name="init")
    assert differing(observer, parent, init) == {"pid"}
    assert differing(observer, init, init.fork()) == set()


@clause("namespaces.7/pid-for-children-is-handle")
@lie(STAYS)
def test_pid_for_children_is_the_namespace_of_the_next_child(
    parent: Process, observer: Observer
) -> None:
    own = observer.namespace(parent, "pid")
    assert observer.namespace(parent, "pid_for_children") == own
    parent.sys.unshare(namespace_flags(parent, CLONE_NEWPID))
    child = parent.fork()
    assert observer.namespace(parent, "pid_for_children") == observer.namespace(child, "pid") != own


@clause("namespaces.7/pid-for-children-empty-before-first-child")
def test_pid_for_children_is_empty_before_the_first_child(
    parent: Process, observer: Observer
) -> None:
    parent.sys.unshare(namespace_flags(parent, CLONE_NEWPID))
    assert observer.link(f"/proc/{parent.pid}/ns/pid_for_children") == ""


@clause("namespaces.7/pid-link-never-changes")
@lie(EXEC_IN_A_CHILD)
def test_the_pid_namespace_of_a_process_is_the_same_all_its_life(
    parent: Process, observer: Observer
) -> None:
    own_namespaces(parent, 0)
    before = observer.namespace(parent, "pid")
    init = parent.clone(CLONE_NEWPID | SIGCHLD, name="init")
    parent.sys.setns(open_namespace(parent, init, "pid"), CLONE_NEWPID)
    assert observer.namespace(parent, "pid") == before
    parent.execve()
    assert observer.namespace(parent, "pid") == before


# --- time ---


@clause("namespaces.7/time-for-children-is-handle")
@lie(STAYS)
def test_time_for_children_is_the_namespace_of_the_next_child(
    parent: Process, observer: Observer
) -> None:
    own = observer.namespace(parent, "time")
    assert observer.namespace(parent, "time_for_children") == own
    parent.sys.unshare(namespace_flags(parent, CLONE_NEWTIME))
    named = observer.namespace(parent, "time_for_children")
    assert observer.namespace(parent.fork(), "time") == named != own


@clause("namespaces.7/time-for-children-changed-by-setns")
@lie(leaves_out("setns"))
def test_setns_changes_time_for_children(parent: Process, observer: Observer) -> None:
    own_namespaces(parent, CLONE_NEWUTS)
    child = parent.clone3(CLONE_NEWTIME)
    parent.sys.setns(open_namespace(parent, child, "time"), CLONE_NEWTIME)
    assert observer.namespace(parent, "time_for_children") == observer.namespace(child, "time")
