"""The summary for people, made from results alone, and text from a target made harmless."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_procsemantics.report import text
from pytest_procsemantics.report.results import Result
from pytest_procsemantics.report.summary import claims, summary

TARGET = {"spec": "exec:runsc do", "release": "4.4.0", "machine": "x86_64"}


KNOWN = {"baseline": "known", "entry_seen": "the parent runs on", "entry_reason": "it is a fork"}

EACH_KIND = """\
  target   exec:runsc do: 4.4.0 x86_64

  page     conforms  deviates  known  unsupported  broken
  clone.2         0         0      0            2       0
  fork.2          2         0      0            0       1
  vfork.2         0         1      1            0       0
  total           2         1      1            2       1

deviates: conformance/test_frozen.py::test_frozen
  clause   vfork.2/parent-suspended
  says     The calling thread is suspended until the child lets go.
  seen     assert 'S' == 'D'
  again    pytest conformance/test_frozen.py::test_frozen

known deviations: 1
  clause   vfork.2/parent-suspended
  seen     the parent runs on
  reason   it is a fork

stale baseline entry: conformance/test_stale.py::test_stale
  clause   fork.2/memory-is-copied
  says     A write by one side after fork is not seen by the other.
  seen     conforms
  again    pytest conformance/test_stale.py::test_stale

broken: conformance/test_lost.py::test_lost
  because  TargetLost: silent
  again    pytest conformance/test_lost.py::test_lost

unsupported, by what is missing:
  userns: 2
           test_a, test_b
  root: 1
           test_a"""


def result(name: str, clause: str, verdict: str, **more: object) -> Result:
    return Result(f"conformance/test_{name}.py::test_{name}", [clause], verdict, **more)  # type: ignore[arg-type]


def lines(*results: Result) -> list[str]:
    return summary(results, [TARGET], lambda result: f"pytest {result.nodeid}")


def test_a_run_with_each_kind_of_result() -> None:
    shown = lines(
        result("copy", "fork.2/memory-is-copied", "conforms"),
        result("frozen", "vfork.2/parent-suspended", "deviates", seen="assert 'S' == 'D'"),
        result("known", "vfork.2/parent-suspended", "deviates", seen="runs on", **KNOWN),
        result("stale", "fork.2/memory-is-copied", "conforms", baseline="stale"),
        result("lost", "fork.2/memory-is-copied", "broken", seen="TargetLost: silent"),
        result("a", "clone.2/files-shared-with-flag", "unsupported", missing=["root", "userns"]),
        result("b", "clone.2/files-shared-with-flag", "unsupported", missing=["userns"]),
    )
    assert "\n".join(shown) == EACH_KIND


def test_the_summary_fits_100_columns() -> None:
    long = "what was seen " * 100
    shown = lines(
        result("frozen", "vfork.2/parent-suspended", "deviates", seen=text.one_line(long)),
        *(
            result(f"check_{n:02}", "fork.2/memory-is-copied", "unsupported", missing=["userns"])
            for n in range(50)
        ),
    )
    assert max(map(len, shown)) <= 100
    assert shown[-1].endswith("and 45 more")


def test_a_target_judged_by_several_workers_is_named_once() -> None:
    targets = [TARGET, dict(TARGET), {**TARGET, "release": "6.1.0"}]
    check = result("copy", "fork.2/memory-is-copied", "conforms")
    shown = summary([check], targets, lambda result: "")
    assert [line for line in shown if "target" in line] == [
        "  target   exec:runsc do: 4.4.0 x86_64",
        "  target   exec:runsc do: 6.1.0 x86_64",
    ]


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("plain text", "plain text"),
        ("\n\n  second line\nthird", "second line"),
        ("red \x1b[31m", "red \\x1b[31m"),
        ("back\u202ewards", "back\\u202ewards"),
        ("lone \udc80", "lone \\udc80"),
        ("", ""),
    ],
)
def test_one_line_is_escaped(said: str, shown: str) -> None:
    assert text.one_line(said) == shown


def test_one_line_is_bounded() -> None:
    assert text.one_line("\x1b" * 10_000) == text.one_line("\x1b" * 10_001)
    assert len(text.one_line("\x1b" * 10_000)) == text.SHORT


def test_a_block_keeps_its_lines_its_beginning_and_most_of_its_end() -> None:
    assert text.block("a\n\tb\x07") == "a\n        b\\x07"
    shown = text.block("first\n" + "x" * 200_000 + "\nlast")
    assert shown.startswith("first\n")
    assert shown.endswith("\nlast")
    assert "characters left out" in shown
    assert len(shown) < text.SECTION + 100


CLAIMS = """\

claims: 1 true, 1 imprecise, 1 false
  imprecise fork makes a child that is a complete copy of the parent.
            seen: true of memory, not of all attributes: fork(2) lists what the child does not have,
            such as pending signals
            conforms: test_copy
  true      Parent and child use different virtual address spaces.
            deviates: test_apart; conforms: test_twin
  false     fork+exec is just as efficient as vfork+exec.
            seen: vfork+exec was 1.2 times as fast at best, hundreds of times at 1 GiB of touched 4
            KiB pages
            no check: a claim of speed: the cost measurement reports it, no check asserts it"""


def test_claims_are_told_with_what_is_true_and_the_checks_that_show_it() -> None:
    results = [
        result("copy", "tutorial/child-is-a-complete-copy", "conforms"),
        result("apart", "tutorial/different-address-spaces", "deviates"),
        result("twin", "fork.2/memory-is-copied", "conforms"),
        result("frozen", "vfork.2/parent-suspended", "conforms"),
    ]
    patterns = ["tutorial/child-*", "tutorial/different-*", "tutorial/fork-exec-as-*"]
    assert "\n".join(claims(patterns, results)) == CLAIMS
    assert claims(["fork.2/memory-*"], results) == []


def test_a_run_that_selects_claims_tells_them(
    run: Callable[..., pytest.RunResult], pytester: pytest.Pytester
) -> None:
    pytester.makepyfile("""
        from pytest_procsemantics.clauses import clause

        @clause("fork.2/memory-is-copied")
        def test_apart(): pass
    """)
    result = run("--procsem-clause=tutorial/different-address-spaces")
    result.stdout.fnmatch_lines(["claims: 1 true, 0 imprecise, 0 false", "*conforms: test_apart"])
    result = run("--procsem-clause=fork.2/memory-is-copied")
    result.stdout.no_fnmatch_line("claims: *")
