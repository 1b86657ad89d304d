"""`python -m benchmarks.vfork_endurance`: very many children by vfork, each kind of end, in this very process.

What a child spoils in the memory of its parent shows late, and as a crash. So after each kind the parent works hard,
and makes as many children that return. Exit status 1, or a signal, when something is not as it must be.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from pytest_procsemantics import ChildError, ChildOverdue, Vfork

GROWTH = 5.0  # KB for each abrupt end
NOISE = 1000.0  # KB that a process may grow for other reasons
WARM = 20  # of so many children one is made before it is measured
SWITCHES = 0.0002  # seconds that a thread keeps the interpreter from others
TIMEOUT = 0.05  # seconds to the deadline of a child that hangs
ENTERING = 1.0  # the same, of one that must be in C by then, where no exception comes


def leaves() -> None:
    os._exit(1)


def leaves_from_below(depth: int = 5) -> None:
    if depth:
        leaves_from_below(depth - 1)
    os._exit(1)


def is_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def is_terminated_in_a_wait() -> None:
    signal.setitimer(signal.ITIMER_REAL, 0.0005)
    time.sleep(60)


def executes() -> None:
    os.execv("/bin/true", ["true"])


ABRUPT = (leaves, leaves_from_below, is_killed, is_terminated_in_a_wait, executes)


def sleeps() -> None:
    time.sleep(60)


def waits_for_a_lock() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def spins() -> None:
    while True:
        pass


def waits_for_a_lock_in_c() -> None:
    mutex = ctypes.create_string_buffer(64)  # all zero: PTHREAD_MUTEX_INITIALIZER
    for _ in range(2):
        ctypes.CDLL(None).pthread_mutex_lock(mutex)


HANGING = (sleeps, waits_for_a_lock, spins, waits_for_a_lock_in_c)


def spins_in_c() -> None:
    sum(itertools.repeat(0))


@contextmanager
def busy(count: int) -> Iterator[None]:
    """So many threads that want the interpreter, and get it often: each change of hands is a chance for a fault."""
    done = False
    interval = sys.getswitchinterval()
    sys.setswitchinterval(SWITCHES)

    def work() -> None:
        while not done:
            sum(range(100))

    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done = True
        for thread in threads:
            thread.join()
        sys.setswitchinterval(interval)


def kilobytes() -> float:
    """What of this process is in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024


def hard_work() -> None:
    """Collect, recurse, and fail to."""

    def recurses(depth: int) -> int:
        return depth and recurses(depth - 1)

    gc.collect()
    recurses(sys.getrecursionlimit() // 2)
    try:
        recurses(-1)
    except RecursionError:
        gc.collect()


def many(vfork: Vfork, function: Callable[[], None], count: int) -> tuple[float, float]:
    """Microseconds and kilobytes that each of so many children took; what they raise is no matter."""

    def makes(count: int) -> None:
        for _ in range(count):
            with suppress(ChildError):
                vfork(function).result()

    makes(count // WARM + 1)
    hard_work()
    files, size, begin = os.listdir("/proc/self/fd"), kilobytes(), time.perf_counter()
    makes(count)
    seconds, growth = time.perf_counter() - begin, kilobytes() - size
    hard_work()
    assert os.listdir("/proc/self/fd") == files
    return seconds / count * 1e6, growth


def returns(vfork: Vfork, count: int, threads: int) -> None:
    """Children that return, beside threads that want the interpreter."""
    with busy(threads):
        each, growth = many(vfork, type(None), count)
    print(
        f"{count} return beside {threads} busy threads: {each:.0f} us each, {growth:.0f} KB in all"
    )
    assert growth < NOISE


def ends(vfork: Vfork, count: int) -> None:
    """Children that end without unwinding."""
    for function in ABRUPT:
        each, growth = many(vfork, function, count)
        print(f"{count} {function.__name__}: {each:.0f} us, {growth / count:.2f} KB each")
        assert growth < NOISE + GROWTH * count
        for number in range(count):
            assert vfork(lambda number=number: number).result() == number


def hangs(vfork: Vfork, count: int) -> None:
    """Children past their deadline, beside a thread that wants the interpreter."""
    with busy(1):
        for function in HANGING:
            ways: dict[str, int] = {}
            for _ in range(count):
                try:
                    vfork(function, timeout=TIMEOUT).wait()
                except ChildOverdue as error:
                    way = str(error).partition("was ended by ")[2].partition(" (")[0]
                    ways[way] = ways.get(way, 0) + 1
            hard_work()
            print(f"{count} {function.__name__}: {ways}")
            assert sum(ways.values()) == count
            assert vfork(int).result() == 0


def keeps_the_interpreter() -> None:
    """A child that nothing ends but the end of this process, beside a thread that wants the interpreter."""
    with busy(1), Vfork() as vfork:
        vfork(spins_in_c, timeout=ENTERING)


def takes_along(count: int) -> None:
    """Children that keep the interpreter in C, each in a process of its own, which is ended with a message."""
    call = f"from {__spec__.name} import keeps_the_interpreter as keeps; keeps()"
    for _ in range(count):
        done = subprocess.run([sys.executable, "-c", call], stderr=subprocess.PIPE, text=True)
        assert done.returncode == -signal.SIGKILL, done
        assert "(vfork of spins_in_c) is past its deadline" in done.stderr, done.stderr
        assert " in spins_in_c\n" in done.stderr, done.stderr
    print(f"{count} {spins_in_c.__name__}: each took its process along, with a message")


def main() -> None:
    """Do as many as are asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.vfork_endurance", description=__doc__
    )
    parser.add_argument("--returns", type=int, default=10_000, help="children that return (10000)")
    parser.add_argument("--threads", type=int, default=2, help="busy threads beside them (2)")
    parser.add_argument(
        "--ends", type=int, default=1_000, help="children of each abrupt end (1000)"
    )
    parser.add_argument(
        "--hangs", type=int, default=200, help="children that hang, of each kind (200)"
    )
    parser.add_argument(
        "--keeps", type=int, default=200, help="children that keep the interpreter in C (200)"
    )
    arguments = parser.parse_args()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    with Vfork(timeout=60) as vfork:
        if arguments.returns:
            returns(vfork, arguments.returns, arguments.threads)
        if arguments.ends:
            ends(vfork, arguments.ends)
        if arguments.hangs:
            hangs(vfork, arguments.hangs)
    if arguments.keeps:
        takes_along(arguments.keeps)


if __name__ == "__main__":
    main()
