"""system(3): the command, the caller meanwhile, and the value."""

from __future__ import annotations

import shlex

from pytest_procsemantics import Process, Target, clause
from pytest_procsemantics.driven import fails
from pytest_procsemantics.driven.constants import (
    CLONE_NEWUSER,
    EAGAIN,
    ECHILD,
    P_PID,
    SIG_BLOCK,
    SIG_DFL,
    SIG_IGN,
    SIGCHLD,
    SIGINT,
    SIGKILL,
    SIGQUIT,
    SIGUSR1,
    WEXITED,
)
from pytest_procsemantics.driven.forms.signals import signals
from pytest_procsemantics.lies import (
    before_function,
    function_becomes,
    function_given,
    function_reports,
    in_library_child,
    leaves_out,
    lie,
)
from pytest_procsemantics.requirements import at_the_limit, own_namespaces

OTHER_COMMAND = function_given("another command", "system", 0, "exit 1")
NOT_WAITED_FOR = function_becomes("system", "popen", "r")


def command(program: Process) -> Process:
    """The process of a command that runs by system, which has not returned."""
    agent = shlex.quote(program.target.agent_path.decode())
    return program.lib.child_of("system", f"exec {agent}", name="command")  # type: ignore[no-any-return]


def status_mask(target: Target, process: Process, field: str) -> frozenset[int]:
    return signals(int(target.observer.status_field(process, field), 16))


@clause("system.3/runs-shell-command", "system.3/wait-status-is-returned")
@lie(OTHER_COMMAND, function_reports("the code alone", "system", lambda status: status >> 8))
def test_the_wait_status_of_the_command_is_returned(program: Process) -> None:
    assert program.lib.system("exit 3") == 3 << 8
    assert program.lib.system("kill -KILL $$") == SIGKILL


@clause("system.3/command-status-127")
@lie(OTHER_COMMAND)
def test_status_127_may_be_the_commands(program: Process) -> None:
    assert program.lib.system("exit 127") == 127 << 8


@clause("system.3/null-tells-shell-availability")
@lie(leaves_out("chroot"))
def test_without_a_command_it_says_whether_there_is_a_shell(
    program: Process, target: Target
) -> None:
    assert program.lib.system(0) != 0
    own_namespaces(program, CLONE_NEWUSER, root=True)
    program.sys.chroot(target.folder())
    assert program.lib.system(0) == 0


@clause("system.3/no-shell-gives-127")
@lie(leaves_out("chroot"))
def test_without_a_shell_the_status_is_127(program: Process, target: Target) -> None:
    own_namespaces(program, CLONE_NEWUSER, root=True)
    program.sys.chroot(target.folder())
    assert program.lib.system("exit 3") == 127 << 8


@clause("system.3/child-not-created-gives-minus-one")
@lie(leaves_out("prlimit64"))
def test_a_command_for_which_there_is_no_process_fails(program: Process) -> None:
    with at_the_limit(program), fails(EAGAIN):
        program.lib.system("exit 3")


@clause("system.3/returns-after-command")
@lie(in_library_child("it ends at once", lambda one: one.exit()))
def test_system_returns_after_the_command(program: Process, target: Target) -> None:
    running = command(program)
    assert running.sys.getppid() == program.pid
    target.observer.wait_for_state(program, "S")
    assert running.creation and not running.creation.ready
    running.exit(3)
    assert running.creation.arrives() == 3 << 8


@clause("system.3/sigchld-blocked-in-caller")
@lie(NOT_WAITED_FOR)
def test_sigchld_is_blocked_meanwhile(program: Process, target: Target) -> None:
    command(program)
    assert status_mask(target, program, "SigBlk") == {SIGCHLD}


@clause("system.3/sigint-and-sigquit-ignored-in-caller")
@lie(NOT_WAITED_FOR)
def test_sigint_and_sigquit_are_ignored_meanwhile(program: Process, target: Target) -> None:
    command(program)
    assert status_mask(target, program, "SigIgn") >= {SIGINT, SIGQUIT}


