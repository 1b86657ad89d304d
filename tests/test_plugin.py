"""Options, ini keys, markers and the selection of checks; and that others' suites pay nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_procsemantics import catalogue, collection, settings

Run = Callable[..., pytest.RunResult]

REFERENCE = Path(__file__).parent.parent / "docs/reference/options.md"

CHECKS = """
from pytest_procsemantics.clauses import clause

@clause("fork.2/memory-is-copied")
def test_memory(): pass

@clause("fork.2/pending-signals-cleared")
def test_signals(): pass

@clause("vfork.2/parent-suspended")
def test_vfork(): pass

def test_plain(): pass
"""


def test_a_suite_without_checks_loads_nothing_and_sees_nothing(
    run_apart: Run, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile("""
        import sys

        def test_foreign(pytestconfig):
            ours = {name for name in sys.modules if name.startswith("pytest_procsemantics.")}
            assert ours <= {f"pytest_procsemantics.{part}" for part in (
                "plugin", "settings", "stash", "collection", "fixtures", "spawning",
            )}
            assert "psutil" not in sys.modules
            assert not [name for name, _ in pytestconfig.pluginmanager.list_name_plugin()
                        if name.startswith("procsemantics-")]
    """)
    result = run_apart()
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*process creation*")


def test_failures_without_a_clause_keep_the_status_of_pytest(
    run: Run, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(CHECKS + "\ndef test_fails(): raise ValueError\n")
    result = run()
    assert result.ret == 1
    result.assert_outcomes(passed=4, failed=1)


def test_every_marker_is_registered_with_its_arguments(run: Run) -> None:
    result = run("--markers")
    result.stdout.fnmatch_lines([f"@pytest.mark.{line}" for line in collection.MARKERS])


def test_an_option_wins_over_the_ini_key_and_that_over_the_default(
    run: Run, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile("""
        from pytest_procsemantics import stash

        def test_settings(pytestconfig):
            found = pytestconfig.stash[stash.SETTINGS]
            assert (found.timeout, found.transcript, found.target) == (2.5, "all", "local")
            assert found.baselines == ("linux",)
    """)
    pytester.makeini("[pytest]\nprocsem_timeout = 30\nprocsem_transcript = all\n")
    run("--procsem-timeout=2.5").assert_outcomes(passed=1)


def test_an_ini_path_stands_relative_to_the_ini_file(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makefile(".toml", known="")
    pytester.makeini("[pytest]\nprocsem_baseline = known.toml\n")
    below = pytester.mkdir("below")
    (below / "test_settings.py").write_text(
        "from pytest_procsemantics import stash\n"
        "def test_settings(pytestconfig):\n"
        "    (path,) = pytestconfig.stash[stash.SETTINGS].baselines\n"
        f"    assert path == {str(pytester.path / 'known.toml')!r}\n"
    )
    run(str(below)).assert_outcomes(passed=1)


def test_another_target_has_no_baseline_by_default(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        from pytest_procsemantics import stash

        def test_settings(pytestconfig):
            assert pytestconfig.stash[stash.SETTINGS].baselines == ()
    """)
    run("--procsem-target=exec:env A=1").assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("patterns", "passed"),
    [
        (["fork.2/*"], 2),
        (["fork.2"], 2),
        (["vfork.2/*-suspended"], 1),
        (["fork.2/memory-is-copied", "vfork.2/*"], 2),
    ],
    ids=["page", "name", "fact", "two"],
)
def test_a_pattern_runs_only_the_checks_of_its_clauses(
    run: Run, pytester: pytest.Pytester, patterns: list[str], passed: int
) -> None:
    pytester.makepyfile(CHECKS)
    result = run(*(f"--procsem-clause={pattern}" for pattern in patterns))
    assert result.ret == 0
    assert result.parseoutcomes()["passed"] == passed


@pytest.mark.parametrize("more", [(), ("--collect-only",), ("-k", "vfork")], ids=str)
def test_the_coverage_counts_what_was_collected(
    run: Run, pytester: pytest.Pytester, more: tuple[str, ...]
) -> None:
    pytester.makepyfile(CHECKS)
    result = run("--procsem-coverage", *more)
    assert result.ret == 0
    # fork.2 twice, and vfork.2 once; the total has twins on other pages as well.
    result.stdout.re_match_lines(
        [
            r"page +proved +untestable +open$",
            r"fork\.2 +2 +\d+ +\d+$",
            r"vfork\.2 +1 +\d+ +\d+$",
            r"total +\d+ +\d+ +\d+$",
        ]
    )


def test_the_coverage_lists_the_open_clauses_of_a_pattern(
    run: Run, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(CHECKS)
    # No check proves any clause of the second.
    asked = ["--procsem-clause=fork.2/memory-*", "--procsem-clause=vfork.2/*exec*"]
    result = run("--procsem-coverage", "--collect-only", *asked)
    assert result.ret == 0
    proved = [
        "fork.2/memory-is-copied",
        "fork.2/pending-signals-cleared",
        "vfork.2/parent-suspended",
    ]
    memory = catalogue.open_clauses(proved, "fork.2/memory-*")
    exec = catalogue.open_clauses(proved, "vfork.2/*exec*")
    assert exec
    assert "fork.2/memory-is-copied" not in [clause.id for clause in memory]
    result.stdout.fnmatch_lines(
        [
            "total *",
            f"open of fork.2/memory-[*]: {len(memory)}",
            *(f"  {clause.id}" for clause in memory),
            f"open of vfork.2/[*]exec[*]: {len(exec)}",
            f"  {exec[0].id}",
            f"  *{exec[0].says.split(maxsplit=1)[0]}*",
        ]
    )


def test_the_reference_names_every_option_key_and_marker() -> None:
    added: list[str] = []

    class Recorder:
        def getgroup(self, *words: str) -> Recorder:
            return self

        def addoption(self, name: str, **details: object) -> None:
            added.append(name)

        def addini(self, name: str, *words: str, **details: object) -> None:
            added.append(name)

    settings.add_options(Recorder())  # type: ignore[arg-type]
    added += [line.partition("(")[0] for line in collection.MARKERS]
    text = REFERENCE.read_text()
    assert [name for name in added if f"`{name}" not in text] == []
