"""execve(2): descriptors and the locks on their files."""

from __future__ import annotations

from pytest_procsemantics import Process, clause
from pytest_procsemantics.driven import Observer, Target, fails
from pytest_procsemantics.driven.constants import (
    AT_FDCWD,
    EAGAIN,
    EBADF,
    EMFILE,
    ENOENT,
    ENOEXEC,
    F_GETFD,
    F_GETLK,
    F_GETOWN,
    F_GETSIG,
    F_OFD_SETLK,
    F_SETLK,
    F_SETOWN,
    F_SETSIG,
    F_WRLCK,
    FD_CLOEXEC,
    KCMP_FILE,
    LOCK_EX,
    LOCK_NB,
    O_CLOEXEC,
    O_RDWR,
    RLIMIT_NOFILE,
    SIGRTMIN,
)
from pytest_procsemantics.driven.forms import Lock
from pytest_procsemantics.lies import (
    EXEC_CLOSES_NOTHING,
    EXEC_DOES_NOTHING,
    before_exec,
    in_image,
    lie,
)

CLOSES_ALL = in_image("exec closes all descriptors", lambda image: image.sys.close_range(3, 100, 0))


def opens(process: Process, path: str, flags: int = 0) -> int:
    """Open a file for reading and writing."""
    return int(process.sys.openat(AT_FDCWD, path, O_RDWR | flags))


@clause("execve.2/cloexec-descriptors-closed")
@lie(EXEC_DOES_NOTHING)
def test_close_on_exec_descriptors_are_closed(parent: Process) -> None:
    reader, writer = parent.sys.pipe2(O_CLOEXEC)
    child = parent.fork()
    parent.sys.close(writer)
    child.execve()
    with fails(EBADF):
        child.sys.fcntl(writer, F_GETFD)
    assert parent.sys.read(reader, 1) == b""


@clause("execve.2/directory-streams-closed")
@lie(EXEC_CLOSES_NOTHING)
def test_directory_streams_are_closed(program: Process, target: Target) -> None:
    descriptor = program.lib.dirfd(program.lib.opendir(target.folder()))
    program.execve()
    with fails(EBADF):
        program.sys.fcntl(descriptor, F_GETFD)


@clause("execve.2/descriptors-stay-open")
@lie(CLOSES_ALL)
def test_other_descriptors_stay_open(parent: Process, observer: Observer) -> None:
    reader, _ = parent.sys.pipe()
    witness = parent.fork()
    parent.execve()
    assert parent.sys.fcntl(reader, F_GETFD) == 0
    assert observer.kcmp(parent, witness, KCMP_FILE, reader, reader) == 0


@clause("execve.2/failed-exec-closes-nothing")
@lie(before_exec("exec first closes", lambda process: process.sys.close_range(3, 100, 0)))
def test_a_failed_exec_closes_no_descriptor(parent: Process, target: Target) -> None:
    text = parent.make_file(f"{target.folder()}/text", b"no program", 0o755)
    reader, _ = parent.sys.pipe2(O_CLOEXEC)
    with fails(ENOENT):
        parent.execve("/no/such/program")
    with fails(ENOEXEC):
        parent.execve(text)
    assert parent.sys.fcntl(reader, F_GETFD) == FD_CLOEXEC


@clause("execve.2/closing-releases-record-locks")
@lie(EXEC_DOES_NOTHING)
def test_closing_releases_record_locks(parent: Process, target: Target) -> None:
    path = parent.make_file(f"{target.folder()}/file")
    other = parent.fork()
    parent.sys.fcntl(opens(parent, path, O_CLOEXEC), F_SETLK, Lock(F_WRLCK))
    fd = opens(other, path)
    with fails(EAGAIN):
        other.sys.fcntl(fd, F_SETLK, Lock(F_WRLCK))
    parent.execve()
    assert other.sys.fcntl(fd, F_SETLK, Lock(F_WRLCK)) == 0


@clause("execve.2/record-locks-kept-otherwise")
@lie(CLOSES_ALL)
def test_record_locks_are_kept_while_no_descriptor_is_closed(
    parent: Process, target: Target
) -> None:
    path = parent.make_file(f"{target.folder()}/file")
    other = parent.fork()
    parent.sys.fcntl(opens(parent, path), F_SETLK, Lock(F_WRLCK))
    parent.execve()
    found = other.sys.fcntl(opens(other, path), F_GETLK, Lock(F_WRLCK))
    assert (found.type, found.pid) == (F_WRLCK, parent.own_pid)


@clause("execve.2/ofd-locks-kept")
@lie(CLOSES_ALL)
def test_locks_of_an_open_description_are_kept(parent: Process, target: Target) -> None:
    path = parent.make_file(f"{target.folder()}/file")
    other = parent.fork()
    fd = opens(parent, path)
    parent.sys.fcntl(fd, F_OFD_SETLK, Lock(F_WRLCK))
    parent.execve()
    others = opens(other, path)
    with fails(EAGAIN):
        other.sys.fcntl(others, F_OFD_SETLK, Lock(F_WRLCK))
    parent.sys.close(fd)
    assert other.sys.fcntl(others, F_OFD_SETLK, Lock(F_WRLCK)) == 0


@clause("execve.2/flock-and-ofd-locks-kept")
@lie(CLOSES_ALL)
def test_locks_by_flock_are_kept(parent: Process, target: Target) -> None:
    path = parent.make_file(f"{target.folder()}/file")
    other = parent.fork()
    fd = opens(parent, path)
    parent.sys.flock(fd, LOCK_EX)
    parent.execve()
    others = opens(other, path)
    with fails(EAGAIN):
        other.sys.flock(others, LOCK_EX | LOCK_NB)
    parent.sys.close(fd)
    assert other.sys.flock(others, LOCK_EX | LOCK_NB) == 0


@clause("execve.2/dnotify-and-owner-kept")
@lie(in_image("exec clears the owner", lambda image: image.sys.fcntl(3, F_SETOWN, 0)))
def test_owner_and_signal_of_a_descriptor_stay(parent: Process) -> None:
    reader, _ = parent.sys.pipe()
    parent.sys.dup2(reader, 3)
    parent.sys.fcntl(3, F_SETOWN, parent.own_pid)
    parent.sys.fcntl(3, F_SETSIG, SIGRTMIN)
    parent.execve()
    assert parent.sys.fcntl(3, F_GETOWN) == parent.own_pid
    assert parent.sys.fcntl(3, F_GETSIG) == SIGRTMIN


@clause("execve.2/emfile")
@lie(EXEC_DOES_NOTHING)
def test_exec_at_the_limit_of_descriptors_is_refused(parent: Process) -> None:
    parent.sys.prlimit64(0, RLIMIT_NOFILE, (0, 0))
    with fails(EMFILE):
        parent.execve()
