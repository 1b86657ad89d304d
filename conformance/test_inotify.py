"""inotify(7): whose an instance is, and what execution of a file is told as."""

from __future__ import annotations

import struct

from pytest_procsemantics import Process, Target, clause
from pytest_procsemantics.driven import Observer
from pytest_procsemantics.driven.constants import (
    IN_ACCESS,
    IN_CLOSE_NOWRITE,
    IN_CREATE,
    IN_MODIFY,
    IN_NONBLOCK,
    IN_OPEN,
    POLLIN,
)
from pytest_procsemantics.lies import (
    EXEC_DOES_NOTHING,
    before_call,
    before_exec,
    in_child,
    lie,
    opened,
)

EVENT = struct.Struct("<iIII")  # watch, mask, cookie, bytes of the name
EXECUTION = IN_OPEN | IN_ACCESS | IN_MODIFY | IN_CLOSE_NOWRITE


def new_instance(process: Process) -> int:
    """An instance that is read without waiting."""
    return int(process.sys.inotify_init1(IN_NONBLOCK))


def events(process: Process, instance: int) -> list[int]:
    """The masks of the events that are there."""
    memory = process.sys.read(instance, 4096)
    masks = []
    while memory:
        _, mask, _, length = EVENT.unpack_from(memory)
        masks.append(mask)
        memory = memory[EVENT.size + length :]
    return masks


@clause("inotify.7/exec-gives-open-and-access")
@lie(EXEC_DOES_NOTHING)
def test_a_file_that_is_executed_is_opened_and_accessed(
    parent: Process, observer: Observer, target: Target
) -> None:
    program = f"{target.folder()}/program"
    parent.make_file(program, observer.read(target.agent_path.decode()), 0o755)
    instance = new_instance(parent)
    parent.sys.inotify_add_watch(instance, program, EXECUTION)
    child = parent.fork()
    child.execve(program)
    begun = events(parent, instance)
    assert {IN_OPEN, IN_ACCESS} <= set(begun) and IN_MODIFY not in begun
    child.exit()
    parent.sys.poll([(instance, POLLIN)])
    assert events(parent, instance) == [IN_CLOSE_NOWRITE]


def has_its_own(child: Process) -> None:
    """Have another instance instead of its maker's."""
    for fd in opened(child, "inotify_init1"):
        child.sys.dup3(new_instance(child), fd, 0)


@clause("inotify.7/fork-shares-instance")
@lie(in_child("it has its own", has_its_own))
def test_what_a_child_watches_is_told_to_the_parent(parent: Process, target: Target) -> None:
    instance = new_instance(parent)
    child = parent.fork()
    child.sys.inotify_add_watch(instance, target.folder(), IN_CREATE)
    child.exit()
    parent.make_file(f"{target.folder()}/file")
    assert events(parent, instance) == [IN_CREATE]


def ends_watches(process: Process) -> None:
    """End the watches of its maker's instance."""
    for fd in opened(process, "inotify_init1"):
        process.sys.inotify_rm_watch(fd, 1)
        process.sys.read(fd, 4096)


@clause("inotify.7/instance-outlives-a-holder")
@lie(before_call("exit_group", "its end ends the watches", ends_watches))
def test_the_end_of_a_holder_ends_no_watch(parent: Process, target: Target) -> None:
    instance = new_instance(parent)
    parent.sys.inotify_add_watch(instance, target.folder(), IN_CREATE)
    parent.fork().exit()
    parent.make_file(f"{target.folder()}/file")
    assert events(parent, instance) == [IN_CREATE]


def loses_events(process: Process) -> None:
    """Have no events any more that nobody has read."""
    for fd in opened(process, "inotify_init1"):
        process.sys.read(fd, 4096)


@clause("inotify.7/exec-keeps-instance")
@lie(before_exec("exec loses events", loses_events))
def test_events_stay_over_exec(parent: Process, target: Target) -> None:
    instance = new_instance(parent)
    parent.sys.inotify_add_watch(instance, target.folder(), IN_CREATE)
    parent.make_file(f"{target.folder()}/file")
    parent.execve()
    assert events(parent, instance) == [IN_CREATE]
    parent.make_file(f"{target.folder()}/another")
    assert events(parent, instance) == [IN_CREATE]
