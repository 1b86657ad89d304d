"""`process.sys.NAME(...)`: every system call by its name.

Arguments are int, None (a null pointer), bytes (passed by address, with a zero byte behind), str (a path, likewise) and
`Out(size)` (memory that the call fills; its bytes come back behind the result). A call with awkward memory has a form
that takes and gives Python values; `sys.raw(NAME, ...)` is the call itself.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pytest_procsemantics.driven import wire
from pytest_procsemantics.driven.call import Call, Out

if TYPE_CHECKING:
    from pytest_procsemantics.driven.process import Process

Argument = int | bytes | str | Out | None
Decode = Callable[[int, tuple[bytes, ...]], Any]

UNUSED = tuple((0,) * n for n in range(7))  # arguments behind those given, by their number
ALIGNMENT = 16  # bytes: enough for every structure that a call takes


class Layout:
    """Where the memory of one call's arguments lies: first what comes back, then what only goes down.

    Attributes:
        words: the arguments as numbers.
        data: the bytes that go with the request, to lie at `address`.
        out: how many of the first bytes come back.
        spans: where each Out lies in them.
    """

    def __init__(self, args: Sequence[Argument], address: int) -> None:
        self.data = bytearray()
        self.spans: list[tuple[int, int]] = []
        places: dict[int, int] = {}
        for index, arg in enumerate(args):
            if isinstance(arg, Out):
                places[index] = self._place(arg.initial.ljust(arg.size, b"\0"))
                self.spans.append((places[index], places[index] + arg.size))
        self.out = len(self.data)
        for index, arg in enumerate(args):
            if isinstance(arg, str):
                arg = os.fsencode(arg)
            if isinstance(arg, bytes):
                places[index] = self._place(arg + b"\0")
        self.words = [
            address + places[index] if index in places else signed(arg)  # type: ignore[arg-type]  # the rest are numbers
            for index, arg in enumerate(args)
        ]
        if len(self.data) > wire.MAX_DATA:
            raise ValueError(
                f"the arguments take {len(self.data)} bytes, at most {wire.MAX_DATA} go with one call: "
                "allocate() memory, store() them there and pass its address"
            )

    def _place(self, content: bytes) -> int:
        at = len(self.data)
        self.data += content + bytes(-len(content) % ALIGNMENT)
        return at


def signed(number: int | None) -> int:
    """A 64-bit word as the signed number that goes over the wire."""
    if number is None:
        return 0
    number &= (1 << 64) - 1
    return number - (1 << 64) if number >> 63 else number


def split(spans: Sequence[tuple[int, int]], decode: Decode | None) -> Callable[[int, bytes], Any]:
    """What makes a call's value of its result and the bytes that came back."""

    def value(result: int, data: bytes) -> Any:
        outs = tuple(data[start:end] for start, end in spans)
        if decode:
            return decode(result, outs)
        return (result, *outs)

    return value


class Calls:
    """The system calls of one driven process; see the module.

    `process.sys` waits for each answer and gives it, `process.post.sys` gives a Step at once.
    """

    machine = ""
    numbers: dict[str, int]

    def __init__(self, process: Process, waits: bool) -> None:
        self._process = process
        self._waits = waits

    def __repr__(self) -> str:
        return f"calls of {self._process}"

    def raw(self, name: str, *args: Argument) -> Any:
        """Make the system call `name` without its form.

        Returns:
            The result; with Out arguments (result, bytes, ...).
        """
        __tracebackhide__ = True
        step = self._process.ask_call(name, self.number(name), args)
        return step.arrives() if self._waits else step

    def close_range(self, first: int, last: int, flags: int = 0) -> Any:
        """close_range(2), but for the channels by which a process hears its next step.

        Where they lie in the range it is two calls, which the transcript shows; `raw` spares nothing.

        Raises:
            ValueError: the range is one of channels only.
        """
        __tracebackhide__ = True
        channels = wire.CHANNELS
        parts = [(first, last)]
        if first < channels.stop and last >= channels.start:
            parts = [(first, channels.start - 1), (channels.stop, last)]
            parts = [part for part in parts if part[0] <= part[1]]
        if not parts:
            raise ValueError(
                f"descriptors {first} to {last} are the process's channels: nothing else to close"
            )
        results = [self.raw("close_range", *part, flags) for part in parts]
        return results[-1]

    def number(self, name: str) -> int:
        """The number of a call on this machine."""
        try:
            return self.numbers[name]
        except KeyError:
            raise AttributeError(f"no system call {name!r} on {self.machine}") from None

    def _formed(self, call: Call) -> Any:
        __tracebackhide__ = True
        step = self._process.ask_call(call.name, self.number(call.name), call.args, call.decode)
        return step.arrives() if self._waits else step

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """A call's first use makes a method of it, for all processes on this machine."""
        if name.startswith("_"):
            raise AttributeError(name)
        setattr(type(self), name, self._method(name))
        return getattr(self, name)  # type: ignore[no-any-return]

    def _method(self, name: str) -> Callable[..., Any]:
        from pytest_procsemantics.driven.forms import FORMS

        form, machine = FORMS.get(name), self.machine
        if form:

            def formed(calls: Calls, *args: Any, **kwargs: Any) -> Any:
                __tracebackhide__ = True
                return calls._formed(form(machine, *args, **kwargs))

            formed.__name__, formed.__doc__ = name, form.__doc__
            return formed
        number = self.number(name)

        def plain(calls: Calls, *args: Argument) -> Any:
            __tracebackhide__ = True
            step = calls._process.ask_call(name, number, args)
            return step.arrives() if calls._waits else step

        plain.__name__, plain.__doc__ = name, f"{name}(2), without a form: see Calls."
        return plain


@functools.cache
def calls_class(machine: str) -> type[Calls]:
    """The class of `sys` for a machine: numbers differ, and methods are made once."""
    from pytest_procsemantics.driven.constants.calls import NUMBERS

    return type(f"Calls_{machine}", (Calls,), {"machine": machine, "numbers": NUMBERS[machine]})
