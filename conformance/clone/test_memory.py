"""clone(2): CLONE_VM, stacks, and the alternate signal stack."""

from __future__ import annotations

from pytest_procsemantics import Process, clause
from pytest_procsemantics.alike import MakeWith, like_clone
from pytest_procsemantics.driven import Observer, fails
from pytest_procsemantics.driven.constants import (
    CLONE_VFORK,
    CLONE_VM,
    EFAULT,
    KCMP_VM,
    SIGCHLD,
)
from pytest_procsemantics.driven.forms import SignalStack
from pytest_procsemantics.lies import EXEC_DOES_NOTHING, adds, clone_given, drops, in_child, lie

SS_DISABLE = 2  # sigaltstack(2)
STACK = 1 << 16  # bytes: above the least that any machine accepts for a signal stack


@like_clone("clone.2/vm-writes-are-seen", "tutorial/clone-chooses-memory")
@lie(drops(CLONE_VM))
def test_with_clone_vm_each_side_sees_the_others_writes(parent: Process, make: MakeWith) -> None:
    cell = parent.allocate(8)
    child = make(parent, CLONE_VM)
    child.store(cell, 2)
    assert parent.load(cell) == 2
    parent.store(cell, 3)
    assert child.load(cell) == 3


@like_clone("clone.2/vm-unset-copies", "tutorial/clone-chooses-memory")
@lie(adds(CLONE_VM))
def test_without_clone_vm_memory_is_a_copy(parent: Process, make: MakeWith) -> None:
    cell = parent.allocate(8)
    parent.store(cell, 1)
    child = make(parent, 0)
    child.store(cell, 2)
    assert (parent.load(cell), child.load(cell)) == (1, 2)


@clause("clone.2/vm-unset-copies")
@lie(adds(CLONE_VM))
def test_without_clone_vm_a_mapping_goes_from_the_caller_alone(parent: Process) -> None:
    page = parent.allocate(8)
    parent.store(page, 1)
    child = parent.clone(SIGCHLD)
    child.sys.munmap(page, parent.target.page_size)
    assert parent.load(page) == 1
    with fails(EFAULT):
        child.load(page)


@like_clone("clone.2/vm-mappings-are-shared")
@lie(drops(CLONE_VM))
def test_with_clone_vm_mappings_come_and_go_for_both(parent: Process, make: MakeWith) -> None:
    child = make(parent, CLONE_VM)
    cell = child.allocate(8)
    child.store(cell, 7)
    assert parent.load(cell) == 7
    parent.sys.munmap(cell, parent.target.page_size)
    with fails(EFAULT):
        child.load(cell)


@like_clone("clone.2/vm-brk-is-shared")
@lie(drops(CLONE_VM))
def test_with_clone_vm_the_program_break_is_one(parent: Process, make: MakeWith) -> None:
    child = make(parent, CLONE_VM)
    higher = child.sys.brk(0) + parent.target.page_size
    assert child.sys.brk(higher) == higher
    assert parent.sys.brk(0) == higher


@like_clone("clone.2/vm-exec-separates")
@lie(EXEC_DOES_NOTHING)
def test_exec_by_a_sharer_leaves_the_others_memory(
    parent: Process, observer: Observer, make: MakeWith
) -> None:
    cell = parent.allocate(8)
    parent.store(cell, 7)
    child = make(parent, CLONE_VM)
    child.execve()
    assert parent.load(cell) == 7
    assert observer.kcmp(parent, child, KCMP_VM) != 0


# --- stacks ---


@clause("clone.2/stack-argument-is-top")
@lie(clone_given("the stack is ignored", 1, 0))
def test_the_child_starts_on_the_stack_that_it_is_given(parent: Process) -> None:
    top = parent.allocate(STACK) + STACK
    assert parent.clone(CLONE_VM | SIGCHLD, stack=top).stack_pointer == top


@clause("clone.2/raw-null-stack-copies")
@lie(adds(CLONE_VM))
def test_without_a_stack_the_child_has_a_copy_of_the_callers(parent: Process) -> None:
    place = parent.clone(SIGCHLD).stack_pointer
    child = parent.clone(SIGCHLD)
    assert child.stack_pointer == place
    child.store(place - 256, 0x1234)
    assert parent.load(place - 256) != 0x1234


def with_signal_stack(process: Process) -> SignalStack:
    """Give a process an alternate signal stack."""
    process.sys.sigaltstack(SignalStack(process.allocate(STACK), 0, STACK))
    return SignalStack(*process.sys.sigaltstack())


@like_clone("clone.2/vm-clears-alternate-stack")
@lie(adds(CLONE_VFORK, hangs=True), drops(CLONE_VM))
def test_with_clone_vm_the_child_has_no_alternate_stack(parent: Process, make: MakeWith) -> None:
    with_signal_stack(parent)
    assert make(parent, CLONE_VM).sys.sigaltstack().flags == SS_DISABLE


@like_clone("clone.2/vm-vfork-keeps-alternate-stack")
@lie(drops(CLONE_VFORK))
def test_with_clone_vfork_too_the_alternate_stack_stays(parent: Process, make: MakeWith) -> None:
    stack = with_signal_stack(parent)
    assert make(parent, CLONE_VM | CLONE_VFORK).sys.sigaltstack() == stack


@like_clone("clone.2/no-vm-keeps-alternate-stack")
@lie(
    adds(CLONE_VM),
    in_child("it is gone", lambda child: child.sys.sigaltstack(SignalStack(0, SS_DISABLE, 0))),
)
def test_without_clone_vm_the_alternate_stack_stays(parent: Process, make: MakeWith) -> None:
    stack = with_signal_stack(parent)
    assert make(parent, 0).sys.sigaltstack() == stack
