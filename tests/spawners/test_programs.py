"""New programs: what they get, what is seen of their ends, and functions in a fresh interpreter."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pytest_procsemantics
from pytest_procsemantics import (
    Child,
    ChildFailed,
    ChildKilled,
    ChildOverdue,
    Exec,
    PosixSpawn,
)
from pytest_procsemantics.spawners import fork, program, tree
from pytest_procsemantics.spawners.support import why_not
from pytest_procsemantics.spawners.watch import Table

Maker = Exec | PosixSpawn

PRIMITIVES: dict[str, type[Maker]] = {"exec": Exec, "posix_spawn": PosixSpawn}
HERE = Path(__file__).parent

Has = Callable[[], tuple[list[str], list[int]]]
Overdue = Callable[[Child[Any]], ChildOverdue]


@pytest.fixture(params=PRIMITIVES)
def start(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Maker]:
    """New programs by each primitive; those of Python find ends.py."""
    if reason := why_not(request.param):
        pytest.skip(reason)
    monkeypatch.syspath_prepend(HERE)
    with PRIMITIVES[request.param](timeout=30) as start:
        yield start


@pytest.fixture
def execute(monkeypatch: pytest.MonkeyPatch) -> Iterator[Exec]:
    """New programs by exec."""
    monkeypatch.syspath_prepend(HERE)
    with Exec(timeout=30) as execute:
        yield execute


def own_function(number: int) -> int:
    return number + 1


# --- ends ---


def test_what_is_seen_of_a_programs_end(start: Maker) -> None:
    assert start("echo", "one", "two").result() == "one two\n"
    failed = start("sh", "-c", "echo why >&2; exit 3")
    message = r"\(\w+ of sh\) gave no result: exit status 3\n  stderr: why$"
    with pytest.raises(ChildFailed, match=message) as caught:
        failed.result()
    assert (caught.value.exit_code, failed.exit_code) == (3, 3)
    with pytest.raises(ChildKilled, match="was killed by SIGABRT"):
        start("sh", "-c", "kill -ABRT $$").result()


# --- functions in a fresh interpreter ---


def test_a_function_has_its_arguments_and_the_parents_path(
    start: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert start("ends:returns", [1], key={2: (3,)}).result() == (([1],), {"key": {2: (3,)}})
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    # Of the names that the start itself imports.
    (tmp_path / "pickle.py").write_text("raise SystemExit('imported from the current folder')")
    monkeypatch.setattr(sys, "path", [*sys.path[1:], ""])
    path, argv = start("ends:place").result()
    assert path[: len(sys.path)] == [*sys.path[:-1], str(tmp_path)]
    assert argv == ["-c"]


def test_a_function_is_given_itself_where_it_can_be_imported(start: Maker) -> None:
    assert start(sum, [1, 2]).result() == 3
    assert start(os.getpid).result() != os.getpid()
    # pytest imports this file by its path, in importlib mode.
    assert start(own_function, 1).result() == 2


@pytest.mark.parametrize(
    "function",
    [lambda: 1, [].append, Child.close.__get__(object())],
    ids=["lambda", "method of C", "method"],
)
def test_what_can_not_be_imported_is_refused(start: Maker, function: Any) -> None:
    with pytest.raises(TypeError, match=rf"^{start.primitive}: a fresh interpreter can't import "):
        start(function)


def test_arguments_that_can_not_be_pickled_are_refused(start: Maker) -> None:
    with pytest.raises(TypeError, match=r"arguments of ends:returns can't be pickled: "):
        start("ends:returns", threading.Lock())


def test_a_function_that_is_not_there_is_an_error_of_the_result(start: Maker) -> None:
    with pytest.raises(ModuleNotFoundError, match="No module named 'nonesuch'"):
        start("nonesuch.at_all:function").result()
    with pytest.raises(AttributeError, match="no attribute 'nonesuch'"):
        start("ends:nonesuch").result()


def test_an_exception_has_the_traceback_there_as_its_cause(start: Maker) -> None:
    with pytest.raises(ValueError, match="bad") as caught:
        start("ends:raises").result()
    assert "in raises\n" in str(caught.value.__cause__)


def test_output_is_written_through_and_warnings_come_home(execute: Exec) -> None:
    assert execute("ends:prints_and_leaves").wait().stdout == "printed\n"
    with pytest.warns(UserWarning, match="worn out"):
        execute("ends:warns").result()


def test_a_function_that_closed_all_descriptors_still_answers(start: Maker) -> None:
    assert start("ends:closes_all", fds={9: 0}).result() == "still here"


# --- what a program gets ---


def test_the_first_three_descriptors(start: Maker, tmp_path: Path) -> None:
    assert start("cat", stdin=b"x" * 100_000).result() == "x" * 100_000
    with (tmp_path / "out").open("w+") as out, Path(__file__).open() as source:
        child = start("sh", "-c", "head -c 3; echo error >&2", stdin=source, stdout=out).wait()
        assert (child.stdout, child.stderr) == ("", "error\n")
        assert (tmp_path / "out").read_text() == '"""'
        child = start("sh", "-c", "echo out; echo error >&2", stderr=out.fileno())
        assert (child.result(), child.stderr) == ("out\n", "")


