"""posix_spawn(3): what the attributes object changes in the child."""

from __future__ import annotations

from pytest_procsemantics import Process, Target, clause
from pytest_procsemantics.driven import Out, Step, fails
from pytest_procsemantics.driven.constants import (
    EACCES,
    EINVAL,
    EPERM,
    O_RDONLY,
    SIG_BLOCK,
    SIG_DFL,
    SIG_IGN,
    SIG_SETMASK,
    SIGCHLD,
    SIGTERM,
    SIGUSR1,
    SIGUSR2,
)
from pytest_procsemantics.driven.library import (
    POSIX_SPAWN_RESETIDS,
    POSIX_SPAWN_SETPGROUP,
    POSIX_SPAWN_SETSID,
    POSIX_SPAWN_SETSIGDEF,
    POSIX_SPAWN_SETSIGMASK,
    POSIX_SPAWN_USEVFORK,
    sigset,
)
from pytest_procsemantics.lies import (
    WITHOUT_ATTRIBUTES,
    before_function,
    function_does_nothing,
    function_given,
    in_library_child,
    lie,
)

SIZE = 512  # bytes, more than an attributes object has
USER, OTHER = 65534, 65533  # ids that nobody else needs to have
NO_GROUP = 1 << 30  # a number above all pids
ALL_FLAGS = function_given(
    "the mask counts", "posix_spawnattr_setflags", 1, lambda flags: flags | POSIX_SPAWN_SETSIGMASK
)
IN_A_GROUP = function_given("a group of its own", "posix_spawnattr_setflags", 1, 2)


def used_up(caller: Process) -> None:
    """Take the flags out of the object from the second spawn on."""
    made = [one for one in caller.target.transcript.events if isinstance(one, Step)]
    objects = [one.args[0] for one in made if one.name == "posix_spawnattr_init"]
    if any(one.name == "posix_spawn" for one in made):
        caller.lib.posix_spawnattr_setflags(objects[0], 0)


@clause("posix_spawn.3/setsigmask")
@lie(WITHOUT_ATTRIBUTES, function_does_nothing("posix_spawnattr_setsigmask"))
def test_the_child_has_the_mask_of_the_attribute(program: Process) -> None:
    program.sys.rt_sigprocmask(SIG_BLOCK, {SIGUSR1})
    attributes = program.lib.attributes(POSIX_SPAWN_SETSIGMASK)
    program.lib.posix_spawnattr_setsigmask(attributes, sigset(SIGTERM))
    assert program.lib.posix_spawn(attributes=attributes).sys.rt_sigprocmask() == {SIGTERM}


@clause("posix_spawn.3/sigmask-inherited-without-flag")
@lie(ALL_FLAGS)
def test_without_the_flag_the_child_has_the_callers_mask(program: Process) -> None:
    program.sys.rt_sigprocmask(SIG_BLOCK, {SIGUSR1})
    attributes = program.lib.attributes(POSIX_SPAWN_SETSIGDEF)
    program.lib.posix_spawnattr_setsigmask(attributes, sigset(SIGTERM))
    assert program.lib.posix_spawn(attributes=attributes).sys.rt_sigprocmask() == {SIGUSR1}


@clause("posix_spawn.3/setsigdef")
@lie(WITHOUT_ATTRIBUTES, function_does_nothing("posix_spawnattr_setsigdefault"))
def test_listed_signals_get_their_default(program: Process) -> None:
    program.sys.rt_sigaction(SIGUSR1, SIG_IGN)
    program.sys.rt_sigaction(SIGUSR2, SIG_IGN)
    attributes = program.lib.attributes(POSIX_SPAWN_SETSIGDEF)
    program.lib.posix_spawnattr_setsigdefault(attributes, sigset(SIGUSR2))
    child = program.lib.posix_spawn(attributes=attributes)
    assert child.sys.rt_sigaction(SIGUSR2).handler == SIG_DFL
    assert child.sys.rt_sigaction(SIGUSR1).handler == SIG_IGN


@clause("posix_spawn.3/setsigdef-full-set-accepted")
@lie(WITHOUT_ATTRIBUTES)
def test_a_full_set_of_defaults_is_accepted(program: Process) -> None:
    program.sys.rt_sigaction(SIGUSR2, SIG_IGN)
    attributes = program.lib.attributes(POSIX_SPAWN_SETSIGDEF)
    program.lib.posix_spawnattr_setsigdefault(attributes, sigset(*range(1, 65)))
    child = program.lib.posix_spawn(attributes=attributes)
    assert child.sys.rt_sigaction(SIGUSR2).handler == SIG_DFL


