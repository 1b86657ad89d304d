"""fork(2): descriptors, what they share, and locks on files."""

from __future__ import annotations

from pytest_procsemantics import Process, Target, clause
from pytest_procsemantics.alike import Make, like_fork, like_fork_and_vfork
from pytest_procsemantics.driven import Observer, fails
from pytest_procsemantics.driven.call import Out
from pytest_procsemantics.driven.constants import (
    AT_FDCWD,
    CLONE_FILES,
    CLONE_VM,
    EAGAIN,
    EBADF,
    EINVAL,
    F_DUPFD_CLOEXEC,
    F_GETFD,
    F_GETFL,
    F_GETLK,
    F_GETOWN,
    F_GETSIG,
    F_NOTIFY,
    F_OFD_SETLK,
    F_SETFD,
    F_SETFL,
    F_SETLK,
    F_SETOWN,
    F_SETSIG,
    F_WRLCK,
    FD_CLOEXEC,
    KCMP_FILE,
    LOCK_EX,
    LOCK_NB,
    LOCK_UN,
    O_APPEND,
    O_CLOEXEC,
    O_NONBLOCK,
    O_RDWR,
    POLLIN,
    SEEK_CUR,
    SEEK_SET,
    SIGCHLD,
    SIGRTMIN,
)
from pytest_procsemantics.driven.forms.files import Lock
from pytest_procsemantics.driven.queues import new_queue
from pytest_procsemantics.driven.step import Step
from pytest_procsemantics.lies import every_child, in_child, in_library_child, lie, opened

SHARES_TABLE = every_child(CLONE_FILES | SIGCHLD)
SHARES_MEMORY = every_child(CLONE_VM | SIGCHLD)
CLOSES = in_child("the child has no descriptors", lambda child: child.sys.close_range(3, 100, 0))
WHOLE = Lock(F_WRLCK)
DN_CREATE, DN_MULTISHOT = 4, 1 << 31  # fcntl(2)
POLL_ONE = 5  # IOCB_CMD_POLL (linux/aio_abi.h)


def opens_anew(child: Process) -> None:
    """Replace each of the maker's files by an opening of the child's own."""
    for fd in opened(child):
        again = child.sys.openat(AT_FDCWD, f"/proc/self/fd/{fd}", O_RDWR)
        child.sys.dup2(again, fd)
        child.sys.close(again)


OPENS_ANEW = in_child("the child has openings of its own", opens_anew)


def new_file(process: Process, content: bytes = b"") -> int:
    """A descriptor of a fresh file."""
    path = process.make_file(f"{process.target.folder()}/file", content)
    return int(process.sys.openat(AT_FDCWD, path, O_RDWR))


def other_opening(process: Process) -> tuple[Process, int]:
    """A process that is no relative, with an opening of its own of the same file."""
    stranger = process.target.new_process("stranger")
    path = f"{process.target.folder()}/file"
    return stranger, stranger.sys.openat(AT_FDCWD, path, O_RDWR)


@like_fork("fork.2/descriptors-are-copied")
@lie(SHARES_TABLE, CLOSES)
def test_the_child_has_copies_of_the_descriptors(parent: Process, make: Make) -> None:
    reader, writer = parent.sys.pipe()
    high = parent.sys.fcntl(reader, F_DUPFD_CLOEXEC, 50)  # leaves a gap
    child = make(parent)
    flags = [child.sys.fcntl(fd, F_GETFD) for fd in (reader, writer, high)]
    assert flags == [0, 0, FD_CLOEXEC]
    child.sys.close(writer)
    assert parent.sys.fcntl(writer, F_GETFD) == 0
    new = parent.sys.fcntl(reader, F_DUPFD_CLOEXEC, 60)
    with fails(EBADF):
        child.sys.fcntl(new, F_GETFD)


@like_fork("fork.2/descriptors-share-description")
@lie(OPENS_ANEW)
def test_the_childs_descriptor_is_the_same_open_file(
    parent: Process, observer: Observer, make: Make
) -> None:
    fd = new_file(parent)
    child = make(parent)
    assert observer.kcmp(parent, child, KCMP_FILE, fd, fd) == 0


@like_fork("fork.2/descriptors-share-offset")
@lie(OPENS_ANEW)
def test_the_offset_is_one_for_both(parent: Process, make: Make) -> None:
    fd = new_file(parent, b"0123456789")
    child = make(parent)
    assert child.sys.read(fd, 4) == b"0123"
    assert parent.sys.read(fd, 4) == b"4567"
    parent.sys.lseek(fd, 2, SEEK_SET)
    assert child.sys.lseek(fd, 0, SEEK_CUR) == 2


