"""New images of driven processes: exec, what they were handed, small ELF files, programs that nobody drives."""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Iterator

import pytest

from pytest_procsemantics.driven import (
    AGENT,
    CallFailed,
    Deviation,
    Ended,
    Exit,
    Process,
    Target,
)
from pytest_procsemantics.driven.constants import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_PAGESZ,
    CLONE_FILES,
    E2BIG,
    EFAULT,
    ENOENT,
    PF_R,
    SIGCHLD,
    SIGCONT,
)
from pytest_procsemantics.driven.elf import BASE, PAGE, Elf, exits, stops
from pytest_procsemantics.native import build

pytestmark = pytest.mark.skipif(
    not build.supported(), reason=f"no agent for {sys.platform} {build.host()}"
)

PATIENT = 60.0  # seconds: a busy machine is no finding
O_PATH = 0o10000000
NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
MACHINES = ("aarch64", "riscv64", "x86_64")


@pytest.fixture
def target() -> Iterator[Target]:
    """A target with nothing on it."""
    with Target.open("local", PATIENT) as target, target.test():
        yield target


@pytest.fixture
def parent(target: Target) -> Process:
    """A fresh process."""
    return target.new_process()


def test_an_image_keeps_its_pid_and_is_driven(parent: Process) -> None:
    child = parent.fork()
    pid, tid = child.pid, child.tid
    assert child.execve(AGENT, [b"one", b"two"], [b"A=b"]) is child
    assert (child.pid, child.tid, child.sys.getpid(), child.images) == (pid, tid, pid, 1)
    child.execve(AGENT)
    assert child.fork().sys.getppid() == pid


def test_a_failed_exec_leaves_the_old_image(parent: Process) -> None:
    for _ in range(3):
        with pytest.raises(CallFailed) as caught:
            parent.execve("/no/such/program")
        assert caught.value.errno == ENOENT
    assert parent.sys.getpid() == parent.pid
    assert parent.images == 0


def test_a_thread_that_execs_ends_the_others(target: Target, parent: Process) -> None:
    process = parent.fork()
    first, second = process.thread(), process.thread()
    first.post.sys.getpid()
    unread = process.post.sys.raw("ppoll", 0, 0, 0, 0, 0)  # it reads no more of these:
    for _ in range(20):
        process.post.sys.getpid()
    second.execve(AGENT)
    assert second.sys.gettid() == second.tid == second.pid == process.pid
    target.wait_for_end(process)
    target.wait_for_end(first)
    with pytest.raises(Ended):
        unread.arrives()
    assert second.sys.getpid() == second.pid


def test_sharers_of_descriptors_find_their_own_channels(parent: Process) -> None:
    one = parent.clone(CLONE_FILES | SIGCHLD)
    other = one.clone(CLONE_FILES | SIGCHLD)
    other.execve(AGENT)
    one.execve(AGENT)
    assert [one.sys.getpid(), other.sys.getpid()] == [one.pid, other.pid]
    assert parent.sys.getpid() == parent.pid


def test_long_arguments_go_by_memory_of_their_own(parent: Process) -> None:
    long = b"x" * 100_000
    child = parent.fork()
    child.execve(AGENT, [b"agent", long, b"end"], [b"LONG=" + long])
    assert child.sys.getpid() == child.pid
    with pytest.raises(CallFailed) as caught:
        child.execve(
            AGENT, [b"agent", b"x" * 200_000]
        )  # one string has at most 128 KiB (execve(2))
    assert caught.value.errno == E2BIG
    assert child.sys.getpid() == child.pid


@needs_root
def test_exec_by_a_descriptor_in_an_empty_root(target: Target, parent: Process) -> None:
    agent = parent.sys.openat(AT_FDCWD, target.agent_path, O_PATH)
    parent.sys.chroot(target.folder())
    with pytest.raises(CallFailed):
        parent.execve(AGENT)
    parent.execveat(agent, b"", [b"agent"], [], AT_EMPTY_PATH)
    assert parent.sys.getpid() == parent.pid


