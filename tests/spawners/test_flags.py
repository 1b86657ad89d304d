"""Which flags of clone and clone3 a child can have, and how the others are refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_procsemantics import (
    Clone,
    Clone3,
)
from pytest_procsemantics.driven.constants.values import CLONE_NEWPID, CLONE_NEWUSER
from pytest_procsemantics.spawners.clone import CLONE_FILES, CLONE_SIGHAND, CLONE_VFORK, CLONE_VM
from pytest_procsemantics.spawners.support import CLONE_THREAD

Maker = Any  # Fork | Clone | Clone3 | Vfork, which differ in what else they take
Has = Callable[[], tuple[list[str], list[int]]]


def test_with_shared_descriptors_the_parents_output_stays(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with Clone() as clone:
        reader, writer = os.pipe()

        def writes() -> None:
            print("captured")
            os.write(1, b"raw")
            os.close(writer)

        child = clone(writes, flags=CLONE_FILES).wait()
        assert os.read(reader, 1) == b""  # the writer was the parent's too
        os.close(reader)
    assert child.stdout == "captured\n"
    print("and on")
    assert capfd.readouterr().out == "rawand on\n"


def test_a_child_has_the_pid_that_was_set() -> None:
    def first_of_its_namespace() -> tuple[int, int]:
        child = clone3(os.getpid, set_tid=[77])
        return child.pid, child.result()

    with Clone3() as clone3:
        try:
            child = clone3(first_of_its_namespace, flags=CLONE_NEWUSER | CLONE_NEWPID)
        except OSError as error:
            pytest.skip(f"no user namespaces for this user: {error}")
        assert child.result() == (77, 77)


def test_a_control_group_is_that_of_the_descriptor(tmp_path: Path, has: Has) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    with Clone3() as clone3:
        before = has()
        # The kernel looked at it, and found that it is none.
        with pytest.raises(OSError, match="clone3: Bad file descriptor"):
            clone3(int, cgroup=folder)
        assert has() == before
    os.close(folder)


def test_a_child_without_a_signal_at_its_end_is_reaped() -> None:
    with Clone3() as clone3:
        assert clone3(os.getpid, exit_signal=0).wait().exit_code == 0


@pytest.mark.parametrize(
    ("flags", "way"),
    [
        (CLONE_VM, "procsem"),
        (CLONE_THREAD, "procsem"),
        (CLONE_VFORK, "procsem"),
        (CLONE_VM | CLONE_VFORK | CLONE_THREAD, "procsem"),
        (CLONE_VM | CLONE_VFORK | CLONE_SIGHAND, "procsem"),
        (0x1000, "CLONE_PIDFD takes an address"),
    ],
)
@pytest.mark.parametrize("kind", [Clone, Clone3])
def test_flags_that_cannot_work_are_refused(kind: Maker, flags: int, way: str) -> None:
    with kind() as make, pytest.raises(ValueError, match=way):
        make(int, flags=flags)
