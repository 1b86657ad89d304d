"""What all spawners of Python callables share: a call that returns twice, once here and once to a child's life."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from os import _exit, getpid
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_procsemantics.spawners import hang, streams, way_back
from pytest_procsemantics.spawners.child import Child
from pytest_procsemantics.spawners.handle import Handle
from pytest_procsemantics.spawners.life import FAILED, Life
from pytest_procsemantics.spawners.streams import Output

if TYPE_CHECKING:
    from typing_extensions import Self

DEFAULT_TIMEOUT = 10.0  # seconds from a child's start to its deadline

T = TypeVar("T")


class Spawner:
    """Makes children, and ends those that still run when it is closed; a context manager.

    Args:
        timeout: seconds from a child's start to its deadline, where the call has no `timeout` of its own.

    Attributes:
        primitive: what it makes children by.
    """

    primitive = ""

    def __init__(self, timeout: float = DEFAULT_TIMEOUT) -> None:
        self.timeout = timeout
        self._children: dict[int, Child[Any]] = {}  # by pid; those that were not waited for
        self._home = getpid()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the children that still run, and all their descendants."""
        # In a child the brothers and sisters are not its own to end.
        if getpid() == self._home:
            while self._children:
                self._children.popitem()[1].close()

    def _forget(self, child: Child[Any]) -> None:
        self._children.pop(child.pid, None)

    def _spawn(
        self,
        make: Callable[[], int],
        function: Callable[..., T],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        timeout: float | None,
        capture: bool,
    ) -> Child[T]:
        """Make a child that runs a callable.

        Args:
            make: gives the child's pid in the parent and 0 in the child.
            function, args, kwargs: the call.
            timeout: seconds from now to the child's deadline; None: the spawner's.
            capture: whether its output is kept for `stdout` and `stderr`.

        Raises:
            OSError: the system call's errno, with the primitive's name.
        """
        seconds = self.timeout if timeout is None else timeout
        streams.flush_all()
        back = way_back.new_file("way-back")
        output: Output | None = None
        try:
            output = Output() if capture else None
            life = Life(function, args, kwargs, back, output)
            beside = hang.Beside.of_now()
            begin = time.monotonic()
            pid = self._twice(make, life)
        except BaseException:
            os.close(back)
            if output is not None:
                output.close()
            raise
        handle = Handle(pid)
        child = Child[T](
            handle, self.primitive, function, seconds, begin, back, output, beside, self._forget
        )
        self._children[pid] = child
        return child

    def _twice(self, make: Callable[[], int], life: Life) -> int:
        """Give the child's pid; in the child it does not return, whatever happens."""
        pid, home = -1, getpid()
        try:
            # From here on, so that a hook that hangs in the child can be seen.
            hang.listen(life.back)
            try:
                pid = make()
                if not pid:
                    life.live()
            finally:
                hang.listen_no_more()
        except OSError as error:
            raise OSError(
                error.errno, f"{self.primitive}: {os.strerror(error.errno or 0)}"
            ) from None
        finally:
            if not pid or getpid() != home:
                _exit(FAILED)
        return pid
