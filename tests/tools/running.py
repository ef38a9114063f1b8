"""The page about `vfiolab run`: QEMU on machines that are not there, with what was printed.

    python tests/tools/running.py            # write notebooks/run.md and its picture; needs QEMU
    python tests/tools/running.py --check    # write nothing; exit 1 if the page is stale

What the page says was printed by the QEMU that it names: with another one it is not compared, and that is said.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.made import parser, store

import vfiolab as vl
from vfiolab._paths import notebooks_dir
from vfiolab.draw import Picture
from vfiolab.draw.stage.svg import to_svg
from vfiolab.run import run_program
from vfiolab.run.report import elsewhere, picture, trace_text

PAGE, PICTURE = "run.md", "pictures/run-qemu.svg"
QEMU = ["qemu-system-x86_64", "-nographic", "-nodefaults", "-monitor", "none", "-S"]
VADDR = re.compile(r"(vaddr=|dma_map\()0x[0-9a-f_]+|(, )0x7[0-9a-f_]{9,}")
#: Calls that tell the story; the others are counted.
TELLING = re.compile(r"open\(|close\(|ioctl\(\d+, VFIO_(GROUP_|SET_IOMMU|IOMMU_|DEVICE_RESET)| {4}|qemu")


class Guest(NamedTuple):
    """A run: the machine, the device, what is set first, how much memory the guest gets, and the words for all that in the table."""

    machine: str
    device: str = "0000:01:00.0"
    memory: int = 256
    params: tuple[tuple[str, str], ...] = ()
    words: str = ""

    @property
    def command(self) -> list[str]:
        """QEMU's command line."""
        return [*QEMU, "-m", str(self.memory), "-device", f"vfio-pci,host={self.device}"]


UNSAFE = (("vfio_iommu_type1.allow_unsafe_interrupts", "Y"),)
GUESTS = (
    Guest("intel-vtd-39bit"),
    Guest("intel-vtd-39bit", "0000:05:00.0", words="a device whose group is shared with one that the host uses"),
    Guest("amd-vi-server"),
    Guest("two-smmu-server", memory=64, words="64 MiB of RAM"),
    Guest("two-smmu-server", words="256 MiB of RAM"),
    Guest("virtio-iommu-guest"),
    Guest("virtio-iommu-guest", params=UNSAFE, words="`allow_unsafe_interrupts=Y`"),
    Guest("intel-vtd-kernel-4.4"),
    Guest("intel-vtd-iommufd"),
)


class Ran(NamedTuple):
    """What a run came to: all that was printed, what QEMU ended with, its host and its trace."""

    lines: list[str]
    status: int
    trace: str
    drawn: Picture


@cache
def ran(guest: Guest) -> Ran:
    """Run QEMU until it is ended after it has started, or ends by itself."""
    host = vl.load(guest.machine)
    for name, value in guest.params:
        host.set_param(name, value)
    host.bind(guest.device)
    with tempfile.TemporaryFile() as said:
        kept, lines, told = os.dup(2), list[str](), 0

        def tell(more: list[str]) -> None:
            nonlocal told
            lines.extend(more)

        os.dup2(said.fileno(), 2)
        try:
            outcome = run_program(host, guest.command, tell=tell, keep=True, seconds=12)
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        said.seek(0)
        lines += [f"qemu: {line.partition(': ')[2]}" for line in said.read().decode().splitlines() if line.startswith("qemu")]
    return Ran([VADDR.sub(r"\1\2…", line) for line in lines], outcome.status, trace_text(host, "qemu"), picture(host))


def refused(found: Ran) -> list[str]:
    """Return the lines of the first call that was refused, with the reason below it; empty if none was but a probe."""
    for at, line in enumerate(found.lines):
        if " = -1 E" in line and "GET_IRQ_INFO" not in line:
            return [line, *(more for more in found.lines[at + 1 : at + 4] if more.startswith("    "))]
    return []


def told(found: Ran) -> str:
    """Return the story's lines in a block; what is left out is counted."""
    shown, left = [], 0
    for line in found.lines:
        if TELLING.match(line):
            shown += [f"    … {left} more calls"] * bool(left)
            shown.append(line)
            left = 0
        else:
            left += 1
    return "```\n" + "\n".join(shown) + "\n```"


def table() -> str:
    """Return what became of each run."""
    lines = ["| machine | with | QEMU | the call, and why |", "|---|---|---|---|"]
    for guest in GUESTS:
        found = ran(guest)
        first, own = refused(found), [line for line in found.lines if line.startswith("qemu: ")]
        why = f"`{first[0].strip()}`: {first[1].strip()}" if first else own[0].removeprefix("qemu: ") if own else ""
        lines.append(
            f"| `{guest.machine}` | {guest.words or '-'} | {'ends' if first or own else 'runs'} | {why.replace('|', ' or ') or '-'} |"
        )
    return "\n".join(lines)


