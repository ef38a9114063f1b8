"""The window lab: a kernel, a guest's memory and a DMA target on x86; what is lost, and who says so."""

from __future__ import annotations

from typing import Any

import ipywidgets

from vfiolab.course.toggles import column
from vfiolab.draw import figure_html, inline_svg
from vfiolab.kit import AddressSpace, Journey, load
from vfiolab.lab.controls import choice, said
from vfiolab.lab.panels import panel
from vfiolab.lab.session import word
from vfiolab.model.errors import VfioError
from vfiolab.model.irq.delivery import mark

__all__ = ["WindowLab", "WindowRun"]

DEVICE = "0000:01:00.0"
KERNELS = ("4.4", "5.10", "7.3")
GUESTS: dict[str, tuple[tuple[int, int | str], ...]] = {
    "does not know the window": ((0, "4G"),),
    "leaves the window out": ((0, 0xFEE0_0000), (0xFEF0_0000, 0x110_0000)),
}
ACTS: dict[str, int | None] = {
    "DMA to 0xfedf_f000": 0xFEDF_F000,
    "DMA to 0xfee0_1000": 0xFEE0_1000,
    "DMA to 0xfef0_0000": 0xFEF0_0000,
    "raise an interrupt": None,
}


class WindowRun:
    """One run: attach, map the guest's memory, let the device act. `refused` is a map that the kernel refused."""

    def __init__(self, kernel: str, guest: str, act: str) -> None:
        self.code = [f'space = vl.load("intel-vtd-39bit", "{kernel}").address_space()', f'space.attach("{DEVICE}")']
        self.space: AddressSpace = load("intel-vtd-39bit", kernel).address_space()
        self.space.attach(DEVICE)
        self.refused: VfioError | None = None
        self.trip: Journey | None = None
        for iova, size in GUESTS[guest]:
            self.code.append(f'space.map({word(iova)}, {word(size)}, "guest RAM")')
            try:
                self.space.map(iova, size, "guest RAM")
            except VfioError as refusal:
                self.refused = refusal
                self.code[-1] += "  # refused"
                return
        self.trip = self._act(ACTS[act])

    def _act(self, address: int | None) -> Journey:
        if address is None:
            self.code += [f'space.enable_msi("{DEVICE}")', f'space.raise_msi("{DEVICE}")']
            self.space.enable_msi(DEVICE)
            return self.space.raise_msi(DEVICE)
        self.code.append(f'space.dma_write("{DEVICE}", {word(address)}, 0x1234)')
        return self.space.dma_write(DEVICE, address, 0x1234)

    @property
    def outcome(self) -> str:
        """The errno's name of a refused map, else what became of the request."""
        if self.trip is not None:
            return self.trip.outcome
        return self.refused.name if self.refused is not None else ""

    @property
    def verdict(self) -> str:
        """Say what came of it."""
        if self.trip is not None:
            logged = f" The host logs: {' '.join(self.trip.logged.split())}" if self.trip.logged else ""
            return f"{self.trip.outcome.capitalize()}: {self.trip.why}{mark(self.trip.steps[-1])}.{logged}"
        return f"Refused before any DMA. {self.refused}."


class WindowLab:
    """Choose a kernel, a guest and what its device does; see whether the window takes the request, and who notices."""

    def __init__(self) -> None:
        self.kernel = choice("Kernel", KERNELS, "4.4", self._show)
        self.guest = choice("Guest", tuple(GUESTS), "does not know the window", self._show)
        self.act = choice("Device", tuple(ACTS), "DMA to 0xfee0_1000", self._show)
        self.status, self.picture, self.code = ipywidgets.HTML(), ipywidgets.HTML(), ipywidgets.HTML()
        self.box = column(self.kernel, self.guest, self.act, self.status, self.picture, self.code)
        self._show()

    def _show(self) -> None:
        self.run = run = WindowRun(self.kernel.value, self.guest.value, self.act.value)
        self.status.value = said(run.verdict, alert=run.refused is not None)
        self.picture.value = inline_svg(run.trip.picture() if run.trip is not None else run.space.picture())
        self.code.value = panel("The same in Python", "\n".join(["import vfiolab as vl", *run.code]))

    def __repr__(self) -> str:
        return f"WindowLab(kernel {self.kernel.value}, guest {self.guest.value!r}, {self.act.value!r})"

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        """Give the controls to a live front end; without one, the verdict and the picture."""
        run = self.run
        picture = run.trip.picture() if run.trip is not None else run.space.picture()
        still = f"{said(run.verdict)}{figure_html(picture)}<p><em>Run this cell to choose with buttons.</em></p>"
        bundle = dict(self.box._repr_mimebundle_(**kwargs) or {})
        return {**bundle, "text/plain": run.verdict, "text/html": still}
