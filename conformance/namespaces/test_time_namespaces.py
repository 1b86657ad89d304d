"""time_namespaces(7): the clocks of a namespace, and the file of its offsets."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from pytest_procsemantics import Process, clause
from pytest_procsemantics.driven import Observer, Out, fails
from pytest_procsemantics.driven.constants import (
    CLOCK_BOOTTIME,
    CLOCK_MONOTONIC,
    CLOCK_MONOTONIC_COARSE,
    CLOCK_MONOTONIC_RAW,
    CLOCK_REALTIME,
    CLONE_NEWTIME,
    EACCES,
    EINVAL,
    EPERM,
    ERANGE,
    SIGCHLD,
    TFD_TIMER_ABSTIME,
    TIMER_ABSTIME,
)
from pytest_procsemantics.lies import (
    EXEC_DOES_NOTHING,
    in_maker,
    instead,
    leaves_out,
    lie,
    passes,
)
from pytest_procsemantics.requirements import lose_capabilities, open_namespace, own_namespaces

OFFSETS = "/proc/self/timens_offsets"
HOUR, DAY, WEEK = 3600, 86400, 604800  # seconds
SECOND = 10**9  # nanoseconds
SYSINFO_BYTES = 112
NOTHING = leaves_out("write")
STAYS = leaves_out("setns")


def own_time(process: Process, **ahead: int) -> None:
    """Give a process a time namespace for its children.

    Args:
        process: may write the offsets until the first of them.
        ahead: seconds by which their clocks, by the names that the file has, are ahead of the process's own.
    """
    own_namespaces(process, CLONE_NEWTIME)
    own = offsets_of(process) if ahead else {}
    lines = [
        b"%s %d %d\n" % (clock.encode(), own[clock][0] + seconds, own[clock][1])
        for clock, seconds in ahead.items()
    ]
    if lines:
        process.write_to(OFFSETS, b"".join(lines))


def offsets_of(process: Process) -> dict[str, tuple[int, int]]:
    """Seconds and nanoseconds for each clock of the namespace of a process's children."""
    lines = Observer(process).read(OFFSETS).decode().splitlines()
    words = [line.split() for line in lines]
    return {clock: (int(seconds), int(rest)) for clock, seconds, rest in words}


def now(process: Process, clock: int) -> int:
    """A clock in nanoseconds, as the system call tells it."""
    _, memory = process.sys.raw("clock_gettime", clock, Out(16))
    seconds, rest = struct.unpack("<qq", memory)
    return int(seconds) * SECOND + int(rest)


def is_ahead(process: Process, other: Process, clock: int, seconds: int) -> bool:
    """Whether a process's clock is so much ahead of another's, which is read before and after it."""
    before = now(other, clock) + seconds * SECOND
    found = now(process, clock)
    return before <= found <= now(other, clock) + seconds * SECOND


# --- clocks ---


@pytest.mark.parametrize(
    ("clock", "seconds"),
    [
        pytest.param(
            CLOCK_MONOTONIC,
            DAY,
            marks=clause("time_namespaces.7/monotonic-is-virtual"),
            id="monotonic",
        ),
        pytest.param(
            CLOCK_MONOTONIC_COARSE,
            DAY,
            marks=clause("time_namespaces.7/monotonic-coarse-and-raw-likewise"),
            id="coarse",
        ),
        pytest.param(
            CLOCK_MONOTONIC_RAW,
            DAY,
            marks=clause("time_namespaces.7/monotonic-coarse-and-raw-likewise"),
            id="raw",
        ),
        pytest.param(
            CLOCK_BOOTTIME, WEEK, marks=clause("time_namespaces.7/boottime-is-virtual"), id="boot"
        ),
    ],
)
@clause("time_namespaces.7/records-newline-terminated")
@lie(NOTHING)
def test_a_clock_is_ahead_by_its_offset(parent: Process, clock: int, seconds: int) -> None:
    own_time(parent, monotonic=DAY, boottime=WEEK)
    child = parent.fork()
    assert is_ahead(child, parent, clock, seconds)


