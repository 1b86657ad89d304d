"""posix.fork: what POSIX says of a child by fork, and of the C library in it."""

from __future__ import annotations

import pytest

from pytest_procsemantics import Process, Target, clause
from pytest_procsemantics.driven import Observer, Out, fails
from pytest_procsemantics.driven.constants import (
    AT_FDCWD,
    CLOCK_THREAD_CPUTIME_ID,
    CLONE_NEWIPC,
    EBUSY,
    EOWNERDEAD,
    FUTEX_OWNER_DIED,
    MAP_PRIVATE,
    MAP_SHARED,
    O_CREAT,
    O_EXCL,
    O_RDWR,
    PROT_READ,
    PROT_WRITE,
    SCHED_FIFO,
    SCHED_OTHER,
    SCHED_RR,
    SIGEV_NONE,
)
from pytest_procsemantics.driven.forms.signals import SignalStack
from pytest_procsemantics.driven.forms.timers import TimerEvent
from pytest_procsemantics.driven.library import (
    FE_TONEAREST,
    FE_UPWARD,
    PTHREAD_MUTEX_ROBUST,
    PTHREAD_PROCESS_SHARED,
    RTLD_GLOBAL,
    RTLD_NOW,
)
from pytest_procsemantics.driven.library_start import start_library
from pytest_procsemantics.lies import (
    allocations,
    before_call,
    before_function,
    function_does_nothing,
    in_child,
    in_library_child,
    leaves_out,
    lie,
    passes,
)
from pytest_procsemantics.requirements import own_namespaces, private_mounts

BURNT = 0.025  # seconds: more than two ticks of a clock that counts in hundredths
SS_DISABLE = 2  # <signal.h>
SILENTLY = TimerEvent(SIGEV_NONE)


# --- of the process ---


@clause("posix.fork/realtime-policy-inherited")
@lie(in_child("a normal one", lambda child: child.sys.sched_setscheduler(0, SCHED_OTHER)))
@pytest.mark.parametrize(
    ("policy", "priority"),
    [pytest.param(SCHED_FIFO, 5, id="fifo"), pytest.param(SCHED_RR, 6, id="rr")],
)
def test_a_realtime_policy_is_inherited_with_its_priority(
    parent: Process, policy: int, priority: int
) -> None:
    parent.sys.sched_setscheduler(0, policy, priority)
    child = parent.fork()
    assert (child.sys.sched_getscheduler(0), child.sys.sched_getparam()) == (policy, priority)


@clause("posix.fork/thread-cpu-clock-zero")
@lie(in_child("it has run already", lambda child: child.burn(BURNT)))
def test_the_processor_clock_of_the_childs_thread_starts_at_zero(parent: Process) -> None:
    parent.burn(BURNT)
    assert parent.sys.clock_gettime(CLOCK_THREAD_CPUTIME_ID) >= BURNT
    assert parent.fork().sys.clock_gettime(CLOCK_THREAD_CPUTIME_ID) < BURNT


@clause("posix.fork/alternate-stack-kept")
@lie(
    in_child("it has none", lambda child: child.sys.sigaltstack(SignalStack(0, SS_DISABLE, 0))),
)
def test_the_child_has_the_alternate_signal_stack(parent: Process) -> None:
    stack = SignalStack(parent.allocate(1 << 16), 0, 1 << 16)
    parent.sys.sigaltstack(stack)
    assert parent.fork().sys.sigaltstack() == stack


@clause("posix.fork/controlling-terminal-inherited")
@lie(
    in_child(
        "it has a session of its own", lambda child: child.name == "child" and child.sys.setsid()
    )
)
def test_the_child_has_the_controlling_terminal(parent: Process) -> None:
    leader = parent.fork("leader")
    leader.lead_session()
    child = leader.fork()
    assert child.sys.openat(AT_FDCWD, "/dev/tty", O_RDWR) > 0
    assert child.sys.getsid(0) == leader.own_pid