@needs_root
def test_another_user_can_exec_the_agent(parent: Process) -> None:
    child = parent.fork()
    child.sys.setgroups([])
    child.sys.setresgid(NOBODY, NOBODY, NOBODY)
    child.sys.setresuid(NOBODY, NOBODY, NOBODY)
    child.execve(AGENT)
    assert child.sys.getuid() == NOBODY
    child.exit(3)
    assert child.wait_for_exit() == Exit(3)


def test_an_image_that_nobody_drives_ends_by_itself(parent: Process) -> None:
    child = parent.fork()
    agent = child.target.agent_path
    script = f"{agent.decode()}; test $? = 98"
    child.post.execve("/bin/sh", ["sh", "-c", script])
    assert child.wait_for_exit() == Exit(0)


def test_an_image_tells_what_it_was_handed(parent: Process, target: Target) -> None:
    long = b"x" * 100_000
    parent.execve(argv=[b"one", b"", long], envp=["NAME=value"])
    initial = parent.initial()
    assert (initial.argc, initial.argv) == (3, [b"one", b"", long])
    assert initial.envp == [b"NAME=value"]
    assert initial.auxv[AT_PAGESZ] == target.page_size
    assert initial.execfn == target.agent_path


@pytest.mark.parametrize("pointer", [0, 1, 8, (1 << 64) - 8], ids=hex)
def test_a_stack_pointer_that_leads_nowhere_is_the_targets_doing(
    parent: Process, pointer: int
) -> None:
    parent.stack_pointer = pointer
    with pytest.raises((CallFailed, Deviation)):
        parent.initial()


def test_arguments_may_be_addresses(parent: Process) -> None:
    table = parent.allocate(32)
    parent.store(table, struct.pack("<QQ", table + 16, 0) + b"text\0")
    parent.execve(argv=table, envp=0)
    assert (parent.initial().argv, parent.initial().envp) == ([b"text"], [])
    with pytest.raises(CallFailed) as caught:
        parent.execve(8)
    assert caught.value.errno == EFAULT


def test_a_program_that_nobody_drives_is_run_to_its_end(parent: Process, target: Target) -> None:
    program = bytes(Elf.program(target.machine, exits(target.machine, 200)))
    path = parent.make_file(f"{target.folder()}/program", program, 0o755)
    assert parent.fork().run(path).code == 200
    assert parent.run(path).code == 200


def test_run_says_when_the_program_is_refused_or_driven(parent: Process, target: Target) -> None:
    with pytest.raises(CallFailed) as caught:
        parent.run("/no/such/program")
    assert caught.value.errno == ENOENT
    with pytest.raises(Deviation, match="still driven"):
        parent.run(target.agent_path)


def test_a_program_stops_and_goes_on(parent: Process, target: Target) -> None:
    program = bytes(Elf.program(target.machine, stops(target.machine)))
    path = parent.make_file(f"{target.folder()}/program", program, 0o755)
    child = parent.fork()
    child.post.execve(path)
    target.observer.wait_for_state(child, "T")
    parent.sys.kill(child.own_pid, SIGCONT)
    assert child.wait_for_exit().code == 0


def test_a_mapping_is_found_by_its_name(parent: Process, target: Target) -> None:
    parent.execve(argv=["text"])
    stack = target.observer.mapping(parent, "[stack]")
    assert parent.stack_pointer in stack.addresses
    assert stack.protection == "rw-p"
    assert b"text\0" in stack.content
    with pytest.raises(Deviation, match="none such"):
        target.observer.mapping(parent, "none such")


@pytest.mark.parametrize("machine", MACHINES)
def test_an_elf_file_is_read_as_it_was_written(machine: str) -> None:
    elf = Elf.program(machine, exits(machine, 7))
    elf = elf.with_segment(address=BASE + 3 * PAGE, content=b"data", memory_size=9, flags=PF_R)
    elf = elf.with_interpreter(b"/interpreter\0")
    again = Elf.parse(bytes(elf))
    assert (again.segments, again.entry, again.machine) == (elf.segments, BASE, elf.machine)
    data = elf.segments[-1]
    assert bytes(elf)[data.offset : data.offset + data.file_size] == b"data"
    assert (data.offset - data.address) % PAGE == 0
