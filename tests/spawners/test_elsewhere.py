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
from pytest_procsemantics.spawners import support

ROOT = Path(pytest_procsemantics.__file__).parents[1]

# What Windows lacks; None in sys.modules is an ImportError.
WITHOUT_LINUX = """
import os, signal, sys
import pytest
for name in ("fcntl", "resource", "pwd", "grp", "termios", "_posixsubprocess"):
    sys.modules[name] = None
for name in ("fork", "memfd_create", "pidfd_open", "register_at_fork", "waitid", "wait4"):
    delattr(os, name)
for name in ("SIGKILL", "SIGCHLD", "SIGRTMAX", "SIGRTMIN", "pidfd_send_signal"):
    delattr(signal, name)
sys.platform = "win32"
import pytest_procsemantics.plugin
from pytest_procsemantics import ChildFailed, ChildOverdue, Thread
from pytest_procsemantics.spawners.support import why_not
with Thread() as thread:
    assert thread(int).result() == 0
print(why_not("fork"), why_not("clone3"), why_not("thread"), sep="|")
"""


def test_the_plugin_is_imported_where_nothing_of_linux_is() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_LINUX],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("fork: ")
    assert "has none|clone3: no Linux but" in done.stdout
    assert done.stdout.endswith("|None\n")


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
