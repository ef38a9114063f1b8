"""The timeline: what each call did to each domain, in order, and the version diff: the same calls on two kernels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

from vfiolab.draw.measure import shorten, text_width, wrap
from vfiolab.draw.page import LEAST_WIDTH, MARGIN, Page
from vfiolab.draw.shapes import Box, Line, Picture, Run, Text
from vfiolab.draw.words import count, listed
from vfiolab.model.address import hexa, human_size
from vfiolab.model.errors import NAMES
from vfiolab.model.events import Call, Event, EventLog

LINE = 16.0
ADDRESSES = ("iova", "vaddr")
QUIET = ("get_api_version", "check_extension", "get_info", "group_status", "status")


@dataclass(frozen=True, slots=True)
class Step:
    """Events of one kind on one domain, drawn as one line: the first stands for all `number` of them."""

    event: Event
    number: int
    size: int

    @property
    def words(self) -> str:
        """What was done, in the words of the trace."""
        e = self.event
        many = f" × {self.number:,}" if self.number > 1 else ""
        if e.kind in {"map", "unmap"}:
            where = f" {hexa(e.iova or 0)}" if self.number == 1 else many
            return f"{e.kind}{where}, {human_size(self.size)}"
        if e.kind == "attach":
            answer = "✓" if not e.errno else f"✗ {NAMES.get(-e.errno, e.errno)}"
            return f"attach group {e.group} {answer}"
        if e.kind in {"detach", "claim", "release"}:
            return f"{e.kind} group {e.group}"
        if e.kind == "msi_cookie":
            return f"MSI cookie at {hexa(e.iova or 0)}"
        if e.kind == "msi_map":
            return f"doorbell {hexa(e.iova or 0)} → {hexa(e.physical or 0)}"
        if e.kind == "fgsp":
            return "superpage probe"
        where = hexa(e.iova) if e.iova is not None else hexa(e.physical) if e.physical is not None else ""
        return f"{e.kind.replace('_', ' ')} {where}".strip() + many


def steps(call: Call) -> list[Step]:
    """Return the events of a call, runs of equal ones joined."""
    out: list[Step] = []
    for e in call.events:
        last = out[-1] if out else None
        if last and (e.kind, e.domain) == (last.event.kind, last.event.domain) and e.kind in {"map", "unmap"}:
            out[-1] = Step(last.event, last.number + 1, last.size + (e.size or 0))
        else:
            out.append(Step(e, 1, e.size or 0))
    return out


def call_words(call: Call) -> str:
    """Return a call in words, without its answer.

    >>> call_words(Call("map", "A", {"iova": 0x1000, "size": 8192, "vaddr": 0}))
    'map A 0x1000, 8 KiB'
    """
    parts = [call.verb.replace("_", " "), call.target]
    args = {k: v for k, v in call.args.items() if v is not None and k not in {"vaddr", "argsz"}}
    iova, size = args.pop("iova", None), args.pop("size", None)
    if isinstance(iova, int):
        parts.append(hexa(iova) + ("," if isinstance(size, int) else ""))
    if isinstance(size, int):
        parts.append(human_size(size) if 0 < size < 1 << 63 else hexa(size))
    parts += [f"{k}={hexa(v) if isinstance(v, int) and v > 9 else v}" for k, v in args.items() if v not in {"", 0}]
    return " ".join(p for p in parts if p)


def timeline(log: EventLog, *, last: int = 20, width: int = 900, questions: bool = False) -> Picture:
    """Draw the last calls of a log, top to bottom, a column for each domain they touched.

    Calls that only ask (GET_INFO and the like) are left out unless `questions`.
    """
    calls = [c for c in log.calls if questions or c.verb not in QUIET or c.error is not None]
    shown = calls[-last:]
    domains = sorted({e.domain for c in shown for e in c.events if e.domain is not None})
    refused = sum(c.error is not None for c in shown)
    page = Page(max(width, LEAST_WIDTH))
    title = f"{count(len(shown), 'call')}" + (f" on {listed([f'D{d}' for d in domains])}" if domains else "")
    said = [f"Each line under a domain is one request to the IOMMU core, in order. {count(refused, 'call')} refused."]
    if len(calls) > len(shown):
        said.append(f"{len(calls) - len(shown):,} earlier calls are not shown.")
    page.heading(title, " ".join(said))
    left = MARGIN + max(150.0, (page.right - MARGIN) * 0.36)
    lane = (page.right - left) / max(len(domains), 1)
    columns = {d: round(left + i * lane, 1) for i, d in enumerate(domains)}
    page.add(Text.plain(MARGIN + 6, page.y + 10, "call and answer", bold=True, size=12))
    for d, x in columns.items():
        page.add(Text.plain(x + 14, page.y + 10, f"D{d}", bold=True, size=12))
    page.y += 18
    alive: dict[int, float] = {}
    for call in shown:
        _call(page, call, columns, lane, alive)
    for d, y in alive.items():
        page.add(Line(columns[d] + 5, y, columns[d] + 5, page.y, "link-strong"))
    page.shapes.sort(key=lambda s: 0 if isinstance(s, Box) and not s.round else 1 if isinstance(s, Line) else 2)
    page.y += 4
    table = [(str(n), call_words(c), c.result, "; ".join(_told(s) for s in steps(c))) for n, c in enumerate(shown, 1)]
    told = " ".join(f"{call_words(c)}: {c.result}." for c in shown[:12])
    return page.finish(title, f"{said[0]} {told}", ("number", "call", "answer", "events"), table)


def _told(step: Step) -> str:
    return f"D{step.event.domain} {step.words}" if step.event.domain is not None else step.words


def _call(page: Page, call: Call, columns: dict[int, float], lane: float, alive: dict[int, float]) -> None:
    here = steps(call)
    wrong = call.error is not None or bool(call.died)
    height = LINE * max(1, len(here)) + 6
    top = page.y
    page.add(
        Box(MARGIN, round(top, 1), round(page.right - MARGIN, 1), round(height - 2, 1), "alarm" if wrong else "band")
    )
    answer = f"✗ {call.result}" if wrong else f"→ {call.result}"
    left = min(columns.values(), default=page.right)
    room = left - MARGIN - 18 - text_width(answer, 11, bold=True)
    runs = (
        Run(shorten(call_words(call), room, 11) + "  "),
        Run(answer, "vermilion-text" if wrong else "muted", bold=wrong),
    )
    page.add(Text(MARGIN + 6, round(top + 14, 1), runs))
    if call.error is not None and not here and columns:
        page.add(
            Text.plain(
                left + 14,
                round(top + 14, 1),
                shorten(call.error.why, page.right - left - 20, 10.5),
                size=10.5,
                halo=True,
            )
        )
    for n, step in enumerate(here):
        y = round(top + 14 + LINE * n, 1)
        d = step.event.domain
        x = columns.get(d, left) if d is not None else left
        bad = bool(step.event.errno)
        words = shorten(step.words, lane - 18, 11, bold=bad)
        if d is None:
            page.add(Text.plain(x - 12, y, step.words, "muted", size=10.5, anchor="end") if n else
                     Text.plain(x + 14, y, step.words, "muted", size=10.5, halo=True))  # fmt: skip
            continue
        page.add(Box(x + 1.5, y - 8, 7, 7, "alarm" if bad else "good", round=3.5))
        page.add(Text.plain(x + 14, y, words, "vermilion-text" if bad else "ink", bold=bad, halo=True))
        if step.event.kind == "alloc":
            alive[d] = y
        elif step.event.kind == "free" and d in alive:
            page.add(Line(x + 5, alive.pop(d), x + 5, y - 4, "link-strong"))
        else:
            alive.setdefault(d, top)
    page.y += height


def _first_other(a: Call, b: Call, one: Call) -> str:
    """Return the first event of `one` that the other call does not have at this place."""
    pairs = zip_longest(map(str, a.events), map(str, b.events), fillvalue="nothing more")
    return next(((x if one is a else y) for x, y in pairs if x != y), "")


def compare(
    first: EventLog, second: EventLog, *, names: Sequence[str] = ("first", "second"), width: int = 900
) -> Picture:
    """Draw the same calls on two kernels side by side; what answers differently is loud. ValueError if the calls are not the same."""
    calls = list(zip(first.calls, second.calls, strict=False))
    if len(first.calls) != len(second.calls) or any(call_words(a) != call_words(b) for a, b in calls):
        raise ValueError("a version diff needs the same calls in both logs: run the same operations on both kernels")
    different = [a.result != b.result for a, b in calls]
    inner = [
        not d and [str(e) for e in a.events] != [str(e) for e in b.events]
        for d, (a, b) in zip(different, calls, strict=True)
    ]
    page = Page(max(width, LEAST_WIDTH))
    title = f"{names[0]} and {names[1]}: {sum(different)} of {count(len(calls), 'call')} answer differently"
    said = f"≠ marks a different answer. {count(sum(inner), 'call')} with the same answer asked the IOMMU core for something else (≈, the first such request)."
    page.heading(title, said)
    half = (page.right - MARGIN) * 0.27
    x1, x2 = page.right - 2 * half, page.right - half
    for x, words in ((MARGIN + 22, "call"), (x1, names[0]), (x2, names[1])):
        page.add(Text.plain(round(x, 1), page.y + 10, words, bold=True, size=12))
    page.y += 18
    for (a, b), loud, below in zip(calls, different, inner, strict=True):
        whys = [
            wrap(one.error.why if one.error else "accepted", half - 8, 10.5, lines=3) if loud else [] for one in (a, b)
        ]
        height = 20 + 13 * max(map(len, whys)) + (4 if loud else 0)
        page.add(Box(MARGIN, page.y, page.right - MARGIN, height - 2, "alarm" if loud else "band"))
        sign = "≠" if loud else "≈" if below else ""
        page.add(Text.plain(MARGIN + 7, page.y + 13, sign, "vermilion-text" if loud else "muted", bold=True, size=12))
        words = shorten(call_words(a), x1 - MARGIN - 30, 11)
        page.add(Text.plain(MARGIN + 22, page.y + 13, words, "ink" if loud else "muted", bold=loud))
        for x, one, why in ((x1, a, whys[0]), (x2, b, whys[1])):
            answer = f"✗ {one.result}" if one.error or one.died else f"→ {one.result}"
            page.add(Text.plain(round(x, 1), page.y + 13, answer, "ink" if loud else "muted", bold=loud))
            if below:
                words = shorten(_first_other(a, b, one), half - text_width(answer, 11) - 14, 10.5)
                page.add(Text.plain(round(x + text_width(answer, 11) + 8, 1), page.y + 13, words, "muted", size=10.5))
            for n, line in enumerate(why, 1):
                page.add(Text.plain(round(x, 1), page.y + 14 + 13 * n, line, size=10.5))
        page.y += height
    table = [
        (call_words(a), a.result, b.result, "different" if d else "same answer, other events" if i else "same")
        for (a, b), d, i in zip(calls, different, inner, strict=True)
    ]
    told = " ".join(
        f"{call_words(a)}: {a.result} on {names[0]}, {b.result} on {names[1]}."
        for (a, b), d in zip(calls, different, strict=True)
        if d
    )
    return page.finish(title, f"{said} {told}", ("call", names[0], names[1], "verdict"), table)