@clause("posix.fork/message-queue-notification-not-inherited")
@lie(leaves_out("mq_notify"))
def test_to_be_notified_by_a_queue_stays_with_who_asked_for_it(parent: Process) -> None:
    own_namespaces(parent, CLONE_NEWIPC)
    queue = parent.sys.mq_open("queue", O_CREAT | O_RDWR)
    registrant = parent.fork("registrant")
    registrant.sys.mq_notify(queue, SILENTLY)
    child = registrant.fork()
    with fails(EBUSY):
        child.sys.mq_notify(queue, SILENTLY)
    registrant.exit()
    assert child.sys.mq_notify(queue, SILENTLY) == 0


# --- of its memory ---


@clause("posix.fork/mappings-retained")
@lie(
    in_child(
        "what was mapped is gone",
        lambda child: [child.sys.munmap(*place) for place in allocations(child)],
    )
)
def test_the_child_has_the_same_mappings(parent: Process, observer: Observer) -> None:
    parent.pages(2)
    child = parent.fork()
    assert observer.read(f"/proc/{child.pid}/maps") == observer.read(f"/proc/{parent.pid}/maps")


@clause("posix.fork/private-mappings-keep-earlier-changes")
@lie(
    passes("it is shared", "mmap", 3, lambda kind: kind & ~MAP_PRIVATE | MAP_SHARED),
    in_child("it is mapped anew", lambda child: child.store(allocations(child)[-1][0], b"file")),
)
def test_what_the_parent_changed_in_a_private_mapping_is_the_childs(
    parent: Process, target: Target
) -> None:
    path = parent.make_file(f"{target.folder()}/file", b"file")
    fd = parent.sys.openat(AT_FDCWD, path, O_RDWR)
    mapped = parent.sys.raw("mmap", 0, 4, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0)
    parent.store(mapped, b"mine")
    assert parent.fork().load_bytes(mapped, 4) == b"mine"
    assert target.observer.read(path) == b"file"


# --- of the C library ---


@clause("posix.fork/errno-kept")
@lie(
    in_library_child(
        "it is 0", lambda child: child.store(child.lib.raw("__errno_location"), bytes(4))
    )
)
def test_errno_is_what_it_was(program: Process) -> None:
    errno = program.lib.raw("__errno_location")
    program.lib.symbol("fork")
    program.store(errno, b"\x4d\0\0\0")
    assert program.lib.fork().load_bytes(errno, 4) == b"\x4d\0\0\0"


@clause("posix.fork/thread-id-value-kept")
@lie(function_does_nothing("pthread_setspecific"))
def test_the_childs_thread_has_the_callers_id_and_data(program: Process) -> None:
    _, key = program.lib.pthread_key_create(Out(4), 0)
    thread = program.lib.pthread_create()
    thread.lib.pthread_setspecific(key[0], 5)
    child = thread.lib.fork()
    assert child.lib.pthread_self() == thread.lib.pthread_self()
    assert child.lib.pthread_getspecific(key[0]) == 5


@clause("posix.fork/floating-point-environment-kept")
@lie(in_library_child("it rounds to the nearest", lambda one: one.lib.fesetround(FE_TONEAREST)))
def test_the_child_rounds_as_the_parent(program: Process, target: Target) -> None:
    upward = FE_UPWARD[target.machine]
    program.lib.dlopen("libm.so.6", RTLD_NOW | RTLD_GLOBAL)
    program.lib.fesetround(upward)
    child = program.lib.fork()
    assert child.lib.fegetround() == upward
    child.lib.fesetround(FE_TONEAREST)
    assert program.lib.fegetround() == upward


@clause("posix.fork/exec-floating-point-default")
@lie(
    before_function(
        "as before", "fegetround", lambda p: p.lib.fesetround(FE_UPWARD[p.target.machine])
    )
)
def test_a_new_image_rounds_to_the_nearest(program: Process, target: Target) -> None:
    program.lib.dlopen("libm.so.6", RTLD_NOW | RTLD_GLOBAL)
    program.lib.fesetround(FE_UPWARD[target.machine])
    start_library(program)
    program.lib.dlopen("libm.so.6", RTLD_NOW | RTLD_GLOBAL)
    assert program.lib.fegetround() == FE_TONEAREST


