"""What a fresh interpreter does to run one function: the start is its own, the way back that of all children.

Each start pays for what is imported here, so it is as little as the way back needs.
"""

from __future__ import annotations

import faulthandler
import importlib
import marshal
import os
import pickle
import sys
from importlib.util import module_from_spec, spec_from_file_location
from types import CodeType, FunctionType, ModuleType
from typing import Any, BinaryIO, NoReturn

from pytest_procsemantics.spawners.life import live
from pytest_procsemantics.spawners.streams import ERR, OUT


def main(file: BinaryIO) -> NoReturn:
    """Run the function that the file names, and end.

    Args:
        file: what the parent sent, behind its sys.path.
    """
    back, parent, listened = map(int, sys.argv[2:])
    del sys.argv[1:]
    os.set_inheritable(back, False)
    if listened:
        faulthandler.register(listened, back, all_threads=True, chain=True)
    live(back, parent, call, (file,), {}, OUT, ERR, False)


def call(file: BinaryIO) -> Any:
    """Import the function, and call it."""
    with file:
        name, path, function = pickle.load(file)
        found: Any = module(name, path)
        explain(vars(found), *marshal.load(file))
        for part in function.split("."):
            found = getattr(found, part)
        # Now the modules are there that these may be of.
        args, kwargs = pickle.load(file)
    return found(*args, **kwargs)


def module(name: str, path: str | None) -> ModuleType:
    """Import a module, by its file where sys.path has none of that name: so pytest imports tests in importlib mode."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        is_itself = error.name is not None and f"{name}.".startswith(f"{error.name}.")
        spec = spec_from_file_location(name, path) if is_itself and path else None
        if spec is None or spec.loader is None:
            raise
    found = sys.modules[name] = module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def explain(names: dict[str, Any], generated: dict[str, str], codes: dict[str, CodeType]) -> None:
    """Have a module's functions run the code that the parent has, whose assertions pytest rewrote."""
    names.update({name: importlib.import_module(module) for name, module in generated.items()})
    for name, code in codes.items():
        function = names.get(name)
        # A module can have other functions here than there.
        if isinstance(function, FunctionType) and is_of_one_source(function.__code__, code):
            function.__code__ = code


def is_of_one_source(one: CodeType, other: CodeType) -> bool:
    places = [
        (code.co_filename, code.co_firstlineno, code.co_name, code.co_freevars)
        for code in (one, other)
    ]
    return places[0] == places[1]
