"""The words of an app as HTML: the status line and the panels. Pure text from live objects; no widgets here."""

from __future__ import annotations

from collections.abc import Iterable

from vfiolab._text import markup, page_text
from vfiolab.draw.calls import EVENT
from vfiolab.lab.session import Session, Step
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
LINES = "margin:4px 0;line-height:1.5;overflow-wrap:anywhere"


def columns(parts: Iterable[str], width: int) -> str:
    """Lay parts out side by side where each has `width` pixels, else one below the other."""
    return f'<div style="display:grid;grid-template-columns:repeat(auto-fit,minmax({width}px,1fr));gap:8px">{"".join(parts)}</div>'


def panel(title: str, text: str, legend: str = "", *, top: bool = False) -> str:
    """Return a scrolling box that shows its last lines first (the first ones if `top`); the keyboard reaches and scrolls it.

    A `legend` stands beside the title and says how to read a line.
    """
    key = f'<span style="display:block;font-size:12px;line-height:1.4">{page_text(legend)}</span>' if legend else ""
    return (
        f'<section aria-label="{markup(title)}"><strong>{page_text(title)}</strong>{key}'
        f'<div tabindex="0" style="{_TOP if top else _BOX}"><pre style="{_TEXT}">{page_text(text) or "—"}</pre></div></section>'
    )


def events_panel(title: str, events: Iterable[Event | str]) -> str:
    """Return the box of what the IOMMU core was asked, with numbers written for reading, and how to read a line."""
    return panel(title, "\n".join(map(str, events)), EVENT)


def panels(session: Session) -> str:
    """Show the steps three times: as Python, as system calls, and as what the IOMMU core was asked by the last one."""
    parts = [
        panel("The same in Python", session.code),
        panel("System calls", session.space.transcript(events=False)),
        events_panel("Events of the last step", session.events),
    ]
    return columns(parts, 280)


def status(step: Step, session: Session) -> str:
    """Say what the last step came to; a refusal is an alert with the reason, the kernel function and the way out."""
    if step.refused is None:
        domains = session.space.domains
        names = ", ".join(f"D{domain.number}" for domain in domains)
        count = f"{len(domains)} domain{'s' if len(domains) != 1 else ''}" + (f" ({names})" if names else "")
        return f'<p role="status" style="{LINES}"><code>{page_text(step.code)}</code> — done; the address space has {count}.</p>'
    rows = [f"<code>{page_text(step.code)}</code> — refused: <strong>{page_text(str(step.refused))}</strong>"]
    if isinstance(step.refused, VfioError):
        rows += [f"{name}: {page_text(text)}" for name, text in (("Source", step.refused.source), ("Try", step.refused.fix)) if text]
    return f'<div role="alert" style="{LINES};border-left:4px solid #D55E00;padding-left:8px">{"<br>".join(rows)}</div>'
