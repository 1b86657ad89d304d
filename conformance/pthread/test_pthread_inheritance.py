"""pthread_create(3): what a new thread has of its maker, what is its own, and what all threads share."""

from __future__ import annotations

from pytest_procsemantics import Process, Target, clause
from pytest_procsemantics.driven import Out, fails
from pytest_procsemantics.driven.constants import (
    AT_FDCWD,
    CLOCK_MONOTONIC,
    CLOCK_THREAD_CPUTIME_ID,
    CLONE_NEWUSER,
    EAGAIN,
    EBADF,
    ENXIO,
    F_SETLK,
    F_WRLCK,
    ITIMER_REAL,
    O_CREAT,
    O_RDONLY,
    O_RDWR,
    PR_SET_NAME,
    PRIO_PROCESS,
    RLIMIT_CORE,
    SCHED_FIFO,
    SCHED_OTHER,
    SIG_BLOCK,
    SIG_IGN,
    SIGEV_NONE,
    SIGUSR1,
    SIGUSR2,
)
from pytest_procsemantics.driven.forms.files import Lock
from pytest_procsemantics.driven.forms.signals import SignalStack
from pytest_procsemantics.driven.forms.timers import Timer, TimerEvent
from pytest_procsemantics.driven.library import (
    FE_TONEAREST,
    FE_UPWARD,
    PTHREAD_CANCEL_ASYNCHRONOUS,
    PTHREAD_CANCEL_DEFERRED,
    PTHREAD_CANCEL_DISABLE,
    RTLD_GLOBAL,
    RTLD_NOW,
)
from pytest_procsemantics.lies import (
    THREAD_IS_A_CHILD,
    before_function,
    by_maker_too,
    function_does_nothing,
    in_library_child,
    lie,
)
from pytest_procsemantics.requirements import (
    become_nicer,
    lose_capabilities,
    own_namespaces,
)

SS_DISABLE = 2  # <signal.h>
WHOLE = Lock(F_WRLCK)
ALL_CPUS = range(8192)
BURNT = 0.025  # seconds: more than a tick of each of the clocks that times(2) reads
KEPT, NOBODY = -1, 65534


@clause("pthread_create.3/signal-mask-is-copied")
@lie(
    in_library_child("nothing is blocked", lambda thread: thread.sys.rt_sigprocmask(2, frozenset()))
)
def test_the_signal_mask_is_copied(program: Process) -> None:
    program.sys.rt_sigprocmask(SIG_BLOCK, {SIGUSR1})
    assert program.lib.pthread_create().sys.rt_sigprocmask() == {SIGUSR1}


@clause("pthread_create.3/own-signal-mask-afterwards")
@lie(by_maker_too("rt_sigprocmask"))
def test_a_later_change_of_the_mask_is_the_threads_own(program: Process) -> None:
    program.lib.pthread_create().sys.rt_sigprocmask(SIG_BLOCK, {SIGUSR2})
    assert program.sys.rt_sigprocmask() == set()


@clause("pthread_create.3/pending-signals-empty")
@lie(in_library_child("one is pending", lambda thread: thread.sys.tkill(thread.tid, SIGUSR1)))
def test_no_signal_is_pending_in_a_new_thread(program: Process) -> None:
    program.sys.rt_sigprocmask(SIG_BLOCK, {SIGUSR1})
    program.sys.tkill(program.tid, SIGUSR1)
    assert program.lib.pthread_create().sys.rt_sigpending() == set()
    assert program.sys.rt_sigpending() == {SIGUSR1}


def with_signal_stack(process: Process) -> None:
    process.sys.sigaltstack(SignalStack(process.allocate(1 << 16), 0, 1 << 16))


@clause("pthread_create.3/floating-point-environment-inherited")
@lie(in_library_child("it rounds to the nearest", lambda one: one.lib.fesetround(FE_TONEAREST)))
def test_the_way_of_rounding_is_inherited(program: Process, target: Target) -> None:
    upward = FE_UPWARD[target.machine]
    program.lib.dlopen("libm.so.6", RTLD_NOW | RTLD_GLOBAL)
    program.lib.fesetround(upward)
    thread = program.lib.pthread_create()
    assert thread.lib.fegetround() == upward
    thread.lib.fesetround(FE_TONEAREST)
    assert program.lib.fegetround() == upward


