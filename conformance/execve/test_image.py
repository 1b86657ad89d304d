"""execve(2): the program is replaced, the process stays."""

from __future__ import annotations

from pytest_procsemantics import Process, clause
from pytest_procsemantics.driven import Observer, Target, fails
from pytest_procsemantics.driven.constants import EFAULT, ENOENT, F_GETFD, SIG_BLOCK, SIGUSR1
from pytest_procsemantics.driven.elf import Elf, exits
from pytest_procsemantics.lies import (
    EXEC_DOES_NOTHING,
    EXEC_IN_A_CHILD,
    before_exec,
    exec_given,
    in_image,
    lie,
)

FREE = 0x10000000  # an address that the agent doesn't use
HEAP = 1 << 16  # bytes
WORD = b"content!"


def another_agent(process: Process) -> str:
    """A copy of the agent with two more words at FREE: one of the file, one beyond it."""
    target = process.target
    agent = Elf.parse(target.observer.read(target.agent_path.decode()))
    content = bytes(agent.with_segment(address=FREE, content=WORD, memory_size=16))
    return process.make_file(f"{target.folder()}/another", content, 0o755)


@clause("execve.2/replaces-program")
@lie(exec_given("exec runs another file", lambda path, argv, envp: (b"", argv, envp)))
def test_the_program_is_replaced(parent: Process, observer: Observer) -> None:
    program = another_agent(parent)
    parent.execve(program)
    assert observer.link(f"/proc/{parent.pid}/exe") == program
    assert parent.load_bytes(FREE, 8) == WORD


@clause("execve.2/no-return-on-success", "tutorial/exec-never-returns")
@lie(EXEC_DOES_NOTHING)
def test_a_successful_exec_never_returns(parent: Process) -> None:
    cell = parent.allocate(8)
    parent.store(cell, 1)
    parent.execve()
    assert parent.images == 1
    with fails(EFAULT):
        parent.load(cell)


@clause("execve.2/same-process", "tutorial/exec-keeps-the-process")
@lie(EXEC_IN_A_CHILD)
def test_the_new_image_is_the_same_process(parent: Process, observer: Observer) -> None:
    before = (parent.sys.getpid(), parent.sys.getppid(), observer.start_time(parent))
    parent.execve()
    assert (parent.sys.getpid(), parent.sys.getppid(), observer.start_time(parent)) == before


@clause("execve.2/text-is-overwritten")
@lie(EXEC_DOES_NOTHING)
def test_the_old_program_is_gone(parent: Process) -> None:
    parent.execve(another_agent(parent))
    parent.store(FREE, 1)
    parent.execve()
    with fails(EFAULT):
        parent.load(FREE)


def keeps_old_data(image: Process) -> None:
    """Write what the old image wrote."""
    if image.images > 1:
        image.store(FREE, 1)


@clause("execve.2/data-is-initialised")
@lie(in_image("exec keeps old data", keeps_old_data))
def test_data_are_those_of_the_file(parent: Process) -> None:
    program = another_agent(parent)
    parent.execve(program)
    parent.store(FREE, 1)
    parent.store(FREE + 8, 1)
    parent.execve(program)
    assert parent.load_bytes(FREE, 16) == WORD + bytes(8)


@clause("execve.2/stack-is-new")
@lie(exec_given("exec keeps old strings", lambda path, argv, envp: (path, ["old text"], envp)))
def test_the_stack_is_new(parent: Process, observer: Observer) -> None:
    parent.execve(argv=["old text"])
    assert b"old text" in observer.mapping(parent, "[stack]").content
    parent.execve(argv=["new text"])
    stack = observer.mapping(parent, "[stack]")
    assert parent.stack_pointer in stack.addresses
    assert b"new text" in stack.content
    assert b"old text" not in stack.content


@clause("execve.2/heap-is-new")
@lie(in_image("exec makes a heap", lambda image: image.sys.brk(image.sys.brk(0) + HEAP)))
def test_there_is_no_heap_at_first(parent: Process, observer: Observer) -> None:
    parent.sys.brk(parent.sys.brk(0) + HEAP)
    assert b"[heap]" in observer.read(f"/proc/{parent.pid}/maps")
    parent.execve()
    assert b"[heap]" not in observer.read(f"/proc/{parent.pid}/maps")


@clause("execve.2/pathname-may-be-binary")
@lie(exec_given("exec runs another file", lambda path, argv, envp: ("/none", argv, envp)))
def test_a_binary_runs(parent: Process, target: Target) -> None:
    program = bytes(Elf.program(target.machine, exits(target.machine, 7)))
    path = parent.make_file(f"{target.folder()}/program", program, 0o755)
    assert parent.run(path).code == 7


@clause("execve.2/pathname-relative")
@lie(before_exec("exec begins at the root", lambda process: process.sys.chdir("/")))
def test_a_relative_name_is_resolved_from_the_working_directory(
    parent: Process, target: Target
) -> None:
    folder = target.folder()
    parent.sys.symlink(target.agent_path, f"{folder}/program")
    parent.sys.chdir(folder)
    parent.execve("program")
    assert parent.images == 1


@clause("execve.2/pathname-symlink")
@lie(EXEC_DOES_NOTHING)
def test_a_symbolic_link_is_followed(parent: Process, target: Target, observer: Observer) -> None:
    program, link = another_agent(parent), f"{target.folder()}/link"
    parent.sys.symlink(program, link)
    parent.execve(link)
    assert observer.link(f"/proc/{parent.pid}/exe") == program


@clause("execve.2/failure-returns")
@lie(EXEC_DOES_NOTHING)
def test_a_failed_exec_returns_and_the_old_image_goes_on(parent: Process) -> None:
    cell = parent.allocate(8)
    parent.store(cell, 1)
    with fails(ENOENT):
        parent.execve("/no/such/program")
    assert parent.load(cell) == 1


@clause("execve.2/failure-changes-nothing")
@lie(before_exec("a failed exec unblocks", lambda process: process.sys.rt_sigprocmask(2, set())))
def test_a_failed_exec_changes_nothing(parent: Process, observer: Observer) -> None:
    parent.thread()
    parent.count_signals(SIGUSR1)
    parent.sys.rt_sigprocmask(SIG_BLOCK, {SIGUSR1})
    reader, _ = parent.sys.pipe()
    before = (parent.sys.rt_sigaction(SIGUSR1), parent.sys.getresuid(), observer.threads(parent))
    with fails(ENOENT):
        parent.execve("/no/such/program")
    after = (parent.sys.rt_sigaction(SIGUSR1), parent.sys.getresuid(), observer.threads(parent))
    assert after == before
    assert parent.sys.rt_sigprocmask() == {SIGUSR1}
    assert parent.sys.fcntl(reader, F_GETFD) == 0