@clause("posix_spawn.3/ignored-stays-without-sigdef")
@lie(in_library_child("default", lambda child: child.sys.rt_sigaction(SIGUSR2, SIG_DFL)))
def test_an_ignored_signal_stays_ignored(program: Process) -> None:
    program.sys.rt_sigaction(SIGUSR2, SIG_IGN)
    assert program.lib.posix_spawn().sys.rt_sigaction(SIGUSR2).handler == SIG_IGN


@clause("posix_spawn.3/ignored-sigchld-stays")
@lie(in_library_child("default", lambda child: child.sys.rt_sigaction(SIGCHLD, SIG_DFL)))
def test_an_ignored_sigchld_stays_ignored(program: Process) -> None:
    program.sys.rt_sigaction(SIGCHLD, SIG_IGN)
    assert program.lib.posix_spawn().sys.rt_sigaction(SIGCHLD).handler == SIG_IGN


@clause("posix_spawn.3/setpgroup")
@lie(WITHOUT_ATTRIBUTES, function_does_nothing("posix_spawnattr_setpgroup"))
def test_the_child_joins_the_group_of_the_attribute(program: Process) -> None:
    leader = program.lib.posix_spawn(name="leader")
    leader.sys.setpgid(0, 0)
    attributes = program.lib.attributes(POSIX_SPAWN_SETPGROUP)
    program.lib.posix_spawnattr_setpgroup(attributes, leader.pid)
    assert program.lib.posix_spawn(attributes=attributes).sys.getpgid(0) == leader.pid


@clause("posix_spawn.3/setpgroup-zero")
@lie(WITHOUT_ATTRIBUTES)
def test_group_zero_is_a_group_of_its_own(program: Process) -> None:
    attributes = program.lib.attributes(POSIX_SPAWN_SETPGROUP)
    child = program.lib.posix_spawn(attributes=attributes)
    assert child.sys.getpgid(0) == child.sys.getpid()


@clause("posix_spawn.3/group-inherited-without-setpgroup")
@lie(IN_A_GROUP)
def test_without_the_flag_the_child_is_in_the_callers_group(program: Process) -> None:
    attributes = program.lib.attributes(POSIX_SPAWN_SETSIGDEF)
    child = program.lib.posix_spawn(attributes=attributes)
    assert child.sys.getpgid(0) == program.sys.getpgid(0)


@clause("posix_spawn.3/setpgroup-negative")
@lie(WITHOUT_ATTRIBUTES)
def test_a_negative_group_is_refused(program: Process) -> None:
    attributes = program.lib.attributes(POSIX_SPAWN_SETPGROUP)
    program.lib.posix_spawnattr_setpgroup(attributes, -5)
    with fails(EINVAL):
        program.lib.posix_spawn(attributes=attributes)


@clause("posix_spawn.3/setpgroup-no-such-group")
@lie(WITHOUT_ATTRIBUTES)
def test_a_group_that_does_not_exist_is_refused(program: Process) -> None:
    attributes = program.lib.attributes(POSIX_SPAWN_SETPGROUP)
    program.lib.posix_spawnattr_setpgroup(attributes, NO_GROUP)
    with fails(EPERM):
        program.lib.posix_spawn(attributes=attributes)


@clause("posix_spawn.3/setsid")
@lie(WITHOUT_ATTRIBUTES)
def test_the_child_leads_a_session_of_its_own(program: Process) -> None:
    attributes = program.lib.attributes(POSIX_SPAWN_SETSID)
    child = program.lib.posix_spawn(attributes=attributes)
    assert child.sys.getsid(0) == child.sys.getpgid(0) == child.sys.getpid()


@clause("posix_spawn.3/setsid-with-setpgroup")
@lie(WITHOUT_ATTRIBUTES)
def test_a_session_and_a_group_at_once_are_refused(program: Process) -> None:
    attributes = program.lib.attributes(POSIX_SPAWN_SETSID | POSIX_SPAWN_SETPGROUP)
    with fails(EPERM):
        program.lib.posix_spawn(attributes=attributes)


@clause("posix_spawn.3/resetids")
@lie(WITHOUT_ATTRIBUTES)
def test_effective_ids_become_the_real_ones(program: Process) -> None:
    program.sys.setresgid(USER, OTHER, OTHER)
    program.sys.setresuid(USER, OTHER, OTHER)
    attributes = program.lib.attributes(POSIX_SPAWN_RESETIDS)
    child = program.lib.posix_spawn(attributes=attributes)
    assert (child.sys.geteuid(), child.sys.getegid()) == (USER, USER)


