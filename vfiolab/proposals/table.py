"""The table: every proposal on every scenario, each cell a run of the model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from vfiolab._table import Table
from vfiolab._text import folded, page_text
from vfiolab.draw.iovamap.kinds import KINDS
from vfiolab.kit import AddressSpace, Journey
from vfiolab.model.address import Span, hexa
from vfiolab.model.errors import NotModelledError, VfioError
from vfiolab.model.iommu.unit import X86_MSI
from vfiolab.model.irq.delivery import OUTCOMES
from vfiolab.model.machine import Host
from vfiolab.proposals.designs import PROPOSALS, Proposal, check_class, check_statements
from vfiolab.proposals.layers import Edges, ProposalError, Watched
from vfiolab.proposals.scenarios import SCENARIOS, Play, Scenario

if TYPE_CHECKING:
    import pandas as pd

    from vfiolab.draw.stage.shapes import Picture


#: What users may expect, by the word of a cell's `broken`.
PROMISES = {
    "same-map": "all groups of a container see the same map",
    "user-owns-iova": "the user owns the iova space",
    "interrupt-arrives": "an interrupt that was set up arrives",
    "memory-untouched": "nobody's memory is written by another's interrupt",
}
#: Worst first: of several journeys the worst is the outcome.
WORST = ("corrupts", "p2p", "lost", "fault", "refused", "memory", "delivered")
WHEN = {"map": "map", "set_irqs": "setup"}
PAGE = "page that a doorbell takes"
MOST = 3  # pieces of the space that a cell's text lists


class Imposed(NamedTuple):
    """A piece of the iova space that is not the user's to use: first and last address, and what it is."""

    start: int
    end: int
    what: str

    def __str__(self) -> str:
        return f"{hexa(self.start)}-{hexa(self.end)} {self.what}"


@dataclass(frozen=True, repr=False)
class Cell:
    """One proposal on one scenario.

    `outcome`: a word of `OUTCOMES`, or unknown; refused by `call` with `errno`, or by the interrupt hardware with neither. `when` it
    shows: attach, map, setup, raised, never. `rests`: recording, reading, inference, choice. `space`: the address space as it was left,
    of the last user if there are several; `journey`: the request that decided, None if a call was refused.
    """

    proposal: str
    scenario: str
    outcome: str
    errno: str | None
    call: str | None
    when: str
    imposed: tuple[Imposed, ...]
    broken: tuple[str, ...]
    why: str
    rests: str
    space: AddressSpace = field(compare=False)
    journey: Journey | None = field(default=None, compare=False)

    def as_dict(self) -> dict[str, object]:
        """Return the cell as plain data; ranges with their last address."""
        plain = {one.name: getattr(self, one.name) for one in fields(self) if one.compare}
        return plain | {"imposed": [one._asdict() for one in self.imposed], "broken": list(self.broken)}

    @property
    def word(self) -> str:
        """The outcome, with errno and call where a system call refused."""
        return f"{self.errno} {self.call}" if self.errno else self.outcome

    @property
    def sentence(self) -> str:
        """What came of it, and why."""
        meaning = "a system call refuses" if self.errno else OUTCOMES.get(self.outcome, "the model does not know")
        return f"{self.proposal} on {self.scenario}: {self.word} ({meaning})"

    def picture(self) -> Picture:
        """Draw the journey of the request, else the address space with what was refused."""
        return self.journey.picture() if self.journey is not None else self.space.picture()

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        from vfiolab.draw import figure_html, to_text

        picture = self.picture()
        html = f'{folded("a verdict")}<pre style="white-space:pre-wrap">{page_text(str(self))}</pre>{figure_html(picture)}'
        return {"text/plain": f"{self}\n{to_text(picture)}", "text/html": html}

    def __repr__(self) -> str:
        return f"Cell({self.sentence!r})"

    def __str__(self) -> str:
        lines = [self.sentence]
        shown = "; ".join(map(str, self.imposed[:MOST])) or "nothing"
        more = f"; and {len(self.imposed) - MOST} more" if len(self.imposed) > MOST else ""
        works = self.outcome in ("delivered", "memory")
        lines += [] if works else [f"  shows: {'nowhere, nobody is told' if self.when == 'never' else f'at {self.when}'}"]
        lines += [f"  why: {self.why}", f"  imposed: {shown}{more}"]
        lines += [f"  broken: {'; '.join(PROMISES[word] for word in self.broken) or 'no promise'}", f"  rests on: {self.rests}"]
        return "\n".join(lines)


