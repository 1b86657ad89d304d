"""Forms of calls on descriptors: pipes, reading and writing, duplicates, locks, polling."""

from __future__ import annotations

import struct
from typing import NamedTuple

from pytest_procsemantics.driven import constants as c
from pytest_procsemantics.driven.call import BadAnswer, Call, Out, call, counted
from pytest_procsemantics.driven.forms.form import (
    INT,
    LONG,
    TWO_INTS,
    Path,
    always,
    both,
    form,
    has,
    integer,
    open_flags,
    pair,
    path,
)
from pytest_procsemantics.driven.forms.timers import timespec

FLOCK = struct.Struct("<hh4xqqi4x")
DIRENT = struct.Struct("<QqHB")  # d_ino, d_off, d_reclen, d_type; the name follows
POLLFD = struct.Struct("<ihh")
PIDFD_INFO = struct.Struct("<QQ11IiI20x")  # as long as PIDFD_GET_INFO says
SET_OF_FDS = 128  # bytes of select's, which has 1024
LOCK_COMMANDS = {c.F_GETLK, c.F_SETLK, c.F_SETLKW, c.F_OFD_GETLK, c.F_OFD_SETLK, c.F_OFD_SETLKW}
INT_READ = {c.TIOCGPGRP, c.TIOCGSID, c.FIONREAD, c.NS_GET_OWNER_UID}  # ioctls that write one int
INT_WRITTEN = {c.TIOCSPGRP, c.FIONBIO}  # ioctls that read one int


class Lock(NamedTuple):
    """A record lock: type (F_RDLCK, F_WRLCK, F_UNLCK), bytes from `start` (`length` 0: to the end),
    and who holds it.
    """

    type: int
    whence: int = 0
    start: int = 0
    length: int = 0
    pid: int = 0


class PidfdInfo(NamedTuple):
    """What a kernel tells of the process of a pidfd: `mask` has the PIDFD_INFO_* bits of the fields
    that it filled, the others are 0. `exit_code` is a wait status.
    """

    mask: int
    cgroupid: int
    pid: int
    tgid: int
    ppid: int
    ruid: int
    rgid: int
    euid: int
    egid: int
    suid: int
    sgid: int
    fsuid: int
    fsgid: int
    exit_code: int
    coredump_mask: int


@form("pipe")
def pipe(machine: str) -> Call:
    """Make a pipe: (read end, write end). Source: pipe(2)."""
    return call("pipe", Out(8), decode=pair) if has(machine, "pipe") else pipe2(machine)


@form("pipe2")
def pipe2(machine: str, flags: int = 0) -> Call:
    """Make a pipe with flags: (read end, write end). Source: pipe2(2)."""
    return call("pipe2", Out(8), open_flags(machine, flags), decode=pair)


@form("open")
def open(machine: str, name: Path, flags: int = c.O_RDONLY, mode: int = 0) -> Call:
    """Open a file: its descriptor. Source: open(2)."""
    if has(machine, "open"):
        return call("open", path(name), flags, mode)
    return openat(machine, c.AT_FDCWD, name, flags, mode)


@form("openat")
def openat(machine: str, folder: int, name: Path, flags: int = c.O_RDONLY, mode: int = 0) -> Call:
    """Open a file below a folder: its descriptor. Source: openat(2)."""
    return call("openat", folder, path(name), open_flags(machine, flags), mode)


@form("creat")
def creat(machine: str, name: Path, mode: int = 0o600) -> Call:
    """Create or truncate a file: its descriptor. Source: creat(2)."""
    if has(machine, "creat"):
        return call("creat", path(name), mode)
    return openat(machine, c.AT_FDCWD, name, c.O_CREAT | c.O_WRONLY | c.O_TRUNC, mode)


@form("dup2")
def dup2(machine: str, old: int, new: int) -> Call:
    """Duplicate a descriptor to a number, which may be its own: that number. Source: dup2(2)."""
    if has(machine, "dup2"):
        return call("dup2", old, new)
    if old == new:
        # dup3 refuses equal numbers; of dup2 remains that the descriptor must be open
        return call("fcntl", old, c.F_GETFD, 0, decode=always(new))
    return call("dup3", old, new, 0)


@form("read")
def read(machine: str, fd: int, into: int | Out, count: int | None = None) -> Call:
    """Read up to `into` bytes: bytes. With an Out: (result, bytes); with an address and a count:
    the result. Source: read(2).
    """
    return _read("read", fd, into, count)


@form("pread64", "pread")
def pread64(machine: str, fd: int, into: int | Out, offset: int) -> Call:
    """As read, at an offset. Source: pread(2)."""
    return _read("pread64", fd, into, None, offset)


