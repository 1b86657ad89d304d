"""ipc_namespaces(7): queues, semaphores and shared memory of a namespace.

Each check has a namespace of its own first, which takes all that it makes with it.
"""

from __future__ import annotations

import pytest

from pytest_procsemantics import Process, Target, clause
from pytest_procsemantics.driven import Observer, fails
from pytest_procsemantics.driven.constants import (
    AT_FDCWD,
    CLONE_NEWIPC,
    EACCES,
    EINVAL,
    ENOENT,
    IPC_CREAT,
    IPC_STAT,
    O_CREAT,
    O_RDONLY,
    O_RDWR,
    SIGCHLD,
)
from pytest_procsemantics.lies import drops, leaves_out, lie, passes
from pytest_procsemantics.requirements import open_namespace, own_namespaces, private_mounts

KEY = 0x70726F63
SIZE = 4096  # bytes of a segment
STAYS = leaves_out("unshare")
MAKERS = {"msgget": (), "semget": (1,), "shmget": (SIZE,)}  # with what stands before the flags


def made(process: Process, call: str, flags: int = IPC_CREAT | 0o600) -> int:
    """The object of the key, which is made where the flags say so."""
    return int(process.sys.raw(call, KEY, *MAKERS[call], flags))


def new_member(parent: Process) -> Process:
    """A child in a new namespace, made by unshare."""
    member = parent.fork("member")
    member.sys.unshare(CLONE_NEWIPC)
    return member


@pytest.mark.parametrize("call", MAKERS)
@clause("ipc_namespaces.7/sysv-objects-isolated", "ipc_namespaces.7/objects-visible-to-members")
@lie(STAYS)
def test_an_object_is_found_by_members_only(parent: Process, call: str) -> None:
    own_namespaces(parent, CLONE_NEWIPC)
    member = new_member(parent)
    object = made(parent, call)
    with fails(ENOENT):
        made(member, call, 0)
    assert made(parent.fork(), call, 0) == object


@pytest.mark.parametrize("call", MAKERS)
@clause("ipc_namespaces.7/objects-invisible-outside", "ipc_namespaces.7/objects-visible-to-members")
@lie(STAYS)
def test_an_object_made_inside_is_not_found_outside(parent: Process, call: str) -> None:
    own_namespaces(parent, CLONE_NEWIPC)
    member = new_member(parent)
    object = made(member, call)
    assert made(member.fork(), call, 0) == object
    with fails(ENOENT):
        made(parent, call, 0)


@clause("ipc_namespaces.7/sysv-identifiers-own-set")
@lie(drops(CLONE_NEWIPC))
def test_one_number_is_another_queue_in_each_namespace(parent: Process, target: Target) -> None:
    own_namespaces(parent, CLONE_NEWIPC)
    queue = made(parent, "msgget")
    member = parent.clone(CLONE_NEWIPC | SIGCHLD, name="member")
    with fails(EINVAL):
        member.sys.msgctl(queue, IPC_STAT, member.allocate(target.page_size))
    assert made(member, "msgget") == queue
    parent.sys.msgsnd(queue, 1, b"outside")
    member.sys.msgsnd(queue, 1, b"inside")
    assert parent.sys.msgrcv(queue, 100) == (1, b"outside")


@clause("ipc_namespaces.7/attached-shared-memory-stays")
@lie(passes("private memory", "shmat", 0, lambda segment: segment + 1))
def test_attached_memory_stays_shared(parent: Process) -> None:
    own_namespaces(parent, CLONE_NEWIPC)
    address = parent.sys.shmat(made(parent, "shmget"))
    member = new_member(parent)
    member.store(address, 7)
    assert parent.load(address) == 7


@clause("ipc_namespaces.7/proc-sysvipc-distinct")
@lie(STAYS)
def test_proc_lists_the_queues_of_the_readers_namespace(parent: Process) -> None:
    own_namespaces(parent, CLONE_NEWIPC)
    made(parent, "msgget")
    assert len(Observer(parent).read("/proc/sysvipc/msg").splitlines()) == 2
    assert len(Observer(new_member(parent)).read("/proc/sysvipc/msg").splitlines()) == 1


