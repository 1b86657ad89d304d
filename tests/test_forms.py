"""Forms of calls: made for every machine, and done on this one's kernel without an agent."""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import socket
import stat
import struct
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from pytest_procsemantics.driven import constants as c
from pytest_procsemantics.driven.call import BadAnswer, Call, Out, call
from pytest_procsemantics.driven.constants.calls import NUMBERS
from pytest_procsemantics.driven.forms import (
    FORMS,
    Disposition,
    Lock,
    PidfdInfo,
    SchedAttr,
    SigInfo,
    Timer,
    TimerEvent,
    capability,
)
from pytest_procsemantics.driven.forms.form import both, open_flags
from pytest_procsemantics.driven.forms.signals import siginfo

HERE = platform.machine()
if sys.platform != "linux" or HERE not in NUMBERS:
    pytest.skip("needs Linux on a machine with call numbers", allow_module_level=True)
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.syscall.restype = ctypes.c_long

# Arguments with which every form can make its call
SAMPLES: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("pipe", "inotify_init", "getpgrp", "getcpu", "times", "pause", "uname"), ()),
    **dict.fromkeys(("getcwd", "getgroups", "getresuid", "getresgid", "capget", "getrusage"), ()),
    **dict.fromkeys(("rt_sigpending", "sigpending", "rt_sigprocmask", "sigprocmask"), ()),
    **dict.fromkeys(("sigaltstack", "get_robust_list", "getpriority", "wait4", "eventfd"), ()),
    **dict.fromkeys(("sched_getaffinity", "sched_getparam", "sched_getattr", "pipe2"), ()),
    **dict.fromkeys(("sched_rr_get_interval", "socketpair", "epoll_create"), ()),
    **dict.fromkeys(("open", "creat", "stat", "lstat", "readlink", "mkdir", "rmdir"), ("x",)),
    **dict.fromkeys(("unlink", "access", "utime"), (b"x",)),
    **dict.fromkeys(("openat", "newfstatat", "fstatat", "readlinkat", "utimensat"), (3, "x")),
    **dict.fromkeys(("rename", "link", "symlink"), ("x", "y")),
    **dict.fromkeys(("chmod", "mknod"), ("x", 0o600)),
    **dict.fromkeys(("chown", "lchown"), ("x", 1, 2)),
    **dict.fromkeys(("sethostname", "setdomainname"), (b"x",)),
    **dict.fromkeys(("prlimit64", "prlimit"), (0, 7)),
    **dict.fromkeys(("rt_sigaction", "sigaction"), (10, Disposition(1))),
    **dict.fromkeys(("rt_sigsuspend", "sigsuspend", "rt_sigtimedwait", "sigtimedwait"), ({10},)),
    **dict.fromkeys(("signalfd", "signalfd4"), (-1, {10})),
    **dict.fromkeys(("readv", "writev"), (3, [(4096, 1)])),
    **dict.fromkeys(("process_vm_readv", "process_vm_writev"), (1, [(4096, 1)], [(8192, 1)])),
    **dict.fromkeys(("poll", "ppoll"), ([(0, 1)], 0)),
    **dict.fromkeys(("getdents64", "getdents", "fstat", "getitimer", "timerfd_gettime"), (1,)),
    **dict.fromkeys(("clock_gettime", "clock_getres", "timer_create", "timer_gettime"), (1,)),
    **dict.fromkeys(("epoll_wait", "epoll_pwait", "alarm", "nanosleep", "getrlimit"), (1,)),
    **dict.fromkeys(("read", "dup2", "fcntl", "ioctl", "setitimer", "timer_settime"), (1, 2)),
    **dict.fromkeys(("timerfd_settime", "recvfrom", "sched_setparam"), (1, 2)),
    **dict.fromkeys(("sched_setscheduler", "rt_sigqueueinfo", "shmctl"), (1, 2)),
    **dict.fromkeys(("pread64", "pread", "clock_nanosleep", "epoll_ctl", "futex"), (1, 2, 3)),
    **dict.fromkeys(("mincore", "semctl", "rt_tgsigqueueinfo", "getsockopt", "capset"), (1, 2, 3)),
    **dict.fromkeys(("write", "bind", "connect", "sendto"), (1, b"x")),
    **dict.fromkeys(("pwrite64", "pwrite"), (1, b"x", 0)),
    **dict.fromkeys(("shmat", "getrandom", "mq_notify"), (1,)),
    **dict.fromkeys(("pselect6", "select"), ({3}, 0)),
    "pidfd_send_signal": (3, 10),
    "setrlimit": (7, (1, 2)),
    "setgroups": ([1],),
    "sched_setaffinity": (0, {0}),
    "sched_setattr": (0, SchedAttr(0)),
    "process_madvise": (3, [(4096, 1)], 1),
    "mount": (None, "/", None, c.MS_REC),
    "waitid": (c.P_ALL, 0, c.WEXITED),
    "prctl": (c.PR_GET_NAME,),
    "seccomp": (c.SECCOMP_SET_MODE_FILTER, 0, (1, 4096)),
    "semop": (1, (0, 1)),
    "mq_open": ("x", 0),
    "msgsnd": (1, 1, b"x"),
    "msgrcv": (1, 8),
    "renameat": (3, "x", 4, "y"),
    "setsockopt": (3, 1, 2, 1),
}
# Those that ask for memory
ASKING = [
    name
    for name, args in sorted(SAMPLES.items())
    if any(isinstance(argument, Out) for argument in FORMS[name](HERE, *args).args)
]