def _read(name: str, fd: int, into: int | Out, count: int | None, *more: int) -> Call:
    if isinstance(into, Out):
        size = into.size if count is None else count
        return call(name, fd, into, size, *more, decode=both)
    if count is not None:
        return call(name, fd, into, count, *more)
    return call(
        name,
        fd,
        Out(into),
        into,
        *more,
        decode=lambda result, memory: counted(name, result, memory[0]),
    )


@form("write")
def write(machine: str, fd: int, data: bytes | int, count: int | None = None) -> Call:
    """Write bytes, or `count` bytes at an address: how many were written. Source: write(2)."""
    return call("write", fd, data, _count("write", data, count))


@form("pwrite64", "pwrite")
def pwrite64(machine: str, fd: int, data: bytes, offset: int) -> Call:
    """Write bytes at an offset: how many were written. Source: pwrite(2)."""
    return call("pwrite64", fd, data, len(data), offset)


def _count(name: str, data: bytes | int, count: int | None) -> int:
    if count is not None:
        return count
    if isinstance(data, int):
        raise TypeError(f"{name}: an address needs a count too")
    return len(data)


@form("getdents64", "getdents")
def getdents64(machine: str, fd: int, size: int = 16384) -> Call:
    """Read names from a folder, as many as fit in `size` bytes: list of bytes; [] at the end.
    Source: getdents64(2).
    """
    return call(
        "getdents64",
        fd,
        Out(size),
        size,
        decode=lambda result, memory: _names(counted("getdents64", result, memory[0])),
    )


def _names(entries: bytes) -> list[bytes]:
    names = []
    at = 0
    while at < len(entries):
        if len(entries) - at < DIRENT.size:
            raise BadAnswer(f"getdents64: an entry of {len(entries) - at} bytes is too short")
        length = DIRENT.unpack_from(entries, at)[2]
        if not DIRENT.size < length <= len(entries) - at:
            raise BadAnswer(
                f"getdents64: an entry claims {length} bytes, {len(entries) - at} are left"
            )
        names.append(entries[at + DIRENT.size : at + length].split(b"\0", 1)[0])
        at += length
    return names


@form("fcntl")
def fcntl(
    machine: str, fd: int, command: int, argument: int | bytes | Out | Lock | tuple[int, int] = 0
) -> Call:
    """Control a descriptor: the result; a Lock for F_GETLK and F_OFD_GETLK; (type, id) for
    F_GETOWN_EX, which F_SETOWN_EX takes. Source: fcntl(2).
    """
    if command in LOCK_COMMANDS and isinstance(argument, Lock):
        lock = FLOCK.pack(*argument)
        if command in (c.F_GETLK, c.F_OFD_GETLK):
            return call(
                "fcntl",
                fd,
                command,
                Out(FLOCK.size, lock),
                decode=lambda _, memory: Lock(*FLOCK.unpack(memory[0])),
            )
        return call("fcntl", fd, command, lock)
    if command == c.F_GETOWN_EX and argument == 0:
        return call("fcntl", fd, command, Out(8), decode=pair)
    if isinstance(argument, tuple):
        return call("fcntl", fd, command, TWO_INTS.pack(*argument))
    if command == c.F_GETFL:
        return call(
            "fcntl",
            fd,
            command,
            argument,
            decode=lambda flags, _: open_flags(machine, flags, back=True),
        )
    if command == c.F_SETFL and isinstance(argument, int):
        argument = open_flags(machine, argument)
    if isinstance(argument, Out):
        return call("fcntl", fd, command, argument, decode=both)
    return call("fcntl", fd, command, argument)


@form("ioctl")
def ioctl(machine: str, fd: int, request: int, argument: int | bytes | Out = 0) -> Call:
    """Control a device: the result, or the int that TIOCGPGRP, TIOCGSID, FIONREAD and
    NS_GET_OWNER_UID give; the PidfdInfo that PIDFD_GET_INFO gives, asked for by its mask; with an
    Out: (result, bytes). Source: ioctl(2); linux/pidfd.h.
    """
    if request == c.PIDFD_GET_INFO and isinstance(argument, int):
        asked = Out(PIDFD_INFO.size, LONG.pack(argument))
        return call("ioctl", fd, request, asked, decode=_pidfd_info)
    if request in INT_READ and argument == 0:
        return call("ioctl", fd, request, Out(4), decode=integer)
    if request in INT_WRITTEN and isinstance(argument, int):
        return call("ioctl", fd, request, INT.pack(argument))
    if isinstance(argument, Out):
        return call("ioctl", fd, request, argument, decode=both)
    return call("ioctl", fd, request, argument)


