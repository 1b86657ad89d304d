"""The lies that many checks share, and the decorator that says which ones a check notices.

@clause("clone.2/files-close-affects-other")
@lie(drops(CLONE_FILES))
def test_...
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import pytest

from pytest_procsemantics.driven.constants import F_SETFD, SIG_IGN, SIGCHLD, flag_names
from pytest_procsemantics.driven.creation import Birth, Creation
from pytest_procsemantics.driven.errors import CallFailed, Deviation
from pytest_procsemantics.driven.process import Process
from pytest_procsemantics.driven.step import Step

MARKER = "procsem_lie"
# The 8-byte words of clone3's structure, in their order (clone(2)).
CLONE3_FIELDS = (
    *("flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack", "stack_size", "tls"),
    *("set_tid", "set_tid_size", "cgroup"),
)
LOW_FDS = range(3, 64)  # where checks have theirs
Check = TypeVar("Check", bound=Callable[..., Any])


class Liar(Process):
    """A process that does otherwise.

    Attributes:
        tellings: how often it has. Of a lie that was never told it means nothing that a check did not notice it.
    """

    tellings = 0

    def tell(self) -> None:
        """Note that the lie is told now."""
        type(self).tellings += 1

    def does(self, act: Callable[[Process], object], process: Process) -> None:
        """Let a process do what the check did not ask for.

        Raises:
            NotTold: it could not; a failure of the lie's own step is nothing that the check noticed.
        """
        self.tell()
        try:
            act(process)
        except (CallFailed, Deviation) as failure:
            raise NotTold(f"the lie's own step failed: {failure}") from failure


class NotTold(Exception):
    """A lie could not be told: no verdict on the check is possible."""


@dataclass(frozen=True)
class Lie:
    """One planned deviation.

    Attributes:
        name: what happens instead, in a few words.
        process_class: what the target makes its processes of while the lie is told; only a Liar says whether it was.
        hangs: the check notices it by a wait that runs out, so that wait may be short.
    """

    name: str
    process_class: type[Process]
    hangs: bool = False


def lie(*lies: Lie) -> Callable[[Check], Check]:
    """Say which lies a check notices; `--procsem-prove` tells each of them."""
    return getattr(pytest.mark, MARKER)(*lies)  # type: ignore[no-any-return]


def with_flags(creation: Creation, flags: int) -> Creation:
    """The same creation with other flags; fork and vfork have none."""
    first, *rest = creation.args or (0,)
    if creation.call == "clone":
        return replace(creation, args=(flags, *rest), flags=flags)
    if creation.call == "clone3" and isinstance(first, bytes):
        return replace(creation, args=(struct.pack("<Q", flags) + first[8:], *rest), flags=flags)
    return creation


def _creating(name: str, change: Callable[[Creation], Creation], hangs: bool = False) -> Lie:
    class Lying(Liar):
        def actual(self, creation: Creation) -> Creation:
            changed = change(creation)
            if changed != creation:
                self.tell()
            return changed

    return Lie(name, Lying, hangs)


def drops(flag: int, hangs: bool = False) -> Lie:
    """clone and clone3 do as if the flag were not there."""
    name = f"drops {flag_names(flag, 'CLONE_')}"
    return _creating(name, lambda creation: with_flags(creation, creation.flags & ~flag), hangs)


def adds(flag: int, hangs: bool = False) -> Lie:
    """clone and clone3 do as if the flag were there."""
    name = f"adds {flag_names(flag, 'CLONE_')}"
    return _creating(name, lambda creation: with_flags(creation, creation.flags | flag), hangs)


def toggles(flag: int) -> Lie:
    """clone and clone3 do as if the flag were there just where it is not."""
    name = f"toggles {flag_names(flag, 'CLONE_')}"
    return _creating(name, lambda creation: with_flags(creation, creation.flags ^ flag))


def becomes(flag: int, other: int) -> Lie:
    """clone and clone3 take one flag for another."""

    def change(creation: Creation) -> Creation:
        if not creation.flags & flag:
            return creation
        return with_flags(creation, creation.flags & ~flag | other)

    return _creating(f"{flag_names(flag, 'CLONE_')} is {flag_names(other, 'CLONE_')}", change)


def clone_given(name: str, index: int, value: int) -> Lie:
    """clone gets another raw argument, counted from 0, which are the flags."""

    def change(creation: Creation) -> Creation:
        if creation.call != "clone":
            return creation
        args = (*creation.args[:index], value, *creation.args[index + 1 :])
        return replace(creation, args=args)

    return _creating(name, change)


def clone3_given(name: str, *, size: int | None = None, **fields: int) -> Lie:
    """clone3 gets other values in these fields of its structure, or is told another size of it."""

    def change(creation: Creation) -> Creation:
        if creation.call != "clone3":
            return creation
        given, told = creation.args
        if isinstance(given, bytes):
            structure = bytearray(given)
            for field, value in fields.items():
                struct.pack_into("<Q", structure, 8 * CLONE3_FIELDS.index(field), value)
            given = bytes(structure)
        return replace(creation, args=(given, told if size is None else size))

    return _creating(name, change)


def instead(primitive: str, flags: int) -> Lie:
    """`primitive` does what clone does with other flags."""

    def change(creation: Creation) -> Creation:
        if creation.primitive != primitive:
            return creation
        return Creation(primitive, "clone", (flags, 0, 0, 0, 0), flags)

    return _creating(f"{primitive} is clone({flag_names(flags, 'CLONE_')})", change)


def every_child(flags: int) -> Lie:
    """Whatever makes a child or thread does what clone does with these flags."""

    def change(creation: Creation) -> Creation:
        return Creation(creation.primitive, "clone", (flags, 0, 0, 0, 0), flags)

    return _creating(f"every child is made by clone({flag_names(flags, 'CLONE_')})", change)


def in_child(name: str, act: Callable[[Process], object], hangs: bool = False) -> Lie:
    """Every new process does something before the check gets it."""

    class LyingBirth(Birth):
        def begin(self) -> Process:
            child = super().begin()
            maker = self.step.process
            assert isinstance(maker, Liar)
            maker.does(act, child)
            return child

    class Lying(Liar):
        def create(self, creation: Creation, name: str) -> Birth:
            birth = super().create(creation, name)
            return LyingBirth(birth.child, birth.step, birth.suspends)

    return Lie(name, Lying, hangs)


def misreports(primitive: str) -> Lie:
    """The maker is given another number than the new process's."""

    class Lying(Liar):
        def create(self, creation: Creation, name: str) -> Birth:
            birth = super().create(creation, name)
            if creation.primitive == primitive:
                self.tell()
                birth.step.decode = lambda result, data: result + 1
            return birth

    return Lie(f"{primitive} gives another number", Lying)


