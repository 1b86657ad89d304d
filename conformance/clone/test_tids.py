"""clone(2): CLONE_PARENT_SETTID, CLONE_CHILD_SETTID and CLONE_CHILD_CLEARTID."""

from __future__ import annotations

from pytest_procsemantics import Process, clause
from pytest_procsemantics.alike import MakeWith, like_clone
from pytest_procsemantics.driven.constants import (
    CLONE_CHILD_CLEARTID,
    CLONE_CHILD_SETTID,
    CLONE_PARENT_SETTID,
    CLONE_PIDFD,
    CLONE_VFORK,
    CLONE_VM,
    SIGCHLD,
)
from pytest_procsemantics.driven.futexes import waits_on
from pytest_procsemantics.lies import (
    EXEC_DOES_NOTHING,
    adds,
    becomes,
    drops,
    in_child,
    leaves_out,
    lie,
)

UNTOUCHED = 77
NOWHERE = 8  # in the page at 0, where nothing is mapped


def new_cell(process: Process, *, shared: bool = False) -> int:
    """Memory for a thread id, which holds none yet."""
    cell = process.allocate(8, shared=shared)
    process.store(cell, UNTOUCHED)
    return cell


# --- CLONE_PARENT_SETTID ---


@like_clone("clone.2/parent-settid-stores-in-parent")
@lie(drops(CLONE_PARENT_SETTID))
def test_the_childs_tid_is_stored_in_the_parents_memory(parent: Process, make: MakeWith) -> None:
    cell = new_cell(parent)
    child = make(parent, CLONE_PARENT_SETTID, parent_tid=cell)
    assert parent.load(cell) == child.tid


def clears_word(child: Process) -> None:
    """Take the thread id away again, as if it had not been stored yet."""
    assert child.creation
    cell = int.from_bytes(child.creation.args[0][24:32], "little")
    child.store(cell, UNTOUCHED)


@clause("clone.2/parent-settid-before-return")
@lie(drops(CLONE_PARENT_SETTID), in_child("it is stored when the caller goes on", clears_word))
def test_the_tid_is_there_when_the_child_begins(parent: Process) -> None:
    cell = new_cell(parent)
    flags = CLONE_VM | CLONE_VFORK | CLONE_PARENT_SETTID
    child = parent.clone3(flags, parent_tid=cell)
    assert child.load(cell) == child.tid


@like_clone("clone.2/parent-settid-unset-no-store")
@lie(adds(CLONE_PARENT_SETTID))
def test_without_parent_settid_nothing_is_stored(parent: Process, make: MakeWith) -> None:
    cell = new_cell(parent)
    child = make(parent, 0, parent_tid=cell)
    assert (parent.load(cell), child.load(cell)) == (UNTOUCHED, UNTOUCHED)


@clause("clone.2/parent-settid-bad-address")
@lie(becomes(CLONE_PARENT_SETTID, CLONE_PIDFD))
def test_a_bad_address_for_the_parents_word_fails_nothing(parent: Process) -> None:
    child = parent.clone(CLONE_PARENT_SETTID | SIGCHLD, parent_tid=NOWHERE)
    assert child.sys.getppid() == parent.own_pid


# --- CLONE_CHILD_SETTID ---


@like_clone("clone.2/child-settid-stores-in-child")
@lie(drops(CLONE_CHILD_SETTID), adds(CLONE_VM))
def test_the_childs_tid_is_stored_in_the_childs_memory(parent: Process, make: MakeWith) -> None:
    cell = new_cell(parent)
    child = make(parent, CLONE_CHILD_SETTID, child_tid=cell)
    assert (child.load(cell), parent.load(cell)) == (child.tid, UNTOUCHED)


@like_clone("clone.2/child-settid-before-return-in-child")
@lie(drops(CLONE_CHILD_SETTID))
def test_the_childs_first_load_finds_its_tid(parent: Process, make: MakeWith) -> None:
    cell = new_cell(parent)
    child = make(parent, CLONE_VFORK | CLONE_CHILD_SETTID, child_tid=cell)
    assert child.load(cell) == child.tid


