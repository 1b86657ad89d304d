"""execve(2): attributes of the process that the new image has anew."""

from __future__ import annotations

import struct
from typing import Any

from pytest_procsemantics import Process, clause
from pytest_procsemantics.driven import Observer, Out, Step, Target, fails
from pytest_procsemantics.driven.constants import (
    AT_FDCWD,
    CLOCK_MONOTONIC,
    CLONE_NEWIPC,
    EBADF,
    EFAULT,
    EINVAL,
    F_GETFD,
    FUTEX_OWNER_DIED,
    IPC_CREAT,
    IPC_PRIVATE,
    IPC_RMID,
    IPC_STAT,
    ITIMER_REAL,
    MAP_PRIVATE,
    MAP_SHARED,
    MCL_FUTURE,
    O_CREAT,
    O_EXCL,
    O_RDWR,
    PR_GET_DUMPABLE,
    PR_GET_KEEPCAPS,
    PR_GET_NAME,
    PR_GET_SECUREBITS,
    PR_GET_TID_ADDRESS,
    PR_SET_DUMPABLE,
    PR_SET_KEEPCAPS,
    PR_SET_NAME,
    PR_SET_SECUREBITS,
    PROT_READ,
    PTRACE_CONT,
    PTRACE_GETREGSET,
    PTRACE_INTERRUPT,
    PTRACE_SEIZE,
    PTRACE_SETREGSET,
    PTRACE_TRACEME,
    SECBIT_KEEP_CAPS,
    SECBIT_NO_SETUID_FIXUP,
    SIG_BLOCK,
    SIG_DFL,
    SIGALRM,
    SIGCHLD,
    SIGEV_SIGNAL,
    SIGTRAP,
    SIGUSR1,
)
from pytest_procsemantics.driven.forms import SignalStack, TimerEvent
from pytest_procsemantics.lies import EXEC_DOES_NOTHING, Liar, Lie, in_image, leaves_out, lie
from pytest_procsemantics.requirements import own_namespaces

STACK_SIZE = 1 << 16  # bytes
SS_DISABLE = 2  # sigaltstack(2)
AREA = 4096  # bytes: enough for the floating-point registers of each machine
NT_PRFPREG = 2  # linux/elf.h
# Where in those registers the control word lies, one with another rounding mode, and the default.
CONTROL_WORD = {
    "x86_64": (24, 0x7F80, 0x1F80),  # MXCSR
    "aarch64": (516, 0xC00000, 0),  # FPCR
    "riscv64": (256, 0x20, 0),  # fcsr
}
ROBUST_HEAD = 24  # bytes: next, offset of the futex word, pending
RSEQ_SIZE, RSEQ_SIGNATURE = 32, 0x53053053


@clause("execve.2/caught-signals-reset")
@lie(EXEC_DOES_NOTHING)
def test_handled_signals_are_reset(parent: Process) -> None:
    parent.count_signals(SIGUSR1)
    parent.execve()
    assert parent.sys.rt_sigaction(SIGUSR1).handler == SIG_DFL


def takes_a_stack(image: Process) -> None:
    """Give the image an alternate signal stack."""
    image.sys.sigaltstack(SignalStack(image.allocate(STACK_SIZE), 0, STACK_SIZE))


@clause("execve.2/alternate-stack-not-kept")
@lie(in_image("exec keeps an alternate stack", takes_a_stack))
def test_the_alternate_signal_stack_is_gone(parent: Process) -> None:
    takes_a_stack(parent)
    parent.execve()
    assert parent.sys.sigaltstack().flags == SS_DISABLE


@clause("execve.2/mappings-not-kept")
@lie(EXEC_DOES_NOTHING)
def test_mappings_are_gone(parent: Process, target: Target) -> None:
    fd = parent.sys.openat(AT_FDCWD, target.agent_path)
    private = parent.allocate(8)
    shared = parent.allocate(8, shared=True)
    of_file = parent.sys.mmap(0, 8, PROT_READ, MAP_PRIVATE, fd, 0)
    parent.execve()
    with fails(EFAULT):
        parent.load(private)
    with fails(EFAULT):
        parent.load(shared)
    with fails(EFAULT):
        parent.load(of_file)


