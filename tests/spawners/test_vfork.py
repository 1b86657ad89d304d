"""A child that has its parent's memory: what is so with it only."""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import ctypes
import gc
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from pytest_procsemantics import ChildKilled, ChildOverdue, Clone, Clone3, Fork, Vfork
from pytest_procsemantics.spawners.clone import CLONE_FILES, CLONE_VFORK, CLONE_VM
from pytest_procsemantics.spawners.support import why_not

EVENTS: list[str] = []
os.register_at_fork(before=lambda: EVENTS.append("before"))

pytestmark = pytest.mark.skipif(why_not("vfork") is not None, reason=str(why_not("vfork")))


# --- one memory ---


def test_what_a_child_changes_is_changed_here(vfork: Vfork) -> None:
    numbers = [1]
    child = vfork(numbers.append, 2)
    assert child.result() is None
    assert numbers == [1, 2]


def test_a_result_is_the_very_object(vfork: Vfork) -> None:
    made: list[object] = []

    def makes() -> object:
        made.append(threading.Lock())
        return made[0]

    assert vfork(makes).result() is made[0]


def test_the_spawning_thread_is_frozen_and_others_run(vfork: Vfork, steps: list[int]) -> None:
    own = f"/proc/{os.getpid()}/task/{threading.get_native_id()}/stat"

    def looks() -> str:
        limit = steps[0] + 100
        while steps[0] < limit:
            time.sleep(0)
        return Path(own).read_text().rpartition(")")[2].split()[0]

    assert vfork(looks).result() == "D"


def test_it_has_ended_when_the_call_returns(vfork: Vfork) -> None:
    child = vfork(os.getpid)
    assert not child.alive
    assert child.is_reaped and child.pidfd == -1
    assert child.result() == child.pid != os.getpid()
    assert child.rusage.ru_maxrss > 0
    assert (child.exit_code, child.signal) == (0, None)
    child.kill()


def test_a_child_that_left_is_known_to_have_ended_at_once(vfork: Vfork) -> None:
    for _ in range(50):
        assert not vfork(os._exit, 3).alive


def test_a_child_goes_on_as_another_program(vfork: Vfork) -> None:
    child = vfork(os.execv, "/bin/sh", ["sh", "-c", "echo $$; exec sleep 60"])
    assert child.alive
    with pytest.raises(TimeoutError):
        child.wait(timeout=0)
    while not child.stdout:
        assert child.alive
    child.kill(signal.SIGTERM)
    with pytest.raises(ChildKilled, match=r"\(vfork of execv\) was killed by SIGTERM"):
        child.result()
    assert child.stdout == f"{child.pid}\n"


def test_a_program_that_hangs_is_told(vfork: Vfork) -> None:
    child = vfork(os.execv, "/bin/sleep", ["sleep", "61"], timeout=0.3)
    with pytest.raises(ChildOverdue, match=r"\(phase: program\)") as caught:
        child.wait()
    assert "command line sleep 61" in str(caught.value)


def test_an_exception_is_itself_with_its_frames(vfork: Vfork) -> None:
    error = ValueError("no")

    def raises() -> None:
        raise error

    child = vfork(raises)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"^no$") as caught:
            child.result()
        assert caught.value is error
        assert caught.traceback[-1].name == "raises"
        assert not [entry for entry in caught.traceback if entry.name in {"live", "run"}]


def test_what_is_local_to_its_frames_ends_with_the_child(vfork: Vfork) -> None:
    ended: list[int] = []

    class Local:
        def __del__(self) -> None:
            ended.append(os.getpid())

    def raises() -> None:
        local = Local()
        cycle: list[Any] = [Local()]
        cycle.append(cycle)
        raise ValueError(type(local))

    child = vfork(raises)
    assert ended == [child.pid] * 2
    with pytest.raises(ValueError, match="Local"):
        child.result()


def test_what_was_garbage_before_is_not_finalised_by_a_child(vfork: Vfork) -> None:
    ended: list[int] = []

    class Garbage:
        def __del__(self) -> None:
            ended.append(os.getpid())

    def makes_much() -> bool:
        kept = [[number] for number in range(5000)]
        return len(kept) == 5000 and not gc.isenabled()

    cycle: list[Any] = [Garbage()]
    cycle.append(cycle)
    del cycle
    assert vfork(makes_much).result()
    assert gc.isenabled()
    gc.collect()
    assert ended == [os.getpid()]


# --- what is as before when it has ended ---


@pytest.mark.parametrize("end", [lambda: None, lambda: os._exit(0)], ids=["unwinds", "leaves"])
def test_what_is_no_matter_of_the_parents_is_put_back(vfork: Vfork, end: Any) -> None:
    def changes() -> None:
        sys.stdout = sys.stderr = None
        signal.signal(signal.SIGUSR1, lambda *_: None)
        signal.set_wakeup_fd(-1)
        gc.disable()
        os.close(0)
        end()

    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer)
    out, err = sys.stdout, sys.stderr
    try:
        vfork(changes).wait()
        assert (sys.stdout, sys.stderr) == (out, err)
        assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
        assert gc.isenabled()
        os.fstat(0)
    finally:
        assert signal.set_wakeup_fd(before) == writer
        os.close(reader)
        os.close(writer)


