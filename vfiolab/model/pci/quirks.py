"""What Linux knows about particular PCI devices: tables of ids, each with version and source.

The ids and verdicts follow ``drivers/pci/quirks.c`` (``pci_dev_acs_enabled``, whose row order is
priority, and the DMA alias fixups). ``first_seen`` is the first release that has a row, ``absent_in``
the last before it, by the kernel's history or by the trees read; both None: in every one (4.4 and later).
``stable``: older series whose stable releases took the row over.
Rules here are data: `Quirks()` without any row is a kernel that trusts nothing but the registers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, Literal, NamedTuple, TypeVar

from vfiolab.model.pci.topology import Function
from vfiolab.model.switches import StableFrom, taken_by

__all__ = ["ACS_QUIRKS", "ALIAS_QUIRKS", "QUIRKS", "AcsQuirk", "AliasQuirk", "Quirks"]

Ids = tuple[int | range, ...]

#: pass, fail: the verdict stands here. amd-south-bridge, intel-pch, wide-registers: decided by model.acs.
AcsRule = Literal["pass", "fail", "amd-south-bridge", "intel-pch", "wide-registers"]
#: function: that function of the same slot. devfns: fixed ones. bridge: DMA looks like a PCIe-to-PCI bridge's.
AliasRule = Literal["function", "devfns", "bridge", "root"]

_PCH_PORTS: Ids = (
    range(0x3B42, 0x3B52), range(0x1C10, 0x1C20), range(0x1E10, 0x1E20), range(0x8C10, 0x8C20), range(0x9C10, 0x9C1C),
    range(0x9C90, 0x9C9C), range(0x1D10, 0x1D20, 2), range(0x8D10, 0x8D1F), range(0x8C90, 0x8CA0, 2),
)  # fmt: skip
_INTEL_NICS: Ids = (
    0x10C6, 0x10DB, 0x10DD, 0x10E1, 0x10F1, range(0x10F7, 0x10FD), 0x1507, 0x1514, 0x151C, 0x1529, 0x152A, 0x154D,
    0x154F, 0x1551, 0x1558,  # 82598, 82599, X520, X540
    0x1509, 0x150E, 0x150F, 0x1510, 0x1511, 0x1516, 0x1527,  # 82580
    0x10C9, 0x10E6, 0x10E7, 0x10E8, 0x150A, 0x150D, 0x1518, 0x1526,  # 82576
    0x10A7, 0x10A9, 0x10D6,  # 82575
    range(0x1521, 0x1525),  # I350
    0x105E, 0x105F, 0x1060, 0x10D9,  # 82571
)  # fmt: skip
_NXP_PORTS: Ids = tuple(
    base + step for base in (0x8D80, 0x8D88, 0x8D90, 0x8D98) for step in (0, 1, 2, 3, 0x20, 0x21)
)  # LX2xx0 and LX2xx2, every security and CAN variant
_PORTS = frozenset({"root-port", "downstream"})
_ROOT = frozenset({"root-port"})


def _has(wanted: Ids, device: int) -> bool:
    return any(device == one if isinstance(one, int) else device in one for one in wanted)


def _matches(wanted: Ids, function: Function) -> bool:
    """Return whether every device id that the function may have is wanted."""
    possible = function.possible_devices
    return bool(possible) and all(_has(wanted, device) for device in possible)


class AcsQuirk(NamedTuple):
    """One family of devices for which Linux does not rely on the ACS registers alone.

    ``devices`` None: any device of the vendor. ``kinds`` None: any kind of function.
    """

    family: str
    vendor: int
    devices: Ids | None
    rule: AcsRule
    kinds: frozenset[str] | None = None
    first_seen: str | None = None
    absent_in: str | None = None
    stable: tuple[StableFrom, ...] = ()
    source: str = "pci_dev_specific_acs_enabled, drivers/pci/quirks.c"

    def matches(self, function: Function) -> bool:
        """Return whether the row is about this function (its version is another question)."""
        if function.vendor != self.vendor or (self.kinds is not None and function.kind not in self.kinds):
            return False
        return self.devices is None or _matches(self.devices, function)

    def might_match(self, function: Function) -> bool:
        """Return whether the row could be about a function whose device id nobody recorded."""
        if function.vendor != self.vendor or function.device is not None or self.devices is None:
            return False
        if self.kinds is not None and function.kind not in self.kinds:
            return False
        if function.candidates:
            return any(_has(self.devices, device) for device in function.candidates)
        return self.kinds is not None or (function.express_type is not None and (function.class_code or 0x020000) >> 16 == 0x02)


class AliasQuirk(NamedTuple):
    """One family of devices whose DMA carries other ids than their own.

    ``values``: function number (rule "function") or device-and-function bytes (rule "devfns").
    """

    family: str
    vendor: int
    devices: Ids
    rule: AliasRule
    values: tuple[int | range, ...] = ()
    first_seen: str | None = None
    absent_in: str | None = None
    stable: tuple[StableFrom, ...] = ()
    source: str = "pci_add_dma_alias callers, drivers/pci/quirks.c"

    def matches(self, function: Function) -> bool:
        """Return whether the row is about this function."""
        return (
            function.vendor == self.vendor
            and _matches(self.devices, function)
            and (self.family != "switchtec-ntb" or (function.class_code or 0) >> 8 == 0x0680)
        )

    def devfns(self, function: Function) -> frozenset[int]:
        """Return the device-and-function bytes that the function's DMA may carry besides its own."""
        if self.rule == "function":
            found = {function.devfn & ~7 | one for one in self.values if isinstance(one, int)}
        elif self.rule == "devfns":
            found = {n for one in self.values for n in ((one,) if isinstance(one, int) else one)}
        else:
            found = set()
        return frozenset(found - {function.devfn})


