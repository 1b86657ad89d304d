"""execve(2): attributes of the process that the new image has as the old one left them."""

from __future__ import annotations

from collections.abc import Callable

from pytest_procsemantics import Process, clause
from pytest_procsemantics.driven import Observer, Target, fails
from pytest_procsemantics.driven.call import Out
from pytest_procsemantics.driven.constants import (
    ADDR_NO_RANDOMIZE,
    AT_FDCWD,
    CLONE_NEWIPC,
    ECHILD,
    EPERM,
    GETVAL,
    ITIMER_REAL,
    MPOL_BIND,
    O_RDWR,
    PR_GET_CHILD_SUBREAPER,
    PR_GET_NO_NEW_PRIVS,
    PR_GET_PDEATHSIG,
    PR_GET_THP_DISABLE,
    PR_GET_TIMERSLACK,
    PR_SET_CHILD_SUBREAPER,
    PR_SET_NO_NEW_PRIVS,
    PR_SET_PDEATHSIG,
    PR_SET_THP_DISABLE,
    PR_SET_TIMERSLACK,
    PRIO_PROCESS,
    RLIM_NLIMITS,
    RLIMIT_CORE,
    RLIMIT_NOFILE,
    SCHED_BATCH,
    SECCOMP_SET_MODE_FILTER,
    SEM_UNDO,
    SIG_BLOCK,
    SIG_DFL,
    SIG_IGN,
    SIG_SETMASK,
    SIGCHLD,
    SIGHUP,
    SIGUSR1,
    SIGUSR2,
    TIOCNOTTY,
)
from pytest_procsemantics.driven.filters import refusing
from pytest_procsemantics.driven.forms.form import INT
from pytest_procsemantics.lies import EXEC_IN_A_CHILD, Lie, in_image, leaves_out, lie
from pytest_procsemantics.requirements import become_nicer, own_namespaces

ALL_CPUS = range(8192)
NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")  # all but time
ASK_PERSONALITY = 0xFFFFFFFF
TTY_NUMBER = 4  # of the fields that Observer.stat gives


def changed(what: str, act: Callable[[Process], object]) -> Lie:
    """exec changes an attribute, which shows in the new image."""
    return in_image(f"exec changes {what}", act)


def dispositions(process: Process) -> dict[int, int]:
    """What each signal does."""
    return {signal: process.sys.rt_sigaction(signal).handler for signal in range(1, 65)}


@clause("execve.2/ignored-signals-stay-ignored")
@lie(changed("ignored signals", lambda image: image.sys.rt_sigaction(SIGUSR2, SIG_DFL)))
def test_ignored_signals_stay_ignored(parent: Process) -> None:
    parent.sys.rt_sigaction(SIGUSR2, SIG_IGN)
    parent.execve()
    assert parent.sys.rt_sigaction(SIGUSR2).handler == SIG_IGN


@clause("execve.2/default-signals-stay-default")
@lie(changed("default signals", lambda image: image.sys.rt_sigaction(SIGUSR1, SIG_IGN)))
def test_signals_at_default_stay_so(parent: Process) -> None:
    before = dispositions(parent)
    parent.execve()
    assert set(before.values()) == {SIG_DFL}
    assert dispositions(parent) == before


@clause("execve.2/ignored-sigchld-stays-ignored")
@lie(changed("an ignored SIGCHLD", lambda image: image.sys.rt_sigaction(SIGCHLD, SIG_DFL)))
def test_an_ignored_sigchld_stays_ignored(parent: Process) -> None:
    parent.sys.rt_sigaction(SIGCHLD, SIG_IGN)
    parent.execve()
    parent.fork().exit()
    with fails(ECHILD):
        parent.sys.wait4()


@clause("execve.2/signal-mask-kept")
@lie(changed("the mask", lambda image: image.sys.rt_sigprocmask(SIG_SETMASK, set())))
def test_blocked_signals_stay_blocked(parent: Process) -> None:
    parent.sys.rt_sigprocmask(SIG_BLOCK, {SIGUSR2})
    parent.execve()
    assert parent.sys.rt_sigprocmask() == {SIGUSR2}


@clause("execve.2/pending-signals-kept")
@lie(changed("pending signals", lambda image: image.sys.rt_sigtimedwait({SIGUSR1}, 0)))
def test_pending_signals_stay_pending(parent: Process) -> None:
    parent.sys.rt_sigprocmask(SIG_BLOCK, {SIGUSR1})
    parent.sys.kill(parent.own_pid, SIGUSR1)
    parent.execve()
    assert parent.sys.rt_sigpending() == {SIGUSR1}


@clause("execve.2/working-directory-kept")
@lie(changed("the working directory", lambda image: image.sys.chdir("/")))
def test_the_working_directory_stays(parent: Process, target: Target) -> None:
    parent.sys.chdir(target.folder())
    before = parent.sys.getcwd()
    parent.execve()
    assert parent.sys.getcwd() == before