class Debate:
    """All cells that were run; `debate["P7", "hot-add"]` is one. `edges[name]` says which layer of a proposal reached which."""

    def __init__(self, kinds: dict[str, type[Proposal]], scenarios: Iterable[str]) -> None:
        self.proposals, self.scenarios = kinds, list(scenarios)
        self.edges: dict[str, Edges] = {name: Edges() for name in kinds}
        self.cells: list[Cell] = []
        for name, kind in kinds.items():
            ran = [_run(name, kind, scenario, self.edges[name]) for scenario in self.scenarios]
            self.cells += [cell for cell, _ in ran]
            check_statements(kind, {who for _, choosers in ran for who in choosers}, {cell.rests for cell, _ in ran})

    def __getitem__(self, key: tuple[str, str]) -> Cell:
        """Return one cell. KeyError names the proposals and scenarios there are."""
        for cell in self.cells:
            if (cell.proposal, cell.scenario) == key:
                return cell
        raise KeyError(f"no cell {key}: proposals {', '.join(self.proposals)}; scenarios {', '.join(self.scenarios)}")

    @cached_property
    def table(self) -> Table:
        """A row for each scenario and a column for each proposal."""
        rows = [(scenario, *(self[name, scenario].word for name in self.proposals)) for scenario in self.scenarios]
        return Table(["scenario", *self.proposals], rows)

    @property
    def layers(self) -> Table:
        """Which layer reached which in the runs of each proposal, by what, and whether it may."""
        rows = [
            (name, low, high, "; ".join(sorted(ways)), "no" if f"{low} -> {high}" in " ".join(edges.forbidden) else "yes")
            for name, edges in self.edges.items()
            for (low, high), ways in sorted(edges.found.items())
        ]
        return Table(["proposal", "from", "to", "by", "allowed"], rows)

    @property
    def statements(self) -> Table:
        """What each proposal is, what it stands on, who chooses the iova (checked), and what of it is in the mail, read, or chosen."""
        columns = ["proposal", "what", "Linux", "who chooses the iova", "in the mail", "our reading", "what we chose"]
        rows = [(name, k.title, k.kernel_version, k.chooser, k.mail, k.reading, k.chosen) for name, k in self.proposals.items()]
        return Table(columns, rows)

    @property
    def wants(self) -> Table:
        """What the user of each scenario wants."""
        rows = [(name, SCENARIOS[name].words, SCENARIOS[name].wants) for name in self.scenarios]
        return Table(["scenario", "what", "the user wants"], rows)

    def frame(self) -> pd.DataFrame:
        """Return every cell as a row of a DataFrame."""
        names = [one.name for one in fields(Cell) if one.compare]
        return Table(names, [[getattr(cell, name) for name in names] for cell in self.cells]).frame()

    def as_dict(self) -> dict[str, object]:
        """Return every cell as plain data."""
        return {"cells": [cell.as_dict() for cell in self.cells]}

    def picture(self) -> Picture:
        """Return the table as a picture."""
        from vfiolab.proposals.picture import picture

        return picture(self)

    def __repr__(self) -> str:
        return str(self.table)

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return {**self.picture()._repr_mimebundle_(), "text/plain": repr(self)}


def debate(*more: type[Proposal], proposals: Iterable[str] | None = None, scenarios: Iterable[str] | None = None) -> Debate:
    """Run proposals on scenarios, by default all; `more` are proposals of your own, beside them.

    ValueError names the proposals and scenarios there are; ProposalError says what is wrong with a proposal.

    >>> print(debate(proposals=["P7"], scenarios=["hot-add"])["P7", "hot-add"].word)
    EINVAL set_container
    """
    names = _known("proposal", proposals, PROPOSALS)
    kinds = {name: PROPOSALS[name] for name in names}
    for kind in map(check_class, more):
        kinds[kind.__name__] = kind
    return Debate(kinds, _known("scenario", scenarios, SCENARIOS))


def _known(what: str, names: Iterable[str] | None, known: dict[str, Any]) -> list[str]:
    chosen = list(known if names is None else [names] if isinstance(names, str) else names)
    cased = {name.lower(): name for name in known}
    for name in chosen:
        if name.lower() not in cased:
            close = get_close_matches(name.lower(), cased, 1)
            meant = f", did you mean {cased[close[0]]}?" if close else f": {', '.join(known)}"
            raise ValueError(f"there is no {what} {name!r}{meant}")
    return [cased[name.lower()] for name in chosen]


def _run(name: str, kind: type[Proposal], scenario: str, edges: Edges) -> tuple[Cell, set[str]]:
    setting = SCENARIOS[scenario]
    made: list[Watched] = []

    def policy(*args: Any) -> Watched:
        proposal = kind(*args)
        proposal.edges = edges
        made.append(Watched(proposal))
        return made[-1]

    host = Host(setting.machine(), kind.on(), doorbells=policy)
    watched = made[0]
    proposal = watched.proposal
    proposal.booted(host)
    play = setting.start(host, lambda space: proposal.prepare(space.domains, setting.ram))
    error: VfioError | NotModelledError | None = None
    trips: list[Journey] = []
    try:
        trips = setting.play(play)
    except (VfioError, NotModelledError) as refused:
        error = refused
    try:
        host._check()
    except AssertionError as broken:
        raise ProposalError(f"{name} left the model inconsistent on {scenario}: {broken}") from broken
    return _cell(name, scenario, play, watched, trips, error), watched.choosers