@like_fork("fork.2/descriptors-share-status-flags")
@lie(OPENS_ANEW)
def test_the_status_flags_are_one_for_both(parent: Process, make: Make) -> None:
    fd = new_file(parent)
    child = make(parent)
    child.sys.fcntl(fd, F_SETFL, O_APPEND | O_NONBLOCK)
    both = O_APPEND | O_NONBLOCK
    assert parent.sys.fcntl(fd, F_GETFL) & both == both


@like_fork("fork.2/descriptor-flags-are-not-shared")
@lie(SHARES_TABLE)
def test_the_close_on_exec_flag_is_each_sides_own(parent: Process, make: Make) -> None:
    fd = new_file(parent)
    child = make(parent)
    child.sys.fcntl(fd, F_SETFD, FD_CLOEXEC)
    assert (child.sys.fcntl(fd, F_GETFD), parent.sys.fcntl(fd, F_GETFD)) == (FD_CLOEXEC, 0)


def opens_pipes_anew(child: Process) -> None:
    """Replace the read end, the first descriptor of the maker, by an opening of the child's own."""
    again = child.sys.openat(AT_FDCWD, "/proc/self/fd/3", O_NONBLOCK)
    child.sys.dup2(again, 3)


OPENS_PIPES_ANEW = in_child("the child has a pipe end of its own", opens_pipes_anew)


@like_fork("fork.2/descriptors-share-owner")
@lie(OPENS_PIPES_ANEW)
def test_the_owner_of_a_descriptors_signals_is_one_for_both(parent: Process, make: Make) -> None:
    reader, _ = parent.sys.pipe()
    child = make(parent)
    child.sys.fcntl(reader, F_SETOWN, child.own_pid)
    assert parent.sys.fcntl(reader, F_GETOWN) == child.own_pid


@like_fork("fork.2/descriptors-share-signal")
@lie(OPENS_PIPES_ANEW)
def test_the_signal_of_a_descriptor_is_one_for_both(parent: Process, make: Make) -> None:
    reader, _ = parent.sys.pipe()
    child = make(parent)
    child.sys.fcntl(reader, F_SETSIG, SIGRTMIN)
    assert parent.sys.fcntl(reader, F_GETSIG) == SIGRTMIN


# --- locks ---


@like_fork_and_vfork("fork.2/record-locks-not-inherited")
@lie(SHARES_TABLE)
def test_a_record_lock_is_the_parents_alone(parent: Process, make: Make) -> None:
    fd = new_file(parent)
    parent.sys.fcntl(fd, F_SETLK, WHOLE)
    child = make(parent)
    found = child.sys.fcntl(fd, F_GETLK, WHOLE)
    assert (found.type, found.pid) == (F_WRLCK, parent.own_pid)


@like_fork("fork.2/ofd-locks-inherited")
@lie(OPENS_ANEW)
def test_a_lock_of_the_open_file_is_the_childs_too(parent: Process, make: Make) -> None:
    fd = new_file(parent)
    parent.sys.fcntl(fd, F_OFD_SETLK, WHOLE)
    child = make(parent)
    assert child.sys.fcntl(fd, F_OFD_SETLK, WHOLE) == 0
    parent.sys.close(fd)
    stranger, other = other_opening(parent)
    with fails(EAGAIN):
        stranger.sys.fcntl(other, F_OFD_SETLK, WHOLE)
    child.sys.close(fd)
    assert stranger.sys.fcntl(other, F_OFD_SETLK, WHOLE) == 0


@like_fork("fork.2/flock-locks-inherited")
@lie(OPENS_ANEW)
def test_a_lock_of_flock_is_the_childs_too(parent: Process, make: Make) -> None:
    fd = new_file(parent)
    parent.sys.flock(fd, LOCK_EX)
    child = make(parent)
    parent.sys.close(fd)
    stranger, other = other_opening(parent)
    with fails(EAGAIN):
        stranger.sys.flock(other, LOCK_EX | LOCK_NB)
    child.sys.flock(fd, LOCK_UN)
    assert stranger.sys.flock(other, LOCK_EX | LOCK_NB) == 0


# --- message queues, asynchronous I/O, notifications ---


def flags_of(process: Process, queue: int) -> int:
    """The mq_flags of a queue (mq_getattr(3))."""
    _, attributes = process.sys.mq_getsetattr(queue, None, Out(64))
    return int.from_bytes(attributes[:8], "little")


@clause("fork.2/message-queues-are-copied")
@lie(SHARES_TABLE, CLOSES)
def test_the_child_has_a_copy_of_a_message_queue_descriptor(parent: Process) -> None:
    queue = new_queue(parent)
    child = parent.fork()
    assert child.sys.mq_timedsend(queue, b"text", 4, 0, None) == 0
    child.sys.close(queue)
    assert parent.sys.mq_timedreceive(queue, Out(8192), 8192, None, None)[1][:4] == b"text"


