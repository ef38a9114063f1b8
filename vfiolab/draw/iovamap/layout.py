"""The parts of a laid-out iova map: marks, lanes, the scene that holds them, and its table twin."""

from __future__ import annotations

from dataclasses import dataclass

from vfiolab.draw.iovamap.facts import DomainFacts, SpaceFacts
from vfiolab.draw.iovamap.kinds import KINDS
from vfiolab.draw.iovamap.ruler import Ruler
from vfiolab.draw.stage.shapes import Picture
from vfiolab.model.address import U64, hexa


@dataclass(frozen=True, slots=True)
class Mark:
    """One thing on a lane: iovas start to end (half-open), pixels x to x + width.

    `count` mappings are merged in it and `covered` of its bytes are mapped; `level` is the shade (0: drawn as it is).
    `blockers` are the lanes that refused an attempt, `attempt` its place in the facts. `news` is "appeared" or "gone"
    in a before/after picture.
    """

    kind: str
    start: int
    end: int
    lane: int
    x: float = 0.0
    width: float = 0.0
    label: str = ""
    owner: str = ""
    count: int = 1
    covered: int = 0
    level: int = 0
    blockers: tuple[int, ...] = ()
    news: str = ""
    attempt: int = -1

    @property
    def span(self) -> str:
        """The range in words, inclusive."""
        return f"{hexa(self.start)}-{hexa(self.end - 1)}"


@dataclass(frozen=True, slots=True)
class Lane:
    """A row of the picture: the user's mappings (`domain` None) or one domain."""

    index: int
    name: str
    domain: DomainFacts | None


@dataclass(frozen=True, slots=True, order=True)
class Row:
    """One line of the table twin; `last` is inclusive, as sysfs prints ranges."""

    start: int
    last: int
    size: int
    kind: str
    domains: str
    owner: str


@dataclass(frozen=True)
class Layout:
    """Where everything stands: what was looked at, the ruler, lanes and marks on it, the bounds drawn, and which ends are torn."""

    facts: SpaceFacts
    ruler: Ruler
    lanes: tuple[Lane, ...]
    marks: tuple[Mark, ...]
    window: tuple[int, int]
    torn: tuple[bool, bool]

    @property
    def merged(self) -> int:
        """How many of the user's mappings are drawn together with others."""
        return sum(m.count for m in self.marks if m.lane == 0 and m.count > 1)


NOTHING = Layout(SpaceFacts("none"), Ruler((0, U64), (0.0, 1.0), frozenset()), (), (), (0, U64), (False, False))


@dataclass(frozen=True, repr=False)
class Scene(Picture):
    """The laid-out iova map: a picture that also knows its ruler, lanes and marks."""

    layout: Layout = NOTHING
    lane_tops: tuple[tuple[float, float], ...] = ()

    @property
    def marks(self) -> tuple[Mark, ...]:
        """Every mark, the bottom layer of each lane first."""
        return self.layout.marks

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """The user's lane, then the domains, newest first."""
        return self.layout.lanes

    @property
    def ruler(self) -> Ruler:
        """The map between iovas and pixels."""
        return self.layout.ruler

    def rows(self) -> list[Row]:
        """Return the table twin: one row for each drawn thing, the lanes that show it joined, in iova order."""
        return rows_of(self.layout)

    def iova(self, x: float) -> int:
        """Return the iova under a pixel."""
        return self.layout.ruler.iova(x)

    def x(self, iova: int) -> float:
        """Return the pixel of an iova."""
        return self.layout.ruler.x(iova)


def rows_of(layout: Layout) -> list[Row]:
    """Join the marks that are the same thing on several lanes into rows, in iova order."""
    found: dict[tuple[int, int, str, str], list[int]] = {}
    for m in layout.marks:
        found.setdefault((m.start, m.end, m.kind, row_owner(m)), []).append(m.lane if m.kind != "refused" else -1)
    rank = {kind: i for i, kind in enumerate(KINDS)}
    keys = sorted(found, key=lambda k: (k[0], -k[1], rank[k[2]], k[3]))
    return [Row(s, e - 1, e - s, kind, _lanes_word(layout.lanes, found[s, e, kind, owner]), owner) for s, e, kind, owner in keys]


def row_owner(mark: Mark) -> str:
    """Say whose a mark is; a merged one says how many mappings it stands for and how much of it is mapped."""
    if mark.count > 1:
        return f"{mark.count:,} mappings merged, {percent(mark.covered, mark.end - mark.start)} mapped"
    return mark.owner


def percent(part: int, whole: int) -> str:
    """Return a share in words; never 0 % or 100 % unless exact.

    >>> percent(1, 3), percent(1, 10**9), percent(2, 2)
    ('33 %', '<1 %', '100 %')
    """
    share = part * 100 / whole
    return "<1 %" if 0 < share < 1 else ">99 %" if 99 < share < 100 else f"{share:.0f} %"


def _lanes_word(lanes: tuple[Lane, ...], indexes: list[int]) -> str:
    return ", ".join(dict.fromkeys(lanes[i].name for i in indexes if i > 0)) or "-"
