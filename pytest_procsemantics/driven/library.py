"""`process.lib.NAME(...)`: every function of the target's C library by its name, in a process that runs the library program.

The program is linked to the C library of a compiler on this machine, so only a target that can load it has such
processes. Its loop lives on the stack of whoever runs it: children and threads are made by functions of the library.
"""

from __future__ import annotations

import functools
import os
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_procsemantics.driven import wire
from pytest_procsemantics.driven.call import Out
from pytest_procsemantics.driven.calls import ALIGNMENT, UNUSED, Argument, Layout, split
from pytest_procsemantics.driven.constants import SIGCHLD
from pytest_procsemantics.driven.creation import Birth
from pytest_procsemantics.driven.errors import CallFailed, Unsupported
from pytest_procsemantics.driven.forms.signals import bits
from pytest_procsemantics.driven.process import Process
from pytest_procsemantics.driven.program import AGENT, WORD, Path, Texts

if TYPE_CHECKING:
    from pytest_procsemantics.driven.library_start import Program
    from pytest_procsemantics.driven.step import Step

# What native/frames.h has as struct act and note.
ACT = struct.Struct("<Q3q")
NOTE = struct.Struct("<IIqq")
ACT_ARGUMENTS = 3
HANDLERS = 8
NOTES = 1024

OUTCOME = struct.Struct("<qq")  # what a function gave, and errno; before everything that comes back
MOST_ARGUMENTS = 6
# The results of these are addresses, or numbers as long as one. All others give an int.
LONG = {
    *("dlopen", "fopen", "getenv", "malloc", "opendir", "popen", "pthread_getspecific"),
    *("pthread_self", "readdir", "sem_open", "signal", "sysconf", "thread_local_location"),
    "__errno_location",
}
# These give an error's number, 0 for success; all others -1 with the number in errno.
ERROR_GIVEN = ("posix_spawn", "pthread_", "pidfd_spawn")
NO_ERROR = {"pthread_equal"}
# These lead to a new image.
EXECS = ("execl", "execle", "execlp", "execv", "execve", "execveat", "execvp", "execvpe", "fexecve")
ENDS = ("exit", "_exit", "_Exit", "quick_exit", "abort", "pthread_exit")

# <spawn.h>, <pthread.h>, <dlfcn.h> and <fenv.h>; glibc and musl have the same.
POSIX_SPAWN_RESETIDS = 0x01
POSIX_SPAWN_SETPGROUP = 0x02
POSIX_SPAWN_SETSIGDEF = 0x04
POSIX_SPAWN_SETSIGMASK = 0x08
POSIX_SPAWN_SETSCHEDPARAM = 0x10
POSIX_SPAWN_SETSCHEDULER = 0x20
POSIX_SPAWN_USEVFORK = 0x40
POSIX_SPAWN_SETSID = 0x80
PTHREAD_CREATE_JOINABLE = 0
PTHREAD_CREATE_DETACHED = 1
PTHREAD_INHERIT_SCHED = 0
PTHREAD_EXPLICIT_SCHED = 1
PTHREAD_SCOPE_SYSTEM = 0
PTHREAD_ATTR_NO_SIGMASK_NP = -1
PTHREAD_PROCESS_SHARED = 1
PTHREAD_MUTEX_ROBUST = 1
PTHREAD_CANCEL_DISABLE = 1
PTHREAD_CANCEL_DEFERRED = 0
PTHREAD_CANCEL_ASYNCHRONOUS = 1
PTHREAD_CANCELED = (1 << 64) - 1
RTLD_NOW, RTLD_GLOBAL = 2, 0x100
FE_TONEAREST = 0
FE_UPWARD = {"aarch64": 0x400000, "riscv64": 3, "x86_64": 0x800}
SIGSET = 128  # bytes of a sigset_t

Text = Argument | Sequence[str | bytes]


@dataclass(frozen=True)
class Function:
    """One call of a function as a check asks for it; a list of texts is an array of pointers, the last one null."""

    name: str
    args: tuple[Text, ...]


@dataclass(frozen=True)
class Note:
    """What a handler noted.

    Attributes:
        handler: its number.
        tid: the thread that ran it.
        args: whatever lay where the first two arguments do.
    """

    handler: int
    tid: int
    args: tuple[int, int]


def sigset(*signals: int) -> bytes:
    """A sigset_t of these signals."""
    return bits(signals).to_bytes(SIGSET, "little")


