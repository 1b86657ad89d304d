"""A child as a test sees it, however it was made."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import time
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pytest_procsemantics.spawners import hang, outcomes, way_back
from pytest_procsemantics.spawners.errors import ChildFailed, ChildKilled, ChildOverdue
from pytest_procsemantics.spawners.handle import End, Handle
from pytest_procsemantics.spawners.streams import Output
from pytest_procsemantics.spawners.tree import Tree
from pytest_procsemantics.spawners.way_back import Records

if TYPE_CHECKING:
    import resource

    import psutil

T = TypeVar("T")

KILL = signal.SIGKILL  # in the class `signal` is a property
LAST_LINES = 20  # of standard error in a message


class Child(Generic[T]):
    """A child process; made by a spawner, which ends it when it closes.

    Args:
        handle: the process.
        primitive: what made it.
        call: what it runs; its name stands in messages.
        timeout: seconds from `begin` to its deadline, at which it is ended.
        begin: on the monotonic clock.
        back: descriptor of the way back, which the child takes over; None: the child runs no callable.
        output: where its standard output and error go, to be taken over; None: to the parent's.
        beside: the threads that its parent had.
        forget: called once nothing is left to be closed.

    Attributes:
        primitive: what made it: fork, clone, clone3, ...
        timeout: seconds from its start to its deadline.
    """

    def __init__(
        self,
        handle: Handle,
        primitive: str,
        call: object,
        timeout: float,
        begin: float,
        back: int | None = None,
        output: Output | None = None,
        beside: hang.Beside | None = None,
        forget: Callable[[Child[Any]], None] | None = None,
    ) -> None:
        self.primitive = primitive
        self.timeout = timeout
        self._handle = handle
        self._call = call
        self._deadline = begin + timeout
        self._back = back
        self._output = output
        self._forget = forget
        self._beside = beside
        self._texts: tuple[bytes, bytes] = (b"", b"")
        self._records: Records | None = None
        self._value: list[T] = []
        self._error: BaseException | None = None

    def __repr__(self) -> str:
        end = self._handle.end
        state = "runs" if end is None else how(end)
        return f"<{self}: {state}>"

    def __str__(self) -> str:
        return f"child {self.pid} ({self.primitive} of {self.name})"

    @property
    def name(self) -> str:
        """What it runs, in a word."""
        return getattr(self._call, "__qualname__", None) or type(self._call).__qualname__

    @property
    def pid(self) -> int:
        """Its process id here."""
        return self._handle.pid

    @property
    def pidfd(self) -> int:
        """A descriptor of the process, open until it was waited for; -1 then, and where the kernel has none."""
        return self._handle.pidfd

    @property
    def process(self) -> psutil.Process:
        """What psutil knows of it."""
        import psutil

        return psutil.Process(self.pid)

    @property
    def alive(self) -> bool:
        """Whether it has not ended yet; does not wait."""
        return not self._handle.ended(0)

    @property
    def exit_code(self) -> int | None:
        """Its exit status, 0 to 255, or None if a signal ended it; waits for the end."""
        status = self.wait()._status()
        return os.WEXITSTATUS(status) if os.WIFEXITED(status) else None

    @property
    def signal(self) -> int | None:
        """The signal that ended it, or None; waits for the end."""
        status = self.wait()._status()
        return os.WTERMSIG(status) if os.WIFSIGNALED(status) else None

    @property
    def rusage(self) -> resource.struct_rusage:
        """What it and those of its children that it waited for used; waits for the end."""
        self.wait()._status()
        end = self._handle.end
        assert end is not None and end.rusage is not None
        return end.rusage

    @property
    def stdout(self) -> str:
        """What was written to its standard output until now, or until it was waited for.

        Bytes that are no UTF-8 are surrogate escapes.
        """
        return self._text(0)

    @property
    def stderr(self) -> str:
        """The same of its standard error."""
        return self._text(1)

    def kill(self, number: int = KILL) -> None:
        """Send it a signal; nothing happens if it has ended."""
        self._handle.send(number)

    def wait(self, timeout: float | None = None) -> Child[T]:
        """Wait until it has ended, and reap it; how it ended is no matter.

        Args:
            timeout: seconds that this wait may take; None: until the child's deadline.

        Raises:
            TimeoutError: the time is over, the child goes on.
            ChildOverdue: its deadline is over; it has been ended, and the message shows where it stood.
        """
        __tracebackhide__ = True
        if self._records is None:
            self._await(timeout)
        return self

    def result(self, timeout: float | None = None) -> T:
        """Wait, and return what the callable returned.

        Args:
            timeout: as for `wait`.

        Raises:
            BaseException: what the callable raised, with its traceback in the child as the cause. What pytest.skip,
                fail and xfail raise there does here what it says.
            ChildKilled: a signal ended the child.
            ChildFailed: it ended otherwise without a result, or what it sent can't be made again here.
            TimeoutError, ChildOverdue: as for `wait`.
        """
        __tracebackhide__ = True
        self.wait(timeout)
        if self._error is not None:
            raise self._error.with_traceback(None)
        if not self._value:
            try:
                self._value.append(self._made_again())
            except BaseException as error:
                self._error = error
                raise
        return self._value[0]

    def close(self) -> None:
        """End it with all its descendants if it still runs, and close what belongs to it."""
        if self._records is None:
            Tree(self._handle).end()
            self._take_over()

    # --- the end ---

    def _await(self, timeout: float | None) -> None:
        __tracebackhide__ = True
        left = self._deadline - time.monotonic()
        if timeout is not None and timeout < left:
            if not self._handle.ended(timeout):
                left -= timeout
                raise TimeoutError(
                    f"{self} still runs after {timeout:g} s; its deadline is in {left:.1f} s"
                )
        elif not self._handle.ended(left):
            self._error = self._overdue()
            raise self._error
        self._take_over()

    def _overdue(self) -> ChildOverdue:
        """End it, and tell where it stood."""
        tree = Tree(self._handle)
        facts = hang.Facts.of(self._handle, self._back, hang.listened_to())
        tree.end()
        self._take_over()
        fields = {"seconds": self.timeout, "phase": facts.phase, "stacks": facts.stacks}
        return ChildOverdue(
            facts.message(str(self), self.timeout, self._beside), **self._who(), **fields
        )

    def _take_over(self) -> None:
        """Reap it, and take over what its files hold, for descriptors are scarce."""
        self._handle.reap()
        output, back = self._output, self._back
        self._output = self._back = None
        try:
            if output is not None:
                self._texts = way_back.read(output.out), way_back.read(output.err)
            self._records = Records.parse(b"" if back is None else way_back.read(back))
        finally:
            if output is not None:
                output.close()
            if back is not None:
                os.close(back)
            if self._forget is not None:
                self._forget(self)
        self._pass_on(self._records.others)

    def _pass_on(self, records: list[tuple[bytes, bytes]]) -> None:
        """Warn of what the child warned of, and print what it had nowhere to print to."""
        for kind, payload in records:
            if kind == way_back.WARNED:
                warnings.showwarning(*pickle.loads(payload))
            else:
                text = payload.decode(errors="surrogateescape")
                print(text, end="", file=sys.stdout if kind == way_back.PRINTED[1] else sys.stderr)

    def _made_again(self) -> T:
        __tracebackhide__ = True
        records, end = self._records, self._handle.end
        assert records is not None
        assert end is not None
        self._records = Records()
        status = end.status
        if status is not None and os.WIFSIGNALED(status):
            raise self._killed(status, records)
        fields = {**self._who(), "exit_code": None if status is None else os.WEXITSTATUS(status)}
        if records.kind is None:
            raise ChildFailed(f"{self} gave no result: {how(end)}{self._last_words()}", **fields)
        value: T = outcomes.value_of(records.kind, records.payload, **fields)
        return value

    def _killed(self, status: int, records: Records) -> ChildKilled:
        number, core = os.WTERMSIG(status), os.WCOREDUMP(status)
        message = f"{self} was {how(End(status, None))}"
        if records.kind is not None:
            message += ", after its callable had ended"
        if records.stray:
            message += f"\n{records.stray.decode(errors='replace').rstrip()}"
        return ChildKilled(message + self._last_words(), **self._who(), signal=number, core=core)

    def _last_words(self) -> str:
        lines = self.stderr.splitlines()[-LAST_LINES:]
        return "".join(f"\n  stderr: {line}" for line in lines)

    def _who(self) -> dict[str, Any]:
        return {"pid": self.pid, "primitive": self.primitive}

    def _status(self) -> int:
        end = self._handle.end
        assert end is not None
        if end.status is None:
            raise ChildFailed(f"{self}: {how(end)}", **self._who(), exit_code=None)
        return end.status

    def _text(self, index: int) -> str:
        output = self._output
        if output is None:
            content = self._texts[index]
        else:
            content = way_back.read((output.out, output.err)[index])
        return content.decode(errors="surrogateescape")


def how(end: End) -> str:
    """How a process ended, in words."""
    status = end.status
    if status is None:
        return "ended; its status was taken by another wait, or SIGCHLD is ignored"
    if os.WIFEXITED(status):
        return f"exit status {os.WEXITSTATUS(status)}"
    number = os.WTERMSIG(status)
    core = " (core dumped)" if os.WCOREDUMP(status) else ""
    return f"killed by {signal_name(number)}{core}"


def signal_name(number: int) -> str:
    """The name of a signal, such as SIGKILL or SIGRTMIN+3."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"
