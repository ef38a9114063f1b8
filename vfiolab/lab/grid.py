"""The grid: every pair of units, every kernel and every mapping of the split lab as a cell that loads its experiment."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import ipywidgets

from vfiolab._text import count
from vfiolab.lab.controls import press
from vfiolab.lab.split import HARDWARE, KERNELS, MAPPED, SplitRun
from vfiolab.model.errors import VfioError

_LAYOUT = {"max_height": "26em", "overflow": "auto"}


def grid(load: Callable[[SplitRun], object]) -> ipywidgets.GridBox:
    """Return the cells, a row for each pair of units and mapping, a column for each kernel; `load` gets the run of the cell clicked."""
    cells = [_words("two units, and what is mapped"), *(_words(f"Linux {kernel}") for kernel in KERNELS)]
    for hardware in HARDWARE:
        for mapped in MAPPED:
            cells.append(_words(f"{hardware}; {mapped}"))
            for kernel in KERNELS:
                cells.append(_cell(SplitRun(hardware, kernel, mapped), f"{hardware}, Linux {kernel}, mapped: {mapped}", load))
    columns = f"minmax(180px, 3fr) repeat({len(KERNELS)}, minmax(76px, 1fr))"
    return ipywidgets.GridBox(cells, layout={"grid_template_columns": columns, "grid_gap": "1px", **_LAYOUT})


def _words(text: str) -> ipywidgets.HTML:
    return ipywidgets.HTML(f'<span style="line-height:1.4">{text}</span>')


def _cell(run: SplitRun, words: str, load: Callable[[SplitRun], object]) -> ipywidgets.Button:
    if run.refused is not None:
        told, style = f"✗ {run.refused.name if isinstance(run.refused, VfioError) else 'not known'}", "danger"
    else:
        number = len(run.space.domains)
        told, style = count(number, "domain"), "info" if number > 1 else ""
    button = press(told, f"{words}: {told}", partial(load, run), margin="0")
    button.button_style = style
    return button