@clause("pthread_create.3/cpu-clock-starts-at-zero")
@lie(in_library_child("it has run already", lambda one: one.burn(BURNT)))
def test_the_processor_clock_of_a_thread_starts_at_zero(program: Process) -> None:
    program.burn(BURNT)
    assert program.sys.clock_gettime(CLOCK_THREAD_CPUTIME_ID) >= BURNT
    assert program.lib.pthread_create().sys.clock_gettime(CLOCK_THREAD_CPUTIME_ID) < BURNT


@clause("pthread_create.3/capabilities-are-copied")
@lie(
    in_library_child("it has none", lambda one: one.sys.capset(0, 0, 0)),
    by_maker_too("capset"),
)
def test_capabilities_are_copied(program: Process) -> None:
    own_namespaces(program, CLONE_NEWUSER)
    lose_capabilities(program, "CHOWN")
    kept = program.sys.capget()
    thread = program.lib.pthread_create()
    assert thread.sys.capget() == kept
    assert kept.effective
    thread.sys.capset(0, 0, 0)
    assert program.sys.capget() == kept


@clause("pthread_create.3/affinity-is-copied")
@lie(
    in_library_child("it is all", lambda one: one.sys.sched_setaffinity(0, ALL_CPUS)),
    by_maker_too("sched_setaffinity"),
)
def test_the_processors_are_copied(program: Process) -> None:
    program.sys.sched_setaffinity(0, ALL_CPUS)
    first, *others = sorted(program.sys.sched_getaffinity())
    program.sys.sched_setaffinity(0, {first})
    thread = program.lib.pthread_create()
    assert thread.sys.sched_getaffinity() == {first}
    thread.sys.sched_setaffinity(0, others)
    assert program.sys.sched_getaffinity() == {first}


@clause("pthread_create.3/alternate-stack-not-inherited")
@lie(in_library_child("there is one", with_signal_stack))
def test_the_alternate_signal_stack_is_not_inherited(program: Process) -> None:
    with_signal_stack(program)
    assert program.lib.pthread_create().sys.sigaltstack().flags == SS_DISABLE


@clause("pthread_create.3/own-alternate-stack")
@lie(by_maker_too("sigaltstack"))
def test_a_later_alternate_signal_stack_is_the_threads_own(program: Process) -> None:
    with_signal_stack(program.lib.pthread_create())
    assert program.sys.sigaltstack().flags == SS_DISABLE


@clause("pthread_create.3/cancel-deferred-by-default")
@lie(
    in_library_child(
        "it is at once",
        lambda thread: thread.lib.pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, 0),
    )
)
def test_the_cancellation_of_a_new_thread_is_deferred(program: Process) -> None:
    program.lib.pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, 0)
    thread = program.lib.pthread_create()
    _, before = thread.lib.pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, Out(4))
    assert int.from_bytes(before, "little") == PTHREAD_CANCEL_DEFERRED


@clause("pthread_create.3/cancel-enabled-by-default")
@lie(
    in_library_child(
        "cancellation is disabled",
        lambda thread: thread.lib.pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, 0),
    )
)
def test_a_new_thread_can_be_cancelled(program: Process) -> None:
    program.lib.pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, 0)
    thread = program.lib.pthread_create()
    assert thread.lib.pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, Out(4)) == (0, bytes(4))


@clause("pthread_create.3/own-errno")
@lie(THREAD_IS_A_CHILD)
def test_errno_is_the_threads_own(program: Process) -> None:
    mine = program.lib.raw("__errno_location")
    program.lib.symbol("pthread_create")
    program.store(mine, b"\x21\0\0\0")
    thread = program.lib.pthread_create()
    assert thread.load_bytes(thread.lib.raw("__errno_location"), 4) == bytes(4)
    assert thread.load_bytes(mine, 4) == b"\x21\0\0\0"


