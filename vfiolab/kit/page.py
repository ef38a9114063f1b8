"""A session as one HTML page: it needs no script and nothing from anywhere, is read by ear too, and prints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from vfiolab._paths import data_dir
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


class Walked(Kept, Protocol):
    """A session whose steps can be taken anew."""

    spaces: dict[str, AddressSpace]

    def again(self) -> Iterator[Walked]:
        """Yield a fresh session after each of the steps."""


def to_page(session: Walked) -> str:
    """Return a session as a page: what came of it, how it ends in pictures, each step with its answer, and the file to open again.

    Up to 60 steps, each that changes a space has a picture of its own.
    """
    head = (data_dir() / "templates" / "session.html").read_text(encoding="utf-8")
    title = f"{session.name} on {session.host.machine.name}"
    parts = [head.replace("{title}", page_text(title)), *_top(session), *_end(session), *_steps(session), *_trace(session)]
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
        words = ""
        if isinstance(answer, Journey):
            words = answer.outcome
        elif step.done:
            words = step.done.result
        elif answer is not None and not isinstance(answer, AddressSpace):
            words = repr(answer)
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
