"""pid_namespaces(7): the numbers of processes, who sees whom, and what setns and unshare do."""

from __future__ import annotations

from pytest_procsemantics import Process, clause
from pytest_procsemantics.alike import MakeWith, like_clone
from pytest_procsemantics.driven import Observer, fails
from pytest_procsemantics.driven.constants import (
    CLONE_NEWPID,
    CLONE_SIGHAND,
    CLONE_THREAD,
    CLONE_VM,
    EINVAL,
    ENOMEM,
    ESRCH,
    KCMP_VM,
    P_PID,
    PR_SET_CHILD_SUBREAPER,
    PRIO_PROCESS,
    SIGCHLD,
    WEXITED,
)
from pytest_procsemantics.driven.messages import (
    Credentials,
    accept_credentials,
    receive_credentials,
    send_credentials,
)
from pytest_procsemantics.lies import becomes, drops, every_child, leaves_out, lie, passes
from pytest_procsemantics.requirements import (
    namespace_flags,
    new_init,
    open_namespace,
    own_namespaces,
)

SAME = drops(CLONE_NEWPID)
STAYS = leaves_out("setns")


def number(child: Process) -> int:
    """The pid of a process as its maker sees it."""
    assert child.creation
    return int(child.creation.arrives())


def numbers(observer: Observer, process: Process) -> list[int]:
    """The pids of a process, from the observer's namespace to its own."""
    return [int(word) for word in observer.status_field(process, "NSpid").split()]


def end(joiner: Process) -> None:
    """End a process that joined by setns: as long as nobody has reaped it, init can't be either."""
    joiner.exit()
    joiner.wait_for_exit()


# --- numbers ---


@clause("pid_namespaces.7/same-pid-in-different-namespaces")
@lie(SAME)
def test_two_processes_may_have_one_number(parent: Process) -> None:
    assert new_init(parent).sys.getpid() == new_init(parent).sys.getpid()


@clause("pid_namespaces.7/pids-unique-within")
@lie(every_child(CLONE_VM | CLONE_SIGHAND | CLONE_THREAD))
def test_numbers_are_unique_within_a_namespace(parent: Process) -> None:
    init = new_init(parent)
    children = [init.fork(), init.clone(), init.clone3(), init.vfork()]
    assert len({1, *(child.sys.getpid() for child in children)}) == 5


@clause("pid_namespaces.7/one-pid-in-each-layer")
@lie(SAME)
def test_a_process_has_a_number_in_each_layer(parent: Process, observer: Observer) -> None:
    middle = new_init(parent, "middle")
    middle.fork("another")
    inner = middle.clone(CLONE_NEWPID | SIGCHLD, name="inner")
    assert numbers(observer, inner) == [inner.pid, number(inner), inner.sys.getpid()]
    assert (number(inner), inner.sys.getpid()) == (3, 1)


@clause("pid_namespaces.7/init-parent-outside-getppid-zero")
@lie(SAME)
def test_the_parent_of_each_init_has_no_number_in_its_namespace(parent: Process) -> None:
    init = new_init(parent)
    inner = init.clone(CLONE_NEWPID | SIGCHLD, name="inner")
    assert (init.sys.getpid(), init.sys.getppid()) == (1, 0)
    assert (inner.sys.getpid(), inner.sys.getppid()) == (1, 0)


@clause("pid_namespaces.7/calls-use-callers-numbers")
@lie(SAME)
def test_calls_take_and_give_the_callers_numbers(parent: Process) -> None:
    init = new_init(parent)
    child = init.fork()
    assert number(init) == init.pid
    child.sys.setpgid(0, 0)
    assert child.sys.getpgrp() == child.sys.getpid() == number(child)
    assert parent.sys.getpgid(child.pid) == child.pid != child.sys.getpid()
    child.exit()
    assert init.sys.waitid(P_PID, number(child), WEXITED).pid == number(child)


