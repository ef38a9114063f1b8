"""A session written down: as a file to open again, and as Python. Nothing is carried out here."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Protocol

from vfiolab.kit.host import Host
from vfiolab.kit.steps import Asked, Step, boot_words, call, made_by
from vfiolab.readers.write import boot_lines, write_machine

__all__ = ["CALLS", "END", "FORM", "MACHINE", "STEP", "Kept", "save", "session_text", "to_python"]

FORM = "# vfiolab session 1"
STEP, CALLS, MACHINE, END = "# step ", "# calls", "#| ", "# the events of the end belong below the last line"


class Kept(Protocol):
    """What is written down of a session."""

    host: Host
    made: str
    name: str
    steps: list[Step]


def session_text(session: Kept, steps: int | None = None) -> str:
    """Return a session as the text of a file that `open_session` opens: a trace, with its steps, the kernel and the machine in comments.

    `steps`: only so many of the first.

    Every reader of traces takes it, too. What is undone is not kept.
    """
    _need_name(session.host)
    head = [FORM, *boot_lines(session.host)]
    body: list[str] = []
    bare = True
    for step in session.steps[:steps]:
        if isinstance(step.asked, Asked):
            body.append(f"{STEP}{step.code}")
            bare = False
        elif step.lines and not bare:
            body.append(CALLS)
            bare = True
        body += step.lines
    machine = (f"{MACHINE}{line}" for line in write_machine(session.host.machine).rstrip("\n").split("\n"))
    return "\n".join([*head, f"## {session.name}", *body, END, "status", "# the machine:", *machine, ""])


def _need_name(host: Host) -> None:
    if host.kernel.flips:
        raise ValueError("a kernel with a rule switched by hand has no name: such a session cannot be kept")


def to_python(session: Kept) -> str:
    """Return a program that gives the same state. All that comes from the session stands in it as text literals and numbers."""
    _need_name(session.host)
    lines = ["import vfiolab as vl", "", *_made(session)]
    calls: list[str] = []
    for step in session.steps:
        if isinstance(step.asked, Asked):
            lines += [*_replayed(calls), *_typed(step)]
            calls = []
        else:
            calls += [line.partition(" -> ")[0] for line in step.lines if line[:1] not in "# \t"]
        if step.found:
            lines += [*_replayed(calls), *(f"{name} = host.spaces[{place}]" for name, place in step.found.items())]
            calls = []
    return "\n".join([*lines, *_replayed(calls), ""])


def _made(session: Kept) -> list[str]:
    """Return the lines that boot the host: of the kit, of a machine file, or (without an IOMMU, which would be assumed) of a session."""
    host = session.host
    if made := session.made or made_by(host):
        return [made]
    if host.machine.units:
        words = call("", named=boot_words(host))[1:-1]
        return [f"machine = {_literal(write_machine(host.machine))}", f"host = vl.loads(machine, {words})"]
    return [f"host = vl.open_session({_literal(session_text(session, steps=0))}).host"]


def _typed(step: Step) -> Iterator[str]:
    """Yield the lines of one step; a refused one stands in a block that prints what it met."""
    if step.missing:
        yield f"# {step.code}: there is no such space at this step"
    elif step.refused is None:
        yield step.code
    else:
        kinds = ", ".join(["vl.Refusal", "ValueError", *["TypeError"] * isinstance(step.refused.__cause__, TypeError)])
        yield from (f"try:  # {step.reason}", f"    {step.code}", f"except ({kinds}) as refused:", "    print(refused)")


def _replayed(calls: list[str]) -> Iterator[str]:
    """Yield the lines that carry out bare calls; what is open already has the handles of the host's own trace."""
    if calls:
        yield f"host.replay({_literal(chr(10).join(['## calls', *calls]))}, resume=True)"


def _literal(text: str) -> str:
    """Return a text as adjacent literals, one a line."""
    return "".join(["(", *(f"\n    {line!a}" for line in text.splitlines(keepends=True)), "\n)"])


def save(path: Path, forms: Mapping[str, Callable[[], str]]) -> None:
    """Write what the ending of a file's name stands for: a new file takes its place when it is whole. ValueError for no such ending."""
    if path.suffix.lower() not in forms:
        *first, last = forms
        raise ValueError(f"a session is saved as {', '.join(first)} or {last}, not as {path.name!r}")
    text = forms[path.suffix.lower()]()
    with NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as file:
        try:
            file.write(text.encode(errors="backslashreplace"))
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).chmod(path.stat().st_mode if path.exists() else 0o644)
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
