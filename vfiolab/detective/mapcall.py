"""The line that QEMU prints most, `vfio_dma_map(0x..., 0xIOVA, 0xSIZE, 0xVADDR) = -22 (Invalid argument)`: its numbers decide.

The call is made again on a machine of the kit, and the check that refuses it speaks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Literal, NamedTuple

from vfiolab.kit import AddressSpace, Host, load
from vfiolab.kit.space import device_name
from vfiolab.model.address import Span, hexa, human_size
from vfiolab.model.backends.type1 import Type1
from vfiolab.model.backends.type1_checks import Rules
from vfiolab.model.errors import NAMES, STRERROR, Refusal, VfioError
from vfiolab.model.iommu.group import IommuGroup
from vfiolab.model.user.container import MOST_FRESH
from vfiolab.readers.lines import LONGEST
from vfiolab.readers.qemu import DmaMapError, parse_dma_map_error

#: Where QEMU's x86 machines never put RAM: above max-ram-below-4g's default, below the I/O APIC (pc_init1, hw/i386/pc_piix.c; pc_q35.c).
BELOW_4G = Span(0xE0000000, 0xFEC00000)
#: Where QEMU's virt machine puts the BARs of a guest with up to 255 GiB of RAM (VIRT_HIGH_PCIE_MMIO, hw/arm/virt.c).
ARM_HIGH_MMIO = Span(1 << 39, 1 << 40)
#: No x86 process has memory there, unless it asks for five-level tables (TASK_SIZE_MAX); Arm processes put their own near 2^48.
X86_USER_END = 1 << 47
BRIDGE_CLASS = 0x06  # bridges of every sort, the host bridge included: nobody hands those to a user

#: The word for a check that a call fails without running into anything, by what the check states.
KINDS = {
    "the size is not 0": "size",
    "iova, size and vaddr are multiples of the smallest page": "alignment",
    "neither iova nor vaddr wraps past 2^64": "wrap",
    "the range is within the width of every IOMMU": "outside",
}
#: Without a machine given, one of each kind is asked: the second entry is the kernel, "" for the machine's own.
ONE_OF_EACH = (("intel-vtd-39bit", ""), ("amd-vi-server", ""), ("one-smmu-its", ""))
#: Between 4.12 and 5.9 VT-d answered EFAULT past its width.
WIDTH_IS_EFAULT = (("intel-vtd-39bit", "5.4"),)

__all__ = ["Case", "Explanation", "Suspect", "a_device", "explain_map", "loaded", "suspects"]


@dataclass(frozen=True, slots=True)
class Case:
    """What the model answers with one group attached: a refusal, or None if it maps. `stage`: the call that ended it, map or attach.

    A group refused at attach says nothing about the line: its map call was never made.
    """

    device: str
    group: int | None
    unit: str
    refused: Refusal | None = None
    stage: Literal["map", "attach"] = "map"

    @property
    def where(self) -> str:
        """The group, its device and its unit, in words."""
        number = "no group" if self.group is None else f"group {self.group}"
        return f"{number} ({self.device}, behind {self.unit})"


@dataclass(slots=True)
class Explanation:
    """The line's call, tried on a machine. `others`: (text, fix, source) of checks of the same errno, where the line shows no cause.

    `machine`: what `vl.load` is given to get this host.
    """

    error: DmaMapError
    host: Host
    machine: str
    cases: list[Case] = field(default_factory=list)
    others: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def causes(self) -> list[Case]:
        """The cases in which the model refuses the map call with the line's own errno."""
        return [
            case
            for case in self.cases
            if case.stage == "map" and isinstance(case.refused, VfioError) and case.refused.errno == self.error.errno
        ]

    def __str__(self) -> str:
        return "\n".join(self._lines())

    @property
    def headline(self) -> str:
        """The call in words, and the errno."""
        error = self.error
        name = NAMES.get(error.errno, str(error.errno))
        fits = 0 < error.size <= (1 << 64) - error.iova
        what = f"{Span.sized(error.iova, error.size)} ({human_size(error.size)})" if fits else f"{hexa(error.iova)} + {error.size:#_x}"
        return f"MAP_DMA of iova {what} at vaddr {hexa(error.vaddr or 0)}: {name} ({STRERROR.get(name, error.message)})"

    @property
    def summary(self) -> str:
        """One line: what this machine answers."""
        where = f"{self.host.machine.name}, kernel {self.host.kernel}"
        if self.causes:
            return f"{where}: {self.causes[0].refused}"
        tried = [case for case in self.cases if case.stage == "map"]
        refused = next((case.refused for case in tried if case.refused is not None), None)
        return f"{where}: {refused or ('would be mapped' if tried else 'no group could be attached')}"

    def _lines(self) -> Iterator[str]:
        yield f"Tried on {self.host.machine.name}, kernel {self.host.kernel}."
        for case, groups in _alike(self.causes):
            yield from ("", f"The cause, with {groups} attached:")
            yield from case.refused.explain().splitlines() if isinstance(case.refused, VfioError) else ()
        for case, groups in _alike(case for case in self.cases if case not in self.causes):
            if case.stage == "attach":
                yield from ("", f"{groups[0].upper()}{groups[1:]} cannot be attached, so the call is not reached: {case.refused}.")
            else:
                said = "would be mapped" if case.refused is None else f"answers {case.refused}"
                yield from ("", f"With {groups} attached, the same call {said}.")
        if self.causes:
            yield from ("", "Try it:", *(f"  {line}" for line in self.experiment(self.causes[0]).splitlines()))
        elif self.others:
            name = NAMES.get(self.error.errno)
            yield from ("", f"The line alone does not show the cause. MAP_DMA answers {name} when one of these does not hold:")
            for text, fix, source in self.others:
                yield from (f"  - {text} ({source})", f"    fix: {fix}")

    def experiment(self, case: Case) -> str:
        """Return the call on this machine as Python that runs as it is."""
        error, page = self.error, self.host.machine.page_size
        vaddr = error.vaddr or 0
        fresh = 0 <= error.size < MOST_FRESH and vaddr % page == 0 and vaddr + error.size <= 1 << 64
        host = f'vl.load({json.dumps(self.machine, ensure_ascii=False)}, kernel="{self.host.kernel}")'
        mapped = f"space.map({error.iova:#_x}, {error.size:#_x}{'' if fresh else f', vaddr={vaddr:#_x}'})"
        return f'import vfiolab as vl\nspace = {host}.address_space()\nspace.attach("{case.device}")\n{mapped}'

    @property
    def kinds(self) -> list[tuple[str, Case]]:
        """What stands in the way, a word for each kind of cause and the case that shows it: what the call ran into, else the check."""
        found: dict[str, Case] = {}
        for case in self.causes:
            refused = case.refused
            if isinstance(refused, VfioError):
                kind = refused.obstacles[0].kind if refused.obstacles else KINDS.get(refused.failed, "other")
                found.setdefault(kind, case)
        return list(found.items())