def test_descriptors_get_their_numbers_though_these_are_taken_here(start: Maker) -> None:
    one, other = os.pipe(), os.pipe()
    for number, pair in enumerate((one, other)):
        os.write(pair[1], b"%d" % number)
        os.close(pair[1])
    fds = {one[0]: other[0], other[0]: one[0]}
    line = f"read x <&{one[0]}; read y <&{other[0]}; echo $x $y; ls /proc/self/fd"
    words = start("bash", "-c", line, fds=fds, stdin=b"").result().split()
    assert words[:2] == ["1", "0"]
    inherited = {number for number in map(int, os.listdir("/proc/self/fd")) if is_inherited(number)}
    unexpected = set(map(int, words[2:])) - {0, 1, 2, *fds} - inherited
    assert len(unexpected) == 1  # that of the listing itself
    os.close(one[0])
    os.close(other[0])


def test_descriptors_get_their_numbers_though_these_are_free_here(start: Maker) -> None:
    low, high = os.dup(0), os.dup(0)
    os.close(low)
    os.close(high)
    line = f"readlink /proc/self/fd/{low} /proc/self/fd/{high}"
    found = start("sh", "-c", line, fds={high: 0, low: 1}).result().splitlines()
    assert found == [os.readlink(f"/proc/self/fd/{number}") for number in (1, 0)]


def is_inherited(descriptor: int) -> bool:
    try:
        return os.get_inheritable(descriptor)
    except OSError:  # that of the listing itself
        return False


def test_the_environment_is_all_of_it(start: Maker) -> None:
    assert start("/usr/bin/env", env={"A": "b c"}).result() == "A=b c\n"
    assert start("ends:returns_none", env={}).result() is None


def test_the_current_folder(execute: Exec, tmp_path: Path) -> None:
    assert execute("pwd", cwd=tmp_path, env={"PATH": os.defpath}).result() == f"{tmp_path}\n"
    assert execute(os.getcwd, cwd=tmp_path).result() == str(tmp_path)
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\necho here\n")
    script.chmod(0o700)
    assert execute("./script", cwd=tmp_path).result() == "here\n"


def test_posix_spawn_has_no_current_folder() -> None:
    with (
        PosixSpawn() as start,
        pytest.raises(ValueError, match=r"^posix_spawn: .* cwd; .* exec can"),
    ):
        start("pwd", cwd="/")


def test_output_that_is_not_captured_goes_where_the_descriptors_of_the_parent_go(
    start: Maker, capfd: pytest.CaptureFixture[str]
) -> None:
    child = start("sh", "-c", "echo out; echo error >&2", capture=False).wait()
    assert (child.stdout, child.stderr) == ("", "")
    assert capfd.readouterr() == ("out\n", "error\n")


def test_signals_that_python_ignores_are_at_their_defaults(start: Maker) -> None:
    ignored = re.search(r"SigIgn:\t(\w+)", start("cat", "/proc/self/status").result())
    assert ignored is not None
    own = re.search(r"SigIgn:\t(\w+)", Path("/proc/self/status").read_text())
    assert own is not None
    # The C library ignores two of its own, 32 and 33, in what it spawns.
    before, after = (int(found[1], 16) & 0x7FFFFFFF for found in (own, ignored))
    restored = sum(1 << (number - 1) for number in program.RESTORED)
    assert before & restored == restored
    assert after == before & ~restored


