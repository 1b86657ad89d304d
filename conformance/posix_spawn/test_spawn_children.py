"""posix_spawn(3): the child, its program, arguments and environment, and the caller meanwhile."""

from __future__ import annotations

import functools
from typing import Any

from pytest_procsemantics import Process, Target, clause
from pytest_procsemantics.driven import Exit, Out, fails
from pytest_procsemantics.driven.constants import (
    AT_FDCWD,
    CLD_KILLED,
    EAGAIN,
    EBADF,
    EFAULT,
    ENOENT,
    ENOEXEC,
    F_GETFD,
    F_SETFD,
    LOCK_EX,
    LOCK_NB,
    LOCK_UN,
    O_CLOEXEC,
    O_CREAT,
    O_RDONLY,
    O_RDWR,
    O_WRONLY,
    P_PID,
    SIG_BLOCK,
    SIG_DFL,
    SIG_IGN,
    SIGCHLD,
    SIGTERM,
    SIGUSR1,
    SIGUSR2,
    WEXITED,
    WNOHANG,
)
from pytest_procsemantics.driven.library import Library
from pytest_procsemantics.lies import (
    Lie,
    before_call,
    before_function,
    function_becomes,
    function_given,
    function_reports,
    in_library_child,
    lie,
    passes,
)
from pytest_procsemantics.requirements import at_the_limit


class _ByAnother(Library):
    def _spawn(self, *args: Any) -> Any:
        return Library(self._process.lib.fork("other"), self._waits)._spawn(*args)


class _SpawnedByAnother(Process):
    @functools.cached_property
    def lib(self) -> Library:
        return _ByAnother(self)


SPAWNED_BY_ANOTHER = Lie("the child is one of another process", _SpawnedByAnother)
ENVIRONMENT_GIVEN = function_given("the environment gets a C=3", "posix_spawn", 5, ["C=3"])


def named_agent(program: Process, target: Target, name: str = "agent") -> str:
    """A folder of this test in which the agent is a file of this name."""
    program.sys.symlinkat(target.agent_path, AT_FDCWD, f"{target.folder()}/{name}")
    return target.folder()


def fifo_of(target: Target) -> str:
    return f"{target.folder()}/fifo"


def waiting_for_a_writer(program: Process, target: Target) -> int:
    """File actions that end when somebody opens the FIFO for writing."""
    program.lib.mkfifo(fifo_of(target), 0o600)
    actions = program.lib.actions()
    program.lib.posix_spawn_file_actions_addopen(actions, 10, fifo_of(target), O_RDONLY, 0)
    return int(actions)


def stopped(child: Process) -> None:
    """Let a new process or thread wait for what never comes."""
    child.post.sys.pause()


def set_path(process: Process, *folders: str) -> None:
    process.lib.setenv("PATH", ":".join(folders), 1)


@clause("posix_spawn.3/creates-a-child")
@lie(SPAWNED_BY_ANOTHER)
def test_the_program_runs_in_a_child_of_the_caller(program: Process) -> None:
    child = program.lib.posix_spawn()
    assert child.sys.getppid() == program.pid
    child.exit(7)
    assert child.wait_for_exit() == Exit(7)


@clause("posix_spawn.3/returns-zero-and-pid")
@lie(function_reports("posix_spawn gives 1", "posix_spawn", lambda _: 1))
def test_the_pid_is_stored(program: Process) -> None:
    child = program.lib.posix_spawn()
    assert child.creation.arrives() == child.sys.getpid()


@clause("posix_spawn.3/path-relative-to-caller")
@lie(before_function("chdir to / first", "posix_spawn", lambda caller: caller.sys.chdir("/")))
def test_a_relative_path_begins_in_the_callers_folder(program: Process, target: Target) -> None:
    program.sys.chdir(named_agent(program, target))
    assert program.lib.posix_spawn("./agent").initial().argv == [b"./agent"]


@clause("posix_spawn.3/path-not-searched")
@lie(function_becomes("posix_spawn", "posix_spawnp"))
def test_posix_spawn_does_not_search_path(program: Process, target: Target) -> None:
    set_path(program, named_agent(program, target))
    with fails(ENOENT):
        program.lib.posix_spawn("agent")
    program.lib.posix_spawnp("agent")


