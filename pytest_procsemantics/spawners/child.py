"""A child as a test sees it, however it was made."""

from __future__ import annotations

import os
import pickle
import sys
import time
import warnings
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pytest_procsemantics.spawners import handle, hang, outcomes, way_back
from pytest_procsemantics.spawners.errors import ChildFailed, ChildKilled, ChildOverdue
from pytest_procsemantics.spawners.handle import NO_PIDFD, Handle, how
from pytest_procsemantics.spawners.tree import Tree
from pytest_procsemantics.spawners.watch import Table
from pytest_procsemantics.spawners.way_back import Records

if TYPE_CHECKING:
    import resource

    import psutil

T = TypeVar("T")

KILL = 9  # signal.SIGKILL; in the class `signal` is a property
LAST_LINES = 20  # of standard error in a message
NO_FILE = -1
UNWATCHED = -1
WATCHER = 10.0  # seconds for the watcher to end a child


class Child(Handle, Generic[T]):
    """A child process; made by a spawner, which ends it when it closes. One thread at a time may wait for it.

    Args:
        pid: of a child of this process that nobody has waited for.
        primitive: what made it.
        call: what it runs, a callable or a word; its name stands in messages.
        begin: when it was made, on the monotonic clock.
        timeout: seconds from there to its deadline, at which it is ended.
        back: descriptor of the way back; NO_FILE if it runs no callable.
        out, err: descriptors of files that it has as standard output and error; NO_FILE if they go elsewhere.
            All three are the child's from here on: it closes them.
        beside: the parent's threads, which it does not have.
        table: where it is entered for the watcher, which ends it should its parent die or miss its deadline.
        has_pidfd: whether it gets one, if there are any; who is about to be reaped needs none.
        family: the children, by pid, that were not waited for; it takes itself out.

    Attributes:
        primitive: what made it: fork, clone, clone3, ...
        timeout: seconds from its start to its deadline.
    """

    __slots__ = (
        *("_back", "_begin", "_beside", "_call", "_err", "_error", "_family"),
        *("_has_value", "_is_late", "_out", "_records", "_slot", "_table", "_texts", "_value"),
        *("primitive", "timeout"),
    )

    def __init__(
        self,
        pid: int,
        primitive: str,
        call: object,
        begin: float,
        timeout: float,
        family: dict[int, Child[Any]],
        back: int = NO_FILE,
        out: int = NO_FILE,
        err: int = NO_FILE,
        beside: hang.Beside | None = None,
        table: Table | None = None,
        has_pidfd: bool = True,
    ) -> None:
        self.pid = pid
        self.is_reaped = self.is_taken = False
        self.status = self.usage = None
        self.pidfd = NO_PIDFD
        self.primitive = primitive
        self.timeout = timeout
        self._call = call
        self._begin = begin
        self._back = back
        self._out = out
        self._err = err
        self._beside = beside
        self._family = family
        self._table = table
        self._slot = UNWATCHED
        self._is_late = False
        self._texts: tuple[bytes, bytes] | None = None
        self._records: Records | None = None
        self._has_value = False
        self._value: T | None = None
        self._error: BaseException | None = None
        # From here on it can be closed, should a signal handler raise something.
        family[pid] = self
        if has_pidfd and handle.HAS_PIDFD:
            try:
                self.pidfd = os.pidfd_open(pid)
            except OSError:  # ENOSYS, or reaped by the kernel because SIGCHLD is ignored
                self.pidfd = NO_PIDFD
        if table is not None:
            self._slot = table.note(pid, begin + timeout)

    def __str__(self) -> str:
        return f"child {self.pid} ({self.primitive} of {self.name})"

    def __repr__(self) -> str:
        return f"<{self}: {how(self.status) if self.is_reaped else 'not waited for'}>"

    @property
    def name(self) -> str:
        """What it runs, in a word."""
        return name_of(self._call)

    @property
    def process(self) -> psutil.Process:
        """What psutil knows of it."""
        import psutil

        return psutil.Process(self.pid)

    @property
    def alive(self) -> bool:
        """Whether it has not ended yet; does not wait."""
        return not self.ended(0)

    @property
    def exit_code(self) -> int | None:
        """Its exit status, 0 to 255, or None if a signal ended it; waits for the end."""
        status = self._known_status()
        return os.WEXITSTATUS(status) if os.WIFEXITED(status) else None

    @property
    def signal(self) -> int | None:
        """The signal that ended it, or None; waits for the end."""
        status = self._known_status()
        return os.WTERMSIG(status) if os.WIFSIGNALED(status) else None

    @property
    def rusage(self) -> resource.struct_rusage:
        """What it and those of its children that it waited for used; waits for the end."""
        self._known_status()
        assert self.usage is not None
        return self.usage

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
        self.send(number)

    def wait(self, timeout: float | None = None) -> Child[T]:
        """Wait until it has ended, and reap it; how it ended is no matter.

        Args:
            timeout: seconds that this wait may take; None: until the child's deadline.

        Raises:
            TimeoutError: the time is over, the child goes on.
            ChildOverdue: its deadline is over; it has been ended, and the message shows where it stood.
        """
        __tracebackhide__ = True
        if not self.is_reaped:
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
        if not self.is_reaped:
            self._await(timeout)
        if not self._has_value:
            self._make_again()
        return self._value  # type: ignore[return-value]

    def close(self) -> None:
        """End it with all its descendants if it still runs, and close what belongs to it."""
        if not self.is_reaped:
            Tree(self).end()
            self._take_over()

    # --- the end ---

    def _await(self, timeout: float | None) -> None:
        __tracebackhide__ = True
        left = self._begin + self.timeout - time.monotonic()
        if timeout is not None and timeout < left:
            if not self.ended(timeout):
                left -= timeout
                raise TimeoutError(
                    f"{self} still runs after {timeout:g} s; its deadline is in {left:.1f} s"
                )
        elif not self.ended(left) and not self._is_being_ended():
            self._error = self._overdue()
            raise self._error
        self._take_over()

    def _is_being_ended(self) -> bool:
        """Whether the watcher ends it, because nobody waited for it in time; then it has ended after that."""
        is_so = self._table is not None and self._slot != UNWATCHED and self._table.ends(self._slot)
        return is_so and self.ended(WATCHER)

    def _overdue(self) -> ChildOverdue:
        """End it, and tell where it stood."""
        tree = Tree(self)
        facts = self._facts()
        tree.end()
        self._take_over()
        return ChildOverdue(
            facts.message(str(self), self.timeout, self._beside),
            pid=self.pid,
            primitive=self.primitive,
            seconds=self.timeout,
            phase=facts.phase,
            stacks=facts.stacks,
        )

    def _facts(self) -> hang.Facts:
        return hang.Facts.of(self, self._back)

    def _phase(self, phase: str) -> str:
        """The phase, in the words of what made it."""
        return phase

    def _take_over(self) -> None:
        """Reap it, and take over what its files hold, for descriptors are scarce."""
        if self._slot != UNWATCHED and self._table is not None:
            self._is_late = self._table.drop(self._slot)
        self.reap()
        self._family.pop(self.pid, None)
        back, out, err = self._back, self._out, self._err
        self._back = self._out = self._err = NO_FILE
        content = way_back.NOTHING_BUT_NONE
        try:
            if back != NO_FILE:
                content = way_back.read(back)
            if out != NO_FILE or err != NO_FILE:
                self._texts = (
                    b"" if out == NO_FILE else way_back.read(out),
                    b"" if err == NO_FILE else way_back.read(err),
                )
        finally:
            for descriptor in (back, out, err):
                if descriptor != NO_FILE:
                    os.close(descriptor)
        if content == way_back.NOTHING_BUT_NONE and self.status == 0 and back != NO_FILE:
            self._has_value = True
            return
        self._records = Records.parse(b"" if back == NO_FILE else content)
        self._pass_on(self._records.others)

    def _pass_on(self, records: list[tuple[bytes, bytes]]) -> None:
        """Warn of what the child warned of, and print what it had nowhere to print to."""
        for kind, payload in records:
            if kind == way_back.WARNED:
                warnings.showwarning(*pickle.loads(payload))
            else:
                text = payload.decode(errors="surrogateescape")
                file = sys.stdout if kind == way_back.PRINTED[1] else sys.stderr
                print(text, end="", file=file)

    def _make_again(self) -> None:
        """Find the value, or raise what there is instead, each time."""
        __tracebackhide__ = True
        if self._error is not None:
            raise self._error.with_traceback(None)
        try:
            self._value = self._found()
        except BaseException as error:
            self._error = error
            raise
        finally:
            self._records = None
        self._has_value = True

    def _found(self) -> Any:
        __tracebackhide__ = True
        records, status = self._records, self.status
        assert records is not None
        who: dict[str, Any] = {"pid": self.pid, "primitive": self.primitive}
        stray = records.stray.decode(errors="replace").rstrip()
        if self._is_late:
            text = f"{self} was past its deadline, {self.timeout:g} s after its start, while nobody waited for it"
            stacks = hang.own_frames(stray)
            raise ChildOverdue(
                f"{text}\n{stacks}",
                **who,
                seconds=self.timeout,
                phase=self._phase(records.phase),
                stacks=stacks,
            )
        if status is not None and os.WIFSIGNALED(status):
            message = f"{self} was {how(status)}"
            if records.kind is not None:
                message += ", after its callable had ended"
            if stray:
                message += f"\n{stray}"
            number, core = os.WTERMSIG(status), os.WCOREDUMP(status)
            raise ChildKilled(message + self._last_words(), **who, signal=number, core=core)
        who["exit_code"] = None if status is None else os.WEXITSTATUS(status)
        if records.kind is None:
            raise ChildFailed(f"{self} gave no result: {how(status)}{self._last_words()}", **who)
        return outcomes.value_of(records.kind, records.payload, str(self), **who)

    def _last_words(self) -> str:
        lines = self.stderr.splitlines()[-LAST_LINES:]
        return "".join(f"\n  stderr: {line}" for line in lines)

    def _known_status(self) -> int:
        if not self.is_reaped:
            self._await(None)
        if self.status is None:
            who: dict[str, Any] = {"pid": self.pid, "primitive": self.primitive}
            raise ChildFailed(f"{self}: {how(None)}", **who, exit_code=None)
        return self.status

    def _text(self, index: int) -> str:
        if self._texts is not None:
            content = self._texts[index]
        else:
            descriptor = (self._out, self._err)[index]
            content = b"" if descriptor == NO_FILE else way_back.read(descriptor)
        return content.decode(errors="surrogateescape")


def name_of(call: object) -> str:
    """What a child runs, in a word."""
    if isinstance(call, str):
        return call
    return getattr(call, "__qualname__", None) or type(call).__qualname__
