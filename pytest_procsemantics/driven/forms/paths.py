"""Forms of calls on paths. Where only the call with `at` exists, it takes AT_FDCWD."""

from __future__ import annotations

import struct
from typing import NamedTuple

from pytest_procsemantics.driven import constants as c
from pytest_procsemantics.driven.call import Call, Out, call, counted
from pytest_procsemantics.driven.forms.form import Path, form, has, path
from pytest_procsemantics.driven.forms.timers import timespec

PATH_BYTES = 4096
# dev, ino, nlink, mode, uid, gid, rdev, size, blksize, blocks, then three times
STAT_X86_64 = struct.Struct("<QQQIII4xQqqqqqqqqq24x")
# dev, ino, mode, nlink, uid, gid, rdev, size, blksize, blocks, then three times
STAT_GENERIC = struct.Struct("<QQIIIIQ8xqi4xqqqqqqq8x")


class Stat(NamedTuple):
    """What stat(2) gives; times in nanoseconds since the epoch."""

    dev: int
    ino: int
    mode: int
    nlink: int
    uid: int
    gid: int
    rdev: int
    size: int
    blksize: int
    blocks: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int


def _stat(machine: str, name: str, *args: int | bytes | Out, after: tuple[int, ...] = ()) -> Call:
    layout = STAT_X86_64 if machine == "x86_64" else STAT_GENERIC

    def decode(result: int, memory: tuple[bytes, ...]) -> Stat:
        dev, ino, a, b, uid, gid, rdev, size, blksize, blocks, *times = layout.unpack(memory[0])
        mode, nlink = (b, a) if machine == "x86_64" else (a, b)
        atime, mtime, ctime = (times[i] * 10**9 + times[i + 1] for i in (0, 2, 4))
        return Stat(
            dev, ino, mode, nlink, uid, gid, rdev, size, blksize, blocks, atime, mtime, ctime
        )

    return call(name, *args, Out(layout.size), *after, decode=decode)


@form("stat")
def stat(machine: str, name: Path) -> Call:
    """Status of a file: Stat. Source: stat(2)."""
    return (
        _stat(machine, "stat", path(name))
        if has(machine, "stat")
        else newfstatat(machine, c.AT_FDCWD, name)
    )


@form("lstat")
def lstat(machine: str, name: Path) -> Call:
    """Status of a file or link itself: Stat. Source: lstat(2)."""
    if has(machine, "lstat"):
        return _stat(machine, "lstat", path(name))
    return newfstatat(machine, c.AT_FDCWD, name, c.AT_SYMLINK_NOFOLLOW)


@form("fstat")
def fstat(machine: str, fd: int) -> Call:
    """Status of an open file: Stat. Source: fstat(2)."""
    return _stat(machine, "fstat", fd)


@form("newfstatat", "fstatat")
def newfstatat(machine: str, folder: int, name: Path, flags: int = 0) -> Call:
    """Status of a file below a folder: Stat. Source: fstatat(2)."""
    return _stat(machine, "newfstatat", folder, path(name), after=(flags,))


@form("getcwd")
def getcwd(machine: str, size: int = PATH_BYTES) -> Call:
    """The current working directory: bytes. Source: getcwd(2)."""
    return call(
        "getcwd",
        Out(size),
        size,
        decode=lambda result, memory: counted("getcwd", result, memory[0]).rstrip(b"\0"),
    )


@form("readlink")
def readlink(machine: str, name: Path, size: int = PATH_BYTES) -> Call:
    """What a symbolic link holds: bytes. Source: readlink(2)."""
    if not has(machine, "readlink"):
        return readlinkat(machine, c.AT_FDCWD, name, size)
    return call("readlink", path(name), Out(size), size, decode=_link)


@form("readlinkat")
def readlinkat(machine: str, folder: int, name: Path, size: int = PATH_BYTES) -> Call:
    """What a symbolic link below a folder holds: bytes. Source: readlinkat(2)."""
    return call("readlinkat", folder, path(name), Out(size), size, decode=_link)


def _link(result: int, memory: tuple[bytes, ...]) -> bytes:
    return counted("readlink", result, memory[0])


def _here(
    machine: str, name: str, at: str, file: Path, *args: int, after: tuple[int, ...] = ()
) -> Call:
    """Call `name`, or else `at` below the current directory with `after` behind the other
    arguments.
    """
    if has(machine, name):
        return call(name, path(file), *args)
    return call(at, c.AT_FDCWD, path(file), *args, *after)


