"""pthread_create(3): what a thread's attributes say, and what it has without them."""

from __future__ import annotations

import pytest

from pytest_procsemantics import Process, Target, clause
from pytest_procsemantics.driven import Out, fails
from pytest_procsemantics.driven.constants import (
    EFAULT,
    EINVAL,
    EPERM,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    PROT_READ,
    PROT_WRITE,
    RLIMIT_RTPRIO,
    RLIMIT_STACK,
    SCHED_BATCH,
    SCHED_FIFO,
    SCHED_OTHER,
    SCHED_RESET_ON_FORK,
    SCHED_RR,
    SIG_BLOCK,
    SIGSEGV,
    SIGUSR1,
    SIGUSR2,
)
from pytest_procsemantics.driven.library import (
    PTHREAD_ATTR_NO_SIGMASK_NP,
    PTHREAD_CREATE_JOINABLE,
    PTHREAD_EXPLICIT_SCHED,
    PTHREAD_INHERIT_SCHED,
    PTHREAD_SCOPE_SYSTEM,
    Library,
    sigset,
)
from pytest_procsemantics.driven.library_start import start_library
from pytest_procsemantics.lies import (
    THREAD_IS_A_CHILD,
    allocations,
    before_function,
    function_does_nothing,
    function_given,
    function_reports,
    in_library_child,
    leaves_out,
    lie,
    passes,
)

MIB = 1 << 20
SMALL, LARGE = 2 * MIB, 6 * MIB  # both below the hard limit of stacks
CPU_SET = 1024  # bytes: 8192 processors
ALL_CPUS = range(8 * CPU_SET)
BEYOND = 7000  # a processor that no machine has
UNKNOWN = 99

WITHOUT_ATTRIBUTES = function_given("without attributes", "pthread_create", 1, 0)
NORMAL = in_library_child("it is a normal one", lambda one: one.sys.sched_setscheduler(0, 0))


def number(outcome: tuple[int, bytes]) -> int:
    """What a getter stored."""
    return int.from_bytes(outcome[1], "little")


def cpu_set(*cpus: int) -> bytes:
    return sum(1 << cpu for cpu in cpus).to_bytes(CPU_SET, "little")


# --- the object ---


@clause("pthread_create.3/attr-defaults")
@lie(function_does_nothing("pthread_attr_init"))
def test_a_fresh_object_has_the_defaults(program: Process, target: Target) -> None:
    fresh = program.lib.thread_attributes()
    assert number(program.lib.pthread_attr_getdetachstate(fresh, Out(4))) == PTHREAD_CREATE_JOINABLE
    assert number(program.lib.pthread_attr_getinheritsched(fresh, Out(4))) == PTHREAD_INHERIT_SCHED
    assert number(program.lib.pthread_attr_getscope(fresh, Out(4))) == PTHREAD_SCOPE_SYSTEM
    assert number(program.lib.pthread_attr_getguardsize(fresh, Out(8))) == target.page_size


def stack_of(thread: Process) -> range:
    """The addresses of a thread's stack, as the thread says itself."""
    attributes = thread.lib.thread_attributes()
    thread.lib.pthread_getattr_np(thread.lib.pthread_self(), attributes)
    _, start, size = thread.lib.pthread_attr_getstack(attributes, Out(8), Out(8))
    lowest = int.from_bytes(start, "little")
    return range(lowest, lowest + int.from_bytes(size, "little"))


def with_stack_size(program: Process, size: int) -> int:
    """An object that says how large the stack is."""
    attributes: int = program.lib.thread_attributes()
    program.lib.pthread_attr_setstacksize(attributes, size)
    return attributes


def small_by_default(program: Process) -> None:
    """Let a thread for which nothing is said have a small stack."""
    plain = Library(program)
    attributes = plain.thread_attributes()
    plain.pthread_attr_setstacksize(attributes, MIB)
    plain.pthread_setattr_default_np(attributes)


@clause("pthread_create.3/attr-null-is-default")
@lie(
    in_library_child(
        "a signal is blocked",
        lambda one: one.name == "with none" and one.sys.rt_sigprocmask(SIG_BLOCK, {SIGUSR1}),
    )
)
def test_without_an_object_a_thread_is_as_with_a_fresh_one(program: Process) -> None:
    with_fresh = program.lib.pthread_create(program.lib.thread_attributes())
    with_none = program.lib.pthread_create(name="with none")
    assert len(stack_of(with_none)) == len(stack_of(with_fresh))
    assert with_none.sys.rt_sigprocmask() == with_fresh.sys.rt_sigprocmask()
    assert with_none.sys.sched_getscheduler(0) == with_fresh.sys.sched_getscheduler(0)


