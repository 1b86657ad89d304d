"""README.md and docs/: every example runs, every link leads somewhere, every public name stands in the reference."""

from __future__ import annotations

import configparser
import doctest
import fnmatch
import importlib.util
import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import pytest_procsemantics
from pytest_procsemantics import driven, lies, spawners
from pytest_procsemantics.baselines import Baseline
from pytest_procsemantics.driven.constants import values
from pytest_procsemantics.native import BuildFailed, agent
from pytest_procsemantics.requirements.marker import why_not_here

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CHECKOUT = Path(__file__).resolve().parent.parent
DOCS = CHECKOUT / "docs"
LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCED = re.compile(r"^```.*?^```$", re.M | re.S)
HEADING = re.compile(r"^#+ (.+)$", re.M)


def load_examples() -> Any:
    """docs/examples.py, which is in no package."""
    spec = importlib.util.spec_from_file_location("procsem_docs_examples", DOCS / "examples.py")
    assert spec and spec.loader
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


examples = load_examples()
PAGES = examples.pages()
needs_driving = pytest.mark.skipif(
    why_not_here() is not None, reason=f"needs a local agent: {why_not_here()}"
)


def all_blocks(kind: str) -> list[Any]:
    return [block for page in PAGES for block in examples.blocks(page, kind)]


def is_session(block: Any) -> bool:
    return ">>> " in block.text


def name(page: Path) -> str:
    return str(page.relative_to(CHECKOUT))


# --- examples ---


@needs_driving
@pytest.mark.timeout(600)  # installs from a package index, and runs the whole suite
def test_the_first_line_of_the_readme_does_the_main_job(tmp_path: Path) -> None:
    block = next(
        block
        for block in examples.blocks(CHECKOUT / "README.md", "console")
        if is_installing(block)
    )
    command, _ = next(examples.commands(block))
    unwanted = shutil.ignore_patterns(".*", "__pycache__", "dist", "build")
    shutil.copytree(CHECKOUT, tmp_path / "checkout", ignore=unwanted)
    output, status = examples.run(command, folder=tmp_path / "checkout", longest=540)
    if "Could not find a version" in output or "Temporary failure in name resolution" in output:
        pytest.skip("no package index can be reached")
    assert status == 0, output[-5000:]
    assert "semantics of process creation" in output


class Shape(doctest.OutputChecker):
    """Pids and addresses differ from run to run: those of the pages begin with 47 and 0x7f, and stand for any."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        shape = r"\s+".join(map(re.escape, want.split()))
        shape = re.sub(r"\b47\d\d\b", r"\\d+", shape)
        shape = re.sub(r"\b0x7f[0-9a-f]+", "0x[0-9a-f]+", shape)
        shape = shape.replace(re.escape("..."), ".*")
        return re.fullmatch(shape, got.strip(), re.S) is not None


@needs_driving
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if any(map(is_session, examples.blocks(page, "python")))],
    ids=name,
)
def test_the_python_sessions_of_a_page_say_what_they_show(page: Path) -> None:
    sessions = "\n".join(
        block.text for block in examples.blocks(page, "python") if is_session(block)
    )
    test = doctest.DocTestParser().get_doctest(sessions, {}, name(page), str(page), 0)
    runner = doctest.DocTestRunner(Shape(), verbose=False)
    report: list[str] = []
    runner.run(test, out=report.append)
    assert not runner.failures, "".join(report)


@needs_driving
@pytest.mark.parametrize(
    "block",
    [
        block
        for block in all_blocks("python")
        if not is_session(block) and "def test_" in block.text
    ],
    ids=str,
)
def test_a_file_of_tests_passes(block: Any, tmp_path: Path) -> None:
    fixtures = (CHECKOUT / "conformance/conftest.py").read_text(encoding="utf-8")
    (tmp_path / "conftest.py").write_text(fixtures, encoding="utf-8")
    (tmp_path / "test_example.py").write_text(f"import pytest\n{block.text}", encoding="utf-8")
    done = run_pytest(tmp_path, "-W", "error", "test_example.py")
    assert done.returncode == 0, done.stdout
    assert re.search(r"\d+ (passed|skipped)", done.stdout), done.stdout


@needs_driving
@pytest.mark.parametrize(
    "block",
    [
        block
        for block in all_blocks("python")
        if not is_session(block) and "def test_" not in block.text
    ],
    ids=str,
)
def test_a_piece_of_python_runs_on_a_driven_process(block: Any) -> None:
    constants = {name: value for name, value in vars(values).items() if name.isupper()}
    with driven.Target.open() as target, target.test():
        given = {"target": target, "parent": target.new_process(), "observer": target.observer}
        exec(compile(block.text, str(block), "exec"), {**constants, **given})


def run_pytest(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pytest with our plugin alone in a folder."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONPATH": str(Path(pytest_procsemantics.__file__).parents[1]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    line = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "pytest_procsemantics.plugin",
        "-p",
        "no:cacheprovider",
    ]
    return subprocess.run(
        [*line, *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=examples.LONGEST,
    )


def is_installing(block: Any) -> bool:
    """Makes a virtual environment: the README's is tried below, and its line for tests by .ci/run."""
    return ".venv/" in block.text


