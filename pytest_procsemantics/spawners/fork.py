"""fork(2) by os.fork, which runs Python's fork hooks and the C library's."""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

from pytest_procsemantics.spawners.child import Child
from pytest_procsemantics.spawners.spawner import Spawner

T = TypeVar("T")

WARNS = sys.version_info >= (3, 12)  # of threads in the parent, when the child is there already
# In the words of warnings.filters: action, message, category, module, line.
UNWARNED = (
    "ignore",
    re.compile(r"This process \(pid=\d+\) is multi-threaded"),
    DeprecationWarning,
    None,
    0,
)


class Fork(Spawner):
    """Children by fork(2): a callable in a copy of this process."""

    primitive = "fork"

    def __call__(
        self,
        function: Callable[..., T],
        /,
        *args: Any,
        timeout: float | None = None,
        capture: bool = True,
        **kwargs: Any,
    ) -> Child[T]:
        """Run `function(*args, **kwargs)` in a child; nothing is pickled on the way in.

        Args:
            timeout: seconds from now to the child's deadline; None: the spawner's.
            capture: keep what the child writes to descriptors 1 and 2 for `stdout` and `stderr`; else it goes where
                this process's own output goes.

        Raises:
            OSError: fork's errno.
        """
        make = fork if WARNS else os.fork
        return self._spawn(make, function, args, kwargs, timeout, capture)


def fork() -> int:
    """os.fork without CPython's warning of threads: as an error it would lose the child that is there already.

    Where a warning was given already is remembered elsewhere, so the filter can come and go unnoticed.
    """
    filters: list[object] = warnings.filters  # type: ignore[assignment]
    filters.insert(0, UNWARNED)
    try:
        return os.fork()
    finally:
        filters.remove(UNWARNED)
