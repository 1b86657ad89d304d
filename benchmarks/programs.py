"""Programs that measure themselves in rounds, so that two can take turns on one processor.

A C program is compiled when it is needed, by the compiler that would build the agent. Each line of a program's standard
input is a number of repetitions, and it answers with the nanoseconds of one of them.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from pytest_procsemantics.native import build

HERE = Path(__file__).resolve().parent
FASTEST = 20  # of so many rounds one counts as undisturbed


class NoCompiler(Exception):
    """There is nothing to compare with: no C compiler that makes programs for this machine."""


def compiled(name: str, folder: Path) -> Path:
    """Compile NAME.c of this folder to a static program.

    Raises:
        NoCompiler: none was found, or it did not compile.
    """
    working = build.compiler()
    if working is None:
        raise NoCompiler("no working C compiler; next: pip install ziglang")
    # With the package ziglang: the freestanding target of the agent has no libc, this one has.
    command = [word.replace("-linux-none", "-linux-musl") for word in working.command]
    program = folder / name
    line = [*command, "-std=gnu11", "-O2", "-static", "-Wall", "-Wextra", f"-I{build.SOURCES}"]
    done = subprocess.run(
        [*line, str(HERE / f"{name}.c"), "-o", str(program)], capture_output=True, text=True
    )
    if done.returncode:
        raise NoCompiler(f"{working.name} does not compile {name}.c: {done.stderr.strip()}")
    return program


@contextlib.contextmanager
def crowd(count: int) -> Iterator[None]:
    """So many other processes, each asleep until the block ends."""
    # They sleep in a read of a pipe whose other end only this process has, so none outlives it.
    reader, writer = os.pipe()
    pids = []
    try:
        for _ in range(count):
            pid = os.fork()
            if not pid:
                os.close(writer)
                os.read(reader, 1)
                os._exit(0)
            pids.append(pid)
        yield
    finally:
        os.close(reader)
        os.close(writer)
        for pid in pids:
            os.waitpid(pid, 0)


class Rounds:
    """A running program of rounds."""

    def __init__(self, command: Sequence[str | Path]) -> None:
        self._process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin and self._process.stdout
        self._input: IO[str] = self._process.stdin
        self._output: IO[str] = self._process.stdout

    def close(self) -> None:
        """End the program, and wait for it."""
        self._input.close()
        self._process.wait()
        self._output.close()

    def round(self, count: int) -> float:
        """Microseconds of one of `count` repetitions."""
        self._input.write(f"{count}\n")
        self._input.flush()
        return int(self._output.readline()) / 1000


def python_rounds(what: str) -> list[str | Path]:
    """The command of a program of rounds on driven processes: step or root."""
    return [sys.executable, "-m", "benchmarks.driven_rounds", what]


def take_turns(
    programs: Mapping[str, Sequence[str | Path]], count: int, rounds: int
) -> dict[str, float]:
    """Run programs by turns.

    Args:
        programs: command by name.
        count: repetitions in a round; a round is short, so that some are disturbed by nobody.
        rounds: of each program.

    Returns:
        Microseconds of one repetition by name, in the fastest rounds.
    """
    running = {name: Rounds(command) for name, command in programs.items()}
    seen: dict[str, list[float]] = {name: [] for name in programs}
    try:
        for one in running.values():
            one.round(5 * count)
        for _ in range(rounds):
            for name, one in running.items():
                seen[name].append(one.round(count))
    finally:
        for one in running.values():
            one.close()
    return {name: undisturbed(values) for name, values in seen.items()}


def undisturbed(values: Sequence[float]) -> float:
    """What a thing costs when nobody else wants the processor: the fifth percentile, for the least is a matter of luck."""
    return sorted(values)[len(values) // FASTEST]
