"""What a target offers: each word with a true and an untrue outcome, and how it is tried."""

from __future__ import annotations

import dataclasses
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_procsemantics import catalogue, requirements
from pytest_procsemantics.catalogue.vocabulary import (
    NAMESPACES,
    PLAIN_REQUIREMENTS,
    REQUIREMENTS_WITH_ARGUMENT,
    UnknownRequirement,
)
from pytest_procsemantics.driven import Process, Target
from pytest_procsemantics.driven.constants import (
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    SIGCHLD,
    SIGKILL,
)
from pytest_procsemantics.driven.constants.calls import NUMBERS
from pytest_procsemantics.driven.errors import TargetLost, Unsupported
from pytest_procsemantics.requirements import (
    find_tool,
    missing,
    namespace_flags,
    require,
    tried,
)
from pytest_procsemantics.requirements.probes import PROBES

IS_ROOT = os.geteuid() == 0
MACHINE = platform.machine()
ORDINARY = "exec:setpriv --reuid=65534 --regid=65534 --clear-groups" if IS_ROOT else "local"
LONE_ROOT = "exec:unshare --user --map-root-user"
WITHOUT_CALLS = ("getpmsg", "query_module", "vserver")  # of other kernels, or of long ago


@pytest.fixture(scope="module")
def local() -> Iterator[Target]:
    """This machine."""
    with Target.open() as target:
        yield target


@pytest.fixture(scope="module")
def ordinary() -> Iterator[Target]:
    """This machine, for a user without capabilities."""
    with Target.open(ORDINARY) as target:
        yield target


@pytest.fixture
def start(local: Target) -> Iterator[Callable[[str], Target]]:
    """Other ways to start the agent; those with a user namespace where one can be made."""
    targets = []

    def open_target(spec: str) -> Target:
        if "--user" in spec and (lacking := missing(local, ["userns", "ns:pid", "ns:mnt"])):
            pytest.skip(f"needs {' and '.join(lacking)}")
        targets.append(Target(spec))
        return targets[-1]

    yield open_target
    for target in targets:
        target.close()


def offers(target: Target, *words: str) -> bool:
    """Whether the target has all of the words, or none of them."""
    lacking = missing(target, words)
    assert len(lacking) in (0, len(words)), lacking
    return not lacking


# --- each word, true and untrue ---


def test_every_word_of_the_vocabulary_has_an_act() -> None:
    kinds = {kind.rstrip(":>=") for kind in REQUIREMENTS_WITH_ARGUMENT}
    assert set(PROBES) == kinds | set(PLAIN_REQUIREMENTS)


def test_an_ordinary_user_lacks_root_and_capabilities(ordinary: Target) -> None:
    lacking = missing(ordinary, ["root", "cap:SYS_ADMIN", "arch:" + MACHINE, "cap:KILL"])
    user = 65534 if IS_ROOT else os.geteuid()
    assert lacking == [
        f"root (user id {user})",
        "cap:SYS_ADMIN (not in the effective set)",
        "cap:KILL (not in the effective set)",
    ]


def test_root_in_a_user_namespace_has_root_and_capabilities(
    start: Callable[[str], Target],
) -> None:
    assert offers(start(LONE_ROOT), "root", "cap:SYS_ADMIN", "cap:SYS_CHROOT", "cap:SETPCAP")


def test_a_capability_that_permits_nothing_is_missing(start: Callable[[str], Target]) -> None:
    """A user namespace that maps one id has no other to change to."""
    assert missing(start(LONE_ROOT), ["cap:SETUID", "cap:SETGID", "cap:CHOWN"]) == [
        "cap:SETUID (setresuid: EINVAL)",
        "cap:SETGID (setresgid: EINVAL)",
        "cap:CHOWN (fchown: EINVAL)",
    ]


@pytest.mark.skipif(not IS_ROOT, reason="drops a capability that only root has")
def test_a_capability_that_was_dropped_is_missing(start: Callable[[str], Target]) -> None:
    target = start("exec:setpriv --bounding-set=-sys_chroot")
    assert missing(target, ["root", "cap:SYS_CHROOT"]) == [
        "cap:SYS_CHROOT (not in the effective set)"
    ]


def test_every_target_can_be_without_privilege(local: Target, ordinary: Target) -> None:
    assert offers(local, "unprivileged")
    assert offers(ordinary, "unprivileged")


