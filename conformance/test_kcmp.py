"""Whether processes share a resource: kcmp(2)."""

from __future__ import annotations

import functools
import itertools
import struct
from collections.abc import Callable
from typing import Any

import pytest

from pytest_procsemantics import Process, clause
from pytest_procsemantics.alike import Make
from pytest_procsemantics.driven import Step, fails
from pytest_procsemantics.driven.constants import (
    AF_UNIX,
    AT_FDCWD,
    CLONE_FILES,
    CLONE_FS,
    CLONE_IO,
    CLONE_SIGHAND,
    CLONE_SYSVSEM,
    CLONE_VM,
    EBADF,
    EFAULT,
    EINVAL,
    ENOENT,
    EPERM,
    EPOLL_CTL_ADD,
    ESRCH,
    KCMP_EPOLL_TFD,
    KCMP_FILE,
    KCMP_FILES,
    KCMP_FS,
    KCMP_IO,
    KCMP_SIGHAND,
    KCMP_SYSVSEM,
    KCMP_VM,
    P_PID,
    POLLIN,
    PR_SET_DUMPABLE,
    SCM_RIGHTS,
    SIGCHLD,
    SOCK_DGRAM,
    SOL_SOCKET,
    WEXITED,
    WNOWAIT,
)
from pytest_procsemantics.lies import (
    EXEC_DOES_NOTHING,
    THREAD_IS_A_CHILD,
    Liar,
    Lie,
    before_call,
    drops,
    every_child,
    in_image,
    instead,
    leaves_out,
    lie,
    opened,
    passes,
    reports,
)

IOPRIO_WHO_PROCESS = 1
LOW = 2 << 13 | 7  # of the best-effort class (ioprio_set(2))
ALL = CLONE_FILES | CLONE_FS | CLONE_IO | CLONE_SIGHAND | CLONE_SYSVSEM | CLONE_VM
SLOT = struct.Struct("<III")  # struct kcmp_epoll_slot: epoll instance, target, how many before it
LESS, GREATER = 1, 2
CLOSED = 99
NOWHERE = 8  # in the page at 0, where nothing is mapped

SAYS_LESS = reports("it is less", "kcmp", lambda _: LESS)
SAYS_SAME = leaves_out("kcmp")


KINDS = {
    "file": KCMP_FILE,
    "files": KCMP_FILES,
    "fs": KCMP_FS,
    "io": KCMP_IO,
    "sighand": KCMP_SIGHAND,
    "sysvsem": KCMP_SYSVSEM,
    "vm": KCMP_VM,
}


def of_kinds(*names: str) -> pytest.MarkDecorator:
    """Let a check be made of each of these kinds of resources."""
    return pytest.mark.parametrize("kind", [pytest.param(KINDS[name], id=name) for name in names])


def compare(
    one: Process, other: Process, kind: int, first: int = 0, second: int | bytes = 0
) -> int:
    """What the first of two processes or threads is told: 0, or whether its own is less or greater."""
    return int(one.sys.raw("kcmp", one.tid, other.tid, kind, first, second))


def compare_files(process: Process, first: int, second: int) -> int:
    """Compare the files of two descriptors of a process."""
    return compare(process, process, KCMP_FILE, first, second)


def compare_watched(process: Process, fd: int, *slot: int, of: Process | None = None) -> int:
    """Compare a descriptor's file with one that an epoll instance watches."""
    return compare(process, of or process, KCMP_EPOLL_TFD, fd, SLOT.pack(*slot))


# --- the parts that clone can share ---


def has_all(process: Process) -> None:
    """Have what a process need not have: an I/O context, and a list of semaphore adjustments, which sharing makes."""
    process.sys.ioprio_set(IOPRIO_WHO_PROCESS, 0, LOW)
    process.thread().exit_thread()


