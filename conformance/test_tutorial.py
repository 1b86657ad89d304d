"""The tutorial "Difference between fork(), vfork(), exec() and clone()": what is true of its claims.

Where a claim is imprecise or false, the check shows what is true instead. Claims that a manual page makes too are
proved beside the page's other clauses.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_procsemantics import Process, Target, clause
from pytest_procsemantics.driven import Observer, fails
from pytest_procsemantics.driven.call import Out
from pytest_procsemantics.driven.constants import (
    ARCH_GET_FS,
    ARCH_SET_FS,
    CLONE_FILES,
    CLONE_FS,
    CLONE_SETTLS,
    CLONE_SIGHAND,
    CLONE_SYSVSEM,
    CLONE_THREAD,
    CLONE_VFORK,
    CLONE_VM,
    ENOMEM,
    F_GETFD,
    KCMP_VM,
    MADV_NOHUGEPAGE,
    MADV_POPULATE_WRITE,
    SIG_BLOCK,
    SIGCHLD,
    SIGKILL,
    SIGUSR1,
    SIGUSR2,
)
from pytest_procsemantics.driven.creation import Creation
from pytest_procsemantics.driven.elf import BASE, Elf, exits
from pytest_procsemantics.lies import (
    EXEC_DOES_NOTHING,
    Lie,
    allocations,
    drops,
    every_child,
    exec_given,
    in_child,
    in_image,
    leaves_out,
    lie,
)

SHARES_MEMORY = every_child(CLONE_VM | SIGCHLD)
FREE = 0x10000000  # an address that the agent doesn't use
TABLES = 8
THREAD = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_SYSVSEM | CLONE_THREAD


# --- fork ---


@clause("tutorial/child-is-a-complete-copy")
@lie(
    in_child("fork unmaps", lambda child: [child.sys.munmap(*at) for at in allocations(child)]),
    in_child("fork copies pending signals", lambda child: child.sys.kill(child.own_pid, SIGUSR2)),
)
def test_memory_is_copied_completely_and_attributes_are_not(
    parent: Process, observer: Observer
) -> None:
    first, last = parent.pages(2)
    reader, _ = parent.sys.pipe()
    parent.count_signals(SIGUSR1)
    parent.sys.rt_sigprocmask(SIG_BLOCK, {SIGUSR2})
    parent.sys.kill(parent.own_pid, SIGUSR2)
    child = parent.fork()
    assert observer.read(f"/proc/{child.pid}/maps") == observer.read(f"/proc/{parent.pid}/maps")
    assert (child.load(first), child.load(last)) == (first, last)
    assert child.sys.rt_sigaction(SIGUSR1) == parent.sys.rt_sigaction(SIGUSR1)
    assert child.sys.fcntl(reader, F_GETFD) == 0
    assert child.sys.getpid() != parent.sys.getpid()
    assert (parent.sys.rt_sigpending(), child.sys.rt_sigpending()) == ({SIGUSR2}, frozenset())


def copies_eagerly(child: Process) -> None:
    """Give the child a frame of its own for each page that the parent has made."""
    for start, size in allocations(child):
        child.sys.madvise(start, size, MADV_POPULATE_WRITE)


EAGER = in_child("fork copies every page at once", copies_eagerly)


def shared(one: Process, other: Process, pages: list[int]) -> list[bool]:
    """For each page whether both have the same frame behind it."""
    observer = one.target.observer
    return [observer.frame(one, page) == observer.frame(other, page) for page in pages]


@clause("tutorial/lazy-copy-on-write")
@lie(EAGER, SHARES_MEMORY)
def test_pages_are_copied_one_by_one_as_either_side_writes(parent: Process) -> None:
    pages = parent.pages(3)
    child = parent.fork()
    assert shared(parent, child, pages) == [True, True, True]
    child.touch(pages[0], write=1)
    parent.touch(pages[1], write=1)
    assert shared(parent, child, pages) == [False, False, True]


@clause("tutorial/spaces-differ-more-and-more")
@lie(EAGER, SHARES_MEMORY)
def test_each_write_leaves_a_page_less_in_common(parent: Process) -> None:
    pages = parent.pages(4)
    child = parent.fork()
    assert sum(shared(parent, child, pages)) == 4
    child.touch(pages[0], write=1)
    assert sum(shared(parent, child, pages)) == 3
    parent.touch(pages[1], write=1)
    assert sum(shared(parent, child, pages)) == 2
    child.touch(pages[2], write=1)
    assert sum(shared(parent, child, pages)) == 1


def memory_in_tables(process: Process) -> tuple[int, int]:
    """Address and size of memory with a page in the reach of each of TABLES page tables."""
    reach = process.target.page_size**2 // 8
    size = TABLES * reach
    start = process.allocate(size)
    process.sys.madvise(start, size, MADV_NOHUGEPAGE)
    for address in range(start, start + size, reach):
        process.touch(address, write=1)
    return start, size


def page_tables(process: Process) -> int:
    """Bytes of page tables, by the kernel's word (proc(5), VmPTE)."""
    return int(process.target.observer.status_field(process, "VmPTE").split()[0]) * 1024


