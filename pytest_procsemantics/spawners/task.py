"""What a new program is to run: a program with its arguments, or a function in a fresh interpreter.

Such a function is known to both sides by the name of its module and its own, so it must be one that can be imported.
Its arguments are pickled, and nothing else.
"""

from __future__ import annotations

import marshal
import os
import pickle
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from errno import ENOENT
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from pytest_procsemantics.spawners import outcomes, way_back

Program = str | os.PathLike[str] | Callable[..., Any]

IDENTIFIERS = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
FUNCTION = re.compile(rf"({IDENTIFIERS}):({IDENTIFIERS})")  # package.module:function

ROOT = str(Path(__file__).resolve().parents[2])
# Only what is built in is imported before sys.path is the parent's: what lies in the current folder may have any name.
START = (
    "import marshal, sys; file = open(int(sys.argv[1]), 'rb'); sys.path[:] = marshal.load(file);"
    "from pytest_procsemantics.spawners.fresh import main; main(file)"
)
FLAGS = {
    "dont_write_bytecode": "B",
    "ignore_environment": "E",
    "no_user_site": "s",
    "no_site": "S",
    "bytes_warning": "b",
    "optimize": "O",
}


@dataclass(frozen=True, slots=True)
class Task:
    """What a new program is to run.

    Attributes:
        name: for messages.
        path: of the program's file.
        words: its argument vector; that of a function ends with numbers that are known later.
        environment: all of it.
        payload: what a fresh interpreter reads before it calls the function; None: it runs none.
    """

    name: str
    path: bytes
    words: list[bytes]
    environment: dict[bytes, bytes]
    payload: bytes | None = None

    @classmethod
    def of(
        cls,
        primitive: str,
        program: Program,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        env: Mapping[str, str] | None,
    ) -> Task:
        """The task that a call of a spawner describes.

        Raises:
            TypeError, ValueError: what can't be given to a new program, by its place in the call.
            FileNotFoundError: there is no such program in PATH.
        """
        environment = _environment(primitive, os.environ if env is None else env)
        if isinstance(program, str | os.PathLike):
            text = os.fspath(program)
            named = FUNCTION.fullmatch(text)
            if named is None:
                return cls._of_program(primitive, text, args, kwargs, environment)
            module, name = named.groups()
        else:
            module, name = _importable(primitive, program)
        try:
            call = way_back.dumps((args, dict(kwargs)))
        except Exception as error:
            raise TypeError(
                f"{primitive}: the arguments of {module}:{name} can't be pickled: {outcomes.headline(error)}"
            ) from error
        target = module, getattr(sys.modules.get(module), "__file__", None), name
        payload = b"".join(
            (marshal.dumps(_path()), pickle.dumps(target), marshal.dumps(_rewritten(module)), call)
        )
        words = [sys.executable, *_flags(), "-c", START]
        encoded = list(map(os.fsencode, words))
        return cls(f"{module}:{name}", encoded[0], encoded, environment, payload)

    @classmethod
    def _of_program(
        cls,
        primitive: str,
        program: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        environment: dict[bytes, bytes],
    ) -> Task:
        if kwargs:
            names = ", ".join(kwargs)
            raise TypeError(f"{primitive}: the program {program!r} takes no keywords: {names}")
        words = [
            _encoded(word, f"{primitive}: argument {number}")
            for number, word in enumerate((program, *args))
        ]
        path = words[0]
        if b"/" not in path:
            folders = environment.get(b"PATH", os.defpath.encode())
            found = shutil.which(program, path=os.fsdecode(folders))
            if found is None:
                raise FileNotFoundError(ENOENT, f"{primitive}: no executable file in PATH", program)
            path = os.fsencode(found)
        return cls(program, path, words, environment)


def _importable(primitive: str, function: Callable[..., Any]) -> tuple[str, str]:
    """The module of a function, and its name there."""
    module = getattr(function, "__module__", None)
    name: str = getattr(function, "__qualname__", None) or repr(function)
    found: object = sys.modules.get(str(module))
    for part in name.split("."):
        found = getattr(found, part, None)
    if found != function or module == "__main__":
        raise TypeError(
            f"{primitive}: a fresh interpreter can't import {name} of module {module}:"
            " accepted are functions that a module has by their name, and 'package.module:function'"
        )
    return str(module), name


def _rewritten(name: str) -> tuple[dict[str, str], dict[str, CodeType]]:
    """What pytest made of a module's functions, so that its assertions explain themselves elsewhere too.

    Returns:
        Modules by the names that only generated code can have, and the functions' code; nothing of other modules.
    """
    found = vars(sys.modules[name]) if name in sys.modules else {}
    generated = {
        one: value.__name__
        for one, value in found.items()
        if one.startswith("@") and isinstance(value, ModuleType)
    }
    if not generated:
        return {}, {}
    functions = {
        one: value.__code__
        for one, value in found.items()
        if isinstance(value, FunctionType) and value.__module__ == name
    }
    return generated, functions


def _encoded(word: Any, place: str) -> bytes:
    try:
        found = os.fsencode(word)
    except TypeError:
        raise TypeError(f"{place}: {word!r} is neither text nor bytes nor a path") from None
    if b"\0" in found:
        raise ValueError(f"{place}: a null byte in {word!r}")
    return found


def _environment(primitive: str, env: Mapping[str, str]) -> dict[bytes, bytes]:
    found = {}
    for name, value in env.items():
        place = f"{primitive}: env[{name!r}]"
        encoded = _encoded(name, place)
        if not encoded or b"=" in encoded:
            raise ValueError(f"{place} is no name of a variable")
        found[encoded] = _encoded(value, place)
    return found


def _path() -> list[str]:
    """sys.path for another process, whose current folder may be another one."""
    found = [entry or os.getcwd() for entry in sys.path if isinstance(entry, str)]
    return found if ROOT in found else [*found, ROOT]


def _flags() -> list[str]:
    """What this interpreter was started with, apart from what it runs."""
    flags = [
        f"-{letter * getattr(sys.flags, name)}"
        for name, letter in FLAGS.items()
        if getattr(sys.flags, name)
    ]
    flags += [f"-W{option}" for option in sys.warnoptions]
    options = sys._xoptions.items()
    return flags + [
        f"-X{name}" if value is True else f"-X{name}={value}" for name, value in options
    ]
