"""fork(2): memory. A load or store is done by the kernel, so a bad address shows as EFAULT."""

from __future__ import annotations

from pytest_procsemantics import Process, Target, clause
from pytest_procsemantics.alike import Make, like_fork
from pytest_procsemantics.driven import Observer, fails
from pytest_procsemantics.driven.constants import (
    AT_FDCWD,
    CLONE_VM,
    EFAULT,
    KCMP_VM,
    MADV_DONTFORK,
    MADV_KEEPONFORK,
    MADV_WIPEONFORK,
    MAP_PRIVATE,
    MCL_CURRENT,
    MCL_FUTURE,
    O_RDWR,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
    SIGCHLD,
)
from pytest_procsemantics.lies import allocations, every_child, in_child, leaves_out, lie

SHARES_MEMORY = every_child(CLONE_VM | SIGCHLD)


def forgets(child: Process) -> None:
    """Clear what the parent has mapped."""
    for start, _ in allocations(child):
        child.store(start, 0)


FORGETS = in_child("the child's memory is cleared", forgets)
UNMAPS = in_child(
    "the child has no mappings",
    lambda child: [child.sys.munmap(*place) for place in allocations(child)],
)


@like_fork("fork.2/same-content-at-fork")
@lie(FORGETS)
def test_the_child_finds_what_the_parent_wrote(parent: Process, make: Make) -> None:
    first, second = parent.pages(2)
    child = make(parent)
    assert (child.load(first), child.load(second)) == (first, second)


@like_fork("fork.2/memory-is-copied")
@lie(SHARES_MEMORY)
def test_each_side_writes_its_own_copy(parent: Process, make: Make) -> None:
    cell = parent.allocate(8)
    parent.store(cell, 1)
    child = make(parent)
    child.store(cell, 2)
    assert (parent.load(cell), child.load(cell)) == (1, 2)
    parent.store(cell, 3)
    assert (parent.load(cell), child.load(cell)) == (3, 2)


@clause("tutorial/different-address-spaces")
@lie(SHARES_MEMORY)
def test_parent_and_child_have_address_spaces_of_their_own(
    parent: Process, observer: Observer
) -> None:
    assert observer.kcmp(parent, parent.fork(), KCMP_VM) != 0


@like_fork("fork.2/child-mmap-does-not-affect-parent")
@lie(SHARES_MEMORY)
def test_a_mapping_of_the_child_is_not_the_parents(parent: Process, make: Make) -> None:
    child = make(parent)
    cell = child.allocate(8)
    child.store(cell, 1)
    with fails(EFAULT):
        parent.load(cell)


@like_fork("fork.2/parent-mmap-does-not-affect-child")
@lie(SHARES_MEMORY)
def test_a_mapping_of_the_parent_after_the_fork_is_not_the_childs(
    parent: Process, make: Make
) -> None:
    child = make(parent)
    cell = parent.allocate(8)
    parent.store(cell, 1)
    with fails(EFAULT):
        child.load(cell)


@like_fork("fork.2/child-munmap-does-not-affect-parent")
@lie(SHARES_MEMORY)
def test_what_the_child_unmaps_is_still_the_parents(
    parent: Process, target: Target, make: Make
) -> None:
    (page,) = parent.pages(1)
    child = make(parent)
    child.sys.munmap(page, target.page_size)
    assert parent.load(page) == page
    with fails(EFAULT):
        child.load(page)


@like_fork("fork.2/parent-munmap-does-not-affect-child")
@lie(SHARES_MEMORY)
def test_what_the_parent_unmaps_is_still_the_childs(
    parent: Process, target: Target, make: Make
) -> None:
    (page,) = parent.pages(1)
    child = make(parent)
    parent.sys.munmap(page, target.page_size)
    assert child.load(page) == page
    with fails(EFAULT):
        parent.load(page)


@like_fork("fork.2/mprotect-does-not-affect-other")
@lie(SHARES_MEMORY)
def test_a_change_of_protection_is_its_makers_alone(
    parent: Process, target: Target, make: Make
) -> None:
    first, second = parent.pages(2)
    child = make(parent)
    child.sys.mprotect(first, target.page_size, PROT_NONE)
    parent.sys.mprotect(second, target.page_size, PROT_NONE)
    assert (parent.load(first), child.load(second)) == (first, second)
    with fails(EFAULT):
        child.load(first)


@like_fork("fork.2/shared-mappings-stay-shared")
@lie(UNMAPS)
def test_a_shared_mapping_is_one_memory_for_both(parent: Process, make: Make) -> None:
    cell = parent.allocate(8, shared=True)
    child = make(parent)
    child.store(cell, 5)
    assert parent.load(cell) == 5
    parent.store(cell, 6)
    assert child.load(cell) == 6


