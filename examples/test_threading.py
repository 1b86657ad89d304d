"""Locks: one that another thread holds at a fork stays locked in the child, where that thread is not.

https://docs.python.org/3/library/os.html#os.fork
The locks of `logging` are an exception, since Python 3.7.1 (bpo-6721):
https://docs.python.org/3/whatsnew/changelog.html#python-3-7-1-release-candidate-1
"""

import io
import logging
import threading

import pytest

from pytest_procsemantics import ChildOverdue


@pytest.fixture
def holding():
    """Have a thread hold a lock: it takes it before the test goes on, and gives it back at the end."""
    held, go_on = threading.Event(), threading.Event()
    threads = []

    def hold(lock):
        def run():
            with lock:
                held.set()
                go_on.wait()

        threads.append(threading.Thread(target=run, name="holder"))
        threads[0].start()
        held.wait()

    yield hold
    go_on.set()
    for thread in threads:
        thread.join()


def take(lock):
    with lock:
        return "taken"


def test_a_lock_of_a_thread_that_is_not_there_is_never_released(holding, spawn_fork):
    lock = threading.Lock()
    holding(lock)
    with pytest.raises(ChildOverdue, match="take") as overdue:
        spawn_fork(take, lock, timeout=1).result()
    assert "holder" in str(overdue.value)


def test_a_lock_that_is_made_in_the_child_is_free(holding, spawn_fork):
    holding(threading.Lock())
    assert spawn_fork(lambda: take(threading.Lock())).result() == "taken"


def test_a_logging_handler_works_in_the_child(spawn_fork):
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    started, go_on = threading.Event(), threading.Event()

    def log_all_the_time():
        while not go_on.is_set():
            handler.handle(logging.makeLogRecord({"msg": "parent"}))
            started.set()

    thread = threading.Thread(target=log_all_the_time)
    thread.start()
    started.wait()
    try:
        for _ in range(20):
            spawn_fork(handler.handle, logging.makeLogRecord({"msg": "child"})).result()
    finally:
        go_on.set()
        thread.join()
