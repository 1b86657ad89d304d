"""Forms of waiting, resource limits and usage, process attributes, seccomp."""

from __future__ import annotations

import struct
from typing import NamedTuple

from pytest_procsemantics.driven import constants as c
from pytest_procsemantics.driven.call import BadAnswer, Call, Out, call
from pytest_procsemantics.driven.forms.form import INT, both, form, has, integer, long
from pytest_procsemantics.driven.forms.signals import SIGINFO_BYTES, siginfo

LIMIT = struct.Struct("<QQ")
RUSAGE = struct.Struct("<18q")
UTSNAME_FIELD = 65  # bytes, with the NUL
NAME_BYTES = 16  # of a thread's name, with the NUL
FILTER = struct.Struct("<H6xQ")  # struct sock_fprog: number of instructions, their address
INT_OPTIONS = {
    c.PR_GET_PDEATHSIG,
    c.PR_GET_CHILD_SUBREAPER,
    c.PR_GET_TSC,
    c.PR_GET_UNALIGN,
    c.PR_GET_ENDIAN,
    c.PR_GET_FPEMU,
    c.PR_GET_FPEXC,
}


class Rusage(NamedTuple):
    """Use of resources; times in seconds, maxrss in KiB."""

    utime: float
    stime: float
    maxrss: int
    minflt: int
    majflt: int
    inblock: int
    oublock: int
    nvcsw: int
    nivcsw: int


class Waited(NamedTuple):
    """What wait4 gives: the pid (0: with WNOHANG, nothing yet), the status as
    os.waitstatus_to_exitcode takes it, and use of resources.
    """

    pid: int
    status: int
    rusage: Rusage


class Limits(NamedTuple):
    """A resource limit; RLIM_INFINITY means none."""

    soft: int
    hard: int


class Uname(NamedTuple):
    """Names of the system."""

    sysname: str
    nodename: str
    release: str
    version: str
    machine: str
    domainname: str


def _rusage(memory: bytes) -> Rusage:
    (
        user,
        user_us,
        system,
        system_us,
        maxrss,
        _,
        _,
        _,
        minflt,
        majflt,
        _,
        inblock,
        oublock,
        _,
        _,
        _,
        nvcsw,
        nivcsw,
    ) = RUSAGE.unpack(memory)
    return Rusage(
        user + user_us / 10**6,
        system + system_us / 10**6,
        maxrss,
        minflt,
        majflt,
        inblock,
        oublock,
        nvcsw,
        nivcsw,
    )


@form("wait4")
def wait4(machine: str, pid: int = -1, options: int = 0) -> Call:
    """Wait for a child: Waited(pid, status, rusage). Source: wait4(2)."""

    def decode(result: int, memory: tuple[bytes, ...]) -> Waited:
        return Waited(result, INT.unpack(memory[0])[0], _rusage(memory[1]))

    return call("wait4", pid, Out(4), options, Out(RUSAGE.size), decode=decode)


@form("waitid")
def waitid(machine: str, idtype: int, id: int, options: int, usage: bool = False) -> Call:
    """Wait for a change of a child: SigInfo, or None when WNOHANG finds nothing yet; with `usage`
    (SigInfo or None, Rusage), by the call's fifth argument. Source: waitid(2).
    """

    def decode(result: int, memory: tuple[bytes, ...]) -> object:
        told = siginfo(memory[0])
        found = told if told.pid or told.signo else None
        return (found, _rusage(memory[1])) if usage else found

    last = Out(RUSAGE.size) if usage else None
    return call("waitid", idtype, id, Out(SIGINFO_BYTES), options, last, decode=decode)


@form("getrusage")
def getrusage(machine: str, who: int = c.RUSAGE_SELF) -> Call:
    """Use of resources: Rusage. Source: getrusage(2)."""
    return call("getrusage", who, Out(RUSAGE.size), decode=lambda _, memory: _rusage(memory[0]))


@form("prlimit64", "prlimit")
def prlimit64(machine: str, pid: int, resource: int, new: tuple[int, int] | None = None) -> Call:
    """Get a limit, and set it to `new` (soft, hard): what it was, as Limits. Source: prlimit(2)."""
    return call(
        "prlimit64",
        pid,
        resource,
        None if new is None else _limit(new),
        Out(LIMIT.size),
        decode=_limits,
    )


