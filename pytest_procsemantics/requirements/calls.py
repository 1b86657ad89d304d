"""`syscall:NAME`: the kernel has the call, found out by making it with arguments that it must refuse.

-1 is no valid descriptor, address, id, size or set of flags, so it goes into every argument. The
tables have the calls for which that would do something, or would say nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from pytest_procsemantics.driven import Process
from pytest_procsemantics.driven.constants import (
    ADDR_NO_RANDOMIZE,
    EINTR,
    ENOSPC,
    ENOSYS,
    EOPNOTSUPP,
    EPERM,
    FUTEX_WAKE,
    ITIMER_REAL,
    LANDLOCK_CREATE_RULESET_VERSION,
    MEMBARRIER_CMD_QUERY,
    SIGALRM,
)
from pytest_procsemantics.driven.constants.calls import NUMBERS
from pytest_procsemantics.driven.errors import CallFailed
from pytest_procsemantics.requirements.common import errno_of

REFUSED = (-1,) * 6
NO_PID = 0x7FFFFFFF  # above every pid_max
SOME_KEY = 1  # of System V IPC; without IPC_CREAT it is only looked up

# No process is driven without these, and the rest have no argument that could be refused.
GRANTED = {"exit", "exit_group", "read", "write", "rt_sigreturn", "sync"}
ARGUMENTS: dict[str, tuple[int, ...]] = {
    "clone3": (0, 0),
    # ENOSYS is what these three say to an operation that they don't know.
    "futex": (0, FUTEX_WAKE, 0, 0, 0, 0),
    "modify_ldt": (0, 0, 0),
    "membarrier": (MEMBARRIER_CMD_QUERY, 0, 0),
    "kill": (NO_PID, 0),
    # -1 asks for the personality that is there, which a filter may allow alone.
    "personality": (ADDR_NO_RANDOMIZE,),
    # Flags of -1 would make an object that outlives the process.
    "msgget": (SOME_KEY, 0),
    "semget": (SOME_KEY, 0, 0),
    "shmget": (SOME_KEY, 0, 0),
    # What the machine or the way it was booted takes away shows only when asked rightly.
    "landlock_create_ruleset": (0, 0, LANDLOCK_CREATE_RULESET_VERSION),
    "pkey_alloc": (0, 0),
}
# These look at the caller's rights before its arguments. They are called without capabilities,
# which makes them harmless whatever the target does, and EPERM then says that they are there.
PRIVILEGED = {
    *("acct", "adjtimex", "clock_adjtime", "clock_settime", "delete_module", "fanotify_init"),
    *("finit_module", "fsmount", "fsopen", "fspick", "init_module", "ioperm", "iopl"),
    *("kexec_file_load", "kexec_load", "landlock_restrict_self", "lookup_dcookie", "mount"),
    *("mount_setattr", "move_mount", "open_by_handle_at", "open_tree", "pivot_root", "quotactl"),
    *("quotactl_fd", "reboot", "setdomainname", "setgroups", "sethostname", "settimeofday"),
    *("swapoff", "swapon", "syslog", "umount2", "vhangup"),
}
SWITCHED_OFF = {
    "landlock_add_rule": EOPNOTSUPP,
    "landlock_create_ruleset": EOPNOTSUPP,
    "landlock_restrict_self": EOPNOTSUPP,
    "map_shadow_stack": EOPNOTSUPP,
    "pkey_alloc": ENOSPC,
}


def call_offered(process: Process, name: str) -> str | None:
    """The kernel knows the call, and lets this process make it."""
    machine = process.target.machine
    if name not in NUMBERS[machine]:
        return f"no such call on {machine}"
    if name in GRANTED:
        return None
    if name in PRIVILEGED:
        with suppress(CallFailed):
            process.sys.capset(0, 0, 0)
    try:
        if name in ACTS:
            ACTS[name](process)
        else:
            process.sys.raw(name, *ARGUMENTS.get(name, REFUSED))
    except CallFailed as error:
        # A filter on system calls says either; a kernel says EPERM to none of the others.
        denials = {ENOSYS, SWITCHED_OFF.get(name, ENOSYS), ENOSYS if name in PRIVILEGED else EPERM}
        if error.errno in denials:
            return errno_of(error)
    return None


def _pause(process: Process) -> None:
    # A signal that comes again and again: one that came before the call would end nothing.
    process.count_signals(SIGALRM)
    process.sys.setitimer(ITIMER_REAL, 0.01, 0.01)
    try:
        process.sys.raw("pause")
    except CallFailed as error:
        if error.errno != EINTR:
            raise


ACTS: dict[str, Callable[[Process], object]] = {
    "clone": Process.clone,
    "fork": Process.fork,
    "vfork": Process.vfork,
    "pause": _pause,
    "setsid": lambda process: process.fork().sys.setsid(),  # not in the leader of a session
}
