"""A driven process: it does one step after the other, as the test says, and nothing else.

A child by fork has its parent's memory as a copy, one by vfork or CLONE_VM the same memory; what the agent itself needs
(stack and buffer of a slot) lies in the image and never in what the check gave.
"""

from __future__ import annotations

import functools
import struct
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_procsemantics.driven import wire
from pytest_procsemantics.driven.calls import (
    UNUSED,
    Argument,
    Calls,
    Decode,
    Layout,
    calls_class,
    split,
)
from pytest_procsemantics.driven.constants import (
    AT_FDCWD,
    CLOCK_PROCESS_CPUTIME_ID,
    CLONE_PARENT,
    CLONE_THREAD,
    CLONE_VFORK,
    MADV_NOHUGEPAGE,
    MAP_ANONYMOUS,
    MAP_PRIVATE,
    MAP_SHARED,
    P_PID,
    PROT_READ,
    PROT_WRITE,
    SIGCHLD,
    WALL,
    WEXITED,
)
from pytest_procsemantics.driven.creation import Birth, Creation
from pytest_procsemantics.driven.errors import CallFailed, Deviation, Ended
from pytest_procsemantics.driven.files import Files
from pytest_procsemantics.driven.image import expect_to_stay, expect_to_tell
from pytest_procsemantics.driven.initial import Initial, read_initial
from pytest_procsemantics.driven.posted import CLONE_ARGS, Posted
from pytest_procsemantics.driven.program import AGENT, WORD, Path, Texts, image_arguments
from pytest_procsemantics.driven.step import Step

if TYPE_CHECKING:
    from pytest_procsemantics.driven.library import Library
    from pytest_procsemantics.driven.library_start import Program
    from pytest_procsemantics.driven.target import Target

# A request for a system call, by the number of its arguments; those behind them are zero.
PACKS = tuple(struct.Struct(f"<IIIIIIq{n}q{WORD * (6 - n)}x").pack for n in range(7))
MOST_OUTSTANDING = 128  # steps posted to one process; a socket's queue holds 290


@dataclass(frozen=True)
class Exit:
    """How a process ended (wait(2)).

    Attributes:
        code: exit status, 0 to 255; None when a signal ended it.
        signal: 1 to 64, or None.
        core: whether a core was dumped.
    """

    code: int | None
    signal: int | None = None
    core: bool = False

    @classmethod
    def of_status(cls, status: int) -> Exit:
        """Read a wait status word."""
        if status & 0x7F:
            return cls(None, status & 0x7F, bool(status & 0x80))
        return cls(status >> 8 & 0xFF)


