"""New programs in a child's place: by fork and execve, or by posix_spawn."""

from __future__ import annotations

import dataclasses
import gc
import os
import select
import signal
import sys
import time
from _thread import _count, get_ident
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from errno import ENOENT
from os import _exit, getpid
from typing import Any, NoReturn, TypeVar

from pytest_procsemantics.spawners import hang, streams, way_back
from pytest_procsemantics.spawners.child import NO_FILE, UNWATCHED, Child
from pytest_procsemantics.spawners.fork import fork
from pytest_procsemantics.spawners.passing import Descriptor, Passing
from pytest_procsemantics.spawners.spawner import Spawner
from pytest_procsemantics.spawners.task import Program, Task

T = TypeVar("T")

IN, OUT, ERR = 0, streams.OUT, streams.ERR
NOT_STARTED = 127  # exit status of a child that could not become the program
# Python ignores these, and a program would go on to; it can't know why its pipes never break.
RESTORED = (signal.SIGPIPE, signal.SIGXFSZ)
LOOK = 0.1  # seconds between two looks whether the program has begun, where the pipe does not tell
# The steps that can fail in the child.
FDS, CWD, PROGRAM = "fds", "cwd", "program"
START_UP = "start-up"  # the phase of an interpreter that has not come to its function


class ProgramChild(Child[T]):
    """A child that is a new program: the result of a function, or the standard output of a program that ended well."""

    __slots__ = ("_has_begun", "_is_function")

    def __init__(self, *args: Any, has_begun: bool, is_function: bool, **kwargs: Any) -> None:
        self._has_begun = has_begun
        self._is_function = is_function
        super().__init__(*args, **kwargs)

    @property
    def name(self) -> str:
        """What it runs: program, or module:function."""
        return str(self._call)

    def _phase(self, phase: str) -> str:
        if self._has_begun and phase == way_back.FORK_HOOKS:
            return START_UP if self._is_function else PROGRAM
        return phase

    def _facts(self) -> hang.Facts:
        facts = super()._facts()
        if not self._has_begun:
            return facts
        # Nothing in its memory is from the parent, no lock either.
        return dataclasses.replace(facts, phase=self._phase(facts.phase), is_locked=False)

    def _found(self) -> Any:
        __tracebackhide__ = True
        if self.status == 0 and not self._is_function and not self._is_late:
            return self.stdout
        return super()._found()


@dataclass(frozen=True, slots=True)
class Start:
    """All that it takes to start one program.

    Attributes:
        task: what it is.
        folder: its current folder; None: this process's.
        passing: its descriptors.
        back: descriptor of the way back.
        limit: its deadline, on the monotonic clock.
        listened: the signal at which it writes its stacks as long as it is a copy of this process.
    """

    task: Task
    folder: str | os.PathLike[str] | None
    passing: Passing
    back: int
    limit: float
    listened: int | None

    def become(self, writer: int) -> NoReturn:
        """In a copy of this process: become the program, or say which step failed."""
        step = ""
        try:
            gc.freeze()
            for number in RESTORED:
                signal.signal(number, signal.SIG_DFL)
            step = FDS
            for pair in self.passing.pairs:
                os.dup2(*pair)
            if self.folder is not None:
                step = CWD
                os.chdir(self.folder)
            step = PROGRAM
            os.execve(self.task.path, self.task.words, self.task.environment)
        except OSError as error:
            os.write(writer, f"{step} {error.errno}".encode())
        finally:
            _exit(NOT_STARTED)

    def failure(self, primitive: str, number: int, step: str = PROGRAM) -> OSError:
        """The error for a step that failed."""
        text, name = os.strerror(number), self.task.name
        if step == CWD:
            text, name = f"cwd: {text}", os.fspath(self.folder or "")
        elif step == FDS:
            text = f"fds: {text}"
        elif number == ENOENT and os.path.exists(
            os.path.join(os.fsencode(self.folder or ""), self.task.path)
        ):
            text = f"the interpreter that it names: {text}"
        return OSError(number, f"{primitive}: {text}", name)


