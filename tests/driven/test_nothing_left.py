"""Nothing is left of a target, however the driver or a part of the target ends: overseer.py looks."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import pytest_procsemantics
from pytest_procsemantics.driven import StartFailed, Target, TargetLost
from pytest_procsemantics.native import build

pytestmark = [
    pytest.mark.skipif(not build.supported(), reason=f"no agent for {sys.platform} {build.host()}"),
    pytest.mark.timeout(300),
]

FOLDER = Path(__file__).parent
ALL = "paused,deaf,stopped,frozen,orphan,threads,sleeper,shell,reaper,files"
SOME = "paused,stopped,orphan,sleeper,shell,files"  # what every target can do
TARGETS = {
    "local": "local",
    "qemu": "exec:qemu-x86_64-static",
    "proot": "exec:proot",
    "runsc": "exec:runsc --platform=ptrace --network=none do",
}
MOMENTS = 30


@dataclass
class Report:
    """What overseer.py saw.

    Attributes:
        seen: processes below the driver before the end.
        status: the driver's exit status, or minus the signal that ended it.
        processes, files, mounts, groups: what is left.
        seconds: until nothing was.
        output, errors: the driver's standard output, from "ready" on, and error.
    """

    seen: int
    status: int | None
    processes: list[str]
    files: list[str]
    mounts: list[str]
    groups: list[str]
    seconds: float
    output: str
    errors: str


def outer() -> dict[str, str]:
    """The environment, without what the outer pytest tells its workers: that is not for an inner one."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}


