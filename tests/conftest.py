"""Below tests/ only test modules are collected, and only those that were asked for are imported at all."""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave alone what may need a browser, or a peer to measure beside, that is not installed.

    These are helper modules (doctests are looked for in the package), and the folders whose marker is deselected.
    """
    if collection_path.is_dir():
        return True if f"not {collection_path.name}" in config.option.markexpr else None
    helper = collection_path.suffix == ".py" and not collection_path.name.startswith(("test_", "conftest"))
    return True if helper else None
