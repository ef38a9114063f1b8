"""A session as one HTML page: it needs no script and nothing from anywhere, is read by ear too, and prints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from vfiolab._text import count, page_text
from vfiolab.draw import Picture, chain, figure_html, iova_map, topology
from vfiolab.draw.transcript import transcript
from vfiolab.kit.export import Kept, session_text
from vfiolab.kit.journey import Journey
from vfiolab.kit.space import AddressSpace
from vfiolab.kit.steps import Step
from vfiolab.model.errors import VfioError
from vfiolab.model.events import Call
from vfiolab.model.kernel import Kernel

__all__ = ["to_page"]

MOST_PICTURED = 60
MOST_LISTED = 5
NARROW = 640
#: The calls after which the map of a space looks otherwise, and those after which its chain does.
MAPS, CHAINS = {"map", "unmap"}, {"set_container", "unset_container", "set_iommu"}
MARKS = {"passed": "✓ holds", "failed": "✗ does not hold", "not reached": "· not reached"}
STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1f; --paper: #fff; --quiet: #55555e; --ground: #f2f3f7; --edge: #c9cbd6; --no: #a3260f; --yes: #1a6334; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #ececf1; --paper: #111111; --quiet: #b3b4c0; --ground: #24262d; --edge: #474a57; --no: #ff9d87; --yes: #86d9a4; }
}
body { margin: 0 auto; padding: 1.2rem 1rem 4rem; max-width: 62rem; color: var(--ink); background: var(--paper); font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.25rem; margin: 2.2rem 0 .6rem; } h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
p { margin: .3rem 0; } .quiet { color: var(--quiet); } .lead { font-size: 1.1rem; margin: .5rem 0 1rem; }
pre, code { font-family: ui-monospace, Menlo, Consolas, monospace; font-size: .9em; }
pre { margin: .3rem 0; padding: .5rem .7rem; background: var(--ground); border-radius: 6px; white-space: pre-wrap; overflow-wrap: anywhere; }
.step { border-left: 4px solid var(--yes); padding-left: .9rem; margin: 1.4rem 0; } .step.refused { border-color: var(--no); }
.step h3 { margin-top: 0; } .answer { font-weight: 600; color: var(--yes); overflow-wrap: anywhere; } .refused .answer { color: var(--no); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem .8rem; margin: .3rem 0; } dt { color: var(--quiet); } dd { margin: 0; overflow-wrap: anywhere; }
table { border-collapse: collapse; font-size: .85rem; } th, td { text-align: left; padding: .15rem .6rem .15rem 0; border-bottom: 1px solid var(--edge); overflow-wrap: anywhere; }
summary { cursor: pointer; } ol.checks { margin: .3rem 0; padding-left: 2.4rem; } ol.checks .failed { color: var(--no); font-weight: 600; }
figure { margin: .6rem 0; }
@media print { .step { break-inside: avoid; } }
""".strip()  # noqa: E501 - a rule of the style a line
HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{style}
</style>
</head>
<body>
<main>
"""


class Walked(Kept, Protocol):
    """A session whose steps can be taken anew."""

    spaces: dict[str, AddressSpace]

    def again(self) -> Iterator[Walked]:
        """Yield a fresh session after each of the steps."""


def to_page(session: Walked) -> str:
    """Return a session as a page: what came of it, how it ends in pictures, each step with its answer, and the file to open again.

    Up to 60 steps, each that changes a space has a picture of its own.
    """
    title = f"{session.name} on {session.host.machine.name}"
    parts = [HEAD.format(title=page_text(title), style=STYLE), *_top(session), *_end(session), *_steps(session), *_trace(session)]
    return "".join([*parts, "</main>\n</body>\n</html>\n"])


def _top(session: Walked) -> Iterator[str]:
    refused = [(number, step) for number, step in enumerate(session.steps, 1) if step.refused]
    yield f"<h1>{page_text(f'{session.name} on {session.host.machine.name}')}</h1>\n"
    kernel = Kernel(session.host.kernel.release).title
    done = f"{count(len(session.steps), 'step')}: {len(session.steps) - len(refused)} carried out, {len(refused) or 'none'} refused."
    yield f'<p class="lead">{page_text(done)}</p>\n'
    if refused:
        rows = (f'<li><a href="#step-{number}">Step {number}</a>: {page_text(_met(step))}</li>\n' for number, step in refused[:MOST_LISTED])
        more = f"<li>and {len(refused) - MOST_LISTED} more</li>\n" if len(refused) > MOST_LISTED else ""
        yield f"<ul>\n{''.join(rows)}{more}</ul>\n"
    yield "<dl>\n"
    for name, said in (("Machine", session.host.machine.name), ("Kernel", kernel), ("Boot options", session.host.options.words or "none")):
        yield f"<dt>{name}</dt><dd>{page_text(said)}</dd>\n"
    yield '</dl>\n<p class="quiet">The answers are those of vfiolab\'s model of Linux VFIO, not of a machine.</p>\n'


def _end(session: Walked) -> Iterator[str]:
    """Yield the pictures of the state: each space's iova map and chain, and the machine."""
    yield "<h2>How it ends</h2>\n"
    if not session.spaces:
        yield "<p>No address space is open.</p>\n"
    shared: dict[int, list[str]] = {}
    for name, space in session.spaces.items():
        shared.setdefault(id(space.container.file), []).append(name)
    for names in shared.values():
        container = session.spaces[names[0]].container
        called = " and ".join(f"<code>{page_text(name)}</code>" for name in names)
        yield f"<h3>What the devices of {called} can reach</h3>\n{_figure(iova_map(container, log=session.host.log))}"
        yield f"<h3>Who is in {called}</h3>\n{_figure(chain(container, log=session.host.log))}"
    inside = {number for space in session.spaces.values() for number in space.groups}
    used = [device for group in session.host.groups if group.id in inside for device in group.devices if device in session.host.topology]
    whole = _figure(topology(session.host))
    yield "<h3>The machine and its IOMMU groups</h3>\n"
    if used and len(used) < len(session.host.topology):
        yield _figure(topology(session.host, only=used))
        yield f"<details><summary>The whole machine</summary>{whole}</details>\n"
    else:
        yield whole


