"""Forms of scheduling: processors, policies, priorities. A pid of 0 is the calling thread."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple

from pytest_procsemantics.driven.call import Call, Out, call, counted
from pytest_procsemantics.driven.forms.form import INT, form, integer
from pytest_procsemantics.driven.forms.timers import TIME

CPU_BYTES = 1024  # the largest mask that Linux can be built for: 8192 processors
ATTR = struct.Struct("<IIQiIQQQII")  # size, then as in SchedAttr


class SchedAttr(NamedTuple):
    """What sched_getattr gives; runtime, deadline and period in nanoseconds."""

    policy: int
    flags: int = 0
    nice: int = 0
    priority: int = 0
    runtime: int = 0
    deadline: int = 0
    period: int = 0
    util_min: int = 0
    util_max: int = 0


@form("sched_getaffinity")
def sched_getaffinity(machine: str, pid: int = 0) -> Call:
    """The processors that a thread may use: frozenset. Source: sched_getaffinity(2)."""

    def decode(result: int, memory: tuple[bytes, ...]) -> frozenset[int]:
        mask = int.from_bytes(counted("sched_getaffinity", result, memory[0]), "little")
        return frozenset(cpu for cpu in range(mask.bit_length()) if mask >> cpu & 1)

    return call("sched_getaffinity", pid, CPU_BYTES, Out(CPU_BYTES), decode=decode)


@form("sched_setaffinity")
def sched_setaffinity(machine: str, pid: int, cpus: Iterable[int]) -> Call:
    """Set the processors that a thread may use: 0. Source: sched_setaffinity(2)."""
    mask = 0
    for cpu in cpus:
        mask |= 1 << cpu
    return call("sched_setaffinity", pid, CPU_BYTES, mask.to_bytes(CPU_BYTES, "little"))


@form("sched_getparam")
def sched_getparam(machine: str, pid: int = 0) -> Call:
    """A thread's real-time priority: int. Source: sched_getparam(2)."""
    return call("sched_getparam", pid, Out(4), decode=integer)


@form("sched_setparam")
def sched_setparam(machine: str, pid: int, priority: int) -> Call:
    """Set a thread's real-time priority: 0. Source: sched_setparam(2)."""
    return call("sched_setparam", pid, INT.pack(priority))


@form("sched_setscheduler")
def sched_setscheduler(machine: str, pid: int, policy: int, priority: int = 0) -> Call:
    """Set a thread's policy and real-time priority: 0. Source: sched_setscheduler(2)."""
    return call("sched_setscheduler", pid, policy, INT.pack(priority))


@form("sched_getattr")
def sched_getattr(machine: str, pid: int = 0) -> Call:
    """A thread's scheduling attributes: SchedAttr. Source: sched_getattr(2)."""
    return call(
        "sched_getattr",
        pid,
        Out(ATTR.size),
        ATTR.size,
        0,
        decode=lambda _, memory: SchedAttr(*ATTR.unpack(memory[0])[1:]),
    )


@form("sched_setattr")
def sched_setattr(machine: str, pid: int, attr: SchedAttr) -> Call:
    """Set a thread's scheduling attributes: 0. Source: sched_setattr(2)."""
    return call("sched_setattr", pid, ATTR.pack(ATTR.size, *attr), 0)


@form("sched_rr_get_interval")
def sched_rr_get_interval(machine: str, pid: int = 0) -> Call:
    """A thread's round-robin time slice, in seconds. Source: sched_rr_get_interval(2)."""

    def decode(result: int, memory: tuple[bytes, ...]) -> float:
        seconds, nanoseconds = TIME.unpack(memory[0])
        return float(seconds + nanoseconds / 10**9)

    return call("sched_rr_get_interval", pid, Out(TIME.size), decode=decode)
