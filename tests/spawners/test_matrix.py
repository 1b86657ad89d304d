"""Every fixture with every end that a callable can come to, with pytest-xdist and without: the same is seen."""

from __future__ import annotations

import os
import re
import signal
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import pytest_procsemantics
from pytest_procsemantics import ChildFailed, ChildKilled, ChildOverdue
from pytest_procsemantics.spawners.support import REASONS, why_not

HERE = Path(__file__).parent
FRESH = ("exec", "posix_spawn")  # have functions in a fresh interpreter, which imports them
COPIES = ("fork", "clone", "clone3")
SECONDS = 60  # for a child of which nothing is late


class End(NamedTuple):
    """What a child runs, and what is seen of it.

    Attributes:
        call: a function of ends.py, or of this file, with its arguments.
        code: the exit status, or minus the signal; None: that depends on when it was ended.
        result: what `result` returns.
        raises: what it raises otherwise, and what the message begins with.
        timeout: seconds to the child's deadline.
    """

    call: tuple[Any, ...]
    code: int | None
    result: Any = None
    raises: tuple[type[BaseException], str] | None = None
    timeout: float = SECONDS


def asserts() -> None:
    """pytest rewrites assertions of this file."""
    found = [1, 2]
    assert found == [1, 3]


def fails_with(call: tuple[Any, ...], code: int, message: str) -> End:
    return End(call, code, raises=(ChildFailed, message))


# What a thread can come to as well.
ANYWHERE = {
    "returns": End(("returns", 1, "two"), 0, ((1, "two"), {})),
    "returns None": End(("returns_none",), 0),
    "returns 100 MB": End(("returns_much",), 0, bytes(100_000_000)),
    "raises": End(("raises",), 1, raises=(ValueError, r"\('bad', 3\)$")),
    "raises a base exception": End(("raises_a_base_exception",), 1, raises=(GeneratorExit, "no$")),
    "asserts": End((asserts,), 1, raises=(AssertionError, r"assert \[1, 2\] == \[1, 3\]")),
    "skips": End(("says", "skip", "no"), 1, raises=(pytest.skip.Exception, "no$")),
    "fails": End(("says", "fail", "no"), 1, raises=(pytest.fail.Exception, "no$")),
    "xfails": End(("says", "xfail", "no"), 1, raises=(pytest.xfail.Exception, "no$")),
    "exits": fails_with(("exits", 3), 3, r".* gave no result: SystemExit\(3\)$"),
    "exits at 0": fails_with(("exits",), 0, r".*SystemExit\(None\)$"),
    "exits above 255": fails_with(("exits", 259), 3, r".*SystemExit\(259\)$"),
    "exits with a message": fails_with(("exits", "sorry"), 1, ".*'sorry'"),
    "hangs": End(
        ("hangs",), None, raises=(ChildOverdue, ".* still ran at its deadline, 0.4 s"), timeout=0.4
    ),
    "writes much": End(("chatters",), 0, 1 << 20),
}
IN_A_PROCESS = {
    "raises what has no copy": fails_with(
        ("raises_what_has_no_copy",), 1, r"ends\.Odd: 1 and 2\n.*pickled"
    ),
    "returns what has no copy": fails_with(
        ("returns_what_has_no_copy",), 0, ".*lock, can't be pickled: "
    ),
    "interrupts": fails_with(("interrupts",), 1, "KeyboardInterrupt"),
    "leaves": fails_with(("leaves", 7), 7, ".* gave no result: exit status 7$"),
    "leaves at 0": fails_with(("leaves", 0), 0, ".* gave no result: exit status 0$"),
    "executes": fails_with(("executes",), 5, ".*exit status 5$"),
    "is terminated": End(
        ("is_killed", signal.SIGTERM), -15, raises=(ChildKilled, ".* was killed by SIGTERM$")
    ),
    "is killed": End(
        ("is_killed", signal.SIGKILL), -9, raises=(ChildKilled, ".* was killed by SIGKILL$")
    ),
    "is killed by a real-time signal": End(
        ("is_killed", 34), -34, raises=(ChildKilled, r".* SIGRTMIN(\+0)?$")
    ),
}
# The other ends of a thread would be those of pytest. Who has its parent's memory needs no copies.
CELLS = [
    *(("vfork", end) for end in ANYWHERE | IN_A_PROCESS if "no copy" not in end),
    *((primitive, end) for primitive in COPIES + FRESH for end in ANYWHERE | IN_A_PROCESS),
    *(("thread", end) for end in ANYWHERE),
]


@pytest.mark.parametrize(("primitive", "end"), CELLS)
def test_what_is_seen_of_an_end(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, primitive: str, end: str
) -> None:
    monkeypatch.syspath_prepend(HERE)
    spawn = request.getfixturevalue(f"spawn_{primitive}")
    (function, *arguments), code, result, raises, timeout = (ANYWHERE | IN_A_PROCESS)[end]
    if isinstance(function, str):
        fresh, here = f"ends:{function}", getattr(import_module("ends"), function)
        function = fresh if primitive in FRESH else here
    child = spawn(function, *arguments, timeout=timeout)
    if raises is None:
        assert child.result() == result
    else:
        kind, message = raises
        with pytest.raises(kind) as caught:
            child.result()
        assert re.match(message, str(caught.value)), str(caught.value)
        assert type(caught.value) is kind
    assert not child.alive
    assert code is None or status(child) == code


def status(child: Any) -> int:
    """The exit status, or minus the signal."""
    number: int | None = getattr(child, "signal", None)  # a thread has none
    code: int | None = child.exit_code
    if code is None:
        assert number is not None
        return -number
    assert number is None
    return code


@pytest.mark.parametrize("primitive", ["thread", "vfork"])
def test_who_shares_memory_copies_nothing(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, primitive: str
) -> None:
    monkeypatch.syspath_prepend(HERE)
    spawn, ends = request.getfixturevalue(f"spawn_{primitive}"), import_module("ends")
    child = spawn(ends.returns_what_has_no_copy)
    assert child.result() is child.result()
    failed = spawn(ends.raises_what_has_no_copy)
    with pytest.raises(ends.Odd, match=r"^1 and 2$"):
        failed.result()
    assert failed.exit_code == 1


@pytest.mark.timeout(600)  # it is all of the above once more
def test_the_same_is_seen_in_the_other_mode(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_worker = "PYTEST_XDIST_WORKER" in os.environ
    monkeypatch.setenv("PYTHONPATH", str(Path(pytest_procsemantics.__file__).parents[1]))
    for name in ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT"):
        monkeypatch.delenv(name, raising=False)
    plugins = ["-p", "xdist", *(() if is_worker else ("-n", "1"))]
    result = pytester.runpytest_subprocess(
        *plugins, "-p", "no:randomly", __file__, "-k", "test_what_is_seen"
    )
    missing = {one: why_not(one) is not None for one in REASONS}
    skipped = sum(missing[primitive] for primitive, _ in CELLS)
    result.assert_outcomes(passed=len(CELLS) - skipped, skipped=skipped)
