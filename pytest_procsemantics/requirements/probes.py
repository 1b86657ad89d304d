"""Each kind of word with the act that tries it: a function of a fresh driven process.

A probe gives None where the word is offered, else the reason why it isn't. The process and all that
it makes is thrown away afterwards, so a probe may change whatever only that process has.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from pytest_procsemantics.driven import Process
from pytest_procsemantics.driven.call import Out
from pytest_procsemantics.driven.constants import (
    CAP_AUDIT_READ,
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWTIME,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    MADV_HUGEPAGE,
    PR_CAPBSET_DROP,
    PR_GET_THP_DISABLE,
    PRIO_PROCESS,
    RLIMIT_CORE,
    SIGCHLD,
)
from pytest_procsemantics.driven.errors import Unsupported
from pytest_procsemantics.driven.forms.scheduling import CPU_BYTES
from pytest_procsemantics.driven.library_start import why_no_library
from pytest_procsemantics.requirements.calls import call_offered
from pytest_procsemantics.requirements.common import Lacking, expect_file, read
from pytest_procsemantics.requirements.options import option_set
from pytest_procsemantics.requirements.start import has_capability
from pytest_procsemantics.requirements.surroundings import namespace_flags

Probe = Callable[[Process, str], str | None]

PATH = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
NAMESPACE_FLAGS = {
    "pid": CLONE_NEWPID,
    "net": CLONE_NEWNET,
    "mnt": CLONE_NEWNS,
    "uts": CLONE_NEWUTS,
    "ipc": CLONE_NEWIPC,
    "cgroup": CLONE_NEWCGROUP,
    "time": CLONE_NEWTIME,
}
NOBODY = 65534  # a user and group that a process without privilege isn't
X_OK = 1
TOTAL_SWAP = slice(64, 72)  # in struct sysinfo of a 64-bit machine (sysinfo(2))
SYSINFO_BYTES = 112
HUGE = 4 << 20  # bytes: enough for a huge page of 2 MiB wherever the mapping begins


def find_tool(process: Process, name: str) -> str | None:
    """The path of a program in the usual folders of the target, or None.

    The driver's PATH says nothing about another machine, so that isn't looked at.
    """
    for folder in PATH:
        with suppress(Lacking):
            expect_file(process, f"{folder}/{name}", X_OK)
            return f"{folder}/{name}"
    return None


# --- users and their rights ---


def root(process: Process, _: str) -> str | None:
    """The effective user id is 0, in whatever user namespace."""
    user = process.sys.geteuid()
    return f"user id {user}" if user else None


def capability_held(process: Process, name: str) -> str | None:
    """The capability is in the effective set, and does what it permits where that can be tried."""
    if not has_capability(process, name):
        return "not in the effective set"
    if name in CAPABILITY_ACTS:
        CAPABILITY_ACTS[name](process)
    return None


def _take_nobodys_ids(call: str) -> Callable[[Process], object]:
    def act(process: Process) -> None:
        if not has_capability(process, "KILL"):
            raise Lacking("without CAP_KILL nobody could end it")
        # Fails in a user namespace that maps one id alone, whatever the capabilities are.
        process.sys.raw(call, NOBODY, NOBODY, NOBODY)

    return act


def _give_a_file_away(process: Process) -> None:
    process.sys.raw("fchown", process.sys.raw("memfd_create", "probe", 0), NOBODY, NOBODY)


def _raise_a_hard_limit(process: Process) -> None:
    process.sys.setrlimit(RLIMIT_CORE, (0, 0))
    process.sys.setrlimit(RLIMIT_CORE, (1, 1))


CAPABILITY_ACTS: dict[str, Callable[[Process], object]] = {
    "CHOWN": _give_a_file_away,
    "SETGID": _take_nobodys_ids("setresgid"),
    "SETPCAP": lambda process: process.sys.prctl(PR_CAPBSET_DROP, CAP_AUDIT_READ),
    "SETUID": _take_nobodys_ids("setresuid"),
    "SYS_CHROOT": lambda process: process.sys.raw("chroot", "/"),
    "SYS_NICE": lambda process: process.sys.raw("setpriority", PRIO_PROCESS, 0, -1),
    "SYS_RESOURCE": _raise_a_hard_limit,
}


def unprivileged(process: Process, _: str) -> str | None:
    """A process can be without effective capabilities: it drops them where it has any."""
    process.sys.capset(0, 0, 0)
    return "capabilities stay effective" if process.sys.capget().effective else None


def user_namespace(process: Process, _: str) -> str | None:
    """A child can be made in a new user namespace."""
    process.clone(CLONE_NEWUSER | SIGCHLD)
    return None


def namespace(process: Process, kind: str) -> str | None:
    """A child can be made in such a new namespace, with a new user namespace where need be."""
    flags = namespace_flags(process, NAMESPACE_FLAGS[kind])
    if kind == "time":  # its bit lies in the byte that clone(2) takes for the exit signal
        process.sys.unshare(flags)
    else:
        process.clone(flags | SIGCHLD)
    return None


# --- kernel and machine ---


def kernel(process: Process, _: str) -> str | None:
    """Holds everywhere: versions hide nothing."""
    return None


def architecture(process: Process, name: str) -> str | None:
    """The machine of the target's agent."""
    machine = process.target.machine
    return None if machine == name else f"is {machine}"


