"""Who is who: the program, the kernel, the device, the IOMMU and the memory, and what passes between them."""

from __future__ import annotations

from vfiolab.draw.stage.measure import wrap
from vfiolab.draw.stage.page import MARGIN, WIDE, Page, card, fitting, folded
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
#: Name, what it does, its look: first the row of the CPU, then the one below.
CARDS = (
    ("your program", "asks: attach, map", "card"), ("Linux: VFIO", "checks, then acts", "domain"),
    ("device", "uses iovas", "card"), ("IOMMU", "translates or blocks", "unit"),
)  # fmt: skip
LEAST_GAP = 72.0  # pixels, for the words on an arrow


@fitting
def who_is_who(*, width: int | None = None) -> Picture:
    """Draw who stands between a device and memory: the first picture of the course, drawn from no machine.

    >>> who_is_who().title
    'A device reaches memory only through its IOMMU'
    """
    page = Page(width or WIDE)
    page.heading(TITLE, SAID)
    gap = round(max(0.15 * (page.right - MARGIN), LEAST_GAP), 1)
    each = round((page.right - MARGIN - 2 * gap) / 3, 1)
    xs = [round(MARGIN + n * (each + gap), 1) for n in range(3)]
    cards = [folded([(name, "ink", True), (does, "muted", False)], each) for name, does, _ in CARDS]
    tall = 20 + 14 * max(map(len, cards))
    top, low = page.y + 26, page.y + 26 + tall + 54
    page.add(Box(xs[0] - 8, top - 22, 2 * each + gap + 16, tall + 32, "container", round=6))
    page.add(Text.plain(xs[0], top - 8, "CPU", "muted", bold=True))
    for n, lines in enumerate(cards):
        page.add(*card(xs[n % 2], low if n > 1 else top, each, lines, role=CARDS[n][2], height=tall)[0])
    _memory(page, xs[2], each, (top, low, low + tall))
    middle, down = top + tall / 2, round(xs[1] + each / 2, 1)
    _across(page, xs[0] + each, xs[1], middle, "ioctl")
    _across(page, xs[0] + each, xs[1], low + tall / 2, "DMA: an iova")
    _across(page, xs[1] + each, xs[2], low + tall / 2, "a physical address")
    _arrow(page, (down, top + tall), (down, low))
    told = wrap("a domain's page table", xs[2] - down - 16)
    for n, words in enumerate(told):
        page.add(Text.plain(down + 8, round(top + tall + 36 + 13 * (n - (len(told) - 1) / 2), 1), words, "muted", halo=True))
    page.y = low + tall + 6
    return page.finish(TITLE, SAID, ("who", "does", "through"), TABLE)


def _memory(page: Page, x: float, width: float, ys: tuple[float, float, float]) -> None:
    """Draw memory as a stack of pages, of which the lowest is mapped for the device and stands beside the IOMMU."""
    top, low, bottom = ys
    page.add(Text.plain(x, top - 8, "memory", bold=True), Box(x, top, width, bottom - top, "lane", round=4))
    y = top + 8
    for role, told in (("mirror", "other programs"), ("mirror", "your program"), ("mapping", "your program: mapped")):
        lines = wrap(told, width - 28)
        tall = 8 + 14 * len(lines)
        y = (low + bottom - tall) / 2 if role == "mapping" else y
        page.add(Box(x + 8, round(y, 1), width - 16, tall, role))
        page.add(*(Text.plain(x + 14, round(y + 15 + 14 * n, 1), words) for n, words in enumerate(lines)))
        y += tall + 6


def _across(page: Page, x: float, x2: float, y: float, told: str) -> None:
    """Draw an arrow with what passes along it written on it."""
    _arrow(page, (x, y), (x2, y))
    lines = wrap(told, x2 - x - 6)
    for n, words in enumerate(reversed(lines)):
        page.add(Text.plain(round((x + x2) / 2, 1), y - 7 - 13 * n, words, "muted", anchor="middle"))


def _arrow(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    (x, y), (x2, y2) = start, end
    head = ((x2, y2), (x2 - 7, y2 - 4), (x2 - 7, y2 + 4)) if y == y2 else ((x2, y2), (x2 - 4, y2 - 7), (x2 + 4, y2 - 7))
    page.add(Line(x, y, x2, y2, "flow"), Poly(head, "caret", closed=True))