def test_namespaces_can_be_made_by_any_user(local: Target, ordinary: Target) -> None:
    if missing(ordinary, ["userns"]):
        pytest.skip("user namespaces are refused here")
    for kind in NAMESPACES:
        # A kernel may lack a kind, but then for both.
        assert offers(local, f"ns:{kind}") == offers(ordinary, f"ns:{kind}")


def test_namespaces_that_the_kernel_refuses_are_missing(start: Callable[[str], Target]) -> None:
    script = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$0" "$@"'
    target = start(f"{LONE_ROOT} sh -c '{script}'")
    assert missing(target, ["userns"]) == ["userns (clone: ENOSPC)"]


def test_a_version_hides_nothing(local: Target) -> None:
    assert missing(local, ["kernel>=99.0"]) == []


def test_the_machine_is_the_agents(local: Target) -> None:
    assert missing(local, [f"arch:{MACHINE}"]) == []
    assert missing(local, ["arch:s390x"]) == [f"arch:s390x (is {MACHINE})"]


def test_calls_are_there_or_not(local: Target, ordinary: Target) -> None:
    old = sorted({"kill", "clone", "fork", "pause", "sync", "read", "acct"} & set(NUMBERS[MACHINE]))
    for target in (local, ordinary):
        assert offers(target, *(f"syscall:{name}" for name in old))
        assert offers(target, "syscall:futex", "syscall:setsid", "syscall:reboot", "syscall:exit")
    assert missing(local, ["syscall:frobnicate"]) == [
        f"syscall:frobnicate (no such call on {MACHINE})"
    ]


@pytest.mark.skipif(MACHINE != "x86_64", reason="other machines have no numbers for lost calls")
def test_a_call_that_the_kernel_lost_is_missing(local: Target) -> None:
    assert missing(local, [f"syscall:{name}" for name in WITHOUT_CALLS]) == [
        f"syscall:{name} (ENOSYS)" for name in WITHOUT_CALLS
    ]


def test_trying_every_call_harms_nobody(local: Target, ordinary: Target) -> None:
    """No object of System V IPC, no process and no lost target comes of it."""
    words = [f"syscall:{name}" for name in NUMBERS[MACHINE]]
    objects = _ipc_objects()
    for target in (local, ordinary):
        target.start()
        link = target.link
        reasons = tried(target, words)
        denials = {reason for reason in reasons.values() if reason and "tried it" not in reason}
        assert denials <= {"ENOSYS", "EPERM", "ENOSPC", "EOPNOTSUPP"}
        assert target.link is link
        with target.test():
            assert target.new_process().fork().sys.getppid()
    assert _ipc_objects() == objects


def _ipc_objects() -> list[str]:
    folder = Path("/proc/sysvipc")
    # The first columns are key and id; the rest changes with use.
    return [
        " ".join(line.split()[:2])
        for kind in ("msg", "sem", "shm")
        if (folder / kind).exists()
        for line in (folder / kind).read_text().splitlines()
    ]


def test_a_library_is_the_one_that_a_program_was_linked_to(local: Target) -> None:
    found = [name for name in ("glibc", "musl") if offers(local, name)]
    assert len(found) == offers(local, "libc")


def test_a_library_is_missing_behind_another_root(
    start: Callable[[str], Target], tmp_path: Path
) -> None:
    """A root with nothing in it but the agent."""
    mounts = f'mkdir {tmp_path}/agent && mount --bind "${{0%/*}}" {tmp_path}/agent'
    # An ordinary user's PATH may lack the folder of chroot.
    script = f'PATH="$PATH:/usr/sbin:/sbin"; {mounts} && exec chroot {tmp_path} /agent/agent "$@"'
    target = start(f"exec:unshare --user --map-root-user --mount sh -c '{script}'")
    assert missing(target, ["libc"]) == ["libc (execve for the helper program: ENOENT)"]
    assert missing(target, ["tool:sh"])[0].startswith("tool:sh (not in /usr/local/sbin:")


def test_a_file_system_is_there_if_it_is_mounted(local: Target) -> None:
    known = {line.split("\t")[-1] for line in _lines("/proc/filesystems")}
    mounted = {line.split(" ")[2] for line in _lines("/proc/self/mounts")}
    assert missing(local, ["fs:proc"]) == []
    assert missing(local, ["fs:nonesuch"]) == ["fs:nonesuch (not in /proc/filesystems)"]
    for name in sorted(known - mounted)[:1]:
        assert missing(local, [f"fs:{name}"]) == [f"fs:{name} (not mounted)"]


