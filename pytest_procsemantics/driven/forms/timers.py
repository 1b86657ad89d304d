"""Forms of clocks and timers. All times are seconds."""

from __future__ import annotations

import struct
from typing import NamedTuple

from pytest_procsemantics.driven import constants as c
from pytest_procsemantics.driven.call import Call, Out, call
from pytest_procsemantics.driven.forms.form import form, has, integer

TIME = struct.Struct("<qq")  # seconds, then nanoseconds (timespec) or microseconds (timeval)
TWO_TIMES = struct.Struct("<qqqq")
SIGEVENT = struct.Struct("<Qiii44x")  # value, signal, how to notify, thread
NANO = 10**9
MICRO = 10**6


class Timer(NamedTuple):
    """A timer: seconds until it expires (0: disarmed), and between its later expirations."""

    value: float
    interval: float = 0


class TimerEvent(NamedTuple):
    """How a timer or a message queue tells: SIGEV_SIGNAL, SIGEV_NONE or SIGEV_THREAD_ID, the
    signal, the thread, and the value that comes with it.
    """

    notify: int
    signal: int = 0
    thread: int = 0
    value: int = 0


class Times(NamedTuple):
    """CPU times in clock ticks of 1/100 s, own and of children that were waited for; `now` counts
    ticks too.
    """

    now: int
    user: int
    system: int
    children_user: int
    children_system: int


def parts(seconds: float, unit: int) -> tuple[int, int]:
    """Whole seconds and the rest in `unit` a second; exact for ints."""
    whole, rest = divmod(round(seconds * unit), unit)
    return whole, rest


def sigevent(event: TimerEvent | None) -> bytes | None:
    """A struct sigevent, or a null pointer."""
    if event is None:
        return None
    return SIGEVENT.pack(event.value, event.signal, event.notify, event.thread)


def timespec(seconds: float | None) -> bytes | None:
    """A struct timespec as an argument; None stays a null pointer."""
    return None if seconds is None else TIME.pack(*parts(seconds, NANO))


def _time(result: int, memory: tuple[bytes, ...]) -> float:
    whole, rest = TIME.unpack(memory[0])
    return float(whole + rest / NANO)


def _timer(unit: int, memory: bytes) -> Timer:
    interval, interval_rest, value, value_rest = TWO_TIMES.unpack(memory)
    return Timer(value + value_rest / unit, interval + interval_rest / unit)


def _itimer(result: int, memory: tuple[bytes, ...]) -> Timer:
    return _timer(MICRO, memory[0])


def _itimerspec(result: int, memory: tuple[bytes, ...]) -> Timer:
    return _timer(NANO, memory[0])


@form("clock_gettime")
def clock_gettime(machine: str, clock: int) -> Call:
    """A clock's time. Source: clock_gettime(2)."""
    return call("clock_gettime", clock, Out(TIME.size), decode=_time)


@form("clock_getres")
def clock_getres(machine: str, clock: int) -> Call:
    """A clock's resolution. Source: clock_getres(2)."""
    return call("clock_getres", clock, Out(TIME.size), decode=_time)


@form("clock_nanosleep")
def clock_nanosleep(machine: str, clock: int, flags: int, seconds: float) -> Call:
    """Sleep on a clock: 0. Source: clock_nanosleep(2)."""
    return call("clock_nanosleep", clock, flags, timespec(seconds), None)


@form("nanosleep")
def nanosleep(machine: str, seconds: float) -> Call:
    """Sleep: 0. Source: nanosleep(2)."""
    return call("nanosleep", timespec(seconds), None)


@form("times")
def times(machine: str) -> Call:
    """CPU times: Times, in clock ticks. Source: times(2)."""
    return call(
        "times", Out(32), decode=lambda result, memory: Times(result, *TWO_TIMES.unpack(memory[0]))
    )


@form("getitimer")
def getitimer(machine: str, which: int) -> Call:
    """An interval timer: Timer. Source: getitimer(2)."""
    return call("getitimer", which, Out(TWO_TIMES.size), decode=_itimer)


@form("setitimer")
def setitimer(machine: str, which: int, value: float, interval: float = 0) -> Call:
    """Set an interval timer: what it was, as Timer. Source: setitimer(2)."""
    new = TWO_TIMES.pack(*parts(interval, MICRO), *parts(value, MICRO))
    return call("setitimer", which, new, Out(TWO_TIMES.size), decode=_itimer)


@form("alarm")
def alarm(machine: str, seconds: int) -> Call:
    """Ask for SIGALRM: whole seconds that an earlier alarm had left, or 0. Source: alarm(2)."""
    if has(machine, "alarm"):
        return call("alarm", seconds)

    def decode(result: int, memory: tuple[bytes, ...]) -> int:
        _, _, left, rest = TWO_TIMES.unpack(memory[0])
        # as the kernel's alarm rounds: a pending alarm never gives 0
        return int(left + (rest >= MICRO // 2 or (left == 0 and rest > 0)))

    return call(
        "setitimer",
        c.ITIMER_REAL,
        TWO_TIMES.pack(0, 0, seconds, 0),
        Out(TWO_TIMES.size),
        decode=decode,
    )


@form("timer_create")
def timer_create(machine: str, clock: int, event: TimerEvent | None = None) -> Call:
    """Make a POSIX timer, which by default sends SIGALRM: its id. Source: timer_create(2)."""
    return call("timer_create", clock, sigevent(event), Out(4), decode=integer)


@form("timer_settime")
def timer_settime(
    machine: str, timer: int, value: float, interval: float = 0, flags: int = 0
) -> Call:
    """Set a POSIX timer: what it was, as Timer. Source: timer_settime(2)."""
    return _settime("timer_settime", timer, value, interval, flags)


@form("timer_gettime")
def timer_gettime(machine: str, timer: int) -> Call:
    """A POSIX timer: Timer. Source: timer_gettime(2)."""
    return call("timer_gettime", timer, Out(TWO_TIMES.size), decode=_itimerspec)


@form("timerfd_settime")
def timerfd_settime(
    machine: str, fd: int, value: float, interval: float = 0, flags: int = 0
) -> Call:
    """Set a timer descriptor: what it was, as Timer. Source: timerfd_settime(2)."""
    return _settime("timerfd_settime", fd, value, interval, flags)


@form("timerfd_gettime")
def timerfd_gettime(machine: str, fd: int) -> Call:
    """A timer descriptor: Timer. Source: timerfd_gettime(2)."""
    return call("timerfd_gettime", fd, Out(TWO_TIMES.size), decode=_itimerspec)


def _settime(name: str, timer: int, value: float, interval: float, flags: int) -> Call:
    new = TWO_TIMES.pack(*parts(interval, NANO), *parts(value, NANO))
    return call(name, timer, flags, new, Out(TWO_TIMES.size), decode=_itimerspec)
