"""The generic lies of `--procsem-matrix`: each is told to every check of its primitives.

They are there to be noticed by some check and not by each: a check is about one fact. A lie is told only where the
kernel takes what it makes of a call; a call that is refused for it would be noticed by all.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from pytest_procsemantics.catalogue import Clause
from pytest_procsemantics.driven.constants import (
    CLONE_CHILD_CLEARTID,
    CLONE_CHILD_SETTID,
    CLONE_CLEAR_SIGHAND,
    CLONE_FILES,
    CLONE_FS,
    CLONE_IO,
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    CLONE_PARENT,
    CLONE_PARENT_SETTID,
    CLONE_PIDFD,
    CLONE_PTRACE,
    CLONE_SETTLS,
    CLONE_SIGHAND,
    CLONE_SYSVSEM,
    CLONE_THREAD,
    CLONE_UNTRACED,
    CLONE_VFORK,
    CLONE_VM,
    CLOSE_RANGE_CLOEXEC,
    EXFULL,
    MADV_DONTNEED,
    P_ALL,
    SIG_IGN,
    SIG_SETMASK,
    SIGCHLD,
    SIGKILL,
    WEXITED,
    WNOHANG,
    WNOWAIT,
    flag_names,
)
from pytest_procsemantics.driven.constants.names import EXIT_SIGNAL
from pytest_procsemantics.driven.creation import Birth, Creation
from pytest_procsemantics.driven.errors import CallFailed
from pytest_procsemantics.driven.posted import CLONE_ARGS
from pytest_procsemantics.driven.process import Process
from pytest_procsemantics.driven.step import Step
from pytest_procsemantics.lies import generic, library
from pytest_procsemantics.lies.generic import CLONE3_FIELDS, Liar, Lie, allocations

# The primitive of a page; of any other page it is told by its clauses.
PAGES = {
    "fork.2": "fork",
    "posix.fork": "fork",
    "vfork.2": "vfork",
    "clone.2": "clone",
    "execve.2": "exec",
    "execveat.2": "exec",
    "exit": "exit",
    "atexit.3": "exit",
    "on_exit.3": "exit",
    "wait.2": "wait",
    "wait4.2": "wait",
    "posix_spawn.3": "posix_spawn",
    "system.3": "posix_spawn",
    **dict.fromkeys(
        (f"pthread_{page}.3" for page in ("atfork", "create", "detach", "exit", "join")), "pthread"
    ),
}
PRIMITIVES = {
    "clone3": "clone",
    "execve": "exec",
    "execveat": "exec",
    "pthread_create": "pthread",
}
NAMESPACES = (
    CLONE_NEWCGROUP
    | CLONE_NEWIPC
    | CLONE_NEWNET
    | CLONE_NEWNS
    | CLONE_NEWPID
    | CLONE_NEWUSER
    | CLONE_NEWUTS
)
EVERY_SIGNAL = range(1, 65)
LAST_FD = (1 << 32) - 1


@dataclass(frozen=True)
class GenericLie(Lie):
    """A lie that is told to every check of its primitives.

    Attributes:
        primitives: fork, vfork, clone (clone3 too), exec, exit, wait, posix_spawn, pthread.
        kinds: it is told only to checks of clauses of these kinds; empty: to all.
    """

    primitives: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()

    def is_for(self, clauses: Iterable[Clause]) -> bool:
        """Whether it is told to a check that proves these clauses."""
        return any(
            not primitives_of(clause).isdisjoint(self.primitives)
            and (not self.kinds or clause.kind in self.kinds)
            for clause in clauses
        )


def primitives_of(clause: Clause) -> set[str]:
    """The primitives that a clause is about, as generic lies have them."""
    if clause.page in PAGES:
        return {PAGES[clause.page]}
    return {PRIMITIVES.get(one, one) for one in clause.primitives}


def _of(primitives: str, lie: Lie, *kinds: str) -> GenericLie:
    # Where it hangs is not known before: every wait is short.
    return GenericLie(lie.name, lie.process_class, True, tuple(primitives.split()), kinds)


# --- creations ---


def is_legal(flags: int) -> bool:
    """Whether clone takes such a set of flags (clone(2), ERRORS)."""
    broken_rules = (
        flags & CLONE_THREAD and not flags & CLONE_SIGHAND,
        flags & CLONE_SIGHAND and not flags & CLONE_VM,
        flags & CLONE_SIGHAND and flags & CLONE_CLEAR_SIGHAND,
        flags & CLONE_FS and flags & (CLONE_NEWNS | CLONE_NEWUSER),
        flags & CLONE_SYSVSEM and flags & CLONE_NEWIPC,
        flags & (CLONE_PARENT | CLONE_THREAD) and flags & (CLONE_NEWPID | CLONE_NEWUSER),
    )
    return not any(broken_rules)


def _flagged(creation: Creation, flags: int) -> Creation:
    """Whatever makes the process, it is made with other flags, by clone3 where clone has no such flag."""
    call, args = creation.call, creation.args
    if call in ("fork", "vfork"):
        call, args = "clone", (creation.flags, 0, 0, 0, 0)
    if call == "clone" and flags & CLONE_CLEAR_SIGHAND:
        if any(args[1:]):
            return creation
        fields = (0, 0, 0, flags & EXIT_SIGNAL, *[0] * 6)
        structure = CLONE_ARGS.pack(flags & ~EXIT_SIGNAL, *fields)
        return Creation(creation.primitive, "clone3", (structure, CLONE_ARGS.size), flags)
    changed = generic.with_flags(replace(creation, call=call, args=args), flags)
    if call == "clone3" and flags & (CLONE_PARENT | CLONE_THREAD):
        return _with_field(changed, "exit_signal", 0)
    return changed


def _with_field(creation: Creation, field: str, value: int) -> Creation:
    structure, size = creation.args
    if not isinstance(structure, bytes):
        return creation
    changed = bytearray(structure)
    struct.pack_into("<Q", changed, 8 * CLONE3_FIELDS.index(field), value)
    return replace(creation, args=(bytes(changed), size))


def _making(name: str, change: Callable[[Creation], Creation]) -> Lie:
    class Lying(Liar):
        def actual(self, creation: Creation) -> Creation:
            changed = change(creation)
            if changed != creation:
                self.tell()
            return changed

    return Lie(name, Lying)


def _toggles(flag: int) -> Lie:
    def change(creation: Creation) -> Creation:
        flags = creation.flags ^ flag
        return _flagged(creation, flags) if is_legal(flags) else creation

    return _making(f"every creation toggles {flag_names(flag, 'CLONE_')}", change)


def _drops(flags: int, name: str = "") -> Lie:
    def change(creation: Creation) -> Creation:
        left = creation.flags & ~flags
        is_told = left != creation.flags and is_legal(left)
        return _flagged(creation, left) if is_told else creation

    return _making(f"every creation drops {name or flag_names(flags, 'CLONE_')}", change)


def _without_signal(creation: Creation) -> Creation:
    if creation.call == "clone3":
        return _with_field(creation, "exit_signal", 0)
    return _flagged(creation, creation.flags & ~EXIT_SIGNAL)


class _OtherNumber(Liar):
    def create(self, creation: Creation, name: str) -> Birth:
        birth = super().create(creation, name)
        self.tell()
        birth.step.decode = lambda result, data: result + 1
        return birth


# --- what somebody does unasked ---


def _closes_all(process: Process) -> None:
    process.sys.close_range(0, LAST_FD)


def _blocks_all(process: Process) -> None:
    process.sys.rt_sigprocmask(SIG_SETMASK, EVERY_SIGNAL)


def _clears_memory(child: Process) -> None:
    for start, size in allocations(child):
        child.sys.madvise(start, size, MADV_DONTNEED)


# --- calls ---


def _asks(
    name: str, calls: str, change: Callable[[Process, str, tuple[Any, ...]], tuple[str, Any]]
) -> Lie:
    """These system calls are others, or have other arguments: (process, call, arguments) -> call, arguments."""

    class Lying(Liar):
        def ask_call(self, name: str, number: int, args: Any, decode: Any = None) -> Step:
            if name in calls.split():
                actual, given = change(self, name, args)
                if (actual, given) != (name, args):
                    self.tell()
                    number, args = self.sys.number(actual), given
            return super().ask_call(name, number, args, decode)

    return Lie(name, Lying)


def _with_options(
    change: Callable[[int], int], least: int = 0
) -> Callable[[Process, str, Any], Any]:
    """Other options for wait4 and waitid; `least`: those without which waitid is refused."""

    def changed(_: Process, call: str, args: Any) -> tuple[str, Any]:
        index = 3 if call == "waitid" else 2
        options = change(args[index]) | (least if call == "waitid" else 0)
        return call, (*args[:index], options, *args[index + 1 :])

    return changed


def _any_child(_: Process, call: str, args: Any) -> tuple[str, Any]:
    return call, ((P_ALL, *args[1:]) if call == "waitid" else (-1, *args[1:]))


# --- refusals ---


class _Refused(Step):
    """A step whose errno is another."""

    __slots__ = ()

    def arrives(self, timeout: float | None = None) -> Any:
        try:
            return super().arrives(timeout)
        except CallFailed as failure:
            assert isinstance(self.process, Liar)
            self.process.tell()
            raise CallFailed(EXFULL, self.process, failure.call) from None


class _RefusesOtherwise(Liar):
    def ask(self, kind: int, name: str, *args: Any, **kwargs: Any) -> Step:
        step = super().ask(kind, name, *args, **kwargs)
        if name.startswith(("fork", "vfork", "clone", "exec", "wait", "posix_spawn", "pthread_")):
            step.__class__ = _Refused
        return step


# --- the registry ---

CHILDREN = "fork vfork clone"
COPIES = "fork vfork"

GENERIC_LIES: tuple[GenericLie, ...] = (
    _of(CHILDREN, _toggles(CLONE_VM)),
    _of(CHILDREN, _toggles(CLONE_FILES)),
    _of(CHILDREN, _toggles(CLONE_FS)),
    _of(CHILDREN + " wait", _toggles(CLONE_PARENT)),
    _of("fork clone", _toggles(CLONE_SYSVSEM)),
    _of("fork clone", _toggles(CLONE_IO)),
    _of(CHILDREN, _toggles(CLONE_CLEAR_SIGHAND)),
    _of("vfork clone", _drops(CLONE_VFORK)),
    _of("vfork clone", _drops(CLONE_VM | CLONE_VFORK)),
    _of("clone", _drops(CLONE_SIGHAND)),
    _of("clone", _drops(CLONE_THREAD)),
    _of("clone", _drops(CLONE_SETTLS)),
    _of("clone", _drops(CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID)),
    _of("clone", _drops(CLONE_PIDFD)),
    _of("clone", _drops(CLONE_PTRACE | CLONE_UNTRACED)),
    _of("clone", _drops(NAMESPACES, "new namespaces")),
    _of(CHILDREN + " wait", _making("no child has a signal for its end", _without_signal)),
    _of(CHILDREN, generic.in_child("every child has no descriptors", _closes_all)),
    _of(COPIES, generic.in_child("every child has umask 0", lambda child: child.sys.umask(0))),
    _of(COPIES, generic.in_child("every child is at the root", lambda child: child.sys.chdir("/"))),
    _of(CHILDREN, generic.in_child("every child blocks all signals", _blocks_all)),
    _of(COPIES, generic.in_child("every child leads a session", lambda child: child.sys.setsid())),
    _of(COPIES, generic.in_child("every child has an alarm", lambda child: child.sys.alarm(1000))),
    _of("fork", generic.in_child("every child's memory is cleared", _clears_memory)),
    _of(CHILDREN, Lie("every maker gets another number", _OtherNumber), "return"),
    _of("exec", generic.EXEC_DOES_NOTHING),
    _of("exec", generic.EXEC_IN_A_CHILD),
    _of(
        "exec",
        generic.exec_given(
            "exec gets an argument more",
            lambda path, argv, envp: (
                (path, argv, envp) if isinstance(argv, int) else (path, [*argv, "more"], envp)
            ),
        ),
    ),
    _of(
        "exec",
        generic.exec_given(
            "exec gets another environment", lambda path, argv, envp: (path, argv, ["OTHER=1"])
        ),
    ),
    _of(
        "exec",
        generic.before_exec(
            "exec closes every descriptor",
            lambda process: process.sys.close_range(3, LAST_FD, CLOSE_RANGE_CLOEXEC),
        ),
    ),
    _of("exec", generic.EXEC_CLOSES_NOTHING),
    _of("exec", generic.in_image("exec resets the umask", lambda image: image.sys.umask(0))),
    _of("exec", generic.in_image("exec begins at the root", lambda image: image.sys.chdir("/"))),
    _of("exec", generic.in_image("exec blocks all signals", _blocks_all)),
    _of(
        "exit wait",
        _asks(
            "every exit has another code",
            "exit exit_group",
            lambda _, call, args: (call, (args[0] ^ 1,)),
        ),
    ),
    _of("exit", _asks("exit is exit_group", "exit", lambda _, call, args: ("exit_group", args))),
    _of("exit", _asks("exit_group is exit", "exit_group", lambda _, call, args: ("exit", args))),
    _of(
        "exit wait",
        _asks(
            "exit_group is SIGKILL",
            "exit_group",
            lambda process, call, args: ("kill", (process.own_pid, SIGKILL)),
        ),
    ),
    _of("exit", library.function_becomes("exit", "_exit")),
    _of("exit pthread", library.HANDLERS_SWAPPED),
    _of("wait", _asks("no wait waits", "wait4 waitid", _with_options(lambda one: one | WNOHANG))),
    _of(
        "wait",
        _asks("waits have no options", "wait4 waitid", _with_options(lambda _: 0, least=WEXITED)),
    ),
    _of(
        "wait",
        _asks("waitid leaves every child", "waitid", _with_options(lambda one: one | WNOWAIT)),
    ),
    _of("wait", _asks("every wait takes any child", "wait4 waitid", _any_child)),
    _of(
        "wait",
        generic.in_maker(
            "ended children vanish", lambda maker: maker.sys.rt_sigaction(SIGCHLD, SIG_IGN)
        ),
    ),
    _of("posix_spawn", library.function_given("posix_spawn has no actions", "posix_spawn", 2, 0)),
    _of(
        "posix_spawn", library.function_given("posix_spawn has no attributes", "posix_spawn", 3, 0)
    ),
    _of(
        "posix_spawn",
        library.function_given(
            "posix_spawn gets another environment", "posix_spawn", 5, ["OTHER=1"]
        ),
    ),
    _of("posix_spawn", library.in_library_child("every new image has no descriptors", _closes_all)),
    _of(
        "posix_spawn pthread",
        library.in_library_child("every new process or thread blocks all signals", _blocks_all),
    ),
    _of("pthread", library.THREAD_IS_A_CHILD),
    _of("pthread", library.function_becomes("pthread_exit", "exit")),
    _of("pthread", library.function_does_nothing("pthread_join")),
    _of("pthread", library.function_does_nothing("pthread_detach")),
    _of(
        f"{CHILDREN} exec wait posix_spawn pthread",
        Lie("what is refused gives another errno", _RefusesOtherwise),
        "refuse",
    ),
)


def lies_for(clauses: Iterable[Clause]) -> list[GenericLie]:
    """The generic lies for a check that proves these clauses, in the registry's order."""
    proved = tuple(clauses)
    return [lie for lie in GENERIC_LIES if lie.is_for(proved)]
