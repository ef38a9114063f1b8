"""Widget apps for JupyterLab: thin; each click calls one public verb and shows it as code."""

from __future__ import annotations

from typing import Any

__all__ = ["Explorer"]


def __getattr__(name: str) -> Any:
    """Load the apps, and ipywidgets with them, only when one is asked for: `vfiolab lab` itself needs none."""
    if name == "Explorer":
        from vfiolab.lab.explorer import Explorer

        return Explorer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
