"""The end of a run for people: plain lines, aligned, at most 100 columns but for commands."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import pytest

from pytest_procsemantics.report import text
from pytest_procsemantics.report.verdict import Verdict

if TYPE_CHECKING:
    from pytest_procsemantics.report.results import Result

LISTED = 5  # tests named for one missing requirement, or one claim


def summary(
    results: Sequence[Result],
    targets: Sequence[Mapping[str, str]],
    command: Callable[[Result], str],
) -> list[str]:
    """The summary's lines.

    Args:
        results: of all checks that ended.
        targets: the facts of each target that was judged.
        command: gives the command that runs one check again.
    """
    lines = [*_targets(targets), "", *_verdicts(results)]
    deviating = [r for r in results if r.verdict == Verdict.DEVIATES]
    for result in deviating:
        if result.baseline != "known":
            lines += ["", f"deviates: {_name(result)}", *_clauses(result)]
            lines += [*text.labelled("seen", result.seen), _again(result, command)]
    lines += _known([result for result in deviating if result.baseline == "known"])
    for result in results:
        if result.baseline == "stale":
            lines += ["", f"stale baseline entry: {_name(result)}", *_clauses(result)]
            lines += [*text.labelled("seen", "conforms"), _again(result, command)]
    for result in results:
        if result.verdict == Verdict.BROKEN:
            lines += ["", f"broken: {_name(result)}"]
            lines += [*text.labelled("because", result.seen), _again(result, command)]
        if result.teardown:
            lines += ["", f"broken teardown: {_name(result)}"]
            lines += [*text.labelled("because", result.teardown), _again(result, command)]
    return [*lines, *_unsupported(results)]


def claims(patterns: Iterable[str], results: Sequence[Result]) -> list[str]:
    """What is true of the claims that these patterns select, each with the checks that show it.

    A claim is a clause of a source that is no reference, such as tutorial/*.
    """
    from pytest_procsemantics import catalogue
    from pytest_procsemantics.catalogue.vocabulary import CLAIMS

    selected = {
        clause.id: clause
        for pattern in patterns
        for clause in catalogue.matching(pattern)
        if clause.claim
    }
    if not selected:
        return []
    told = [clause.claim for clause in selected.values()]
    counts = ", ".join(f"{told.count(word)} {word}" for word in CLAIMS)
    lines = ["", f"claims: {counts}"]
    for clause in selected.values():
        ids = {clause.id, *catalogue.twin_ids(clause.id)}
        checks = [result for result in results if not ids.isdisjoint(result.clauses)]
        lines += _row(clause.claim or "", clause.says)
        lines += _row("", f"seen: {clause.seen}") if clause.seen else []
        lines += _row("", _shown(checks, clause.why))
    return lines


def coverage(collected: Collection[str], patterns: Iterable[str]) -> list[str]:
    """For each page how many of its clauses the collected checks prove, as a table; and which are open.

    Args:
        collected: ids of the clauses that they prove.
        patterns: of the clauses that are listed where they are open.
    """
    from pytest_procsemantics import catalogue

    pages = catalogue.coverage(collected)
    counts = [(page.page, page.proved, page.untestable, page.open) for page in pages]
    total = ("total", *(sum(numbers) for numbers in list(zip(*counts, strict=True))[1:]))
    rows = [tuple(map(str, row)) for row in [*counts, total]]
    lines = [*text.table(("page", "proved", "untestable", "open"), rows), ""]
    for pattern in patterns:
        found = catalogue.open_clauses(collected, pattern)
        lines.append(f"open of {pattern}: {len(found)}")
        for clause in found:
            lines += [f"  {clause.id}", *text.labelled("", clause.says)]
        lines.append("")
    return lines


def transcripts(results: Iterable[Result]) -> list[str]:
    """The transcripts of the checks that did not fail: others are shown with the failure."""
    lines = []
    for result in results:
        if result.transcript and not result.failed:
            lines += [f"transcript of {_name(result)}", *_indented(result.transcript), ""]
    return lines


def failure_of(report: pytest.TestReport) -> str:
    """What a failed report says, in one line."""
    crash = getattr(report.longrepr, "reprcrash", None)
    return text.one_line(crash.message if crash else str(report.longrepr or ""))


def _targets(targets: Sequence[Mapping[str, str]]) -> Iterator[str]:
    # The workers of one machine judge one target; `--dist each` may have several.
    for facts in {tuple(sorted(facts.items())): facts for facts in targets}.values():
        kernel = " ".join(facts[key] for key in ("release", "machine") if facts.get(key))
        spec = text.one_line(facts.get("spec", ""))
        yield from text.labelled("target", f"{spec}: {kernel or 'never answered'}")
        if facts.get("description"):
            yield from text.labelled("", facts["description"])


def _verdicts(results: Sequence[Result]) -> list[str]:
    columns = ("conforms", "deviates", "known", "unsupported", "broken")
    counts: dict[str, dict[str, int]] = {}
    for result in results:
        for page in (result.page, "total"):
            row = counts.setdefault(page, dict.fromkeys(columns, 0))
            known = result.verdict == Verdict.DEVIATES and result.baseline == "known"
            row["known" if known else str(result.verdict)] += 1
    total = counts.pop("total")
    rows = [(page, *map(str, counts[page].values())) for page in sorted(counts)]
    rows.append(("total", *map(str, total.values())))
    return ["  " + line for line in text.table(("page", *columns), rows)]


def _known(results: Sequence[Result]) -> list[str]:
    lines = ["", f"known deviations: {len(results)}"] if results else []
    for result in results:
        lines += text.labelled("clause", ", ".join(result.clauses))
        # What this run saw may be another outcome of a race; the entry says what there is to know.
        lines += text.labelled("seen", result.entry_seen or result.seen)
        lines += text.labelled("reason", result.entry_reason) if result.entry_reason else []
    return lines


def _clauses(result: Result) -> Iterator[str]:
    from pytest_procsemantics import catalogue

    for id in result.clauses:
        yield from text.labelled("clause", id)
        yield from text.labelled("says", catalogue.clause(id).says)


def _row(claim: str, said: str) -> list[str]:
    return text.labelled(claim, said, column=9)


def _shown(checks: Sequence[Result], why: str | None) -> str:
    """Which checks show what is true of a claim, by their verdicts on this target."""
    if not checks:
        return f"no check: {why}" if why else "no check yet"
    names: dict[str, list[str]] = {}
    for result in checks:
        names.setdefault(str(result.verdict), []).append(_name(result).rpartition("::")[2])
    return "; ".join(f"{verdict}: {_some(tests)}" for verdict, tests in names.items())


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def _unsupported(results: Iterable[Result]) -> list[str]:
    missing: dict[str, list[str]] = {}
    for result in results:
        if result.verdict == Verdict.UNSUPPORTED:
            for word in result.missing:
                missing.setdefault(word, []).append(_name(result).rpartition("::")[2])
    lines = ["", "unsupported, by what is missing:"] if missing else []
    for word in sorted(missing, key=lambda word: (-len(missing[word]), word)):
        names = missing[word]
        lines += [f"  {text.one_line(word)}: {len(names)}"]
        lines += text.labelled("", _some(names))
    return lines


def _name(result: Result) -> str:
    return text.escaped(result.nodeid)


def _again(result: Result, command: Callable[[Result], str]) -> str:
    # Never wrapped: it is there to be copied.
    return f"  {'again':<8} {command(result)}"


def _indented(block: str) -> Iterator[str]:
    return (f"  {line}" for line in block.split("\n"))