@pytest.mark.parametrize(
    ("kind", "flags"),
    [
        pytest.param(
            KCMP_FILES, CLONE_FILES, id="files", marks=clause("kcmp.2/files-with-clone-files")
        ),
        pytest.param(KCMP_FS, CLONE_FS, id="fs", marks=clause("kcmp.2/fs-with-clone-fs")),
        pytest.param(KCMP_IO, CLONE_IO, id="io", marks=clause("kcmp.2/io-with-clone-io")),
        pytest.param(
            KCMP_SIGHAND,
            CLONE_SIGHAND | CLONE_VM,
            id="sighand",
            marks=clause("kcmp.2/sighand-with-clone-sighand"),
        ),
        pytest.param(
            KCMP_SYSVSEM,
            CLONE_SYSVSEM,
            id="sysvsem",
            marks=clause("kcmp.2/sysvsem-with-clone-sysvsem"),
        ),
        pytest.param(KCMP_VM, CLONE_VM, id="vm", marks=clause("kcmp.2/vm-with-clone-vm")),
    ],
)
@lie(drops(ALL))
def test_what_clone_was_to_share_is_the_same(parent: Process, kind: int, flags: int) -> None:
    has_all(parent)
    assert compare(parent, parent.clone(flags | SIGCHLD), kind) == 0


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(KCMP_FILES, id="files", marks=clause("kcmp.2/files-with-clone-files")),
        pytest.param(KCMP_FS, id="fs", marks=clause("kcmp.2/fs-with-clone-fs")),
        pytest.param(KCMP_IO, id="io", marks=clause("kcmp.2/io-with-clone-io")),
        pytest.param(KCMP_SIGHAND, id="sighand", marks=clause("kcmp.2/sighand-with-clone-sighand")),
        pytest.param(KCMP_SYSVSEM, id="sysvsem", marks=clause("kcmp.2/sysvsem-with-clone-sysvsem")),
        pytest.param(KCMP_VM, id="vm", marks=clause("kcmp.2/vm-with-clone-vm")),
    ],
)
@pytest.mark.parametrize(
    "make", [pytest.param(Process.clone, id="clone"), pytest.param(Process.fork, id="fork")]
)
@lie(every_child(ALL | SIGCHLD))
def test_what_was_not_to_be_shared_differs(parent: Process, make: Make, kind: int) -> None:
    has_all(parent)
    assert compare(parent, make(parent), kind) != 0


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(KCMP_FILES, id="files", marks=clause("kcmp.2/files-with-clone-files")),
        pytest.param(KCMP_FS, id="fs", marks=clause("kcmp.2/fs-with-clone-fs")),
        pytest.param(KCMP_SIGHAND, id="sighand", marks=clause("kcmp.2/sighand-with-clone-sighand")),
    ],
)
@lie(every_child(ALL | SIGCHLD))
def test_what_vfork_does_not_share_differs(parent: Process, kind: int) -> None:
    assert compare(parent.vfork(), parent, kind) != 0


@clause("kcmp.2/vm-with-clone-vm")
@lie(instead("vfork", SIGCHLD))
def test_the_memory_of_the_child_of_vfork_is_the_same(parent: Process) -> None:
    assert compare(parent.vfork(), parent, KCMP_VM) == 0


@clause("kcmp.2/vm-different-after-exec")
@lie(EXEC_DOES_NOTHING)
def test_the_memory_of_a_new_image_differs(parent: Process) -> None:
    child = parent.clone(CLONE_VM | SIGCHLD)
    assert compare(parent, child, KCMP_VM) == 0
    child.execve()
    assert compare(parent, child, KCMP_VM) != 0


@clause("kcmp.2/unshare-makes-different")
@lie(leaves_out("unshare"))
@pytest.mark.parametrize(
    ("kind", "flag"),
    [
        pytest.param(KCMP_FILES, CLONE_FILES, id="files"),
        pytest.param(KCMP_FS, CLONE_FS, id="fs"),
    ],
)
def test_what_was_unshared_differs(parent: Process, kind: int, flag: int) -> None:
    child = parent.clone(flag | SIGCHLD)
    assert compare(parent, child, kind) == 0
    parent.sys.unshare(flag)
    assert compare(parent, child, kind) != 0


