"""execve(2): user and group ids, and files with the set-user-ID and set-group-ID bits."""

from __future__ import annotations

from pytest_procsemantics import Process, clause
from pytest_procsemantics.driven import Observer, Target, fails
from pytest_procsemantics.driven.constants import (
    AT_FDCWD,
    AT_SECURE,
    CAP_NET_RAW,
    CLONE_FS,
    EBADF,
    EPERM,
    F_GETFD,
    MS_NOSUID,
    PR_CAPBSET_DROP,
    PR_GET_DUMPABLE,
    PR_GET_PDEATHSIG,
    PR_SET_DUMPABLE,
    PR_SET_NO_NEW_PRIVS,
    PR_SET_PDEATHSIG,
    PTRACE_ATTACH,
    PTRACE_SEIZE,
    SIGCHLD,
    SIGUSR2,
)
from pytest_procsemantics.driven.forms import Ids
from pytest_procsemantics.lies import (
    EXEC_DOES_NOTHING,
    before_exec,
    drops,
    exec_given,
    in_image,
    leaves_out,
    lie,
)
from pytest_procsemantics.requirements import private_mounts
from pytest_procsemantics.requirements.programs import (
    GROUP,
    OWNER,
    OWNING_GROUP,
    USER,
    agent_of_owner,
    agent_with_capabilities,
    becomes_user,
    file_capabilities,
    open_folder,
)

SAME = -1  # leaves an id as it is
GIVES_NET_RAW = file_capabilities(1 << CAP_NET_RAW, effective=True)
ALLOWS_NET_RAW = file_capabilities(1 << CAP_NET_RAW)

KEEPS_ITS_IDS = exec_given("exec ignores the bits", lambda path, argv, envp: (b"", argv, envp))


# --- plain files ---


@clause("execve.2/euid-copied-to-saved")
@lie(EXEC_DOES_NOTHING)
def test_the_effective_uid_is_copied_to_the_saved_one(parent: Process) -> None:
    parent.sys.setresuid(1, 2, 3)
    parent.execve()
    assert parent.sys.getresuid() == Ids(1, 2, 2)


@clause("execve.2/egid-copied-to-saved")
@lie(EXEC_DOES_NOTHING)
def test_the_effective_gid_is_copied_to_the_saved_one(parent: Process) -> None:
    parent.sys.setresgid(1, 2, 3)
    parent.execve()
    assert parent.sys.getresgid() == Ids(1, 2, 2)


@clause("execve.2/real-ids-unchanged")
@lie(in_image("exec changes the real uid", lambda image: image.sys.setresuid(2, SAME, SAME)))
def test_the_real_uid_stays(parent: Process) -> None:
    parent.sys.setresuid(1, 2, 3)
    parent.execve()
    assert parent.sys.getresuid().real == 1


@clause("execve.2/real-gid-unchanged")
@lie(in_image("exec changes the real gid", lambda image: image.sys.setresgid(2, SAME, SAME)))
def test_the_real_gid_stays(parent: Process) -> None:
    parent.sys.setresgid(1, 2, 3)
    parent.execve()
    assert parent.sys.getresgid().real == 1


@clause("execve.2/supplementary-groups-unchanged")
@lie(in_image("exec drops groups", lambda image: image.sys.setgroups([])))
def test_supplementary_groups_stay(parent: Process) -> None:
    parent.sys.setgroups([5, 7])
    parent.execve()
    assert parent.sys.getgroups() == (5, 7)


# --- files with the bits ---


@clause("execve.2/setuid-changes-euid", "execve.2/saved-copy-after-set-id")
@lie(KEEPS_ITS_IDS)
def test_a_set_user_id_file_gives_its_owners_uid(parent: Process, target: Target) -> None:
    path = agent_of_owner(parent, open_folder(target))
    becomes_user(parent).execve(path)
    assert parent.sys.getresuid() == Ids(USER, OWNER, OWNER)
    assert parent.initial().auxv.get(AT_SECURE) == 1


