"""Starts a command under a filter of system calls (seccomp(2)).

python filtered.py container COMMAND...      those that containers refuse are refused
python filtered.py NUMBER:ACTION COMMAND...  a call of this number is answered with this action
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from errno import ENOSYS, EPERM
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pytest_procsemantics.driven.constants import (
    BPF_ABS,
    BPF_JEQ,
    BPF_JMP,
    BPF_JSET,
    BPF_K,
    BPF_LD,
    BPF_RET,
    BPF_W,
    PR_SET_NO_NEW_PRIVS,
    PR_SET_SECCOMP,
    SECCOMP_MODE_FILTER,
    SECCOMP_RET_ALLOW,
    SECCOMP_RET_ERRNO,
)
from pytest_procsemantics.driven.constants.calls import NUMBERS
from pytest_procsemantics.driven.filters import INSTRUCTION
from pytest_procsemantics.driven.forms.processes import FILTER

# The default of Docker and Podman knows clone's namespaces only by its flags, and hides clone3, whose flags no filter sees.
REFUSED = [
    *("unshare", "setns", "mount", "umount2", "pivot_root", "sethostname", "setdomainname"),
    *("kcmp", "pidfd_getfd", "process_madvise", "bpf", "perf_event_open", "userfaultfd", "keyctl"),
    *("add_key", "request_key", "io_uring_setup", "get_mempolicy", "set_mempolicy", "mbind"),
    *("personality", "acct", "syslog", "fanotify_init", "open_by_handle_at"),
]
NAMESPACES = 0x7E020000  # the CLONE_NEW* that clone takes
LOAD, RETURN = BPF_LD | BPF_W | BPF_ABS, BPF_RET | BPF_K
EQUALS, ANY_BIT = BPF_JMP | BPF_JEQ | BPF_K, BPF_JMP | BPF_JSET | BPF_K
NUMBER, FIRST_ARGUMENT = 0, 16  # in struct seccomp_data of a little-endian machine


def answered(number: int, action: int) -> bytes:
    """Two statements: answer a call so."""
    return INSTRUCTION.pack(EQUALS, 0, 1, number) + INSTRUCTION.pack(RETURN, 0, 0, action)


def program(name: str) -> bytes:
    """A filter, by its name on the command line."""
    if name != "container":
        rules = answered(*map(int, name.split(":")))
    else:
        numbers = NUMBERS[platform.machine()]
        rules = b"".join(
            [
                answered(numbers["clone3"], SECCOMP_RET_ERRNO | ENOSYS),
                *(answered(numbers[name], SECCOMP_RET_ERRNO | EPERM) for name in REFUSED),
                INSTRUCTION.pack(EQUALS, 0, 3, numbers["clone"]),
                INSTRUCTION.pack(LOAD, 0, 0, FIRST_ARGUMENT),
                INSTRUCTION.pack(ANY_BIT, 0, 1, NAMESPACES),
                INSTRUCTION.pack(RETURN, 0, 0, SECCOMP_RET_ERRNO | EPERM),
            ]
        )
    return (
        INSTRUCTION.pack(LOAD, 0, 0, NUMBER)
        + rules
        + INSTRUCTION.pack(RETURN, 0, 0, SECCOMP_RET_ALLOW)
    )


def main() -> None:
    code = program(sys.argv[1])
    memory = ctypes.create_string_buffer(code)
    given = FILTER.pack(len(code) // INSTRUCTION.size, ctypes.addressof(memory))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    # Root needs no promise that nothing gains privileges, and so keeps them.
    if prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, given) and (
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, given)
    ):
        sys.exit(f"no filter: {os.strerror(ctypes.get_errno())}")
    os.execvp(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