class Library:
    """The functions of one driven process; see the module.

    Arguments are those of `sys`, and lists of texts. A function that fails raises CallFailed, in whichever way it says
    so; with Out arguments the value is (result, bytes, ...). The functions of exec(3) lead to an agent, and the value is
    this process in its new image. `process.lib` waits for each answer, `process.post.lib` gives a Step, or a Birth, at
    once.
    """

    def __init__(self, process: Process, waits: bool = True) -> None:
        self._process = process
        self._waits = waits

    def __repr__(self) -> str:
        return f"library of {self._process}"

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return functools.partial(self.raw, name)

    def raw(self, name: str, *args: Text) -> Any:
        """Call a function as it is.

        Raises:
            CallFailed: with the error that it gave.
            Unsupported: the target's C library has no such function.
        """
        __tracebackhide__ = True
        step = self._call(self.actual(Function(name, args)))
        if not self._waits:
            return step
        if name in EXECS:
            return self._process.begin_image(step)
        if name not in ENDS:
            return step.arrives()
        self._process.target.wait_for_end(self._process)
        return None

    def leave(self, value: int = 0) -> Any:
        """Return from main, or in a thread from its start routine. The end of the process or thread is not awaited."""
        return self._process.ask(
            wire.Request.FUNCTION, "return", (value,), (value,), number=wire.OwnFunction.LEAVE_LOOP
        )

    def pthread_cleanup_push(self, handler: int, value: int = 0) -> Any:
        """Push a clean-up handler, which gets the value. `leave` pops all, and runs none."""
        asked = self.actual(Function("pthread_cleanup_push", (handler, value)))
        words = tuple(arg for arg in asked.args if isinstance(arg, int))
        step = self._process.ask(
            wire.Request.FUNCTION, asked.name, words, words, number=wire.OwnFunction.PUSH_CLEANUP
        )
        return step.arrives() if self._waits else step

    # --- what makes processes and threads ---

    def fork(self, name: str = "child") -> Any:
        """Make a child by fork(3), which runs the handlers of pthread_atfork."""
        return self._twice("fork", name)

    def _Fork(self, name: str = "child") -> Any:
        """Make a child by _Fork(3), which runs no handlers."""
        return self._twice("_Fork", name)

    def vfork(self, name: str = "child") -> Any:
        """Make a child by vfork(3). It may only make steps that end in exec or _exit."""
        return self._twice("vfork", name, is_answer_due=False)

    def raw_clone(self, flags: int = SIGCHLD, name: str = "child") -> Any:
        """Make a child that has a copy of the memory by the system call clone(2), of which the library is not told."""
        number = self._process.sys.number("clone")
        return self._twice("syscall", name, number, flags, 0, 0, 0, 0)

    def daemon(self, nochdir: int = 0, noclose: int = 0, name: str = "daemon") -> Any:
        """Call daemon(3), by which this process ends, and give the one that goes on."""
        return self._twice("daemon", name, nochdir, noclose, is_answer_due=False, parent=None)

    def pthread_create(self, attributes: int = 0, name: str = "thread") -> Any:
        """Make a thread by pthread_create(3); the step that made it gives the thread's handle."""
        thread = self._expect(name, self._process.parent)
        program = self._program
        function = Function(
            "pthread_create", (Out(WORD), attributes, program.begin_thread, thread.slot)
        )
        step = self._call(self.actual(function), lambda given: int.from_bytes(given[1], "little"))
        thread.settle(program)
        return self._born(LibraryBirth(self, thread, step))

    def posix_spawn(
        self,
        path: Path = AGENT,
        argv: Texts | None = None,
        envp: Texts = (),
        *,
        actions: int = 0,
        attributes: int = 0,
        name: str = "child",
    ) -> Any:
        """Make a child by posix_spawn(3) that runs an agent.

        Args:
            path: default AGENT.
            argv: default the path alone.
            envp: "NAME=value" texts. A number is an address.
            actions: address of file actions; 0: none.
            attributes: address of an attributes object; 0: none.
            name: for the transcript.
        """
        return self._spawn("posix_spawn", path, argv, envp, actions, attributes, name)

    def posix_spawnp(
        self,
        path: Path = AGENT,
        argv: Texts | None = None,
        envp: Texts = (),
        *,
        actions: int = 0,
        attributes: int = 0,
        name: str = "child",
    ) -> Any:
        """As posix_spawn; a name without slash is looked for in PATH."""
        return self._spawn("posix_spawnp", path, argv, envp, actions, attributes, name)

    def child_of(self, function: str, *args: Text, name: str = "child") -> Any:
        """Call a function that leads to an agent, such as system("exec AGENT"), and give the process of that agent.

        It comes with its first word, whether or not the function has returned: its `creation` is that step.
        """
        child = self._welcomed(name)
        step = self._call(self.actual(Function(function, args)))
        return self._born(LibraryBirth(self, child, step, is_answer_due=False))

    # --- objects and handlers ---

    def attributes(self, flags: int = 0) -> int:
        """The address of a new attributes object for posix_spawn, with these POSIX_SPAWN_ flags."""
        return self._new("posix_spawnattr_init", flags and ("posix_spawnattr_setflags", flags))

    def actions(self) -> int:
        """The address of a new list of file actions for posix_spawn."""
        return self._new("posix_spawn_file_actions_init", 0)

    def thread_attributes(self) -> int:
        """The address of a new attributes object for pthread_create."""
        return self._new("pthread_attr_init", 0)

    def symbol(self, name: str) -> int:
        """The address of a function or variable of the C library.

        Raises:
            Unsupported: it has none of this name.
        """
        program = self._program
        if name not in program.symbols:
            layout = Layout((Out(OUTCOME.size), name), self._process._data_address)
            step = self._process.ask(
                wire.Request.FUNCTION,
                "dlsym",
                (name,),
                (0, layout.words[1]),
                number=program.lookup,
                out=layout.out,
                data=layout.data,
                decode=lambda _, data: OUTCOME.unpack(data)[0],
            )
            program.symbols[name] = step.arrives()
        if not program.symbols[name]:
            raise Unsupported(f"{name} (not in the target's C library)")
        return program.symbols[name]

    def handler(self, number: int, then: str = "", *args: int) -> int:
        """The address of a handler for atexit, pthread_atfork, signal and so on, which notes each call.

        Args:
            number: 0 to 7.
            then: a function of the C library that it calls when it has noted.
            args: at most three, for that function.
        """
        program = self._program
        if then:
            act = ACT.pack(self.symbol(then), *args, *UNUSED[ACT_ARGUMENTS - len(args)])
            self._process.store(program.acts + number * ACT.size, act)
        return self._process.load(program.handlers + number * WORD)

    def notes(self) -> list[Note]:
        """What handlers have noted, in all processes that come from the same image by fork, in order."""
        start = self._program.notes
        count = min(self._process.load(start), NOTES)
        memory = self._process.load_bytes(start + WORD, count * NOTE.size) if count else b""
        return [
            Note(handler, tid, (first, second))
            for handler, tid, first, second in NOTE.iter_unpack(memory)
        ]

    def noted(self) -> list[int]:
        """The numbers of the handlers that ran, as `notes`."""
        return [note.handler for note in self.notes()]

    # --- within ---

    def actual(self, function: Function) -> Function:
        """What is called for a function that a check asked for: a lie makes another of it."""
        return function

    def born(self, child: Process) -> None:
        """A new process or thread has said its first word: a lie does something to it."""

    @property
    def _program(self) -> Program:
        program = self._process.program
        if program is None:
            raise ValueError(f"{self._process} has no C library: start_library() gives it one")
        return program

    def _new(self, initialise: str, flags: Any) -> int:
        process = self._process
        address = process.allocate(process.target.page_size)
        process.lib.raw(initialise, address)
        if flags:
            process.lib.raw(flags[0], address, flags[1])
        return address

    def _expect(self, name: str, parent: Process | None) -> Process:
        return self._process.target.expect(name, parent)

    def _welcomed(self, name: str) -> Process:
        """A child to be: the next agent that nobody waits for takes its slot."""
        child = self._expect(name, self._process)
        self._process.target.send(wire.welcome(child.slot))
        return child

    def _born(self, birth: LibraryBirth) -> Any:
        return birth.begin() if self._waits else birth

    def _twice(
        self,
        function: str,
        name: str,
        *args: int,
        is_answer_due: bool = True,
        **parent: None,
    ) -> Any:
        child = self._expect(name, parent.get("parent", self._process))
        asked = self.actual(Function(function, args))
        words = tuple(arg for arg in asked.args if isinstance(arg, int))
        number = self.symbol(asked.name)
        step = self._process.ask(
            wire.Request.FUNCTION, function, args, words, number=number, child=child.slot
        )
        child.settle(self._program)
        return self._born(LibraryBirth(self, child, step, is_answer_due))

    def _spawn(
        self,
        function: str,
        path: Path,
        argv: Texts | None,
        envp: Texts,
        actions: int,
        attributes: int,
        name: str,
    ) -> Any:
        file = self._process.target.agent_path if path == AGENT else path
        if argv is None:
            argv = () if isinstance(file, int) else [file]
        child = self._welcomed(name)
        asked = Function(function, (Out(4), file, actions, attributes, argv, envp))
        step = self._call(self.actual(asked), lambda given: int.from_bytes(given[1], "little"))
        return self._born(LibraryBirth(self, child, step))

    def _call(self, function: Function, decode: Callable[[Any], Any] | None = None) -> Step:
        process, name = self._process, function.name
        if len(function.args) > MOST_ARGUMENTS:
            raise TypeError(f"{name}: at most {MOST_ARGUMENTS} arguments")
        number = self.symbol(name)
        layout = _layout(function.args, process._data_address)

        def value(_: int, outs: tuple[bytes, ...]) -> Any:
            if not outs[0]:  # a new image's first word stands for the answer
                return None
            result = self._outcome(name, *OUTCOME.unpack(outs[0]))
            given = (result, *outs[1:]) if outs[1:] else result
            return decode(given) if decode else given

        return process.ask(
            wire.Request.FUNCTION,
            name,
            function.args,
            layout.words[1:],
            number=number,
            child=process.slot if name in EXECS else 0,
            out=layout.out,
            data=layout.data,
            behind=wire.welcome(process.slot, process.own_pid) if name in EXECS else b"",
            decode=split(layout.spans, value),
        )

    def _outcome(self, name: str, result: int, errno: int) -> int:
        """What a function gave, as its type has it.

        Raises:
            CallFailed: it gave an error.
        """
        if name in LONG:
            return result & (1 << 64) - 1
        result = (result & 0xFFFFFFFF ^ 1 << 31) - (1 << 31)
        if name in NO_ERROR:
            return result
        if name.startswith(ERROR_GIVEN):
            errno = result
        elif result != -1:
            return result
        if errno:
            raise CallFailed(errno, self._process, name)
        return result


