"""fork(2), NOTES: pages are shared until one side writes; by frame numbers and counts of faults."""

from __future__ import annotations

import pytest

from pytest_procsemantics import Process, Target, clause
from pytest_procsemantics.driven import Observer, Unsupported
from pytest_procsemantics.driven.constants import CLONE_VM, MADV_HUGEPAGE, SIGCHLD
from pytest_procsemantics.driven.forms.memory import PIECE
from pytest_procsemantics.lies import allocations, every_child, in_child, leaves_out, lie

HUGE = 2 << 20  # bytes of a huge page on the machines that have an agent, with pages of 4 KiB


def copies_eagerly(child: Process) -> None:
    """Give the child a frame of its own for each page that the parent has made."""
    for start, size in allocations(child):
        for address in range(start, start + size, child.target.page_size):
            child.store(address, child.load(address))


EAGER = in_child("fork copies every page at once", copies_eagerly)
SHARES_MEMORY = every_child(CLONE_VM | SIGCHLD)


@clause("fork.2/copy-on-write")
@lie(EAGER, SHARES_MEMORY)
def test_a_page_is_shared_until_one_side_writes(parent: Process, observer: Observer) -> None:
    (page,) = parent.pages(1)
    child = parent.fork()
    assert observer.frame(child, page) == observer.frame(parent, page)
    child.touch(page)
    assert observer.frame(child, page) == observer.frame(parent, page)
    child.touch(page, write=1)
    assert observer.frame(child, page) != observer.frame(parent, page)


@clause("fork.2/copy-on-write-by-child")
@lie(EAGER, SHARES_MEMORY)
def test_a_write_by_the_child_gives_the_child_a_new_frame(
    parent: Process, observer: Observer
) -> None:
    (page,) = parent.pages(1)
    child = parent.fork()
    before = observer.frame(parent, page)
    assert observer.frame(child, page) == before
    child.touch(page, write=1)
    assert observer.frame(parent, page) == before
    assert observer.frame(child, page) != before


@clause("fork.2/copy-on-write-by-parent")
@lie(EAGER, SHARES_MEMORY)
def test_a_write_by_the_parent_separates_the_page_too(parent: Process, observer: Observer) -> None:
    (page,) = parent.pages(1)
    child = parent.fork()
    before = observer.frame(child, page)
    assert observer.frame(parent, page) == before
    parent.store(page, 1)
    assert observer.frame(parent, page) != observer.frame(child, page)
    assert child.load(page) == page


@clause("fork.2/copy-on-write-untouched-neighbours")
@lie(EAGER)
def test_the_neighbours_of_a_written_page_stay_shared(parent: Process, observer: Observer) -> None:
    left, middle, right = parent.pages(3)
    child = parent.fork()
    child.touch(middle, write=1)
    assert observer.frame(child, middle) != observer.frame(parent, middle)
    assert observer.frame(child, left) == observer.frame(parent, left)
    assert observer.frame(child, right) == observer.frame(parent, right)


@clause("fork.2/copy-on-write-last-owner-reuses-page")
@lie(leaves_out("exit_group", hangs=True), EAGER)
def test_a_page_without_another_owner_is_not_copied(parent: Process, observer: Observer) -> None:
    (page,) = parent.pages(1)
    child = parent.fork()
    before = observer.frame(parent, page)
    assert observer.frame(child, page) == before
    child.exit()
    child.wait_for_exit()
    parent.touch(page, write=1)
    assert observer.frame(parent, page) == before


@clause("fork.2/copies-page-tables-not-pages")
@lie(EAGER, SHARES_MEMORY)
def test_only_the_pages_that_the_child_writes_are_copied(
    parent: Process, observer: Observer
) -> None:
    pages = parent.pages(64)
    child = parent.fork()
    child.touch(pages[0])
    before = observer.faults(child)
    assert [child.touch(page) for page in pages] == [page & 0xFF for page in pages]
    assert observer.faults(child) == before
    assert [child.touch(page, write=1) for page in pages[:32]] == [1] * 32
    assert observer.faults(child) == before + 32
    frames = [observer.frame(parent, page) for page in pages]
    shared = [
        observer.frame(child, page) == frame for page, frame in zip(pages, frames, strict=True)
    ]
    assert shared == [False] * 32 + [True] * 32


# --- what else holds a page ---


@clause("fork.2/blocked-read-follows-copy-on-write")
@lie(SHARES_MEMORY)
@pytest.mark.parametrize("writer", ["parent", "nobody"])
def test_a_read_that_blocked_before_the_fork_stores_into_the_callers_page(
    parent: Process, observer: Observer, writer: str
) -> None:
    (page,) = parent.pages(1)
    source, sink = parent.sys.pipe()
    reader = parent.thread("reader")
    answer = reader.post.sys.read(source, page, 8)
    observer.wait_for_state(reader, "S")
    child = parent.fork()
    {"parent": parent, "nobody": child}[writer].touch(page + 8, write=1)
    parent.sys.write(sink, b"new data")
    assert answer.arrives() == 8
    assert parent.load_bytes(page, 8) == b"new data"
    assert child.load(page) == page


@clause("fork.2/vmspliced-page-keeps-content")
@lie(SHARES_MEMORY)
@pytest.mark.parametrize("giver", ["child", "parent"])
def test_a_page_given_to_a_pipe_keeps_its_content(
    parent: Process, target: Target, giver: str
) -> None:
    (page,) = parent.pages(1)
    source, sink = parent.sys.pipe()
    child = parent.fork()
    gives, writes = {"child": (child, parent), "parent": (parent, child)}[giver]
    piece = PIECE.pack(page, target.page_size)
    assert gives.sys.vmsplice(sink, piece, 1, 0) == target.page_size
    gives.sys.munmap(page, target.page_size)
    writes.store(page, 1)
    assert parent.sys.read(source, 8) == page.to_bytes(8, "little")


def huge_page(process: Process) -> int:
    """The address of a huge page that the kernel has really given."""
    start = process.allocate(2 * HUGE)
    page = -(-start // HUGE) * HUGE
    process.sys.madvise(page, HUGE, MADV_HUGEPAGE)
    process.touch(page, write=1)
    smaps = process.target.observer.read(f"/proc/{process.pid}/smaps_rollup").split()
    if b"AnonHugePages:" not in smaps or smaps[smaps.index(b"AnonHugePages:") + 1] == b"0":
        raise Unsupported("a huge page (the kernel gave none)")
    return page


@clause("fork.2/huge-pages-are-copied")
@lie(SHARES_MEMORY)
def test_a_huge_page_is_private_to_each_side(parent: Process, target: Target) -> None:
    page = huge_page(parent)
    other = page + HUGE // 2
    child = parent.fork()
    child.store(page, 2)
    parent.store(other, 3)
    assert (parent.load(page), parent.load(other)) == (1, 3)
    assert (child.load(page), child.load(other)) == (2, 0)