@clause("execve.2/root-directory-kept")
@lie(changed("the root", lambda image: (image.sys.mkdir("/new"), image.sys.chroot("/new"))))
def test_the_root_directory_stays(parent: Process, target: Target, observer: Observer) -> None:
    root = target.folder()
    parent.make_file(f"{root}/agent", observer.read(target.agent_path.decode()), 0o755)
    parent.sys.chroot(root)
    parent.execve("/agent")
    assert observer.link(f"/proc/{parent.pid}/root") == root


@clause("execve.2/umask-kept")
@lie(changed("the umask", lambda image: image.sys.umask(0o22)))
def test_the_umask_stays(parent: Process) -> None:
    parent.sys.umask(0o27)
    parent.execve()
    assert parent.sys.umask(0) == 0o27


@clause("execve.2/process-group-and-session-kept")
@lie(changed("the process group", lambda image: image.sys.setpgid(0, 0)))
def test_the_process_group_stays(parent: Process) -> None:
    leader, member = parent.fork(), parent.fork()
    leader.sys.setpgid(0, 0)
    leader.execve()
    member.execve()
    assert leader.sys.getpgid(0) == leader.own_pid
    assert member.sys.getpgid(0) == parent.sys.getpgid(0) != member.own_pid


@clause("execve.2/session-kept")
@lie(changed("a member's session", lambda image: image.name == "member" and image.sys.setsid()))
def test_the_session_stays(parent: Process) -> None:
    leader, member = parent.fork("leader"), parent.fork("member")
    leader.sys.setsid()
    leader.execve()
    member.execve()
    assert leader.sys.getsid(0) == leader.own_pid
    assert member.sys.getsid(0) == parent.sys.getsid(0) != member.own_pid


def gives_up_the_terminal(image: Process) -> None:
    """What setsid(2) and TIOCNOTTY do, without the signal to the foreground group."""
    image.sys.rt_sigaction(SIGHUP, SIG_IGN)
    image.sys.ioctl(image.sys.openat(AT_FDCWD, "/dev/tty", O_RDWR), TIOCNOTTY)


@clause("execve.2/controlling-terminal-kept")
@lie(changed("the controlling terminal", gives_up_the_terminal))
def test_the_controlling_terminal_stays(parent: Process, observer: Observer) -> None:
    leader = parent.fork("leader")
    leader.lead_session()
    before = observer.stat(leader)[TTY_NUMBER]
    leader.execve()
    assert observer.stat(leader)[TTY_NUMBER] == before != "0"
    assert leader.sys.openat(AT_FDCWD, "/dev/tty", O_RDWR) > 0


@clause("execve.2/resource-limits-kept")
@lie(changed("a limit", lambda image: image.sys.setrlimit(RLIMIT_CORE, (0, 0))))
def test_resource_limits_stay(parent: Process) -> None:
    parent.sys.setrlimit(RLIMIT_CORE, (1, 2))
    parent.sys.setrlimit(RLIMIT_NOFILE, (50, 60))
    before = [parent.sys.prlimit64(0, limit) for limit in range(RLIM_NLIMITS)]
    parent.execve()
    assert [parent.sys.prlimit64(0, limit) for limit in range(RLIM_NLIMITS)] == before


@clause("execve.2/nice-and-scheduling-kept")
@lie(changed("the nice value", lambda image: image.sys.setpriority(PRIO_PROCESS, 0, 19)))
def test_the_nice_value_stays(parent: Process) -> None:
    nice = become_nicer(parent)
    parent.execve()
    assert parent.sys.getpriority() == nice


@clause("execve.2/scheduling-policy-kept")
@lie(changed("the policy", lambda image: image.sys.sched_setscheduler(0, 0)))
def test_the_scheduling_policy_stays(parent: Process) -> None:
    parent.sys.sched_setscheduler(0, SCHED_BATCH)
    parent.execve()
    assert parent.sys.sched_getscheduler(0) == SCHED_BATCH


@clause("execve.2/affinity-kept", "sched_setaffinity.2/exec-keeps-mask")
@lie(changed("the affinity", lambda image: image.sys.sched_setaffinity(0, ALL_CPUS)))
def test_the_affinity_stays(parent: Process) -> None:
    parent.sys.sched_setaffinity(0, ALL_CPUS)
    first, *others = sorted(parent.sys.sched_getaffinity())
    parent.sys.sched_setaffinity(0, {first})
    parent.execve()
    assert others
    assert parent.sys.sched_getaffinity() == {first}


@clause("execve.2/memory-policy-kept")
@lie(changed("the memory policy", lambda image: image.sys.set_mempolicy(0, 0, 0)))
def test_the_memory_policy_stays(parent: Process) -> None:
    parent.sys.set_mempolicy(MPOL_BIND, (1).to_bytes(8, "little"), 64)
    parent.execve()
    _, mode = parent.sys.get_mempolicy(Out(4), 0, 0, 0, 0)
    assert INT.unpack(mode)[0] == MPOL_BIND


