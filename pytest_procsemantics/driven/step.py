"""One thing that a driven process is asked to do, and its answer when it comes."""

from __future__ import annotations

import time
from collections.abc import Callable
from errno import ENOENT
from typing import TYPE_CHECKING, Any

from pytest_procsemantics.driven.errors import CallFailed, Unsupported

if TYPE_CHECKING:
    from pytest_procsemantics.driven.process import Process

LOWEST_ERRNO = -4095  # results from here to -1 are errors (syscall(2))
NOT_THERE = -ENOENT
PROC = "/proc/", b"/proc/"


class Step:
    """A request to a driven process; `arrives()` gives its answer.

    A plain class with slots, for one is made for each step of each check.

    Attributes:
        process: whom it was asked of.
        name: the call's name, or what else is done.
        args: as the check gave them.
        state: WAITING, DONE, or GONE: the process ended first, or became another image.
        result: the raw result, errors as negative errno.
        data: bytes that came with it.
        size: bytes that went with the request, beside a small packet.
    """

    WAITING, DONE, GONE = range(3)

    __slots__ = ("args", "data", "decode", "name", "process", "result", "serial", "size", "state")

    def __init__(
        self,
        process: Process,
        name: str,
        args: tuple[Any, ...],
        serial: int,
        decode: Callable[[int, bytes], Any] | None,
    ) -> None:
        self.process = process
        self.name = name
        self.args = args
        self.serial = serial
        self.decode = decode
        self.state = 0
        self.result = 0
        self.data = b""
        self.size = 0

    def __repr__(self) -> str:
        return f"{self.name} of {self.process}"

    @property
    def ready(self) -> bool:
        """Whether the answer is there, without waiting. False alone is no evidence that it will not come."""
        self.process.target.take_in(0)
        return self.state == Step.DONE

    def arrives(self, timeout: float | None = None) -> Any:
        """Wait for the answer.

        Args:
            timeout: seconds; None: the target's.

        Returns:
            What the call gives: an int, or the Python value of the call's form.

        Raises:
            CallFailed: the call gave an errno.
            Unsupported: it found nothing in /proc, where no proc is mounted.
            Overdue: it did not come in time although the hub answers.
            Ended: the process ended first.
            TargetLost: there is no target any more.
        """
        __tracebackhide__ = True
        if not self.state:
            target = self.process.target
            begin = time.monotonic()
            target.take_in(target.timeout if timeout is None else timeout)
            if not self.state:
                target.wait_for(self, timeout, begin)
        if self.state == Step.GONE:
            raise self.process.gone(self)
        result = self.result
        if LOWEST_ERRNO <= result < 0:
            if result == NOT_THERE and self._is_about_proc() and not self.process.target.has_proc:
                raise Unsupported("/proc (not mounted)")
            raise CallFailed(-result, self.process, self.name)
        if self.decode:
            return self.decode(result, self.data)
        return result

    def _is_about_proc(self) -> bool:
        return any(isinstance(arg, (str, bytes)) and arg[:6] in PROC for arg in self.args)
