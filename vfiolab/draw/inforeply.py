"""The answer of VFIO_IOMMU_GET_INFO as bytes in memory: the struct, and the chain of capabilities behind it."""

from __future__ import annotations

from vfiolab._text import count
from vfiolab.draw.iovamap.facts import page_words
from vfiolab.draw.stage.page import MARGIN, WIDE, Page, card, fitting, folded
from vfiolab.draw.stage.shapes import Line, Picture, Poly, Text
from vfiolab.model.address import hexa
from vfiolab.model.uapi.info import CAPABILITY_NAMES, HEADER, Info

LEFT, RIGHT = 44.0, 96.0  # pixels beside the blocks: for offsets, and for the arrows of the chain
NOTE = (
    "Numbers at the left are offsets in bytes. A capability begins with 8 bytes: id (2), version (2), next (4). "
    "next is an offset; 0 ends the chain."
)


@fitting
def info_reply(info: Info, *, width: int | None = None) -> Picture:
    """Draw what GET_INFO left in the user's buffer: offsets in bytes, the fields, and which offset leads to which capability.

    Without room for the chain its place is dashed: `argsz` says how much to bring.
    """
    page = Page(width or WIDE)
    offset = info.cap_offset
    behind = f"{len(info.caps)} capabilities" if len(info.caps) != 1 else "1 capability"
    title = f"GET_INFO returns {count(info.argsz, 'byte')}: a struct of {HEADER} and {behind}"
    said = "cap_offset and each next are offsets from the struct's start: a program follows them, and skips ids that it does not know."
    if not info.caps:
        title = "The struct alone: no capability follows it"
        said = "The kernel has none to tell."
        if info.argsz > HEADER:
            title = f"No room for the chain: argsz says to bring {count(info.argsz, 'byte')}"
            said = "cap_offset is 0 and nothing lies behind the struct. It is no error: the program asks again with that argsz."
    page.heading(title, said)
    fields = f"argsz {info.argsz} · flags {hexa(info.flags)} · iova_pgsizes {page_words(info.pgsizes)}"
    struct = [("struct vfio_iommu_type1_info", "ink", True), (fields, "ink", False)]
    struct += [(f"cap_offset {offset}" if offset is not None else "too short for cap_offset", "ink", bool(offset))]
    blocks = [(0, HEADER, struct, "unit")]
    for n, cap in enumerate(info.caps):
        follow = info.caps[n + 1].off if n + 1 < len(info.caps) else 0
        head = [(f"id {cap.id}: {CAPABILITY_NAMES[cap.id]}", "ink", True), (f"version {cap.version} · next {follow}", "ink", bool(follow))]
        blocks.append((cap.off, cap.size, head + [(words, "ink", False) for words in _fields(cap.fields)], "card"))
    if not info.caps and info.argsz > HEADER:
        blocks.append((HEADER, info.argsz - HEADER, [("the chain, if there were room", "muted", False)], "ghost"))
    middles: list[tuple[float, float, float]] = []
    x, wide = MARGIN + LEFT, page.right - MARGIN - LEFT - RIGHT
    for start, size, lines, role in blocks:
        shapes, tall = card(x, page.y, wide, folded(lines, wide), role=role, tip=f"{size} bytes")
        page.add(*shapes, Text.plain(x - 8, page.y + 11, str(start), "muted", anchor="end", mono=True))
        page.add(Text.plain(x + wide + 40, round(page.y + tall / 2 + 4, 1), f"{size} bytes", "muted"))
        middles.append((page.y, page.y + tall / 2, page.y + tall))
        page.y += tall + 6
    page.add(Text.plain(x - 8, page.y + 5, str(blocks[-1][0] + blocks[-1][1]), "muted", anchor="end", mono=True))
    for (_, _, above), (below, _, _) in zip(middles, middles[1:] if info.caps else (), strict=False):
        _follow(page, x + wide, above - 12, below + 12)
    page.y += 14
    page.note(NOTE)
    table = [(str(start), str(size), " · ".join(words for words, _, _ in lines)) for start, size, lines, _ in blocks]
    told = " ".join(f"At {start}, {size} bytes: {words}." for start, size, words in table)
    return page.finish(title, f"{said} {told}", ("offset", "bytes", "what lies there"), table)


def _fields(fields: tuple[tuple[str, object], ...]) -> list[str]:
    """Return a capability's fields in words: ranges inclusive, as the kernel gives them."""
    found = dict(fields)
    ranges = found.pop("ranges", ())
    spans = [f"{first:#_x}-{last:#_x}, first and last byte" for first, last in ranges] if isinstance(ranges, list) else []
    return [*spans, *(f"{name} {_number(name, value)}" for name, value in found.items())]


def _number(name: str, value: object) -> str:
    if not isinstance(value, int):
        return str(value)
    return page_words(value) if name.endswith("bitmap") else f"{value:,}" if name == "avail" else hexa(value)


def _follow(page: Page, x: float, y: float, y2: float) -> None:
    """Draw the arrow from an offset to what lies there, beside the blocks."""
    page.add(Line(x, y, x + 22, y, "flow"), Line(x + 22, y, x + 22, y2, "flow"), Line(x + 22, y2, x + 6, y2, "flow"))
    page.add(Poly(((x, y2), (x + 7, y2 - 4), (x + 7, y2 + 4)), "caret", closed=True))