def do(made: Call) -> Any:
    """Make a call on this machine's kernel, in this process."""
    buffers = []
    words = []
    for argument in made.args:
        if isinstance(argument, int):
            words.append(ctypes.c_long(argument))
            continue
        content = argument.initial if isinstance(argument, Out) else argument
        size = argument.size if isinstance(argument, Out) else len(argument)
        buffer = ctypes.create_string_buffer(content, size + 1)
        words.append(ctypes.c_long(ctypes.addressof(buffer)))
        buffers.append((argument, buffer))
    result = LIBC.syscall(ctypes.c_long(NUMBERS[HERE][made.name]), *words)
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), made.name)
    outs = tuple(buffer.raw[: arg.size] for arg, buffer in buffers if isinstance(arg, Out))
    return made.decode(result, outs)


def here(name: str, *args: Any, **kwargs: Any) -> Any:
    return do(FORMS[name](HERE, *args, **kwargs))


def old_less(name: str, *args: Any) -> Any:
    """What a machine without old calls does, on this machine; layouts must be the same on both."""
    return do(FORMS[name]("riscv64", *args))


def test_every_form_has_a_sample() -> None:
    assert SAMPLES.keys() == FORMS.keys()


@pytest.mark.parametrize("machine", sorted(NUMBERS))
@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_a_form_makes_a_call_that_the_machine_has(machine: str, name: str) -> None:
    made = FORMS[name](machine, *SAMPLES[name])

    assert made.name in NUMBERS[machine]
    assert len(made.args) <= 6
    assert all(isinstance(argument, int | bytes | Out) for argument in made.args)


@pytest.mark.parametrize("name", ASKING)
def test_memory_that_was_not_asked_for_is_refused(name: str) -> None:
    made = FORMS[name](HERE, *SAMPLES[name])
    memory = [bytes(argument.size) for argument in made.args if isinstance(argument, Out)]

    with pytest.raises(BadAnswer, match=made.name):
        made.decode(0, ())
    with pytest.raises(BadAnswer, match=made.name):
        made.decode(0, (*memory[1:], memory[0] + b"x"))


