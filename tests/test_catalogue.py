"""The catalogue: its files, its loader, and the decorator that names its clauses."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from pytest_procsemantics import catalogue
from pytest_procsemantics.catalogue import loader, schema, vocabulary
from pytest_procsemantics.clauses import clauses_of

SOUND = """\
[page]
name = "fork.9"
title = "fork(9)"
source = "a test"

[[clause]]
id = "fork.9/child-is-new"
section = "DESCRIPTION"
says = "The child is new."
kind = "effect"
primitives = ["fork"]
requires = ["root", "kernel>=5.3"]
observable = "fork; look"
testable = true
errno = "EAGAIN"
since = "Linux 5.3"

[[clause]]
id = "fork.9/nobody-can-tell"
section = "NOTES"
says = "Nobody can tell."
kind = "limit"
primitives = ["fork", "clone"]
requires = []
observable = "none"
testable = false
why = "nobody can tell"
same_as = "fork.9/third"

[[clause]]
id = "fork.9/third"
section = "NOTES"
says = "Nobody at all."
kind = "limit"
primitives = ["clone"]
requires = []
observable = "none"
testable = false
why = "likewise"
"""


def forget() -> None:
    for cached in (loader.pages, loader.page, loader._clauses_of, loader._families):
        cached.cache_clear()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A catalogue of the test's own, empty at first."""
    monkeypatch.setattr(loader, "FOLDER", tmp_path)
    forget()
    yield tmp_path
    forget()


@pytest.fixture
def shipped() -> Iterator[ModuleType]:
    """The catalogue of the package, with nothing read yet."""
    forget()
    yield catalogue
    forget()


def test_every_file_of_the_catalogue_is_sound() -> None:
    assert catalogue.validate() == []


def test_the_catalogue_is_whole() -> None:
    assert len(catalogue.pages()) == 150
    assert sum(len(catalogue.page(name).clauses) for name in catalogue.pages()) == 2956


def test_a_sound_page_is_read(folder: Path) -> None:
    (folder / "fork.9.toml").write_text(SOUND)
    page = catalogue.page("fork.9")
    assert (page.name, page.title, page.source) == ("fork.9", "fork(9)", "a test")
    assert page.clauses[0] == catalogue.Clause(
        id="fork.9/child-is-new",
        page="fork.9",
        section="DESCRIPTION",
        says="The child is new.",
        kind="effect",
        primitives=("fork",),
        requires=("root", "kernel>=5.3"),
        observable="fork; look",
        testable=True,
        errno="EAGAIN",
        since="Linux 5.3",
    )
    assert catalogue.validate() == []


@pytest.mark.parametrize(
    ("since", "version"),
    [
        ("Linux 5.14", (5, 14)),
        ("Linux 2.6.26", (2, 6, 26)),
        ("Linux 6.13; the EXIT bit 6.15", (6, 13)),
        ("glibc 2.34", None),
        ("POSIX.1-2024, glibc 2.34", None),
    ],
)
def test_since_gives_the_version_of_linux(
    folder: Path, since: str, version: tuple[int, ...] | None
) -> None:
    (folder / "fork.9.toml").write_text(SOUND.replace("Linux 5.3", since))
    assert catalogue.clause("fork.9/child-is-new").since_kernel == version


