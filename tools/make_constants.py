"""Write pytest_procsemantics/driven/constants/ from the Linux user-space headers.

    pip install ziglang==0.17.1
    python tools/make_constants.py [FOLDER]

The ziglang wheel carries what `make headers_install` gives for every architecture, newer than any
distribution's package; without FOLDER its headers are taken. For another kernel, install its
headers so that FOLDER has one include folder for each name in INCLUDES. The host's cc computes the
values, for each machine by that machine's headers: all three are LP64 and little-endian, so the
host may be any.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "pytest_procsemantics" / "driven" / "constants"
INCLUDES = {"x86_64": "x86-linux-any", "aarch64": "aarch64-linux-any", "riscv64": "riscv-linux-any"}
EVERY_MACHINE = "any-linux-any"

# In asm/ and linux/; prctl.h and others are in both
HEADERS = """
    asm/auxvec asm/errno asm/fcntl asm/ioctls asm/mman asm/poll asm/prctl asm/resource
    asm/siginfo asm/signal asm/socket linux/audit linux/auxvec linux/bpf_common linux/capability
    linux/close_range linux/elf linux/eventfd linux/eventpoll linux/fanotify linux/fcntl
    linux/filter linux/fs linux/futex linux/inotify linux/io_uring linux/ioprio linux/ipc
    linux/kcmp linux/keyctl linux/landlock linux/limits linux/membarrier linux/memfd
    linux/mempolicy linux/mman linux/mount linux/msg linux/nsfs linux/perf_event
    linux/personality linux/pidfd linux/prctl linux/ptrace linux/random linux/resource
    linux/rseq linux/sched linux/sched/types linux/seccomp linux/securebits linux/sem linux/shm
    linux/signalfd linux/stat linux/time linux/timerfd linux/userfaultfd linux/wait
"""
# What begins a wanted name, before its first underscore
FAMILIES = """
    ADDR ARCH AT BPF CAP CLD CLOCK CLONE CLOSE EFD EPOLL F FAN FD FUTEX FUTEX2 GRND IN IOPRIO
    IPC ITIMER KCMP KEYCTL KEY LANDLOCK LOCK MADV MAP MCL MEMBARRIER MFD MLOCK MNT MOUNT MOVE
    MPOL MREMAP MS MSG NS O P PER PF PIDFD PKEY POLL PR PRIO PROT PT PTRACE RENAME RLIM RLIMIT
    RLIM64 RSEQ RUSAGE RWF SA SCHED SCM SECBIT SECCOMP SEEK SEM SFD SHM SI SIG SIGEV SOL SS
    STATX TFD TIMER UFFD UFFDIO UMOUNT WUFFD
"""
# Wanted names of other families, and those without an underscore
OTHER_NAMES = """
    AUDIT_ARCH_(X86_64|AARCH64|RISCV64) IORING_(SETUP|ENTER)_[A-Z0-9_]+ IORING_OP_(NOP|POLL_ADD)
    IORING_REGISTER_RING_FDS OPEN_TREE_[A-Z]+ PERF_(FLAG|RECORD)_[A-Z0-9_]+ SO_(PASS|PEER)[A-Z]+
    SO_TYPE E[A-Z0-9]{2,} SIG[A-Z0-9]+ MINSIGSTKSZ W[A-Z]+ __W(ALL|CLONE|NOTHREAD) S_I[A-Z]+
    POLL[A-Z]+ POSIX_FADV_[A-Z]+ TIOC[A-Z0-9]+ FION[A-Z0-9]+ FIO[A-Z]*CLEX [GS]ETALL [GS]ETVAL
    GETPID GETNCNT GETZCNT PATH_MAX NAME_MAX ARG_MAX NR_OPEN NGROUPS_MAX PIPE_BUF
    [A-Z]+_NS_INIT_INO