@like_fork("fork.2/private-file-mappings-are-copied")
@lie(SHARES_MEMORY)
def test_a_private_mapping_of_a_file_is_private_to_each(
    parent: Process, target: Target, make: Make
) -> None:
    path = parent.make_file(f"{target.folder()}/file", b"original")
    fd = parent.sys.openat(AT_FDCWD, path, O_RDWR)
    view = parent.sys.mmap(0, 8, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0)
    child = make(parent)
    child.store(view, b"changed!")
    assert child.load_bytes(view, 8) == b"changed!"
    assert parent.load_bytes(view, 8) == parent.sys.pread64(fd, 8, 0) == b"original"


@like_fork("fork.2/lock-words-are-replicated")
@lie(FORGETS, SHARES_MEMORY)
def test_a_lock_that_another_thread_holds_stays_held_in_the_child(
    parent: Process, make: Make
) -> None:
    lock = parent.allocate(8)
    holder = parent.thread()
    holder.store(lock, holder.tid)
    child = make(parent)
    holder.store(lock, 0)
    assert child.load(lock) == holder.tid


# --- advice and locks ---


@clause("fork.2/madv-dontfork-not-inherited")
@lie(leaves_out("madvise"))
def test_a_range_not_to_be_forked_is_absent_in_the_child(parent: Process, target: Target) -> None:
    before, marked, after = parent.pages(3)
    parent.sys.madvise(marked, target.page_size, MADV_DONTFORK)
    child = parent.fork()
    assert (child.load(before), child.load(after)) == (before, after)
    with fails(EFAULT):
        child.load(marked)
    assert parent.load(marked) == marked


@clause("fork.2/madv-wipeonfork-zeroed")
@lie(leaves_out("madvise"))
def test_a_range_to_be_wiped_holds_zeros_in_the_child(parent: Process, target: Target) -> None:
    before, marked = parent.pages(2)
    parent.sys.madvise(marked, target.page_size, MADV_WIPEONFORK)
    child = parent.fork()
    assert (child.load(before), child.load(marked)) == (before, 0)
    assert parent.load(marked) == marked


def keeps_on_fork(child: Process) -> None:
    """Take the marks from what the parent has mapped."""
    for start, size in allocations(child):
        child.sys.madvise(start, size, MADV_KEEPONFORK)


@clause("fork.2/madv-wipeonfork-mark-stays")
@lie(in_child("the mark ends with the first fork", keeps_on_fork))
def test_the_mark_to_wipe_holds_in_the_child_too(parent: Process, target: Target) -> None:
    (page,) = parent.pages(1)
    parent.sys.madvise(page, target.page_size, MADV_WIPEONFORK)
    child = parent.fork()
    child.store(page, 1)
    assert child.fork("grandchild").load(page) == 0


LOCKS = in_child(
    "the child locks what the parent had locked",
    lambda child: [child.sys.mlock(*place) for place in allocations(child)],
)


@clause("fork.2/memory-locks-not-inherited")
@lie(LOCKS)
def test_locked_memory_is_not_locked_in_the_child(
    parent: Process, target: Target, observer: Observer
) -> None:
    page, _ = parent.pages(2)
    parent.sys.mlock(page, 2 * target.page_size)
    child = parent.fork()
    kib = 2 * target.page_size // 1024
    assert observer.status_field(parent, "VmLck") == f"{kib} kB"
    assert observer.status_field(child, "VmLck") == "0 kB"


@clause("fork.2/mlockall-current-not-inherited")
@lie(in_child("the child locks all", lambda child: child.sys.mlockall(MCL_CURRENT)))
def test_a_lock_on_all_memory_is_not_inherited(parent: Process, observer: Observer) -> None:
    parent.sys.mlockall(MCL_CURRENT)
    child = parent.fork()
    assert observer.status_field(parent, "VmLck") != "0 kB"
    assert observer.status_field(child, "VmLck") == "0 kB"


@clause("fork.2/mlockall-future-not-inherited")
@lie(in_child("the child locks later mappings", lambda child: child.sys.mlockall(MCL_FUTURE)))
def test_a_lock_on_later_mappings_is_not_inherited(parent: Process, observer: Observer) -> None:
    parent.sys.mlockall(MCL_FUTURE)
    child = parent.fork()
    child.allocate(1)
    assert observer.status_field(child, "VmLck") == "0 kB"
    parent.allocate(1)
    assert observer.status_field(parent, "VmLck") != "0 kB"
