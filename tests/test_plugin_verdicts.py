"""Each row of the table of verdicts, the exit status of the run, and what leaves the process."""

from __future__ import annotations

from collections.abc import Callable
from xml.etree import ElementTree

import pytest

Run = Callable[..., pytest.RunResult]

TABLE = """
import pytest
from pytest_procsemantics.clauses import clause
from pytest_procsemantics.driven.errors import (
    CallFailed, Deviation, Ended, Overdue, StartFailed, TargetLost,
)

def passes(): pass
def asserts(): assert [1] == [2]
def fails(): pytest.fail("too much left")
def raises_nothing():
    with pytest.raises(OSError): pass
def call_failed(): raise CallFailed(9, "parent", "write")
def ended(): raise Ended("child ended", "child")
def overdue(): raise Overdue("waited 1 s")
def target_lost(): raise TargetLost("silent")
def oserror_of_ours(): open("/no/such/file")
def value_error(): raise ValueError("ours")
def timed_out(): pytest.fail("Timeout (>2.0s) from pytest-timeout.")
def timed_out_before_2_3(): pytest.fail("Timeout >2.0s")
def skips(): pytest.skip("not today")
# The last: pytest does not clean up after a fixture that it ended.
def system_exit(): raise SystemExit(0)

ACTS = [value for value in list(globals().values()) if type(value) is type(passes)]
ACTS.remove(clause)
by_name = pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)

@pytest.fixture
def made(act): act()

@clause("fork.2/memory-is-copied")
@by_name
def test_call(act): act()

@clause("fork.2/memory-is-copied")
@by_name
def test_setup(act, made): pass

@pytest.fixture
def requirement():
    skip = pytest.skip.Exception("needs syscall:clone3 (ENOSYS) and cap:SYS_ADMIN")
    skip.missing = ("syscall:clone3 (ENOSYS)", "cap:SYS_ADMIN")
    raise skip

@clause("fork.2/memory-is-copied")
def test_requirement(requirement): pass

@clause("fork.2/memory-is-copied")
@pytest.mark.skip(reason="by hand")
def test_mark(): pass

def test_plain(): assert 0
"""

VERDICTS = {
    "passes": "conforms",
    "asserts": "deviates",
    "fails": "deviates",
    "raises_nothing": "deviates",
    "call_failed": "deviates",
    "ended": "deviates",
    "overdue": "deviates",
    "target_lost": "broken",
    "oserror_of_ours": "broken",
    "value_error": "broken",
    "timed_out": "broken",
    "timed_out_before_2_3": "broken",
    "system_exit": "broken",
    "skips": "unsupported",
}
# One check for the ways in which a run of several files ends.
CHECKS = {
    "conforms": "assert True",
    "deviates": "assert 1 == 2",
    "unsupported": "pytest.skip('needs userns')",
    "broken": "raise TargetLost('silent')",
}


