"""Captures for the notebooks: what real machines printed, found in `data/captures`."""

from __future__ import annotations

import json
import re
from pathlib import Path

from vfiolab._paths import data_dir
from vfiolab.draw.transcript import Transcript
from vfiolab.kit import Table
from vfiolab.model.address import Span, hexa
from vfiolab.readers.trace import Scenario, read_trace_file

__all__ = ["capture", "real_regions", "recorded_calls", "recorded_messages"]


def capture(name: str) -> Path:
    """Return the path of a capture; ValueError lists those there are.

    >>> capture("qemu-listener-x86.txt").name
    'qemu-listener-x86.txt'
    """
    folder = data_dir() / "captures"
    names = sorted(path.name for path in folder.iterdir() if path.name != "README.md")
    if name not in names:
        raise ValueError(f"no capture is called {name!r}; captures: {', '.join(names)}")
    return folder / name


def _scenario(name: str, scenario: str) -> Scenario:
    found = {one.name: one for one in read_trace_file(capture(name))}
    if scenario not in found:
        raise ValueError(f"{name} has no scenario {scenario!r}; scenarios: {', '.join(found)}")
    return found[scenario]


def recorded_calls(name: str, scenario: str, *verbs: str) -> Transcript:
    """Return what a recorded kernel did: each call of these verbs (all by default) with its answer, its events indented below.

    Long numbers are written for reading.

    >>> print(recorded_calls("messages-its-6.12.trace", "msi", "set_container"))
    set_container G A -> 0
        claim 8
    """
    one = _scenario(name, scenario)
    lines = []
    for operation, answer in zip(one.operations, one.answers, strict=True):
        if answer is not None and (not verbs or operation.verb in verbs):
            lines += [f"{operation.text} -> {answer.result}", *(f"    {event}" for event in answer.events)]
    return Transcript(re.sub(r"\b0x[0-9a-f]+", lambda found: hexa(int(found[0], 16)), "\n".join(lines)))


def recorded_messages(name: str, scenario: str) -> Table:
    """Return the messages that a recorded kernel had programmed into a device, each time it was looked at.

    >>> print(recorded_messages("messages-its-6.12.trace", "msi"))
    look  type  vector  address     data
    2     MSI   0       0x800_0040  0x0
    3     MSIX  0       0x800_0040  0x0
    3     MSIX  1       0x800_0040  0x1
    3     MSIX  2       0x800_0040  0x2
    """
    one = _scenario(name, scenario)
    looks = [answer for operation, answer in zip(one.operations, one.answers, strict=True) if operation.verb == "host_msi" and answer]
    rows = []
    for look, answer in enumerate(looks, 1):
        for cap in answer.output["caps"]:
            entries = cap["table"] if cap["cap"] == "MSIX" else [cap | {"ctl": 0}]
            live = [(n, entry) for n, entry in enumerate(entries) if cap["enabled"] and not entry["ctl"] & 1]
            rows += [(look, cap["cap"], n, hexa(entry["addr"]), hexa(entry["data"])) for n, entry in live]
    return Table(["look", "type", "vector", "address", "data"], rows)


def real_regions(ram: Span | None = None) -> Table:
    """Return the reserved regions that five real machines print; with a guest's `ram`, whether each stands in its way.

    A direct-relaxable region does not: VFIO leaves it out (5.3 and later).
    """
    columns = ["machine", "first", "last", "word", *(["in the way"] if ram else [])]
    rows = []
    for machine in json.loads(capture("reserved-regions.json").read_text(encoding="utf-8")):
        for first, last, word in machine["regions"]:
            span = Span.inclusive(int(first, 16), int(last, 16))
            row = [machine["machine"], hexa(span.start), hexa(span.last), word]
            if ram:
                row.append("yes" if span.overlaps(ram) and word != "direct-relaxable" else "no")
            rows.append(row)
    return Table(columns, rows)