def _alike(cases: Iterable[Case]) -> Iterator[tuple[Case, str]]:
    """Yield the first of the cases that answer alike, and where all of them are."""
    said: dict[tuple[str, str], list[Case]] = {}
    for case in cases:
        said.setdefault((case.stage, str(case.refused)), []).append(case)
    yield from ((alike[0], " or ".join(case.where for case in alike)) for alike in said.values())


def explain_map(line: str | DmaMapError, host: Host, devices: Sequence[str] = (), *, machine: str | None = None) -> Explanation:
    """Make the call of QEMU's error line again, the memory at its vaddr being there.

    It is made with the groups of `devices`, else with one group of each kind that the machine has. `machine`: the name or path that the
    host was loaded by, for the experiment to print. ValueError for a line of another form or of an unmap, or a device that the machine
    does not have.

    >>> import vfiolab as vl
    >>> line = "vfio_dma_map(0x55f0, 0xfee00000, 0x100000, 0x7f0000000000) = -22 (Invalid argument)"
    >>> print(vl.explain_map(line, vl.load("intel-vtd-39bit"), ["01:00.0"]).summary)
    intel-vtd-39bit, kernel 6.12: EINVAL: 0xfee0_0000-0xfeef_ffff overlaps the MSI window 0xfee0_0000-0xfeef_ffff
    """
    error = parse_dma_map_error(line[:LONGEST]) if isinstance(line, str) else line
    if error is None:
        shown = f"{line:.200}..." if len(str(line)) > 200 else line
        raise ValueError(
            f"no line of the form 'vfio_dma_map(0x..., 0x..., 0x..., 0x...) = -22 (...)' in {shown!r};"
            " give QEMU's line as it is, in quotes. For a group that is not viable, or refused with 'Operation not permitted',"
            " notebook 05 has the checks (vfiolab lab)"
        )
    if error.verb != "map":
        raise ValueError(f"a line of vfio_dma_{error.verb} is not explained yet: give one of vfio_dma_map")
    devices = [device_name(host, device) for device in devices]
    _need(host, devices)
    found = Explanation(error, host, host.machine.name if machine is None else machine)
    for device in devices or [group.devices[0] for group in _kinds(host)]:
        found.cases.append(_try(error, host, device))
    if not found.causes:
        found.others = _others(error, host, found.cases)
    return found


def _need(host: Host, devices: Sequence[str]) -> None:
    known = [device for group in host.groups for device in group.devices]
    for device in devices:
        if device not in host.topology and device not in known:
            raise ValueError(f"{host.machine.name} has no device {device}: name one of its devices, such as {', '.join(known[-3:])}")


