"""Checks that hold for several primitives, or kinds of namespaces, alike: one case for each, with its own clause.

    @like_fork("fork.2/umask-is-copied")
    def test_the_child_has_the_parents_umask(parent: Process, make: Make) -> None:
        parent.sys.umask(0o137)
        assert make(parent).sys.umask(0) == 0o137

    @by_kind(ipc="namespaces.7/ipc-link-is-handle", uts="namespaces.7/uts-link-is-handle")
    def test_a_link_is_joined(parent: Process, kind: str, flag: int) -> None: ...

What clone alone does otherwise is said of the clause on its equivalence then, and not of fork.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_procsemantics.clauses import clause
from pytest_procsemantics.driven import Process
from pytest_procsemantics.driven.constants import (
    CLONE_NEWUSER,
    CLONE_THREAD,
    CLONE_VFORK,
    CLONE_VM,
    SIGCHLD,
)
from pytest_procsemantics.requirements.probes import NAMESPACE_FLAGS

Make = Callable[[Process], Process]
MakeWith = Callable[..., Process]  # maker, flags without a signal, stack=... and so on

IS_FORK = "fork.2/equals-clone-with-sigchld"
IS_VFORK = "vfork.2/equals-clone-vm-vfork-sigchld"
IS_CLONE = "clone.2/clone-flags-equal-clone3-flags"
BUT_FOR_MEMORY = "vfork.2/attributes-like-fork"
# The flag of clone for each kind of namespace, by its name in /proc/PID/ns.
NAMESPACES = dict(sorted({**NAMESPACE_FLAGS, "user": CLONE_NEWUSER}.items()))


def _clone_as_vfork(maker: Process) -> Process:
    return maker.clone(CLONE_VM | CLONE_VFORK | SIGCHLD)


def _clone3_as_vfork(maker: Process) -> Process:
    return maker.clone3(CLONE_VM | CLONE_VFORK)


def _clone_with(maker: Process, flags: int = 0, *, name: str = "", **arguments: int) -> Process:
    signal = 0 if flags & CLONE_THREAD else SIGCHLD
    return maker.clone(flags | signal, name=name, **arguments)


COPIES = Process.fork, Process.clone, Process.clone3
FORKS = [
    pytest.param(Process.clone, id="clone", marks=clause(IS_FORK)),
    pytest.param(Process.clone3, id="clone3", marks=clause(IS_FORK)),
]
VFORKS = [
    pytest.param(_clone_as_vfork, id="clone", marks=clause(IS_VFORK)),
    pytest.param(_clone3_as_vfork, id="clone3", marks=clause(IS_VFORK)),
]


def like_fork(*ids: str) -> pytest.MarkDecorator:
    """Let a check make its child by fork, which proves these clauses, by clone and by clone3."""
    first = pytest.param(Process.fork, id="fork", marks=clause(*ids))
    return pytest.mark.parametrize("make", [first, *FORKS])


def like_fork_and_vfork(*ids: str, vfork: str = BUT_FOR_MEMORY) -> pytest.MarkDecorator:
    """As like_fork, and by vfork too, which proves a clause of its own. Then the parent stands still."""
    first = pytest.param(Process.fork, id="fork", marks=clause(*ids))
    second = pytest.param(Process.vfork, id="vfork", marks=clause(vfork))
    return pytest.mark.parametrize("make", [first, second, *FORKS])


def _by_each(ids: tuple[str, ...], *makes: Callable[..., Process]) -> pytest.MarkDecorator:
    cases = [pytest.param(make, id=make.__name__, marks=clause(*ids)) for make in makes]
    return pytest.mark.parametrize("make", cases)


def by_any_primitive(*ids: str) -> pytest.MarkDecorator:
    """Let a check of these clauses, which speak of all primitives, make its child by each, and a thread as well."""
    return _by_each(ids, *COPIES, Process.vfork, Process.thread)


def by_any_process(*ids: str) -> pytest.MarkDecorator:
    """As by_any_primitive, without a thread."""
    return _by_each(ids, *COPIES, Process.vfork)


def by_any_copy(*ids: str) -> pytest.MarkDecorator:
    """As by_any_primitive, of the child alone that has a copy of the memory; what the clauses require holds for each."""
    return _by_each(ids, *COPIES)


def by_kind(**ids: str | tuple[str, ...]) -> pytest.MarkDecorator:
    """Let a check be made of each of these kinds of namespaces, which proves its clauses: it gets `kind` and `flag`.

    Args:
        **ids: a clause or several by the kind's name in /proc/PID/ns.
    """
    cases = [
        pytest.param(
            kind, NAMESPACES[kind], id=kind, marks=clause(*([id] if isinstance(id, str) else id))
        )
        for kind, id in ids.items()
    ]
    return pytest.mark.parametrize(("kind", "flag"), cases)


def like_vfork(*ids: str) -> pytest.MarkDecorator:
    """Let a check make its child by vfork, which proves these clauses, by clone and by clone3."""
    first = pytest.param(Process.vfork, id="vfork", marks=clause(*ids))
    return pytest.mark.parametrize("make", [first, *VFORKS])


def like_clone(*ids: str) -> pytest.MarkDecorator:
    """Let a check of these clauses give its flags to clone and to clone3: make(parent, CLONE_VM).

    The exit signal is SIGCHLD, and none for a thread.
    """
    first = pytest.param(_clone_with, id="clone", marks=clause(*ids))
    second = pytest.param(Process.clone3, id="clone3", marks=clause(*ids, IS_CLONE))
    return pytest.mark.parametrize("make", [first, second])