@clause("time_namespaces.7/offsets-are-independent", "time_namespaces.7/realtime-not-virtual")
@lie(
    passes("boottime too", "write", 1, b"1 86400 0\n7 999 0"),
    passes("another clock", "clock_gettime", 0, CLOCK_MONOTONIC),
)
def test_other_clocks_are_as_outside(parent: Process) -> None:
    own_time(parent, monotonic=DAY)
    child = parent.fork()
    assert is_ahead(child, parent, CLOCK_BOOTTIME, 0)
    assert is_ahead(child, parent, CLOCK_REALTIME, 0)


@clause("time_namespaces.7/offset-seconds-may-be-negative")
@lie(NOTHING)
def test_a_clock_may_be_behind(parent: Process) -> None:
    own_time(parent)
    seconds, rest = offsets_of(parent)["boottime"]
    parent.write_to(OFFSETS, b"boottime -1 %d" % rest)
    child = parent.fork()
    assert is_ahead(child, parent, CLOCK_BOOTTIME, -1 - seconds)


@clause("time_namespaces.7/vdso-and-system-call-agree")
@lie(passes("the offset is zero", "write", 1, lambda data: data.replace(b" 86400 ", b" 00000 ")))
@pytest.mark.parametrize(
    "clock",
    [pytest.param(CLOCK_BOOTTIME, id="boot"), pytest.param(CLOCK_MONOTONIC, id="monotonic")],
)
def test_the_library_tells_what_the_system_call_tells(program: Process, clock: int) -> None:
    outside = now(program, clock)
    own_time(program, monotonic=DAY, boottime=DAY)
    child = program.lib.fork()
    before = now(child, clock)
    seconds, rest = struct.unpack("<qq", child.lib.clock_gettime(clock, Out(16))[1])
    assert before <= seconds * SECOND + rest <= now(child, clock)
    assert before >= outside + DAY * SECOND


@clause("time_namespaces.7/members-share-values")
@lie(in_maker("it makes another namespace", lambda maker: maker.sys.unshare(CLONE_NEWTIME)))
def test_all_members_have_the_same_namespace(parent: Process, observer: Observer) -> None:
    own_time(parent, monotonic=DAY)
    one, other = parent.fork("one"), parent.fork("other")
    inner = one.fork("inner")
    assert observer.namespace(one, "time") == observer.namespace(other, "time")
    assert observer.namespace(one, "time") == observer.namespace(inner, "time")
    assert is_ahead(inner, other, CLOCK_MONOTONIC, 0)


@clause("time_namespaces.7/proc-uptime-affected", "time_namespaces.7/sysinfo-uptime-affected")
@lie(NOTHING)
def test_the_uptime_is_ahead_too(parent: Process) -> None:
    own_time(parent, boottime=WEEK)
    child, before = parent.fork(), now(parent, CLOCK_BOOTTIME) // SECOND
    uptime = float(Observer(child).read("/proc/uptime").split()[0])
    _, information = child.sys.raw("sysinfo", Out(SYSINFO_BYTES))
    assert uptime - WEEK >= before
    assert int.from_bytes(information[:8], "little") - WEEK >= before


# --- timers ---


def shifted(index: int) -> Callable[[bytes], bytes]:
    """Make a time of struct timespec a day later; index: how many of them stand before it."""

    def change(memory: bytes) -> bytes:
        words = list(struct.unpack(f"<{len(memory) // 8}q", memory))
        words[2 * index] += DAY
        return struct.pack(f"<{len(words)}q", *words)

    return change


@clause("time_namespaces.7/timerfd-settime-affected")
@lie(passes("it is measured outside", "timerfd_settime", 2, shifted(1)))
def test_an_absolute_timer_descriptor_goes_by_the_members_clock(parent: Process) -> None:
    own_time(parent, boottime=WEEK)
    child = parent.fork()
    fd = child.sys.timerfd_create(CLOCK_BOOTTIME, 0)
    child.sys.timerfd_settime(
        fd, child.sys.clock_gettime(CLOCK_BOOTTIME) + HOUR, 0, TFD_TIMER_ABSTIME
    )
    assert 0 < child.sys.timerfd_gettime(fd).value <= HOUR