@form("getrlimit")
def getrlimit(machine: str, resource: int) -> Call:
    """A limit: Limits(soft, hard). Source: getrlimit(2)."""
    if not has(machine, "getrlimit"):
        return prlimit64(machine, 0, resource)
    return call("getrlimit", resource, Out(LIMIT.size), decode=_limits)


@form("setrlimit")
def setrlimit(machine: str, resource: int, new: tuple[int, int]) -> Call:
    """Set a limit to (soft, hard): 0. Source: setrlimit(2)."""
    if not has(machine, "setrlimit"):
        return call("prlimit64", 0, resource, _limit(new), None)
    return call("setrlimit", resource, _limit(new))


def _limit(limit: tuple[int, int]) -> bytes:
    return LIMIT.pack(
        *(bound & 2**64 - 1 for bound in limit)
    )  # -1 is RLIM_INFINITY for Python's resource module


def _limits(result: int, memory: tuple[bytes, ...]) -> Limits:
    return Limits(*LIMIT.unpack(memory[0]))


@form("uname")
def uname(machine: str) -> Call:
    """Names of the system: Uname. Source: uname(2)."""

    def decode(result: int, memory: tuple[bytes, ...]) -> Uname:
        fields = (
            memory[0][at : at + UTSNAME_FIELD].split(b"\0", 1)[0]
            for at in range(0, len(memory[0]), UTSNAME_FIELD)
        )
        return Uname(*(field.decode("utf-8", "backslashreplace") for field in fields))

    return call("uname", Out(6 * UTSNAME_FIELD), decode=decode)


@form("sethostname")
def sethostname(machine: str, name: bytes) -> Call:
    """Set the host's name: 0. Source: sethostname(2)."""
    return call("sethostname", name, len(name))


@form("setdomainname")
def setdomainname(machine: str, name: bytes) -> Call:
    """Set the NIS domain's name: 0. Source: setdomainname(2)."""
    return call("setdomainname", name, len(name))


@form("prctl")
def prctl(machine: str, option: int, *args: int | bytes | Out | None) -> Call:
    """Operate on the process; missing arguments are 0: the result, or what PR_GET_NAME (bytes),
    PR_GET_PDEATHSIG and others (int) write. Source: prctl(2).
    """
    if args:
        outs = any(isinstance(argument, Out) for argument in args)
        rest = (0,) * (4 - len(args))
        if outs:
            return call("prctl", option, *args, *rest, decode=both)
        return call("prctl", option, *args, *rest)
    if option == c.PR_GET_NAME:
        return call(
            "prctl",
            option,
            Out(NAME_BYTES),
            0,
            0,
            0,
            decode=lambda _, memory: memory[0].split(b"\0", 1)[0],
        )
    if option == c.PR_GET_TID_ADDRESS:
        return call("prctl", option, Out(8), 0, 0, 0, decode=long)
    if option in INT_OPTIONS:
        return call("prctl", option, Out(4), 0, 0, 0, decode=integer)
    return call("prctl", option, 0, 0, 0, 0)


@form("seccomp")
def seccomp(
    machine: str, operation: int, flags: int = 0, argument: tuple[int, int] | int | bytes | Out = 0
) -> Call:
    """Operate on the seccomp state; a filter is (its number of instructions, their address in the
    target): the result. Source: seccomp(2).
    """
    if isinstance(argument, tuple):
        return call("seccomp", operation, flags, FILTER.pack(*argument))
    if isinstance(argument, Out):
        return call("seccomp", operation, flags, argument, decode=both)
    return call("seccomp", operation, flags, argument)


@form("getpgrp")
def getpgrp(machine: str) -> Call:
    """The caller's process group. Source: getpgrp(2)."""
    return call("getpgrp") if has(machine, "getpgrp") else call("getpgid", 0)


@form("getpriority")
def getpriority(machine: str, which: int = c.PRIO_PROCESS, who: int = 0) -> Call:
    """The nice value, -20 to 19; the bare call gives 20 minus it. Source: getpriority(2)."""

    def decode(result: int, memory: tuple[bytes, ...]) -> int:
        if not 1 <= result <= 40:
            raise BadAnswer(f"getpriority: expected 1 to 40, the target gave {result}")
        return 20 - result

    return call("getpriority", which, who, decode=decode)


@form("getcpu")
def getcpu(machine: str) -> Call:
    """Where the caller runs: (cpu, node). Source: getcpu(2)."""
    return call(
        "getcpu",
        Out(4),
        Out(4),
        None,
        decode=lambda _, memory: tuple(INT.unpack(part)[0] for part in memory),
    )
