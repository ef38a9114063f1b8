"""Before and after a call: what appeared, what disappeared, what was refused and by which lane."""

from __future__ import annotations

from dataclasses import replace

from vfiolab._text import count
from vfiolab.draw.calls import call_words, names_of
from vfiolab.draw.iovamap.facts import SpaceFacts
from vfiolab.draw.iovamap.layout import Scene
from vfiolab.draw.iovamap.refusals import attempts_of
from vfiolab.draw.iovamap.scene import holes, lay_out
from vfiolab.draw.iovamap.words import blame, differing, groups_word, kinds, listed
from vfiolab.model.address import Span
from vfiolab.model.events import Call, EventLog


def change(
    before: SpaceFacts,
    after: SpaceFacts,
    call: Call | None = None,
    *,
    log: EventLog | None = None,
    width: int | None = None,
) -> Scene:
    """Draw the map after a call with what is new, gone or refused made loud.

    `before` and `after` are what `observe(container)` returned then and now. `call` is the call between them and
    gives the title; without it, the last call of `log`, which also tells what its descriptors stand for.
    """
    if call is None and log is not None and log.calls:
        call = log.calls[-1]
    was, now = _mappings(before), _mappings(after)
    gone = tuple(sorted((a, b, name) for (a, b), name in was.items() if (a, b) not in now))
    numbers = {d.number for d in before.domains}, {d.number for d in after.domains}
    left = tuple(d for d in before.domains if d.number not in numbers[1])
    attempts = tuple(attempts_of([call])) if call is not None else ()
    facts = replace(
        after, domains=(*after.domains, *left), attempts=attempts, attempts_before=0, attempts_earlier=0,
        appeared=frozenset(key for key in now if key not in was), gone=gone,
        new_domains=frozenset(numbers[1] - numbers[0]), gone_domains=frozenset(d.number for d in left),
    )  # fmt: skip
    title = f"{call_words(call, names_of(log))} → {call.result}" if call is not None else "Before and after"
    said = [*_moved(before, after), *_said(facts), *_valid_words(before, after)] or ["Nothing changed."]
    return lay_out(replace(facts, title=title, said=tuple(said)), width=width)


def _mappings(facts: SpaceFacts) -> dict[tuple[int, int], str]:
    return dict(zip(zip(facts.starts, facts.ends, strict=True), facts.names, strict=True))


def _moved(before: SpaceFacts, after: SpaceFacts) -> list[str]:
    """Say which groups came, went, or changed their domain."""
    was = {g: d.name for d in before.domains for g in d.groups}
    now = {g: d.name for d in after.domains for g in d.groups}
    fresh = {d.name for d in after.domains} - {d.name for d in before.domains}
    said = []
    for group in sorted({*was, *now}):
        if was.get(group) != now.get(group) and now.get(group) not in fresh:
            came = f"joined {now[group]}" if group in now else f"left {was[group]}"
            said.append(f"Group {group} {came}.")
    return said


def _said(facts: SpaceFacts) -> list[str]:
    """Say which domains and mappings appeared or went, and what was refused."""
    said = []
    made = [d for d in facts.domains if d.number in facts.new_domains]
    kept = [d for d in facts.domains if d.number not in facts.gone_domains]
    for d in made:
        held = f" and got {_replayed(facts)} replayed into it" if facts.starts and len(kept) > len(made) else ""
        said.append(f"{d.name} appeared for {groups_word(d.groups)}{held}.")
    names = differing(kept) if made and len(kept) > 1 else []
    if names:
        who = "They" if len(kept) > 2 else f"{kept[0].name} and {kept[1].name}"
        said.append(f"{who} have different {kinds(names)}.")
    said += [f"{d.name} is gone." for d in facts.domains if d.number in facts.gone_domains]
    everywhere = listed([d.name for d in kept])
    if facts.appeared:
        said.append(f"{count(len(facts.appeared), 'mapping')} appeared" + (f", in {everywhere}." if kept else "."))
    if facts.gone:
        said.append(f"{count(len(facts.gone), 'mapping')} disappeared" + (f" from {everywhere}." if kept else "."))
    return said + [f"Refused with {a.errno}: {blame(a, facts.domains) or a.why}." for a in facts.attempts]


def _valid_words(before: SpaceFacts, after: SpaceFacts) -> list[str]:
    """Say which iovas the user may no longer map, or may map again."""
    top = max(before.top, after.top)
    was, now = (_free(facts.valid, top) for facts in (before, after))
    if before.backend == "none" or after.backend == "none" or was == now or not (before.valid and after.valid):
        return []
    lost = [s for old in was for s in _minus(old, now)]
    won = [s for new in now for s in _minus(new, was)]
    said = [f"No longer valid: {listed([str(s) for s in lost[:3]])}."] if lost else []
    return said + ([f"Valid again: {listed([str(s) for s in won[:3]])}."] if won else [])


def _free(valid: tuple[Span, ...], top: int) -> tuple[Span, ...]:
    return tuple(Span(s.start, min(s.end, top)) for s in valid if s.start < top)


def _minus(span: Span, others: tuple[Span, ...]) -> list[Span]:
    met = tuple(o for o in others if o.overlaps(span)) or (Span(span.end - 1, span.end),)
    return [Span(a, b) for a, b in holes(met, span.start, span.end)]


def _replayed(facts: SpaceFacts) -> str:
    older = len(facts.starts) - len(facts.appeared)
    return "the mapping" if older == 1 else f"all {older:,} mappings"