@needs_driving
@pytest.mark.parametrize(
    "block", [one for one in all_blocks("console") if not is_installing(one)], ids=str
)
def test_commands_print_what_the_page_shows(block: Any) -> None:
    if lacking := examples.missing(block):
        pytest.skip(f"not installed: {', '.join(lacking)}")
    if found := re.search(r"qemu-(aarch64|riscv64)", block.text):
        try:
            agent(found[1])
        except BuildFailed as error:
            pytest.skip(str(error))
    status = 0
    for command, expected in examples.commands(block):
        output, status = examples.run(command, status)
        found_form, expected_form = ("\n".join(examples.form(text)) for text in (output, expected))
        assert examples.agrees(expected, output), (
            f"$ {command}\n--- shown\n{expected_form}\n--- printed\n{found_form}\n"
            "next: python docs/examples.py, and read what it changed"
        )


@pytest.mark.parametrize("block", all_blocks("toml"), ids=str)
def test_toml_is_read(block: Any, tmp_path: Path) -> None:
    content = tomllib.loads(block.text)
    if "deviation" in content:
        path = tmp_path / "example.toml"
        path.write_text(block.text, encoding="utf-8")
        assert Baseline.load(str(path)).deviations


@pytest.mark.parametrize("block", all_blocks("ini"), ids=str)
def test_ini_keys_are_ours(block: Any) -> None:
    parser = configparser.ConfigParser()
    parser.read_string(block.text)
    options = (DOCS / "reference/options.md").read_text(encoding="utf-8")
    assert [key for key in parser["pytest"] if f"`{key}`" not in options] == []


def test_each_block_is_of_a_kind_that_runs() -> None:
    assert {block.kind for page in PAGES for block in examples.blocks(page)} <= {
        "console",
        "python",
        "toml",
        "ini",
    }


# --- links ---


def anchors(page: Path) -> set[str]:
    """What may stand behind # in a link to a page, as GitHub makes it of the headings."""
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in HEADING.findall(text)}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    dead = []
    for link in LINK.findall(text):
        path, _, anchor = link.partition("#")
        goal = (page.parent / path).resolve() if path else page
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        if not goal.exists() or (anchor and anchor not in anchors(goal)):
            dead.append(link)
    assert dead == []


@pytest.mark.parametrize("baseline", ["gvisor", "proot", "qemu-user"])
def test_each_witness_of_a_foreign_target_is_told_of(baseline: str) -> None:
    page = (DOCS / "explanation/foreign-targets.md").read_text(encoding="utf-8")
    own = {entry.witness for entry in Baseline.load("linux").deviations}
    told = {entry.witness for entry in Baseline.load(baseline).deviations} - own
    assert [one for one in sorted(map(str, told)) if f"`{one.split()[0]}`" not in page] == []