@clause("clone.2/fs-exec-by-sharer-of-setuid")
@lie(drops(CLONE_FS))
def test_a_set_user_id_file_gives_no_uid_to_who_shares_its_place(
    parent: Process, target: Target
) -> None:
    path = agent_of_owner(parent, open_folder(target))
    sharer = becomes_user(parent).clone(CLONE_FS | SIGCHLD, name="sharer")
    sharer.execve(path)
    assert sharer.sys.getresuid() == Ids(USER, USER, USER)
    assert parent.fork().execve(path).sys.geteuid() == OWNER


@clause("execve.2/setgid-changes-egid")
@lie(KEEPS_ITS_IDS)
def test_a_set_group_id_file_gives_its_gid(parent: Process, target: Target) -> None:
    path = agent_of_owner(parent, open_folder(target), 0o2755)
    becomes_user(parent).execve(path)
    assert parent.sys.getresgid() == Ids(GROUP, OWNING_GROUP, OWNING_GROUP)
    assert parent.initial().auxv.get(AT_SECURE) == 1


def allows_group_execute(process: Process) -> None:
    """Set the missing bit of the program, so that set-group-ID counts."""
    process.target.observer.process.sys.chmod(f"{process.target.folder()}/agent", 0o2755)


@clause("execve.2/setgid-needs-group-execute")
@lie(before_exec("exec takes the bit for granted", allows_group_execute))
def test_set_group_id_without_group_execute_is_ignored(parent: Process, target: Target) -> None:
    path = agent_of_owner(parent, open_folder(target), 0o2745)
    becomes_user(parent).execve(path)
    assert parent.sys.getresgid() == Ids(GROUP, GROUP, GROUP)
    assert parent.initial().auxv.get(AT_SECURE) == 0


def becomes_owner(process: Process) -> None:
    """Take the owner's ids by way of the saved id 0."""
    process.sys.setresuid(USER, 0, 0)
    process.sys.setresuid(USER, OWNER, OWNER)


@clause("execve.2/script-ignores-set-id")
@lie(before_exec("the bit counts", becomes_owner))
def test_a_set_user_id_script_runs_with_the_callers_ids(parent: Process, target: Target) -> None:
    folder = open_folder(target)
    owner = parent.fork("owner")
    owner.sys.setresuid(OWNER, OWNER, OWNER)
    line = b"#!" + target.agent_path + b"\n"
    path = owner.make_file(f"{folder}/script", line, 0o4755)
    parent.sys.setresuid(USER, USER, 0)
    parent.execve(path)
    assert parent.sys.getresuid() == Ids(USER, USER, USER)
    assert parent.initial().auxv.get(AT_SECURE) == 0


@clause("execve.2/dumpable-for-set-id")
@lie(in_image("it stays dumpable", lambda image: image.sys.prctl(PR_SET_DUMPABLE, 1)))
def test_a_set_id_program_is_as_dumpable_as_the_system_says(
    parent: Process, target: Target, observer: Observer
) -> None:
    path = agent_of_owner(parent, open_folder(target))
    becomes_user(parent).execve(path)
    allowed = int(observer.read("/proc/sys/fs/suid_dumpable"))
    assert parent.sys.prctl(PR_GET_DUMPABLE) == allowed


@clause("execve.2/pdeathsig-cleared-by-set-id")
@lie(KEEPS_ITS_IDS)
def test_a_set_id_program_clears_the_parent_death_signal(parent: Process, target: Target) -> None:
    path = agent_of_owner(parent, open_folder(target))
    becomes_user(parent).sys.prctl(PR_SET_PDEATHSIG, SIGUSR2)
    parent.execve(path)
    assert parent.sys.prctl(PR_GET_PDEATHSIG) == 0


