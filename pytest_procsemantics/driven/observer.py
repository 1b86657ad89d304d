"""The second witness: what the kernel says of driven processes, read on the target itself.

Numbers of processes mean something in one pid namespace only, so the observer lives beside the hub, and nothing here
reads the /proc of the machine that pytest runs on.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_procsemantics.driven.call import Out
from pytest_procsemantics.driven.constants import (
    AT_FDCWD,
    ENOENT,
    ESRCH,
    KCMP_VM,
    O_RDONLY,
    errno_name,
)
from pytest_procsemantics.driven.errors import CallFailed, Deviation, Unsupported

if TYPE_CHECKING:
    from pytest_procsemantics.driven.process import Process

CHUNK = 16384  # bytes of one read
MOST = 1 << 22  # bytes of one file
PRESENT = 1 << 63  # a page that is in memory (proc(5), /proc/pid/pagemap)
FRAME_BITS = (1 << 55) - 1


@dataclass(frozen=True)
class Mapping:
    """A mapping of a process.

    Attributes:
        process: whose.
        addresses: a range of them.
        protection: such as "r-xp" (proc(5)).
    """

    process: Process
    addresses: range
    protection: str

    @property
    def content(self) -> bytes:
        """Its bytes, read by the process itself."""
        return self.process.load_bytes(self.addresses.start, len(self.addresses))


@dataclass(frozen=True)
class CapabilitySets:
    """The capabilities of a thread as masks: bit CAP_CHOWN, and so on (capabilities(7))."""

    inheritable: int
    permitted: int
    effective: int
    bounding: int
    ambient: int


class Observer:
    """Reads about other driven processes; each method takes the process that it is about.

    Attributes:
        process: the driven process that does the reading.
    """

    def __init__(self, process: Process) -> None:
        self.process = process

    def __repr__(self) -> str:
        return "observer"

    def read(self, path: str) -> bytes:
        """A file of the target, at most 4 MiB.

        Raises:
            Unsupported: it is one of /proc, where no proc is mounted.
        """
        calls = self.process.sys
        fd = calls.openat(AT_FDCWD, path, O_RDONLY)
        try:
            content = b""
            while len(content) < MOST:
                count, chunk = calls.raw("read", fd, Out(CHUNK), CHUNK)
                content += chunk[:count]
                if not count:
                    break
            return content
        finally:
            calls.close(fd)

    def link(self, path: str) -> str:
        """Where a symbolic link of the target leads, such as /proc/PID/ns/pid.

        Raises:
            Unsupported: as for `read`.
        """
        target = bytes(self.process.sys.readlinkat(AT_FDCWD, path))
        return target.decode("utf-8", "surrogateescape")

    def namespace(self, process: Process, kind: str) -> str:
        """The identity of a namespace of a process or thread; kind as in /proc/PID/ns (namespaces(7)).

        Raises:
            Unsupported: the target tells nobody's.
        """
        try:
            return self.link(f"{self.folder(process)}/ns/{kind}")
        except CallFailed as error:
            if process is self.process:
                raise Unsupported(f"/proc/PID/ns/{kind} ({errno_name(error.errno or 0)})") from None
            self.namespace(self.process, kind)
            raise

    @staticmethod
    def folder(process: Process) -> str:
        """The folder of /proc about a process, or about that one thread of it."""
        place = f"/proc/{process.pid}"
        if process.tid_seen != process.pid:
            place += f"/task/{process.tid_seen}"
        return place

    def stat(self, process: Process) -> list[str]:
        """The fields of /proc/PID/stat from the third on, or of the thread's own file (proc(5))."""
        # The second field is the name in brackets, which may hold anything.
        stat = self.read(f"{self.folder(process)}/stat").decode("ascii", "replace")
        return stat.rpartition(")")[2].split()

    def state(self, process: Process) -> str:
        """S, D, T, t, Z, X or I (proc(5)); D: not to be disturbed, such as the parent of vfork.

        A process that has just answered, or made a child, still runs (R) until it reaches the read or the
        wait that it is on its way to: this looks again until it has.

        Raises:
            Overdue: it ran on until the target's timeout.
        """
        __tracebackhide__ = True
        seen = "R"

        def is_at_rest() -> bool:
            nonlocal seen
            seen = self.state_now(process)
            return seen != "R"

        process.target.wait_until(is_at_rest, f"{process} to stop running")
        return seen

    def state_now(self, process: Process) -> str:
        """The same in one look, so R too: a process that runs, or waits for a processor."""
        return self.stat(process)[0]

    def wait_for_state(self, process: Process, state: str) -> None:
        """Look until the kernel reports a state, such as T after a stop signal.

        Raises:
            Overdue: it did not within the target's timeout.
        """
        __tracebackhide__ = True
        target = self.process.target
        target.wait_until(
            lambda: self.state_now(process) == state, f"{process} to be in state {state}"
        )

    def wait_until_gone(self, process: Process) -> None:
        """Look until the kernel has no such process any more, not even a zombie.

        Raises:
            Overdue: it still had one after the target's timeout.
        """
        __tracebackhide__ = True

        def is_gone() -> bool:
            try:
                self.stat(process)
            except CallFailed as error:
                return error.errno in (ENOENT, ESRCH)
            return False

        self.process.target.wait_until(is_gone, f"{process} to be gone")

    def faults(self, process: Process) -> int:
        """Minor faults so far, without the children's (proc(5), minflt)."""
        return int(self.stat(process)[7])

    def start_time(self, process: Process) -> int:
        """When the process began, in clock ticks since boot (proc(5), starttime)."""
        return int(self.stat(process)[19])

    def status(self, process: Process) -> dict[str, str]:
        """/proc/PID/status by name, or the thread's own (proc(5))."""
        lines = self.read(f"{self.folder(process)}/status").decode("utf-8", "replace").splitlines()
        return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}

    def mapping(self, process: Process, name: str) -> Mapping:
        """The first mapping of this name in /proc/PID/maps, such as [stack] (proc(5)).

        Raises:
            Deviation: there is none.
        """
        for line in self.read(f"/proc/{process.pid}/maps").decode("utf-8", "replace").splitlines():
            place, protection, *_, found = line.split(maxsplit=5)
            if found == name:
                start, end = (int(address, 16) for address in place.split("-"))
                return Mapping(process, range(start, end), protection)
        raise Deviation(f"{process} has no mapping {name}")

    def waits_at(self, process: Process) -> tuple[int, int]:
        """Stack pointer and instruction pointer of a thread that waits in a system call (proc(5), syscall).

        Raises:
            Unsupported: the target does not tell them.
        """
        path = f"/proc/{process.pid}/task/{process.tid_seen}/syscall"
        try:
            words = self.read(path).split()
        except CallFailed as error:
            raise Unsupported(f"/proc/PID/syscall ({errno_name(error.errno or 0)})") from None
        if len(words) < 3:
            raise Unsupported(f"/proc/PID/syscall of a waiting thread (it says {words})")
        return int(words[-2], 16), int(words[-1], 16)

    def threads(self, process: Process) -> int:
        """How many threads the process has (proc(5), Threads)."""
        return int(self.status_field(process, "Threads"))

    def status_field(self, process: Process, name: str) -> str:
        """One field of /proc/PID/status; a target that does not report it gives no verdict."""
        fields = self.status(process)
        if name not in fields:
            raise Unsupported(f"/proc/PID/status {name} (not reported)")
        return fields[name]

    def capabilities(self, process: Process) -> CapabilitySets:
        """The five sets of a process or thread, as its status has them (proc(5))."""
        names = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
        return CapabilitySets(*(int(self.status_field(process, name), 16) for name in names))

    def io_count(self, process: Process, name: str) -> int:
        """One count of /proc/PID/io, such as rchar (proc(5)); a target that does not report it gives no verdict."""
        found = self.read(f"/proc/{process.pid}/io").decode("ascii", "replace")
        counts = dict(line.split(": ", 1) for line in found.splitlines() if ": " in line)
        if name not in counts:
            raise Unsupported(f"/proc/PID/io {name} (not reported)")
        return int(counts[name])

    def fdinfo(self, process: Process, fd: int) -> dict[str, str]:
        """/proc/PID/fdinfo/FD by name: pos, flags and so on (proc(5))."""
        lines = (
            self.read(f"/proc/{process.pid}/fdinfo/{fd}").decode("utf-8", "replace").splitlines()
        )
        return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}

    def kcmp(self, one: Process, other: Process, kind: int, first: int = 0, second: int = 0) -> int:
        """Whether two processes share a resource: 0 if they do, else 1 to 3 (kcmp(2)).

        Raises:
            Unsupported: the kernel has no such call, or a filter lets nobody make it.
        """
        call, own = self.process.sys.raw, self.process.tid_seen
        try:
            return int(call("kcmp", one.tid_seen, other.tid_seen, kind, first, second))
        except CallFailed:
            try:
                call("kcmp", own, own, KCMP_VM, 0, 0)
            except CallFailed as error:
                raise Unsupported(f"syscall:kcmp ({errno_name(error.errno or 0)})") from None
            raise

    def frame(self, process: Process, address: int) -> int:
        """The number of the page frame behind an address (proc(5), pagemap); needs CAP_SYS_ADMIN.

        Raises:
            Deviation: no page is there.
            Unsupported: the number is hidden from this user, or the target has no pagemap.
        """
        entry = self.pagemap(process, address)
        if not entry & PRESENT:
            raise Deviation(f"no page of {process} is in memory at {address:#x}")
        if not entry & FRAME_BITS:
            raise Unsupported("cap:SYS_ADMIN (page frame numbers are hidden from this user)")
        return entry & FRAME_BITS

    def pagemap(self, process: Process, address: int) -> int:
        """The raw 64-bit entry of /proc/PID/pagemap for an address (proc(5))."""
        calls = self.process.sys
        try:
            fd = calls.openat(AT_FDCWD, f"/proc/{process.pid}/pagemap", O_RDONLY)
        except CallFailed as error:
            raise Unsupported(f"/proc/PID/pagemap ({errno_name(error.errno or 0)})") from None
        try:
            at = address // self.process.target.page_size * 8
            count, entry = calls.raw("pread64", fd, Out(8), 8, at)
            return int(struct.unpack("<Q", entry)[0]) if count == 8 else 0
        finally:
            calls.close(fd)
