"""wait(2): the raw status word, and what a core dump adds to it."""

from __future__ import annotations

from pytest_procsemantics import Process, Target, clause
from pytest_procsemantics.driven import Exit
from pytest_procsemantics.driven.constants import (
    AT_FDCWD,
    CLD_DUMPED,
    CLD_KILLED,
    ENOSYS,
    O_PATH,
    P_PID,
    PR_SET_DUMPABLE,
    PTRACE_TRACEME,
    RLIMIT_CORE,
    SIGABRT,
    SIGCONT,
    SIGKILL,
    SIGQUIT,
    SIGSTOP,
    SIGUSR2,
    WCONTINUED,
    WEXITED,
    WNOWAIT,
    WUNTRACED,
)
from pytest_procsemantics.driven.errors import CallFailed, Unsupported
from pytest_procsemantics.lies import leaves_out, lie, reports

DUMPED = 0x80
SHIFTED = reports(
    "another layout", "wait4", lambda waited: waited._replace(status=waited.status * 2)
)


def is_in(process: Process, folder: str) -> bool:
    """Whether the kernel that writes core files has this working directory, too.

    PRoot keeps its own directory and rewrites the paths of calls that it knows: openat2 is none.
    """
    how = O_PATH.to_bytes(24, "little")
    try:
        fd = process.sys.openat2(AT_FDCWD, ".", how, len(how))
    except CallFailed as error:
        if error.errno != ENOSYS:
            raise
        return True
    return bool(process.sys.fstat(fd).ino == process.sys.stat(folder).ino)


def dumper(parent: Process, target: Target) -> Process:
    """A child that may dump its core, into a folder of this test."""
    pattern = target.observer.read("/proc/sys/kernel/core_pattern").strip()
    if not pattern or b"|" in pattern or b"/" in pattern:
        raise Unsupported("sysctl:kernel/core_pattern (a program or another folder)")
    most = parent.sys.getrlimit(RLIMIT_CORE).hard
    if most < 1 << 20:
        raise Unsupported("a core file of 1 MiB (RLIMIT_CORE)")
    parent.sys.prlimit64(0, RLIMIT_CORE, (0, most))
    child = parent.fork()
    folder = target.folder()
    child.sys.chdir(folder)
    if not is_in(child, folder):
        raise Unsupported("a core file in the working directory (chdir is played)")
    child.sys.setrlimit(RLIMIT_CORE, (most, most))
    return child


@clause("wait.2/wcoredump", "wait.2/si-code-dumped")
@lie(leaves_out("setrlimit"))
def test_a_core_dump_is_told(parent: Process, target: Target) -> None:
    child = dumper(parent, target)
    parent.sys.kill(child.own_pid, SIGABRT)
    told = parent.sys.waitid(P_PID, child.own_pid, WEXITED | WNOWAIT)
    assert (told.code, told.status) == (CLD_DUMPED, SIGABRT)
    assert parent.sys.wait4(child.own_pid).status == SIGABRT | DUMPED


@clause("wait.2/wcoredump")
@lie(leaves_out("prlimit64"))
def test_without_room_for_a_core_none_is_told(parent: Process, target: Target) -> None:
    child = dumper(parent, target)
    child.sys.prlimit64(0, RLIMIT_CORE, (0, 0))
    parent.sys.kill(child.own_pid, SIGABRT)
    told = parent.sys.waitid(P_PID, child.own_pid, WEXITED | WNOWAIT)
    assert (told.code, told.status) == (CLD_KILLED, SIGABRT)
    assert parent.sys.wait4(child.own_pid).status == SIGABRT


@clause("prctl.2/dumpable-zero-no-core")
@lie(leaves_out("prctl"))
def test_a_process_that_is_not_dumpable_leaves_no_core(parent: Process, target: Target) -> None:
    child = dumper(parent, target)
    child.sys.prctl(PR_SET_DUMPABLE, 0)
    parent.sys.kill(child.own_pid, SIGABRT)
    assert child.wait_for_exit() == Exit(None, SIGABRT, core=False)


@clause("wait.2/status-word-layout")
@lie(SHIFTED)
def test_the_exit_code_stands_in_bits_8_to_15(parent: Process) -> None:
    child = parent.fork()
    child.exit(7)
    assert parent.sys.wait4(child.own_pid).status == 0x0700


@clause("wait.2/status-word-layout")
@lie(SHIFTED)
def test_the_fatal_signal_stands_in_the_low_bits(parent: Process) -> None:
    child = parent.fork()
    parent.sys.kill(child.own_pid, SIGKILL)
    assert parent.sys.wait4(child.own_pid).status == 0x09


@clause("wait.2/status-word-layout", "wait.2/wcoredump")
@lie(SHIFTED)
def test_a_core_adds_bit_7(parent: Process, target: Target) -> None:
    child = dumper(parent, target)
    parent.sys.kill(child.own_pid, SIGQUIT)
    assert parent.sys.wait4(child.own_pid).status == 0x83


@clause("wait.2/status-word-layout")
@lie(SHIFTED)
def test_a_stop_and_a_resumption_have_words_of_their_own(parent: Process) -> None:
    child = parent.fork()
    parent.sys.kill(child.own_pid, SIGSTOP)
    assert parent.sys.wait4(child.own_pid, WUNTRACED).status == 0x137F
    parent.sys.kill(child.own_pid, SIGCONT)
    assert parent.sys.wait4(child.own_pid, WCONTINUED).status == 0xFFFF


@clause("wait.2/status-word-layout")
@lie(SHIFTED)
def test_a_traced_stop_has_its_signal_in_bits_8_to_15(parent: Process) -> None:
    child = parent.fork()
    child.sys.ptrace(PTRACE_TRACEME, 0, 0, 0)
    parent.sys.kill(child.own_pid, SIGUSR2)
    assert parent.sys.wait4(child.own_pid).status == 0x0C7F