@clause("posix.fork/stdio-buffers-copied")
@lie(before_function("they are written first", "fork", lambda maker: maker.lib.fflush(0)))
def test_what_a_stream_holds_is_written_by_both(program: Process, target: Target) -> None:
    path = f"{target.folder()}/file"
    maker = program.lib.fork("maker")
    maker.lib.fputs("told", maker.lib.fopen(path, "w"))
    maker.lib.fork().lib.exit(0)
    maker.lib.exit(0)
    assert target.observer.read(path) == b"toldtold"


# --- semaphores and mutexes of the C library ---


@clause("posix.fork/named-semaphores-stay-open")
@lie(function_does_nothing("sem_post"))
def test_a_named_semaphore_is_one_for_both(program: Process) -> None:
    private_mounts(program, root=True)
    program.sys.mount("none", "/dev/shm", "tmpfs", 0, 0)
    semaphore = program.lib.sem_open("/semaphore", O_CREAT | O_EXCL, 0o600, 0)
    program.lib.fork().lib.sem_post(semaphore)
    assert program.lib.sem_trywait(semaphore) == 0


@clause("posix.fork/unnamed-shared-semaphores-work")
@lie(passes("it is private", "mmap", 3, lambda kind: kind & ~MAP_SHARED | MAP_PRIVATE))
def test_a_semaphore_in_shared_memory_is_one_for_both(program: Process) -> None:
    semaphore = program.allocate(64, shared=True)
    program.lib.sem_init(semaphore, PTHREAD_PROCESS_SHARED, 0)
    program.lib.fork().lib.sem_post(semaphore)
    assert program.lib.sem_trywait(semaphore) == 0


def robust_mutex(program: Process) -> int:
    """A mutex that processes share, and the end of whose owner is told."""
    attributes, mutex = program.allocate(64), program.allocate(64, shared=True)
    program.lib.pthread_mutexattr_init(attributes)
    program.lib.pthread_mutexattr_setpshared(attributes, PTHREAD_PROCESS_SHARED)
    program.lib.pthread_mutexattr_setrobust(attributes, PTHREAD_MUTEX_ROBUST)
    program.lib.pthread_mutex_init(mutex, attributes)
    return mutex


@clause("posix.fork/mutex-owned-by-parent")
@lie(function_does_nothing("pthread_mutex_lock"))
def test_a_mutex_of_the_parent_is_not_the_childs(program: Process) -> None:
    mutex = robust_mutex(program)
    program.lib.pthread_mutex_lock(mutex)
    with fails(EBUSY):
        program.lib.fork().lib.pthread_mutex_trylock(mutex)


def marks_the_mutex(child: Process) -> None:
    """Say in the mutex that its owner has ended."""
    child.store(allocations(child)[-1][0], FUTEX_OWNER_DIED.to_bytes(4, "little"))


@clause("posix.fork/robust-mutex-not-released-by-childs-end")
@lie(before_call("exit_group", "it is marked", marks_the_mutex))
def test_the_end_of_a_child_does_not_mark_the_parents_mutex(program: Process) -> None:
    mutex = robust_mutex(program)
    program.lib.pthread_mutex_lock(mutex)
    program.lib.fork().exit()
    with fails(EBUSY):
        program.lib.fork().lib.pthread_mutex_trylock(mutex)


@clause("posix.fork/robust-mutex-released-by-owners-end")
@lie(function_does_nothing("pthread_mutexattr_setrobust"))
def test_the_end_of_a_mutexs_owner_is_told_to_its_child(program: Process) -> None:
    mutex, owner = robust_mutex(program), program.lib.fork("owner")
    owner.lib.pthread_mutex_lock(mutex)
    child = owner.lib.fork()
    owner.exit()
    with fails(EOWNERDEAD):
        child.lib.pthread_mutex_trylock(mutex)