@clause("pid_namespaces.7/outer-session-and-group-are-zero")
@lie(SAME)
def test_a_session_and_a_group_from_outside_are_zero(parent: Process) -> None:
    init = new_init(parent)
    assert init.sys.getsid(0) == init.sys.getpgrp() == 0
    init.sys.setsid()
    assert init.sys.getsid(0) == init.sys.getpgrp() == 1


@clause("pid_namespaces.7/scm-credentials-pid-translated")
@lie(SAME)
def test_a_pid_in_a_message_is_the_receivers_number(parent: Process) -> None:
    own_namespaces(parent, 0)
    outer, inner = parent.sys.socketpair()
    accept_credentials(parent, outer)
    accept_credentials(parent, inner)
    init = parent.clone(CLONE_NEWPID | SIGCHLD, name="init")
    ids = parent.sys.getuid(), parent.sys.getgid()
    send_credentials(init, inner, Credentials(init.sys.getpid(), *ids))
    assert receive_credentials(parent, outer).pid == init.pid != init.sys.getpid()
    send_credentials(parent, outer, Credentials(parent.pid, *ids))
    assert receive_credentials(init, inner).pid == 0


@like_clone("pid_namespaces.7/newpid-with-sighand-and-vm-allowed")
@lie(SAME, drops(CLONE_VM | CLONE_SIGHAND))
def test_clone_newpid_goes_with_shared_memory_and_handlers(
    parent: Process, observer: Observer, make: MakeWith
) -> None:
    init = make(parent, namespace_flags(parent, CLONE_NEWPID) | CLONE_VM | CLONE_SIGHAND)
    assert init.sys.getpid() == 1
    assert observer.kcmp(parent, init, KCMP_VM) == 0


@clause("pid_namespaces.7/threads-are-in-one-namespace")
@lie(becomes(CLONE_THREAD | CLONE_SIGHAND, CLONE_NEWPID))
def test_a_thread_is_in_its_processs_namespace(parent: Process) -> None:
    process = new_init(parent).fork("process")
    thread = process.thread()
    assert thread.sys.getpid() == process.sys.getpid()
    assert process.sys.tgkill(process.sys.getpid(), thread.sys.gettid(), 0) == 0
    assert Observer(thread).link("/proc/thread-self/ns/pid") == Observer(process).link(
        "/proc/self/ns/pid"
    )


# --- who sees whom ---


@clause("pid_namespaces.7/visible-in-own-and-ancestors")
@lie(SAME, leaves_out("setpriority"), passes("the number inside", "getpriority", 1, 1))
def test_a_process_is_seen_in_its_own_namespace_and_in_those_above(parent: Process) -> None:
    middle = new_init(parent, "middle")
    inner = middle.clone(CLONE_NEWPID | SIGCHLD, name="inner")
    inner.sys.setpriority(PRIO_PROCESS, 0, 7)
    assert inner.sys.getpriority(PRIO_PROCESS, 1) == 7
    assert middle.sys.getpriority(PRIO_PROCESS, 2) == 7
    assert parent.sys.getpriority(PRIO_PROCESS, inner.pid) == 7


@clause("pid_namespaces.7/not-visible-downwards")
@lie(SAME)
def test_those_above_are_not_seen(parent: Process) -> None:
    outer, init = parent.fork("outer"), new_init(parent)
    with fails(ESRCH):
        init.sys.kill(outer.pid, 0)
    with fails(ESRCH):
        init.sys.getpriority(PRIO_PROCESS, outer.pid)
    with fails(ESRCH):
        init.sys.sched_getaffinity(outer.pid)


@clause("pid_namespaces.7/not-visible-between-siblings")
@lie(SAME)
def test_those_beside_are_not_seen(parent: Process) -> None:
    first, second = new_init(parent, "first"), new_init(parent, "second")
    member = first.fork()
    assert first.sys.kill(member.own_pid, 0) == 0
    with fails(ESRCH):
        second.sys.kill(member.own_pid, 0)
    with fails(ESRCH):
        second.sys.kill(member.pid, 0)


