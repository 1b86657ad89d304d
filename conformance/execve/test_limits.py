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


def taking(process: Process, total: int) -> list[bytes]:
    """Arguments that take just `total` bytes, the pathname of the agent included."""
    total -= len(process.target.agent_path) + 1
    count, rest = divmod(total, SHORT + POINTER)
    return [b"x" * (SHORT - 1)] * count + [b"x" * (rest - POINTER - 1)]


def pointers(process: Process, text: bytes, count: int) -> int:
    """An array of so many pointers to one string, and a null pointer; gives its address."""
    address = process.allocate(len(text) + 1)
    process.store(address, text + b"\0")
    array = process.allocate((count + 1) * POINTER)
    process.store(array, struct.pack("<Q", address) * count)
    return array


ENDS_EARLY = exec_given("exec gets one argument", lambda path, argv, envp: (path, ["x"], envp))


@clause("execve.2/total-limit-quarter-of-stack", "execve.2/e2big")
@lie(EXEC_DOES_NOTHING, ENDS_EARLY)
def test_a_quarter_of_the_stack_is_the_limit(parent: Process) -> None:
    quarter = 2 * floor(parent)
    limit_stack(parent, 4 * quarter)
    with fails(E2BIG):
        parent.execve(argv=taking(parent, quarter + 1))
    parent.execve(argv=taking(parent, quarter))
    assert parent.initial().argc == len(taking(parent, quarter))


@clause("execve.2/total-limit-six-mib")
@lie(EXEC_DOES_NOTHING, ENDS_EARLY)
def test_six_mib_are_the_limit_of_a_larger_stack(parent: Process) -> None:
    limit_stack(parent, 32 * MIB)
    with fails(E2BIG):
        parent.execve(argv=taking(parent, 6 * MIB + 1))
    parent.execve(argv=taking(parent, 6 * MIB))
    assert parent.initial().argc == len(taking(parent, 6 * MIB))


@clause("execve.2/total-limit-floor")
@lie(EXEC_DOES_NOTHING, ENDS_EARLY)
def test_32_pages_are_always_allowed(parent: Process) -> None:
    limit_stack(parent, 2 * floor(parent))
    with fails(E2BIG):
        parent.execve(argv=taking(parent, floor(parent) + 1))
    parent.execve(argv=taking(parent, floor(parent)))
    assert parent.initial().argc == len(taking(parent, floor(parent)))


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
    with fails(E2BIG):
        parent.execve(argv=pointers(parent, b"", count + 1))
    parent.execve(argv=pointers(parent, b"", count))
    assert parent.initial().argc == count


@clause("execve.2/arg-max-follows-stack-limit")
@lie(leaves_out("setrlimit"))
def test_sysconf_tells_a_quarter_of_the_stack(program: Process) -> None:
    limit_stack(program, 4 * MIB)
    assert program.lib.sysconf(SC_ARG_MAX) == MIB
    limit_stack(program, 8 * MIB)
    assert program.lib.sysconf(SC_ARG_MAX) == 2 * MIB
