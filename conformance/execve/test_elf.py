"""execve(2): how ELF files are loaded and which ones are refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from pytest_procsemantics import Process, clause
from pytest_procsemantics.driven import Target, Unsupported, fails
from pytest_procsemantics.driven.constants import (
    ADDR_NO_RANDOMIZE,
    AT_BASE,
    AT_ENTRY,
    EACCES,
    EINVAL,
    EIO,
    EISDIR,
    ELIBBAD,
    ELOOP,
    ENOENT,
    ENOEXEC,
    ENOTDIR,
    PER_LINUX,
    PF_R,
    PF_W,
    PF_X,
    PROT_READ,
    PT_GNU_STACK,
    RLIMIT_CORE,
    SIGSEGV,
)
from pytest_procsemantics.driven.elf import (
    BASE,
    ET_CORE,
    ET_DYN,
    ET_REL,
    HEADER,
    PAGE,
    Elf,
    Segment,
    exits,
)
from pytest_procsemantics.lies import EXEC_DOES_NOTHING, Lie, before_exec, exec_given, in_image, lie

FREE = 1 << 34  # an address far above the agent
BEYOND_USER_SPACE = 0xFFFF800000000000
FOREIGN_MACHINE = 0x7E7E  # nobody's
PH_OFFSET, PH_SIZE, PH_NUMBER = 32, 54, 56  # places in the ELF header
RUNS = 8
NOWHERE = 1  # in place of an address that is missing
Spoiler = Callable[[Elf], Elf | bytes]
HUGE = 1 << 21  # bytes

RUNS_THE_AGENT = exec_given(
    "exec runs the agent itself", lambda path, argv, envp: (b"", argv, envp)
)


def holds(what: str, content: bytes, offset: int = 0) -> Lie:
    """exec leaves something else in the segment."""
    return in_image(what, lambda image: image.store(FREE + offset, content))


def agent(target: Target) -> Elf:
    """The agent's own file."""
    return Elf.parse(target.observer.read(target.agent_path.decode()))


def program(target: Target, status: int) -> Elf:
    """A file that exits."""
    return Elf.program(target.machine, exits(target.machine, status))


def file(process: Process, content: Elf | bytes, name: str = "program", mode: int = 0o755) -> str:
    """Write a program; gives its path."""
    return process.make_file(f"{process.target.folder()}/{name}", bytes(content), mode)


def maps(process: Process) -> dict[int, str]:
    """The protection of each mapping by its address, such as "r-xp" (proc(5))."""
    content = process.target.observer.read(f"/proc/{process.pid}/maps").decode()
    lines = (line.split(maxsplit=2) for line in content.splitlines())
    return {int(place.split("-")[0], 16): protection for place, protection, *_ in lines}


# --- segments ---


@clause("execve.2/segments-have-their-protection")
@lie(RUNS_THE_AGENT)
def test_segments_have_the_protection_of_their_flags(parent: Process, target: Target) -> None:
    elf = agent(target)
    elf = elf.with_segment(address=FREE, content=b"r", flags=PF_R)
    elf = elf.with_segment(address=FREE + PAGE, content=b"w", flags=PF_R | PF_W)
    elf = elf.with_segment(address=FREE + 2 * PAGE, content=b"x", flags=PF_R | PF_X)
    parent.execve(file(parent, elf))
    found = maps(parent)
    assert found.get(FREE) == "r--p"
    assert found.get(FREE + PAGE) == "rw-p"
    assert found.get(FREE + 2 * PAGE) == "r-xp"


@clause("execve.2/bss-tail-is-zero")
@lie(RUNS_THE_AGENT, holds("the rest is what the file has there", b"y", offset=100))
def test_the_rest_of_a_data_segments_last_page_is_zero(parent: Process, target: Target) -> None:
    size = target.page_size
    elf = agent(target).with_segment(address=FREE, content=b"x" * 100, memory_size=size + 1)
    elf = replace(elf, content=elf.content + b"y" * size)
    parent.execve(file(parent, elf))
    assert parent.load_bytes(FREE, size) == b"x" * 100 + bytes(size - 100)


@clause("execve.2/segment-without-file-bytes")
@lie(RUNS_THE_AGENT, holds("the segment begins with the file", b"\x7fELF"))
def test_a_segment_without_file_bytes_is_zero(parent: Process, target: Target) -> None:
    elf = agent(target).with_segment(address=FREE, memory_size=target.page_size)
    parent.execve(file(parent, elf))
    assert parent.load_bytes(FREE, target.page_size) == bytes(target.page_size)