@clause("time_namespaces.7/timer-settime-affected")
@lie(passes("it is measured outside", "timer_settime", 2, shifted(1)))
def test_an_absolute_timer_goes_by_the_members_clock(parent: Process) -> None:
    own_time(parent, boottime=WEEK)
    child = parent.fork()
    timer = child.sys.timer_create(CLOCK_BOOTTIME)
    child.sys.timer_settime(timer, child.sys.clock_gettime(CLOCK_BOOTTIME) + HOUR, 0, TIMER_ABSTIME)
    assert 0 < child.sys.timer_gettime(timer).value <= HOUR


@clause("time_namespaces.7/clock-nanosleep-absolute-affected")
@lie(passes("it is measured outside", "clock_nanosleep", 2, shifted(0), hangs=True))
def test_a_sleep_ends_by_the_members_clock(parent: Process) -> None:
    own_time(parent, boottime=WEEK)
    child = parent.fork()
    end = child.sys.clock_gettime(CLOCK_BOOTTIME) + 0.001
    child.post.sys.clock_nanosleep(CLOCK_BOOTTIME, TIMER_ABSTIME, end).arrives()
    assert child.sys.clock_gettime(CLOCK_BOOTTIME) >= end - 1e-6


# --- who is in which ---


@clause("time_namespaces.7/created-by-unshare", "time_namespaces.7/unshare-may-be-repeated")
@lie(leaves_out("unshare"))
def test_each_unshare_makes_a_namespace(parent: Process, observer: Observer) -> None:
    own_namespaces(parent, 0)
    links = [observer.namespace(parent, "time_for_children")]
    parent.sys.unshare(CLONE_NEWTIME)
    links.append(observer.namespace(parent, "time_for_children"))
    parent.sys.unshare(CLONE_NEWTIME)
    links.append(observer.namespace(parent, "time_for_children"))
    assert len(set(links)) == 3


@clause("time_namespaces.7/vfork-child-stays-until-exec")
@lie(instead("vfork", SIGCHLD), EXEC_DOES_NOTHING)
def test_a_child_that_shares_memory_enters_with_its_exec(
    parent: Process, observer: Observer
) -> None:
    own_time(parent)
    child = parent.vfork()
    assert observer.namespace(child, "time") == observer.namespace(parent, "time")
    child.execve()
    assert observer.namespace(child, "time") == observer.namespace(parent, "time_for_children")


@clause("time_namespaces.7/exec-enters-namespace")
@lie(EXEC_DOES_NOTHING)
def test_exec_enters_the_namespace(parent: Process, observer: Observer) -> None:
    own_time(parent, monotonic=DAY)
    named = observer.namespace(parent, "time_for_children")
    parent.execve()
    assert observer.namespace(parent, "time") == named
    assert is_ahead(parent, observer.process, CLOCK_MONOTONIC, DAY)


@clause(
    "time_namespaces.7/setns-by-time-for-children-enters",
    "time_namespaces.7/setns-places-children-too",
)
@lie(STAYS)
def test_setns_enters_the_namespace(parent: Process, observer: Observer) -> None:
    own_time(parent, monotonic=DAY)
    named = observer.namespace(parent, "time_for_children")
    parent.sys.setns(open_namespace(parent, parent, "time_for_children"), CLONE_NEWTIME)
    assert observer.namespace(parent, "time") == named
    assert observer.namespace(parent.fork(), "time") == named
    assert is_ahead(parent, observer.process, CLOCK_MONOTONIC, DAY)


# --- the file ---


@clause("time_namespaces.7/offsets-file-format", "time_namespaces.7/writable-before-first-process")
@lie(NOTHING)
def test_the_file_has_a_line_for_each_clock(parent: Process) -> None:
    own_time(parent)
    parent.write_to(OFFSETS, b"monotonic 5 7\nboottime 8 9")
    assert offsets_of(parent) == {"monotonic": (5, 7), "boottime": (8, 9)}


@clause("time_namespaces.7/numeric-clock-ids-accepted")
@lie(NOTHING)
def test_clocks_have_numbers(parent: Process) -> None:
    own_time(parent)
    parent.write_to(OFFSETS, b"%d 30 0\n%d 40 0" % (CLOCK_MONOTONIC, CLOCK_BOOTTIME))
    assert offsets_of(parent) == {"monotonic": (30, 0), "boottime": (40, 0)}


