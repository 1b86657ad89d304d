"""--procsem-json: what the file holds, also of runs that end early, and that half of it is never seen."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from pytest_procsemantics import catalogue
from pytest_procsemantics.report import file

Run = Callable[..., pytest.RunResult]

HEAD = """
import os, pytest, signal
from pytest_procsemantics import stash
from pytest_procsemantics.clauses import clause
from pytest_procsemantics.driven.errors import TargetLost

@pytest.fixture
def target(pytestconfig, request):
    pytestconfig.stash[stash.FACTS] = {"spec": "local", "release": "6.1.0", "machine": "x86_64"}
    request.node.stash[stash.TRANSCRIPT] = "parent 4711  fork -> 4712\\n\\x1b[31m\\udc80\\U0001f600"
"""
KINDS = {
    "conforms": "pass",
    "deviates": "assert 'a\\udc80\\x00' == 'b' * 100_000",
    "unsupported": "pytest.skip('needs userns')",
    "broken": "raise TargetLost('silent')",
}
KNOWN = """
[[deviation]]
clause = "fork.2/memory-is-copied"
seen = "the child writes into the parent"
reason = "a test of the plugin"
"""


def make_checks(pytester: pytest.Pytester, bodies: dict[str, str]) -> None:
    """A file with a check for each body, all of one clause."""
    pytester.makepyfile(
        test_it=HEAD
        + "\n".join(
            f"@clause('fork.2/memory-is-copied')\ndef test_{name}(target): {body}"
            for name, body in bodies.items()
        )
        + "\ndef test_plain(): pass\n"
    )


def read(pytester: pytest.Pytester) -> dict[str, Any]:
    """The document that a run has written, which has the form of the schema; nothing else was left."""
    assert list(pytester.path.glob(".procsem-*")) == []
    text = (pytester.path / "out.json").read_bytes().decode("utf-8")
    document: dict[str, Any] = json.loads(text)
    schema = json.loads(
        resources.files("pytest_procsemantics.report")
        .joinpath("results.schema.json")
        .read_text(encoding="utf-8")
    )
    assert list(document) == schema["required"]
    for result in document["results"]:
        assert list(result) == schema["$defs"]["result"]["required"]
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(document, schema, jsonschema.Draft202012Validator)
    return document


def verdicts(document: dict[str, Any]) -> dict[str, str | None]:
    return {one["check"].rpartition("::test_")[2]: one["verdict"] for one in document["results"]}


def test_each_check_has_its_verdict_and_what_was_seen(run: Run, pytester: pytest.Pytester) -> None:
    make_checks(pytester, KINDS)
    assert run("--procsem-json=out.json", "--procsem-baseline=linux").ret == 10
    document = read(pytester)
    assert document["complete"] is True
    assert document["targets"] == [{"spec": "local", "release": "6.1.0", "machine": "x86_64"}]
    assert verdicts(document) == {name: name for name in sorted(KINDS)}
    broken, conforms, deviates, unsupported = document["results"]
    for result in document["results"]:
        assert result["clauses"] == ["fork.2/memory-is-copied"]
        assert result["target"] == 0
        assert result["seconds"] > 0
    assert (conforms["reason"], conforms["transcript"]) == ("", None)
    assert broken["reason"] == "TargetLost: silent"
    assert unsupported["reason"] == "needs userns"
    assert deviates["reason"].startswith("assert 'a\\udc80\\x00' == 'b")
    assert len(deviates["reason"]) <= 400
    assert deviates["transcript"] == "parent 4711  fork -> 4712\n\\x1b[31m\\udc80\U0001f600"
    fork = next(page for page in catalogue.coverage(["fork.2/memory-is-copied"]) if page.proved)
    assert document["coverage"][fork.page]["proved"] == fork.proved
    assert document["coverage"][fork.page]["clauses"] == fork.clauses


def test_the_file_says_what_a_baseline_knows_and_how_a_teardown_failed(
    run: Run, pytester: pytest.Pytester
) -> None:
    pytester.makefile(".toml", known=KNOWN)
    make_checks(pytester, {"conforms": "pass", "deviates": "assert 1 == 2"})
    with (pytester.path / "conftest.py").open("w") as conftest:
        conftest.write(
            "import pytest\n\n@pytest.fixture(autouse=True)\ndef folder():\n"
            "    yield\n    raise ValueError('not empty')\n"
        )
    run("--procsem-json=out.json", "--procsem-baseline=known.toml")
    conforms, deviates = read(pytester)["results"]
    assert (deviates["baseline"], deviates["reason"]) == ("known", "assert 1 == 2")
    assert conforms["baseline"] == "stale"
    assert conforms["reason"].endswith("says: the child writes into the parent")
    assert "ValueError: not empty" in conforms["teardown"]


def test_all_transcripts_are_in_the_file_when_asked_for(
    run: Run, pytester: pytest.Pytester
) -> None:
    make_checks(pytester, {"conforms": "pass"})
    run("--procsem-json=out.json", "--procsem-transcript=all")
    (conforms,) = read(pytester)["results"]
    assert conforms["transcript"].startswith("parent 4711")


EARLY = {
    "first": "pass",
    "interrupted": "raise KeyboardInterrupt",
    **{f"later_{number}": "pass" for number in range(9)},
}


@pytest.mark.parametrize(
    ("body", "option"),
    [("raise KeyboardInterrupt", "-v"), ("assert 0", "-x"), ("pytest.exit('enough', 0)", "-v")],
    ids=["interrupted", "first-failure", "exit"],
)
def test_a_run_that_ends_early_is_not_complete_and_lists_what_it_did_not_reach(
    run_apart: Run, pytester: pytest.Pytester, body: str, option: str
) -> None:
    make_checks(pytester, {**EARLY, "interrupted": body})
    run_apart("--procsem-json=out.json", option)
    document = read(pytester)
    assert document["complete"] is False
    found = verdicts(document)
    assert sorted(found) == sorted(EARLY)
    assert found["first"] == "conforms"
    assert found["later_8"] is None
    last = document["results"][-1]
    assert (last["reason"], last["seconds"]) == ("not reached", 0)
    assert document["coverage"]["fork.2"]["proved"] > 0


def test_what_could_not_be_collected_makes_a_run_incomplete(
    run: Run, pytester: pytest.Pytester
) -> None:
    make_checks(pytester, {"conforms": "pass"})
    pytester.makepyfile(test_other="raise OSError('not ready')")
    run("--procsem-json=out.json", "--continue-on-collection-errors")
    document = read(pytester)
    assert document["complete"] is False
    assert verdicts(document) == {"conforms": "conforms"}


def test_a_run_that_is_killed_leaves_no_older_file(
    run_apart: Run, pytester: pytest.Pytester
) -> None:
    (pytester.path / "out.json").write_text('{"complete": true}')
    pytester.makeconftest("""
        import os, pytest

        @pytest.hookimpl(tryfirst=True)
        def pytest_collection(session):
            if not hasattr(session.config, "workerinput"):
                os._exit(9)
    """)
    assert run_apart("--procsem-json=out.json").ret == 9
    assert read(pytester)["complete"] is False


def test_a_run_without_checks_has_no_results(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_plain(): pass")
    assert run("--procsem-json=out.json").ret == 0
    document = read(pytester)
    assert (document["complete"], document["results"], document["coverage"]) == (True, [], {})
    assert document["targets"] == [{"spec": "local"}]


@pytest.mark.parametrize("options", [("-n", "2")], ids=["xdist"])
def test_each_target_of_several_has_its_results(run: Run, pytester: pytest.Pytester) -> None:
    body = "pytestconfig.stash[stash.FACTS]['release'] = os.environ['PYTEST_XDIST_WORKER']"
    pytester.makepyfile(
        HEAD.replace("'6.1.0'", "'of a worker'")
        + f"    {body}\n@clause('fork.2/memory-is-copied')\ndef test_it(target): pass\n"
    )
    run("--procsem-json=out.json", "--dist=each")
    document = read(pytester)
    assert document["complete"] is True
    assert [document["targets"][one["target"]]["release"] for one in document["results"]] == [
        "gw0",
        "gw1",
    ]


def test_a_link_is_kept_and_the_file_behind_it_replaced(
    run: Run, pytester: pytest.Pytester
) -> None:
    make_checks(pytester, {"conforms": "pass"})
    (pytester.path / "out.json").write_text("older")
    (pytester.path / "link.json").symlink_to("out.json")
    run("--procsem-json=link.json")
    assert (pytester.path / "link.json").is_symlink()
    assert read(pytester)["complete"] is True


def test_a_folder_that_is_gone_at_the_end_is_told_beside_the_summary(
    run: Run, pytester: pytest.Pytester
) -> None:
    pytester.mkdir("below")
    make_checks(pytester, {"conforms": "__import__('shutil').rmtree('below')"})
    result = run("--procsem-json=below/out.json")
    assert result.ret == 10
    result.stdout.fnmatch_lines(["ERROR: --procsem-json: */below/out.json: No such file*"])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_a_document_that_cant_be_written_leaves_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    file.write(path, {"schema": 1})
    with pytest.raises(TypeError):
        file.write(path, {"schema": object()})
    assert json.loads(path.read_text()) == {"schema": 1}
    assert os.listdir(tmp_path) == ["out.json"]