@clause("pthread_create.3/attr-is-copied")
@lie(function_given("the later size from the start", "pthread_attr_setstacksize", 1, LARGE))
def test_a_later_change_of_the_object_is_nothing_to_the_thread(program: Process) -> None:
    attributes = with_stack_size(program, SMALL)
    thread = program.lib.pthread_create(attributes)
    program.lib.pthread_attr_setstacksize(attributes, LARGE)
    assert len(stack_of(thread)) == SMALL
    program.lib.pthread_attr_destroy(attributes)
    assert len(stack_of(thread)) == SMALL


@clause("pthread_create.3/attr-reusable")
@lie(WITHOUT_ATTRIBUTES)
def test_one_object_serves_several_threads(program: Process) -> None:
    attributes = with_stack_size(program, SMALL)
    first, second = program.lib.pthread_create(attributes), program.lib.pthread_create(attributes)
    assert len(stack_of(first)) == len(stack_of(second)) == SMALL


@clause("pthread_create.3/no-thread-after-error")
@lie(
    WITHOUT_ATTRIBUTES,
    before_function(
        "there is one", "pthread_create", lambda p: Library(p).pthread_create(), hangs=True
    ),
)
def test_after_an_error_there_is_no_thread(program: Process, target: Target) -> None:
    attributes, start = program.lib.thread_attributes(), program.lib.handler(1)
    program.lib.pthread_attr_setaffinity_np(attributes, CPU_SET, cpu_set(BEYOND))
    with fails(EINVAL):
        program.lib.raw("pthread_create", Out(8), attributes, start, 0)
    target.wait_until(lambda: target.observer.threads(program) == 1, "one thread to be left")
    assert program.lib.noted() == []


# --- policy and priority ---


def scheduled(program: Process, policy: int, priority: int, inherit: int) -> int:
    """An object that says how the thread is scheduled."""
    attributes: int = program.lib.thread_attributes()
    program.lib.pthread_attr_setschedpolicy(attributes, policy)
    program.lib.pthread_attr_setschedparam(attributes, priority.to_bytes(4, "little"))
    program.lib.pthread_attr_setinheritsched(attributes, inherit)
    return attributes


def scheduling(process: Process) -> tuple[int, int]:
    return process.sys.sched_getscheduler(0), process.sys.sched_getparam()


@clause("pthread_create.3/scheduling-is-inherited")
@lie(NORMAL)
def test_policy_and_priority_are_inherited(program: Process) -> None:
    program.sys.sched_setscheduler(0, SCHED_RR, 4)
    assert scheduling(program.lib.pthread_create()) == (SCHED_RR, 4)


@clause("pthread_create.3/inherit-sched-ignores-attributes")
@lie(function_given("they are not", "pthread_attr_setinheritsched", 1, PTHREAD_EXPLICIT_SCHED))
def test_where_they_are_inherited_the_objects_are_ignored(program: Process) -> None:
    program.sys.sched_setscheduler(0, SCHED_BATCH)
    attributes = scheduled(program, SCHED_FIFO, 10, PTHREAD_INHERIT_SCHED)
    assert scheduling(program.lib.pthread_create(attributes)) == (SCHED_BATCH, 0)


@clause("pthread_create.3/explicit-sched-uses-attributes")
@lie(WITHOUT_ATTRIBUTES, function_does_nothing("pthread_attr_setinheritsched"))
def test_explicit_policy_and_priority_are_the_threads(program: Process) -> None:
    program.sys.sched_setscheduler(0, SCHED_OTHER)
    attributes = scheduled(program, SCHED_FIFO, 10, PTHREAD_EXPLICIT_SCHED)
    assert scheduling(program.lib.pthread_create(attributes)) == (SCHED_FIFO, 10)
    assert scheduling(program) == (SCHED_OTHER, 0)


@clause("pthread_create.3/reset-on-fork-applies-to-threads")
@lie(passes("without the flag", "sched_setscheduler", 1, SCHED_RR))
def test_a_policy_that_is_reset_on_fork_is_no_threads(program: Process) -> None:
    program.sys.sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, 4)
    assert scheduling(program.lib.pthread_create()) == (SCHED_OTHER, 0)


