"""Who is who: the program, the kernel, the device, the IOMMU and the memory, and what passes between them."""

from __future__ import annotations

from vfiolab.draw.stage.measure import shorten
from vfiolab.draw.stage.page import LEAST_WIDTH, MARGIN, Page, card
from vfiolab.draw.stage.shapes import Box, Line, Picture, Poly, Text

TITLE = "A device reaches memory only through its IOMMU"
SAID = "Your program asks VFIO, VFIO writes the IOMMU's page table, and the IOMMU lets the device reach what was mapped and nothing else."
TABLE = (
    ("your program", "attaches devices, maps its memory", "VFIO"),
    ("VFIO, in Linux", "checks, then writes a domain's page table", "IOMMU"),
    ("device", "reads and writes at iovas: DMA", "IOMMU"),
    ("IOMMU", "translates an iova, or blocks the request", "memory"),
    ("memory", "holds what was mapped; the rest is out of reach", ""),
)
TALL, PLATE = 48.0, 22.0


def who_is_who(*, width: int = 900) -> Picture:
    """Draw who stands between a device and memory: the first picture of the course, drawn from no machine.

    >>> who_is_who().title
    'A device reaches memory only through its IOMMU'
    """
    page = Page(max(width, LEAST_WIDTH))
    page.heading(TITLE, SAID)
    gap = round((page.right - MARGIN) * 0.15, 1)
    each = round((page.right - MARGIN - 2 * gap) / 3, 1)
    xs = [round(MARGIN + n * (each + gap), 1) for n in range(3)]
    top, low = page.y + 26, page.y + 26 + TALL + 54
    page.add(Box(xs[0] - 8, top - 22, 2 * each + gap + 16, TALL + 32, "container", round=6))
    page.add(Text.plain(xs[0], top - 8, "CPU", "muted", bold=True))
    for x, y, role, name, does in (
        (xs[0], top, "card", "your program", "asks: attach, map"),
        (xs[1], top, "domain", "Linux: VFIO", "checks, then acts"),
        (xs[0], low, "card", "device", "uses iovas"),
        (xs[1], low, "unit", "IOMMU", "translates or blocks"),
    ):
        page.add(*card(x, y, each, [(name, "ink", True), (does, "muted", False)], role=role, height=TALL)[0])
    _memory(page, xs[2], each, top, low + TALL)
    middle, down = top + TALL / 2, round(xs[1] + each / 2, 1)
    _across(page, xs[0] + each, xs[1], middle, "ioctl")
    _across(page, xs[0] + each, xs[1], low + TALL / 2, "DMA: an iova")
    _across(page, xs[1] + each, xs[2], low + TALL / 2, "a physical address")
    _arrow(page, (down, top + TALL), (down, low))
    words = shorten("a domain's page table", xs[2] - down - 16, 11)
    page.add(Text.plain(down + 8, top + TALL + 36, words, "muted", halo=True))
    page.y = low + TALL + 6
    return page.finish(TITLE, SAID, ("who", "does", "through"), TABLE)


def _memory(page: Page, x: float, width: float, top: float, bottom: float) -> None:
    """Draw memory as a stack of pages, of which the lowest is mapped for the device."""
    page.add(Text.plain(x, top - 8, "memory", bold=True), Box(x, top, width, bottom - top, "lane", round=4))
    for y, role, words in (
        (top + 8, "mirror", "other programs"),
        (top + 8 + PLATE + 6, "mirror", "your program"),
        (bottom - TALL / 2 - PLATE / 2, "mapping", "your program: mapped"),
    ):
        page.add(Box(x + 8, round(y, 1), width - 16, PLATE, role))
        page.add(Text.plain(x + 14, round(y + PLATE / 2 + 4, 1), shorten(words, width - 28, 11)))


def _across(page: Page, x: float, x2: float, y: float, words: str) -> None:
    _arrow(page, (x, y), (x2, y))
    fits = shorten(words, x2 - x - 6, 11)
    page.add(Text.plain(round((x + x2) / 2, 1), y - 7, fits, "muted", anchor="middle"))


def _arrow(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    (x, y), (x2, y2) = start, end
    head = ((x2, y2), (x2 - 7, y2 - 4), (x2 - 7, y2 + 4)) if y == y2 else ((x2, y2), (x2 - 4, y2 - 7), (x2 + 4, y2 - 7))
    page.add(Line(x, y, x2, y2, "flow"), Poly(head, "caret", closed=True))