@clause("time_namespaces.7/writable-several-times")
@lie(NOTHING)
def test_the_last_offset_counts(parent: Process) -> None:
    own_time(parent)
    parent.write_to(OFFSETS, b"monotonic 100 0")
    parent.write_to(OFFSETS, b"monotonic 200 0")
    assert offsets_of(parent)["monotonic"] == (200, 0)


@clause("time_namespaces.7/offsets-inherited-from-creators-namespace")
@lie(NOTHING)
def test_a_new_namespace_begins_with_the_offsets_of_the_one_before(parent: Process) -> None:
    own_time(parent)
    parent.write_to(OFFSETS, b"monotonic 100 0")
    parent.sys.unshare(CLONE_NEWTIME)
    assert offsets_of(parent)["monotonic"] == (100, 0)
    parent.sys.setns(open_namespace(parent, parent, "time_for_children"), CLONE_NEWTIME)
    parent.sys.unshare(CLONE_NEWTIME)
    assert offsets_of(parent)["monotonic"] == (100, 0)


@clause("time_namespaces.7/eacces-after-first-process")
@lie(NOTHING)
def test_with_the_first_process_the_offsets_are_fixed(parent: Process) -> None:
    own_time(parent)
    parent.thread().exit_thread()
    parent.write_to(OFFSETS, b"monotonic 1 0")
    child = parent.fork()
    with fails(EACCES):
        parent.write_to(OFFSETS, b"monotonic 2 0")
    child.exit()
    child.wait_for_exit()
    with fails(EACCES):
        parent.write_to(OFFSETS, b"monotonic 2 0")


@clause("time_namespaces.7/write-needs-sys-time")
@lie(leaves_out("capset"))
def test_to_write_takes_cap_sys_time(parent: Process) -> None:
    own_time(parent)
    lose_capabilities(parent, "SYS_TIME")
    with fails(EPERM):
        parent.write_to(OFFSETS, b"monotonic 1 0")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(
            b"monotonic 0 1000000000",
            marks=clause("time_namespaces.7/einval-nanoseconds"),
            id="nanoseconds",
        ),
        pytest.param(
            b"realtime 1 0", marks=clause("time_namespaces.7/einval-clock-id"), id="realtime"
        ),
        pytest.param(b"0 1 0", marks=clause("time_namespaces.7/einval-clock-id"), id="clock 0"),
        pytest.param(b"9 1 0", marks=clause("time_namespaces.7/einval-clock-id"), id="clock 9"),
        pytest.param(
            b"abc", marks=clause("time_namespaces.7/einval-malformed-record"), id="one word"
        ),
        pytest.param(
            b"monotonic 1",
            marks=clause("time_namespaces.7/einval-malformed-record"),
            id="two fields",
        ),
        pytest.param(
            b"monotonic x 0",
            marks=clause("time_namespaces.7/einval-malformed-record"),
            id="no number",
        ),
        pytest.param(
            b"monotonic 1 0\nboot",
            marks=clause("time_namespaces.7/einval-malformed-record"),
            id="second line",
        ),
        pytest.param(b"", marks=clause("time_namespaces.7/einval-malformed-record"), id="nothing"),
    ],
)
@lie(NOTHING)
def test_a_bad_record_is_refused(parent: Process, text: bytes) -> None:
    own_time(parent)
    parent.write_to(OFFSETS, b"monotonic 0 999999999")
    before = offsets_of(parent)
    with fails(EINVAL):
        parent.write_to(OFFSETS, text)
    assert offsets_of(parent) == before
    assert before["monotonic"] == (0, 999999999)


@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(
            -4000000000, marks=clause("time_namespaces.7/erange-negative-clock"), id="negative"
        ),
        pytest.param(4611686019, marks=clause("time_namespaces.7/erange-too-large"), id="large"),
    ],
)
@lie(NOTHING)
def test_an_offset_out_of_range_is_refused(parent: Process, seconds: int) -> None:
    own_time(parent)
    parent.write_to(OFFSETS, b"monotonic 4000000000 0")
    with fails(ERANGE):
        parent.write_to(OFFSETS, b"monotonic %d 0" % seconds)
