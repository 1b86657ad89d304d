"""A target: where driven processes live, and who takes their words.

One test after the other: `with target.test():` begins with nothing and ends with nothing, whatever the test did. A lost
target is started anew by the next test.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

from pytest_procsemantics.driven import wire
from pytest_procsemantics.driven.errors import CallFailed, Deviation, TargetLost
from pytest_procsemantics.driven.exchange import Exchange
from pytest_procsemantics.driven.observer import Observer
from pytest_procsemantics.driven.process import Process
from pytest_procsemantics.driven.spec import Spec
from pytest_procsemantics.driven.transcript import Transcript

DEFAULT_TIMEOUT = 10.0  # seconds
UNKNOWN_RELEASE = "unknown"  # where uname fails


class Target(Exchange):
    """A kernel, sandbox or emulator, and the driven processes on it.

    Args:
        spec: "local", or "exec:COMMAND" with a command line in front of the agent's path.
        timeout: seconds that one wait may take.

    Raises:
        UsageProblem: the specification can't be meant.

    Attributes:
        transcript: all steps of the present or last test.
        processes: those of the present test by slot.
    """

    process_class: type[Process] = Process

    def __init__(self, spec: str = "local", timeout: float = DEFAULT_TIMEOUT) -> None:
        self.spec = Spec.parse(spec)
        super().__init__(timeout)
        self._observer: Observer | None = None
        self._release = ""
        self.image_problem: str | None = (
            None  # why a new image is not on the target; "": it is; None: not tried
        )

    @classmethod
    @contextlib.contextmanager
    def open(cls, spec: str = "local", timeout: float = DEFAULT_TIMEOUT) -> Iterator[Target]:
        """A target that is closed at the end: nothing is left of it then."""
        target = cls(spec, timeout)
        try:
            yield target
        finally:
            target.close()

    # --- start and end ---

    def start(self) -> None:
        """Start the target where it isn't running.

        Raises:
            StartFailed: with what was tried and what was seen.
        """
        if self._link and not self._link.lost:
            return
        if self._link:
            self._link.kill()
        self._connect(self.spec.start(self.timeout))
        self.image_problem = None

    def close(self) -> None:
        """End the target, and wait until nothing is left of it."""
        if self._link:
            self._link.close()
            self._link = None

    @property
    def greeting(self) -> wire.Greeting:
        """What the agent said first."""
        return self.link.greeting

    @property
    def machine(self) -> str:
        """The architecture of the target's agent, e.g. x86_64."""
        return self.greeting.machine

    @property
    def page_size(self) -> int:
        """Bytes in a page of the target."""
        return self.greeting.page_size

    @property
    def agent_path(self) -> bytes:
        """The agent's own file on the target."""
        return self.greeting.path

    @property
    def release(self) -> str:
        """The kernel release that the target declares, or UNKNOWN_RELEASE; asked of a process once."""
        if not self._release:
            process = self.observer.process
            try:
                self._release = process.sys.uname().release or UNKNOWN_RELEASE
            except (CallFailed, Deviation):
                # No check is about this call. It may have cost the observer its process.
                self._release, self._observer = UNKNOWN_RELEASE, None
        return self._release

    @property
    def kernel(self) -> tuple[int, int]:
        """The declared version as (major, minor); (0, 0) where it declares none."""
        found = re.match(r"(\d+)\.(\d+)", self.release)
        return (int(found[1]), int(found[2])) if found else (0, 0)

    @property
    def has_proc(self) -> bool:
        """Whether a process finds itself in /proc."""
        return wire.Ability.PROC in self.greeting.abilities

    def test(self) -> contextlib.AbstractContextManager[Target]:
        """One test: all processes and files made in it are gone at its end.

        Raises:
            StartFailed: the target can't be started.
            TargetLost: it could not be cleaned; the next test gets a fresh one.
        """
        return Test(self)

    def begin_test(self) -> None:
        """Start what `test()` begins with."""
        self.start()
        self.transcript = Transcript()

    def end_test(self) -> None:
        """End and remove whatever the test made."""
        self._observer = None
        self._end_all()

    # --- processes ---

    def new_process(self, name: str = "parent") -> Process:
        """A fresh single-threaded process: a process group of its own, default signals, /dev/null on 0 to 2, umask 022."""
        process = self.expect(name, None)
        self._ask_for_root(process)
        if not process.pid:
            raise CallFailed(-(process.status or 0), process, "fork of the hub")
        return process

    def expect(self, name: str, parent: Process | None) -> Process:
        """A process that is about to be made: in a slot that is free, or whose last process has ended."""
        slot = len(self._used) + 1
        if slot > wire.SLOTS:
            slot = next((slot for slot, last in enumerate(self._used, 1) if last.ended), 0)
            if not slot:
                raise ValueError(
                    f"at most {wire.SLOTS} driven processes can live at a time: exit() some first"
                )
            self.free_slot(slot)
        process = self.process_class(self, slot, name, parent)
        self._enrol(process)
        return process

    @property
    def observer(self) -> Observer:
        """A witness on the target: a driven process of its own that reads what the kernel says of the others."""
        if self._observer is None:
            self._observer = Observer(self.new_process("observer"))
        return self._observer

    def folder(self) -> str:
        """The path of a folder of this test's own on the target, made at the first call."""
        result, path = self.ask_hub(wire.HubRequest.NEW_FOLDER, wire.Kind.FOLDER)
        if result:
            raise CallFailed(-result, self.observer.process, f"mkdir {path!r} by the hub")
        return path.decode("utf-8", "surrogateescape")

    def counting(self, flags: int, mask: Iterable[int]) -> Any:
        """The disposition that makes the agent's handler count a signal."""
        from pytest_procsemantics.driven.constants import SA_RESTORER, SA_SIGINFO
        from pytest_procsemantics.driven.forms.signals import Disposition

        greeting = self.greeting
        flags |= SA_SIGINFO | (SA_RESTORER if greeting.restorer else 0)
        return Disposition(greeting.handler, flags, greeting.restorer, frozenset(mask))

    def facts(self) -> dict[str, str]:
        """What tells this target from others, as plain text."""
        return {"spec": self.spec.text, "release": self.release, "machine": self.machine}

    def situation(self) -> str:
        """Each process's state by the kernel's word, and the last thing that it did."""
        lines = []
        for process in list(self.processes.values()):
            if self._observer and process is self._observer.process:
                continue
            lines.append(f"  {process}: {self._state_of(process)}; {self.transcript.last(process)}")
        return "\n".join(lines)

    def _state_of(self, process: Process) -> str:
        if process.ended:
            return "ended"
        if self.link.lost:
            return "not known"
        keep, self.timeout = self.timeout, min(self.timeout, 1.0)
        try:
            return f"state {self.observer.state_now(process)}"
        except (OSError, AssertionError, ValueError, TargetLost):
            return "state not to be read"
        finally:
            self.timeout = keep


class Test:
    """What `Target.test()` gives. A class, for as a generator it would cost each test as much as a step does."""

    __test__ = False  # no test class of pytest's

    def __init__(self, target: Target) -> None:
        self._target = target

    def __enter__(self) -> Target:
        self._target.begin_test()
        return self._target

    def __exit__(self, *_: object) -> None:
        self._target.end_test()