def _pidfd_info(result: int, memory: tuple[bytes, ...]) -> PidfdInfo:
    return PidfdInfo(*PIDFD_INFO.unpack(memory[0]))


@form("eventfd")
def eventfd(machine: str, count: int = 0) -> Call:
    """Make an event counter: its descriptor. Source: eventfd(2)."""
    return call("eventfd", count) if has(machine, "eventfd") else call("eventfd2", count, 0)


@form("inotify_init")
def inotify_init(machine: str) -> Call:
    """Make an inotify instance: its descriptor. Source: inotify_init(2)."""
    return call("inotify_init") if has(machine, "inotify_init") else call("inotify_init1", 0)


@form("epoll_create")
def epoll_create(machine: str, size: int = 1) -> Call:
    """Make an epoll instance: its descriptor. Source: epoll_create(2)."""
    return call("epoll_create", size) if has(machine, "epoll_create") else call("epoll_create1", 0)


@form("epoll_ctl")
def epoll_ctl(
    machine: str, epoll: int, operation: int, fd: int, events: int = 0, data: int = 0
) -> Call:
    """Change what an epoll instance watches: 0. Source: epoll_ctl(2)."""
    return call("epoll_ctl", epoll, operation, fd, _epoll_event(machine).pack(events, data))


@form("epoll_wait", "epoll_pwait")
def epoll_wait(machine: str, epoll: int, most: int = 16, timeout: float | None = None) -> Call:
    """Wait for events, without end when `timeout` is None: list of (events, data). Source:
    epoll_wait(2).
    """
    event = _epoll_event(machine)

    def decode(result: int, memory: tuple[bytes, ...]) -> object:
        return list(event.iter_unpack(counted("epoll_wait", result * event.size, memory[0])))

    return call(
        "epoll_pwait",
        epoll,
        Out(event.size * most),
        most,
        _milliseconds(timeout),
        None,
        8,
        decode=decode,
    )


def _epoll_event(machine: str) -> struct.Struct:
    """struct epoll_event, which is packed on x86_64 alone."""
    return struct.Struct("<IQ" if machine == "x86_64" else "<I4xQ")


def _milliseconds(timeout: float | None) -> int:
    return -1 if timeout is None else round(timeout * 1000)


@form("poll")
def poll(machine: str, watched: list[tuple[int, int]], timeout: float | None = None) -> Call:
    """Wait until one of (fd, events) is ready, without end when `timeout` is None: list of (fd,
    events that happened), all of them. Source: poll(2).
    """
    if not has(machine, "poll"):
        return ppoll(machine, watched, timeout)
    return call("poll", _pollfds(watched), len(watched), _milliseconds(timeout), decode=_polled)


@form("ppoll")
def ppoll(
    machine: str,
    watched: list[tuple[int, int]],
    timeout: float | None = None,
    mask: frozenset[int] | set[int] | None = None,
) -> Call:
    """As poll; `mask` is the set of signals blocked meanwhile. Source: ppoll(2)."""
    blocked = None if mask is None else LONG.pack(sum(1 << signal - 1 for signal in mask))
    return call(
        "ppoll", _pollfds(watched), len(watched), timespec(timeout), blocked, 8, decode=_polled
    )


def _pollfds(watched: list[tuple[int, int]]) -> Out:
    memory = b"".join(POLLFD.pack(fd, events, 0) for fd, events in watched)
    return Out(len(memory), memory)


def _polled(result: int, memory: tuple[bytes, ...]) -> list[tuple[int, int]]:
    return [(fd, happened) for fd, _, happened in POLLFD.iter_unpack(memory[0])]


@form("pselect6", "select")
def pselect6(machine: str, readers: set[int], timeout: float | None = None) -> Call:
    """Wait until one of `readers` can be read, without end when `timeout` is None: set of those
    that can. Source: select(2).
    """
    bits = sum(1 << fd for fd in readers).to_bytes(SET_OF_FDS, "little")

    def decode(result: int, memory: tuple[bytes, ...]) -> set[int]:
        ready = int.from_bytes(memory[0], "little")
        return {fd for fd in readers if ready >> fd & 1}

    return call(
        "pselect6",
        max(readers) + 1,
        Out(SET_OF_FDS, bits),
        None,
        None,
        timespec(timeout),
        None,
        decode=decode,
    )


@form("getrandom")
def getrandom(machine: str, count: int, flags: int = 0) -> Call:
    """Random bytes. Source: getrandom(2)."""
    return call(
        "getrandom",
        Out(count),
        count,
        flags,
        decode=lambda result, memory: counted("getrandom", result, memory[0]),
    )