@pytest.mark.parametrize(
    ("name", "args"),
    [("read", (3, 8)), ("getdents64", (3,)), ("readlink", ("x",)), ("getgroups", ())],
)
def test_a_count_beyond_the_memory_is_refused(name: str, args: tuple[Any, ...]) -> None:
    made = FORMS[name](HERE, *args)
    memory = tuple(bytes(part.size) for part in made.args if isinstance(part, Out))

    with pytest.raises(BadAnswer):
        made.decode(1 << 40, memory)


@pytest.mark.parametrize("length", [0, 19, 2000])
def test_a_folder_entry_with_a_wrong_length_is_refused(length: int) -> None:
    made = FORMS["getdents64"](HERE, 3, 64)
    entry = bytes(16) + length.to_bytes(2, "little") + b"\x08name"

    with pytest.raises(BadAnswer, match="entry"):
        made.decode(64, (entry.ljust(64, b"\0"),))


def test_an_out_holds_its_initial_bytes() -> None:
    with pytest.raises(ValueError, match="3 initial bytes"):
        Out(2, b"abc")


def test_none_is_a_null_pointer() -> None:
    assert call("mount", None, b"x").args == (0, b"x")


def test_open_flags_of_aarch64() -> None:
    flags = c.O_DIRECTORY | c.O_NOFOLLOW | c.O_CLOEXEC | c.O_RDWR
    theirs = open_flags("aarch64", flags)

    assert theirs == 0o40000 | 0o100000 | c.O_CLOEXEC | c.O_RDWR
    assert open_flags("aarch64", theirs, back=True) == flags
    assert open_flags("riscv64", flags) == flags
    assert open_flags("aarch64", c.O_TMPFILE) == c.DIFFERENT["O_TMPFILE"]["aarch64"]


def test_epoll_event_is_packed_on_x86_64_alone() -> None:
    made = [FORMS["epoll_ctl"](machine, 3, 1, 4, 1, 7).args[3] for machine in sorted(NUMBERS)]

    assert [len(memory) for memory in made if isinstance(memory, bytes)] == [16, 16, 12]


def test_riscv64_has_no_restorer() -> None:
    new = FORMS["sigaction"]("riscv64", 10, Disposition(1, 2, 3, frozenset({1}))).args[1]

    assert new == b"".join(word.to_bytes(8, "little") for word in (1, 2, 1))


@pytest.mark.parametrize("way", [here, old_less])
def test_pipe_read_write_and_duplicates(way: Any) -> None:
    reader, writer = way("pipe")
    try:
        assert way("write", writer, b"four") == 4
        assert way("ioctl", reader, c.FIONREAD) == 4
        assert way("poll", [(reader, c.POLLIN), (writer, c.POLLIN)], 0) == [
            (reader, c.POLLIN),
            (writer, 0),
        ]
        assert way("read", reader, 2) == b"fo"
        assert way("read", reader, Out(4)) == (2, b"ur\0\0")
        assert way("dup2", reader, reader) == reader
        assert way("fcntl", writer, c.F_GETFL) & c.O_ACCMODE == c.O_WRONLY
    finally:
        os.close(reader)
        os.close(writer)
    with pytest.raises(OSError, match="Bad file descriptor"):
        way("dup2", reader, reader)


def test_pipe2_takes_flags() -> None:
    reader, writer = here("pipe2", c.O_CLOEXEC | c.O_NONBLOCK)
    try:
        assert not os.get_inheritable(reader)
        assert not os.get_blocking(writer)
    finally:
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize("way", [here, old_less])
def test_files_and_folders(way: Any, tmp_path: Path) -> None:
    folder, file, name = (str(tmp_path / part) for part in ("folder", "file", "link"))
    way("mkdir", folder, 0o700)
    fd = way("open", file, c.O_CREAT | c.O_RDWR, 0o640)
    os.close(fd)
    way("symlink", "file", name)
    way("chmod", file, 0o600)
    way("utime", file, (1, 2))

    assert way("readlink", name) == b"file"
    assert way("access", file, os.R_OK) == 0
    assert os.stat(file).st_mtime_ns == 2 * 10**9

    fd = way("open", os.fsencode(tmp_path), c.O_DIRECTORY)
    assert sorted(way("getdents64", fd)) == [b".", b"..", b"file", b"folder", b"link"]
    os.close(fd)
    way("rename", file, folder + "/other")
    way("link", folder + "/other", file)
    way("unlink", folder + "/other")
    way("rmdir", folder)
    assert sorted(os.listdir(tmp_path)) == ["file", "link"]