@clause("execve.2/segment-without-file-bytes-is-writable")
@lie(
    RUNS_THE_AGENT,
    in_image("the segment is read-only", lambda image: image.sys.mprotect(FREE, 1, PROT_READ)),
)
def test_a_segment_without_file_bytes_is_writable(parent: Process, target: Target) -> None:
    elf = agent(target).with_segment(address=FREE, memory_size=target.page_size, flags=PF_R)
    parent.execve(file(parent, elf))
    assert parent.touch(FREE, write=1) == 1


@clause("execve.2/overlapping-segments-later-wins")
@lie(RUNS_THE_AGENT, holds("the first of two segments counts", b"first"))
def test_of_overlapping_segments_the_later_one_counts(parent: Process, target: Target) -> None:
    elf = agent(target)
    elf = elf.with_segment(address=FREE, content=b"first").with_segment(
        address=FREE, content=b"later"
    )
    parent.execve(file(parent, elf))
    assert parent.load_bytes(FREE, 5) == b"later"


@clause("execve.2/segments-in-any-order")
@lie(RUNS_THE_AGENT)
def test_segments_may_stand_in_any_order(parent: Process, target: Target) -> None:
    elf = agent(target).with_segment(address=FREE, content=b"above", first=True)
    parent.execve(file(parent, elf))
    assert parent.load_bytes(FREE, 5) == b"above"


def with_stack(target: Target, flags: int) -> Elf:
    """The agent with these flags for its stack."""
    plain = agent(target).without(PT_GNU_STACK)
    return plain.with_segment(type=PT_GNU_STACK, address=0, alignment=1, flags=flags)


@clause("execve.2/gnu-stack-decides-executable-stack")
@lie(RUNS_THE_AGENT)
def test_the_stack_is_executable_if_the_file_says_so(parent: Process, target: Target) -> None:
    parent.execve(file(parent, with_stack(target, PF_R | PF_W), "plain"))
    assert target.observer.mapping(parent, "[stack]").protection == "rw-p"
    parent.execve(file(parent, with_stack(target, PF_R | PF_W | PF_X), "executable"))
    assert target.observer.mapping(parent, "[stack]").protection == "rwxp"


@clause("execve.2/break-above-last-segment")
@lie(RUNS_THE_AGENT)
def test_the_break_begins_above_the_last_segment(parent: Process, target: Target) -> None:
    parent.execve(file(parent, agent(target).with_segment(address=FREE, memory_size=PAGE)))
    assert parent.sys.brk(0) >= FREE + PAGE


# --- the interpreter ---


@clause("execve.2/elf-interpreter-loads")
@lie(RUNS_THE_AGENT)
def test_the_interpreter_gets_control(parent: Process, target: Target) -> None:
    elf = program(target, 7).with_interpreter(target.agent_path + b"\0")
    parent.execve(file(parent, elf))
    assert parent.images == 1
    auxiliary = parent.initial().auxv
    assert auxiliary.get(AT_ENTRY) == BASE
    assert auxiliary.get(AT_BASE) == 0


@clause("execve.2/elf-interpreter-relative")
@lie(before_exec("exec begins at the root", lambda process: process.sys.chdir("/")))
def test_a_relative_interpreter_is_found_from_the_working_directory(
    parent: Process, target: Target
) -> None:
    path = file(parent, program(target, 7).with_interpreter(b"interpreter\0"))
    parent.sys.symlink(target.agent_path, f"{target.folder()}/interpreter")
    parent.sys.chdir(target.folder())
    parent.execve(path)
    assert parent.images == 1
    parent.sys.chdir("/")
    with fails(ENOENT):
        parent.execve(path)


@clause("execve.2/elf-interpreter-name-ends-at-nul")
@lie(RUNS_THE_AGENT)
def test_the_interpreters_name_ends_at_its_first_nul(parent: Process, target: Target) -> None:
    elf = program(target, 7).with_interpreter(target.agent_path + b"\0junk\0")
    parent.execve(file(parent, elf))
    assert parent.initial().auxv.get(AT_ENTRY) == BASE


