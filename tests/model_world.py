"""What tests of the model share: machines of every kind, all observable state of a host, and what must hold of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

from recorded import machine as recorded_machine

from vfiolab.model.backends.compat import Compat
from vfiolab.model.backends.ioas import Ioas
from vfiolab.model.backends.type1 import Type1
from vfiolab.model.builder import GICV2M, MachineBuilder
from vfiolab.model.machine import PARAMS, Host, Machine
from vfiolab.model.user.container import Container, Device, Group
from vfiolab.model.user.iommufd import Cdev

OLD = "4.4", "4.7", "4.10", "4.11", "4.15", "4.19", "5.3", "5.4", "5.8", "5.10", "5.12", "5.17"
KERNELS = [*OLD, "5.19", "6.1", "6.2", "6.6", "6.12", "6.13", "6.19", "7.3"]
PARAM = "vfio_iommu_type1."

# machines


def smmus(*units: dict[str, Any], name: str = "smmus", mdevs: int = 0, controller: Any = None, kind: str = "arm-smmu-v3") -> Machine:
    """Build a machine with these IOMMUs, a root port with one device behind each, and a two-function device behind the first."""
    m = MachineBuilder(name)
    for number, facts in enumerate(units):
        unit = m.unit(f"unit{number}", kind=facts.pop("kind", kind), **facts)
        m.endpoint(f"{16 * number + 1:02x}:00.0", below=m.root_port(f"{16 * number:02x}:01.0", unit=unit))
        m.endpoint(f"{16 * number + 2:02x}:00.0", below=m.root_port(f"{16 * number:02x}:02.0", unit=unit), functions=1 if number else 2)
    for number in range(mdevs):
        m.mdev(f"mdev{number}")
    if controller is not None:
        m.interrupts(controller)
    return m.machine()


def with_params(machine: Machine, **params: str) -> Machine:
    return replace(machine, params=dict(PARAMS) | {name.replace("__", "."): value for name, value in params.items()})


def _direct() -> Machine:
    m = MachineBuilder("direct regions")
    unit = m.unit("dmar0", kind="intel-vtd", width=48, snoop_control=True)
    for bus in (1, 2, 3, 4):
        m.endpoint(f"{bus:02x}:00.0", below=m.root_port(f"00:{bus:02x}.0", unit=unit))
    m.region("02:00.0", 0x1000, 0x1FFF, "reserved")
    m.region("03:00.0", 0, 0xFFF, "reserved")
    m.region("04:00.0", 0xE8000, 0xE8FFF, "direct")
    m.mdev("mdev0")
    return m.machine()


@cache
def machines() -> dict[str, Machine]:
    """Return the machines of the walks, by name."""
    intel = [{"width": 39}, {"width": 48, "snoop_control": True}, {"width": 48}]
    amd = smmus({}, {}, name="amd", kind="amd-vi", mdevs=1)
    out = [
        smmus({}, {}, name="two smmus"),
        smmus({}, {}, {}, name="three smmus", mdevs=1),
        smmus({}, {"stage": 2}, name="mixed stages"),
        smmus({}, {"width": 40}, name="48 and 40 bits"),
        with_params(smmus({}, name="gicv2m", controller=GICV2M), **{f"{PARAM}allow_unsafe_interrupts": "Y"}),
        smmus(*intel, name="three dmars", kind="intel-vtd"),
        smmus({"width": 48}, {"width": 39, "isolated_msi": False}, name="no remapping", kind="intel-vtd", mdevs=1),
        _direct(),
        amd,
        with_params(smmus({"width": 64}, name="virtio", kind="virtio-iommu"), **{f"{PARAM}allow_unsafe_interrupts": "Y"}),
        replace(smmus({}, {"page_sizes": 0x20010000}, name="64K pages"), page_size=0x10000),
        replace(smmus({"width": 39}, {"width": 48}, name="compat", kind="intel-vtd"), vfio="iommufd-compat", params={}),
        replace(recorded_machine("intel-6.1-rmrr"), name="recorded rmrr"),
        replace(recorded_machine("intel-6.12-ir"), name="recorded"),
        with_params(replace(amd, name="no iommu", units=(), emulated=()), vfio__enable_unsafe_noiommu_mode="Y"),
    ]
    return {machine.name: machine for machine in out}


def boot(name: str, kernel: str) -> Host:
    return machines()[name].host("6.12" if name == "compat" else kernel)


# everything that can be seen of a host


def _domain(domain: Any) -> tuple[Any, ...]:
    groups = tuple(group.id for group in domain.groups)
    facts = (domain.unit.name, domain.width, domain.aperture, domain.page_sizes, domain.coherent, domain.nesting)
    return (domain.number, groups, facts, tuple(domain.mappings), domain.msi_base, domain.doorbells)


def _backend(backend: Any) -> tuple[Any, ...]:
    if isinstance(backend, Type1):
        dmas = [(d.iova, d.size, d.vaddr, d.prot, d.name, d.vaddr_invalid, d.pinned, d.charged, d.bitmap) for d in backend.dmas]
        facts = (backend.v2, backend.nesting, backend.dma_avail, backend.page_sizes, backend.dirty_tracking, backend.valid_iova)
        return ("type1", dmas, facts, [_domain(d) for d in backend.domains], [g.id for g in backend.emulated])
    if isinstance(backend, Ioas):
        areas = [(a.iova, a.size, a.vaddr, a.prot, bool(a.pages.account), a.runs) for a in backend.areas]
        return ("ioas", areas, backend.v1, backend.allowed, [_domain(d) for d in backend.domains])
    return (repr(backend),)


def _objects(server: Any) -> list[tuple[Any, ...]]:
    """Return what an iommufd holds, by number."""
    if not isinstance(server, Compat):
        return []
    found: list[tuple[Any, ...]] = [("account", server.account, server.space.number if server.space else 0)]
    for number, one in sorted(server.objects.items()):
        if isinstance(one, Ioas):
            found.append((number, _backend(one)))
        else:
            found.append(
                (number, type(one).__name__, repr(one), getattr(one, "opens", 0), one.hwpt.number if getattr(one, "hwpt", None) else 0)
            )
    return found


def servers(host: Host) -> list[Any]:
    """Return every container that lives: open, or kept alive by a group in it."""
    found = [file.server for file in host.process.descriptors.values() if isinstance(file, Container)]
    found += [group.container for group in (*host.drivers.groups.values(), *host.drivers.noiommu.values()) if group.container]
    found += [
        file.vfio.container for file in host.process.descriptors.values() if isinstance(file, (Group, Device)) and file.vfio.container
    ]
    found += [file.file.server for file in host.process.descriptors.values() if isinstance(file, Device) and not isinstance(file, Cdev)]
    found += [file.file.iommufd.server for file in host.process.descriptors.values() if isinstance(file, Cdev) and file.file.iommufd]
    return list({id(server): server for server in found}.values())


def _file(file: Any, numbers: dict[int, int]) -> tuple[Any, ...]:
    facts: tuple[Any, ...] = (type(file).__name__, file.file.references)
    if isinstance(file, Container):
        return (*facts, numbers[id(file.server)])
    return (*facts, file.vfio.id, file.vfio.dead, getattr(file, "name", ""))


def snapshot(host: Host) -> dict[str, Any]:
    """Return all observable state of a host as plain values: equal before and after means that nothing happened."""
    process, drivers = host.process, host.drivers
    alive = servers(host)
    numbers = {id(server): number for number, server in enumerate(alive)}
    vfio_groups = {
        (vfio.id, vfio.noiommu): (sorted(vfio.by_node), sorted(vfio.cdevs.items()),
                                  sorted(vfio.bound), vfio.users, vfio.opened, vfio.dead, vfio.container and numbers[id(vfio.container)],
                                  sorted((name, n) for name, n in vfio.devices_open.items() if n))
        for vfio in (*drivers.groups.values(), *drivers.noiommu.values())
    }  # fmt: skip
    return {
        "params": dict(host.params),
        "drivers": dict(drivers._bound),
        "vfs": dict(drivers._numvfs),
        "vfio groups": vfio_groups,
        "groups": {
            g.id: (g.devices, sorted(g.native), g.owner is not None, None if g.domain is None else g.domain.number, g.reserved)
            for g in host.groups
        },
        "containers": [([group.id for group in server.groups], _backend(server.backend), _objects(server)) for server in alive],
        "descriptors": {number: _file(file, numbers) for number, file in process.descriptors.items()},
        "irqs": {name: repr(s) for name, s in process.irqs.items() if s.index is not None},
        "memory": list(process.memory.regions),
        "process": (process.memlock, process.locked_pages, host.user_pages, sorted(process.capabilities), process.exited),
    }


def differing(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Return what differs between two snapshots."""
    return {key: (before[key], after[key]) for key in before if before[key] != after[key]}


