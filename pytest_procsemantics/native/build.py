"""Builds the agent, the freestanding C program that runs on the target, and the shared object for spawn_vfork.

This file stands alone (standard library only): the build hook runs it by its path, before anything
is installed. An installed wheel has the agents beside this file and never compiles; a checkout or
an editable install compiles at first use, into the user's cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import platform
import shlex
import shutil
import struct
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

SOURCES = Path(__file__).resolve().parent
MACHINES = ("x86_64", "aarch64", "riscv64")
VFORK_MACHINES = ("x86_64", "aarch64")  # those with a statement in arch/vfork.h
SIZE_LIMIT = 16 * 1024  # bytes of each agent
COMPILE_TIME = 300.0  # seconds for one compiler run; zig prepares itself in its first one

ALIASES = {"amd64": "x86_64", "arm64": "aarch64"}  # platform.machine() elsewhere
# elf(5): e_machine, and where the fields of a 64-bit header stand.
ELF_MACHINES = {"x86_64": 62, "aarch64": 183, "riscv64": 243}
E_PHOFF, E_SHOFF, E_PHENTSIZE, E_SHENTSIZE = 32, 40, 54, 58
PT_LOAD, P_OFFSET = 1, 8

# No libc, no thread-local storage, no relocation at start: the loop must run in any child.
FLAGS = (
    *("-std=gnu11", "-Wall", "-Wextra", "-Werror", "-fomit-frame-pointer", "-fno-unroll-loops"),
    *("-static", "-nostdlib", "-ffreestanding", "-fno-pie", "-s"),
    *("-fno-stack-protector", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables"),
    "-fno-sanitize=all",  # zig's default without optimisation
)
SMALL = ("-Os",)  # a step is all system calls, so nothing else would make it faster
CLANG_SMALL = ("-Oz",)
# It takes -Oz for -Os, so what makes that larger is turned off by name.
ZIG_SMALL = ("-Os", "-mllvm", "-inline-threshold=-100", "-fno-vectorize", "-fno-slp-vectorize")
ZIG_OUTLINED = {"aarch64": ("-moutline",)}  # which -Oz turns on there
MACHINE_FLAGS = {
    # No vector registers: checks on the state of the floating point unit would see them.
    "x86_64": ("-mgeneral-regs-only", "-fcf-protection=none"),
    # Outlined atomics are calls into libgcc, which is not linked.
    "aarch64": ("-mgeneral-regs-only", "-mbranch-protection=none", "-mno-outline-atomics"),
    # Small data would be a segment of its own, and a page of padding in the file.
    "riscv64": ("-msmall-data-limit=0",),
}
# The shared object of vfork.c lives in an interpreter that may have been hardened, so it is marked for it. Without
# unwind tables whoever unwinds a child's stack stops there: above lie the frames of the frozen parent.
VFORK_FLAGS = (
    *("-std=gnu11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-nostdlib"),
    *("-ffreestanding", "-s", "-fno-stack-protector"),
    *("-fno-asynchronous-unwind-tables", "-fno-unwind-tables", "-fno-sanitize=all"),
)
VFORK_MACHINE_FLAGS = {
    "x86_64": ("-fcf-protection=full",),
    "aarch64": ("-mbranch-protection=standard",),
}
# Without it GNU ld pads each segment to a page, which alone is more than the code. zig's linker
# does not know the option and has no such gaps.
NO_PADDING = "-Wl,-z,noseparate-code"

# The library program is an ordinary one. -O1 without sibling calls: a child by vfork must leave the
# frame that it shares with its parent as it is.
LIBRARY_FLAGS = (
    *("-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O1", "-fno-optimize-sibling-calls"),
    *("-pthread", "-s", NO_PADDING),
)
LIBRARIES = ("-ldl",)  # dlsym, before glibc 2.34

ZIG = "ziglang"  # the package from PyPI, run as a module: a whole C compiler for every machine
PROBE = "void _start(void);\nvoid _start(void)\n{\n\tfor (;;)\n\t\t;\n}\n"


class BuildFailed(Exception):
    """There is no agent for a machine and none can be built; says what was tried and what next."""


class Part(NamedTuple):
    """One of the files that a build makes for each machine.

    Attributes:
        source: the C file.
        name: of what is made, with the machine's.
        machines: those that it is made for.
        flags: of the compiler, apart from those of size and place.
        machine_flags: further ones, by machine.
    """

    source: str
    name: str
    machines: tuple[str, ...]
    flags: tuple[str, ...]
    machine_flags: Mapping[str, tuple[str, ...]]

    def file(self, machine: str) -> str:
        """The name of what is made for a machine."""
        return self.name.format(machine)


AGENT = Part("agent.c", "agent-{}", MACHINES, FLAGS, MACHINE_FLAGS)
# Without the suffix of Python's extension modules, for it is none.
VFORK = Part("vfork.c", "vfork-{}", VFORK_MACHINES, VFORK_FLAGS, VFORK_MACHINE_FLAGS)


class Compiler(NamedTuple):
    """A C compiler for one machine; `name` is how people know it."""

    name: str
    machine: str
    command: tuple[str, ...]
    flags: tuple[str, ...]

    def complaint(self) -> str | None:
        """Tell why it does not work, by compiling a few lines; None if it does."""
        if missing := self.missing():
            return missing
        with tempfile.TemporaryDirectory(prefix="procsem-probe-") as folder:
            probe = Path(folder, "probe.c")
            probe.write_text(PROBE)
            return self.compile(probe, Path(folder, "probe"))

    def missing(self) -> str | None:
        """Tell why it is not even there, or None."""
        if self.name == ZIG:
            return None if importlib.util.find_spec(ZIG) else "not installed"
        return None if shutil.which(self.command[0]) else "not found"

    def compile(self, source: Path, output: Path, *more: str) -> str | None:
        """Compile and link one file.

        Args:
            source: the C file.
            output: the executable.
            more: further options; they stand last, so that `-O0` wins over ours.

        Returns:
            None, or what the compiler complained about.
        """
        try:
            done = self._run(*self.flags, *more, str(source), "-o", str(output))
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        if done.returncode != 0:
            lines = done.stderr.splitlines() or ["no message"]
            line = next((line for line in lines if "error" in line), lines[0])
            return f"exit status {done.returncode}: {line.strip()}"
        image = output.read_bytes()
        if image[:5] != b"\x7fELF\2" or image[18] != ELF_MACHINES[self.machine]:
            return f"makes no {self.machine} executables"
        output.write_bytes(_mapped(image))
        return None

    def digest(self) -> str:
        """A short name for what it makes of given sources: by its name, flags and version."""
        try:
            version = self._run("--version").stdout
        except (OSError, subprocess.TimeoutExpired) as error:
            version = str(error)
        # Not by its command: that has the path of this Python, another one for each build.
        return _digest(self.name, *self.flags, version)

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "LC_ALL": "C"}
        with contextlib.ExitStack() as temporary:
            # It keeps several megabytes for each configuration in the user's cache, if it may.
            if self.name == ZIG:
                folder = tempfile.TemporaryDirectory(prefix="procsem-zig-")
                cache = temporary.enter_context(folder)
                environment |= {"ZIG_GLOBAL_CACHE_DIR": cache, "ZIG_LOCAL_CACHE_DIR": cache}
            return subprocess.run(
                [*self.command, *arguments],
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=COMPILE_TIME,
            )


def host() -> str:
    """The machine that this Python runs on, in the kernel's words."""
    machine = platform.machine().lower()
    return ALIASES.get(machine, machine)


