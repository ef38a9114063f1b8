"""Rules of the model, deliberately broken: data. Each says in a sentence what is wrong, and where it is noticed."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import vfiolab.model
from vfiolab.model.backends import dirty, iova, native, type1_checks
from vfiolab.model.backends.dmatree import DmaTree
from vfiolab.model.backends.type1 import Type1
from vfiolab.model.iommu.core import IommuCore
from vfiolab.model.iommu.domain import Domain
from vfiolab.model.iommu.doorbells import Landed
from vfiolab.model.user import process
from vfiolab.model.user.files import GroupFile


def _tables() -> Iterator[tuple[Any, str]]:
    """Yield every table of checks of the model: the module that states it, and its name there."""
    for found in pkgutil.walk_packages(vfiolab.model.__path__, "vfiolab.model."):
        module = importlib.import_module(found.name)
        for name in vars(module):
            if name.endswith("_CHECKS") and name[0] != "_" and f"\n{name} = (" in inspect.getsource(module):
                yield module, name


TABLES = tuple(_tables())


def restate(patch: Any, old: tuple[Any, ...], new: tuple[Any, ...]) -> None:
    """Put another table in the place of one, wherever the model has it under a name."""
    for name, module in list(sys.modules.items()):
        if name.startswith("vfiolab.model."):
            for known in [known for known, value in vars(module).items() if value is old]:
                patch.setattr(module, known, new)


def every_check() -> Iterator[tuple[Any, str, Any]]:
    """Yield every check of every table of the model, with the module and name of its table."""
    for module, table in TABLES:
        for check in getattr(module, table):
            yield module, table, check


@dataclass(frozen=True)
class Mutation:
    """`wrong` is the sentence, `noticed_by` an environment of data/traces, or "walk" for the invariants of random walks."""

    wrong: str
    noticed_by: str
    apply: Callable[[Any], None]


def _reordered(table: str, first: str) -> Callable[[Any], None]:
    def apply(patch: Any) -> None:
        checks = getattr(type1_checks, table)
        early = [check for check in checks if check.text == first]
        assert early
        restate(patch, checks, (*early, *(check for check in checks if check.text != first)))

    return apply


def _replaced(owner: Any, name: str, new: Callable[..., Any]) -> Callable[[Any], None]:
    """Replace a method or function; `new` gets the old one first."""

    def apply(patch: Any) -> None:
        old = getattr(owner, name)
        patch.setattr(owner, name, lambda *args, **more: new(old, *args, **more))

    return apply


def _oldest_first(keep: Any, self: Type1, domain: Domain, *rest: Any) -> None:
    keep(self, domain, *rest)
    self.domains.remove(domain)
    self.domains.append(domain)


def _only_newest(_: Any, self: Type1, dma: Any) -> None:
    for domain in self.domains[:1]:
        domain.unmap(dma.iova, dma.size)


def _budget_is_lost(remove: Any, self: Type1, dma: Any) -> None:
    remove(self, dma)
    if self.entry_limit is not None:
        self.entry_limit -= 1


def _new_page_each_time(old: Any, self: Landed, domain: Domain | None, group: Any, doorbell: int) -> Any:
    if domain is None or domain.msi_base is None:
        return old(self, domain, group, doorbell)
    bells, domain.doorbells = domain.doorbells, ()
    base, domain.msi_base = domain.msi_base, domain.msi_base + len(bells) * self.page_size
    result = old(self, domain, group, doorbell)
    domain.doorbells, domain.msi_base = bells + domain.doorbells, base
    return result


def _stays_open(release: Any, self: GroupFile) -> Any:
    out = release(self)
    self.vfio.opened = True
    return out


def _plain_dirty(_: Any, user_bits: int, dma: Any, base: int, granule: int, *, all_dirty: bool) -> int:
    pages = (1 << dma.size // granule) - 1 if all_dirty else 0
    return user_bits | pages << (dma.iova - base) // granule


MUTATIONS = (
    Mutation("a mapping may overlap another", "errors-6.12", _replaced(DmaTree, "find", lambda *_: None)),
    Mutation("the reserved ranges are looked at before existing mappings", "errors-6.12",
             _reordered("NEW_MAPPING_CHECKS", "the range lies inside one usable iova range")),
    Mutation("the budget of mappings is looked at before existing mappings", "intel-6.1-ir",
             _reordered("NEW_MAPPING_CHECKS", "the container has a mapping to spare")),
    Mutation("the limit of locked memory is looked at before the pages", "intel-6.1-ir",
             _reordered("PIN_CHECKS", "the locked memory stays within RLIMIT_MEMLOCK")),
    Mutation("domains are walked oldest first", "smmu2-6.12", _replaced(Type1, "_keep", _oldest_first)),
    Mutation("groups in a container are attached oldest first", "smmu2-6.12",
             lambda patch: patch.setattr(native, "reversed", list, raising=False)),
    Mutation("a new domain starts empty", "smmu2-6.12", _replaced(Type1, "_replay", lambda *_: None)),
    Mutation("a second SMMU shares the first one's domain", "smmu2-6.12", _replaced(Domain, "attach_errno", lambda *_: 0)),
    Mutation("UNMAP reaches the newest domain only", "smmu2-6.12", _replaced(Type1, "_unmap_in_domains", _only_newest)),
    Mutation("an unmapped mapping does not give its place in the budget back", "smmu1-6.12", _replaced(Type1, "_remove", _budget_is_lost)),
    Mutation("unmapped memory stays locked", "intel-6.1-ir", _replaced(Type1, "_uncharge", lambda *_: None)),
    Mutation("each vector gets a doorbell page of its own", "smmu1-6.12", _replaced(Landed, "requested", _new_page_each_time)),
    Mutation("new domains have no MSI cookie", "smmu1-6.12", _replaced(Landed, "domain_made", lambda *_: None)),
    Mutation("reserved regions are not cut out of the usable iovas", "errors-6.12", _replaced(iova, "exclude", lambda _, iovas, __: iovas)),
    Mutation("a narrower unit does not shrink the usable iovas", "smmu2mixed-6.12",
             _replaced(iova, "shrink", lambda _, iovas, aperture: iovas or (aperture,))),
    Mutation("the usable iovas do not widen when a domain dies", "smmu2mixed-6.12", _replaced(iova, "expand", lambda _, iovas, __: iovas)),
    Mutation("a group stays open when its descriptor is closed", "errors-6.12", _replaced(GroupFile, "release", _stays_open)),
    Mutation("a process's files are released in the order in which they were opened", "smmu2-6.12",
             lambda patch: patch.setattr(process, "reversed", list, raising=False)),
    Mutation("a dirty bitmap has no leftovers of the shift", "errors-7.3.4", _replaced(dirty, "report", _plain_dirty)),
    Mutation("detaching a group does not release its DMA", "smmu1-6.12", _replaced(IommuCore, "release", lambda *_: None)),
    Mutation("a new domain starts empty (and no recording is looked at)", "walk", _replaced(Type1, "_replay", lambda *_: None)),
    Mutation("unmapped memory stays locked (and no recording is looked at)", "walk", _replaced(Type1, "_uncharge", lambda *_: None)),
    Mutation("a mapping may overlap another (and no recording is looked at)", "walk", _replaced(DmaTree, "find", lambda *_: None)),
    Mutation("detaching a group does not release its DMA (and no recording is looked at)", "walk",
             _replaced(IommuCore, "release", lambda *_: None)),
    Mutation("a mapping may lie over a reserved region (and no recording is looked at)", "walk",
             _replaced(iova, "in_one", lambda *_: True)),
)  # fmt: skip

# Where a check that is left out is noticed: (table, what must hold) -> an environment of data/traces.
NOTICED_BY = {
    ("type1_checks.MAP_CHECKS", "the struct can be read"): "intel-4.4-errors",
    ("type1_checks.MAP_CHECKS", "argsz holds the whole struct (32 bytes)"): "intel-4.4-hand",
    ("type1_checks.MAP_CHECKS", "only known flags are set"): "intel-4.4-hand",
    ("type1_checks.MAP_CHECKS", "the size is not 0"): "errors-7.3.4",
    ("type1_checks.MAP_CHECKS", "neither iova nor vaddr wraps past 2^64"): "errors-7.3.4",
    ("type1_checks.MAP_CHECKS", "READ or WRITE is asked for"): "intel-4.4-hand",
    ("type1_checks.MAP_CHECKS", "VADDR comes alone"): "errors-7.3.4",
    ("type1_checks.MAP_CHECKS", "iova, size and vaddr are multiples of the smallest page"): "intel-4.4-hand",
    ("type1_checks.NEW_MAPPING_CHECKS", "no existing mapping overlaps"): "intel-4.4-hand",
    ("type1_checks.NEW_MAPPING_CHECKS", "the container has a mapping to spare"): "intel-5.10-rmrr",
    ("type1_checks.NEW_MAPPING_CHECKS", "the range lies inside one usable iova range"): "errors-7.3.4",
    ("type1_checks.PIN_CHECKS", "every page of the memory can be pinned"): "intel-4.4-noir",
    ("type1_checks.PIN_CHECKS", "the locked memory stays within RLIMIT_MEMLOCK"): "intel-4.4-noir",
    ("type1_checks.TRANSLATION_CHECKS", "the range is within the width of every IOMMU"): "intel-4.4-hand",
    ("type1_checks.UNMAP_CHECKS", "the struct can be read"): "intel-4.4-errors",
    ("type1_checks.UNMAP_CHECKS", "argsz holds the whole struct (24 bytes)"): "intel-4.4-errors",
    ("type1_checks.UNMAP_CHECKS", "only known flags are set"): "intel-4.4-hand",
    ("type1_checks.UNMAP_CHECKS", "the dirty bitmap fits the range"): "amd-6.1-ivmd",
    ("type1_checks.UNMAP_CHECKS", "iova is a multiple of the smallest page"): "intel-4.4-errors",
    ("type1_checks.UNMAP_CHECKS", "the size is one of whole pages (0 with ALL)"): "intel-4.4-hand",
    ("type1_checks.UNMAP_CHECKS", "the range does not wrap past 2^64"): "errors-7.3.4",
    ("type1_checks.UNMAP_CHECKS", "dirty tracking is on if its bitmap is asked for"): "errors-7.3.4",
    ("type1_checks.UNMAP_CHECKS", "no mapping is cut in two (v2)"): "intel-4.4-noir",
    ("type1_checks.DIRTY_CHECKS", "the container is type1 v2"): "intel-5.10-rmrr",
    ("type1_checks.DIRTY_CHECKS", "the struct can be read"): "multi-6.12",
    ("type1_checks.DIRTY_CHECKS", "argsz holds the struct (8 bytes)"): "multi-6.12",
    ("type1_checks.DIRTY_GET_CHECKS", "argsz holds the range (48 bytes)"): "multi-6.12",
    ("type1_checks.DIRTY_GET_CHECKS", "the range does not wrap past 2^64"): "intel-7.3-same",
    ("type1_checks.DIRTY_GET_CHECKS", "the bitmap fits the range"): "errors-7.3.4",
    ("type1_checks.DIRTY_GET_CHECKS", "the range is in whole smallest pages"): "errors-7.3.4",
    ("type1_checks.DIRTY_GET_CHECKS", "dirty tracking is on"): "errors-7.3.4",
    ("type1_checks.DIRTY_GET_CHECKS", "no mapping is cut in two"): "errors-7.3.4",
    ("type1_checks.ENTRY_CHECKS", "no vaddr is invalidated"): "multi-6.12",
    ("type1_checks.DRIVER_CHECKS", "the unit offers nesting, if type 6 was chosen"): "amd-4.4-errors",
    ("type1_checks.ATTACH_CHECKS", "no mapping lies outside the new domain's aperture"): "smmu2mixed-6.1.0",
    ("type1_checks.ATTACH_CHECKS", "interrupts are isolated, or unsafe ones are allowed"): "intel-4.4-noir",
    ("core.CLAIM_CHECKS", "no native driver uses a device of the group"): "intel-6.1-rmrr",
    ("core.CLAIM_CHECKS", "the IOMMU driver lets the group leave its default domain"): "intel-6.1-rmrr",
    ("drivers.VFIO_PROBE_CHECKS", "the device is no bridge"): "intel-4.4-errors",
    ("drivers.VFIO_PROBE_CHECKS", "no virtual functions are enabled on it"): "intel-6.1-rmrr",
    ("drivers.VFIO_PROBE_CHECKS", "the device has an IOMMU group"): "noiommu-5.15",
    ("drivers.NATIVE_PROBE_CHECKS", "no user owns the group's DMA"): "intel-6.1-rmrr",
    ("msi.IRQ_CHECKS", "the struct can be read"): "multi-6.12",
    ("msi.IRQ_CHECKS", "the interrupt index exists"): "multi-6.12",
    ("msi.IRQ_CHECKS", "only known flags are set"): "multi-6.12",
    ("msi.IRQ_CHECKS", "the vectors exist on the device"): "multi-6.12",
    ("msi.IRQ_CHECKS", "the data is of one type"): "multi-6.12",
    ("msi.IRQ_CHECKS", "the type has this action"): "multi-6.12",
    ("msi.INTX_MASK_CHECKS", "INTx is enabled, and it is its one vector"): "multi-6.12",
    ("msi.INTX_MASK_CHECKS", "masking is not asked of an eventfd"): "multi-6.12",
    ("msi.INTX_MASK_CHECKS", "the descriptor is open"): "multi-6.12",
    ("msi.INTX_MASK_CHECKS", "no eventfd unmasks it yet"): "multi-6.12",
    ("msi.TRIGGER_CHECKS", "no other interrupt type is enabled"): "multi-6.12",
    ("msi.TRIGGER_CHECKS", "what is to be disabled or signalled is enabled"): "multi-6.12",
    ("msi.TRIGGER_CHECKS", "the vectors were allocated at enabling"): "multi-6.1",
    ("msi.TRIGGER_CHECKS", "there is a vector to enable"): "multi-6.12",
    ("msi.SINGLE_CHECKS", "there is an eventfd, or one comes"): "multi-6.12",
    ("msi.SINGLE_CHECKS", "the descriptor is open"): "multi-6.12",
    ("msi.VECTOR_CHECKS", "the vector was allocated at enabling"): "smmu2mixed-6.12",
    ("msi.VECTOR_CHECKS", "the descriptor is open"): "multi-6.12",
    ("msi.VECTOR_CHECKS", "the descriptor is an eventfd"): "multi-6.12",
    ("checks.SET_CONTAINER_CHECKS", "the descriptor is not negative"): "intel-4.4-hand",
    ("checks.SET_CONTAINER_CHECKS", "the descriptor is open"): "errors-7.3.4",
    ("checks.SET_CONTAINER_CHECKS", "the group is in no container"): "intel-4.4-hand",
    ("checks.SET_CONTAINER_CHECKS", "the group still has a device on a VFIO driver"): "intel-6.12-ir",
    ("checks.SET_CONTAINER_CHECKS", "the process may use no-IOMMU groups"): "noiommu-5.15",
    ("checks.SET_CONTAINER_CHECKS", "the descriptor is a container"): "intel-4.4-hand",
    ("checks.SET_CONTAINER_CHECKS", "the descriptor is a container or an iommufd"): "errors-7.3.4",
    ("compat_checks.MAP_CHECKS", "the struct can be read"): "intel-6.8compat",
    ("compat_checks.MAP_CHECKS", "argsz holds the whole struct (32 bytes)"): "intel-6.12compat",
    ("compat_checks.MAP_CHECKS", "only READ and WRITE are set"): "intel-6.12compat",
    ("compat_checks.MAP_CHECKS", "the descriptor has an address space"): "intel-6.12compat",
    ("compat_checks.PAGES_CHECKS", "the size is not 0"): "intel-6.12compat",
    ("compat_checks.PAGES_CHECKS", "vaddr + size does not wrap"): "intel-6.12compat",
    ("compat_checks.LENGTH_CHECKS", "the size is a multiple of the granule"): "intel-6.12compat",
    ("compat_checks.PLACE_CHECKS", "the iova is a multiple of the granule"): "intel-6.12compat",
    ("compat_checks.PLACE_CHECKS", "iova + size does not wrap"): "intel-6.12compat",
    ("compat_checks.PLACE_CHECKS", "the range is usable"): "intel-6.12compat",
    ("compat_checks.PLACE_CHECKS", "no existing mapping overlaps"): "intel-6.12compat",
    ("compat_checks.AREA_CHECKS", "the vaddr is a multiple of the granule"): "intel-6.12compat",
    ("compat_checks.PIN_CHECKS", "the mapping may be read or written"): "intel-6.12compat",
    ("compat_checks.PIN_CHECKS", "every page of the memory can be pinned"): "intel-6.12compat",
    ("compat_checks.PIN_CHECKS", "the locked memory stays within RLIMIT_MEMLOCK"): "intel-6.12compat",
    ("compat_checks.UNMAP_CHECKS", "the struct can be read"): "intel-6.8compat",
    ("compat_checks.UNMAP_CHECKS", "argsz holds the whole struct (24 bytes)"): "intel-6.12compat",
    ("compat_checks.UNMAP_CHECKS", "only ALL is set"): "intel-6.12compat",
    ("compat_checks.UNMAP_CHECKS", "the descriptor has an address space"): "intel-6.12compat",
    ("compat_checks.UNMAP_CHECKS", "ALL goes with iova 0 and size 0"): "intel-6.12compat",
    ("compat_checks.RANGE_CHECKS", "the size is not 0"): "intel-6.12compat",
    ("compat_checks.RANGE_CHECKS", "iova + size does not wrap"): "intel-6.12compat",
    ("compat_checks.WHOLE_CHECKS", "no mapping sticks out of the range"): "intel-6.12compat",
    ("compat_checks.WHOLE_CHECKS", "something is mapped in the range"): "intel-6.8compat",
    ("compat_checks.APERTURE_CHECKS", "every mapping is inside the new domain's aperture"): "intel-6.12compat",
    ("compat_checks.SET_IOMMU_CHECKS", "the type is 1 or 3"): "intel-6.12compat",
    ("compat_checks.SET_IOMMU_CHECKS", "the descriptor has an address space"): "intel-6.12compat",
    ("compat_checks.SPACE_CHECKS", "the descriptor has an address space"): "intel-6.12compat",
    ("compat_checks.UNKNOWN_CHECKS", "the descriptor has the ioctl"): "intel-6.12compat",
    ("native.SET_IOMMU_CHECKS", "the container holds a group"): "multi-6.12",
    ("native.SET_IOMMU_CHECKS", "the container has no backend yet"): "multi-6.12",
    ("native.SET_IOMMU_CHECKS", "a backend offers the type"): "intel-4.4-hand",
    ("native.BACKEND_CHECKS", "the container has a backend"): "intel-4.4-hand",
    ("native.BACKEND_CHECKS", "the backend is type1"): "noiommu-5.15",
    ("native.UNKNOWN_CHECKS", "the container has a backend"): "multi-6.12",
    ("native.UNKNOWN_CHECKS", "the backend has the ioctl"): "intel-4.4-hand",
    ("type1_checks.VADDR_CHECKS", "there is a mapping to update"): "multi-6.12",
    ("type1_checks.VADDR_CHECKS", "its vaddr was invalidated"): "multi-6.12",
    ("type1_checks.VADDR_CHECKS", "it is the whole mapping"): "multi-6.12",
    ("type1_checks.OWNER_CHECKS", "the locked memory stays within the new owner's RLIMIT_MEMLOCK"): "multi-6.12",
    ("type1_checks.INVALIDATE_CHECKS", "no vaddr in the range is invalidated already"): "multi-6.12",
    ("type1_checks.DRIVER_CHECKS", "the unit's driver takes the group"): "intel-4.19-rmrr",
    ("machine.PARAMETER_CHECKS", "the kernel has the parameter"): "intel-6.12compat",
    ("info.INFO_CHECKS", "the struct can be read"): "multi-6.12",
    ("info.INFO_CHECKS", "argsz holds the smallest struct (16 bytes)"): "intel-4.4-hand",
    ("checks.IOCTL_CHECKS", "the pointer can be read"): "multi-6.12",
    ("checks.IOCTL_CHECKS", "the descriptor has the ioctl"): "multi-6.12",
    ("checks.OPEN_GROUP_CHECKS", "the node exists"): "multi-6.12",
    ("checks.OPEN_GROUP_CHECKS", "the process may use no-IOMMU groups"): "noiommu-5.15",
    ("checks.OPEN_GROUP_CHECKS", "the group is not open"): "intel-4.4-hand",
    ("checks.OPEN_GROUP_CHECKS", "the group is in no container"): "intel-4.4-errors",
    ("checks.STATUS_CHECKS", "the struct can be read"): "errors-7.3.4",
    ("checks.STATUS_CHECKS", "argsz holds the struct (8 bytes)"): "intel-6.12compat",
    ("checks.STATUS_CHECKS", "the group still has a device on a VFIO driver"): "multi-6.12",
    ("checks.UNSET_CHECKS", "the group is in a container"): "intel-4.4-hand",
    ("checks.UNSET_CHECKS", "no device of the group is open (native container)"): "intel-4.4-hand",
    ("checks.OPEN_DEVICE_CHECKS", "the device is on a VFIO driver in this group"): "intel-4.4-hand",
    ("checks.OPEN_DEVICE_CHECKS", "the device is not being unbound"): "multi-6.12",
    ("checks.OPEN_DEVICE_CHECKS", "the group is in a container"): "intel-4.4-hand",
    ("checks.OPEN_DEVICE_CHECKS", "the container has a backend"): "intel-4.4-hand",
    ("checks.OPEN_DEVICE_CHECKS", "the group is viable"): "intel-4.4-hand",
    ("checks.OPEN_DEVICE_CHECKS", "the process may use no-IOMMU groups"): "noiommu-5.15",
    ("drivers.DEVICE_CHECKS", "the device exists"): "amd-4.14",
    ("vfio_pci.IRQ_INFO_CHECKS", "the interrupt type exists"): "multi-6.12",
}  # fmt: skip
# Checks that no recording here reaches: they rest on reading, and each has an example by hand in test_model_refusals.
BY_HAND = {
    ("type1_checks.TRANSLATION_CHECKS", "no doorbell page is in the way"),
    ("type1_checks.UNMAP_CHECKS", "a dirty bitmap comes alone"),
    ("type1_checks.UNMAP_CHECKS", "no emulated group uses vaddrs"),
    ("type1_checks.DIRTY_CHECKS", "exactly one known flag is set"),
    ("type1_checks.ENTRY_CHECKS", "the group is not in this container's domains"),
    ("type1_checks.ATTACH_CHECKS", "no mapping overlaps a reserved region of the group"),
    ("type1_checks.ATTACH_CHECKS", "some iova is left"),
    ("core.CLAIM_CHECKS", "nobody else owns the group's DMA"),
    ("core.CLAIM_CHECKS", "no member needs a direct region"),
    ("drivers.VFIO_PROBE_CHECKS", "its IOMMU can do cache-coherent mappings"),
    ("msi.IRQ_CHECKS", "argsz holds the struct (20 bytes)"),
    ("msi.IRQ_CHECKS", "argsz holds the data"),
    ("type1_checks.BITMAP_CHECKS", "the bitmap can be written"),
    ("checks.NAME_CHECKS", "the name ends within a page"),
    ("msi.IRQ_CHECKS", "the data can be read"),
    ("vfio_pci.FEATURE_CHECKS", "argsz holds the struct"),
    ("vfio_pci.FEATURE_CHECKS", "get and set are not asked together"),
    ("vfio_pci.FEATURE_CHECKS", "only known flags are set"),
    ("vfio_pci.FEATURE_CHECKS", "the struct can be read"),
    ("vfio_pci.NO_FEATURE_CHECKS", "the device has the feature"),
    ("msi.INTX_MASK_CHECKS", "the descriptor is an eventfd"),
    ("msi.TRIGGER_CHECKS", "INTx has one vector"),
    ("msi.SINGLE_CHECKS", "the descriptor is an eventfd"),
    ("native.ENTER_CHECKS", "no-IOMMU groups and others are not mixed"),
    ("compat_checks.PAGES_CHECKS", "the size leaves room to round up to pages"),
    ("compat_checks.FIT_CHECKS", "every unit can translate it"),
    ("compat_checks.CUT_CHECKS", "a mapping is cut at whole pages (type 1)"),
    ("compat_checks.BIND_CHECKS", "interrupts are isolated, or unsafe ones are allowed"),
    ("compat_checks.OPEN_CHECKS", "there is one kind of MSI region"),
    ("compat_checks.ALIGNED_CHECKS", "every mapping is made of whole pages"),
    ("compat_checks.HUGE_CHECKS", "no mapping is in a domain"),
    ("compat_checks.HUGE_CHECKS", "every mapping is made of whole pages"),
    ("compat_checks.UNKNOWN_CHECKS", "the pointer can be read (iommufd's own ioctls take a struct)"),
    ("native.SET_IOMMU_CHECKS", "the type is one of a container"),
    ("type1_checks.REPLAY_CHECKS", "every mapping is within the width of the new unit"),
    ("machine.VALUE_CHECKS", "a boolean is one"),
    ("machine.VALUE_CHECKS", "a number is one of 32 bits"),
    ("checks.DESCRIPTOR_CHECKS", "the descriptor is open"),
    ("checks.DESCRIPTOR_CHECKS", "the container is this process's"),
    ("checks.INFO_BACK_CHECKS", "the struct can be written back"),
    ("checks.OPEN_DEVICE_CHECKS", "its options are known"),
    ("checks.OPEN_DEVICE_CHECKS", "a VF token is given for a PF or VF only"),
    ("checks.CAPABILITY_CHECKS", "the capability was not given up for good"),
    ("drivers.PCI_CHECKS", "the device is a PCI function"),
    ("drivers.DRIVER_CHECKS", "the driver is loaded"),
    ("vfio_pci.REGION_INFO_CHECKS", "the region exists"),
    ("vfio_pci.MMAP_CHECKS", "the piece lies inside a BAR"),
    ("vfio_pci.RESET_CHECKS", "the function has a reset of its own, or a bus to itself"),
    ("vfio_pci.HOT_RESET_INFO_CHECKS", "there is a bridge above the bus"),
    ("vfio_pci.HOT_RESET_INFO_CHECKS", "every affected function is in a group"),
    ("vfio_pci.HOT_RESET_CHECKS", "every affected function is yours"),
    ("vfio_pci.HOT_RESET_CHECKS", "the number of groups fits"),
    ("vfio_pci.HOT_RESET_INFO_CHECKS", "argsz holds the list"),
    ("type1_checks.POLICY_CHECKS", "no doorbell's place is in the range"),
    ("checks.STRUCT_CHECKS", "the struct can be read"),
    ("checks.STRUCT_CHECKS", "argsz holds the struct"),
    ("checks.ATTACH_PT_CHECKS", "argsz holds the struct"),
    ("checks.ATTACH_PT_CHECKS", "no flags are set"),
    ("checks.ATTACH_PT_CHECKS", "the struct can be read"),
    ("checks.BIND_IOMMUFD_CHECKS", "argsz holds the struct (16 bytes)"),
    ("checks.BIND_IOMMUFD_CHECKS", "it is an iommufd"),
    ("checks.BIND_IOMMUFD_CHECKS", "its group's node is not open"),
    ("checks.BIND_IOMMUFD_CHECKS", "no flags are set"),
    ("checks.BIND_IOMMUFD_CHECKS", "nobody else has the device open"),
    ("checks.BIND_IOMMUFD_CHECKS", "the device was opened by its own node"),
    ("checks.BIND_IOMMUFD_CHECKS", "the iommufd's descriptor is not negative"),
    ("checks.BIND_IOMMUFD_CHECKS", "the iommufd's descriptor is open"),
    ("checks.BIND_IOMMUFD_CHECKS", "the struct can be read"),
    ("checks.BIND_IOMMUFD_CHECKS", "this descriptor is not tied yet"),
    ("checks.GRANTED_CHECKS", "the device is tied to an iommufd"),
    ("checks.NODE_CHECKS", "the node of that name exists"),
    ("checks.OPEN_GROUP_CHECKS", "no device of it is tied to an iommufd by its own node"),
    ("compat_checks.AREA_CHECKS", "the memory was given to be written, if the mapping is"),
    ("compat_checks.CHOOSE_CHECKS", "the memory is aligned as the iova must be"),
    ("compat_checks.CHOOSE_CHECKS", "the size can be rounded up to a power of two"),
    ("compat_checks.CHOOSE_CHECKS", "there is a place for it"),
    ("compat_checks.OPEN_CHECKS", "every mapping stays usable"),
    ("compat_checks.OPEN_CHECKS", "what was allowed stays usable"),
    ("compat_checks.APERTURE_CHECKS", "what was allowed is inside the new domain's aperture"),
}
# No recording of iommufd's own ioctls is known.
BY_HAND |= {
    (f"iommufd_checks.{table}", check.text) for module, table, check in every_check() if module.__name__.endswith(".iommufd_checks")
}

# Where a switch that is the other way round is noticed, the units' recorded apertures and page sizes being left out.
FLIPS = {
    "refused_block_masks": "multi-4.19",
    "info_pgsizes_flag": "intel-4.4-hand",
    "info_iova_ranges": "errors-7.3.4",
    "info_migration": "intel-4.4-hand",
    "info_dma_avail": "intel-4.4-hand",
    "info_avail_first": "intel-5.4-aw48-snoop",
    "info_caps_padded": "errors-5.10",
    "noiommu": "noiommu-5.15",
    "dma_ownership": "intel-4.4-hand",
    "negative_fd_ebadf": "noiommu-5.15",
    "group_can_die": "intel-4.4-hand",
    "last_unbind_blocks": "intel-4.4-hand",
    "no_container_wait": "multi-4.19",
    "wrong_fd_ebadfd": "intel-4.4-hand",
    "probe_errno_reaches_bind": "intel-4.4-errors",
    "pf_with_vfs_refused": "intel-4.14-ir",
    "leaving_device_hidden": "multi-6.1",
    "close_takes_no_device_lock": "multi-6.12",
    "direct_blocks_ownership": "intel-6.1-rmrr",
    "reserved_regions": "errors-7.3.4",
    "direct_relaxable": "intel-5.4-aw48-snoop",
    "valid_iova": "intel-4.4-noir",
    "enforced_coherency": "errors-5.10",
    "no_nesting": "noiommu-5.15",
    "no_superpage_probe": "errors-6.12",
    "attach_needs_valid_vaddr": "multi-5.15",
    "smmu_other_unit_einval": "smmu2mixed-6.1.0",
    "smmu_nesting_eperm": "errors-5.10",
    "intel_nesting_einval": "multi-6.12",
    "intel_nesting_enodev": "intel-4.4-hand",
    "intel_aperture_by_width": "intel-5.4-aw48-snoop",
    "intel_real_page_sizes": "intel-4.4-hand",
    "intel_no_rmrr_lock": "intel-4.19-rmrr",
    "amd_v1_to_2_51": "amd-4.4-errors",
    "dma_entry_limit": "errors-7.3.4",
    "vaddr_update": "intel-4.4-hand",
    "update_vaddr_needs_backend": "noiommu-5.15",
    "wrap_eoverflow": "intel-4.4-noir",
    "unmap_wrap_check": "intel-4.4-noir",
    "unmap_all": "intel-4.4-hand",
    "unmap_in_iova_order": "errors-5.10",
    "dirty_tracking": "intel-4.4-hand",
    "runs_are_charged": "intel-4.19-ir",
    "unmap_by_anyone": "multi-4.19",
    "vaddr_changes_owner": "multi-5.15",
    "read_pin_breaks_cow": "multi-4.19",
    "zero_page_pinned": "multi-6.1",
    "long_term_cow": "multi-4.19",
    "bar_needs_memory_space": "multi-4.19",
    "compat_unmap_nothing": "intel-6.8compat",
    "no_vectors_enospc": "multi-4.19",
    "no_vectors_erange": "multi-6.12",
    "dynamic_msix_x86": "multi-4.19",
    "dynamic_msix_its": "smmu2mixed-6.1.0",
}