@clause("execve.2/elf-interpreter-header-in-any-place")
@lie(RUNS_THE_AGENT)
def test_the_interpreter_may_be_named_behind_the_segments(parent: Process, target: Target) -> None:
    elf = program(target, 7).with_interpreter(target.agent_path + b"\0", first=False)
    parent.execve(file(parent, elf))
    assert parent.initial().auxv.get(AT_ENTRY) == BASE


@pytest.mark.parametrize(
    "name", [b"AGENT", b"AGENT\0junk", b"\0", b"x"], ids=["end", "junk", "nul", "x"]
)
@clause("execve.2/enoexec-interpreter-without-nul")
@lie(EXEC_DOES_NOTHING)
def test_an_interpreter_without_a_nul_at_the_end_is_refused(
    parent: Process, target: Target, name: bytes
) -> None:
    name = name.replace(b"AGENT", target.agent_path)
    with fails(ENOEXEC):
        parent.execve(file(parent, program(target, 7).with_interpreter(name)))


@clause("execve.2/enoent-interpreter")
@lie(EXEC_DOES_NOTHING)
def test_a_missing_interpreter_is_refused(parent: Process, target: Target) -> None:
    with fails(ENOENT):
        parent.execve(file(parent, program(target, 7).with_interpreter(b"/no/such/file\0")))


@clause("execve.2/eacces-no-execute-permission-interpreter")
@lie(EXEC_DOES_NOTHING)
def test_an_interpreter_without_execute_permission_is_refused(
    parent: Process, target: Target
) -> None:
    path = file(parent, agent(target), "interpreter", 0o644).encode()
    with fails(EACCES):
        parent.execve(file(parent, program(target, 7).with_interpreter(path + b"\0")))


@clause("execve.2/enotdir-interpreter")
@lie(EXEC_DOES_NOTHING)
def test_an_interpreter_below_a_file_is_refused(parent: Process, target: Target) -> None:
    with fails(ENOTDIR):
        path = target.agent_path + b"/x\0"
        parent.execve(file(parent, program(target, 7).with_interpreter(path)))


@clause("execve.2/eloop-symlinks-interpreter")
@lie(EXEC_DOES_NOTHING)
def test_an_interpreter_that_is_a_link_to_itself_is_refused(
    parent: Process, target: Target
) -> None:
    link = f"{target.folder()}/itself"
    parent.sys.symlink("itself", link)
    with fails(ELOOP):
        parent.execve(file(parent, program(target, 7).with_interpreter(link.encode() + b"\0")))


@clause("execve.2/elibbad-interpreter")
@lie(EXEC_DOES_NOTHING)
def test_an_interpreter_in_no_known_format_is_refused(parent: Process, target: Target) -> None:
    path = file(parent, b"text" * 50, "interpreter").encode()
    with fails(ELIBBAD):
        parent.execve(file(parent, program(target, 7).with_interpreter(path + b"\0")))


@pytest.mark.parametrize(
    "content", [b"", b"#!/bin/sh\n", b"x" * 20], ids=["empty", "script", "text"]
)
@clause("execve.2/eio-interpreter-too-short")
@lie(EXEC_DOES_NOTHING)
def test_an_interpreter_shorter_than_a_header_is_refused(
    parent: Process, target: Target, content: bytes
) -> None:
    path = file(parent, content, "interpreter").encode()
    with fails(EIO):
        parent.execve(file(parent, program(target, 7).with_interpreter(path + b"\0")))


@clause("execve.2/eisdir-interpreter")
@lie(EXEC_DOES_NOTHING)
def test_a_folder_as_interpreter_is_refused(parent: Process, target: Target) -> None:
    with fails(EISDIR):
        parent.execve(file(parent, program(target, 7).with_interpreter(b"/\0")))


@clause("execve.2/einval-two-interpreters")
@lie(EXEC_DOES_NOTHING)
def test_two_interpreters_are_refused(parent: Process, target: Target) -> None:
    one = program(target, 7).with_interpreter(target.agent_path + b"\0")
    with fails(EINVAL):
        parent.execve(file(parent, one.with_interpreter(b"/no/such/file\0", first=False)))
    with fails(EINVAL):
        parent.execve(file(parent, one.with_interpreter(b"/no/such/file\0", first=True), "two"))


# --- where a program is loaded ---


