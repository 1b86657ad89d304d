"""Whose a segment in /dev/shm is: a file there does not say who made it, and all processes of a machine share the folder.

The kernel tells: fanotify names the maker of each new file, to an ordinary user only if that is
the watching process itself, which is all that is asked here. Kernels before 5.13 and some
containers refuse it. Then what counts is who holds the segment open or mapped.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
from typing import Final

from pytest_procsemantics.leaks.snapshot import SEGMENTS, read

FAN_CLOEXEC: Final = 0x01
FAN_NONBLOCK: Final = 0x02
FAN_REPORT_DFID_NAME: Final = 0xC00  # the folder of an event, and the name in it
FAN_MARK_ADD: Final = 0x01
FAN_CREATE: Final = 0x100
AT_FDCWD: Final = -100
LINK: Final = "anon_inode:[fanotify]"

# struct fanotify_event_metadata; behind it struct fanotify_event_info_fid, in it a file handle.
EVENT: Final = struct.Struct("=IBBHQii")  # length, version, -, length of this, mask, -, pid
HANDLE: Final = struct.Struct("=4x8xIi")  # after header and file system: length, type
ROOM: Final = 64 * 1024  # bytes for one read; an event with a name of 255 bytes has about 320


class Makers:
    """Who made which segment since the last `forget()`; closes with `close()`.

    Args:
        is_alone: no other process of this user is likely to leave segments behind at the same
            time, as the other workers of pytest-xdist are.
    """

    def __init__(self, is_alone: bool) -> None:
        self._is_alone = is_alone
        self._watch = _watch()
        self._pids: dict[str, int] = {}

    def close(self) -> None:
        if self._is_open():
            os.close(self._watch)

    def forget(self) -> None:
        self._take_in()
        self._pids.clear()

    def is_ours(self, name: str) -> bool:
        """Whether this process made a segment, or holds it.

        Where the kernel doesn't tell makers: whether this process holds it, or nobody does and
        the process is alone.
        """
        self._take_in()
        if name in self._pids:
            return self._pids[name] == os.getpid() or _holds("self", name)
        return _holds("self", name) or (self._is_alone and _is_without_holder(name))

    def _is_open(self) -> bool:
        """Not so if a test has closed all descriptors that it did not know."""
        try:
            return self._watch >= 0 and os.readlink(f"/proc/self/fd/{self._watch}") == LINK
        except FileNotFoundError:
            return False

    def _take_in(self) -> None:
        if not self._is_open():
            return
        with contextlib.suppress(BlockingIOError):
            while events := os.read(self._watch, ROOM):
                self._pids.update(_makers(events))


def _watch() -> int:
    """A descriptor on which the kernel tells of new segments; -1 where it refuses to."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "fanotify_init"):
        return -1
    libc.fanotify_mark.argtypes = (
        *(ctypes.c_int, ctypes.c_uint, ctypes.c_uint64),
        *(ctypes.c_int, ctypes.c_char_p),
    )
    flags = FAN_CLOEXEC | FAN_NONBLOCK | FAN_REPORT_DFID_NAME
    watch: int = libc.fanotify_init(flags, os.O_RDONLY)
    if watch < 0:
        return -1
    if libc.fanotify_mark(watch, FAN_MARK_ADD, FAN_CREATE, AT_FDCWD, SEGMENTS.encode()):
        os.close(watch)
        return -1
    return watch


def _makers(events: bytes) -> dict[str, int]:
    """Names and their makers' pids: 0 is a process that this one may not know."""
    found, at = {}, 0
    while at < len(events):
        length, _, _, head, mask, _, pid = EVENT.unpack_from(events, at)
        # One that says that events were lost has neither mask nor name.
        if mask & FAN_CREATE:
            (handle, _) = HANDLE.unpack_from(events, at + head)
            name = events[at + head + HANDLE.size + handle : at + length]
            found[os.fsdecode(name.split(b"\0", 1)[0])] = pid
        at += length
    return found


def _holds(process: str, name: str) -> bool:
    """Whether a process has a segment open or mapped; False if that can't be seen."""
    path = f"{SEGMENTS}/{name}"
    with contextlib.suppress(OSError):
        for descriptor in os.listdir(f"/proc/{process}/fd"):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{process}/fd/{descriptor}") == path:
                    return True
        return any(line.endswith(path) for line in read(f"/proc/{process}/maps").splitlines())
    return False


def _is_without_holder(name: str) -> bool:
    """Whether a segment is this user's, and no process has it open or mapped."""
    try:
        is_this_users = os.stat(f"{SEGMENTS}/{name}").st_uid == os.geteuid()
    except FileNotFoundError:
        return False
    pids = (pid for pid in os.listdir("/proc") if pid.isdigit())
    return is_this_users and not any(_holds(pid, name) for pid in pids)
