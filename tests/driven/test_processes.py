"""Driven processes on this machine: every primitive, posting, and the states in which a process must still be driven.

That Linux does as its manual says is taken for granted here; whether it does is for conformance/.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import psutil
import pytest

from pytest_procsemantics.driven import (
    AGENT,
    CallFailed,
    Deviation,
    Ended,
    Exit,
    Out,
    Overdue,
    Process,
    Target,
    fails,
    wire,
)
from pytest_procsemantics.driven.constants import (
    AT_FDCWD,
    CLONE_FILES,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_SIGHAND,
    CLONE_VFORK,
    CLONE_VM,
    EBADF,
    ECHILD,
    EFAULT,
    EINVAL,
    EMFILE,
    ESRCH,
    O_RDONLY,
    SIGCHLD,
    SIGCONT,
    SIGKILL,
    SIGSEGV,
    SIGSTOP,
    SIGUSR1,
    WNOHANG,
)
from pytest_procsemantics.driven.process import MOST_OUTSTANDING
from pytest_procsemantics.driven.transcript import Transcript
from pytest_procsemantics.native import build

pytestmark = pytest.mark.skipif(
    not build.supported(), reason=f"no agent for {sys.platform} {build.host()}"
)

PATIENT = 60.0  # seconds: a busy machine is no finding
RLIMIT_NOFILE = 7
PR_SET_SECCOMP, SECCOMP_MODE_STRICT = 22, 1
EVERY = 0xFFFFFFFF  # the last descriptor number of close_range


@pytest.fixture(scope="module")
def running_target() -> Iterator[Target]:
    """One target for all: each test begins and ends with nothing on it."""
    with Target.open("local", PATIENT) as target:
        yield target


@pytest.fixture
def target(running_target: Target) -> Iterator[Target]:
    """The target with nothing on it."""
    with running_target.test():
        yield running_target


@pytest.fixture
def parent(target: Target) -> Process:
    """A fresh process."""
    return target.new_process()


# --- what makes a process ---


@pytest.mark.parametrize("make", ["fork", "vfork", "clone", "clone3", "thread"])
def test_every_primitive_gives_a_process_that_is_driven(parent: Process, make: str) -> None:
    child: Process = getattr(parent, make)()
    assert child.sys.getpid() == child.own_pid
    assert child.sys.gettid() == child.tid
    assert (child.pid == parent.pid) == (make == "thread")
    assert child.tid != parent.tid


def test_a_child_by_fork_has_its_own_memory(parent: Process) -> None:
    cell = parent.allocate(8)
    parent.store(cell, 1)
    child = parent.fork()
    child.store(cell, 2)
    assert (parent.load(cell), child.load(cell)) == (1, 2)


def test_a_frozen_parent_answers_in_order_when_it_goes_on(parent: Process) -> None:
    cell = parent.allocate(8)
    child = parent.vfork()
    answers = [
        parent.post.sys.getpid(),
        parent.post.store(cell, b"12345678"),
        parent.post.load_bytes(cell, 8),
    ]
    assert [child.sys.getppid() for _ in range(20)] == [parent.pid] * 20
    assert not any(answer.ready for answer in answers)
    child.exit()
    assert [answer.arrives() for answer in answers] == [parent.pid, 8, b"12345678"]


@pytest.mark.parametrize("end", ["exec", "exit", "SIGKILL", "SIGSEGV"])
def test_every_end_of_a_vfork_child_lets_its_parent_go_on(parent: Process, end: str) -> None:
    child = parent.vfork()
    answer = parent.post.sys.getpid()
    if end == "exec":
        child.execve(AGENT)
    elif end == "exit":
        child.exit()
    elif end == "SIGKILL":
        child.post.sys.kill(child.own_pid, SIGKILL)
    else:
        child.post.touch(0)
    assert answer.arrives() == parent.pid


def test_chains_of_frozen_processes_go_on_one_by_one(parent: Process) -> None:
    chain = [parent]
    for _ in range(6):
        chain.append(chain[-1].vfork())
    answers = [process.post.sys.getpid() for process in chain[:-1]]
    while answers:
        assert not any(answer.ready for answer in answers)
        chain.pop().exit()
        assert answers.pop().arrives() == chain[-1].pid


def test_a_child_on_shared_memory_outlives_its_parent(target: Target, parent: Process) -> None:
    middle = parent.fork()
    cell = middle.allocate(8)
    child = middle.clone(CLONE_VM | SIGCHLD)
    middle.exit()
    child.store(cell, 7)
    grandchild = child.clone(CLONE_VM | CLONE_VFORK | SIGCHLD)
    assert grandchild.load(cell) == 7


def test_memory_of_the_test_for_a_stack(parent: Process) -> None:
    size = 65536
    stack = parent.allocate(size)
    assert (
        stack < parent.clone(CLONE_VM | SIGCHLD, stack=stack + size).stack_pointer <= stack + size
    )
    child = parent.clone3(CLONE_VM, stack=stack, stack_size=size)
    assert stack < child.stack_pointer <= stack + size
    assert child.sys.getpid() == child.pid


def test_a_failed_creation_is_an_errno_and_its_slot_is_free(
    target: Target, parent: Process
) -> None:
    for _ in range(2 * wire.SLOTS):
        with pytest.raises(CallFailed, match="clone in parent"):
            parent.clone(CLONE_SIGHAND | SIGCHLD)  # without CLONE_VM
    assert parent.fork().sys.getppid() == parent.pid


# --- descriptors and limits ---


def test_no_descriptor_is_needed_to_make_processes(parent: Process) -> None:
    parent.sys.setrlimit(RLIMIT_NOFILE, (0, 0))
    with pytest.raises(CallFailed) as caught:
        parent.sys.openat(AT_FDCWD, "/", O_RDONLY)
    assert caught.value.errno == EMFILE
    child = parent.fork()
    grandchild = child.vfork()
    grandchild.execve(AGENT)
    assert grandchild.fork().sys.getppid() == grandchild.pid


def test_close_range_of_everything_spares_the_channels(parent: Process) -> None:
    low = parent.sys.openat(AT_FDCWD, "/", O_RDONLY)
    high = parent.sys.fcntl(low, 0, wire.CHANNELS.stop)  # F_DUPFD
    assert parent.sys.close_range(3, EVERY) == 0
    for fd in (low, high):
        with pytest.raises(CallFailed) as caught:
            parent.sys.close(fd)
        assert caught.value.errno == EBADF
    lines = [line for line in str(parent.target.transcript).splitlines() if "close_range" in line]
    assert [line.partition("close_range")[2] for line in lines] == [
        "(3, 179, 0) = 0",
        "(213, 0xffffffff, 0) = 0",
    ]
    assert parent.fork().sys.getppid() == parent.pid


def test_close_range_with_flags_on_a_shared_table(parent: Process) -> None:
    fd = parent.sys.openat(AT_FDCWD, "/", O_RDONLY)
    child = parent.clone(CLONE_FILES | SIGCHLD)
    assert child.sys.close_range(0, EVERY, 2) == 0  # CLOSE_RANGE_UNSHARE
    assert parent.sys.close(fd) == 0
    child.sys.close_range(0, EVERY, 4)  # CLOSE_RANGE_CLOEXEC
    child.execve(AGENT)
    assert child.sys.getpid() == child.pid


def test_close_range_of_nothing_but_channels_is_refused(parent: Process) -> None:
    with pytest.raises(ValueError, match="descriptors 180 to 212 are the process's channels"):
        parent.sys.close_range(wire.CHANNELS.start, wire.CHANNELS.stop - 1)
    assert parent.sys.close_range(0, 2) == 0
    assert parent.sys.close_range(wire.CHANNELS.stop, EVERY) == 0


def test_a_process_that_closes_its_channel_ends_and_says_so(
    target: Target, parent: Process
) -> None:
    child = parent.fork()
    child.post.sys.raw("close_range", 3, EVERY, 0)
    assert child.wait_for_exit() == Exit(99)


def test_a_closed_channel_of_another_slot_harms_nobody(parent: Process) -> None:
    for fd in wire.CHANNELS:
        if fd not in (wire.UP, wire.UP + parent.slot):
            parent.sys.close(fd)
    assert parent.sys.getpid() == parent.pid


def test_strict_seccomp_lets_a_process_be_driven(parent: Process) -> None:
    child = parent.fork()
    cell = child.allocate(8)
    child.sys.raw("prctl", PR_SET_SECCOMP, SECCOMP_MODE_STRICT, 0, 0, 0)
    child.store(cell, 5)
    child.post.sys.getpid()
    assert child.wait_for_exit() == Exit(None, SIGKILL)


# --- namespaces ---


def test_processes_of_a_new_pid_namespace_have_the_hubs_numbers_too(parent: Process) -> None:
    try:
        child = parent.clone(CLONE_NEWUSER | CLONE_NEWPID | SIGCHLD)
    except CallFailed as error:
        pytest.skip(f"no user namespaces for this user: {error}")
    grandchild = child.fork()
    assert (child.own_pid, grandchild.own_pid) == (1, 2)
    assert parent.pid < child.pid < grandchild.pid
    child.execve(AGENT)
    grandchild.execve(AGENT)
    assert (child.sys.getpid(), grandchild.sys.getpid()) == (1, 2)
    child.exit(4)
    assert child.wait_for_exit() == Exit(4)
    parent.target.wait_for_end(grandchild)


# --- memory ---


def test_a_file_is_written_and_closed_even_where_it_refuses(parent: Process) -> None:
    path = parent.make_file(f"{parent.target.folder()}/file", b"before")
    parent.write_to(path, b"after")
    assert parent.target.observer.read(path) == b"aftere"
    free = parent.sys.dup(0)
    parent.sys.close(free)
    with pytest.raises(CallFailed, match="EINVAL"):
        parent.write_to("/proc/self/oom_score_adj", b"x")
    assert parent.sys.dup(0) == free


def test_large_memory_is_stored_and_loaded(parent: Process) -> None:
    content = os.urandom(1 << 20)
    address = parent.allocate(len(content))
    parent.store(address, content)
    assert parent.load_bytes(address, len(content)) == content


def test_large_stores_can_be_posted_to_a_process(parent: Process) -> None:
    address = parent.allocate(1 << 20)
    piece = bytes(range(256)) * (wire.PACKET_LIMIT // 256)
    steps = [parent.post.store(address + at, piece) for at in range(0, 1 << 20, len(piece))]
    assert [step.arrives() for step in steps] == [len(piece)] * len(steps)


def test_a_bad_address_is_an_errno_or_a_signal_as_asked(parent: Process) -> None:
    for act in (parent.load, lambda address: parent.store(address, 1)):
        with pytest.raises(CallFailed) as caught:
            act(8)
        assert caught.value.errno == EFAULT
    child = parent.fork()
    child.post.touch(8)
    exit = child.wait_for_exit()
    assert (exit.code, exit.signal) == (None, SIGSEGV)


def test_touch_reads_and_writes_a_byte(parent: Process) -> None:
    cell = parent.allocate(8)
    assert parent.touch(cell) == 0
    assert parent.touch(cell, 255) == 255
    assert parent.load(cell) == 255


def test_arguments_too_long_for_a_packet_are_refused(parent: Process) -> None:
    with pytest.raises(ValueError, match="allocate\\(\\) memory, store\\(\\) them there"):
        parent.sys.raw("read", 0, Out(wire.PACKET_LIMIT), 0)


# --- posting and waiting ---


def test_a_call_may_fail_with_one_of_several_errnos(parent: Process) -> None:
    with fails(EBADF, EINVAL):
        parent.sys.close(99)
    expected = "expected EINVAL or ESRCH"
    with pytest.raises(Deviation, match=f"{expected}, the target gave"), fails(EINVAL, ESRCH):
        parent.sys.close(99)
    with pytest.raises(Deviation, match=f"{expected}, but the call"), fails(EINVAL, ESRCH):
        parent.sys.getpid()


def test_more_posts_than_can_be_outstanding(parent: Process) -> None:
    steps = [parent.post.sys.getpid() for _ in range(5 * MOST_OUTSTANDING)]
    assert len(parent.outstanding) <= MOST_OUTSTANDING
    assert [step.arrives() for step in steps] == [parent.pid] * len(steps)


def test_more_posts_to_a_frozen_process_than_can_be_outstanding(
    target: Target, parent: Process
) -> None:
    child = parent.vfork()
    for _ in range(MOST_OUTSTANDING - 1):  # the vfork has no answer yet
        parent.post.sys.getpid()
    target.timeout = 0.3
    try:
        with pytest.raises(Overdue, match=r"waited 0\.3 s for parent"):
            parent.post.sys.getpid()
    finally:
        target.timeout = PATIENT
    child.exit()
    assert parent.sys.getpid() == parent.pid


def test_answers_may_be_taken_in_any_order(parent: Process) -> None:
    others = [parent.fork() for _ in range(5)]
    steps = [other.post.sys.getpid() for other in others for _ in range(3)]
    expected = [other.pid for other in others for _ in range(3)]
    assert [step.arrives() for step in reversed(steps)] == expected[::-1]


def test_slots_are_used_again_and_run_out(target: Target, parent: Process) -> None:
    for _ in range(3 * wire.SLOTS):
        child = parent.fork()
        child.exit(1)
        assert child.wait_for_exit() == Exit(1)
    children = [parent.fork() for _ in range(wire.SLOTS - 1)]
    with pytest.raises(ValueError, match="at most 32 driven processes can live at a time"):
        parent.fork()
    assert [child.sys.getppid() for child in children] == [parent.pid] * len(children)


def test_an_ended_process_says_how_it_ended(target: Target, parent: Process) -> None:
    child = parent.fork()
    child.exit(3)
    with pytest.raises(Ended) as caught:
        child.sys.getpid()
    assert str(caught.value).splitlines()[0] == f"{child} ended before it answered getpid"
    assert f"  {child}: ended; last: exit_group(3) = ? (ended)" in str(caught.value)
    assert caught.value.process is child
    root = target.new_process("root")
    root.exit(5)
    with pytest.raises(Ended, match=r"root \d+ ended before it answered getpid, Exit\(code=5"):
        root.sys.getpid()


def test_what_waits_too_long_tells_of_everybody(target: Target, parent: Process) -> None:
    child = parent.fork()
    child.post.sys.kill(child.own_pid, SIGSTOP)
    waits = child.post.sys.getpid()
    with pytest.raises(Overdue) as caught:
        waits.arrives(0.3)
    first, *others = str(caught.value).splitlines()
    assert first.startswith(f"waited 0.3 s for {child} to answer getpid; --procsem-timeout=")
    assert f"  {child}: state T; last: getpid() = ? (no answer yet)" in others
    assert any(line.startswith(f"  {parent}: state S; last: fork()") for line in others)
    parent.sys.kill(child.pid, SIGCONT)
    assert waits.arrives() == child.pid


def test_the_parent_waits_for_its_child(target: Target, parent: Process) -> None:
    child = parent.fork()
    grandchild = child.fork()
    grandchild.exit(9)
    assert grandchild.wait_for_exit() == Exit(9)
    child.post.sys.kill(child.own_pid, SIGUSR1)
    assert child.wait_for_exit() == Exit(None, SIGUSR1)
    with pytest.raises(CallFailed) as caught:
        parent.sys.raw("wait4", -1, 0, WNOHANG, 0)
    assert caught.value.errno == ECHILD


def test_signals_are_counted_in_the_memory_of_the_process(parent: Process) -> None:
    parent.count_signals(SIGUSR1)
    child, sharer = parent.fork(), parent.clone(CLONE_VM | SIGCHLD)
    for _ in range(3):
        child.sys.kill(parent.pid, SIGUSR1)
        parent.sys.getpid()
    assert [process.count(SIGUSR1) for process in (parent, child, sharer)] == [3, 0, 3]


def test_a_transcript_without_a_step_is_empty() -> None:
    assert str(Transcript()) == ""


# --- one test after the other ---


def test_the_hub_sleeps_while_it_watches_a_thread(target: Target, parent: Process) -> None:
    hub = psutil.Process(parent.sys.getppid())
    parent.thread()
    before = sum(hub.cpu_times()[:2])
    parent.sys.ppoll([], 0.3)
    assert sum(hub.cpu_times()[:2]) - before < 0.1


def test_nothing_of_a_test_is_there_in_the_next(running_target: Target) -> None:
    target = running_target
    with target.test():
        parent = target.new_process()
        pids = [parent.pid, parent.fork().pid, parent.vfork().pid]
        folder = target.folder()
        assert os.path.isdir(folder)
    assert not os.path.exists(folder)
    assert [pid for pid in pids if os.path.exists(f"/proc/{pid}")] == []
    assert target.processes == {}


def test_an_exec_without_an_answer_is_no_matter_of_the_next_test(running_target: Target) -> None:
    with running_target.test():
        parent = running_target.new_process()
        child = parent.fork()
        parent.sys.kill(child.pid, SIGSTOP)
        child.post.execve()
    with running_target.test():
        thread = running_target.new_process().thread()
        assert thread.slot == child.slot
        thread.exit_thread()


def test_a_root_is_in_a_normal_state(parent: Process) -> None:
    assert parent.sys.getpid() == parent.sys.getpgid(0)
    assert parent.sys.umask(0) == 0o22
    assert parent.target.observer.status(parent)["Threads"] == "1"
    fds = os.listdir(f"/proc/{parent.pid}/fd")
    assert sorted(map(int, fds)) == [0, 1, 2, *wire.CHANNELS]
    status = parent.target.observer.status(parent)
    assert {status[name] for name in ("SigBlk", "SigIgn", "SigCgt")} == {"0" * 16}