@clause("pthread_create.3/eperm-scheduling", "pthread_create.3/error-is-returned")
@lie(
    WITHOUT_ATTRIBUTES,
    function_reports("-1 is returned", "pthread_create", lambda _: -1),
)
def test_a_policy_that_is_not_permitted_is_refused(program: Process) -> None:
    program.sys.prlimit64(0, RLIMIT_RTPRIO, (0, 0))
    program.sys.capset(0, 0, 0)
    attributes = scheduled(program, SCHED_FIFO, 5, PTHREAD_EXPLICIT_SCHED)
    with fails(EPERM):
        program.lib.pthread_create(attributes)


@clause("pthread_create.3/setschedpolicy-einval")
@lie(function_given("a known one", "pthread_attr_setschedpolicy", 1, SCHED_RR))
@pytest.mark.parametrize("policy", [SCHED_BATCH, UNKNOWN])
def test_another_policy_is_refused(program: Process, policy: int) -> None:
    with fails(EINVAL):
        program.lib.pthread_attr_setschedpolicy(program.lib.thread_attributes(), policy)


@clause("pthread_create.3/setschedparam-einval")
@lie(function_given("one that fits", "pthread_attr_setschedparam", 1, bytes(4)))
def test_a_priority_that_does_not_fit_the_policy_is_refused(program: Process) -> None:
    priority = (500).to_bytes(4, "little")
    with fails(EINVAL):
        program.lib.pthread_attr_setschedparam(program.lib.thread_attributes(), priority)


# --- blocked signals, and processors ---


@clause("pthread_create.3/sigmask-attribute")
@lie(WITHOUT_ATTRIBUTES, function_given("nothing", "pthread_attr_setsigmask_np", 1, sigset()))
def test_the_objects_signals_are_blocked_and_not_the_makers(program: Process) -> None:
    program.sys.rt_sigprocmask(SIG_BLOCK, {SIGUSR2})
    attributes = program.lib.thread_attributes()
    program.lib.pthread_attr_setsigmask_np(attributes, sigset(SIGUSR1))
    assert program.lib.pthread_create(attributes).sys.rt_sigprocmask() == {SIGUSR1}
    assert program.sys.rt_sigprocmask() == {SIGUSR2}


@clause("pthread_create.3/sigmask-attribute-unset")
@lie(function_reports("there is a mask", "pthread_attr_getsigmask_np", lambda _: 0))
def test_an_object_without_a_mask_says_so(program: Process) -> None:
    attributes = program.lib.thread_attributes()
    with fails(PTHREAD_ATTR_NO_SIGMASK_NP):
        program.lib.pthread_attr_getsigmask_np(attributes, Out(128))
    program.lib.pthread_attr_setsigmask_np(attributes, sigset(SIGUSR1))
    program.lib.pthread_attr_setsigmask_np(attributes, 0)
    with fails(PTHREAD_ATTR_NO_SIGMASK_NP):
        program.lib.pthread_attr_getsigmask_np(attributes, Out(128))


@clause("pthread_create.3/affinity-attribute")
@lie(WITHOUT_ATTRIBUTES, function_does_nothing("pthread_attr_setaffinity_np"))
def test_the_thread_has_the_objects_processors(program: Process) -> None:
    program.sys.sched_setaffinity(0, ALL_CPUS)
    *others, last = sorted(program.sys.sched_getaffinity())
    attributes = program.lib.thread_attributes()
    program.lib.pthread_attr_setaffinity_np(attributes, CPU_SET, cpu_set(last))
    assert program.lib.pthread_create(attributes).sys.sched_getaffinity() == {last}
    assert program.sys.sched_getaffinity() == {*others, last}


@clause("pthread_create.3/einval-attributes")
@lie(WITHOUT_ATTRIBUTES, function_does_nothing("pthread_attr_setaffinity_np"))
@pytest.mark.parametrize(
    "cpus", [pytest.param([BEYOND], id="beyond"), pytest.param([], id="empty")]
)
def test_a_set_of_no_processor_is_refused(program: Process, cpus: list[int]) -> None:
    attributes = program.lib.thread_attributes()
    program.lib.pthread_attr_setaffinity_np(attributes, CPU_SET, cpu_set(*cpus))
    with fails(EINVAL):
        program.lib.pthread_create(attributes)


