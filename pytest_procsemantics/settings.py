"""The run's settings: option, else ini key, else default, resolved once.

A wrong value is a pytest.UsageError here, before any worker of pytest-xdist starts. Workers resolve
the same values again and check only their form: a worker may be another machine.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

DEFAULT_TARGET = "local"
DEFAULT_TIMEOUT = 10.0  # seconds that one wait may take
TRANSCRIPT_CHOICES = ("failed", "all")
LEAK_KINDS = ("child", "zombie", "descriptor", "thread", "segment")


@dataclass(frozen=True, slots=True)
class Settings:
    """What the options and ini keys say, in its final form."""

    target: str = DEFAULT_TARGET
    timeout: float = DEFAULT_TIMEOUT  # seconds
    transcript: str = "failed"
    patterns: tuple[str, ...] = ()  # of clause ids; empty: every test runs
    coverage: bool = False
    prove: bool = False  # tell the checks' lies as well
    matrix: bool = False  # and the generic ones
    baselines: tuple[str, ...] = ()  # names of built-in ones, or paths
    json: Path | None = None  # the file of results, for programs
    leak_guard: bool = False  # for every test
    leaks_allowed: tuple[tuple[str, str], ...] = ()  # kind, and glob of the target


def add_options(parser: pytest.Parser) -> None:
    """Add our options and ini keys to pytest's."""
    group = parser.getgroup("procsemantics", "semantics of process creation")
    add, ini = group.addoption, parser.addini
    add(
        "--procsem-target",
        metavar="SPEC",
        action="append",
        help="Target to judge: local (default), or exec:COMMAND, a command line in front of the agent's",
    )
    add(
        "--procsem-timeout",
        metavar="SECONDS",
        help="Seconds that one wait for the target may take (default: 10)",
    )
    add(
        "--procsem-transcript",
        metavar="WHEN",
        help="Show every step of every driven process: failed (default) or all",
    )
    add(
        "--procsem-clause",
        metavar="GLOB",
        action="append",
        help="Run only the checks of clauses whose id matches, such as 'vfork.2/*' (repeatable)",
    )
    add(
        "--procsem-coverage",
        action="store_true",
        help="Print how many clauses of each page are proved by the collected checks",
    )
    add(
        "--procsem-prove",
        action="store_true",
        help="Run each check also under its lies, and fail where a check notices none",
    )
    add(
        "--procsem-matrix",
        action="store_true",
        help="As --procsem-prove, and run each check also under the generic lies of its primitive; fail"
        " where one is noticed by no check at all",
    )
    add(
        "--procsem-baseline",
        metavar="FILE",
        action="append",
        help="Known deviations of the target: a TOML file, or the name of a built-in one (repeatable;"
        " default: linux for the local target, none for others)",
    )
    add(
        "--procsem-json",
        metavar="FILE",
        help="Write the results to a file, for programs",
    )
    add(
        "--procsem-leak-guard",
        action="store_true",
        help="Fail each test that leaves a child, descriptor, thread or segment in /dev/shm behind",
    )
    ini("procsem_target", "Default for --procsem-target", type="string", default="")
    ini("procsem_timeout", "Default for --procsem-timeout", type="string", default="")
    ini("procsem_transcript", "Default for --procsem-transcript", type="string", default="")
    ini("procsem_baseline", "Default for --procsem-baseline", type="linelist", default=[])
    ini("procsem_leak_guard", "Default for --procsem-leak-guard", type="bool", default=False)
    ini(
        "procsem_leak_allow",
        "What a test may leave behind: lines of a kind and a glob, such as 'thread asyncio_*'",
        type="linelist",
        default=[],
    )


def resolve(config: pytest.Config) -> Settings:
    """Read the options and ini keys of a run.

    Raises:
        pytest.UsageError: a value isn't accepted; the message says what is.
    """
    target = _target(config)
    settings = Settings(
        target=target,
        timeout=_timeout(config),
        transcript=_transcript(config),
        patterns=tuple(config.getoption("--procsem-clause") or ()),
        coverage=bool(config.getoption("--procsem-coverage")),
        prove=bool(config.getoption("--procsem-prove") or config.getoption("--procsem-matrix")),
        matrix=bool(config.getoption("--procsem-matrix")),
        baselines=_baselines(config, target),
        json=_json(config),
        leak_guard=config.getoption("--procsem-leak-guard") or config.getini("procsem_leak_guard"),
        leaks_allowed=_leaks_allowed(config),
    )
    if not hasattr(config, "workerinput"):
        _check_patterns(settings.patterns)
        _check_baselines(settings.baselines)
    return settings


