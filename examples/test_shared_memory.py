"""multiprocessing.shared_memory: a forked child shares its parent's resource tracker, another program has one of its own.

A tracker unlinks at its end what its processes attached to, though others still use it (`track`, since Python 3.13):
https://docs.python.org/3/library/multiprocessing.shared_memory.html#multiprocessing.shared_memory.SharedMemory
"""

import subprocess
import sys
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory

import pytest

ATTACH = """
import sys
from multiprocessing.shared_memory import SharedMemory
SharedMemory(sys.argv[1]{track}).close()
"""


@pytest.fixture
def segment():
    segment = SharedMemory(create=True, size=16)
    yield segment
    segment.close()
    try:
        segment.unlink()
    except FileNotFoundError:
        resource_tracker.unregister(f"/{segment.name}", "shared_memory")


def write(name):
    other = SharedMemory(name)
    other.buf[0] = 7
    other.close()


def attach_in_a_program(name, track=""):
    """Attach to a segment in a fresh interpreter; what it said on standard error, its tracker included."""
    program = [sys.executable, "-c", ATTACH.format(track=track), name]
    return subprocess.run(program, check=True, capture_output=True, text=True).stderr


def test_what_a_child_writes_is_in_the_parents_memory(segment, spawn):
    spawn(write, segment.name).result()
    assert segment.buf[0] == 7


def test_a_segment_outlives_a_child_that_attached_to_it(segment, spawn):
    spawn(write, segment.name).result()
    write(segment.name)


def test_it_does_not_outlive_a_program_that_attached_to_it(segment, spawn):
    said = spawn(attach_in_a_program, segment.name).result()
    assert "leaked shared_memory objects" in said
    with pytest.raises(FileNotFoundError):
        write(segment.name)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="SharedMemory has no `track`")
def test_it_outlives_a_program_that_does_not_track_it(segment, spawn):
    assert spawn(attach_in_a_program, segment.name, track=", track=False").result() == ""
    write(segment.name)