@clause("execve.2/posix-shared-memory-unmapped")
@lie(EXEC_DOES_NOTHING)
def test_shared_memory_is_unmapped_and_its_object_stays(parent: Process) -> None:
    fd = parent.sys.memfd_create("shared", 0)
    parent.sys.write(fd, b"content!")
    address = parent.sys.mmap(0, 8, PROT_READ, MAP_SHARED, fd, 0)
    parent.execve()
    with fails(EFAULT):
        parent.load(address)
    assert parent.sys.pread64(fd, 8, 0) == b"content!"


@clause("execve.2/shared-memory-detached")
@lie(EXEC_DOES_NOTHING)
def test_system_v_shared_memory_is_detached(parent: Process) -> None:
    own_namespaces(parent, CLONE_NEWIPC)
    segment = parent.sys.shmget(IPC_PRIVATE, 1, IPC_CREAT | 0o600)
    parent.sys.shmat(segment)
    assert parent.sys.shmctl(segment, IPC_STAT).attached == 1
    parent.execve()
    assert parent.sys.shmctl(segment, IPC_STAT).attached == 0
    assert parent.sys.shmctl(segment, IPC_RMID) == 0


@clause("execve.2/message-queues-closed")
@lie(EXEC_DOES_NOTHING)
def test_message_queue_descriptors_are_closed(parent: Process) -> None:
    own_namespaces(parent, CLONE_NEWIPC)
    queue = parent.sys.mq_open("queue", O_CREAT | O_RDWR)
    parent.execve()
    with fails(EBADF):
        parent.sys.fcntl(queue, F_GETFD)


class _LibraryStays(Liar):
    def exec_step(self, call: str, *args: Any, **kwargs: Any) -> Step:
        """Leave an image that has the C library."""
        if self.program is None:
            return super().exec_step(call, *args, **kwargs)
        self.tell()
        return self.ask_call("sched_yield", self.sys.number("sched_yield"), ())


@clause("execve.2/named-semaphores-closed")
@lie(Lie("exec leaves the library's image", _LibraryStays))
def test_named_semaphores_are_closed(program: Process, observer: Observer) -> None:
    name = f"/procsem-{program.pid}"
    semaphore = program.lib.sem_open(name, O_CREAT | O_EXCL, 0o600, 1)
    program.lib.sem_unlink(name)
    assert program.lib.sem_trywait(semaphore) == 0
    assert b"/dev/shm/" in observer.read(f"/proc/{program.pid}/maps")
    program.execve()
    assert b"/dev/shm/" not in observer.read(f"/proc/{program.pid}/maps")


@clause("execve.2/posix-timers-not-kept")
@lie(EXEC_DOES_NOTHING)
def test_timers_of_timer_create_are_gone(parent: Process, observer: Observer) -> None:
    timer = parent.sys.timer_create(CLOCK_MONOTONIC, TimerEvent(SIGEV_SIGNAL, SIGUSR1))
    parent.sys.timer_settime(timer, 1000)
    parent.execve()
    with fails(EINVAL):
        parent.sys.timer_gettime(timer)


@clause("execve.2/posix-timer-signal-not-late")
@lie(in_image("the signal comes late", lambda image: image.sys.kill(image.own_pid, SIGUSR1)))
def test_a_signal_of_a_deleted_timer_is_not_pending(parent: Process, target: Target) -> None:
    parent.sys.rt_sigprocmask(SIG_BLOCK, {SIGUSR1, SIGALRM})
    timer = parent.sys.timer_create(CLOCK_MONOTONIC, TimerEvent(SIGEV_SIGNAL, SIGUSR1))
    parent.sys.timer_settime(timer, 0.001)
    parent.sys.setitimer(ITIMER_REAL, 0.001)
    target.wait_until(
        lambda: parent.sys.rt_sigpending() == {SIGUSR1, SIGALRM}, "both timers to expire"
    )
    parent.execve()
    assert parent.sys.rt_sigpending() == {SIGALRM}