@clause("posix_spawn.3/ids-kept-without-resetids")
@lie(function_given("the ids are reset", "posix_spawnattr_setflags", 1, POSIX_SPAWN_RESETIDS))
def test_without_the_flag_effective_ids_stay(program: Process) -> None:
    program.sys.setresgid(USER, OTHER, OTHER)
    program.sys.setresuid(USER, OTHER, OTHER)
    attributes = program.lib.attributes(POSIX_SPAWN_SETSIGDEF)
    child = program.lib.posix_spawn(attributes=attributes)
    assert (child.sys.geteuid(), child.sys.getegid()) == (OTHER, OTHER)
    assert (child.sys.getuid(), child.sys.getgid()) == (USER, USER)


@clause("posix_spawn.3/attributes-before-file-actions")
@lie(WITHOUT_ATTRIBUTES)
def test_ids_are_reset_before_a_file_is_opened(program: Process, target: Target) -> None:
    path = program.make_file(f"{target.folder()}/of-root", b"", 0o600)
    program.sys.setresuid(USER, 0, 0)
    actions = program.lib.actions()
    program.lib.posix_spawn_file_actions_addopen(actions, 30, path, O_RDONLY, 0)
    assert program.lib.posix_spawn(actions=actions).sys.fstat(30).mode & 0o777 == 0o600
    attributes = program.lib.attributes(POSIX_SPAWN_RESETIDS)
    with fails(EACCES):
        program.lib.posix_spawn(actions=actions, attributes=attributes)


@clause("posix_spawn.3/attr-setflags-unknown-bit")
@lie(function_given("the bit is left out", "posix_spawnattr_setflags", 1, 0))
def test_an_unknown_flag_is_refused(program: Process) -> None:
    attributes = program.lib.attributes()
    with fails(EINVAL):
        program.lib.posix_spawnattr_setflags(attributes, 0x4000)


@clause("posix_spawn.3/attr-init-defaults")
@lie(function_does_nothing("posix_spawnattr_init"))
def test_a_new_object_changes_nothing(program: Process) -> None:
    attributes = program.allocate(SIZE)
    program.store(attributes, b"\x55" * SIZE)
    program.lib.posix_spawnattr_init(attributes)
    assert program.lib.posix_spawnattr_getflags(attributes, Out(2)) == (0, bytes(2))
    assert program.lib.posix_spawnattr_getpgroup(attributes, Out(4)) == (0, bytes(4))
    assert program.lib.posix_spawnattr_getsigmask(attributes, Out(128)) == (0, bytes(128))
    assert program.lib.posix_spawnattr_getsigdefault(attributes, Out(128)) == (0, bytes(128))


def inherited(process: Process) -> tuple[object, ...]:
    calls = process.sys
    ids, scheduling = (calls.getresuid(), calls.getresgid()), calls.sched_getscheduler(0)
    return (*ids, scheduling, calls.rt_sigprocmask(), calls.getpgid(0), calls.getsid(0))


@clause("posix_spawn.3/attr-null-is-default")
@lie(
    in_library_child("nothing is blocked", lambda p: p.sys.rt_sigprocmask(SIG_SETMASK, set())),
    in_library_child("a group of its own", lambda child: child.sys.setpgid(0, 0)),
)
def test_without_attributes_all_is_inherited(program: Process) -> None:
    program.sys.rt_sigprocmask(SIG_BLOCK, {SIGUSR1})
    new = program.lib.posix_spawn(attributes=program.lib.attributes())
    assert inherited(program.lib.posix_spawn()) == inherited(new) == inherited(program)


@clause("posix_spawn.3/usevfork-has-no-effect")
@lie(IN_A_GROUP)
def test_the_flag_usevfork_changes_nothing(program: Process) -> None:
    attributes = program.lib.attributes(POSIX_SPAWN_USEVFORK)
    child = program.lib.posix_spawn(attributes=attributes)
    assert child.sys.getppid() == program.pid
    assert inherited(child) == inherited(program)


@clause("posix_spawn.3/attr-object-reusable")
@lie(before_function("flags are used up", "posix_spawn", used_up))
def test_an_object_can_be_used_again(program: Process) -> None:
    attributes = program.lib.attributes(POSIX_SPAWN_SETSID)
    first = program.lib.posix_spawn(attributes=attributes)
    second = program.lib.posix_spawn(attributes=attributes)
    assert first.sys.getsid(0) == first.pid
    assert second.sys.getsid(0) == second.pid