def test_system_settings_and_programs_are_files(local: Target) -> None:
    words = ["sysctl:kernel/pid_max", "sysctl:kernel/frobnicate", "tool:sh", "tool:frobnicate"]
    setting, tool = missing(local, words)
    assert setting == "sysctl:kernel/frobnicate (/proc/sys/kernel/frobnicate: ENOENT)"
    assert tool.startswith("tool:frobnicate (not in /usr/local/sbin:")


def test_a_program_is_found_with_its_path(local: Target) -> None:
    with local.test():
        process = local.new_process()
        path = find_tool(process, "sh")
        assert path is not None
        assert os.access(path, os.X_OK)
        assert find_tool(process, "frobnicate") is None


def test_options_agree_with_the_kernels_configuration(local: Target) -> None:
    """What is tried by an act, against what the configuration says, where it can be read."""
    content = requirements.options._configuration
    with local.test():
        try:
            _, text = content(local.new_process())
        except requirements.common.Lacking:
            pytest.skip("this kernel doesn't show its configuration")
    on = {line.split(b"=")[0].decode() for line in text.splitlines() if b"=" in line}
    # These also need hardware, or a switch at boot.
    by_act = requirements.options.ACTS.keys() - {"SCHED_CORE", "X86_USER_SHADOW_STACK"}
    reasons = tried(local, [f"config:{name}" for name in sorted(by_act)])
    assert {name for name in by_act if not reasons[f"config:{name}"]} == {
        name for name in by_act if f"CONFIG_{name}" in on
    }
    assert offers(local, "config:PROC_FS")
    assert not offers(local, "config:FROBNICATE")


def test_swap_processors_and_huge_pages_are_as_the_machine_says(local: Target) -> None:
    assert offers(local, "swap") == (len(_lines("/proc/swaps")) > 1)
    assert offers(local, "smp") == (len(_allowed()) > 1)
    switch = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    assert offers(local, "thp") == (switch.exists() and "[never]" not in switch.read_text())


def _allowed() -> set[int]:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, range(1024))
        return os.sched_getaffinity(0)
    finally:
        os.sched_setaffinity(0, before)


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


def test_the_answers_come_from_files_of_the_target(
    start: Callable[[str], Target], without_proc: str
) -> None:
    words = ["fs:proc", "sysctl:kernel/pid_max", "config:SMP", "config:TASK_IO_ACCOUNTING"]
    assert missing(start(without_proc), words) == [
        "fs:proc (/proc (not mounted))",
        "sysctl:kernel/pid_max (/proc (not mounted))",
        "config:SMP (not known)",
        "config:TASK_IO_ACCOUNTING (/proc (not mounted))",
    ]


# --- how they are tried ---


def probe_with(monkeypatch: pytest.MonkeyPatch, act: Callable[[Process], Any]) -> list[Process]:
    """Try tool:sh by another act, and note on whom."""
    tried_on: list[Process] = []

    def probe(process: Process, _: str) -> Any:
        tried_on.append(process)
        return act(process)

    monkeypatch.setitem(PROBES, "tool", probe)
    return tried_on


