"""Doctests are looked for in the package; below tests/ only test modules are collected."""

from __future__ import annotations

from pathlib import Path


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave helpers alone: importing one may need what only some of the tests have, such as a browser."""
    helper = collection_path.suffix == ".py" and not collection_path.name.startswith(("test_", "conftest"))
    return True if helper else None