def supported() -> bool:
    """Whether an agent can run here, so that a build must make one."""
    return sys.platform == "linux" and host() in MACHINES


def platform_tag() -> str:
    """The last part of a wheel's name, for a wheel that carries agents."""
    return sysconfig.get_platform().replace("-", "_").replace(".", "_")


def compilers(machine: str, part: Part = AGENT) -> Iterator[Compiler]:
    """Every compiler that may make a machine's agent, or another part, the preferred one first."""
    flags = (*part.flags, *part.machine_flags[machine])
    for name in _names(machine):
        small = CLANG_SMALL if "clang" in name else SMALL
        yield Compiler(name, machine, tuple(shlex.split(name)), (*small, *flags, NO_PADDING))
    # With a target even for the host: without one zig uses all that this processor has.
    zig = (sys.executable, "-m", ZIG, "cc", "-target", f"{machine}-linux-none")
    yield Compiler(ZIG, machine, zig, (*ZIG_SMALL, *ZIG_OUTLINED.get(machine, ()), *flags))


def _names(machine: str) -> list[str]:
    """The command lines by which a C compiler for a machine may be known."""
    if machine == host():
        return [name for name in (os.environ.get("CC", ""), "cc", "gcc", "clang") if name]
    clang = f"clang --target={machine}-linux-gnu"
    return [f"{machine}-linux-gnu-gcc", clang, f"{clang} -fuse-ld=lld"]