def everywhere() -> str:
    """Return where the first run's calls would fail on the kit's machines and kernels."""
    lines = ["| machine | kernels | the first call that fails | why |", "|---|---|---|---|"]
    for row in elsewhere(ran(GUESTS[0]).trace):
        kernels = row.kernels[0] if len(row.kernels) == 1 else f"{row.kernels[0]} to {row.kernels[-1]}"
        call = VADDR.sub(r"\1\2…", row.call).replace("|", " or ")
        lines.append(f"| `{row.machine}` | {kernels} | {f'`{call}`' if call else 'none'} | {row.why or '-'} |")
    return "\n".join(lines)


def driver(*words: str) -> str:
    """Run the learner's driver, and return the command with what was printed."""
    command = ["vfiolab", "run", "--machine", "intel-vtd-39bit", "--kernel", "6.12", "--edu", "01:00.0", "--quiet", "--"]
    asked = ["python", "driver.py", "0000:01:00.0", *words]
    run = [sys.executable, "-m", *command, sys.executable, *asked[1:]]
    said = subprocess.run(run, cwd=notebooks_dir(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False).stdout
    return f"```\n{' '.join([*command, *asked])}\n\n{said}```"


def version() -> str:
    """Return which QEMU is here."""
    said = subprocess.run([QEMU[0], "--version"], capture_output=True, text=True, check=True).stdout
    return re.search(r"version (\d+\.\d+)", said)[1]


def page() -> str:
    """Return the page."""
    first, window, unsafe = ran(GUESTS[0]), ran(GUESTS[4]), ran(GUESTS[5])
    return f"""\
# QEMU on a machine that you do not have

`vfiolab run` starts a program, unchanged, on a modelled machine. The program opens `/dev/vfio/vfio`, and the model answers: no root, no
IOMMU, no device. Where a call is refused, the lines below it say which check refused it, in which kernel function, and what to do. It needs
Linux 5.9 or later on x86-64. What follows was printed by QEMU {version()}, as a distribution ships it.

## A start

```
vfiolab run --machine intel-vtd-39bit --bind 0000:01:00.0 -- \\
    {" ".join(GUESTS[0].command)}
```

{told(first)}

QEMU waits before its guest's first instruction (`-S`), with the guest's RAM in the container. `--picture map.svg` draws what it had:

![{first.drawn.alt}]({PICTURE})

The device is there as far as the kernel's own answers go: its config space is made of the machine's facts, its registers are memory. A
driver that waits for the hardware to do something waits for ever. Where a BAR's size is not known, it is chosen by the device's class, and
the run says so.

## The same on other machines

{table()}

QEMU's PC has RAM where Linux keeps its window for interrupts behind an SMMU. (Its own Arm board has none there: RAM begins at 1 GiB.)
The call, the model's three lines, then QEMU's:

{excerpt(window)}

And what most people meet first, in a guest with a virtual IOMMU:

{excerpt(unsafe)}

DPDK's testpmd (22.11, run by hand on three machines, and compared by no test) opens the device, maps its memory, reads regions and
interrupts. Then its driver waits for the card to come out of its reset, and gives up: registers that are memory do nothing. In the guest
with a virtual IOMMU it asks for the types 1, 7 and 8, and hears EPERM, ENODEV and ENODEV.

## The same calls on all machines and kernels

`--on all` asks the first run's calls again, without QEMU, on every machine and kernel of the kit: which would fail first? Answers of the
device itself, such as its number of vectors, are left out: another device stands for it there.

{everywhere()}

`--trace run.trace` keeps a run with its machine: `vfiolab replay run.trace` carries it out again, and `vl.open_session("run.trace")`
opens it as steps.

## A driver of your own

[driver.py](driver.py) is a driver in user space, in plain Python. `--edu` puts a toy device in a device's place: it reads and writes the
program's memory through the container's iovas, and raises its interrupt. With `--broken` the driver gives it an iova that nobody mapped:

{driver("--broken")}

The program hears of it from the device; why it happened stands in the kernel's log, which `--dmesg FILE` keeps. Repaired:

{driver()}

## What it does not do

- It makes no real device work. Its answers are the kernel's, not the hardware's.
- Where the model has no answer, or the real kernel would die or wait for ever, it says so and ends the program; it never invents an errno.
- `/dev/iommu` and the devices' own nodes are there on a machine whose kernel has iommufd. What they answer is read in the source: no
  recording has them. A program that looks at a node's device numbers finds none.
- Only x86-64 was tried; the numbers of aarch64 are there, untested. Where seccomp's notifications are refused, it says so.
"""


def excerpt(found: Ran) -> str:
    """Return the refusal and the first line that QEMU made of it."""
    return told(found._replace(lines=[*refused(found), *[line for line in found.lines if line.startswith("qemu: ")][:1]]))


def main(argv: list[str] | None = None) -> int:
    check = parser(__doc__).parse_args(argv).check
    path = notebooks_dir() / PAGE
    stored = re.search(r"printed by QEMU ([\d.]+),", path.read_text(encoding="utf-8")) if path.is_file() else None
    if check and stored is not None and stored[1] != version():
        print(f"{PAGE}: made with QEMU {stored[1]}, and here is {version()}: not compared")
        return 0
    pages: dict[str, Callable[[], str]] = {PAGE: page, PICTURE: lambda: to_svg(ran(GUESTS[0]).drawn)}
    return store(pages, "running", check=check)


if __name__ == "__main__":
    sys.exit(main())
