"""Forms of signals. A set of signals is a Python set of their numbers, 1 to 64.

struct sigaction is the kernel's, not the C library's, and riscv64's has no restorer.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple

from pytest_procsemantics.driven import constants as c
from pytest_procsemantics.driven.call import Call, Out, call
from pytest_procsemantics.driven.forms.form import LONG, form, has
from pytest_procsemantics.driven.forms.timers import timespec

SET_BYTES = 8
SIGINFO_BYTES = 128
SIGACTION = struct.Struct("<QQQQ")  # handler, flags, restorer, mask
SIGACTION_RISCV64 = struct.Struct("<QQQ")  # handler, flags, mask
STACK = struct.Struct("<Qi4xQ")
SIGINFO = struct.Struct("<iii4xIIi")  # signo, errno, code; then pid, uid, status
SIGINFO_VALUE = struct.Struct("<iii4xIIQ")  # as of sigqueue: pid, uid, value


class Disposition(NamedTuple):
    """What a signal does: SIG_DFL, SIG_IGN or a handler's address, with its flags and what is
    blocked meanwhile.
    """

    handler: int
    flags: int = 0
    restorer: int = 0
    mask: frozenset[int] = frozenset()


class SigInfo(NamedTuple):
    """A signal, or a change of a child: `status` is the exit code or signal, `value` what sigqueue
    sent (the same bytes).
    """

    pid: int
    uid: int
    signo: int
    code: int
    status: int
    value: int


class SignalStack(NamedTuple):
    """An alternate signal stack: address, flags (SS_DISABLE: none), size in bytes."""

    address: int
    flags: int
    size: int


def bits(signals: Iterable[int]) -> int:
    """A set of signals as the kernel's mask. ValueError for what is no signal's number."""
    mask = 0
    for signal in signals:
        if not 1 <= signal <= c.SIGRTMAX:
            raise ValueError(f"expected signals 1 to {c.SIGRTMAX}, not {signal}")
        mask |= 1 << signal - 1
    return mask


def signals(mask: int) -> frozenset[int]:
    """The kernel's mask as a set of signals."""
    return frozenset(signal for signal in range(1, 65) if mask >> signal - 1 & 1)


def siginfo(memory: bytes) -> SigInfo:
    """A struct siginfo_t of 128 bytes, read as that of a child or of sigqueue."""
    signo, _, code, pid, uid, status = SIGINFO.unpack_from(memory)
    return SigInfo(pid, uid, signo, code, status, SIGINFO_VALUE.unpack_from(memory)[5])


def _set(result: int, memory: tuple[bytes, ...]) -> frozenset[int]:
    return signals(LONG.unpack(memory[0])[0])


@form("rt_sigaction", "sigaction")
def rt_sigaction(machine: str, signal: int, new: Disposition | int | None = None) -> Call:
    """Get a signal's disposition, and set it to `new` (an int: that handler alone): what it was, as
    Disposition. Source: sigaction(2).
    """
    restorer = machine != "riscv64"
    layout = SIGACTION if restorer else SIGACTION_RISCV64
    packed = None
    if new is not None:
        given = Disposition(new) if isinstance(new, int) else new
        fields = (
            (given.handler, given.flags, given.restorer)
            if restorer
            else (given.handler, given.flags)
        )
        packed = layout.pack(*fields, bits(given.mask))

    def decode(result: int, memory: tuple[bytes, ...]) -> Disposition:
        handler, flags, *restorers, mask = layout.unpack(memory[0])
        return Disposition(handler, flags, restorers[0] if restorers else 0, signals(mask))

    return call("rt_sigaction", signal, packed, Out(layout.size), SET_BYTES, decode=decode)


@form("rt_sigprocmask", "sigprocmask")
def rt_sigprocmask(machine: str, how: int = c.SIG_BLOCK, new: Iterable[int] | None = None) -> Call:
    """Get the signal mask, and change it by `new`: what it was, as frozenset. Source:
    sigprocmask(2).
    """
    packed = None if new is None else LONG.pack(bits(new))
    return call("rt_sigprocmask", how, packed, Out(SET_BYTES), SET_BYTES, decode=_set)


