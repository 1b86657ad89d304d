"""What `spawn_fork` costs beside a bare fork, in the process that makes both: a pytest that runs one test.

They take turns, for a fork costs what the parent has in memory, and the parent's memory grows.
"""

from __future__ import annotations

from benchmarks import programs, pytest_runs

EACH = 3  # children of a kind before it is the other one's turn

# The first child is not counted: it opens what later ones find open.
TEST = """
import os, time

def nothing():
    pass

def test_turns(spawn_fork):
    def spawns():
        spawn_fork(nothing).result()

    def bare():
        pid = os.fork()
        if not pid:
            os._exit(0)
        os.waitpid(pid, 0)

    os.sched_setaffinity(0, PROCESSORS)
    spawns()
    for _ in range({count}):
        times = []
        for function in (spawns, bare):
            begin = time.perf_counter()
            for _ in range(EACH):
                function()
            times.append((time.perf_counter() - begin) / EACH * 1e6)
        print("turn", *times)
""".replace("EACH", str(EACH))


def microseconds(runs: pytest_runs.Runs, rounds: int, processors: set[int]) -> tuple[float, float]:
    """Of a child by spawn_fork with its result, and of a bare one, in undisturbed rounds.

    Args:
        runs: of pytest.
        rounds: turns of each.
        processors: on which parent and child run; with more than one, side by side.
    """
    text = TEST.replace("PROCESSORS", f"[{', '.join(map(str, sorted(processors)))}]")
    command = runs.command(runs.file(text, rounds), pytest_runs.PLUGIN)
    lines = runs.output([*command, "-s"]).splitlines()
    turns = [tuple(map(float, line.split()[-2:])) for line in lines if "turn " in line]
    ours, bare = zip(*turns, strict=True)
    return programs.undisturbed(ours), programs.undisturbed(bare)
