"""A machine by its name or from a file, whatever it is: one rule for `vl.load` and for every command.

The readers of other formats than machine files are imported where one is met: importing them all takes half as long as importing the model.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vfiolab._paths import data_dir, machine_path
from vfiolab.model.machine import Machine
from vfiolab.readers.errors import InputError
from vfiolab.readers.lines import read_text
from vfiolab.readers.machinefile import read_machine


def machine_names() -> list[str]:
    """List the machines that come with the kit."""
    return sorted(path.stem for path in (data_dir() / "machines").glob("*.json"))


def find(word: str | Path, tell: Callable[[str], None]) -> Path:
    """Return the file or folder that a word stands for, as `machine_path` says; `tell` hears of a choice.

    InputError if there is no such file, or it cannot be looked at.
    """
    path, said = machine_path(word)
    if said:
        tell(said)
    try:
        path.stat()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        shown = str(word) if len(str(word)) <= 200 else f"{str(word)[:200]}..."
        if isinstance(error, PermissionError):
            raise InputError(f"cannot be read: {error.strerror}", where=shown) from error
        from difflib import get_close_matches

        names = machine_names()
        alike = get_close_matches(shown, names, n=3)
        advice = f"did you mean {' or '.join(alike)}?" if alike else f"machines: {', '.join(names)}"
        raise InputError("no such file or folder", where=shown, advice=f"no machine and no file is called {shown!r}; {advice}") from error
    return path


def open_machine(word: str | Path, tell: Callable[[str], None] = lambda _: None) -> Machine:
    """Read a machine: one of the kit by name, a machine file, lspci text, a sysfs tree. InputError says what is wrong with it, and where.

    >>> open_machine("two-smmu-server")
    Machine('two-smmu-server', 16 functions, 2 IOMMU units)
    """
    path = find(word, tell)
    if path.is_dir() or not _begins_as_text(path):
        from vfiolab.readers.sysfs import read_sysfs
        from vfiolab.readers.tree import is_tar

        if path.is_dir() or is_tar(path):
            return read_sysfs(path).machine(path.stem)
    return machine_of(read_text(path), source=str(path), name=path.stem)


def _begins_as_text(path: Path) -> bool:
    """Say whether a file begins as no archive does: with ASCII, without a NUL. True too for what is no file or cannot be read."""
    try:
        if not path.is_file():  # a pipe would be waited for
            return True
        with path.open("rb") as raw:
            begins = raw.read(512)
    except OSError:
        return True
    return begins.isascii() and b"\0" not in begins


def machine_of(text: str, *, source: str, name: str) -> Machine:
    """Read a machine from the text of a machine file, or from lspci text. InputError as `open_machine`."""
    if text.lstrip()[:1] == "{":
        return read_machine(text, source=source)
    from vfiolab.readers.pcifile import read_pci_text

    return read_pci_text(text, source=source).machine(name)
