"""prctl(2): PR_SET_SECCOMP and PR_SET_SYSCALL_USER_DISPATCH."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_procsemantics import Process, clause
from pytest_procsemantics.alike import Make, by_any_copy, by_any_primitive
from pytest_procsemantics.driven import Step, Unsupported, fails
from pytest_procsemantics.driven.constants import (
    CLONE_VM,
    EACCES,
    ENOTTY,
    PR_GET_SECCOMP,
    PR_SET_NO_NEW_PRIVS,
    PR_SET_SECCOMP,
    PR_SET_SYSCALL_USER_DISPATCH,
    PR_SYS_DISPATCH_ON,
    SECCOMP_MODE_FILTER,
    SECCOMP_MODE_STRICT,
    SIGCHLD,
    SIGKILL,
    SIGSYS,
)
from pytest_procsemantics.driven.filters import refusing
from pytest_procsemantics.driven.forms.processes import FILTER
from pytest_procsemantics.lies import in_child, in_image, leaves_out, lie
from pytest_procsemantics.requirements import expect_new_privileges

NOT_SET = leaves_out("prctl")
ALLOW, BLOCK = b"\0", b"\1"  # what the selector holds
NOWHERE = 8  # in the page at 0, where nothing is mapped


def filters(process: Process) -> None:
    """Refuse getppid to a process."""
    process.sys.prctl(
        PR_SET_SECCOMP, SECCOMP_MODE_FILTER, FILTER.pack(*refusing(process, "getppid", ENOTTY))
    )


@by_any_primitive("prctl.2/seccomp-filter-inherited-by-children")
@lie(NOT_SET)
def test_a_filter_is_in_force_in_every_child(parent: Process, make: Make) -> None:
    parent.sys.prctl(PR_SET_NO_NEW_PRIVS, 1)
    filters(parent)
    child = make(parent)
    with fails(ENOTTY):
        child.sys.getppid()
    assert child.sys.prctl(PR_GET_SECCOMP) == SECCOMP_MODE_FILTER


@clause("prctl.2/seccomp-filter-needs-no-new-privs")
@lie(in_child("it is set already", lambda child: child.sys.prctl(PR_SET_NO_NEW_PRIVS, 1)), NOT_SET)
def test_a_filter_takes_a_capability_or_no_new_privs(parent: Process) -> None:
    expect_new_privileges(parent)
    child = parent.fork()
    child.sys.capset(0, 0, 0)
    with fails(EACCES):
        filters(child)
    child.sys.prctl(PR_SET_NO_NEW_PRIVS, 1)
    filters(child)
    assert child.sys.prctl(PR_GET_SECCOMP) == SECCOMP_MODE_FILTER


@clause("prctl.2/seccomp-strict-forbids-creation")
@lie(leaves_out("prctl", hangs=True))
@pytest.mark.parametrize(
    "step",
    [
        pytest.param(lambda process: process.post.clone(), id="clone"),
        pytest.param(lambda process: process.post.execve(), id="execve"),
        pytest.param(lambda process: process.post.sys.exit_group(0), id="exit_group"),
    ],
)
def test_in_strict_mode_a_new_process_or_image_is_death(
    parent: Process, step: Callable[[Process], object]
) -> None:
    if parent.sys.prctl(PR_GET_SECCOMP):
        raise Unsupported("strict mode (the suite was started with a filter of system calls)")
    child = parent.fork()
    child.sys.prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT)
    step(child)
    assert child.wait_for_exit().signal == SIGKILL


# --- PR_SET_SYSCALL_USER_DISPATCH ---


def dispatches(process: Process) -> int:
    """Let all calls of a process that are made while a selector says so be signals; gives its address."""
    selector = process.allocate(1)
    process.store(selector, ALLOW)
    process.sys.prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, 0, 0, selector)
    return selector


@clause("prctl.2/user-dispatch-intercepts")
@lie(leaves_out("prctl", hangs=True))
def test_a_call_becomes_a_signal_while_the_selector_says_so(parent: Process) -> None:
    child = parent.fork()
    selector = dispatches(child)
    child.sys.getpid()
    answer = child.post.store(selector, BLOCK)
    assert child.wait_for_exit().signal == SIGSYS
    assert not answer.ready


def made_with(child: Process) -> int:
    """The selector of a child's maker."""
    maker = child.creation.process if child.creation else child
    steps = [event for event in child.target.transcript.events if isinstance(event, Step)]
    mine = (step for step in steps if step.process is maker)
    return int(
        next(step.args[4] for step in mine if step.args[:1] == (PR_SET_SYSCALL_USER_DISPATCH,))
    )


def goes_on(child: Process) -> None:
    """Let a child's calls be signals, too."""
    child.sys.prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, 0, 0, made_with(child))


GOES_ON = in_child("it is inherited", goes_on)


@by_any_copy("prctl.2/user-dispatch-not-inherited-by-fork")
@lie(GOES_ON)
def test_a_forked_childs_calls_are_calls(parent: Process, make: Make) -> None:
    selector = dispatches(parent)
    child = make(parent)
    child.store(selector, BLOCK)
    assert child.sys.getppid() == parent.own_pid


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda maker: maker.clone(CLONE_VM | SIGCHLD), id="clone"),
        pytest.param(Process.thread, id="thread"),
    ],
)
@clause("prctl.2/user-dispatch-not-inherited-by-clone")
@lie(GOES_ON)
def test_a_cloned_childs_or_threads_calls_are_calls(parent: Process, make: Make) -> None:
    selector = dispatches(parent)
    child = make(parent)
    child.store(selector, BLOCK)
    assert child.sys.gettid() == child.tid
    child.store(selector, ALLOW)
    assert parent.sys.gettid() == parent.tid


@clause("prctl.2/user-dispatch-not-kept-over-exec")
@lie(
    in_image(
        "it stays",
        lambda image: image.post.sys.prctl(
            PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, 0, 0, NOWHERE
        ),
    )
)
def test_the_calls_of_a_new_image_are_calls(parent: Process) -> None:
    dispatches(parent)
    parent.execve()
    assert parent.sys.getpid() == parent.own_pid
