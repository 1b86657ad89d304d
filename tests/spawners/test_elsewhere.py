"""On other systems the plugin does no harm, and what can't be had says so."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import pytest_procsemantics
from pytest_procsemantics.spawners import probe, support

ROOT = Path(pytest_procsemantics.__file__).parents[1]

# What a system lacks. None in sys.modules is an ImportError.
LACKING = """
import os, signal, sys, sysconfig

sysconfig.get_config_vars()  # asks the system once
for name in {modules!r}:
    sys.modules[name] = None
for place, names in ((os, {os!r}), (signal, {signal!r})):
    for name in names:
        delattr(place, name)
sys.platform = {platform!r}

from pytest_procsemantics.spawners import masks
masks.masks = lambda process: {{}}  # there is no /proc

pytest_plugins = ["pytest_procsemantics.plugin"]
"""
MACOS = {
    "platform": "darwin",
    "modules": [],
    "os": ["memfd_create", "pidfd_open", "sched_getaffinity", "waitid"],
    "signal": ["SIGRTMAX", "SIGRTMIN", "pidfd_send_signal"],
}
WINDOWS = {
    "platform": "win32",
    "modules": ["_posixsubprocess", "fcntl", "grp", "pwd", "resource", "termios"],
    "os": ["fork", "posix_spawn", "pread", "register_at_fork", "wait4", "writev", *MACOS["os"]],
    "signal": ["SIGCHLD", "SIGKILL", *MACOS["signal"]],
}

SUITE = """
import time
import pytest
from pytest_procsemantics import ChildKilled, ChildOverdue

PRIMITIVES = ("fork", "clone", "clone3", "exec", "posix_spawn", "thread")

@pytest.mark.procsem_primitives(*PRIMITIVES)
def test_returns(spawn):
    assert spawn(divmod, 7, 2).result() == (3, 1)

@pytest.mark.procsem_primitives(*PRIMITIVES)
def test_raises(spawn):
    with pytest.raises(ZeroDivisionError):
        spawn(divmod, 7, 0).result()

def test_output_and_signals_of_programs(spawn_exec, spawn_posix_spawn):
    for start in (spawn_exec, spawn_posix_spawn):
        assert start("echo", "x").result() == "x\\n"
        with pytest.raises(ChildKilled):
            start("sh", "-c", "kill -KILL $$").result()

def test_output_and_deadline_of_callables(spawn_fork):
    assert spawn_fork(print, "x").wait().stdout == "x\\n"
    with pytest.raises(ChildOverdue):
        spawn_fork(time.sleep, 60, timeout=0.1).wait()

def test_driven(procsem): pass
def test_guarded(leak_guard): pass
"""


@pytest.mark.parametrize(
    ("system", "passed", "skipped"), [(MACOS, 10, 6), (WINDOWS, 2, 14)], ids=["macos", "windows"]
)
def test_what_the_os_module_offers_works_and_the_rest_says_why_not(
    tmp_path: Path, system: dict[str, object], passed: int, skipped: int
) -> None:
    (tmp_path / "conftest.py").write_text(LACKING.format(**system))
    (tmp_path / "test_it.py").write_text(SUITE)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")  # ends pytest's look at folders above
    line = [sys.executable, "-m", "pytest", "-rs"]
    done = subprocess.run(
        [*line, "-p", "no:cacheprovider", "-W", "error", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
    )
    assert f"{passed} passed, {skipped} skipped" in done.stdout, done.stdout + done.stderr
    reasons = ["clone: no Linux but", "procsem needs Linux", "leak_guard needs Linux"]
    if system is WINDOWS:
        reasons += ["fork: ", "exec: ", "posix_spawn: "]
    assert [one for one in reasons if one not in done.stdout] == []


def test_loading_the_plugin_imports_no_spawner() -> None:
    code = "import sys, pytest_procsemantics.plugin; print([n for n in sys.modules if 'spawners' in n])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("module", "name", "value", "reason"),
    [
        (sys, "platform", "darwin", "clone3: no Linux but "),
        (platform, "machine", lambda: "s390x", "clone3: its number on s390x is not known"),
        (platform, "python_implementation", lambda: "PyPy", "clone3: not proved on PyPy"),
        (
            sysconfig,
            "get_config_var",
            lambda name: 1,
            "clone3: not proved on a free-threaded build",
        ),
    ],
)
def test_what_can_not_be_had_has_a_reason(
    monkeypatch: pytest.MonkeyPatch, module: object, name: str, value: object, reason: str
) -> None:
    monkeypatch.setattr(module, name, value)
    found = support.why_not("clone3")
    assert found is not None
    assert found.startswith(reason)


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
@pytest.mark.parametrize(
    ("module", "name", "value", "reason"),
    [
        (platform, "machine", lambda: "riscv64", "vfork: not written for riscv64"),
        (sys, "version_info", (3, 99, 0), "vfork: not proved on Python "),
        (sys, "gettotalrefcount", int, "vfork: not proved on a debug build"),
        (platform, "libc_ver", lambda: ("", ""), "vfork: not proved with this C library"),
        (probe, "why_no_vfork", lambda: "a copy", "vfork: a copy"),
    ],
)
def test_a_vfork_that_was_not_proved_has_a_reason(
    monkeypatch: pytest.MonkeyPatch, module: object, name: str, value: object, reason: str
) -> None:
    if sys.version_info[:2] not in support.VFORK_PYTHONS:
        pytest.skip("has a reason of its own")
    monkeypatch.setattr(module, name, value, raising=False)
    found = support.why_not("vfork")
    assert found is not None
    assert found.startswith(reason)


SUBINTERPRETER = """
import sys
if sys.version_info >= (3, 13):
    import _interpreters as interpreters
    new = interpreters.create("legacy")
else:
    import _xxsubinterpreters as interpreters
    new = interpreters.create(isolated=False)
interpreters.run_string(new, '''
from pytest_procsemantics import Vfork
try:
    Vfork()(int)
except OSError as error:
    print(error.strerror)
''')
interpreters.destroy(new)
"""


@pytest.mark.skipif(support.why_not("vfork") is not None, reason=str(support.why_not("vfork")))
def test_there_is_no_vfork_in_a_subinterpreter() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", SUBINTERPRETER], env=environment, capture_output=True, text=True
    )
    assert done.stdout == "vfork: not in a subinterpreter\n", done.stderr


FORKS = """
from pytest_procsemantics.spawners import probe
probe.VFORK_WORDS = dict.fromkeys(probe.VFORK_WORDS, CALL)
print(probe.found())
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="needs the call numbers of x86_64")
@pytest.mark.skipif(support.why_not("vfork") is not None, reason=str(support.why_not("vfork")))
@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("(57,)", "the child gets a copy of the memory here, as in emulators\n"),  # fork
        ("(56, 0x4011)", "the child gets a copy of the memory here, as in emulators\n"),
        ("(-1,)", "Function not implemented\n"),
        ("(58,)", f"{probe.TRUE}\n"),
    ],
)
def test_what_is_no_true_vfork_is_found_out(words: str, found: str) -> None:
    code = FORKS.replace("CALL", words)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.stdout == found, done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_parent_that_waits_for_a_processor_is_looked_at_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    states = iter("RRRD")
    monkeypatch.setattr(probe, "stat", lambda _: [next(states)])
    trial = probe.Trial(leaves=False)
    trial.look()
    assert trial.state == "D"
