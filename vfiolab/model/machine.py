"""A machine, and a host: a machine that runs a kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import NamedTuple

from vfiolab._text import count
from vfiolab.model.address import Span
from vfiolab.model.backends.compat import Compat
from vfiolab.model.backends.native import NOIOMMU_MODE, Native
from vfiolab.model.backends.protocol import Server, System
from vfiolab.model.backends.type1 import ENTRY_LIMIT
from vfiolab.model.checks import Check, table
from vfiolab.model.errors import VfioError
from vfiolab.model.events import EventLog
from vfiolab.model.iommu.core import IommuCore
from vfiolab.model.iommu.doorbells import Doorbells, Landed
from vfiolab.model.iommu.group import IommuGroup, merged_reserved
from vfiolab.model.iommu.unit import IommuUnit, ReservedRegion
from vfiolab.model.irq.msi import InterruptController
from vfiolab.model.kernel import Kernel
from vfiolab.model.pci.grouping import Grouping, GroupingOptions, booted, iommu_groups
from vfiolab.model.pci.topology import Topology
from vfiolab.model.uapi.requests import switched_on, word
from vfiolab.model.user.drivers import Drivers
from vfiolab.model.user.process import Arena, Memory
from vfiolab.model.user.process_calls import UserProcess

DRIVERS = frozenset({"pci-stub", "pcieport", "vfio-pci"})
MEMLOCK = 8 << 20
PARAMS = MappingProxyType({
    "vfio_iommu_type1.allow_unsafe_interrupts": "N", "vfio_iommu_type1.disable_hugepages": "N", "vfio_iommu_type1.dma_entry_limit": "65535",
})  # fmt: skip
CONVENTIONAL_BRIDGES = frozenset({"pcie-to-pci", "pci-to-pcie", "pci-bridge"})
BOOLEANS = frozenset({
    "allow_unsafe_interrupts", "disable_hugepages", "enable_unsafe_noiommu_mode", "disable_idle_d3", "nointxmask", "disable_denylist",
    "enable_sriov",
})  # fmt: skip


class _Parameter(NamedTuple):
    """A module parameter of a host, read or to be written."""

    host: Host
    name: str
    text: str = ""

    @property
    def boolean(self) -> bool:
        """Whether it is on or off, and no number."""
        return self.name.rsplit(".", 1)[-1] in BOOLEANS


PARAMETER_CHECKS = (
    Check("the kernel has the parameter", "ENOENT", "sysfs: /sys/module", lambda r: f"kernel {r.host.kernel} has no module parameter {r.name}; known: {', '.join(sorted(r.host.params)) or 'none'}",
          "name a parameter that it has", test="r.name not in r.host.params"),
)  # fmt: skip
VALUE_CHECKS = (
    Check("a boolean is one", "EINVAL", "param_set_bool, kernel/params.c", "{r.name} is a boolean, not {r.text!r}", "write Y or N",
          test="r.boolean and r.text not in ('0', '1', 'Y', 'N', 'y', 'n', 'on', 'off')"),
    Check("a number is one of 32 bits", "EINVAL", "param_set_uint, kernel/params.c", "{r.name} is a number of 32 bits, not {r.text!r}", "write a number",
          test="not r.boolean and not (r.text.isascii() and r.text.isdecimal() and len(r.text) <= 20 and int(r.text) < 1 << 32)"),
)  # fmt: skip


class RecordedGroup(NamedTuple):
    """A group as a real kernel formed it. `regions` None: its reserved regions were not recorded."""

    id: int
    devices: tuple[str, ...]
    regions: tuple[ReservedRegion, ...] | None = None
    type: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Hardware and its settings: what is there before a kernel looks at it.

    `notes` say what is recorded and what is assumed. `groups_from`: "topology" (groups follow from the ACS registers) or "recorded".
    `vfio`: "type1" or "iommufd-compat", who serves /dev/vfio/vfio. `emulated`: mediated devices. `memlock` in bytes, None for unlimited.
    `participants`: the devices behind an IOMMU, where they are known and the units are not. `units_assumed`: nobody recorded the units.
    `bars`: the bus addresses that a device answers at, where they are known.
    """

    name: str
    topology: Topology
    units: tuple[IommuUnit, ...] = ()
    interrupts: InterruptController | None = None
    kernel: str | None = None
    source: str = ""
    cpu: str = ""
    notes: tuple[str, ...] = ()
    vfio: str = "type1"
    groups: tuple[RecordedGroup, ...] = ()
    groups_from: str = "topology"
    participants: frozenset[str] | None = None
    units_assumed: bool = False
    firmware: Mapping[str, tuple[ReservedRegion, ...]] = field(default_factory=lambda: MappingProxyType({}))
    drivers: frozenset[str] = DRIVERS
    params: Mapping[str, str] = field(default_factory=lambda: PARAMS)
    page_size: int = 4096
    arena: Arena = field(default_factory=Arena)
    memlock: int | None = MEMLOCK
    emulated: tuple[str, ...] = ()
    bars: Mapping[str, tuple[Span, ...]] = field(default_factory=lambda: MappingProxyType({}))

    def host(self, kernel: Kernel | str | None = None, options: GroupingOptions | None = None) -> Host:
        """Boot a kernel on the machine: the given one, else the machine's own, else the newest."""
        if kernel is None:
            kernel = self.kernel or Kernel()
        return Host(self, kernel if isinstance(kernel, Kernel) else Kernel(kernel), options)

    @property
    def behind(self) -> frozenset[str] | None:
        """The devices behind an IOMMU, where somebody recorded them; None where a rule has to decide (`leaves_out`)."""
        if self.participants is not None or self.units_assumed:
            return self.participants
        return frozenset(device for unit in self.units for device in unit.devices) or None

    def grouping(self, kernel: Kernel, options: GroupingOptions | None = None) -> Grouping:
        """Compute the IOMMU groups, as every host and every command does. NotComputableError (a ValueError) if the input does not decide."""
        return iommu_groups(self.topology, kernel, options, participants=self.behind)

    def with_assumed_units(self) -> Machine:
        """Return the machine with an IOMMU in front of every device if none is recorded; `notes` say what was assumed and why."""
        if self.units:
            return self
        vendors = [function.vendor for function in self.topology.values()]
        devices = self.participants or frozenset(f.bdf for f in self.topology.values() if not f.is_iommu)
        if vendors.count(0x8086) > vendors.count(0x1022):
            unit = IommuUnit(name="dmar0", kind="intel-vtd", devices=devices, width=39)
            why = "one VT-d unit of 39 bits with interrupt remapping, as Intel client machines have: the units were not recorded"
        elif 0x1022 in vendors:
            unit = IommuUnit(name="ivhd0", kind="amd-vi", devices=devices, width=64)
            why = "one AMD-Vi unit with v1 page tables and interrupt remapping, as AMD machines have: the units were not recorded"
        else:
            unit = IommuUnit(name="smmu3.0", kind="arm-smmu-v3", devices=devices, stage=1)
            why = "one SMMUv3, stage 1, 48 bits, behind a GICv3 ITS at an invented address: neither Intel nor AMD, and the units were not recorded"
        controller = InterruptController("gicv3-its", 0x8090040) if unit.is_arm else InterruptController("x86-apic")
        notes = (*self.notes, f"assumed: {why}")
        return replace(self, units=(unit,), units_assumed=True, interrupts=self.interrupts or controller, notes=notes)

    def __repr__(self) -> str:
        return f"Machine({self.name!r}, {len(self.topology)} functions, {len(self.units)} IOMMU units)"