@clause("pthread_create.3/affinity-attribute-outside-kernel-set")
@lie(function_given("the first one", "pthread_attr_setaffinity_np", 2, cpu_set(0)))
def test_an_object_takes_no_processor_that_cannot_be(program: Process) -> None:
    attributes = program.lib.thread_attributes()
    with fails(EINVAL):
        program.lib.pthread_attr_setaffinity_np(attributes, CPU_SET, cpu_set(BEYOND))


@clause("pthread_create.3/affinity-getter-too-small")
@lie(function_given("a set of none", "pthread_attr_setaffinity_np", 2, cpu_set()))
def test_processors_for_which_there_is_no_room_are_not_given(program: Process) -> None:
    attributes = program.lib.thread_attributes()
    program.lib.pthread_attr_setaffinity_np(attributes, CPU_SET, cpu_set(1))
    with fails(EINVAL):
        program.lib.pthread_attr_getaffinity_np(attributes, 0, Out(8))


# --- the stack ---


@clause("pthread_create.3/own-stack")
@lie(THREAD_IS_A_CHILD)
def test_each_thread_has_a_stack_of_its_own(program: Process) -> None:
    first, second = program.lib.pthread_create(), program.lib.pthread_create()
    assert first.stack_pointer in stack_of(first)
    assert second.stack_pointer in stack_of(second)
    lower, upper = sorted([stack_of(first), stack_of(second)], key=lambda stack: stack.start)
    assert lower.stop <= upper.start