@clause("execve.2/memory-locks-not-kept")
@lie(in_image("exec keeps the lock of what comes", lambda image: image.sys.mlockall(MCL_FUTURE)))
def test_memory_locks_are_gone(parent: Process, target: Target, observer: Observer) -> None:
    parent.sys.mlock(parent.allocate(1), 1)
    parent.sys.mlockall(MCL_FUTURE)
    assert observer.status_field(parent, "VmLck") != "0 kB"
    parent.execve()
    parent.allocate(1)
    assert observer.status_field(parent, "VmLck") == "0 kB"


@clause("execve.2/dumpable-set-to-one")
@lie(in_image("exec keeps the attribute", lambda image: image.sys.prctl(PR_SET_DUMPABLE, 0)))
def test_the_process_becomes_dumpable(parent: Process) -> None:
    parent.sys.prctl(PR_SET_DUMPABLE, 0)
    parent.execve()
    assert parent.sys.prctl(PR_GET_DUMPABLE) == 1


@clause("execve.2/dumpable-for-unreadable-file")
@lie(in_image("exec makes it dumpable", lambda image: image.sys.prctl(PR_SET_DUMPABLE, 1)))
def test_a_process_that_cannot_read_its_program_is_not_dumpable(
    parent: Process, target: Target, observer: Observer
) -> None:
    content = observer.read(target.agent_path.decode())
    program = parent.make_file(f"{target.folder()}/agent", content, 0o111)
    parent.sys.capset(0, 0, 0)
    parent.execve(program)
    allowed = int(observer.read("/proc/sys/fs/suid_dumpable"))
    assert parent.sys.prctl(PR_GET_DUMPABLE) == allowed


@clause("execve.2/keepcaps-cleared")
@lie(in_image("exec keeps it", lambda image: image.sys.prctl(PR_SET_KEEPCAPS, 1)))
def test_keepcaps_is_cleared(parent: Process) -> None:
    parent.sys.prctl(PR_SET_KEEPCAPS, 1)
    parent.execve()
    assert parent.sys.prctl(PR_GET_KEEPCAPS) == 0


BITS = SECBIT_NO_SETUID_FIXUP | SECBIT_KEEP_CAPS


@clause("execve.2/securebits-keep-caps-cleared")
@lie(in_image("exec keeps it", lambda image: image.sys.prctl(PR_SET_SECUREBITS, BITS)))
def test_the_secure_bit_keep_caps_is_cleared(parent: Process) -> None:
    parent.sys.prctl(PR_SET_SECUREBITS, BITS)
    parent.execve()
    assert parent.sys.prctl(PR_GET_SECUREBITS) == SECBIT_NO_SETUID_FIXUP


@clause("execve.2/name-is-file-name")
@lie(in_image("exec keeps the name", lambda image: image.sys.prctl(PR_SET_NAME, b"before")))
def test_the_process_is_named_after_the_file_as_given(parent: Process, target: Target) -> None:
    link = f"{target.folder()}/a-name-of-more-than-15-bytes"
    parent.sys.symlink(target.agent_path, link)
    parent.sys.prctl(PR_SET_NAME, b"before")
    parent.execve(link)
    assert parent.sys.prctl(PR_GET_NAME) == b"a-name-of-more-"


@clause("execve.2/termination-signal-is-sigchld")
@lie(EXEC_DOES_NOTHING)
def test_the_termination_signal_becomes_sigchld(parent: Process) -> None:
    parent.count_signals(SIGCHLD, SIGUSR1)
    child = parent.clone(SIGUSR1)
    child.execve()
    child.exit()
    child.wait_for_exit()
    assert (parent.count(SIGCHLD), parent.count(SIGUSR1)) == (1, 0)


@clause("execve.2/thread-exec-takes-leaders-id")
@lie(EXEC_DOES_NOTHING)
def test_a_thread_that_execs_takes_the_leaders_id(parent: Process) -> None:
    thread = parent.thread()
    thread.execve()
    assert thread.sys.gettid() == thread.sys.getpid() == parent.own_pid


