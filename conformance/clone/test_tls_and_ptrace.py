"""clone(2): CLONE_SETTLS, CLONE_PTRACE and CLONE_UNTRACED, and where the child begins.

A child that begins traced says nothing before its tracer lets it go on.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import pytest

from pytest_procsemantics import Process, clause
from pytest_procsemantics.alike import MakeWith, like_clone
from pytest_procsemantics.driven import Observer, Out, Step, Unsupported, fails
from pytest_procsemantics.driven.constants import (
    ARCH_GET_FS,
    ARCH_SET_FS,
    CLONE_CHILD_SETTID,
    CLONE_PTRACE,
    CLONE_SETTLS,
    CLONE_UNTRACED,
    CLONE_VM,
    EPERM,
    KCMP_VM,
    PTRACE_CONT,
    PTRACE_GET_SYSCALL_INFO,
    PTRACE_O_TRACECLONE,
    PTRACE_O_TRACEFORK,
    PTRACE_SEIZE,
    PTRACE_SINGLESTEP,
    PTRACE_TRACEME,
    SIGCHLD,
    WALL,
    WNOHANG,
)
from pytest_procsemantics.driven.creation import Creation
from pytest_procsemantics.lies import Lie, adds, becomes, drops, in_child, lie

BIT_40 = 1 << 40
OUTSIDE = 1 << 63  # no address of a user on x86_64
SYSCALL_INFO = struct.Struct("<B3xIQQ")  # op, arch, instruction pointer, stack pointer (ptrace(2))
SYSCALL_INFO_BYTES = 88

UNSET = drops(CLONE_SETTLS)


# --- CLONE_SETTLS ---


def thread_pointer(process: Process) -> int:
    """The thread pointer of a process, which only x86_64 tells by a call."""
    if process.target.machine != "x86_64":
        raise Unsupported(
            f"to read the thread pointer (no call for it on {process.target.machine})"
        )
    return int.from_bytes(process.sys.arch_prctl(ARCH_GET_FS, Out(8))[1], "little")


@pytest.fixture
def tls(parent: Process) -> int:
    """The parent's thread pointer, at memory of its own."""
    tls = parent.allocate(8)
    thread_pointer(parent)
    parent.sys.arch_prctl(ARCH_SET_FS, tls)
    return tls


@like_clone("clone.2/settls-sets-thread-pointer")
@lie(UNSET)
def test_clone_settls_sets_the_childs_thread_pointer(
    parent: Process, tls: int, make: MakeWith
) -> None:
    assert thread_pointer(make(parent, CLONE_SETTLS, tls=tls + 8)) == tls + 8


@like_clone("clone.2/settls-unset-copies-thread-pointer")
@lie(adds(CLONE_SETTLS))
def test_without_clone_settls_the_child_has_the_callers_thread_pointer(
    parent: Process, tls: int, make: MakeWith
) -> None:
    assert thread_pointer(make(parent, 0)) == tls


def sets_the_callers(child: Process) -> None:
    """Have the maker's thread pointer set too."""
    assert child.creation
    child.creation.process.sys.arch_prctl(ARCH_SET_FS, thread_pointer(child))


@like_clone("clone.2/settls-leaves-parent")
@lie(in_child("the caller's is set too", sets_the_callers))
def test_clone_settls_leaves_the_callers_thread_pointer(
    parent: Process, tls: int, make: MakeWith
) -> None:
    make(parent, CLONE_SETTLS, tls=tls + 8)
    assert thread_pointer(parent) == tls


@like_clone("clone.2/settls-noncanonical-refused")
@lie(UNSET)
def test_a_thread_pointer_outside_the_users_range_is_refused(
    parent: Process, make: MakeWith
) -> None:
    with fails(EPERM):
        make(parent, CLONE_SETTLS, tls=OUTSIDE)


class TakesTheOtherOrder(Process):
    def actual(self, creation: Creation) -> Creation:
        """Have the last two arguments of clone change places."""
        if creation.call != "clone":
            return creation
        *first, one, other = creation.args
        return replace(creation, args=(*first, other, one))


@clause("clone.2/raw-argument-order")
@lie(Lie("tls and child_tid change places", TakesTheOtherOrder))
def test_tls_and_child_tid_have_the_order_of_the_machine(parent: Process, tls: int) -> None:
    cell = parent.allocate(8)
    child = parent.clone(CLONE_SETTLS | CLONE_CHILD_SETTID | SIGCHLD, tls=tls + 8, child_tid=cell)
    assert child.load(cell) == child.tid
    assert thread_pointer(child) == tls + 8