@clause("kcmp.2/thread-ids-are-accepted")
@lie(leaves_out("unshare"))
def test_threads_can_be_compared(parent: Process) -> None:
    thread = parent.thread()
    thread.sys.unshare(CLONE_FILES)
    assert compare(parent, thread, KCMP_FILES) != 0
    assert compare(thread, parent, KCMP_FILES) != 0
    assert compare(parent, thread, KCMP_VM) == 0


@pytest.fixture
def complete(parent: Process) -> Process:
    """The parent, which has all that a process need not have; an image keeps that."""
    has_all(parent)
    return parent


@clause("kcmp.2/pthread-shares-all-but-io")
@lie(THREAD_IS_A_CHILD)
@of_kinds("files", "fs", "sighand", "sysvsem", "vm")
def test_a_thread_of_the_library_shares_it(complete: Process, program: Process, kind: int) -> None:
    assert compare(program, program.lib.pthread_create(), kind) == 0


@clause("kcmp.2/pthread-shares-all-but-io")
@lie(leaves_out("ioprio_set"))
def test_a_thread_of_the_library_has_an_io_context_of_its_own(program: Process) -> None:
    program.sys.ioprio_set(IOPRIO_WHO_PROCESS, 0, LOW)
    assert compare(program, program.lib.pthread_create(), KCMP_IO) != 0


# --- files ---


class _OpensOnce(Liar):
    def ask_call(self, name: str, number: int, args: Any, decode: Any = None) -> Step:
        before = opened(self)
        if name == "openat" and before:
            self.tell()
            number, args = self.sys.number("dup"), (before[0],)
        return super().ask_call(name, number, args, decode)


@clause("kcmp.2/file-same-after-dup")
@lie(passes("it is another file's", "dup", 0, 0))
def test_a_duplicate_is_the_same_file(parent: Process) -> None:
    fd = parent.sys.memfd_create("file", 0)
    assert compare_files(parent, fd, parent.sys.dup(fd)) == 0


@clause("kcmp.2/file-different-for-two-opens")
@lie(Lie("the second open is a dup", _OpensOnce))
def test_two_opens_of_a_path_differ(parent: Process) -> None:
    first, second = parent.sys.openat(AT_FDCWD, "/"), parent.sys.openat(AT_FDCWD, "/")
    assert compare_files(parent, first, second) != 0


@clause("kcmp.2/file-different-for-two-opens")
@lie(Lie("the second open is a dup", _OpensOnce))
def test_the_same_path_opened_by_a_child_differs(parent: Process) -> None:
    fd, child = parent.sys.openat(AT_FDCWD, "/"), parent.fork()
    assert compare(parent, child, KCMP_FILE, fd, fd) == 0
    assert compare(parent, child, KCMP_FILE, fd, child.sys.openat(AT_FDCWD, "/")) != 0


def opens_again(image: Process) -> None:
    """Have the file opened anew at the same number."""
    image.sys.dup3(image.sys.openat(AT_FDCWD, "/"), 40, 0)


@clause("kcmp.2/file-same-over-exec")
@lie(in_image("exec opens it anew", opens_again))
def test_a_descriptor_that_is_kept_over_exec_is_the_same_file(parent: Process) -> None:
    parent.sys.dup3(parent.sys.openat(AT_FDCWD, "/"), 40, 0)
    child = parent.fork()
    child.execve()
    assert compare(parent, child, KCMP_FILE, 40, 40) == 0


CONTROL = struct.Struct("<QiiI4x")  # struct cmsghdr with one descriptor, padded
MESSAGE = struct.Struct("<QI4xQQQQI4x")  # struct msghdr


def message(process: Process, fd: int = -1) -> tuple[int, int]:
    """A message of one byte with room for a descriptor: its address, and that of the number."""
    data = process.allocate(256)
    control, buffer = data + 64, data + 128
    process.store(buffer, struct.pack("<QQ", data + 192, 1))
    process.store(control, CONTROL.pack(20, SOL_SOCKET, SCM_RIGHTS, fd & 0xFFFFFFFF))
    process.store(data, MESSAGE.pack(0, 0, buffer, 1, control, CONTROL.size, 0))
    return data, control + 16