class LibraryBirth(Birth):
    """A process or thread that was asked for by a function."""

    def __init__(
        self, library: Library, child: Process, step: Step, is_answer_due: bool = True
    ) -> None:
        super().__init__(child, step, suspends=not is_answer_due)
        self.library = library
        child.creation = step

    def begin(self) -> Process:
        """As Birth.begin; what the function's value says counts as well as the first word."""
        __tracebackhide__ = True
        child, target = self.child, self.child.target
        is_daemon = self.step.name == "daemon"
        if is_daemon:
            target.wait_for_first_word(child, self.step)
        if not self.suspends or (is_daemon and not child.pid):
            try:
                self.step.arrives()
            except CallFailed:
                child.ended = True  # and its welcome must greet nobody else
                target.free_slot(child.slot)
                raise
        if not is_daemon:
            target.wait_for_birth(self)
        self.library.born(child)
        return child


def _layout(args: Sequence[Text], address: int) -> Layout:
    """Where a function's memory lies: its outcome, what comes back, what goes down, arrays of pointers."""
    plain: list[Argument] = [Out(OUTCOME.size)]
    plain += [0 if isinstance(arg, list | tuple) else arg for arg in args]  # type: ignore[misc]  # mypy takes bytes for a list of texts
    layout = Layout(plain, address)
    data = layout.data
    for index, texts in enumerate(args, 1):
        if not isinstance(texts, list | tuple):
            continue
        layout.words[index] = address + len(data)
        at = layout.words[index] + WORD * (len(texts) + 1)
        strings = b""
        for text in texts:
            data += (at + len(strings)).to_bytes(WORD, "little")
            strings += os.fsencode(text) + b"\0"
        data += bytes(WORD) + strings
        data += bytes(-len(data) % ALIGNMENT)
    if len(data) > wire.MAX_DATA:
        raise ValueError(f"the arguments take {len(data)} bytes, at most {wire.MAX_DATA} go along")
    return layout
