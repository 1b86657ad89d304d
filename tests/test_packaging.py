"""The package as people get it: a wheel, an editable install, a checkout without any install.

Each environment is made without a network: it sees what is installed beside these tests, except
for this package itself.
"""

from __future__ import annotations

import configparser
import importlib.util
import os
import shutil
import struct
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from pytest_procsemantics.native import build as native
from pytest_procsemantics.spawners.support import why_not

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CHECKOUT = Path(__file__).resolve().parent.parent
PACKAGE = "pytest_procsemantics"
PT_DYNAMIC, PT_INTERP = 2, 3  # elf(5)
HAS_VFORK = native.host() in native.VFORK.machines
LIMIT = 300  # seconds for one command
SELECTION = "--procsem-clause=fork.2/memory*"  # some checks are as good as all of them here

pytestmark = pytest.mark.timeout(LIMIT)


def run(
    *command: str | Path, cwd: Path, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command with none of pytest's and Python's own variables, and `env` on top."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTEST", "PYTHON", "VIRTUAL_ENV", "COV"))
    }
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**inherited, "PYTHONDONTWRITEBYTECODE": "1", **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT,
    )


def must(done: subprocess.CompletedProcess[str]) -> str:
    """The output of a command that must succeed."""
    assert done.returncode == 0, done.stdout
    return done.stdout