def passes_another(process: Process) -> None:
    """Put another file where the one is that is to be passed."""
    process.sys.dup3(process.sys.openat(AT_FDCWD, "/"), 40, 0)


@clause("kcmp.2/file-same-after-passing")
@lie(before_call("sendmsg", "another is passed", passes_another))
def test_a_descriptor_that_was_passed_is_the_same_file(parent: Process) -> None:
    here, there = parent.sys.socketpair(AF_UNIX, SOCK_DGRAM, 0)
    child = parent.fork()
    fd = parent.sys.dup3(parent.sys.memfd_create("file", 0), 40, 0)
    sent, _ = message(parent, fd)
    original = parent.sys.dup(fd)
    parent.sys.sendmsg(here, sent, 0)
    taken, number = message(child)
    child.sys.recvmsg(there, taken, 0)
    received = int.from_bytes(child.load_bytes(number, 4), "little")
    assert compare(parent, child, KCMP_FILE, original, received) == 0


# --- what an epoll instance watches ---


def watches(process: Process, fd: int, epoll: int | None = None) -> int:
    """Let an epoll instance, which is new where none is given, watch a descriptor; gives its descriptor."""
    if epoll is None:
        epoll = int(process.sys.epoll_create1(0))
    process.sys.epoll_ctl(epoll, EPOLL_CTL_ADD, fd, POLLIN)
    return epoll


@clause("kcmp.2/epoll-tfd-finds-target")
@lie(leaves_out("epoll_ctl"))
def test_the_file_that_an_epoll_instance_watches_is_found(parent: Process) -> None:
    reader, writer = parent.sys.pipe()
    epoll = watches(parent, reader)
    child = parent.fork()
    assert compare_watched(parent, reader, epoll, reader, 0) == 0
    assert compare_watched(parent, reader, epoll, reader, 0, of=child) == 0
    assert compare_watched(child, reader, epoll, reader, 0, of=parent) == 0
    assert compare_watched(parent, writer, epoll, reader, 0) != 0


@clause("kcmp.2/epoll-tfd-offset")
@lie(leaves_out("dup3"), leaves_out("epoll_ctl"))
def test_files_that_were_watched_under_one_number_are_counted(parent: Process) -> None:
    first, second = parent.sys.eventfd2(0, 0), parent.sys.eventfd2(0, 0)
    parent.sys.dup3(first, 40, 0)
    epoll = watches(parent, 40)
    parent.sys.dup3(second, 40, 0)
    watches(parent, 40, epoll)
    is_first = [compare_watched(parent, first, epoll, 40, offset) == 0 for offset in (0, 1)]
    is_second = [compare_watched(parent, second, epoll, 40, offset) == 0 for offset in (0, 1)]
    assert sorted([is_first, is_second]) == [[False, True], [True, False]]
    with fails(ENOENT):
        compare_watched(parent, first, epoll, 40, 2)


# --- results ---


@clause("kcmp.2/zero-means-shared")
@lie(SAYS_LESS)
@of_kinds("file", "files", "fs", "io", "sighand", "sysvsem", "vm")
def test_a_process_shares_all_with_itself(parent: Process, kind: int) -> None:
    assert compare(parent, parent, kind) == 0


@clause("kcmp.2/one-and-two-are-opposite")
@lie(SAYS_LESS)
@of_kinds("files", "fs", "sighand", "vm")
def test_the_other_way_round_the_result_is_the_opposite(parent: Process, kind: int) -> None:
    child = parent.fork()
    assert {compare(parent, child, kind), compare(child, parent, kind)} == {LESS, GREATER}


def in_order(process: Process) -> Callable[[int], Any]:
    """A key that sorts descriptors by what kcmp says of their files."""
    return functools.cmp_to_key(lambda a, b: -1 if compare_files(process, a, b) == LESS else 1)


@clause("kcmp.2/order-can-sort")
@lie(SAYS_LESS)
def test_files_can_be_sorted(parent: Process) -> None:
    files = [parent.sys.openat(AT_FDCWD, "/") for _ in range(6)]
    pairs = list(itertools.combinations(sorted(files, key=in_order(parent)), 2))
    assert [compare_files(parent, a, b) for a, b in pairs] == [LESS] * len(pairs)
    assert [compare_files(parent, b, a) for a, b in pairs] == [GREATER] * len(pairs)