# What is wrong -> (what stands instead of it, what the message says). One fault gives one message.
FAULTS = {
    "page-missing": ("[page]", "[pag]", "fork.9.toml: unknown table 'pag'; nearest: page"),
    "page-key": ("title =", "titel =", "[page]: unknown key 'titel'; nearest: title"),
    "page-name": ('name = "fork.9"', 'name = "fork.8"', "[page]: name must be 'fork.9'"),
    "page-type": ('title = "fork(9)"', "title = 9", "[page]: title must be a text"),
    "clause-missing": ("[[clause]]", "[[claus]]", "unknown table 'claus'; nearest: clause"),
    "key": ("says =", "say =", "unknown key 'say'; nearest: says"),
    "lacks": ('section = "DESCRIPTION"\n', "", "fork.9/child-is-new: lacks section"),
    "blank": ('"DESCRIPTION"', '" "', "fork.9/child-is-new: section must be a text"),
    "order": (
        'section = "DESCRIPTION"\nsays = "The child is new."',
        'says = "The child is new."\nsection = "DESCRIPTION"',
        "the order of keys is id, section, says",
    ),
    "id-form": ("child-is-new", "Child_is_new", "id must be fork.9/ and lower-case words"),
    "id-page": ("fork.9/child", "fork.8/child", "id must be fork.9/ and lower-case words"),
    "id-type": ('id = "fork.9/child-is-new"', "id = 1", "clause 1: id must be a text"),
    "id-twice": ("child-is-new", "third", "fork.9/third: id stands twice"),
    "kind": ('"effect"', '"efect"', "unknown kind 'efect'; nearest: effect"),
    "primitive": ('["fork"]', '["vfrok"]', "primitives: unknown 'vfrok'; nearest: vfork"),
    "no-primitive": ('["fork"]', "[]", "primitives names none"),
    "primitives-type": ('["fork"]', '"fork"', "primitives must be a list of texts, not 'fork'"),
    "requirement": ('"root"', '"cap:SYS_ADMN"', "nearest: cap:SYS_ADMIN"),
    "requirement-form": ("kernel>=5.3", "kernel>5.3", "unknown requirement 'kernel>5.3'"),
    "testable-type": ("testable = true", 'testable = "yes"', "testable must be true or false"),
    "why-missing": ('why = "likewise"\n', "", "fork.9/third: testable = false needs why"),
    "why-needless": ("testable = true\n", 'testable = true\nwhy = "x"\n', "why explains testable"),
    "claim": ("testable = true\n", 'testable = true\nclaim = "wrong"\n', "unknown claim 'wrong'"),
    "claim-alone": ("testable = true\n", 'testable = true\nclaim = "false"\n', "needs seen"),
    "errno": ("EAGAIN", "EAGIAN", "unknown errno 'EAGIAN'; nearest: EAGAIN"),
    "since": ("Linux 5.3", "lately", "since must begin with Linux X.Y"),
    "same-as": ("fork.9/third", "fork.9/thrid", "same_as: no clause 'fork.9/thrid'; nearest:"),
    "same-as-testable": ('"fork.9/third"\n\n', '"fork.9/child-is-new"\n\n', "is testable = true"),
    "same-as-itself": ('= "fork.9/third"\n\n', '= "fork.9/nobody-can-tell"\n\n', "in a circle"),
    "same-as-library": ("requires = []", 'requires = ["libc"]', "only one is a fact of the libc"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_one_message_that_names_file_and_key(folder: Path, fault: str) -> None:
    old, new, expected = FAULTS[fault]
    (folder / "fork.9.toml").write_text(SOUND.replace(old, new, 1))
    (problem,) = catalogue.validate()
    assert problem.startswith("fork.9.toml: ")
    assert expected in problem


def test_a_file_that_is_no_toml_is_named_with_the_place(folder: Path) -> None:
    (folder / "fork.9.toml").write_text("[page\n")
    (problem,) = catalogue.validate()
    assert problem.startswith("fork.9.toml: ")
    assert "line 1" in problem


def test_a_faulty_page_is_not_given(folder: Path) -> None:
    (folder / "fork.9.toml").write_text(SOUND.replace("says =", "say ="))
    with pytest.raises(catalogue.CatalogueError, match=r"unknown key 'say'.*\(and 2 more\)"):
        catalogue.clause("fork.9/third")


def test_importing_reads_no_file() -> None:
    program = """
        import sys
        opened = []
        sys.addaudithook(lambda event, args: opened.append(args[0]) if event == "open" else None)
        import pytest_procsemantics.clauses, pytest_procsemantics.baselines
        print([path for path in opened if str(path).endswith(".toml")])
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_a_clause_reads_its_own_page_only(
    shipped: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    real = schema.read_toml

    def spy(path: Path) -> dict[str, object]:
        read.append(path.name)
        return real(path)

    monkeypatch.setattr(loader, "read_toml", spy)
    catalogue.clause("vfork.2/parent-suspended")
    catalogue.clause("vfork.2/memory-is-shared")
    assert len(catalogue.matching("vfork.2/*memory*")) > 1
    assert catalogue.twin_ids("vfork.2/memory-is-shared")
    assert read == ["vfork.2.toml"]


@pytest.mark.parametrize(
    ("id", "nearest"),
    [
        ("fork.2/memory-copied", "fork.2/memory-is-copied"),
        ("frok.2/memory-is-copied", "fork.2/memory-is-copied"),
        ("fork.2/parent-suspended", "vfork.2/parent-suspended"),
        ("memory-is-copied", "fork.2/memory-is-copied"),
        ("nothing.2/memory-is-copied", "fork.2/memory-is-copied"),
    ],
)
def test_an_unknown_clause_names_the_nearest(id: str, nearest: str) -> None:
    with pytest.raises(catalogue.UnknownClause) as caught:
        catalogue.clause(id)
    assert caught.value.nearest[0] == nearest
    assert str(caught.value).startswith(f"no clause {id!r}; nearest: {nearest}")


@pytest.mark.parametrize("id", ["", "/", "fork.2/", "fork.2", "../x", "zzz/qqq", "fork.2/\n"])
def test_what_resembles_no_clause_is_unknown_too(id: str) -> None:
    with pytest.raises(catalogue.UnknownClause, match="no clause"):
        catalogue.clause(id)


def test_an_unknown_page_names_the_nearest() -> None:
    with pytest.raises(catalogue.UnknownPage, match=r"no page 'vfrok\.2'; nearest: vfork\.2"):
        catalogue.page("vfrok.2")


@pytest.mark.parametrize(
    ("glob", "holds", "lacks"),
    [
        ("fork.2", "fork.2/memory-is-copied", "vfork.2/memory-is-shared"),
        ("*fork.2", "vfork.2/memory-is-shared", "clone.2/vm-unset-copies"),
        ("fork.2/memory-is-copied", "fork.2/memory-is-copied", "fork.2/creates-a-process"),
        ("*/memory-is-*", "vfork.2/memory-is-shared", "fork.2/creates-a-process"),
    ],
)
def test_a_pattern_selects_pages_and_facts(glob: str, holds: str, lacks: str) -> None:
    found = [clause.id for clause in catalogue.matching(glob)]
    assert holds in found
    assert lacks not in found
    assert len(set(found)) == len(found)


def test_a_pattern_may_select_nothing() -> None:
    assert catalogue.matching("fork.2/nothing-of-the-kind") == ()


def chain(*links: tuple[str, str]) -> str:
    clause = SOUND.partition("\n\n")[2].partition("\n\n")[0]
    head = SOUND.partition("\n\n")[0]
    blocks = [head]
    for fact, same_as in links:
        block = clause.replace("child-is-new", fact)
        blocks.append(block + (f'\nsame_as = "fork.9/{same_as}"' if same_as else ""))
    return "\n\n".join(blocks) + "\n"


@pytest.mark.parametrize("id", ["a", "b", "c", "d"])
def test_twins_are_found_in_both_directions_and_over_steps(folder: Path, id: str) -> None:
    (folder / "fork.9.toml").write_text(
        chain(("a", "b"), ("b", "c"), ("c", ""), ("d", "c"), ("e", "f"), ("f", ""), ("g", ""))
    )
    expected = [f"fork.9/{other}" for other in "abcd" if other != id]
    assert [twin.id for twin in catalogue.twins(f"fork.9/{id}")] == expected
    assert [twin.id for twin in catalogue.twins("fork.9/f")] == ["fork.9/e"]
    assert catalogue.twins("fork.9/g") == ()


def test_a_circle_of_same_as_is_a_problem(folder: Path) -> None:
    (folder / "fork.9.toml").write_text(chain(("a", "b"), ("b", "a")))
    assert len(catalogue.validate()) == 2
    assert all("same_as: leads in a circle" in line for line in catalogue.validate())


def test_twins_of_an_unknown_clause_are_refused() -> None:
    with pytest.raises(catalogue.UnknownClause):
        catalogue.twins("fork.2/memory-copied")


def test_scanned_twins_are_those_of_the_parsed_pages(shipped: ModuleType) -> None:
    clauses = [clause for name in catalogue.pages() for clause in catalogue.page(name).clauses]
    linked = {(clause.id, clause.same_as) for clause in clauses if clause.same_as}
    families = {frozenset((id, *catalogue.twin_ids(id))) for pair in linked for id in pair}
    assert sum(len(family) for family in families) == len({id for pair in linked for id in pair})
    assert all(any(set(pair) <= family for family in families) for pair in linked)
    assert sum(len(family) - 1 for family in families) == len(linked)  # a tree needs each link


def test_a_clause_is_proved_by_a_check_of_its_twin(folder: Path) -> None:
    (folder / "fork.9.toml").write_text(chain(("a", "b"), ("b", ""), ("c", "")))
    assert catalogue.coverage([]) == [catalogue.PageCoverage("fork.9", 3, 0, 0, 3)]
    assert catalogue.coverage(["fork.9/b"]) == [catalogue.PageCoverage("fork.9", 3, 2, 0, 1)]
    assert [clause.id for clause in catalogue.open_clauses(["fork.9/b"], "fork.9")] == ["fork.9/c"]


def test_coverage_tells_untestable_from_open(folder: Path) -> None:
    (folder / "fork.9.toml").write_text(SOUND)
    assert catalogue.coverage([]) == [catalogue.PageCoverage("fork.9", 3, 0, 2, 1)]
    assert len(catalogue.open_clauses([], "fork.9/*")) == 1


def test_coverage_counts_every_clause_once() -> None:
    counts = catalogue.coverage(["fork.2/memory-is-copied"])
    assert sum(count.clauses for count in counts) == 2956
    assert all(c.clauses == c.proved + c.untestable + c.open for c in counts)
    assert sum(count.proved for count in counts) == 1 + len(
        catalogue.twin_ids("fork.2/memory-is-copied")
    )


def test_coverage_refuses_an_unknown_clause() -> None:
    with pytest.raises(catalogue.UnknownClause):
        catalogue.coverage(["fork.2/memory-copied"])


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        ("root", ("root", "")),
        ("cap:SYS_ADMIN", ("cap", "SYS_ADMIN")),
        ("ns:pid", ("ns", "pid")),
        ("kernel>=5.3", ("kernel", "5.3")),
        ("kernel>=2.6.26", ("kernel", "2.6.26")),
        ("sysctl:kernel/yama/ptrace_scope", ("sysctl", "kernel/yama/ptrace_scope")),
    ],
)
def test_a_requirement_is_taken_apart(word: str, parts: tuple[str, str]) -> None:
    assert vocabulary.split_requirement(word) == parts


@pytest.mark.parametrize(
    "word", ["", "Root", "root ", "cap:", "cap:sys_admin", "ns:user", "kernel>=5", "kernel", "x:y"]
)
def test_a_word_that_is_no_requirement_is_refused(word: str) -> None:
    with pytest.raises(vocabulary.UnknownRequirement, match="accepted: root, userns"):
        vocabulary.split_requirement(word)


def test_a_hint_without_a_near_word_lists_all() -> None:
    assert schema.hint("zzz", ("fork", "clone")) == "; accepted: fork, clone"


WRONG_CALLS = {
    '"fork.2/memory-copied"': "no clause 'fork.2/memory-copied'; nearest: fork.2/memory-is-copied",
    '"fork.2/memory-is-copied", "frok.2/x"': "no clause 'frok.2/x'; *",
    "": "clause() needs an id such as 'fork.2/memory-is-copied'",
    "print": "clause() takes ids of clauses as texts, not print",
}


def test_a_wrong_clause_is_one_message_at_collection(
    run: Callable[..., pytest.RunResult], pytester: pytest.Pytester
) -> None:
    for number, call in enumerate(WRONG_CALLS):
        text = f"from pytest_procsemantics.clauses import clause\n\n@clause({call})\ndef test_it(): 0\n"
        pytester.makepyfile(**{f"test_page{number}": text})
    result = run()
    result.assert_outcomes(errors=len(WRONG_CALLS))
    for number, message in enumerate(WRONG_CALLS.values()):
        result.stdout.fnmatch_lines_random([f"test_page{number}.py:3: {message}"])
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*INTERNALERROR*")


def test_a_check_knows_the_clauses_of_its_function_class_and_case(
    pytester: pytest.Pytester,
) -> None:
    items = pytester.getitems(
        """
        import pytest
        from pytest_procsemantics.clauses import clause

        @clause("fork.2/memory-is-copied", "fork.2/ppid-is-parent")
        class TestIt:
            @pytest.mark.parametrize("x", [
                pytest.param(1, marks=clause("fork.2/umask-is-copied")),
                pytest.param(2, marks=clause("fork.2/ppid-is-parent")),
                3,
            ])
            def test_it(self, x):
                pass

        def test_without():
            pass
        """
    )
    assert [[clause.id for clause in clauses_of(item)] for item in items] == [
        ["fork.2/umask-is-copied", "fork.2/memory-is-copied", "fork.2/ppid-is-parent"],
        ["fork.2/ppid-is-parent", "fork.2/memory-is-copied"],
        ["fork.2/memory-is-copied", "fork.2/ppid-is-parent"],
        [],
    ]
