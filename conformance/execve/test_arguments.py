"""execve(2): arguments and environment as the new image finds them."""

from __future__ import annotations

from typing import Any

from pytest_procsemantics import Process, clause
from pytest_procsemantics.driven import Target
from pytest_procsemantics.driven.constants import (
    AT_ENTRY,
    AT_PAGESZ,
    AT_PHDR,
    AT_PHNUM,
)
from pytest_procsemantics.driven.elf import Elf
from pytest_procsemantics.lies import EXEC_DOES_NOTHING, Lie, exec_given, lie

STRINGS = [b"first", b"", b"third one", b"\xff\x80"]
NULL = 0
UNALIGNED = 1  # in place of an address that is missing


def loses(what: str, argv: Any = None, envp: Any = None) -> Lie:
    """exec passes these in place of what it is given."""

    def change(path: Any, given_argv: Any, given_envp: Any) -> tuple[Any, Any, Any]:
        return (path, given_argv if argv is None else argv, given_envp if envp is None else envp)

    return exec_given(f"exec loses {what}", change)


@clause("execve.2/argv-is-passed")
@lie(loses("empty strings", argv=[b"first", b"third one", b"\xff\x80"]))
def test_the_new_image_gets_its_arguments_in_order(parent: Process) -> None:
    parent.execve(argv=STRINGS)
    image = parent.initial()
    assert image.argc == 4
    assert image.argv == STRINGS


@clause("execve.2/envp-is-passed")
@lie(loses("what is no NAME=VALUE", envp=[b"NAME=value"]))
def test_the_new_image_gets_its_environment_in_order(parent: Process) -> None:
    parent.execve(envp=[b"NAME=value", *STRINGS, b"NAME=again"])
    assert parent.initial().envp == [b"NAME=value", *STRINGS, b"NAME=again"]


@clause("execve.2/argv-ends-with-null")
@lie(loses("the arguments but the first", argv=["one"]))
def test_argv_ends_with_a_null_pointer(parent: Process) -> None:
    parent.execve(argv=["one", "two"], envp=["three"])
    assert parent.load(parent.stack_pointer) == 2
    assert parent.load(parent.stack_pointer + 16) != NULL
    assert parent.load(parent.stack_pointer + 24) == NULL


@clause("execve.2/envp-ends-with-null")
@lie(loses("the environment", envp=[]))
def test_envp_ends_with_a_null_pointer(parent: Process) -> None:
    parent.execve(argv=["one"], envp=["two", "three"])
    assert parent.load(parent.stack_pointer + 32) != NULL
    assert parent.load(parent.stack_pointer + 40) == NULL


@clause("execve.2/argv0-is-free")
@lie(exec_given("argv[0] is the file", lambda path, argv, envp: (path, [b"/agent"], envp)))
def test_the_first_argument_need_not_be_the_files_name(parent: Process, target: Target) -> None:
    parent.execve(argv=["anything at all"])
    assert parent.initial().argv == [b"anything at all"]
    assert parent.initial().execfn == target.agent_path


@clause("execve.2/empty-argv")
@lie(loses("the emptiness", argv=[b"a", b"b"]))
def test_an_empty_argv_becomes_one_empty_string(parent: Process) -> None:
    parent.execve(argv=[])
    assert parent.initial().argc == 1
    assert parent.initial().argv == [b""]


@clause("execve.2/null-argv")
@lie(loses("the null pointer", argv=[b"a", b"b"]))
def test_a_null_argv_is_like_an_empty_one(parent: Process) -> None:
    parent.execve(argv=NULL)
    assert parent.initial().argc == 1
    assert parent.initial().argv == [b""]


@clause("execve.2/null-envp")
@lie(loses("the null pointer", envp=[b"a"]))
def test_a_null_envp_is_like_an_empty_one(parent: Process) -> None:
    parent.execve(envp=NULL)
    assert parent.initial().envp == []


@clause("execve.2/stack-alignment")
@lie(EXEC_DOES_NOTHING)
def test_the_first_stack_pointer_is_aligned(parent: Process) -> None:
    parent.execve(argv=["one"])
    odd = parent.stack_pointer
    parent.execve(argv=["one", "two"])
    even = parent.stack_pointer
    assert parent.images == 2
    assert (odd % 16, even % 16) == (0, 0)


@clause("execve.2/auxv-follows-envp")
@lie(EXEC_DOES_NOTHING)
def test_the_auxiliary_vector_follows_the_environment(parent: Process, target: Target) -> None:
    parent.execve(envp=["NAME=value"])
    auxiliary = parent.initial().auxv
    agent = Elf.parse(target.observer.read(target.agent_path.decode()))
    assert auxiliary.get(AT_PAGESZ) == target.page_size
    assert auxiliary.get(AT_ENTRY) == agent.entry
    assert auxiliary.get(AT_PHNUM) == len(agent.segments)
    assert auxiliary.get(AT_PHDR, UNALIGNED) % 8 == 0
