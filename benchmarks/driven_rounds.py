"""`python -m benchmarks.driven_rounds step|root`: rounds of what a check does, for programs.py."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from pytest_procsemantics.driven import Target


def serve(once: Callable[[], object], after: Callable[[], object] = lambda: None) -> None:
    """Answer each number on standard input with the nanoseconds of one repetition; `after` is not measured."""
    for line in sys.stdin:
        count = int(line)
        begin = time.perf_counter_ns()
        for _ in range(count):
            once()
        print((time.perf_counter_ns() - begin) // count, flush=True)
        after()


def steps(target: Target) -> None:
    """One round trip to a driven process, getpid."""
    with target.test():
        parent = target.new_process()
        # A check has some dozen steps, not these thousands.
        serve(lambda: parent.sys.getpid(), lambda: target.transcript.events.clear())


def roots(target: Target) -> None:
    """A whole test with a fresh process and nothing else."""

    def once() -> None:
        with target.test():
            target.new_process()

    serve(once)


if __name__ == "__main__":
    with Target.open() as target:
        {"step": steps, "root": roots}[sys.argv[1]](target)
