"""What leak_guard sees of children and segments: also without the kernel's lists, and of other processes' segments nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_procsemantics.leaks import makers, snapshot
from pytest_procsemantics.leaks.makers import Makers
from pytest_procsemantics.leaks.snapshot import CHILD, SEGMENT, SEGMENTS, Thing, children_of, look

pytestmark = pytest.mark.skipif(
    snapshot.why_not_here() is not None, reason=f"needs /proc: {snapshot.why_not_here()}"
)

# --- children ---


def test_children_are_seen_without_lists_of_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
        listed = sorted(children_of("self"))
        assert child.pid in listed
        monkeypatch.setattr(snapshot, "_kernel_lists_children", lambda: False)
        assert sorted(children_of("self")) == listed


def test_children_of_other_threads_are_seen() -> None:
    made: list[subprocess.Popen[bytes]] = []
    go_on = threading.Event()

    def make() -> None:
        made.append(subprocess.Popen(["cat"], stdin=subprocess.PIPE))
        go_on.wait()

    thread = threading.Thread(target=make)
    thread.start()
    while not made:
        thread.join(0.001)
    with made[0] as child:
        assert Thing(CHILD, child.pid) in look()
        go_on.set()
        thread.join()
        # The kernel gave it to another thread.
        assert Thing(CHILD, child.pid) in look()


# --- segments ---

OTHER = """
import mmap, os, sys
descriptor = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
os.ftruncate(descriptor, 4096)
if sys.argv[2] == "mapped":
    held = mmap.mmap(descriptor, 4096)
if sys.argv[2] != "open":
    os.close(descriptor)
print("made", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def segment(tmp_path: Path) -> Iterator[Path]:
    """The path of a segment that is not there."""
    path = Path(f"{SEGMENTS}/procsem-{os.getpid()}")
    yield path
    path.unlink(missing_ok=True)


def made_by_another(path: Path, how: str) -> subprocess.Popen[str]:
    """Another process that has made a segment and goes on until its input ends."""
    line = [sys.executable, "-c", OTHER, str(path), how]
    other = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None and other.stdout.readline() == "made\n"
    return other


@pytest.fixture(params=[True, False], ids=["fanotify", "without"])
def watching(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the kernel tells who made a segment; where it can't, one of the two is left."""
    if request.param and (watch := makers._watch()) >= 0:
        os.close(watch)
    elif request.param:
        pytest.skip("this kernel, or a container's filter, has no fanotify for this user")
    else:
        monkeypatch.setattr(makers, "_watch", lambda: -1)
    return bool(request.param)


def test_a_segment_of_this_process_is_ours(watching: bool, segment: Path) -> None:
    found = Makers(is_alone=True)
    before = look()
    segment.write_bytes(b"x")
    (new,) = look() - before
    assert new == Thing(SEGMENT, segment.stat().st_ino, segment.name)
    assert found.is_ours(segment.name)
    found.close()


def test_beside_other_workers_only_what_the_kernel_tells_or_what_is_held_is_ours(
    watching: bool, segment: Path
) -> None:
    found = Makers(is_alone=False)
    with segment.open("wb"):
        assert found.is_ours(segment.name)
    assert found.is_ours(segment.name) == watching
    found.close()


@pytest.mark.parametrize("how", ["open", "mapped"])
def test_a_segment_that_another_process_holds_is_not_ours(
    watching: bool, segment: Path, how: str
) -> None:
    found = Makers(is_alone=True)
    with made_by_another(segment, how):
        assert not found.is_ours(segment.name)
    found.close()


def test_a_segment_that_another_process_left_is_not_ours_where_the_kernel_tells(
    watching: bool, segment: Path
) -> None:
    found = Makers(is_alone=True)
    with made_by_another(segment, "closed"):
        assert found.is_ours(segment.name) != watching
    found.close()


def test_a_test_may_close_every_descriptor_it_does_not_know(segment: Path) -> None:
    found = Makers(is_alone=False)
    reader, writer = os.pipe()
    if found._watch >= 0:
        os.dup2(reader, found._watch)
    segment.touch()
    # Nothing is read from the pipe, which would block.
    assert not found.is_ours(segment.name)
    found.close()
    if found._watch >= 0:
        os.close(found._watch)
    os.close(reader)
    os.close(writer)
