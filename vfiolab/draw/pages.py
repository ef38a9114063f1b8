"""The page-table picture: which hardware pages one mapping became, and what kept larger ones away."""

from __future__ import annotations

from vfiolab.draw.iovamap.axis import Shelf
from vfiolab.draw.iovamap.facts import page_words
from vfiolab.draw.iovamap.ruler import Ruler, Segment, fit, wish
from vfiolab.draw.stage.measure import text_width
from vfiolab.draw.stage.page import MARGIN, WIDE, Page, fitting
from vfiolab.draw.stage.shapes import Box, Line, Picture, Text
from vfiolab.model.address import hexa, human_size
from vfiolab.model.iommu.domain import Domain
from vfiolab.model.iommu.pagetable import PageRun, hardware_pages

HEIGHT = 44.0
NUMBERS = "①②③④⑤⑥⑦⑧⑨⑩⑪⑫"


def page_table(domain: Domain, iova: int, *, width: int | None = None) -> Picture:
    """Draw the hardware pages of the run that `domain` holds at `iova`; ValueError if it holds none there."""
    run = domain.translate(iova)
    if run is None:
        raise ValueError(f"D{domain.number} maps nothing at iova {hexa(iova)}")
    return pages(run.iova, run.physical, run.size, domain.page_sizes, width=width)


@fitting
def pages(iova: int, physical: int, size: int, bitmap: int, *, width: int | None = None) -> Picture:
    """Draw the hardware pages of a physically contiguous run of `size` bytes; `bitmap` is the domain's page-size bitmap."""
    runs = hardware_pages(iova, physical, size, bitmap)
    page = Page(width or WIDE)
    title = f"{human_size(size)} became {_sum(runs)}"
    total = sum(run.count for run in runs)
    said = f"{total:,} page-table {'entry' if total == 1 else 'entries'}; the domain can use pages of {page_words(bitmap)}."
    page.heading(title, said)
    shown = runs[: len(NUMBERS)]
    segments = [Segment(r.iova, r.iova + r.size, False, wish(r.size, 80), 24) for r in shown]
    ruler = fit(segments, MARGIN + 62, page.right - MARGIN - 62)
    _addresses(page, ruler, [(r.iova, r.iova) for r in shown] + [(shown[-1].iova + shown[-1].size,) * 2], "iova", above=True)
    _boxes(page, ruler, shown)
    _addresses(page, ruler, [(r.iova, r.physical) for r in shown], "physical", above=False)
    for number, run in zip(NUMBERS if len(shown) > 1 else ("",), shown, strict=False):
        reason = f": {run.why}" if run.why else ": the largest page that the domain has"
        page.note(f"{_numbered(number, run)} from iova {hexa(run.iova)}{reason}")
    if len(runs) > len(shown):
        page.note(f"{len(runs) - len(shown)} more stretches are in the table")
    page.note("A page of a size is used where iova and physical address are both aligned to it and enough of the mapping is left.")
    table = [(hexa(r.iova), hexa(r.physical), human_size(r.page), str(r.count), r.why or "largest") for r in runs]
    told = " ".join(f"{_named(r)} from iova {hexa(r.iova)}, physical {hexa(r.physical)}{': ' + r.why if r.why else ''}." for r in runs[:12])
    return page.finish(title, f"{said} {told}", ("iova", "physical", "page", "count", "why not larger"), table)


def _named(run: PageRun) -> str:
    return f"{run.count:,} × {human_size(run.page)}"


def _numbered(number: str, run: PageRun) -> str:
    return f"{number} {_named(run)}".strip()


def _sum(runs: tuple[PageRun, ...]) -> str:
    total: dict[int, int] = {}
    for run in runs:
        total[run.page] = total.get(run.page, 0) + run.count
    return " + ".join(f"{number:,} × {human_size(page)}" for page, number in sorted(total.items(), reverse=True))


def _boxes(page: Page, ruler: Ruler, runs: tuple[PageRun, ...]) -> None:
    largest = max(run.page for run in runs)
    for number, run in zip(NUMBERS if len(runs) > 1 else ("",), runs, strict=False):
        x, x2 = ruler.x(run.iova), ruler.x(run.iova + run.size)
        role = "mapping" if run.page == largest else "mirror"
        page.add(Box(x, page.y, round(x2 - x, 2), HEIGHT, role, f"{_named(run)}: {run.why}" if run.why else _named(run)))
        lines = min(run.count, max(1, int((x2 - x) / 4)))
        for n in range(1, lines):
            at = round(x + (x2 - x) * n / lines, 1)
            page.add(Line(at, page.y, at, page.y + 9, "rule"), Line(at, page.y + HEIGHT - 9, at, page.y + HEIGHT, "rule"))
        words = next((w for w in (_numbered(number, run), _named(run), number) if text_width(w, bold=True) <= x2 - x - 4), "")
        page.add(Text.plain(round((x + x2) / 2, 1), page.y + HEIGHT / 2 + 4, words, anchor="middle", bold=True))
    page.add(Text.plain(MARGIN, page.y + HEIGHT / 2 + 4, "pages", bold=True))
    page.y += HEIGHT


def _addresses(page: Page, ruler: Ruler, points: list[tuple[int, int]], name: str, *, above: bool) -> None:
    shelves = [Shelf(), Shelf()]
    placed: list[tuple[float, float, int, str]] = []
    for at, address in points:
        x, words = ruler.x(at), hexa(address)
        half = text_width(words, mono=True) / 2
        centre = round(min(max(x, ruler.xs[0] + half), ruler.xs[-1] - half), 1)
        row = next((n for n, shelf in enumerate(shelves) if shelf.free(centre - half, centre + half)), None)
        if row is not None:
            shelves[row].taken.append((centre - half, centre + half))
            placed.append((x, centre, row, words))
    rows = 1 + max(row for _, _, row, _ in placed)
    first = page.y + (14 * (rows - 1) + 10 if above else 18)
    edge = page.y + (14 * rows + 4 if above else 0)
    page.add(Text.plain(MARGIN, first, name, bold=True))
    for x, centre, row, words in placed:
        y = first + (-14 if above else 14) * row
        page.add(Line(x, edge, x, y + (3 if above else -10), "rule"))
        page.add(Text.plain(centre, y, words, anchor="middle", mono=True, halo=True))
    page.y += 14 * rows + (4 if above else 14)
