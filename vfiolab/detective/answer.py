"""What a line or a log comes to: which check refused, why here, what to try; or what it cannot tell, and what decides."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from vfiolab._text import folded, page_text, plain
from vfiolab.detective.families import Found, families, rows
from vfiolab.detective.mapcall import Explanation, a_device, loaded, suspects
from vfiolab.detective.messages import Message, messages
from vfiolab.model.errors import Refusal
from vfiolab.readers.lines import lines_of, read_text
from vfiolab.readers.qemu import parse_dma_map_error

__all__ = ["Answer", "Log", "explain"]

#: What `--json` prints of a line, in this order.
KEYS = ("line", "kind", "question", "cause", "source", "fix", "candidates", "experiment")
A_DEVICE = re.compile(r"(?<![\w:.])(?:[0-9a-fA-F]{4}:)?[0-9a-fA-F]{2}:[01][0-9a-fA-F]\.[0-7](?![\w.])")
READ = re.compile(r"\d+\.\d+|recorded|this model")
WORD = re.compile(r"[a-z]{3,}")
FIELD = re.compile(r"\{(\w+)\}")


class Asked(NamedTuple):
    """Whose machine: a name or a path that `vl.load` takes, a kernel, and devices; all may be left open."""

    machine: str | None = None
    kernel: str | None = None
    devices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a line means. `kind`: its family's id, None if it is not known; `cause`: None where the line alone cannot tell.

    `question`: its number in notebooks/questions.md. `candidates`: causes that fit, each with what decides. `experiment`: Python that runs
    as it is and meets the same errno. `what`: what happened; `withheld`: why no cause is given; `not_help`: what people try in vain;
    `role`: cause, symptom (an event that follows a cause), echo (repeats another's error) or note (no error); `model`: what the model said.
    """

    line: str
    kind: str | None = None
    question: int | None = None
    cause: str | None = None
    source: str = ""
    fix: tuple[str, ...] = ()
    candidates: tuple[dict[str, str], ...] = ()
    experiment: str | None = None
    what: str = ""
    withheld: str = ""
    not_help: tuple[str, ...] = ()
    role: str = "cause"
    model: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the object that `vfiolab explain --json` prints."""
        values = {name: getattr(self, name) for name in KEYS}
        return values | {"fix": list(self.fix), "candidates": [dict(one) for one in self.candidates]}

    def json(self) -> str:
        """Return `as_dict` as text."""
        return json.dumps(self.as_dict(), ensure_ascii=False, indent=2)

    @property
    def nearest(self) -> tuple[str, str]:
        """The kind whose example shares most words with the line, and that example; two empty texts if none shares any."""
        own = set(WORD.findall(self.line.lower()))
        shared = {("", ""): (0, 0.0)}
        for family in families():
            for example in family.data["examples"]:
                words = set(WORD.findall(example["line"].lower()))
                shared[family.id, example["line"]] = len(own & words), len(own & words) / (len(own | words) or 1)
        return max(shared, key=shared.__getitem__)

    def __repr__(self) -> str:
        return f"Answer({self.kind!r}, question {self.question}, {plain(self.cause or self.withheld or 'not known')!r})"

    def __str__(self) -> str:
        return plain("\n".join(self._lines()), keep="\n")

    def _lines(self) -> Iterator[str]:
        if self.kind is None:
            yield from self._unknown()
            return
        yield self.what
        if self.cause:
            yield f"Cause: {self.cause}"
        if self.withheld:
            yield f"Not certain: {self.withheld}"
        for part in filter(None, self.source.split("; ")):  # a part without a version was not looked up: data/lines/README.md
            yield f"Check: {part}" if READ.search(part) else f"Where to look (a pointer, not a reading): {part}"
        for heading, items in (("What to try:", self.fix), ("What is often tried and does not help:", self.not_help)):
            if items:
                yield from ("", heading, *(f"  - {item}" for item in items))
        if self.candidates:
            yield from ("", "It could also be:" if self.cause else "It could be:")
            for one in self.candidates:
                yield from (f"  - {one['cause']}", f"    what decides: {one['decides']}")
        if self.model:
            yield from ("", self.model)
        if self.experiment and self.experiment.splitlines()[-1] not in self.model:
            yield from ("", "Try it:", *(f"  {line}" for line in self.experiment.splitlines()))
        if self.question:
            yield from ("", f"This is question {self.question} of notebooks/questions.md.")

    def _unknown(self) -> Iterator[str]:
        kind, example = self.nearest
        yield f"This line is not known: {self.line}"
        if kind:
            yield f"The nearest kind is {kind}, such as: {example}"
        yield "Give the whole line as it was printed, or the log around it."

    def _repr_html_(self) -> str:
        return f"{folded('an explanation')}<pre>{page_text(str(self))}</pre>"


@dataclass(frozen=True, slots=True, repr=False)
class Log:
    """The lines of a log that matter, in order; notes only where there is nothing else.

    `cause`: which of them is the cause, None if none is; `numbers`: their line numbers; `read`: how many lines the log has.
    """

    lines: tuple[Answer, ...]
    cause: int | None
    numbers: tuple[int, ...]
    read: int

    def as_dict(self) -> dict[str, Any]:
        """Return the object that `vfiolab explain --json` prints."""
        return {"lines": [one.as_dict() for one in self.lines], "cause": self.cause}

    def json(self) -> str:
        """Return `as_dict` as text."""
        return json.dumps(self.as_dict(), ensure_ascii=False, indent=2)

    def __repr__(self) -> str:
        return f"Log({self.read} lines, {len(self.lines)} known, cause {None if self.cause is None else self.lines[self.cause].kind!r})"

    def __str__(self) -> str:
        told = Counter((one.kind, one.role) for one in self.lines)
        seen: set[str | None] = set()
        out = [f"{len(self.lines)} of {self.read} lines are known:"]
        for place, one in enumerate(self.lines):
            mark = "the cause" if place == self.cause else one.role if one.role != "cause" else "an error"
            if place == self.cause or one.kind not in seen:
                seen.add(one.kind)
                count = told[one.kind, one.role]
                times = f", {count} lines of this kind" if count > 1 else ""
                out.append(f"  line {self.numbers[place]} ({mark}{times}): {plain(one.line.strip()):.160}")
        if self.cause is not None:
            out += ["", str(self.lines[self.cause])]
        return "\n".join(out)

    def _repr_html_(self) -> str:
        return f"{folded('an explanation')}<pre>{page_text(str(self))}</pre>"


def explain(text: str | Path, machine: str | None = None, kernel: str | None = None, devices: Sequence[str] = ()) -> Answer | Log:
    """Explain an error line, or the lines of a log that matter (a text of several lines, or a Path), and say which is the cause.

    With a machine, a kernel or devices the model is asked on them. ValueError if the machine, the kernel or a device is not there; a line
    that is not known has `kind` None.

    >>> found = explain("EAL: Cannot open /dev/vfio/151: Device or resource busy")
    >>> found.kind, found.question
    ('open-group', 9)
    >>> print(found.cause)
    /dev/vfio/151 is open already: another process has it, or this one opened it twice. A group has one user.
    >>> explain("something else").kind is None
    True
    """
    asked = Asked(machine, kernel, tuple(devices))
    if machine is not None or kernel is not None:
        loaded(machine or "intel-vtd-39bit", kernel)
    lines = lines_of(read_text(text) if isinstance(text, Path) else text)
    found = list(messages(lines))
    if sum(bool(line.strip()) for line in lines) <= 1:
        line = next((line for line in lines if line.strip()), "")
        return _line(found[0], asked) if found else Answer(line=line)
    found = [message for message in found if any(one.family.role != "note" for one in message.found)] or found
    answers = [_line(message, asked) for message in found]
    return Log(tuple(answers), _cause(answers), tuple(message.number for message in found), len(lines))


def _cause(answers: Sequence[Answer]) -> int | None:
    """Return the first error, or the line that says why the kernel gave it; else the first event that follows a cause."""
    explains = {family.id: family.data.get("explains", ()) for family in families()}
    for role in ("cause", "symptom"):
        places = [place for place, one in enumerate(answers) if one.role == role]
        if places:
            first = answers[places[0]].kind
            return next((place for place in places if first in explains[answers[place].kind or ""]), places[0])
    return None


def _line(message: Message, asked: Asked) -> Answer:
    """Explain what stands in one message; of several errors in it the last is the one that the others wrap."""
    best = max(message.found, key=lambda one: (one.family.role != "echo", one.family.role != "note", one.span))
    return replace(_found(message.text, best, asked), line=message.text)


def _found(text: str, found: Found, asked: Asked) -> Answer:
    data, fields = found.family.data, dict(found.fields)
    if named := A_DEVICE.findall(text):
        fields.setdefault("device", named[-1])
    if "iova" in fields and "size" in fields:
        fields.setdefault("class", _class(int(fields["iova"], 16), int(fields["size"], 16)))
    start = Answer(line=text, kind=found.family.id, what=_fill(data["what"], fields), role=found.family.role)
    if found.clash:
        return _clashing(start, found)
    if data.get("model") == "map":
        return _mapped(start, text[slice(*found.span)], text, found, asked)
    known = list(rows(found.family, fields))
    if not known and (data.get("call") or data.get("case")):
        said = " ".join(f"{name} {value}" for name, value in fields.items() if name in {"error", "reason", "verb", "index"})
        decides = "run it under `strace -f -e trace=ioctl,openat,read,write` and look `dmesg` up at that second"
        why = f"no kernel that was read answers {said} here"
        other = {"cause": "another call failed, or its errno was lost on the way", "decides": decides}
        return replace(start, withheld=why, candidates=(other,))
    return _filled(start, {**data, **(known[0] if known else {})}, fields, asked)


def _class(iova: int, size: int) -> str:
    """Name what the numbers of a range show by themselves: that it ends at 2^64, or is not made of pages; nothing if neither."""
    return "alignment" if (iova | size) % 4096 else "top" if iova + size == 1 << 64 else ""


def _clashing(start: Answer, found: Found) -> Answer:
    """Withhold the cause of a line whose number and text name two errors, and say what each of them would mean."""
    candidates = []
    for reading in found.clash:
        row: dict[str, Any] = next(rows(found.family, {**found.fields, "error": reading}), {})
        cause = row.get("cause") or "; or ".join(one["cause"] for one in row.get("candidates", ())) or "what that stands for"
        candidates.append({"cause": f"{reading}: {_fill(cause, found.fields)}", "decides": "copy the line again from where it was printed"})
    why = f"the line contradicts itself: {' against '.join(found.clash)}. It was changed, or its program prints another error."
    return replace(start, withheld=why, candidates=tuple(candidates))


def _fill(text: str, fields: Mapping[str, str]) -> str:
    return FIELD.sub(lambda match: fields.get(match[1], match[0]), text)


def _filled(start: Answer, row: Mapping[str, Any], fields: Mapping[str, str], asked: Asked) -> Answer:
    """Fill a row of the data with a line's fields."""
    experiment, model = _experiment(row, fields, asked)
    candidates = tuple({name: _fill(one[name], fields) for name in ("cause", "decides")} for one in row.get("candidates", ()))
    cause = _fill(row["cause"], fields) if row.get("cause") else None
    return replace(
        start, question=row.get("question"), cause=cause, source=_fill(row.get("source", ""), fields),
        fix=tuple(_fill(one, fields) for one in row.get("fix", ())), candidates=candidates, not_help=tuple(row.get("not_help", ())),
        withheld="" if cause or start.role != "cause" else "the line alone does not tell", experiment=experiment, model=model,
    )  # fmt: skip