# --- setns and unshare ---


@clause(
    "setns.2/pid-changes-children-only",
    "setns.2/nstype-zero-allows-any",
    "namespaces.7/pid-for-children-changed-by-setns",
    "pid_namespaces.7/caller-keeps-its-pid-namespace",
    "pid_namespaces.7/getpid-is-of-creation-namespace",
    "pid_namespaces.7/setns-and-unshare-place-children",
    "pid_namespaces.7/setns-child-getppid-zero",
)
@lie(STAYS)
def test_setns_places_the_children_and_leaves_the_caller(
    parent: Process, observer: Observer
) -> None:
    own_namespaces(parent, 0)
    init, before = new_init(parent), observer.namespace(parent, "pid")
    parent.sys.setns(open_namespace(parent, init, "pid"), 0)
    child = parent.fork()
    assert observer.namespace(parent, "pid_for_children") == observer.namespace(init, "pid")
    assert observer.namespace(child, "pid") == observer.namespace(init, "pid") != before
    assert (child.sys.getpid(), child.sys.getppid()) == (2, 0)
    assert (observer.namespace(parent, "pid"), parent.sys.getpid()) == (before, parent.pid)
    end(child)


@clause(
    "pid_namespaces.7/caller-keeps-its-pid-namespace",
    "pid_namespaces.7/getpid-is-of-creation-namespace",
    "pid_namespaces.7/setns-and-unshare-place-children",
)
@lie(leaves_out("unshare"))
def test_unshare_places_the_children_and_leaves_the_caller(
    parent: Process, observer: Observer
) -> None:
    before = observer.namespace(parent, "pid")
    parent.sys.unshare(namespace_flags(parent, CLONE_NEWPID))
    assert observer.namespace(parent.fork(), "pid") != before
    assert (observer.namespace(parent, "pid"), parent.sys.getpid()) == (before, parent.pid)


@clause("setns.2/pid-descendant-or-same")
@lie(STAYS)
def test_the_own_namespace_and_those_below_are_joined(parent: Process, observer: Observer) -> None:
    own_namespaces(parent, 0)
    top = new_init(parent, "top")
    middle = new_init(top, "middle")
    inner = new_init(middle, "inner")
    top.sys.setns(open_namespace(top, inner, "pid"), CLONE_NEWPID)
    assert observer.namespace(top.fork(), "pid") == observer.namespace(inner, "pid")
    top.sys.setns(open_namespace(top, middle, "pid"), CLONE_NEWPID)
    assert observer.namespace(top.fork(), "pid") == observer.namespace(middle, "pid")
    top.sys.setns(open_namespace(top, top, "pid"), CLONE_NEWPID)
    assert observer.namespace(top.fork(), "pid") == observer.namespace(top, "pid")


@clause("setns.2/einval-ancestor-pid-namespace")
@lie(SAME)
def test_no_namespace_above_is_joined(parent: Process) -> None:
    own_namespaces(parent, 0)
    top = new_init(parent, "top")
    middle = new_init(top, "middle")
    inner = new_init(middle, "inner")
    with fails(EINVAL):
        inner.sys.setns(open_namespace(inner, middle, "pid"), CLONE_NEWPID)
    with fails(EINVAL):
        inner.sys.setns(open_namespace(inner, top, "pid"), CLONE_NEWPID)


@clause("pid_namespaces.7/setns-into-dead-namespace-enomem")
@lie(leaves_out("setns"))
def test_in_a_namespace_without_init_no_child_is_made(parent: Process) -> None:
    own_namespaces(parent, 0)
    init = new_init(parent)
    descriptor = open_namespace(parent, init, "pid")
    init.exit()
    init.wait_for_exit()
    parent.sys.setns(descriptor, CLONE_NEWPID)
    with fails(ENOMEM):
        parent.fork()


