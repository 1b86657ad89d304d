"""Starts a command under a filter of system calls (seccomp(2)).

python filtered.py container COMMAND...      those that containers refuse are refused
python filtered.py NUMBER:ACTION COMMAND...  a call of this number is answered with this action
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from errno import ENOSYS, EPERM
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pytest_procsemantics.driven.constants import (
    PR_SET_NO_NEW_PRIVS,
    PR_SET_SECCOMP,
    SECCOMP_MODE_FILTER,
)
from pytest_procsemantics.driven.constants.calls import NUMBERS

# The default of Docker and Podman knows clone's namespaces only by its flags, and hides clone3, whose flags no filter sees.
REFUSED = [
    *("unshare", "setns", "mount", "umount2", "pivot_root", "sethostname", "setdomainname"),
    *("kcmp", "pidfd_getfd", "process_madvise", "bpf", "perf_event_open", "userfaultfd", "keyctl"),
    *("add_key", "request_key", "io_uring_setup", "get_mempolicy", "set_mempolicy", "mbind"),
    *("personality", "acct", "syslog", "fanotify_init", "open_by_handle_at"),
]
NAMESPACES = 0x7E020000  # the CLONE_NEW* that clone takes
STATEMENT = struct.Struct("=HBBI")  # struct sock_filter: code, two jumps, constant
LOAD, EQUALS, ANY_BIT, RETURN = 0x20, 0x15, 0x45, 0x06
NUMBER, FIRST_ARGUMENT = 0, 16  # in struct seccomp_data of a little-endian machine
ALLOW, ERRNO = 0x7FFF0000, 0x00050000


def answered(number: int, action: int) -> bytes:
    """Two statements: answer a call so."""
    return STATEMENT.pack(EQUALS, 0, 1, number) + STATEMENT.pack(RETURN, 0, 0, action)


def program(name: str) -> bytes:
    """A filter, by its name on the command line."""
    if name != "container":
        rules = answered(*map(int, name.split(":")))
    else:
        numbers = NUMBERS[platform.machine()]
        rules = b"".join(
            [
                answered(numbers["clone3"], ERRNO | ENOSYS),
                *(answered(numbers[name], ERRNO | EPERM) for name in REFUSED),
                STATEMENT.pack(EQUALS, 0, 3, numbers["clone"]),
                STATEMENT.pack(LOAD, 0, 0, FIRST_ARGUMENT),
                STATEMENT.pack(ANY_BIT, 0, 1, NAMESPACES),
                STATEMENT.pack(RETURN, 0, 0, ERRNO | EPERM),
            ]
        )
    return STATEMENT.pack(LOAD, 0, 0, NUMBER) + rules + STATEMENT.pack(RETURN, 0, 0, ALLOW)


def main() -> None:
    code = program(sys.argv[1])
    memory = ctypes.create_string_buffer(code)
    given = struct.pack("@HP", len(code) // STATEMENT.size, ctypes.addressof(memory))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    # Root needs no promise that nothing gains privileges, and so keeps them.
    if prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, given) and (
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, given)
    ):
        sys.exit(f"no filter: {os.strerror(ctypes.get_errno())}")
    os.execvp(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