@pytest.mark.parametrize("name", ["msgmax", "msgmnb", "msgmni", "shmall", "shmmax", "shmmni"])
@clause("ipc_namespaces.7/sysv-sysctls-distinct")
@lie(STAYS)
def test_a_limit_is_the_namespaces_own(parent: Process, observer: Observer, name: str) -> None:
    own_limits(parent, observer)
    parent.write_to(f"/proc/sys/kernel/{name}", b"17")
    member = new_member(parent)
    member.write_to(f"/proc/sys/kernel/{name}", b"19")
    assert Observer(parent).read(f"/proc/sys/kernel/{name}") == b"17\n"
    assert Observer(member).read(f"/proc/sys/kernel/{name}") == b"19\n"


@clause("ipc_namespaces.7/mqueue-sysctls-distinct")
@lie(STAYS)
def test_a_limit_of_message_queues_is_the_namespaces_own(
    parent: Process, observer: Observer
) -> None:
    own_limits(parent, observer)
    parent.write_to("/proc/sys/fs/mqueue/msg_max", b"17")
    member = new_member(parent)
    member.write_to("/proc/sys/fs/mqueue/msg_max", b"19")
    assert Observer(parent).read("/proc/sys/fs/mqueue/msg_max") == b"17\n"
    assert Observer(member).read("/proc/sys/fs/mqueue/msg_max") == b"19\n"


def own_limits(process: Process, observer: Observer) -> None:
    """Give a process an IPC namespace whose limits it may change, and be sure that it is not the observer's."""
    own_namespaces(process, CLONE_NEWIPC, root=True)
    assert observer.namespace(process, "ipc") != observer.namespace(observer.process, "ipc")


@clause("ipc_namespaces.7/objects-destroyed-with-namespace")
@lie(STAYS)
def test_objects_live_as_long_as_the_namespace(parent: Process) -> None:
    own_namespaces(parent, CLONE_NEWIPC)
    member = new_member(parent)
    queue, descriptor = made(member, "msgget"), open_namespace(parent, member, "ipc")
    member.exit()
    member.wait_for_exit()
    with fails(ENOENT):
        made(parent, "msgget", 0)
    parent.sys.setns(descriptor, CLONE_NEWIPC)
    assert made(parent, "msgget", 0) == queue


# --- POSIX message queues ---


def opened(process: Process, flags: int) -> int:
    """A descriptor of a queue."""
    return int(process.sys.mq_open("queue", flags))


@clause("ipc_namespaces.7/mqueues-isolated")
@lie(STAYS)
def test_a_message_queue_is_found_by_members_only(parent: Process) -> None:
    own_namespaces(parent, CLONE_NEWIPC)
    opened(parent, O_CREAT | O_RDWR)
    opened(parent.fork(), O_RDWR)
    with fails(ENOENT):
        opened(new_member(parent), O_RDWR)


@clause("ipc_namespaces.7/open-mqueue-descriptor-still-works")
@lie(STAYS, leaves_out("mq_timedsend", hangs=True))
def test_an_open_message_queue_stays_open(parent: Process) -> None:
    own_namespaces(parent, CLONE_NEWIPC, root=True)
    queue, member = opened(parent, O_CREAT | O_RDWR), parent.fork("member")
    member.sys.unshare(CLONE_NEWIPC)
    with fails(ENOENT):
        opened(member, O_RDWR)
    member.sys.mq_timedsend(queue, b"x", 1, 0, None)
    text = parent.allocate(64)
    assert parent.sys.mq_timedreceive(queue, text, 64, 0, 0) == 1


@clause("ipc_namespaces.7/mqueue-mount-outlives-namespace")
@lie(leaves_out("exit_group", hangs=True))
def test_a_mount_of_queues_outlives_the_namespace(parent: Process, target: Target) -> None:
    private_mounts(parent, root=True)
    member = new_member(parent)
    member.sys.mount("mqueue", target.folder(), "mqueue")
    first = f"{target.folder()}/first"
    member.sys.mq_open("first", O_CREAT | O_RDWR)
    member.exit()
    member.wait_for_exit()
    parent.sys.openat(AT_FDCWD, target.folder(), O_RDONLY)
    assert parent.sys.access(first) == 0
    with fails(EACCES):
        parent.sys.openat(AT_FDCWD, f"{target.folder()}/second", O_CREAT | O_RDWR, 0o600)