def _kinds(host: Host) -> list[IommuGroup]:
    """Return one attachable group for each unit and set of reserved regions."""
    seen: dict[tuple[object, object], IommuGroup] = {}
    for group in host.groups:
        functions = [host.topology[device] for device in group.devices if device in host.topology]
        ordinary = [f.bdf for f in functions if f.is_for_users and (f.class_code or 0) >> 16 != BRIDGE_CLASS]
        if ordinary and group.unit is not None and not group.native:
            key = (group.unit.name, group.reserved)
            seen.setdefault(key, IommuGroup(group.id, sorted(ordinary, key=group.devices.index), group.unit))
    return list(seen.values())


def _attached(host: Host, device: str) -> AddressSpace:
    space = host.with_kernel(host.kernel).address_space()
    space.attach(device)
    return space


def _try(error: DmaMapError, host: Host, device: str) -> Case:
    group = host.group_of(device)
    unit = group.unit.name if group is not None and group.unit is not None else "no IOMMU"
    case = Case(device, None if group is None else group.id, unit)
    try:
        space = _attached(host, device)
    except Refusal as refused:
        return replace(case, refused=refused, stage="attach")
    page = host.machine.page_size
    vaddr = error.vaddr or 0
    start, end = vaddr // page * page, -(-(vaddr + error.size) // page) * page
    try:
        if start < end <= 1 << 64:
            space.process.remap(start, end - start)
        space.container.map_dma(error.iova, error.size, vaddr)
    except Refusal as refused:
        return replace(case, refused=refused)
    return case


def _others(error: DmaMapError, host: Host, cases: list[Case]) -> list[tuple[str, str, str]]:
    for case in cases:
        if case.refused is None:
            backend = _attached(host, case.device).container.backend
            if isinstance(backend, Type1):
                name, arm = NAMES.get(error.errno), any(domain.unit.is_arm for domain in backend.domains)
                rows = [check for check in Rules(backend.kernel).map.whole if check.errno == name]
                return [(row.text, row.fix, row.source) for row in rows if arm or not row.source.startswith("arm_")]
    return []


class Suspect(NamedTuple):
    """A kind of cause that fits a line's numbers, and the experiment that shows it, if the model has one."""

    kind: str
    why: str = ""
    experiment: str | None = None


@cache
def loaded(name: str, kernel: str | None) -> Host:
    """Return a host that is only looked at, loaded once; ValueError as `vl.load`."""
    return load(name, kernel)


def a_device(host: Host, wished: Iterable[str], *, must: bool) -> str:
    """Return the first wished device that the host has, else one that can be handed over; ValueError if it `must` be a wished one."""
    for name in wished:
        device: str = device_name(host, name)
        if must or device in host.topology:
            _need(host, [device])
            return device
    groups = _kinds(host)
    return next((group.devices[0] for group in (*groups, *host.groups)), "0000:01:00.0")


def suspects(
    error: DmaMapError, program: str, machine: str | None, kernel: str | None, devices: Sequence[str]
) -> tuple[list[Suspect], list[Explanation]]:
    """Return what can have refused the call, most likely first, and what was tried. ValueError: see `explain_map`, `load`.

    What the line's numbers leave out is left out: a range of guest RAM larger than 512 GiB was not refused by a host of 39 bits, whose own
    memory ends there (inference); an x86 guest under KVM is behind no SMMU; memory at a vaddr past 2^47 is no x86 process's.
    """
    arm = (error.vaddr or 0) >= X86_USER_END
    each = [(name, kernel or own) for name, own in ONE_OF_EACH if name.startswith("one-smmu") or not arm]
    names = [(machine, kernel)] if machine else each
    if not machine and not kernel and error.name == "EFAULT" and not arm:
        names = [*names, *WIDTH_IS_EFAULT]
    tried = [explain_map(error, loaded(name, version or None), devices, machine=name) for name, version in names]
    found: dict[str, Suspect] = {}
    for one in tried:
        for kind, case in one.kinds:
            found.setdefault(kind, Suspect(kind, getattr(case.refused, "why", ""), one.experiment(case)))
    if not machine:
        _leave_out(found, error, program)
    if error.name == "EFAULT" and not found:
        bars = ARM_HIGH_MMIO if arm else BELOW_4G
        found = {kind: Suspect(kind) for kind in (("bar",) if bars.contains(error.iova) else ("bar", "hole"))}
    if error.name == "EINVAL" and not found:
        small = any(number % 0x10000 for number in (error.iova, error.size, error.vaddr or 0))
        found = {kind: Suspect(kind) for kind in (*(("pages",) if small else ()), "unseen", "order")}
    return list(found.values()), tried


def _leave_out(found: dict[str, Suspect], error: DmaMapError, program: str) -> None:
    if "outside" in found and "reserved" in found and error.size > 1 << 39:
        del found["outside"]
    if "sw-msi" in found and not re.search("aarch64|arm|virt.ram", program):
        del found["sw-msi"]
        if not re.search("x86_64|i386|pc.ram", program):
            found |= {"sw-msi": Suspect("sw-msi"), "unseen": Suspect("unseen")}
