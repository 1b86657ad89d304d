"""Wrong use gives one message that says what is accepted, exit status 4, and no traceback."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Run = Callable[..., pytest.RunResult]

CHECK = """
from pytest_procsemantics.clauses import clause

@clause("fork.2/memory-is-copied")
def test_check(): pass
"""

WRONG_OPTIONS = {
    "unknown-scheme": (
        ["--procsem-target=vm:x"],
        "--procsem-target: unknown target 'vm:x'; accepted: local, exec:COMMAND",
    ),
    "no-command": (
        ["--procsem-target=exec: "],
        "--procsem-target: 'exec: ' has no command; accepted: local, exec:COMMAND",
    ),
    "open-quote": (
        ["--procsem-target=exec:a 'b"],
        "--procsem-target: the command of \"exec:a 'b\" can't be split into words: *",
    ),
    "missing-program": (
        ["--procsem-target=exec:no-such-program --flag"],
        "--procsem-target: the program 'no-such-program' of * is not to be found*",
    ),
    "two-targets": (
        ["--procsem-target=local", "--procsem-target=local"],
        "--procsem-target: given 2 times; accepted: once, one target for each run",
    ),
    "timeout-zero": (
        ["--procsem-timeout=0"],
        "--procsem-timeout: '0' is no length of time; accepted: seconds above 0, such as*",
    ),
    "timeout-nan": (
        ["--procsem-timeout=nan"],
        "--procsem-timeout: 'nan' is no length of time; accepted: seconds above 0, such as*",
    ),
    "timeout-word": (
        ["--procsem-timeout=soon"],
        "--procsem-timeout: 'soon' is no length of time; accepted: seconds above 0, such as*",
    ),
    "transcript": (
        ["--procsem-transcript=never"],
        "--procsem-transcript: unknown choice 'never'; accepted: failed, all",
    ),
    "baseline-name": (
        ["--procsem-baseline=plan9"],
        "--procsem-baseline: no baseline 'plan9'; accepted: gvisor, linux, proot, proot-unprivileged, qemu-user, or a path*",
    ),
    "baseline-path": (
        ["--procsem-baseline=none.toml"],
        "--procsem-baseline: */none.toml: No such file or directory",
    ),
    "json-folder": (
        ["--procsem-json=none/out.json"],
        "--procsem-json: none/out.json: No such file or directory; accepted: a file that can be*",
    ),
    "json-device": (
        ["--procsem-json=/dev/null"],
        "--procsem-json: /dev/null: is no regular file; accepted: a file that can be written",
    ),
    "json-nothing": (
        ["--procsem-json="],
        "--procsem-json: : is no regular file; accepted: a file that can be written",
    ),
    "pattern-of-no-clause": (
        ["--procsem-clause=vfrok.2/*"],
        "--procsem-clause: no clause of the catalogue matches 'vfrok.2/[*]'; accepted: a clause id*",
    ),
    "pattern-of-no-check": (
        ["--procsem-clause=fork.2/*", "--procsem-clause=vfork.2/*"],
        "--procsem-clause: no collected check proves a clause that matches 'vfork.2/[*]'; *",
    ),
}


@pytest.mark.parametrize(("args", "message"), WRONG_OPTIONS.values(), ids=list(WRONG_OPTIONS))
def test_a_wrong_option_is_one_message(
    run: Run, pytester: pytest.Pytester, args: list[str], message: str
) -> None:
    pytester.makepyfile(CHECK)
    result = run(*args)
    assert result.ret == 4
    _one_error(result, f"ERROR: {message}")


def test_a_wrong_ini_value_names_its_key(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nprocsem_timeout = -1")
    result = run()
    assert result.ret == 4
    _one_error(result, "ERROR: ini key procsem_timeout: '-1' is no length of time; accepted: *")


def test_no_check_at_all_is_no_match(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_plain(): pass")
    result = run("--procsem-clause=fork.2")
    assert result.ret == 4
    _one_error(result, "ERROR: --procsem-clause: no collected check proves a clause that*'fork.2'*")


WRONG_MARKERS = {
    "unknown-word": (
        "procsem_requires('usern')",
        "*.py:3: procsem_requires: unknown requirement 'usern'; nearest: userns; accepted: *",
    ),
    "no-word": (
        "procsem_requires()",
        "*.py:3: procsem_requires takes one or more words, such as 'userns'",
    ),
    "keyword": (
        "procsem_requires('root', reason='x')",
        "*.py:3: procsem_requires takes one or more words, such as 'userns'",
    ),
    "no-text": (
        "procsem_requires(object())",
        "*.py:3: procsem_requires takes words, not something of type object",
    ),
    "clause-by-hand": (
        "procsem_clause('fork.2/memory-copied')",
        "*.py:3: no clause 'fork.2/memory-copied'; nearest: fork.2/memory-is-copied*",
    ),
}


@pytest.mark.parametrize(("marker", "message"), WRONG_MARKERS.values(), ids=list(WRONG_MARKERS))
def test_a_bad_marker_argument_is_one_collection_error(
    run: Run, pytester: pytest.Pytester, marker: str, message: str
) -> None:
    pytester.makepyfile(
        f"import pytest\n\n"
        f"@pytest.mark.parametrize('case', [1, 2])\n@pytest.mark.{marker}\n"
        f"def test_marked(case): pass\n"
    )
    result = run()
    assert result.ret in (1, 2)  # 1 under pytest-xdist
    result.assert_outcomes(errors=1)
    _one_error(result, message)


def test_a_file_that_fails_to_import_is_the_error_shown(
    run: Run, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile("raise OSError('not ready')")
    result = run("--procsem-clause=fork.2")
    assert result.ret in (1, 2)  # 1 under pytest-xdist
    result.stdout.fnmatch_lines(["*OSError: not ready"])
    result.stderr.no_fnmatch_line("*no collected check*")


def _one_error(result: pytest.RunResult, message: str) -> None:
    lines = result.outlines + result.errlines
    wanted = pytest.LineMatcher(lines)
    wanted.fnmatch_lines([message])
    assert sum("procsem" in line and "accepted" in line for line in lines) <= 1
    wanted.no_fnmatch_line("*Traceback*")
    wanted.no_fnmatch_line("*INTERNALERROR*")