def test_stat(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"12345")
    (tmp_path / "link").symlink_to("file")
    theirs = os.stat(file)

    ours = here("stat", str(file))
    fields = ("dev", "ino", "mode", "nlink", "uid", "gid", "rdev", "size", "blksize", "blocks")
    assert ours[:10] == tuple(getattr(theirs, f"st_{field}") for field in fields)
    assert ours[10:] == (theirs.st_atime_ns, theirs.st_mtime_ns, theirs.st_ctime_ns)
    assert here("newfstatat", c.AT_FDCWD, str(file)) == ours
    assert stat.S_ISLNK(here("lstat", str(tmp_path / "link")).mode)


def test_getcwd() -> None:
    assert here("getcwd") == os.getcwdb()


def test_record_locks(tmp_path: Path) -> None:
    with open(tmp_path / "file", "w+b") as one, open(tmp_path / "file", "w+b") as other:
        lock = Lock(c.F_WRLCK, 0, 10, 5)
        here("fcntl", one.fileno(), c.F_OFD_SETLK, lock)
        found = here("fcntl", other.fileno(), c.F_OFD_GETLK, Lock(c.F_RDLCK))
        assert found == Lock(c.F_WRLCK, 0, 10, 5, -1)
        here("fcntl", one.fileno(), c.F_OFD_SETLK, lock._replace(type=c.F_UNLCK))
        assert here("fcntl", other.fileno(), c.F_OFD_GETLK, lock).type == c.F_UNLCK


def test_owner_of_a_descriptor() -> None:
    reader, writer = os.pipe()
    try:
        here("fcntl", reader, c.F_SETOWN_EX, (c.F_OWNER_PID, os.getpid()))
        assert here("fcntl", reader, c.F_GETOWN_EX) == (c.F_OWNER_PID, os.getpid())
    finally:
        os.close(reader)
        os.close(writer)


def test_epoll_and_eventfd() -> None:
    epoll, counter = here("epoll_create"), here("eventfd", 3)
    try:
        here("epoll_ctl", epoll, c.EPOLL_CTL_ADD, counter, c.EPOLLIN, 77)
        assert here("epoll_wait", epoll, timeout=0) == [(c.EPOLLIN, 77)]
    finally:
        os.close(epoll)
        os.close(counter)


def test_select_gives_what_can_be_read() -> None:
    reader, writer = here("pipe")
    try:
        assert here("select", {reader, writer}, 0) == set()
        here("write", writer, b"x")
        assert here("pselect6", {reader, writer}) == {reader}
    finally:
        os.close(reader)
        os.close(writer)


def test_a_pidfd_takes_a_signal_with_its_information() -> None:
    pidfd = os.pidfd_open(os.getpid())
    try:
        assert here("pidfd_send_signal", pidfd, 0) == 0
    finally:
        os.close(pidfd)
    sent = SigInfo(77, 88, c.SIGUSR1, c.SI_QUEUE, 1234, 1234)
    information = FORMS["pidfd_send_signal"](HERE, pidfd, c.SIGUSR1, sent).args[2]
    assert isinstance(information, bytes)
    assert siginfo(information) == sent


