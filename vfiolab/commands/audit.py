"""``vfiolab audit``: the groups of many machines, a row for each function."""

from __future__ import annotations

import argparse
from pathlib import Path

from vfiolab.commands import complain, examples, paint, progress, say
from vfiolab.commands.groups import add_options, asked

MOST_REASONS = 3


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the word ``audit`` and its options."""
    parser = subparsers.add_parser(
        "audit",
        help="compute the IOMMU groups of many machines, a row for each function",
        description="Compute the IOMMU groups of every machine below a folder: lspci listings, machine files, snapshots, sysfs trees."
        " A file that cannot be used is a row with its error.",
        **examples(
            "vfiolab audit inventory/                       only the summary",
            "vfiolab audit inventory/ -o fleet.csv          a row for each function; .jsonl and .parquet too",
            "vfiolab audit inventory/ -o new.csv --kernel 6.12     what another kernel would say",
            "vfiolab audit inventory/ -o fleet.parquet --dask tcp://scheduler:8786     on a cluster",
        ),
    )
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="where the files are; folders in it are searched too")
    parser.add_argument(
        "-o", "--out", metavar="FILE", type=Path,
        help="write the rows there (.csv, .jsonl, .parquet) when all is done, in the place of what is there; until then FILE.part keeps"
        " what is finished, and the same command goes on with it",
    )  # fmt: skip
    parser.add_argument(
        "--dask", metavar="ADDRESS", help="let the workers of this Dask scheduler compute; they need vfiolab, the files are sent to them"
    )
    add_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Carry the command out: 0 with every file answered for, also by an error. ValueError if nothing can be read or written."""
    from vfiolab.kit.fleet import audit

    def tell(done: int, total: int) -> None:
        progress(f"{done} of {total} files" if done < total else "")

    try:
        found = audit(arguments.folder, asked(arguments), arguments.out, dask=arguments.dask, tell=tell)
    except (ValueError, OSError) as error:
        progress("")
        raise ValueError(str(error)) from error
    except KeyboardInterrupt:
        progress("")
        kept = f"{arguments.out}.part keeps what is finished: the same command goes on with it"
        complain(f"stopped; {kept if arguments.out else 'nothing is kept without -o FILE'}")
        raise
    if found.kept:
        say(f"{found.kept} files were finished before, and have not changed")
    counts = ("machines", "functions", "groups", "alone", "shared", "refused", "errors")
    say(*(f"{paint(f'{getattr(found, name):>9,}', 'bold')}  {name}" for name in counts))
    titles = {"shared": "Why functions share a group", "refused": "What the kernel refuses", "errors": "Errors"}
    for kind, title in titles.items():
        if found.reasons[kind]:
            say("", f"{title}, the commonest first:")
            say(*(f"{count:>9,}  {reason}" for reason, count in found.reasons[kind].most_common(MOST_REASONS)))
    notes = (
        (found.nobodys, "functions are in groups of bridges and the host's own alone, which nobody hands over"),
        (found.warned, "machines with warnings, which `vfiolab groups FILE` shows"),
        (found.units_assumed, "machines do not show their IOMMUs: refusals that come from there (RMRR, interrupts) are not known of them"),
        (found.passed_over, "names passed over: they begin with a dot, or are links to folders"),
    )
    if any(number for number, _ in notes):
        say("", *(f"{number:>9,}  {text}" for number, text in notes if number))
    return 0
