"""The words of the catalogue: primitives, kinds of fact, requirements.

A requirement is a plain word (`root`) or a kind with an argument (`cap:SYS_ADMIN`, `kernel>=5.3`).
Only the form is judged here; whether a target offers it is tried on that target.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

PRIMITIVES = (
    "fork",
    "vfork",
    "clone",
    "clone3",
    "execve",
    "execveat",
    "posix_spawn",
    "pthread_create",
    "unshare",
    "setns",
)
KINDS = (
    "share",
    "copy",
    "inherit",
    "reset",
    "order",
    "identity",
    "effect",
    "refuse",
    "limit",
    "return",
)
CLAIMS = ("true", "imprecise", "false")

# In the order of their numbers: the index is the bit (linux/capability.h of Linux 6.18).
_CAPABILITIES = """
    CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE
    NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO
    SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME
    SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG
    WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE
"""
CAPABILITIES = tuple(_CAPABILITIES.split())
# Of Linux (asm-generic/errno.h of 6.18), because the errno module has only those of the host. The
# last one never leaves the kernel, but shows in traces.
_ERRORS = """
    EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT
    ENOTBLK EBUSY EEXIST EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG
    ENOSPC ESPIPE EROFS EMLINK EPIPE EDOM ERANGE EDEADLK ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY
    ELOOP ENOMSG EIDRM ECHRNG EL2NSYNC EL3HLT EL3RST ELNRNG EUNATCH ENOCSI EL2HLT EBADE EBADR
    EXFULL ENOANO EBADRQC EBADSLT EBFONT ENOSTR ENODATA ETIME ENOSR ENONET ENOPKG EREMOTE ENOLINK
    EADV ESRMNT ECOMM EPROTO EMULTIHOP EDOTDOT EBADMSG EOVERFLOW ENOTUNIQ EBADFD EREMCHG ELIBACC
    ELIBBAD ELIBSCN ELIBMAX ELIBEXEC EILSEQ ERESTART ESTRPIPE EUSERS ENOTSOCK EDESTADDRREQ
    EMSGSIZE EPROTOTYPE ENOPROTOOPT EPROTONOSUPPORT ESOCKTNOSUPPORT EPFNOSUPPORT EAFNOSUPPORT
    EADDRINUSE EADDRNOTAVAIL ENETDOWN ENETUNREACH ENETRESET ECONNABORTED ECONNRESET ENOBUFS
    EISCONN ENOTCONN ESHUTDOWN ETOOMANYREFS ETIMEDOUT ECONNREFUSED EHOSTDOWN EHOSTUNREACH EALREADY
    EINPROGRESS ESTALE EUCLEAN ENOTNAM ENAVAIL EISNAM EREMOTEIO EDQUOT ENOMEDIUM EMEDIUMTYPE
    ECANCELED ENOKEY EKEYEXPIRED EKEYREVOKED EKEYREJECTED EOWNERDEAD ENOTRECOVERABLE ERFKILL
    EWOULDBLOCK ENOTSUP EOPNOTSUPP ERESTARTNOINTR
"""
ERRORS = tuple(_ERRORS.split())
NAMESPACES = ("pid", "net", "mnt", "uts", "ipc", "cgroup", "time")

PLAIN_REQUIREMENTS = (
    "root",
    "userns",
    "unprivileged",
    "glibc",
    "musl",
    "libc",
    "swap",
    "smp",
    "thp",
)
# Kind with its separator -> the form of its argument.
REQUIREMENTS_WITH_ARGUMENT = {
    "cap:": "|".join(CAPABILITIES),
    "ns:": "|".join(NAMESPACES),
    "kernel>=": r"\d+\.\d+(?:\.\d+)?",
    "syscall:": r"[a-z_]\w*",
    "arch:": r"[a-z]\w*",
    "fs:": r"\w+",
    "config:": r"[A-Z0-9_]+",
    "sysctl:": r"[\w-]+(?:/[\w.-]+)+",
    "tool:": r"[\w.+-]+",
}
REQUIREMENT = re.compile(
    "(?P<plain>{})|(?P<kind>{})(?P<argument>.*)".format(
        "|".join(PLAIN_REQUIREMENTS), "|".join(REQUIREMENTS_WITH_ARGUMENT)
    )
)
ACCEPTED_REQUIREMENTS = (
    f"{', '.join(PLAIN_REQUIREMENTS)}, cap:NAME, ns:{'|'.join(NAMESPACES)}, kernel>=X.Y,"
    " syscall:NAME, arch:NAME, fs:NAME, config:NAME, sysctl:DIR/NAME, tool:NAME"
)


class UnknownRequirement(ValueError):
    """A word that is no requirement; the message says what is accepted."""

    def __init__(self, word: str) -> None:
        self.word = word
        self.nearest = nearest(word, _known_requirements())
        hint = f"nearest: {', '.join(self.nearest)}; " if self.nearest else ""
        super().__init__(f"unknown requirement {word!r}; {hint}accepted: {ACCEPTED_REQUIREMENTS}")


def split_requirement(word: str) -> tuple[str, str]:
    """Take a requirement apart.

    Args:
        word: such as `root`, `cap:SYS_ADMIN` or `kernel>=5.3`.

    Returns:
        Its kind without the separator, and its argument: ("root", ""), ("cap", "SYS_ADMIN"),
        ("kernel", "5.3").

    Raises:
        UnknownRequirement: the word has none of the accepted forms.
    """
    found = REQUIREMENT.fullmatch(word)
    if not found:
        raise UnknownRequirement(word)
    if found["plain"]:
        return found["plain"], ""
    if not re.fullmatch(REQUIREMENTS_WITH_ARGUMENT[found["kind"]], found["argument"]):
        raise UnknownRequirement(word)
    return found["kind"].rstrip(":>="), found["argument"]


def nearest(word: str, words: Iterable[str], count: int = 2) -> list[str]:
    """Up to `count` of `words` that the writer of `word` may have meant, the likeliest first."""
    return difflib.get_close_matches(word, words, n=count, cutoff=0.6)


def _known_requirements() -> list[str]:
    return [
        *PLAIN_REQUIREMENTS,
        *(f"cap:{name}" for name in CAPABILITIES),
        *(f"ns:{name}" for name in NAMESPACES),
    ]
