"""The chain: devices, groups, the container, its domains and the IOMMU units, from left to right."""

from __future__ import annotations

from typing import NamedTuple

from vfiolab._text import count
from vfiolab.draw.iovamap.facts import DomainFacts, SpaceFacts, Viewed, count_only, iommu_group, refused_group
from vfiolab.draw.iovamap.words import differing, groups_word, headline, kinds, traits
from vfiolab.draw.moments import Moment
from vfiolab.draw.stage.measure import text_width, widest, wrap
from vfiolab.draw.stage.page import MARGIN, WIDE, Page, card, fitting, folded
from vfiolab.draw.stage.shapes import Box, Curve, Line, Picture, Text
from vfiolab.model.address import human_size
from vfiolab.model.events import EventLog

MOST_DEVICES = 4
HEADS = ("devices", "groups", "container", "domains", "IOMMUs")
CLOSE = (*HEADS[:3], "domains, IOMMUs")  # on a narrow page a unit stands under the domain that it translates for
SHARES = (0.2, 0.13, 0.2, 0.22, 0.25)  # of the room that the longest words of the columns leave
AIR, LESS_AIR = 26.0, 8.0
NOTE = (
    "A line passes through the container from each group to the domain that serves it; "
    "the container mirrors its mappings into every domain."
)


class Column(NamedTuple):
    """A column of the picture, in pixels."""

    x: float
    width: float

    @property
    def end(self) -> float:
        """Right edge."""
        return self.x + self.width


@fitting
def chain(container: Viewed, *, log: EventLog | None = None, width: int | None = None) -> Picture:
    """Draw which devices a container's groups hold, which domain serves each group, and behind which IOMMU unit it stands.

    `log` adds the group that was refused last, with the domain that was tried for it.
    """
    devices = {iommu_group(g).id: iommu_group(g).devices for g in container.groups}
    met = refused_group(container, log) if log is not None else None
    if met is not None:
        devices[met[0].id] = met[0].devices
    return _Chain(count_only(container), devices, width or WIDE, met[1] if met is not None else None).draw()


@fitting
def chain_at(moment: Moment, devices: dict[int, tuple[str, ...]], *, width: int | None = None) -> Picture:
    """Draw the same at a moment of a call, under what happened then. `devices` of each group by its number."""
    shown = {number: devices.get(number, ()) for number in moment.facts.groups}
    if moment.refused is not None:
        shown |= {number: devices.get(number, ()) for number in moment.refused.groups}
    return _Chain(moment.facts, shown, width or WIDE, moment.refused, moment.words).draw()


