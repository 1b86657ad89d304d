"""What a process does with signals, by the kernel's word (proc(5), /proc/pid/status)."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

NAMES = ("SigBlk", "SigIgn", "SigCgt")  # blocked, ignored, caught


def masks(process: int | str) -> dict[str, int]:
    """The masks of a process by name, given by its pid or as "self"; bit 0 is signal 1. Empty if they can't be read."""
    found = {}
    with suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in NAMES:
                found[name] = int(value, 16)
    return found


def catches(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal, and does not block it."""
    found = masks(pid)
    bit = 1 << (number - 1)
    return bool(found.get("SigCgt", 0) & bit) and not found.get("SigBlk", 0) & bit