def compiler(machine: str | None = None, part: Part = AGENT) -> Compiler | None:
    """Find a compiler that really makes executables.

    Args:
        machine: what for, one of MACHINES; None: the machine that this Python runs on.
        part: what.

    Returns:
        The first that works: $CC, cc, gcc, clang (for another machine its cross compilers), then
        the package ziglang; None where there is none.
    """
    candidates = compilers(machine or host(), part)
    return next((one for one in candidates if one.complaint() is None), None)


def build(
    folder: Path, machines: Sequence[str] | None = None, sources: Path = SOURCES
) -> list[Path]:
    """Compile agents, and the shared object for spawn_vfork where there is one for the machine.

    Args:
        folder: where to; the files are named `agent-MACHINE` and `vfork-MACHINE`.
        machines: for which; None: this machine, and the others as far as compilers are there.
        sources: the folder that holds agent.c and vfork.c.

    Returns:
        The paths of what was made.

    Raises:
        BuildFailed: one of `machines`, or this machine, has no compiler or agent.c does not compile.
    """
    wanted = [host()] if machines is None else list(machines)
    extra = [] if machines is not None else [one for one in MACHINES if one not in wanted]
    made = [_compile(_working(machine), folder, sources) for machine in wanted]
    for machine in extra:
        try:
            made.append(_compile(_working(machine), folder, sources))
        except BuildFailed:  # welcome to those who judge other machines, needed by nobody else
            continue
    # It runs in the Python that the wheel is for, and nowhere else.
    if host() in wanted and host() in VFORK.machines:
        made.append(_compile(_working(host(), VFORK), folder, sources, VFORK))
    return made


def agent(machine: str | None = None, sources: Path = SOURCES) -> Path:
    """Give the agent for a machine, and build it if this installation brought none.

    Args:
        machine: one of MACHINES; None: the machine that this Python runs on.
        sources: the folder that holds agent.c, or the agents themselves.

    Returns:
        The packaged executable, else one in the user's cache (XDG_CACHE_HOME, ~/.cache) under a
        digest of sources, compiler, flags and compiler version.

    Raises:
        BuildFailed: neither is there, and it can't be built here.
    """
    return _made(AGENT, machine or host(), sources)


def vfork(sources: Path = SOURCES) -> Path:
    """Give the shared object by which spawn_vfork makes children of this Python, as `agent`.

    Raises:
        BuildFailed: it is not there, and can't be built here.
    """
    return _made(VFORK, host(), sources)


def _made(part: Part, machine: str, sources: Path) -> Path:
    file = part.file(machine)
    packaged = sources / file
    if packaged.is_file():
        return packaged
    if sys.platform != "linux":
        raise BuildFailed(f"driven processes need Linux, and this is {sys.platform}; run it there")
    _check(machine, part)
    folder = cache_folder() / _sources_digest(sources)
    for candidate in compilers(machine, part):
        if candidate.missing() is None:
            path = folder / f"{file}-{candidate.digest()}"
            if os.access(path, os.R_OK | os.X_OK):
                return path
    try:
        working = _working(machine, part)
    except BuildFailed:
        # An editable install may have used a compiler that only its build environment had.
        for path in folder.glob(f"{file}-*"):
            return path
        raise
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="build-", dir=folder) as temporary:
            built = _compile(working, Path(temporary), sources, part)
            path = folder / f"{file}-{working.digest()}"
            os.replace(built, path)  # workers race, and each must see a whole file
    except OSError as error:
        raise BuildFailed(
            f"can't keep {file} in {folder}: {error.strerror}; "
            "next: set XDG_CACHE_HOME to a folder that can be written"
        ) from error
    return path