@clause("execve.2/alarm-and-itimers-kept")
@lie(changed("timers", lambda image: image.sys.setitimer(ITIMER_REAL, 0)))
def test_interval_timers_go_on(parent: Process) -> None:
    parent.sys.setitimer(ITIMER_REAL, 1000, 500)
    parent.execve()
    left = parent.sys.getitimer(ITIMER_REAL)
    assert 0 < left.value <= 1000
    assert left.interval == 500


@clause("execve.2/resource-usage-kept")
@lie(EXEC_IN_A_CHILD)
def test_cpu_times_go_on(parent: Process) -> None:
    parent.burn(0.02)
    before = parent.sys.getrusage()
    parent.execve()
    after = parent.sys.getrusage()
    assert after.utime + after.stime >= before.utime + before.stime > 0
    assert after.minflt >= before.minflt


@clause("execve.2/children-kept")
@lie(EXEC_IN_A_CHILD)
def test_the_new_image_can_wait_for_the_old_ones_children(parent: Process) -> None:
    child = parent.fork()
    parent.execve()
    child.exit(7)
    assert child.wait_for_exit().code == 7


@clause("execve.2/semadj-kept")
@lie(EXEC_IN_A_CHILD)
def test_semaphore_adjustments_are_made_at_the_end_of_the_new_image(
    parent: Process, semaphore: int
) -> None:
    child = parent.fork()
    child.sys.semop(semaphore, (0, 1, SEM_UNDO))
    child.execve()
    assert parent.sys.semctl(semaphore, 0, GETVAL) == 1
    child.exit()
    assert parent.sys.semctl(semaphore, 0, GETVAL) == 0


@clause("execve.2/no-new-privs-kept")
@lie(leaves_out("prctl"))
def test_no_new_privs_stays(parent: Process) -> None:
    parent.sys.prctl(PR_SET_NO_NEW_PRIVS, 1)
    parent.execve()
    assert parent.sys.prctl(PR_GET_NO_NEW_PRIVS) == 1


@clause("execve.2/child-subreaper-kept")
@lie(changed("the attribute", lambda image: image.sys.prctl(PR_SET_CHILD_SUBREAPER, 0)))
def test_the_child_subreaper_attribute_stays(parent: Process) -> None:
    parent.sys.prctl(PR_SET_CHILD_SUBREAPER, 1)
    parent.execve()
    assert parent.sys.prctl(PR_GET_CHILD_SUBREAPER) == 1


@clause("execve.2/timer-slack-kept")
@lie(changed("the timer slack", lambda image: image.sys.prctl(PR_SET_TIMERSLACK, 50_000)))
def test_the_timer_slack_stays(parent: Process) -> None:
    parent.sys.prctl(PR_SET_TIMERSLACK, 123_456)
    parent.execve()
    assert parent.sys.prctl(PR_GET_TIMERSLACK) == 123_456


@clause("execve.2/madvise-and-thp-setting")
@lie(changed("the setting", lambda image: image.sys.prctl(PR_SET_THP_DISABLE, 0)))
def test_huge_pages_stay_disabled(parent: Process) -> None:
    parent.sys.prctl(PR_SET_THP_DISABLE, 1)
    parent.execve()
    assert parent.sys.prctl(PR_GET_THP_DISABLE) == 1


@clause("execve.2/pdeathsig-kept")
@lie(changed("the signal", lambda image: image.sys.prctl(PR_SET_PDEATHSIG, 0)))
def test_the_parent_death_signal_stays(parent: Process) -> None:
    parent.sys.prctl(PR_SET_PDEATHSIG, SIGUSR2)
    parent.execve()
    assert parent.sys.prctl(PR_GET_PDEATHSIG) == SIGUSR2


@clause("execve.2/personality-kept")
@lie(changed("the personality", lambda image: image.sys.personality(0)))
def test_the_personality_stays(parent: Process) -> None:
    parent.sys.personality(ADDR_NO_RANDOMIZE)
    parent.execve()
    assert parent.sys.personality(ASK_PERSONALITY) & ADDR_NO_RANDOMIZE


@clause("execve.2/seccomp-filters-kept")
@lie(leaves_out("seccomp"))
def test_seccomp_filters_stay(parent: Process) -> None:
    parent.sys.prctl(PR_SET_NO_NEW_PRIVS, 1)
    parent.sys.seccomp(SECCOMP_SET_MODE_FILTER, 0, refusing(parent, "getppid", EPERM))
    parent.execve()
    with fails(EPERM):
        parent.sys.getppid()


@clause("execve.2/namespaces-kept")
@lie(changed("a namespace", lambda image: own_namespaces(image, CLONE_NEWIPC)))
def test_namespaces_stay(parent: Process, observer: Observer) -> None:
    own_namespaces(parent, CLONE_NEWIPC)
    before = {kind: observer.namespace(parent, kind) for kind in NAMESPACES}
    parent.execve()
    assert {kind: observer.namespace(parent, kind) for kind in NAMESPACES} == before