@clause("pthread_create.3/stack-has-at-least-the-size")
@lie(function_given("half of it", "pthread_attr_setstacksize", 1, lambda size: size // 2))
@pytest.mark.parametrize(
    "size",
    [
        pytest.param(64 << 10, id="small"),
        pytest.param(16 * MIB, id="large"),
    ],
)
def test_a_stack_is_as_large_as_the_object_says(program: Process, size: int) -> None:
    thread = program.lib.pthread_create(with_stack_size(program, size))
    stack = stack_of(thread)
    assert len(stack) >= size
    assert thread.touch(stack.start, 7) == 7


@clause("pthread_create.3/default-stack-size-from-rlimit")
@lie(leaves_out("setrlimit"))
@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_a_stack_is_as_large_as_the_limit_at_the_programs_start(
    program: Process, size: int
) -> None:
    program.sys.setrlimit(RLIMIT_STACK, (size, LARGE))
    start_library(program)
    fresh = program.lib.thread_attributes()
    assert number(program.lib.pthread_attr_getstacksize(fresh, Out(8))) == size
    assert len(stack_of(program.lib.pthread_create())) == size


@clause("pthread_create.3/default-stack-size-not-changed-later")
@lie(before_function("it follows", "pthread_create", small_by_default))
def test_a_later_limit_does_not_change_the_size_of_stacks(program: Process) -> None:
    program.sys.setrlimit(RLIMIT_STACK, (SMALL, LARGE))
    start_library(program)
    program.sys.setrlimit(RLIMIT_STACK, (MIB, LARGE))
    assert len(stack_of(program.lib.pthread_create())) == SMALL


def on_own_stack(program: Process) -> tuple[int, int]:
    """An object with a stack of the program's own, and the lowest address of that."""
    memory, attributes = program.allocate(MIB), program.lib.thread_attributes()
    program.lib.pthread_attr_setstack(attributes, memory, MIB)
    return attributes, memory


@clause("pthread_create.3/own-stack-is-used")
@lie(WITHOUT_ATTRIBUTES, function_does_nothing("pthread_attr_setstack"))
def test_the_thread_runs_on_the_memory_that_is_given(program: Process) -> None:
    attributes, memory = on_own_stack(program)
    thread = program.lib.pthread_create(attributes)
    assert thread.stack_pointer in range(memory, memory + MIB)
    assert stack_of(thread).start == memory


def unmaps_stacks(program: Process) -> None:
    """Unmap what stacks were given."""
    for address, size in allocations(program):
        if size == MIB:
            program.sys.munmap(address, size)


@clause("pthread_create.3/own-stack-not-freed")
@lie(before_function("it is unmapped", "pthread_join", unmaps_stacks))
def test_the_memory_that_is_given_stays_when_the_thread_is_joined(program: Process) -> None:
    attributes, memory = on_own_stack(program)
    program.store(memory, 42)
    thread = program.lib.pthread_create(attributes)
    thread.lib.pthread_exit(0)
    program.lib.pthread_join(thread.creation.arrives(), 0)
    assert program.load(memory) == 42


@clause("pthread_create.3/setstack-einval-too-small")
@lie(function_given("a mebibyte", "pthread_attr_setstack", 2, MIB))
def test_too_little_memory_for_a_stack_is_refused(program: Process) -> None:
    memory, attributes = program.allocate(MIB), program.lib.thread_attributes()
    with fails(EINVAL):
        program.lib.pthread_attr_setstack(attributes, memory, 100)


# --- the guard ---


def with_guard(program: Process, size: int) -> int:
    """An object that says how large the guard is."""
    attributes: int = program.lib.thread_attributes()
    program.lib.pthread_attr_setguardsize(attributes, size)
    return attributes


def has_memory_below(thread: Process, pages: int) -> None:
    """Put memory where the last of so many pages of a guard is."""
    size = thread.target.page_size
    place, access = stack_of(thread).start - pages * size, PROT_READ | PROT_WRITE
    fixed = MAP_FIXED | MAP_ANONYMOUS | MAP_PRIVATE
    thread.sys.raw("mmap", place, size, access, fixed, -1, 0)


def refuses(program: Process, address: int) -> None:
    with fails(EFAULT):
        program.load_bytes(address, 1)


@clause("pthread_create.3/guard-area-below-stack")
@lie(
    in_library_child("it can be used", lambda one: has_memory_below(one, 1)),
    in_library_child("it is smaller", lambda one: has_memory_below(one, 2)),
)
def test_a_guard_lies_below_the_stack(program: Process, target: Target) -> None:
    thread = program.lib.pthread_create(with_guard(program, 2 * target.page_size))
    lowest = stack_of(thread).start
    assert program.load_bytes(lowest, 1)
    refuses(program, lowest - 1)
    refuses(program, lowest - 2 * target.page_size)


@clause("pthread_create.3/guard-rounded-up-to-page")
@lie(in_library_child("it is rounded down", lambda one: has_memory_below(one, 3)))
def test_a_guard_consists_of_whole_pages(program: Process, target: Target) -> None:
    size = 2 * target.page_size + 1
    attributes = with_guard(program, size)
    thread = program.lib.pthread_create(attributes)
    assert number(program.lib.pthread_attr_getguardsize(attributes, Out(8))) == size
    refuses(program, stack_of(thread).start - 3 * target.page_size)


@clause("pthread_create.3/guard-overflow-sigsegv", "pthread_create.3/stack-does-not-grow")
@lie(in_library_child("it grows", lambda one: has_memory_below(one, 1), hangs=True))
def test_a_thread_that_leaves_its_stack_ends_the_process(program: Process) -> None:
    child = program.lib.fork()
    thread = child.lib.pthread_create()
    thread.post.touch(stack_of(thread).start - 1, 7)
    assert child.wait_for_exit().signal == SIGSEGV


@clause("pthread_create.3/guard-inside-stack-size")
@lie(function_does_nothing("pthread_attr_setguardsize"))
@pytest.mark.parametrize("guard", [pytest.param(MIB, id="as"), pytest.param(2 * MIB, id="beyond")])
def test_a_guard_as_large_as_the_stack_is_refused(program: Process, guard: int) -> None:
    attributes = with_stack_size(program, MIB)
    program.lib.pthread_attr_setguardsize(attributes, guard)
    with fails(EINVAL):
        program.lib.pthread_create(attributes)


@clause("pthread_create.3/setstack-ignores-guard")
@lie(function_does_nothing("pthread_attr_setstack"))
def test_memory_that_is_given_has_no_guard(program: Process, target: Target) -> None:
    attributes, memory = on_own_stack(program)
    program.lib.pthread_attr_setguardsize(attributes, target.page_size)
    thread, actual = program.lib.pthread_create(attributes), program.lib.thread_attributes()
    thread.lib.pthread_getattr_np(thread.lib.pthread_self(), actual)
    assert number(program.lib.pthread_attr_getguardsize(actual, Out(8))) == 0
    assert thread.touch(memory, 7) == 7
