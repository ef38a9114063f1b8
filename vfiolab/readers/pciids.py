"""Names of PCI vendors, devices and classes, both ways, from the pci.ids file that a package brings along.

The file is the PCI ID Project's, shipped by the package ``pypci-ng``; only its data is used, and it is
read when a name or an id is asked for. Without the package there are no names: callers say so. Names change from edition to
edition: ``data/pci-names.tsv`` has all that the devices with a rule in Linux ever had.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice, takewhile
from pathlib import Path

from vfiolab._paths import data_dir

_LONGEST_VENDOR = 24  # words: the longest name of a vendor has 17
_LINE = re.compile(r"(?:C (?P<base>[0-9a-fA-F]{2})|(?P<vendor>[0-9a-fA-F]{4})|\t(?P<one>[0-9a-fA-F]{2,4}))  (?P<name>.+)")


@dataclass(frozen=True, slots=True)
class PciIds:
    """The database: names by id, and ids by name."""

    version: str = ""
    vendors: dict[int, str] = field(default_factory=dict, repr=False)
    devices: dict[tuple[int, int], str] = field(default_factory=dict, repr=False)
    classes: dict[int, str] = field(default_factory=dict, repr=False)
    vendor_ids: dict[str, list[int]] = field(default_factory=dict, repr=False)
    device_ids: dict[int, dict[str, list[int]]] = field(default_factory=dict, repr=False)
    class_ids: dict[str, int] = field(default_factory=dict, repr=False)
    _ordered: dict[int, list[str]] = field(default_factory=dict, repr=False)

    def name(self, vendor: int | None, device: int | None) -> str:
        """Return "Vendor Device" as lspci writes it; hex where there is no name; "" without ids."""
        if vendor is None:
            return ""
        maker = self.vendors.get(vendor, f"Vendor {vendor:04x}")
        if device is None:
            return maker
        return f"{maker} {self.devices.get((vendor, device), f'Device {device:04x}')}"

    def class_name(self, class_code: int | None) -> str:
        """Return the name of a class (the upper 16 of 24 bits); "" if unknown."""
        return "" if class_code is None else self.classes.get(class_code >> 8, "")

    def title(self, class_code: int | None, vendor: int | None, device: int | None) -> str:
        """Return "Class: Vendor Device", as far as it is known."""
        return ": ".join(part for part in (self.class_name(class_code), self.name(vendor, device)) if part)

    def find_vendor(self, text: str) -> tuple[int, str] | None:
        """Split "Vendor Device" into the vendor's id and the rest.

        The longest vendor name wins; of vendors that share it, the one that has the device.
        """
        words = text.split(" ")
        for count in range(min(len(words), _LONGEST_VENDOR), 0, -1):
            found = self.vendor_ids.get(" ".join(words[:count]))
            if found is not None:
                rest = " ".join(words[count:])
                exact = (one for one in found if rest in self.device_ids.get(one, {}))
                begun = (one for one in found if self.find_devices(one, rest))
                return next(exact, None) or next(begun, found[0]), rest
        return None

    def find_devices(self, vendor: int, name: str) -> tuple[int, ...]:
        """Return the ids that carry this name; of a name that was cut off, all that begin so."""
        names = self.device_ids.get(vendor, {})
        if name in names:
            return tuple(sorted(set(names[name])))
        if len(name) < 6:
            return ()
        ordered = self._ordered.get(vendor)
        if ordered is None:
            ordered = self._ordered[vendor] = sorted(names)
        first = bisect_left(ordered, name)
        begun = takewhile(lambda full: full.startswith(name), islice(ordered, first, None))
        return tuple(sorted({one for full in begun for one in names[full]}))

    def add_names(self, rows: Iterable[str]) -> None:
        """Take in names of other editions: lines of vendor, device ids (none: the vendor's own name), name, a tab between them."""
        for row in rows:
            vendor, devices, name = row.split("\t")
            maker = int(vendor, 16)
            if devices:
                self.device_ids.setdefault(maker, {}).setdefault(name, []).extend(_runs(devices))
            else:  # before those of one name that have no device with a rule
                known = [one for one in self.vendor_ids.get(name, ()) if one != maker]
                self.vendor_ids[name] = [maker, *known]


def _runs(text: str) -> Iterator[int]:
    for run in text.split(","):
        first, _, last = run.partition("-")
        yield from range(int(first, 16), int(last or first, 16) + 1)


@lru_cache(maxsize=1)
def pci_ids() -> PciIds:
    """Return the database; of names only those of devices with a rule if the package that ships the list is not there."""
    from importlib.metadata import PackageNotFoundError, distribution  # it brings the email package

    try:
        # By its record of installed files: a folder `pypci` in the working directory is not it.
        path = Path(str(distribution("pypci-ng").locate_file("pypci/data/pci.ids")))
    except PackageNotFoundError:
        path = Path()
    ids = parse_ids(path.read_text(encoding="utf-8", errors="replace")) if path.is_file() else PciIds()
    rows = (data_dir() / "pci-names.tsv").read_text(encoding="utf-8").splitlines()
    ids.add_names(row for row in rows if not row.startswith("#"))
    return ids


def parse_ids(text: str) -> PciIds:
    r"""Read the text of a pci.ids file.

    >>> ids = parse_ids("8086  Intel Corporation\n\t1533  I210\nC 02  Network controller\n\t00  Ethernet controller\n")
    >>> ids.name(0x8086, 0x1533), ids.class_name(0x020000), ids.find_devices(0x8086, "I210")
    ('Intel Corporation I210', 'Ethernet controller', (5427,))
    """
    ids = PciIds(next((line.split()[-1] for line in text[:600].splitlines() if "Version:" in line), ""))
    vendor, base = -1, -1
    for line in text.splitlines():
        found = _LINE.fullmatch(line)
        if found is None:  # a comment, a subsystem, or nothing that the format has
            continue
        name = found["name"].strip()
        if found["base"]:
            vendor, base = -1, int(found["base"], 16)
        elif found["vendor"]:
            vendor, base = int(found["vendor"], 16), -1
            ids.vendors[vendor] = name
            ids.vendor_ids.setdefault(name, []).append(vendor)
        elif base >= 0:
            ids.classes[base << 8 | int(found["one"], 16)] = name
            ids.class_ids.setdefault(name, base << 8 | int(found["one"], 16))
        elif vendor >= 0:
            ids.devices[vendor, int(found["one"], 16)] = name
            ids.device_ids.setdefault(vendor, {}).setdefault(name, []).append(int(found["one"], 16))
    return ids