def test_a_word_is_tried_once_for_each_start(
    start: Callable[[str], Target], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = start("local")
    tried_on = probe_with(monkeypatch, lambda process: None)
    assert missing(target, ["tool:sh", "tool:sh"]) == missing(target, ["tool:sh"]) == []
    assert len(tried_on) == 1
    target.link.kill()
    assert missing(target, ["tool:sh"]) == []
    assert len(tried_on) == 2


def test_a_reason_is_one_short_line(local: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    probe_with(monkeypatch, lambda process: "\x1b[2J" * 1000)
    (reason,) = missing(local, ["tool:long"])
    assert reason.isprintable()
    assert len(reason) < 200


def test_a_process_that_the_act_ends_is_a_reason(
    local: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(process: Process) -> None:
        process.sys.kill(process.own_pid, SIGKILL)

    probe_with(monkeypatch, die)
    assert missing(local, ["tool:fatal"]) == [
        "tool:fatal (the process that tried it: killed by SIGKILL)"
    ]


def test_an_act_that_hangs_is_a_reason(
    start: Callable[[str], Target], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = start("local")
    target.timeout = 0.2
    # A read from the empty end of a pipe whose other end it holds itself.
    probe_with(monkeypatch, lambda process: process.sys.read(process.sys.pipe()[0], 1))
    assert missing(target, ["tool:slow"]) == ["tool:slow (no answer within 0.2 s)"]
    assert missing(target, ["syscall:getpid"]) == []


def test_a_target_that_is_lost_is_no_reason(
    start: Callable[[str], Target], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = start("local")
    probe_with(monkeypatch, lambda process: process.sys.kill(target.greeting.hub_pid, SIGKILL))
    with pytest.raises(TargetLost):
        missing(target, ["tool:deadly"])
    assert missing(target, ["syscall:getpid"]) == []


def test_a_check_finds_nothing_of_what_was_tried(start: Callable[[str], Target]) -> None:
    target = start("local")
    with target.test():
        transcript = target.transcript
        target.facts()  # makes the observer
        assert missing(target, ["ns:pid", "cap:SETUID", "tool:sh"]) is not None
        assert (target.transcript, target.processes) == (transcript, {})
        parent = target.new_process()
        assert parent.slot == 1
        with pytest.raises(ValueError, match="before a test makes a process"):
            missing(target, ["tool:frobnicate"])
        assert parent.sys.getpid() == parent.own_pid


def test_a_check_goes_on_only_with_all_that_its_clauses_require(local: Target) -> None:
    modest = catalogue.clause("fork.2/memory-is-copied")
    assert modest.requires == ()
    require(local, [modest])
    one = dataclasses.replace(modest, requires=("tool:sh", "fs:nonesuch"))
    other = dataclasses.replace(modest, requires=("arch:s390x", "fs:nonesuch"))
    with pytest.raises(Unsupported, match=r"^needs fs:nonesuch \(.*\) and arch:s390x") as failure:
        require(local, [one, other])
    assert [text.split()[0] for text in failure.value.missing] == ["fs:nonesuch", "arch:s390x"]


def test_an_unknown_word_is_refused(local: Target) -> None:
    with pytest.raises(UnknownRequirement, match="nearest: cap:SYS_ADMIN"):
        missing(local, ["cap:SYS_ADMINS"])


def test_a_user_namespace_is_added_only_where_it_is_needed(local: Target, ordinary: Target) -> None:
    for target, is_privileged in ((local, IS_ROOT), (ordinary, False)):
        if missing(target, ["userns", "ns:uts"]):
            continue
        with target.test():
            parent = target.new_process()
            flags = namespace_flags(parent, CLONE_NEWUTS)
            assert flags == CLONE_NEWUTS | (0 if is_privileged else CLONE_NEWUSER)
            parent.clone(flags | SIGCHLD).sys.sethostname(b"elsewhere")


WORDS = [
    "root",
    "cap:SETUID",
    "userns",
    "unprivileged",
    "ns:pid",
    "ns:time",
    "kernel>=6.0",
    "libc",
    "swap",
    "smp",
    "thp",
    "fs:proc",
    "fs:cgroup2",
    "config:SYSVIPC",
    "config:KSM",
    "config:VETH",
    "sysctl:kernel/pid_max",
    "tool:sh",
    "syscall:clone3",
    "syscall:kcmp",
    "syscall:pidfd_open",
    "syscall:keyctl",
    "syscall:mq_open",
]


@pytest.mark.parametrize(
    "command",
    ["qemu-x86_64-static", "proot", "runsc --platform=ptrace --network=none do"],
    ids=lambda command: command.split()[0],
)
def test_other_targets_survive_it(command: str, start: Callable[[str], Target]) -> None:
    program = command.split()[0]
    if shutil.which(program) is None:
        pytest.skip(f"needs {program}")
    if program == "runsc" and not IS_ROOT:
        pytest.skip("runsc makes control groups, as root alone may")
    target = start(f"exec:{command}")
    reasons = tried(target, WORDS)
    assert set(reasons) == set(WORDS)
    assert reasons["tool:sh"] is reasons["fs:proc"] is reasons["kernel>=6.0"] is None
    with target.test():
        assert target.new_process().fork().sys.getppid()


def test_every_word_stands_in_the_reference() -> None:
    words = (Path(__file__).parent.parent / "docs/reference/requirements.md").read_text()
    for word in (*PLAIN_REQUIREMENTS, *REQUIREMENTS_WITH_ARGUMENT):
        assert f"| `{word}" in words
    for name in requirements.options.ACTS:
        assert f"| `{name}` |" in words
