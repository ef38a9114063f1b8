"""The domain: one hardware translation context, its page table, and the groups attached to it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from vfiolab.model.address import U64, Span, hexa, human_size
from vfiolab.model.errors import ERRNO, KernelCrashError, NotModelledError
from vfiolab.model.events import PROT_MMIO, PROT_NOEXEC, PROT_WRITE, Event, mapped
from vfiolab.model.iommu.unit import IommuUnit, binding
from vfiolab.model.kernel import Kernel

if TYPE_CHECKING:
    from vfiolab.model.events import EventLog
    from vfiolab.model.iommu.group import IommuGroup


_new = tuple.__new__  # a quarter of the time of Event(...)
MOST_TOUCHED = 64  # changes of a table after which its order is sorted anew, for that is then cheaper than mending it


class Mapping(NamedTuple):
    """One run of a domain's page table: `size` bytes at `iova` lead to `physical`; `prot` bits as in events."""

    iova: int
    size: int
    physical: int
    prot: int


class Doorbell(NamedTuple):
    """A page with an MSI doorbell, mapped by the kernel inside the software window."""

    iova: int
    physical: int
    size: int

    def __repr__(self) -> str:
        return f"Doorbell({hexa(self.iova)} -> {hexa(self.physical)}, {human_size(self.size)})"