@clause("system.3/sigint-and-sigquit-default-in-child")
@lie(in_library_child("it ignores SIGINT", lambda one: one.sys.rt_sigaction(SIGINT, SIG_IGN)))
def test_the_command_has_sigint_and_sigquit_at_their_default(program: Process) -> None:
    running = command(program)
    assert running.sys.rt_sigaction(SIGINT).handler == SIG_DFL
    assert running.sys.rt_sigaction(SIGQUIT).handler == SIG_DFL


@clause("system.3/ignored-sigint-stays-ignored-in-child")
@lie(in_library_child("it has its default", lambda one: one.sys.rt_sigaction(SIGINT, SIG_DFL)))
def test_an_ignored_sigint_stays_ignored_in_the_command(program: Process) -> None:
    program.sys.rt_sigaction(SIGINT, SIG_IGN)
    assert command(program).sys.rt_sigaction(SIGINT).handler == SIG_IGN


@clause("system.3/child-has-callers-mask")
@lie(in_library_child("nothing is blocked", lambda one: one.sys.rt_sigprocmask(2, frozenset())))
def test_the_command_has_the_callers_mask(program: Process) -> None:
    program.sys.rt_sigprocmask(SIG_BLOCK, {SIGUSR1})
    assert command(program).sys.rt_sigprocmask() == {SIGUSR1}


@clause("system.3/state-restored")
@lie(before_function("SIGINT is ignored", "system", lambda p: p.sys.rt_sigaction(SIGINT, SIG_IGN)))
def test_dispositions_and_mask_are_restored(program: Process) -> None:
    program.lib.system("exit 0")
    assert program.sys.rt_sigaction(SIGINT).handler == SIG_DFL
    assert program.sys.rt_sigaction(SIGQUIT).handler == SIG_DFL
    assert program.sys.rt_sigprocmask() == set()


@clause("system.3/sigchld-delivered-afterwards")
@lie(
    before_function(
        "it stays blocked", "system", lambda p: p.sys.rt_sigprocmask(SIG_BLOCK, {SIGCHLD})
    )
)
def test_sigchld_of_the_command_does_not_stay_blocked(program: Process) -> None:
    program.lib.signal(SIGCHLD, program.lib.handler(0))
    program.lib.system("exit 0")
    assert program.lib.noted() == [0]


@clause("system.3/status-not-available-gives-minus-one")
@lie(before_function("SIGCHLD is not", "system", lambda p: p.sys.rt_sigaction(SIGCHLD, SIG_DFL)))
def test_an_ignored_sigchld_leaves_no_status(program: Process) -> None:
    program.sys.rt_sigaction(SIGCHLD, SIG_IGN)
    with fails(ECHILD):
        program.lib.system("exit 3")


@clause("system.3/other-children-unaffected")
@lie(before_function("waits for all", "system", lambda p: p.lib.wait(0)))
def test_another_child_can_still_be_waited_for(program: Process) -> None:
    other = program.lib.fork("other")
    other.exit(5)
    program.lib.system("exit 3")
    assert program.sys.waitid(P_PID, other.pid, WEXITED).status == 5


@clause("system.3/loop-uninterruptible")
@lie(OTHER_COMMAND)
def test_a_command_dies_by_sigint_and_the_caller_does_not(program: Process) -> None:
    assert program.lib.system("kill -INT $$") == SIGINT
    assert program.sys.getpid() == program.pid


@clause("system.3/atfork-handlers-not-called")
@lie(before_function("forks first", "system", lambda p: p.lib.fork()))
def test_handlers_of_pthread_atfork_are_not_run(program: Process) -> None:
    handler = program.lib.handler(0)
    program.lib.pthread_atfork(handler, handler, handler)
    program.lib.system("exit 0")
    assert program.lib.noted() == []
