"""Toggle buttons on which the choice cannot be missed: an accent, a dot and bold letters, light, dark and disabled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ipywidgets

__all__ = ["column", "toggles"]

_CHOSEN = ".vfiolab-choice .widget-toggle-button.mod-active"
_STYLE = (
    "<style>.vfiolab-app .jupyter-button{white-space:normal;height:auto;min-height:28px;line-height:1.4;max-width:100%}"  # never cut
    ".vfiolab-app .widget-toggle-buttons{display:flex;align-items:baseline}"  # the name stands beside its buttons
    ".vfiolab-app .widget-toggle-buttons>.widget-label{flex:none}"  # and is never cut
    f"{_CHOSEN}{{background:#0072b2;color:#fff;font-weight:700;opacity:1}}"
    f'{_CHOSEN}::before{{content:"●\\00a0";content:"●\\00a0"/""}}</style>'  # the second form keeps the mark out of the button's name
)


def toggles(options: Sequence[Any], value: Any, tooltips: Sequence[str], description: str = "", width: str = "initial") -> Any:
    """Return toggle buttons, which Tab and Space reach; `column` around them makes the choice loud. `width` is the description's."""
    style = {"button_width": "auto", "description_width": width}
    buttons = ipywidgets.ToggleButtons(options=options, value=value, description=description, tooltips=list(tooltips), style=style)
    buttons.add_class("vfiolab-choice")
    return buttons


def column(*children: Any) -> Any:
    """Return the parts of an app one below the other, with the look of its buttons."""
    box = ipywidgets.VBox([*children, ipywidgets.HTML(_STYLE, layout={"display": "none"})])
    box.add_class("vfiolab-app")
    return box
