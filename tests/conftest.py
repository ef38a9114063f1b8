"""Below tests/ only test modules are collected, and only those that were asked for are imported at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples on every run and every machine; how long one takes depends on what else the machine is doing.
settings.register_profile("same everywhere", derandomize=True, deadline=None, database=None)
settings.load_profile("same everywhere")

# What a developer has answered is not what the tests are about.
os.environ.pop("VFIOLAB_PROGRESS", None)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave alone what may need a browser, or a peer to measure beside, that is not installed.

    These are helper modules (doctests are looked for in the package), and the folders whose marker is deselected.
    """
    if collection_path.is_dir():
        return True if f"not {collection_path.name}" in config.option.markexpr else None
    helper = collection_path.suffix == ".py" and not collection_path.name.startswith(("test_", "conftest"))
    return True if helper else None