@clause("clone.2/clone-upper-flag-bits-ignored")
@lie(becomes(BIT_40, CLONE_VM))
def test_clone_ignores_flags_above_32_bits(parent: Process, observer: Observer) -> None:
    child = parent.clone(BIT_40 | SIGCHLD)
    assert child.sys.getppid() == parent.own_pid
    assert observer.kcmp(parent, child, KCMP_VM) != 0


# --- CLONE_PTRACE and CLONE_UNTRACED ---


@pytest.fixture
def traced(parent: Process) -> Process:
    """A child of the parent, which traces it."""
    traced = parent.fork("traced")
    parent.sys.ptrace(PTRACE_SEIZE, traced.own_pid, 0, 0)
    return traced


@pytest.fixture
def followed(parent: Process) -> Process:
    """A child of the parent, which traces it and is to trace its children too."""
    followed = parent.fork("followed")
    options = PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK
    parent.sys.ptrace(PTRACE_SEIZE, followed.own_pid, 0, options)
    return followed


@clause("clone.2/ptrace-traces-child-of-traced")
@lie(drops(CLONE_PTRACE, hangs=True))
def test_clone_ptrace_lets_the_callers_tracer_trace_the_child(
    parent: Process, traced: Process, observer: Observer
) -> None:
    birth = traced.post.clone(CLONE_PTRACE | SIGCHLD)
    stopped = parent.sys.wait4(-1, WALL).pid
    parent.sys.ptrace(PTRACE_CONT, stopped, 0, 0)
    child = birth.begin()
    assert stopped == child.own_pid
    assert observer.status_field(child, "TracerPid") == str(parent.pid)


@like_clone("clone.2/ptrace-untraced-caller-no-effect")
@lie(in_child("the maker traces it", lambda child: child.sys.ptrace(PTRACE_TRACEME, 0, 0, 0)))
def test_clone_ptrace_by_a_process_that_is_not_traced_has_no_effect(
    parent: Process, observer: Observer, make: MakeWith
) -> None:
    child = make(parent, CLONE_PTRACE)
    before = observer.status_field(parent, "TracerPid")
    assert observer.status_field(child, "TracerPid") == before


@like_clone("clone.2/untraced-refuses-forced-ptrace")
@lie(drops(CLONE_UNTRACED, hangs=True))
def test_with_clone_untraced_no_tracer_gets_the_child(
    parent: Process, followed: Process, observer: Observer, make: MakeWith
) -> None:
    child = make(followed, CLONE_UNTRACED)
    assert observer.status_field(child, "TracerPid") == "0"
    assert parent.sys.wait4(-1, WALL | WNOHANG).pid == 0


def place(tracer: Process, tracee: int) -> tuple[int, int]:
    """Instruction and stack pointer of a stopped tracee."""
    info = Out(SYSCALL_INFO_BYTES)
    _, found = tracer.sys.ptrace(PTRACE_GET_SYSCALL_INFO, tracee, SYSCALL_INFO_BYTES, info)
    _, _, instruction, stack = SYSCALL_INFO.unpack_from(found)
    return instruction, stack


class BeginsLater(Process):
    """The child has done an instruction when its tracer looks."""

    looks = 0

    def ask_call(self, name: str, number: int, args: Any, decode: Any = None) -> Step:
        if name == "ptrace" and args[0] == PTRACE_GET_SYSCALL_INFO:
            self.looks += 1
            if self.looks == 2:
                self.sys.ptrace(PTRACE_SINGLESTEP, args[1], 0, 0)
                self.sys.wait4(args[1], WALL)
        return super().ask_call(name, number, args, decode)


@clause("clone.2/raw-continues-from-call")
@lie(Lie("it begins behind that", BeginsLater))
def test_the_child_begins_where_the_caller_goes_on(parent: Process, followed: Process) -> None:
    followed.post.clone(SIGCHLD)
    first, second = parent.sys.wait4(-1, WALL).pid, parent.sys.wait4(-1, WALL).pid
    child = first + second - followed.own_pid
    assert child != followed.own_pid
    assert place(parent, followed.own_pid) == place(parent, child)
