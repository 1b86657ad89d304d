"""personality(2) and the filter of core(5): what a child has as a copy, and a new image keeps."""

from __future__ import annotations

import pytest

from pytest_procsemantics import Process, clause
from pytest_procsemantics.alike import Make, by_any_copy, by_any_process
from pytest_procsemantics.driven import Observer
from pytest_procsemantics.driven.constants import (
    ADDR_NO_RANDOMIZE,
    CLONE_VM,
    PER_LINUX,
    PER_LINUX32,
    SIGCHLD,
)
from pytest_procsemantics.lies import by_maker_too, every_child, in_child, in_image, lie

ASK = 0xFFFFFFFF
CORE_FILTER = "/proc/self/coredump_filter"

RESET = in_child("it is reset", lambda child: child.sys.personality(0))


@by_any_process("personality.2/fork-inherits")
@lie(RESET)
def test_a_child_has_its_makers_personality(parent: Process, make: Make) -> None:
    parent.sys.personality(ADDR_NO_RANDOMIZE)
    assert make(parent).sys.personality(ASK) == ADDR_NO_RANDOMIZE


@clause("personality.2/linux32-changes-uname-of-children")
@lie(RESET)
def test_a_childs_machine_has_32_bits_too(parent: Process) -> None:
    parent.sys.personality(PER_LINUX32)
    assert parent.fork().sys.uname().machine == "i686"


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(
            Process.fork, id="fork", marks=clause("personality.2/childs-change-leaves-parent")
        ),
        pytest.param(Process.thread, id="thread", marks=clause("personality.2/per-thread")),
    ],
)
@lie(by_maker_too("personality"))
def test_a_childs_or_threads_personality_is_its_own(parent: Process, make: Make) -> None:
    parent.sys.personality(PER_LINUX)
    other = make(parent)
    other.sys.personality(ADDR_NO_RANDOMIZE)
    assert other.sys.personality(ASK) == ADDR_NO_RANDOMIZE
    assert parent.sys.personality(ASK) == PER_LINUX


# --- what a core has ---


def core_filter(process: Process) -> int:
    """Which kinds of memory a core of the process has."""
    return int(Observer(process).read(CORE_FILTER), 16)


@by_any_copy("core.5/coredump-filter-inherited")
@lie(
    every_child(CLONE_VM | SIGCHLD),
    in_child("it is reset", lambda child: child.write_to(CORE_FILTER, b"0x33")),
)
def test_a_child_has_a_copy_of_the_filter(parent: Process, make: Make) -> None:
    parent.write_to(CORE_FILTER, b"0x7")
    child = make(parent)
    assert core_filter(child) == 0x7
    child.write_to(CORE_FILTER, b"0x1")
    assert (core_filter(parent), core_filter(child)) == (0x7, 0x1)


@clause("core.5/coredump-filter-kept-over-exec")
@lie(in_image("it is reset", lambda image: image.write_to(CORE_FILTER, b"0x33")))
def test_the_filter_stays_over_exec(parent: Process) -> None:
    parent.write_to(CORE_FILTER, b"0x7")
    parent.execve()
    assert core_filter(parent) == 0x7