@clause("namespaces.7/pid-pinned-by-pid-for-children")
@lie(leaves_out("unshare"))
def test_a_namespace_without_members_is_kept_by_who_would_put_children_there(
    parent: Process, observer: Observer
) -> None:
    parent.sys.unshare(namespace_flags(parent, CLONE_NEWPID))
    child = parent.fork()
    named = observer.namespace(child, "pid")
    child.exit()
    child.wait_for_exit()
    assert observer.namespace(parent, "pid_for_children") == named
    with fails(ENOMEM):
        parent.fork()


# --- parents and orphans ---


@clause(
    "pid_namespaces.7/init-adopts-orphans",
    "pid_namespaces.7/orphan-goes-to-init-of-parents-namespace",
    "pid_namespaces.7/subreaper-outside-not-reached-from-inside",
)
@lie(SAME)
def test_an_orphan_inside_is_inits_child_and_no_outer_subreapers(parent: Process) -> None:
    parent.sys.prctl(PR_SET_CHILD_SUBREAPER, 1)
    init = new_init(parent)
    member = init.fork("member")
    orphan = member.fork("orphan")
    member.exit()
    assert orphan.sys.getppid() == 1
    orphan.exit(7)
    assert init.sys.waitid(P_PID, orphan.own_pid, WEXITED).status == 7


@clause("pid_namespaces.7/orphan-goes-to-nearer-subreaper")
@lie(leaves_out("prctl"))
def test_an_orphan_inside_goes_to_a_nearer_subreaper(parent: Process) -> None:
    reaper = new_init(parent).fork("reaper")
    reaper.sys.prctl(PR_SET_CHILD_SUBREAPER, 1)
    member = reaper.fork("member")
    orphan = member.fork("orphan")
    member.exit()
    assert orphan.sys.getppid() == reaper.own_pid


@clause("pid_namespaces.7/orphan-of-setns-parent-leaves-namespace")
@lie(leaves_out("prctl"), STAYS)
def test_an_orphan_whose_parent_was_outside_goes_to_the_outer_reaper(parent: Process) -> None:
    own_namespaces(parent, 0)
    parent.sys.prctl(PR_SET_CHILD_SUBREAPER, 1)
    init, joiner = new_init(parent), parent.fork("joiner")
    joiner.sys.setns(open_namespace(joiner, init, "pid"), CLONE_NEWPID)
    orphan = joiner.fork("orphan")
    joiner.exit()
    assert (orphan.sys.getpid(), orphan.sys.getppid()) == (2, 0)
    orphan.exit(7)
    assert parent.sys.waitid(P_PID, orphan.pid, WEXITED).status == 7


@clause("pid_namespaces.7/parent-in-same-or-parent-namespace")
@lie(becomes(CLONE_NEWPID, SIGCHLD), STAYS)
def test_a_child_is_in_its_parents_namespace_or_the_next_below(
    parent: Process, observer: Observer
) -> None:
    own_namespaces(parent, 0)
    outer = len(numbers(observer, parent))
    init = new_init(parent)
    assert len(numbers(observer, parent.fork())) == outer
    assert len(numbers(observer, init)) == outer + 1
    parent.sys.setns(open_namespace(parent, init, "pid"), CLONE_NEWPID)
    joiner = parent.fork("joiner")
    assert len(numbers(observer, joiner)) == outer + 1
    end(joiner)


@clause("pid_namespaces.7/parent-in-same-or-parent-namespace")
def test_no_child_is_two_levels_below_its_parent(parent: Process, observer: Observer) -> None:
    own_namespaces(parent, 0)
    outer = len(numbers(observer, parent))
    inner = new_init(new_init(parent, "middle"), "inner")
    parent.sys.setns(open_namespace(parent, inner, "pid"), CLONE_NEWPID)
    joiner = parent.fork("joiner")
    levels = len(numbers(observer, joiner))
    end(joiner)
    assert levels <= outer + 1
