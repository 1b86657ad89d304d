"""Numbers as their names, for transcripts and messages.

A number may have several names: errno_name and signal_name give the manual pages' one.
"""

from __future__ import annotations

from functools import cache

from pytest_procsemantics.driven.constants import values

EXIT_SIGNAL = 0xFF  # CSIGNAL: the byte of clone's flags that holds the signal for the parent
# Second names of a number that has a better one, and names that aren't of their prefix's family
ALIASES = {
    *(
        "EWOULDBLOCK",
        "EDEADLOCK",
        "ENOTSUP",
        "SIGIOT",
        "SIGPOLL",
        "SIGRTMIN",
        "SIGRTMAX",
        "SIGSTKSZ",
        "O_NDELAY",
        "SA_NOMASK",
        "SA_ONESHOT",
    ),
    *(
        "WUNTRACED",
        "MS_ASYNC",
        "MS_INVALIDATE",
        "MS_SYNC",
        "MS_VERBOSE",
        "AT_EACCESS",
        "AT_HANDLE_FID",
        "CLONE_NEWTIME",
    ),
}
SEVERAL_BITS = {"O_SYNC", "O_TMPFILE"}  # every other flag is one bit
LOWEST_AT = 0x100  # below lie the keys of the auxiliary vector, which share the prefix AT_


def signal_name(number: int) -> str:
    """The name of a signal: "SIGCHLD", "SIGRTMIN+2", or the number as text for what is no signal.

    Source: signal(7).
    """
    name = _names("SIG").get(number)
    if name is not None:
        return name
    if values.SIGRTMIN <= number <= values.SIGRTMAX:
        return f"SIGRTMIN+{number - values.SIGRTMIN}" if number > values.SIGRTMIN else "SIGRTMIN"
    return str(number)


def errno_name(number: int) -> str:
    """The name of an error number: "EINVAL", or the number as text for one that has none.

    Source: errno(3).
    """
    return _names("E").get(number) or str(number)


def flag_names(value: int, prefix: str) -> str:
    """The flags in `value`: "CLONE_VM|SIGCHLD", "O_RDONLY|O_CLOEXEC"; the nameless in hexadecimal.

    Args:
        value: the flags, of x86_64 where machines differ.
        prefix: what their names begin with: "CLONE_", "O_", "MAP_", "W", "SA_" ...
    """
    found = []
    rest = value
    if prefix == "CLONE_" and value & values.CLONE_NEWTIME:
        # its bit lies in the signal's byte, so only clone3 and unshare take it
        found.append("CLONE_NEWTIME")
        rest -= values.CLONE_NEWTIME
    elif prefix == "O_":
        found.append(("O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE")[value & values.O_ACCMODE])
        rest &= ~values.O_ACCMODE
    for name, bits in _flags(prefix):
        if rest & bits == bits:
            found.append(name)
            rest &= ~bits
    if prefix == "CLONE_" and rest & EXIT_SIGNAL:
        found.append(signal_name(rest & EXIT_SIGNAL))
        rest &= ~EXIT_SIGNAL
    if rest or not found:
        found.append(hex(rest) if rest else "0")
    return "|".join(found)


@cache
def _names(prefix: str) -> dict[int, str]:
    """Number to name, of signals or error numbers: letters and digits after the prefix, no
    underscore.
    """
    found: dict[int, str] = {}
    for name, value in vars(values).items():
        if (
            name.startswith(prefix)
            and name.isalnum()
            and name not in ALIASES
            and not name.startswith("EPOLL")
        ):
            found.setdefault(value, name)
    return found


@cache
def _flags(prefix: str) -> list[tuple[str, int]]:
    """Flags of one family, those of several bits first, so that O_SYNC comes before the O_DSYNC
    that is in it.
    """
    lowest = LOWEST_AT if prefix == "AT_" else 1
    prefixes = (prefix, "__W") if prefix == "W" else (prefix,)
    family = {
        name: value
        for name, value in vars(values).items()
        if name.startswith(prefixes)
        and name not in ALIASES
        and isinstance(value, int)
        and value >= lowest
        if (value.bit_count() == 1 and not name.startswith("CLONE_ARGS_")) or name in SEVERAL_BITS
    }
    return sorted(family.items(), key=lambda item: (-item[1].bit_count(), item[1]))