def _experiment(row: Mapping[str, Any], fields: Mapping[str, str], asked: Asked) -> tuple[str | None, str]:
    """Return a row's experiment on the machine that was asked, else on its own, and what it answers on the one that was asked."""
    text = row.get("experiment")
    if text is None or any(re.fullmatch(r"[\w:.-]{1,64}", fields.get(name, "0")) is None for name in FIELD.findall(text)):
        return None, ""
    name: str = asked.machine or row.get("machine", "intel-vtd-39bit")
    kernel: str | None = asked.kernel or (None if asked.machine else row.get("kernel", "6.12"))
    host = f"vl.load({json.dumps(name, ensure_ascii=False)}{f', kernel={json.dumps(kernel)}' if kernel else ''})"
    device = row.get("device", "0000:01:00.0")
    if asked.machine:
        device = a_device(loaded(name, kernel), (*asked.devices, *filter(None, (fields.get("device"),))), must=bool(asked.devices))
    experiment = "import vfiolab as vl\n" + _fill(text, {**fields, "host": host, "device": device}).strip()
    if not asked.machine or "{host}" not in text:
        return experiment, ""
    try:
        exec(experiment, {})  # noqa: S102 - the text is the data's own; of a line only words of letters, digits, : . - are in it
        said = "nothing is refused"
    except Refusal as refused:
        said = str(refused)
    return experiment, f"The model, on {name}, kernel {loaded(name, kernel).kernel}, with {device}: {said}."


