"""Baselines: the format of known deviations, and what counts as known."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_procsemantics import baselines, catalogue
from pytest_procsemantics.baselines import Baseline, BaselineError, KnownDeviation

WITNESSES = Path(__file__).parent.parent / "conformance" / "witnesses"

SOUND = """\
[[deviation]]
clause = "vfork.2/parent-suspended"
seen = "the parent answers while the child runs"
reason = "vfork is made a fork"

[[deviation]]
clause = "vfork.2/stack-is-shared"
seen = "each has its own stack"
reason = "vfork is made a fork"
witness = "vfork/stack.c"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the test's own baseline stands."""
    return tmp_path / "emulator.toml"


def test_a_baseline_knows_its_entries(file: Path) -> None:
    file.write_text(SOUND)
    baseline = Baseline.load(file)
    assert baseline == Baseline.load(str(file))
    assert baseline.source == str(file)
    assert baseline.known("vfork.2/stack-is-shared") == KnownDeviation(
        clauses=("vfork.2/stack-is-shared",),
        seen="each has its own stack",
        reason="vfork is made a fork",
        witness="vfork/stack.c",
    )
    assert baseline.deviations[0].witness is None
    assert baseline.known("fork.2/memory-is-copied") is None


SEVERAL = """\
[[deviation]]
clauses = ["vfork.2/parent-suspended", "vfork.2/stack-is-shared"]
checks = ["test_one", "test_two[x]"]
seen = "something else"
reason = "one cause"
lost = true

[[deviation]]
clause = "vfork.2/stack-is-shared"
checks = ["test_two[y]"]
seen = "another thing"
reason = "another cause"
"""


def test_an_entry_may_be_of_several_clauses_and_of_some_of_their_checks(file: Path) -> None:
    file.write_text(SEVERAL)
    baseline = Baseline.load(file)
    first, second = baseline.deviations
    assert first.clauses == ("vfork.2/parent-suspended", "vfork.2/stack-is-shared")
    assert (first.lost, second.lost) == (True, False)
    for check in ("test_one", "test_one[any]", "test_two[x]"):
        assert {baseline.known(clause, check) for clause in first.clauses} == {first}
    assert baseline.known("vfork.2/stack-is-shared", "test_two[y]") == second
    assert baseline.known("vfork.2/parent-suspended", "test_two[y]") is None
    assert baseline.known("vfork.2/parent-suspended", "test_two") is None
    assert baseline.known("vfork.2/parent-suspended") is None


def test_a_twin_of_an_entry_is_known_too(file: Path) -> None:
    file.write_text(SOUND)
    baseline = Baseline.load(file)
    twins = catalogue.twin_ids("vfork.2/parent-suspended")
    assert twins
    assert {baseline.known(twin) for twin in twins} == {baseline.deviations[0]}


@pytest.mark.parametrize("text", ["", "# nothing is known yet\n"])
def test_a_baseline_may_be_empty(file: Path, text: str) -> None:
    file.write_text(text)
    assert Baseline.load(file).deviations == ()


