"""What the start of the suite may have taken away from all of its processes, so that a check can't go on.

It says nothing of the target, so it is a reason for no verdict.
"""

from __future__ import annotations

from pytest_procsemantics.driven import Observer, Process
from pytest_procsemantics.driven.constants import PR_GET_NO_NEW_PRIVS, PRIO_PROCESS
from pytest_procsemantics.driven.errors import Unsupported
from pytest_procsemantics.driven.forms.identity import capability

NICEST = 19  # the highest nice value


def has_capability(process: Process, name: str) -> bool:
    """Whether a capability is effective, by its name without CAP_."""
    return bool(process.sys.capget().effective & capability(name))


def is_user_0_outside(process: Process) -> bool:
    """Whether user 0 here is user 0 of the namespace above too, as far as that can be seen."""
    lines = Observer(process).read("/proc/self/uid_map").splitlines()
    return any(line.split()[:2] == [b"0", b"0"] for line in lines)


def expect_own_id_map(process: Process) -> None:
    """Go on only where a process may map its own user into a new user namespace.

    Raises:
        Unsupported: it is user 0 and has no CAP_SETFCAP, which that takes (user_namespaces(7), since Linux 5.12).
    """
    if not process.sys.geteuid() and not has_capability(process, "SETFCAP"):
        raise Unsupported("cap:SETFCAP (to map user 0 into a user namespace)")


def expect_new_privileges(process: Process) -> None:
    """Go on only where a process can gain privileges by exec.

    Raises:
        Unsupported: it was started with no_new_privs, which can't be unset (prctl(2)).
    """
    if process.sys.prctl(PR_GET_NO_NEW_PRIVS):
        raise Unsupported("new privileges (the suite was started with no_new_privs)")


def expect_end_as_another(process: Process) -> None:
    """Go on only where a process that took another user's ids could still be ended by the hub.

    Raises:
        Unsupported: it may take them, and lacks CAP_KILL as the hub does.
    """
    if has_capability(process, "SETUID") and not has_capability(process, "KILL"):
        raise Unsupported("cap:KILL (to end a process of another user)")


def expect_user_0_outside(process: Process) -> None:
    """Go on only where user 0 is user 0 of the namespace above, too.

    Raises:
        Unsupported: it is another one there.
    """
    if not is_user_0_outside(process):
        raise Unsupported("user 0 outside (it is another user there)")


def become_nicer(process: Process) -> int:
    """Raise a process's nice value by one; another one above it is left.

    Returns:
        The new value, -19 to 18.

    Raises:
        Unsupported: it is too high already.
    """
    nice: int = process.sys.getpriority() + 1
    if nice >= NICEST:
        raise Unsupported(f"two nice values above the one of the start (it is {nice - 1})")
    process.sys.setpriority(PRIO_PROCESS, 0, nice)
    return nice