# what must always hold


def _merged(runs: Iterator[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    out: list[tuple[int, int, int]] = []
    for iova, size, physical in runs:
        if out and out[-1][0] + out[-1][1] == iova and out[-1][2] + out[-1][1] == physical:
            out[-1] = (out[-1][0], out[-1][1] + size, out[-1][2])
        else:
            out.append((iova, size, physical))
    return out


def _check_type1(backend: Type1) -> None:
    tables = [_merged((run.iova, run.size, run.physical) for run in domain.mappings) for domain in backend.domains]
    assert backend._lost or all(table == tables[0] for table in tables), "the domains of one container differ"
    for domain in backend.domains:
        for other in backend.domains:
            assert domain is other or not set(domain.groups) & set(other.groups), "a group is in two domains"
    if backend.valid_iova:
        for group in backend.groups:
            for region in group.reserved:
                if region.kind != "direct-relaxable":
                    assert not any(region.span.overlaps(span) for span in backend.valid_iova), f"{region} is said to be usable"
                    assert not any(region.span.overlaps(dma.span) for dma in backend.dmas), f"a mapping lies over {region}"
        assert all(span.last <= domain.aperture.last for domain in backend.domains for span in backend.valid_iova)
        assert list(backend.valid_iova) == sorted(backend.valid_iova)
    if backend.kernel.has("valid_iova"):
        assert backend.valid_iova or not backend.domains


def invariants(host: Host, lost_pages: int = 0) -> None:
    """Assert what holds after every operation. `lost_pages`: locked pages of mappings that old kernels lose track of."""
    host._check()
    process, alive = host.process, servers(host)
    charged = shared = 0
    for server in alive:
        server._check()
        if isinstance(server.backend, Type1):
            _check_type1(server.backend)
            charged += sum(dma.charged for dma in server.backend.dmas)
        elif isinstance(server, Compat):
            spaces = [one for one in server.objects.values() if isinstance(one, Ioas)]
            memory = {area.pages for ioas in spaces for area in ioas.areas if area.pinned}
            charged += sum(pages.locked() for pages in memory if pages.account == "mm" and pages.process is process)
            shared += sum(pages.locked() for pages in memory if pages.account == "user")
    assert process.locked_pages == charged + lost_pages, f"{process.locked_pages} pages locked, {charged} charged to mappings"
    assert host.user_pages == shared, f"{host.user_pages} pages locked for the user, {shared} charged to mappings"
    for group in host.groups:
        inside = [server for server in alive if any(vfio.group is group and not vfio.dead for vfio in server.groups)]
        assert len(inside) <= 1, f"group {group.id} is in {len(inside)} containers"
        if host.kernel.has("dma_ownership") and host.machine.vfio == "type1" and not group.emulated:
            assert (group.owner is not None) == bool(inside), f"group {group.id} is owned by {group.owner}, and in {inside}"
        assert not (group.owner is not None and group.native), f"native drivers {group.native} beside an owner"
    opened = [file.vfio for file in process.descriptors.values() if isinstance(file, Group)]
    assert len(opened) == len({id(vfio) for vfio in opened}), "a group is open twice"
    assert all(vfio.opened for vfio in opened)