def unblocks_not(child: Process) -> None:
    """Have each queue anew: through /proc, as its name is gone."""
    again = child.sys.openat(AT_FDCWD, "/proc/self/fd/3", O_RDWR)
    child.sys.dup2(again, 3)


@clause("fork.2/message-queues-share-flags")
@lie(in_child("the child has a queue description of its own", unblocks_not))
def test_the_flags_of_a_message_queue_are_one_for_both(parent: Process) -> None:
    queue = new_queue(parent)
    child = parent.fork()
    assert flags_of(parent, queue) == 0
    child.sys.mq_getsetattr(queue, O_NONBLOCK.to_bytes(64, "little"), None)
    assert flags_of(parent, queue) == O_NONBLOCK


def new_context(process: Process) -> int:
    """A context of asynchronous I/O."""
    return int.from_bytes(process.sys.io_setup(8, Out(8))[1], "little")


@clause("fork.2/io-contexts-not-inherited")
@lie(SHARES_MEMORY)
def test_a_context_of_asynchronous_io_is_the_parents_alone(parent: Process) -> None:
    context = new_context(parent)
    child = parent.fork()
    with fails(EINVAL):
        child.sys.io_destroy(context)
    assert parent.sys.io_destroy(context) == 0


@clause("fork.2/asynchronous-io-not-inherited")
@lie(SHARES_MEMORY)
def test_an_outstanding_operation_is_the_parents_alone(parent: Process) -> None:
    context = new_context(parent)
    reader, writer = parent.sys.pipe()
    block = parent.allocate(64)
    # struct iocb: operation at 16, descriptor at 20, the events to poll for at 24
    parent.store(block + 16, POLL_ONE | reader << 32)
    parent.store(block + 24, POLLIN)
    assert parent.sys.io_submit(context, 1, block.to_bytes(8, "little")) == 1
    child = parent.fork()
    parent.sys.write(writer, b"x")
    assert parent.sys.io_getevents(context, 1, 1, Out(32), None)[0] == 1
    with fails(EINVAL):
        child.sys.io_getevents(context, 0, 1, Out(32), None)


def watches(child: Process) -> None:
    """Ask for notifications of each folder that the maker has open."""
    for fd in opened(child):
        child.sys.fcntl(fd, F_NOTIFY, DN_CREATE | DN_MULTISHOT)


@clause("fork.2/dnotify-not-inherited")
@lie(in_child("the child asks for notifications too", watches))
def test_notifications_of_a_folder_are_the_parents_alone(parent: Process, target: Target) -> None:
    parent.count_signals(SIGRTMIN)
    folder = parent.sys.openat(AT_FDCWD, target.folder(), O_CLOEXEC)
    # The descriptor's owner gets every notification, and a signal that queues tells how many.
    parent.sys.fcntl(folder, F_SETSIG, SIGRTMIN)
    parent.sys.fcntl(folder, F_NOTIFY, DN_CREATE | DN_MULTISHOT)
    child = parent.fork()
    parent.make_file(f"{target.folder()}/file")
    assert (parent.count(SIGRTMIN), child.count(SIGRTMIN)) == (1, 0)


# --- streams of the C library ---


def closes_all(child: Process) -> None:
    child.sys.close_range(3, 100, 0)


def reads_on_in_maker(child: Process) -> None:
    """Take the next entry of each stream that the child's maker has opened."""
    assert child.creation
    maker = child.creation.process
    steps = [event for event in child.target.transcript.events if isinstance(event, Step)]
    for step in [one for one in dict.fromkeys(steps) if one.name == "opendir"]:
        maker.lib.readdir(step.arrives())


def entries_left(process: Process, stream: int) -> int:
    """How many entries are still to be read, which reads them."""
    return sum(1 for _ in iter(lambda: process.lib.readdir(stream), 0))


@clause("fork.2/directory-streams-are-copied")
@lie(in_library_child("the child has no descriptors", closes_all))
def test_directory_streams_are_copied(program: Process, target: Target) -> None:
    stream = program.lib.opendir(target.folder())
    child = program.lib.fork()
    assert child.lib.readdir(stream) != 0


@clause("fork.2/directory-streams-positions")
@lie(in_library_child("the parent's stream goes on as well", reads_on_in_maker))
def test_the_child_reads_on_in_a_stream_of_its_own(program: Process, target: Target) -> None:
    program.sys.mkdir(f"{target.folder()}/empty")  # has two entries
    stream = program.lib.opendir(f"{target.folder()}/empty")
    program.lib.readdir(stream)
    child = program.lib.fork()
    assert entries_left(child, stream) == entries_left(program, stream) == 1
