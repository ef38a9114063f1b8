"""The chain: devices, groups, the container, its domains and the IOMMU units, from left to right."""

from __future__ import annotations

from typing import Any

from vfiolab.draw.facts import DomainFacts, SpaceFacts, group_id, observe
from vfiolab.draw.page import LEAST_WIDTH, MARGIN, Page, card
from vfiolab.draw.shapes import Box, Curve, Line, Picture, Text
from vfiolab.draw.words import count, differing, groups_word, headline, listed, traits
from vfiolab.model.address import human_size

MOST_DEVICES = 4
HEADS = ("devices", "groups", "container", "domains", "IOMMU units")
SHARES = (0.2, 0.13, 0.2, 0.22, 0.25)
AIR = 26.0


def chain(container: Any, *, width: int = 900) -> Picture:
    """Draw which devices a container's groups hold, which domain serves each group, and behind which IOMMU unit it stands."""
    facts = observe(container)
    devices = {group_id(g): tuple(getattr(g, "iommu_group", g).devices) for g in container.groups}
    page = Page(max(width, LEAST_WIDTH))
    title = _title(facts, devices)
    loud = differing(facts.domains) if len(facts.domains) > 1 else []
    said = f"The domains differ in {listed(loud)}." if loud else headline(facts) + "."
    page.heading(title, said)
    room = page.right - MARGIN - AIR * (len(HEADS) - 1)
    xs: list[float] = []
    widths: list[float] = []
    x = MARGIN
    for share in SHARES:
        xs.append(round(x, 1))
        widths.append(round(room * share, 1))
        x += room * share + AIR
    for at, words in zip(xs, HEADS, strict=True):
        page.add(Text.plain(at, page.y + 10, words, "muted", size=12, bold=True))
    page.y += 20
    top = page.y
    middles: dict[int, float] = {}
    units: dict[str, list[float]] = {}
    for domain in facts.domains:
        start, rest = page.y, _rest(domain, loud)
        tall = 26 + 14 * len(rest)
        wanted = sum(_height(devices.get(g, ())) + 10 for g in domain.groups) - 10
        middles |= _groups(page, domain.groups, devices, xs, widths, start + max(0.0, (tall - wanted) / 2))
        middle = round(start + max(tall, wanted) / 2, 1)
        _domain(page, domain, rest, [middles[g] for g in domain.groups], middle, xs, widths)
        units.setdefault(domain.unit, []).append(middle)
        page.y = start + max(tall, wanted) + 14
    left_over = tuple(g for g in facts.groups if g not in middles)
    middles |= _groups(page, left_over, devices, xs, widths, page.y)
    for g in left_over:
        page.add(Curve(xs[1] + widths[1], middles[g], xs[2], middles[g], "link"))
    bottom = max(page.y - 14, top + 60)
    _container(page, facts, xs[2], widths[2], top, bottom)
    _units(page, facts, units, xs, widths)
    y = bottom
    page.y = max(bottom, y, page.y) + 6
    page.note(
        "A line passes through the container from each group to the domain that serves it; the container mirrors its mappings into every domain."
    )
    table = [(d, str(g), _served_by(facts, g), _unit_of(facts, g)) for g in _order(facts) for d in devices.get(g, ())]
    told = " ".join(
        f"{groups_word((g,))[0].upper()}{groups_word((g,))[1:]} ({', '.join(devices.get(g, ()))}) is served by {_served_by(facts, g)}"
        f"{' behind ' + _unit_of(facts, g) if _unit_of(facts, g) else ''}."
        for g in _order(facts)
    )
    return page.finish(title, f"{said} {told}", ("device", "group", "domain", "IOMMU unit"), table)


def _title(facts: SpaceFacts, devices: dict[int, tuple[str, ...]]) -> str:
    number = sum(map(len, devices.values()))
    units = len({d.unit for d in facts.domains if d.number})
    words = [
        count(number, "device"),
        count(len(facts.groups), "group"),
        "1 container",
        count(len(facts.domains), "domain"),
    ]
    return ", ".join(words + ([count(units, "IOMMU unit")] if units else []))


def _order(facts: SpaceFacts) -> list[int]:
    """Put groups in the order of the domains that serve them, so that lines do not cross."""
    served = [g for d in facts.domains for g in d.groups]
    return [*dict.fromkeys(served), *(g for g in facts.groups if g not in served)]