ACS_QUIRKS: tuple[AcsQuirk, ...] = (
    AcsQuirk("amd-south-bridge", 0x1002, (0x4385, 0x439C, 0x4383, 0x439D, 0x4384, 0x4399), "amd-south-bridge"),
    AcsQuirk("amd-south-bridge", 0x1022, (0x780F, 0x7809), "amd-south-bridge"),
    AcsQuirk("certified-multifunction", 0x1924, (0x0903, 0x0923, 0x0A03), "pass"),  # Solarflare
    AcsQuirk("certified-multifunction", 0x8086, _INTEL_NICS, "pass"),
    AcsQuirk("certified-multifunction", 0x8086, (0x15B7, 0x15B8), "pass"),  # I219
    AcsQuirk("intel-rc-endpoint", 0x8086, None, "pass", frozenset({"rc-endpoint"}), "5.8", "5.7", taken_by("4.14.185", "4.19.129", "5.4.48", "5.7.5")),
    AcsQuirk("no-peer-to-peer-port", 0x17CB, (0x0400, 0x0401), "pass", None, "4.11", "4.10", taken_by("4.9.22", "4.10.10")),  # Qualcomm
    AcsQuirk("no-peer-to-peer-port", 0x17CB, (0x0115,), "pass", None, "6.12", "6.11", taken_by("5.10.227", "6.1.113", "6.11.4")),
    AcsQuirk("no-peer-to-peer-port", 0x1DBF, (0x0401,), "pass"),  # HXT
    AcsQuirk("intel-pch-port", 0x8086, _PCH_PORTS, "intel-pch", _ROOT),
    AcsQuirk("intel-wide-registers", 0x8086, (range(0xA110, 0xA120), range(0xA167, 0xA16B)), "wide-registers", _ROOT, "4.7", "4.6"),
    AcsQuirk("intel-wide-registers", 0x8086, (range(0xA290, 0xA2A0), range(0xA2E7, 0xA2EF)), "wide-registers", _ROOT, "4.11", "4.10", taken_by("4.9.22", "4.10.10")),  # Union Point; the specification update behind it is of January 2017
    AcsQuirk("intel-wide-registers", 0x8086, (range(0x9D10, 0x9D1C),), "wide-registers", _ROOT, "4.18", "4.17", taken_by("4.9.111", "4.14.53", "4.17.4")),  # mobile parts of the 7th and 8th generation; the same, of August 2017
    AcsQuirk("certified-multifunction", 0x19A2, (0x0710,), "pass"),  # Emulex BE3-R
    AcsQuirk("certified-multifunction", 0x10DF, (0x0720,), "pass"),  # Emulex Skyhawk-R
    AcsQuirk("no-peer-to-peer-port", 0x177D, (range(0xA000, 0xA800),), "pass", _ROOT, "4.6", "4.5"),  # Cavium
    AcsQuirk("no-peer-to-peer-port", 0x177D, (0xAF84, 0xB884), "pass", _ROOT, "5.5", "5.4", taken_by("5.4.6")),
    AcsQuirk("certified-multifunction", 0x177D, (0xA026, 0xA059, 0xA060), "pass", None, "5.15", "5.14", taken_by("5.10.68", "5.14.7")),
    AcsQuirk("no-peer-to-peer-port", 0x10E8, (0xE004,), "pass", None, "4.14", "4.13"),  # APM X-Gene
    AcsQuirk("no-peer-to-peer-port", 0x1DEF, (range(0xE005, 0xE00D),), "pass", None, "4.18", "4.17", taken_by("4.14.185")),  # Ampere
    AcsQuirk("certified-multifunction", 0x14E4, (0x16D7,), "pass", None, "5.13", "5.12", taken_by("5.10.46")),  # Broadcom
    AcsQuirk("certified-multifunction", 0x14E4, (range(0x1750, 0x1753),), "pass", None, "6.0", "5.19", taken_by("5.10.138")),
    AcsQuirk("certified-multifunction", 0x14E4, (range(0x1760, 0x1764),), "pass", None, "6.13", "6.12", taken_by("5.10.233", "6.1.122")),
    AcsQuirk("no-peer-to-peer-port", 0x14E4, (0xD714,), "pass", None, "5.4", "5.3", taken_by("4.14.185", "4.19.129")),  # Broadcom iProc
    AcsQuirk("no-peer-to-peer-port", 0x0014, (0x3C09, 0x3C19, 0x3C29, range(0x7A09, 0x7A6A, 0x10)), "pass", None, "6.16", "6.15", taken_by("6.1.142", "6.12.35")),  # Loongson
    AcsQuirk("no-peer-to-peer-port", 0x1C36, (0x0031,), "pass", _ROOT, "5.4", "5.3"),  # Annapurna
    AcsQuirk("certified-multifunction", 0x1D17, (0x3038, 0x3104, 0x9083), "pass", None, "5.7", "5.6", taken_by("5.4.37", "5.6.9")),  # Zhaoxin
    AcsQuirk("no-peer-to-peer-port", 0x1957, _NXP_PORTS, "pass", None, "5.15", "5.14", taken_by("5.10.68", "5.14.7")),  # NXP
    AcsQuirk("no-peer-to-peer-port", 0x1D17, (range(0x0710, 0x071F), 0x0721, range(0x0723, 0x0753)), "pass", _PORTS, "5.7", "5.6", taken_by("5.4.37", "5.6.9")),  # Zhaoxin
    AcsQuirk("zhaoxin-other-port", 0x1D17, None, "fail", _PORTS, "5.7", "5.6", taken_by("5.4.37", "5.6.9")),
    AcsQuirk("certified-multifunction", 0x8088, (range(0x0100, 0x0110), 0x1001, 0x2001), "pass", None, "6.3", "6.2", taken_by("5.10.173", "6.1.18")),
    AcsQuirk("certified-multifunction", 0x8088, (0x5010, 0x5025, 0x5040, 0x5110, 0x5125, 0x5140), "pass", None, "6.13", "6.12", taken_by("5.10.231", "6.1.120", "6.12.5")),
    AcsQuirk("wangxun-other", 0x8088, None, "fail", None, "6.3", "6.2", taken_by("5.10.173", "6.1.18")),
)  # fmt: skip

