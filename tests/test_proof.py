"""--procsem-prove finds the checks that can't fail, on real processes of this machine."""

from __future__ import annotations

from collections.abc import Callable
from xml.etree import ElementTree

import pytest

from pytest_procsemantics.report.matrix import Telling, lines
from pytest_procsemantics.requirements.marker import why_not_here

Run = Callable[..., pytest.RunResult]

needs_driving = pytest.mark.skipif(
    why_not_here() is not None, reason=f"needs a local agent: {why_not_here()}"
)

# A target fixture as any project may write it; `procsem` is the plugin's own.
CONFTEST = """
import pytest
from pytest_procsemantics.driven import Target
from pytest_procsemantics.lies import told

@pytest.fixture(scope="session")
def running_target():
    with Target.open() as target:
        yield target

@pytest.fixture
def target(running_target, told_lie):
    with running_target.test() as target, told(told_lie, target):
        yield target

@pytest.fixture
def untold(running_target):
    with running_target.test() as target:
        yield target
"""

HEAD = """
import pytest
from pytest_procsemantics.clauses import clause
from pytest_procsemantics.driven.constants import CLONE_FS, CLONE_VM, SIGCHLD
from pytest_procsemantics.driven.errors import Unsupported
from pytest_procsemantics.lies import before_call, drops, in_child, instead, leaves_out, lie

SHARES_MEMORY = instead("fork", CLONE_VM | SIGCHLD)
IS_COPIED = clause("fork.2/memory-is-copied")
"""

GOOD = """
@IS_COPIED
@lie(SHARES_MEMORY)
def test_good(target):
    parent = target.new_process()
    cell = parent.allocate(8)
    parent.store(cell, 1)
    parent.fork().store(cell, 2)
    assert parent.load(cell) == 1

@IS_COPIED
@lie(SHARES_MEMORY)
def test_good_by_the_plugins_fixture(procsem):
    test_good(procsem)
"""

BAD = """
@IS_COPIED
@lie(SHARES_MEMORY)
def test_without_its_assertion(target):
    parent = target.new_process()
    cell = parent.allocate(8)
    parent.store(cell, 1)
    parent.fork().store(cell, 2)
    parent.load(cell)

@IS_COPIED
@lie(SHARES_MEMORY, in_child("a child has another umask", lambda child: child.sys.umask(0)))
def test_of_a_thing_with_itself(target):
    child = target.new_process().fork()
    assert child.sys.getppid() == child.sys.getppid()

@IS_COPIED
@lie(in_child("the driver fails", lambda child: [][0]))
def test_whose_lie_breaks_the_driver(target):
    target.new_process().fork()

@IS_COPIED
@lie(before_call("getpid", "the caller has closed 99", lambda process: process.sys.close(99)))
def test_whose_lie_fails_by_itself(target):
    target.new_process().sys.getpid()

@IS_COPIED
@lie(drops(CLONE_FS))
def test_whose_lie_is_never_told(target):
    target.new_process().fork()

@IS_COPIED
@lie(leaves_out("umask"))
def test_that_deviates_without_its_lie(target):
    assert target.new_process().sys.getpid() == 0

@pytest.fixture
def child(target):
    parent = target.new_process()
    assert parent.sys.getpid() == parent.fork().sys.getppid()

@IS_COPIED
@lie(in_child("the child is an orphan", lambda child: child.parent.exit()))
def test_whose_fixture_notices(child): pass

@IS_COPIED
def test_without_a_lie(target): pass

@IS_COPIED
@pytest.mark.skip("lacks something here")
def test_unsupported_and_without_a_lie(target): pass

@IS_COPIED
@lie(SHARES_MEMORY)
def test_that_no_fixture_tells(untold): pass

@IS_COPIED
@pytest.mark.parametrize("case", [pytest.param(1, marks=lie(drops(CLONE_FS)))])
def test_with_a_lie_of_one_case(target, case): pass

@IS_COPIED
@lie(SHARES_MEMORY)
def test_that_is_unsupported_here(target): raise Unsupported("something")

def test_plain(target): pass
"""


@needs_driving
def test_the_proof_names_each_check_that_cant_fail(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_it=HEAD + GOOD + BAD)
    result = run("--procsem-prove", "--junitxml=out.xml")
    assert result.ret == 1
    found = named(result)
    assert found == {
        "not noticed": {
            "test_without_its_assertion",
            "test_of_a_thing_with_itself",
        },
        "never told, so not noticed": {
            "test_whose_lie_is_never_told",
            "test_that_deviates_without_its_lie",
        },
        "broken, so not noticed": {
            "test_whose_lie_breaks_the_driver",
            "test_whose_lie_fails_by_itself",
            "test_whose_fixture_notices",
        },
        "noticed by nothing": {
            "a child has another umask",
            "the driver fails",
            "the caller has closed 99",
            "drops CLONE_FS",
            "umask does nothing",
            "the child is an orphan",
        },
        "unproved": {
            "test_without_a_lie",
            "test_unsupported_and_without_a_lie",
            "test_that_no_fixture_tells",
            "test_with_a_lie_of_one_case",
        },
    }
    result.stdout.fnmatch_lines(
        [
            "  lie * checks  noticed  unsupported",
            "  a child has another umask *1        0            0",
            "  fork is clone(CLONE_VM|SIGCHLD) *5        2            1",
            "  total *11        2            1",
            "noticed: 2 by an assertion",
        ]
    )
    for why in (
        "it has no lie: nothing shows that it can fail; next: @lie(...)",
        "it can't be told its lies; next: take told_lie in the fixture that gives the target",
        "it can't be told 'drops CLONE_FS': a lie of one case; next: @lie(...) on the function",
    ):
        result.stdout.fnmatch_lines([f"  because  {why}"])
    # Whatever the proof names is red, and so is what deviates by itself.
    checks = {name for names in found.values() for name in names if name.startswith("test_")}
    assert failures(pytester, "out.xml") == checks


