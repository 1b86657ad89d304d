"""clone(2) and clone3(2) as bare system calls, with Python's fork hooks around them.

Between the hooks Python holds locks (of imports, since 3.13 of all thread states too), and no bytecode may run: it
could hand the interpreter to a thread that waits for them. So the three steps are called by one iteration in C.
The C library does not learn of such a child: its own fork handlers don't run, and its locks stay as they are.
"""

from __future__ import annotations

import ctypes
import gc
import os
import platform
from collections import defaultdict, deque
from collections.abc import Callable
from errno import EINVAL, errorcode
from functools import cache, partial
from itertools import chain, repeat
from operator import methodcaller

from pytest_procsemantics.spawners.support import CLONE_NUMBERS

CLONE3_NUMBER = 435  # on all machines

_call = methodcaller("__call__")


@cache
def why_no_clone3() -> str | None:
    """The errno with which clone3(2) does not exist here, in words, or None."""
    # No size is that small: where the call exists it is EINVAL, and nothing is made.
    _system_call()(CLONE3_NUMBER, None, 0)
    number = ctypes.get_errno()
    # EPERM: what filters of system calls say.
    return None if number == EINVAL else f"{errorcode.get(number, number)}, {os.strerror(number)}"


@cache
def _system_call() -> Callable[..., int]:
    """syscall(2). The interpreter is not released meanwhile: a child could not take it again."""
    call = ctypes.PyDLL(None, use_errno=True).syscall
    call.restype = ctypes.c_long
    return call


@cache
def _hooks() -> tuple[Callable[[], None], Callable[[], None], Callable[[], None]]:
    """What os.fork does before and after, in the parent and in the child."""
    found = []
    for name in ("PyOS_BeforeFork", "PyOS_AfterFork_Parent", "PyOS_AfterFork_Child"):
        hook = getattr(ctypes.pythonapi, name)
        hook.argtypes, hook.restype = (), None
        found.append(hook)
    return found[0], found[1], found[2]


def twice(call: Callable[[], int]) -> int:
    """Make a system call that returns twice, with Python's fork hooks, also where it fails.

    Returns:
        What it gives: the child's pid, and 0 in the child.

    Raises:
        OSError: its errno.
    """
    before, in_parent, in_child = _hooks()
    # What follows a result. One that it does not know yet, all but 0, it takes in as a new key.
    after = defaultdict(repeat(in_parent).__next__, {0: in_child})
    results = map(_call, (call,))
    collects = gc.isenabled()
    gc.disable()  # before Python 3.12 it collects in the midst of C code, and finalisers are bytecode
    deque(map(_call, chain((before,), map(after.__getitem__, results))), maxlen=0)
    if collects:
        gc.enable()
    result = next(reversed(after))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def clone_words(flags: int) -> tuple[int, ...]:
    """clone(2) without a stack, as fork(2) is made of: number and arguments of the system call."""
    return CLONE_NUMBERS[platform.machine()], flags, 0, 0, 0, 0


def clone(flags: int) -> int:
    """clone(2) without a stack."""
    return twice(partial(_system_call(), *map(ctypes.c_long, clone_words(flags))))


CLONE_ARGUMENTS = (
    *("flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack", "stack_size", "tls"),
    *("set_tid", "set_tid_size", "cgroup"),  # since Linux 5.5 and 5.7
)


class CloneArguments(ctypes.Structure):
    """struct clone_args.

    Attributes:
        tids: what `set_tid` points at.
    """

    tids: ctypes.Array[ctypes.c_int]

    _fields_ = tuple((name, ctypes.c_uint64) for name in CLONE_ARGUMENTS)


def clone3_arguments(
    flags: int, exit_signal: int, set_tid: tuple[int, ...], cgroup: int | None
) -> CloneArguments:
    """What clone3(2) is told, without a stack."""
    arguments = CloneArguments(flags=flags, exit_signal=exit_signal)
    # An older kernel refuses a larger structure only if there is something in what it does not know.
    if set_tid:
        arguments.tids = (ctypes.c_int * len(set_tid))(*set_tid)
        arguments.set_tid, arguments.set_tid_size = ctypes.addressof(arguments.tids), len(set_tid)
    if cgroup is not None:
        arguments.cgroup = cgroup
    return arguments


def clone3_words(arguments: CloneArguments) -> tuple[int, ...]:
    """Number and arguments of the system call; the structure must outlive it."""
    return CLONE3_NUMBER, ctypes.addressof(arguments), ctypes.sizeof(arguments)


def clone3(arguments: CloneArguments) -> int:
    """clone3(2) without a stack."""
    return twice(partial(_system_call(), *map(ctypes.c_long, clone3_words(arguments))))
