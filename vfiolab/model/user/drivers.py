"""Driver binding, the VFIO groups it makes and breaks, and viability."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from vfiolab.model.address import Span
from vfiolab.model.backends.group import VfioGroup
from vfiolab.model.backends.protocol import System
from vfiolab.model.checks import Check, table
from vfiolab.model.errors import KernelCrashError, VfioError, WouldBlockError
from vfiolab.model.iommu.core import IommuCore
from vfiolab.model.iommu.group import IommuGroup
from vfiolab.model.irq.msi import InterruptController, IrqState
from vfiolab.model.kernel import Kernel
from vfiolab.model.pci.topology import Function, Topology
from vfiolab.model.uapi.requests import word

if TYPE_CHECKING:
    from vfiolab.model.user.process_calls import UserProcess

VFIO_DRIVERS = frozenset({"vfio-pci", "vfio_mdev"})
MANAGED_DMA = VFIO_DRIVERS | {"pci-stub", "pcieport"}
SRIOV_OFF_AT_REMOVE = frozenset({"igb", "ixgbe", "i40e", "ice", "mlx5_core"})
VFIO_CORE = "drivers/vfio/pci/vfio_pci_core.c"


@dataclass(slots=True)
class DeviceState:
    """What an open device holds, whoever has it open: its interrupts, and whether it answers at its BARs."""

    irqs: IrqState = field(default_factory=IrqState)
    memory_space: bool = True


class Waiting:
    """Somebody's write to sysfs (unbind, bind, remove) that sleeps: `why` says until what, `done` whether it has returned.

    `error`: what it answered in the end, None for success. `removes`: it holds the lock of remove and rescan meanwhile.
    """

    __slots__ = ("_steps", "done", "error", "removes", "why")

    def __init__(self, steps: Iterator[str], *, removes: bool = False) -> None:
        self._steps, self.removes = steps, removes
        self.done, self.why = False, ""
        self.error: VfioError | None = None

    def go_on(self) -> None:
        """Run until it has to wait again, or to its end."""
        try:
            self.why = next(self._steps)
        except StopIteration:
            self.done, self.why = True, ""
        except VfioError as error:
            self.done, self.why, self.error = True, "", error

    def __repr__(self) -> str:
        return f"Waiting({self.why!r})" if not self.done else "Waiting(done)"


class _Sysfs(NamedTuple):
    """A write to sysfs: the device named, and the driver."""

    drivers: Drivers
    device: str
    driver: str = ""


DEVICE_CHECKS = (
    Check("the device exists", "ENOENT", "sysfs: /sys/bus/pci/devices", "there is no device {r.device} on this machine", "list the devices of the machine",
          test="r.device not in r.drivers._bound"),
)  # fmt: skip
PCI_CHECKS = (
    Check("the device is a PCI function", "ENOENT", "sysfs: /sys/bus/pci/devices", "{r.device} is an emulated device, no PCI function", "its parent's driver made it",
          test="r.device not in r.drivers.topology"),
)  # fmt: skip
DRIVER_CHECKS = (
    Check("the driver is loaded", "ENOENT", "sysfs: /sys/bus/pci/drivers", lambda r: f"the driver {r.driver} is not loaded: {', '.join(sorted(r.drivers.loaded))} are",
          "modprobe {r.driver}", test="r.driver not in r.drivers.loaded"),
)  # fmt: skip


class _Probe:
    """A driver about to be bound to a device: what its probe looks at."""

    __slots__ = ("drivers", "enabled_vfs", "function", "group", "name")

    def __init__(self, drivers: Drivers, function: Function, name: str) -> None:
        self.drivers, self.function, self.name = drivers, function, name
        self.group, self.enabled_vfs = drivers.core.group_of(function.bdf), drivers.enabled_vfs(function.bdf)


VFIO_PROBE_CHECKS = (
    Check("the device is no bridge", "EINVAL", f"vfio_pci_core_init_dev, {VFIO_CORE}", "{r.function.bdf} is a bridge (header type 1): vfio-pci takes ordinary functions only",
          "leave the bridge to pcieport or without a driver: neither makes its group non-viable", test="r.function.is_bridge"),
    Check("no virtual functions are enabled on it", "EBUSY", f"vfio_pci_core_register_device, {VFIO_CORE}", "{r.function.bdf} has {r.enabled_vfs} virtual functions enabled",
          "write 0 to its sriov_numvfs first, or bind the virtual functions instead", "pf_with_vfs_refused", "r.enabled_vfs"),
    Check("the device has an IOMMU group", "EINVAL", "vfio_group_find_or_alloc, drivers/vfio/group.c", "{r.function.bdf} is in no IOMMU group: no IOMMU claims it",
          "turn the IOMMU on (intel_iommu=on and the firmware's setting), or use no-IOMMU mode", test="r.group is None and not r.drivers.noiommu_mode"),
    Check("its IOMMU can do cache-coherent mappings", "EINVAL", "__vfio_register_dev, drivers/vfio/vfio_main.c", "{r.group.unit.name} cannot do cache-coherent mappings for {r.function.bdf}", "",
          "needs_coherent_iommu", "r.group is not None and r.group.unit is not None and not r.group.unit.coherent"),
)  # fmt: skip

NATIVE_PROBE_CHECKS = (
    Check("no user owns the group's DMA", "EBUSY", "iommu_device_use_default_domain, drivers/iommu/iommu.c", "group {r.group.id} is owned by a user: {r.name} would use the DMA of {r.function.bdf}",
          "take the group out of its container first", "dma_ownership", "r.group is not None and r.group.owner is not None"),
)  # fmt: skip


class Drivers:
    """Which driver each device is bound to, and the VFIO groups that follow from it. `nodes`: the N of each device's own node, vfioN."""

    def __init__(self, kernel: Kernel, topology: Topology, core: IommuCore, loaded: Iterable[str], bound: dict[str, str | None]) -> None:
        self.kernel, self.topology, self.core = kernel, topology, core
        self.loaded = frozenset(loaded) | {driver for driver in bound.values() if driver}
        self.groups: dict[int, VfioGroup] = {}
        self.states: dict[str, DeviceState] = {}
        self.waiting: list[Waiting] = []
        self.noiommu_mode = False
        self._leaving: set[str] = set()
        self._waking = False
        self.before_probe: Callable[[str], None] = lambda _: None
        self.noiommu: dict[str, VfioGroup] = {}
        self.nodes: dict[str, int] = {}
        self._bound: dict[str, str | None] = {function.bdf: None for function in topology.values()}
        self._numvfs = {function.bdf: function.sriov_numvfs for function in topology.values()}
        self._vfio_checks = table(VFIO_PROBE_CHECKS, kernel)
        self._native_checks = table(NATIVE_PROBE_CHECKS, kernel)
        for bdf, driver in bound.items():
            if driver is not None:
                self._settle(bdf, driver)

    def add_emulated(self, group: IommuGroup) -> None:
        """Add the VFIO group of an emulated device (mdev): no IOMMU is behind it."""
        self.core.add(group)
        for name in group.devices:
            self._bound[name] = "vfio_mdev"
            self._vfio_group(name, group).bound.add(name)

    def __contains__(self, bdf: object) -> bool:
        """Say whether the machine has this device at present."""
        return bdf in self._bound

    def driver_of(self, bdf: str) -> str | None:
        """Return the driver that a device is bound to, None without one; ENOENT if there is no such device."""
        table(DEVICE_CHECKS, self.kernel).run(_Sysfs(self, word("device", bdf)))
        return self._bound[bdf]

    def enabled_vfs(self, bdf: str) -> int:
        """Return how many virtual functions a physical function has enabled."""
        return self._numvfs.get(bdf, 0)

    def bind(self, bdf: str, driver: str = "vfio-pci") -> None:
        """Bind a device through driver_override. The present driver goes first; after a failure the device has none.

        ENOENT (no such device or driver), EINVAL, EBUSY or ENODEV (the probe's errno, before 5.14 always ENODEV).
        """
        if self.driver_of(bdf) == driver:
            return
        table(PCI_CHECKS, self.kernel).run(_Sysfs(self, bdf, word("driver", driver)))
        self.unbind(bdf)
        self._probe(bdf, driver)

    def _probe(self, bdf: str, driver: str) -> None:
        table(DRIVER_CHECKS, self.kernel).run(_Sysfs(self, bdf, driver))
        self.before_probe(bdf)
        probe = _Probe(self, self.topology[bdf], driver)
        try:
            if driver in VFIO_DRIVERS:
                self._vfio_checks.run(probe)
            elif driver not in MANAGED_DMA:
                self._native_or_die(probe)
        except VfioError as refused:
            if self.kernel.has("probe_errno_reaches_bind"):
                raise
            raise refused.as_errno("ENODEV") from refused
        self._settle(bdf, driver)

    def _native_or_die(self, probe: _Probe) -> None:
        vfio_group = self.groups.get(probe.group.id) if probe.group else None
        if not self.kernel.has("dma_ownership") and vfio_group is not None and vfio_group.container is not None:
            raise KernelCrashError(
                f"binding {probe.name} to {probe.function.bdf} while its group {vfio_group.id} is in a container hits BUG_ON in vfio_iommu_group_notifier (vfio.c, recorded on 4.4 and 5.10)"
            )
        self._native_checks.run(probe)

    def _settle(self, bdf: str, driver: str) -> None:
        self._bound[bdf] = driver
        group = self.core.group_of(bdf)
        if driver in VFIO_DRIVERS:
            self._vfio_group(bdf, group).bound.add(bdf)
            self.nodes[bdf] = next(number for number in range(len(self.nodes) + 1) if number not in self.nodes.values())
        elif group is not None and driver not in MANAGED_DMA:
            group.native.add(bdf)

    def _vfio_group(self, bdf: str, group: IommuGroup | None) -> VfioGroup:
        if group is None:
            taken = {*self.core.groups, *(one.id for one in self.noiommu.values())}
            number = next(number for number in range(len(taken) + 1) if number not in taken)
            return self.noiommu.setdefault(bdf, VfioGroup(IommuGroup(number, [bdf], None), noiommu=True))
        return self.groups.setdefault(group.id, VfioGroup(group))

    def unbind(self, bdf: str) -> None:
        """Unbind a device; nothing happens if it has no driver. Blocks (WouldBlockError) while its own descriptor is open."""
        driver = self.driver_of(bdf)
        ends_vfs = driver in SRIOV_OFF_AT_REMOVE and self.enabled_vfs(bdf)
        going = [one.bdf for one in self.topology.values() if one.physfn == bdf and one.bdf in self._bound] if ends_vfs else []
        for name in (bdf, *going):
            self._need_free(name, {bdf, *going})
        if driver in VFIO_DRIVERS:
            self._leave_vfio(bdf, self.holder(bdf))
        self._released(bdf, going)

    def _released(self, bdf: str, going: Iterable[str]) -> None:
        group = self.core.group_of(bdf)
        if group is not None:
            group.native.discard(bdf)
        self._bound[bdf] = None
        if going:
            self._numvfs[bdf] = 0
        for name in going:
            self.unbind(name)
            del self._bound[name]
            group = self.core.group_of(name)
            if group is not None and group.devices == (name,):
                self.core.remove(group)

    # what may have to wait for others

    def start(self, steps: Iterator[str], *, removes: bool = False) -> Waiting:
        """Begin a write to sysfs that may sleep; `wake` lets it go on when what it waits for has happened."""
        write = Waiting(steps, removes=removes)
        write.go_on()
        if not write.done:
            self.waiting.append(write)
        return write

    def wake(self) -> None:
        """Let every sleeping write go on as far as it can."""
        if self._waking:
            return
        self._waking = True
        try:
            for write in list(self.waiting):
                write.go_on()
            self.waiting = [write for write in self.waiting if not write.done]
        finally:
            self._waking = False

    def binding(self, bdf: str, driver: str) -> Iterator[str]:
        """Bind a device as `bind` does; yield each time that the writer sleeps."""
        if self.driver_of(bdf) == driver:
            return
        table(PCI_CHECKS, self.kernel).run(_Sysfs(self, bdf, word("driver", driver)))
        yield from self.unbinding(bdf)
        self._probe(bdf, driver)

    def unbinding(self, bdf: str) -> Iterator[str]:
        """Unbind a device as `unbind` does; yield each time that the writer sleeps, with what it waits for.

        Sources: vfio_unregister_group_dev (it waits for the last user of the device; up to 5.18 also until the group leaves its container).
        Recorded on 4.19 to 6.12.
        """
        if self.driver_of(bdf) not in VFIO_DRIVERS:
            self.unbind(bdf)
            return
        vfio_group = self.holder(bdf)
        self._leaving.add(bdf)
        while vfio_group.devices_open.get(bdf):
            yield f"unbinding {bdf} waits until its last descriptor is closed (vfio_unregister_group_dev)"
        self._leaving.discard(bdf)
        if self._last_waits(vfio_group, {bdf}):
            vfio_group.bound.discard(bdf)
            while vfio_group.container is not None:
                yield f"unbinding {bdf} waits until group {vfio_group.id} leaves its container (vfio_unregister_group_dev)"
        self._leave_vfio(bdf, vfio_group)
        self._released(bdf, ())

    def removing(self, bdf: str) -> Iterator[str]:
        """Take a device off its bus (sysfs `remove`), unbound first; yield each time that the writer sleeps."""
        yield from self.unbinding(bdf)
        del self._bound[bdf]
        group = self.core.group_of(bdf)
        if group is not None:
            if group.devices == (bdf,):
                self.core.remove(group)
            else:
                self.core.leave(group, bdf)

    def appear(self, bdf: str, driver: str | None) -> None:
        """Let a device come to its bus, and its driver probe it; a driver that refuses leaves it without one."""
        self._bound[bdf] = None
        if driver is not None and driver not in VFIO_DRIVERS:
            try:
                self._probe(bdf, driver)
            except VfioError:
                self._bound[bdf] = None

    def hides(self, bdf: str) -> bool:
        """Say whether a device that is being unbound cannot be opened any more (6.6+; before, an open prolongs the wait)."""
        return bdf in self._leaving and self.kernel.has("leaving_device_hidden")

    def close_sleeps(self, bdf: str) -> str:
        """Say why closing the last descriptor of a device never returns: it is being unbound, and a bus reset waits for the unbinder's lock."""
        kernel, below = self.kernel, bdf in self.topology and self.topology.parent(bdf) is not None
        stuck = bdf in self._leaving and below and kernel.has("bus_reset_takes_lock") and not kernel.has("close_takes_no_device_lock")
        return f"closing {bdf} waits in pci_reset_bus for the device lock of who unbinds it, who waits for this close" if stuck else ""

    # what an open device holds

    def device_state(self, bdf: str) -> DeviceState:
        """Return what an open device holds."""
        return self.states.setdefault(bdf, DeviceState())

    def forget_device_state(self, bdf: str) -> None:
        """Drop what a device held: its last descriptor is closed."""
        state = self.states.pop(bdf, DeviceState())
        state.irqs.disable()
        state.irqs.singles.clear()

    def on_vfio(self, bdf: str) -> bool:
        """Say whether a device is on a VFIO driver."""
        return self._bound.get(bdf) in VFIO_DRIVERS

    def holder(self, bdf: str) -> VfioGroup:
        """Return the VFIO group of a device that is on a VFIO driver."""
        group = self.core.group_of(bdf)
        return self.groups[group.id] if group is not None else self.noiommu[bdf]

    def _need_free(self, bdf: str, going: set[str]) -> None:
        """Raise WouldBlockError if unbinding a device, together with all that are `going`, would wait."""
        if self._bound[bdf] not in VFIO_DRIVERS:
            return
        vfio_group = self.holder(bdf)
        if vfio_group.devices_open.get(bdf):
            raise WouldBlockError(f"unbinding {bdf} waits until its device descriptor is closed (vfio_unregister_group_dev)")
        if vfio_group.container is not None and self._last_waits(vfio_group, going):
            raise WouldBlockError(
                f"unbinding {bdf}, the last VFIO device of group {vfio_group.id}, sleeps in vfio_unregister_group_dev until the group leaves its container (recorded on 5.10)"
            )

    def _last_waits(self, vfio_group: VfioGroup, going: set[str]) -> bool:
        """Say whether unbinding the last devices of a group waits until the group leaves its container."""
        waits = self.kernel.has("last_unbind_blocks") and not self.kernel.has("no_container_wait")
        return waits and vfio_group.bound <= going

    def _leave_vfio(self, bdf: str, vfio_group: VfioGroup) -> None:
        vfio_group.bound.discard(bdf)
        self.nodes.pop(bdf, None)
        if vfio_group.bound:
            return
        if self.kernel.has("group_can_die"):
            if vfio_group.container is not None:
                vfio_group.container.drop(vfio_group)
            vfio_group.dead = vfio_group.users > 0
            self._forget(vfio_group)
        elif not vfio_group.users:
            self._forget(vfio_group)

    def _forget(self, vfio_group: VfioGroup) -> None:
        if self.groups.get(vfio_group.id) is vfio_group:
            del self.groups[vfio_group.id]
        for bdf in [bdf for bdf, other in self.noiommu.items() if other is vfio_group]:
            del self.noiommu[bdf]

    def drop_user(self, vfio_group: VfioGroup) -> None:
        """Drop one user of a VFIO group: the last takes it out of its container; without users and devices the node goes."""
        server = vfio_group.container
        if server is not None and (vfio_group.users == 1 or server.attaches_at_open) and not vfio_group.opened:
            server.leave(vfio_group)
        vfio_group.users -= 1
        self.wake()
        if not vfio_group.users and not vfio_group.bound:
            self._forget(vfio_group)

    def viable(self, group: IommuGroup) -> bool:
        """Say whether the group may be given to a user.

        From 5.19: nobody owns its DMA. Before: each member has no driver, a VFIO driver or pci-stub, or is a bridge (vfio_dev_viable).
        """
        if self.kernel.has("dma_ownership"):
            return group.owner is None and not group.native
        return all(self.topology[bdf].is_bridge for bdf in group.native)

    def _check(self) -> None:
        for number, vfio_group in self.groups.items():
            assert number == vfio_group.id
            assert vfio_group.bound or vfio_group.users, f"VFIO group {number} has neither devices nor users"
            assert all(self._bound.get(bdf) in VFIO_DRIVERS for bdf in vfio_group.bound)
        for group in self.core.groups.values():
            assert group.native == {
                bdf for bdf in group.devices if self._bound.get(bdf) is not None and self._bound[bdf] not in MANAGED_DMA
            }


class UserSystem(System, Protocol):
    """A host, as a process meets it through its descriptors and sysfs."""

    drivers: Drivers
    processes: dict[str, UserProcess]
    interrupts: InterruptController | None

    @property
    def has_iommufd(self) -> bool:
        """Whether the kernel has /dev/iommu."""

    @property
    def has_cdevs(self) -> bool:
        """Whether devices have nodes of their own."""

    @property
    def bars(self) -> Mapping[str, tuple[Span, ...]]:
        """The bus addresses that devices answer at, where they are known."""

    def add_removed(self) -> None:
        """Bring back every device that was taken off its bus."""