def oversee(command: list[str], whom: str = "nobody", number: int = 0, moment: float = 0) -> Report:
    """Run a driver to its end, or end it; nothing may be left of it.

    Returns:
        The report, for what else there is to say.
    """
    overseer = [
        sys.executable,
        str(FOLDER.parent / "overseer.py"),
        whom,
        str(int(number)),
        str(moment),
    ]
    folders = [
        str(Path(pytest_procsemantics.__file__).parents[1]),
        os.environ.get("PYTHONPATH", ""),
    ]
    environment = {**outer(), "PYTHONPATH": os.pathsep.join(filter(None, folders))}
    done = subprocess.run(
        [*overseer, *command], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    report = Report(**json.loads(done.stdout))
    assert report.processes == [], report.errors
    assert report.files == [], report.errors
    assert report.mounts == []
    assert report.groups == []
    return report


def planter(spec: str, plants: str, how: str) -> list[str]:
    return [sys.executable, str(FOLDER / "planter.py"), spec, plants, how]


def can_make_user_namespaces() -> bool:
    """Whether this user may, on this machine."""
    unshare = shutil.which("unshare")
    return (
        bool(unshare) and not subprocess.run([str(unshare), "-U", "true"], check=False).returncode
    )


@pytest.fixture(params=TARGETS)
def spec(request: pytest.FixtureRequest) -> str:
    """A target specification, if its program is there."""
    spec = TARGETS[request.param]
    program = spec.partition(":")[2].split(" ")[0]
    if program and shutil.which(program) is None:
        pytest.skip(f"no program {program}")
    if program == "runsc" and os.geteuid() != 0:
        pytest.skip("runsc makes control groups, which needs root")
    return spec


@pytest.fixture
def plants(spec: str) -> str:
    """What grows on a target."""
    if spec != "local":
        return SOME
    return f"{ALL},namespace,mount" if can_make_user_namespaces() else ALL


def test_the_driver_returns(spec: str, plants: str) -> None:
    report = oversee(planter(spec, plants, "return"))
    assert report.status == 0, report.errors
    assert report.seen > len(plants.split(","))


def test_the_driver_raises(spec: str, plants: str) -> None:
    report = oversee(planter(spec, plants, "raise"))
    assert report.errors.endswith("RuntimeError: as it was told\n")
    assert report.status == 1


def test_the_driver_is_interrupted(spec: str, plants: str) -> None:
    report = oversee(planter(spec, plants, "wait"), "group", signal.SIGINT)
    assert report.errors.endswith("KeyboardInterrupt\n")
    assert report.status == -signal.SIGINT


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_driver_is_killed(spec: str, plants: str, number: int) -> None:
    report = oversee(planter(spec, plants, "wait"), "group", number)
    assert report.status == -number


def test_the_hub_is_killed(spec: str, plants: str) -> None:
    report = oversee(planter(spec, plants, "wait"), "grandchild", signal.SIGKILL)
    assert "TargetLost: the agent's stream ended" in report.errors
    assert report.status == 1


def test_the_keeper_is_told_to_end(spec: str, plants: str) -> None:
    report = oversee(planter(spec, plants, "wait"), "child", signal.SIGTERM)
    assert "TargetLost: the agent's stream ended" in report.errors
    assert report.status == 1


def test_the_keeper_is_killed(spec: str, plants: str) -> None:
    if "qemu" in spec:
        pytest.skip("qemu-user has no sub-reapers: orphans are known to the keeper only")
    report = oversee(planter(spec, plants, "return"), "child", signal.SIGKILL)
    assert report.status == 0, report.errors


def test_the_driver_is_killed_at_some_moment() -> None:
    source = random.Random(7)
    for _ in range(MOMENTS):
        moment = source.uniform(0, 0.2)
        oversee(planter("local", ALL, "loop"), "group", signal.SIGKILL, moment)


TEST = """
import os
import pytest
from pytest_procsemantics.driven import Target

@pytest.fixture(scope="session")
def target():
    with Target.open() as target:
        yield target

@pytest.mark.parametrize("number", range(1000))
def test_that_waits(target, number, capfd):
    with target.test():
        parent = target.new_process()
        child = parent.vfork()
        child.fork()
        answer = parent.post.sys.getpid()
        if number == 5:
            pid = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
            with capfd.disabled(), open(f"/proc/{pid}/fd/1", "w") as output:
                print("ready", file=output)
            answer.arrives()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["one-process", "xdist"])
def test_pytest_is_ended(tmp_path: Path, number: int, workers: list[str]) -> None:
    (tmp_path / "test_it.py").write_text(TEST)
    options = ["-p", "no:cacheprovider", "-p", "no:randomly", "--rootdir", str(tmp_path)]
    options += ["--basetemp", str(tmp_path / "base")]  # pytest's own folders are its own affair
    report = oversee(
        [sys.executable, "-m", "pytest", *options, *workers, str(tmp_path)], "group", number
    )
    assert report.status == (pytest.ExitCode.INTERRUPTED if number == signal.SIGINT else -number)


def descriptors() -> list[str]:
    """What this process has open."""
    return sorted(os.listdir("/proc/self/fd"))


def test_no_descriptor_is_left_in_a_driver_that_lives_on() -> None:
    timeout = 30.0
    before = descriptors()
    with Target.open("local", timeout) as target, target.test():
        target.new_process()
    assert descriptors() == before
    with pytest.raises(StartFailed):
        Target("exec:false", timeout).start()
    assert descriptors() == before
    target = Target("local", timeout)
    with target.test():
        os.kill(target.greeting.hub_pid, signal.SIGKILL)
        with pytest.raises(TargetLost):
            target.new_process()
    assert descriptors() == before


# In a namespace of its own, so that what others make on this machine is not counted.
LIES_AND_LOOKS = """
import ctypes, pathlib, subprocess, sys
from pytest_procsemantics.driven.constants import CLONE_NEWIPC

assert not ctypes.CDLL(None).unshare(CLONE_NEWIPC)
command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "--procsem-prove", *sys.argv[1:]]
done = subprocess.run(command)
left = [line for kind in ("msg", "sem", "shm")
        for line in pathlib.Path("/proc/sysvipc", kind).read_text().splitlines()[1:]]
sys.exit(done.returncode or "\\n".join(left) or 0)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a new IPC namespace")
def test_no_lie_leaves_a_queue_a_semaphore_or_a_segment() -> None:
    clauses = ("*/*sem*", "*/*queue*", "*/*ipc*", "*/*shared-memory*")
    selection = ["conformance", *(f"--procsem-clause={pattern}" for pattern in clauses)]
    done = subprocess.run(
        [sys.executable, "-c", LIES_AND_LOOKS, *selection],
        cwd=FOLDER.parent.parent,
        env=outer(),
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
