"""The window lab: a kernel, a guest's memory and a DMA target on x86; what is lost, and who says so."""

from __future__ import annotations

from collections.abc import Iterator

from vfiolab.draw import Picture
from vfiolab.kit import Journey
from vfiolab.kit.steps import Step
from vfiolab.lab.choices import ChoiceLab, Run
from vfiolab.model.irq.delivery import mark

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


class WindowRun(Run):
    """One run: attach, map the guest's memory, let the device act. `refused`: a map that was refused; `trip`: the act's journey."""

    def __init__(self, kernel: str, guest: str, act: str) -> None:
        super().__init__("vl.load", "intel-vtd-39bit", kernel)
        self.carry_out(self._steps(guest, ACTS[act]))
        self.trip: Journey | None = self.steps[-1].answer

    def _steps(self, guest: str, address: int | None) -> Iterator[Step]:
        yield self.do("space.attach", DEVICE)
        for iova, size in GUESTS[guest]:
            yield self.do("space.map", iova, size, "guest RAM")
        if address is None:
            yield self.do("space.enable_msi", DEVICE)
            yield self.do("space.raise_msi", DEVICE)
        else:
            yield self.do("space.dma_write", DEVICE, address, 0x1234)

    @property
    def outcome(self) -> str:
        """The errno's name of a refused map, else what became of the request."""
        return super().outcome if self.trip is None else self.trip.outcome

    @property
    def verdict(self) -> str:
        """Say what came of it."""
        if self.trip is not None:
            logged = f" The host logs: {' '.join(self.trip.logged.split())}" if self.trip.logged else ""
            return f"{self.trip.outcome.capitalize()}: {self.trip.why}{mark(self.trip.steps[-1])}.{logged}"
        return f"Refused before any DMA. {self.refused}."

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """The request's journey, else the iova map with the refused map."""
        return (self.trip.picture(),) if self.trip is not None else super().pictures


class WindowLab(ChoiceLab):
    """Choose a kernel, a guest and what its device does; see whether the window takes the request, and who notices."""

    def __init__(self) -> None:
        super().__init__(
            WindowRun,
            kernel=("Kernel", KERNELS, "4.4"),
            guest=("Guest", GUESTS, "does not know the window"),
            act=("Device", ACTS, "DMA to 0xfee0_1000"),
        )
