"""What a target says of itself, also where the call that asks is refused or fatal."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from pytest_procsemantics.driven import CallFailed, StartFailed, Target, Unsupported
from pytest_procsemantics.driven.constants import (
    AT_FDCWD,
    CLONE_NEWUSER,
    EPERM,
    O_RDONLY,
    SECCOMP_RET_ERRNO,
    SECCOMP_RET_KILL_PROCESS,
)
from pytest_procsemantics.driven.constants.calls import NUMBERS
from pytest_procsemantics.driven.spec import host_machine
from pytest_procsemantics.requirements import own_namespaces
from pytest_procsemantics.requirements.marker import why_not_here

pytestmark = pytest.mark.skipif(
    why_not_here() is not None, reason=f"needs an agent: {why_not_here()}"
)
FILTERED = Path(__file__).parent.parent / "filtered.py"


@pytest.mark.parametrize(
    "action", [SECCOMP_RET_ERRNO | EPERM, SECCOMP_RET_KILL_PROCESS], ids=["refused", "fatal"]
)
def test_a_target_without_uname_has_an_unknown_release(action: int) -> None:
    uname = NUMBERS[host_machine()]["uname"]
    command = f"{sys.executable} {FILTERED} {uname}:{action}"
    with Target.open(f"exec:{command}") as target, target.test():
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


def test_what_finds_nothing_in_proc_where_there_is_none_is_unsupported(without_proc: str) -> None:
    with Target.open(without_proc) as target, target.test():
        assert not target.has_proc
        calls = target.new_process().sys
        for look in (
            lambda: calls.openat(AT_FDCWD, "/proc/self/exe", O_RDONLY),
            lambda: calls.readlinkat(AT_FDCWD, b"/proc/self/exe"),
            lambda: target.observer.read("/proc/self/exe"),
        ):
            with pytest.raises(Unsupported, match=r"/proc \(not mounted\)$"):
                look()
        with pytest.raises(CallFailed, match="ENOENT"):
            calls.readlinkat(AT_FDCWD, "/elsewhere")


def test_a_process_alone_that_does_not_see_proc_says_nothing_of_the_target() -> None:
    with Target.open("local") as target, target.test():
        process = target.new_process()
        own_namespaces(process, CLONE_NEWUSER)
        process.sys.chroot(target.folder())
        with pytest.raises(CallFailed, match="ENOENT"):
            process.sys.readlinkat(AT_FDCWD, "/proc/self")


def test_where_no_program_can_be_run_the_agent_needs_another_folder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flags = os.statvfs("/").f_flag | os.ST_NOEXEC
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_flag=flags))
    with pytest.raises(StartFailed, match=r"noexec.*set TMPDIR"), Target.open("local") as target:
        target.start()
