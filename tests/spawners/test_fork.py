"""A callable in a forked child: the way back, whatever becomes of it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from pytest_procsemantics import ChildFailed, ChildKilled, ChildOverdue, Fork


@pytest.fixture
def fork() -> Iterator[Fork]:
    with Fork(timeout=20) as fork:
        yield fork


class Unpicklable(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 100_000_000])
def test_bytes_of_any_size_come_back_though_nobody_reads_before_the_end(
    fork: Fork, size: int
) -> None:
    child = fork(bytes, size)
    assert child.wait().exit_code == 0
    assert len(child.result()) == size


def test_an_exception_comes_as_itself_with_the_traceback_in_the_child(fork: Fork) -> None:
    def fail() -> None:
        raise ValueError("from below")

    with pytest.raises(ValueError, match=r"^from below$") as caught:
        fork(fail).result()
    assert "in fail" in str(caught.value.__cause__)


def test_an_exception_that_cannot_be_made_again_comes_as_text(fork: Fork) -> None:
    def fail() -> None:
        raise Unpicklable(1, 2)

    with pytest.raises(
        ChildFailed, match=r"^\S*Unpicklable: 1 and 2\n.*can't be pickled"
    ) as caught:
        fork(fail).result()
    assert "in fail" in str(caught.value.__cause__)


def test_a_fatal_signal_is_told_by_its_name(fork: Fork) -> None:
    child = fork(lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(ChildKilled, match="killed by SIGTERM"):
        child.result()
    assert (child.signal, child.exit_code) == (signal.SIGTERM, None)


def test_a_lock_of_a_vanished_thread_is_recognised(fork: Fork) -> None:
    lock, held, done = threading.Lock(), threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            done.wait()

    def wants_the_lock() -> None:
        with lock:
            pass

    holder = threading.Thread(target=hold, name="holder")
    holder.start()
    held.wait()
    try:
        with pytest.raises(ChildOverdue, match="phase: callable") as caught:
            fork(wants_the_lock, timeout=0.5).result()
    finally:
        done.set()
        holder.join()
    assert "in wants_the_lock" in caught.value.stacks
    assert "holder: " in str(caught.value)
    assert "waits for a lock" in str(caught.value)