@clause("kcmp.2/indexes-ignored-for-other-types")
@lie(passes("it compares files", "kcmp", 2, KCMP_FILE))
def test_the_numbers_do_not_matter_where_no_file_is_compared(parent: Process) -> None:
    assert compare(parent, parent, KCMP_VM, -1, -1) == 0


# --- refused ---


@clause("kcmp.2/ebadf", "kcmp.2/minus-one-on-error")
@lie(passes("the first is open", "kcmp", 3, 0), passes("the second is open", "kcmp", 4, 0))
def test_a_descriptor_that_is_not_open_is_refused(parent: Process) -> None:
    with fails(EBADF):
        compare_files(parent, CLOSED, 0)
    with fails(EBADF):
        compare_files(parent, 0, CLOSED)


@clause("kcmp.2/zombie-has-no-files")
@lie(SAYS_SAME)
def test_a_zombie_has_no_files(parent: Process) -> None:
    child = parent.fork()
    child.exit()
    parent.sys.waitid(P_PID, child.own_pid, WEXITED | WNOWAIT)
    with fails(EBADF):
        compare(parent, child, KCMP_FILE)


@clause("kcmp.2/efault")
@lie(SAYS_SAME)
def test_a_bad_address_is_refused(parent: Process) -> None:
    with fails(EFAULT):
        compare(parent, parent, KCMP_EPOLL_TFD, 0, NOWHERE)


@clause("kcmp.2/einval-type")
@lie(passes("it is one", "kcmp", 2, KCMP_VM))
@pytest.mark.parametrize("kind", [8, 9, -1])
def test_an_unknown_type_is_refused(parent: Process, kind: int) -> None:
    with fails(EINVAL):
        compare(parent, parent, kind)


@clause("kcmp.2/einval-not-epoll")
@lie(SAYS_SAME)
def test_what_is_no_epoll_instance_is_refused(parent: Process) -> None:
    with fails(EINVAL):
        compare_watched(parent, 0, 0, 0, 0)


@clause("kcmp.2/enoent-epoll")
@lie(SAYS_SAME)
def test_what_is_not_watched_is_not_found(parent: Process) -> None:
    reader, writer = parent.sys.pipe()
    epoll = watches(parent, reader)
    with fails(ENOENT):
        compare_watched(parent, writer, epoll, writer, 0)
    with fails(ENOENT):
        compare_watched(parent, reader, epoll, reader, 1)


@clause("kcmp.2/esrch")
@lie(SAYS_SAME)
def test_a_number_of_no_process_is_refused(parent: Process) -> None:
    child = parent.fork()
    child.exit()
    child.wait_for_exit()
    with fails(ESRCH):
        compare(parent, child, KCMP_VM)
    with fails(ESRCH):
        parent.sys.raw("kcmp", child.own_pid, parent.own_pid, KCMP_VM, 0, 0)
    with fails(ESRCH):
        parent.sys.raw("kcmp", 0, parent.own_pid, KCMP_VM, 0, 0)
    with fails(ESRCH):
        parent.sys.raw("kcmp", parent.own_pid, -1, KCMP_VM, 0, 0)


@clause("kcmp.2/permission-read-realcreds")
@lie(leaves_out("setresuid"))
def test_another_users_process_is_refused(parent: Process) -> None:
    child, sibling = parent.fork(), parent.fork("sibling")
    sibling.sys.setresuid(1000, 1000, 1000)
    sibling.sys.prctl(PR_SET_DUMPABLE, 1)
    child.sys.setresuid(1000, 1000, 1000)
    assert compare(child, sibling, KCMP_VM) != 0
    with fails(EPERM):
        compare(child, parent, KCMP_VM)
    with fails(EPERM):
        child.sys.raw("kcmp", parent.own_pid, child.own_pid, KCMP_VM, 0, 0)
