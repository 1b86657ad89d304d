"""Starts a driver, ends it or a part of it in some way, and tells what is left of it, as JSON.

    python overseer.py WHOM SIGNAL MOMENT COMMAND...

It is a sub-reaper: whatever the driver leaves becomes its child, so ECHILD from wait(2) is the
proof that nothing is left. WHOM is group (the driver's, as a terminal does), driver, child (the
driver's first), grandchild, or nobody; MOMENT is a number of seconds after the driver says "ready", or
"asleep": when all of its group sleep after that.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
LOOK = 0.001  # seconds between two looks whether all sleep
LIMIT = 30  # seconds for what takes milliseconds, or two seconds where a keeper is patient


def children(pid: int) -> list[int]:
    """The direct children of a process."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(child) for child in (task / "children").read_text().split()]
    return found


def descendants(pid: int) -> list[int]:
    """All below a process, as far as they don't end meanwhile."""
    found = []
    try:
        for child in children(pid):
            found += [child, *descendants(child)]
    except OSError:
        pass
    return found


def groups(pids: list[int]) -> set[str]:
    """The control groups of processes, without number and controllers."""
    found = set()
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
        except OSError:
            continue
        found |= {line.split(":", 2)[2] for line in lines}
    return found


def group_folders(paths: set[str]) -> list[str]:
    """Where control groups are mounted, if they are still there."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    points = [words[1] for words in map(str.split, lines) if words[2].startswith("cgroup")]
    return [point + path for point in points for path in paths if os.path.isdir(point + path)]


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def are_awake(group: int) -> bool:
    """Whether a process of this group runs or waits for its pages."""
    for pid in [group, *descendants(group)]:
        try:
            if os.getpgid(pid) == group and state(pid) in "RD":
                return True
        except OSError:
            pass
    return False


def describe(pid: int) -> str:
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        return f"{pid} {state(pid)} {line}"
    except OSError:
        return f"{pid}, gone meanwhile"


def reap_all(driver: int) -> tuple[int | None, list[str]]:
    """Wait until there is no child; gives the driver's wait status, and who is left when time is over."""
    status = None
    end = time.monotonic() + LIMIT
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, LIMIT, 0.1)
    while time.monotonic() < end:
        try:
            # Not waitpid(): that would go on after the alarm.
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG)
            if found is None:
                signal.sigtimedwait([signal.SIGCHLD], max(0, end - time.monotonic()))
                continue
        except ChildProcessError:
            return status, []
        if found.si_pid == driver:
            status = found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
    left = descendants(os.getpid())
    told = [describe(pid) for pid in left]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    return status, told


def main() -> None:
    whom, number, moment, *command = sys.argv[1:]
    assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    # For the driver it is at its default then, also in a run in the background, which ignores it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with (
        tempfile.TemporaryDirectory(prefix="overseen-") as folder,
        tempfile.TemporaryFile() as errors,
    ):
        os.chmod(folder, 0o777)
        own_groups = groups([os.getpid()])
        driver = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, "TMPDIR": folder, "PYTHONDONTWRITEBYTECODE": "1"},
            start_new_session=True,
        )
        assert driver.stdin and driver.stdout
        for line in driver.stdout:
            if line.endswith(b"ready\n"):
                break
        if moment == "asleep":
            limit = time.monotonic() + LIMIT
            while are_awake(driver.pid):
                assert time.monotonic() < limit, "they do not come to rest"
                time.sleep(LOOK)
        else:
            time.sleep(float(moment))  # which moment it is, and no evidence
        all_groups = groups(descendants(os.getpid())) - own_groups
        seen = len(descendants(driver.pid))
        begin = time.monotonic()
        if whom == "group":
            os.killpg(driver.pid, int(number))
        elif whom == "driver":
            os.kill(driver.pid, int(number))
        elif whom != "nobody" and seen:
            child = children(driver.pid)[0]
            os.kill(child if whom == "child" else children(child)[0], int(number))
        driver.stdin.close()
        status, left = reap_all(driver.pid)
        seconds = time.monotonic() - begin
        errors.seek(0)
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        report = {
            "seen": seen,
            "status": status,
            "processes": left,
            "seconds": seconds,
            "files": sorted(os.listdir(folder)),
            "mounts": [line for line in mounts if folder in line],
            "groups": group_folders(all_groups),
            "output": driver.stdout.read().decode("utf-8", "backslashreplace"),
            "errors": errors.read().decode("utf-8", "backslashreplace")[-4000:],
        }
        print(json.dumps(report))


main()
