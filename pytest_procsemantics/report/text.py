"""Text that came from a target, made fit for a terminal: bounded, and without control characters."""

from __future__ import annotations

import textwrap

WIDTH = 100  # columns of the summary
SHORT = 400  # characters of one fact
SECTION = 64 * 1024  # characters of a section such as the transcript


def escaped(text: str) -> str:
    """The text with every character that is not printable as a backslash escape, newlines too."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


def is_sendable(text: str) -> bool:
    """Whether pytest-xdist can send it: bytes of a target that are no text became lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def one_line(text: str, limit: int = SHORT) -> str:
    """The text's first line with something on it, escaped, at most `limit` characters long."""
    line = next((line for line in text.splitlines() if line.strip()), "").strip()
    line = escaped(line[: limit + 1])
    return line if len(line) <= limit else line[: limit - 4] + " ..."


def block(text: str, limit: int = SECTION) -> str:
    """The text's lines, each escaped; of a text above `limit` characters the beginning and end."""
    if len(text) > limit:
        # What went wrong stands at the end, what it was about at the beginning.
        head, tail = text[: limit // 4], text[-(limit - limit // 4) :]
        text = f"{head}\n... {len(text) - limit} characters left out ...\n{tail}"
    return "\n".join(escaped(line.expandtabs()) for line in text.split("\n"))


def labelled(label: str, text: str, width: int = WIDTH, column: int = 8) -> list[str]:
    """`text` wrapped to `width` columns behind a label, which stands on the first line only."""
    first = f"  {label:<{column}} "
    return textwrap.wrap(
        text,
        width,
        initial_indent=first,
        subsequent_indent=" " * len(first),
        break_on_hyphens=False,
    ) or [first.rstrip()]


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    """Rows as aligned columns: the first to the left, the others (numbers) to the right."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    return [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])])
        for row in [head, *rows]
    ]
