"""What a child writes is kept, or goes where its parent's own output goes."""

from __future__ import annotations

import ctypes
import io
import os
import sys
from typing import Any

import pytest

from pytest_procsemantics import (
    Fork,
)

Maker = Any  # Fork | Clone | Clone3 | Vfork, which differ in what else they take


def test_everything_that_is_written_is_captured(make: Maker) -> None:
    def writes() -> None:
        print("printed")
        ctypes.CDLL(None).printf(b"by C\n")
        os.system("echo by a shell; echo error >&2")
        os.write(1, b"\xff\n")

    print("before", end="")
    child = make(writes)
    child.wait()
    assert sorted(child.stdout.split("\n")) == sorted(
        ["printed", "by C", "by a shell", "\udcff", ""]
    )
    assert child.stderr == "error\n"


def test_output_can_be_read_while_the_child_runs(fork: Fork) -> None:
    reader, writer = os.pipe()
    back, answer = os.pipe()

    def talks() -> None:
        print("first")
        os.write(answer, b"x")
        os.read(reader, 1)
        print("second")

    child = fork(talks)
    os.read(back, 1)
    assert child.stdout == "first\n"
    os.write(writer, b"x")
    assert child.wait().stdout == "first\nsecond\n"
    for descriptor in (reader, writer, back, answer):
        os.close(descriptor)


def test_output_that_is_not_captured_goes_where_the_parents_goes(
    make: Maker, capfd: pytest.CaptureFixture[str]
) -> None:
    child = make(lambda: (print("printed"), os.write(2, b"raw")), capture=False)
    child.wait()
    assert (child.stdout, child.stderr) == ("", "")
    assert capfd.readouterr() == ("printed\n", "raw")


def test_output_to_a_stream_in_memory_is_brought_home(
    make: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = io.StringIO()
    monkeypatch.setattr(sys, "stdout", memory)
    make(print, "printed", capture=False).wait()
    assert memory.getvalue() == "printed\n"
