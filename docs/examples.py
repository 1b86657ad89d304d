"""The console examples in README.md and docs/: finds them, runs them, and writes what they print into their pages.

    python docs/examples.py [FILE...]

A block of a page is marked by the word behind its fence: `console` has commands behind "$ " and what they print,
where "..." stands for any text, and alone on a line for any lines. tests/test_docs.py runs these and all other kinds, and compares their form.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
LONGEST = 120.0  # seconds of one command
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)
ELLIPSIS = "..."
# What an environment may say otherwise of the same run.
QUIET = {
    "PYTEST_ADDOPTS": "-p no:randomly -p no:cacheprovider",
    "PYTHONDONTWRITEBYTECODE": "1",
    "COLUMNS": "80",
}
DROPPED = (
    "CI",  # pytest then prints more of each failure
    "BUILD_NUMBER",
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD",
    "PYTEST_CURRENT_TEST",
    "PYTEST_XDIST_WORKER",
    "PYTEST_PLUGINS",
)


@dataclass(frozen=True)
class Block:
    """One fenced block of a page; `str()` is its place."""

    page: Path
    line: int
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(CHECKOUT)}:{self.line}"


def pages() -> list[Path]:
    """README.md, its companions, and all of docs/, sorted."""
    return sorted([*CHECKOUT.glob("*.md"), *CHECKOUT.glob("docs/**/*.md")])


def blocks(page: Path, kind: str = "") -> list[Block]:
    """The fenced blocks of a page, or those of one kind."""
    text = page.read_text(encoding="utf-8")
    found = [
        Block(page, text.count("\n", 0, one.start()) + 1, one[1], one[2])
        for one in FENCE.finditer(text)
    ]
    return [block for block in found if kind in ("", block.kind)]


def commands(block: Block) -> Iterator[tuple[str, str]]:
    """Each command of a console block with the output below it."""
    for part in re.split(r"^\$ ", block.text, flags=re.M)[1:]:
        command, _, output = part.partition("\n")
        while command.endswith("\\"):
            more, _, output = output.partition("\n")
            command = f"{command}\n{more}"
        yield command, output


def needs(command: str) -> list[str]:
    """The programs without which a command can't be tried, but for those of this project."""
    words = shlex.split(command.replace("\\\n", " "))
    found = [words[0]] if words[0] not in ("pytest", "python", "echo") else []
    for word in words:
        _, colon, target = word.partition("target=exec:")
        if colon:
            found.append(shlex.split(target)[0])
    return found


def missing(block: Block) -> list[str]:
    """The programs of a block that this machine lacks."""
    return [
        name
        for command, _ in commands(block)
        for name in needs(command)
        if shutil.which(name) is None
    ]


def run(
    command: str, status: int = 0, folder: Path = CHECKOUT, longest: float = LONGEST
) -> tuple[str, int]:
    """What a command prints, errors included, and its exit status.

    Args:
        command: for bash.
        status: what $? is before it.
        folder: where it runs.
        longest: seconds after which it is ended with all that it started.
    """
    environment = {name: value for name, value in os.environ.items() if name not in DROPPED}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    started = subprocess.Popen(
        ["bash", "-c", f"(exit {status}); {command}"],
        cwd=folder,
        env={**environment, **QUIET, "PATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = started.communicate(timeout=longest)
    except BaseException:
        os.killpg(started.pid, signal.SIGKILL)
        started.communicate()
        raise
    return output, started.returncode


def tidy(output: str) -> str:
    """What a command prints without blanks at the ends of lines."""
    return "".join(f"{line.rstrip()}\n" for line in output.splitlines())


def form(text: str) -> list[str]:
    """A run's lines without what may differ from run to run: numbers, releases, times, places, progress."""
    lines: list[str] = []
    is_known = False
    for line in text.splitlines():
        is_known = line.startswith("known deviations") or (is_known and line.startswith("  "))
        if is_known and line.startswith("  seen "):  # of a race, perhaps: any outcome is known
            continue
        line = re.sub(r"\s+", " ", line).strip()
        if line != ELLIPSIS and re.fullmatch(r"[.sxXFEu]+( \[ ?\d+%\])?", line):
            continue
        row = re.fullmatch(r"([\w./]+)((?: \d+){5})", line)
        if row:  # of verdicts: some or none
            line = row[1] + re.sub(r"[1-9]\d*", "N", row[2])
        elif not re.fullmatch(r"\d+", line):  # a status alone is what the example is about
            line = re.sub(r"/[\w./-]*procsem-[0-9a-f]+", "FOLDER", line)
            line = re.sub(r"\b\d+\.\d+\.\d+[\w.+-]*", "RELEASE", line)
            line = re.sub(r"\bin [\d.]+s( \([\d:]+\))?", "in TIME", line)
            line = re.sub(r"0x[0-9a-f]+|(?<![\w.])\d+(?!\w|\.\d)", "N", line)
        lines.append(line)
    return [line for line in lines if line]


def agrees(expected: str, found: str) -> bool:
    """Whether an output has the form of an example."""
    any_text = re.escape(ELLIPSIS)
    parts = [re.escape(line).replace(any_text, ".*") for line in form(expected)]
    pattern = "".join(r"(?:.*\n)*?" if part == ".*" else part + r"\n" for part in parts)
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in form(found))) is not None


def renewed(block: Block) -> str:
    """The block's text with what its commands print now; an output with "..." stays as it is.

    Raises:
        SystemExit: a command came to neither an end in peace nor a failed test.
    """
    text, status = "", 0
    for command, shown in commands(block):
        output, status = run(command, status)
        if status > 1:
            raise SystemExit(f"{block}: status {status} of {command}\n{output}")
        text += f"$ {command}\n{shown if ELLIPSIS in shown.splitlines() else tidy(output)}"
    return text


def main(names: list[str]) -> None:
    """Renew the console blocks of these pages, or of all."""
    for page in [Path(name).resolve() for name in names] or pages():
        for block in blocks(page, "console"):
            if ".venv/" in block.text:  # installs something
                continue
            if lacking := missing(block):
                print(f"{block}: not renewed, {', '.join(lacking)} is not installed")
            else:
                text = page.read_text(encoding="utf-8")
                page.write_text(text.replace(block.text, renewed(block)), encoding="utf-8")
                print(f"{block}: renewed")


if __name__ == "__main__":
    main(sys.argv[1:])