@dataclass(frozen=True)
class Environment:
    """A virtual environment that has our dependencies, and a folder to work in."""

    folder: Path
    checkout: Path  # where `pytest conformance/` is run
    elsewhere: Path  # a folder of somebody else's

    @property
    def cache(self) -> Path:
        """The user's cache."""
        return self.folder / "cache"

    def run(
        self, *command: str | Path, cwd: Path | None = None, **env: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the environment; `pytest` and `python` are the environment's."""
        program = self.folder / "bin" / command[0]
        # What is compiled stays for the next run: to rewrite all checks anew takes longer than the rest.
        own = {"XDG_CACHE_HOME": str(self.cache), "PYTHONDONTWRITEBYTECODE": "", **env}
        return run(program, *command[1:], cwd=cwd or self.checkout, env=own)

    def install(self, *what: str | Path, **env: str) -> None:
        """pip install, with nothing but what is given."""
        pip = (sys.executable, "-m", "pip", "--python", self.folder / "bin" / "python", "install")
        alone = ("--no-deps", "--no-index", "--no-build-isolation", "--quiet")
        own = {"XDG_CACHE_HOME": str(self.cache), "PIP_DISABLE_PIP_VERSION_CHECK": "1", **env}
        must(run(*pip, *alone, *what, cwd=self.elsewhere, env=own))


class Factory:
    """Makes checkouts, wheels and environments below one temporary folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0

    def new(self, name: str) -> Path:
        """A new folder."""
        self.count += 1
        folder = self.folder / f"{name}{self.count}"
        folder.mkdir()
        return folder

    def checkout(self) -> Path:
        """A copy of this checkout, so that nothing is left in it."""
        copy = self.new("checkout")
        for path in CHECKOUT.iterdir():
            if path.is_file():
                shutil.copy2(path, copy)
        junk = shutil.ignore_patterns("__pycache__", ".*")
        for name in (PACKAGE, "conformance"):
            shutil.copytree(CHECKOUT / name, copy / name, ignore=junk)
        return copy

    def build(self, kind: str, platform: str = sys.platform, **env: str) -> Path:
        """Build a distribution: `wheel` or `sdist`."""
        into = self.new("dist")
        # The platform is changed late: it is our hook that must see it, not Python's start.
        code = (
            "import sys, sysconfig, hatchling.build as backend; from hatchling.builders import wheel;"
            f"sys.platform = {platform!r};"
            f"print(backend.build_{kind}({str(into)!r}))"
        )
        must(run(sys.executable, "-c", code, cwd=self.checkout(), env=env))
        (built,) = into.iterdir()
        return built

    def environment(self) -> Environment:
        """A virtual environment with our dependencies, and without us."""
        folder = self.new("environment")
        venv.create(folder, symlinks=True)
        (packages,) = folder.glob("lib/python*/site-packages")
        dependencies = self.new("dependencies")
        for entry in map(Path, sys.path):
            if entry.name in {"site-packages", "dist-packages"}:
                for path in entry.iterdir():
                    link = dependencies / path.name
                    if PACKAGE not in path.name and not link.is_symlink():
                        link.symlink_to(path)
        (packages / "dependencies.pth").write_text(f"{dependencies}\n")
        script = folder / "bin" / "pytest"
        script.write_text(f"#!{folder}/bin/python\nimport sys, pytest\nsys.exit(pytest.main())\n")
        script.chmod(0o755)
        return Environment(folder, self.checkout(), self.new("elsewhere"))


@pytest.fixture(scope="session")
def make(tmp_path_factory: pytest.TempPathFactory) -> Factory:
    """Makes checkouts, wheels and environments."""
    return Factory(tmp_path_factory.mktemp("packaging"))


@pytest.fixture(scope="session")
def wheel(make: Factory) -> Path:
    """The wheel for this machine."""
    return make.build("wheel")


@pytest.fixture(scope="session")
def bare(make: Factory) -> Environment:
    """Nothing is installed but the dependencies."""
    return make.environment()


@pytest.fixture(scope="session")
def installed(make: Factory, wheel: Path) -> Environment:
    """The wheel is installed; it is the only plugin that `pytest conformance/` can find."""
    environment = make.environment()
    environment.install(wheel)
    shutil.rmtree(environment.checkout / PACKAGE)
    return environment


@pytest.fixture(scope="session")
def editable(make: Factory) -> Environment:
    """The checkout is installed as editable."""
    environment = make.environment()
    environment.install("--editable", environment.checkout)
    return environment


class Runs:
    """What the suite does however it is installed. A class is a worker's own (--dist loadscope), which makes one environment."""

    @pytest.mark.parametrize(
        "command",
        [
            ("pytest", "conformance/"),
            ("python", "-m", "pytest", "conformance/"),
            ("pytest", "-n", "2", "conformance/"),
            ("python", "-m", PACKAGE),
            ("python", "-m", PACKAGE, "-n", "2"),
        ],
        ids=" ".join,
    )
    def test_the_suite_runs(self, environment: Environment, command: tuple[str, ...]) -> None:
        output = must(environment.run(*command, SELECTION))
        assert " passed" in output
        assert "conforms" in output

    def test_the_suite_runs_without_autoloading(self, environment: Environment) -> None:
        # python -m: a bare checkout is found from the current folder only.
        command = ("python", "-m", "pytest", "-p", f"{PACKAGE}.plugin", "conformance/", SELECTION)
        output = must(environment.run(*command, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1"))
        assert " passed" in output


class RunsFromAnywhere(Runs):
    """The same, and what takes an installed package."""

    def test_the_suite_has_its_own_settings(self, environment: Environment) -> None:
        (environment.elsewhere / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\n")
        (environment.elsewhere / "conftest.py").write_text("raise RuntimeError('not the suite')\n")
        command = ("python", "-m", PACKAGE, SELECTION)
        output = must(environment.run(*command, cwd=environment.elsewhere))
        assert " passed" in output


class TestBare(Runs):
    @pytest.fixture
    def environment(self, bare: Environment) -> Environment:
        return bare


class TestInstalled(RunsFromAnywhere):
    @pytest.fixture
    def environment(self, installed: Environment) -> Environment:
        return installed

    def test_a_check_is_run_again_by_the_name_that_a_run_prints(
        self, environment: Environment
    ) -> None:
        run = ("python", "-m", PACKAGE)
        listing = must(environment.run(*run, "--collect-only", "-q", SELECTION))
        first = listing.splitlines()[0]
        assert first.startswith("conformance/")
        assert "1 passed" in must(environment.run(*run, first, cwd=environment.elsewhere))

    def test_an_installed_wheel_brings_its_agent(self, environment: Environment) -> None:
        code = "from pytest_procsemantics import native; print(native.agent())"
        agent = Path(must(environment.run("python", "-c", code, PATH="")).strip())
        assert environment.folder in agent.parents
        assert os.access(agent, os.X_OK)
        assert not list(environment.cache.rglob("agent-*"))

    @pytest.mark.skipif(not HAS_VFORK, reason=f"there is no shared object for {native.host()}")
    def test_an_installed_wheel_brings_its_shared_object_which_needs_no_library(
        self,
        environment: Environment,
    ) -> None:
        code = "from pytest_procsemantics.native import vfork; print(vfork())"
        path = Path(must(environment.run("python", "-c", code, PATH="")).strip())
        assert environment.folder in path.parents
        assert b"libc" not in path.read_bytes()
        code = "from pytest_procsemantics import Vfork; print(Vfork()(str, 5).result())"
        if why_not("vfork") is None:
            assert must(environment.run("python", "-c", code, PATH=os.defpath)).strip() == "5"

    def test_an_installed_plugin_of_another_version_is_refused(
        self, environment: Environment
    ) -> None:
        project = environment.checkout / "pyproject.toml"
        ours = project.read_text()
        project.write_text(ours.replace('\nversion = "', '\nversion = "9.'))
        done = environment.run("pytest", "conformance/", SELECTION)
        project.write_text(ours)
        assert done.returncode == pytest.ExitCode.USAGE_ERROR
        (line,) = done.stdout.strip().splitlines()
        assert "is installed, its checks are 9." in line


class TestEditable(RunsFromAnywhere):
    @pytest.fixture
    def environment(self, editable: Environment) -> Environment:
        return editable

    def test_an_editable_install_builds_the_agent_at_once(self, make: Factory) -> None:
        environment = make.environment()
        environment.install("--editable", environment.checkout)
        assert len([*environment.cache.rglob("vfork-*")]) == HAS_VFORK
        (kept,) = environment.cache.rglob("agent-*")
        code = "from pytest_procsemantics import native; print(native.agent())"
        assert must(environment.run("python", "-c", code, PATH="")).strip() == str(kept)

    def test_a_plugin_from_another_checkout_is_refused(
        self, make: Factory, environment: Environment
    ) -> None:
        other = make.checkout()
        done = environment.run("pytest", "conformance/", SELECTION, cwd=other)
        assert done.returncode == pytest.ExitCode.USAGE_ERROR
        (line,) = done.stdout.strip().splitlines()
        assert f"comes from {environment.checkout}, its checks from {other}" in line


def test_both_places_of_the_suites_settings_agree() -> None:
    pyproject = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    ours = pyproject["tool"]["pytest"]["ini_options"]
    suite = configparser.ConfigParser()
    suite.read(CHECKOUT / "conformance" / "suite.ini")
    assert dict(suite["pytest"]) == {
        "addopts": ours["addopts"],
        "xfail_strict": "true",
        "filterwarnings": "\n".join(["", *ours["filterwarnings"]]),
        "timeout": str(ours["timeout"]),
    }
    assert ours["xfail_strict"] is True


def test_the_wheel_has_agents_suite_and_catalogue(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert wheel.name.endswith(f"-py3-none-{native.platform_tag()}.whl")
    for name in (
        f"native/agent-{native.host()}",
        *(f"native/{native.VFORK.file(native.host())}" for _ in range(HAS_VFORK)),
        "conformance/suite.ini",
        "conformance/conftest.py",
        "catalogue/vfork.2.toml",
        "baselines/linux.toml",
        "baselines/gvisor.toml",
        "report/results.schema.json",
        "py.typed",
    ):
        assert f"{PACKAGE}/{name}" in names
    assert {name.split("/")[0].split("-")[0] for name in names} == {PACKAGE}
    assert not [name for name in names if "__pycache__" in name]


def test_the_packaged_agents_are_small_and_need_no_library(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    agents = [name for name in archive.namelist() if "/native/agent-" in name]
    for image in map(archive.read, agents):
        assert len(image) <= native.SIZE_LIMIT
        (start,) = struct.unpack_from("<Q", image, native.E_PHOFF)
        size, count = struct.unpack_from("<HH", image, native.E_PHENTSIZE)
        kinds = {struct.unpack_from("<I", image, start + n * size)[0] for n in range(count)}
        assert not kinds & {PT_DYNAMIC, PT_INTERP}


def test_the_sdist_has_sources_only(make: Factory) -> None:
    with tarfile.open(make.build("sdist")) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    assert f"{PACKAGE}/native/agent.c" in names
    assert "hatch_build.py" in names
    made = ("native/agent-", "native/vfork-", "__pycache__")
    assert not [name for name in names if any(part in name for part in made)]


@pytest.mark.parametrize("kind", ["wheel", "editable"])
def test_the_build_asks_for_ziglang_where_no_compiler_is(make: Factory, kind: str) -> None:
    code = f"import hatchling.build as backend; print(backend.get_requires_for_build_{kind}())"
    command = (sys.executable, "-c", code)
    checkout = make.checkout()
    with_path = must(run(*command, cwd=checkout))
    without = must(run(*command, cwd=checkout, env={"PATH": "", "CC": ""}))
    assert "ziglang" not in with_path
    # Here it may be installed, and then it need not be asked for.
    assert ("ziglang" in without) == (importlib.util.find_spec("ziglang") is None)


def test_ziglang_alone_builds_a_wheel(make: Factory) -> None:
    pytest.importorskip("ziglang", reason="needs the package ziglang; tox -e c has it")
    wheel = make.build("wheel", PATH="", CC="")
    names = zipfile.ZipFile(wheel).namelist()
    for machine in native.MACHINES:
        assert f"{PACKAGE}/native/agent-{machine}" in names


def test_off_linux_the_wheel_is_pure_and_the_suite_says_what_it_needs(make: Factory) -> None:
    wheel = make.build("wheel", platform="darwin", PATH="", CC="")
    assert wheel.name.endswith("-py3-none-any.whl")
    assert not [
        name
        for name in zipfile.ZipFile(wheel).namelist()
        if "/native/" in name and not name.endswith((".py", ".c", ".h"))
    ]
    environment = make.environment()
    environment.install(wheel)
    code = (
        "import sys; from pytest_procsemantics.__main__ import main;"
        "sys.platform = 'darwin'; sys.exit(main(sys.argv[1:]))"
    )
    done = environment.run("python", "-c", code, SELECTION, cwd=environment.elsewhere)
    assert done.returncode != 0
    assert "driven processes need Linux, and this is darwin" in done.stdout
    assert "Traceback" not in done.stdout
