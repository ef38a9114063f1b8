"""The journey of one request: device, bus, IOMMU, doorbell or memory, and what becomes of it; drawn from the journey's events."""

from __future__ import annotations

from vfiolab.draw.stage.measure import text_width, wrap
from vfiolab.draw.stage.page import MARGIN, WIDE, Page, card, fitting, folded
from vfiolab.draw.stage.shapes import Line, Picture, Poly, Run, Shape, Text
from vfiolab.draw.stage.text import fold
from vfiolab.model.address import hexa
from vfiolab.model.irq.delivery import OUTCOMES, PLACES, Journey, JourneyStep, mark

HEADS = {"device": "device", "bus": "bus", "IOMMU": "IOMMU", "target": "doorbell or memory", "outcome": "what becomes of it"}
GAP = 26.0
IN_A_ROW = 700
HEIGHT = 66.0
NUMBERS = "①②③④⑤⑥⑦⑧⑨"
BAD = ("fault", "lost", "corrupt", "refused")
GOOD = ("interrupt", "memory")
RESTS = {"": "a rule or a recording", "reading": "reading", "inference": "inference", "choice": "a design that was never built"}
WORDS = {
    "route": "upstream", "p2p": "turned to a peer", "window": "MSI window: not translated", "translate": "translates", "fault": "fault",
    "memory": "the user's memory", "corrupt": "the user's memory", "doorbell": "takes the message", "refused": "refused",
    "interrupt": "interrupt raised", "lost": "nothing arrives",
}  # fmt: skip
CHOICE = " [choice]: no kernel does it; where the source leaves it open, we chose."
READING = "read in the kernel's source or documentation, no recording shows it"
COLUMNS = ("step", "place", "what", "bus address", "physical", "why", "rests on")


@fitting
def journey(trip: Journey, *, upto: int | None = None, width: int | None = None) -> Picture:
    """Draw a journey, or its first `upto` steps: stations in a row with their addresses, and each step's reason below.

    Below 700 pixels the stations stand in a column.
    """
    steps = trip.steps[: len(trip.steps) if upto is None else max(1, upto)]
    return _Journey(trip, steps, width or WIDE).draw()


