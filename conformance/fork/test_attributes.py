"""fork(2): what the child begins with, as a copy: a later change is its maker's alone."""

from __future__ import annotations

from contextlib import suppress

import pytest

from pytest_procsemantics import Process, Target, clause
from pytest_procsemantics.alike import Make, like_fork_and_vfork
from pytest_procsemantics.driven import CallFailed, Observer, Unsupported
from pytest_procsemantics.driven.constants import (
    CLONE_FS,
    CLONE_NEWUSER,
    CLONE_SIGHAND,
    CLONE_THREAD,
    CLONE_VM,
    PR_GET_NAME,
    PR_SET_NAME,
    PRIO_PROCESS,
    RLIMIT_FSIZE,
    RLIMIT_NOFILE,
    SIGCHLD,
)
from pytest_procsemantics.lies import every_child, in_child, lie
from pytest_procsemantics.requirements import become_nicer, expect_end_as_another

IS_THREAD = every_child(CLONE_VM | CLONE_SIGHAND | CLONE_THREAD)
SHARES_PLACE = every_child(CLONE_FS | SIGCHLD)


@like_fork_and_vfork("fork.2/umask-is-copied")
@lie(SHARES_PLACE, in_child("the umask is reset", lambda child: child.sys.umask(0o022)))
def test_the_child_has_a_copy_of_the_umask(parent: Process, make: Make) -> None:
    parent.sys.umask(0o137)
    child = make(parent)
    assert child.sys.umask(0) == 0o137
    child.exit()
    assert parent.sys.umask(0) == 0o137


@like_fork_and_vfork("fork.2/working-directory-is-copied")
@lie(SHARES_PLACE, in_child("the child is at the root", lambda child: child.sys.chdir("/")))
def test_the_child_begins_in_the_parents_directory(
    parent: Process, target: Target, make: Make
) -> None:
    folder = target.folder()
    parent.sys.chdir(folder)
    child = make(parent)
    assert child.sys.getcwd() == folder.encode()
    child.sys.chdir("/")
    child.exit()
    assert parent.sys.getcwd() == folder.encode()


@clause("fork.2/root-directory-is-copied")
@lie(SHARES_PLACE)
def test_the_child_begins_with_the_parents_root(
    parent: Process, target: Target, observer: Observer
) -> None:
    folder = target.folder()
    parent.sys.mkdir(f"{folder}/inner")
    parent.sys.chroot(folder)
    child = parent.fork()
    assert observer.link(f"/proc/{child.pid}/root") == folder
    child.sys.chroot("/inner")
    assert observer.link(f"/proc/{child.pid}/root") == f"{folder}/inner"
    assert observer.link(f"/proc/{parent.pid}/root") == folder


@like_fork_and_vfork("fork.2/credentials-are-copied")
@lie(every_child(CLONE_NEWUSER | SIGCHLD))
def test_the_child_has_the_parents_credentials(
    parent: Process, observer: Observer, make: Make
) -> None:
    with suppress(CallFailed, Unsupported):  # whoever may not set them apart has them as they are
        expect_end_as_another(parent)
        parent.sys.setgroups([5, 6])
        parent.sys.setresgid(1, 2, 3)
        parent.sys.setresuid(1, 2, 3)
    before = (parent.sys.getresuid(), parent.sys.getresgid(), parent.sys.getgroups())
    child = make(parent)
    assert (child.sys.getresuid(), child.sys.getresgid(), child.sys.getgroups()) == before
    ours, theirs = observer.status(parent), observer.status(child)
    for name in ("Uid", "Gid", "Groups"):
        assert theirs[name] == ours[name]


def resets_limits(child: Process) -> None:
    """Begin with limits that the maker has not set."""
    child.sys.setrlimit(RLIMIT_FSIZE, (1, 1))
    child.sys.setrlimit(RLIMIT_NOFILE, (1, 1))


@like_fork_and_vfork("fork.2/resource-limits-are-inherited")
@lie(IS_THREAD, in_child("limits are reset", resets_limits))
@pytest.mark.parametrize(
    "limit",
    [pytest.param(RLIMIT_FSIZE, id="fsize"), pytest.param(RLIMIT_NOFILE, id="nofile")],
)
def test_the_child_has_a_copy_of_a_limit(parent: Process, make: Make, limit: int) -> None:
    parent.sys.setrlimit(limit, (100, 200))
    child = make(parent)
    assert child.sys.getrlimit(limit) == (100, 200)
    child.sys.setrlimit(limit, (50, 100))
    child.exit()
    assert parent.sys.getrlimit(limit) == (100, 200)


@like_fork_and_vfork("fork.2/nice-is-inherited")
@lie(in_child("niceness is reset", lambda child: child.sys.setpriority(PRIO_PROCESS, 0, 19)))
def test_the_child_is_as_nice_as_the_parent(parent: Process, make: Make) -> None:
    nice = become_nicer(parent)
    child = make(parent)
    assert child.sys.getpriority() == nice
    child.sys.setpriority(PRIO_PROCESS, 0, nice + 1)
    child.exit()
    assert parent.sys.getpriority() == nice


@like_fork_and_vfork("fork.2/environment-and-name-are-copied")
@lie(in_child("the name is reset", lambda child: child.sys.prctl(PR_SET_NAME, b"agent")))
def test_the_child_has_a_copy_of_the_name(parent: Process, make: Make) -> None:
    parent.sys.prctl(PR_SET_NAME, b"like parent")
    child = make(parent)
    assert child.sys.prctl(PR_GET_NAME) == b"like parent"
    child.sys.prctl(PR_SET_NAME, b"of the child")
    child.exit()
    assert parent.sys.prctl(PR_GET_NAME) == b"like parent"