"""
WANTED = re.compile(f"({'|'.join(FAMILIES.split())})_[A-Z0-9_]+|{'|'.join(OTHER_NAMES.split())}")
# Macros that are no constant for a user of their family
UNWANTED = re.compile(
    r".*(_H|_H_|_MAGIC)|BPF_(CLASS|SIZE|MODE|OP|SRC)|SI_(BAND_T|MAX_SIZE)|F_LINUX_SPECIFIC_BASE"
    r"|(ELF|EXEC|EPIOC|EFS)[A-Z0-9]*|PT_(LOOS|HIOS|LOPROC|HIPROC)|AT_VECTOR_SIZE.*"
)

# What user space needs and no user-space header of the kernel has
OTHERS = {
    "linux/socket.h": """
        AF_UNSPEC 0 AF_UNIX 1 AF_INET 2 AF_INET6 10 AF_NETLINK 16 AF_PACKET 17 AF_ALG 38 AF_VSOCK 40
        SCM_RIGHTS 1 SCM_CREDENTIALS 2 SCM_SECURITY 3 SCM_PIDFD 4 MSG_OOB 1 MSG_PEEK 2 MSG_CTRUNC 8
        MSG_TRUNC 0x20 MSG_DONTWAIT 0x40 MSG_EOR 0x80 MSG_WAITALL 0x100 MSG_NOSIGNAL 0x4000
        MSG_CMSG_CLOEXEC 0x40000000
    """,
    "linux/net.h": """
        SOCK_STREAM 1 SOCK_DGRAM 2 SOCK_RAW 3 SOCK_RDM 4 SOCK_SEQPACKET 5 SOCK_NONBLOCK 0o4000
        SOCK_CLOEXEC 0o2000000 SHUT_RD 0 SHUT_WR 1 SHUT_RDWR 2
    """,
    "linux/fs.h": "MNT_FORCE 1 MNT_DETACH 2 MNT_EXPIRE 4 UMOUNT_NOFOLLOW 8",
    "asm-generic/signal.h": "SIGRTMAX 64",  # _NSIG there, which x86's headers leave undefined
    "sched(7)": "SCHED_OTHER 0",  # the kernel says SCHED_NORMAL
    "errno(3)": "ENOTSUP 95",  # the kernel says EOPNOTSUPP
    "access(2)": "F_OK 0 X_OK 1 W_OK 2 R_OK 4",
}

SHOW = """
int printf(const char *, ...);
static void show(const char *name, unsigned long value, int is_signed)
{
	printf(is_signed ? "%s %ld\\n" : "%s %lu\\n", name, value);
}
"""

Values = dict[str, dict[str, int]]  # name -> machine -> value


def main() -> None:
    """Compute everything and write the two generated modules."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ziglang_headers()
    values: Values = {}
    numbers: dict[str, dict[str, int]] = {}
    for machine, name in INCLUDES.items():
        for constant, value in constants((folder / name, folder / EVERY_MACHINE)).items():
            values.setdefault(constant, {})[machine] = value
        numbers[machine] = call_numbers(folder / name / "asm" / "unistd_64.h")
    for others in OTHERS.values():
        for constant, number in re.findall(r"(\w+) (\w+)", others):
            values[constant] = dict.fromkeys(INCLUDES, int(number, 0))
    release = version(folder / EVERY_MACHINE / "linux" / "version.h")
    (PACKAGE / "values.py").write_text(values_module(values, release))
    (PACKAGE / "calls.py").write_text(calls_module(numbers, release))
    calls = ", ".join(f"{len(by_name)} calls of {machine}" for machine, by_name in numbers.items())
    print(f"Linux {release}: {len(values)} constants, {calls}")


def ziglang_headers() -> Path:
    """Where the installed ziglang package keeps the kernel's headers."""
    spec = find_spec("ziglang")
    if spec is None or spec.origin is None:
        sys.exit("make_constants: no package ziglang; pip install it, or name a folder of headers")
    return Path(spec.origin).parent / "lib" / "libc" / "include"


def version(header: Path) -> str:
    """The kernel's release, "7.2.0", as its headers state it."""
    text = header.read_text()
    names = ("MAJOR", "PATCHLEVEL", "SUBLEVEL")
    parts = (re.search(rf"LINUX_VERSION_{name} (\d+)", text) for name in names)
    return ".".join(part[1] if part else "?" for part in parts)


def constants(include: tuple[Path, ...]) -> dict[str, int]:
    """Every wanted constant that the headers in `include` define, with its value."""
    cc = ["cc", "-xc", "-nostdinc", "-w", *(f"-I{path}" for path in include)]
    headers = [f"{name}.h" for name in HEADERS.split()]
    present = [name for name in headers if any((path / name).exists() for path in include)]
    source = "".join(f"#include <{name}>\n" for name in present)
    macros = re.findall(r"^#define (\w+) .", run([*cc, "-E", "-dM", "-"], source), re.MULTILINE)
    names = {*macros, *enumerators(run([*cc, "-E", "-P", "-"], source))}
    wanted = [n for n in sorted(names) if WANTED.fullmatch(n) and not UNWANTED.fullmatch(n)]
    unusable = not_constant(cc, source, wanted)
    body = "\n".join(
        f'\tshow("{name}", (unsigned long)({name}), (__typeof__({name}))-1 < 0);'
        for name in wanted
        if name not in unusable
    )
    with tempfile.TemporaryDirectory() as folder:
        program = os.path.join(folder, "show")
        text = f"{source}\n{SHOW}int main(void)\n{{\n{body}\n\treturn 0;\n}}\n"
        run([*cc, "-o", program, "-"], text)
        lines = run([program], "").splitlines()
    return {name: int(value) for name, value in map(str.split, lines)}