@form("rt_sigpending", "sigpending")
def rt_sigpending(machine: str) -> Call:
    """The pending signals: frozenset. Source: sigpending(2)."""
    return call("rt_sigpending", Out(SET_BYTES), SET_BYTES, decode=_set)


@form("rt_sigsuspend", "sigsuspend")
def rt_sigsuspend(machine: str, mask: Iterable[int]) -> Call:
    """Wait for a signal that `mask` doesn't block; it always ends with EINTR. Source:
    sigsuspend(2).
    """
    return call("rt_sigsuspend", LONG.pack(bits(mask)), SET_BYTES)


@form("rt_sigtimedwait", "sigtimedwait")
def rt_sigtimedwait(machine: str, awaited: Iterable[int], timeout: float | None = None) -> Call:
    """Take one of the pending signals `awaited`, without end when `timeout` is None: SigInfo.
    Source: sigtimedwait(2).
    """
    args = (LONG.pack(bits(awaited)), Out(SIGINFO_BYTES), timespec(timeout), SET_BYTES)
    return call("rt_sigtimedwait", *args, decode=lambda _, memory: siginfo(memory[0]))


@form("rt_sigqueueinfo")
def rt_sigqueueinfo(
    machine: str,
    pid: int,
    signal: int,
    value: int = 0,
    code: int = c.SI_QUEUE,
    sender: int = 0,
    uid: int = 0,
) -> Call:
    """Queue a signal with a value: 0. Source: rt_sigqueueinfo(2)."""
    return call("rt_sigqueueinfo", pid, signal, _queued(signal, code, sender, uid, value))


@form("rt_tgsigqueueinfo")
def rt_tgsigqueueinfo(
    machine: str,
    pid: int,
    tid: int,
    signal: int,
    value: int = 0,
    code: int = c.SI_QUEUE,
    sender: int = 0,
    uid: int = 0,
) -> Call:
    """Queue a signal with a value to one thread: 0. Source: rt_tgsigqueueinfo(2)."""
    return call("rt_tgsigqueueinfo", pid, tid, signal, _queued(signal, code, sender, uid, value))


@form("pidfd_send_signal")
def pidfd_send_signal(
    machine: str, pidfd: int, signal: int, info: SigInfo | int | None = None, flags: int = 0
) -> Call:
    """Send a signal to the process of a pidfd, with `info` as it stands or at an address: 0.
    Source: pidfd_send_signal(2).
    """
    if isinstance(info, SigInfo):
        made = _queued(info.signo, info.code, info.pid, info.uid, info.value)
        return call("pidfd_send_signal", pidfd, signal, made, flags)
    return call("pidfd_send_signal", pidfd, signal, info, flags)


def _queued(signal: int, code: int, pid: int, uid: int, value: int) -> bytes:
    return SIGINFO_VALUE.pack(signal, 0, code, pid, uid, value).ljust(SIGINFO_BYTES, b"\0")


@form("sigaltstack")
def sigaltstack(machine: str, new: SignalStack | None = None) -> Call:
    """Get the alternate signal stack, and set it to `new`: what it was, as SignalStack. Source:
    sigaltstack(2).
    """
    packed = None if new is None else STACK.pack(*new)
    return call(
        "sigaltstack",
        packed,
        Out(STACK.size),
        decode=lambda _, memory: SignalStack(*STACK.unpack(memory[0])),
    )


@form("signalfd")
def signalfd(machine: str, fd: int, mask: Iterable[int]) -> Call:
    """Make a signal descriptor (fd -1) or change one's set: its number. Source: signalfd(2)."""
    if has(machine, "signalfd"):
        return call("signalfd", fd, LONG.pack(bits(mask)), SET_BYTES)
    return signalfd4(machine, fd, mask)


@form("signalfd4")
def signalfd4(machine: str, fd: int, mask: Iterable[int], flags: int = 0) -> Call:
    """As signalfd, with flags. Source: signalfd(2)."""
    return call("signalfd4", fd, LONG.pack(bits(mask)), SET_BYTES, flags)


@form("pause")
def pause(machine: str) -> Call:
    """Wait for a signal; it always ends with EINTR. Source: pause(2)."""
    return call("pause") if has(machine, "pause") else call("ppoll", None, 0, None, None, SET_BYTES)
