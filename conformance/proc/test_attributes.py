"""proc(5): descriptors, places and settings that a child and a new image have of the old."""

from __future__ import annotations

from collections.abc import Callable

from pytest_procsemantics import Process, Target, clause
from pytest_procsemantics.alike import Make, by_any_copy, like_fork
from pytest_procsemantics.driven import Observer, fails
from pytest_procsemantics.driven.constants import (
    AT_FDCWD,
    CLONE_FILES,
    CLONE_NEWNS,
    CLONE_VM,
    EPERM,
    F_SETFD,
    FD_CLOEXEC,
    O_CLOEXEC,
    O_DIRECTORY,
    PR_SET_TIMERSLACK,
    SIGCHLD,
)
from pytest_procsemantics.lies import (
    EXEC_IN_A_CHILD,
    every_child,
    in_child,
    in_image,
    instead,
    leaves_out,
    lie,
)
from pytest_procsemantics.requirements import enter_user_namespace, own_namespaces

LOW = range(64)  # descriptors that are no channels
SHARED_FILES = every_child(CLONE_FILES | SIGCHLD)


# --- descriptors ---


def descriptors(observer: Observer, process: Process) -> dict[int, str]:
    """Where each of a process's descriptors leads, but for its channels."""
    path, calls = f"/proc/{process.pid}/fd", observer.process.sys
    names = calls.getdents64(calls.openat(AT_FDCWD, path, O_DIRECTORY))
    numbers = [int(name) for name in names if name.isdigit()]
    return {number: observer.link(f"{path}/{number}") for number in numbers if number in LOW}


@like_fork("proc.5/fd-lists-inherited-descriptors")
@lie(SHARED_FILES, in_child("one is closed", lambda child: child.sys.close(1)))
def test_fd_lists_the_childs_copies(parent: Process, observer: Observer, make: Make) -> None:
    parent.sys.pipe()
    child = make(parent)
    before = descriptors(observer, parent)
    assert descriptors(observer, child) == before
    child.sys.close(2)
    assert set(before) - set(descriptors(observer, child)) == {2}
    assert descriptors(observer, parent) == before


@clause("proc.5/fdinfo-flags-show-cloexec")
@lie(leaves_out("fcntl"), SHARED_FILES)
def test_fdinfo_shows_close_on_exec(parent: Process, observer: Observer) -> None:
    child = parent.fork()
    child.sys.fcntl(2, F_SETFD, FD_CLOEXEC)
    assert int(observer.fdinfo(child, 2)["flags"], 8) & O_CLOEXEC
    assert not int(observer.fdinfo(parent, 2)["flags"], 8) & O_CLOEXEC


# --- places ---


def goes_elsewhere(process: Process) -> None:
    """Have another root, and be there."""
    process.sys.mkdir("/elsewhere")
    process.sys.chroot("/elsewhere")
    process.sys.chdir("/")


@by_any_copy("proc.5/cwd-and-root-after-fork")
@lie(in_child("it goes elsewhere", goes_elsewhere))
def test_cwd_and_root_of_a_child_are_the_parents(
    parent: Process, observer: Observer, target: Target, make: Make
) -> None:
    own_namespaces(parent, CLONE_NEWNS)
    parent.sys.mkdir(f"{target.folder()}/place")
    parent.sys.chdir(f"{target.folder()}/place")
    parent.sys.chroot(target.folder())
    child = make(parent)
    assert observer.link(f"/proc/{child.pid}/cwd") == f"{target.folder()}/place"
    assert observer.link(f"/proc/{child.pid}/root") == target.folder()


# --- settings ---


def setting(process: Process, name: str) -> bytes:
    """What a process reads of itself."""
    return Observer(process).read(f"/proc/self/{name}").strip()


def sets(name: str, value: bytes) -> Callable[[Process], None]:
    """What writes a setting of a process's own."""
    return lambda process: process.write_to(f"/proc/self/{name}", value)


