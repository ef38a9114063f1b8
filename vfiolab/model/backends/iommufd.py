"""An iommufd: its objects (address spaces, domains, devices), its own ioctls, and the devices that are tied to it.

Sources: drivers/iommu/iommufd/main.c, ioas.c, hw_pagetable.c, device.c (6.2 to 6.14). What a container's calls reach is recorded (6.8, 6.12);
the rest is a reading: no recording of iommufd's own ioctls is known.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from vfiolab.model.address import Span
from vfiolab.model.backends import iommufd_checks as rows
from vfiolab.model.backends.compat_checks import BIND_CHECKS, HUGE_CHECKS, OPEN_CHECKS, PAGES_CHECKS, Asked, Pages
from vfiolab.model.backends.group import VfioGroup
from vfiolab.model.backends.ioas import Hwpt, Ioas, Part
from vfiolab.model.backends.protocol import Caller, System
from vfiolab.model.checks import Check, table
from vfiolab.model.errors import NotModelledError
from vfiolab.model.iommu.group import IommuGroup
from vfiolab.model.iommu.unit import IommuUnit
from vfiolab.model.uapi import iommufd as uapi
from vfiolab.model.uapi.requests import CAP_IPC_LOCK, MapDma, UnmapDma


@dataclass(slots=True, eq=False)
class Bound:
    """A device that is tied to an iommufd as its object `number`: opened `opens` times, and attached to `hwpt`, None while it is not."""

    number: int
    name: str
    group: IommuGroup
    opens: int = 1
    hwpt: Hwpt | None = None

    def __repr__(self) -> str:
        return f"device {self.number} ({self.name})"


Object: TypeAlias = Ioas | Hwpt | Bound
Kind = TypeVar("Kind", Ioas, Hwpt, Bound)


class Context:
    """One open iommufd. `space`: the address space that a container's ioctls work on. `account`: whose locked pages count, "mm" or "user"."""

    def __init__(self, system: System, account: str = "mm") -> None:
        self.system, self.account = system, account
        self.objects: dict[int, Object] = {}
        self.groups: list[VfioGroup] = []
        self.space: Ioas | None = None
        self.is_open = True

    def _ask(self, checks: tuple[Check, ...], request: object, before: tuple[Check, ...] = ()) -> None:
        table(checks, self.system.kernel, before).run(request)

    # objects

    def _object(self, kind: type[Kind], number: int) -> Kind | None:
        found = self.objects.get(number)
        return found if isinstance(found, kind) else None

    def ioas(self, number: int) -> Ioas | None:
        """Return an address space by its number."""
        return self._object(Ioas, number)

    def hwpt(self, number: int) -> Hwpt | None:
        """Return a domain by its number."""
        return self._object(Hwpt, number)

    def bound(self, number: int) -> Bound | None:
        """Return a device by its number."""
        return self._object(Bound, number)

    def devices(self) -> Iterator[Bound]:
        """Yield the devices that are tied to this iommufd."""
        return (one for one in self.objects.values() if isinstance(one, Bound))

    def in_use(self, number: int) -> bool:
        """Say whether an object cannot be destroyed: an open device, a domain of attached devices, an address space with domains."""
        one = self.objects[number]
        return isinstance(one, Bound) or (bool(one.hwpts) if isinstance(one, Ioas) else bool(self._attached(one)))

    def _attached(self, hwpt: Hwpt) -> list[Bound]:
        return [device for device in self.devices() if device.hwpt is hwpt]

    def _free_number(self) -> int:
        return next(number for number in range(1, len(self.objects) + 2) if number not in self.objects)

    def new_space(self) -> Ioas:
        """Make an address space."""
        number = self._free_number()
        self.objects[number] = ioas = Ioas(self.system, number)
        return ioas

    def _drop(self, number: int) -> None:
        one = self.objects.pop(number)
        if isinstance(one, Ioas):
            one.remove(one.areas)
            self.space = None if self.space is one else self.space
        elif isinstance(one, Hwpt):
            one.ioas.drop(one)

    def close(self) -> None:
        """Close the file; the objects go with the last group and device that came through it."""
        self.is_open = False
        self.end_if_unused()

    def end_if_unused(self) -> None:
        """Destroy every object if nobody is left who can reach them."""
        if self.is_open or self.groups or any(self.devices()):
            return
        for number in sorted(self.objects, key=lambda number: isinstance(self.objects[number], Ioas)):
            self._drop(number)

    # devices

    def bind(self, group: IommuGroup, name: str) -> Bound:
        """Tie a device to this iommufd, and claim its group. EPERM, EINVAL as BIND_CHECKS and the core say (iommufd_device_bind)."""
        self.check_bind(group)
        if group.owner is not self:
            self.system.core.claim(group, self)
        number = self._free_number()
        self.objects[number] = bound = Bound(number, name, group)
        return bound

    def check_bind(self, group: IommuGroup) -> None:
        """Refuse a group whose devices may not be tied to this iommufd; change nothing."""
        self.system.core.unit_of(group)
        self._ask(BIND_CHECKS, Asked(None, self.system, group))
        if group.owner is not self:
            self.system.core.check_claim(group)

    def unbind(self, bound: Bound) -> None:
        """Detach a device and let it go; the group is released with its last (iommufd_device_unbind)."""
        self.detach(bound)
        del self.objects[bound.number]
        if not any(device.group is bound.group for device in self.devices()):
            self.system.core.release(bound.group)
        self.end_if_unused()

    def _hwpt_of(self, group: IommuGroup) -> Hwpt | None:
        return next((device.hwpt for device in self.devices() if device.group is group and device.hwpt), None)

    def attach(self, bound: Bound, pt_id: int, before: tuple[Check, ...] = ()) -> int:
        """Attach a device to an address space or a domain, in place of what it is attached to; return the domain's number.

        ENOENT, EINVAL, EADDRINUSE, EFAULT, ENOMEM. A device that moves takes the others of its group along (iommufd_device_replace, 6.6).
        """
        asked = rows.Attach(self, pt_id, bound.group, self.system.core.unit_of(bound.group))
        self._ask(rows.PT_CHECKS, asked, before)
        target = self.objects[pt_id]
        assert not isinstance(target, Bound)
        hwpt = self.pick(bound.group, bound.name, target, moves=bound.hwpt is not None, before=before + rows.PT_CHECKS)
        return self.join(bound, hwpt or target).number

    def pick(
        self, group: IommuGroup, name: str, target: Ioas | Hwpt, *, moves: bool = False, before: tuple[Check, ...] = ()
    ) -> Hwpt | None:
        """Return the domain that a device will join, None for a new one; refuse what cannot be, and change nothing."""
        core, current = self.system.core, self._hwpt_of(group)
        ioas, unit = target if isinstance(target, Ioas) else target.ioas, core.unit_of(group)
        mine = [hwpt for hwpt in ioas.hwpts if hwpt.auto] if isinstance(target, Ioas) else [target]
        asked = rows.Attach(self, target.number, group, unit)
        if current is not None and not moves:
            self._ask(rows.GROUP_CHECKS, asked._replace(elsewhere=current not in mine), before)
        if group not in ioas.groups:
            self._ask(OPEN_CHECKS, Asked(ioas, self.system, group, name), before + rows.GROUP_CHECKS)
        if current in mine:
            return current
        if isinstance(target, Hwpt):
            self._ask(rows.TAKES_CHECKS, asked._replace(domain=target.domain), before + rows.GROUP_CHECKS + OPEN_CHECKS)
            return target
        fitting = next((hwpt for hwpt in mine if not hwpt.domain.attach_errno(unit)), None)
        if fitting is None:
            self._check_domain(asked, ioas, before + rows.GROUP_CHECKS + OPEN_CHECKS)
        return fitting

    def smallest_page(self, unit: IommuUnit) -> int:
        """Return the smallest page of a unit's domains, in bytes."""
        core = self.system.core
        bitmap = unit.reported_page_sizes(core.kernel, core.units, core.page_size)
        return bitmap & -bitmap

    def _check_domain(self, asked: rows.Attach, ioas: Ioas, before: tuple[Check, ...], *, alone: bool = False) -> None:
        self._ask(rows.PAGE_CHECKS, asked, before)
        ioas.check_domain(
            asked.unit.name, self.smallest_page(asked.unit), self._aperture(asked.unit, alone=alone), before + rows.PAGE_CHECKS
        )

    def _aperture(self, unit: IommuUnit, *, alone: bool) -> Span:
        """Return what a new domain can translate. Up to 6.12 VT-d's has 57 bits, if it is made `alone`, until a device comes (md_domain_init)."""
        kernel = self.system.kernel
        late = alone and unit.kind == "intel-vtd" and not kernel.has("intel_domain_fixed")
        return Span(0, 1 << 57) if late else unit.aperture(kernel)

    def join(self, bound: Bound, target: Hwpt | Ioas) -> Hwpt:
        """Attach a device to a domain, or to a new one of an address space: a device that moves gets that with all its mappings first."""
        if isinstance(target, Hwpt):
            self._enter(bound, target)
            return target
        moves = self._hwpt_of(bound.group) is not None
        hwpt = self._new_domain(bound.group, target, auto=True)
        if moves:
            target.add(hwpt)
        self._enter(bound, hwpt)
        if not moves:
            target.add(hwpt)
        return hwpt

    def _enter(self, bound: Bound, hwpt: Hwpt) -> None:
        """Put a device into a domain: its group enters it with its first device, and leaves another with all of them."""
        group, old = bound.group, self._hwpt_of(bound.group)
        moved = [device for device in self.devices() if device.hwpt is old and old is not None and device.group is group]
        bound.hwpt = hwpt
        if old is hwpt:
            return
        core = self.system.core
        if old is not None:
            core.detach(old.domain, group)
            old.ioas.groups.remove(group)
        errno = core.attach(hwpt.domain, group)
        assert not errno, "a direct region is refused before, and a domain that would not take the unit is not chosen"
        if hwpt.domain.msi_base is None:
            core.doorbells.domain_made(hwpt.domain, group, hwpt.ioas.domains)
        hwpt.ioas.groups.append(group)
        for device in moved:
            device.hwpt = hwpt
        if old is not None:
            self._put(old)

    def _new_domain(self, group: IommuGroup, ioas: Ioas, *, auto: bool) -> Hwpt:
        core, number = self.system.core, self._free_number()
        domain = core.alloc(group)
        core.configured(domain, core.unit_of(group))
        self.objects[number] = hwpt = Hwpt(number, ioas, domain, domain.aperture, auto)
        return hwpt

    def detach(self, bound: Bound) -> None:
        """Detach a device; nothing happens if it is not attached. A domain that was made for an attach goes with its last device."""
        hwpt, group = bound.hwpt, bound.group
        if hwpt is None:
            return
        bound.hwpt = None
        if self._hwpt_of(group) is None:
            self.system.core.detach(hwpt.domain, group)
            hwpt.ioas.groups.remove(group)
        self._put(hwpt)

    def _put(self, hwpt: Hwpt) -> None:
        if hwpt.auto and not self._attached(hwpt):
            self._drop(hwpt.number)

    # iommufd's own ioctls

    def _start(self, request: uapi.Sized, checks: tuple[Check, ...]) -> tuple[Check, ...]:
        """Test what every ioctl tests, and then what this one does; return the checks for those that follow."""
        request.fd = self
        self._ask(rows.STRUCT_CHECKS, request)
        self._ask(checks, request, rows.STRUCT_CHECKS)
        return rows.STRUCT_CHECKS + checks

    def _space(self, number: int) -> Ioas:
        ioas = self.ioas(number)
        assert ioas is not None, "the checks have looked it up"
        return ioas

    def ioas_alloc(self, request: uapi.IoasAlloc) -> int:
        """IOMMU_IOAS_ALLOC: return the new address space's number."""
        self._start(request, rows.ALLOC_CHECKS)
        return self.new_space().number

    def destroy(self, request: uapi.Destroy) -> None:
        """IOMMU_DESTROY; an address space goes with its mappings."""
        self._start(request, rows.DESTROY_CHECKS)
        self._drop(request.id)

    def pages(self, caller: Caller, account: str, *, write: bool) -> Pages:
        """Return memory of a process to be mapped; CAP_IPC_LOCK is looked at now, not when it is pinned (iopt_alloc_pages)."""
        return Pages(caller, "" if CAP_IPC_LOCK in caller.capabilities else account, write)

    def ioas_map(self, caller: Caller, request: uapi.IoasMap) -> int:
        """IOMMU_IOAS_MAP: return the iova."""
        checks = self._start(request, rows.NATIVE_MAP_CHECKS)
        plain = MapDma(32, _prot(request.flags), request.user_va, request.iova, request.length, name=request.name)
        plain.caller = caller
        self._ask(PAGES_CHECKS, plain, checks)
        pages = self.pages(caller, self.account, write=bool(plain.flags & 2))
        parts = [Part(pages, plain.vaddr, plain.size)]
        return self._space(request.ioas_id).map(plain, parts, checks + PAGES_CHECKS, fixed=bool(request.flags & uapi.FIXED_IOVA))

    def ioas_copy(self, request: uapi.IoasCopy) -> int:
        """IOMMU_IOAS_COPY: return the iova. The copy shares the memory, which stays pinned and charged once."""
        checks = self._start(request, rows.COPY_CHECKS)
        parts = self._space(request.src_ioas_id).parts(request.src_iova, request.length)
        assert parts
        plain = MapDma(32, _prot(request.flags), parts[0].vaddr, request.dst_iova, request.length)
        return self._space(request.dst_ioas_id).map(plain, parts, checks, fixed=bool(request.flags & uapi.FIXED_IOVA))

    def ioas_unmap(self, request: uapi.IoasUnmap) -> int:
        """IOMMU_IOAS_UNMAP: return the bytes unmapped."""
        checks, ioas = self._start(request, rows.NATIVE_UNMAP_CHECKS), self._space(request.ioas_id)
        if not request.iova and request.length == uapi.ALL:
            return ioas.remove(ioas.areas)
        return ioas.unmap(UnmapDma(24, 0, request.iova, request.length), checks, rows.SOMETHING_CHECKS)

    def ioas_iova_ranges(self, request: uapi.IovaRanges) -> tuple[Span, ...]:
        """IOMMU_IOAS_IOVA_RANGES: return the usable ranges. `num_iovas` and the alignment are set, also with EMSGSIZE."""
        checks, ioas = self._start(request, rows.RANGES_CHECKS), self._space(request.ioas_id)
        request.room, request.found = request.num_iovas if request.room is None else request.room, ioas.valid_iova
        try:
            self._ask(rows.ROOM_CHECKS, request, checks)
        finally:
            request.num_iovas, request.out_iova_alignment = len(request.found), ioas.granule
        found: tuple[Span, ...] = request.found
        return found

    def ioas_allow_iovas(self, request: uapi.AllowIovas) -> None:
        """IOMMU_IOAS_ALLOW_IOVAS: these ranges, last inclusive, stay usable; they replace those that were allowed before."""
        request.ranges = request.ranges[: request.num_iovas]
        self._start(request, rows.ALLOW_CHECKS)
        joined: list[Span] = []
        for span in sorted(Span.inclusive(*pair) for pair in request.ranges):
            joined[-1:] = [Span(joined[-1].start, span.end)] if joined and joined[-1].end == span.start else [*joined[-1:], span]
        self._space(request.ioas_id).allowed = tuple(joined)

    def option(self, caller: Caller, request: uapi.Option) -> int:
        """IOMMU_OPTION: return the option's value."""
        request.caller = caller
        checks = self._start(request, rows.OPTION_CHECKS)
        if not request.option_id:
            if request.op != uapi.GET:
                self.account = "mm" if request.val64 else "user"
            return int(self.account == "mm")
        ioas = self._space(request.object_id)
        if request.op != uapi.GET and not request.val64:
            self._ask(HUGE_CHECKS, Asked(ioas), checks)
        if request.op != uapi.GET:
            ioas.v1 = not request.val64
        return int(not ioas.v1)

    def vfio_ioas(self, request: uapi.VfioIoas) -> int:
        """IOMMU_VFIO_IOAS: return the number of the address space that a container's ioctls work on (as it was given, where it is cleared)."""
        self._start(request, rows.VFIO_IOAS_CHECKS)
        if request.op == uapi.COMPAT_CLEAR:
            self.space = None
        elif request.op != uapi.COMPAT_GET:
            self.space = self._space(request.ioas_id)
        return self.space.number if self.space else request.ioas_id

    def hwpt_alloc(self, request: uapi.HwptAlloc) -> int:
        """IOMMU_HWPT_ALLOC: return the new domain's number. NotModelledError for nested domains, dirty tracking, faults, and other units than VT-d and AMD-Vi."""
        checks = self._start(request, rows.HWPT_ALLOC_CHECKS)
        bound, core = self.bound(request.dev_id), self.system.core
        assert bound is not None
        unit = core.unit_of(bound.group)
        if request.flags or request.data_len or request.fault_id or unit.kind not in ("intel-vtd", "amd-vi"):
            raise NotModelledError(
                f"a domain with flags {request.flags:#_x}, data, a fault queue or of {unit}, made without an attach, was neither recorded nor read"
            )
        ioas = self._space(request.pt_id)
        self._check_domain(rows.Attach(self, request.pt_id, bound.group, unit), ioas, checks, alone=True)
        hwpt = self._new_domain(bound.group, ioas, auto=False)
        hwpt.domain.aperture = hwpt.aperture = self._aperture(unit, alone=True)
        if hwpt.aperture.end == 1 << 57:
            hwpt.domain.set_width(57)
        hwpt.ioas.add(hwpt)
        return hwpt.number

    def _check(self) -> None:
        for number, one in self.objects.items():
            assert number == one.number
            if isinstance(one, Ioas):
                one._check()
            elif isinstance(one, Hwpt):
                assert one in one.ioas.hwpts
                assert self.ioas(one.ioas.number) is one.ioas
                assert {device.group.id for device in self._attached(one)} == {group.id for group in one.domain.groups}
                assert not one.auto or one.domain.groups, f"{one!r} outlived its devices"
            else:
                assert one.group.owner is self
        assert self.space is None or self.ioas(self.space.number) is self.space


def _prot(flags: int) -> int:
    """Return a mapping's rights as a container's MAP has them: 1 read, 2 write."""
    return flags >> 2 & 1 | flags & 2
