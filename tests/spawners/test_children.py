"""What must be true of a child: its way back, its end, its output, and what it leaves alone."""

from __future__ import annotations

import atexit
import copy
import ctypes
import errno
import faulthandler
import gc
import io
import os
import pickle
import resource
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any

import pytest

from pytest_procsemantics import (
    Child,
    ChildError,
    ChildFailed,
    ChildKilled,
    ChildOverdue,
    Clone,
    Clone3,
    Fork,
)
from pytest_procsemantics.driven.constants.values import CLONE_NEWPID, CLONE_NEWUSER
from pytest_procsemantics.spawners import handle
from pytest_procsemantics.spawners.clone import CLONE_FILES, CLONE_SIGHAND, CLONE_VFORK, CLONE_VM
from pytest_procsemantics.spawners.support import CLONE_THREAD
from pytest_procsemantics.spawners.watch import Table

Maker = Any  # Fork | Clone | Clone3 | Vfork, which differ in what else they take
Has = Callable[[], tuple[list[str], list[int]]]

# What is not so for a child that has its parent's memory; test_vfork.py tells how it is there.
of_copies = pytest.mark.parametrize("make", ["fork", "clone", "clone3"], indirect=True)

# --- the way back ---


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
    waits: list[float] = []

    def tells(self: handle.Handle, seconds: float) -> bool:
        waits.append(seconds)
        return usual(self, seconds)

    usual = handle.Handle._tells
    monkeypatch.setattr(handle, "FD_SETSIZE", most)
    monkeypatch.setattr(handle.Handle, "_tells", tells)
    assert fork(time.sleep, 2 * handle.SLICE).result() is None
    assert len(waits) >= 2
    assert max(waits) <= handle.SLICE
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


# --- output ---


def test_everything_that_is_written_is_captured(make: Maker) -> None:
    def writes() -> None:
        print("printed")
        ctypes.CDLL(None).printf(b"by C\n")
        os.system("echo by a shell; echo error >&2")
        os.write(1, b"\xff\n")

    print("before", end="")
    child = make(writes)
    child.wait()
    assert sorted(child.stdout.split("\n")) == sorted(
        ["printed", "by C", "by a shell", "\udcff", ""]
    )
    assert child.stderr == "error\n"


def test_output_can_be_read_while_the_child_runs(fork: Fork) -> None:
    reader, writer = os.pipe()
    back, answer = os.pipe()

    def talks() -> None:
        print("first")
        os.write(answer, b"x")
        os.read(reader, 1)
        print("second")

    child = fork(talks)
    os.read(back, 1)
    assert child.stdout == "first\n"
    os.write(writer, b"x")
    assert child.wait().stdout == "first\nsecond\n"
    for descriptor in (reader, writer, back, answer):
        os.close(descriptor)


def test_output_that_is_not_captured_goes_where_the_parents_goes(
    make: Maker, capfd: pytest.CaptureFixture[str]
) -> None:
    child = make(lambda: (print("printed"), os.write(2, b"raw")), capture=False)
    child.wait()
    assert (child.stdout, child.stderr) == ("", "")
    assert capfd.readouterr() == ("printed\n", "raw")


def test_output_to_a_stream_in_memory_is_brought_home(
    make: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = io.StringIO()
    monkeypatch.setattr(sys, "stdout", memory)
    make(print, "printed", capture=False).wait()
    assert memory.getvalue() == "printed\n"


# --- flags ---


def test_with_shared_descriptors_the_parents_output_stays(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with Clone() as clone:
        reader, writer = os.pipe()

        def writes() -> None:
            print("captured")
            os.write(1, b"raw")
            os.close(writer)

        child = clone(writes, flags=CLONE_FILES).wait()
        assert os.read(reader, 1) == b""  # the writer was the parent's too
        os.close(reader)
    assert child.stdout == "captured\n"
    print("and on")
    assert capfd.readouterr().out == "rawand on\n"


def test_a_child_has_the_pid_that_was_set() -> None:
    def first_of_its_namespace() -> tuple[int, int]:
        child = clone3(os.getpid, set_tid=[77])
        return child.pid, child.result()

    with Clone3() as clone3:
        try:
            child = clone3(first_of_its_namespace, flags=CLONE_NEWUSER | CLONE_NEWPID)
        except OSError as error:
            pytest.skip(f"no user namespaces for this user: {error}")
        assert child.result() == (77, 77)


def test_a_control_group_is_that_of_the_descriptor(tmp_path: Path, has: Has) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    with Clone3() as clone3:
        before = has()
        # The kernel looked at it, and found that it is none.
        with pytest.raises(OSError, match="clone3: Bad file descriptor"):
            clone3(int, cgroup=folder)
        assert has() == before
    os.close(folder)


def test_a_child_without_a_signal_at_its_end_is_reaped() -> None:
    with Clone3() as clone3:
        assert clone3(os.getpid, exit_signal=0).wait().exit_code == 0


@pytest.mark.parametrize(
    ("flags", "way"),
    [
        (CLONE_VM, "procsem"),
        (CLONE_THREAD, "procsem"),
        (CLONE_VFORK, "procsem"),
        (CLONE_VM | CLONE_VFORK | CLONE_THREAD, "procsem"),
        (CLONE_VM | CLONE_VFORK | CLONE_SIGHAND, "procsem"),
        (0x1000, "CLONE_PIDFD takes an address"),
    ],
)
@pytest.mark.parametrize("kind", [Clone, Clone3])
def test_flags_that_cannot_work_are_refused(kind: Maker, flags: int, way: str) -> None:
    with kind() as make, pytest.raises(ValueError, match=way):
        make(int, flags=flags)
