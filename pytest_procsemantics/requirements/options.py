"""`config:NAME`: the kernel was built with an option.

Where something that a process can do depends on the option alone, that is done: it needs no file,
and is true of a kernel that isn't Linux too. For the other options the target's own configuration
is read, where it shows one.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from pytest_procsemantics.driven import Process
from pytest_procsemantics.driven.call import Out
from pytest_procsemantics.driven.constants import (
    ARCH_SHSTK_ENABLE,
    ARCH_SHSTK_SHSTK,
    AT_FDCWD,
    EFAULT,
    F_NOTIFY,
    IOPRIO_WHO_PROCESS,
    MADV_MERGEABLE,
    O_RDONLY,
    PR_GET_SECCOMP,
    PR_GET_TID_ADDRESS,
    PR_SCHED_CORE,
    PR_SCHED_CORE_GET,
    PR_SCHED_CORE_SCOPE_THREAD,
    PR_SET_SECCOMP,
    PR_SET_VMA,
    PR_SET_VMA_ANON_NAME,
    SECCOMP_MODE_FILTER,
)
from pytest_procsemantics.driven.errors import CallFailed, Ended
from pytest_procsemantics.requirements.calls import call_offered
from pytest_procsemantics.requirements.common import Lacking, expect_file, read

MOST_TEXT = 8 << 20  # bytes of an unpacked configuration; Linux has about 0.2 MiB
GZIP = 31  # zlib's word for a gzip header
SET = (b"y", b"m")
DN_MODIFY = 2  # fcntl(2)


def option_set(process: Process, name: str) -> str | None:
    """The kernel has what the option builds in."""
    if name not in ACTS:
        return _configured(process, name)
    ACTS[name](process)
    return None


def _configured(process: Process, name: str) -> str | None:
    path, content = _configuration(process)
    lines = {b"CONFIG_%s=%s" % (name.encode(), value) for value in SET}
    return f"not set in {path}" if lines.isdisjoint(content.splitlines()) else None


def _configuration(process: Process) -> tuple[str, bytes]:
    try:
        packed = read(process, path := "/proc/config.gz")
    except Lacking:
        try:
            return path, read(process, path := f"/boot/config-{process.sys.uname().release}")
        except Lacking:
            raise Lacking("not known") from None
    try:
        return path, zlib.decompressobj(GZIP).decompress(packed, MOST_TEXT)
    except zlib.error:
        raise Lacking(f"{path} can't be unpacked") from None


# --- acts, which raise CallFailed or Lacking ---


def _call(name: str) -> Callable[[Process], object]:
    return partial(_expect_call, name=name)


def _expect_call(process: Process, name: str) -> None:
    if reason := call_offered(process, name):
        raise Lacking(f"{name}: {reason}")


def _file(path: str) -> Callable[[Process], object]:
    return partial(expect_file, path=path)


def _prctl(option: int, *args: int | Out) -> Callable[[Process], object]:
    return lambda process: process.sys.prctl(option, *args)


def _advise_mergeable(process: Process) -> None:
    size = process.target.page_size
    process.sys.raw("madvise", process.allocate(size), size, MADV_MERGEABLE)


def _name_memory(process: Process) -> None:
    size = process.target.page_size
    memory = process.allocate(size)
    process.sys.prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, memory, size, b"probe")


def _watch_a_folder(process: Process) -> None:
    folder = process.sys.openat(AT_FDCWD, "/", O_RDONLY)
    process.sys.raw("fcntl", folder, F_NOTIFY, DN_MODIFY)


def _filter_calls(process: Process) -> None:
    try:
        process.sys.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, 0)
    except CallFailed as error:
        if error.errno != EFAULT:  # the filter was looked for, at address 0
            raise


def _begin_a_shadow_stack(process: Process) -> None:
    _expect_call(process, "arch_prctl")
    with suppress(Ended):  # it is on: the way back to the loop isn't on the new shadow stack
        process.sys.raw("arch_prctl", ARCH_SHSTK_ENABLE, ARCH_SHSTK_SHSTK)


ACTS: dict[str, Callable[[Process], object]] = {
    "ANON_VMA_NAME": _name_memory,
    "AUDIT": _file("/proc/self/loginuid"),
    "BLOCK": lambda process: process.sys.raw("ioprio_get", IOPRIO_WHO_PROCESS, 0),
    "BSD_PROCESS_ACCT": _call("acct"),
    "CHECKPOINT_RESTORE": _prctl(PR_GET_TID_ADDRESS),
    "DNOTIFY": _watch_a_folder,
    "FANOTIFY": _call("fanotify_init"),
    "FAULT_INJECTION": _file("/proc/self/make-it-fail"),
    "KEYS": _call("keyctl"),
    "KSM": _advise_mergeable,
    "NUMA": lambda process: process.sys.raw("get_mempolicy", Out(4), 0, 0, 0, 0),
    "POSIX_MQUEUE": _call("mq_open"),
    "PROC_CHILDREN": _file("/proc/thread-self/children"),
    "RSEQ": _call("rseq"),
    "SCHED_AUTOGROUP": _file("/proc/self/autogroup"),
    "SCHED_CORE": _prctl(PR_SCHED_CORE, PR_SCHED_CORE_GET, 0, PR_SCHED_CORE_SCOPE_THREAD, Out(8)),
    "SECCOMP": _prctl(PR_GET_SECCOMP),
    "SECCOMP_FILTER": _filter_calls,
    "SECURITY_YAMA": _file("/proc/sys/kernel/yama/ptrace_scope"),
    "SYSVIPC": _call("semget"),
    "TASK_IO_ACCOUNTING": _file("/proc/self/io"),
    "X86_IOPL_IOPERM": _call("ioperm"),
    "X86_USER_SHADOW_STACK": _begin_a_shadow_stack,
}
