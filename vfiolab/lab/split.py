"""The split lab: two IOMMU units, a kernel and a mapping; how many domains. The grid has every such experiment as a cell."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import ipywidgets

from vfiolab._text import count
from vfiolab.course.machines import FIRST, SECOND
from vfiolab.draw import Picture
from vfiolab.kit.steps import Step
from vfiolab.lab.choices import ChoiceLab, Run
from vfiolab.lab.controls import press
from vfiolab.model.errors import NAMES, NotModelledError, VfioError

#: What the two units are: words on the button, kind, and the facts in which they may differ.
HARDWARE: dict[str, tuple[str, dict[str, Any]]] = {
    "VT-d, two equal units": ("intel-vtd", {}),
    "VT-d, snoop control in one": ("intel-vtd", {"snoop_control": (True, False)}),
    "VT-d, 48 and 39 bits": ("intel-vtd", {"width": (48, 39)}),
    "AMD-Vi, two equal units": ("amd-vi", {}),
    "SMMUv3, two equal units": ("arm-smmu-v3", {}),
    "SMMUv3, 48 and 40 bits": ("arm-smmu-v3", {"width": (48, 40)}),
}
KERNELS = ("4.4", "5.10", "6.1", "6.12", "7.3")
MAPPED: dict[str, int | None] = {"nothing": None, "1 GiB at 0x4000_0000": 0x4000_0000, "1 GiB at 0x100_0000_0000": 0x100_0000_0000}


class SplitRun(Run):
    """One run: attach the first group, map, attach the second group."""

    def __init__(self, hardware: str, kernel: str, mapped: str) -> None:
        kind, facts = HARDWARE[hardware]
        super().__init__("vl.course.two_units", kind, kernel, **facts)
        self.carry_out(self._steps(MAPPED[mapped]))

    def _steps(self, iova: int | None) -> Iterator[Step]:
        yield self.do("space.attach", FIRST)
        if iova is not None:
            yield self.do("space.map", iova, "1G", name="RAM")
        yield self.do("space.attach", SECOND)

    @property
    def verdict(self) -> str:
        """Say how many domains there are, and what decided it."""
        domains = self.space.domains
        if isinstance(self.refused, NotModelledError):
            return f"Not known: {self.refused}."
        if self.refused is not None:
            return f"Refused. {self.refused}. The address space stays as it was before this call."
        if len(domains) == 1:
            return "1 domain. The kernel tried the second group in D1 and its driver agreed, so the domain made for it was freed."
        tried = next((event for event in self.events if event.kind == "attach" and event.errno), None)
        if tried is None:
            return "2 domains. D1 was not even tried: only one of the two units can enforce snooping, and the kernel compares that first."
        name = NAMES[-(tried.errno or 0)]
        return f"2 domains. The kernel tried the second group in D1, and the driver answered {name}."

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """Devices, groups, domains and units, then the iova map."""
        return self.space.chain(), self.space.picture()


class SplitLab(ChoiceLab):
    """Choose two units, a kernel and what is mapped; see whether the second group shares the first one's domain."""

    def __init__(self) -> None:
        super().__init__(
            SplitRun,
            hardware=("Units", HARDWARE, "VT-d, two equal units"),
            kernel=("Kernel", KERNELS, "6.12"),
            mapped=("Mapped", MAPPED, "1 GiB at 0x4000_0000"),
        )


_LAYOUT = {"max_height": "26em", "overflow": "auto"}


def grid(load: Callable[[SplitRun], object]) -> ipywidgets.GridBox:
    """Return the cells, a row for each pair of units and mapping, a column for each kernel; `load` gets the run of the cell clicked."""
    cells = [_words("two units, and what is mapped"), *(_words(f"Linux {kernel}") for kernel in KERNELS)]
    for hardware in HARDWARE:
        for mapped in MAPPED:
            cells.append(_words(f"{hardware}; {mapped}"))
            cells += [_cell(load, hardware, kernel, mapped) for kernel in KERNELS]
    columns = f"minmax(180px, 3fr) repeat({len(KERNELS)}, minmax(76px, 1fr))"
    return ipywidgets.GridBox(cells, layout={"grid_template_columns": columns, "grid_gap": "1px", **_LAYOUT})


def _words(text: str) -> ipywidgets.HTML:
    return ipywidgets.HTML(f'<span style="line-height:1.4">{text}</span>')


def _cell(load: Callable[[SplitRun], object], hardware: str, kernel: str, mapped: str) -> ipywidgets.Button:
    run = SplitRun(hardware, kernel, mapped)
    if run.refused is not None:
        told, style = f"✗ {run.refused.name if isinstance(run.refused, VfioError) else 'not known'}", "danger"
    else:
        number = len(run.space.domains)
        told, style = count(number, "domain"), "info" if number > 1 else ""
    button = press(told, f"{hardware}, Linux {kernel}, mapped: {mapped}: {told}", partial(load, run), margin="0")
    button.button_style = style
    return button