class Programs(Spawner):
    """What the spawners of new programs share."""

    def __call__(
        self,
        program: Program,
        /,
        *args: Any,
        stdin: Descriptor | bytes | None = None,
        stdout: Descriptor | None = None,
        stderr: Descriptor | None = None,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        fds: Mapping[int, Descriptor] | None = None,
        timeout: float | None = None,
        capture: bool = True,
        **kwargs: Any,
    ) -> ProgramChild[Any]:
        """Start a program with arguments, or call a function in a fresh interpreter with the same sys.path.

        Args:
            program: a path, or a name to look for in PATH; "package.module:function", or a function that can be imported.
            args: the program's arguments; the function's, which are pickled.
            stdin: a descriptor, or what the program shall read; None: this process's.
            stdout, stderr: descriptors; None: captured.
            cwd: the current folder; None: this process's.
            env: the environment, all of it; None: this process's.
            fds: further descriptors, by the number that they have there.
            timeout: seconds from now to the child's deadline; None: the spawner's.
            capture: keep what goes to descriptors 1 and 2 for `stdout` and `stderr`; else it goes where this process's
                own descriptors go.
            kwargs: the function's.

        Raises:
            OSError: the errno of the step that failed, with its name, or that of the program.
            TypeError, ValueError: what can't be given to a new program.
        """
        seconds = self._seconds(timeout)
        task = Task.of(self.primitive, program, args, kwargs, env)
        pid, kept = -1, [NO_FILE] * 3
        with Passing(self.primitive, fds or {}) as passing:
            try:
                self._pass(passing, kept, stdin, (stdout, stderr), capture)
                file = way_back.new_file("way-back")
                try:
                    # The same number on both sides: by it the child finds the file again if it closed it.
                    kept[0] = passing.above(file)
                    if task.payload is not None:
                        passing.give("the way back", file, kept[0])
                        numbers = passing.give_bytes("way-in", task.payload), kept[0], getpid()
                        task.words.extend(b"%d" % one for one in (*numbers, self._listened or 0))
                finally:
                    os.close(file)
                streams.flush_all()
                beside = hang.Beside.of_now() if _count() else None
                begin = time.monotonic()
                start = Start(task, cwd, passing, kept[0], begin + seconds, self._listened)
                pid, has_begun = self._make(start)
                if has_begun and task.payload is None:
                    os.close(kept[0])
                    kept[0] = NO_FILE
                child: ProgramChild[Any] = ProgramChild(
                    pid,
                    self.primitive,
                    task.name,
                    begin,
                    seconds,
                    self._children,
                    *kept,
                    beside,
                    self._table,
                    has_begun=has_begun,
                    is_function=task.payload is not None,
                )
            except BaseException:
                self._give_up(pid, kept)
                raise
        return child

    def _pass(
        self,
        passing: Passing,
        kept: list[int],
        stdin: Descriptor | bytes | None,
        outputs: tuple[Descriptor | None, Descriptor | None],
        capture: bool,
    ) -> None:
        """Pass the first three descriptors on; note the files that are captured in."""
        if isinstance(stdin, bytes):
            passing.give_bytes("stdin", stdin, IN)
        elif stdin is not None:
            passing.give("stdin", stdin, IN)
        for number, name, descriptor in zip((OUT, ERR), ("stdout", "stderr"), outputs, strict=True):
            if descriptor is not None:
                passing.give(name, descriptor, number)
            elif capture:
                kept[number] = way_back.new_file(name)
                passing.give(name, kept[number], number)

    def _make(self, start: Start) -> tuple[int, bool]:
        """Start the program.

        Returns:
            The child's pid, and whether it is the program already: at its deadline it may still be on its way.
        """
        raise NotImplementedError


class Exec(Programs):
    """New programs by fork and execve(2); the child does nothing between them but what the arguments say."""

    primitive = "exec"

    def _make(self, start: Start) -> tuple[int, bool]:
        pid, home = -1, getpid()
        reader, low = os.pipe()
        try:
            try:
                writer = start.passing.above(low)
            finally:
                os.close(low)
            # The hooks of a fork may hang, and swallow what signal handlers raise.
            if start.listened is not None:
                hang.listen(start.listened, start.back)
            is_main, raised = get_ident() == self._main, self._raised
            try:
                if is_main:
                    raised.usual, sys.unraisablehook = sys.unraisablehook, raised.hook
                pid = fork()
                if not pid:
                    start.become(writer)
            finally:
                if not pid or getpid() != home:
                    _exit(NOT_STARTED)
                os.close(writer)
                self._listen_no_more(is_main)
            if raised.errors:
                raise raised.errors.pop()
            with self._watched(pid, start.limit):
                word = _word(reader, pid, writer, start.limit)
        except BaseException as error:
            if pid > 0:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            elif isinstance(error, OSError):
                raise start.failure(self.primitive, error.errno or 0) from None
            raise
        finally:
            os.close(reader)
        if word:
            os.waitpid(pid, 0)
            step, number = word.split()
            raise start.failure(self.primitive, int(number), step.decode())
        return pid, word is not None

    @contextmanager
    def _watched(self, pid: int, limit: float) -> Iterator[None]:
        """Have a child watched already on its way to the program, for it may hang there."""
        slot = UNWATCHED if self._table is None else self._table.note(pid, limit)
        try:
            yield
        finally:
            if slot != UNWATCHED and self._table is not None:
                self._table.drop(slot)


class PosixSpawn(Programs):
    """New programs by posix_spawn(3): nothing of Python runs in the child, no fork hook either."""

    primitive = "posix_spawn"

    def _make(self, start: Start) -> tuple[int, bool]:
        if start.folder is not None:
            raise ValueError(
                "posix_spawn: os.posix_spawn can't set cwd; a program can be started by env -C, and exec can"
            )
        actions = [(os.POSIX_SPAWN_DUP2, *pair) for pair in start.passing.pairs]
        task = start.task
        try:
            pid = os.posix_spawn(
                task.path, task.words, task.environment, file_actions=actions, setsigdef=RESTORED
            )
        except OSError as error:
            raise start.failure(self.primitive, error.errno or 0) from None
        return pid, True


def _word(reader: int, pid: int, writer: int, limit: float) -> bytes | None:
    """What a child says of a step that failed.

    Args:
        reader: the end of a pipe, whose other end execve closes.
        pid: the child.
        writer: number of the other end there.
        limit: when to wait no longer, on the monotonic clock.

    Returns:
        Nothing when it is the program now, None if it is not yet.
    """
    waiting = select.poll()
    waiting.register(reader, select.POLLIN)
    while (left := limit - time.monotonic()) > 0:
        # A fork in another thread may have a copy of the other end, and keep it open.
        is_closed = sys.platform == "linux" and not os.path.lexists(f"/proc/{pid}/fd/{writer}")
        if waiting.poll(min(left, LOOK) * 1000):
            return os.read(reader, 100)
        if is_closed:
            return b""
    return None
