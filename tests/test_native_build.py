"""How the agent is compiled and found; and that each compiler makes a good one.

A compiler that is not here is a skip; `tox -e c` has them all.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pytest_procsemantics.native import build as native
from pytest_procsemantics.spawners.support import why_not

PT_DYNAMIC, PT_INTERP = 2, 3  # elf(5)
COMPILERS = [
    (machine, compiler.name)
    for machine in native.MACHINES
    for compiler in native.compilers(machine)
    if compiler.name not in {"cc", os.environ.get("CC")}
]


def segments(agent: Path) -> set[int]:
    """The types of an executable's segments."""
    image = agent.read_bytes()
    (start,) = struct.unpack_from("<Q", image, native.E_PHOFF)
    size, count = struct.unpack_from("<HH", image, native.E_PHENTSIZE)
    return {struct.unpack_from("<I", image, start + n * size)[0] for n in range(count)}


def works(machine: str, name: str) -> native.Compiler:
    """The compiler of that name, or a skip."""
    compiler = next(one for one in native.compilers(machine) if one.name == name)
    if complaint := compiler.complaint():
        pytest.skip(f"needs {name} for {machine}: {complaint}")
    return compiler


@pytest.fixture
def bare_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on PATH, and empty."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("CC", raising=False)
    return folder


