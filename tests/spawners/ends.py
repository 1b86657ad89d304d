"""Every end that a callable can come to, for test_matrix.py; and what other tests have a fresh interpreter call.

A fresh interpreter imports this file for each of them, so it imports little itself.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import warnings

LARGE = 100_000_000  # bytes


class Odd(Exception):
    """Can be pickled, but not made again."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def returns(*args: object, **kwargs: object) -> object:
    return args, kwargs


def returns_none() -> None:
    pass


def returns_much() -> bytes:
    return bytes(LARGE)


def returns_what_has_no_copy() -> object:
    return threading.Lock()


def raises() -> None:
    raise ValueError("bad", 3)


def raises_what_has_no_copy() -> None:
    raise Odd(1, 2)


def raises_a_base_exception() -> None:
    raise GeneratorExit("no")


def interrupts() -> None:
    raise KeyboardInterrupt


def says(word: str, message: str) -> None:
    import pytest

    getattr(pytest, word)(message)


def exits(code: object = None) -> None:
    sys.exit(code)  # type: ignore[arg-type]


def leaves(code: int) -> None:
    os._exit(code)


def executes() -> None:
    os.execv("/bin/sh", ["sh", "-c", "exit 5"])


def is_killed(number: int) -> None:
    os.kill(os.getpid(), number)


def hangs() -> None:
    while True:
        time.sleep(0.01)  # a thread is ended where it runs Python code


def chatters() -> int:
    for number in range(20_000):
        print(number, "x" * 50)
    return os.write(2, b"y" * (1 << 20))


def waits_for_a_lock() -> None:
    print(flush=True)
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def hangs_with_descendants() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print(subprocess.Popen(["setsid", "sleep", "99"]).pid)
    time.sleep(99)


def prints_and_leaves() -> None:
    print("printed")
    os._exit(0)


def closes_all() -> str:
    os.closerange(3, 256)
    assert os.pipe()[0] == 3
    return "still here"


def warns() -> None:
    warnings.warn("worn out", UserWarning, stacklevel=1)


def place() -> tuple[list[str], list[str]]:
    return sys.path, sys.argv