@clause("pthread_create.3/thread-specific-data-starts-null")
@lie(THREAD_IS_A_CHILD)
def test_thread_specific_data_starts_null(program: Process) -> None:
    _, key = program.lib.pthread_key_create(Out(4), 0)
    program.lib.pthread_setspecific(key[0], 5)
    assert program.lib.pthread_create().lib.pthread_getspecific(key[0]) == 0
    assert program.lib.pthread_getspecific(key[0]) == 5


@clause("pthread_create.3/own-thread-local-storage")
@lie(THREAD_IS_A_CHILD)
def test_a_thread_local_variable_starts_with_its_initial_value(program: Process) -> None:
    mine = program.lib.thread_local_location()
    initial = program.load(mine)
    program.store(mine, initial + 1)
    thread = program.lib.pthread_create()
    assert thread.load(thread.lib.thread_local_location()) == initial
    assert thread.load(mine) == initial + 1


@clause("pthread_create.3/memory-is-shared")
@lie(THREAD_IS_A_CHILD)
def test_memory_is_shared(program: Process) -> None:
    cell = program.allocate(8)
    program.lib.pthread_create().store(cell, 42)
    assert program.load(cell) == 42


@clause("pthread_create.3/shares-descriptors")
@lie(THREAD_IS_A_CHILD)
def test_descriptors_are_shared(program: Process, target: Target) -> None:
    thread = program.lib.pthread_create()
    fd = thread.sys.openat(AT_FDCWD, target.folder(), O_RDONLY)
    program.sys.close(fd)
    with fails(EBADF):
        thread.sys.close(fd)


@clause("pthread_create.3/shares-dispositions")
@lie(THREAD_IS_A_CHILD)
def test_dispositions_are_shared(program: Process) -> None:
    program.lib.pthread_create().sys.rt_sigaction(SIGUSR2, SIG_IGN)
    assert program.sys.rt_sigaction(SIGUSR2).handler == SIG_IGN


@clause("pthread_create.3/shares-umask")
@lie(THREAD_IS_A_CHILD)
def test_the_umask_is_shared(program: Process) -> None:
    program.lib.pthread_create().sys.umask(0o011)
    assert program.sys.umask(0) == 0o011


@clause("pthread_create.3/shares-directories")
@lie(THREAD_IS_A_CHILD)
def test_the_working_directory_is_shared(program: Process, target: Target) -> None:
    program.lib.pthread_create().sys.chdir(target.folder())
    assert program.sys.getcwd() == target.folder().encode()


@clause("pthread_create.3/shares-resource-limits")
@lie(THREAD_IS_A_CHILD)
def test_resource_limits_are_shared(program: Process) -> None:
    program.lib.pthread_create().sys.setrlimit(RLIMIT_CORE, (0, 0))
    assert program.sys.getrlimit(RLIMIT_CORE) == (0, 0)


@clause("pthread_create.3/shares-record-locks")
@lie(THREAD_IS_A_CHILD)
def test_a_record_lock_is_the_processs(program: Process, target: Target) -> None:
    thread, other = program.lib.pthread_create(), program.lib.fork("other")
    fd = program.sys.openat(AT_FDCWD, f"{target.folder()}/file", O_RDWR | O_CREAT, 0o600)
    its = other.sys.openat(AT_FDCWD, f"{target.folder()}/file", O_RDWR)
    program.sys.fcntl(fd, F_SETLK, WHOLE)
    assert thread.sys.fcntl(fd, F_SETLK, WHOLE) == 0
    with fails(EAGAIN):
        other.sys.fcntl(its, F_SETLK, WHOLE)


@clause("pthread_create.3/shares-interval-timers")
@lie(THREAD_IS_A_CHILD)
def test_interval_timers_are_shared(program: Process) -> None:
    program.lib.pthread_create().sys.setitimer(ITIMER_REAL, 1000)
    assert program.sys.getitimer(ITIMER_REAL).value > 0


