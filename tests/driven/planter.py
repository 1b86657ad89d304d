"""A driver with processes that are hard to end: what overseer.py ends in some way, to see what is left.

    python planter.py SPEC PLANTS HOW

PLANTS are names of functions below with commas between, HOW is what it does afterwards:
return, raise, wait (for an answer that never comes), or loop (one test after the other).
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable

from pytest_procsemantics.driven import Process, Step, Target
from pytest_procsemantics.driven.constants import (
    AT_FDCWD,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    SIGCHLD,
    SIGSTOP,
)
from pytest_procsemantics.native import build

TIMEOUT = 60.0  # seconds
PR_SET_CHILD_SUBREAPER = 36
SCRIPT = "trap '' HUP INT TERM; (sleep 1000 & exec sleep 1000) & sleep 1000"


def stay(process: Process) -> Step:
    """Let it sleep in a call that ends with it."""
    step = process.post.sys.raw("ppoll", 0, 0, 0, 0, 0)
    assert isinstance(step, Step)
    return step


def paused(target: Target, parent: Process) -> None:
    stay(parent.fork())


def deaf(target: Target, parent: Process) -> None:
    child = parent.fork()
    child.sys.raw("rt_sigprocmask", 0, b"\xff" * 8, 0, 8)
    stay(child)


def stopped(target: Target, parent: Process) -> None:
    child = parent.fork()
    child.sys.setsid()  # gVisor 2022 hangs up its neighbours when their group is orphaned
    child.post.sys.kill(child.own_pid, SIGSTOP)


def frozen(target: Target, parent: Process) -> None:
    stay(parent.fork().vfork().vfork())


def orphan(target: Target, parent: Process) -> None:
    child = parent.fork()
    grandchild = child.fork()
    grandchild.sys.setsid()
    stay(grandchild)
    child.exit()


def threads(target: Target, parent: Process) -> None:
    child = parent.fork()
    for _ in range(3):
        stay(child.thread())


def sleeper(target: Target, parent: Process) -> None:
    parent.fork().post.execve("/bin/sleep", ["sleep", "1000"])


def shell(target: Target, parent: Process) -> None:
    child = parent.fork()
    child.sys.setsid()
    child.post.execve("/bin/sh", ["sh", "-c", SCRIPT], ["PATH=/bin:/usr/bin"])


def namespace(target: Target, parent: Process) -> None:
    child = parent.clone(CLONE_NEWUSER | CLONE_NEWPID | SIGCHLD)
    stay(child.fork())
    stay(child.vfork())


def reaper(target: Target, parent: Process) -> None:
    child = parent.fork()
    child.sys.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    middle = child.fork()
    stay(middle.fork())
    middle.exit()


def files(target: Target, parent: Process) -> None:
    folder = target.folder()
    parent.sys.mkdirat(AT_FDCWD, f"{folder}/inner", 0o700)
    parent.sys.mkdirat(AT_FDCWD, f"{folder}/inner/locked", 0)


def mount(target: Target, parent: Process) -> None:
    child = parent.clone(CLONE_NEWUSER | CLONE_NEWNS | SIGCHLD)
    child.sys.raw("mount", "none", target.folder(), "tmpfs", 0, 0)
    stay(child)


def plant(target: Target, names: str) -> Step:
    parent = target.new_process()
    for name in names.split(","):
        act: Callable[[Target, Process], None] = globals()[name]
        act(target, parent)
    return stay(target.new_process("last"))


def main() -> None:
    spec, names, how = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if how == "loop":
        # A checkout asks the compiler for its version, in a temporary folder: the build's affair.
        agent = build.agent()
        build.agent = lambda *_: agent
        print("ready", flush=True)
    with Target.open(spec, TIMEOUT) as target:
        while how == "loop":
            with target.test():
                plant(target, names)
        with target.test():
            step = plant(target, names)
            print("ready", flush=True)
            if how == "wait":
                step.arrives()
            sys.stdin.readline()
            if how == "raise":
                raise RuntimeError("as it was told")


main()
