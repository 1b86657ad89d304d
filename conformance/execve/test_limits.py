"""execve(2), Limits on size of arguments and environment.

Pathname, strings and terminators count, and 8 bytes for each pointer of argv and envp.
"""

from __future__ import annotations

import struct

from pytest_procsemantics import Process, clause
from pytest_procsemantics.driven import Unsupported, fails
from pytest_procsemantics.driven.constants import E2BIG, RLIMIT_STACK
from pytest_procsemantics.lies import EXEC_DOES_NOTHING, exec_given, leaves_out, lie

SC_ARG_MAX = 0  # bits/confname.h
POINTER = 8  # bytes
MIB = 1 << 20  # bytes
SHORT = 100_000  # bytes with the terminator: a string far below the limit of one
PAGES = 32  # pages that one string, and all together, may always have


def limit_stack(process: Process, size: int) -> None:
    """Set the soft RLIMIT_STACK, in bytes."""
    hard = process.sys.getrlimit(RLIMIT_STACK).hard
    if hard < size:
        raise Unsupported(f"RLIMIT_STACK of {size} bytes (the hard limit is {hard})")
    process.sys.setrlimit(RLIMIT_STACK, (size, hard))


def floor(process: Process) -> int:
    """The bytes that are always allowed."""
    return PAGES * process.target.page_size


def pointers(process: Process, addresses: list[int]) -> int:
    """The address of an array of these pointers and a null pointer, for execve; two may be the same."""
    array = process.allocate((len(addresses) + 1) * POINTER)
    process.store(array, struct.pack(f"<{len(addresses)}Q", *addresses))
    return array


def taking(process: Process, total: int) -> list[int]:
    """Addresses of arguments that take just `total` bytes, the pathname of the agent included.

    They are one string again and again, and a shorter one.
    """
    total -= len(process.target.agent_path) + 1
    count, rest = divmod(total, SHORT + POINTER)
    strings = process.allocate(2 * SHORT)
    process.store(strings, b"x" * (SHORT - 1) + b"\0" + b"x" * (rest - POINTER - 1))
    return [strings] * count + [strings + SHORT]


def argument_count(process: Process) -> int:
    """What a new image finds at its first stack pointer: initial() would read megabytes of arguments."""
    return process.load(process.stack_pointer)


def expect_limit(process: Process, total: int) -> None:
    """Arguments of so many bytes are passed, and one byte more is refused."""
    with fails(E2BIG):
        process.execve(argv=pointers(process, taking(process, total + 1)))
    arguments = taking(process, total)
    process.execve(argv=pointers(process, arguments))
    assert argument_count(process) == len(arguments)


ENDS_EARLY = exec_given("exec gets one argument", lambda path, argv, envp: (path, ["x"], envp))


@clause("execve.2/total-limit-quarter-of-stack", "execve.2/e2big")
@lie(EXEC_DOES_NOTHING, ENDS_EARLY)
def test_a_quarter_of_the_stack_is_the_limit(parent: Process) -> None:
    quarter = 2 * floor(parent)
    limit_stack(parent, 4 * quarter)
    expect_limit(parent, quarter)


@clause("execve.2/total-limit-six-mib")
@lie(EXEC_DOES_NOTHING, ENDS_EARLY)
def test_six_mib_are_the_limit_of_a_larger_stack(parent: Process) -> None:
    limit_stack(parent, 32 * MIB)
    expect_limit(parent, 6 * MIB)


@clause("execve.2/total-limit-floor")
@lie(EXEC_DOES_NOTHING, ENDS_EARLY)
def test_32_pages_are_always_allowed(parent: Process) -> None:
    limit_stack(parent, 2 * floor(parent))
    expect_limit(parent, floor(parent))


@clause("execve.2/string-limit")
@lie(EXEC_DOES_NOTHING, ENDS_EARLY)
def test_one_string_may_have_32_pages(parent: Process) -> None:
    longest = floor(parent) - 1
    with fails(E2BIG):
        parent.execve(argv=[b"x" * (longest + 1)])
    parent.execve(argv=[b"x" * longest])
    assert len(parent.initial().argv[0]) == longest


@clause("execve.2/pointers-count-too")
@lie(EXEC_DOES_NOTHING)
def test_pointers_count_too(parent: Process) -> None:
    quarter = 2 * floor(parent)
    limit_stack(parent, 4 * quarter)
    count = (quarter - len(parent.target.agent_path) - 1) // (POINTER + 1)
    empty = parent.allocate(1)
    with fails(E2BIG):
        parent.execve(argv=pointers(parent, [empty] * (count + 1)))
    parent.execve(argv=pointers(parent, [empty] * count))
    assert argument_count(parent) == count


@clause("execve.2/arg-max-follows-stack-limit")
@lie(leaves_out("setrlimit"))
def test_sysconf_tells_a_quarter_of_the_stack(program: Process) -> None:
    limit_stack(program, 4 * MIB)
    assert program.lib.sysconf(SC_ARG_MAX) == MIB
    limit_stack(program, 8 * MIB)
    assert program.lib.sysconf(SC_ARG_MAX) == 2 * MIB
