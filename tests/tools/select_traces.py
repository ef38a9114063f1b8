"""Choose what of a folder of recordings is kept in data/traces.

    python tests/tools/select_traces.py RECORDINGS data/traces

RECORDINGS holds a folder for each environment: `machine.json` and `NAME.trace`. The rule, for each environment by itself: a scenario is
kept if it shows an answer that no kept one shows (the word, which arguments, the errno or value, the kinds of events below); then more are
added in their order until BUDGET bytes are reached. JSON that no comparison looks at is left out, and so is the JSON of refused calls that
hold nothing; operations and answers stay as they were.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from vfiolab.replay import CAPABILITY_FIELDS, COMPARED, ONLY_ON_SUCCESS

BUDGET = 60_000
ANSWER = re.compile(r" -> (\S+)(?: (.*))?$")


def shortened(line: str) -> str:
    """Return a line of a trace without the JSON that is never compared."""
    match = ANSWER.search(line)
    if line.startswith((" ", "#")) or match is None or not match[2]:
        return line
    verb, result, output = line.split(maxsplit=1)[0], match[1], json.loads(match[2])
    if result in ("skipped", "crash"):
        return line
    keep = COMPARED.get(verb, ()) if result == "0" or verb not in ONLY_ON_SUCCESS else ()
    output = {key: output[key] for key in keep if key in output}
    if "caps" in output:
        output["caps"] = [{key: cap[key] for key in CAPABILITY_FIELDS if key in cap} for cap in output["caps"]]
    words = json.dumps(output, separators=(",", ":"))
    return line[: match.start()] + f" -> {result}" + (f" {words}" if output else "")


def shown(lines: list[str]) -> set[str]:
    """Return the kinds of answers in a scenario."""
    kinds = set()
    for line in lines:
        words = line.split()
        if line.startswith(" "):
            kinds.add(f"{words[0]} {words[-1] if words[0] == 'attach' else ''}")
            continue
        match = ANSWER.search(line)
        if match is None:
            continue
        arguments = sorted(word.split("=")[0] for word in line[: match.start()].split()[1:] if "=" in word)
        special = sorted(word for word in words if word.startswith(("flags=", "type=", "ext=", "cmd=", "drv=", "prot=")))
        kinds.add(" ".join((words[0], *arguments, *special, match[1])))
    return kinds


def scenarios(text: str) -> list[list[str]]:
    """Split a trace at its scenarios."""
    out: list[list[str]] = []
    for line in text.splitlines():
        if line.startswith("## "):
            out.append([])
        if line.strip() and out:
            out[-1].append(shortened(line.rstrip()))
    return out


def chosen(every: list[list[str]]) -> list[list[str]]:
    """Apply the rule to one environment."""
    seen: set[str] = set()
    keep = []
    for number, lines in enumerate(every):
        if not shown(lines[1:]) <= seen:
            keep.append(number)
            seen |= shown(lines[1:])
    size = sum(sum(map(len, every[number])) for number in keep)
    for number, lines in enumerate(every):
        if number not in keep and size < BUDGET:
            keep.append(number)
            size += sum(map(len, lines))
    return [every[number] for number in sorted(keep)]


def machine(text: str, name: str) -> str:
    """Return the machine file with where it comes from."""
    kernel = json.loads(text)["kernel"]
    emulator = "QEMU 11.1" if "smmu2" in name else "QEMU 7.2"
    source = f'"source": "recorded for vfiolab on Linux {kernel} under {emulator}"'
    notes = [
        (
            "recorded: devices, drivers, groups, reserved regions, module parameters, and every answer in the trace,"
            f" by a client on {kernel} under {emulator} in software emulation"
        ),
        (
            "derived: aperture, page sizes, coherency and interrupt isolation of the units,"
            " from that kernel's own answers and its boot line, not read from registers"
        ),
    ]
    at = text.index('"kernel"')
    return text[:at] + f'{source},\n "notes": {json.dumps(notes)},\n ' + text[at:]


def main(recordings: Path, target: Path) -> None:
    """Write the selection."""
    total = 0
    for file in sorted(recordings.glob("*/machine.json")):
        name = file.parent.name
        kept = chosen(scenarios(file.with_name(f"{name}.trace").read_text()))
        folder = target / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "machine.json").write_text(machine(file.read_text(), name))
        (folder / f"{name}.trace").write_text("\n\n".join("\n".join(lines) for lines in kept) + "\n")
        size = sum(path.stat().st_size for path in folder.iterdir())
        total += size
        print(f"{name}: {len(kept)} scenarios, {size} bytes")
    print(f"{total} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
