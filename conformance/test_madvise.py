"""madvise(2): what children get of memory about which advice was given."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_procsemantics import Process, Target, clause
from pytest_procsemantics.driven import Unsupported, fails
from pytest_procsemantics.driven.constants import (
    AT_FDCWD,
    CLONE_VM,
    EFAULT,
    EINVAL,
    MADV_DOFORK,
    MADV_DONTDUMP,
    MADV_DONTFORK,
    MADV_DONTNEED,
    MADV_GUARD_INSTALL,
    MADV_GUARD_REMOVE,
    MADV_KEEPONFORK,
    MADV_MERGEABLE,
    MADV_WIPEONFORK,
    MAP_ANONYMOUS,
    MAP_FIXED_NOREPLACE,
    MAP_PRIVATE,
    MAP_SHARED,
    O_RDWR,
    PROT_READ,
    PROT_WRITE,
    SIGCHLD,
)
from pytest_procsemantics.lies import (
    Lie,
    allocations,
    every_child,
    in_child,
    in_maker,
    leaves_out,
    lie,
    passes,
)

NOT_GIVEN = leaves_out("madvise")
PLACE = 1 << 36  # an address where no image has anything
ACCESS = PROT_READ | PROT_WRITE


def advised(process: Process, advice: int) -> None:
    """Give an advice on all that was mapped in the test."""
    for start, size in allocations(process):
        process.sys.madvise(start, size, advice)


def taken_for(advice: int, other: int) -> Lie:
    """One advice has the effect of another."""
    name = "another advice is taken"
    return passes(name, "madvise", 2, lambda given: other if given == advice else given)


def mapped_file(process: Process, kind: int) -> int:
    """A page of a file, mapped private or shared."""
    size = process.target.page_size
    path = process.make_file(f"{process.target.folder()}/file", b"x" * size)
    fd = process.sys.openat(AT_FDCWD, path, O_RDWR)
    return int(process.sys.raw("mmap", 0, size, ACCESS, kind, fd, 0))


# --- MADV_DONTFORK and MADV_DOFORK ---


@clause("madvise.2/dontfork-works-on-shared-mappings")
@lie(NOT_GIVEN)
def test_shared_memory_not_to_be_forked_is_absent_in_the_child(
    parent: Process, target: Target
) -> None:
    page = parent.allocate(target.page_size, shared=True)
    parent.store(page, 42)
    parent.sys.madvise(page, target.page_size, MADV_DONTFORK)
    with fails(EFAULT):
        parent.fork().load(page)
    assert parent.load(page) == 42


@clause("madvise.2/dofork-undoes")
@lie(taken_for(MADV_DOFORK, MADV_DONTFORK))
def test_memory_is_forked_again(parent: Process, target: Target) -> None:
    (page,) = parent.pages(1)
    parent.sys.madvise(page, target.page_size, MADV_DONTFORK)
    parent.sys.madvise(page, target.page_size, MADV_DOFORK)
    assert parent.fork().load(page) == page


@clause("madvise.2/dontfork-accepted-on-file-mapping")
@lie(NOT_GIVEN, taken_for(MADV_DOFORK, MADV_DONTFORK))
@pytest.mark.parametrize(
    "kind", [pytest.param(MAP_PRIVATE, id="private"), pytest.param(MAP_SHARED, id="shared")]
)
def test_a_mapped_file_is_kept_from_the_child_and_given_again(
    parent: Process, target: Target, kind: int
) -> None:
    page = mapped_file(parent, kind)
    parent.sys.madvise(page, target.page_size, MADV_DONTFORK)
    with fails(EFAULT):
        parent.fork().load_bytes(page, 1)
    parent.sys.madvise(page, target.page_size, MADV_DOFORK)
    assert parent.fork().load_bytes(page, 1) == b"x"


# --- MADV_WIPEONFORK and MADV_KEEPONFORK ---


@clause("madvise.2/wipeonfork-only-private-anonymous")
@lie(taken_for(MADV_WIPEONFORK, MADV_KEEPONFORK))
@pytest.mark.parametrize(
    "mapped",
    [
        pytest.param(lambda p: p.allocate(p.target.page_size, shared=True), id="shared memory"),
        pytest.param(lambda p: mapped_file(p, MAP_PRIVATE), id="private file"),
        pytest.param(lambda p: mapped_file(p, MAP_SHARED), id="shared file"),
    ],
)
def test_only_private_memory_is_wiped(
    parent: Process, target: Target, mapped: Callable[[Process], int]
) -> None:
    page = mapped(parent)
    with fails(EINVAL):
        parent.sys.madvise(page, target.page_size, MADV_WIPEONFORK)


@clause("madvise.2/keeponfork-undoes")
@lie(taken_for(MADV_KEEPONFORK, MADV_WIPEONFORK))
def test_memory_is_kept_again(parent: Process, target: Target) -> None:
    (page,) = parent.pages(1)
    parent.sys.madvise(page, target.page_size, MADV_WIPEONFORK)
    parent.sys.madvise(page, target.page_size, MADV_KEEPONFORK)
    assert parent.fork().load(page) == page


def mapped_at_place(process: Process) -> None:
    """Map memory at an address that is the same in each image."""
    kind = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE
    process.sys.raw("mmap", PLACE, process.target.page_size, ACCESS, kind, -1, 0)
    process.store(PLACE, 42)


@clause("madvise.2/wipeonfork-cleared-by-exec")
@lie(in_maker("it stays", lambda maker: maker.sys.madvise(PLACE, 1, MADV_WIPEONFORK)))
def test_what_a_new_image_maps_is_not_wiped(parent: Process, target: Target) -> None:
    mapped_at_place(parent)
    parent.sys.madvise(PLACE, target.page_size, MADV_WIPEONFORK)
    parent.execve()
    mapped_at_place(parent)
    assert parent.fork().load(PLACE) == 42


@clause("madvise.2/vfork-not-affected")
@lie(every_child(SIGCHLD))
@pytest.mark.parametrize(
    "make",
    [
        pytest.param(Process.vfork, id="vfork"),
        pytest.param(lambda maker: maker.clone(CLONE_VM | SIGCHLD), id="clone"),
    ],
)
def test_memory_that_is_shared_is_there_whatever_was_advised(
    parent: Process, target: Target, make: Callable[[Process], Process]
) -> None:
    wiped, not_forked = parent.pages(2)
    parent.sys.madvise(wiped, target.page_size, MADV_WIPEONFORK)
    parent.sys.madvise(not_forked, target.page_size, MADV_DONTFORK)
    child = make(parent)
    assert (child.load(wiped), child.load(not_forked)) == (wiped, not_forked)


@clause("madvise.2/zero-length-changes-nothing")
@lie(passes("a page", "madvise", 1, lambda length: length or 1))
def test_an_advice_on_no_memory_changes_nothing(parent: Process) -> None:
    (page,) = parent.pages(1)
    assert parent.sys.madvise(page, 0, MADV_WIPEONFORK) == 0
    assert parent.fork().load(page) == page


# --- what a child's ranges keep ---


def flags_of(process: Process, address: int) -> list[str]:
    """The flags of the mapping that begins at an address (proc(5), smaps)."""
    smaps = process.target.observer.read(f"/proc/{process.pid}/smaps").decode()
    if "VmFlags:" not in smaps:
        raise Unsupported("/proc/PID/smaps VmFlags (not reported)")
    mapping = smaps.partition(f"{address:x}-")[2]
    return mapping.partition("VmFlags:")[2].partition("\n")[0].split()


@pytest.mark.parametrize(
    ("advice", "flag"),
    [
        pytest.param(
            MADV_DONTDUMP, "dd", id="dontdump", marks=clause("madvise.2/dontdump-inherited")
        ),
        pytest.param(
            MADV_MERGEABLE, "mg", id="mergeable", marks=clause("madvise.2/mergeable-inherited")
        ),
    ],
)
@lie(NOT_GIVEN)
def test_the_mark_is_on_the_childs_range_too(
    parent: Process, target: Target, advice: int, flag: str
) -> None:
    _, marked, _ = parent.pages(3)
    parent.sys.madvise(marked, target.page_size, advice)
    assert flag in flags_of(parent.fork(), marked)


@clause("madvise.2/guard-regions-inherited")
@lie(NOT_GIVEN, in_child("it is removed", lambda child: advised(child, MADV_GUARD_REMOVE)))
def test_a_guard_is_the_childs_too(parent: Process, target: Target) -> None:
    before, guard = parent.pages(2)
    parent.sys.madvise(guard, target.page_size, MADV_GUARD_INSTALL)
    child = parent.fork()
    with fails(EFAULT):
        child.load(guard)
    assert child.load(before) == before


@clause("madvise.2/guard-regions-dropped-by-wipeonfork")
@lie(taken_for(MADV_WIPEONFORK, MADV_KEEPONFORK))
def test_a_guard_in_what_is_wiped_is_none_of_the_childs(parent: Process, target: Target) -> None:
    (guard,) = parent.pages(1)
    parent.sys.madvise(guard, target.page_size, MADV_GUARD_INSTALL)
    parent.sys.madvise(guard, target.page_size, MADV_WIPEONFORK)
    assert parent.fork().load(guard) == 0
    with fails(EFAULT):
        parent.load(guard)


@clause("madvise.2/dontneed-in-child-leaves-parent")
@lie(every_child(CLONE_VM | SIGCHLD))
def test_what_one_side_does_not_need_stays_for_the_other(parent: Process, target: Target) -> None:
    first, second = parent.pages(2)
    child = parent.fork()
    child.sys.madvise(first, target.page_size, MADV_DONTNEED)
    parent.sys.madvise(second, target.page_size, MADV_DONTNEED)
    assert (child.load(first), child.load(second)) == (0, second)
    assert (parent.load(first), parent.load(second)) == (first, 0)