class Host:
    """A machine that runs a kernel: groups, drivers, and one user process.

    >>> from vfiolab.model.builder import MachineBuilder
    >>> m = MachineBuilder("demo")
    >>> smmu = m.unit("smmu0", kind="arm-smmu-v3")
    >>> port = m.root_port("00:01.0", unit=smmu, acs=True)
    >>> m.endpoint("01:00.0", below=port, functions=2)
    >>> m.host(kernel="6.12").groups
    [IommuGroup(0, [0000:00:01.0]), IommuGroup(1, [0000:01:00.0, 0000:01:00.1])]
    """

    def __init__(
        self,
        machine: Machine,
        kernel: Kernel,
        options: GroupingOptions | None = None,
        doorbells: Callable[..., Doorbells] = Landed,
        grouping: Grouping | None = None,
    ) -> None:
        """Boot. `grouping`: what grouping said of the same machine, kernel and options, whatever its drivers; it is not computed again then."""
        if machine.vfio == "iommufd-compat" and kernel.version < (6, 2):
            raise ValueError(
                f"machine {machine.name}: iommufd serves /dev/vfio/vfio from Linux 6.2 on; boot 6.2 or later, or a machine with vfio='type1', not {kernel}"
            )
        self.machine, self.kernel = machine, kernel
        self.log = EventLog()
        self.params = self._params()
        self.interrupts = machine.interrupts
        every = self.interrupts.all if self.interrupts is not None else ()
        known = [controller.doorbell for controller in every if controller.doorbell is not None]
        self.core = IommuCore(machine.units, doorbells(kernel, machine.page_size, self.log, known))
        self.options = options or GroupingOptions()
        self.grouping: Grouping | None = None
        #: The PCI functions, as the boot parameters left them: for grouping, delivery, drivers and pictures alike.
        self.topology = booted(machine.topology, kernel, self.options)[0]
        for group in self._form_groups(grouping):
            self.core.add(group)
        self._boot_groups = tuple(group.devices for group in self.core.groups.values())
        bound = {function.bdf: function.driver for function in self.topology.values()}
        self.drivers = Drivers(kernel, self.topology, self.core, machine.drivers, bound)
        self.drivers.noiommu_mode = switched_on(self.params, NOIOMMU_MODE)
        self.drivers.before_probe = self._late_group
        for name in machine.emulated:
            self.drivers.add_emulated(IommuGroup(self._free_number(), [name], None, emulated=True))
        self.user_pages = 0
        self.processes: dict[str, UserProcess] = {}
        self.process = self._start("")

    def _params(self) -> dict[str, str]:
        """Return the module parameters that this kernel has: those recorded of it, else those of its version."""
        params = dict(self.machine.params)
        if self.machine.kernel is not None and Kernel(self.machine.kernel).version == self.kernel.version:
            return params
        if not self.kernel.has("dma_entry_limit"):
            params.pop(ENTRY_LIMIT, None)
        if self.machine.params == PARAMS and self.kernel.has("noiommu"):
            params[NOIOMMU_MODE] = "N"
        return params

    def new_process(self, name: str = "") -> UserProcess:
        """Start a fresh user process, with all capabilities and no descriptors; without a name, it takes the place of the first, which has ended.

        ValueError if a living process has that name, or for a name that is no word of ASCII letters, digits and _.

        >>> import vfiolab as vl
        >>> vl.load("intel-vtd-39bit").new_process("guest")
        Process(0 descriptors, 0 pages locked)
        """
        if name in self.processes:
            raise ValueError(f"process {self.processes[name]} lives: let it exit, or give the new one a name of its own")
        if name and not (word("name", name).isascii() and name.isidentifier()):
            raise ValueError(f"a process's name is a word of ASCII letters, digits and _, not {name!r}")
        with self.log.call("new_process", name):
            process = self._start(name)
        if not name:
            self.process = process
        return process

    def _start(self, name: str) -> UserProcess:
        serve: Callable[[System], Server] = Compat if self.machine.vfio == "iommufd-compat" else Native
        self.processes[name] = UserProcess(self, serve, Memory(self.machine.arena), self.machine.memlock, name)
        return self.processes[name]

    @property
    def has_iommufd(self) -> bool:
        """Whether the kernel has /dev/iommu: of a kernel with the native container it is not known how it was built."""
        return self.machine.vfio == "iommufd-compat"

    @property
    def has_cdevs(self) -> bool:
        """Whether devices have nodes of their own: from 6.6 on, where there is an iommufd."""
        return self.has_iommufd and self.kernel.has("device_cdev")

    @property
    def groups(self) -> list[IommuGroup]:
        """Every IOMMU group, by number."""
        return [self.core.groups[number] for number in sorted(self.core.groups)]

    @property
    def units(self) -> tuple[IommuUnit, ...]:
        """The machine's IOMMU units."""
        return self.machine.units

    @property
    def bars(self) -> Mapping[str, tuple[Span, ...]]:
        """The bus addresses that devices answer at, where they are known."""
        return self.machine.bars

    @property
    def doubts(self) -> tuple[str, ...]:
        """What is uncertain here: assumptions of the machine file, and switches of this kernel that lie in a gap."""
        assumed = (note for note in self.machine.notes if note.startswith("assumed"))
        return (*assumed, *filter(None, map(self._divided, self.groups)), *self.kernel.doubts)

    def _divided(self, group: IommuGroup) -> str:
        """Say that a group's devices are behind several units, of which the model knows the first device's only; empty if they are not."""
        units = [unit.name for unit in self.machine.units if not unit.devices.isdisjoint(group.devices)]
        if len(units) < 2 or group.unit is None:
            return ""
        return f"group {group.id} has devices behind {' and '.join(units)}: all are taken to be behind {group.unit.name}"

    def group_of(self, device: str) -> IommuGroup | None:
        """Return a device's group, None if it has none."""
        return self.core.group_of(word("device", device))

    def bind(self, device: str, driver: str = "vfio-pci") -> None:
        """Bind a device to a driver, through driver_override; see `Drivers.bind` for the errnos."""
        with self.log.call("bind", "", dev=device, drv=driver) as call:
            try:
                self.drivers.bind(device, driver)
            finally:
                call.output = {"driver": self._driver(device)}

    def unbind(self, device: str) -> None:
        """Unbind a device from its driver."""
        with self.log.call("unbind", "", dev=device) as call:
            self.drivers.unbind(device)
            call.output = {"driver": self._driver(device)}

    def _driver(self, device: str) -> str | None:
        try:
            return self.drivers.driver_of(device)
        except VfioError:
            return None

    def get_param(self, name: str) -> str:
        """Read a module parameter, such as `vfio_iommu_type1.dma_entry_limit`; ENOENT if this kernel has none of that name.

        >>> import vfiolab as vl
        >>> vl.load("intel-vtd-39bit").get_param("vfio_iommu_type1.dma_entry_limit")
        '65535'
        """
        table(PARAMETER_CHECKS, self.kernel).run(_Parameter(self, word("parameter", name)))
        return self.params[name]

    def set_param(self, name: str, value: str | int) -> None:
        """Write a module parameter; ENOENT (no such one), EINVAL (no number, or no boolean).

        `vfio_iommu_type1.disable_hugepages` has no effect that can be seen here: mappings are the same, only the pages pinned at a time differ.

        >>> import vfiolab as vl
        >>> host = vl.load("intel-vtd-39bit")
        >>> host.set_param("vfio_iommu_type1.dma_entry_limit", 2)
        >>> host.get_param("vfio_iommu_type1.dma_entry_limit")
        '2'
        """
        with self.log.call("param", "", name=name, value=value) as call:
            text = str(value)
            parameter = _Parameter(self, word("parameter", name), text)
            table(PARAMETER_CHECKS + VALUE_CHECKS, self.kernel).run(parameter)
            if parameter.boolean:
                text = "Y" if text in ("1", "Y", "y", "on") else "N"
            self.params[name] = text
            self.drivers.noiommu_mode = switched_on(self.params, NOIOMMU_MODE)
            call.output = {"value": text}

    def _form_groups(self, known: Grouping | None) -> list[IommuGroup]:
        machine = self.machine
        if machine.groups_from == "recorded":
            return [self._group(group.id, group.devices) for group in machine.groups]
        if not machine.units:
            return []
        self.grouping = machine.grouping(self.kernel, self.options) if known is None else replace(known, topology=self.topology)
        self.topology = self.grouping.topology
        numbers = {frozenset(group.devices): group.id for group in machine.groups}
        taken = {numbers[key] for members in self.grouping.groups if (key := frozenset(members)) in numbers}
        free = (number for number in range(len(self.grouping.groups) + len(taken)) if number not in taken)
        return [self._group(numbers.get(frozenset(members), -1), members, free) for members in self.grouping.groups]

    def _group(self, number: int, devices: Iterable[str], free: Iterable[int] = ()) -> IommuGroup:
        devices = tuple(devices)
        number = next(iter(free)) if number < 0 else number
        unit = next((unit for unit in self.machine.units if devices[0] in unit.devices), None)
        if unit is None:
            return IommuGroup(number, devices, None)
        recorded = [next((group.regions for group in self.machine.groups if device in group.devices), None) for device in devices]
        known = [region for regions in recorded for region in regions or ()]
        firmware = [region for device in devices for region in self.machine.firmware.get(device, ())]
        regions = [*(known or self.core.doorbells.unit_starts(unit)), *firmware]
        if not self.kernel.has("direct_relaxable"):
            regions = [replace(region, kind="direct") if region.kind == "direct-relaxable" else region for region in regions]
        shown = merged_reserved(regions, self.kernel) if self.kernel.has("reserved_regions") else ()
        return IommuGroup(
            number, devices, unit, shown, firmware=[region for region in (*known, *firmware) if region.kind.startswith("direct")]
        )

    def add_removed(self) -> None:
        """Bring back every device that was taken off its bus, with the group and the driver that it had at boot (a rescan).

        >>> import vfiolab as vl
        >>> host = vl.load("intel-vtd-39bit")
        >>> host.process.remove("0000:01:00.0").done, host.group_of("01:00.0")
        (True, None)
        >>> host.add_removed()
        >>> host.group_of("01:00.0")
        IommuGroup(17, [0000:01:00.0])
        """
        for function in self.topology.values():
            bdf = function.bdf
            if bdf in self.drivers or (function.physfn is not None and not self.drivers.enabled_vfs(function.physfn)):
                continue
            members = next((members for members in self._boot_groups if bdf in members), ())
            if members and not self._joins(bdf, members):
                self.core.add(self._group(self._free_number(), (bdf,)))
            self.drivers.appear(bdf, function.driver)

    def _late_group(self, device: str) -> None:
        """Give a device that had no driver at boot its group, as kernels before 6.15 do at its first bind behind a virtio-iommu.

        Recorded on 6.12 (x86): 00:02.0 and 00:1f.2 are in no group of the boot, and /dev/vfio shows one once they are bound. The number is
        the lowest free one. Not behind a conventional PCI bridge (its secondary bus has one group or none), and not the IOMMU itself.
        """
        machine, topology = self.machine, self.topology
        units = [unit for unit in machine.units if unit.kind == "virtio-iommu"]
        if not machine.groups or len(units) != 1 or self.kernel.has("virtio_groups_at_boot"):
            return
        if self.core.group_of(device) is not None or topology[device].driver is not None or device == units[0].name:
            return
        if any(above.kind in CONVENTIONAL_BRIDGES for above in topology.path(device)):
            return
        formed = iommu_groups(topology, self.kernel, replace(self.options, disable_acs_redir="", config_acs="")).groups
        mates = next((members for members in formed if device in members), ())
        if not self._joins(device, mates):
            regions = merged_reserved(self.core.doorbells.unit_starts(units[0]), self.kernel)
            self.core.add(IommuGroup(self._free_number(), [device], units[0], regions))

    def _joins(self, device: str, mates: Iterable[str]) -> bool:
        """Let a device into the group of one of its mates; False if none of them has one."""
        known = next((group for mate in mates if (group := self.core.group_of(mate)) is not None), None)
        if known is not None:
            self.core.join(known, device)
        return known is not None

    def _free_number(self) -> int:
        return next(number for number in range(len(self.core.groups) + 1) if number not in self.core.groups)

    def __repr__(self) -> str:
        return f"Host({self.machine.name!r}, kernel {self.kernel}, {count(len(self.core.groups), 'group')})"

    def _check(self) -> None:
        self.core._check()
        self.drivers._check()
        self.process._check()