@clause("tutorial/fork-does-not-copy-memory")
@lie(EAGER, SHARES_MEMORY)
def test_fork_copies_page_tables_and_no_pages(
    parent: Process, target: Target, observer: Observer
) -> None:
    page, _ = memory_in_tables(parent)
    child = parent.fork()
    assert observer.kcmp(parent, child, KCMP_VM) != 0
    assert page_tables(child) >= TABLES * target.page_size
    assert shared(parent, child, [page]) == [True]


# --- vfork ---


class StackOfItsOwn(Process):
    """Gives the child of vfork another stack than its parent's."""

    def actual(self, creation: Creation) -> Creation:
        flags = CLONE_VM | CLONE_VFORK | SIGCHLD
        return Creation("vfork", "clone", (flags, self.allocate(4096) + 4096, 0, 0, 0), flags)


@clause("tutorial/vfork-same-stack-pointer-and-instruction-pointer")
@lie(Lie("vfork gives a new stack", StackOfItsOwn))
def test_the_child_begins_with_the_parents_stack_pointer_and_moves_on_alone(
    parent: Process, observer: Observer
) -> None:
    child = parent.vfork()
    frozen = observer.waits_at(parent)
    assert frozen[0] == child.stack_pointer
    observer.wait_for_state(child, "S")
    assert observer.waits_at(child) != frozen
    child.sys.getppid()
    assert observer.waits_at(parent) == frozen


@clause("tutorial/vfork-parent-frozen-until-exec-or-exit")
@lie(every_child(SIGCHLD), every_child(CLONE_VM | SIGCHLD), leaves_out("kill", hangs=True))
def test_the_childs_death_by_a_signal_ends_the_frozen_state_too(
    parent: Process, observer: Observer
) -> None:
    child = parent.vfork()
    answer = parent.post.sys.getpid()
    child.sys.getppid()
    assert observer.state(parent) == "D"
    observer.process.sys.kill(child.pid, SIGKILL)
    assert answer.arrives() == parent.own_pid


@clause("tutorial/vfork-exec-makes-new-address-space")
@lie(EXEC_DOES_NOTHING)
def test_exec_in_the_child_makes_a_new_address_space_with_a_new_stack(
    parent: Process, observer: Observer
) -> None:
    child = parent.vfork()
    assert observer.kcmp(parent, child, KCMP_VM) == 0
    child.execve()
    assert observer.kcmp(parent, child, KCMP_VM) != 0
    assert child.stack_pointer in observer.mapping(child, "[stack]").addresses


@clause("tutorial/vfork-makes-no-page-directories")
@lie(every_child(CLONE_VFORK | SIGCHLD), SHARES_MEMORY)
def test_vfork_uses_the_parents_page_tables_and_fork_makes_others(
    parent: Process, observer: Observer
) -> None:
    memory = memory_in_tables(parent)
    before = page_tables(parent)
    child = parent.vfork()
    assert observer.kcmp(parent, child, KCMP_VM) == 0
    assert page_tables(child) == before
    child.exit()
    forked = parent.fork()
    forked.sys.munmap(*memory)
    assert page_tables(forked) < page_tables(parent) == before


# --- clone ---


@clause("tutorial/clone-chooses-stack")
@lie(drops(CLONE_VM), every_child(CLONE_VM | SIGCHLD))
def test_the_caller_chooses_a_new_a_shared_or_a_copied_stack(parent: Process) -> None:
    top = parent.allocate(4096) + 4096
    assert parent.clone(CLONE_VM | SIGCHLD, stack=top).stack_pointer == top
    shares = parent.clone(CLONE_VM | SIGCHLD)
    shares.store(shares.stack_pointer - 256, 1)
    assert parent.load(shares.stack_pointer - 256) == 1
    copies = parent.clone(SIGCHLD)
    assert copies.stack_pointer == shares.stack_pointer
    copies.store(copies.stack_pointer - 256, 2)
    assert parent.load(copies.stack_pointer - 256) == 1


def thread_pointer(process: Process) -> int:
    """The register that thread-local storage is found by."""
    return int.from_bytes(process.sys.arch_prctl(ARCH_GET_FS, Out(8))[1], "little")


