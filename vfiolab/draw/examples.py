"""Ten small machines and what happens on them: what the gallery draws."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from vfiolab._paths import data_dir
from vfiolab.draw.chain import chain
from vfiolab.draw.change import change
from vfiolab.draw.facts import observe
from vfiolab.draw.layout import Scene
from vfiolab.draw.pages import pages
from vfiolab.draw.scene import iova_map
from vfiolab.draw.shapes import Picture
from vfiolab.draw.timeline import compare, timeline
from vfiolab.draw.topology import topology
from vfiolab.model.address import parse_size
from vfiolab.model.builder import MachineBuilder
from vfiolab.model.errors import VfioError
from vfiolab.model.machine import Host
from vfiolab.model.vfio import Container, Group
from vfiolab.readers.machinefile import read_machine_file

FIRST, SECOND = "0000:01:00.0", "0000:21:00.0"


@dataclass
class Story:
    """One container on a host: attach devices and map memory in few words; refusals stay in the log."""

    host: Host
    container: Container
    held: dict[str, Group]

    @classmethod
    def on(cls, host: Host) -> Story:
        """Open a container on a host."""
        return cls(host, host.process.open_container(), {})

    def attach(self, *devices: str) -> Story:
        """Put the groups of devices into the container."""
        for device in devices:
            group = self.held[device] = self.host.process.open_group(device)
            group.set_container(self.container)
            if self.container.backend is None:
                self.container.set_iommu()
        return self

    def map(self, iova: int | str, size: int | str, name: str = "") -> Story:
        """Map fresh memory; a refusal is kept in the log."""
        start, length = parse_size(iova), parse_size(size)
        vaddr = self.host.process.memory.mmap(length)
        with suppress(VfioError):
            self.container.map_dma(start, length, vaddr, name=name)
        return self

    def guest(self) -> Story:
        """Map the memory of a small PC guest, which leaves the hole below 4 GiB free."""
        return self.map(0, "640K", "low memory").map(0xC0000, 0x7FF40000, "guest RAM").map("4G", "2G", "high RAM")

    def change(self, device: str) -> Scene:
        """Attach a device and return the picture of what that changed."""
        before = observe(self.container)
        self.attach(device)
        return change(before, observe(self.container), log=self.host.log)


def arm_server(kernel: str = "6.12") -> Host:
    """Build two SMMUs: stage 1 with 48 bits, stage 2 with 44."""
    m = MachineBuilder("arm server with two SMMUs")
    first, second = m.unit("smmu0", kind="arm-smmu-v3", stage=1), m.unit("smmu1", kind="arm-smmu-v3", stage=2)
    m.endpoint("01:00.0", below=m.root_port("00:01.0", unit=first))
    m.endpoint("21:00.0", below=m.root_port("20:01.0", unit=second))
    return m.host(kernel)


def intel_workstation(kernel: str = "6.12") -> Host:
    """Build two VT-d units: 48 bits with snoop control, 39 bits without."""
    m = MachineBuilder("workstation with two VT-d units")
    first, second = m.unit("dmar0", kind="intel-vtd", snoop_control=True), m.unit("dmar1", kind="intel-vtd", width=39)
    m.endpoint("01:00.0", below=m.root_port("00:01.0", unit=first), functions=2)
    m.endpoint("21:00.0", below=m.root_port("20:01.0", unit=second))
    return m.host(kernel)


def _doorbell() -> Story:
    story = Story.on(arm_server()).attach(FIRST).map("1G", "2G", "guest RAM").attach(SECOND)
    story.held[SECOND].get_device_fd(SECOND).set_irqs(1)
    return story


def two_domains() -> Picture:
    """Draw one address space in two domains."""
    story = _doorbell()
    return iova_map(story.container)


def splitting() -> Picture:
    """Draw the attach that makes a second domain."""
    return Story.on(intel_workstation()).attach(FIRST).guest().change(SECOND)


def refused() -> Picture:
    """Draw two maps that each fail for a reason of their own."""
    story = Story.on(intel_workstation()).attach(FIRST, SECOND).guest()
    story.map(0xFEE00000, "1M", "over the window").map(1 << 40, "16M", "a BAR")
    return iova_map(story.container, log=story.host.log)


def closer() -> Picture:
    """Draw the software MSI window from near by."""
    return iova_map(_doorbell().container, window=(0x7F00000, 0x8200000))


def crowded() -> Picture:
    """Draw a container with more mappings than pixels."""
    story = Story.on(arm_server()).attach(FIRST)
    vaddr = story.host.process.memory.mmap(1 << 16)
    at, dice = 0x40000000, 1
    for number in range(6000):
        dice = dice * 1103515245 + 12345 & 0x7FFFFFFF
        pages_, hole = 1 + (dice >> 16) % 8, (dice >> 20) % (4 if number % 1500 < 900 else 24)
        story.container.map_dma(at, pages_ * 4096, vaddr)
        at += (pages_ + hole) * 4096
    story.attach(SECOND)
    return iova_map(story.container)


def links() -> Picture:
    """Draw from devices to IOMMU units."""
    return chain(Story.on(intel_workstation()).attach(FIRST, SECOND).guest().container)


def in_order() -> Picture:
    """Draw what each call asked of the IOMMU core."""
    story = _doorbell().map(0x8000000, "64K", "over the doorbell")
    return timeline(story.host.log)


def hardware() -> Picture:
    """Draw the pages of a mapping that is not aligned to 2 MiB."""
    return pages(0x3FE01000, 0x7FE01000, 0xC0007000, 0x40201000)


def then_and_now() -> Picture:
    """Draw the same calls on the kernel of December 2015 and on 6.12."""
    logs = []
    for kernel in ("4.4", "6.12"):
        story = Story.on(intel_workstation(kernel)).attach(FIRST).guest()
        story.map(0xFEE00000, "1M", "over the window").map(0x1000, "4K", "again").map(1 << 48, "4K", "too far")
        logs.append(story.host.log)
    return compare(*logs, names=("4.4", "6.12"))


def desktop() -> Picture:
    """Draw a real machine's groups."""
    machine = read_machine_file(data_dir() / "machines" / "amd-matisse-desktop.json")
    return topology(machine.with_assumed_units().host())