def _cell(name: str, scenario: str, play: Play, watched: Watched, trips: list[Journey], error: VfioError | NotModelledError | None) -> Cell:
    trip = min(trips, key=lambda one: WORST.index(one.outcome), default=None)
    outcome, why, when, errno, call = "unknown", str(error), "attach", None, None
    if isinstance(error, VfioError):
        outcome, errno, why = "refused", error.name, error.why
        call = next(made.verb for made in reversed(play.host.log.calls) if made.error is error)
        when = WHEN.get(call, "attach")
    elif error is not None:
        when = WHEN.get(play.host.log.calls[-1].verb, "attach")
    elif trip is not None:
        outcome, why, when = trip.outcome, trip.why, _shows(trip)
    imposed = _imposed(play, watched)
    message = trip is not None and trip.what == "message"
    held = {
        "same-map": _same_map(play, watched),
        "user-owns-iova": not imposed,
        "interrupt-arrives": error is not None or not message or outcome == "delivered",
        "memory-untouched": outcome != "corrupts",
    }
    broken = tuple(word for word in PROMISES if not held[word])
    rests = _rests(SCENARIOS[scenario], play, watched, trips, error)
    journey = trip if error is None else None
    return Cell(name, scenario, outcome, errno, call, when, imposed, broken, why, rests, play.spaces[-1], journey)


def _shows(trip: Journey) -> str:
    """Return when an outcome shows: an IOMMU reports what it faults, and what is refused by remapping is logged; else never."""
    return "raised" if trip.logged or any(step.kind in ("fault", "refused") for step in trip.steps) else "never"


def _holes(play: Play, watched: Watched) -> list[tuple[Span, str]]:
    """Return what the user is told to leave out, or has given away: regions of the scenario's groups, and windows that were registered."""
    holes = [(region.span, KINDS[region.kind].noun) for group in play.host.groups for region in group.reserved]
    return list(dict.fromkeys([*holes, *((span, "") for span in watched.proposal.windows.values())]))


def _imposed(play: Play, watched: Watched) -> tuple[Imposed, ...]:
    holes = _holes(play, watched)
    if any(not unit.translates_msi for unit in play.host.units) and all(span != X86_MSI for span, _ in holes):
        holes.append((X86_MSI, "MSI window of the hardware"))
    made = {Span.sized(bell.iova, bell.size) for space in play.spaces for domain in space.domains for bell in domain.doorbells}
    bells = made | watched.proposal.demanded
    pages = [(bell, PAGE) for bell in sorted(bells) if not any(span.covers(bell) for span, _ in holes)]
    return tuple(Imposed(span.start, span.last, what) for span, what in sorted([hole for hole in holes if hole[1]] + pages))


def _same_map(play: Play, watched: Watched) -> bool:
    """Say whether all domains of each container translate alike outside of the holes."""
    holes = [span for span, _ in _holes(play, watched)]
    for domains in (space.domains for space in play.spaces):
        places = {bell.iova for domain in domains for bell in domain.doorbells if not any(span.contains(bell.iova) for span in holes)}
        if any(len({domain.translate(iova) for domain in domains}) > 1 for iova in places):
            return False
    return True


def _rests(setting: Scenario, play: Play, watched: Watched, trips: list[Journey], error: VfioError | NotModelledError | None) -> str:
    """Return the weakest thing that a cell rests on: a proposal that acted rests on what it says; else it is the model's own answer.

    Before there is a domain, in open_group, no proposal acts.
    """
    opening = error is not None and play.host.log.calls[-1].verb == "open_group"
    if watched.acted and watched.proposal.rests and not opening:
        return watched.proposal.rests
    marks = {step.rests for trip in trips for step in trip.steps}
    if isinstance(error, VfioError):
        marks.add(refusal_rests(play.host, error))
    elif error is not None:
        marks.add("inference")
    if play.host.kernel.flips or (setting.lent and not play.host.kernel.has("reserved_regions")):
        marks.add("inference")
    return next((word for word in ("inference", "reading") if word in marks), "recording")


def refusal_rests(host: Host, error: VfioError) -> str:
    """Return what a refusal rests on if no recording shows it, else "".

    Arm before 5.10, MSI regions of HiSilicon and errnos of page tables were read and not recorded.
    """
    unit = host.units[0]
    read_only = unit.translates_msi and (host.kernel.version < (5, 10) or unit.hardware_msi is not None or not unit.is_arm)
    return "reading" if read_only or error.name == "EEXIST" else ""