# --- what can't be started ---


@pytest.mark.parametrize(
    ("line", "words", "number", "message"),
    [
        (("nonesuch",), {}, errno.ENOENT, "no executable file in PATH: 'nonesuch'"),
        (("/nonesuch",), {}, errno.ENOENT, "No such file or directory: '/nonesuch'"),
        (("sh",), {"env": {"PATH": "/nonesuch"}}, errno.ENOENT, "no executable file in PATH: 'sh'"),
        (("/etc",), {}, errno.EACCES, "Permission denied: '/etc'"),
        (("./text",), {}, errno.ENOEXEC, "Exec format error: './text'"),
        (("./script",), {}, errno.ENOENT, "the interpreter that it names: No such .*: './script'"),
        (("echo", "x" * (1 << 18)), {}, errno.E2BIG, "Argument list too long: 'echo'"),
        (("echo",), {"fds": {5: 9999}}, errno.EBADF, r"fds\[5\]: Bad file descriptor"),
        (("echo",), {"stdin": 9999}, errno.EBADF, "stdin: Bad file descriptor"),
    ],
)
def test_an_error_names_program_or_step(
    start: Maker,
    has: Has,
    line: tuple[str, ...],
    words: dict[str, Any],
    number: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, content in (("text", "x"), ("script", "#!/nonesuch\n")):
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o700)
    monkeypatch.chdir(tmp_path)
    before = has()
    with pytest.raises(OSError, match=rf"{start.primitive}: {message}$") as caught:
        start(*line, **words)
    assert caught.value.errno == number
    assert has() == before


def test_an_error_names_the_folder(execute: Exec) -> None:
    with pytest.raises(FileNotFoundError, match=r"exec: cwd: No such file or .*: '/nonesuch'"):
        execute("pwd", cwd="/nonesuch")
    with pytest.raises(NotADirectoryError, match=r"exec: cwd: .*: '/etc/passwd'"):
        execute("ends:returns_none", cwd="/etc/passwd")


@pytest.mark.parametrize(
    ("line", "words", "kind", "message"),
    [
        (("echo", 1), {}, TypeError, "argument 1: 1 is neither text nor bytes nor a path"),
        (("echo", "a\0b"), {}, ValueError, "argument 1: a null byte"),
        (("echo",), {"key": 1}, TypeError, "'echo' takes no keywords: key"),
        (("echo",), {"env": {"a=b": ""}}, ValueError, "is no name of a variable"),
        (("echo",), {"env": {"a": 1}}, TypeError, r"env\['a'\]: 1 is neither"),
        (("echo",), {"fds": {1: 0}}, ValueError, r"fds\[1\] is no descriptor to choose"),
        (("echo",), {"fds": {1 << 30: 0}}, ValueError, "accepted: 3 to "),
        (("echo",), {"timeout": 0}, ValueError, "is no length of time"),
    ],
)
def test_wrong_use_is_refused(
    start: Maker,
    has: Has,
    line: tuple[Any, ...],
    words: dict[str, Any],
    kind: type[Exception],
    message: str,
) -> None:
    before = has()
    with pytest.raises(kind, match=message):
        start(*line, **words)
    assert has() == before


# --- fork hooks, threads, interrupts ---


def test_fork_hooks_run_with_exec_only(start: Maker, hook_log: list[str]) -> None:
    start("true").result()
    assert hook_log == (["before", "parent"] if start.primitive == "exec" else [])


@pytest.mark.filterwarnings("error")
def test_threads_in_the_parent_lose_no_child(start: Maker, beside: None) -> None:
    assert start("ends:returns", 1).result() == ((1,), {})


