"""The timeline: what each call did to each domain, in order, and the version diff: the same calls on two kernels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice, zip_longest

from vfiolab._text import count
from vfiolab.draw.calls import QUIET, Step, answer, call_words, names_of, steps
from vfiolab.draw.iovamap.words import listed
from vfiolab.draw.stage.measure import text_width, widest, wrap
from vfiolab.draw.stage.page import MARGIN, WIDE, Page, fitting
from vfiolab.draw.stage.shapes import Box, Line, Picture, Run, Text
from vfiolab.draw.stage.text import WIDTH, fold
from vfiolab.model.events import Call, EventLog

LINE = 16.0


@fitting
def timeline(log: EventLog, *, last: int = 20, width: int | None = None, questions: bool = False) -> Picture:
    """Draw the last calls of a log, top to bottom, a column for each domain they touched.

    Calls that only ask (GET_INFO and the like) are left out unless `questions`.
    """
    if last < 1:
        raise ValueError(f"a timeline shows the last calls, 1 or more, not {last}")
    told = (c for c in reversed(log.calls) if questions or c.verb not in QUIET or c.error is not None)
    shown = list(islice(told, last))[::-1]
    earlier = sum(n for (verb, refused), n in log.tally.items() if questions or verb not in QUIET or refused) - len(shown)
    domains = sorted({e.domain for c in shown for e in c.events if e.domain is not None})
    refused = sum(c.error is not None for c in shown)
    names = names_of(log)
    page = Page(width or WIDE)
    title = count(len(shown), "call") + (f" on {listed([f'D{d}' for d in domains])}" if domains else "")
    said = [f"Each line under a domain is one request to the IOMMU core, in order. {count(refused, 'call')} refused."]
    if earlier:
        said.append(f"{earlier:,} earlier calls are not shown.")
    page.heading(title, " ".join(said))
    grid = _Grid(page, domains, [call_words(call, names) for call in shown], [step.words for call in shown for step in steps(call)])
    for call in shown:
        grid.call(call, call_words(call, names))
    grid.finish()
    page.y += 4
    table = [(str(n), call_words(c, names), c.result, "; ".join(_told(s) for s in steps(c))) for n, c in enumerate(shown, 1)]
    answers = " ".join(f"{call_words(c, names)}: {c.result}." for c in shown[:12])
    return page.finish(title, f"{said[0]} {answers}", ("number", "call", "answer", "events"), table, _lines(title, shown, names))


def _lines(title: str, calls: Sequence[Call], names: dict[str, str]) -> list[str]:
    """Return the text twin: a line for each call, and under it one for each step."""
    lines = [*fold(title)]
    for call in calls:
        lines.append(f"{call_words(call, names)[: WIDTH - len(answer(call)) - 2]:<{WIDTH - 18}}  {answer(call)}")
        if call.error is not None and call.error.why:
            lines += fold(call.error.why, "    ")
        lines += [f"    {_told(step)}" for step in steps(call)]
    return lines


def _told(step: Step) -> str:
    return f"D{step.event.domain} {step.words}" if step.event.domain is not None else step.words


class _Grid:
    """Calls on the left, a column for each domain, whose line runs from its allocation to its end.

    Where columns would be thinner than a word of the steps, all domains share one, and each step names its own.
    """

    def __init__(self, page: Page, domains: Sequence[int], calls: Sequence[str], steps: Sequence[str]) -> None:
        self.page = page
        room = page.right - MARGIN
        self.left = MARGIN + max(150.0, room * 0.36, min(widest(calls) + 18, room / 2))
        self.lane = (page.right - self.left) / max(len(domains), 1)
        self.shared = len(domains) > 1 and widest(steps, bold=True) > self.lane - 18
        if self.shared:
            self.lane = page.right - self.left
        self.columns = {d: round(self.left + (0 if self.shared else i * self.lane), 1) for i, d in enumerate(domains)}
        self.alive: dict[int, float] = {}
        heads = [(self.left, listed([f"D{d}" for d in domains]))] if self.shared else [(x, f"D{d}") for d, x in self.columns.items()]
        page.heads([(MARGIN + 6, self.left - MARGIN - 12, "call and answer"), *((x + 14, self.lane - 18, d) for x, d in heads)], "ink")

    def call(self, call: Call, asked: str) -> None:
        page, here = self.page, steps(call)
        wrong = call.error is not None or bool(call.died)
        told = [self.told(step) for step in here]
        below = bool(here) and here[0].event.domain is None  # what is not a domain's stands under the call
        room = self.left - MARGIN - 18
        *lead, end = wrap(asked, room)
        shown = Run(answer(call), "vermilion-text" if wrong else "muted", bold=wrong)
        beside = text_width(f"{end}  ") + text_width(shown.text, bold=True) <= room
        tail: list[tuple[Run, ...]] = [(Run(f"{end}  "), shown)] if beside else [(Run(end),), (shown,)]
        runs = [*((Run(line),) for line in lead), *tail]
        why = wrap(call.error.why, page.right - self.left - 20) if call.error is not None and not here else []
        first = len(runs) if below else 0
        lines = max(len(runs), len(why), first + sum(map(len, told)))
        height = LINE * lines + 6
        page.add(Box(MARGIN, round(page.y, 1), round(page.right - MARGIN, 1), round(height - 2, 1), "alarm" if wrong else "band"))
        page.add(*(Text(MARGIN + 6, round(page.y + 14 + LINE * n, 1), row) for n, row in enumerate(runs)))
        page.add(*(Text.plain(self.left + 14, round(page.y + 14 + LINE * n, 1), w, halo=True) for n, w in enumerate(why)))
        for step, words in zip(here, told, strict=True):
            self.step(step, words, round(page.y + 14 + LINE * first, 1))
            first += len(words)
        page.y += height

    def told(self, step: Step) -> list[str]:
        """Return the lines of a step, as wide as its column."""
        if step.event.domain is None:
            return wrap(step.words, self.left - MARGIN - 24)
        return wrap(_told(step) if self.shared else step.words, self.lane - 18, bold=bool(step.event.errno))

    def step(self, step: Step, words: list[str], y: float) -> None:
        d, bad = step.event.domain, bool(step.event.errno)
        ys = [round(y + LINE * n, 1) for n in range(len(words))]
        if d is None:
            self.page.add(*(Text.plain(MARGIN + 20, at, line, "muted") for at, line in zip(ys, words, strict=True)))
            return
        x = self.columns[d]
        self.page.add(Box(x + 1.5, y - 8, 7, 7, "alarm" if bad else "good", round=3.5))
        look = "vermilion-text" if bad else "ink"
        self.page.add(*(Text.plain(x + 14, at, line, look, bold=bad, halo=True) for at, line in zip(ys, words, strict=True)))
        if step.event.kind == "free":
            self.end(d, y - 4)
        else:
            self.alive.setdefault(d, y if step.event.kind == "alloc" else self.page.y)

    def end(self, domain: int, y: float) -> None:
        x, start = self.columns[domain] + 5, self.alive.pop(domain, y)
        if not self.shared:
            self.page.add(Line(x, start, x, y, "link-strong"))

    def finish(self) -> None:
        """End the lines of the domains that live on, and put bands under lines under dots."""
        for domain in list(self.alive):
            self.end(domain, self.page.y)
        self.page.shapes.sort(key=lambda s: 0 if isinstance(s, Box) and not s.round else 1 if isinstance(s, Line) else 2)


def _why(a: Call, b: Call, *, loud: bool, other: bool) -> tuple[str, str]:
    """Say of each call why it was answered so (`loud`), or what it asked for first that the other one did not (`other`)."""
    if loud:
        return a.error.why if a.error else "accepted", b.error.why if b.error else "accepted"
    pairs = zip_longest(map(str, a.events), map(str, b.events), fillvalue="nothing")
    return next(pair for pair in pairs if pair[0] != pair[1]) if other else ("", "")


@fitting
def compare(first: EventLog, second: EventLog, *, names: Sequence[str] = ("first", "second"), width: int | None = None) -> Picture:
    """Draw the same calls on two kernels side by side; what answers differently is loud. ValueError if the calls are not the same."""
    calls = list(zip(first.calls, second.calls, strict=False))
    known = names_of(first)
    if len(first.calls) != len(second.calls) or any(call_words(a, known) != call_words(b, names_of(second)) for a, b in calls):
        raise ValueError("a version diff needs the same calls in both logs: run the same operations on both kernels")
    different = [a.result != b.result for a, b in calls]
    inner = [not d and [str(e) for e in a.events] != [str(e) for e in b.events] for d, (a, b) in zip(different, calls, strict=True)]
    page = Page(width or WIDE)
    title = f"{names[0]} and {names[1]}: {sum(different)} of {count(len(calls), 'call')} answer differently"
    said = f"≠ marks a different answer. {count(sum(inner), 'call')} with the same answer asked the IOMMU core for something else (≈)."
    page.heading(title, said)
    reasons = [_why(a, b, loud=loud, other=other) for (a, b), loud, other in zip(calls, different, inner, strict=True)]
    half = (page.right - MARGIN) * 0.27
    under = widest([why for pair in reasons for why in pair]) > half - 8  # the answers stand under a call, not beside it
    half = (page.right - MARGIN - 22) / 2 if under else half
    x1, x2 = page.right - 2 * half, page.right - half
    heads = [(MARGIN + 22, half - 8, "call"), (x1, half - 8, names[0]), (x2, half - 8, names[1])]
    for row in (heads[:1], heads[1:]) if under else (heads,):
        page.heads(row, "ink")
    for (a, b), loud, below, pair in zip(calls, different, inner, reasons, strict=True):
        asked = wrap(call_words(a, known), (page.right if under else x1) - MARGIN - 30, bold=loud)
        whys = [wrap(why, half - 8) for why in pair]
        down = 13 * len(asked) if under else 0
        height = 20 + max(13 * (len(asked) - 1), down + 13 * max(map(len, whys))) + (4 if loud else 0)
        page.add(Box(MARGIN, page.y, page.right - MARGIN, height - 2, "alarm" if loud else "band"))
        sign = "≠" if loud else "≈" if below else ""
        page.add(Text.plain(MARGIN + 7, page.y + 13, sign, "vermilion-text" if loud else "muted", bold=True, size=12))
        for n, words in enumerate(asked):
            page.add(Text.plain(MARGIN + 22, page.y + 13 + 13 * n, words, "ink" if loud else "muted", bold=loud))
        for x, one, why in ((x1, a, whys[0]), (x2, b, whys[1])):
            page.add(Text.plain(round(x, 1), page.y + 13 + down, answer(one), "ink" if loud else "muted", bold=loud))
            for n, line in enumerate(why, 1):
                page.add(Text.plain(round(x, 1), page.y + 13 + down + 13 * n, line, "ink" if loud else "muted"))
        page.y += height
    table = [
        (call_words(a, known), a.result, b.result, "different" if d else "same answer, other events" if i else "same")
        for (a, b), d, i in zip(calls, different, inner, strict=True)
    ]
    loud_ones = [pair for pair, d in zip(calls, different, strict=True) if d]
    told = " ".join(f"{call_words(a, known)}: {a.result} on {names[0]}, {b.result} on {names[1]}." for a, b in loud_ones)
    return page.finish(title, f"{said} {told}", ("call", names[0], names[1], "verdict"), table)