def position_independent(process: Process, alignment: int) -> str:
    """Write a position-independent program whose interpreter is the agent; gives its path."""
    target = process.target
    elf = Elf.program(target.machine, exits(target.machine, 7), type=ET_DYN, base=0)
    elf = replace(elf, segments=(replace(elf.segments[0], alignment=alignment),))
    return file(process, elf.with_interpreter(target.agent_path + b"\0"), f"aligned-{alignment}")


def load_addresses(process: Process, path: str) -> set[int]:
    """Where a position-independent program is loaded, run after run."""
    return {process.execve(path).initial().auxv.get(AT_ENTRY, NOWHERE) for _ in range(RUNS)}


@clause("execve.2/position-independent-is-randomised")
@lie(
    before_exec(
        "exec loads it at one place", lambda process: process.sys.personality(ADDR_NO_RANDOMIZE)
    )
)
def test_a_position_independent_program_is_loaded_at_varying_addresses(
    parent: Process, target: Target
) -> None:
    if target.observer.read("/proc/sys/kernel/randomize_va_space") == b"0\n":
        raise Unsupported("randomised addresses (sysctl kernel/randomize_va_space is 0)")
    path = position_independent(parent, PAGE)
    parent.sys.personality(PER_LINUX)
    assert len(load_addresses(parent, path)) > 1
    parent.sys.personality(ADDR_NO_RANDOMIZE)
    assert len(load_addresses(parent, path)) == 1


@clause("execve.2/load-address-honours-alignment")
@lie(RUNS_THE_AGENT)
def test_the_load_address_honours_the_alignment(parent: Process) -> None:
    huge, plain = position_independent(parent, HUGE), position_independent(parent, PAGE)
    assert {address % HUGE for address in load_addresses(parent, huge)} == {0}
    assert {address % HUGE for address in load_addresses(parent, plain)} != {0}


# --- refusals, and what is too late for one ---


def patched(content: bytes, at: int, value: int) -> bytes:
    """The same file with another 16-bit number at a place."""
    return content[:at] + value.to_bytes(2, "little") + content[at + 2 :]


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda elf: b"\x7fELG" + bytes(elf)[4:], id="magic"),
        pytest.param(lambda elf: bytes(elf)[:4], id="magic-only"),
        pytest.param(lambda elf: bytes(elf)[: HEADER.size], id="no-segment-table"),
        pytest.param(lambda elf: bytes(elf)[: HEADER.size - 1], id="no-whole-header"),
        pytest.param(lambda elf: patched(bytes(elf), PH_NUMBER, 0), id="number-of-segments"),
        pytest.param(lambda elf: patched(bytes(elf), PH_OFFSET + 4, 1), id="offset-of-segments"),
        pytest.param(lambda elf: patched(bytes(elf), PH_SIZE, 55), id="size-of-segment"),
        pytest.param(lambda elf: replace(elf, type=ET_CORE), id="type-core"),
        pytest.param(lambda elf: replace(elf, type=ET_REL), id="type-rel"),
    ],
)
@clause("execve.2/enoexec-bad-headers")
@lie(EXEC_DOES_NOTHING)
def test_bad_headers_are_refused(parent: Process, target: Target, spoil: Spoiler) -> None:
    with fails(ENOEXEC):
        parent.execve(file(parent, spoil(program(target, 7))))


@clause("execve.2/enoexec-wrong-architecture")
@lie(EXEC_DOES_NOTHING)
def test_another_architecture_is_refused(parent: Process, target: Target) -> None:
    with fails(ENOEXEC):
        parent.execve(file(parent, replace(program(target, 7), machine=FOREIGN_MACHINE)))


def beyond_user_space(segment: Segment) -> Segment:
    """The segment at an address that only a kernel has."""
    return replace(segment, address=BEYOND_USER_SPACE)


def more_in_the_file(segment: Segment) -> Segment:
    """The segment with more bytes in the file than in memory."""
    return replace(segment, memory_size=segment.file_size - 1)


@pytest.mark.parametrize("change", [beyond_user_space, more_in_the_file])
@clause("execve.2/point-of-no-return-kills")
@lie(RUNS_THE_AGENT)
def test_a_failure_beyond_the_point_of_no_return_kills(
    parent: Process, target: Target, change: Callable[[Segment], Segment]
) -> None:
    elf = program(target, 7)
    path = file(parent, replace(elf, segments=(change(elf.segments[0]),)))
    parent.sys.setrlimit(RLIMIT_CORE, (0, 0))
    assert parent.run(path).signal == SIGSEGV
