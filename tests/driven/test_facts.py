"""What a target says of itself, also where the call that asks is refused or fatal."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pytest_procsemantics.driven import Target
from pytest_procsemantics.driven.constants.calls import NUMBERS
from pytest_procsemantics.driven.spec import host_machine
from pytest_procsemantics.requirements.marker import why_not_here

pytestmark = pytest.mark.skipif(
    why_not_here() is not None, reason=f"needs an agent: {why_not_here()}"
)
# seccomp(2): SECCOMP_RET_ERRNO with EPERM, and SECCOMP_RET_KILL_PROCESS.
RETURNS_EPERM, KILLS = 0x00050001, 0x80000000

# Starts a command in which one system call is filtered.
FILTER = """
import ctypes, os, struct, sys

number, action = int(sys.argv[1]), int(sys.argv[2])
code = b"".join(struct.pack("HBBI", *step) for step in (
    (0x20, 0, 0, 0),  # the call's number
    (0x15, 0, 1, number),
    (0x06, 0, 0, action),
    (0x06, 0, 0, 0x7FFF0000),
))
text = ctypes.create_string_buffer(code)
program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", 4, ctypes.addressof(text)))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
assert libc.prctl(22, 2, program, 0, 0) == 0, ctypes.get_errno()  # PR_SET_SECCOMP, a filter
os.execv(sys.argv[3], sys.argv[3:])
"""


@pytest.mark.parametrize("action", [RETURNS_EPERM, KILLS], ids=["refused", "fatal"])
def test_a_target_without_uname_has_an_unknown_release(tmp_path: Path, action: int) -> None:
    script = tmp_path / "filter.py"
    script.write_text(FILTER)
    uname = NUMBERS[host_machine()]["uname"]
    with Target.open(f"exec:{sys.executable} {script} {uname} {action}") as target, target.test():
        assert target.facts()["release"] == "unknown"
        assert target.kernel == (0, 0)
        assert target.observer.state(target.new_process()) == "S"


def test_a_process_on_its_way_to_rest_has_no_state_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    with Target.open("local") as target, target.test():
        process = target.new_process()
        looks = iter("RRS")
        monkeypatch.setattr(target.observer, "state_now", lambda _: next(looks))
        assert target.observer.state(process) == "S"
        assert not list(looks)
