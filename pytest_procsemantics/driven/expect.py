"""What a check expects of a step, in one word."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from pytest_procsemantics.driven.constants import errno_name
from pytest_procsemantics.driven.errors import CallFailed, Deviation


@contextlib.contextmanager
def fails(*errnos: int) -> Iterator[None]:
    """The call in this block fails with just this errno, or with one of several that kernels give.

    Raises:
        Deviation: it succeeded, or failed otherwise.
    """
    __tracebackhide__ = True
    expected = " or ".join(errno_name(errno) for errno in errnos)
    try:
        yield
    except CallFailed as failure:
        if failure.errno in errnos:
            return
        raise Deviation(f"expected {expected}, the target gave: {failure.strerror}") from None
    raise Deviation(f"expected {expected}, but the call succeeded")
