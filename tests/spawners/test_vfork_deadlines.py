"""A child that has its parent's memory, at its deadline."""

from __future__ import annotations

import contextlib
import os
import threading
import time

import pytest

from pytest_procsemantics import ChildOverdue, Vfork
from pytest_procsemantics.spawners import rescue, tree
from pytest_procsemantics.spawners.thread import Unwind
from pytest_procsemantics.spawners.way_back import new_file


def test_a_child_that_hangs_unwinds(vfork: Vfork) -> None:
    lock = threading.Lock()
    steps: list[str] = []

    def waits() -> None:
        with lock:
            try:
                time.sleep(60)
            finally:
                steps.append("finally")

    child = vfork(waits, timeout=0.1)
    with pytest.raises(
        ChildOverdue, match=r"0\.1 s after its start, and was ended by an exc"
    ) as caught:
        child.wait()
    assert steps == ["finally"]
    assert lock.acquire(blocking=False)
    assert caught.value.phase == "callable"
    assert "in waits" in caught.value.stacks
    assert "in test_a_child" not in caught.value.stacks
    assert "wait channel" in str(caught.value)
    assert child.wait() is child
    with pytest.raises(ChildOverdue):
        child.result()


def test_a_child_that_does_not_hear_is_killed_where_it_rests(vfork: Vfork) -> None:
    def swallows() -> None:
        while True:
            with contextlib.suppress(Unwind):
                time.sleep(60)

    with pytest.raises(ChildOverdue, match="was ended by SIGKILL") as caught:
        vfork(swallows, timeout=0.1).result()
    assert "in swallows" in caught.value.stacks
    assert vfork(int).result() == 0


def test_descendants_are_ended_too(vfork: Vfork) -> None:
    def has_descendants() -> None:
        reader, writer = os.pipe()
        os.set_inheritable(writer, True)
        line = f"sleep 60 & echo $! >/dev/fd/{writer}; exec sleep 60"
        child = os.posix_spawnp("sh", ["sh", "-c", line], os.environ)
        print(child, int(os.read(reader, 20)))
        os.close(reader)
        os.close(writer)
        time.sleep(60)

    child = vfork(has_descendants, timeout=1)
    with pytest.raises(ChildOverdue):
        child.wait()
    pids = list(map(int, child.stdout.split()))
    assert len(pids) == 2
    assert {tree.state(pid) for pid in pids} <= {"X", "Z"}


def test_a_child_is_told_again_only_when_it_has_handled_the_last_signal() -> None:
    """Within each other five of them are too many for the stack on which faulthandler has signals handled."""
    view, back = memoryview(bytearray(rescue.RECORD.size)), new_file("stacks")
    own = tree.Stranger(os.getpid())
    try:
        rescue.Frozen(view).enter(0.0, back, back, True, "nobody")
        late = rescue.Late(1, own, tree.Tree(own), 0.0, 0.0, [])
        looks = rescue.Rescue(view, own, 0)
        seen = []
        for written in (
            b"",
            b"Thread 0x1",
            b" (most recent call first):\n" + rescue.MARK,
            b"",
            b"T",
        ):
            os.write(back, written)
            seen.append(looks._has_handled(late))
        assert seen == [False, False, True, False, False]
    finally:
        os.close(back)
        os.close(own.pidfd)
