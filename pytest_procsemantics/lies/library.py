"""The lies about functions of the C library: what `process.lib` calls is another thing than the check asked for."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pytest_procsemantics.driven.library import Function, Library
from pytest_procsemantics.driven.process import Process
from pytest_procsemantics.lies.generic import Liar, Lie

NOTHING = "sched_yield"  # gives 0, and looks at no argument
Names = str | tuple[str, ...]  # of one function or of several


def _is_of(name: str, functions: Names) -> bool:
    return name == functions if isinstance(functions, str) else name in functions


class LyingLibrary(Library):
    """The functions of a Liar."""

    @property
    def liar(self) -> Liar:
        """The process that calls them."""
        assert isinstance(self._process, Liar)
        return self._process


def _with_library(name: str, library: type[LyingLibrary], hangs: bool = False) -> Lie:
    class Lying(Liar):
        @functools.cached_property
        def lib(self) -> Library:
            return library(self)

    return Lie(name, Lying, hangs)


def _calling(
    name: str, function: Names, change: Callable[[Function], Function], hangs: bool = False
) -> Lie:
    class Lying(LyingLibrary):
        def actual(self, asked: Function) -> Function:
            if not _is_of(asked.name, function):
                return asked
            changed = change(asked)
            if changed != asked:
                self.liar.tell()
            return changed

    return _with_library(name, Lying, hangs)


def function_does_nothing(function: str, hangs: bool = False) -> Lie:
    """A function does nothing and gives 0; memory that it should fill stays zero."""
    change = functools.partial(replace, name=NOTHING)
    return _calling(f"{function} does nothing", function, change, hangs)


def function_becomes(
    function: str, other: str, *more: Any, args: tuple[Any, ...] | None = None, hangs: bool = False
) -> Lie:
    """A function does what another does, with the same arguments and these more, or with others."""

    def change(asked: Function) -> Function:
        return Function(other, (*(asked.args if args is None else args), *more))

    return _calling(f"{function} is {other}", function, change, hangs)


def function_given(name: str, function: Names, index: int, value: Any, hangs: bool = False) -> Lie:
    """A function gets another argument.

    Args:
        name: what that comes to.
        function: its name, or those of several that are meant.
        index: which argument, from 0; posix_spawn's are those of C. Negative: from the end.
        value: the argument, or what makes it of the one that the check gave.
        hangs: as Lie.hangs.
    """

    def change(asked: Function) -> Function:
        args = list(asked.args)
        args[index] = value(args[index]) if callable(value) else value
        return replace(asked, args=tuple(args))

    return _calling(name, function, change, hangs)


WITHOUT_ACTIONS = function_given("without file actions", "posix_spawn", 2, 0)
WITHOUT_ATTRIBUTES = function_given("without attributes", "posix_spawn", 3, 0)


def before_function(
    name: str, function: Names, act: Callable[[Process], object], hangs: bool = False
) -> Lie:
    """Whoever calls a function does something just before."""

    class Lying(LyingLibrary):
        def actual(self, asked: Function) -> Function:
            if _is_of(asked.name, function):
                self.liar.does(act, self._process)
            return asked

    return _with_library(name, Lying, hangs)


def function_reports(name: str, function: Names, change: Callable[[int], int]) -> Lie:
    """A function does as it should and gives another int; for clauses of kind return and refuse only."""

    class Lying(LyingLibrary):
        def _outcome(self, called: str, result: int, errno: int) -> int:
            if _is_of(called, function):
                self.liar.tell()
                result = change(result)
            return super()._outcome(called, result, errno)

    return _with_library(name, Lying)


def in_library_child(name: str, act: Callable[[Process], object], hangs: bool = False) -> Lie:
    """Every process or thread that a function makes does something before the check gets it."""

    class Lying(LyingLibrary):
        def born(self, child: Process) -> None:
            self.liar.does(act, child)

    return _with_library(name, Lying, hangs)


class _ForkedThreads(LyingLibrary):
    def pthread_create(self, attributes: int = 0, name: str = "thread") -> Any:
        """A child, whose number is given as the thread's handle."""
        self.liar.tell()
        return self.fork(name)


THREAD_IS_A_CHILD = _with_library("a thread is a child by fork", _ForkedThreads)


def returns_otherwise(name: str, change: Callable[[Library, int], Any], hangs: bool = False) -> Lie:
    """A return from main or from a start routine is something else: (library, value)."""

    class Lying(LyingLibrary):
        def leave(self, value: int = 0) -> Any:
            self.liar.tell()
            return change(Library(self._process, False), value)

    return _with_library(name, Lying, hangs)


class _SwappedHandlers(LyingLibrary):
    def handler(self, number: int, then: str = "", *args: int) -> int:
        """Handler 2 for handler 1, and the other way round."""
        self.liar.tell()
        return super().handler({1: 2, 2: 1}.get(number, number), then, *args)


HANDLERS_SWAPPED = _with_library("handlers 1 and 2 change places", _SwappedHandlers)