class _Chain:
    def __init__(
        self, facts: SpaceFacts, devices: dict[int, tuple[str, ...]], width: float, refused: DomainFacts | None = None, said: str = ""
    ) -> None:  # fmt: skip
        self.said = said
        self.facts, self.devices, self.page, self.refused = facts, devices, Page(width), refused
        self.servers: dict[int, tuple[str, str]] = {}
        for domain in reversed(facts.domains):
            behind = {g: unit for g, unit, _ in reversed(domain.places)}
            self.servers.update({g: (domain.name, behind.get(g, domain.unit)) for g in domain.groups})
        self.loud = differing(facts.domains) if len(facts.domains) > 1 else []
        room = self.page.right - MARGIN
        least = self.least()
        self.close = sum(least) + AIR * (len(HEADS) - 1) > room
        self.heads: tuple[str, ...] = CLOSE if self.close else HEADS
        air = LESS_AIR if self.close else AIR
        if self.close:
            least = [*least[:3], max(0.0, room - sum(least[:3]) - air * 3)]
        spare = room - sum(least) - air * (len(least) - 1)
        self.columns: list[Column] = []
        x = MARGIN
        for words, share in zip(least, SHARES, strict=False):
            self.columns.append(Column(round(x, 1), round(words + spare * share, 1)))
            x += self.columns[-1].width + air

    def least(self) -> list[float]:
        """Return what each column needs so that no word of it is broken."""
        domains = [words for d in self.shown for words in (d.name, groups_word(d.groups), d.refused, *traits(d).values())]
        texts = (
            ["no device", *(device for members in self.devices.values() for device in members)],
            [f"group\u00a0{number}" for number in self.devices],
            self.told(),
            domains,
            [words for d in self.shown for pair in d.units.items() for words in pair],
        )
        air = (12, 12, 4, 12, 12)
        bold = (False, True, True, True, False)
        needs = [widest(words, bold=heavy) + more for words, heavy, more in zip(texts, bold, air, strict=True)]
        return [max(words, text_width(head, bold=True) - LESS_AIR + 4) for head, words in zip(HEADS, needs, strict=True)]

    @property
    def shown(self) -> tuple[DomainFacts, ...]:
        """The domains with a card: those of the container, and the one of a group that was refused."""
        return (*self.facts.domains, *((self.refused,) if self.refused is not None else ()))

    def draw(self) -> Picture:
        facts, page = self.facts, self.page
        said = self.said or (f"The domains have different {kinds(self.loud)}." if self.loud else headline(facts) + ".")
        if self.refused is not None and not self.said:
            who = groups_word(self.refused.groups).capitalize()
            said += f" {who} was refused with {self.refused.refused}, and is not in the container."
        page.heading(self.title(), said)
        heads = [(column.x, column.width + LESS_AIR - 4, words) for column, words in zip(self.columns, self.heads, strict=True)]
        page.heads(heads, size=11 if self.close else 12)
        page.y += 2
        top = page.y
        units: dict[str, list[float]] = {}
        for domain in facts.domains:
            middle = self.domain(domain)
            for unit in domain.units:
                units.setdefault(unit, []).append(middle)
        served = {g for d in facts.domains for g in d.groups}
        for middle in self.groups([g for g in facts.groups if g not in served], page.y):
            page.add(Curve(self.columns[1].end, middle, self.columns[2].x, middle, "link"))
        inside = self.inside()
        bottom = max(page.y - 14, top + 60, top + 14 * len(inside) + 18)
        self.container(top, bottom, inside)
        if self.refused is not None:
            page.y = bottom + 14
            middle = self.domain(self.refused)
            for unit in self.refused.units:
                units.setdefault(unit, []).append(middle)
            bottom = page.y - 14
        page.y = (bottom if self.close else max(bottom, self.units(units))) + 6
        page.note(NOTE)
        table = [(d, str(g), *self.server(g)) for g in self.order() for d in self.devices.get(g, ())]
        told = " ".join([said, *(self.sentence(g) for g in self.order())])
        return page.finish(self.title(), told, ("device", "group", "domain", "IOMMU unit"), table)

    def title(self) -> str:
        units = len({unit for d in self.shown for unit in d.units})
        devices, groups = count(sum(map(len, self.devices.values())), "device"), count(len(self.devices), "group")
        behind = f", {count(units, 'IOMMU unit')}" if units else ""
        return f"{devices}, {groups}, 1 container, {count(len(self.facts.domains), 'domain')}{behind}"

    def order(self) -> list[int]:
        """Put groups in the order of the domains that serve them, so that lines do not cross."""
        served = [g for d in self.facts.domains for g in d.groups]
        return list(dict.fromkeys([*served, *self.facts.groups, *self.devices]))

    def server(self, group: int) -> tuple[str, str]:
        if self.refused is not None and group in self.refused.groups:
            return f"refused: {self.refused.refused}", self.refused.unit
        return self.servers.get(group, ("no domain yet", ""))

    def sentence(self, group: int) -> str:
        if self.refused is not None and group in self.refused.groups:
            return f"{self.refused.name} refused group {group} with {self.refused.refused}."
        domain, unit = self.server(group)
        members = ", ".join(self.devices.get(group, ())) or "no device"
        return f"Group {group} ({members}) is served by {domain}{' behind ' + unit if unit else ''}."

    def rest(self, domain: DomainFacts) -> list[tuple[str, str]]:
        """Return what a card says beside the unit, the differing traits first."""
        found = [(name, words) for name, words in traits(domain).items() if name != "unit"]
        return sorted(found, key=lambda t: t[0] not in self.loud)[:3]

    def card_of(self, domain: DomainFacts) -> list[tuple[str, str, bool]]:
        """Return the lines of a domain's card: its name and groups, on one line if there is room, and what sets it apart."""
        name, served, width = domain.name, groups_word(domain.groups), self.columns[3].width
        named = f"{name} ✗ {domain.refused}" if domain.refused else name
        head = [f"{named}: {served}" if domain.refused else f"{name}  {served}"]
        if text_width(head[0], bold=True) > width - 12:
            head = [named, served]
        lines = [(words, "vermilion-text" if domain.refused else "ink", True) for words in head]
        rest = [(w, "ink" if key in self.loud else "muted", key in self.loud) for key, w in self.rest(domain)]
        return folded([*lines, *rest], width)

    def domain(self, domain: DomainFacts) -> float:
        """Draw a domain and the groups it serves side by side; return its middle."""
        start, lines = self.page.y, self.card_of(domain)
        _, group, container, place = self.columns[:4]
        units = [(self.unit_card(*unit, place.width), ", ".join(unit)) for unit in domain.units.items()] if self.close else []
        tall = 12 + 14 * len(lines)
        wanted = sum(self.height(g) + 10 for g in domain.groups) - 10
        served = self.groups(domain.groups, start + max(0.0, (tall - wanted) / 2))
        middle = round(start + max(tall, wanted) / 2, 1)
        lost = domain.refused
        tip = f"{domain.name}: {', '.join(traits(domain).values())}"
        shapes, _ = card(place.x, middle - tall / 2, place.width, lines, role="ghost" if lost else "domain", tip=tip, height=tall)
        self.page.add(*shapes)
        y = middle + tall / 2
        for told, words in units:
            shapes, below = card(place.x, y, place.width, told, role="unit", tip=words)
            self.page.add(*shapes)
            y += below
        for at in served:
            if lost:
                self.page.add(Curve(group.end, at, place.x, middle, "cut"))
                continue
            self.page.add(Curve(group.end, at, container.x, at, "link-strong"))
            self.page.add(Curve(container.end, at, place.x, middle, "link-strong"))
            self.page.add(Line(container.x, at, container.end, at, "guide-quiet"))
        self.page.y = max(start + max(tall, wanted), y) + 14
        return middle

    def height(self, group: int) -> float:
        return 12 + 14 * max(1, min(len(self.devices.get(group, ())), MOST_DEVICES))

    def groups(self, numbers: list[int] | tuple[int, ...], y: float) -> list[float]:
        """Draw groups with their devices from `y` down; return their middles."""
        middles = []
        device, place = self.columns[:2]
        for number in numbers:
            members = self.devices.get(number, ())
            shown = members if len(members) <= MOST_DEVICES else members[: MOST_DEVICES - 1]
            lines = [(d, "ink", False) for d in shown] or [("no device", "muted", False)]
            if len(shown) < len(members):
                lines.append((f"and {len(members) - len(shown)} more", "muted", False))
            shapes, tall = card(device.x, y, device.width, lines, tip=", ".join(members))
            middle = round(y + tall / 2, 1)
            hull, _ = card(place.x, middle - 13, place.width, [(f"group {number}", "ink", True)], role="hull", height=26)
            self.page.add(*shapes, *hull, Curve(device.end, middle, place.x, middle, "link"))
            middles.append(middle)
            y += tall + 10
            self.page.y = max(self.page.y, y)
        return middles

    def inside(self) -> list[tuple[str, bool]]:
        """Return the lines of the container's card: its backend in bold, and what is mapped."""
        return [(line, not n) for n, words in enumerate(self.told()) for line in wrap(words, self.columns[2].width - 3, bold=not n)]

    def told(self) -> list[str]:
        facts = self.facts
        told = [facts.backend if facts.backend != "none" else "no backend yet", count(facts.number, "mapping")]
        return [*told, human_size(facts.mapped_bytes)] if facts.number else told

    def container(self, top: float, bottom: float, lines: list[tuple[str, bool]]) -> None:
        place = self.columns[2]
        box = Box(place.x, round(top, 1), place.width, round(bottom - top, 1), "container", round=6)
        self.page.shapes.insert(0, box)
        first = (top + bottom) / 2 - 7 * len(lines) + 11
        for n, (words, bold) in enumerate(lines):
            at = (round(place.x + place.width / 2, 1), round(first + 14 * n, 1))
            self.page.add(Text.plain(*at, words, anchor="middle", bold=bold, halo=True))

    def unit_card(self, name: str, kind: str, width: float) -> list[tuple[str, str, bool]]:
        return folded([(name, "ink", text_width(name, bold=True) <= width - 12), (kind, "muted", False)], width)

    def units(self, units: dict[str, list[float]]) -> float:
        """Draw the units beside their domains; return how far down they reach."""
        domain, place = self.columns[3:]
        y = 0.0
        for name, middles in units.items():
            middle = sum(middles) / len(middles)
            kind = next(d.units[name] for d in self.shown if name in d.units)
            lines = self.unit_card(name, kind, place.width)
            half = 6 + 7 * len(lines)
            middle = max(middle, y + half)
            shapes, tall = card(place.x, middle - half, place.width, lines, role="unit", tip=f"{name}, {kind}")
            self.page.add(*shapes, *(Curve(domain.end, at, place.x, middle, "link") for at in middles))
            y = middle + tall / 2 + 8
        return y