def _value(config: pytest.Config, word: str) -> tuple[Any, str]:
    """The value of an option or its ini key (None: neither is given), and where it stands."""
    option = config.getoption(f"--procsem-{word}")
    if option is not None:
        return option, f"--procsem-{word}"
    return config.getini(f"procsem_{word}") or None, f"ini key procsem_{word}"


def _target(config: pytest.Config) -> str:
    value, where = _value(config, "target")
    if value is None:
        return DEFAULT_TARGET
    if isinstance(value, list):
        if len(value) > 1:
            raise pytest.UsageError(
                f"{where}: given {len(value)} times; accepted: once, one target for each run"
            )
        value = value[0]
    spec = str(value)
    # A worker may be another machine: what is missing there its first start tells.
    if spec != DEFAULT_TARGET and not hasattr(config, "workerinput"):
        from pytest_procsemantics.driven.errors import UsageProblem
        from pytest_procsemantics.driven.spec import Spec

        try:
            Spec.parse(spec)
        except UsageProblem as error:
            raise pytest.UsageError(f"{where}: {error}") from None
    return spec


def _timeout(config: pytest.Config) -> float:
    value, where = _value(config, "timeout")
    if value is None:
        return DEFAULT_TIMEOUT
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise pytest.UsageError(
            f"{where}: {value!r} is no length of time; accepted: seconds above 0, such as 30 or 0.5"
        )
    return seconds


def _transcript(config: pytest.Config) -> str:
    value, where = _value(config, "transcript")
    if value is None:
        return TRANSCRIPT_CHOICES[0]
    if value not in TRANSCRIPT_CHOICES:
        raise pytest.UsageError(
            f"{where}: unknown choice {value!r}; accepted: {', '.join(TRANSCRIPT_CHOICES)}"
        )
    return str(value)


def _baselines(config: pytest.Config, target: str) -> tuple[str, ...]:
    # --runxfail is pytest's own way to say "no failure is an expected one".
    if config.getoption("runxfail", False):
        return ()
    value, where = _value(config, "baseline")
    if value is None:
        return ("linux",) if target == DEFAULT_TARGET else ()
    folder = config.invocation_params.dir
    if where.startswith("ini") and config.inipath:
        folder = config.inipath.parent
    return tuple(_located(str(name), folder) for name in value)


def _located(name: str, folder: Path) -> str:
    """A path stands relative to where it was written; a bare word is a built-in baseline's name."""
    is_path = name.endswith(".toml") or "/" in name
    return str(folder / name) if is_path else name


def _json(config: pytest.Config) -> Path | None:
    value = config.getoption("--procsem-json")
    if value is None:
        return None
    # Of a link the file that it leads to is replaced, and not the link.
    path = Path(os.path.realpath(config.invocation_params.dir / value))
    # Of the workers of pytest-xdist none writes it.
    if not hasattr(config, "workerinput"):
        from pytest_procsemantics.report import file

        try:
            file.probe(path)
        except OSError as error:
            raise pytest.UsageError(
                f"--procsem-json: {value}: {error.strerror}; accepted: a file that can be written"
            ) from None
    return path


def _leaks_allowed(config: pytest.Config) -> tuple[tuple[str, str], ...]:
    found = []
    for line in config.getini("procsem_leak_allow"):
        kind, _, target = line.partition(" ")
        if kind not in LEAK_KINDS or not target.strip():
            raise pytest.UsageError(
                f"ini key procsem_leak_allow: {line!r} is no kind and target; accepted: one of"
                f" {', '.join(LEAK_KINDS)}, and behind it a pattern such as '/dev/nvidia*'"
            )
        found.append((kind, target.strip()))
    return tuple(found)


def _check_patterns(patterns: tuple[str, ...]) -> None:
    if not patterns:
        return
    import difflib

    from pytest_procsemantics import catalogue

    for pattern in patterns:
        if not catalogue.matching(pattern):
            pages = difflib.get_close_matches(pattern.partition("/")[0], catalogue.pages())
            nearest = f"; nearest pages: {', '.join(pages)}" if pages else ""
            raise pytest.UsageError(
                f"--procsem-clause: no clause of the catalogue matches {pattern!r}; accepted: a"
                f" clause id or a pattern such as 'vfork.2/*'{nearest}"
            )


def _check_baselines(names: tuple[str, ...]) -> None:
    # The one that is on by default is loaded when the first check is collected.
    if names in ((), ("linux",)):
        return
    from pytest_procsemantics.baselines import Baseline

    for name in names:
        try:
            Baseline.load(name)
        except (OSError, ValueError) as error:
            raise pytest.UsageError(f"--procsem-baseline: {error}") from None
