"""What must be true of a child: its end, and what it leaves alone."""

from __future__ import annotations

import atexit
import errno
import faulthandler
import gc
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any

import pytest

from pytest_procsemantics import (
    Child,
    ChildFailed,
    ChildOverdue,
    Clone,
    Clone3,
    Fork,
)
from pytest_procsemantics.spawners import handle
from pytest_procsemantics.spawners.watch import Table
from pytest_procsemantics.waits import LOOK_UP

Maker = Any  # Fork | Clone | Clone3 | Vfork, which differ in what else they take
Has = Callable[[], tuple[list[str], list[int]]]

# What is not so for a child that has its parent's memory; test_vfork.py tells how it is there.
of_copies = pytest.mark.parametrize("make", ["fork", "clone", "clone3"], indirect=True)


# --- one child for all ---


@of_copies
def test_a_child_tells_what_the_kernel_knows_of_it(make: Maker) -> None:
    reader, writer = os.pipe()
    child = make(lambda: os.read(reader, 1))
    assert child.alive
    assert child.process.ppid() == os.getpid()
    assert f"Pid:\t{child.pid}\n" in Path(f"/proc/self/fdinfo/{child.pidfd}").read_text()
    with pytest.raises(TimeoutError, match="still runs after 0 s"):
        child.wait(timeout=0)
    os.write(writer, b"x")
    assert child.result() == b"x"
    assert (child.alive, child.pidfd, child.signal, child.exit_code) == (False, -1, None, 0)
    assert child.rusage.ru_maxrss > 0
    child.kill()
    os.close(reader)
    os.close(writer)


def test_without_pidfd_all_is_the_same(fork: Fork, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handle, "HAS_PIDFD", False)
    assert fork(lambda: 1).result() == 1
    child = fork(time.sleep, 60)
    assert child.alive
    with pytest.raises(TimeoutError):
        child.wait(timeout=0.01)
    child.kill(signal.SIGTERM)
    assert child.signal == signal.SIGTERM
    with pytest.raises(ChildOverdue):
        fork(time.sleep, 60, timeout=0.05).wait()


def test_an_ignored_sigchld_takes_the_status_but_not_the_result(fork: Fork) -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        child = fork(lambda: 5)
        assert child.result() == 5
        with pytest.raises(ChildFailed, match="SIGCHLD is ignored"):
            child.exit_code  # noqa: B018
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_nothing_is_left_of_a_failed_call(
    monkeypatch: pytest.MonkeyPatch, fork: Fork, has: Has
) -> None:
    def fails() -> int:
        raise BlockingIOError(errno.EAGAIN, "no")

    monkeypatch.setattr(os, "fork", fails)
    before = has()
    with pytest.raises(BlockingIOError, match="fork: Resource temporarily unavailable"):
        fork(int)
    assert has() == before


def test_an_interrupt_in_the_midst_of_a_spawn_leaves_no_child(
    fork: Fork, has: Has, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupts(*_: object) -> None:
        raise KeyboardInterrupt

    before = has()
    for kind, name in ((Child, "__init__"), (Table, "note")):
        with monkeypatch.context() as patch:
            patch.setattr(kind, name, interrupts)
            with pytest.raises(KeyboardInterrupt):
                fork(time.sleep, 60)
        assert has() == before


@of_copies
@pytest.mark.usefixtures("interrupting_hook")
def test_an_interrupt_in_a_fork_hook_is_not_lost(make: Maker, has: Has) -> None:
    before = has()
    with pytest.raises(KeyboardInterrupt):
        make(time.sleep, 60)
    assert has() == before


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), float("nan")])
def test_a_deadline_is_finite(fork: Fork, timeout: float) -> None:
    with pytest.raises(ValueError, match="is no length of time"):
        fork(int, timeout=timeout)


@of_copies
def test_a_child_may_spawn_with_the_same_spawner(make: Maker) -> None:
    assert make(lambda: make(lambda: [os.getppid()]).result() == [os.getpid()]).result()


