"""How a callable ended: told by the child in plain bytes, and made again in the parent.

An exception is raised in the parent as itself where a copy of it can be made. Whether it can is tried in the child,
which still has the traceback: the parent gets its text in any case.
"""

from __future__ import annotations

import pickle
import sys
import traceback
from types import TracebackType
from typing import Any, NoReturn

from pytest_procsemantics.spawners import way_back
from pytest_procsemantics.spawners.errors import ChildFailed, ChildTraceback

# pytest's own exceptions can't be pickled. xfail's is a kind of fail's, so it stands first.
SAYINGS = ("skip", "xfail", "fail", "exit")

Told = tuple[bytes, bytes]  # kind and payload of a record


# --- in the child ---


def returned(value: object) -> Told:
    """What the child tells of a value that its callable returned, and that is not None."""
    try:
        return way_back.RETURNED, way_back.dumps(value)
    except Exception as error:
        text = f"the result, of type {type_name(type(value))}, can't be pickled: {headline(error)}"
        return way_back.STUCK, text.encode(errors="replace")


def raised(error: BaseException, trace: TracebackType | None) -> Told:
    """What the child tells of an exception that ended its callable.

    Args:
        error: the exception.
        trace: where its traceback begins.
    """
    if isinstance(error, SystemExit):
        return way_back.LEFT, f"SystemExit({error.code!r})".encode(errors="replace")
    text = full_text(error, trace)
    saying = _saying(error)
    if saying is not None:
        return way_back.SAID, way_back.dumps((*saying, text))
    return way_back.RAISED, way_back.dumps((headline(error), text, *_copied(error)))


def exit_code(error: SystemExit) -> int:
    """The exit status that Python gives a process for a SystemExit; a message goes to standard error."""
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    print(error.code, file=sys.stderr)
    return 1


def full_text(error: BaseException, trace: TracebackType | None) -> str:
    """The traceback with causes, notes and groups, as the interpreter would print it."""
    return "".join(traceback.format_exception(type(error), error, trace))


def headline(error: BaseException) -> str:
    """Type and message, without notes."""
    return "".join(
        traceback.TracebackException(type(error), error, None).format_exception_only()
    ).split("\n")[0]


def type_name(kind: type) -> str:
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return f"{module}{kind.__qualname__}"


def _saying(error: BaseException) -> tuple[str, str, dict[str, Any]] | None:
    """Which of pytest's words it is, its message, and what else its exception takes."""
    pytest: Any = sys.modules.get("pytest")
    if pytest is None:
        return None
    for word in SAYINGS:
        if isinstance(error, getattr(pytest, word).Exception):
            more = {"fail": ("pytrace",), "exit": ("returncode",)}.get(word, ())
            return word, str(error), {name: getattr(error, name) for name in more}
    return None


def _copied(error: BaseException) -> tuple[bytes | None, str]:
    """The pickled exception, or None and the reason."""
    if isinstance(error, KeyboardInterrupt):
        # In the parent it would be a Ctrl-C that nobody typed, and end pytest.
        return None, "a KeyboardInterrupt would interrupt the parent"
    try:
        content = way_back.dumps(error)
        copy = pickle.loads(content)
        is_same = type(copy) is type(error) and str(copy) == str(error)
    except Exception as problem:
        return None, f"it can't be pickled: {headline(problem)}"
    return (content, "") if is_same else (None, "its copy would be another one")


# --- in the parent ---


def value_of(kind: bytes, payload: memoryview | bytes, who: str, **fields: Any) -> Any:
    """The value that the callable returned.

    Args:
        kind, payload: of the record.
        who: the child, for a message.
        fields: of the exceptions of ours that may be raised.

    Raises:
        BaseException: what the callable raised, with the child's traceback as its cause.
        ChildFailed: there is no value, or no exception that can be made again.
    """
    __tracebackhide__ = True
    if kind == way_back.NOTHING:
        return None
    if kind == way_back.RETURNED:
        try:
            return pickle.loads(payload)
        except Exception as error:
            raise ChildFailed(
                f"the result can't be made again here: {headline(error)}", **fields
            ) from error
    if kind == way_back.SAID:
        _say(*pickle.loads(payload))
    if kind == way_back.RAISED:
        _raise(*pickle.loads(payload), **fields)
    raise ChildFailed(f"{who} gave no result: {bytes(payload).decode()}", **fields)


def _say(word: str, message: str, more: dict[str, Any], text: str) -> NoReturn:
    __tracebackhide__ = True
    import pytest

    raise getattr(pytest, word).Exception(message, **more) from ChildTraceback(text)


def _raise(line: str, text: str, content: bytes | None, problem: str, **fields: Any) -> NoReturn:
    __tracebackhide__ = True
    if content is not None:
        try:
            error = pickle.loads(content)
        except Exception as trouble:  # its class is known in the child only
            problem = f"it can't be made again here: {headline(trouble)}"
        else:
            raise error from ChildTraceback(text)
    raise ChildFailed(
        f"{line}\nOnly its text comes from the child: {problem}", **fields
    ) from ChildTraceback(text)