def allocations(process: Process) -> list[tuple[int, int]]:
    """Address and size of each mapping that a process of this test has made, for lies about memory."""
    steps = [event for event in process.target.transcript.events if isinstance(event, Step)]
    return [
        (step.result, step.args[1]) for step in steps if step.name == "mmap" and step.result > 0
    ]


def opened(child: Process, by: str = "openat") -> list[int]:
    """The descriptors that a process's maker got from a system call, for lies about them."""
    maker = child.creation.process if child.creation else child
    steps = [event for event in child.target.transcript.events if isinstance(event, Step)]
    mine = [step for step in steps if step.name == by and step.process is maker]
    return list(dict.fromkeys(step.result for step in mine))


def in_image(name: str, act: Callable[[Process], object]) -> Lie:
    """Every new image does something before the check gets it."""

    class Lying(Liar):
        def begin_image(self, step: Step) -> Process:
            super().begin_image(step)
            self.does(act, self)
            return self

    return Lie(name, Lying)


def leaves_out(call: str, hangs: bool = False) -> Lie:
    """A system call does nothing and says that it did; memory that it should fill stays zero."""

    class Lying(Liar):
        def ask_call(self, name: str, number: int, args: Any, decode: Any = None) -> Step:
            if name == call:
                self.tell()
                number = self.sys.number("sched_yield")  # gives 0, and looks at no argument
            return super().ask_call(name, number, args, decode)

    return Lie(f"{call} does nothing", Lying, hangs)


def before_call(call: str, name: str, act: Callable[[Process], object], hangs: bool = False) -> Lie:
    """Whoever makes a system call does something just before."""

    class Lying(Liar):
        def ask_call(self, name: str, number: int, args: Any, decode: Any = None) -> Step:
            if name == call:
                self.does(act, self)
            return super().ask_call(name, number, args, decode)

    return Lie(name, Lying, hangs)


def twice(call: str) -> Lie:
    """A system call does two times what it does."""

    class Lying(Liar):
        def ask_call(self, name: str, number: int, args: Any, decode: Any = None) -> Step:
            if name == call:
                self.tell()
                super().ask_call(name, number, args, decode)
            return super().ask_call(name, number, args, decode)

    return Lie(f"{call} is done twice", Lying)


def by_maker_too(call: str) -> Lie:
    """What a system call does to a process or thread, it does to its maker as well."""

    class Lying(Liar):
        def ask_call(self, name: str, number: int, args: Any, decode: Any = None) -> Step:
            if name == call and self.creation:
                self.tell()
                self.creation.process.ask_call(name, number, args, decode).arrives()
            return super().ask_call(name, number, args, decode)

    return Lie(f"{call} acts on the maker too", Lying)


