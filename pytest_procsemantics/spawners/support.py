"""Which primitives there are, and why one can't be had in this process; imports nothing that some system lacks."""

from __future__ import annotations

import os
import platform
import sys
import sysconfig
from collections.abc import Callable

CLONE_THREAD = 0x10000  # linux/sched.h
# Source: Linux, asm/unistd_64.h of x86, asm-generic/unistd.h.
CLONE_NUMBERS = {"x86_64": 56, "aarch64": 220, "riscv64": 220}
# The system call that vfork(3) is, with its arguments. Where there is none it is clone with CLONE_VM, CLONE_VFORK and
# SIGCHLD.
VFORK_WORDS = {"x86_64": (58,), "aarch64": (220, 0x4111)}
VFORK_PYTHONS = ((3, 10), (3, 11), (3, 12), (3, 13))  # those that it was measured with


def why_not(primitive: str) -> str | None:
    """The reason why this process can't make children by a primitive, or None."""
    reason = REASONS[primitive]()
    return reason and f"{primitive}: {reason}"


def _fork(call: str = "fork") -> str | None:
    if not hasattr(os, call):
        return f"{platform.system()} has none"
    if platform.python_implementation() != "CPython":
        return f"not proved on {platform.python_implementation()}"
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        return "not proved on a free-threaded build"
    return None


def _clone() -> str | None:
    if sys.platform != "linux":
        return f"no Linux but {platform.system()}"
    if platform.machine() not in CLONE_NUMBERS:
        return f"its number on {platform.machine()} is not known here"
    return _fork()


def _clone3() -> str | None:
    reason = _clone()
    if reason is None:
        from pytest_procsemantics.spawners import raw

        reason = raw.why_no_clone3()
    return reason


def _vfork() -> str | None:
    reason = _clone()
    if reason is not None:
        return reason
    if platform.machine() not in VFORK_WORDS:
        return f"not written for {platform.machine()}"
    if sys.version_info[:2] not in VFORK_PYTHONS:
        return f"not proved on Python {platform.python_version()}"
    if hasattr(sys, "gettotalrefcount"):
        return "not proved on a debug build"
    if platform.libc_ver()[0] != "glibc":
        return "not proved with this C library"  # musl's raise would signal the frozen thread
    from pytest_procsemantics.spawners import frozen, probe

    if not frozen.is_main_interpreter():
        return "not in a subinterpreter"  # which hears no signal
    return probe.why_no_vfork()


def _posix_spawn() -> str | None:
    return _fork("posix_spawn")


def _thread() -> str | None:
    return None


REASONS: dict[str, Callable[[], str | None]] = {
    "fork": _fork,
    "clone": _clone,
    "clone3": _clone3,
    "vfork": _vfork,
    "exec": _fork,
    "posix_spawn": _posix_spawn,
    "thread": _thread,
}