def test_a_handler_in_c_stays(vfork: Vfork) -> None:
    api = ctypes.pythonapi
    api.PyOS_getsig.restype = ctypes.c_void_p
    before = api.PyOS_getsig(signal.SIGSEGV)  # faulthandler's, which Python does not know
    vfork(signal.signal, signal.SIGSEGV, lambda *_: None).result()
    assert api.PyOS_getsig(signal.SIGSEGV) == before
    assert signal.getsignal(signal.SIGSEGV) == signal.SIG_DFL


def test_no_fork_hook_runs(vfork: Vfork) -> None:
    EVENTS.clear()
    vfork(int).result()
    assert EVENTS == []


def test_what_it_registers_with_atexit_is_the_parents(vfork: Vfork) -> None:
    ran: list[int] = []

    def note() -> None:
        ran.append(os.getpid())

    before = atexit._ncallbacks()
    vfork(atexit.register, note).result()
    assert (ran, atexit._ncallbacks()) == ([], before + 1)
    atexit.unregister(note)


def test_context_variables_are_the_callers(vfork: Vfork) -> None:
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable")
    variable.set(1)

    def changes() -> int:
        found = variable.get()
        variable.set(2)
        return found

    assert vfork(changes).result() == 1
    assert variable.get() == 1


def test_thread_locals_are_not_the_callers_but_those_of_a_spawners_children(vfork: Vfork) -> None:
    local = threading.local()
    local.value = "parent"
    assert not vfork(hasattr, local, "value").result()
    vfork(setattr, local, "value", "child").result()
    assert vfork(getattr, local, "value").result() == "child"
    vfork(os._exit, 0).wait()
    assert not vfork(hasattr, local, "value").result()
    assert local.value == "parent"


def test_an_event_loop_goes_on_and_is_not_the_childs(vfork: Vfork) -> None:
    async def answers() -> int:
        await asyncio.sleep(0)
        return os.getpid()

    def runs_its_own() -> int:
        with pytest.raises(RuntimeError, match="no running event loop"):
            asyncio.get_running_loop()
        return asyncio.run(answers())

    async def spawns() -> None:
        loop = asyncio.get_running_loop()
        child = vfork(runs_its_own)
        assert child.result() == child.pid
        assert asyncio.get_running_loop() is loop
        assert await answers() == os.getpid()

    asyncio.run(spawns())


# --- what is refused ---


def test_a_child_spawns_nothing_but_by_the_means_of_python(vfork: Vfork) -> None:
    with Fork() as fork:
        for spawn in (vfork, fork):
            with pytest.raises(RuntimeError, match="not in a child by vfork"):
                vfork(spawn, int).result()
    assert (
        vfork(lambda: subprocess.run(["echo", "x"], capture_output=True).stdout).result() == b"x\n"
    )

    def forks() -> int:
        pid = os.fork()
        if not pid:
            os._exit(len(vfork(os.getpid).stdout))  # a copy, with spawners of its own
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    assert vfork(forks).result() == 0


def test_a_child_by_fork_can_spawn(vfork: Vfork) -> None:
    vfork(int).result()

    def spawns() -> tuple[int, int]:
        child = vfork(os.getppid)
        return child.result(), os.getpid()

    with Fork() as fork:
        one, other = fork(spawns).result()
    assert one == other != os.getpid()


def test_nothing_is_left_where_descriptors_run_out(vfork: Vfork) -> None:
    vfork(int).result()
    before, limits = os.listdir("/proc/self/fd"), resource.getrlimit(resource.RLIMIT_NOFILE)
    # The lowest number that is free, and one more.
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, limits[1]))
    try:
        with pytest.raises(OSError, match=r"vfork: Too many open files$"):
            vfork(int)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert os.listdir("/proc/self/fd") == before


# --- by clone and clone3 ---


@pytest.mark.parametrize("kind", [Clone, Clone3])
def test_clone_with_its_flags_is_the_same(kind: type[Clone | Clone3]) -> None:
    if reason := why_not(kind.primitive):
        pytest.skip(reason)
    reader, writer = os.pipe()
    numbers: list[int] = []
    with kind() as clone:

        def appends() -> None:
            print("out")
            numbers.append(1)

        def closes() -> None:
            print("out")
            os.close(writer)

        child = clone(appends, flags=CLONE_VM | CLONE_VFORK)
        assert (child.wait().exit_code, child.stdout, numbers) == (0, "out\n", [1])
        assert not child.alive
        child = clone(closes, flags=CLONE_VM | CLONE_VFORK | CLONE_FILES)
        assert child.wait().stdout == "out\n"
        assert os.read(reader, 1) == b""
        with pytest.raises(OSError, match=f"^.*{kind.primitive}: Invalid argument"):
            clone(int, flags=CLONE_VM | CLONE_VFORK | 0x20000 | 0x200)  # CLONE_NEWNS, CLONE_FS
    os.close(reader)
