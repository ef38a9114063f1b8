"""Names of PCI vendors, devices and classes, both ways, from the pci.ids file that a package brings along.

The file is the PCI ID Project's, shipped by the package ``pypci-ng``; only its data is used, and it is
read when a name or an id is asked for. Without the package there are no names: callers say so.
"""

from __future__ import annotations

import importlib.util
from bisect import bisect_left
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice, takewhile
from pathlib import Path

__all__ = ["PciIds", "pci_ids"]


@dataclass(frozen=True, slots=True)
class PciIds:
    """The database: names by id, and ids by name."""

    version: str = ""
    vendors: dict[int, str] = field(default_factory=dict, repr=False)
    devices: dict[tuple[int, int], str] = field(default_factory=dict, repr=False)
    classes: dict[int, str] = field(default_factory=dict, repr=False)
    vendor_ids: dict[str, int] = field(default_factory=dict, repr=False)
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

    def find_vendor(self, text: str) -> tuple[int, str] | None:
        """Split "Vendor Device" into the vendor's id and the rest; the longest vendor name wins."""
        words = text.split(" ")
        for count in range(len(words), 0, -1):
            found = self.vendor_ids.get(" ".join(words[:count]))
            if found is not None:
                return found, " ".join(words[count:])
        return None

    def find_devices(self, vendor: int, name: str) -> tuple[int, ...]:
        """Return the ids that carry this name; of a name that was cut off, all that begin so."""
        names = self.device_ids.get(vendor, {})
        if name in names:
            return tuple(names[name])
        if len(name) < 6:
            return ()
        ordered = self._ordered.get(vendor)
        if ordered is None:
            ordered = self._ordered[vendor] = sorted(names)
        first = bisect_left(ordered, name)
        begun = takewhile(lambda full: full.startswith(name), islice(ordered, first, None))
        return tuple(sorted(one for full in begun for one in names[full]))


@lru_cache(maxsize=1)
def pci_ids() -> PciIds:
    """Return the database; an empty one if the package that ships it is not there."""
    spec = importlib.util.find_spec("pypci")
    if spec is None or spec.origin is None:
        return PciIds()
    path = Path(spec.origin).parent / "data" / "pci.ids"
    if not path.is_file():
        return PciIds()
    return parse_ids(path.read_text(encoding="utf-8", errors="replace"))


def parse_ids(text: str) -> PciIds:
    r"""Read the text of a pci.ids file.

    >>> ids = parse_ids("8086  Intel Corporation\n\t1533  I210\nC 02  Network controller\n\t00  Ethernet controller\n")
    >>> ids.name(0x8086, 0x1533), ids.class_name(0x020000), ids.find_devices(0x8086, "I210")
    ('Intel Corporation I210', 'Ethernet controller', (5427,))
    """
    ids = PciIds(next((line.split()[-1] for line in text[:600].splitlines() if "Version:" in line), ""))
    vendor, base = -1, -1
    for line in text.splitlines():
        if not line or line[0] == "#" or line.startswith("\t\t"):
            continue
        number, _, name = line.strip().partition("  ")
        if line[0] == "C":
            vendor, base = -1, int(number.removeprefix("C "), 16)
        elif line[0] != "\t":
            vendor, base = int(number, 16), -1
            ids.vendors[vendor] = name
            ids.vendor_ids.setdefault(name, vendor)
        elif base >= 0:
            ids.classes[base << 8 | int(number, 16)] = name
            ids.class_ids.setdefault(name, base << 8 | int(number, 16))
        elif vendor >= 0:
            ids.devices[vendor, int(number, 16)] = name
            ids.device_ids.setdefault(vendor, {}).setdefault(name, []).append(int(number, 16))
    return ids