# What is wrong -> (what stands instead of it, what the message says). One fault gives one message.
FAULTS = {
    "table": ("[[deviation]]", "[[deviations]]", "unknown table 'deviations'; accepted: deviation"),
    "no-list": (SOUND, "deviation = 1", "deviation must be a list of tables: [[deviation]]"),
    "key": ("reason =", "reson =", "parent-suspended: unknown key 'reson'; nearest: reason"),
    "lacks": ('reason = "vfork is made a fork"\n', "", "parent-suspended: lacks reason"),
    "blank": ('"each has its own stack"', '""', "seen must be a text that is not blank"),
    "type": ('"vfork.2/parent-suspended"', "7", "deviation 1: clause must be a text"),
    "order": (
        'seen = "each has its own stack"\nreason = "vfork is made a fork"',
        'reason = "vfork is made a fork"\nseen = "each has its own stack"',
        "the order of keys is clause, seen, reason, witness",
    ),
    "clause": ("vfork.2/stack-is-shared", "vfork.2/stack-shared", "nearest: vfork.2/stack-is-shar"),
    "twice": ("stack-is-shared", "parent-suspended", "parent-suspended: clause stands twice"),
    "twin": (
        "vfork.2/stack-is-shared",
        "tutorial/vfork-parent-frozen-until-exec-or-exit",
        "clause stands twice as its twin vfork.2/parent-suspended",
    ),
    "both": ("seen =", 'clauses = ["vfork.2/errors-like-fork"]\nseen =', "both clause and clauses"),
    "clauses-empty": (
        'clause = "vfork.2/parent-suspended"',
        "clauses = []",
        "deviation 1: clauses must not be empty",
    ),
    "clauses-text": ('clause = "vfork.2/parent', 'clauses = "vfork.2/parent', "a list of texts"),
    "clauses-twice": (
        'clause = "vfork.2/parent-suspended"',
        'clauses = ["vfork.2/parent-suspended", "vfork.2/parent-suspended"]',
        "parent-suspended: clause stands twice",
    ),
    "checks-empty": ("seen =", "checks = []\nseen =", "checks must not be empty"),
    "checks-twice": (
        "seen =",
        'checks = ["test_one", "test_one"]\nseen =',
        "parent-suspended: clause stands twice for test_one",
    ),
    "checks-and-all": (
        SOUND,
        SOUND
        + '[[deviation]]\nclause = "vfork.2/stack-is-shared"\nchecks = ["test_one"]\n'
        + 'seen = "s"\nreason = "r"\n',
        "stack-is-shared: clause stands twice for test_one",
    ),
    "sometimes-type": ("witness =", "sometimes = 1\nwitness =", "sometimes must be true or false"),
    "lost-type": ("witness =", 'lost = "yes"\nwitness =', "lost must be true or false"),
    "witness-absolute": ("vfork/stack.c", "/bin/true", "witness must be a path below"),
    "witness-above": ("vfork/stack.c", "../stack.c", "witness must be a path below"),
    "no-toml": ("[[deviation]]", "[[deviation", "line 1"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_one_message_that_names_file_and_key(file: Path, fault: str) -> None:
    old, new, expected = FAULTS[fault]
    file.write_text(SOUND.replace(old, new, 1))
    with pytest.raises(BaselineError) as caught:
        Baseline.load(file)
    (problem,) = caught.value.problems
    assert problem.startswith(f"{file}: ")
    assert expected in problem
    assert str(caught.value) == problem


def test_several_faults_are_a_line_each(file: Path) -> None:
    file.write_text(SOUND.replace("seen =", "sen ="))
    with pytest.raises(BaselineError) as caught:
        Baseline.load(file)
    assert len(str(caught.value).splitlines()) == 2


def test_a_baseline_that_is_not_there_is_named(file: Path) -> None:
    with pytest.raises(BaselineError, match=r"emulator\.toml: No such file or directory"):
        Baseline.load(file)


def test_a_baseline_that_is_no_text_is_named(file: Path) -> None:
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(BaselineError, match=r"emulator\.toml: .*can't decode"):
        Baseline.load(file)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("linus", "no baseline 'linus'; nearest: linux, or a path.toml"),
        (
            "",
            "no baseline ''; accepted: gvisor, linux, proot, proot-unprivileged, qemu-user, or a path.toml",
        ),
    ],
)
def test_an_unknown_name_names_what_is_accepted(name: str, message: str) -> None:
    with pytest.raises(BaselineError) as caught:
        Baseline.load(name)
    assert str(caught.value) == message


def test_a_baseline_of_the_package_needs_witnesses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "linux.toml").write_text(SOUND)
    monkeypatch.setattr(baselines, "FOLDER", tmp_path)
    (problem,) = baselines.problems_of("linux")
    assert problem.endswith("parent-suspended: lacks witness")


@pytest.mark.parametrize("name", baselines.names())
def test_each_baseline_of_the_package_is_sound_and_confirmed(name: str) -> None:
    assert baselines.problems_of(name) == []
    missing = []
    for entry in Baseline.load(name).deviations:
        assert entry.witness
        program, *arguments = entry.witness.split()
        facts = (WITNESSES / program).read_text()
        missing += [word for word in arguments if f'{{"{word}", ' not in facts]
    assert missing == []


def test_nothing_that_linux_does_is_left_to_chance() -> None:
    assert [entry for entry in Baseline.load("linux").deviations if entry.sometimes] == []


@pytest.mark.parametrize("name", baselines.names())
def test_each_check_of_a_baseline_of_the_package_is_there(name: str) -> None:
    suite = "".join(file.read_text() for file in WITNESSES.parent.rglob("test_*.py"))
    checks = {check for entry in Baseline.load(name).deviations for check in entry.checks}
    assert [one for one in sorted(checks) if f"def {one.partition('[')[0]}(" not in suite] == []
