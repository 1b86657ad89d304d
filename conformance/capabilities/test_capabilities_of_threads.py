"""capabilities(7): the sets of a new process or thread, and what a change of user ids does to one's own."""

from __future__ import annotations

from dataclasses import astuple, replace

from pytest_procsemantics import Process, clause
from pytest_procsemantics.alike import Make, by_any_process
from pytest_procsemantics.driven import Observer
from pytest_procsemantics.driven.constants import (
    CAP_CHOWN,
    CAP_SYS_BOOT,
    CLONE_NEWUSER,
    PR_CAPBSET_DROP,
    PR_SET_SECUREBITS,
    SECBIT_NO_SETUID_FIXUP,
)
from pytest_procsemantics.driven.forms import capability
from pytest_procsemantics.lies import by_maker_too, in_child, leaves_out, lie
from pytest_procsemantics.requirements import lose_capabilities, own_namespaces, raise_ambient
from pytest_procsemantics.requirements.programs import USER

SAME = -1  # leaves an id as it is
NET_RAW, CHOWN, SETPCAP = map(capability, ("NET_RAW", "CHOWN", "SETPCAP"))
OF_FILES = (  # what the file-system user id 0 has
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "LINUX_IMMUTABLE",
    "MAC_OVERRIDE",
    "MKNOD",
)
IDS_STAY = leaves_out("setresuid")


def reduce(process: Process) -> None:
    """Have five sets, no two of which are alike, in a user namespace of the process's own."""
    own_namespaces(process, CLONE_NEWUSER, root=True)
    process.sys.prctl(PR_CAPBSET_DROP, CAP_SYS_BOOT)
    lose_capabilities(process, "SYS_ADMIN")
    raise_ambient(process, "NET_RAW")
    has = process.sys.capget()
    process.sys.capset(NET_RAW | SETPCAP, has.permitted, NET_RAW | CHOWN)


def drop_bounding(process: Process) -> None:
    """Have one less in the bounding set."""
    process.sys.prctl(PR_CAPBSET_DROP, CAP_CHOWN)


# --- new processes and threads ---


@by_any_process("capabilities.7/fork-copies-all-sets")
@lie(
    in_child("it has none", lambda child: child.sys.capset(0, 0, 0)),
    in_child("it has another bounding set", drop_bounding),
)
def test_a_child_has_copies_of_all_sets(parent: Process, observer: Observer, make: Make) -> None:
    reduce(parent)
    before = observer.capabilities(parent)
    assert observer.capabilities(make(parent)) == before
    assert len(set(astuple(before))) == 5


@clause("capabilities.7/new-thread-copies-sets")
@lie(in_child("it has none", lambda child: child.sys.capset(0, 0, 0)))
def test_a_thread_has_copies_of_its_makers_sets(parent: Process, observer: Observer) -> None:
    reduce(parent)
    assert observer.capabilities(parent.thread()) == observer.capabilities(parent)


@clause("capabilities.7/threads-sets-are-separate")
@lie(by_maker_too("capset"))
def test_a_threads_sets_are_its_own(parent: Process, observer: Observer) -> None:
    own_namespaces(parent, CLONE_NEWUSER)
    before, thread = observer.capabilities(parent), parent.thread()
    thread.sys.capset(0, 0, 0)
    assert observer.capabilities(thread).permitted == 0
    assert observer.capabilities(parent) == before


# --- changes of user ids ---


@clause("capabilities.7/all-ids-nonzero-clears")
@lie(IDS_STAY)
def test_without_any_uid_0_nothing_is_permitted(parent: Process, observer: Observer) -> None:
    raise_ambient(parent, "NET_RAW")
    before = observer.capabilities(parent)
    parent.sys.setresuid(USER, SAME, USER)
    assert observer.capabilities(parent) == before
    parent.sys.setresuid(USER, USER, USER)
    cleared = replace(before, permitted=0, effective=0, ambient=0)
    assert observer.capabilities(parent) == cleared
    assert observer.capabilities(parent.fork()) == cleared


@clause("capabilities.7/effective-to-nonzero-clears-effective")
@lie(IDS_STAY)
def test_without_the_effective_uid_0_nothing_is_effective(
    parent: Process, observer: Observer
) -> None:
    before = observer.capabilities(parent)
    parent.sys.setresuid(SAME, USER, SAME)
    assert observer.capabilities(parent) == replace(before, effective=0)


@clause("capabilities.7/effective-to-zero-restores")
@lie(IDS_STAY)
def test_with_the_effective_uid_0_again_what_is_permitted_is_effective(
    parent: Process, observer: Observer
) -> None:
    has = parent.sys.capget().permitted
    parent.sys.setresuid(SAME, USER, SAME)
    assert observer.capabilities(parent).effective == 0
    parent.sys.setresuid(SAME, 0, SAME)
    assert observer.capabilities(parent).effective == has


@clause("capabilities.7/fsuid-change-masks-file-capabilities")
@lie(leaves_out("setfsuid"))
def test_without_the_file_system_uid_0_what_concerns_files_is_not_effective(
    parent: Process, observer: Observer
) -> None:
    before = observer.capabilities(parent)
    of_files = sum(map(capability, OF_FILES))
    parent.sys.setfsuid(USER)
    assert observer.capabilities(parent) == replace(before, effective=before.effective & ~of_files)
    parent.sys.setfsuid(0)
    assert observer.capabilities(parent) == before


@clause("capabilities.7/no-setuid-fixup-keeps-sets")
@lie(leaves_out("prctl"))
def test_with_no_setuid_fixup_the_sets_stay_until_exec(parent: Process, observer: Observer) -> None:
    before = observer.capabilities(parent)
    parent.sys.prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP)
    parent.sys.setresuid(USER, USER, USER)
    assert observer.capabilities(parent) == before
    parent.execve()
    assert observer.capabilities(parent) == replace(before, permitted=0, effective=0)