@clause("pthread_create.3/shares-posix-timers")
@lie(THREAD_IS_A_CHILD)
def test_timers_of_timer_create_are_shared(program: Process) -> None:
    thread = program.lib.pthread_create()
    timer = thread.sys.timer_create(CLOCK_MONOTONIC, TimerEvent(SIGEV_NONE))
    assert program.sys.timer_gettime(timer) == Timer(0)


@clause("pthread_create.3/shares-usage-counts")
@lie(THREAD_IS_A_CHILD)
def test_the_use_of_the_processor_is_counted_for_the_process(program: Process) -> None:
    before = program.sys.times()
    thread = program.lib.pthread_create()
    thread.burn(BURNT)
    thread.lib.pthread_exit(0)
    after, usage = program.sys.times(), program.sys.getrusage()
    assert after.user + after.system > before.user + before.system
    assert usage.utime + usage.stime >= BURNT


@clause("pthread_create.3/shares-controlling-terminal")
@lie(THREAD_IS_A_CHILD)
def test_the_controlling_terminal_is_shared(program: Process) -> None:
    child = program.lib.fork()
    terminal = program.new_terminal()
    thread = child.lib.pthread_create()
    child.sys.setsid()
    with fails(ENXIO):
        child.sys.openat(AT_FDCWD, "/dev/tty", O_RDWR)
    thread.sys.openat(AT_FDCWD, terminal, O_RDWR)
    assert child.sys.openat(AT_FDCWD, "/dev/tty", O_RDWR) > 0


@clause("pthread_create.3/shares-group-and-session")
@lie(THREAD_IS_A_CHILD)
def test_group_and_session_are_shared(program: Process) -> None:
    child = program.lib.fork()
    child.lib.pthread_create().sys.setsid()
    assert child.sys.getsid(0) == child.sys.getpgid(0) == child.pid


@clause("pthread_create.3/credentials-change-all-threads")
@lie(function_does_nothing("setresuid"))
def test_the_library_changes_the_ids_of_all_threads(program: Process) -> None:
    thread = program.lib.pthread_create()
    thread.lib.setresuid(KEPT, NOBODY, KEPT)
    assert program.sys.getresuid().effective == NOBODY


@clause("pthread_create.3/nice-is-inherited")
@lie(in_library_child("nice 19", lambda it: it.sys.setpriority(PRIO_PROCESS, it.tid, 19)))
def test_the_nice_value_is_inherited(program: Process) -> None:
    nice = become_nicer(program)
    assert program.lib.pthread_create().sys.getpriority() == nice


@clause("pthread_create.3/nice-is-per-thread")
@lie(by_maker_too("setpriority"))
def test_a_later_nice_value_is_the_threads_own(program: Process) -> None:
    nice = program.sys.getpriority()
    become_nicer(program.lib.pthread_create())
    assert program.sys.getpriority() == nice


@clause("pthread_create.3/own-scheduling")
@lie(
    before_function(
        "it is the maker's too",
        "pthread_setschedparam",
        lambda p: p.sys.sched_setscheduler(0, SCHED_FIFO, 5),
    )
)
def test_a_later_policy_is_the_threads_own(program: Process) -> None:
    program.sys.sched_setscheduler(0, SCHED_OTHER)
    thread = program.lib.pthread_create()
    priority = (5).to_bytes(4, "little")
    program.lib.pthread_setschedparam(thread.creation.arrives(), SCHED_FIFO, priority)
    assert thread.sys.sched_getscheduler(0) == SCHED_FIFO
    assert program.sys.sched_getscheduler(0) == SCHED_OTHER


@clause("pthread_create.3/name-is-inherited")
@lie(in_library_child("another name", lambda thread: thread.sys.prctl(PR_SET_NAME, b"other")))
def test_the_name_is_inherited(program: Process) -> None:
    program.sys.prctl(PR_SET_NAME, b"abc")
    thread = program.lib.pthread_create()
    assert thread.lib.pthread_getname_np(thread.lib.pthread_self(), Out(16), 16)[1][:4] == b"abc\0"
