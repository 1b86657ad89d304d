"""Targets that die, hang, lie about lengths or speak nonsense: one message, little memory, and the next test works.

Each is a fake of fake_hub.py that misbehaves in its first run only.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_procsemantics.driven import (
    CallFailed,
    Ended,
    Overdue,
    StartFailed,
    Target,
    TargetLost,
    wire,
)
from pytest_procsemantics.native import build

pytestmark = pytest.mark.skipif(
    not build.supported(), reason=f"no agent for {sys.platform} {build.host()}"
)

FAKE = Path(__file__).with_name("fake_hub.py")
SHORT = 0.4  # seconds: what is waited for never comes
START = 1.5  # seconds: the same, of a fake that must have begun by then
PATIENT = 30.0  # seconds: what is waited for does come
MEMORY = 48 << 20  # bytes: the most that a target may make us hold, and some room

Make = Callable[..., Target]


@pytest.fixture
def fake(tmp_path: Path, request: pytest.FixtureRequest) -> Make:
    """Make a target whose first run is the named fake, and all others the true agent."""

    def make(name: str, timeout: float = PATIENT) -> Target:
        words = [sys.executable, "-S", FAKE, Path(wire.__file__).parent, name, tmp_path / "marker"]
        target = Target(f"exec:{shlex.join(map(str, words))}", timeout)
        request.addfinalizer(target.close)
        return target

    return make


def works(target: Target) -> None:
    """One test on a target that is a good one by now."""
    target.timeout = PATIENT
    with target.test():
        process = target.new_process()
        assert process.sys.getpid() == process.own_pid


def fill(target: Target) -> None:
    """Send more than any pipe holds."""
    for _ in range(256):
        target.send(bytes(1 << 14))


def forget_peak() -> int:
    """Begin to measure the peak of this process's memory; gives the present size."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


def peak() -> int:
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) << 10 for line in status.splitlines() if "VmHWM" in line)


@pytest.mark.parametrize(
    ("name", "message", "evidence"),
    [
        ("exits", "the agent's stream ended", "no such sandbox today"),
        ("banner_only", "no greeting of the agent within 1.5 s", "Welcome to the sandbox"),
        ("noise", "no greeting of the agent in the first 64 KiB", "Lorem ipsum"),
        (
            "other_protocol",
            "the agent speaks protocol 999, this driver 1: build the agent anew",
            " other_protocol ",
        ),
        (
            "stops_in_greeting",
            "no whole greeting of the agent within 1.5 s",
            r"bytes: b'\x00\x00\x00\x00",
        ),
        ("dies_in_greeting", "the agent's stream ended", "panic: out of memory"),
        ("greets_with_another_frame", "the agent's first frame is no greeting", "command: "),
        (
            "lacks_a_call",
            "the agent can't work there: call number 53 on x86_64 gave errno 38",
            "command: ",
        ),
        (
            "lacks_a_call_of_a_strange_errno",
            f"the agent can't work there: call number 53 on x86_64 gave errno {1 << 62}",
            "command: ",
        ),
        (
            "greets_with_4_gib",
            "noise after the greeting: channel 0, 4294967295 bytes claimed (at most 65536)",
            r"\xff\xff\xff\xff",
        ),
        (
            "floods_errors_and_never_greets",
            "no greeting of the agent within 1.5 s",
            "standard error: ",
        ),
        ("deaf", "no greeting of the agent within 1.5 s", " deaf "),
    ],
)
def test_a_target_that_does_not_start(fake: Make, name: str, message: str, evidence: str) -> None:
    target = fake(name, START if "within" in message else PATIENT)
    before = forget_peak()
    with pytest.raises(StartFailed) as caught, target.test():
        pytest.fail("started")
    assert caught.value.args[0] == message
    assert evidence in caught.value.evidence
    assert len(caught.value.evidence) < 32768
    assert peak() - before < MEMORY
    works(target)


@pytest.mark.parametrize(
    ("name", "message", "evidence"),
    [
        (
            "stops_in_a_frame",
            "the hub did not answer PING within 0.4 s",
            r"bytes: b'\x01\x00\x00\x00t",
        ),
        (
            "claims_4_gib",
            "noise after the greeting: channel 1, 4294967295 bytes claimed (at most 65536)",
            r"bytes: b'\x01\x00\x00\x00\xff\xff\xff\xff",
        ),
        (
            "claims_too_little",
            "noise after the greeting: channel 1, 4 bytes claimed (at most 65536)",
            "bytes: ",
        ),
        (
            "names_a_channel_beyond_all",
            "noise after the greeting: channel 4096, 16 bytes claimed (at most 65536)",
            "bytes: ",
        ),
        (
            "talks",
            "noise after the greeting: channel 1835492691, 1635020389 bytes claimed"
            " (at most 65536)",
            "Segmentation fault (core dumped)",
        ),
        ("unknown_kind", "a frame of unknown kind 77 on channel 0", "command: "),
        ("unknown_kind_of_a_process", "a frame of unknown kind 77 on channel 1", "command: "),
        ("unknown_slot", "an answer that nobody asked for: slot 2, step 1, 0", "parent 1001"),
        ("unknown_serial", "an answer that nobody asked for: slot 1, step 2, 0", "parent 1001"),
        ("answers_twice", "an answer that nobody asked for: slot 1, step 1, 1", "parent 1001"),
        ("hello_twice", "a first word that nobody expects: slot 1, kind 2", "parent 1001"),
        ("hello_of_nobody", "a first word that nobody expects: slot 2, kind 2", "parent 1001"),
        ("hello_of_another_size", "a first word that nobody expects: slot 1, kind 2", "parent"),
        ("image_that_nobody_asked_for", "a new image of parent 1001 that nobody asked for", ""),
        ("hangs", "the hub did not answer PING within 0.4 s", "the sandbox has met a problem"),
        ("dies", "the agent's stream ended", "Killed by the machine"),
        ("closes_its_output", "the agent's stream ended", " closes_its_output "),
        ("floods_frames", "an answer that nobody asked for: slot 1, step 2, 0", "parent 1001"),
        ("floods_strays", "more than 1000 packets that no driven process wrote", "parent 1001"),
        ("floods_errors", "the hub did not answer PING within 0.4 s", "standard error: "),
    ],
)
def test_a_target_that_fails_in_a_test(fake: Make, name: str, message: str, evidence: str) -> None:
    target = fake(name)
    before = forget_peak()
    with target.test():
        process = target.new_process()
        target.timeout = SHORT
        with pytest.raises(TargetLost) as caught:
            process.sys.getpid()
    assert caught.value.args[0] == message
    assert evidence in caught.value.evidence
    assert len(caught.value.evidence) < 32768
    assert peak() - before < MEMORY
    works(target)


