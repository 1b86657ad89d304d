"""wait(2): what waitpid (by wait4) and waitid refuse."""

from __future__ import annotations

import pytest

from pytest_procsemantics import Process, clause
from pytest_procsemantics.driven import fails
from pytest_procsemantics.driven.constants import (
    EBADF,
    ECHILD,
    EFAULT,
    EINVAL,
    ESRCH,
    P_ALL,
    P_PGID,
    P_PID,
    P_PIDFD,
    WEXITED,
    WNOHANG,
    WNOWAIT,
)
from pytest_procsemantics.lies import leaves_out, lie, passes

UNMAPPED = 8  # an address: nothing is mapped in the first page
NO_SUCH_PID = 2147483647  # above every pid_max
INT_MIN = -2147483648
WAIT4_BITS = {0, 1, 3, 29, 30, 31}
WAITID_BITS = {0, 1, 2, 3, 24, 29, 30, 31}

WAIT4_SUCCEEDS = leaves_out("wait4")
WAITID_SUCCEEDS = leaves_out("waitid")


def bits_beyond(known: set[int]) -> list[int]:
    """The option bits that are none of those known."""
    return sorted(set(range(32)) - known)


@clause("wait.2/echild-wait")
@lie(WAIT4_SUCCEEDS)
@pytest.mark.parametrize("options", [0, WNOHANG], ids=["blocking", "WNOHANG"])
def test_without_children_there_is_nothing_to_wait_for(parent: Process, options: int) -> None:
    with fails(ECHILD):
        parent.sys.wait4(-1, options)


@clause("wait.2/echild-not-a-child")
@lie(passes("wait4 takes any child", "wait4", 0, -1))
def test_a_grandchild_is_no_child(parent: Process) -> None:
    child = parent.fork()
    grandchild = child.fork("grandchild")
    grandchild.exit()
    child.exit()
    with fails(ECHILD):
        parent.sys.wait4(grandchild.own_pid)


@clause("wait.2/echild-not-a-child")
@lie(WAIT4_SUCCEEDS)
def test_the_caller_is_no_child_of_its_own(parent: Process) -> None:
    with fails(ECHILD):
        parent.sys.wait4(parent.own_pid)


@clause("wait.2/echild-not-a-child")
@lie(WAIT4_SUCCEEDS)
def test_a_pid_that_nobody_has_is_no_child(parent: Process) -> None:
    with fails(ECHILD):
        parent.sys.wait4(NO_SUCH_PID)


@clause("wait.2/echild-empty-group")
@lie(passes("wait4 takes any child", "wait4", 0, -1))
def test_a_group_without_children_of_the_caller_is_refused(parent: Process) -> None:
    child = parent.fork()
    grandchild = child.fork("grandchild")
    grandchild.sys.setpgid(0, 0)
    child.exit()
    with fails(ECHILD):
        parent.sys.wait4(-grandchild.own_pid)


@clause("wait.2/waitid-options-refused")
@lie(passes("wait4 ignores the option", "wait4", 2, 0))
@pytest.mark.parametrize("option", [WEXITED, WNOWAIT], ids=["WEXITED", "WNOWAIT"])
def test_waitpid_refuses_options_of_waitid(parent: Process, option: int) -> None:
    child = parent.fork()
    child.exit(2)
    with fails(EINVAL):
        parent.sys.wait4(child.own_pid, option)
    assert child.wait_for_exit().code == 2


@clause("wait.2/waitid-options-refused", "wait.2/einval-options")
@lie(passes("waitid adds WEXITED", "waitid", 3, lambda options: options | WEXITED))
@pytest.mark.parametrize("options", [0, WNOHANG, WNOWAIT], ids=["none", "WNOHANG", "WNOWAIT"])
def test_waitid_wants_a_kind_of_change(parent: Process, options: int) -> None:
    child = parent.fork()
    child.exit()
    with fails(EINVAL):
        parent.sys.waitid(P_PID, child.own_pid, options)


@clause("wait.2/einval-options", "wait.2/accepted-option-has-its-effect")
@lie(passes("wait4 ignores the option", "wait4", 2, 0))
@pytest.mark.parametrize("bit", bits_beyond(WAIT4_BITS))
def test_waitpid_refuses_an_unknown_option(parent: Process, bit: int) -> None:
    child = parent.fork()
    child.exit()
    with fails(EINVAL):
        parent.sys.wait4(child.own_pid, 1 << bit)


@clause("wait.2/einval-options", "wait.2/accepted-option-has-its-effect")
@lie(passes("waitid ignores the option", "waitid", 3, WEXITED))
@pytest.mark.parametrize("bit", bits_beyond(WAITID_BITS))
def test_waitid_refuses_an_unknown_option(parent: Process, bit: int) -> None:
    child = parent.fork()
    child.exit()
    with fails(EINVAL):
        parent.sys.waitid(P_PID, child.own_pid, WEXITED | 1 << bit)


@clause("wait.2/einval-idtype")
@lie(passes("waitid takes any child", "waitid", 0, P_ALL))
@pytest.mark.parametrize(
    ("idtype", "id"),
    [(17, 1), (P_PID, 0), (P_PID, -3), (P_PGID, -1), (P_PIDFD, -1)],
    ids=["type 17", "P_PID 0", "P_PID -3", "P_PGID -1", "P_PIDFD -1"],
)
def test_an_unknown_idtype_and_an_impossible_id_are_refused(
    parent: Process, idtype: int, id: int
) -> None:
    parent.fork().exit()
    with fails(EINVAL):
        parent.sys.waitid(idtype, id, WEXITED)


@clause("wait.2/ebadf-pidfd")
@lie(WAITID_SUCCEEDS)
def test_p_pidfd_refuses_a_closed_descriptor(parent: Process) -> None:
    with fails(EBADF):
        parent.sys.waitid(P_PIDFD, 99, WEXITED)


@clause("wait.2/ebadf-pidfd")
@lie(WAITID_SUCCEEDS)
def test_p_pidfd_refuses_a_descriptor_that_is_no_pidfd(parent: Process) -> None:
    reader, _ = parent.sys.pipe()
    with fails(EBADF):
        parent.sys.waitid(P_PIDFD, reader, WEXITED)


@clause("wait.2/esrch-int-min")
@lie(passes("wait4 takes any child", "wait4", 0, -1))
def test_the_lowest_number_is_no_group(parent: Process) -> None:
    parent.fork().exit()
    with fails(ESRCH):
        parent.sys.wait4(INT_MIN)


@clause("wait.2/efault")
@lie(WAIT4_SUCCEEDS)
@pytest.mark.parametrize(
    ("status", "usage"), [(UNMAPPED, None), (None, UNMAPPED)], ids=["status", "usage"]
)
def test_waitpid_refuses_a_bad_address_and_reaps_the_child(
    parent: Process, status: int | None, usage: int | None
) -> None:
    child = parent.fork()
    child.exit()
    with fails(EFAULT):
        parent.sys.raw("wait4", child.own_pid, status, 0, usage)
    with fails(ECHILD):
        parent.sys.wait4(child.own_pid)


@clause("wait.2/efault")
@lie(WAITID_SUCCEEDS, passes("waitid leaves the child", "waitid", 3, WEXITED | WNOWAIT))
def test_waitid_refuses_a_bad_address_and_reaps_the_child(parent: Process) -> None:
    child = parent.fork()
    child.exit()
    with fails(EFAULT):
        parent.sys.raw("waitid", P_PID, child.own_pid, UNMAPPED, WEXITED, None)
    with fails(ECHILD):
        parent.sys.wait4(child.own_pid)