@clause("posix_spawn.3/spawnp-searches-path")
@lie(function_becomes("posix_spawnp", "posix_spawn"))
def test_posix_spawnp_searches_path(program: Process, target: Target) -> None:
    set_path(program, "/nonexistent", named_agent(program, target))
    assert program.lib.posix_spawnp("agent").sys.getppid() == program.pid


@clause("posix_spawn.3/spawnp-path-of-caller")
@lie(before_function("the caller has no PATH", "posix_spawnp", lambda p: p.lib.unsetenv("PATH")))
def test_the_path_searched_is_the_callers(program: Process, target: Target) -> None:
    folder = named_agent(program, target)
    set_path(program, "/nonexistent")
    with fails(ENOENT):
        program.lib.posix_spawnp("agent", envp=[f"PATH={folder}"])
    set_path(program, folder)
    program.lib.posix_spawnp("agent", envp=["PATH=/nonexistent"])


@clause("posix_spawn.3/spawnp-slash-no-search")
@lie(function_given("the name without its folder", "posix_spawnp", 1, lambda path: path[2:]))
def test_a_name_with_a_slash_is_not_searched(program: Process, target: Target) -> None:
    program.sys.chdir(named_agent(program, target))
    set_path(program, "/nonexistent")
    program.lib.posix_spawnp("./agent")
    with fails(ENOENT):
        program.lib.posix_spawnp("./missing")


@clause("posix_spawn.3/spawnp-empty-name")
@lie(function_given("an agent's name instead", "posix_spawnp", 1, "/proc/self/exe"))
def test_an_empty_name_is_refused(program: Process) -> None:
    with fails(ENOENT):
        program.lib.posix_spawnp("")


@clause("posix_spawn.3/spawnp-no-shell-fallback")
@lie(function_given("an agent instead", "posix_spawnp", 1, "/proc/self/exe"))
def test_posix_spawnp_leaves_no_text_to_a_shell(program: Process, target: Target) -> None:
    path = program.make_file(f"{target.folder()}/text", b"exit 0\n", 0o755)
    with fails(ENOEXEC):
        program.lib.posix_spawnp(path)


@clause("posix_spawn.3/fspawn-by-proc-fd")
@lie(before_function("40 is closed", "posix_spawn", lambda p: p.sys.close(40)))
def test_a_program_is_spawned_by_its_descriptor(program: Process, target: Target) -> None:
    file = program.sys.openat(AT_FDCWD, target.agent_path, O_RDONLY)
    program.sys.dup3(file, 40, O_CLOEXEC)
    assert program.sys.readlinkat(AT_FDCWD, "/proc/self/fd/40") == target.agent_path
    assert program.lib.posix_spawn("/proc/self/fd/40").sys.getppid() == program.pid


@clause("posix_spawn.3/argv-is-passed")
@lie(function_given("argv of its own", "posix_spawn", 4, ["other"]))
def test_argv_is_passed(program: Process) -> None:
    child = program.lib.posix_spawn(argv=["zero", "", "two"])
    assert child.initial().argv == [b"zero", b"", b"two"]


@clause("posix_spawn.3/envp-is-passed")
@lie(ENVIRONMENT_GIVEN)
def test_envp_is_the_whole_environment(program: Process) -> None:
    program.lib.setenv("D", "4", 1)
    child = program.lib.posix_spawn(envp=["A=1", "B=2"])
    assert child.initial().envp == [b"A=1", b"B=2"]


@clause("posix_spawn.3/envp-null-is-empty")
@lie(ENVIRONMENT_GIVEN)
def test_without_envp_the_environment_is_empty(program: Process) -> None:
    program.lib.setenv("D", "4", 1)
    assert program.lib.posix_spawn(envp=0).initial().envp == []


@clause("posix_spawn.3/empty-argv-like-execve")
@lie(function_given("argv of two", "posix_spawn", 4, ["one", "two"]))
def test_an_empty_argv_is_one_empty_text(program: Process) -> None:
    assert program.lib.posix_spawn(argv=()).initial().argv == [b""]