@clause("tutorial/clone-chooses-processor-state")
@lie(
    drops(CLONE_SETTLS),
    in_child("clone clears the register", lambda child: child.sys.arch_prctl(ARCH_SET_FS, 0)),
)
def test_a_thread_that_shares_all_has_registers_of_its_own(parent: Process) -> None:
    first, second, third = parent.pages(3)
    parent.sys.arch_prctl(ARCH_SET_FS, first)
    thread = parent.clone(THREAD)
    assert thread_pointer(thread) == first
    thread.sys.arch_prctl(ARCH_SET_FS, second)
    assert (thread_pointer(parent), thread_pointer(thread)) == (first, second)
    assert thread_pointer(parent.clone(THREAD | CLONE_SETTLS, tls=third)) == third


# --- exec ---


@clause("tutorial/exec-resets-memory")
@lie(EXEC_DOES_NOTHING)
def test_exec_discards_every_kind_of_memory(parent: Process, target: Target) -> None:
    private, shared_memory = parent.allocate(4096), parent.allocate(4096, shared=True)
    parent.execve()
    with fails(ENOMEM):
        parent.sys.mincore(private, 1)
    with fails(ENOMEM):
        parent.sys.mincore(shared_memory, 1)


@clause("tutorial/exec-loads-binary")
@lie(EXEC_DOES_NOTHING, in_image("exec loads zeros", lambda image: image.store(FREE, 0)))
def test_exec_loads_what_the_file_asks_for(
    parent: Process, target: Target, observer: Observer
) -> None:
    agent = Elf.parse(observer.read(target.agent_path.decode()))
    content = bytes(agent.with_segment(address=FREE, content=b"segment!"))
    parent.execve(parent.make_file(f"{target.folder()}/program", content, 0o755))
    assert parent.images == 1
    assert parent.load_bytes(FREE, 8) == b"segment!"


@clause("tutorial/exec-sets-up-new-stack")
@lie(EXEC_DOES_NOTHING, exec_given("exec passes nothing", lambda path, argv, envp: (path, [], [])))
def test_exec_sets_up_a_new_stack_with_the_arguments(parent: Process, observer: Observer) -> None:
    parent.execve(argv=["first", "second"], envp=["NAME=value"])
    initial = parent.initial()
    assert (initial.argc, initial.argv) == (2, [b"first", b"second"])
    assert initial.envp == [b"NAME=value"]
    assert parent.stack_pointer in observer.mapping(parent, "[stack]").addresses


class EntersAtTheBeginning(Process):
    """Makes files that ask to be entered at their first instruction, and have no interpreter."""

    def make_file(self, path: str, content: bytes = b"", mode: int = 0o644) -> str:
        elf = replace(Elf.parse(content), entry=BASE)
        elf = replace(elf, segments=elf.segments[-1:])
        return super().make_file(path, bytes(elf), mode)


AT_THE_BEGINNING = Lie("exec enters at the beginning", EntersAtTheBeginning)


def entered_later(target: Target) -> Elf:
    """A file that exits with 1 from its beginning, and with 42 from its entry point."""
    beginning = exits(target.machine, 1)
    program = Elf.program(target.machine, beginning + exits(target.machine, 42))
    return replace(program, entry=BASE + len(beginning))


@clause("tutorial/exec-enters-at-entry-point")
@lie(AT_THE_BEGINNING)
def test_exec_enters_at_the_entry_point(parent: Process, target: Target) -> None:
    content = bytes(entered_later(target))
    path = parent.make_file(f"{target.folder()}/program", content, 0o755)
    assert parent.run(path).code == 42


@clause("tutorial/exec-enters-at-entry-point")
@lie(AT_THE_BEGINNING)
def test_a_program_with_an_interpreter_is_entered_there(parent: Process, target: Target) -> None:
    folder = target.folder()
    interpreter = bytes(Elf.program(target.machine, exits(target.machine, 5), base=FREE))
    content = bytes(entered_later(target).with_interpreter(f"{folder}/interpreter\0".encode()))
    parent.make_file(f"{folder}/interpreter", interpreter, 0o755)
    path = parent.make_file(f"{folder}/program", content, 0o755)
    assert parent.run(path).code == 5


@clause("tutorial/fork-and-exec-model")
@lie(EXEC_DOES_NOTHING)
@pytest.mark.parametrize("primitive", ["fork", "vfork"])
def test_fork_and_exec_start_a_program_as_a_child(parent: Process, primitive: str) -> None:
    child = getattr(parent, primitive)()
    child.execve(argv=["program"])
    assert child.initial().argv == [b"program"]
    child.exit(7)
    assert parent.sys.wait4(child.own_pid)[:2] == (child.own_pid, 7 << 8)