def test_each_way_to_end_has_its_verdict(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(TABLE)
    result = run("--junitxml=out.xml")
    assert result.ret == 10
    properties = properties_of(pytester)
    for name, verdict in VERDICTS.items():
        for phase in ("call", "setup"):
            found = properties[f"test_{phase}[{name}]"]
            assert (name, phase, found["procsem.verdict"]) == (name, phase, [verdict])
            assert found["procsem.clause"] == ["fork.2/memory-is-copied"]
    assert properties["test_requirement"]["procsem.missing"] == [
        "syscall:clone3 (ENOSYS)",
        "cap:SYS_ADMIN",
    ]
    assert properties["test_mark"]["procsem.verdict"] == ["unsupported"]
    assert properties["test_mark"]["procsem.missing"] == ["by hand"]
    assert properties["test_plain"] == {}
    # Both phases: 6 deviate, 6 are broken (shown as errors), 1 passes, 1 is skipped.
    result.assert_outcomes(passed=2, failed=6 * 2 + 1, errors=6 * 2, skipped=2 + 2)
    result.stdout.fnmatch_lines(["*ERROR at call of test_call?value_error?*"])


@pytest.mark.parametrize(
    ("verdicts", "status"),
    [
        (["conforms", "unsupported"], 0),
        (["conforms", "deviates"], 1),
        (["conforms", "broken"], 10),
        (["deviates", "broken"], 10),
    ],
    ids=["good", "deviates", "broken", "both"],
)
def test_the_worst_verdict_gives_the_exit_status(
    run: Run, pytester: pytest.Pytester, verdicts: list[str], status: int
) -> None:
    make_checks(pytester, {verdict: CHECKS[verdict] for verdict in verdicts})
    assert run().ret == status


def test_a_broken_teardown_is_reported_beside_the_verdict(
    run: Run, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile("""
        import pytest
        from pytest_procsemantics.clauses import clause

        @pytest.fixture
        def folder():
            yield
            raise ValueError("can't remove the folder")

        @clause("fork.2/memory-is-copied")
        def test_check(folder): pass
    """)
    result = run("--junitxml=out.xml")
    assert result.ret == 10
    assert properties_of(pytester)["test_check"]["procsem.verdict"] == ["conforms"]
    result.stdout.fnmatch_lines(
        ["*total*1*0*0*0*0", "broken teardown: *::test_check", "*because*can't remove the folder"]
    )


def test_a_crashed_worker_is_broken(
    run: Run, pytester: pytest.Pytester, request: pytest.FixtureRequest
) -> None:
    if "xdist" not in request.node.callspec.id:
        pytest.skip("without workers the run itself is gone")
    make_checks(pytester, {"crash": "os._exit(3)", "conforms": "pass"})
    result = run("--max-worker-restart=1")
    assert result.ret == 10
    result.stdout.fnmatch_lines(
        ["*broken: *::test_crash", "*because*worker*crashed while running*"]
    )


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["one-process", "xdist"])
def test_three_failed_starts_in_a_row_end_the_run(run: Run, pytester: pytest.Pytester) -> None:
    make_checks(pytester, {f"start_{n:02}": "raise StartFailed('no greeting')" for n in range(20)})
    result = run()
    assert result.ret == 10
    why = "the target did not start, 3 times in a row: no greeting"
    (message,) = [line.strip("! ") for line in result.outlines if line.startswith("!")]
    assert message.removeprefix("xdist.dsession.Interrupted: ") == why
    assert result.parseoutcomes()["errors"] <= 3 * 2 + 1  # each worker counts its own


def test_failed_starts_between_good_ones_do_not_end_the_run(
    run: Run, pytester: pytest.Pytester, request: pytest.FixtureRequest
) -> None:
    bad, good = "raise StartFailed('no greeting')", "pass"
    make_checks(pytester, {f"start_{n:02}": good if n % 3 == 2 else bad for n in range(9)})
    # "In a row" is about one worker's tests.
    result = run(*["--dist=loadfile"] * ("xdist" in request.node.callspec.id))
    result.assert_outcomes(errors=6, passed=3)


BASELINE = """
[[deviation]]
clause = "fork.2/memory-is-copied"
seen = "the child writes into the parent"
reason = "a test of the plugin"
"""


def test_a_known_deviation_is_expected(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makefile(".toml", known=BASELINE)
    make_checks(pytester, {"deviates": CHECKS["deviates"]})
    result = run("--procsem-baseline=known.toml", "--junitxml=out.xml")
    assert result.ret == 0
    result.assert_outcomes(xfailed=1)
    assert properties_of(pytester)["test_deviates"]["procsem.verdict"] == ["deviates"]
    properties = properties_of(pytester)["test_deviates"]
    assert properties["procsem.baseline"] == ["known"]
    assert properties["procsem.seen"] == ["assert 1 == 2"]
    assert properties["procsem.entry.seen"] == ["the child writes into the parent"]
    assert properties["procsem.entry.reason"] == ["a test of the plugin"]
    result.stdout.fnmatch_lines(
        [
            "*known deviations: 1",
            "*fork.2/memory-is-copied",
            "*seen     the child writes into the parent",
            "*reason   a test of the plugin",
        ]
    )


@pytest.mark.parametrize(("option", "is_shown"), [("--tb=auto", False), ("--xfail-tb", True)])
def test_a_known_deviation_has_a_traceback_where_one_is_asked_for(
    run: Run, pytester: pytest.Pytester, option: str, is_shown: bool
) -> None:
    pytester.makefile(".toml", known=BASELINE)
    make_checks(pytester, {"deviates": CHECKS["deviates"]})
    result = run("--procsem-baseline=known.toml", option)
    result.assert_outcomes(xfailed=1)
    assert ("E   assert 1 == 2" in result.stdout.str()) == is_shown


def test_a_known_deviation_excuses_nothing_broken(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makefile(".toml", known=BASELINE)
    make_checks(pytester, {"broken": CHECKS["broken"]})
    assert run("--procsem-baseline=known.toml").ret == 10


def test_an_entry_of_some_checks_is_of_no_other(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makefile(
        ".toml", known=BASELINE.replace("seen", 'checks = ["test_cases[1]"]\nseen', 1)
    )
    pytester.makepyfile("""
        import pytest
        from pytest_procsemantics.clauses import clause

        @clause("fork.2/memory-is-copied")
        @pytest.mark.parametrize("number", [1, 2, 3])
        def test_cases(number): assert number == 2
    """)
    run("--procsem-baseline=known.toml").assert_outcomes(xfailed=1, passed=1, failed=1)


def test_an_entry_may_expect_that_the_target_is_lost(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makefile(".toml", known=BASELINE + "lost = true\n")
    pytester.makepyfile("""
        import pytest
        from pytest_procsemantics.clauses import clause
        from pytest_procsemantics.driven.errors import TargetLost

        @pytest.fixture
        def dying():
            yield
            raise TargetLost("silent")

        @clause("fork.2/memory-is-copied")
        def test_lost(): raise TargetLost("silent")

        @clause("fork.2/memory-is-copied")
        def test_lost_at_the_end(dying): assert 1 == 2
    """)
    result = run("--procsem-baseline=known.toml", "--junitxml=out.xml")
    assert result.ret == 0
    result.assert_outcomes(xfailed=2)
    properties = properties_of(pytester)["test_lost"]
    assert properties["procsem.verdict"] == ["deviates"]
    assert properties["procsem.baseline"] == ["known"]
    assert properties["procsem.seen"] == ["TargetLost: silent"]


def test_an_entry_of_a_lost_target_excuses_nothing_else(
    run: Run, pytester: pytest.Pytester
) -> None:
    pytester.makefile(".toml", known=BASELINE + "lost = true\n")
    pytester.makepyfile("""
        import pytest
        from pytest_procsemantics.clauses import clause
        from pytest_procsemantics.driven.errors import StartFailed

        @clause("fork.2/memory-is-copied")
        def test_ours(): raise ValueError("ours")

        @clause("fork.2/memory-is-copied")
        def test_start(): raise StartFailed("no greeting")
    """)
    result = run("--procsem-baseline=known.toml")
    assert result.ret == 10
    result.assert_outcomes(errors=2)


def test_an_entry_that_is_over_is_stale(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makefile(".toml", known=BASELINE)
    make_checks(pytester, {"conforms": CHECKS["conforms"]})
    result = run("--procsem-baseline=known.toml", "--junitxml=out.xml")
    assert result.ret == 1
    result.assert_outcomes(failed=1)
    assert properties_of(pytester)["test_conforms"]["procsem.verdict"] == ["conforms"]
    result.stdout.fnmatch_lines(
        [
            "stale baseline entry: fork.2/memory-is-copied conforms now*",
            "stale baseline entry: *::*",
        ]
    )


def test_an_entry_of_what_happens_sometimes_is_never_stale(
    run: Run, pytester: pytest.Pytester
) -> None:
    pytester.makefile(".toml", known=BASELINE + "sometimes = true\n")
    make_checks(pytester, {name: CHECKS[name] for name in ("conforms", "deviates")})
    result = run("--procsem-baseline=known.toml", "--junitxml=out.xml")
    assert result.ret == 0
    result.assert_outcomes(passed=1, xfailed=1)
    assert "procsem.baseline" not in properties_of(pytester)["test_conforms"]


def test_runxfail_takes_every_baseline_away(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makefile(".toml", known=BASELINE)
    make_checks(pytester, {"deviates": CHECKS["deviates"]})
    assert run("--procsem-baseline=known.toml", "--runxfail").ret == 1


def test_an_xfail_mark_hides_no_broken_check(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        import pytest
        from pytest_procsemantics.clauses import clause

        @clause("fork.2/memory-is-copied")
        @pytest.mark.xfail
        def test_broken(): raise ValueError("ours")

        @clause("fork.2/memory-is-copied")
        @pytest.mark.xfail
        def test_deviates(): assert 0
    """)
    result = run()
    assert result.ret == 10
    result.assert_outcomes(errors=1, xfailed=1)


@pytest.mark.parametrize(
    ("release", "verdict"), [("4.4.0", "unsupported"), ("5.11.0-rc1", "deviates"), ("", "deviates")]
)
def test_only_an_older_kernel_excuses_a_deviation(
    run: Run, pytester: pytest.Pytester, release: str, verdict: str
) -> None:
    pytester.makepyfile(f"""
        import pytest
        from pytest_procsemantics import stash
        from pytest_procsemantics.clauses import clause

        @pytest.fixture
        def target(pytestconfig):
            pytestconfig.stash[stash.FACTS] = dict(
                spec="local", release={release!r}, machine="x86_64"
            )

        @clause("close_range.2/cloexec-marks-range")
        def test_deviates(target): assert 1 == 2

        @clause("close_range.2/cloexec-marks-range")
        def test_conforms(target): pass
    """)
    result = run("--junitxml=out.xml")
    assert result.ret == (1 if verdict == "deviates" else 0)
    properties = properties_of(pytester)
    assert properties["test_deviates"]["procsem.verdict"] == [verdict]
    assert properties["test_conforms"]["procsem.verdict"] == ["conforms"]
    result.stdout.fnmatch_lines([f"*target*local: {release}*x86_64"])


def test_the_transcript_is_a_section_of_a_check_that_fails(
    run: Run, pytester: pytest.Pytester
) -> None:
    make_checks(pytester, {"conforms": "told(request)", "deviates": "told(request); assert 0"})
    result = run()
    result.stdout.fnmatch_lines(["*- transcript -*", "parent 4711  fork -> 4712", "?x1b*"])
    assert result.stdout.str().count("fork -> 4712") == 1
    result = run("--procsem-transcript=all")
    assert result.stdout.str().count("fork -> 4712") == 2
    result.stdout.fnmatch_lines(["transcript of *::test_conforms", "  parent 4711  fork -> 4712"])


def make_checks(pytester: pytest.Pytester, bodies: dict[str, str]) -> None:
    """A file with a check for each body, all of one clause."""
    head = """
import os, pytest
from pytest_procsemantics import stash
from pytest_procsemantics.clauses import clause
from pytest_procsemantics.driven.errors import StartFailed, TargetLost

def told(request):
    request.node.stash[stash.TRANSCRIPT] = "parent 4711  fork -> 4712\\n\\x1b[31m"
"""
    pytester.makepyfile(
        head
        + "\n".join(
            f"@clause('fork.2/memory-is-copied')\ndef test_{name}(request): {body}"
            for name, body in bodies.items()
        )
    )


def properties_of(pytester: pytest.Pytester) -> dict[str, dict[str, list[str]]]:
    """Each test's properties of ours, as JUnit XML has them."""
    found: dict[str, dict[str, list[str]]] = {}
    for case in ElementTree.parse(pytester.path / "out.xml").iter("testcase"):
        of_test = found.setdefault(case.attrib["name"], {})
        for pair in case.iter("property"):
            of_test.setdefault(pair.attrib["name"], []).append(pair.attrib["value"])
    return found