class Domain:
    """One hardware translation context: a page table, and the groups attached to it.

    Its verbs record an event and answer 0 or a negative errno, as the IOMMU core's functions do.
    """

    __slots__ = (
        "_highest",
        "_log",
        "_order",
        "_table",
        "_touched",
        "aperture",
        "coherent",
        "doorbells",
        "groups",
        "holes",
        "kernel",
        "kind",
        "msi_base",
        "nesting",
        "number",
        "page_sizes",
        "prot",
        "reach",
        "unit",
        "width",
    )

    def __init__(self, number: int, unit: IommuUnit, kernel: Kernel, log: EventLog) -> None:
        self.number, self.unit, self.kind, self.kernel, self._log = number, unit, unit.kind, kernel, log
        self.groups: list[IommuGroup] = []
        self.holes: dict[Span, int] = {}  # reserved spans that the groups bring, and how many groups bring each
        self.aperture = Span(0, U64)
        self.page_sizes = 0
        self.set_width(unit.width)
        self.coherent = False
        self.nesting = False
        self.prot = 0
        self.msi_base: int | None = None
        self.doorbells: tuple[Doorbell, ...] = ()
        self._table: dict[int, Mapping] = {}
        self._order: list[int] | None = None
        self._touched: list[int] = []
        self._highest = 0

    @property
    def enforces_coherency(self) -> bool:
        """The flag by which type1 compares domains: enforced coherency (5.19+), before that the CACHE capability."""
        return self.coherent

    @property
    def stage(self) -> int | None:
        """Stage of an SMMU's tables; None for other units."""
        return 2 if self.nesting else self.unit.stage

    @property
    def mappings(self) -> Iterator[Mapping]:
        """The user's mappings in this domain, in iova order (doorbell pages are apart)."""
        return iter([self._table[iova] for iova in self._in_order()])

    def _in_order(self) -> list[int]:
        """Return the starts of the runs, ascending: sorted anew after many changes, mended after a few."""
        if self._order is None:
            self._order = sorted(self._table)
        elif self._touched:
            for iova in self._touched:
                index = bisect_left(self._order, iova)
                listed = index < len(self._order) and self._order[index] == iova
                if listed and iova not in self._table:
                    del self._order[index]
                elif not listed and iova in self._table:
                    self._order.insert(index, iova)
        self._touched.clear()
        return self._order

    def _touch(self, iova: int) -> None:
        """Remember that a run came or went, while the order is known."""
        self._touched.append(iova)
        if len(self._touched) > MOST_TOUCHED:
            self._order = None

    def __len__(self) -> int:
        return len(self._table)

    def map(self, iova: int, size: int, physical: int, prot: int) -> int:
        """Map a run; 0 or a negative errno. VT-d beyond its width: EFAULT, from 6.19 ERANGE; an SMMU over a doorbell page: EEXIST.

        Sources: intel_iommu_map (4.4 to 6.13); pt_check_range, drivers/iommu/generic_pt/pt_iter.h (6.19, commit d373449d8e97). Read: no
        recording has a mapping that is replayed past a unit's width.
        """
        end = iova + size
        errno = self.map_errno(iova, size) if end > self.reach or end > self.aperture.end or self.doorbells else 0
        if not errno:
            self._table[iova] = _new(Mapping, (iova, size, physical, prot))
            if self._order is not None:
                self._touch(iova)
            if end > self._highest:  # noqa: PLR1730 - max() is a call, and this the busiest line
                self._highest = end
            self._log.current.events.append(_new(Event, ("map", self.number, None, iova, size, prot, None, None)))
        return errno

    def map_errno(self, iova: int, size: int) -> int:
        """Return what `map` would answer, changing nothing: 0 or a negative errno. KernelCrashError where the kernel dies."""
        if iova + size > self.reach:
            if iova + size == U64 and size == 0x1000 and not self.kernel.has("valid_iova"):
                raise KernelCrashError(
                    "a page that ends exactly at 2^64 passes VT-d's width test, because its end wraps to 0, and hits BUG_ON in __domain_mapping (intel-iommu.c, recorded on 4.4)"
                )
            return -ERRNO["ERANGE" if self.kernel.has("intel_map_erange") else "EFAULT"]
        if self.unit.is_arm and iova + size > self.aperture.end:
            raise NotModelledError(
                f"kernel {self.kernel} lets a mapping past the last iova of {self.unit}, {self.aperture.last:#_x}, through to its driver, and what that answers was neither recorded nor read"
            )
        if self.unit.translates_msi and any(bell.iova < iova + size and iova < bell.iova + bell.size for bell in self.doorbells):
            return -ERRNO["EEXIST"]
        return 0

    def set_width(self, width: int) -> None:
        """Take a unit's width: `reach` is the first iova that its driver refuses to map, whatever the aperture says (VT-d)."""
        self.width, self.reach = width, 1 << width if self.kind == "intel-vtd" else U64

    def takes_all_of(self, other: Domain) -> bool:
        """Say whether every run of another domain can be mapped here as it is there."""
        bounded = self.unit.is_arm and not self.kernel.has("valid_iova")
        return other.prot == self.prot and other._highest <= self.reach and not bounded

    def map_many(self, runs: list[Mapping]) -> None:
        """Map runs, ascending and known to fit, into an empty table: replay."""
        self._table = {run.iova: run for run in runs}
        self._order = None
        if runs:
            self._highest = max(self._highest, runs[-1].iova + runs[-1].size)
        self._log.extend(mapped(self.number, runs))

    def unmap(self, iova: int, size: int) -> None:
        """Unmap the runs that make up a range; KeyError if they do not tile it."""
        at, end = iova, iova + size
        while at < end:
            if self._order is not None:
                self._touch(at)
            at += self._table.pop(at)[1]
        if self._highest == end:
            self._highest = iova
        self._log.current.events.append(_new(Event, ("unmap", self.number, None, iova, size, None, None, None)))

    def forget(self) -> None:
        """Drop the table without unmapping: the domain is freed."""
        self._table.clear()
        self._order = None

    def translate(self, iova: int) -> Mapping | None:
        """Return the run that holds `iova` (a doorbell page counts), None where the device would fault."""
        for bell in self.doorbells:
            if bell.iova <= iova < bell.iova + bell.size:
                return Mapping(bell.iova, bell.size, bell.physical, PROT_WRITE | PROT_NOEXEC | PROT_MMIO)
        order = self._in_order()
        index = bisect_right(order, iova) - 1
        if index < 0:
            return None
        run = self._table[order[index]]
        return run if iova < run.iova + run.size else None

    def physical_runs(self, iova: int, size: int) -> list[tuple[int, int]]:
        """Return (physical address, bytes) of the runs that make up a mapped range; KeyError if they do not tile it."""
        runs, at = [], iova
        while at < iova + size:
            run = self._table[at]
            runs.append((run.physical, run.size))
            at += run.size
        return runs

    def overlaps(self, iova: int, size: int) -> bool:
        """Say whether a user's mapping shares a byte with the range."""
        order = self._in_order()
        index = bisect_left(order, iova + size) - 1
        if index < 0:
            return False
        run = self._table[order[index]]
        return run.iova + run.size > iova

    def attach_errno(self, unit: IommuUnit) -> int:
        """Return what this unit's driver answers when a device behind it is to join this domain: 0 or a negative errno.

        Sources: arm_smmu_attach_dev; prepare_domain_attach_device and paging_domain_compatible (VT-d); AMD agrees always.
        """
        if not self.page_sizes or self.kind == "amd-vi":
            return 0
        if self.kind == "intel-vtd":
            return self._intel_attach_errno(unit)
        if unit is self.unit:
            return 0
        if self.unit.is_arm and not self.kernel.has("smmu_other_unit_einval"):
            return -ERRNO["ENXIO"]
        return -ERRNO["EINVAL"]

    def why_apart(self, other: Domain) -> str:
        """Say why what `other` serves cannot be served by this domain: the first difference that type1, then the unit's driver looks at."""
        if self.kind != other.kind:
            return f"their units have different drivers, {self.kind} and {other.kind}"
        if self.coherent != other.coherent:
            with_it, without = (self, other) if self.coherent else (other, self)
            return f"D{with_it.number} keeps the devices' accesses coherent with the caches, and D{without.number} behind {without.unit.name} cannot"
        if self.kind == "intel-vtd" and other.unit.width < self.width:
            return f"its tables are for {self.width} bits of iova, and {other.unit.name} walks {other.unit.width}"
        return f"a table of {self.unit.name} is not for {other.unit.name}: this driver ties each domain to one unit"

    def _intel_attach_errno(self, unit: IommuUnit) -> int:
        newer = self.kernel.has("intel_attach_einval")
        if self.kernel.has("enforced_coherency") and self.coherent and not unit.snoop_control:
            return -ERRNO["EINVAL" if newer else "EOPNOTSUPP"]
        if self.kernel.has("intel_domain_fixed"):
            return -ERRNO["EINVAL"] if unit.width < self.width or unit.page_sizes & self.page_sizes != self.page_sizes else 0
        return -ERRNO["EINVAL" if newer else "EFAULT"] if self._highest > 1 << unit.width else 0

    def join(self, group: IommuGroup) -> None:
        """Take a group in; a first one gives the domain its unit, a later one may narrow it (VT-d up to 6.12)."""
        self.groups.append(group)
        for span in binding(group.reserved):
            self.holes[span] = self.holes.get(span, 0) + 1
        unit = group.unit
        assert unit is not None
        if self.kind == "intel-vtd" and unit.width < self.width:
            self.set_width(unit.width)
            narrow = unit.aperture(self.kernel)
            self.aperture = narrow if narrow.size < self.aperture.size else self.aperture

    def leave(self, group: IommuGroup) -> None:
        """Let a group go."""
        self.groups.remove(group)
        for span in binding(group.reserved):
            self.holes[span] -= 1
            if not self.holes[span]:
                del self.holes[span]

    def __repr__(self) -> str:
        groups = ", ".join(str(group.id) for group in self.groups)
        units = " + ".join(dict.fromkeys(group.unit.name for group in self.groups if group.unit is not None)) or self.unit.name
        return f"Domain(D{self.number}, {units}, groups [{groups}], {len(self)} mapping{'s' if len(self) != 1 else ''})"

    def _check(self) -> None:
        # Kernels up to 6.17 do not find a mapping that ends at 2^64, and let others overlap it.
        blind = not self.kernel.has("inclusive_ends") and any(run.iova + run.size == U64 for run in self._table.values())
        end = 0
        for iova in self._in_order():
            run = self._table[iova]
            assert iova == run.iova, f"D{self.number}: key {iova:#_x} holds {run}"
            assert run.size > 0, f"D{self.number}: empty run at {iova:#_x}"
            assert end <= iova or blind, f"D{self.number}: runs overlap at {iova:#_x}"
            end = iova + run.size
        for bell in self.doorbells:
            assert not self.overlaps(bell.iova, bell.size), f"D{self.number}: doorbell page {bell.iova:#_x} is under a user's mapping"