ALIAS_QUIRKS: tuple[AliasQuirk, ...] = (
    AliasQuirk("function-0", 0x1180, (0xE832, 0xE476), "function", (0,)),  # Ricoh
    AliasQuirk("function-0", 0x6766, (0x3D40, 0x3D41), "function", (0,), "6.12", "6.11", taken_by("5.10.227", "6.1.113", "6.11.4")),  # Glenfly
    AliasQuirk("function-1", 0x1B4B, (0x9120, 0x9123, 0x9130, 0x9172, 0x917A, 0x9182, 0x9183, 0x91A0, 0x9230), "function", (1,)),  # Marvell
    AliasQuirk("function-1", 0x1B4B, (0x9125,), "function", (1,), "5.17", "5.16", taken_by("5.10.94")),
    AliasQuirk("function-1", 0x1B4B, (0x9128,), "function", (1,), "4.17", "4.16", taken_by("4.4.134", "4.9.104", "4.14.37")),
    AliasQuirk("function-1", 0x1B4B, (0x9220,), "function", (1,), "4.17", "4.16", taken_by("4.4.134", "4.9.104", "4.14.45", "4.16.13")),
    AliasQuirk("function-1", 0x1B4B, (0x9170,), "function", (1,), "5.1", "5.0", taken_by("4.4.179", "4.9.169", "4.14.112", "4.19.35", "5.0.8")),
    AliasQuirk("function-1", 0x1B4B, (0x9215,), "function", (1,), "5.12", "5.11", taken_by("4.4.261", "4.9.261", "4.14.225", "4.19.180", "5.4.105", "5.10.23")),
    AliasQuirk("function-1", 0x1B4B, (0x9235,), "function", (1,), "6.5", "6.4", taken_by("5.10.188", "6.1.40", "6.4.5")),
    AliasQuirk("function-1", 0x1103, (0x0642,), "function", (1,)),  # HighPoint
    AliasQuirk("function-1", 0x1103, (0x0645,), "function", (1,), "4.16", "4.15", taken_by("4.4.125", "4.9.91", "4.14.31", "4.15.14")),
    AliasQuirk("function-1", 0x197B, (0x2392,), "function", (1,)),  # JMicron JMB388 ESD
    AliasQuirk("function-1", 0x1C28, (0x0122,), "function", (1,)),  # Plextor M6E
    AliasQuirk("fixed-devfn", 0x9005, (0x0285,), "devfns", (0x08,)),  # Adaptec 3405, 3805: subsystem ids decide
    AliasQuirk("mic-x200", 0x8086, (0x2260, 0x2264), "devfns", (0x80, 0x88, 0x93), "4.7", "4.6"),
    AliasQuirk("intel-vca", 0x8086, (range(0x2954, 0x2957), range(0x2958, 0x295B)), "devfns", tuple(range(slot << 3, (slot << 3) + 5) for slot in range(32)), "5.6", "5.5", taken_by("4.14.170", "4.19.101", "5.4.17")),
    AliasQuirk("plx-ntb", 0x10B5, (0x87B0, 0x87B1), "devfns", (range(256),), "5.6", "5.5", taken_by("5.4.22", "5.5.6")),
    AliasQuirk("bridge-without-pcie", 0x1B21, (0x1080,), "bridge"),  # ASMedia 1083/1085
    AliasQuirk("bridge-without-pcie", 0x10E3, (0x8113,), "bridge"),  # Tundra
    AliasQuirk("bridge-without-pcie", 0x1283, (0x8892, 0x8893), "bridge"),  # ITE
    AliasQuirk("bridge-without-pcie", 0x8086, (0x244E,), "bridge"),
    AliasQuirk("translation-root", 0x14E4, (0x9000, 0x9084), "root", (), "4.12", "4.11"),  # ThunderX2
)  # fmt: skip