def test_nothing_works_on_a_lost_target_until_the_next_test(fake: Make) -> None:
    target = fake("dies")
    with target.test():
        process = target.new_process()
        with pytest.raises(TargetLost):
            process.sys.getpid()
        with pytest.raises(TargetLost):
            process.sys.getpid()
        with pytest.raises(TargetLost):
            target.new_process()
    works(target)


def test_a_target_that_takes_nothing(fake: Make) -> None:
    target = fake("hangs", START)
    with target.test():
        process = target.new_process()
        process.post.sys.getpid()
        with pytest.raises(TargetLost) as caught:
            fill(target)
    assert caught.value.args[0] == "the target took no frame within 1.5 s"
    works(target)


def test_a_target_that_takes_nothing_and_floods(fake: Make) -> None:
    target = fake("takes_nothing_and_floods")
    before = forget_peak()
    with target.test():
        process = target.new_process()
        process.post.sys.getpid()
        with pytest.raises(TargetLost) as caught:
            fill(target)
    message = "the target took no frame and sent more than 32 MiB meanwhile"
    assert caught.value.args[0] == message
    assert peak() - before < 2 * MEMORY  # the pieces, and the whole
    works(target)


def test_a_hub_that_hangs_at_the_end_of_a_test(fake: Make) -> None:
    target = fake("hangs_at_the_end")
    with pytest.raises(TargetLost) as caught, target.test():
        target.new_process().target.timeout = SHORT
    assert caught.value.args[0] == "the hub did not answer END_OF_TEST within 0.4 s"
    works(target)


def wait_for_a_frozen_process(target: Target) -> None:
    """Wait for what can't come, until a driven process sends this process a signal."""
    with target.test():
        parent = target.new_process()
        child = parent.vfork()
        child.post.sys.kill(os.getpid(), signal.SIGUSR1)
        parent.post.sys.getpid().arrives()


def test_an_interrupt_in_a_wait_costs_no_more_than_this_test() -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with Target.open("local", PATIENT) as target:
            with pytest.raises(KeyboardInterrupt):
                wait_for_a_frozen_process(target)
            works(target)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_refused_processes_are_an_errno_and_no_loss(fake: Make) -> None:
    target = fake("refuses_processes")
    for _ in range(2):
        with target.test(), pytest.raises(CallFailed) as caught:
            target.new_process()
        assert caught.value.errno == 11


def test_a_process_that_ends_before_a_test_wants_it(fake: Make) -> None:
    target = fake("loses_processes")
    for _ in range(2):
        with target.test():
            process = target.new_process()
            with pytest.raises(Ended):
                process.sys.getpid()


def test_first_words_without_end_before_a_test(fake: Make) -> None:
    target = fake("greets_before_anybody_asks")
    with pytest.raises(TargetLost) as caught, target.test():
        pass
    assert caught.value.args[0] == "4 words before there was a process"
    works(target)


def test_many_errors_beside_answers_hold_nothing_up(fake: Make) -> None:
    target = fake("speaks_well_beside_many_errors")
    before = forget_peak()
    with target.test():
        process = target.new_process()
        assert [process.sys.getpid() for _ in range(50)] == [42] * 50
    assert peak() - before < MEMORY
    assert len(target.link.evidence()) < 32768


def test_a_wrapper_may_print_a_banner() -> None:
    with Target.open(
        "exec:sh -c 'echo hello; echo complaint >&2; exec {agent}'", PATIENT
    ) as target:
        works(target)


def test_a_program_that_cannot_be_executed_is_named(tmp_path: Path) -> None:
    program = tmp_path / "sandbox"
    program.write_text("#!/no/such/interpreter\n")
    program.chmod(0o755)
    target = Target(f"exec:{program}", PATIENT)
    with pytest.raises(StartFailed) as caught, target.test():
        pytest.fail("started")
    assert f"procsem-keeper: {program}: errno 2" in caught.value.evidence


def test_a_frozen_process_is_overdue_and_no_loss() -> None:
    with Target.open("local", PATIENT) as target, target.test():
        parent = target.new_process()
        child = parent.vfork()
        answer = parent.post.sys.getpid()
        with pytest.raises(Overdue) as caught:
            answer.arrives(SHORT)
        lines = str(caught.value).splitlines()
        assert lines[0] == (
            f"waited 0.4 s for {parent} to answer getpid;"
            " --procsem-timeout=1.2 gives a slow machine more time"
        )
        assert f"  {parent}: state D; last: getpid() = ? (no answer yet)" in lines
        assert f"  {child}: state S; has done nothing yet" in lines
        child.exit(0)
        assert answer.arrives() == parent.pid