@clause("posix_spawn.3/caller-suspended-until-exec")
@lie(function_given("without file actions", "posix_spawn", 2, 0, hangs=True))
def test_the_caller_is_suspended_until_the_child_execs(program: Process, target: Target) -> None:
    actions = waiting_for_a_writer(program, target)
    birth = program.post.lib.posix_spawn(actions=actions)
    target.observer.wait_for_state(program, "D")
    assert not birth.step.ready
    target.new_process("writer").sys.openat(AT_FDCWD, fifo_of(target), O_WRONLY)
    assert birth.begin().sys.getppid() == program.pid


@clause("posix_spawn.3/other-threads-go-on")
@lie(in_library_child("other threads stand still", stopped, hangs=True))
def test_other_threads_go_on_meanwhile(program: Process, target: Target) -> None:
    thread = program.lib.pthread_create()
    birth = program.post.lib.posix_spawn(actions=waiting_for_a_writer(program, target))
    target.observer.wait_for_state(program, "D")
    thread.sys.openat(AT_FDCWD, fifo_of(target), O_WRONLY)
    assert birth.begin().sys.getppid() == program.pid


def runs_a_handler(process: Process) -> None:
    """Let one more child run the handler of SIGUSR1."""
    other = process.lib.fork("other")
    other.sys.tkill(other.tid, SIGUSR1)


@clause("posix_spawn.3/no-handler-of-caller-in-child")
@lie(before_call("kill", "the handler runs in a child", runs_a_handler))
def test_no_handler_of_the_caller_runs_in_the_child(program: Process, target: Target) -> None:
    program.lib.signal(SIGUSR1, program.lib.handler(0))
    caller = program.lib.fork("caller")
    caller.sys.setpgid(0, 0)
    actions, agent = waiting_for_a_writer(caller, target), target.agent_path
    spawn = caller.post.lib.raw("posix_spawn", Out(4), agent, actions, 0, [agent], [])
    target.observer.wait_for_state(caller, "D")
    program.sys.kill(-caller.pid, SIGUSR1)
    target.new_process("writer").sys.openat(AT_FDCWD, fifo_of(target), O_WRONLY)
    child = int.from_bytes(spawn.arrives()[1], "little")
    assert caller.sys.waitid(P_PID, child, WEXITED).status == SIGUSR1
    assert {note.tid for note in program.lib.notes()} == {caller.pid}


@clause("posix_spawn.3/returns-while-child-runs")
@lie(in_library_child("the child has ended", lambda child: child.exit()))
def test_posix_spawn_returns_while_the_child_runs(program: Process) -> None:
    child = program.lib.posix_spawn()
    assert child.creation.arrives() == child.pid
    assert program.sys.waitid(P_PID, child.pid, WEXITED | WNOHANG) is None


@clause("posix_spawn.3/child-can-be-waited-for")
@lie(SPAWNED_BY_ANOTHER)
def test_the_status_of_a_killed_child_is_the_callers(program: Process) -> None:
    child = program.lib.posix_spawn()
    program.sys.kill(child.pid, SIGTERM)
    told = program.sys.waitid(P_PID, child.pid, WEXITED)
    assert (told.code, told.status) == (CLD_KILLED, SIGTERM)


@clause("posix_spawn.3/sigchld-on-end")
@lie(SPAWNED_BY_ANOTHER)
def test_the_childs_end_sends_sigchld(program: Process) -> None:
    program.sys.rt_sigprocmask(SIG_BLOCK, {SIGCHLD})
    child = program.lib.posix_spawn()
    assert program.sys.rt_sigpending() == set()
    child.exit()
    assert program.sys.rt_sigpending() == {SIGCHLD}


@clause("posix_spawn.3/signal-after-return-is-not-lost")
@lie(
    before_function(
        "it ignores the signal",
        "posix_spawn",
        lambda caller: caller.sys.rt_sigaction(SIGTERM, SIG_IGN),
        hangs=True,
    )
)
def test_a_signal_right_after_the_return_is_not_lost(program: Process) -> None:
    pid = program.post.lib.posix_spawn().step.arrives()
    program.sys.kill(pid, SIGTERM)
    told = program.sys.waitid(P_PID, pid, WEXITED)
    assert (told.code, told.status) == (CLD_KILLED, SIGTERM)


