"""What is in C: the sources, and how executables and the shared object are found or made (build.py)."""

from pytest_procsemantics.native.build import (
    MACHINES,
    BuildFailed,
    agent,
    cache_folder,
    host,
    library,
    supported,
    vfork,
)

__all__ = [
    "MACHINES",
    "BuildFailed",
    "agent",
    "cache_folder",
    "host",
    "library",
    "supported",
    "vfork",
]