@clause("execve.2/robust-list-of-dead-threads")
@lie(leaves_out("set_robust_list"))
def test_robust_futexes_of_destroyed_threads_are_marked(parent: Process) -> None:
    head = parent.allocate(4096, shared=True)
    entry, word = head + 64, head + 128
    witness, thread = parent.fork(), parent.thread()
    parent.store(head, struct.pack("<QqQ", entry, word - entry, 0))
    parent.store(entry, head)
    parent.store(word, thread.tid)
    thread.sys.set_robust_list(head, ROBUST_HEAD)
    parent.execve()
    assert witness.load(word) & FUTEX_OWNER_DIED


@clause("execve.2/robust-list-and-tid-address-reset")
@lie(in_image("exec keeps it", lambda image: image.sys.set_robust_list(4096, ROBUST_HEAD)))
def test_the_robust_list_is_reset(parent: Process) -> None:
    parent.sys.set_robust_list(parent.allocate(ROBUST_HEAD), ROBUST_HEAD)
    assert parent.sys.get_robust_list()[0] != 0
    parent.execve()
    assert parent.sys.get_robust_list()[0] == 0


def registers(process: Process) -> int:
    """Register an area for restartable sequences."""
    area = process.allocate(RSEQ_SIZE)
    return int(process.sys.rseq(area, RSEQ_SIZE, 0, RSEQ_SIGNATURE))


@clause("execve.2/rseq-unregistered")
@lie(in_image("exec keeps a registration", registers))
def test_restartable_sequences_can_be_registered_anew(parent: Process) -> None:
    assert registers(parent) == 0
    parent.execve()
    assert registers(parent) == 0


@clause("execve.2/ptraced-gets-sigtrap")
@lie(leaves_out("ptrace", hangs=True))
def test_a_traced_process_gets_sigtrap(parent: Process) -> None:
    child = parent.fork()
    child.sys.ptrace(PTRACE_TRACEME, 0, 0, 0)
    image = child.post.execve()
    assert parent.sys.wait4(child.own_pid).status == SIGTRAP << 8 | 0x7F
    assert not image.ready
    parent.sys.ptrace(PTRACE_CONT, child.own_pid, 0, 0)
    image.arrives()


def floating_point(tracer: Process, request: int, traced: Process, area: int, size: int) -> int:
    """Get or set the floating-point registers in an area; gives their size in bytes."""
    vector = Out(16, struct.pack("<QQ", area, size))
    _, told = tracer.sys.ptrace(request, traced.own_pid, NT_PRFPREG, vector)
    return int.from_bytes(told[8:], "little")


@clause("execve.2/floating-point-environment-reset")
@lie(EXEC_DOES_NOTHING)
def test_the_floating_point_environment_is_the_default_one(parent: Process, target: Target) -> None:
    place, changed, default = CONTROL_WORD[target.machine]
    child, area = parent.fork(), parent.allocate(AREA)
    parent.sys.ptrace(PTRACE_SEIZE, child.own_pid, 0, 0)
    parent.sys.ptrace(PTRACE_INTERRUPT, child.own_pid, 0, 0)
    parent.sys.wait4(child.own_pid)
    size = floating_point(parent, PTRACE_GETREGSET, child, area, AREA)
    parent.store(area + place, changed.to_bytes(4, "little"))
    floating_point(parent, PTRACE_SETREGSET, child, area, size)
    parent.sys.ptrace(PTRACE_CONT, child.own_pid, 0, 0)
    child.execve()
    parent.sys.ptrace(PTRACE_INTERRUPT, child.own_pid, 0, 0)
    parent.sys.wait4(child.own_pid)
    floating_point(parent, PTRACE_GETREGSET, child, area, AREA)
    assert parent.load_bytes(area + place, 4) == default.to_bytes(4, "little")


@clause("execve.2/clear-child-tid-reset")
@lie(EXEC_DOES_NOTHING)
def test_the_address_to_clear_at_the_end_is_forgotten(parent: Process) -> None:
    cell = parent.allocate(8)
    parent.sys.set_tid_address(cell)
    assert parent.sys.prctl(PR_GET_TID_ADDRESS) == cell
    parent.execve()
    assert parent.sys.prctl(PR_GET_TID_ADDRESS) == 0
