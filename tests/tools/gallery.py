"""The gallery: one page of fourteen pictures and what each teaches. `python tests/tools/gallery.py` writes it, `--check` compares."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import vfiolab as vl
from vfiolab._paths import notebooks_dir
from vfiolab.draw.chain import chain
from vfiolab.draw.iovamap.change import change
from vfiolab.draw.iovamap.facts import observe
from vfiolab.draw.iovamap.layout import Scene
from vfiolab.draw.iovamap.scene import iova_map
from vfiolab.draw.overview import who_is_who
from vfiolab.draw.pages import pages
from vfiolab.draw.stage.shapes import Picture
from vfiolab.draw.stage.svg import to_svg
from vfiolab.draw.timeline import compare, timeline
from vfiolab.draw.topology import topology
from vfiolab.model.address import parse_size
from vfiolab.model.builder import MachineBuilder
from vfiolab.model.errors import VfioError
from vfiolab.model.machine import Host
from vfiolab.model.user.container import Container, Group
from vfiolab.proposals import debate

PAGE = "gallery.md"
FOLDER = "pictures"
INTRODUCTION = """\
# Gallery

Fourteen pictures; all but the first are drawn from live objects of the model. In a notebook each shows itself as the last line of a cell,
`picture.save("map.svg")` writes it to a file (.svg, .png, .pdf, or .txt in 80 columns), `vl.draw.plot` puts it on matplotlib axes, and
every one has a table with the same facts.
"""


class Exhibit(NamedTuple):
    """A picture of the gallery: the file's name, its heading, what it teaches, the code that a reader would type, and how it is made."""

    name: str
    heading: str
    teaches: str
    code: str
    draw: Callable[[], Picture]


# The live objects

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


def desktop() -> vl.Host:
    """Load a real machine."""
    return vl.load("amd-matisse-desktop")


def overridden() -> Picture:
    """Draw what the boot parameter that claims isolation does to the groups, and what it does not do."""
    return desktop().what_if(options=vl.GroupingOptions(pcie_acs_override="downstream,multifunction")).picture()