def in_maker(name: str, act: Callable[[Process], object], hangs: bool = False) -> Lie:
    """Whoever makes a new process does something just before."""

    class Lying(Liar):
        def create(self, creation: Creation, name: str) -> Birth:
            self.does(act, self)
            return super().create(creation, name)

    return Lie(name, Lying, hangs)


ENDED_CHILDREN_VANISH = in_maker(
    "ended children vanish", lambda maker: maker.sys.rt_sigaction(SIGCHLD, SIG_IGN)
)


def passes(name: str, call: str, index: int, change: Any, hangs: bool = False) -> Lie:
    """A system call gets another argument.

    Args:
        name: what that comes to.
        call: its name.
        index: which argument, from 0.
        change: the value, or what makes it of the one that the check gave.
        hangs: as Lie.hangs.
    """

    class Lying(Liar):
        def ask_call(self, name: str, number: int, args: Any, decode: Any = None) -> Step:
            if name == call:
                value = change(args[index]) if callable(change) else change
                if value != args[index]:
                    self.tell()
                args = (*args[:index], value, *args[index + 1 :])
            return super().ask_call(name, number, args, decode)

    return Lie(name, Lying, hangs)


def acts_on_caller(call: str, hangs: bool = False) -> Lie:
    """A system call whose first argument names a process takes its caller instead."""

    class Lying(Liar):
        def ask_call(self, name: str, number: int, args: Any, decode: Any = None) -> Step:
            if name == call and args[0] != self.own_pid:
                self.tell()
                args = (self.own_pid, *args[1:])
            return super().ask_call(name, number, args, decode)

    return Lie(f"{call} takes the caller", Lying, hangs)


def reports(name: str, call: str, change: Callable[[Any], Any]) -> Lie:
    """A system call does as it should and says something else; for clauses of kind return only."""

    class Lying(Liar):
        def ask_call(self, name: str, number: int, args: Any, decode: Any = None) -> Step:
            step = super().ask_call(name, number, args, decode)
            if name == call:
                self.tell()
                told = step.decode
                step.decode = lambda result, data: change(told(result, data) if told else result)
            return step

    return Lie(name, Lying)


def exec_given(
    name: str, change: Callable[[Any, Any, Any], tuple[Any, Any, Any]], hangs: bool = False
) -> Lie:
    """exec gets another path, argv and envp than it is given: (path, argv, envp) -> the same."""

    class Lying(Liar):
        def exec_step(
            self, call: str, path: Any, argv: Any, envp: Any, *args: Any, **kwargs: Any
        ) -> Step:
            if argv is None:
                argv = () if isinstance(path, int) else [path or self.target.agent_path]
            given = (path, argv, envp)
            path, argv, envp = change(*given)
            if (path, argv, envp) != given:
                self.tell()
            return super().exec_step(call, path, argv, envp, *args, **kwargs)

    return Lie(name, Lying, hangs)


def before_exec(name: str, act: Callable[[Process], object]) -> Lie:
    """Every exec begins with a step more in the old image, whether it fails later or not."""

    class Lying(Liar):
        def exec_step(self, call: str, *args: Any, **kwargs: Any) -> Step:
            self.does(act, self)
            return super().exec_step(call, *args, **kwargs)

    return Lie(name, Lying)


def _keeps_all(process: Process) -> None:
    for fd in LOW_FDS:
        process.post.sys.raw("fcntl", fd, F_SETFD, 0)


EXEC_CLOSES_NOTHING = before_exec("exec closes no descriptor", _keeps_all)


class _WithoutExec(Liar):
    def exec_step(self, call: str, *args: Any, **kwargs: Any) -> Step:
        self.tell()
        return self.ask_call("sched_yield", self.sys.number("sched_yield"), ())


EXEC_DOES_NOTHING = Lie("exec leaves the old image", _WithoutExec)


class _ExecInAChild(Liar):
    def exec_step(self, call: str, *args: Any, **kwargs: Any) -> Step:
        """Let the check go on with a child, which takes this process's place in the driver."""
        self.tell()
        child = self.fork("replacement")
        places = self.target.processes
        mine, its = dict(vars(self)), dict(vars(child))
        kept = {name: getattr(self, name) for name in ("sys", "post", "name", "images", "parent")}
        vars(self).update(its, **kept)
        vars(child).update(mine)
        places[self.slot], places[child.slot] = self, child
        return super().exec_step(call, *args, **kwargs)


EXEC_IN_A_CHILD = Lie("exec makes a new process", _ExecInAChild)
