"""Widget apps for JupyterLab: thin; each click calls public verbs and shows them as code.

What may not come in: state beside the host and its log, and anything that a learner could not type.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["Explorer", "HotAddLab", "MapDrill", "SplitLab", "Stepper", "WindowLab"]

_HOMES = {
    "Explorer": "explorer",
    "HotAddLab": "hotadd",
    "MapDrill": "drill",
    "SplitLab": "split",
    "Stepper": "stepper",
    "WindowLab": "window",
}


def __getattr__(name: str) -> Any:
    """Load the apps, and ipywidgets with them, only when one is asked for: `vfiolab lab` itself needs none."""
    if name in _HOMES:
        return getattr(import_module(f"vfiolab.lab.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
