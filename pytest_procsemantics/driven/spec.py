"""What a target specification means: which agent, and the command that starts it.

local           the kernel of this machine
exec:COMMAND    a command line in front of the agent's path; {agent} where the path must stand elsewhere, and
                {agent:aarch64} for an agent of another architecture (known by itself for qemu-ARCHITECTURE)
"""

from __future__ import annotations

import os
import platform
import re
import secrets
import shlex
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pytest_procsemantics.driven.errors import StartFailed, UsageProblem
from pytest_procsemantics.driven.link import Link
from pytest_procsemantics.native.build import MACHINES

ACCEPTED = "accepted: local, exec:COMMAND"
PLACE = re.compile(r"\{agent(?::(\w+))?\}")
EMULATOR = re.compile(r"qemu-(\w+?)(?:-static)?$")
HUB = "--procsem-hub"


def host_machine() -> str:
    """The architecture of this machine, in the kernel's words."""
    name = platform.machine().lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(name, name)


@dataclass(frozen=True)
class Spec:
    """A target specification.

    Attributes:
        text: as it was given.
        words: of the command; empty for local.
        machine: the architecture of the agent that it needs.
    """

    text: str
    words: tuple[str, ...]
    machine: str

    @classmethod
    def parse(cls, text: str) -> Spec:
        """Read a specification.

        Raises:
            UsageProblem: unknown scheme, no command, or a program that is not there.
        """
        if text == "local":
            return cls(text, (), host_machine())
        scheme, colon, command = text.partition(":")
        if scheme != "exec" or not colon:
            raise UsageProblem(f"unknown target {text!r}; {ACCEPTED}")
        try:
            words = shlex.split(command)
        except ValueError as error:
            raise UsageProblem(
                f"the command of {text!r} can't be split into words: {error}"
            ) from None
        if not words:
            raise UsageProblem(f"{text!r} has no command; {ACCEPTED}")
        program = shutil.which(words[0])
        if program is None:
            raise UsageProblem(
                f"the program {words[0]!r} of {text!r} is not to be found or not executable"
            )
        named = PLACE.search(command)
        emulated = EMULATOR.search(os.path.basename(words[0]))
        machine = host_machine()
        if named and named[1]:
            machine = named[1]
        elif emulated:
            machine = emulated[1]
        if machine not in MACHINES:
            raise UsageProblem(
                f"{text!r} needs an agent for {machine}; there are agents for {', '.join(MACHINES)}"
            )
        return cls(text, (os.path.abspath(program), *words[1:]), machine)

    def command(self, agent: str) -> list[str]:
        """The command line, with the agent at its place."""
        if not any(PLACE.search(word) for word in self.words):
            return [*self.words, agent, HUB]
        line: list[str] = []
        for word in self.words:
            if PLACE.fullmatch(word):
                line += [agent, HUB]
            else:
                line.append(PLACE.sub(f"{agent} {HUB}", word))
        return line

    def start(self, timeout: float) -> Link:
        """Start the target.

        Raises:
            StartFailed: there is no agent for it, it can't be run where temporary files are, or it did not greet.
        """
        from pytest_procsemantics.native import build

        try:
            keeper, agent = build.agent(host_machine()), build.agent(self.machine)
        except build.BuildFailed as error:
            raise StartFailed(str(error)) from error
        # In a folder that all users can enter: checks change their user and root, and then exec the agent.
        place = Path(tempfile.gettempdir())
        if not self.words and os.statvfs(place).f_flag & os.ST_NOEXEC:
            raise StartFailed(
                f"no program can be run in {place}, which is mounted noexec, and the agent has to be:"
                " set TMPDIR to a folder of another file system"
            )
        folder = place / f"procsem-{secrets.token_hex(8)}"
        return Link(keeper, agent, folder, self.command(str(folder / "agent")), timeout)
