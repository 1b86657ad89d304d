"""tools/peers: what other suites assert, each fact with the clause that states it."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from pytest_procsemantics import catalogue

TOOL = Path(__file__).resolve().parent.parent / "tools" / "peers.py"


def load_tool() -> Any:
    """tools/peers.py, which is in no package."""
    spec = importlib.util.spec_from_file_location("procsem_tools_peers", TOOL)
    assert spec and spec.loader
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


peers = load_tool()


@pytest.mark.parametrize(
    "path", sorted(TOOL.with_suffix("").glob("*.toml")), ids=lambda it: it.stem
)
def test_each_fact_is_stated_by_a_clause(path: Path) -> None:
    facts = peers.facts_of(path)
    assert facts
    assert all(catalogue.clause(fact.clause) for fact in facts)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('name = "a"\nfacts = []', "a.toml: a: a test has a name and facts"),
        ('name = "a"\nfacts = [{ says = "b" }]', "a.toml: a: lacks clause"),
        (
            'name = "a"\nfacts = [{ says = "b", clause = "fork.2/memory-is-copid" }]',
            "a.toml: a: no clause 'fork.2/memory-is-copid'; nearest: fork.2/memory-is-copied",
        ),
        ('name = "a"\nfacts = [{ says = "b", scope = "out" }]', "a.toml: a: lacks why"),
    ],
)
def test_what_is_wrong_with_a_file_is_told(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "a.toml"
    path.write_text(f"[[test]]\n{text}\n")
    with pytest.raises(ValueError, match=f"^{re.escape(problem)}"):
        peers.facts_of(path)


def test_a_name_may_not_stand_twice(tmp_path: Path) -> None:
    test = '[[test]]\nname = "a"\nfacts = [{ says = "b", scope = "out", why = "c" }]\n'
    (tmp_path / "a.toml").write_text(test * 2)
    with pytest.raises(ValueError, match=r"^a\.toml: a: stands twice$"):
        peers.facts_of(tmp_path / "a.toml")


def test_a_fact_is_proved_where_its_clause_or_a_twin_is() -> None:
    facts = [fact for facts in peers.suites().values() for fact in facts]
    twins = next(ids for fact in facts if (ids := catalogue.twin_ids(fact.clause)))
    assert dict(peers.rows(set()))["total"][2] == 0
    assert dict(peers.rows({twins[0]}))["total"][2] >= 1


def test_what_is_open_is_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(peers, "proved", set)
    peers.main(["fork.2/returns-zero-in-child"])
    assert "  ltp: syscalls/fork/fork03\n  fork returns 0 in the child\n" in capsys.readouterr().out


def test_a_pattern_that_matches_nothing_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "proved", set)
    with pytest.raises(
        SystemExit, match=r"^no clause of the catalogue matches 'frok\.2'; accepted: "
    ):
        peers.main(["frok.2"])