def processors(process: Process, _: str) -> str | None:
    """Two or more processors may be used, by a process that asks for all of them."""
    process.sys.sched_setaffinity(0, range(8 * CPU_BYTES))
    return "one processor" if len(process.sys.sched_getaffinity()) < 2 else None


def swap(process: Process, _: str) -> str | None:
    """There is a swap area."""
    info = process.sys.raw("sysinfo", Out(SYSINFO_BYTES))[1]
    return None if int.from_bytes(info[TOTAL_SWAP], "little") else "no swap area"


def transparent_huge_pages(process: Process, _: str) -> str | None:
    """The process may ask for huge pages by madvise(2), and the system heeds that."""
    process.sys.raw("madvise", process.allocate(HUGE), HUGE, MADV_HUGEPAGE)
    if process.sys.raw("prctl", PR_GET_THP_DISABLE, 0, 0, 0, 0):
        return "switched off for the process"
    path = "/sys/kernel/mm/transparent_hugepage/enabled"
    return f"{path}: never" if b"[never]" in read(process, path) else None


# --- what is installed and mounted ---


def any_libc(process: Process, _: str) -> str | None:
    """A program that is linked to a C library can be started: the one that makes the calls of `process.lib`."""
    return why_no_library(process)


def glibc(process: Process, _: str) -> str | None:
    """Such a program can be started, and its library is the GNU C library."""
    return _library(process, "glibc")


def musl(process: Process, _: str) -> str | None:
    """Likewise with musl."""
    return _library(process, "musl")


def _library(process: Process, name: str) -> str | None:
    if reason := why_no_library(process):
        return reason
    try:
        process.lib.symbol("gnu_get_libc_version")
    except Unsupported:
        return None if name == "musl" else "the library is another one"
    return None if name == "glibc" else "the library is glibc"


def file_system(process: Process, name: str) -> str | None:
    """A file system of this type is mounted where the process sees it."""
    wanted = name.encode()
    mounts = [line.split(b" ") for line in read(process, "/proc/self/mounts").splitlines()]
    if any(fields[2:3] == [wanted] for fields in mounts):
        return None
    types = [line.split(b"\t")[-1] for line in read(process, "/proc/filesystems").splitlines()]
    return "not mounted" if wanted in types else "not in /proc/filesystems"


def sysctl(process: Process, name: str) -> str | None:
    """There is such a file below /proc/sys."""
    expect_file(process, f"/proc/sys/{name}")
    return None


def tool(process: Process, name: str) -> str | None:
    """The program is in one of the usual folders."""
    return None if find_tool(process, name) else f"not in {':'.join(PATH)}"


PROBES: dict[str, Probe] = {
    "root": root,
    "cap": capability_held,
    "unprivileged": unprivileged,
    "userns": user_namespace,
    "ns": namespace,
    "kernel": kernel,
    "arch": architecture,
    "smp": processors,
    "swap": swap,
    "thp": transparent_huge_pages,
    "syscall": call_offered,
    "config": option_set,
    "glibc": glibc,
    "musl": musl,
    "libc": any_libc,
    "fs": file_system,
    "sysctl": sysctl,
    "tool": tool,
}
