"""The hot-add lab: a guest's memory, a kernel, and a device that is to join: does it, and what iova space is left."""

from __future__ import annotations

from collections.abc import Iterator

from vfiolab.course.machines import EMULATED, NARROW, PLAIN
from vfiolab.kit.steps import Step
from vfiolab.lab.choices import ChoiceLab, Run

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
            kernel=("Kernel", KERNELS, "7.3"),
            memory=("Memory", MEMORY, "4 GiB in one piece"),
            joining=("Device", JOINING, "behind VT-d, 48 bits"),
        )