@like_clone("clone.2/child-settid-shared-memory")
@lie(drops(CLONE_CHILD_SETTID), drops(CLONE_VM))
def test_with_clone_vm_the_parent_sees_the_childs_word(parent: Process, make: MakeWith) -> None:
    cell = new_cell(parent)
    child = make(parent, CLONE_VM | CLONE_VFORK | CLONE_CHILD_SETTID, child_tid=cell)
    child.exit()
    assert parent.load(cell) == child.tid


@like_clone("clone.2/child-settid-unset-no-store")
@lie(adds(CLONE_CHILD_SETTID))
def test_without_child_settid_nothing_is_stored(parent: Process, make: MakeWith) -> None:
    cell = new_cell(parent)
    assert make(parent, 0, child_tid=cell).load(cell) == UNTOUCHED


# --- CLONE_CHILD_CLEARTID ---


@like_clone("clone.2/child-cleartid-zeroes-word")
@lie(drops(CLONE_CHILD_CLEARTID))
def test_the_word_is_zeroed_when_the_child_ends(parent: Process, make: MakeWith) -> None:
    cell = new_cell(parent)
    child = make(parent, CLONE_VM | CLONE_CHILD_CLEARTID, child_tid=cell)
    assert child.load(cell) == UNTOUCHED
    child.exit()
    assert parent.load(cell) == 0


@like_clone("clone.2/child-cleartid-wakes-futex")
@lie(drops(CLONE_CHILD_CLEARTID, hangs=True))
def test_who_waits_on_the_word_is_woken_when_the_child_ends(
    parent: Process, make: MakeWith
) -> None:
    cell = new_cell(parent)
    child = make(parent, CLONE_VM | CLONE_CHILD_CLEARTID, child_tid=cell)
    waiting = waits_on(parent.thread("waiter"), cell)
    child.sys.getpid()
    assert not waiting.ready
    child.exit()
    assert waiting.arrives() == 0


@like_clone("clone.2/child-cleartid-not-without-sharing")
@lie(adds(CLONE_VM))
def test_a_child_alone_in_its_memory_zeroes_nothing(parent: Process, make: MakeWith) -> None:
    cell = new_cell(parent, shared=True)
    make(parent, CLONE_CHILD_CLEARTID, child_tid=cell).exit()
    assert parent.load(cell) == UNTOUCHED


@like_clone("clone.2/child-cleartid-address-can-change")
@lie(leaves_out("set_tid_address"))
def test_set_tid_address_names_another_word(parent: Process, make: MakeWith) -> None:
    first, second = new_cell(parent), new_cell(parent)
    child = make(parent, CLONE_VM | CLONE_CHILD_CLEARTID, child_tid=first)
    assert child.sys.set_tid_address(second) == child.tid
    child.exit()
    assert (parent.load(first), parent.load(second)) == (UNTOUCHED, 0)


@like_clone("clone.2/child-cleartid-unset-no-store")
@lie(adds(CLONE_CHILD_CLEARTID))
def test_without_child_cleartid_nothing_is_zeroed(parent: Process, make: MakeWith) -> None:
    cell = new_cell(parent)
    make(parent, CLONE_VM, child_tid=cell).exit()
    assert parent.load(cell) == UNTOUCHED


@like_clone("clone.2/child-cleartid-cleared-on-exec")
@lie(drops(CLONE_CHILD_CLEARTID), EXEC_DOES_NOTHING)
def test_exec_zeroes_the_word_and_wakes_too(parent: Process, make: MakeWith) -> None:
    cell = new_cell(parent)
    child = make(parent, CLONE_VM | CLONE_CHILD_CLEARTID, child_tid=cell)
    waiting = waits_on(parent.thread("waiter"), cell)
    child.execve()
    assert parent.load(cell) == 0
    assert waiting.arrives() == 0
