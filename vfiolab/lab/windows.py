"""Two labs of what a hole in the iovas costs a guest: a DMA target beside the MSI window of x86, and a device that is to join."""

from __future__ import annotations

from collections.abc import Iterator

from vfiolab.course.machines import EMULATED, NARROW, PLAIN
from vfiolab.draw import Picture
from vfiolab.kit import Journey
from vfiolab.kit.steps import Step
from vfiolab.lab.choices import ChoiceLab, Run
from vfiolab.model.irq.delivery import mark

DEVICE = "0000:01:00.0"
KERNELS = ("4.4", "5.10", "7.3")
HOT_ADD_KERNELS = ("4.11", "5.10", "6.12", "7.3")  # emulated devices came with 4.10
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


class HotAddRun(Run):
    """One run: an emulated device is there, the guest's memory is mapped, a real device joins. `refused`: what its attach answered."""

    def __init__(self, kernel: str, memory: str, joining: str) -> None:
        kind, device = JOINING[joining]
        super().__init__("vl.course.hotplug_host", kernel, kind)
        self.carry_out(self._steps(memory, device))

    def _steps(self, memory: str, device: str) -> Iterator[Step]:
        yield self.do("space.attach", EMULATED)
        for iova, size in MEMORY[memory]:
            yield self.do("space.map", iova, size, "guest RAM")
        yield self.do("space.attach", device)

    @property
    def verdict(self) -> str:
        """Say what came of it."""
        if self.refused is not None:
            return f"The device cannot join. {self.refused}. The guest's memory stays mapped."
        ranges = ", ".join(map(str, self.space.iova_ranges)) or "this kernel does not tell"
        return f"The device joins. Usable iovas now: {ranges}."


class HotAddLab(ChoiceLab):
    """Choose a kernel, what is mapped, and which device is hot-added to a guest that had only an emulated one."""

    def __init__(self) -> None:
        super().__init__(
            HotAddRun,
            kernel=("Kernel", HOT_ADD_KERNELS, "7.3"),
            memory=("Memory", MEMORY, "4 GiB in one piece"),
            joining=("Device", JOINING, "behind VT-d, 48 bits"),
        )
