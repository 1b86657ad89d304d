"""posix_spawn(3): the child's policy and priority."""

from __future__ import annotations

import pytest

from pytest_procsemantics import Process, clause
from pytest_procsemantics.driven import fails
from pytest_procsemantics.driven.constants import (
    EINVAL,
    EPERM,
    RLIMIT_RTPRIO,
    SCHED_BATCH,
    SCHED_FIFO,
    SCHED_OTHER,
    SCHED_RR,
)
from pytest_procsemantics.driven.library import (
    POSIX_SPAWN_SETSCHEDPARAM,
    POSIX_SPAWN_SETSCHEDULER,
    POSIX_SPAWN_SETSIGDEF,
)
from pytest_procsemantics.lies import (
    WITHOUT_ATTRIBUTES,
    before_function,
    function_does_nothing,
    function_given,
    in_library_child,
    lie,
)

TOO_HIGH = 100  # the highest priority is 99


def attributes(program: Process, flags: int, policy: int, priority: int) -> int:
    made: int = program.lib.attributes(flags)
    program.lib.posix_spawnattr_setschedpolicy(made, policy)
    program.lib.posix_spawnattr_setschedparam(made, priority.to_bytes(4, "little"))
    return made


def scheduling(process: Process) -> tuple[int, int]:
    return process.sys.sched_getscheduler(0), process.sys.sched_getparam()


@pytest.mark.parametrize(
    "policy", [pytest.param(SCHED_FIFO, id="fifo"), pytest.param(SCHED_RR, id="rr")]
)
@clause("posix_spawn.3/setscheduler", "posix_spawn.3/setscheduler-without-schedparam")
@lie(WITHOUT_ATTRIBUTES, function_does_nothing("posix_spawnattr_setschedpolicy"))
def test_the_child_has_policy_and_priority_of_the_attributes(program: Process, policy: int) -> None:
    given = attributes(program, POSIX_SPAWN_SETSCHEDULER, policy, 5)
    assert scheduling(program.lib.posix_spawn(attributes=given)) == (policy, 5)


@clause("posix_spawn.3/setscheduler-overrides-schedparam-flag")
@lie(function_given("the priority alone", "posix_spawnattr_setflags", 1, POSIX_SPAWN_SETSCHEDPARAM))
def test_with_the_policy_the_flag_of_the_priority_changes_nothing(program: Process) -> None:
    both = POSIX_SPAWN_SETSCHEDULER | POSIX_SPAWN_SETSCHEDPARAM
    given = attributes(program, both, SCHED_RR, 7)
    assert scheduling(program.lib.posix_spawn(attributes=given)) == (SCHED_RR, 7)


@clause("posix_spawn.3/schedparam-keeps-policy")
@lie(
    WITHOUT_ATTRIBUTES,
    function_given("the policy too", "posix_spawnattr_setflags", 1, POSIX_SPAWN_SETSCHEDULER),
)
def test_the_priority_alone_keeps_the_callers_policy(program: Process) -> None:
    program.sys.sched_setscheduler(0, SCHED_FIFO, 3)
    given = attributes(program, POSIX_SPAWN_SETSCHEDPARAM, SCHED_RR, 9)
    assert scheduling(program.lib.posix_spawn(attributes=given)) == (SCHED_FIFO, 9)


@pytest.mark.parametrize(
    ("flag", "priority"),
    [
        pytest.param(POSIX_SPAWN_SETSCHEDPARAM, 5, id="schedparam"),
        pytest.param(POSIX_SPAWN_SETSCHEDULER, TOO_HIGH, id="setscheduler"),
    ],
)
@clause("posix_spawn.3/schedparam-invalid")
@lie(WITHOUT_ATTRIBUTES)
def test_a_priority_that_does_not_fit_the_policy_is_refused(
    program: Process, flag: int, priority: int
) -> None:
    program.sys.sched_setscheduler(0, SCHED_OTHER)
    given = attributes(program, flag, SCHED_FIFO, priority)
    with fails(EINVAL):
        program.lib.posix_spawn(attributes=given)


@clause("posix_spawn.3/setscheduler-unprivileged")
@lie(WITHOUT_ATTRIBUTES)
def test_a_policy_that_the_caller_may_not_use_is_refused(program: Process) -> None:
    program.sys.prlimit64(0, RLIMIT_RTPRIO, (0, 0))
    program.sys.capset(0, 0, 0)
    given = attributes(program, POSIX_SPAWN_SETSCHEDULER, SCHED_FIFO, 5)
    with fails(EPERM):
        program.lib.posix_spawn(attributes=given)


@clause("posix_spawn.3/scheduling-inherited-without-flags")
@lie(
    before_function(
        "back to normal", "posix_spawn", lambda p: p.sys.sched_setscheduler(0, SCHED_OTHER)
    ),
    in_library_child("a normal one", lambda child: child.sys.sched_setscheduler(0, SCHED_OTHER)),
)
def test_without_the_flags_the_child_has_the_callers_policy_and_priority(program: Process) -> None:
    program.sys.sched_setscheduler(0, SCHED_FIFO, 3)
    given = attributes(program, POSIX_SPAWN_SETSIGDEF, SCHED_RR, 9)
    assert scheduling(program.lib.posix_spawn(attributes=given)) == (SCHED_FIFO, 3)


@clause("posix_spawn.3/attr-setschedpolicy-unknown")
@lie(function_given("round robin", "posix_spawnattr_setschedpolicy", 1, SCHED_RR))
def test_an_attribute_takes_no_other_policy(program: Process) -> None:
    given = program.lib.attributes()
    with fails(EINVAL):
        program.lib.posix_spawnattr_setschedpolicy(given, SCHED_BATCH)
