"""Small ELF files for a target's machine, made as bytes: a few instructions, or the agent with more in it.

    program = Elf.program(target.machine, exits(target.machine, 7))
    agent = Elf.parse(observer.read(...)).with_segment(address=0x10000000, content=b"data")

The copy of the agent stays driven, so a check reads its memory as ever. Offsets agree with addresses
modulo 64 KiB, the largest page of the three machines.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace

from pytest_procsemantics.driven.constants import PF_R, PF_W, PF_X, PT_INTERP, PT_LOAD, SIGSTOP

HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
SEGMENT = struct.Struct("<IIQQQQQQ")
IDENTITY = b"\x7fELF\2\1\1".ljust(16, b"\0")  # 64 bits, little-endian, version 1
PAGE = 0x10000  # bytes
BASE = 0x400000  # where a program is linked to
ET_REL, ET_EXEC, ET_DYN, ET_CORE = 1, 2, 3, 4
MACHINES = {"x86_64": 62, "aarch64": 183, "riscv64": 243}  # EM_X86_64 and so on (linux/elf-em.h)
EXIT_GROUP, GETPID, KILL = 94, 172, 129  # of the generic table


@dataclass(frozen=True)
class Segment:
    """One program header."""

    type: int
    flags: int
    offset: int
    address: int
    file_size: int
    memory_size: int
    alignment: int = PAGE


@dataclass(frozen=True)
class Elf:
    """A 64-bit little-endian file: its content, and headers that bytes() writes.

    Attributes:
        content: the whole file; the ELF header and what else the headers say is written over it.
        type: ET_EXEC, ET_DYN and so on.
        machine: EM_X86_64 and so on.
        entry: address of the first instruction.
        segments: the program headers, written behind the content.
    """

    content: bytes
    type: int
    machine: int
    entry: int
    segments: tuple[Segment, ...]

    @classmethod
    def parse(cls, content: bytes) -> Elf:
        """Take a file apart. struct.error if it is none."""
        _, type, machine, _, entry, at, _, _, _, _, number, *_ = HEADER.unpack_from(content)
        found = (SEGMENT.unpack_from(content, at + index * SEGMENT.size) for index in range(number))
        segments = (
            Segment(kind, flags, *(fields[:2] + fields[3:])) for kind, flags, *fields in found
        )
        return cls(content, type, machine, entry, tuple(segments))

    @classmethod
    def program(cls, machine: str, code: bytes, *, type: int = ET_EXEC, base: int = BASE) -> Elf:
        """A file of one segment, which is readable and executable and begins with `code`."""
        empty = cls(bytes(HEADER.size), type, MACHINES[machine], base, ())
        return empty.with_segment(address=base, content=code, flags=PF_R | PF_X)

    def with_segment(
        self,
        *,
        address: int,
        content: bytes = b"",
        memory_size: int | None = None,
        flags: int = PF_R | PF_W,
        type: int = PT_LOAD,
        alignment: int = PAGE,
        first: bool = False,
    ) -> Elf:
        """The same file with a segment more.

        Args:
            address: where it is mapped.
            content: its bytes in the file.
            memory_size: bytes in memory; default those in the file.
            flags: PF_R, PF_W, PF_X.
            type: PT_LOAD and so on.
            alignment: a power of 2.
            first: it stands before the others instead of behind them.
        """
        filled = self.content + bytes((address - len(self.content)) % alignment)
        size = len(content) if memory_size is None else memory_size
        segment = Segment(type, flags, len(filled), address, len(content), size, alignment)
        segments = (segment, *self.segments) if first else (*self.segments, segment)
        return replace(self, content=filled + content, segments=segments)

    def with_interpreter(self, path: bytes, *, first: bool = True) -> Elf:
        """The same file with a PT_INTERP of just these bytes: a NUL at the end is the caller's."""
        return self.with_segment(
            address=0, content=path, flags=PF_R, type=PT_INTERP, alignment=1, first=first
        )

    def without(self, type: int) -> Elf:
        """The same file without the program headers of a type."""
        kept = tuple(segment for segment in self.segments if segment.type != type)
        return replace(self, segments=kept)

    def __bytes__(self) -> bytes:
        filled = self.content + bytes(-len(self.content) % 8)
        number = len(self.segments)
        sizes = (HEADER.size, SEGMENT.size, number, 0, 0, 0)
        header = HEADER.pack(
            IDENTITY, self.type, self.machine, 1, self.entry, len(filled), 0, 0, *sizes
        )
        return header + filled[HEADER.size :] + b"".join(map(_packed, self.segments))


def _packed(segment: Segment) -> bytes:
    return SEGMENT.pack(
        segment.type,
        segment.flags,
        segment.offset,
        segment.address,
        segment.address,
        segment.file_size,
        segment.memory_size,
        segment.alignment,
    )


# --- code, which runs at any address ---


def exits(machine: str, status: int) -> bytes:
    """Instructions that end the process by exit_group(status), 0 to 255."""
    if machine == "x86_64":
        return b"\xbf" + struct.pack("<I", status) + b"\xb8\xe7\0\0\0\x0f\x05"
    return _generic(machine, (0, status), (8, EXIT_GROUP))


def stops(machine: str) -> bytes:
    """Instructions that stop the process by SIGSTOP, and end it with 0 once it is continued."""
    if machine == "x86_64":  # getpid; kill(pid, SIGSTOP)
        ask = b"\xb8\x27\0\0\0\x0f\x05\x89\xc7"
        ask += b"\xbe" + struct.pack("<I", SIGSTOP) + b"\xb8\x3e\0\0\0\x0f\x05"
    else:
        ask = _generic(machine, (8, GETPID)) + _generic(machine, (1, SIGSTOP), (8, KILL))
    return ask + exits(machine, 0)


def _generic(machine: str, *registers: tuple[int, int]) -> bytes:
    """Set registers, numbered as on aarch64, to small numbers, and make a system call."""
    if machine == "aarch64":
        moves: Iterable[int] = (0xD2800000 | value << 5 | number for number, value in registers)
        trap = 0xD4000001
    else:  # riscv64: a0 is register 10, a7 17
        names = {0: 10, 1: 11, 8: 17}
        moves = (value << 20 | names[number] << 7 | 0x13 for number, value in registers)
        trap = 0x73
    return b"".join(struct.pack("<I", word) for word in (*moves, trap))
