"""Whether exec leads back to the target: an emulator that runs one process may let the kernel below run the new image.

The suite would then judge the wrong kernel without a word (qemu-user without binfmt_misc does so).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_procsemantics.driven.constants import errno_name
from pytest_procsemantics.driven.errors import CallFailed, Ended, Unsupported

if TYPE_CHECKING:
    from pytest_procsemantics.driven.process import Process
    from pytest_procsemantics.driven.target import Target

NEED = "exec that stays on the target"
REFUSED = "exec of the agent gives {}"
BAD = -1
# Calls that kernels and emulators differ in, with arguments that each must refuse.
TOUCHSTONES = (
    ("clone3", (0, 0)),
    ("execveat", (BAD, 0, 0, 0, BAD)),
    ("kcmp", (BAD, BAD, BAD, 0, 0)),
    ("ptrace", (0xFFFF, 0, 0, 0)),
    ("seccomp", (99, 0, 0)),
    ("io_uring_setup", (0, 0)),
    ("bpf", (0xFFFF, 0, 0)),
    ("rseq", (0, 0, 0xFF, 0)),
    ("landlock_create_ruleset", (0, 0, 0xFF)),
    ("keyctl", (0xFFFF, 0, 0, 0, 0)),
)


def fingerprint(process: Process) -> tuple[int, ...]:
    """The raw results of the touchstones: they tell one kernel from another."""
    steps = [process.post.sys.raw(name, *arguments) for name, arguments in TOUCHSTONES]
    for step in steps:
        if not step.state:
            process.target.wait_for(step, None)
    return tuple(step.result for step in steps)


def expect_to_stay(target: Target) -> None:
    """Try once for each start of a target whether a new image is on it.

    Raises:
        Unsupported: it isn't, or there is none.
    """
    if target.image_problem is None:
        noted = len(target.transcript.events)
        target.image_problem = _problem(target.new_process("probe")) if target.spec.words else ""
        del target.transcript.events[noted:]
    if target.image_problem:
        raise Unsupported(f"{NEED} ({target.image_problem})")


def expect_to_tell(target: Target, errno: int) -> None:
    """An exec failed: with an errno that exec of the agent itself gives here, that tells nothing.

    Raises:
        Unsupported: it is that errno.
    """
    try:
        expect_to_stay(target)
    except Unsupported:
        if target.image_problem == REFUSED.format(errno_name(errno)):
            raise


def _problem(process: Process) -> str:
    before = fingerprint(process)
    try:
        process.exec_step("execve", b"", None, ()).arrives()
        after = fingerprint(process)
    except CallFailed as error:
        return REFUSED.format(errno_name(error.errno or 0))
    except Ended:
        return "exec of the agent ends the process"
    process.exit()
    return "" if after == before else "the new image runs on another kernel"
