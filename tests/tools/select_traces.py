"""Choose what of a folder of recordings is kept in data/traces.

    python tests/tools/select_traces.py RECORDINGS data/traces

RECORDINGS holds a folder for each environment: `machine.json` and `NAME.trace`; and in `more/` a file for each kernel, `multi-V.txt`, with
scenarios of several processes on the machine of `intel-V-hand` (kept whole, in place of that environment's own trace). The rule, for each
environment by itself: a scenario is kept if it shows an answer that no kept one shows (the word, which arguments, the errno or value, the
kinds of events below); then more are added in their order until BUDGET bytes are reached. JSON that no comparison looks at is left out,
and so is the JSON of refused calls that hold nothing; operations and answers stay as they were.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from vfiolab.replay import CAPABILITY_FIELDS, COMPARED, ONLY_ON_SUCCESS

BUDGET = 60_000
DIED = re.compile(r"   DIED here: \['(.*?)'(?:,|\])")
PROCESS = re.compile(r"^\w+: ")
ANSWER = re.compile(r" -> (\S+)(?: (.*))?$")


def shortened(line: str) -> str:
    """Return a line of a trace without the JSON that is never compared."""
    match = ANSWER.search(line)
    if line.startswith((" ", "#")) or match is None or not match[2]:
        return line
    verb, result = PROCESS.sub("", line).split(maxsplit=1)[0], match[1]
    if not match[2].startswith("{"):
        return line if result != "skipped" else line[: match.start()] + " -> skipped"
    if result in ("skipped", "crash"):
        return line
    output = json.loads(match[2])
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
            died = DIED.match(line)
            out[-1].append(f"# the recorded kernel stopped here: {died[1]}" if died else shortened(line.rstrip()))
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


def environments(recordings: Path) -> Iterator[tuple[str, str, str, bool]]:
    """Yield the name, the machine file and the trace of each environment, and whether all of it is kept."""
    several = {path.stem.removeprefix("multi-"): path for path in sorted((recordings / "more").glob("multi-*.txt"))}
    for file in sorted(recordings.glob("*/machine.json")):
        name = file.parent.name
        if name.removeprefix("intel-").removesuffix("-hand") not in several:
            yield name, file.read_text(), file.with_name(f"{name}.trace").read_text(), False
    for version, path in several.items():
        text = (recordings / f"intel-{version}-hand" / "machine.json").read_text()
        yield f"multi-{version}", text.replace(f'"intel-{version}-hand"', f'"multi-{version}"'), path.read_text(), True


def main(recordings: Path, target: Path) -> None:
    """Write the selection."""
    total = 0
    for name, one, trace, whole in environments(recordings):
        every = scenarios(trace)
        kept = every if whole else chosen(every)
        folder = target / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "machine.json").write_text(machine(one, name))
        (folder / f"{name}.trace").write_text("\n\n".join("\n".join(lines) for lines in kept) + "\n")
        size = sum(path.stat().st_size for path in folder.iterdir())
        total += size
        print(f"{name}: {len(kept)} scenarios, {size} bytes")
    print(f"{total} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
