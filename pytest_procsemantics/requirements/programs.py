"""Programs for checks, all of them copies of the agent: files that give who runs them ids or capabilities, and plain ones."""

from __future__ import annotations

import struct

from pytest_procsemantics.driven import Out, Process, Target
from pytest_procsemantics.driven.constants import PR_SET_DUMPABLE
from pytest_procsemantics.driven.errors import Unsupported
from pytest_procsemantics.requirements.start import expect_new_privileges

USER, OWNER = 1000, 2000  # who runs a program, and whose it is
GROUP, OWNING_GROUP = 1000, 3000
ST_NOSUID = 2  # statfs(2)
STATFS_BYTES, STATFS_FLAGS = 120, 80
EFFECTIVE = 1  # of struct vfs_cap_data, whose words are first the low halves, then the high ones
REVISION_2 = 0x02000000
VFS_CAP_DATA = struct.Struct("<IIIII")


def file_capabilities(
    permitted: int = 0, inheritable: int = 0, *, effective: bool = False
) -> bytes:
    """What the attribute security.capability holds (capabilities(7), linux/capability.h).

    Args:
        permitted, inheritable: masks.
        effective: whether those that are gained are effective at once.
    """
    low = 0xFFFFFFFF
    return VFS_CAP_DATA.pack(
        REVISION_2 | (EFFECTIVE if effective else 0),
        permitted & low,
        inheritable & low,
        permitted >> 32,
        inheritable >> 32,
    )


def open_folder(target: Target) -> str:
    """The test's folder, where all may make files.

    Raises:
        Unsupported: set-ID bits and capabilities of files don't count there.
    """
    expect_new_privileges(target.observer.process)
    folder = target.folder()
    calls = target.observer.process.sys
    calls.chmod(folder, 0o777)
    _, found = calls.statfs(folder, Out(STATFS_BYTES))
    if struct.unpack_from("<Q", found, STATFS_FLAGS)[0] & ST_NOSUID:
        raise Unsupported("set-ID bits in the folder of a test (mounted nosuid)")
    return folder


def copy_agent(process: Process, path: str, mode: int = 0o755) -> str:
    """Make a file with the agent, and give its path."""
    target = process.target
    return process.make_file(path, target.observer.read(target.agent_path.decode()), mode)


def agent_of_owner(process: Process, folder: str, mode: int = 0o4755) -> str:
    """Copy the agent as user OWNER and group OWNING_GROUP, who set the mode; gives its path."""
    owner = process.fork("owner")
    owner.sys.setgroups([])
    owner.sys.setresgid(OWNING_GROUP, OWNING_GROUP, OWNING_GROUP)
    owner.sys.setresuid(OWNER, OWNER, OWNER)
    path = copy_agent(owner, f"{folder}/agent", mode)
    owner.exit()
    return path


def agent_with_capabilities(process: Process, folder: str, given: bytes) -> str:
    """Copy the agent as a file with these capabilities, as `file_capabilities` has them; gives its path."""
    path = copy_agent(process, f"{folder}/agent")
    process.sys.setxattr(path, "security.capability", given, len(given), 0)
    return path


def becomes_user(process: Process) -> Process:
    """Give up all privilege, for user USER and group GROUP, and be traceable all the same."""
    process.sys.setgroups([])
    process.sys.setresgid(GROUP, GROUP, GROUP)
    process.sys.setresuid(USER, USER, USER)
    process.sys.prctl(PR_SET_DUMPABLE, 1)
    return process
