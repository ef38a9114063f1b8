"""The reference card: one A4 page made of the glossary and of the model's own tables.

    python tests/tools/card.py                   # write notebooks/card.html
    python tests/tools/card.py --check           # write nothing; exit 1 if the card is stale
    python tests/tools/card.py --pdf card.pdf    # print it, with Chromium

Nothing on the card is written twice: the checks are those that the model makes, in its order, the numbers those of its ioctls, the changes
rows of the version table.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import vfiolab as vl
from vfiolab._paths import notebooks_dir
from vfiolab._text import markup
from vfiolab.course.words import html
from vfiolab.model.backends.type1_checks import Rules
from vfiolab.model.checks import Check
from vfiolab.model.switches import SWITCHES, show
from vfiolab.model.uapi.ioctls import IOCTLS

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.made import document, parser, store

PAGE = "card.html"
KERNELS = ("4.4", "6.12", "7.3")
WORDS = (
    "group", "container", "domain", "iova", "mapping", "pinning", "aperture", "reserved region", "RMRR", "replay", "mirroring", "MSI",
    "doorbell", "MSI window", "cookie", "interrupt remapping", "snoop control", "ACS", "BDF", "peer to peer", "vfio-pci", "viability",
    "claim", "type1", "iommufd",
)  # fmt: skip
CHANGES = (
    "reserved_regions", "dma_entry_limit", "valid_iova", "info_iova_ranges", "direct_relaxable", "msi_two_phase", "info_dma_avail",
    "dirty_tracking", "unmap_all", "dma_ownership", "enforced_coherency", "unmap_by_anyone", "group_can_die", "wrong_fd_ebadfd",
    "direct_blocks_ownership", "intel_domain_fixed", "no_nesting", "wrap_eoverflow", "compat_unmap_nothing",
)  # fmt: skip
STYLE = """\
@page { size: A4 landscape; margin: 7mm; }
* { box-sizing: border-box; }
body { font: 6.7pt/1.22 "DejaVu Sans", Verdana, sans-serif; margin: 0; width: 283mm; color: #000; background: #fff; }
h1 { font-size: 11pt; margin: 0 0 1mm; }
h1 small { font-size: 6.7pt; font-weight: normal; }
h2 { font-size: 7.6pt; margin: 0 0 .6mm; border-bottom: .4pt solid #000; }
main { display: grid; grid-template-columns: 74mm 108mm 1fr; gap: 4mm; }
section { margin-bottom: 1.8mm; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .1mm 1.2mm .1mm 0; }
tr + tr > * { border-top: .2pt solid #bbb; }
td.code, th.code { white-space: nowrap; padding-right: 1.8mm; }
p { margin: .6mm 0 0; }
@media screen { body { padding: 7mm; width: 297mm; } }
"""


def rows_of(kernel: str, call: str) -> list[Check]:
    """Return the checks of MAP, UNMAP or attach on a kernel, in its order."""
    return list(getattr(Rules(vl.Kernel(kernel)), call).whole)


def checks(call: str) -> list[list[str]]:
    """List what a call tests: the check, then for each kernel its place in the order and its errno, "-" where it is not made.

    The rows are in the order of 6.12; what only other kernels test comes last.
    """
    made = {kernel: {row.text: (place, row.errno) for place, row in enumerate(rows_of(kernel, call), 1)} for kernel in KERNELS}
    texts = dict.fromkeys(text for kernel in ("6.12", *KERNELS) for text in made[kernel])
    said = {kernel: {text: f"{place} {errno or '(driver)'}" for text, (place, errno) in made[kernel].items()} for kernel in KERNELS}
    return [[text, *(said[kernel].get(text, "-") for kernel in KERNELS)] for text in texts]


def table(head: Iterable[str], rows: Iterable[Iterable[str]], code: tuple[int, ...] = ()) -> str:
    """Return an HTML table; `code`: the columns that do not wrap."""

    def cells(kind: str, row: Iterable[str]) -> str:
        return "".join(f"<{kind}{' class=code' if place in code else ''}>{html(cell)}</{kind}>" for place, cell in enumerate(row))

    return f"<table><tr>{cells('th', head)}</tr>\n" + "\n".join(f"<tr>{cells('td', row)}</tr>" for row in rows) + "</table>"


def section(title: str, body: str, note: str = "") -> str:
    """Return a part of the card."""
    return f"<section><h2>{markup(title)}</h2>\n{body}" + (f"\n<p>{html(note)}</p>" if note else "") + "</section>"


def words() -> str:
    """Return the words of the card, as the glossary has them."""
    return "\n".join(f"<p><b>{markup(word)}</b>: {html(vl.glossary[word].means)}</p>" for word in WORDS)


def ioctls() -> str:
    """Return the ioctls with their numbers, by the descriptor that takes them."""
    first = {one.name: (one, who) for who, known in reversed(IOCTLS.items()) for one in known.values()}  # an iommufd has a container's too
    rows = [[f"{one.number:#x}", one.name.removeprefix("VFIO_"), who] for one, who in first.values() if one.name.startswith("VFIO_")]
    rows.sort(key=lambda row: list(IOCTLS).index(row[2]))
    return table(("number", "VFIO_...", "on"), rows, (0,))


def native() -> str:
    """Return an iommufd's own ioctls with their numbers, in a line."""
    own = [one for one in IOCTLS["iommufd"].values() if one.name.startswith("IOMMU_")]
    return f"<p>{', '.join(f'{one.number:#x} {one.name}' for one in own)}</p>"


def changes() -> str:
    """Return some rows of the version table, oldest first."""
    chosen = sorted((SWITCHES[name] for name in CHANGES), key=lambda switch: switch.first_seen)
    return table(("since", "what changed"), [(show(switch.first_seen), switch.what) for switch in chosen], (0,))


def page() -> str:
    """Return the card."""
    columns = (
        section("Words", words()),
        section(
            "MAP_DMA: the checks in the kernel's order",
            table(("must hold", *KERNELS), checks("map"), (1, 2, 3)),
            "The number is the place in the order. The first check that fails gives the answer. A dash: this kernel does not test it. "
            "Doorbell pages are there behind an Arm SMMU, once a device has enabled interrupts.",
        )
        + section("UNMAP_DMA", table(("must hold", *KERNELS), checks("unmap"), (1, 2, 3)))
        + section(
            "A group enters a container",
            table(("must hold", *KERNELS), checks("attach"), (1, 2, 3)),
            "SET_IOMMU answers so for the first group, SET_CONTAINER for each that comes later.",
        )
        + section("ioctls of an iommufd (/dev/iommu)", native()),
        section("ioctls", ioctls()) + section("Which kernel what", changes()),
    )
    title = "VFIO on a page"
    return document(
        title,
        STYLE,
        f"<h1>{title} <small>vfiolab {vl.__version__}: 4.4 is 4.4.0, any other version the last stable release of its series; "
        "your groups: <code>vfiolab groups</code>, one error line: <code>vfiolab explain</code>, a passthrough: <code>vfiolab plan</code>"
        "</small></h1>\n<main>\n" + "\n".join(f"<div>{column}</div>" for column in columns) + "\n</main>",
    )


def chromium(*flags: str, page: Path) -> None:
    """Run Chromium without a window on a page. FileNotFoundError: there is none."""
    found = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if found is None:
        raise FileNotFoundError("no chromium is installed; name one in the environment variable CHROMIUM")
    command = [found, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", *flags, page.resolve().as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=120)


def print_pdf(target: Path, page: Path | None = None) -> Path:
    """Print the stored card, or another page, as PDF."""
    chromium("--no-pdf-header-footer", f"--print-to-pdf={target.resolve()}", page=page or notebooks_dir() / PAGE)
    return target


def main(argv: list[str] | None = None) -> int:
    commands = parser(__doc__)
    commands.add_argument("--pdf", type=Path, metavar="FILE", help="print the stored card")
    options = commands.parse_args(argv)
    if options.pdf:
        print(print_pdf(options.pdf))
        return 0
    return store({PAGE: page}, "card", check=options.check)


if __name__ == "__main__":
    sys.exit(main())
