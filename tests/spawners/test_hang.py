"""A child past its deadline: the message tells why it hangs, and nothing of it is left."""

from __future__ import annotations

import atexit
import ctypes
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from pytest_procsemantics import ChildOverdue, Fork, Thread
from pytest_procsemantics.spawners import tree

Maker = Any  # Fork | Clone | Clone3, which differ in what else they take
Overdue = Callable[..., ChildOverdue]

# What is not so for a child that has its parent's memory; test_vfork.py tells how it is there.
of_copies = pytest.mark.parametrize("make", ["fork", "clone", "clone3"], indirect=True)


@contextmanager
def held(acquire: Callable[[], Any], release: Callable[[], Any]) -> Iterator[None]:
    """A lock that another thread holds."""
    is_held, done = threading.Event(), threading.Event()

    def hold() -> None:
        acquire()
        is_held.set()
        done.wait()
        release()

    holder = threading.Thread(target=hold, name="holder")
    holder.start()
    is_held.wait()
    try:
        yield
    finally:
        done.set()
        holder.join()


@of_copies
def test_a_lock_of_a_vanished_thread_is_recognised(make: Maker, overdue: Overdue) -> None:
    lock = threading.Lock()

    def wants_the_lock() -> None:
        print()
        with lock:
            pass

    with held(lock.acquire, lock.release):
        error = overdue(make(wants_the_lock))
    assert error.phase == "callable"
    assert "in wants_the_lock" in error.stacks
    assert "in test_a_lock" not in error.stacks  # the parent's own frame
    text = str(error)
    assert re.search(r"threads of the parent at the spawn: \d+; not in the child:\n", text)
    assert re.search(r"^    holder: .* in hold", text, re.M)
    assert "threads: 1" in text
    assert "futex" in text
    assert "waits for a lock" in text


def test_a_lock_in_c_is_recognised(fork: Fork, overdue: Overdue) -> None:
    library = ctypes.CDLL(None)
    mutex = ctypes.create_string_buffer(64)  # all zero: PTHREAD_MUTEX_INITIALIZER

    def wants_the_mutex() -> None:
        print()
        library.pthread_mutex_lock(mutex)

    with held(
        lambda: library.pthread_mutex_lock(mutex), lambda: library.pthread_mutex_unlock(mutex)
    ):
        error = overdue(fork(wants_the_mutex))
    assert "in wants_the_mutex" in error.stacks
    assert "waits for a lock" in str(error)


@of_copies
@pytest.mark.usefixtures("hanging_hook")
def test_a_fork_hook_that_hangs_is_told(make: Maker) -> None:
    child = make(int, timeout=0.3)
    with pytest.raises(ChildOverdue, match="still ran at its deadline") as caught:
        child.wait()
    assert caught.value.seconds == 0.3
    assert caught.value.phase == "fork hooks"
    assert "in hook_that_hangs" in caught.value.stacks


def test_an_end_that_hangs_is_told(fork: Fork, overdue: Overdue) -> None:
    def registers() -> None:
        atexit.register(time.sleep, 60)
        atexit.register(print)

    assert overdue(fork(registers)).phase == "ending"


def test_the_descriptor_is_told_that_it_waits_on(fork: Fork, overdue: Overdue) -> None:
    reader, writer = os.pipe()
    text = str(overdue(fork(lambda: (print(), os.read(reader, 1)))))
    assert f"system call read on descriptor {reader}, pipe:[" in text
    os.close(reader)
    os.close(writer)


def test_a_busy_child_is_no_waiting_one(fork: Fork, overdue: Overdue) -> None:
    def spins() -> None:
        print()
        while True:
            pass

    text = str(overdue(fork(spins), "R"))
    assert "state R" in text
    assert "in spins" in text
    assert "waits for a lock" not in text


def test_all_threads_of_the_child_are_shown(fork: Fork, overdue: Overdue) -> None:
    def in_a_thread() -> None:
        print()
        time.sleep(60)

    def waits() -> None:
        thread = threading.Thread(target=in_a_thread)
        thread.start()
        thread.join()

    stacks = overdue(fork(waits)).stacks
    assert "in in_a_thread" in stacks
    assert "in waits" in stacks


@of_copies
def test_a_child_that_has_spawned_still_shows_its_stacks(make: Maker, overdue: Overdue) -> None:
    def spawns() -> None:
        make(int).result()
        print()
        time.sleep(60)

    assert "in spawns" in overdue(make(spawns)).stacks


def test_a_program_in_the_childs_place_is_told(fork: Fork, overdue: Overdue) -> None:
    reader, writer = os.pipe()
    line = "echo; read line"
    child = fork(lambda: (os.dup2(reader, 0), os.execv("/bin/sh", ["sh", "-c", line])))
    error = overdue(child)
    os.close(reader)
    os.close(writer)
    assert error.phase == "program"
    assert f"command line sh -c {line}" in str(error)


@of_copies
def test_descendants_are_ended_too(make: Maker, overdue: Overdue) -> None:
    def has_descendants() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        programs = [
            subprocess.Popen(["sh", "-c", "sleep 60 & echo $!; wait"], stdout=subprocess.PIPE),
            subprocess.Popen(["setsid", "sleep", "60"]),
        ]
        assert programs[0].stdout is not None
        print(programs[0].pid, int(programs[0].stdout.readline()), programs[1].pid)
        time.sleep(60)

    child = make(has_descendants)
    overdue(child)
    pids = list(map(int, child.stdout.split()))
    assert len(pids) == 3
    assert {tree.state(pid) for pid in pids} <= {"X", "Z"}


def test_a_deadline_holds_while_the_test_waits_for_something_else(fork: Fork) -> None:
    reader, writer = os.pipe()
    child = fork(time.sleep, 60, timeout=0.1)
    os.close(writer)
    assert os.read(reader, 1) == b""  # the child had the writer too
    os.close(reader)
    for _ in range(2):
        with pytest.raises(ChildOverdue, match="while nobody waited for it") as caught:
            child.result()
    assert (caught.value.seconds, caught.value.phase) == (0.1, "callable")
    assert "in live" not in caught.value.stacks


def test_a_thread_past_its_deadline_is_ended_where_it_runs_python() -> None:
    def spins() -> None:
        while True:
            pass

    with Thread() as spawn_thread:
        child = spawn_thread(spins, timeout=0.1)
        for _ in range(2):
            with pytest.raises(ChildOverdue, match="was ended") as caught:
                child.result()
        assert "in spins" in caught.value.stacks
        assert not child.alive
