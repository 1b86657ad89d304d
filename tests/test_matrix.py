"""--procsem-matrix tells every check the generic lies of its primitive, and finds those that nothing notices."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_procsemantics import catalogue
from pytest_procsemantics.catalogue.vocabulary import KINDS
from pytest_procsemantics.lies.everywhere import (
    GENERIC_LIES,
    PAGES,
    is_legal,
    lies_for,
    primitives_of,
)
from pytest_procsemantics.report import matrix
from pytest_procsemantics.report.matrix import Telling, lines
from pytest_procsemantics.requirements.marker import why_not_here

Run = Callable[..., pytest.RunResult]

needs_driving = pytest.mark.skipif(
    why_not_here() is not None, reason=f"needs a local agent: {why_not_here()}"
)

# Three lies, so that a handful of checks can notice each.
CONFTEST = """
from pytest_procsemantics.lies import everywhere

WANTED = "every creation toggles CLONE_VM", "every child has umask 0", "every creation drops CLONE_VFORK"
everywhere.GENERIC_LIES = tuple(one for one in everywhere.GENERIC_LIES if one.name in WANTED)
"""

HEAD = """
import pytest
from pytest_procsemantics.clauses import clause
from pytest_procsemantics.driven import Process
from pytest_procsemantics.driven.constants import CLONE_VM, SIGCHLD
from pytest_procsemantics.lies import every_child, in_child, lie, misreports

def with_memory(target):
    parent = target.new_process()
    cell = parent.allocate(8)
    parent.store(cell, 1)
    return parent, cell

@clause("fork.2/memory-is-copied")
@lie(every_child(CLONE_VM | SIGCHLD))
def test_memory(procsem):
    parent, cell = with_memory(procsem)
    parent.fork().store(cell, 2)
    assert parent.load(cell) == 1
"""

UMASK = """
@lie(in_child("the umask is reset", lambda child: child.sys.umask(0)))
@pytest.mark.parametrize("make", [
    pytest.param(Process.fork, id="fork", marks=clause("fork.2/umask-is-copied")),
    pytest.param(Process.vfork, id="vfork", marks=clause("vfork.2/attributes-like-fork")),
])
def test_umask(procsem, make):
    parent = procsem.new_process()
    parent.sys.umask(0o137)
    assert make(parent).sys.umask(0) == 0o137

@clause("vfork.2/parent-suspended")
@lie(every_child(CLONE_VM | SIGCHLD))
def test_order(procsem):
    parent = procsem.new_process()
    child = parent.vfork()
    answer = parent.post.sys.getpid()
    child.sys.getppid()
    assert not answer.ready and procsem.observer.state(parent) == "D"
"""

BAD = """
@clause("fork.2/memory-is-copied")
@lie(every_child(CLONE_VM | SIGCHLD))
def test_without_its_assertion(procsem):
    parent, cell = with_memory(procsem)
    parent.fork().store(cell, 2)
    parent.load(cell)

@clause("fork.2/memory-is-copied")
@lie(every_child(CLONE_VM | SIGCHLD))
def test_of_a_thing_with_itself(procsem):
    child = procsem.new_process().fork()
    assert child.sys.getppid() == child.sys.getppid()

@clause("fork.2/memory-is-copied")
@lie(every_child(CLONE_VM | SIGCHLD))
def test_that_loses_its_way(procsem):
    parent, cell = with_memory(procsem)
    parent.fork().store(cell, 2)
    ["as it should be"][parent.load(cell) - 1]
