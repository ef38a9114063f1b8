"""PCI functions and the tree they form.

A :class:`Function` is what one header and its capabilities say; a :class:`Topology` is all
functions of a machine, with the questions that grouping asks answered in constant time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise

__all__ = ["ACS_BITS", "Acs", "Function", "Topology", "TopologyError", "bdf_key", "normal_bdf"]

_BDF = re.compile(r"(?:([0-9a-fA-F]{4,8}):)?([0-9a-fA-F]{1,2}):([0-9a-fA-F]{1,2})\.([0-7])")

#: Short names of the ACS bits as lspci orders them (include/uapi/linux/pci_regs.h).
ACS_BITS = {"SV": 0x01, "TB": 0x02, "RR": 0x04, "CR": 0x08, "UF": 0x10, "EC": 0x20, "DT": 0x40}

#: Kinds of a function that has a PCI Express capability, with the type number in that capability.
EXPRESS_TYPES = {
    "endpoint": 0, "legacy-endpoint": 1, "root-port": 4, "upstream": 5, "downstream": 6,
    "pcie-to-pci": 7, "pci-to-pcie": 8, "rc-endpoint": 9, "rc-event-collector": 10, "vf": 0,
}  # fmt: skip
_BRIDGE_KINDS = frozenset({"root-port", "upstream", "downstream", "pcie-to-pci", "pci-to-pcie", "pci-bridge"})
KINDS = frozenset(EXPRESS_TYPES) | {"pci", "pci-bridge"}


class TopologyError(ValueError):
    """A set of functions that cannot be one machine (a loop, a device listed twice, a bad address)."""


@lru_cache(maxsize=1 << 14)
def bdf_key(bdf: str) -> tuple[int, int, int, int]:
    """Split an address into (segment, bus, slot, function), the order in which Linux scans.

    >>> bdf_key("10000:e1:00.0")
    (65536, 225, 0, 0)
    """
    match = _BDF.fullmatch(bdf)
    if match is None or int(match[3], 16) > 0x1F:
        raise TopologyError(f"PCI address {bdf!r}: must look like '0000:00:1f.3' (slot at most 1f, function at most 7)")
    return int(match[1] or "0", 16), int(match[2], 16), int(match[3], 16), int(match[4])


@lru_cache(maxsize=1 << 14)
def normal_bdf(bdf: str) -> str:
    """Write an address the one way used everywhere here: segment of four digits or more, lower case.

    >>> normal_bdf("1:0A.0")
    '0000:01:0a.0'
    """
    return "{:04x}:{:02x}:{:02x}.{}".format(*bdf_key(bdf))


@dataclass(frozen=True, slots=True)
class Acs:
    """Access Control Services of one function: capability word and control word.

    ``wide_ctrl`` is the control word that some Intel root ports keep at offset 8 of the capability
    (their registers are 32 bits wide); None where nobody read it.

    >>> Acs(0x5F, 0x1D)
    Acs(SV+ TB- RR+ CR+ UF+ DT-)
    """

    cap: int
    ctrl: int
    wide_ctrl: int | None = None

    def __repr__(self) -> str:
        marks = [name + "-+"[bool(self.ctrl & bit)] for name, bit in ACS_BITS.items() if self.cap & bit]
        return f"Acs({' '.join(marks) or 'nothing advertised'})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """One PCI function as the hardware describes itself. None means: not recorded.

    ``kind`` is one of the words of the machine file: root-port, upstream, downstream, endpoint,
    legacy-endpoint, rc-endpoint, rc-event-collector, pcie-to-pci, pci-to-pcie, pci (conventional),
    pci-bridge (conventional bridge), vf. ``acs`` None means that there is no such capability,
    unless ``caps_known`` is false: then nobody could read the capabilities. ``secondary`` and
    ``subordinate`` are the buses below a bridge. ``real_dma`` names the function whose id
    this one's DMA carries (Intel VMD). ``candidates`` are the device ids that fit where only a name was
    recorded that several devices carry.
    """

    bdf: str
    vendor: int | None = None
    device: int | None = None
    class_code: int | None = None
    kind: str | None = None
    multifunction: bool | None = None
    acs: Acs | None = None
    caps_known: bool = True
    secondary: int | None = None
    subordinate: int | None = None
    parent: str | None = None
    driver: str | None = None
    name: str = ""
    intx: int = 0
    msi: int = 0
    msix: int = 0
    physfn: str | None = None
    sriov_totalvfs: int = 0
    sriov_numvfs: int = 0
    real_dma: str | None = None
    candidates: tuple[int, ...] = ()
    #: (segment, bus, slot, function), the order in which Linux scans.
    key: tuple[int, int, int, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("bdf", "parent", "physfn", "real_dma"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, normal_bdf(value))
        object.__setattr__(self, "key", bdf_key(self.bdf))
        if self.kind is not None and self.kind not in KINDS:
            raise TopologyError(f"{self.bdf}: kind {self.kind!r} is none of {', '.join(sorted(KINDS))}")

    @property
    def segment(self) -> int:
        """PCI segment ("domain" to lspci)."""
        return self.key[0]

    @property
    def bus(self) -> int:
        """Bus number."""
        return self.key[1]

    @property
    def devfn(self) -> int:
        """Slot and function in one byte, as in a requester id."""
        return self.key[2] << 3 | self.key[3]

    @property
    def requester_id(self) -> int:
        """16-bit id that the function's own requests carry: bus << 8 | devfn."""
        return self.bus << 8 | self.devfn

    @property
    def is_bridge(self) -> bool:
        """Whether buses lie below (header type 1): VFIO's PCI driver refuses those."""
        if self.kind is not None:
            return self.kind in _BRIDGE_KINDS
        return self.secondary is not None or (self.class_code or 0) >> 8 in (0x0604, 0x0609)

    @property
    def is_iommu(self) -> bool:
        """Whether it is an IOMMU's own function (class 0806, or virtio's)."""
        return (self.class_code or 0) >> 8 == 0x0806 or self.ids == (0x1AF4, 0x1057)

    @property
    def is_for_users(self) -> bool:
        """Whether somebody may want to hand it to a user: bridges stay with the host, host bridges (class 0600) and IOMMUs too."""
        return not (self.is_bridge or self.is_iommu or (self.class_code or 0) >> 8 == 0x0600)

    @property
    def express_type(self) -> int | None:
        """Device/port type of the PCI Express capability; None without one."""
        return EXPRESS_TYPES.get(self.kind or "")

    @property
    def possible_devices(self) -> tuple[int, ...]:
        """Device ids that this may be: one, several (a name with several ids), or none known."""
        return self.candidates if self.device is None else (self.device,)

    @property
    def ids(self) -> tuple[int, int] | None:
        """(vendor, device), or None if either is not recorded."""
        return None if self.vendor is None or self.device is None else (self.vendor, self.device)


