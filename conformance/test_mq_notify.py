"""mq_notify(3): who is told of a message."""

from __future__ import annotations

from pytest_procsemantics import Process, clause
from pytest_procsemantics.driven import fails
from pytest_procsemantics.driven.constants import (
    CLONE_NEWPID,
    EBUSY,
    SI_MESGQ,
    SIG_BLOCK,
    SIGEV_NONE,
    SIGEV_SIGNAL,
    SIGUSR2,
)
from pytest_procsemantics.driven.forms import TimerEvent
from pytest_procsemantics.driven.queues import new_queue
from pytest_procsemantics.lies import (
    EXEC_CLOSES_NOTHING,
    before_call,
    by_maker_too,
    drops,
    in_child,
    leaves_out,
    lie,
    opened,
)
from pytest_procsemantics.requirements import new_init

BY_SIGNAL = TimerEvent(SIGEV_SIGNAL, SIGUSR2)


def send(process: Process, queue: int) -> None:
    """Send a message."""
    process.sys.mq_timedsend(queue, b"text", 4, 0, None)


@clause("mq_notify.3/one-process-registered")
@lie(leaves_out("mq_notify"))
def test_a_child_is_another_than_the_one_who_is_registered(parent: Process) -> None:
    queue = new_queue(parent)
    parent.sys.mq_notify(queue, BY_SIGNAL)
    child = parent.fork()
    with fails(EBUSY):
        child.sys.mq_notify(queue, BY_SIGNAL)


def takes_over(child: Process) -> None:
    """Be registered instead of its maker."""
    assert child.creation
    for queue in opened(child, "mq_open"):
        child.creation.process.sys.mq_notify(queue)
        child.sys.mq_notify(queue, BY_SIGNAL)


@clause("mq_notify.3/child-is-not-notified")
@lie(in_child("it is registered instead", takes_over))
def test_a_child_is_not_registered(parent: Process) -> None:
    parent.count_signals(SIGUSR2)
    queue = new_queue(parent)
    parent.sys.mq_notify(queue, BY_SIGNAL)
    child = parent.fork()
    send(child, queue)
    assert (parent.count(SIGUSR2), child.count(SIGUSR2)) == (1, 0)


@clause("mq_notify.3/childs-null-does-not-deregister")
@lie(by_maker_too("mq_notify"))
def test_a_child_ends_no_registration_of_its_makers(parent: Process) -> None:
    parent.count_signals(SIGUSR2)
    queue = new_queue(parent)
    parent.sys.mq_notify(queue, BY_SIGNAL)
    child = parent.fork()
    assert child.sys.mq_notify(queue) == 0
    send(child, queue)
    assert parent.count(SIGUSR2) == 1


@clause("mq_notify.3/childs-close-does-not-deregister")
@lie(by_maker_too("close"))
def test_a_childs_close_and_end_do_not_either(parent: Process) -> None:
    parent.count_signals(SIGUSR2)
    queue = new_queue(parent)
    parent.sys.mq_notify(queue, BY_SIGNAL)
    child, sender = parent.fork(), parent.fork("sender")
    child.sys.close(queue)
    child.exit()
    send(sender, queue)
    assert parent.count(SIGUSR2) == 1


def hands_over(process: Process) -> None:
    """Let its maker be registered instead."""
    assert process.creation
    for queue in opened(process, "mq_open"):
        process.sys.mq_notify(queue)
        process.creation.process.sys.mq_notify(queue, TimerEvent(SIGEV_NONE))


@clause("mq_notify.3/ends-with-process")
@lie(before_call("exit_group", "somebody else is registered then", hands_over))
def test_the_registration_ends_with_the_process(parent: Process) -> None:
    queue = new_queue(parent)
    child = parent.fork()
    child.sys.mq_notify(queue, BY_SIGNAL)
    child.exit()
    assert parent.sys.mq_notify(queue, BY_SIGNAL) == 0


@clause("mq_notify.3/ends-with-exec")
@lie(EXEC_CLOSES_NOTHING)
def test_the_registration_ends_with_exec(parent: Process) -> None:
    queue = new_queue(parent)
    child = parent.fork()
    child.sys.mq_notify(queue, BY_SIGNAL)
    with fails(EBUSY):
        parent.sys.mq_notify(queue, BY_SIGNAL)
    child.execve()
    assert parent.sys.mq_notify(queue, BY_SIGNAL) == 0


@clause("mq_notify.3/si-pid-is-sender-as-receiver-sees")
@lie(drops(CLONE_NEWPID))
def test_the_sender_is_told_by_the_receivers_number(parent: Process) -> None:
    parent.sys.rt_sigprocmask(SIG_BLOCK, {SIGUSR2})
    queue = new_queue(parent)
    parent.sys.mq_notify(queue, BY_SIGNAL)
    init = new_init(parent)
    send(init, queue)
    told = parent.sys.rt_sigtimedwait({SIGUSR2}, 0)
    assert init.creation
    assert (told.code, told.pid) == (SI_MESGQ, init.creation.arrives())
    assert told.pid != init.sys.getpid()