def test_the_clauses_that_the_foreign_targets_do_not_keep_are_theirs() -> None:
    page = (DOCS / "explanation/foreign-targets.md").read_text(encoding="utf-8")
    for name, part in zip(
        ("gvisor", "proot", "qemu-user"), re.split(r"^## .*\n", page, flags=re.M)[1:], strict=True
    ):
        listed = [id for entry in Baseline.load(name).deviations for id in entry.clauses]
        for pattern in re.findall(r"`([a-z0-9]+(?:\.\d)?/[a-z0-9*-]+)`", part):
            if not pattern.startswith(("gvisor/", "proot/", "qemu/")):
                assert fnmatch.filter(listed, pattern), (name, pattern)


def test_each_page_is_in_the_index() -> None:
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    pages = [
        str(page.relative_to(DOCS))
        for page in PAGES
        if DOCS in page.parents and page.name != "README.md"
    ]
    assert [page for page in pages if f"({page})" not in index] == []


# --- the reference ---


@pytest.mark.parametrize(
    "part", [driven.Target, driven.Process, driven.Step, driven.Exit, driven.Observer]
)
def test_what_a_check_may_use_stands_in_the_reference(part: type) -> None:
    """All that has a docstring and isn't for the other modules of driven/."""
    text = FENCED.sub("", (DOCS / "reference/driven.md").read_text(encoding="utf-8"))
    inner = {
        driven.Target: {
            "send",
            "link",
            "greeting",
            "expect",
            "counting",
            "new_step",
            "make_room",
            "take_in",
        }
        | {
            "wait_for",
            "wait_for_birth",
            "wait_for_end",
            "wait_for_first_word",
            "wait_until",
            "facts",
            "ask_hub",
        },
        driven.Process: {
            "ask",
            "ask_call",
            "gone",
            "actual",
            "create",
            "begin_image",
            "exec_step",
            "settle",
            "sys",
            "post",
        },
    }
    public = {
        name
        for name, value in vars(part).items()
        if not name.startswith("_") and (inspect.isroutine(value) or isinstance(value, property))
    }
    named = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", text))))
    assert sorted(public - inner.get(part, set()) - named) == []


def test_the_public_names_of_driven_stand_in_the_reference() -> None:
    text = FENCED.sub("", (DOCS / "reference/driven.md").read_text(encoding="utf-8"))
    public = {
        name
        for name, value in vars(driven).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert [name for name in sorted(public) if not re.search(rf"`[^`\n]*\b{name}\b", text)] == []


def test_the_public_names_of_the_spawners_stand_in_the_reference() -> None:
    text = FENCED.sub("", (DOCS / "reference/spawners.md").read_text(encoding="utf-8"))
    named = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`\n]+)`", text))))
    classes = [getattr(spawners, name) for name in spawners.PUBLIC]
    # Of the spawners' own modules, and of those that make other spawners.
    inner = {"ended", "reap", "send", "ChildTraceback", "close"}
    members = {
        name
        for one in (spawners.Child, spawners.ThreadChild, *classes)
        for name in dir(one)
        if not name.startswith("_") and not hasattr(Exception, name)
    }
    assert sorted((members | set(spawners.PUBLIC)) - named - inner) == []


def test_the_lies_of_the_how_to_are_there() -> None:
    """Not all of them stand there: each page of checks may bring some."""
    text = (DOCS / "how-to/write-a-check.md").read_text(encoding="utf-8")
    table = text[text.index("| lie |") : text.index("`help(lies)`")]
    named = re.findall(r"`(\w+)(?:\(.*?\))?`(?= *[,|])", table)
    assert len(named) >= 10
    assert [name for name in named if not hasattr(lies, name)] == []


def test_the_reason_for_each_dependency_is_told() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = [re.split(r"[^\w-]", dependency)[0] for dependency in project["dependencies"]]
    readme = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    assert [name for name in names if f"| {name} |" not in readme] == []