"""


@needs_driving
@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["one-process", "xdist"])
def test_a_matrix_in_which_all_is_noticed_is_green(
    run_apart: Run, pytester: pytest.Pytester
) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_it=HEAD + UMASK)
    result = run_apart("--procsem-matrix", "--procsem-json=out.json")
    assert result.ret == 0
    # Of four cases two are of fork.2 and two of vfork.2, which have three lies.
    result.stdout.re_match_lines(
        [
            r"  generic lie +checks +told +noticed +broken +unsupported",
            r"  every child has umask 0 +4 +4 +2 +0 +0",
            r"  every creation drops CLONE_VFORK +2 +2 +1 +0 +0",
            r"  every creation toggles CLONE_VM +4 +4 +1 +0 +0",
            r"  total +10 +10 +4 +0 +0",
            r"  lie +checks +noticed +unsupported",
        ]
    )
    document = json.loads((pytester.path / "out.json").read_text())
    assert {one["check"].rpartition("::")[2] for one in document["results"]} == {
        "test_memory[truth]",
        "test_order[truth]",
        "test_umask[truth-fork]",
        "test_umask[truth-vfork]",
    }
    assert whole(document) == {
        "test_memory[truth]": {
            "every creation toggles CLONE_VM": ("yes", "assertion"),
            "every child has umask 0": ("no", None),
        },
        "test_umask[truth-fork]": {
            "every creation toggles CLONE_VM": ("no", None),
            "every child has umask 0": ("yes", "assertion"),
        },
        "test_umask[truth-vfork]": {
            "every creation toggles CLONE_VM": ("no", None),
            "every child has umask 0": ("yes", "assertion"),
            "every creation drops CLONE_VFORK": ("no", None),
        },
        "test_order[truth]": {
            "every creation toggles CLONE_VM": ("no", None),
            "every child has umask 0": ("no", None),
            "every creation drops CLONE_VFORK": ("yes", "assertion"),
        },
    }
    # Last, for not every environment has it.
    pytest.importorskip("jsonschema").validate(document, schema())


@needs_driving
def test_a_lie_that_no_check_noticed_fails_the_run(
    run_apart: Run, pytester: pytest.Pytester
) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_it=HEAD)
    result = run_apart("--procsem-matrix")
    assert result.ret == 1
    # A check is about one fact: that it doesn't notice a generic lie is no failure of its own.
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["noticed by nothing: every child has umask 0"])
    result.stdout.no_fnmatch_line("noticed by nothing: every creation*")


@needs_driving
def test_checks_that_cant_fail_are_named_in_the_matrix_too(
    run_apart: Run, pytester: pytest.Pytester
) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_it=HEAD + UMASK + BAD)
    result = run_apart("--procsem-matrix", "--procsem-json=out.json")
    assert result.ret == 1
    for missed in (
        "not noticed: *::test_without_its_assertion[[]lie: *",
        "not noticed: *::test_of_a_thing_with_itself[[]lie: *",
        "broken, so not noticed: *::test_that_loses_its_way[[]lie: *",
    ):
        result.stdout.fnmatch_lines([missed])
    # What breaks under a generic lie is a number and no failure.
    result.stdout.re_match_lines([r"  every creation toggles CLONE_VM +7 +6 +1 +1 +0"])
    result.stdout.no_fnmatch_line("noticed by nothing: *")
    noticed = whole(json.loads((pytester.path / "out.json").read_text()))
    for name in ("test_without_its_assertion", "test_of_a_thing_with_itself"):
        assert set(noticed[f"{name}[truth]"].values()) == {("no", None)}
    assert noticed["test_that_loses_its_way[truth]"] == {
        "every creation toggles CLONE_VM": ("broken", None),
        "every child has umask 0": ("no", None),
    }


def test_the_proof_without_generic_lies_has_no_table_of_them() -> None:
    shown = "\n".join(lines([Telling("test_it.py::test_x[lie: x]", "x", (), "yes", "errno")], {}))
    assert "generic" not in shown
    assert "noticed: 1 by an errno" in shown


@pytest.mark.parametrize(
    ("came", "is_useless"),
    [
        (["yes", "no"], False),
        (["no", "broken"], True),
        (["untold"], True),
        (["unsupported", "unsupported"], False),
        (["unsupported", "no"], True),
    ],
    ids=str,
)
def test_a_lie_is_useless_where_no_check_that_could_notice_did(
    came: list[str], is_useless: bool
) -> None:
    tellings = [Telling(f"t{n}", "x", ("fork",), how) for n, how in enumerate(came)]
    assert bool(matrix.useless(tellings)) == is_useless


def test_every_generic_lie_has_a_name_and_primitives_of_its_own() -> None:
    assert max(Counter(lie.name for lie in GENERIC_LIES).values()) == 1
    known = {*PAGES.values(), "clone"}
    assert all(lie.primitives and known.issuperset(lie.primitives) for lie in GENERIC_LIES)
    assert all(set(KINDS).issuperset(lie.kinds) for lie in GENERIC_LIES)
    for primitive in known:
        assert sum(primitive in lie.primitives for lie in GENERIC_LIES) >= 5, primitive


def test_pages_of_primitives_are_pages_of_the_catalogue() -> None:
    assert set(PAGES) <= set(catalogue.pages())


def test_a_clause_of_another_page_goes_by_its_primitives() -> None:
    assert primitives_of(catalogue.clause("vfork.2/parent-suspended")) == {"vfork"}
    clause = catalogue.clause("tutorial/fork-does-not-copy-memory")
    assert primitives_of(clause) == {"fork"}


def test_another_result_is_told_only_to_checks_of_results() -> None:
    """A lie changes what happens; only where the clause is a number this may be the one that comes back."""
    by_kind = {
        kind: {
            lie.name
            for clause in catalogue.matching("clone.2")
            if clause.kind == kind
            for lie in lies_for([clause])
        }
        for kind in KINDS
    }
    for name, wanted in (
        ("every maker gets another number", {"return"}),
        ("what is refused gives another errno", {"refuse"}),
    ):
        assert {kind for kind, names in by_kind.items() if name in names} == wanted


def test_the_rules_of_clones_flags_are_those_of_the_catalogue() -> None:
    from pytest_procsemantics.driven import constants as c

    refused = (
        c.CLONE_SIGHAND,
        c.CLONE_THREAD | c.CLONE_VM,
        c.CLONE_FS | c.CLONE_NEWNS,
        c.CLONE_SYSVSEM | c.CLONE_NEWIPC,
        c.CLONE_PARENT | c.CLONE_NEWPID,
        c.CLONE_SIGHAND | c.CLONE_VM | c.CLONE_CLEAR_SIGHAND,
    )
    assert not any(map(is_legal, refused))
    assert is_legal(c.CLONE_VM | c.CLONE_SIGHAND | c.CLONE_THREAD | c.CLONE_FS)


def schema() -> Any:
    """The schema of the results."""
    path = Path(matrix.__file__).with_name("results.schema.json")
    return json.loads(path.read_text())


def whole(document: Any) -> dict[str, dict[str, tuple[str, str | None]]]:
    """For each check what came of the generic lies that it was told."""
    found: dict[str, dict[str, tuple[str, str | None]]] = {}
    for telling in document["proof"]["tellings"]:
        if telling["primitives"]:
            check = telling["check"].rpartition("::")[2]
            found.setdefault(check, {})[telling["lie"]] = (telling["noticed"], telling["by"])
    return found
