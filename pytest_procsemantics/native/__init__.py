"""The agent: its C sources, and how its executables are found or made (build.py)."""

from pytest_procsemantics.native.build import (
    MACHINES,
    BuildFailed,
    agent,
    cache_folder,
    host,
    library,
    supported,
)

__all__ = ["MACHINES", "BuildFailed", "agent", "cache_folder", "host", "library", "supported"]