def _served_by(facts: SpaceFacts, group: int) -> str:
    return next((d.name for d in facts.domains if group in d.groups), "no domain yet")


def _unit_of(facts: SpaceFacts, group: int) -> str:
    return next((d.unit for d in facts.domains if group in d.groups and d.number), "")


def _rest(domain: DomainFacts, loud: list[str]) -> list[tuple[str, str, bool]]:
    """Return what a card says beside the unit, the differing traits first."""
    found = [(name, words) for name, words in traits(domain).items() if name != "unit"]
    ordered = sorted(found, key=lambda t: t[0] not in loud)[:3]
    return [(name, words, name in loud) for name, words in ordered] if domain.number else []


def _height(members: tuple[str, ...]) -> float:
    return 12 + 14 * max(1, min(len(members), MOST_DEVICES))


def _groups(
    page: Page,
    groups: tuple[int, ...],
    devices: dict[int, tuple[str, ...]],
    xs: list[float],
    widths: list[float],
    y: float,
) -> dict[int, float]:
    """Draw groups with their devices from `y` down; return the middle of each."""
    middles: dict[int, float] = {}
    for number in groups:
        members = devices.get(number, ())
        shown = members if len(members) <= MOST_DEVICES else members[: MOST_DEVICES - 1]
        lines = [(d, "ink", False) for d in shown]
        if len(shown) < len(members):
            lines.append((f"and {len(members) - len(shown)} more", "muted", False))
        shapes, tall = card(xs[0], y, widths[0], lines or [("no device", "muted", False)], tip=", ".join(members))
        middle = round(y + tall / 2, 1)
        page.add(*shapes)
        group, _ = card(xs[1], middle - 13, widths[1], [(f"group {number}", "ink", True)], "hull", height=26)
        page.add(*group, Curve(xs[0] + widths[0], middle, xs[1], middle, "link"))
        middles[number] = middle
        y += tall + 10
        page.y = max(page.y, y)
    return middles


def _domain(
    page: Page,
    domain: DomainFacts,
    rest: list[tuple[str, str, bool]],
    served: list[float],
    middle: float,
    xs: list[float],
    widths: list[float],
) -> None:
    tall = 26 + 14 * len(rest)
    lines = [(f"{domain.name}  {groups_word(domain.groups)}", "ink", True)]
    lines += [(words, "ink" if loud else "muted", loud) for _, words, loud in rest]
    shapes, _ = card(
        xs[3],
        middle - tall / 2,
        widths[3],
        lines,
        "domain",
        f"{domain.name}: {', '.join(traits(domain).values())}",
        tall,
    )
    page.add(*shapes)
    for at in served:
        page.add(Curve(xs[1] + widths[1], at, xs[2], at, "link-strong"))
        page.add(Curve(xs[2] + widths[2], at, xs[3], middle, "link-strong"))
        page.add(Line(xs[2], at, xs[2] + widths[2], at, "guide-quiet"))


def _container(page: Page, facts: SpaceFacts, x: float, width: float, top: float, bottom: float) -> None:
    page.shapes.insert(0, Box(x, round(top, 1), width, round(bottom - top, 1), "container", round=6))
    lines = [
        (facts.backend if facts.backend != "none" else "no backend yet", "ink", True),
        (count(len(facts.starts), "mapping"), "ink", False),
    ]
    if facts.starts:
        lines.append((human_size(facts.mapped_bytes), "muted", False))
    middle = (top + bottom) / 2
    for n, (words, role, bold) in enumerate(lines):
        y = round(middle - 7 * len(lines) + 14 * n + 11, 1)
        page.add(Text.plain(round(x + width / 2, 1), y, words, role, anchor="middle", bold=bold, halo=True))


def _units(page: Page, facts: SpaceFacts, units: dict[str, list[float]], xs: list[float], widths: list[float]) -> None:
    y = 0.0
    for name, middles in units.items():
        middle = max(sum(middles) / len(middles), y + 20)
        kind = next(d.unit_kind for d in facts.domains if d.unit == name)
        shapes, tall = card(
            xs[4], middle - 20, widths[4], [(name, "ink", True), (kind, "muted", False)], "unit", f"{name}, {kind}"
        )
        page.add(*shapes)
        for at in middles:
            page.add(Curve(xs[3] + widths[3], at, xs[4], middle, "link"))
        y = middle + tall / 2 + 8
        page.y = max(page.y, y)
