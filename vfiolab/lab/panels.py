"""The words of an app as HTML: the status line and the panels. Pure text from live objects; no widgets here."""

from __future__ import annotations

from collections.abc import Iterable

from vfiolab._text import count, markup, page_text
from vfiolab.draw import sentences
from vfiolab.draw.calls import EVENT
from vfiolab.draw.transcript import transcript
from vfiolab.kit import Journey
from vfiolab.kit.session import Session
from vfiolab.kit.steps import Asked, Step
from vfiolab.model.errors import VfioError
from vfiolab.model.events import Event

_BOX = (
    "display:flex;flex-direction:column-reverse;max-height:9.8em;overflow:auto;border:1px solid var(--jp-border-color1,#888);"
    "padding:0 8px;font-size:12px;line-height:1.4"  # seven lines, none of them cut
)
_TOP = _BOX.replace("display:flex;flex-direction:column-reverse;max-height:9.8em", "max-height:24em")
_TEXT = (
    "margin:0;flex:none;overflow:visible;white-space:pre-wrap;word-break:normal;"
    "overflow-wrap:anywhere;font-size:inherit;line-height:inherit"
)
ARRIVED, RANGES = {"delivered", "memory"}, {"outside", "direct", "reserved", "msi", "sw-msi"}
MOST_CALLS, MOST_SAID, MOST_COMING = 200, 12, 3
SIGNS = {"passed": "✓", "failed": "✗", "not reached": "·"}
LINES = "margin:4px 0;line-height:1.5;overflow-wrap:anywhere"


def columns(parts: Iterable[str], width: int) -> str:
    """Lay parts out side by side where each has `width` pixels, else one below the other."""
    return f'<div style="display:grid;grid-template-columns:repeat(auto-fit,minmax({width}px,1fr));gap:8px">{"".join(parts)}</div>'


def panel(title: str, text: str, legend: str = "", *, top: bool = False, wrap: bool = True) -> str:
    """Return a scrolling box that shows its last lines first (the first ones if `top`); the keyboard reaches and scrolls it.

    A `legend` stands beside the title and says how to read a line. The lines of a table do not `wrap`.
    """
    style = _TEXT if wrap else _TEXT.replace("pre-wrap", "pre")
    key = f'<span style="display:block;font-size:12px;line-height:1.4">{page_text(legend)}</span>' if legend else ""
    return (
        f'<div role="group" aria-label="{markup(title)}"><strong>{page_text(title)}</strong>{key}'
        f'<div tabindex="0" style="{_TOP if top else _BOX}"><pre style="{style}">{page_text(text) or "—"}</pre></div></div>'
    )


def events_panel(events: Iterable[Event | str]) -> str:
    """Return the box of what the last step asked of the IOMMU core, with numbers written for reading, and how to read a line."""
    return panel("Events of the last step", "\n".join(map(str, events)), EVENT)


def checks_panel(session: Session) -> list[str]:
    """Return the box of the checks that the last step went through, if it was refused by one."""
    met = session.steps[-1].refused if session.steps else None
    checks = "\n".join(f"{SIGNS[state]} {text}" for text, state in met.checks) if isinstance(met, VfioError) else ""
    return [panel("Checks, in the kernel's order", checks, "✓ holds, ✗ does not hold, · not reached", top=True)] if checks else []


def panels(session: Session) -> str:
    """Show the steps three times: as Python, as system calls, and as what the IOMMU core was asked by the last one."""
    calls = panel("System calls", transcript(session.host.log.calls[-MOST_CALLS:], events=False))
    return columns([*checks_panel(session), panel("The same in Python", session.code), calls, events_panel(session.events)], 280)


def steps_text(session: Session, before: Session | None) -> str:
    """List the steps, done and to come, with what each met; `before`: a session to compare with, step by step."""
    answered = set(before.differing(session)) if before is not None else set()
    asked = set(before.differing(session, requests=True)) if before is not None else set()
    lines = []
    first = max(0, len(session.steps) - MOST_CALLS)
    for number, step in enumerate(session.steps[first:], first + 1):
        was = f"  ({before.host.kernel}: {before.steps[number - 1].outcome})" if before is not None and number in answered else ""
        was = was or (f"  ({before.host.kernel}: other requests)" if before is not None and number in asked else "")
        lines.append(f"{number:>3} {step.code}  {'✗ ' if step.refused else ''}{step.outcome}{was}")
    coming = [f"    {one.code if isinstance(one, Asked) else one.text}" for one in session.undone[:MOST_COMING]]
    more = ["    ..."] if len(session.undone) > MOST_COMING else []
    return "\n".join([*lines, *(["    to come:", *coming, *more] if coming else [])])


def _untried(session: Session) -> list[str]:
    """Say why the kernel tried no older domain for a group, where it made a new one at once (vfio_iommu_type1_attach_group)."""
    events = session.events
    made = {e.domain for e in events if e.kind == "alloc"} - {e.domain for e in events if e.kind == "free"}
    inside = next((space.domains for space in session.spaces.values() if any(d.number in made for d in space.domains)), [])
    older = [f"D{domain.number}" for domain in inside if domain.number not in made]
    joined = any(call.verb == "set_container" and not call.error for call in session.calls)
    if not older or not joined or any(e.kind == "attach" and e.errno for e in events):
        return []
    names = ", ".join(older)
    return [f"{names} was not even tried: the kernel compares first which domains enforce cache coherency, and they differ."]


def status(step: Step, session: Session) -> str:
    """Say what the last step came to; a refusal, or a request that does not arrive, is an alert with the reason and the way out."""
    code = f"<code>{page_text(step.code)}</code>"
    if step.refused is not None:
        rows = [f"{code} — refused: <strong>{page_text(str(step.refused))}</strong>"]
        if isinstance(step.refused, VfioError):
            usable = _usable(session) if any(obstacle.kind in RANGES for obstacle in step.refused.obstacles) else ""
            parts = ("Source", step.refused.source), ("Try", step.refused.fix), ("Usable iovas", usable)
            rows += [f"{name}: {page_text(text)}" for name, text in parts if text]
        return alert("<br>".join(rows))
    if isinstance(step.answer, Journey):
        told = f"{code} — <strong>{page_text(step.answer.outcome.capitalize())}</strong>: {page_text(step.answer.why)}."
        return alert(told) if step.answer.outcome not in ARRIVED else f'<p role="status" style="{LINES}">{told}</p>'
    domains = session.space.domains if session.spaces else []
    names = ", ".join(f"D{domain.number}" for domain in domains)
    number = count(len(domains), "domain") + (f" ({names})" if names else "")
    said = sentences(session.calls)
    why = [*_untried(session), *(one for one in said if " was tried in " in one)]
    told = " ".join(said[:MOST_SAID]) + (f" And {count(len(said) - MOST_SAID, 'request')} more." if len(said) > MOST_SAID else "")
    done = f"the model answers {step.done.result}{f': {step.done.why}' if step.done.why else ''}" if step.done else "done"
    verdict = page_text(f"the address space has {number}. {' '.join(why)}".strip())
    return f'<p role="status" style="{LINES}">{code} — {page_text(done)}; <strong>{verdict}</strong> {page_text(told)}</p>'


def alert(html: str) -> str:
    """Return words that are read out at once, with a bar, so that colour is not all there is."""
    return f'<div role="alert" style="{LINES};border-left:4px solid #D55E00;padding-left:8px">{html}</div>'


def _usable(session: Session) -> str:
    ranges = session.space.iova_ranges if session.spaces else ()
    return ", ".join(map(str, ranges[:MOST_SAID])) + (", and more" if len(ranges) > MOST_SAID else "")