def test_what_a_kernel_tells_of_a_pidfd() -> None:
    made = FORMS["ioctl"](HERE, 3, c.PIDFD_GET_INFO, c.PIDFD_INFO_EXIT)
    asked = made.args[2]
    assert isinstance(asked, Out)
    assert asked.size == c.PIDFD_GET_INFO >> 16 & 0x3FFF
    memory = struct.pack("<2Q13I", *range(15)).ljust(asked.size, b"\0")
    assert made.decode(0, (memory,)) == PidfdInfo(*range(15))


def test_sockets() -> None:
    one, other = here("socketpair")
    try:
        assert here("sendto", one, b"hello") == 5
        assert here("recvfrom", other, 3) == b"hel"
        me = (os.getpid(), os.getuid(), os.getgid())
        assert here("getsockopt", one, c.SOL_SOCKET, c.SO_PEERCRED) == me
        assert here("getsockopt", one, c.SOL_SOCKET, c.SO_TYPE) == socket.SOCK_STREAM
        here("setsockopt", one, c.SOL_SOCKET, c.SO_PASSCRED, 1)
        assert here("getsockopt", one, c.SOL_SOCKET, c.SO_PASSCRED) == 1
    finally:
        os.close(one)
        os.close(other)


def test_wait4_gives_status_and_usage() -> None:
    child = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 3"], os.environ)
    pid, status, usage = here("wait4", child)

    assert (pid, os.waitstatus_to_exitcode(status)) == (child, 3)
    assert usage.maxrss > 0


def test_waitid_says_nothing_yet_and_then_how_it_ended() -> None:
    reader, writer = os.pipe()
    child = os.posix_spawn(
        "/bin/sh", ["sh", "-c", "read x"], {}, file_actions=[(os.POSIX_SPAWN_DUP2, reader, 0)]
    )
    os.close(reader)
    assert here("waitid", c.P_PID, child, c.WEXITED | c.WNOHANG) is None
    os.kill(child, signal.SIGKILL)
    os.close(writer)
    info = here("waitid", c.P_PID, child, c.WEXITED)

    ended = (info.pid, info.uid, info.signo, info.code, info.status)
    assert ended == (child, os.getuid(), c.SIGCHLD, c.CLD_KILLED, c.SIGKILL)


def test_dispositions() -> None:
    old = here("sigaction", c.SIGUSR2, Disposition(c.SIG_IGN, c.SA_RESTART, 0, frozenset({1, 64})))
    try:
        now = here("sigaction", c.SIGUSR2, c.SIG_DFL)
        assert now == Disposition(c.SIG_IGN, c.SA_RESTART, 0, frozenset({1, 64}))
        assert here("sigaction", c.SIGUSR2).handler == c.SIG_DFL
    finally:
        here("sigaction", c.SIGUSR2, old)


def test_a_blocked_signal_is_pending_and_taken() -> None:
    old = here("sigprocmask", c.SIG_BLOCK, {c.SIGUSR1})
    try:
        # To this thread: a worker of pytest-xdist has others, which do not block it.
        thread = threading.get_native_id()
        here("rt_tgsigqueueinfo", os.getpid(), thread, c.SIGUSR1, value=1 << 40, sender=5, uid=6)
        assert c.SIGUSR1 in here("sigpending")
        info = here("sigtimedwait", {c.SIGUSR1}, 5)
        assert (info.pid, info.uid, info.signo, info.code) == (5, 6, c.SIGUSR1, c.SI_QUEUE)
        assert info.value == 1 << 40
        with pytest.raises(OSError, match="temporarily unavailable"):
            here("sigtimedwait", {c.SIGUSR1}, 0)
    finally:
        here("sigprocmask", c.SIG_SETMASK, old)
    assert here("sigprocmask") == old


@pytest.mark.parametrize("number", [0, 65])
def test_no_signal_has_this_number(number: int) -> None:
    with pytest.raises(ValueError, match="signals 1 to 64"):
        FORMS["sigprocmask"](HERE, c.SIG_BLOCK, {number})


