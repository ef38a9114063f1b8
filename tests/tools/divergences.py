"""Replay every recorded kernel of data/traces and write what came out into the README's table.

python tests/tools/divergences.py            # rewrite the table
python tests/tools/divergences.py --check    # write nothing; exit 1 if the table is stale
"""

from __future__ import annotations

import sys
from pathlib import Path

from vfiolab.client import run
from vfiolab.readers.machinefile import read_machine_file
from vfiolab.readers.trace import questions, read_trace_file
from vfiolab.replay import compare

ROOT = Path(__file__).resolve().parents[2]
TRACES = ROOT / "data" / "traces"
README = ROOT / "README.md"
BEGIN, END = "<!-- table of recorded kernels: begin -->\n", "<!-- table of recorded kernels: end -->\n"
KINDS = {"intel-vtd": "Intel VT-d", "amd-vi": "AMD-Vi", "virtio-iommu": "virtio-iommu", "arm-smmu-v3": "Arm SMMUv3"}


def table(traces: Path = TRACES) -> str:
    """Return the table: a row for each environment, and the sum."""
    rows = ["| environment | Linux | IOMMU | scenarios | operations | divergences |", "| --- | --- | --- | ---: | ---: | ---: |"]
    total = [0, 0, 0]
    for trace in sorted(traces.glob("*/*.trace")):
        machine = read_machine_file(trace.with_name("machine.json"))
        scenarios = read_trace_file(trace)
        report = compare(scenarios, run(questions(scenarios), machine), machine)
        kind = f"{len(machine.units)} × {KINDS[machine.units[0].kind]}" if machine.units else "none (no-IOMMU)"
        units = kind + (", iommufd" if machine.vfio != "type1" else "")
        numbers = [report.scenarios, report.operations, len(report.divergences)]
        total = [a + b for a, b in zip(total, numbers, strict=True)]
        rows.append(
            f"| {trace.parent.name} | {machine.host().kernel} | {units} | " + " | ".join(f"{number:,}" for number in numbers) + " |"
        )
    rows.append("| **all** | | | " + " | ".join(f"**{number:,}**" for number in total) + " |")
    return "\n".join(rows) + "\n"


def main(arguments: list[str]) -> int:
    """Rewrite or check the README's table."""
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    old, _, after = rest.partition(END)
    new = f"\n{table()}\n"
    if "--check" in arguments:
        if new != old:
            sys.stdout.write("README.md: the table of recorded kernels is stale; run python tests/tools/divergences.py\n")
        return int(new != old)
    README.write_text(before + BEGIN + new + END + after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
