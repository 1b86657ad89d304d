"""Every primitive with every end that a callable can come to: the same is seen in the parent."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from pytest_procsemantics import (
    ChildFailed,
    ChildKilled,
    ChildOverdue,
    Clone,
    Clone3,
    Fork,
    Thread,
    ThreadChild,
)
from pytest_procsemantics.spawners.support import why_not

PRIMITIVES: dict[str, type[Fork | Clone | Clone3 | Thread]] = {
    "fork": Fork,
    "clone": Clone,
    "clone3": Clone3,
    "thread": Thread,
}
LARGE = 100_000_000  # bytes


class Odd(Exception):
    """Can be pickled, but not made again."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


class End(NamedTuple):
    """What a callable does, and what is seen of it.

    Attributes:
        raises: what `result` raises, and what the message begins with.
        result: what it returns otherwise.
        code: the exit status; negative: the signal.
    """

    callable: Callable[[], Any]
    code: int
    result: Any = None
    raises: tuple[type[BaseException], str] | None = None
    timeout: float | None = None


def says(error: BaseException) -> Callable[[], None]:
    def end() -> None:
        raise error

    return end


def compares() -> None:
    found = [1, 2]
    assert found == [1, 3]


def chatters() -> int:
    for number in range(20_000):
        print(number, "x" * 50)
    return os.write(2, b"y" * (1 << 20))


def kills(number: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


ANYWHERE = {
    "returns": End(lambda: {"a": [1, 2.5]}, 0, {"a": [1, 2.5]}),
    "returns None": End(lambda: None, 0),
    "returns 100 MB": End(lambda: bytes(LARGE), 0, bytes(LARGE)),
    "raises": End(says(ValueError("bad", 3)), 1, raises=(ValueError, r"\('bad', 3\)$")),
    "asserts": End(compares, 1, raises=(AssertionError, r"assert \[1, 2\] == \[1, 3\]\n")),
    "skips": End(lambda: pytest.skip("not here"), 1, raises=(pytest.skip.Exception, "not here$")),
    "fails": End(lambda: pytest.fail("broken"), 1, raises=(pytest.fail.Exception, "broken$")),
    "xfails": End(lambda: pytest.xfail("known"), 1, raises=(pytest.xfail.Exception, "known$")),
    "exits": End(
        lambda: sys.exit(3), 3, raises=(ChildFailed, r".* gave no result: SystemExit\(3\)$")
    ),
    "exits at 0": End(lambda: sys.exit(), 0, raises=(ChildFailed, r".*SystemExit\(None\)$")),
    "exits with a message": End(lambda: sys.exit("sorry"), 1, raises=(ChildFailed, ".*'sorry'")),
    "exits above 255": End(lambda: sys.exit(259), 3, raises=(ChildFailed, ".*259")),
    "raises a base exception": End(says(GeneratorExit("no")), 1, raises=(GeneratorExit, "no$")),
}
PROCESSES = {
    "raises what has no copy": End(
        says(Odd(1, 2)), 1, raises=(ChildFailed, r"\S*\.Odd: 1 and 2\n.*pickled")
    ),
    "returns what has no copy": End(
        threading.Lock, 0, raises=(ChildFailed, ".*lock, can't be pickled: ")
    ),
    "interrupts": End(says(KeyboardInterrupt()), 1, raises=(ChildFailed, "KeyboardInterrupt")),
    "leaves": End(
        lambda: os._exit(7), 7, raises=(ChildFailed, ".* gave no result: exit status 7$")
    ),
    "leaves at 0": End(
        lambda: os._exit(0), 0, raises=(ChildFailed, ".* gave no result: exit status 0$")
    ),
    "executes": End(
        lambda: os.execv("/bin/sh", ["sh", "-c", "exit 5"]),
        5,
        raises=(ChildFailed, ".*exit status 5$"),
    ),
    "is terminated": End(
        kills(signal.SIGTERM), -15, raises=(ChildKilled, ".* was killed by SIGTERM$")
    ),
    "is killed": End(kills(signal.SIGKILL), -9, raises=(ChildKilled, ".* was killed by SIGKILL$")),
    "aborts": End(
        lambda: signal.raise_signal(signal.SIGRTMIN),
        -34,
        raises=(ChildKilled, r".* SIGRTMIN(\+0)?$"),
    ),
    "hangs": End(
        lambda: time.sleep(99),
        -9,
        raises=(ChildOverdue, ".* still ran at its deadline, 0.3 s"),
        timeout=0.3,
    ),
    "writes much": End(chatters, 0, 1 << 20),
}


# A thread shares its end with the process, and its objects.
PAIRS = [
    *((primitive, end) for primitive in PRIMITIVES for end in ANYWHERE),
    *((primitive, end) for primitive in PRIMITIVES if primitive != "thread" for end in PROCESSES),
]


@pytest.mark.parametrize(("primitive", "name"), PAIRS)
def test_what_is_seen_of_an_end(primitive: str, name: str) -> None:
    if reason := why_not(primitive):
        pytest.skip(reason)
    end = {**ANYWHERE, **PROCESSES}[name]
    with PRIMITIVES[primitive](timeout=30) as spawn:
        child: Any = spawn(end.callable, timeout=end.timeout)
        if end.raises is None:
            assert child.result() == end.result
        else:
            kind, message = end.raises
            with pytest.raises(kind) as caught:
                child.result()
            assert re.match(message, str(caught.value)), str(caught.value)
            assert type(caught.value) is kind
        assert not child.alive
        if end.timeout is None:
            assert status(child) == end.code


def status(child: Any) -> int:
    """The exit status; negative: the signal."""
    if isinstance(child, ThreadChild):
        return child.exit_code
    code, number = child.exit_code, child.signal
    assert (code is None) is (number is not None)
    return int(-number if code is None else code)
