"""New images of driven processes: what they were handed, small ELF files, programs that nobody drives."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator

import pytest

from pytest_procsemantics.driven import CallFailed, Deviation, Process, Target
from pytest_procsemantics.driven.constants import AT_PAGESZ, EFAULT, ENOENT, PF_R, SIGCONT
from pytest_procsemantics.driven.elf import BASE, PAGE, Elf, exits, stops
from pytest_procsemantics.native import build

pytestmark = pytest.mark.skipif(
    not build.supported(), reason=f"no agent for {sys.platform} {build.host()}"
)

PATIENT = 60.0  # seconds: a busy machine is no finding
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