@like_fork("proc.5/oom-score-adj-inherited-by-fork")
@lie(in_child("it has another", sets("oom_score_adj", b"1000")))
def test_a_child_has_the_parents_oom_score_adj(parent: Process, make: Make) -> None:
    parent.write_to("/proc/self/oom_score_adj", b"900")
    assert setting(make(parent), "oom_score_adj") == b"900"


@clause("proc.5/oom-score-adj-kept-over-exec")
@lie(in_image("exec changes it", sets("oom_score_adj", b"1000")))
def test_oom_score_adj_stays_over_exec(parent: Process) -> None:
    parent.write_to("/proc/self/oom_score_adj", b"900")
    parent.execve()
    assert setting(parent, "oom_score_adj") == b"900"


@clause("proc.5/oom-score-adj-of-vfork-child")
@lie(instead("vfork", CLONE_VM | SIGCHLD))
def test_oom_score_adj_of_a_vfork_child_is_its_own(parent: Process, observer: Observer) -> None:
    parent.write_to("/proc/self/oom_score_adj", b"900")
    child = parent.vfork()
    child.write_to("/proc/self/oom_score_adj", b"1000")
    assert setting(child, "oom_score_adj") == b"1000"
    assert observer.read(f"/proc/{parent.pid}/oom_score_adj") == b"900\n"


@clause("proc.5/coredump-filter-inherited-and-kept")
@lie(
    in_child("it has another", sets("coredump_filter", b"0x33")),
    in_image("exec changes it", sets("coredump_filter", b"0x33")),
)
def test_coredump_filter_is_inherited_and_stays_over_exec(parent: Process) -> None:
    parent.write_to("/proc/self/coredump_filter", b"0x7")
    child = parent.fork()
    assert setting(child, "coredump_filter") == b"00000007"
    child.execve()
    assert setting(child, "coredump_filter") == b"00000007"


def has_default_slack(process: Process) -> None:
    """Have another timer slack."""
    process.sys.prctl(PR_SET_TIMERSLACK, 50000)


@clause("proc.5/timerslack-inherited")
@lie(in_child("it has another", has_default_slack), in_image("exec changes it", has_default_slack))
def test_timerslack_is_inherited_and_stays_over_exec(parent: Process) -> None:
    parent.sys.prctl(PR_SET_TIMERSLACK, 123456)
    child = parent.fork()
    assert setting(child, "timerslack_ns") == b"123456"
    child.execve()
    assert setting(child, "timerslack_ns") == b"123456"


@clause("proc.5/setgroups-deny-inherited")
@lie(leaves_out("write"))
def test_a_denied_setgroups_is_inherited_and_stays_over_exec(parent: Process) -> None:
    enter_user_namespace(parent, 0, 0)
    child = parent.fork()
    child.execve()
    assert setting(child, "setgroups") == b"deny"
    with fails(EPERM):
        child.sys.setgroups([])


# --- counts of I/O ---

MEGABYTE = 1 << 20


def reads_a_megabyte(process: Process) -> None:
    """So that it is counted."""
    zeros, memory = process.sys.openat(AT_FDCWD, "/dev/zero"), process.allocate(MEGABYTE)
    process.sys.read(zeros, memory, MEGABYTE)


@by_any_copy("proc.5/io-counts-start-at-zero")
@lie(in_child("it reads as much", reads_a_megabyte))
def test_what_a_child_has_read_is_counted_from_zero(
    parent: Process, observer: Observer, make: Make
) -> None:
    reads_a_megabyte(parent)
    child = make(parent)
    assert observer.io_count(child, "rchar") < MEGABYTE <= observer.io_count(parent, "rchar")


@clause("proc.5/io-counts-kept-over-exec")
@lie(EXEC_IN_A_CHILD)
def test_what_was_read_counts_on_over_exec(parent: Process, observer: Observer) -> None:
    reads_a_megabyte(parent)
    parent.execve()
    assert observer.io_count(parent, "rchar") >= MEGABYTE