class _Journey:
    def __init__(self, trip: Journey, steps: tuple[JourneyStep, ...], width: float) -> None:
        self.trip, self.steps, self.page = trip, steps, Page(width)
        self.done = len(steps) == len(trip.steps)
        self.found = {place: [(n, step) for n, step in enumerate(steps) if step.place == place] for place in PLACES}

    def draw(self) -> Picture:
        trip, page = self.trip, self.page
        title = f"{trip.act}: {trip.outcome if self.done else f'step {len(self.steps)} of {len(trip.steps)}'}"
        said = f"Linux {trip.kernel}. {self.finding()}"
        page.heading(title, said)
        if page.width >= IN_A_ROW:
            self.row()
            for n, step in enumerate(self.steps):
                self.reason(n, step)
        else:
            self.column()
        if rests := {step.rests for step in self.steps} - {""}:
            page.note(f"[reading]: {READING}. [inference]: no rule of the kernel decides it.{CHOICE * ('choice' in rests)}")
        table = [_row(n, step) for n, step in enumerate(self.steps, 1)]
        told = " ".join(f"{n}. {step.place}: {step.why}{mark(step)}." for n, step in enumerate(self.steps, 1))
        lines = [*fold(f"{title} - {said}")]
        for n, step in enumerate(self.steps, 1):
            first, *rest = fold(f"{n} {step.place}: {step.why}{mark(step)}")
            lines += [first, *fold(" ".join(rest), "    ")]
        return page.finish(title, f"{said} {told}", COLUMNS, table, lines)

    def finding(self) -> str:
        if not self.done:
            return f"So far it has come to: {'the outcome' if self.steps[-1].place == 'outcome' else HEADS[self.steps[-1].place]}."
        sentence = OUTCOMES[self.trip.outcome]
        unsure = sorted({step.rests for step in self.steps if step.rests})
        tail = f" No recording shows every step: some rest on {' and '.join(unsure)}." if unsure else ""
        return f"{sentence[0].upper()}{sentence[1:]}.{tail}"

    # stations

    def row(self) -> None:
        page = self.page
        each = round((page.right - MARGIN - GAP * (len(PLACES) - 1)) / len(PLACES), 1)
        xs = {place: round(MARGIN + n * (each + GAP), 1) for n, place in enumerate(PLACES)}
        self.addresses({place: x + each / 2 for place, x in xs.items()})
        page.heads([(x, each + GAP - 4, HEADS[place]) for place, x in xs.items()])
        cards = {place: (folded(lines, each), role) for place in PLACES for lines, role in [self.station(place)]}
        tall = max(HEIGHT, *(12.0 + 14 * len(lines) for lines, _ in cards.values()))
        for place, x in xs.items():
            lines, role = cards[place]
            shapes, _ = card(x, page.y, each, lines, role=role, tip=self.tip(place), height=tall)
            page.add(*shapes)
            if place != PLACES[0]:
                page.add(*_arrow((x - GAP + 3, page.y + tall / 2), (x - 3, page.y + tall / 2), self.way(place)))
        page.y += tall + 12

    def way(self, place: str) -> str:
        """Return the role of the line to a station: reached, not yet, or cut."""
        if place == "outcome" and self.done and not self.found["target"]:
            return "cut"
        if self.found[place] or (place == "outcome" and self.done and self.trip.outcome in {"memory", "refused", "p2p"}):
            return "flow"
        return "cut" if self.done else "faint"

    def known(self) -> dict[str, tuple[Run, ...]]:
        """Return the addresses in use, each by the station that sends it on."""
        physical = next((step.physical for step in reversed(self.steps) if step.physical is not None), None)
        found = {"device": ("bus address", self.trip.address)}
        if physical is not None and self.found["IOMMU"]:
            found["IOMMU"] = ("physical", physical)
        return {place: (Run(f"{name} ", "muted"), Run(hexa(address), bold=True)) for place, (name, address) in found.items()}

    def addresses(self, middles: dict[str, float]) -> None:
        """Write the address in use above the stations between which it holds, as far as the request has come."""
        page = self.page
        reached = next(place for place in ("IOMMU", "bus", "device") if self.found[place] or place == "device")
        ends = {"device": reached, "IOMMU": "target" if self.found["target"] else "IOMMU"}
        for first, runs in self.known().items():
            last = ends[first]
            x, x2 = middles[first] + (8 if first != "device" else 0), middles[last] - (8 if last == "IOMMU" else 0)
            if first == last:  # known here, gone nowhere yet
                page.add(Text(MARGIN if first == "device" else round(x, 1), page.y + 10, runs))
                continue
            page.add(*_arrow((x, page.y + 18), (x2, page.y + 18)))
            half = sum(text_width(run.text, bold=run.bold) for run in runs) / 2
            page.add(Text(round(max((x + x2) / 2, MARGIN + half), 1), page.y + 10, runs, anchor="middle"))
        page.y += 30

    def station(self, place: str) -> tuple[list[tuple[str, str, bool]], str]:
        """Return the lines of a station's card and its role."""
        found = self.found[place]
        if not found:
            if place == "outcome" and self.done:
                role = "good" if self.trip.outcome == "memory" else "alarm"
                return [(f"{_sign(self.trip.outcome)} {self.trip.outcome}", "ink", True)], role
            return [("not reached" if self.done else "not yet", "muted", False)], "card"
        number, step = found[-1]
        role = "alarm" if step.kind in {*BAD, "p2p"} else "good" if step.kind in GOOD else "unit" if step.kind == "window" else "card"
        role = "domain" if step.kind == "translate" else role
        lines = [(f"{NUMBERS[number]} {self.headline(place, step)}", "ink", True)]
        lines += [(words, "ink", False) for words in self.details(place, step)]
        lines += [(mark(step).strip(), "muted", False)] if step.rests else []
        return lines, role

    def headline(self, place: str, step: JourneyStep) -> str:
        if place == "device":
            return self.trip.device
        if place == "outcome":
            return f"{_sign(self.trip.outcome)} {self.trip.outcome}"
        if step.domain is not None:
            return f"D{step.domain} {WORDS[step.kind]}" if step.kind == "translate" else f"D{step.domain}: {WORDS[step.kind]}"
        return "MSI window" if step.kind == "window" else WORDS[step.kind]

    def details(self, place: str, step: JourneyStep) -> list[str]:
        trip = self.trip
        if place == "device":
            what = f"vector {trip.vector}" if trip.vector is not None else f"DMA {trip.what}"
            return [what, f"data {hexa(trip.data)}"] if trip.what != "read" else [what]
        if place == "outcome":
            return ["no interrupt" if step.kind == "lost" and trip.vector is not None else WORDS[step.kind]]
        if step.kind == "window":
            return ["not translated"]
        if step.kind == "corrupt":
            return ["overwritten"]
        return [hexa(step.physical)] if place in {"target", "bus"} and step.physical is not None else []

    def tip(self, place: str) -> str:
        return "; ".join(f"{step.why}{mark(step)}" for _, step in self.found[place])

    # reasons

    def reason(self, number: int, step: JourneyStep) -> None:
        page = self.page
        head = f"{NUMBERS[number]} {step.place}: "
        for n, line in enumerate(wrap(f"{head}{step.why}{mark(step)}", page.right - MARGIN - 16)):
            role = "vermilion-text" if step.kind in BAD else "ink"
            page.add(Text.plain(MARGIN + (16 if n else 0), page.y + 11, line, role))
            page.y += 15

    def column(self) -> None:
        page, known = self.page, self.known()
        for place in PLACES:
            lines, role = self.station(place)
            lines = folded(lines, page.right - MARGIN)
            page.add(Text.plain(MARGIN, page.y + 11, HEADS[place], "muted", size=12, bold=True))
            page.y += 16
            shapes, tall = card(MARGIN, page.y, page.right - MARGIN, lines, role=role, tip=self.tip(place))
            page.add(*shapes)
            page.y += tall + 4
            for number, step in self.found[place]:
                self.reason(number, step)
            if place != PLACES[-1]:
                page.add(*_arrow((MARGIN + 20, page.y + 1), (MARGIN + 20, page.y + 14)))
                if place in known:
                    page.add(Text(MARGIN + 32, page.y + 12, known[place]))
                page.y += 16


def _arrow(start: tuple[float, float], end: tuple[float, float], role: str = "flow") -> list[Shape]:
    """Return a line with a head, to the right or down; without a head where nothing arrives."""
    (x, y), (x2, y2) = ((round(a, 1), round(b, 1)) for a, b in (start, end))
    if role != "flow":
        return [Line(x, y, x2, y2, role)]
    head = [(x2, y2), (x2 - 7, y2 - 4), (x2 - 7, y2 + 4)] if y == y2 else [(x2, y2), (x2 - 4, y2 - 7), (x2 + 4, y2 - 7)]
    stop = (x2 - 6, y2) if y == y2 else (x2, y2 - 6)
    return [Line(x, y, *stop, "flow"), Poly(tuple((round(a, 1), round(b, 1)) for a, b in head), "caret", closed=True)]


def _sign(outcome: str) -> str:
    return "✓" if outcome in {"delivered", "memory"} else "✗"


def _row(number: int, step: JourneyStep) -> tuple[str, ...]:
    address = hexa(step.iova) if step.iova is not None else ""
    physical = hexa(step.physical) if step.physical is not None else ""
    return (str(number), step.place, step.kind, address, physical, step.why, RESTS[step.rests])
