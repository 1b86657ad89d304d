"""ptrace(2): new processes and threads of a tracee: events, first stops, and who is traced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pytest_procsemantics import Process, clause
from pytest_procsemantics.alike import Make, by_any_primitive
from pytest_procsemantics.driven import Observer, Step, fails
from pytest_procsemantics.driven.constants import (
    CLONE_SIGHAND,
    CLONE_THREAD,
    CLONE_VFORK,
    CLONE_VM,
    EIO,
    PTRACE_ATTACH,
    PTRACE_CONT,
    PTRACE_EVENT_CLONE,
    PTRACE_EVENT_EXEC,
    PTRACE_EVENT_EXIT,
    PTRACE_EVENT_FORK,
    PTRACE_EVENT_STOP,
    PTRACE_EVENT_VFORK,
    PTRACE_EVENT_VFORK_DONE,
    PTRACE_INTERRUPT,
    PTRACE_O_TRACECLONE,
    PTRACE_O_TRACEEXEC,
    PTRACE_O_TRACEEXIT,
    PTRACE_O_TRACEFORK,
    PTRACE_O_TRACEVFORK,
    PTRACE_O_TRACEVFORKDONE,
    PTRACE_SEIZE,
    PTRACE_SETOPTIONS,
    PTRACE_TRACEME,
    SIGCHLD,
    SIGSTOP,
    SIGUSR1,
)
from pytest_procsemantics.driven.creation import Birth
from pytest_procsemantics.driven.tracer import NOTHING, Tracer, stop
from pytest_procsemantics.lies import Liar, Lie, in_child, leaves_out, lie, passes, toggles

EVERY_KIND = PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE
EVERY_OPTION = EVERY_KIND | PTRACE_O_TRACEEXEC | PTRACE_O_TRACEEXIT | PTRACE_O_TRACEVFORKDONE
THREAD = CLONE_VM | CLONE_SIGHAND | CLONE_THREAD

MESSAGE = "ptrace.2/tracefork-message-is-pid"
NO_OPTIONS = passes("no option is set", "ptrace", 3, 0, hangs=True)
TRACED_BY_MAKER = in_child(
    "its maker traces it",
    lambda new: new.name != "tracee" and new.sys.ptrace(PTRACE_TRACEME, 0, 0, 0),
)
Post = Callable[[Process], Birth]


@by_any_primitive("ptrace.2/children-not-traced-by-default")
@lie(TRACED_BY_MAKER)
def test_without_options_a_child_is_not_traced(
    observer: Observer, tracer: Tracer, tracee: Process, make: Make
) -> None:
    tracer.seize(tracee)
    child = make(tracee)
    assert observer.status_field(child, "TracerPid") == "0"
    assert tracer.told_now() == NOTHING


# --- events ---


@pytest.mark.parametrize(
    ("option", "number", "post"),
    [
        pytest.param(
            PTRACE_O_TRACEFORK,
            PTRACE_EVENT_FORK,
            lambda maker: maker.post.fork(),
            id="fork",
            marks=clause("ptrace.2/tracefork-attaches-child", MESSAGE),
        ),
        pytest.param(
            PTRACE_O_TRACEVFORK,
            PTRACE_EVENT_VFORK,
            lambda maker: maker.post.vfork(),
            id="vfork",
            marks=clause("ptrace.2/tracevfork-event", MESSAGE),
        ),
        pytest.param(
            PTRACE_O_TRACECLONE,
            PTRACE_EVENT_CLONE,
            lambda maker: maker.post.clone(0),
            id="clone",
            marks=clause("ptrace.2/traceclone-event", MESSAGE),
        ),
        pytest.param(
            PTRACE_O_TRACECLONE,
            PTRACE_EVENT_CLONE,
            lambda maker: maker.post.clone(THREAD),
            id="thread",
            marks=clause("ptrace.2/traceclone-event", MESSAGE),
        ),
    ],
)
@lie(NO_OPTIONS)
def test_the_maker_stops_and_the_child_begins_traced_and_stopped(
    parent: Process,
    tracer: Tracer,
    tracee: Process,
    observer: Observer,
    option: int,
    number: int,
    post: Post,
) -> None:
    tracer.attach(tracee, option)
    birth = post(tracee)
    assert tracer.told(tracee.tid) == stop(tracee.tid, number)
    new = tracer.message(tracee.tid)
    assert tracer.told(new) == stop(new, signal=SIGSTOP)
    tracer.go_on(tracee.tid)
    tracer.go_on(new)
    child = birth.begin()
    assert child.tid == new
    assert observer.status_field(child, "TracerPid") == str(parent.pid)


@pytest.mark.parametrize(
    ("flags", "number"),
    [
        pytest.param(SIGCHLD, PTRACE_EVENT_FORK, id="SIGCHLD"),
        pytest.param(SIGUSR1, PTRACE_EVENT_CLONE, id="SIGUSR1"),
        pytest.param(CLONE_VFORK | SIGCHLD, PTRACE_EVENT_VFORK, id="VFORK"),
        pytest.param(CLONE_VFORK | SIGUSR1, PTRACE_EVENT_VFORK, id="VFORK and SIGUSR1"),
    ],
)
@clause("ptrace.2/clone-with-sigchld-is-fork-event")
@lie(toggles(CLONE_VFORK))
def test_the_event_of_clone_is_by_its_flags(
    tracer: Tracer, tracee: Process, flags: int, number: int
) -> None:
    tracer.seize(tracee, EVERY_KIND)
    tracee.post.clone(flags)
    assert tracer.told(tracee.tid) == stop(tracee.tid, number)


@clause("ptrace.2/tracevforkdone-event")
@lie(NO_OPTIONS)
def test_when_the_child_of_vfork_has_let_go_its_maker_stops(
    tracer: Tracer, tracee: Process
) -> None:
    tracer.seize(tracee, PTRACE_O_TRACEVFORKDONE)
    child = tracee.vfork()
    child.sys.getppid()
    assert tracer.told_now() == NOTHING
    child.exit()
    assert tracer.told() == stop(tracee.tid, PTRACE_EVENT_VFORK_DONE)
    assert tracer.message(tracee.tid) == child.own_pid


@clause("ptrace.2/vfork-event-parent-waits-on")
@lie(NO_OPTIONS)
def test_who_goes_on_from_the_event_of_vfork_waits_for_the_child(
    tracer: Tracer, tracee: Process, observer: Observer
) -> None:
    tracer.seize(tracee, PTRACE_O_TRACEVFORK | PTRACE_O_TRACEVFORKDONE)
    birth = tracee.post.vfork()
    assert tracer.told(tracee.tid) == stop(tracee.tid, PTRACE_EVENT_VFORK)
    new = tracer.message(tracee.tid)
    tracer.told(new)
    tracer.go_on(tracee.tid)
    observer.wait_for_state(tracee, "D")
    assert tracer.told_now(tracee.tid) == NOTHING
    tracer.go_on(new)
    birth.begin().exit()
    assert tracer.told(tracee.tid) == stop(tracee.tid, PTRACE_EVENT_VFORK_DONE)


QUIETLY: dict[int, Callable[[Process], object]] = {
    PTRACE_EVENT_FORK: lambda tracee: tracee.fork(),
    PTRACE_EVENT_VFORK: lambda tracee: tracee.clone(CLONE_VM | CLONE_VFORK).exit(),  # no SIGCHLD
    PTRACE_EVENT_CLONE: lambda tracee: tracee.clone(0),
    PTRACE_EVENT_EXEC: lambda tracee: tracee.execve(),
}


def does_all_but(tracee: Process, *events: int) -> None:
    """Have a tracee do what would give the other events, and come through without a stop."""
    for event, act in QUIETLY.items():
        if event not in events:
            act(tracee)


@pytest.mark.parametrize(
    ("option", "number", "post"),
    [
        pytest.param(
            PTRACE_O_TRACECLONE, PTRACE_EVENT_CLONE, lambda tracee: tracee.post.clone(0), id="clone"
        ),
        pytest.param(
            PTRACE_O_TRACEEXEC, PTRACE_EVENT_EXEC, lambda tracee: tracee.post.execve(), id="exec"
        ),
        pytest.param(
            PTRACE_O_TRACEEXIT,
            PTRACE_EVENT_EXIT,
            lambda tracee: tracee.post.sys.exit_group(0),
            id="exit",
        ),
        pytest.param(
            PTRACE_O_TRACEFORK, PTRACE_EVENT_FORK, lambda tracee: tracee.post.fork(), id="fork"
        ),
        pytest.param(
            PTRACE_O_TRACEVFORK, PTRACE_EVENT_VFORK, lambda tracee: tracee.post.vfork(), id="vfork"
        ),
    ],
)
@clause("ptrace.2/accepted-option-has-its-effect")
@lie(passes("each option is set", "ptrace", 3, EVERY_OPTION, hangs=True))
def test_an_option_gives_its_own_event_and_no_other(
    tracer: Tracer,
    tracee: Process,
    option: int,
    number: int,
    post: Callable[[Process], object],
) -> None:
    tracer.seize(tracee, option)
    does_all_but(tracee, number)
    assert tracer.told_now() == NOTHING
    post(tracee)
    assert tracer.told(tracee.tid) == stop(tracee.tid, number)


@clause("ptrace.2/accepted-option-has-its-effect")
@lie(passes("each option is set", "ptrace", 3, EVERY_OPTION, hangs=True))
def test_tracevforkdone_gives_its_own_event_and_no_other(tracer: Tracer, tracee: Process) -> None:
    tracer.seize(tracee, PTRACE_O_TRACEVFORKDONE)
    does_all_but(tracee, PTRACE_EVENT_VFORK)
    child = tracee.vfork()
    assert tracer.told_now() == NOTHING
    child.exit()
    assert tracer.told(tracee.tid) == stop(tracee.tid, PTRACE_EVENT_VFORK_DONE)


# --- what the new tracee has of its maker ---


class _ForgetsOptions(Liar):
    first = 0

    def ask_call(self, name: str, number: int, args: Any, decode: Any = None) -> Step:
        if name == "ptrace" and args[0] == PTRACE_CONT:
            self.first = self.first or args[1]
            if args[1] != self.first:
                self.tell()
                super().ask_call(name, number, (PTRACE_SETOPTIONS, args[1], 0, 0)).arrives()
        return super().ask_call(name, number, args, decode)


WITHOUT_OPTIONS = Lie("new tracees have no options", _ForgetsOptions, hangs=True)


@clause("ptrace.2/options-inherited-by-attached-children")
@lie(WITHOUT_OPTIONS)
def test_a_new_tracee_has_its_makers_options(tracer: Tracer, tracee: Process) -> None:
    tracer.attach(tracee, PTRACE_O_TRACEFORK | PTRACE_O_TRACEEXIT)
    grandchild = begins(tracer, begins(tracer, tracee))
    grandchild.post.sys.exit_group(0)
    assert tracer.told(grandchild.tid) == stop(grandchild.tid, PTRACE_EVENT_EXIT)
    tracer.go_on(grandchild.tid)


def begins(tracer: Tracer, tracee: Process) -> Process:
    """Have a tracee fork, and let both go on from their stops."""
    birth = tracee.post.fork()
    tracer.told(tracee.tid)
    new = tracer.message(tracee.tid)
    tracer.told(new)
    tracer.go_on(new)
    tracer.go_on(tracee.tid)
    return birth.begin()


ATTACHES = passes(
    "PTRACE_ATTACH instead",
    "ptrace",
    0,
    lambda request: PTRACE_ATTACH if request == PTRACE_SEIZE else request,
)


@clause("ptrace.2/seize-child-stop-is-event")
@lie(ATTACHES)
def test_a_child_of_a_seized_tracee_begins_with_an_event(tracer: Tracer, tracee: Process) -> None:
    tracer.seize(tracee, PTRACE_O_TRACEFORK)
    tracee.post.fork()
    assert tracer.told(tracee.tid) == stop(tracee.tid, PTRACE_EVENT_FORK)
    new = tracer.message(tracee.tid)
    assert tracer.told(new) == stop(new, PTRACE_EVENT_STOP)


@clause("ptrace.2/seize-inherited-by-children")
@lie(leaves_out("ptrace", hangs=True))
def test_a_child_of_a_seized_tracee_can_be_interrupted(
    parent: Process, tracer: Tracer, tracee: Process
) -> None:
    tracer.seize(tracee, PTRACE_O_TRACEFORK)
    child = begins(tracer, tracee)
    parent.sys.ptrace(PTRACE_INTERRUPT, child.tid, 0, 0)
    assert tracer.told() == stop(child.tid, PTRACE_EVENT_STOP)


@clause("ptrace.2/seize-inherited-by-children")
@lie(leaves_out("ptrace", hangs=True))
def test_a_child_of_an_attached_tracee_cannot_be_interrupted(
    parent: Process, tracer: Tracer, tracee: Process
) -> None:
    tracer.attach(tracee, PTRACE_O_TRACEFORK)
    child = begins(tracer, tracee)
    with fails(EIO):
        parent.sys.ptrace(PTRACE_INTERRUPT, child.tid, 0, 0)