@form("mkdir")
def mkdir(machine: str, name: Path, mode: int = 0o777) -> Call:
    """Make a folder: 0. Source: mkdir(2)."""
    return _here(machine, "mkdir", "mkdirat", name, mode)


@form("mknod")
def mknod(machine: str, name: Path, mode: int, device: int = 0) -> Call:
    """Make a file, device or FIFO: 0. Source: mknod(2)."""
    return _here(machine, "mknod", "mknodat", name, mode, device)


@form("rmdir")
def rmdir(machine: str, name: Path) -> Call:
    """Remove a folder: 0. Source: rmdir(2)."""
    return _here(machine, "rmdir", "unlinkat", name, after=(c.AT_REMOVEDIR,))


@form("unlink")
def unlink(machine: str, name: Path) -> Call:
    """Remove a name: 0. Source: unlink(2)."""
    return _here(machine, "unlink", "unlinkat", name, after=(0,))


@form("access")
def access(machine: str, name: Path, mode: int = 0) -> Call:
    """Whether the real user may use a file so: 0. Source: access(2)."""
    return _here(machine, "access", "faccessat", name, mode)


@form("chmod")
def chmod(machine: str, name: Path, mode: int) -> Call:
    """Change a file's mode: 0. Source: chmod(2)."""
    return _here(machine, "chmod", "fchmodat", name, mode)


@form("chown")
def chown(machine: str, name: Path, user: int, group: int) -> Call:
    """Change a file's owner: 0. Source: chown(2)."""
    return _here(machine, "chown", "fchownat", name, user, group, after=(0,))


@form("lchown")
def lchown(machine: str, name: Path, user: int, group: int) -> Call:
    """Change the owner of a file or link itself: 0. Source: lchown(2)."""
    return _here(machine, "lchown", "fchownat", name, user, group, after=(c.AT_SYMLINK_NOFOLLOW,))


@form("rename")
def rename(machine: str, old: Path, new: Path) -> Call:
    """Give a file another name: 0. Source: rename(2)."""
    if has(machine, "rename"):
        return call("rename", path(old), path(new))
    return call("renameat2", c.AT_FDCWD, path(old), c.AT_FDCWD, path(new), 0)


@form("renameat")
def renameat(machine: str, old_folder: int, old: Path, new_folder: int, new: Path) -> Call:
    """As rename, below folders: 0. Source: renameat(2)."""
    if has(machine, "renameat"):
        return call("renameat", old_folder, path(old), new_folder, path(new))
    return call("renameat2", old_folder, path(old), new_folder, path(new), 0)


@form("link")
def link(machine: str, old: Path, new: Path) -> Call:
    """Give a file a second name: 0. Source: link(2)."""
    if has(machine, "link"):
        return call("link", path(old), path(new))
    return call("linkat", c.AT_FDCWD, path(old), c.AT_FDCWD, path(new), 0)


@form("symlink")
def symlink(machine: str, content: Path, new: Path) -> Call:
    """Make a symbolic link: 0. Source: symlink(2)."""
    if has(machine, "symlink"):
        return call("symlink", path(content), path(new))
    return call("symlinkat", path(content), c.AT_FDCWD, path(new))


@form("utime")
def utime(machine: str, name: Path, times: tuple[int, int] | None = None) -> Call:
    """Set times of access and change in whole seconds, or to now: 0. Source: utime(2)."""
    if has(machine, "utime"):
        return call("utime", path(name), None if times is None else struct.pack("<qq", *times))
    return utimensat(machine, c.AT_FDCWD, name, times)


@form("utimensat")
def utimensat(
    machine: str,
    folder: int,
    name: Path | None,
    times: tuple[float, float] | None = None,
    flags: int = 0,
) -> Call:
    """Set times of access and change, or to now; without a name those of the descriptor `folder`:
    0. Source: utimensat(2).
    """
    both = None if times is None else b"".join(timespec(time) or b"" for time in times)
    return call("utimensat", folder, None if name is None else path(name), both, flags)


@form("mount")
def mount(
    machine: str,
    source: Path | None,
    target: Path,
    type: Path | None = None,
    flags: int = 0,
    data: Path | None = None,
) -> Call:
    """Mount a file system, or change a mount: 0. Source: mount(2)."""
    args = (None if part is None else path(part) for part in (source, target, type))
    return call("mount", *args, flags, None if data is None else path(data))