def enumerators(source: str) -> list[str]:
    """The names that the enums of preprocessed C define."""
    found = []
    for body in re.findall(r"\benum\b[^{;()]*\{([^}]*)\}", source):
        members = re.sub(r"\([^()]*\)", "", body).split(",")
        found += [name[1] for name in map(re.compile(r"\s*(\w+)").match, members) if name]
    return found


def not_constant(cc: list[str], source: str, names: list[str]) -> set[str]:
    """The names that aren't an integer constant but a type, a string, or something undefined."""
    body = "\n".join(f"enum {{ USE_{name} = ((unsigned long)({name})) & 1 }};" for name in names)
    done = subprocess.run(
        [*cc, "-fsyntax-only", "-fmax-errors=0", "-"],
        check=False,
        input=f"{source}\n{body}\n",
        capture_output=True,
        text=True,
        env={**os.environ, "LC_ALL": "C"},
    )
    message = re.compile(r"^<stdin>:(\d+):\d+: (?:error|note: in expansion)", re.MULTILINE)
    first = source.count("\n") + 2
    return {names[int(line) - first] for line in message.findall(done.stderr)}


def call_numbers(header: Path) -> dict[str, int]:
    """Name and number of each system call of one machine, in the order of their numbers."""
    found = re.findall(r"^#define __NR_(\w+) (\d+)$", header.read_text(), re.MULTILINE)
    return {name: int(number) for name, number in found}


def run(command: list[str], text: str) -> str:
    """Run a command on `text` and give what it prints; its failure ends the program."""
    done = subprocess.run(command, check=False, input=text, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"make_constants: {command[0]} failed:\n{done.stderr}")
    return done.stdout


def values_module(values: Values, release: str) -> str:
    """The text of values.py: what all machines have alike, what some have, what differs."""
    alike, partly, different = [], [], []
    table = []
    for name, by_machine in sorted(values.items()):
        line = f"{name} = {literal(name, next(iter(by_machine.values())))}"
        if len(set(by_machine.values())) > 1:
            different.append(line)
            table.append(f'    "{name}": {{')
            table += [f'        "{m}": {literal(name, value)},' for m, value in by_machine.items()]
            table.append("    },")
        elif len(by_machine) < len(INCLUDES):
            partly.append(f"{line}  # {', '.join(by_machine)}")
        else:
            alike.append(line)
    text = [
        '"""Constants of the kernel\'s user-space interface, of x86_64, aarch64 and riscv64.',
        "",
        "Generated by tools/make_constants.py; don't edit.",
        f"Source: Linux {release}, installed headers: linux/, and asm/ of x86, arm64 and riscv.",
        f"From inside the kernel: {', '.join(OTHERS)}.",
        '"""',
        "",
        *alike,
        "",
        "# Of some machines only",
        *partly,
        "",
        "# Of x86_64; DIFFERENT has the other machines' values",
        *different,
        "DIFFERENT: dict[str, dict[str, int]] = {",
        *table,
        "}",
    ]
    return "\n".join(text) + "\n"


def literal(name: str, value: int) -> str:
    """A number as its family is written: modes in octal, flags in hexadecimal, the rest decimal."""
    if re.match(r"O_|S_I|SOCK_(NONBLOCK|CLOEXEC)", name) and value > 7:
        return f"0o{value:o}"
    return f"0x{value:X}" if value >= 256 else str(value)


def calls_module(numbers: dict[str, dict[str, int]], release: str) -> str:
    """The text of calls.py."""
    text = [
        '"""Numbers of the system calls of each machine.',
        "",
        "Generated by tools/make_constants.py; don't edit.",
        f"Source: Linux {release}, asm/unistd_64.h of x86, arm64 and riscv.",
        '"""',
        "",
        "NUMBERS: dict[str, dict[str, int]] = {",
    ]
    for machine, by_name in numbers.items():
        text.append(f'    "{machine}": {{')
        text += [f'        "{name}": {number},' for name, number in by_name.items()]
        text.append("    },")
    return "\n".join([*text, "}"]) + "\n"


if __name__ == "__main__":
    main()