@lru_cache(maxsize=4096)
def _suspects(line: str, program: str, asked: Asked) -> tuple[list[Any], list[Explanation]]:
    error = parse_dma_map_error(line)
    assert error is not None, "the pattern of a family with a model is what this reads"  # noqa: S101
    return suspects(error, program, *asked)


def _mapped(start: Answer, line: str, text: str, found: Found, asked: Asked) -> Answer:
    """Let the numbers of a map call decide: the model makes the call again."""
    program = " ".join(re.findall(r"qemu-system-\w+|virt\.ram|pc\.ram|kvm(?=:)", text))
    kinds, tried = _suspects(line, program, asked)
    shown = next((one for one in tried if kinds and kinds[0].kind in dict(one.kinds)), tried[0])
    model = [str(shown)] if len(kinds) == 1 else []
    others = [f"  {one.summary}" for one in tried if one is not shown or not model]
    if others:
        model += ["", f"On {'other ' if model else ''}machines{'' if asked.machine else ' (name yours with --machine)'}:", *others]
    doubts = [doubt for doubt in shown.host.doubts if "INTx" not in doubt]  # a map knows no interrupts
    model += ["", "Uncertain:", *(f"  - {doubt}" for doubt in doubts)] if doubts else []
    start = replace(start, what=f"{shown.headline}. {start.what}")
    told: list[tuple[Answer, str]] = []
    for one in kinds or [None]:
        fields = {**found.fields, "class": one.kind if one else "", "why": one.why if one else ""}
        row = next(iter(rows(found.family, fields)), {})
        answer = _filled(start, row, fields, asked)
        told.append((replace(answer, experiment=(one and one.experiment) or answer.experiment), row.get("decides", "")))
    first = replace(told[0][0], model="\n".join(model).strip())
    if len(told) == 1:
        return first
    candidates = tuple({"cause": one.cause or "", "decides": decides} for one, decides in told)
    fixes = dict.fromkeys(item for one, _ in told for item in one.fix)
    source = "; ".join(dict.fromkeys(one.source for one, _ in told))
    why = "the line's numbers fit more than one cause"
    return replace(first, cause=None, withheld=why, candidates=candidates, fix=tuple(fixes), source=source)