def test_limits() -> None:
    old = here("getrlimit", c.RLIMIT_CORE)
    try:
        here("setrlimit", c.RLIMIT_CORE, (0, old.hard))
        assert here("prlimit", 0, c.RLIMIT_CORE, old) == (0, old.hard)
        assert old_less("getrlimit", c.RLIMIT_CORE) == old
    finally:
        here("setrlimit", c.RLIMIT_CORE, old)


@pytest.mark.parametrize("way", [here, old_less])
def test_timers_of_the_process(way: Any) -> None:
    assert way("setitimer", c.ITIMER_VIRTUAL, 1000, 2.5) == Timer(0, 0)
    assert way("getitimer", c.ITIMER_VIRTUAL).interval == 2.5
    left = way("setitimer", c.ITIMER_VIRTUAL, 0).value
    assert 999 < left <= 1000.01  # the kernel adds up to a tick


@pytest.mark.parametrize("way", [here, old_less])
def test_alarm_gives_whole_seconds(way: Any) -> None:
    kept = here("getitimer", c.ITIMER_REAL)  # pytest-timeout's
    try:
        way("alarm", 1000)
        assert way("alarm", 0) == 1000
        assert way("alarm", 0) == 0
    finally:
        here("setitimer", c.ITIMER_REAL, *kept)


def test_a_message_queue_tells_one_process() -> None:
    name = f"procsem-{os.getpid()}".encode()
    queue = do(call("mq_open", name, os.O_RDWR | os.O_CREAT, 0o600, 0))
    do(call("mq_unlink", name))
    try:
        assert here("mq_notify", queue, TimerEvent(c.SIGEV_NONE)) == 0
        with pytest.raises(OSError, match="busy"):
            here("mq_notify", queue, TimerEvent(c.SIGEV_NONE))
        assert here("mq_notify", queue) == 0
    finally:
        os.close(queue)


def test_posix_timers() -> None:
    timer = here("timer_create", c.CLOCK_MONOTONIC, TimerEvent(c.SIGEV_NONE))
    assert here("timer_settime", timer, 100, 0.25) == Timer(0, 0)
    left = here("timer_gettime", timer)
    do(call("timer_delete", timer))

    assert 99 < left.value <= 100
    assert left.interval == 0.25


def test_clocks() -> None:
    before = time.monotonic()
    assert before <= here("clock_gettime", c.CLOCK_MONOTONIC) <= time.monotonic()
    assert 0 < here("clock_getres", c.CLOCK_MONOTONIC) <= 1
    assert here("nanosleep", 0) == 0


def test_the_system_and_usage() -> None:
    assert here("uname") == (*os.uname(), here("uname").domainname)
    assert here("getrusage").maxrss > 1000
    assert here("times").user >= 0
    assert here("getpriority") == os.getpriority(os.PRIO_PROCESS, 0)
    assert here("getcpu")[0] in here("sched_getaffinity")
    assert old_less("getpgrp") == here("getpgrp") == os.getpgrp()


def test_scheduling() -> None:
    cpus = os.sched_getaffinity(0)
    assert here("sched_getaffinity") == cpus
    assert here("sched_setaffinity", 0, cpus) == 0
    assert here("sched_getparam") == os.sched_getparam(0).sched_priority
    attr = here("sched_getattr")
    assert attr.policy == os.sched_getscheduler(0)
    assert here("sched_setattr", 0, attr) == 0
    assert here("sched_rr_get_interval") >= 0


def test_ids() -> None:
    assert here("getresuid") == os.getresuid()
    assert here("getresgid") == os.getresgid()
    assert here("getgroups") == tuple(os.getgroups())


def test_capabilities() -> None:
    status = Path("/proc/self/status").read_text()
    theirs = dict(line.split(":\t") for line in status.splitlines() if line.startswith("Cap"))
    ours = here("capget")

    assert ours == tuple(int(theirs[name], 16) for name in ("CapEff", "CapPrm", "CapInh"))
    assert here("capset", *ours) == 0
    assert capability("SYS_ADMIN") == 1 << 21


