"""capabilities(7): the sets of a new image, by the file, the user ids and the sets of the old one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_procsemantics import Process, Target, clause
from pytest_procsemantics.driven import Observer, fails
from pytest_procsemantics.driven.constants import (
    CAP_NET_ADMIN,
    CAP_NET_RAW,
    CLONE_NEWUSER,
    EPERM,
    PR_CAPBSET_DROP,
    PR_GET_DUMPABLE,
    PR_GET_NO_NEW_PRIVS,
    PR_GET_SECUREBITS,
    PR_SET_DUMPABLE,
    PR_SET_KEEPCAPS,
    PR_SET_NO_NEW_PRIVS,
    PR_SET_SECUREBITS,
    SECBIT_NO_CAP_AMBIENT_RAISE,
    SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED,
    SECBIT_NO_SETUID_FIXUP,
    SECBIT_NO_SETUID_FIXUP_LOCKED,
    SECBIT_NOROOT,
    SECBIT_NOROOT_LOCKED,
)
from pytest_procsemantics.driven.forms import Ids, capability
from pytest_procsemantics.lies import (
    EXEC_DOES_NOTHING,
    before_call,
    before_exec,
    exec_given,
    in_image,
    leaves_out,
    lie,
    passes,
)
from pytest_procsemantics.requirements import (
    expect_new_privileges,
    own_namespaces,
    raise_ambient,
)
from pytest_procsemantics.requirements.programs import (
    OWNER,
    OWNING_GROUP,
    USER,
    agent_of_owner,
    agent_with_capabilities,
    becomes_user,
    copy_agent,
    file_capabilities,
    open_folder,
)

NET_RAW, NET_ADMIN = capability("NET_RAW"), capability("NET_ADMIN")
LOCKS = SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED

PLAIN = exec_given("it is a plain file", lambda path, argv, envp: (b"", argv, envp))
LOSES_ALL = in_image("the new image loses all", lambda image: image.sys.capset(0, 0, 0))
WITH_NEW_PRIVILEGES = passes(
    "new privileges are allowed",
    "prctl",
    0,
    lambda option: PR_GET_NO_NEW_PRIVS if option == PR_SET_NO_NEW_PRIVS else option,
)
MakeFile = Callable[[Process, str], str]


def becomes_user_with_net_raw(process: Process) -> Process:
    """Be user USER, with CAP_NET_RAW in all sets."""
    process.sys.prctl(PR_SET_KEEPCAPS, 1)
    becomes_user(process)
    process.sys.capset(NET_RAW, NET_RAW, 0)
    raise_ambient(process, "NET_RAW")
    return process


def becomes_user_with_inheritable(process: Process) -> Process:
    """Be user USER, with CAP_NET_RAW in the inheritable set only."""
    has = process.sys.capget().permitted
    process.sys.capset(has, has, NET_RAW)
    return becomes_user(process)


def gained(process: Process) -> tuple[int, int]:
    """What is permitted and what is effective."""
    has = process.sys.capget()
    return has.permitted, has.effective


def that_gives(permitted: int = 0, inheritable: int = 0, *, effective: bool = True) -> MakeFile:
    """What makes a program with these capabilities in a folder."""
    given = file_capabilities(permitted, inheritable, effective=effective)
    return lambda process, folder: agent_with_capabilities(process, folder, given)


def of_root(process: Process, folder: str) -> str:
    """A set-user-ID-root program."""
    return copy_agent(process, f"{folder}/agent", 0o4755)


def with_group(process: Process, folder: str) -> str:
    """A set-group-ID program of another group."""
    return agent_of_owner(process, folder, 0o2755)


def plain(process: Process, folder: str) -> str:
    """A program that gives nothing."""
    return copy_agent(process, f"{folder}/agent")


# --- an ordinary user ---


@clause("capabilities.7/plain-file-clears-for-nonroot")
@lie(EXEC_DOES_NOTHING)
def test_a_plain_file_leaves_an_ordinary_user_nothing(parent: Process) -> None:
    parent.sys.prctl(PR_SET_KEEPCAPS, 1)
    becomes_user(parent)
    assert parent.sys.capget().permitted != 0
    parent.execve()
    assert gained(parent) == (0, 0)


@pytest.mark.parametrize(
    "file",
    [
        pytest.param(plain, id="plain"),
        pytest.param(agent_of_owner, id="set-user-ID"),
        pytest.param(that_gives(NET_ADMIN), id="capabilities"),
    ],
)
@clause("capabilities.7/inheritable-unchanged")
@lie(LOSES_ALL)
def test_what_is_inheritable_stays(parent: Process, target: Target, file: MakeFile) -> None:
    path = file(parent, open_folder(target))
    becomes_user_with_inheritable(parent).execve(path)
    assert parent.sys.capget().inheritable == NET_RAW


@clause("capabilities.7/inheritable-alone-grants-nothing")
@lie(EXEC_DOES_NOTHING)
def test_what_is_inheritable_is_not_granted_by_a_plain_file(parent: Process) -> None:
    parent.sys.prctl(PR_SET_KEEPCAPS, 1)
    becomes_user_with_inheritable(parent)
    assert parent.sys.capget().permitted & NET_RAW
    parent.execve()
    assert gained(parent) == (0, 0)
    assert parent.sys.capget().inheritable == NET_RAW


# --- files with capabilities ---


@clause("capabilities.7/file-permitted-granted")
@lie(PLAIN)
def test_what_a_file_permits_is_granted(parent: Process, target: Target) -> None:
    path = that_gives(NET_RAW | NET_ADMIN)(parent, open_folder(target))
    becomes_user(parent).execve(path)
    assert gained(parent) == (NET_RAW | NET_ADMIN, NET_RAW | NET_ADMIN)


@clause("capabilities.7/file-permitted-without-effective-flag")
@lie(in_image("it is effective", lambda image: image.sys.capset(NET_RAW, NET_RAW, 0)))
def test_without_the_files_effective_flag_it_is_permitted_only(
    parent: Process, target: Target
) -> None:
    path = that_gives(NET_RAW, effective=False)(parent, open_folder(target))
    becomes_user(parent).execve(path)
    assert gained(parent) == (NET_RAW, 0)


@clause("capabilities.7/inheritable-and-file-inheritable")
@lie(PLAIN)
def test_what_both_sides_have_inheritable_is_granted(parent: Process, target: Target) -> None:
    path = that_gives(inheritable=NET_RAW | NET_ADMIN)(parent, open_folder(target))
    becomes_user_with_inheritable(parent).execve(path)
    assert gained(parent) == (NET_RAW, NET_RAW)


def makes_inheritable(process: Process) -> None:
    """Have a capability in the inheritable set."""
    has = process.sys.capget().permitted
    process.sys.capset(has, has, NET_RAW)


@clause("capabilities.7/inheritable-and-file-inheritable")
@lie(before_call("setresuid", "the process has it inheritable", makes_inheritable))
def test_what_the_file_alone_has_inheritable_is_not_granted(
    parent: Process, target: Target
) -> None:
    path = that_gives(inheritable=NET_RAW)(parent, open_folder(target))
    becomes_user(parent).execve(path)
    assert gained(parent) == (0, 0)


@clause("capabilities.7/bounding-does-not-mask-inheritable")
@lie(PLAIN)
def test_the_bounding_set_does_not_mask_what_is_inheritable(
    parent: Process, target: Target
) -> None:
    path = that_gives(inheritable=NET_RAW)(parent, open_folder(target))
    makes_inheritable(parent)
    parent.sys.prctl(PR_CAPBSET_DROP, CAP_NET_RAW)
    becomes_user(parent).execve(path)
    assert gained(parent) == (NET_RAW, NET_RAW)


@clause("capabilities.7/capability-sets-kept-by-failed-exec")
@lie(before_exec("exec loses all first", lambda process: process.sys.capset(0, 0, 0)))
def test_a_refused_exec_leaves_all_sets(
    parent: Process, target: Target, observer: Observer
) -> None:
    path = that_gives(NET_ADMIN)(parent, open_folder(target))
    parent.sys.prctl(PR_CAPBSET_DROP, CAP_NET_ADMIN)
    before = observer.capabilities(becomes_user_with_net_raw(parent))
    with fails(EPERM):
        parent.execve(path)
    assert observer.capabilities(parent) == before


# --- ambient capabilities ---


@pytest.mark.parametrize(
    "file",
    [
        pytest.param(that_gives(NET_ADMIN, effective=False), id="capabilities"),
        pytest.param(with_group, id="set-group-ID"),
        pytest.param(agent_of_owner, id="set-user-ID"),
    ],
)
@clause("capabilities.7/ambient-cleared-by-privileged-file")
@lie(PLAIN)
def test_a_privileged_file_clears_the_ambient_set(
    parent: Process, target: Target, observer: Observer, file: MakeFile
) -> None:
    path = file(parent, open_folder(target))
    becomes_user_with_net_raw(parent).execve(path)
    assert observer.capabilities(parent).ambient == 0
    assert gained(parent)[1] == 0


def is_anothers(process: Process) -> None:
    """Have the program belong to another user and group, with the same bits."""
    calls, path = process.target.observer.process.sys, f"{process.target.folder()}/agent"
    calls.chown(path, OWNER, OWNING_GROUP)
    calls.chmod(path, 0o6755)


@clause("capabilities.7/ambient-kept-when-set-id-changes-nothing")
@lie(before_exec("the ids are others", is_anothers))
def test_a_set_id_file_that_changes_no_id_leaves_the_ambient_set(
    parent: Process, target: Target, observer: Observer
) -> None:
    folder = open_folder(target)
    becomes_user_with_net_raw(parent)
    parent.execve(copy_agent(parent, f"{folder}/agent", 0o6755))
    assert observer.capabilities(parent).ambient == NET_RAW
    assert gained(parent) == (NET_RAW, NET_RAW)


@clause("capabilities.7/ambient-kept-with-no-new-privs")
@lie(LOSES_ALL)
def test_no_new_privs_leaves_the_ambient_set(parent: Process, observer: Observer) -> None:
    becomes_user_with_net_raw(parent).sys.prctl(PR_SET_NO_NEW_PRIVS, 1)
    parent.execve()
    assert observer.capabilities(parent).ambient == NET_RAW
    assert gained(parent) == (NET_RAW, NET_RAW)


@clause("capabilities.7/file-capabilities-cut-under-no-new-privs")
@lie(PLAIN, WITH_NEW_PRIVILEGES)
def test_under_no_new_privs_a_file_gives_what_was_permitted_at_most(
    parent: Process, target: Target, observer: Observer
) -> None:
    path = that_gives(NET_RAW | NET_ADMIN, effective=False)(parent, open_folder(target))
    becomes_user_with_net_raw(parent).sys.prctl(PR_SET_NO_NEW_PRIVS, 1)
    parent.execve(path)
    assert observer.capabilities(parent).ambient == 0
    assert gained(parent) == (NET_RAW, 0)


# --- root ---


@clause("capabilities.7/root-gets-bounding-set")
@lie(EXEC_DOES_NOTHING)
def test_root_gets_the_bounding_set(parent: Process, observer: Observer) -> None:
    expect_new_privileges(parent)
    own_namespaces(parent, CLONE_NEWUSER, root=True)
    parent.sys.prctl(PR_CAPBSET_DROP, CAP_NET_ADMIN)
    parent.sys.capset(NET_RAW, NET_RAW, 0)
    parent.execve()
    has = observer.capabilities(parent)
    assert has.permitted == has.effective == has.bounding
    assert not has.bounding & NET_ADMIN


@clause("capabilities.7/bounding-does-not-mask-inheritable")
@lie(LOSES_ALL)
def test_root_gets_what_is_inheritable_as_well(parent: Process, observer: Observer) -> None:
    own_namespaces(parent, CLONE_NEWUSER, root=True)
    makes_inheritable(parent)
    parent.sys.prctl(PR_CAPBSET_DROP, CAP_NET_RAW)
    parent.execve()
    has = observer.capabilities(parent)
    assert has.permitted == has.effective == has.bounding | NET_RAW
    assert not has.bounding & NET_RAW


@clause("capabilities.7/noroot-denies-root-exec")
@lie(leaves_out("prctl"))
def test_with_noroot_root_gets_nothing(parent: Process) -> None:
    own_namespaces(parent, CLONE_NEWUSER, root=True)
    parent.sys.prctl(PR_SET_SECUREBITS, SECBIT_NOROOT)
    parent.execve()
    assert gained(parent) == (0, 0)
    assert parent.sys.getresuid() == Ids(0, 0, 0)


@clause("capabilities.7/securebits-kept-over-exec")
@lie(in_image("exec clears them", lambda image: image.sys.prctl(PR_SET_SECUREBITS, 0)))
def test_securebits_stay(parent: Process) -> None:
    own_namespaces(parent, CLONE_NEWUSER, root=True)
    parent.sys.prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP | SECBIT_NO_CAP_AMBIENT_RAISE)
    parent.execve()
    bits = parent.sys.prctl(PR_GET_SECUREBITS)
    assert bits == SECBIT_NO_SETUID_FIXUP | SECBIT_NO_CAP_AMBIENT_RAISE


@clause("capabilities.7/securebits-kept-over-exec")
@lie(leaves_out("prctl"))
def test_noroot_and_the_locks_stay(parent: Process) -> None:
    own_namespaces(parent, CLONE_NEWUSER, root=True)
    parent.sys.prctl(PR_SET_SECUREBITS, SECBIT_NOROOT | LOCKS)
    parent.execve()
    assert parent.sys.prctl(PR_GET_SECUREBITS) == SECBIT_NOROOT | LOCKS


# --- one user id 0 of two ---


@clause("capabilities.7/setuid-root-grants-all")
@lie(PLAIN)
def test_a_set_user_id_root_program_gets_the_bounding_set(
    parent: Process, target: Target, observer: Observer
) -> None:
    path = of_root(parent, open_folder(target))
    becomes_user(parent).execve(path)
    has = observer.capabilities(parent)
    assert has.permitted == has.effective == has.bounding != 0


@clause("capabilities.7/real-root-effective-user")
@lie(leaves_out("setresuid"))
def test_with_the_real_uid_0_alone_all_is_permitted_and_nothing_effective(
    parent: Process, observer: Observer
) -> None:
    parent.sys.setresuid(0, USER, USER)
    parent.execve()
    assert gained(parent) == (observer.capabilities(parent).bounding, 0)


@clause("capabilities.7/real-root-effective-user")
@lie(PLAIN)
def test_root_that_runs_a_set_user_id_program_of_a_user_keeps_what_is_permitted(
    parent: Process, target: Target, observer: Observer
) -> None:
    parent.execve(agent_of_owner(parent, open_folder(target)))
    assert parent.sys.getresuid() == Ids(0, OWNER, OWNER)
    assert gained(parent) == (observer.capabilities(parent).bounding, 0)


@clause("capabilities.7/effective-root-real-user")
@lie(passes("the effective uid too", "setresuid", 1, USER))
def test_with_the_effective_uid_0_alone_all_is_effective(
    parent: Process, observer: Observer
) -> None:
    expect_new_privileges(parent)
    parent.sys.setresuid(USER, 0, 0)
    parent.sys.capset(0, 0, 0)
    parent.execve()
    bounding = observer.capabilities(parent).bounding
    assert gained(parent) == (bounding, bounding)


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(
            NET_RAW, id="one", marks=clause("capabilities.7/setuid-root-with-file-capabilities")
        ),
        pytest.param(
            0, id="none", marks=clause("capabilities.7/empty-file-capabilities-on-setuid-root")
        ),
    ],
)
@lie(leaves_out("setxattr"))
def test_a_set_user_id_root_program_with_capabilities_gives_just_these(
    parent: Process, target: Target, given: int
) -> None:
    path = that_gives(given)(parent, open_folder(target))
    parent.sys.chmod(path, 0o4755)
    becomes_user(parent).execve(path)
    assert parent.sys.getresuid() == Ids(USER, 0, 0)
    assert gained(parent) == (given, given)


@pytest.mark.parametrize(
    "file",
    [pytest.param(of_root, id="set-user-ID"), pytest.param(that_gives(NET_RAW), id="capabilities")],
)
@clause("capabilities.7/setuid-root-clears-dumpable")
@lie(in_image("it stays dumpable", lambda image: image.sys.prctl(PR_SET_DUMPABLE, 1)))
def test_a_program_that_gained_capabilities_is_as_dumpable_as_the_system_says(
    parent: Process, target: Target, observer: Observer, file: MakeFile
) -> None:
    path = file(parent, open_folder(target))
    becomes_user(parent).execve(path)
    allowed = int(observer.read("/proc/sys/fs/suid_dumpable"))
    assert parent.sys.prctl(PR_GET_DUMPABLE) == allowed
