"""What a check expects of a step, in one word."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from pytest_procsemantics.driven.constants import errno_name
from pytest_procsemantics.driven.errors import CallFailed, Deviation


@contextlib.contextmanager
def fails(errno: int) -> Iterator[None]:
    """The call in this block fails with just this errno.

    Raises:
        Deviation: it succeeded, or failed otherwise.
    """
    __tracebackhide__ = True
    try:
        yield
    except CallFailed as failure:
        if failure.errno == errno:
            return
        raise Deviation(
            f"expected {errno_name(errno)}, the target gave: {failure.strerror}"
        ) from None
    raise Deviation(f"expected {errno_name(errno)}, but the call succeeded")
