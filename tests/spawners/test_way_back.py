"""What a child returns or raises comes back as it was."""

from __future__ import annotations

import copy
import os
import pickle
import resource
import signal
import subprocess
import sys
import time
import warnings
from typing import Any

import pytest

from pytest_procsemantics import (
    ChildError,
    ChildFailed,
    ChildKilled,
    ChildOverdue,
    Fork,
)

Maker = Any  # Fork | Clone | Clone3 | Vfork, which differ in what else they take

# What is not so for a child that has its parent's memory; test_vfork.py tells how it is there.
of_copies = pytest.mark.parametrize("make", ["fork", "clone", "clone3"], indirect=True)


# With what stands around them, 357 to 359 are 399 to 401 bytes, and one read takes 400.
@pytest.mark.parametrize("size", [0, 1, 357, 358, 359, 65535, 65536, 65537])
def test_bytes_of_any_size_come_back_though_nobody_reads_before_the_end(
    fork: Fork, size: int
) -> None:
    child = fork(bytes, size)
    assert child.wait().exit_code == 0
    assert child.result() == bytes(size)


@of_copies
def test_an_exception_has_the_traceback_in_the_child_as_its_cause(make: Maker) -> None:
    def below() -> None:
        error = ValueError("from below")
        if sys.version_info >= (3, 11):
            error.add_note("a note")
        raise error

    with pytest.raises(ValueError, match=r"^from below") as caught:
        make(below).result()
    assert "in below" in str(caught.value.__cause__)
    assert "live" not in str(caught.value.__cause__)
    assert getattr(caught.value, "__notes__", ["a note"]) == ["a note"]


if sys.version_info >= (3, 11):

    def test_a_group_of_exceptions_stays_one(fork: Fork) -> None:
        def several() -> None:
            raise ExceptionGroup("two", [ValueError(1), KeyError("k")])  # noqa: F821

        with pytest.raises(ExceptionGroup) as caught:  # noqa: F821
            fork(several).result()
        assert [type(one) for one in caught.value.exceptions] == [ValueError, KeyError]


def test_an_exception_that_can_not_be_told_still_has_its_traceback(fork: Fork) -> None:
    class Silent(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    def fails() -> None:
        raise Silent

    with pytest.raises(ChildFailed, match="Silent: <exception str"):
        fork(fails).result()


def test_deep_recursion_comes_back(make: Maker) -> None:
    def recurses() -> None:
        recurses()

    with pytest.raises(RecursionError):
        make(recurses).result()


def test_asking_twice_gives_the_same_object(fork: Fork) -> None:
    child = fork(lambda: [1])
    assert child.result() is child.result()
    failed = fork(lambda: 1 / 0)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            failed.result()


def test_a_child_that_closed_all_descriptors_still_answers(make: Maker) -> None:
    def closes() -> str:
        os.closerange(3, 256)
        assert os.pipe()[0] == 3
        return "still here"

    assert make(closes).result() == "still here"


def test_a_result_above_the_limit_of_files_is_told(fork: Fork) -> None:
    def is_limited() -> bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        return bytes(5000)

    with pytest.raises(ChildFailed, match=r"bytes can't be sent back: .*File too large"):
        fork(is_limited).result()


def test_a_signal_is_told_while_a_grandchild_holds_the_output(fork: Fork) -> None:
    def leaves_a_grandchild() -> None:
        os.write(1, b"%d" % subprocess.Popen(["sleep", "60"]).pid)
        os.kill(os.getpid(), signal.SIGKILL)

    child = fork(leaves_a_grandchild)
    begin = time.monotonic()
    with pytest.raises(ChildKilled, match="killed by SIGKILL") as caught:
        child.result()
    assert time.monotonic() - begin < 10
    assert (caught.value.signal, caught.value.core) == (signal.SIGKILL, False)
    os.kill(int(child.stdout), signal.SIGKILL)


def test_a_core_dump_is_told(fork: Fork) -> None:
    child = fork(lambda: os.kill(os.getpid(), signal.SIGTERM)).wait()
    # Whether there is one is up to signal, limits and machine: as if the kernel had said so.
    child.status = signal.SIGTERM | 0x80
    with pytest.raises(ChildKilled, match=r"killed by SIGTERM \(core dumped\)") as caught:
        child.result()
    assert caught.value.core


def test_warnings_reach_whoever_records_in_the_parent(make: Maker) -> None:
    def warns() -> None:
        warnings.simplefilter("always")
        warnings.warn("old", DeprecationWarning, stacklevel=1)

    with pytest.warns(DeprecationWarning, match="old") as record:
        make(warns).wait()
    assert record[0].filename == __file__


@pytest.mark.parametrize(
    "error",
    [
        ChildFailed("m", pid=1, primitive="fork", exit_code=3),
        ChildKilled("m", pid=1, primitive="fork", signal=9, core=True),
        ChildOverdue("m", pid=1, primitive="fork", seconds=1.5, phase="callable", stacks="s"),
    ],
)
def test_exceptions_keep_their_fields(error: ChildError) -> None:
    for twin in (copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
        assert (type(twin), str(twin), vars(twin)) == (type(error), "m", vars(error))