class Topology(Mapping[str, Function]):
    """All functions of a machine, in scan order; immutable.

    A bus belongs to the bridge whose secondary bus it is. A bus without such a bridge is a root
    bus, or the virtual bus of SR-IOV functions. Raises TopologyError for an address listed twice and for bridges
    that form a loop.

    >>> port = Function(bdf="00:01.0", kind="root-port", secondary=1)
    >>> tree = Topology([port, Function(bdf="01:00.0", kind="endpoint")])
    >>> tree.parent("0000:01:00.0").bdf
    '0000:00:01.0'
    >>> [f.bdf for f in tree.path("0000:01:00.0")]
    ['0000:00:01.0']
    """

    __slots__ = ("_buses", "_children", "_functions", "_parents", "_slots", "warnings")

    def __init__(self, functions: Iterable[Function]) -> None:
        listed = sorted(((f.key, f) for f in functions), key=lambda pair: pair[0])
        self._functions = {f.bdf: f for _, f in listed}
        if len(self._functions) != len(listed):
            double = next(one.bdf for (_, one), (_, other) in pairwise(listed) if one.bdf == other.bdf)
            raise TopologyError(f"listed twice: {double}; keep one entry per function")
        self._buses: dict[tuple[int, int], list[Function]] = {}
        self._slots: dict[tuple[int, int, int], list[Function]] = {}
        for (segment, bus, slot, _), f in listed:
            self._buses.setdefault((segment, bus), []).append(f)
            self._slots.setdefault((segment, bus, slot), []).append(f)
        warnings: list[str] = []
        self._parents = self._find_parents([f for _, f in listed], warnings)
        self._children: dict[str, list[Function]] = {}
        for child, parent in self._parents.items():
            self._children.setdefault(parent, []).append(self._functions[child])
        self._refuse_loops()
        #: What the listing says twice or contradicts, one sentence each.
        self.warnings: tuple[str, ...] = tuple(warnings)

    def _find_parents(self, functions: list[Function], warnings: list[str]) -> dict[str, str]:
        above: dict[tuple[int, int], str] = {}
        for f in functions:
            if f.secondary:  # 0: the firmware or the kernel never gave it a bus
                first = above.setdefault((f.segment, f.secondary), f.bdf)
                if first != f.bdf:
                    warnings.append(f"{f.bdf} and {first} both claim bus {f.secondary:02x}; what is on it is taken to be below {first}")
        parents: dict[str, str] = {}
        for f in functions:
            home = self._functions.get(f.physfn or "", f)  # virtual functions hang where their physical function does
            found = home.parent if home.parent in self._functions else above.get((home.segment, home.bus))
            if found is not None and found != home.bdf:
                parents[f.bdf] = found
        return parents

    def _refuse_loops(self) -> None:
        safe: set[str] = set()
        for start in self._parents:
            trail: dict[str, None] = {}
            at: str | None = start
            while at is not None and at not in safe:
                if at in trail:
                    loop = list(trail)[list(trail).index(at) :]
                    raise TopologyError(f"bridges form a loop: {' below '.join([*loop, at])}; check their bus numbers")
                trail[at] = None
                at = self._parents.get(at)
            safe.update(trail)

    def __getitem__(self, bdf: str) -> Function:
        return self._functions[bdf]

    def __iter__(self) -> Iterator[str]:
        return iter(self._functions)

    def __len__(self) -> int:
        return len(self._functions)

    def __repr__(self) -> str:
        return f"Topology({len(self)} functions on {len(self._buses)} buses)"

    def parent(self, bdf: str) -> Function | None:
        """Return the bridge above; None on a root bus."""
        above = self._parents.get(bdf)
        return None if above is None else self._functions[above]

    def children(self, bdf: str) -> tuple[Function, ...]:
        """Return what lies directly below a bridge, in scan order."""
        return tuple(self._children.get(bdf, ()))

    def path(self, bdf: str) -> Iterator[Function]:
        """Yield the bridges above, nearest first, up to the one on the root bus."""
        above = self._parents.get(bdf)
        while above is not None:
            yield self._functions[above]
            above = self._parents.get(above)

    def slot(self, bdf: str) -> tuple[Function, ...]:
        """Return all functions of the slot, this one included."""
        return tuple(self._slots[self._functions[bdf].key[:3]])

    def siblings(self, bdf: str) -> tuple[Function, ...]:
        """Return the other functions of the slot."""
        return tuple(f for f in self.slot(bdf) if f.bdf != bdf)

    def on_bus(self, bdf: str) -> tuple[Function, ...]:
        """Return all functions on the bus of this one, this one included."""
        return tuple(self._buses[self._functions[bdf].key[:2]])

    def is_multifunction(self, bdf: str) -> bool:
        """Return Linux's flag: header type bit 7, or a function number above 0 found by the scan.

        Where the header was not recorded, function 0 counts as multifunction if it has siblings.
        Virtual functions never count (drivers/pci/iov.c, pci_iov_add_virtfn).
        """
        f = self._functions[bdf]
        if f.kind == "vf" or f.physfn is not None:
            return False
        return bool(f.multifunction) or f.key[3] > 0 or (f.multifunction is None and len(self._slots[f.key[:3]]) > 1)

    def replace(self, *changed: Function) -> Topology:
        """Return the same machine with some functions exchanged (same addresses)."""
        by_bdf = {f.bdf: f for f in changed}
        unknown = set(by_bdf) - set(self._functions)
        if unknown:
            raise TopologyError(f"not in this machine: {', '.join(sorted(unknown))}")
        return Topology(by_bdf.get(bdf, f) for bdf, f in self._functions.items())
