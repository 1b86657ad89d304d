"""`process.post`: a process's steps without waiting.

These are what Process waits for: whatever one step sends is written here.
"""

from __future__ import annotations

import functools
import struct
from typing import TYPE_CHECKING

from pytest_procsemantics.driven import wire
from pytest_procsemantics.driven.calls import signed
from pytest_procsemantics.driven.constants import (
    CLONE_PARENT,
    CLONE_THREAD,
    CLONE_VFORK,
    CLONE_VM,
    EFAULT,
    SIGCHLD,
)
from pytest_procsemantics.driven.creation import Birth, Creation
from pytest_procsemantics.driven.errors import CallFailed
from pytest_procsemantics.driven.image import expect_to_stay
from pytest_procsemantics.driven.program import AGENT, Path, Texts
from pytest_procsemantics.driven.step import Step

if TYPE_CHECKING:
    from pytest_procsemantics.driven.library import Library
    from pytest_procsemantics.driven.process import Process

CLONE_ARGS = struct.Struct("<11Q")  # struct clone_args, size 88 (clone(2))


class Posted:
    """`process.post`: the same steps without waiting; each gives a Step, or a Birth for a new process."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.sys = type(process.sys)(process, False)

    @functools.cached_property
    def lib(self) -> Library:
        """As Process.lib."""
        return type(self._process.lib)(self._process, False)

    def fork(self, name: str = "child") -> Birth:
        """As Process.fork."""
        return self._simple("fork", SIGCHLD, name)

    def vfork(self, name: str = "child") -> Birth:
        """As Process.vfork."""
        return self._simple("vfork", CLONE_VM | CLONE_VFORK | SIGCHLD, name)

    def _simple(self, primitive: str, flags: int, name: str) -> Birth:
        process = self._process
        if primitive in process.sys.numbers:
            return process.create(Creation(primitive, primitive, (), flags), name)
        return process.create(Creation(primitive, "clone", (flags, 0, 0, 0, 0), flags), name)

    def clone(
        self,
        flags: int = SIGCHLD,
        *,
        name: str = "",
        stack: int = 0,
        parent_tid: int = 0,
        child_tid: int = 0,
        tls: int = 0,
    ) -> Birth:
        """As Process.clone. The order of the last two raw arguments is the machine's (clone(2), NOTES)."""
        last = (child_tid, tls) if self._process.target.machine == "x86_64" else (tls, child_tid)
        creation = Creation("clone", "clone", (flags, stack, parent_tid, *last), flags)
        return self._process.create(creation, name)

    def clone3(
        self,
        flags: int = 0,
        *,
        name: str = "",
        size: int = CLONE_ARGS.size,
        pidfd: int = 0,
        child_tid: int = 0,
        parent_tid: int = 0,
        exit_signal: int | None = None,
        stack: int = 0,
        stack_size: int = 0,
        tls: int = 0,
        set_tid: int = 0,
        set_tid_size: int = 0,
        cgroup: int = 0,
    ) -> Birth:
        """As Process.clone3."""
        if exit_signal is None:
            exit_signal = 0 if flags & (CLONE_THREAD | CLONE_PARENT) else SIGCHLD
        fields = (
            pidfd,
            child_tid,
            parent_tid,
            exit_signal,
            stack,
            stack_size,
            tls,
            set_tid,
            set_tid_size,
            cgroup,
        )
        creation = Creation("clone3", "clone3", (CLONE_ARGS.pack(flags, *fields), size), flags)
        return self._process.create(creation, name)

    def execve(
        self,
        path: Path = AGENT,
        argv: Texts | None = None,
        envp: Texts = (),
    ) -> Step:
        """As Process.execve. The step is done when a driven image has begun, and fails with the call's errno."""
        if path == AGENT:
            expect_to_stay(self._process.target)
        return self._process.exec_step("execve", path, argv, envp)

    def execveat(
        self,
        dirfd: int,
        path: Path,
        argv: Texts | None = None,
        envp: Texts = (),
        flags: int = 0,
    ) -> Step:
        """As Process.execveat."""
        expect_to_stay(self._process.target)
        return self._process.exec_step("execveat", path, argv, envp, dirfd, flags)

    def load_bytes(self, address: int, size: int) -> Step:
        """As Process.load_bytes, at most one packet."""

        def whole(result: int, data: bytes) -> bytes:
            # Some kernels shorten the write at a bad address instead of refusing it.
            if len(data) != size:
                raise CallFailed(EFAULT, self._process, "load")
            return data

        return self._process.ask(
            wire.Request.LOAD, "load", (address, size), (signed(address), size), decode=whole
        )

    def store(self, address: int, value: bytes) -> Step:
        """As Process.store, at most one packet."""
        behind = wire.FRAME.pack(self._process.slot, len(value) + -len(value) % 8) + wire.padded(
            value
        )
        words = (signed(address), len(value))
        return self._process.ask(
            wire.Request.STORE, "store", (address, value), words, behind=behind
        )

    def touch(self, address: int, write: int | None = None) -> Step:
        """As Process.touch."""
        words = (signed(address), int(write is not None), write or 0)
        shown = (address,) if write is None else (address, write)
        return self._process.ask(wire.Request.TOUCH, "touch", shown, words)