EXHIBITS = (
    Exhibit(
        "who-is-who",
        "Who is who",
        "A device reaches memory by itself, and only the IOMMU stands in between. It lets through what a program mapped by way of VFIO.",
        "vl.draw.who_is_who(width=440)",
        lambda: who_is_who(width=440),  # stands in a text cell, which shrinks what is wider
    ),
    Exhibit(
        "two-domains",
        "One address space, two domains",
        "A container is one I/O address space. The driver ties a domain to one SMMU, so type1 keeps a domain for each and "
        "mirrors every mapping into both. The mappings are the same everywhere; the aperture and the doorbell page are not.",
        "space.picture()",
        two_domains,
    ),
    Exhibit(
        "a-domain-appears",
        "The attach that splits",
        "The second group sits behind a unit that is narrower and cannot enforce snooping. It gets a domain of its own, the "
        "older mappings are replayed into it, and the user loses every iova beyond its 39 bits.",
        'before = space.look()\nspace.attach("81:00.0")\nspace.changed(before)',
        splitting,
    ),
    Exhibit(
        "refused",
        "One EINVAL, two causes",
        "Both maps fail with EINVAL. One meets the MSI window, which all domains have; the other is outside the aperture of a "
        "single domain, and that one decides for all.",
        "space.picture()",
        refused,
    ),
    Exhibit(
        "software-msi-window",
        "A closer look: the doorbell",
        "On Arm a device's interrupt is a write through the SMMU. The kernel maps the doorbell's page into the window at "
        "0x800_0000, in the domain of the device that asked and in no other.",
        "space.picture(window=(0x7f0_0000, 0x820_0000))",
        closer,
    ),
    Exhibit(
        "crowded",
        "Six thousand mappings",
        "What is thinner than a pixel is merged and shaded by how much of it is mapped; the picture says so and stays small. "
        "Nothing else is merged with it.",
        "space.picture()",
        crowded,
    ),
    Exhibit(
        "chain",
        "From devices to IOMMU units",
        "The links in one row: devices stand in groups, groups join a container, a domain serves groups, a unit translates for "
        "domains. Nothing is ever assigned below the group.",
        "space.chain()",
        links,
    ),
    Exhibit(
        "timeline",
        "What a call really does",
        "SET_CONTAINER allocates a domain, tries it, tries the existing one, is told EINVAL inside, and returns to the first: "
        "none of which the caller sees but for the answer 0.",
        "space.timeline()",
        in_order,
    ),
    Exhibit(
        "hardware-pages",
        "Why 1,032 entries",
        "A large page is used only where iova and physical address are both aligned to it. Shift a mapping by one small page "
        "and its two ends are filled with hundreds of small ones.",
        "vl.page_table(space.domains[0], 0x3fe0_1000)",
        hardware,
    ),
    Exhibit(
        "2015-and-today",
        "The kernel of the mail, and a recent one",
        "In 4.4 a map over the interrupt window succeeds, and the memory under it is never reached; from 5.4 it is refused. The "
        "same calls, side by side.",
        'vl.compare(old.log, new.log, names=("4.4", "6.12"))',
        then_and_now,
    ),
    Exhibit(
        "debate",
        "Eight designs, twelve users",
        "Who may put an interrupt's doorbell into a user's address space? A column shows where a design fails, a row what a user "
        "can hope for. No design serves every row. Two never fail silently: the plan to describe the space, and what landed.",
        "vl.debate()",
        lambda: debate().picture(),
    ),
    Exhibit(
        "groups-of-a-desktop",
        "The groups of a real desktop",
        "A recorded machine. Behind the chipset's switch everything is one group, network cards and disks together; the "
        "graphics card, behind a port with ACS, is not.",
        "vl.topology(host)",
        lambda: topology(desktop()),
    ),
    Exhibit(
        "why",
        "Why this card is not alone",
        "Each join has a reason, and the way from the card to the function that began the group is the answer. What to change stands "
        "at the top: as long as one of these functions does not isolate, the card stays.",
        'host.why("05:00.0").picture()',
        lambda: desktop().why("05:00.0").picture(),
    ),
    Exhibit(
        "what-if",
        "The override that claims isolation",
        "Groups before at the left, groups after at the right. With pcie_acs_override every device has a group of its own, as wished. "
        "No register has changed, so a write from one device to another still arrives.",
        'host.what_if(options=vl.GroupingOptions(pcie_acs_override="downstream,multifunction"))',
        overridden,
    ),
)


def files() -> dict[str, str]:
    """Return the page and its pictures: path below `notebooks/` and content."""
    parts = [INTRODUCTION]
    out: dict[str, str] = {}
    for number, exhibit in enumerate(EXHIBITS, 1):
        picture = exhibit.draw()
        path = f"{FOLDER}/{exhibit.name}.svg"
        out[path] = to_svg(picture) + "\n"
        alt = picture.title.replace("[", "(").replace("]", ")")
        parts.append(f"## {number}. {exhibit.heading}\n\n{exhibit.teaches}\n\n![{alt}]({path})\n\n```python\n{exhibit.code}\n```\n")
    out[PAGE] = "\n".join(parts)
    return out


def stale(folder: Path) -> list[str]:
    """Return the files of the gallery that are missing or differ from what is drawn now, and pictures that nothing draws any more."""
    wanted = files()
    missing = [
        path for path, text in wanted.items() if not (folder / path).is_file() or (folder / path).read_text(encoding="utf-8") != text
    ]
    found = {
        f"{FOLDER}/{path.name}" for path in (folder / FOLDER).glob("*.svg") if not path.name.startswith("run-")
    }  # those are running.py's
    return missing + sorted(found - set(wanted))


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the gallery, or with `--check` say what is stale; 1 if anything is."""
    parser = argparse.ArgumentParser(prog="python tests/tools/gallery.py", description="Draw the gallery of pictures.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if a file is not what would be drawn now")
    options = parser.parse_args(arguments)
    folder = notebooks_dir()
    if options.check:
        old = stale(folder)
        for path in old:
            sys.stderr.write(f"{folder / path} is stale: run python tests/tools/gallery.py\n")
        return int(bool(old))
    (folder / FOLDER).mkdir(exist_ok=True)
    for path, text in files().items():
        (folder / path).write_text(text, encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
