"""`python -m benchmarks`: what each thing costs beside a reference, in one table.

Exit status 1 when a bar is missed. Everything is measured by turns on one processor; `--json` gives the same as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import growth, programs, pytest_runs, spawning
from pytest_procsemantics.native import build
from pytest_procsemantics.spawners.support import why_not

FEW, MANY = 50, 450  # tests in a run: the difference is what tests cost without the start
START_LIMIT = 10.0  # milliseconds
IDLE_LIMIT = 0.01  # of a test that does nothing
GUARD_LIMIT = 3.0  # milliseconds
LARGE = 256  # MiB in memory
VFORK_LIMIT = 60.0  # microseconds
CROWD = 500  # other processes beside a guarded test
BLOCKS_LIMIT = 50  # of Python's memory, and
MEMORY_LIMIT = 512.0  # KiB of the process, that any number of children may leave


@dataclass(frozen=True)
class Row:
    """One line of the table; without a bar it is for information."""

    what: str
    measured: float
    reference: float
    against: str
    unit: str
    ratio: float
    bar: float | None = None

    @property
    def is_held(self) -> bool:
        """Whether the bar holds; nothing is measured to more digits than are printed."""
        return self.bar is None or round(self.ratio, 2) <= self.bar


def compared(
    what: str, measured: float, reference: float, against: str, unit: str, bar: float | None
) -> Row:
    """A row whose ratio is that of its two times."""
    return Row(what, measured, reference, against, unit, measured / reference, bar)


def steps(folder: Path, rounds: int) -> Iterator[Row]:
    """A step beside the same exchange in C: write, wait with a deadline, read."""
    program, agent = programs.compiled("step", folder), build.agent()
    found = programs.take_turns(
        {
            "step": programs.python_rounds("step"),
            "C": [program, agent, "poll"],
            "bare": [program, agent, "read"],
        },
        50,
        rounds,
    )
    yield compared("a step", found["step"], found["C"], "the same exchange in C", "us", 1.5)
    yield compared("a step", found["step"], found["bare"], "in C without deadline", "us", None)


def roots(folder: Path, rounds: int) -> Iterator[Row]:
    """A fresh root process with its clean-up beside the least process in C."""
    found = programs.take_turns(
        {
            "root": programs.python_rounds("root"),
            "C": [programs.compiled("fork", folder)],
        },
        10,
        rounds,
    )
    what = "a fresh process and its clean-up"
    yield compared(what, found["root"], found["C"], "fork, _exit, wait in C", "us", 2.0)


def checks(runs: pytest_runs.Runs, rounds: int) -> Iterator[Row]:
    """A check of twenty steps beside a test that does nothing."""
    plugins = (pytest_runs.PLUGIN, pytest_runs.FIXTURES)
    texts = (pytest_runs.CHECK, pytest_runs.TRIVIAL)
    check, trivial = pytest_runs.each(runs, texts, plugins, rounds)
    yield compared("a check of 20 steps", check, trivial, "a trivial test", "us", 3.0)


def idle(runs: pytest_runs.Runs, rounds: int) -> Iterator[Row]:
    """What the plugin costs a project that does not use it."""
    # The first run compiles. Two whole runs differ by more than this for no reason.
    seen = [
        float(runs.output([sys.executable, "-c", pytest_runs.START])) for _ in range(rounds + 1)
    ]
    least = min(seen[1:]) * 1e3
    yield compared("to load the plugin unused", least, START_LIMIT, "allowed", "ms", 1.0)
    ours, whole = (
        (many - few) / (MANY - FEW)
        for few, many in zip(idle_profile(runs, FEW), idle_profile(runs, MANY), strict=True)
    )
    yield compared(
        "the plugin for each unused test", ours, whole, "a trivial test", "us", IDLE_LIMIT
    )


def idle_profile(runs: pytest_runs.Runs, count: int) -> tuple[float, float]:
    """Microseconds in the plugin and in all, for so many tests that do not use it."""
    command = runs.command(runs.file(pytest_runs.TRIVIAL, count), pytest_runs.PLUGIN)
    command[command.index("pytest")] = "benchmarks.idle_profile"
    ours, whole = runs.output(command).split()[-2:]
    return float(ours), float(whole)


def spawns(runs: pytest_runs.Runs, rounds: int, processors: set[int]) -> Iterator[Row]:
    """A callable in a forked child beside a bare child, in the same process."""
    against = "os.fork, _exit, waitpid"
    ours, bare = spawning.microseconds(runs, rounds, processors)
    yield compared("spawn_fork of an empty callable", ours, bare, against, "us", 1.3)
    one = set(os.sched_getaffinity(0))
    ours, bare = spawning.microseconds(runs, rounds, one)
    yield compared("the same on one processor", ours, bare, against, "us", None)


def frozen(folder: Path, rounds: int) -> Iterator[Row]:
    """A callable in a child by vfork beside a forked one of a large process, and beside the least in C."""
    python = [sys.executable, "-m", "benchmarks.vfork_rounds"]
    found = programs.take_turns(
        {
            "small": [*python, "vfork", "0"],
            "large": [*python, "vfork", str(LARGE)],
            "fork": [*python, "fork", str(LARGE)],
            "C": [programs.compiled("fork", folder), "vfork"],
        },
        5,
        rounds,
    )
    what = f"spawn_vfork with {LARGE} MiB in memory"
    yield compared(what, found["large"], found["fork"], "os.fork, _exit, waitpid", "us", 0.05)
    what = "spawn_vfork of an empty callable"
    yield compared(what, found["small"], VFORK_LIMIT, "allowed", "us", 1.0)
    yield compared("the same", found["small"], found["C"], "vfork, _exit, wait in C", "us", None)


def guard(runs: pytest_runs.Runs, rounds: int) -> Iterator[Row]:
    """What leak_guard adds to a test on a machine with many processes."""
    texts, plugins = (pytest_runs.GUARDED, pytest_runs.TRIVIAL), (pytest_runs.PLUGIN,)
    with programs.crowd(CROWD):
        guarded, trivial = pytest_runs.each(runs, texts, plugins, rounds)
    added = (guarded - trivial) / 1e3
    yield compared("leak_guard for each test", added, GUARD_LIMIT, "allowed", "ms", 1.0)


def growths(count: int) -> Iterator[Row]:
    """What a process has more of after many children by each spawner."""
    for primitive, more in growth.growth(count):
        what = f"{count} by {primitive}"
        things, blocks = float(more.things), float(more.blocks)
        yield Row(f"{what}: descriptors, processes", things, 0.0, "", "", things, 0.0)
        ratio = blocks / BLOCKS_LIMIT
        yield Row(f"{what}: objects", blocks, BLOCKS_LIMIT, "allowed", "", ratio, 1.0)
        yield compared(f"{what}: memory", more.kilobytes, MEMORY_LIMIT, "allowed", "KiB", 1.0)


def suite() -> Iterator[Row]:
    """The whole suite on this machine."""
    seconds, last = pytest_runs.conformance_seconds()
    yield Row(f"the suite, one worker: {last}", seconds, 0.0, "", "s", 0.0)


def rows(arguments: argparse.Namespace) -> Iterator[Row]:
    """All that was asked for."""
    only, rounds = arguments.only, arguments.rounds
    with tempfile.TemporaryDirectory(prefix="procsem-benchmarks-") as name:
        folder = Path(name)
        runs = pytest_runs.Runs(folder)
        if not only or "step" in only:
            yield from steps(folder, rounds)
        if not only or "root" in only:
            yield from roots(folder, rounds)
        if not only or "check" in only:
            yield from checks(runs, max(rounds // 2, 1))
        if not only or "idle" in only:
            yield from idle(runs, max(rounds // 10, 1))
        if not only or "spawn" in only:
            yield from spawns(runs, rounds, arguments.processors)
        if (not only or "vfork" in only) and why_not("vfork") is None:
            yield from frozen(folder, rounds)
        if not only or "guard" in only:
            yield from guard(runs, max(rounds // 4, 1))
    if not only or "growth" in only:
        yield from growths(arguments.count)
    if not only or "suite" in only:
        yield from suite()


def table(found: list[Row]) -> str:
    """The rows for people."""
    lines = [f"{'what':40}{'measured':>12} {'reference':>11}   {'':24}{'ratio':>7}{'bar':>7}"]
    for row in found:
        line = f"{row.what:40}{row.measured:>9.1f} {row.unit}"
        if row.against:
            line += f"{row.reference:>9.1f} {row.unit}   {row.against:24}{row.ratio:>7.2f}"
        if row.bar is not None:
            line += f"{row.bar:>7.2f}  {'ok' if row.is_held else 'MISSED'}"
        lines.append(line)
    return "\n".join(lines)


def main() -> int:
    """Measure and print.

    Returns:
        0; 1 when a bar is missed.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--rounds", type=int, default=200, help="of each program (200)")
    parser.add_argument("--count", type=int, default=1000, help="children of each kind (1000)")
    parser.add_argument(
        "only", nargs="*", help="some of: step root check idle spawn vfork guard growth suite"
    )
    arguments = parser.parse_args()
    # Driver, hub and driven processes take over the affinity: a wake-up from another processor
    # costs ten times as much and would hide everything else.
    arguments.processors = set(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    try:
        found = list(rows(arguments))
    except (programs.NoCompiler, build.BuildFailed, pytest_runs.Failed) as error:
        sys.exit(f"benchmarks: {error}")
    except subprocess.SubprocessError as error:
        sys.exit(f"benchmarks: {error}")
    if arguments.json:
        print(json.dumps([{**asdict(row), "held": row.is_held} for row in found], indent=1))
    else:
        print(table(found))
    return 0 if all(row.is_held for row in found) else 1


if __name__ == "__main__":
    sys.exit(main())
