"""user_namespaces(7): who is in which, and what ids and capabilities a member has."""

from __future__ import annotations

import pytest

from pytest_procsemantics import Process, Target, clause
from pytest_procsemantics.driven import Observer, Unsupported, fails
from pytest_procsemantics.driven.constants import (
    CLONE_NEWUSER,
    EINVAL,
    EPERM,
    P_PID,
    SIG_BLOCK,
    SIGCHLD,
    SIGUSR1,
    SO_PEERCRED,
    SOL_SOCKET,
    WEXITED,
)
from pytest_procsemantics.driven.messages import (
    Credentials,
    accept_credentials,
    receive_credentials,
    send_credentials,
)
from pytest_procsemantics.lies import (
    drops,
    every_child,
    leaves_out,
    lie,
    passes,
)
from pytest_procsemantics.requirements import (
    become_ordinary,
    enter_user_namespace,
    own_namespaces,
)

STAYS = leaves_out("unshare")
SAME = drops(CLONE_NEWUSER)
UNMAPPED = leaves_out("write")


def overflow(process: Process, kind: str) -> int:
    """What an id without a map is shown as; kind: uid or gid."""
    return int(Observer(process).read(f"/proc/sys/kernel/overflow{kind}"))


# --- who is in which ---


@clause("user_namespaces.7/clone-moves-child")
@lie(SAME)
def test_clone_moves_the_child_only(parent: Process, observer: Observer) -> None:
    before = observer.namespace(parent, "user")
    child = parent.clone(CLONE_NEWUSER | SIGCHLD)
    assert observer.namespace(child, "user") != before
    assert observer.namespace(parent, "user") == before


@clause("user_namespaces.7/member-of-exactly-one")
@lie(every_child(CLONE_NEWUSER | SIGCHLD))
def test_all_threads_are_in_one_user_namespace(parent: Process) -> None:
    parent.sys.unshare(CLONE_NEWUSER)
    thread = parent.thread()
    assert Observer(thread).link("/proc/thread-self/ns/user") == Observer(parent).link(
        "/proc/self/ns/user"
    )


# --- ids ---


@clause("user_namespaces.7/ids-differ-inside-and-outside")
@lie(STAYS, UNMAPPED)
def test_a_process_has_other_ids_inside(parent: Process, observer: Observer) -> None:
    user, group = parent.sys.getuid(), parent.sys.getgid()
    enter_user_namespace(parent, user + 7, group + 8)
    assert (parent.sys.getuid(), parent.sys.getgid()) == (user + 7, group + 8)
    assert observer.status_field(parent, "Uid").split() == [str(user)] * 4
    assert observer.status_field(parent, "Gid").split() == [str(group)] * 4


@clause("user_namespaces.7/returned-ids-are-mapped")
@lie(UNMAPPED)
def test_calls_give_ids_as_the_caller_maps_them(parent: Process, target: Target) -> None:
    path = parent.make_file(f"{target.folder()}/file")
    enter_user_namespace(parent, 7, 8)
    assert parent.sys.getresuid() == (7, 7, 7)
    assert parent.sys.getresgid() == (8, 8, 8)
    assert parent.sys.stat(path).uid == 7
    one, _ = parent.sys.socketpair()
    assert parent.sys.getsockopt(one, SOL_SOCKET, SO_PEERCRED)[1:] == (7, 8)


@clause("user_namespaces.7/file-ids-mapped-back-on-create")
@lie(STAYS)
def test_a_file_made_inside_has_the_outer_owner_outside(
    parent: Process, observer: Observer, target: Target
) -> None:
    user, path = parent.sys.geteuid(), f"{target.folder()}/file"
    enter_user_namespace(parent, user + 7, 8)
    parent.make_file(path)
    assert parent.sys.stat(path).uid == user + 7
    assert observer.process.sys.stat(path).uid == user


@clause("user_namespaces.7/unmapped-shown-as-overflow")
@lie(STAYS)
def test_without_a_map_ids_are_shown_as_the_overflow_ids(parent: Process) -> None:
    user, group = overflow(parent, "uid"), overflow(parent, "gid")
    parent.sys.unshare(CLONE_NEWUSER)
    assert parent.sys.getresuid() == (user, user, user)
    assert parent.sys.getresgid() == (group, group, group)
    assert Observer(parent).status_field(parent, "Uid").split() == [str(user)] * 4


@clause("user_namespaces.7/unmapped-in-stat")
@lie(STAYS)
def test_an_owner_without_a_map_is_shown_as_the_overflow_id(parent: Process) -> None:
    become_ordinary(parent, owns_its_files=True)
    if parent.sys.stat("/proc/sys").uid == overflow(parent, "uid"):
        raise Unsupported("a map of user 0 (the user namespace of the start has none)")
    assert parent.sys.stat("/proc/sys").uid == 0
    enter_user_namespace(parent, 0, 0)
    assert parent.sys.stat("/proc/sys").uid == overflow(parent, "uid")
    assert parent.sys.stat("/proc/self/maps").uid == 0