def test_any_thread_may_start_programs(start: Maker) -> None:
    results: list[str] = []

    def starts() -> None:
        results.extend(start("echo", str(number)).result() for number in range(10))

    running = [threading.Thread(target=starts) for _ in range(3)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    assert sorted(results) == sorted([f"{number}\n" for number in range(10)] * 3)


def test_who_holds_the_pipe_of_another_start_does_not_delay_it(
    execute: Exec, monkeypatch: pytest.MonkeyPatch
) -> None:
    holders: list[int] = []
    gone, end = os.pipe()

    def forks_beside() -> int:
        """As another thread may at this moment."""
        holder = os.fork()
        if not holder:
            os.close(end)
            os.read(gone, 1)
            os._exit(0)
        holders.append(holder)
        return fork.fork()

    monkeypatch.setattr(program, "fork", forks_beside)
    child = execute("true", timeout=20)
    assert child._has_begun  # and the deadline did not have to come
    assert child.exit_code == 0
    os.close(end)
    os.close(gone)
    os.waitpid(holders[0], 0)


def test_an_interrupt_in_the_midst_of_a_start_leaves_no_child(
    start: Maker, has: Has, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupts(*_: object) -> None:
        raise KeyboardInterrupt

    before = has()
    for place, name in ((Child, "__init__"), (Table, "note"), (program, "_word")):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, interrupts)
            if name == "_word" and start.primitive != "exec":
                continue
            with pytest.raises(KeyboardInterrupt):
                start("sleep", "60")
        assert has() == before


@pytest.mark.usefixtures("interrupting_hook")
def test_an_interrupt_in_a_fork_hook_is_not_lost(execute: Exec, has: Has) -> None:
    before = has()
    with pytest.raises(KeyboardInterrupt):
        execute("sleep", "60")
    assert has() == before


CLOSED = """
import os
from pytest_procsemantics import Exec, PosixSpawn
for number in range(3):
    os.close(number)
for kind in (Exec, PosixSpawn):
    with kind() as start:
        child = start("sh", "-c", "cat; echo error >&2", stdin=b"x")
        if (child.result(), child.stderr) != ("x", "error\\n") or start("os:getppid").result() != os.getpid():
            os._exit(1)
"""


def test_standard_streams_that_are_closed_here_are_open_there() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(pytest_procsemantics.__file__).parents[1])}
    subprocess.run([sys.executable, "-c", CLOSED], env=environment, check=True)


def test_nothing_is_left(start: Maker, has: Has) -> None:
    start("true").result()
    before = has()
    for _ in range(10):
        start("cat", stdin=b"x", fds={7: 0}).result()
    start("ends:returns_none").result()
    assert has() == before


# --- deadlines ---


def test_a_program_that_hangs_is_told(start: Maker, overdue: Overdue) -> None:
    reader, writer = os.pipe()
    error = overdue(start("sh", "-c", "echo; read line", stdin=reader))
    os.close(reader)
    os.close(writer)
    assert error.phase == "program"
    for part in ("(phase: program)", "wait channel ", "command line sh -c", " s of CPU"):
        assert part in str(error)


def test_a_function_that_hangs_is_told_with_its_stack_and_its_descendants_end(
    start: Maker, overdue: Overdue
) -> None:
    child = start("ends:hangs_with_descendants")
    error = overdue(child)
    assert error.phase == "callable"
    assert "in hangs_with_descendants" in error.stacks
    assert "in call\n" not in error.stacks
    assert tree.state(int(child.stdout)) in "XZ"


def test_no_lock_of_the_parents_threads_is_to_blame(
    start: Maker, overdue: Overdue, beside: None
) -> None:
    text = str(overdue(start("ends:waits_for_a_lock")))
    assert "wait channel futex" in text
    assert "in waits_for_a_lock" in text
    assert "held at the spawn" not in text


def test_an_interpreter_that_does_not_come_to_its_function_is_told(
    start: Maker, overdue: Overdue, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text("import time; print(flush=True); time.sleep(99)")
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    assert overdue(start("ends:returns_none", env=env)).phase == "start-up"


@pytest.mark.usefixtures("hanging_hook")
@pytest.mark.parametrize("what", ["true", "ends:returns_none"])
def test_a_fork_hook_that_hangs_before_the_program_is_told(execute: Exec, what: str) -> None:
    with pytest.raises(ChildOverdue) as caught:
        execute(what, timeout=0.3).wait()
    assert caught.value.phase == "fork hooks"
    assert "in hook_that_hangs" in caught.value.stacks


def test_closing_ends_what_still_runs() -> None:
    for primitive in PRIMITIVES.values():
        with primitive() as start:
            children = [start("sleep", "60") for _ in range(2)]
        assert [child.signal for child in children] == [signal.SIGKILL] * 2
