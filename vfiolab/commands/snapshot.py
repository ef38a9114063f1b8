"""``vfiolab snapshot``: capture this machine's topology into one file for later use, or for showing it to others."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from vfiolab.commands import examples, say
from vfiolab.readers.snapshot import snapshot
from vfiolab.readers.sysfs import SYS


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the word ``snapshot``."""
    parser = subparsers.add_parser(
        "snapshot",
        help="capture this machine's PCI topology: no serial numbers, no MAC addresses, no host name",
        description="Write this machine's PCI topology and recorded IOMMU groups to one file. It holds no serial numbers, no MAC addresses"
        " and no host name. As root it is complete; open it later with 'vfiolab groups OUT'.",
        **examples(
            "sudo vfiolab snapshot machine.json", "vfiolab snapshot - --sysfs copy-of-sys.tar.xz", "vfiolab groups machine.json --check"
        ),
    )
    parser.add_argument("out", metavar="OUT", help="file to write, a machine file (JSON); '-' for standard output")
    parser.add_argument("--sysfs", default=str(SYS), metavar="TREE", help="sysfs tree to read instead of this machine's /sys")
    parser.add_argument("--force", action="store_true", help="write over an existing file")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command. ValueError if nothing could be captured or written."""
    machine = snapshot(Path(arguments.sysfs))
    text = json.dumps(machine, indent=1) + "\n"
    if arguments.out == "-":
        say(text.rstrip("\n"), wrap=False)
        return 0
    try:
        _write(Path(arguments.out), text, over=arguments.force)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        advice = " (--force writes over it)" if isinstance(error, FileExistsError) else ""
        raise ValueError(f"{arguments.out}: {getattr(error, 'strerror', None) or error}{advice}") from error
    grouped = f"{len(machine['groups'])} IOMMU groups" if machine["groups"] else "no IOMMU groups (no IOMMU in use)"
    say(f"{arguments.out}: {len(machine['devices'])} PCI functions, {grouped}", *(f"  note: {note}" for note in machine["notes"][3:]))
    return 0


def _write(path: Path, text: str, *, over: bool) -> None:
    """Write a new file; `over` puts it in the place of one that is there, of a link too and not through it."""
    if over and path.is_symlink():
        path.unlink()
    with path.open("w" if over else "x", encoding="utf-8") as file:
        file.write(text)