def test_names_of_no_capability() -> None:
    with pytest.raises(ValueError, match="no capability 'SYS_ADMINS'"):
        capability("SYS_ADMINS")


def test_prctl() -> None:
    old = here("prctl", c.PR_GET_NAME)
    here("prctl", c.PR_SET_NAME, b"formed")
    assert here("prctl", c.PR_GET_NAME) == b"formed"
    here("prctl", c.PR_SET_NAME, old)
    assert here("prctl", c.PR_GET_DUMPABLE) in (0, 1)
    result, memory = here("prctl", c.PR_GET_PDEATHSIG, Out(4))
    assert result == 0
    assert here("prctl", c.PR_GET_PDEATHSIG) == int.from_bytes(memory, "little")


def test_memory() -> None:
    page = os.sysconf("SC_PAGE_SIZE")
    address = do(call("mmap", 0, 2 * page, c.PROT_READ | c.PROT_WRITE, 0x22, -1, 0))
    try:
        ctypes.memmove(address, b"here", 4)
        assert [byte & 1 for byte in here("mincore", address, 2 * page, page)] == [1, 0]
        copy = address + 64
        assert here("process_vm_readv", os.getpid(), [(copy, 4)], [(address, 4)]) == 4
        assert ctypes.string_at(copy, 4) == b"here"
    finally:
        do(call("munmap", address, 2 * page))
    with pytest.raises(OSError, match="allocate memory"):
        here("mincore", address, page)


def test_a_futex_is_not_waited_for_with_another_value() -> None:
    word = ctypes.c_uint(1)
    with pytest.raises(BlockingIOError):
        here("futex", ctypes.addressof(word), c.FUTEX_WAIT, 2, 5)
    with pytest.raises(TimeoutError):
        here("futex", ctypes.addressof(word), c.FUTEX_WAIT, 1, 0)
    assert here("futex", ctypes.addressof(word), c.FUTEX_WAKE, 1) == 0


def test_semaphores() -> None:
    made = do(call("semget", c.IPC_PRIVATE, 2, 0o600))
    try:
        here("semctl", made, 0, c.SETALL, [3, 4])
        here("semop", made, (0, -1), (1, 2, c.SEM_UNDO))
        assert here("semctl", made, 0, c.GETALL, 2) == [2, 6]
        assert here("semctl", made, 1, c.GETVAL) == 6
    finally:
        here("semctl", made, 0, c.IPC_RMID)


def test_shared_memory() -> None:
    made = do(call("shmget", c.IPC_PRIVATE, 4096, 0o600))
    try:
        address = here("shmat", made)
        found = here("shmctl", made, c.IPC_STAT)
        assert (found.size, found.creator, found.attached) == (4096, os.getpid(), 1)
        assert found.mode & 0o777 == 0o600
        do(call("shmdt", address))
    finally:
        here("shmctl", made, c.IPC_RMID)


def test_message_queues() -> None:
    made = do(call("msgget", c.IPC_PRIVATE, 0o600))
    try:
        here("msgsnd", made, 5, b"text")
        assert here("msgrcv", made, 10) == (5, b"text")
    finally:
        do(call("msgctl", made, c.IPC_RMID, 0))


def test_a_posix_message_queue_is_small() -> None:
    name = f"procsem-{os.getpid()}"
    queue = here("mq_open", name, c.O_RDWR | c.O_CREAT | c.O_EXCL, most=2, size=5)
    try:
        attributes = do(call("mq_getsetattr", queue, 0, Out(64), decode=both))
        assert struct.unpack_from("<4q", attributes[1]) == (0, 2, 5, 0)
    finally:
        os.close(queue)
        do(call("mq_unlink", name.encode() + b"\0"))