@clause("posix_spawn.3/pending-signals-empty")
@lie(in_library_child("a signal is pending", lambda child: child.sys.kill(child.pid, SIGUSR1)))
def test_no_signal_is_pending_in_the_child(program: Process) -> None:
    program.sys.rt_sigprocmask(SIG_BLOCK, {SIGUSR1})
    program.sys.kill(program.pid, SIGUSR1)
    assert program.lib.posix_spawn().sys.rt_sigpending() == set()
    assert program.sys.rt_sigpending() == {SIGUSR1}


@clause("posix_spawn.3/pid-may-be-null")
@lie(function_reports("posix_spawn gives EFAULT", "posix_spawn", lambda _: EFAULT))
def test_the_pid_need_not_be_stored(program: Process, target: Target) -> None:
    agent = target.agent_path
    child = program.lib.child_of("posix_spawn", 0, agent, 0, 0, [agent], [])
    assert child.creation.arrives() == 0
    assert child.sys.getppid() == program.pid


@clause("posix_spawn.3/atfork-handlers-not-called")
@lie(before_function("forks first", "posix_spawn", lambda caller: caller.lib.fork()))
def test_handlers_of_pthread_atfork_are_not_run(program: Process) -> None:
    handler = program.lib.handler(0)
    program.lib.pthread_atfork(handler, handler, handler)
    program.lib.posix_spawn()
    assert program.lib.noted() == []


@clause("posix_spawn.3/file-actions-null-keeps-descriptors")
@lie(
    before_function("40 is close-on-exec", "posix_spawn", lambda p: p.sys.fcntl(40, F_SETFD, 1)),
    before_function("41 stays", "posix_spawn", lambda p: p.sys.fcntl(41, F_SETFD, 0)),
)
def test_without_file_actions_descriptors_stay(program: Process) -> None:
    program.sys.dup3(0, 40, 0)
    program.sys.dup3(0, 41, O_CLOEXEC)
    child = program.lib.posix_spawn()
    assert child.sys.fcntl(40, F_GETFD) == 0
    with fails(EBADF):
        child.sys.fcntl(41, F_GETFD)


@clause("posix_spawn.3/file-locks-stay")
@lie(in_library_child("it unlocks", lambda child: child.sys.flock(40, LOCK_UN)))
def test_the_lock_of_an_open_file_stays(program: Process, target: Target) -> None:
    path = f"{target.folder()}/file"
    file = program.sys.openat(AT_FDCWD, path, O_RDWR | O_CREAT, 0o600)
    program.sys.dup3(file, 40, 0)
    program.sys.flock(40, LOCK_EX)
    program.lib.posix_spawn()
    program.sys.close(file)
    program.sys.close(40)
    other = program.sys.openat(AT_FDCWD, path, O_RDWR)
    with fails(EAGAIN):
        program.sys.flock(other, LOCK_EX | LOCK_NB)


@clause("posix_spawn.3/eagain-nproc")
@lie(passes("limits are not set", "prlimit64", 2, 0))
def test_at_the_users_limit_of_processes_it_is_refused(program: Process) -> None:
    with at_the_limit(program), fails(EAGAIN):
        program.lib.posix_spawn()
    assert program.lib.posix_spawn().sys.getppid() == program.pid


@clause("posix_spawn.3/no-cancellation-point")
@lie(function_becomes("posix_spawn", "pthread_testcancel", args=()))
def test_a_cancelled_thread_spawns_all_the_same(program: Process) -> None:
    thread = program.lib.pthread_create()
    thread.lib.pthread_cancel(thread.lib.pthread_self())
    assert thread.lib.posix_spawn().sys.getppid() == program.pid


@clause("posix_spawn.3/caught-becomes-default")
@lie(
    in_library_child(
        "the signal is ignored", lambda child: child.sys.rt_sigaction(SIGUSR2, SIG_IGN)
    )
)
def test_a_caught_signal_has_its_default_in_the_child(program: Process) -> None:
    program.lib.signal(SIGUSR2, program.lib.handler(0))
    assert program.lib.posix_spawn().sys.rt_sigaction(SIGUSR2).handler == SIG_DFL