def _steps(session: Walked) -> Iterator[str]:
    yield "<h2>The steps</h2>\n"
    pictured = len(session.steps) <= MOST_PICTURED
    if not pictured:
        yield f'<p class="quiet">Steps have pictures of their own in sessions of up to {MOST_PICTURED} steps.</p>\n'
    pictures = map(_picture, session.again()) if pictured else iter([""] * len(session.steps))
    for number, (step, picture) in enumerate(zip(session.steps, pictures, strict=True), 1):
        yield f'<section class="step{" refused" * bool(step.refused)}" id="step-{number}" aria-labelledby="head-{number}">\n'
        yield f'<h3 id="head-{number}">Step {number}</h3>\n<pre><code>{page_text(step.code)}</code></pre>\n'
        yield from _answer(step)
        calls = session.host.log.calls[slice(*step.calls)]
        if calls:
            shown = page_text(str(transcript(calls)))
            yield f"<details><summary>{count(len(calls), 'system call')}</summary><pre>{shown}</pre></details>\n"
        yield f"{picture}</section>\n"


def _answer(step: Step) -> Iterator[str]:
    refused = step.refused
    if refused is None:
        answer = step.answer
        words = (
            answer.outcome
            if isinstance(answer, Journey)
            else step.done.result
            if step.done
            else ""
            if answer is None or isinstance(answer, AddressSpace)
            else repr(answer)
        )
        yield f'<p class="answer">✓ done{page_text(f": {words}") if words not in ("", "0") else ""}</p>\n'
        if isinstance(answer, Journey):
            yield f"<pre>{page_text(str(answer))}</pre>\n{_figure(answer.picture(width=NARROW))}"
        return
    yield f'<p class="answer">✗ refused: {page_text(_met(step))}</p>\n'
    if not isinstance(refused, VfioError):
        return
    yield "<dl>\n"
    for name, said in (("The rule is in", refused.source), ("What to try", refused.fix)):
        yield f"<dt>{name}</dt><dd>{page_text(said)}</dd>\n" if said else ""
    yield "</dl>\n"
    if refused.checks:
        rows = "".join(
            f'<li class="{state.replace(" ", "-")}">{page_text(f"{text}: {MARKS[state]}")}</li>' for text, state in refused.checks
        )
        head = f"{count(len(refused.checks), 'check')}, in the kernel's order"
        yield f'<details><summary>{head}</summary><ol class="checks">{rows}</ol></details>\n'


def _met(step: Step) -> str:
    return str(step.refused) if isinstance(step.refused, VfioError) else f"{step.reason}: {step.refused}"


def _picture(there: Walked) -> str:
    """Return the picture of the space that the last step changed, or was refused to change."""
    calls = there.host.log.calls[slice(*there.steps[-1].calls)]
    for names, draw in ((MAPS, iova_map), (CHAINS, chain)):
        for call in reversed(calls):
            space = next((space for space in there.spaces.values() if call.verb in names and _is_about(call, space)), None)
            if space is not None:
                return _figure(draw(space.container, log=there.host.log, width=NARROW))
    return ""


def _is_about(call: Call, space: AddressSpace) -> bool:
    fd = call.args["container"] if call.verb == "set_container" else call.target
    return space.process.name == call.process and (fd == f"fd{space.container.fd}" or call.verb == "unset_container")


def _figure(picture: Picture) -> str:
    return f"{figure_html(picture)}\n"


def _trace(session: Walked) -> Iterator[str]:
    yield "<h2>The session as a file</h2>\n"
    yield '<p>Saved as <code>session.vfiolab</code>, it opens again: <code>vl.open_session("session.vfiolab")</code>.</p>\n'
    yield f"<details><summary>The file</summary><pre>{page_text(session_text(session))}</pre></details>\n"
