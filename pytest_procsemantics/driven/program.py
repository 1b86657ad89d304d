"""What exec takes: a path, arguments and environment, as texts or as addresses in the process."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from itertools import accumulate, chain, islice
from typing import TYPE_CHECKING

from pytest_procsemantics.driven import wire

if TYPE_CHECKING:
    from pytest_procsemantics.driven.process import Process

WORD = 8  # bytes
AGENT = b""  # as a path: the target's own copy of the agent
# A number is an address in the process, 0 a null pointer.
Path = str | bytes | int
Texts = Sequence[str | bytes] | int


def image_arguments(
    process: Process, base: int, path: Path, argv: Texts, envp: Texts
) -> tuple[list[int], bytes]:
    """Lay out path, argv and envp. What is too long for a packet goes into memory of its own.

    Args:
        base: where the bytes that go with the request will lie.

    Returns:
        The addresses of the three, and the bytes that go with the request.
    """
    lists = [texts for texts in (argv, envp) if not isinstance(texts, int)]
    places = [] if isinstance(path, int) else [path]
    texts = [os.fsencode(text) for text in chain(*lists, places)]
    table = sum(len(given) + 1 for given in lists) * WORD
    strings = b"".join(text + b"\0" for text in texts)
    size = table + len(strings)
    fits = size <= wire.MAX_DATA
    if not fits:
        base = process.allocate(size)
    ends = accumulate((len(text) + 1 for text in texts), initial=base + table)
    addresses = []
    pointers: list[int] = []
    for given in (argv, envp):
        if isinstance(given, int):
            addresses.append(given)
        else:
            addresses.append(base + len(pointers) * WORD)
            pointers += [*islice(ends, len(given)), 0]
    addresses.insert(0, path if isinstance(path, int) else next(ends))
    content = struct.pack(f"<{len(pointers)}Q", *pointers) + strings
    if fits:
        return addresses, content
    process.store(base, content)
    return addresses, b""
