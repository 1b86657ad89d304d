"""Who one is: getpid(2), getppid(2) and gettid(2)."""

from __future__ import annotations

from pytest_procsemantics import Process, clause
from pytest_procsemantics.alike import Make, by_any_copy, by_any_process
from pytest_procsemantics.driven import Observer
from pytest_procsemantics.driven.constants import (
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_PARENT,
    CLONE_SIGHAND,
    CLONE_THREAD,
    CLONE_VM,
    P_PID,
    SIGCHLD,
    SIGCONT,
    SIGSTOP,
    WSTOPPED,
)
from pytest_procsemantics.lies import (
    EXEC_IN_A_CHILD,
    drops,
    every_child,
    function_becomes,
    leaves_out,
    lie,
    misreports,
)
from pytest_procsemantics.requirements import namespace_flags, new_init, own_namespaces

IS_THREAD = every_child(CLONE_VM | CLONE_SIGHAND | CLONE_THREAD)
IS_SIBLING = every_child(CLONE_PARENT | SIGCHLD)
SAME = drops(CLONE_NEWPID)


# --- getpid ---


@by_any_process("getpid.2/getpid-returns-callers-pid")
@lie(IS_THREAD)
def test_getpid_gives_the_pid_that_the_maker_was_given(parent: Process, make: Make) -> None:
    child = make(parent)
    own = child.sys.getpid()
    child.exit()
    assert child.creation
    assert child.creation.arrives() == own


@clause("getpid.2/getpid-unchanged-by-unshare-newpid")
@lie(leaves_out("unshare"))
def test_a_new_pid_namespace_is_the_childrens(parent: Process) -> None:
    flags = namespace_flags(parent, CLONE_NEWPID)
    before = parent.sys.getpid()
    parent.sys.unshare(flags)
    assert parent.sys.getpid() == before
    assert parent.fork().sys.getpid() == 1


@clause("getpid.2/glibc-getpid-is-not-cached", "gettid.2/glibc-wrapper")
@lie(function_becomes("getpid", "getppid"), function_becomes("gettid", "getppid"))
def test_the_library_asks_the_kernel_who_a_child_is(program: Process) -> None:
    assert program.lib.getpid() == program.lib.gettid() == program.own_pid
    child = program.lib.raw_clone()
    assert child.lib.getpid() == child.lib.gettid() == child.sys.getpid() != program.own_pid
    thread = child.lib.pthread_create()
    assert thread.lib.getpid() == child.own_pid
    assert thread.lib.gettid() == thread.sys.gettid() != child.own_pid


# --- getppid ---


@clause("getpid.2/getppid-kept-over-exec")
@lie(EXEC_IN_A_CHILD)
def test_exec_leaves_parent_and_child_as_they_are(parent: Process) -> None:
    child = parent.fork()
    child.execve()
    assert child.sys.getppid() == parent.own_pid
    parent.execve()
    assert child.sys.getppid() == parent.own_pid


@clause("getpid.2/getppid-not-before-parents-end")
@lie(IS_SIBLING)
def test_the_parent_stays_whatever_it_does(parent: Process) -> None:
    maker = parent.fork("maker")
    thread = maker.thread()
    child = maker.fork()
    parent.sys.kill(maker.own_pid, SIGSTOP)
    parent.sys.waitid(P_PID, maker.own_pid, WSTOPPED)
    assert child.sys.getppid() == maker.own_pid
    parent.sys.kill(maker.own_pid, SIGCONT)
    thread.exit_thread()
    maker.execve()
    assert child.sys.getppid() == maker.own_pid


@by_any_copy("getpid.2/getppid-of-thread-made-child-is-process")
@lie(drops(CLONE_THREAD), IS_SIBLING)
def test_the_parent_of_a_threads_child_is_the_process(parent: Process, make: Make) -> None:
    thread = parent.thread()
    child = make(thread)
    assert child.sys.getppid() == parent.own_pid
    thread.exit_thread()
    assert child.sys.getppid() == parent.own_pid


@clause("getpid.2/getppid-after-orphaning-is-init")
@lie(SAME)
def test_the_parent_of_an_orphan_is_init(parent: Process, observer: Observer) -> None:
    init = new_init(parent)
    middle = init.fork("middle")
    orphan = middle.fork("orphan")
    middle.exit()
    observer.wait_for_state(middle, "Z")
    assert orphan.sys.getppid() == 1


@clause("getpid.2/getppid-zero-across-namespaces")
@lie(SAME)
def test_a_parent_in_another_namespace_is_0(parent: Process) -> None:
    init = new_init(parent)
    assert (init.sys.getpid(), init.sys.getppid()) == (1, 0)
    assert init.fork().sys.getppid() == 1


@clause("getpid.2/getppid-zero-across-namespaces")
@lie(leaves_out("unshare"))
def test_the_parent_of_the_first_child_after_unshare_is_0(parent: Process) -> None:
    flags = namespace_flags(parent, CLONE_NEWPID)
    parent.sys.unshare(flags)
    assert parent.fork("init").sys.getppid() == 0


# --- gettid ---


@clause("gettid.2/returns-callers-thread-id")
@lie(misreports("clone"), drops(CLONE_THREAD))
def test_gettid_gives_the_number_that_the_maker_was_given(
    parent: Process, observer: Observer
) -> None:
    thread = parent.thread()
    assert thread.creation
    assert thread.sys.gettid() == thread.creation.arrives()
    assert observer.read(f"/proc/{parent.pid}/task/{thread.tid_seen}/comm")


@clause("gettid.2/single-threaded-equals-pid")
@lie(IS_THREAD)
def test_the_only_thread_has_the_number_of_its_process(parent: Process, observer: Observer) -> None:
    child = parent.fork()
    assert child.sys.gettid() == child.sys.getpid()
    assert observer.status(child)["Pid"] == observer.status(child)["Tgid"]


@clause("gettid.2/tid-is-in-no-other-process")
@lie(every_child(CLONE_NEWUSER | CLONE_NEWPID | SIGCHLD))
def test_no_two_have_one_number(parent: Process) -> None:
    child = parent.fork()
    everybody = [parent, child, parent.thread(), child.thread(), parent.thread(), child.fork()]
    assert len({one.sys.gettid() for one in everybody}) == len(everybody)


@by_any_copy("gettid.2/forked-child-of-thread-has-own-tid")
@lie(IS_THREAD)
def test_a_threads_child_has_its_own_number(parent: Process, make: Make) -> None:
    thread = parent.thread()
    child = make(thread)
    assert child.sys.gettid() == child.sys.getpid()
    assert child.sys.gettid() not in (thread.tid, parent.own_pid)


@clause("gettid.2/is-not-the-posix-thread-id")
@lie(function_becomes("pthread_self", "gettid"))
def test_the_number_is_not_what_pthread_self_gives(program: Process) -> None:
    thread = program.lib.pthread_create()
    assert thread.lib.pthread_self() != thread.sys.gettid()


@clause("gettid.2/pid-namespace-relative")
@lie(SAME)
def test_the_number_is_that_of_the_namespace(parent: Process) -> None:
    own_namespaces(parent, 0)
    init = parent.clone(CLONE_NEWPID | SIGCHLD, name="init")
    assert init.creation
    assert init.sys.gettid() == 1 != init.creation.arrives()
