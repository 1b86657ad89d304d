"""clone(2): a target may refuse a flag that it lacks, but it may not accept the flag and ignore it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_procsemantics import Process
from pytest_procsemantics.alike import MakeWith, like_clone
from pytest_procsemantics.driven import Observer
from pytest_procsemantics.driven.constants import (
    CLONE_CHILD_SETTID,
    CLONE_FILES,
    CLONE_FS,
    CLONE_PARENT,
    CLONE_PARENT_SETTID,
    CLONE_SIGHAND,
    CLONE_THREAD,
    CLONE_VFORK,
    CLONE_VM,
    SIG_IGN,
    SIGUSR1,
    errno_name,
    flag_names,
)
from pytest_procsemantics.driven.errors import CallFailed, Unsupported
from pytest_procsemantics.lies import drops, lie

Witness = Callable[[Process, Process, int, Observer], bool]
ALL_FLAGS = 0xFFFFFF00


def accepted(make: MakeWith, maker: Process, flags: int, cell: int) -> Process:
    """A child that is made with these flags where the target accepts them."""
    try:
        return make(maker, flags, parent_tid=cell, child_tid=cell)
    except CallFailed as refusal:
        text = f"{flag_names(flags, 'CLONE_')} ({errno_name(refusal.errno or 0)})"
        raise Unsupported(text) from None


# What shows that a flag has its effect: maker, child, the address given for thread ids, witness.


def is_memory_shared(maker: Process, child: Process, cell: int, _: Observer) -> bool:
    child.store(cell, 0x1234)
    return maker.load(cell) == 0x1234


def is_table_shared(maker: Process, child: Process, cell: int, _: Observer) -> bool:
    return bool(child.sys.pipe() != maker.sys.pipe())


def is_umask_shared(maker: Process, child: Process, cell: int, _: Observer) -> bool:
    child.sys.umask(0o123)
    return bool(maker.sys.umask(0o22) == 0o123)


def are_dispositions_shared(maker: Process, child: Process, cell: int, _: Observer) -> bool:
    child.sys.rt_sigaction(SIGUSR1, SIG_IGN)
    return bool(maker.sys.rt_sigaction(SIGUSR1).handler == SIG_IGN)


def is_sibling(maker: Process, child: Process, cell: int, _: Observer) -> bool:
    return bool(child.sys.getppid() != maker.own_pid)


def is_thread(maker: Process, child: Process, cell: int, _: Observer) -> bool:
    return bool(child.sys.getpid() == maker.own_pid)


def is_maker_suspended(maker: Process, child: Process, cell: int, observer: Observer) -> bool:
    return observer.state(maker) == "D"


def has_maker_the_id(maker: Process, child: Process, cell: int, _: Observer) -> bool:
    return maker.load(cell) == child.tid


def has_child_the_id(maker: Process, child: Process, cell: int, _: Observer) -> bool:
    return child.load(cell) == child.tid


@like_clone("clone.2/accepted-flag-has-its-effect")
@lie(drops(ALL_FLAGS))
@pytest.mark.parametrize(
    ("others", "flag", "has_effect"),
    [
        pytest.param(0, CLONE_CHILD_SETTID, has_child_the_id, id="CHILD_SETTID"),
        pytest.param(0, CLONE_FILES, is_table_shared, id="FILES"),
        pytest.param(0, CLONE_FS, is_umask_shared, id="FS"),
        pytest.param(0, CLONE_PARENT, is_sibling, id="PARENT"),
        pytest.param(0, CLONE_PARENT_SETTID, has_maker_the_id, id="PARENT_SETTID"),
        pytest.param(CLONE_VM, CLONE_SIGHAND, are_dispositions_shared, id="SIGHAND"),
        pytest.param(CLONE_VM | CLONE_SIGHAND, CLONE_THREAD, is_thread, id="THREAD"),
        pytest.param(0, CLONE_VFORK, is_maker_suspended, id="VFORK"),
        pytest.param(0, CLONE_VM, is_memory_shared, id="VM"),
    ],
)
def test_a_flag_that_is_accepted_makes_a_difference(
    parent: Process,
    observer: Observer,
    make: MakeWith,
    others: int,
    flag: int,
    has_effect: Witness,
) -> None:
    maker = parent.fork("maker")
    cell = maker.allocate(8)
    assert not has_effect(maker, accepted(make, maker, others, cell), cell, observer)
    assert has_effect(maker, accepted(make, maker, others | flag, cell), cell, observer)
