"""clone(2) and clone3(2) of a copy of this process, with the flags of the test's choice."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from pytest_procsemantics.spawners import raw, vfork
from pytest_procsemantics.spawners.child import Child
from pytest_procsemantics.spawners.spawner import Spawner
from pytest_procsemantics.spawners.support import CLONE_THREAD

T = TypeVar("T")

# Source: Linux, linux/sched.h.
CLONE_VM, CLONE_FILES, CLONE_SIGHAND = 0x100, 0x400, 0x800
CLONE_VFORK = 0x4000
FROZEN = CLONE_VM | CLONE_VFORK  # together they are vfork
CLONE_INTO_CGROUP = 0x200000000
POINTERS = {
    "CLONE_PIDFD": 0x1000,
    "CLONE_SETTLS": 0x80000,
    "CLONE_PARENT_SETTID": 0x100000,
    "CLONE_CHILD_CLEARTID": 0x200000,
    "CLONE_CHILD_SETTID": 0x1000000,
}
SIGNAL_MASK = 0xFF  # the bits of clone's flags that are no flags


class Clone(Spawner):
    """Children by clone(2): a callable in a copy of this process, which shares what the flags say."""

    primitive = "clone"

    def __call__(
        self,
        function: Callable[..., T],
        /,
        *args: Any,
        flags: int = 0,
        timeout: float | None = None,
        capture: bool = True,
        **kwargs: Any,
    ) -> Child[T]:
        """Run `function(*args, **kwargs)` in a child; nothing is pickled on the way in.

        Args:
            flags: CLONE_ flags; the child's end sends SIGCHLD. With CLONE_VM and CLONE_VFORK the child has this
                process's memory, and has ended or become a program when this returns, as with vfork.
            timeout: seconds from now to the child's deadline; None: the spawner's.
            capture: keep what the child writes to descriptors 1 and 2 for `stdout` and `stderr`; with CLONE_FILES only
                what goes through sys.stdout and sys.stderr, for the descriptors are the parent's.

        Raises:
            ValueError: a flag that can't be meant here; the message names the way.
            OSError: clone's errno.
        """
        check(flags)
        if flags & SIGNAL_MASK:
            raise ValueError(
                "clone: the termination signal is always SIGCHLD; clone3 takes exit_signal="
            )
        shares = bool(flags & CLONE_FILES)
        if flags & FROZEN:
            words = raw.clone_words(flags | signal.SIGCHLD)
            return vfork.spawn(self, words, function, args, kwargs, timeout, capture, shares)
        make = partial(raw.clone, flags | signal.SIGCHLD)
        return self._spawn(make, function, args, kwargs, timeout, capture, shares)


class Clone3(Spawner):
    """Children by clone3(2)."""

    primitive = "clone3"

    def __call__(
        self,
        function: Callable[..., T],
        /,
        *args: Any,
        flags: int = 0,
        exit_signal: int = signal.SIGCHLD,
        set_tid: Sequence[int] = (),
        cgroup: int | None = None,
        timeout: float | None = None,
        capture: bool = True,
        **kwargs: Any,
    ) -> Child[T]:
        """Run `function(*args, **kwargs)` in a child; nothing is pickled on the way in.

        Args:
            flags: CLONE_ flags, as for clone.
            exit_signal: sent to the parent at the child's end; 0: none.
            set_tid: the child's pid in each PID namespace, the innermost first; needs CAP_CHECKPOINT_RESTORE.
            cgroup: descriptor of the version 2 control group that the child begins in.
            timeout, capture: as for clone.

        Raises:
            ValueError: a flag that can't be meant here; the message names the way.
            OSError: clone3's errno.
        """
        check(flags)
        if cgroup is not None:
            flags |= CLONE_INTO_CGROUP
        shares = bool(flags & CLONE_FILES)
        arguments = raw.clone3_arguments(flags, exit_signal, tuple(set_tid), cgroup)
        if flags & FROZEN:
            words = raw.clone3_words(arguments)
            return vfork.spawn(self, words, function, args, kwargs, timeout, capture, shares)
        make = partial(raw.clone3, arguments)
        return self._spawn(make, function, args, kwargs, timeout, capture, shares)


def check(flags: int) -> None:
    """Refuse what can't work for a copy of a Python interpreter.

    Raises:
        ValueError: the message names the way.
    """
    if flags & CLONE_THREAD:
        raise ValueError(
            f"CLONE_THREAD would make a thread that Python and the C library don't know; {DRIVEN}"
        )
    if flags & CLONE_VM and not flags & CLONE_VFORK:
        raise ValueError(
            "CLONE_VM would run one interpreter's memory in two processes at a time; with CLONE_VFORK one of them"
            f" is frozen, which is what spawn_vfork does; {DRIVEN}"
        )
    if flags & CLONE_VFORK and not flags & CLONE_VM:
        raise ValueError(
            f"CLONE_VFORK would freeze the interpreter, and no deadline would hold; with CLONE_VM it can; {DRIVEN}"
        )
    if flags & FROZEN and flags & CLONE_SIGHAND:
        raise ValueError(f"CLONE_SIGHAND would have the deadline's signal end the parent; {DRIVEN}")
    for name, flag in POINTERS.items():
        if flags & flag:
            raise ValueError(f"{name} takes an address; {DRIVEN}")


DRIVEN = "the fixture procsem drives processes that can have it"
