"""However the suite is started, a verdict is about the kernel: what the start takes away is unsupported, nothing deviates."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LEAST = 1300  # verdicts that no start takes away
IS_ROOT = os.geteuid() == 0

# As a cautious service manager starts things: most of what a process inherits is another than usual.
SHELL = 'trap "" CHLD HUP PIPE; umask 077; ulimit -n 256 -c 0; exec "$@" <&-'
BURDENED = [
    *("sh", "-c", SHELL, "sh", "prlimit", "--msgqueue=1000", "--as=6000000000"),
    *("setarch", "-R", "setpriv", "--no-new-privs"),
]
BEHIND_ALL_OTHERS = ["nice", "-n", "19", "chrt", "-b", "0"]
# A rootless container, as far as ids and clocks go.
INNER_ROOT = ["unshare", "--user", "--map-root-user", "--time", "--boottime", "90000"]
WITH_FEW = ["setpriv", "--inh-caps=-all", "--bounding-set=-kill,-sys_admin,-sys_ptrace,-sys_nice"]
FILTERED = [sys.executable, str(ROOT / "tests" / "filtered.py"), "container"]
CONTAINER = [*FILTERED, *(WITH_FEW if IS_ROOT else [])]
WITH_NONE = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"]

needs_root = pytest.mark.skipif(not IS_ROOT, reason="only root has capabilities to lose")


def run(start: Sequence[str], folder: Path, *options: str) -> list[str]:
    """The verdicts of a run of the suite that is started so, and finds nothing that deviates."""
    tried = subprocess.run([*start, "true"], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"nothing can be started so here: {tried.stderr.strip()}")
    file = folder / "results.json"
    command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider"]
    command += [f"--basetemp={folder / 'base'}", f"--procsem-json={file}", "conformance", *options]
    done = subprocess.run(
        [*start, *command], cwd=ROOT, capture_output=True, text=True, errors="replace"
    )
    assert done.returncode == 0, done.stdout[-20000:] + done.stderr
    return [result["verdict"] for result in json.loads(file.read_text())["results"]]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "start",
    [
        pytest.param(BURDENED, id="burdened"),
        pytest.param(INNER_ROOT, id="root of a user namespace"),
        pytest.param(CONTAINER, id="in a container"),
        pytest.param(WITH_NONE, id="root with no capabilities", marks=needs_root),
    ],
)
def test_no_start_makes_the_kernel_deviate(start: Sequence[str], tmp_path: Path) -> None:
    assert run(start, tmp_path).count("conforms") > LEAST


def test_where_nobody_is_nicer_the_kernel_does_not_deviate(tmp_path: Path) -> None:
    verdicts = run(BEHIND_ALL_OTHERS, tmp_path, "-k", "nice or polic or priorit")
    assert {"conforms", "unsupported"} <= set(verdicts)
