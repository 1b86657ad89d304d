"""getrlimit(2): limits over fork and execve, and who counts for RLIMIT_NPROC."""

from __future__ import annotations

from pytest_procsemantics import Process, clause
from pytest_procsemantics.driven import Observer, fails
from pytest_procsemantics.driven.constants import (
    CLONE_NEWUSER,
    CLONE_SIGHAND,
    CLONE_THREAD,
    EAGAIN,
    EMFILE,
    F_GETFD,
    PR_SET_KEEPCAPS,
    RLIMIT_NOFILE,
    RLIMIT_NPROC,
)
from pytest_procsemantics.driven.forms import capability
from pytest_procsemantics.lies import (
    ENDED_CHILDREN_VANISH,
    acts_on_caller,
    before_call,
    drops,
    in_image,
    leaves_out,
    lie,
)
from pytest_procsemantics.requirements import (
    at_the_limit,
    become_ordinary,
    expect_user_0_outside,
    own_namespaces,
)
from pytest_procsemantics.requirements.surroundings import SOMEBODY

NO_LIMIT = leaves_out("prlimit64")


def limit_processes(process: Process, most: int) -> None:
    """Set the soft limit of processes."""
    _, hard = process.sys.prlimit64(0, RLIMIT_NPROC)
    process.sys.prlimit64(0, RLIMIT_NPROC, (most, hard))


@clause("getrlimit.2/lower-nofile-keeps-open-descriptors")
@lie(
    in_image(
        "exec closes what lies above the limit", lambda image: image.sys.close_range(3, 100, 0)
    ),
    leaves_out("prlimit64"),
)
def test_a_limit_of_no_descriptors_closes_nothing(parent: Process) -> None:
    reader, _ = parent.sys.pipe()
    parent.sys.prlimit64(0, RLIMIT_NOFILE, (0, 0))
    child = parent.fork()
    child.execve()
    assert child.sys.fcntl(reader, F_GETFD) == 0
    with fails(EMFILE):
        child.sys.pipe()


@clause("getrlimit.2/threads-share-limits")
@lie(drops(CLONE_THREAD | CLONE_SIGHAND))
def test_a_limit_is_one_for_all_threads(parent: Process) -> None:
    thread = parent.thread()
    thread.sys.prlimit64(0, RLIMIT_NOFILE, (50, 60))
    assert parent.sys.prlimit64(0, RLIMIT_NOFILE) == (50, 60)


@clause("getrlimit.2/prlimit-on-child")
@lie(acts_on_caller("prlimit64"))
def test_the_limits_of_a_child_can_be_set(parent: Process) -> None:
    child = parent.fork()
    parent.sys.prlimit64(child.own_pid, RLIMIT_NOFILE, (30, 40))
    assert child.sys.prlimit64(0, RLIMIT_NOFILE) == (30, 40)


# --- the number of processes ---


@clause("getrlimit.2/nproc-refuses-threads")
@lie(NO_LIMIT)
def test_at_the_limit_no_thread_is_made(parent: Process) -> None:
    with at_the_limit(parent), fails(EAGAIN):
        parent.thread()
    assert parent.thread().sys.getpid() == parent.own_pid


@clause("getrlimit.2/nproc-zombies-count")
@lie(ENDED_CHILDREN_VANISH)
def test_a_zombie_counts(parent: Process, observer: Observer) -> None:
    become_ordinary(parent, owns_its_files=True)
    own_namespaces(parent, CLONE_NEWUSER)
    limit_processes(parent, 2)
    child = parent.fork()
    child.exit()
    observer.wait_for_state(child, "Z")
    with fails(EAGAIN):
        parent.fork()
    child.wait_for_exit()
    assert parent.fork().sys.getppid() == parent.own_pid


@clause("getrlimit.2/nproc-not-for-privileged")
@lie(leaves_out("prctl"))
def test_the_limit_does_not_hold_for_the_privileged(parent: Process) -> None:
    admin = capability("SYS_ADMIN")
    parent.sys.prctl(PR_SET_KEEPCAPS, 1)
    parent.sys.setresuid(SOMEBODY, SOMEBODY, SOMEBODY)
    parent.sys.capset(admin, admin, 0)
    limit_processes(parent, 0)
    assert parent.fork().sys.getppid() == parent.own_pid
    parent.sys.capset(0, 0, 0)
    with fails(EAGAIN):
        parent.fork()


@clause("getrlimit.2/nproc-not-for-real-uid-zero")
@lie(before_call("capset", "it is an ordinary user", become_ordinary))
def test_the_limit_does_not_hold_for_user_0(parent: Process) -> None:
    expect_user_0_outside(parent)
    limit_processes(parent, 0)
    parent.sys.capset(0, 0, 0)
    assert parent.fork().sys.getppid() == parent.own_pid


@clause("getrlimit.2/nproc-counted-per-user-namespace")
@lie(leaves_out("unshare"))
def test_who_is_outside_does_not_count_inside(parent: Process) -> None:
    become_ordinary(parent)
    outside, inside = parent.fork("outside"), parent.fork("inside")
    limit_processes(outside, 3)
    with fails(EAGAIN):
        outside.fork()
    inside.sys.unshare(CLONE_NEWUSER)
    limit_processes(inside, 3)
    first = inside.fork("first")
    assert inside.fork("second").sys.getppid() == first.sys.getppid() == inside.own_pid
    with fails(EAGAIN):
        inside.fork()


@clause("getrlimit.2/nproc-of-creator-binds-new-user-namespace")
@lie(NO_LIMIT)
def test_the_limit_of_who_made_a_namespace_holds_inside(parent: Process) -> None:
    become_ordinary(parent)
    outside, inside = parent.fork("outside"), parent.fork("inside")
    limit_processes(inside, 3)
    inside.sys.unshare(CLONE_NEWUSER)
    with fails(EAGAIN):
        inside.fork()
    assert outside.fork().sys.getppid() == outside.own_pid