NOTICING = """
import errno
from pytest_procsemantics.lies import before_call, leaves_out

@IS_COPIED
@lie(before_call("write", "a closed descriptor", lambda process: process.sys.close(0)))
def test_by_an_errno(target):
    target.new_process().sys.write(0, b"x")

@IS_COPIED
@lie(in_child("the child has ended", lambda child: child.exit()))
def test_by_an_end(target):
    target.new_process().fork().sys.getpid()

@IS_COPIED
@lie(leaves_out("exit_group", hangs=True))
def test_by_a_wait(target):
    target.new_process().exit()
"""


@needs_driving
def test_the_proof_counts_what_noticed(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_it=HEAD + GOOD + NOTICING)
    result = run("--procsem-prove")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "noticed: 2 by an assertion, 1 by an errno, 1 by the end of a process,"
            " 1 by a wait that ran out"
        ]
    )


@needs_driving
def test_checks_that_can_fail_are_green(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_it=HEAD + GOOD)
    result = run("--procsem-prove")
    assert result.ret == 0
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(
        ["*proof that checks can fail*", "  fork is clone(CLONE_VM|SIGCHLD) *2        2*"]
    )
    assert named(result) == {}


KNOWN = """
@IS_COPIED
def test_known(target):
    assert target.new_process() is None
"""
BASELINE = """
[[deviation]]
clause = "fork.2/memory-is-copied"
checks = ["test_known"]
seen = "no process"
reason = "so it is here"
"""


@needs_driving
def test_a_known_deviation_of_one_check_needs_no_lie(run: Run, pytester: pytest.Pytester) -> None:
    """The others of the same clause need theirs."""
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_it=HEAD + GOOD + KNOWN)
    baseline = pytester.makefile(".toml", baseline=BASELINE)
    result = run("--procsem-prove", f"--procsem-baseline={baseline}")
    assert result.ret == 0
    result.assert_outcomes(passed=4, xfailed=1)
    assert named(result) == {}


OLD_KERNEL = """
from pytest_procsemantics import stash

@pytest.fixture
def old(target, pytestconfig):
    pytestconfig.stash[stash.FACTS] = {"release": "4.4.0"}
    return target

@clause("clone.2/clear-sighand-leaves-caller")
@lie(SHARES_MEMORY)
def test_of_a_younger_clause(old):
    assert old.new_process().fork().sys.getppid() == 0
"""


@needs_driving
def test_a_deviation_of_an_old_kernel_is_no_notice(run: Run, pytester: pytest.Pytester) -> None:
    """The truth, which deviates here as well, is excused by the version that the target declares."""
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_it=HEAD + OLD_KERNEL)
    result = run("--procsem-prove")
    assert result.ret == 0
    result.assert_outcomes(skipped=2)
    result.stdout.fnmatch_lines(["  fork is clone(CLONE_VM|SIGCHLD) *1        0            1"])


DEVIATES_IN_A_CASE = """
@pytest.mark.parametrize("value", [1, 2], ids=["one", "two"])
@IS_COPIED
@lie(SHARES_MEMORY)
def test_of_cases(target, value):
    parent = target.new_process()
    cell = parent.allocate(8)
    parent.store(cell, 1)
    parent.fork().store(cell, 3)
    assert parent.load(cell) == value
"""

KNOWN_IN_A_CASE = """
[[deviation]]
clause = "fork.2/memory-is-copied"
checks = ["test_of_cases[two]"]
seen = "it is 1"
reason = "a test of the plugin"
"""


@needs_driving
def test_a_deviation_that_is_known_of_one_case_is_known_to_the_proof(
    run: Run, pytester: pytest.Pytester
) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makefile(".toml", known=KNOWN_IN_A_CASE)
    pytester.makepyfile(HEAD + DEVIATES_IN_A_CASE)
    result = run("--procsem-prove", "--procsem-baseline=known.toml")
    assert result.ret == 0
    result.assert_outcomes(passed=3, xfailed=1)


def test_a_lie_that_never_ended_was_not_noticed() -> None:
    shown = list(lines([Telling("test_it.py::test_crash[lie: x]", "x")], {}))
    assert "did not end, so not noticed: test_it.py::test_crash[lie: x]" in shown
    long = Telling("test", "lie " * 99, noticed="yes")
    assert max(map(len, lines([long], {}))) <= 100


def failures(pytester: pytest.Pytester, file: str) -> set[str]:
    """The functions with a failed test."""
    return {
        case.attrib["name"].partition("[")[0]
        for case in ElementTree.parse(pytester.path / file).iter("testcase")
        if case.find("failure") is not None or case.find("error") is not None
    }


def named(result: pytest.RunResult) -> dict[str, set[str]]:
    """What the proof names below its table: functions or lies, by what is said of them."""
    begin = next(n for n, line in enumerate(result.outlines) if "proof that checks" in line)
    found: dict[str, set[str]] = {}
    for line in result.outlines[begin:]:
        what, colon, name = line.partition(": ")
        if colon and not line.startswith((" ", "FAILED", "ERROR", "=", "noticed: ")):
            name = name.rpartition("::")[2].partition("[")[0] if "::" in name else name
            found.setdefault(what, set()).add(name)
    return found
