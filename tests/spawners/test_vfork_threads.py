"""Threads beside a child that has its parent's memory, and threads of its own."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from pytest_procsemantics import ChildFailed, ChildOverdue, Vfork


def wait_until_at_rest(thread: threading.Thread) -> None:
    """Until a thread sleeps, and did not move for as long as one waits before it asks for the interpreter again."""
    folder, before = Path(f"/proc/self/task/{thread.native_id}"), ""
    while True:
        now = "".join(re.findall(r"State:\tS|ctxt_switches:\t\d+", (folder / "status").read_text()))
        if now == before and now.startswith("State"):
            return
        before = now
        time.sleep(2 * sys.getswitchinterval())


def test_threads_that_it_starts_are_awaited(vfork: Vfork) -> None:
    done: list[int] = []

    def works() -> None:
        time.sleep(0.05)
        done.append(os.getpid())

    def starts() -> None:
        threading.Thread(target=works).start()

    before = threading.enumerate()
    child = vfork(starts)
    assert done == [child.pid]
    assert threading.enumerate() == before


@pytest.mark.parametrize("end", [lambda: os._exit(0), lambda: os.kill(os.getpid(), signal.SIGKILL)])
def test_threads_that_go_with_it_are_forgotten(vfork: Vfork, end: Any) -> None:
    before = threading.enumerate()

    def starts() -> None:
        begun = threading.Event()

        def waits() -> None:
            begun.set()
            threading.Event().wait()

        thread = threading.Thread(target=waits)
        thread.start()
        begun.wait()
        wait_until_at_rest(thread)  # in the midst of Python no thread may be ended
        end()

    vfork(starts).wait()
    assert threading.enumerate() == before


def test_a_thread_that_does_not_end_is_told(vfork: Vfork) -> None:
    def waits_for_ever() -> None:
        threading.Event().wait()

    def starts() -> str:
        threading.Thread(target=waits_for_ever).start()
        return "done"

    with pytest.raises(ChildOverdue, match=r"\(phase: ending\)") as caught:
        vfork(starts, timeout=0.3).result()
    assert "in waits_for_ever" in caught.value.stacks


def test_another_thread_can_spawn(vfork: Vfork) -> None:
    found: list[Any] = []

    def spawns() -> None:
        child = vfork(lambda: [os.getpid(), threading.current_thread().name])
        found.append((child.pid, child.result()))
        for end, kind in ((lambda: 1 / 0, ZeroDivisionError), (lambda: os._exit(2), ChildFailed)):
            with pytest.raises(kind):
                vfork(end).result()
            found.append(kind)

    thread = threading.Thread(target=spawns, name="other")
    thread.start()
    thread.join()
    pid, result = found[0]
    assert result == [pid, "other"]
    assert found[1:] == [ZeroDivisionError, ChildFailed]


@pytest.mark.parametrize("hangs", [threading.Event().wait, lambda: [0 for _ in iter(int, 1)]])
def test_another_thread_s_child_that_hangs_is_ended(vfork: Vfork, hangs: Any) -> None:
    errors: list[BaseException] = []

    def spawns() -> None:
        try:
            vfork(hangs, timeout=0.1).wait()
        except ChildOverdue as error:
            errors.append(error)

    thread = threading.Thread(target=spawns)
    thread.start()
    thread.join()
    assert len(errors) == 1
    assert vfork(int).result() == 0


def test_threads_take_turns(vfork: Vfork) -> None:
    running: list[int] = []

    def is_alone() -> bool:
        running.append(os.getpid())
        time.sleep(0.001)
        return running.pop() == os.getpid() and not running

    found: list[bool] = []
    threads = [
        threading.Thread(target=lambda: found.extend(vfork(is_alone).result() for _ in range(10)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 30
