"""A leak in words: its kind, number and target, and what to do."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from pytest_procsemantics.leaks.snapshot import (
    CHILD,
    DESCRIPTOR,
    SEGMENT,
    SEGMENTS,
    THREAD,
    Thing,
    command_line,
    read,
    status,
)
from pytest_procsemantics.report import text

ZOMBIE: Final = "zombie"
NEXT: Final = {
    CHILD: "end it and wait for it",
    ZOMBIE: "wait for it",
    DESCRIPTOR: "close it",
    THREAD: "let it end and join it",
    SEGMENT: "unlink it",
}


@dataclass(frozen=True, slots=True)
class Leak:
    """Something that a test or a fixture began and did not end."""

    kind: str  # one of settings.LEAK_KINDS
    number: int  # pid, descriptor or thread id; of a segment its size in bytes
    target: str  # command line, file or address, name of the thread, path of the segment
    origin: str  # where it began

    def __str__(self) -> str:
        number = f"of {self.number} bytes" if self.kind == SEGMENT else str(self.number)
        what = f"{self.kind} {number}: {text.one_line(self.target)}"
        return f"{what}\n    began in {self.origin}; next: {NEXT[self.kind]}"

    def is_allowed(self, patterns: Iterable[tuple[str, str]]) -> bool:
        """Whether one of the patterns, each a kind and a glob for the target, is about it."""
        return any(
            kind == self.kind and fnmatchcase(self.target, target) for kind, target in patterns
        )


def described(thing: Thing, origin: str) -> Leak | None:
    """What can be said of a thing that is there now; None if it is there no more."""
    if thing.kind == CHILD:
        return _child(thing.number, origin)
    if thing.kind == DESCRIPTOR:
        return Leak(DESCRIPTOR, thing.number, _descriptor(thing), origin)
    if thing.kind == THREAD:
        return _thread(thing.number, origin)
    path = f"{SEGMENTS}/{thing.target}"
    try:
        return Leak(SEGMENT, os.stat(path).st_size, path, origin)
    except FileNotFoundError:
        return None


def _child(pid: int, origin: str) -> Leak | None:
    try:
        name = read(f"/proc/{pid}/comm").rstrip("\n")
    except (FileNotFoundError, ProcessLookupError):
        return None
    kind = ZOMBIE if status(str(pid))[:1] == ["Z"] else CHILD
    return Leak(kind, pid, command_line(pid) or name, origin)


def _descriptor(thing: Thing) -> str:
    if thing.target.startswith("socket:"):
        return f"{thing.target}{_addresses(thing.number)}"
    if thing.target == "anon_inode:[pidfd]":
        lines = read(f"/proc/self/fdinfo/{thing.number}").splitlines()
        return thing.target + "".join(
            f" of {line.split()[1]}" for line in lines if line.startswith("Pid:")
        )
    return thing.target


def _addresses(descriptor: int) -> str:
    """Where a socket is bound to and what it is connected with, as far as it is."""
    found = ""
    with socket.socket(fileno=os.dup(descriptor)) as one:
        for word, ask in (("at", one.getsockname), ("to", one.getpeername)):
            try:
                address = ask()
            except OSError:
                continue
            if isinstance(address, tuple):
                address = ":".join(map(str, address[:2]))
            if address:
                found += f" {word} {address!s}"
    return found


def _thread(number: int, origin: str) -> Leak | None:
    for thread in threading.enumerate():
        if thread.native_id == number:
            return Leak(THREAD, number, thread.name, origin)
    try:
        name = read(f"/proc/self/task/{number}/comm").rstrip("\n")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return Leak(THREAD, number, f"{name} (not one of Python's)", origin)
