"""prctl(2): what a change of user or group ids does to PR_SET_PDEATHSIG and PR_SET_DUMPABLE."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_procsemantics import Process, clause
from pytest_procsemantics.driven import Observer, Step
from pytest_procsemantics.driven.constants import (
    PR_GET_DUMPABLE,
    PR_GET_PDEATHSIG,
    PR_SET_PDEATHSIG,
    SIGUSR1,
)
from pytest_procsemantics.lies import Liar, Lie, lie, passes

ANOTHER = 1000
SAME = -1  # leaves an id as it is


class _IdsStay(Liar):
    def ask_call(self, name: str, number: int, args: Any, decode: Any = None) -> Step:
        if name.startswith("set"):
            self.tell()
            number = self.sys.number("sched_yield")
        return super().ask_call(name, number, args, decode)


IDS_STAY = Lie("the ids stay", _IdsStay)


@pytest.mark.parametrize(
    ("call", "ids"),
    [
        pytest.param(
            "setresgid",
            (SAME, ANOTHER, SAME),
            id="egid",
            marks=clause("prctl.2/pdeathsig-cleared-by-egid-change"),
        ),
        pytest.param(
            "setresuid",
            (SAME, ANOTHER, SAME),
            id="euid",
            marks=clause("prctl.2/pdeathsig-cleared-by-euid-change"),
        ),
        pytest.param(
            "setfsgid",
            (ANOTHER,),
            id="fsgid",
            marks=clause("prctl.2/pdeathsig-cleared-by-fsgid-change"),
        ),
        pytest.param(
            "setfsuid",
            (ANOTHER,),
            id="fsuid",
            marks=clause("prctl.2/pdeathsig-cleared-by-fsuid-change"),
        ),
    ],
)
@lie(IDS_STAY)
def test_the_parent_death_signal_is_cleared(
    parent: Process, call: str, ids: tuple[int, ...]
) -> None:
    parent.sys.prctl(PR_SET_PDEATHSIG, SIGUSR1)
    parent.sys.raw(call, *ids)
    assert parent.sys.prctl(PR_GET_PDEATHSIG) == 0


@clause("prctl.2/pdeathsig-cleared-by-egid-change")
@lie(passes("the effective id too", "setresgid", 1, ANOTHER))
def test_another_real_gid_leaves_the_parent_death_signal(parent: Process) -> None:
    parent.sys.prctl(PR_SET_PDEATHSIG, SIGUSR1)
    parent.sys.setresgid(ANOTHER, SAME, SAME)
    assert parent.sys.prctl(PR_GET_PDEATHSIG) == SIGUSR1


@clause("prctl.2/pdeathsig-cleared-by-euid-change")
@lie(passes("the effective id too", "setresuid", 1, ANOTHER))
def test_another_real_uid_leaves_the_parent_death_signal(parent: Process) -> None:
    parent.sys.prctl(PR_SET_PDEATHSIG, SIGUSR1)
    parent.sys.setresuid(ANOTHER, SAME, SAME)
    assert parent.sys.prctl(PR_GET_PDEATHSIG) == SIGUSR1


@pytest.mark.parametrize(
    ("call", "ids"),
    [
        pytest.param(
            "setresgid",
            (SAME, ANOTHER, SAME),
            id="egid",
            marks=clause("prctl.2/dumpable-changed-effective-ids"),
        ),
        pytest.param(
            "setresuid",
            (SAME, ANOTHER, SAME),
            id="euid",
            marks=clause("prctl.2/dumpable-changed-effective-ids"),
        ),
        pytest.param(
            "setfsgid", (ANOTHER,), id="fsgid", marks=clause("prctl.2/dumpable-changed-fs-ids")
        ),
        pytest.param(
            "setfsuid", (ANOTHER,), id="fsuid", marks=clause("prctl.2/dumpable-changed-fs-ids")
        ),
    ],
)
@lie(IDS_STAY)
def test_the_process_is_as_dumpable_as_the_system_says(
    parent: Process, observer: Observer, call: str, ids: tuple[int, ...]
) -> None:
    parent.sys.raw(call, *ids)
    assert parent.sys.prctl(PR_GET_DUMPABLE) == int(observer.read("/proc/sys/fs/suid_dumpable"))


@clause("prctl.2/dumpable-changed-effective-ids")
@lie(passes("the effective id too", "setresuid", 1, ANOTHER))
def test_another_real_uid_leaves_the_process_dumpable(parent: Process) -> None:
    parent.sys.setresuid(ANOTHER, SAME, SAME)
    assert parent.sys.prctl(PR_GET_DUMPABLE) == 1
