"""The hot-add lab: a guest's memory, a kernel, and a device that is to join: does it, and what iova space is left."""

from __future__ import annotations

from typing import Any

import ipywidgets

from vfiolab.course.hotplug import EMULATED, NARROW, PLAIN, hotplug_host
from vfiolab.course.toggles import column
from vfiolab.draw import figure_html, inline_svg
from vfiolab.lab.controls import choice, said
from vfiolab.lab.panels import panel
from vfiolab.lab.session import word
from vfiolab.model.errors import Refusal, VfioError

__all__ = ["HotAddLab", "HotAddRun"]

KERNELS = ("4.11", "5.10", "6.12", "7.3")  # emulated devices came with 4.10
MEMORY: dict[str, tuple[tuple[int | str, int | str], ...]] = {
    "4 GiB in one piece": ((0, "4G"),),
    "1 TiB around the window": ((0, 0xFEE0_0000), (0xFEF0_0000, (1 << 40) - 0xFEF0_0000)),
    "1 GiB from 1 GiB": (("1G", "1G"),),
    "1 GiB from 1 TiB": (("1T", "1G"),),
}
#: What joins: the words, the kind of IOMMU of its host, the device. Two hosts: no machine has VT-d and AMD-Vi.
JOINING = {
    "behind VT-d, 48 bits": ("intel-vtd", PLAIN),
    "behind VT-d, 39 bits": ("intel-vtd", NARROW),
    "behind AMD-Vi": ("amd-vi", PLAIN),
}


class HotAddRun:
    """One run: an emulated device is there, the guest's memory is mapped, a real device joins. `refused`: what its attach answered."""

    def __init__(self, kernel: str, memory: str, joining: str) -> None:
        kind, device = JOINING[joining]
        self.code = [f'space = vl.course.hotplug_host("{kernel}", "{kind}").address_space()', f'space.attach("{EMULATED}")']
        self.space = hotplug_host(kernel, kind).address_space()
        self.space.attach(EMULATED)
        for iova, size in MEMORY[memory]:
            self.code.append(f'space.map({word(iova)}, {word(size)}, "guest RAM")')
            self.space.map(iova, size, "guest RAM")
        self.code.append(f'space.attach("{device}")')
        self.refused: Refusal | None = None
        try:
            self.space.attach(device)
        except Refusal as refusal:
            self.refused = refusal
            self.code[-1] += "  # refused"

    @property
    def outcome(self) -> str:
        """What the attach answered: 0, an errno's name, or `unknown`."""
        if self.refused is None:
            return "0"
        return self.refused.name if isinstance(self.refused, VfioError) else "unknown"

    @property
    def verdict(self) -> str:
        """Say what came of it."""
        if self.refused is not None:
            return f"The device cannot join. {self.refused}. The guest's memory stays mapped."
        ranges = ", ".join(map(str, self.space.iova_ranges)) or "this kernel does not tell"
        return f"The device joins. Usable iovas now: {ranges}."


class HotAddLab:
    """Choose a kernel, what is mapped, and which device is hot-added to a guest that had only an emulated one."""

    def __init__(self) -> None:
        self.kernel = choice("Kernel", KERNELS, "7.3", self._show)
        self.memory = choice("Memory", tuple(MEMORY), "4 GiB in one piece", self._show)
        self.joining = choice("Device", tuple(JOINING), next(iter(JOINING)), self._show)
        self.status, self.picture, self.code = ipywidgets.HTML(), ipywidgets.HTML(), ipywidgets.HTML()
        self.box = column(self.kernel, self.memory, self.joining, self.status, self.picture, self.code)
        self._show()

    def _show(self) -> None:
        self.run = run = HotAddRun(self.kernel.value, self.memory.value, self.joining.value)
        self.status.value = said(run.verdict, alert=run.refused is not None)
        self.picture.value = inline_svg(run.space.picture())
        self.code.value = panel("The same in Python", "\n".join(["import vfiolab as vl", *run.code]))

    def __repr__(self) -> str:
        return f"HotAddLab(kernel {self.kernel.value}, {self.memory.value!r}, {self.joining.value!r})"

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        """Give the controls to a live front end; without one, the verdict and the picture."""
        run = self.run
        still = f"{said(run.verdict)}{figure_html(run.space.picture())}<p><em>Run this cell to choose with buttons.</em></p>"
        bundle = dict(self.box._repr_mimebundle_(**kwargs) or {})
        return {**bundle, "text/plain": run.verdict, "text/html": still}