_SWITCHTEC: Ids = (
    *(range(base, base + 6) for base in (0x8531, 0x8541, 0x8551, 0x8561, 0x8571)),
    *(base + width for base in (0x4000, 0x4100, 0x4200) for width in (0, 0x84, 0x68, 0x52, 0x36, 0x28)),
    *(base + width for base in (0x4300, 0x4400, 0x4500) for width in (0x52, 0x36, 0x28)),
    *(base + width for base in range(0x5000, 0x5600, 0x100) for width in (0, 0x84, 0x68, 0x52, 0x36, 0x28)),
)
#: Their proxy ids are read from device memory, which no listing shows: a warning, not a rule.
UNREADABLE_ALIASES = AliasQuirk("switchtec-ntb", 0x11F8, _SWITCHTEC, "devfns")


class Quirks:
    """The tables one grouping uses; looked up by vendor and device, so that a long table costs nothing.

    >>> Quirks()
    Quirks(0 ACS rows, 0 alias rows)
    """

    __slots__ = ("_acs", "_aliases", "acs", "aliases")

    def __init__(self, acs: Iterable[AcsQuirk] = (), aliases: Iterable[AliasQuirk] = ()) -> None:
        #: The rows, in the order of their priority.
        self.acs, self.aliases = tuple(acs), tuple(aliases)
        self._acs = _Index(self.acs)
        self._aliases = _Index(self.aliases)

    def __repr__(self) -> str:
        return f"Quirks({len(self.acs)} ACS rows, {len(self.aliases)} alias rows)"

    def acs_rows(self, function: Function) -> list[AcsQuirk]:
        """Return the ACS rows about this function, first match first."""
        return [row for row in self._acs.near(function) if row.matches(function)]

    def possible_rows(self, function: Function) -> list[AcsQuirk]:
        """Return the ACS rows that could apply if the function's device id were known."""
        return [row for row in self._acs.near(function) if row.might_match(function)]

    def alias_rows(self, function: Function) -> list[AliasQuirk]:
        """Return the alias rows about this function."""
        return [row for row in self._aliases.near(function) if row.matches(function)]


_Row = TypeVar("_Row", AcsQuirk, AliasQuirk)


def _may_be(row: AcsQuirk | AliasQuirk, device: int) -> bool:
    return row.devices is None or _has(row.devices, device)


class _Index(Generic[_Row]):
    """Rows by vendor and device; those about any device are with every one."""

    def __init__(self, rows: tuple[_Row, ...]) -> None:
        self._by_vendor: dict[int, list[_Row]] = {}
        for row in rows:
            self._by_vendor.setdefault(row.vendor, []).append(row)
        self._by_device: dict[tuple[int, int], list[_Row]] = {}

    def near(self, function: Function) -> list[_Row]:
        """Return rows that may be about the function: few, in order."""
        rows = self._by_vendor.get(function.vendor or 0)
        if rows is None:
            return []
        if function.device is None:
            return rows
        found = self._by_device.get((function.vendor or 0, function.device))
        if found is None:
            found = [row for row in rows if _may_be(row, function.device)]
            self._by_device[function.vendor or 0, function.device] = found
        return found


#: Everything the trees that were read know.
QUIRKS = Quirks(ACS_QUIRKS, ALIAS_QUIRKS)