@clause("prctl.2/pdeathsig-cleared-by-set-group-id-exec")
@lie(KEEPS_ITS_IDS)
def test_a_set_group_id_program_clears_the_parent_death_signal(
    parent: Process, target: Target
) -> None:
    path = agent_of_owner(parent, open_folder(target), 0o2755)
    becomes_user(parent).sys.prctl(PR_SET_PDEATHSIG, SIGUSR2)
    parent.execve(path)
    assert parent.sys.prctl(PR_GET_PDEATHSIG) == 0


@clause("execve.2/standard-descriptors-for-set-id")
@lie(in_image("exec opens it", lambda image: image.sys.openat(AT_FDCWD, "/dev/null")))
def test_the_kernel_opens_no_standard_descriptor(parent: Process, target: Target) -> None:
    path = agent_of_owner(parent, open_folder(target))
    becomes_user(parent).sys.close(0)
    parent.execve(path)
    with fails(EBADF):
        parent.sys.fcntl(0, F_GETFD)


@clause("execve.2/set-id-programs-not-traceable")
@lie(KEEPS_ITS_IDS)
def test_a_set_id_program_cannot_be_traced(parent: Process, target: Target) -> None:
    path = agent_of_owner(parent, open_folder(target))
    child = becomes_user(parent).fork()
    child.execve(path)
    with fails(EPERM):
        parent.sys.ptrace(PTRACE_ATTACH, child.own_pid, 0, 0)


# --- what makes the bits ignored, and file capabilities likewise ---


def mount_nosuid(process: Process, folder: str) -> None:
    """Mount an empty file system, in a mount namespace of the process's own."""
    private_mounts(process)
    process.sys.mount("tmpfs", folder, "tmpfs", MS_NOSUID, "mode=777")


@clause("execve.2/no-new-privs-ignores-set-id")
@lie(leaves_out("prctl"))
def test_with_no_new_privs_the_bits_are_ignored(parent: Process, target: Target) -> None:
    path = agent_of_owner(parent, open_folder(target), 0o6755)
    becomes_user(parent).sys.prctl(PR_SET_NO_NEW_PRIVS, 1)
    parent.execve(path)
    assert parent.sys.getresuid() == Ids(USER, USER, USER)
    assert parent.sys.getresgid() == Ids(GROUP, GROUP, GROUP)


@clause("execve.2/nosuid-mount-ignores-set-id")
@lie(leaves_out("mount"))
def test_on_a_nosuid_mount_the_bits_are_ignored(parent: Process, target: Target) -> None:
    folder = open_folder(target)
    mount_nosuid(parent, folder)
    path = agent_of_owner(parent, folder, 0o6755)
    becomes_user(parent).execve(path)
    assert parent.sys.getresuid() == Ids(USER, USER, USER)
    assert parent.sys.getresgid() == Ids(GROUP, GROUP, GROUP)


@clause("execve.2/ptraced-ignores-set-id")
@lie(leaves_out("ptrace"))
def test_under_an_unprivileged_tracer_the_bits_are_ignored(parent: Process, target: Target) -> None:
    path = agent_of_owner(parent, open_folder(target), 0o6755)
    child = becomes_user(parent).fork()
    parent.sys.ptrace(PTRACE_SEIZE, child.own_pid, 0, 0)
    child.execve(path)
    assert child.sys.getresuid() == Ids(USER, USER, USER)
    assert child.sys.getresgid() == Ids(GROUP, GROUP, GROUP)


@clause("execve.2/eperm-nosuid")
@lie(EXEC_DOES_NOTHING)
def test_a_set_id_file_on_a_nosuid_mount_is_refused(parent: Process, target: Target) -> None:
    folder = open_folder(target)
    mount_nosuid(parent, folder)
    path = agent_of_owner(parent, folder)
    with fails(EPERM):
        becomes_user(parent).execve(path)


