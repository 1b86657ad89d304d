"""The build hook: a wheel for Linux carries agents and shared object, an editable install builds its own at once."""

import importlib.util
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# By its path: pytest_procsemantics itself needs pytest, which no build environment has.
SPEC = importlib.util.spec_from_file_location(
    "procsem_native_build", Path(__file__).parent / "pytest_procsemantics/native/build.py"
)
assert SPEC is not None and SPEC.loader is not None
native = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(native)


class AgentHook(BuildHookInterface[Any]):
    def dependencies(self) -> list[str]:
        return ["ziglang"] if native.supported() and native.compiler() is None else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        self.folder = TemporaryDirectory(prefix="procsem-agents-")
        if not native.supported():  # a pure wheel: spawners work there, driven processes don't
            return
        if version == "editable":
            native.agent()
            if native.host() in native.VFORK.machines:
                native.vfork()
            return
        for path in native.build(Path(self.folder.name)):
            build_data["force_include"][str(path)] = f"pytest_procsemantics/native/{path.name}"
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{native.platform_tag()}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        self.folder.cleanup()
