"""The gallery: one page of eleven pictures and what each teaches. `python -m vfiolab.draw.gallery` writes it, `--check` compares."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from vfiolab._paths import notebooks_dir
from vfiolab.draw import examples
from vfiolab.draw.overview import who_is_who
from vfiolab.draw.shapes import Picture
from vfiolab.draw.svg import to_svg

PAGE = "gallery.md"
FOLDER = "pictures"
INTRODUCTION = """\
# Gallery

Eleven pictures; all but the first are drawn from live objects of the model. In a notebook each shows itself as the last line of a cell,
`to_text` gives it in 80 columns, `plot` puts it on matplotlib axes, and every one has a table with the same facts.
"""


class Exhibit(NamedTuple):
    """A picture of the gallery: the file's name, its heading, what it teaches, the code that a reader would type, and how it is made."""

    name: str
    heading: str
    teaches: str
    code: str
    draw: Callable[[], Picture]


EXHIBITS = (
    Exhibit(
        "who-is-who",
        "Who is who",
        "A device reaches memory by itself, and only the IOMMU stands in between. It lets through what a program mapped by way of VFIO.",
        "who_is_who()",
        who_is_who,
    ),
    Exhibit(
        "two-domains",
        "One address space, two domains",
        "A container is one I/O address space. The driver ties a domain to one SMMU, so type1 keeps a domain for each and "
        "mirrors every mapping into both. The mappings are the same everywhere; the aperture and the doorbell page are not.",
        "iova_map(container)",
        examples.two_domains,
    ),
    Exhibit(
        "a-domain-appears",
        "The attach that splits",
        "The second group sits behind a unit that is narrower and cannot enforce snooping. It gets a domain of its own, the "
        "older mappings are replayed into it, and the user loses every iova beyond its 39 bits.",
        "before = observe(container)\ngroup.set_container(container)\nchange(before, observe(container), log=host.log)",
        examples.splitting,
    ),
    Exhibit(
        "refused",
        "One EINVAL, two causes",
        "Both maps fail with EINVAL. One meets the MSI window, which all domains have; the other is outside the aperture of a "
        "single domain, and that one decides for all.",
        "iova_map(container, log=host.log)",
        examples.refused,
    ),
    Exhibit(
        "software-msi-window",
        "A closer look: the doorbell",
        "On Arm a device's interrupt is a write through the SMMU. The kernel maps the doorbell's page into the window at "
        "0x800_0000, in the domain of the device that asked and in no other.",
        "iova_map(container, window=(0x7f0_0000, 0x820_0000))",
        examples.closer,
    ),
    Exhibit(
        "crowded",
        "Six thousand mappings",
        "What is thinner than a pixel is merged and shaded by how much of it is mapped; the picture says so and stays small. "
        "Nothing else is merged with it.",
        "iova_map(container)",
        examples.crowded,
    ),
    Exhibit(
        "chain",
        "From devices to IOMMU units",
        "The links in one row: devices stand in groups, groups join a container, a domain serves groups, a unit translates for "
        "domains. Nothing is ever assigned below the group.",
        "chain(container)",
        examples.links,
    ),
    Exhibit(
        "timeline",
        "What a call really does",
        "SET_CONTAINER allocates a domain, tries it, tries the existing one, is told EINVAL inside, and returns to the first: "
        "none of which the caller sees but for the answer 0.",
        "timeline(host.log)",
        examples.in_order,
    ),
    Exhibit(
        "hardware-pages",
        "Why 1,032 entries",
        "A large page is used only where iova and physical address are both aligned to it. Shift a mapping by one small page "
        "and its two ends are filled with hundreds of small ones.",
        "page_table(domain, 0x3fe0_1000)",
        examples.hardware,
    ),
    Exhibit(
        "2015-and-today",
        "The kernel of the mail, and a recent one",
        "In 4.4 a map over the interrupt window succeeds, and the memory under it is never reached; from 5.4 it is refused. The "
        "same calls, side by side.",
        'compare(old.log, new.log, names=("4.4", "6.12"))',
        examples.then_and_now,
    ),
    Exhibit(
        "groups-of-a-desktop",
        "The groups of a real desktop",
        "A recorded machine. Behind the chipset's switch everything is one group, network cards and disks together; the "
        "graphics card, behind a port with ACS, is not.",
        "topology(host)",
        examples.desktop,
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
    found = {f"{FOLDER}/{path.name}" for path in (folder / FOLDER).glob("*.svg")}
    return missing + sorted(found - set(wanted))


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the gallery, or with `--check` say what is stale; 1 if anything is."""
    parser = argparse.ArgumentParser(prog="python -m vfiolab.draw.gallery", description="Draw the gallery of pictures.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if a file is not what would be drawn now")
    options = parser.parse_args(arguments)
    folder = notebooks_dir()
    if options.check:
        old = stale(folder)
        for path in old:
            sys.stderr.write(f"{folder / path} is stale: run python -m vfiolab.draw.gallery\n")
        return int(bool(old))
    (folder / FOLDER).mkdir(exist_ok=True)
    for path, text in files().items():
        (folder / path).write_text(text, encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
