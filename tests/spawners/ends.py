"""What functions in a fresh interpreter can come to; test_programs.py has them called by name."""

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


def asserts() -> None:
    found = [1, 2]
    assert found == [1, 3], "they differ"


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


def hangs(*words: object) -> None:
    print(*words)
    time.sleep(99)


def waits_for_a_lock() -> None:
    print(flush=True)
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def hangs_with_descendants() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    hangs(subprocess.Popen(["setsid", "sleep", "99"]).pid)


def chatters() -> int:
    for number in range(20_000):
        print(number, "x" * 50)
    return os.write(2, b"y" * (1 << 20))


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
