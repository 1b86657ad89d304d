"""Each entry of the package's own baselines is confirmed by a program that has nothing of ours in it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from pytest_procsemantics import catalogue
from pytest_procsemantics.baselines import Baseline, KnownDeviation

WITNESSES = Path(__file__).parent.parent / "conformance" / "witnesses"
COMPILER = next((found for found in map(shutil.which, ("cc", "gcc", "clang")) if found), None)
OPTIONS = ("-static", "-Wall", "-Wextra", "-Werror", "-Wno-unused-result")
LONGEST = 60  # seconds for all the witnesses of a target
SURVIVAL = 2  # seconds after which a program that should end at once has hung its target

needs_compiler = pytest.mark.skipif(
    COMPILER is None, reason="needs a C compiler (cc, gcc or clang) in PATH"
)


@dataclass(frozen=True)
class Foreign:
    """How programs are run on a target that is not this machine's kernel."""

    baseline: str
    command: tuple[str, ...]
    machine: str = "x86_64"
    has_exec: bool = True  # so that a shell there can start them, and the target starts once

    @property
    def compiler(self) -> str:
        return "aarch64-linux-gnu-gcc" if self.machine == "aarch64" else str(COMPILER)

    def witnesses(self, *, lost: bool = False) -> list[str]:
        """The distinct witnesses, with their arguments, of what this architecture has."""
        return sorted(
            {
                str(entry.witness)
                for entry in Baseline.load(self.baseline).deviations
                if entry.lost is lost and self._has(entry)
            }
        )

    def _has(self, entry: KnownDeviation) -> bool:
        needs = {word for id in entry.clauses for word in catalogue.clause(id).requires}
        return not any(w.startswith("arch:") and w != f"arch:{self.machine}" for w in needs)


FOREIGN = {
    "gvisor": Foreign("gvisor", ("runsc", "--platform=ptrace", "--network=none", "do")),
    "proot": Foreign("proot", ("proot",)),
    "proot-unprivileged": Foreign(
        "proot-unprivileged",
        ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "proot"),
    ),
    "qemu-x86_64": Foreign("qemu-user", ("qemu-x86_64-static",), has_exec=False),
    "qemu-aarch64": Foreign("qemu-user", ("qemu-aarch64-static",), "aarch64", has_exec=False),
}


def built(witnesses: Sequence[str], compiler: str, folder: Path) -> dict[str, str]:
    """The command of each witness, of programs that are built in a folder."""
    commands = {}
    for witness in witnesses:
        source, *arguments = witness.split()
        program = folder / f"{compiler.rpartition('/')[2]}-{source.replace('/', '-')[:-2]}"
        if not program.exists():
            subprocess.run([compiler, *OPTIONS, "-o", program, WITNESSES / source], check=True)
        commands[witness] = " ".join([str(program), *arguments])
    return commands


def started(command: Sequence[str]) -> subprocess.Popen[str]:
    """A command whose output() is asked for later."""
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


def output(process: subprocess.Popen[str], timeout: float = LONGEST) -> tuple[list[str], bool]:
    """The lines that a command prints, and whether it came to its end; nothing of it is left."""
    has_ended = True
    try:
        process.wait(max(timeout, 0))
    except subprocess.TimeoutExpired:
        has_ended = False
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.communicate()[0].splitlines(), has_ended


def run_all(commands: dict[str, str], target: Foreign | None) -> dict[str, str]:
    """The exit status of each witness, all run by one shell: there where the target can exec."""
    there = target.command if target and target.has_exec else ()
    before = "" if not target or target.has_exec else " ".join(target.command) + " "
    script = "\n".join(
        f"{before}{command} >/dev/null 2>&1; echo $?" for command in commands.values()
    )
    lines, has_ended = output(started([*there, "/bin/sh", "-c", script]))
    assert has_ended
    return dict(zip(commands, lines, strict=True))


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """Where the programs are built, once; every user can run them there, unlike in tmp_path."""
    with tempfile.TemporaryDirectory(prefix="witnesses-") as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.fixture(params=FOREIGN)
def foreign(request: pytest.FixtureRequest) -> Foreign:
    """A target whose baseline is the package's own."""
    target = FOREIGN[request.param]
    for tool in {target.command[0], target.compiler, *({"proot"} & set(target.command))}:
        if not shutil.which(tool):
            pytest.skip(f"needs {tool} in PATH")
    if os.geteuid() != 0:
        pytest.skip("needs root: the witnesses become other users")
    return target


@needs_compiler
@pytest.mark.parametrize(
    "deviation", Baseline.load("linux").deviations, ids=lambda one: one.clauses[0]
)
def test_the_witness_sees_the_deviation_of_linux(deviation: KnownDeviation, folder: Path) -> None:
    assert COMPILER and deviation.witness
    commands = built([deviation.witness], COMPILER, folder)
    assert run_all(commands, None) == {deviation.witness: "0"}


@needs_compiler
def test_the_witnesses_see_the_deviations(foreign: Foreign, folder: Path) -> None:
    witnesses = foreign.witnesses()
    seen = run_all(built(witnesses, foreign.compiler, folder), foreign)
    assert seen == dict.fromkeys(witnesses, "0")


@needs_compiler
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: the witnesses become other users")
def test_on_linux_the_witnesses_of_others_see_none(folder: Path) -> None:
    assert COMPILER
    own = {entry.witness for entry in Baseline.load("linux").deviations}
    others = {
        witness
        for target in FOREIGN.values()
        for witness in [*target.witnesses(), *target.witnesses(lost=True)]
    }
    witnesses = sorted(others - own)
    seen = run_all(built(witnesses, COMPILER, folder), None)
    assert seen == dict.fromkeys(witnesses, "1")


@needs_compiler
@pytest.mark.parametrize("foreign", ["proot"], indirect=True)
def test_the_target_does_not_survive_the_witness(foreign: Foreign, folder: Path) -> None:
    commands = built(foreign.witnesses(lost=True), foreign.compiler, folder)
    before = set(Path("/tmp").glob("witness-*"))
    processes = [started([*foreign.command, *command.split()]) for command in commands.values()]
    end = time.monotonic() + SURVIVAL
    said = [output(process, end - time.monotonic())[0] for process in processes]
    for left in set(Path("/tmp").glob("witness-*")) - before:
        shutil.rmtree(left)  # who is ended with the target removes nothing
    # Some are ended with their target, and some can still tell; on Linux each tells of none.
    assert not [line for lines in said for line in lines if line.endswith("as documented")]