def library(machine: str | None = None, sources: Path = SOURCES) -> Path:
    """Give the library program for a machine: library.c, linked to the C library of its compiler.

    No wheel has it, for it is only good for the C library that it was linked to.

    Args:
        machine: one of MACHINES; None: the machine that this Python runs on.
        sources: the folder that holds library.c.

    Returns:
        The executable in the user's cache, as `agent`; made at the first call.

    Raises:
        BuildFailed: no compiler for the machine links programs to a C library.
    """
    machine = machine or host()
    _check(machine)
    tried = []
    for name in _names(machine):
        one = Compiler(name, machine, tuple(shlex.split(name)), LIBRARY_FLAGS)
        complaint = one.missing()
        if complaint is None:
            folder = cache_folder() / _sources_digest(sources)
            path = folder / f"library-{machine}-{one.digest()}"
            if os.access(path, os.R_OK | os.X_OK):
                return path
            complaint = _keep(one, sources / "library.c", path)
            if complaint is None:
                return path
        tried.append(f"{name} ({complaint})")
    raise BuildFailed(f"needs a C compiler at build time; tried {', '.join(tried)}")


def _keep(working: Compiler, source: Path, path: Path) -> str | None:
    """Compile into the cache; gives the complaint, or None."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="build-", dir=path.parent) as temporary:
            output = Path(temporary, path.name)
            complaint = working.compile(source, output, *LIBRARIES)
            if complaint is None:
                output.chmod(0o755)
                os.replace(output, path)  # workers race, and each must see a whole file
            return complaint
    except OSError as error:
        return f"{path.parent}: {error.strerror}"


def cache_folder() -> Path:
    """The user's cache for this project, which may not be there yet."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        return (cache if cache.is_absolute() else Path.home() / ".cache") / "pytest-procsemantics"
    except RuntimeError as error:
        raise BuildFailed(f"no cache folder: {error}; set XDG_CACHE_HOME") from error


def _working(machine: str, part: Part = AGENT) -> Compiler:
    _check(machine, part)
    working = compiler(machine, part)
    if working is None:
        tried = (f"{one.name} ({one.complaint()})" for one in compilers(machine, part))
        raise BuildFailed(
            f"no {part.file(machine)}: no working C compiler; tried {', '.join(tried)}; "
            "next: pip install ziglang"
        )
    return working


def _compile(working: Compiler, folder: Path, sources: Path, part: Part = AGENT) -> Path:
    output = folder / part.file(working.machine)
    complaint = working.compile(sources / part.source, output)
    if complaint is not None:
        raise BuildFailed(f"no {output.name}: {working.name} on {part.source}: {complaint}")
    output.chmod(0o755)
    return output


def _mapped(image: bytes) -> bytes:
    """An ELF file up to the last byte that the kernel maps.

    Beyond lie the section headers, which only tools read, and with LLVM's linker up to a page of
    padding in front of a segment that has no bytes in the file.
    """
    kept = bytearray(image)
    (start,) = struct.unpack_from("<Q", image, E_PHOFF)
    size, count = struct.unpack_from("<HH", image, E_PHENTSIZE)
    end = 0
    for at in range(start, start + size * count, size):
        kind, _, offset, address, _, length, _, align = struct.unpack_from("<IIQQQQQQ", image, at)
        if kind == PT_LOAD and length:
            end = max(end, offset + length)
        elif kind == PT_LOAD:
            # As GNU ld does: proot maps this place of the file, even for no bytes.
            struct.pack_into("<Q", kept, at + P_OFFSET, address % align)
    struct.pack_into("<Q", kept, E_SHOFF, 0)
    struct.pack_into("<HHH", kept, E_SHENTSIZE, 0, 0, 0)
    return bytes(kept[:end])


def _check(machine: str, part: Part = AGENT) -> None:
    if machine not in part.machines:
        what = part.source.removesuffix(".c")
        raise BuildFailed(
            f"no {what} for {machine}; there are {what}s for {', '.join(part.machines)}"
        )


def _sources_digest(sources: Path) -> str:
    files = sorted(sources.rglob("*.[ch]"))
    return _digest(*(f"{path.relative_to(sources)}\n{path.read_text()}" for path in files))


def _digest(*parts: str) -> str:
    whole = hashlib.sha256()
    for part in parts:
        whole.update(f"{len(part)}:{part}".encode())
    return whole.hexdigest()[:16]