class Process(Files):
    """One process or thread on the target; made by `Target.new_process()` and by its own fork(), clone() and so on.

    Attributes:
        pid: its process id as the hub, and so the observer, sees it.
        tid: its thread id as it sees it itself.
        own_pid: its process id as it sees it itself.
        stack_pointer: the one with which the kernel started it, or its image.
        parent: the driven process that can wait for it; None: the hub.
        name: what the transcript calls it.
        creation: the step of its maker that made it; its result is the pid as the maker sees it.
        images: how many times it got a new image.
        program: the library program that it runs; None: an agent.
        ended: whether the hub has said that it is gone.
    """

    pid = tid = own_pid = stack_pointer = images = 0
    creation: Step | None = None
    program: Program | None = None
    ended = False
    over = False  # the test that it belongs to has ended
    status: int | None = None

    def __init__(self, target: Target, slot: int, name: str, parent: Process | None = None) -> None:
        self.target = target
        self.slot = slot
        self.name = name
        self.parent = parent
        self.outstanding: deque[Step] = deque()
        greeting = target.greeting
        self._data_address = greeting.data_address + slot * greeting.room_size
        self.sys: Calls = calls_class(greeting.machine)(self, True)

    @functools.cached_property
    def post(self) -> Posted:
        """The same steps without waiting; made when it is first asked for, as many tests never do."""
        return Posted(self)

    @functools.cached_property
    def lib(self) -> Library:
        """The functions of the target's C library, in a process that runs the library program."""
        from pytest_procsemantics.driven.library import Library

        return Library(self)

    def settle(self, program: Program | None) -> None:
        """Take note of the image that it runs now: that is where the memory of its requests lies."""
        self.program = program
        rooms = program or self.target.greeting
        self._data_address = rooms.data_address + self.slot * rooms.room_size

    def __str__(self) -> str:
        return f"{self.name} {self.pid or ''}".rstrip()

    __repr__ = __str__

    @property
    def tid_seen(self) -> int:
        """Its thread id as the observer sees it; of a thread in another pid namespace its process's id."""
        return self.tid if self.own_pid == self.pid else self.pid

    # --- steps ---

    def ask(
        self,
        kind: int,
        name: str,
        shown: tuple[Any, ...],
        words: Sequence[int],
        *,
        number: int = 0,
        child: int = 0,
        out: int = 0,
        data: bytes | bytearray = b"",
        behind: bytes = b"",
        decode: Callable[[int, bytes], Any] | None = None,
    ) -> Step:
        """Send one request without waiting for its answer; `behind` is a frame that must follow at once."""
        size = len(data) + len(behind)
        if size:
            self.target.make_room(self, size)
        step = self.target.new_step(self, name, shown, decode)
        step.size = size
        head = wire.REQUEST.pack(
            self.slot | (wire.EXECUTES if kind == wire.Request.EXEC or child == self.slot else 0),
            wire.REQUEST_SIZE + len(data) + -len(data) % 8,
            kind,
            step.serial,
            child,
            out,
            number,
            *words,
            *UNUSED[6 - len(words)],
        )
        self.target.send(head + wire.padded(bytes(data)) + behind if data or behind else head)
        return step

    def ask_call(
        self, name: str, number: int, args: tuple[Argument, ...], decode: Decode | None = None
    ) -> Step:
        """Ask for a system call; the common way, and so without detours where all arguments are small numbers."""
        if decode is None and len(args) <= 6:
            target = self.target
            try:
                head = PACKS[len(args)](self.slot, 72, 1, target.serial + 1, 0, 0, number, *args)
            except struct.error:
                pass  # not all of them are numbers
            else:
                step = target.new_step(self, name, args, None)
                target.send(head)
                return step
        if len(args) > 6:
            raise TypeError(f"{name}: at most 6 arguments, got {len(args)}")
        layout = Layout(args, self._data_address)
        value = split(layout.spans, decode) if decode or layout.spans else None
        return self.ask(
            wire.Request.CALL,
            name,
            args,
            layout.words,
            number=number,
            out=layout.out,
            data=layout.data,
            decode=value,
        )

    def gone(self, step: Step) -> Ended:
        """The failure of a step that this process did not live to answer."""
        how = "" if self.status is None else f", {Exit.of_status(self.status)}"
        return Ended(
            f"{self} ended before it answered {step.name}{how}\n{self.target.situation()}", self
        )

    # --- the primitives ---

    def fork(self, name: str = "child") -> Process:
        """Make a child by fork(2); by clone(SIGCHLD) where the machine has no fork."""
        return self.post.fork(name).begin()

    def vfork(self, name: str = "child") -> Process:
        """Make a child by vfork(2); by clone(CLONE_VM|CLONE_VFORK|SIGCHLD) where the machine has no vfork."""
        return self.post.vfork(name).begin()

    def clone(self, flags: int = SIGCHLD, *, name: str = "", **arguments: int) -> Process:
        """Make a child or thread by clone(2).

        Args:
            flags: with the exit signal in the lowest byte.
            name: for the transcript; default child or thread.
            **arguments: stack (its top), parent_tid, child_tid, tls: addresses.
        """
        return self.post.clone(flags, name=name, **arguments).begin()

    def clone3(
        self, flags: int = 0, *, name: str = "", size: int = CLONE_ARGS.size, **fields: int
    ) -> Process:
        """Make a child or thread by clone3(2).

        Args:
            flags: without a signal.
            name: for the transcript.
            size: bytes of struct clone_args that the kernel is told of.
            **fields: pidfd, child_tid, parent_tid, exit_signal (default SIGCHLD, 0 with CLONE_THREAD or CLONE_PARENT),
                stack (lowest byte), stack_size, tls, set_tid, set_tid_size, cgroup.
        """
        return self.post.clone3(flags, name=name, size=size, **fields).begin()

    def thread(self, name: str = "thread") -> Process:
        """Make a thread: clone with the flags of a POSIX thread but for TLS and thread ids."""
        from pytest_procsemantics.driven.constants import (
            CLONE_FILES,
            CLONE_FS,
            CLONE_SIGHAND,
            CLONE_SYSVSEM,
            CLONE_VM,
        )

        flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_SYSVSEM | CLONE_THREAD
        return self.clone(flags, name=name)

    def actual(self, creation: Creation) -> Creation:
        """What is asked of the target for a creation that a check asked for: a lie makes another of it."""
        return creation

    def create(self, creation: Creation, name: str) -> Birth:
        """Ask for a new process, without waiting for it."""
        target = self.target
        flags, actual = creation.flags, self.actual(creation)
        parent = self.parent if flags & (CLONE_PARENT | CLONE_THREAD) else self
        child = target.expect(name or ("thread" if flags & CLONE_THREAD else "child"), parent)
        layout = Layout(actual.args, self._data_address)
        step = child.creation = self.ask(
            wire.Request.CALL,
            creation.primitive,
            creation.args,
            layout.words,
            number=self.sys.number(actual.call),
            child=child.slot,
            out=layout.out,
            data=layout.data,
        )
        return Birth(child, step, bool(flags & CLONE_VFORK))

    def execve(
        self,
        path: Path = AGENT,
        argv: Texts | None = None,
        envp: Texts = (),
    ) -> Process:
        """Replace the image by a program that leads to the agent, and wait for its first word.

        Args:
            path: default AGENT. A program that is no agent is not driven any more: use `run` for it.
            argv: default the path alone.
            envp: "NAME=value" texts.
            Each of the three may be an address in the process instead.

        Returns:
            This process, in its new image.

        Raises:
            CallFailed: the old image is still there and driven.
            Unsupported: the new image is not on the target.
        """
        __tracebackhide__ = True
        return self.begin_image(self.post.execve(path, argv, envp))

    def run(self, path: Path, argv: Texts | None = None, envp: Texts = ()) -> Exit:
        """Replace the image by a program that nobody drives, and wait for its end.

        Returns:
            How the program ended.

        Raises:
            CallFailed: the old image is still there and driven.
            Unsupported: the program did not run on the target.
        """
        __tracebackhide__ = True
        step = self.post.execve(path, argv, envp)
        try:
            self._exec_arrives(step)
        except Ended:
            expect_to_stay(self.target)
            return self.wait_for_exit()
        raise Deviation(f"{self} is still driven after it was to run {path!r}")

    def execveat(
        self,
        dirfd: int,
        path: Path,
        argv: Texts | None = None,
        envp: Texts = (),
        flags: int = 0,
    ) -> Process:
        """As execve, by execveat(2); an empty path with AT_EMPTY_PATH means the file of dirfd."""
        __tracebackhide__ = True
        return self.begin_image(self.post.execveat(dirfd, path, argv, envp, flags))

    def begin_image(self, step: Step) -> Process:
        """Wait for the first word of the image that an exec step leads to."""
        __tracebackhide__ = True
        self._exec_arrives(step)
        expect_to_stay(self.target)
        return self

    def _exec_arrives(self, step: Step) -> None:
        __tracebackhide__ = True
        try:
            step.arrives()
        except CallFailed as error:
            expect_to_tell(self.target, error.errno or 0)
            raise

    def initial(self) -> Initial:
        """What the kernel handed the present image over its first stack: argv, envp, auxv.

        Raises:
            CallFailed, Deviation: the stack pointer leads to nothing of the kind.
        """
        __tracebackhide__ = True
        return read_initial(self)

    def exec_step(
        self,
        call: str,
        path: Path,
        argv: Texts | None,
        envp: Texts,
        dirfd: int = AT_FDCWD,
        flags: int = 0,
    ) -> Step:
        """Ask for an exec with the welcome for the new image behind it."""
        file = self.target.agent_path if call == "execve" and path == AGENT else path
        if argv is None:
            argv = () if isinstance(file, int) else [file]
        addresses, data = image_arguments(self, self._data_address, file, argv, envp)
        words = addresses if call == "execve" else [dirfd, *addresses, flags]
        shown = (file, argv, envp)
        return self.ask(
            wire.Request.EXEC,
            call,
            shown if call == "execve" else (dirfd, *shown, flags),
            words,
            number=self.sys.number(call),
            data=data,
            behind=wire.welcome(self.slot, self.own_pid),
        )

    # --- memory ---

    def allocate(
        self, size: int, *, shared: bool = False, protection: int = PROT_READ | PROT_WRITE
    ) -> int:
        """Map anonymous memory, at least `size` bytes, and give its address; nothing is touched."""
        kind = MAP_SHARED if shared else MAP_PRIVATE
        return int(self.sys.raw("mmap", 0, size, protection, kind | MAP_ANONYMOUS, -1, 0))

    def pages(self, count: int) -> list[int]:
        """Addresses of fresh private pages in a row, of the target's page size; each holds its address."""
        size = self.target.page_size
        start = self.allocate(count * size)
        self.sys.raw("madvise", start, count * size, MADV_NOHUGEPAGE)
        addresses = [start + index * size for index in range(count)]
        for address in addresses:
            self.store(address, address)
        return addresses

    def load(self, address: int) -> int:
        """The 8-byte word at an address, as an unsigned number."""
        return int.from_bytes(self.load_bytes(address, WORD), "little")

    def load_bytes(self, address: int, size: int) -> bytes:
        """Read memory; the kernel does the access, so a bad address gives EFAULT and no signal."""
        limit = wire.PACKET_LIMIT - wire.ANSWER.size
        chunks = [
            self.post.load_bytes(address + at, min(limit, size - at))
            for at in range(0, size, limit)
        ]
        return b"".join(chunk.arrives() for chunk in chunks)

    def store(self, address: int, value: int | bytes) -> None:
        """Write an 8-byte word or bytes; the kernel does the access, so a bad address gives EFAULT and no signal."""
        if isinstance(value, int):
            value = value.to_bytes(WORD, "little")
        for at in range(0, len(value), wire.PACKET_LIMIT):
            self.post.store(address + at, value[at : at + wire.PACKET_LIMIT]).arrives()

    def touch(self, address: int, write: int | None = None) -> int:
        """Read, or write, one byte in user mode: at a bad address the process gets its signal.

        Returns:
            The byte that is there afterwards.
        """
        return int(self.post.touch(address, write).arrives())

    # --- time ---

    def burn(self, seconds: float) -> None:
        """Use the processor until the process's CPU-time clock has advanced by so much."""
        size = 1 << 18  # as much as takes longer than the step that asks for it
        memory = self.allocate(size)
        end = self.sys.clock_gettime(CLOCK_PROCESS_CPUTIME_ID) + seconds
        while self.sys.clock_gettime(CLOCK_PROCESS_CPUTIME_ID) < end:
            self.sys.raw("getrandom", memory, size, 0)

    # --- signals ---

    def count_signals(self, *signals: int, flags: int = 0, mask: Iterable[int] = ()) -> None:
        """Let a handler count these signals; flags and mask as in sigaction(2)."""
        for signal in signals:
            self.sys.rt_sigaction(signal, self.target.counting(flags, mask))

    def count(self, signal: int) -> int:
        """How many of these the handler has counted, in the memory of this process."""
        return self.load(self.target.greeting.counters + WORD * signal)

    # --- the end ---

    def exit(self, code: int = 0) -> None:
        """End the process by exit_group(2), and wait until the hub has seen it. Nobody has reaped it then."""
        self.post.sys.exit_group(code)
        self.target.wait_for_end(self)

    def exit_thread(self, code: int = 0) -> None:
        """End this thread by exit(2), and wait until the hub has seen it."""
        self.post.sys.exit(code)
        self.target.wait_for_end(self)

    def wait_for_exit(self, timeout: float | None = None) -> Exit:
        """Wait until the process has ended, and reap it: its parent does, or the hub where that is its parent.

        Args:
            timeout: seconds; None: the target's.

        Returns:
            How it ended.

        Raises:
            Overdue: not ended in time although the hub answers.
            CallFailed: its parent can't wait for it.

        Source: wait(2), waitid().
        """
        __tracebackhide__ = True
        parent = self.parent
        if parent is None or parent.ended:
            status = self.target.wait_for_end(self, timeout)
            if status is None:
                raise Ended(f"{self} has ended, reaped by nobody whom a test can ask", self)
            return Exit.of_status(status)
        assert self.creation
        pid = self.creation.arrives(timeout) if parent is self.creation.process else self.pid
        info = parent.post.sys.waitid(P_PID, pid, WEXITED | WALL).arrives(timeout)
        if info.code == 1:
            return Exit(info.status)
        return Exit(None, info.status, info.code == 3)