@clause("execve.2/eperm-traced")
@lie(EXEC_DOES_NOTHING)
def test_a_set_id_file_is_refused_to_a_traced_process(parent: Process, target: Target) -> None:
    path = agent_of_owner(parent, open_folder(target))
    child = becomes_user(parent).fork()
    parent.sys.ptrace(PTRACE_SEIZE, child.own_pid, 0, 0)
    with fails(EPERM):
        child.execve(path)


@clause("execve.2/file-capabilities-ignored-likewise")
@lie(leaves_out("prctl"))
def test_with_no_new_privs_file_capabilities_are_ignored(parent: Process, target: Target) -> None:
    path = agent_with_capabilities(parent, open_folder(target), GIVES_NET_RAW)
    becomes_user(parent).sys.prctl(PR_SET_NO_NEW_PRIVS, 1)
    parent.execve(path)
    assert parent.sys.capget().permitted == 0


@clause("execve.2/file-capabilities-ignored-likewise")
@lie(leaves_out("mount"))
def test_on_a_nosuid_mount_file_capabilities_are_ignored(parent: Process, target: Target) -> None:
    folder = open_folder(target)
    mount_nosuid(parent, folder)
    path = agent_with_capabilities(parent, folder, GIVES_NET_RAW)
    becomes_user(parent).execve(path)
    assert parent.sys.capget().permitted == 0


@clause("execve.2/file-capabilities-ignored-likewise")
@lie(leaves_out("ptrace"))
def test_under_an_unprivileged_tracer_file_capabilities_are_ignored(
    parent: Process, target: Target
) -> None:
    path = agent_with_capabilities(parent, open_folder(target), GIVES_NET_RAW)
    child = becomes_user(parent).fork()
    parent.sys.ptrace(PTRACE_SEIZE, child.own_pid, 0, 0)
    child.execve(path)
    assert child.sys.capget().permitted == 0


@clause("execve.2/eperm-capability-dumb")
@lie(leaves_out("prctl"))
def test_a_file_that_would_not_get_all_its_capabilities_is_refused(
    parent: Process, target: Target
) -> None:
    path = agent_with_capabilities(parent, open_folder(target), GIVES_NET_RAW)
    parent.sys.prctl(PR_CAPBSET_DROP, CAP_NET_RAW)
    with fails(EPERM):
        becomes_user(parent).execve(path)


# --- file capabilities ---


@clause("prctl.2/pdeathsig-cleared-by-capability-exec")
@lie(KEEPS_ITS_IDS)
def test_a_file_with_capabilities_clears_the_parent_death_signal(
    parent: Process, target: Target
) -> None:
    path = agent_with_capabilities(parent, open_folder(target), GIVES_NET_RAW)
    becomes_user(parent).sys.prctl(PR_SET_PDEATHSIG, SIGUSR2)
    parent.execve(path)
    assert parent.sys.prctl(PR_GET_PDEATHSIG) == 0


@clause("prctl.2/dumpable-capability-exec")
@lie(in_image("it stays dumpable", lambda image: image.sys.prctl(PR_SET_DUMPABLE, 1)))
def test_a_program_with_capabilities_is_as_dumpable_as_the_system_says(
    parent: Process, target: Target, observer: Observer
) -> None:
    path = agent_with_capabilities(parent, open_folder(target), GIVES_NET_RAW)
    becomes_user(parent).execve(path)
    allowed = int(observer.read("/proc/sys/fs/suid_dumpable"))
    assert parent.sys.prctl(PR_GET_DUMPABLE) == allowed


@clause("prctl.2/bounding-limits-file-capabilities")
@lie(leaves_out("prctl"))
def test_a_dropped_capability_is_not_gained_from_a_file(parent: Process, target: Target) -> None:
    path = agent_with_capabilities(parent, open_folder(target), ALLOWS_NET_RAW)
    parent.sys.prctl(PR_CAPBSET_DROP, CAP_NET_RAW)
    becomes_user(parent).execve(path)
    assert parent.sys.capget().permitted == 0
