"""The generated constants, against Python's own modules and this machine's kernel headers."""

from __future__ import annotations

import errno
import os
import re
import resource
import select
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from pytest_procsemantics.driven import constants
from pytest_procsemantics.driven.constants import calls, errno_name, flag_names, signal_name, values

UNISTD = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
NEWEST = {"clone3": 435, "close_range": 436, "pidfd_getfd": 438, "futex_waitv": 449}
MODULES = (errno, os, resource, select, signal, socket, stat)
# The C library's meaning, not the kernel's: real-time signals that it keeps, a type's size, a name
# of its own, O_LARGEFILE that open() adds by itself
LIBRARYS = {"SIGRTMIN", "SIG_BLOCK", "O_LARGEFILE", "RLIM_INFINITY", "RLIMIT_OFILE"}


def numbers(names: Mapping[str, object]) -> dict[str, int]:
    return {n: int(v) for n, v in names.items() if n.isupper() and isinstance(v, int)}


@pytest.mark.parametrize("module", MODULES, ids=[module.__name__ for module in MODULES])
def test_python_says_the_same(module: object) -> None:
    ours = numbers(vars(values))
    theirs = numbers(vars(module))
    shared = ours.keys() & theirs.keys() - LIBRARYS

    assert len(shared) > 5
    assert {n: ours[n] for n in shared} == {n: theirs[n] for n in shared}


@pytest.mark.skipif(not UNISTD.exists(), reason=f"needs {UNISTD}")
def test_the_kernel_headers_have_the_same_calls() -> None:
    found = re.findall(r"^#define __NR_(\w+) (\d+)$", UNISTD.read_text(), re.MULTILINE)
    theirs = {name: int(number) for name, number in found}
    ours = calls.NUMBERS["x86_64"]

    assert len(theirs) > 300
    assert {name: ours.get(name) for name in theirs} == theirs


@pytest.mark.parametrize("machine", ["x86_64", "aarch64", "riscv64"])
def test_new_calls_have_one_number_everywhere(machine: str) -> None:
    assert {name: calls.NUMBERS[machine][name] for name in NEWEST} == NEWEST


def test_only_x86_64_has_the_old_calls() -> None:
    with_fork = [machine for machine, by_name in calls.NUMBERS.items() if "fork" in by_name]

    assert with_fork == ["x86_64"]


def test_the_versions_of_clone_args() -> None:
    sizes = [getattr(constants, f"CLONE_ARGS_SIZE_VER{n}") for n in range(3)]

    assert sizes == [64, 80, 88]


def test_open_flags_differ_on_aarch64() -> None:
    assert constants.DIFFERENT["O_DIRECTORY"] == {
        "x86_64": 0o200000,
        "aarch64": 0o40000,
        "riscv64": 0o200000,
    }


@pytest.mark.parametrize(
    ("number", "name"),
    [(17, "SIGCHLD"), (29, "SIGIO"), (32, "SIGRTMIN"), (64, "SIGRTMIN+32"), (0, "0"), (65, "65")],
)
def test_signal_names(number: int, name: str) -> None:
    assert signal_name(number) == name


@pytest.mark.parametrize(
    ("number", "name"), [(1, "EPERM"), (11, "EAGAIN"), (95, "EOPNOTSUPP"), (0, "0"), (4000, "4000")]
)
def test_error_names(number: int, name: str) -> None:
    assert errno_name(number) == name


@pytest.mark.parametrize(
    ("value", "prefix", "names"),
    [
        (0x100 | 17, "CLONE_", "CLONE_VM|SIGCHLD"),
        (0x80, "CLONE_", "CLONE_NEWTIME"),
        (0, "CLONE_", "0"),
        (1 << 50, "CLONE_", "0x4000000000000"),
        (0, "O_", "O_RDONLY"),
        (os.O_RDWR | os.O_SYNC | os.O_CLOEXEC, "O_", "O_RDWR|O_SYNC|O_CLOEXEC"),
        (0x22, "MAP_", "MAP_PRIVATE|MAP_ANONYMOUS"),
        (0x40000005, "W", "WNOHANG|WEXITED|__WALL"),
        (0x1100, "AT_", "AT_SYMLINK_NOFOLLOW|AT_EMPTY_PATH"),
    ],
)
def test_flag_names(value: int, prefix: str, names: str) -> None:
    assert flag_names(value, prefix) == names


def test_call_numbers_are_not_loaded_with_the_constants() -> None:
    package = "pytest_procsemantics.driven.constants"
    program = f"import sys, {package}; print('{package}.calls' in sys.modules)"
    root = Path(constants.__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )

    assert done.stdout == "False\n"