@clause("user_namespaces.7/unmapped-in-waitid-and-siginfo")
@lie(SAME)
def test_a_sender_without_a_map_is_shown_as_the_overflow_id(parent: Process) -> None:
    own_namespaces(parent, CLONE_NEWUSER, root=True)
    member = parent.clone(CLONE_NEWUSER | SIGCHLD, name="member")
    child = member.fork()
    member.sys.rt_sigprocmask(SIG_BLOCK, {SIGUSR1})
    parent.sys.kill(member.pid, SIGUSR1)
    assert member.sys.rt_sigtimedwait({SIGUSR1}, 0).uid == overflow(member, "uid")
    child.exit()
    assert member.sys.waitid(P_PID, child.pid, WEXITED).uid == overflow(member, "uid")


@clause("user_namespaces.7/scm-credentials-translated")
@lie(UNMAPPED, STAYS)
def test_ids_in_a_message_are_the_receivers(parent: Process) -> None:
    outer, inner = parent.sys.socketpair()
    accept_credentials(parent, outer)
    accept_credentials(parent, inner)
    user, group = parent.sys.getuid(), parent.sys.getgid()
    member = parent.fork("member")
    enter_user_namespace(member, user + 7, group + 8)
    send_credentials(member, inner, Credentials(member.pid, user + 7, group + 8))
    assert receive_credentials(parent, outer) == (member.pid, user, group)
    send_credentials(parent, outer, Credentials(parent.pid, user, group))
    assert receive_credentials(member, inner) == (parent.pid, user + 7, group + 8)


@clause("user_namespaces.7/unmapped-in-scm-credentials")
@lie(SAME)
def test_a_sender_of_a_message_without_a_map_has_the_overflow_ids(parent: Process) -> None:
    own_namespaces(parent, CLONE_NEWUSER, root=True)
    outer, inner = parent.sys.socketpair()
    accept_credentials(parent, inner)
    member = parent.clone(CLONE_NEWUSER | SIGCHLD, name="member")
    send_credentials(parent, outer, Credentials(parent.pid, 0, 0))
    shown = overflow(member, "uid"), overflow(member, "gid")
    assert receive_credentials(member, inner)[1:] == shown


@clause("user_namespaces.7/only-mapped-ids-settable")
@lie(leaves_out("setresuid"))
def test_only_a_user_with_a_map_can_be_taken(parent: Process) -> None:
    enter_user_namespace(parent, 7, 8)
    parent.sys.setresuid(7, 7, 7)
    with fails(EINVAL):
        parent.sys.setresuid(8, 8, 8)


@clause("user_namespaces.7/only-mapped-ids-settable")
@lie(leaves_out("setresgid"))
def test_only_a_group_with_a_map_can_be_taken(parent: Process) -> None:
    enter_user_namespace(parent, 7, 8)
    parent.sys.setresgid(8, 8, 8)
    with fails(EINVAL):
        parent.sys.setresgid(7, 7, 7)


@pytest.mark.parametrize(
    ("call", "count"),
    [
        pytest.param(
            "setuid", 1, marks=clause("user_namespaces.7/setuid-fails-without-map"), id="setuid"
        ),
        pytest.param(
            "setreuid", 2, marks=clause("user_namespaces.7/setuid-fails-without-map"), id="setreuid"
        ),
        pytest.param(
            "setresuid",
            3,
            marks=clause("user_namespaces.7/setuid-fails-without-map"),
            id="setresuid",
        ),
        pytest.param(
            "setgid", 1, marks=clause("user_namespaces.7/setgid-fails-without-map"), id="setgid"
        ),
        pytest.param(
            "setregid", 2, marks=clause("user_namespaces.7/setgid-fails-without-map"), id="setregid"
        ),
        pytest.param(
            "setresgid",
            3,
            marks=clause("user_namespaces.7/setgid-fails-without-map"),
            id="setresgid",
        ),
    ],
)
@lie(STAYS)
def test_without_a_map_no_id_can_be_taken(parent: Process, call: str, count: int) -> None:
    id = parent.sys.getgid() if "gid" in call else parent.sys.getuid()
    parent.sys.unshare(CLONE_NEWUSER)
    with fails(EINVAL):
        parent.sys.raw(call, *[id] * count)
    with fails(EINVAL):
        parent.sys.raw(call, *[overflow(parent, "uid")] * count)


@clause("user_namespaces.7/setgid-fails-without-map")
@lie(leaves_out("setgroups"))
def test_without_a_map_no_groups_can_be_set(parent: Process) -> None:
    parent.sys.unshare(CLONE_NEWUSER)
    with fails(EPERM):
        parent.sys.setgroups([])


@clause("user_namespaces.7/setfsuid-unmapped-ignored")
@lie(leaves_out("setfsuid"), leaves_out("setfsgid"))
def test_a_filesystem_id_without_a_map_is_not_taken(parent: Process) -> None:
    enter_user_namespace(parent, 7, 8)
    assert parent.sys.setfsuid(9) == parent.sys.setfsuid(-1) == 7
    assert parent.sys.setfsgid(9) == parent.sys.setfsgid(-1) == 8


@clause("user_namespaces.7/minus-one-unmapped")
@lie(leaves_out("setuid"), passes("1 is minus one", "setresuid", 0, 1))
def test_minus_one_is_no_id(parent: Process) -> None:
    before = parent.sys.getresuid()
    parent.sys.setresuid(-1, -1, -1)
    assert parent.sys.getresuid() == before
    with fails(EINVAL):
        parent.sys.setuid(-1)