@pytest.fixture
def no_zig(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the package ziglang, should it be installed."""
    monkeypatch.setattr(native, "ZIG", "no_such_ziglang")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache, empty."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A folder with an agent.c that is quickly compiled."""
    folder = tmp_path / "sources"
    folder.mkdir()
    (folder / "agent.c").write_text(native.PROBE)
    (folder / "vfork.c").write_text(native.PROBE)
    return folder


@pytest.mark.parametrize(("machine", "name"), COMPILERS)
def test_the_agent_is_small_and_needs_no_library(tmp_path: Path, machine: str, name: str) -> None:
    agent = tmp_path / "agent"
    assert works(machine, name).compile(native.SOURCES / "agent.c", agent) is None
    assert agent.stat().st_size <= native.SIZE_LIMIT
    assert not segments(agent) & {PT_DYNAMIC, PT_INTERP}


@pytest.mark.parametrize("level", ["-O0", "-O1", "-O2", "-O3"])
@pytest.mark.parametrize(("machine", "name"), COMPILERS)
def test_the_agent_compiles_at_each_level(
    tmp_path: Path, machine: str, name: str, level: str
) -> None:
    compiler = works(machine, name)
    assert compiler.compile(native.SOURCES / "agent.c", tmp_path / "agent", level) is None


VFORK_COMPILERS = [
    (machine, compiler.name)
    for machine in native.VFORK.machines
    for compiler in native.compilers(machine, native.VFORK)
    if compiler.name not in {"cc", os.environ.get("CC")}
]
HARDENED = {
    "x86_64": ("-fcf-protection=full", "-fcf-protection=none"),
    "aarch64": ("-mbranch-protection=standard", "-mbranch-protection=none"),
}


def works_for_vfork(machine: str, name: str) -> native.Compiler:
    """The compiler of that name for the shared object, or a skip."""
    compilers = native.compilers(machine, native.VFORK)
    compiler = next(one for one in compilers if one.name == name)
    if complaint := compiler.complaint():
        pytest.skip(f"needs {name} for {machine}: {complaint}")
    return compiler


@pytest.mark.parametrize(("machine", "name"), VFORK_COMPILERS)
def test_the_shared_object_compiles_in_each_way(tmp_path: Path, machine: str, name: str) -> None:
    compiler, output = works_for_vfork(machine, name), tmp_path / "vfork.so"
    ways = ["-O0", "-O1", "-O2", "-O3", "-fstack-protector-all", *HARDENED[machine]]
    for way in ways:
        assert compiler.compile(native.SOURCES / "vfork.c", output, way) is None
        assert PT_DYNAMIC in segments(output)
        assert PT_INTERP not in segments(output)


TRIED = """
import sys
from pathlib import Path
from pytest_procsemantics.native import build
build.vfork = lambda: Path(sys.argv[1])
import pytest_procsemantics.native
pytest_procsemantics.native.vfork = build.vfork
from pytest_procsemantics.spawners import probe
print(probe.found())
"""


@pytest.mark.skipif(why_not("vfork") is not None, reason=str(why_not("vfork")))
@pytest.mark.parametrize("name", ["gcc", "clang", "ziglang"])
def test_the_statement_holds_in_each_way(tmp_path: Path, name: str) -> None:
    compiler = works_for_vfork(native.host(), name)
    ways = [
        ("-O0",),
        ("-O1",),
        ("-O2",),
        ("-O3",),
        ("-O3", "-fstack-protector-all"),
        ("-O2", "-flto"),
    ]
    ways += [("-O2", way) for way in HARDENED[native.host()]]
    for number, way in enumerate(ways):
        output = tmp_path / f"vfork-{number}.so"
        complaint = compiler.compile(native.SOURCES / "vfork.c", output, *way)
        if complaint is not None and "-flto" in way:  # clang needs a linker of its own for it
            continue
        assert complaint is None
        line = [sys.executable, "-c", TRIED, str(output)]
        environment = {**os.environ, "PYTHONPATH": str(native.SOURCES.parents[1])}
        done = subprocess.run(line, env=environment, capture_output=True, text=True)
        assert done.stdout == "a true vfork\n", (way, done.stderr)


def test_a_shared_object_is_built_once(cache: Path, sources: Path) -> None:
    if native.host() not in native.VFORK.machines:
        pytest.skip(f"there is none for {native.host()}")
    first = native.vfork(sources)
    made = first.stat().st_mtime_ns
    assert native.vfork(sources) == first
    assert first.stat().st_mtime_ns == made
    assert cache in first.parents


def test_an_agent_is_built_once(cache: Path, sources: Path) -> None:
    first = native.agent(sources=sources)
    made = first.stat().st_mtime_ns
    again = native.agent(sources=sources)
    assert (again, again.stat().st_mtime_ns) == (first, made)
    assert cache in first.parents
    assert os.access(first, os.X_OK)


def test_other_sources_make_another_agent(cache: Path, sources: Path) -> None:
    first = native.agent(sources=sources)
    (sources / "new.h").write_text("/* new */\n")
    assert native.agent(sources=sources) != first


def test_builds_at_the_same_time_give_one_whole_agent(cache: Path, sources: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        agents = set(pool.map(lambda _: native.agent(sources=sources), range(4)))
    assert [path for path in cache.rglob("*") if path.is_file()] == list(agents)


def test_a_packaged_agent_is_taken_as_it_is(
    cache: Path, sources: Path, bare_path: Path, no_zig: None
) -> None:
    packaged = sources / f"agent-{native.host()}"
    packaged.touch()
    assert native.agent(sources=sources) == packaged


def test_a_kept_agent_needs_no_compiler(
    cache: Path, sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = native.agent(sources=sources)
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(native, "ZIG", "no_such_ziglang")
    assert native.agent(sources=sources) == kept


def test_without_any_compiler_the_message_says_what_to_install(
    cache: Path, sources: Path, bare_path: Path, no_zig: None
) -> None:
    with pytest.raises(native.BuildFailed, match=r"tried cc \(not found\).*pip install ziglang"):
        native.agent(sources=sources)


def test_ziglang_stands_in_for_a_compiler(cache: Path, sources: Path, bare_path: Path) -> None:
    works(native.host(), "ziglang")
    assert native.agent(sources=sources).is_file()


def test_a_compiler_that_does_not_work_is_passed_over(
    sources: Path, bare_path: Path, no_zig: None, tmp_path: Path
) -> None:
    broken = bare_path / "cc"
    broken.write_text("#!/bin/sh\necho 'error: no licence' >&2\nexit 3\n")
    broken.chmod(0o755)
    with pytest.raises(native.BuildFailed, match=r"cc \(exit status 3: error: no licence\), gcc"):
        native.build(tmp_path, sources=sources)


def test_a_cross_compiler_in_cc_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    foreign = next(machine for machine in native.MACHINES if machine != native.host())
    name = f"{foreign}-linux-gnu-gcc"
    works(foreign, name)
    monkeypatch.setenv("CC", name)
    chosen = native.compiler()
    assert chosen is not None
    assert chosen.name != name


def test_cc_is_preferred(monkeypatch: pytest.MonkeyPatch) -> None:
    works(native.host(), "gcc")
    monkeypatch.setenv("CC", "gcc -pipe")
    chosen = native.compiler()
    assert chosen is not None
    assert chosen.command == ("gcc", "-pipe")


def test_sources_with_a_fault_are_one_clear_message(cache: Path, sources: Path) -> None:
    (sources / "agent.c").write_text("int unfinished\n")
    with pytest.raises(native.BuildFailed, match=r"on agent\.c: exit status 1: .*error"):
        native.agent(sources=sources)


def test_a_cache_that_cannot_be_written_is_one_clear_message(cache: Path, sources: Path) -> None:
    cache.write_text("a file stands where the folder should be")
    with pytest.raises(native.BuildFailed, match="set XDG_CACHE_HOME"):
        native.agent(sources=sources)


def test_an_unknown_machine_is_one_clear_message(cache: Path, sources: Path) -> None:
    with pytest.raises(native.BuildFailed, match="no agent for vax; there are agents for x86_64"):
        native.agent("vax", sources=sources)


def test_off_linux_the_message_says_what_is_needed(
    cache: Path, sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(native.BuildFailed, match="need Linux"):
        native.agent(sources=sources)


def test_the_library_program_is_built_once_and_needs_a_library(cache: Path) -> None:
    try:
        first = native.library()
    except native.BuildFailed as error:
        pytest.skip(str(error))
    made = first.stat().st_mtime_ns
    again = native.library()
    assert (again, again.stat().st_mtime_ns) == (first, made)
    assert cache in first.parents
    assert segments(first) >= {PT_DYNAMIC, PT_INTERP}


def test_without_a_compiler_there_is_no_library_program(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(native.BuildFailed, match=r"a C compiler at build time; tried cc \(not"):
        native.library()


def test_a_fault_in_library_c_is_told(cache: Path, sources: Path) -> None:
    (sources / "library.c").write_text("int unfinished\n")
    with pytest.raises(native.BuildFailed, match=r"cc \(exit status 1: .*error"):
        native.library(sources=sources)