def test_standard_streams_that_are_closed_are_the_childs_all_the_same() -> None:
    code = """
import os
from pytest_procsemantics import Fork
os.close(1)
os.close(2)
with Fork() as fork:
    child = fork(lambda: [print("printed"), os.write(2, b"raw")])
    os._exit(child.result() != [None, 3] or (child.stdout, child.stderr) != ("printed\\n", "raw"))
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_closing_ends_what_still_runs() -> None:
    with Fork() as fork:
        children = [fork(time.sleep, 60) for _ in range(3)]
    assert [child.signal for child in children] == [signal.SIGKILL] * 3


def test_many_children_leave_nothing(make: Maker, has: Has) -> None:
    make(int).result()
    before = has()
    for _ in range(20):
        make(int).result()
        make(print, "x").wait()
    assert has() == before


# --- no second pytest ---


@of_copies
def test_only_what_the_callable_registered_runs_at_its_end(make: Maker, tmp_path: Path) -> None:
    log = tmp_path / "log"

    def note(word: str) -> None:
        with log.open("a") as file:
            file.write(f"{word}\n")

    class Finalised:
        def __del__(self) -> None:
            note("finalised")

    def registers() -> None:
        atexit.register(note, "first")
        atexit.register(note, "last")
        gc.collect()

    atexit.register(note, "parent's")
    weakref.finalize(note, note, "weakly")
    garbage = [Finalised()]
    garbage.append(garbage)  # type: ignore[arg-type]
    gc.disable()
    try:
        del garbage
        make(registers).result()
        assert log.read_text().split() == ["last", "first"]
    finally:
        atexit.unregister(note)
        gc.enable()
        log.unlink()


@of_copies
def test_a_child_of_a_child_has_an_exit_status_of_its_own(make: Maker) -> None:
    def spawns() -> None:
        # There the status of this child is known already.
        atexit.register(lambda: print(make(int, "no number").wait().exit_code))

    child = make(spawns)
    assert child.wait().exit_code == 0
    assert child.stdout == "1\n"


def test_a_child_of_the_callables_own_has_no_say(make: Maker) -> None:
    def forks() -> str:
        pid = os.fork()
        if pid:
            os.waitpid(pid, 0)
            return "parent"
        raise ValueError("in the grandchild")

    child = make(forks)
    assert child.result() == "parent"
    assert "ValueError: in the grandchild" in child.stderr


def test_a_swallowed_exit_is_none(make: Maker) -> None:
    def swallows() -> str:
        try:
            sys.exit(3)
        except SystemExit:
            return "here"

    assert make(swallows).result() == "here"


@of_copies
def test_the_parents_hooks_for_exceptions_stay_the_parents(
    make: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[object] = []
    for place, name in ((sys, "excepthook"), (sys, "unraisablehook"), (threading, "excepthook")):
        monkeypatch.setattr(place, name, called.append)

    def fails_in_a_thread() -> int:
        thread = threading.Thread(target=lambda: 1 / 0)
        thread.start()
        thread.join()
        return len(called)

    child = make(fails_in_a_thread)
    assert child.result() == 0
    assert "ZeroDivisionError" in child.stderr


def test_what_was_inherited_works_on_in_the_parent(make: Maker) -> None:
    lock = threading.Lock()
    one, other = socket.socketpair()
    with one, other, selectors.DefaultSelector() as selector:
        selector.register(one, selectors.EVENT_READ)
        with lock:
            make(lambda: [selector.select(0), other.send(b"x")]).wait()
        assert lock.acquire(blocking=False)
        assert selector.select(5)
        assert one.recv(1) == b"x"


def test_shared_memory_outlives_a_child_that_had_it(make: Maker) -> None:
    segment = shared_memory.SharedMemory(create=True, size=16)
    assert segment.buf is not None
    try:
        segment.buf[0] = 7
        assert make(lambda: bytes(segment.buf or b"")[:1]).result() == b"\7"
        again = shared_memory.SharedMemory(segment.name)
        again.close()
    finally:
        segment.close()
        segment.unlink()


# --- fork hooks, threads, signals ---


@of_copies
def test_fork_hooks_run_once_and_in_order(make: Maker, hook_log: list[str]) -> None:
    assert make(lambda: list(hook_log)).result() == ["before", "child"]
    assert hook_log == ["before", "parent"]


@pytest.mark.parametrize("kind", [Clone, Clone3])
def test_fork_hooks_run_when_the_call_fails(kind: Maker, has: Has, hook_log: list[str]) -> None:
    with kind() as make:
        before = has()
        with pytest.raises(OSError, match=f"^.Errno 22. {make.primitive}: Invalid argument"):
            make(int, flags=0x800)  # CLONE_SIGHAND, which needs CLONE_VM
        assert has() == before
    assert hook_log == ["before", "parent"]


@of_copies
@pytest.mark.filterwarnings("error")
def test_threads_in_the_parent_lose_no_child(make: Maker, beside: None) -> None:
    assert threading.active_count() > 1
    assert make(threading.active_count).result() == 1


def test_any_thread_may_spawn(make: Maker) -> None:
    results: list[int] = []

    def spawns() -> None:
        results.extend(make(lambda n=number: n).result() for number in range(20))

    running = [threading.Thread(target=spawns) for _ in range(3)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    assert sorted(results) == sorted([*range(20)] * 3)


def test_signals_are_handled_as_before(make: Maker) -> None:
    def handlers() -> list[Any]:
        return [signal.getsignal(number) for number in signal.valid_signals()]

    def caught() -> str:
        return next(
            line for line in Path("/proc/self/status").read_text().split("\n") if "SigCgt" in line
        )

    before = handlers(), caught()
    with pytest.raises(ChildOverdue):
        make(time.sleep, 60, timeout=0.05).result()
    assert (handlers(), caught()) == before


@pytest.mark.parametrize("name", ["dump_traceback_later", "cancel_dump_traceback_later"])
def test_waiting_takes_no_timer_of_faulthandler(
    fork: Fork, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.delattr(faulthandler, name)
    with pytest.raises(ChildOverdue):
        fork(time.sleep, 60, timeout=0.05).result()


@pytest.mark.parametrize("most", [handle.FD_SETSIZE, 0], ids=["select", "poll"])
def test_a_wait_looks_up_now_and_then(
    fork: Fork, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """A signal that comes when Python is about to wait interrupts nothing: it is heard after that wait."""
    seen: list[float] = []

    def tells(self: handle.Handle, seconds: float) -> bool:
        seen.append(seconds)
        return usual(self, seconds)

    usual = handle.Handle._tells
    monkeypatch.setattr(handle, "FD_SETSIZE", most)
    monkeypatch.setattr(handle.Handle, "_tells", tells)
    assert fork(time.sleep, 2 * LOOK_UP).result() is None
    assert len(seen) >= 2
    assert max(seen) <= LOOK_UP
    with pytest.raises(TimeoutError, match=r"still runs after 0\.3 s"):
        fork(time.sleep, 60).wait(0.3)


def test_waiting_takes_no_timer_of_the_process_and_no_thread(make: Maker) -> None:
    timers = signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF
    before = list(map(signal.getitimer, timers)), os.listdir("/proc/self/task")
    child = make(lambda: None)
    seen = list(map(signal.getitimer, timers)), os.listdir("/proc/self/task")
    child.wait()
    assert seen[1] == before[1]
    # pytest-timeout's own timer has gone on.
    assert [bool(left) for left, _ in seen[0]] == [bool(left) for left, _ in before[0]]
