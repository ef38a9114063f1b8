"""What tests of the model share: machines of every kind, all observable state of a host, what must hold of it, and a walk over every verb."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from recorded import machine as recorded_machine

from vfiolab.model.address import U64
from vfiolab.model.builder import GICV2M, MachineBuilder
from vfiolab.model.compat import Compat
from vfiolab.model.errors import ERRNO, KernelCrashError, NotModelledError, VfioError, WouldBlockError
from vfiolab.model.machine import PARAMS, Host, Machine
from vfiolab.model.type1 import Type1
from vfiolab.model.vfio import Container, Device, Group

KERNELS = "4.4 4.7 4.10 4.11 4.15 4.19 5.3 5.4 5.8 5.10 5.12 5.17 5.19 6.1 6.2 6.6 6.12 6.13 6.19 7.3".split()
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
    intel = [dict(width=39), dict(width=48, snoop_control=True), dict(width=48)]
    amd = smmus({}, {}, name="amd", kind="amd-vi", mdevs=1)
    out = [
        smmus({}, {}, name="two smmus"),
        smmus({}, {}, {}, name="three smmus", mdevs=1),
        smmus({}, dict(stage=2), name="mixed stages"),
        smmus({}, dict(width=40), name="48 and 40 bits"),
        with_params(smmus({}, name="gicv2m", controller=GICV2M), **{f"{PARAM}allow_unsafe_interrupts": "Y"}),
        smmus(*intel, name="three dmars", kind="intel-vtd"),
        smmus(dict(width=48), dict(width=39, isolated_msi=False), name="no remapping", kind="intel-vtd", mdevs=1),
        _direct(),
        amd,
        with_params(smmus({"width": 64}, name="virtio", kind="virtio-iommu"), **{f"{PARAM}allow_unsafe_interrupts": "Y"}),
        replace(smmus({}, dict(page_sizes=0x20010000), name="64K pages"), page_size=0x10000),
        replace(smmus(dict(width=39), dict(width=48), name="compat", kind="intel-vtd"), vfio="iommufd-compat", params={}),
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
        dmas = [
            (d.iova, d.size, d.vaddr, d.prot, d.name, d.vaddr_invalid, d.pinned, d.charged, d.bitmap) for d in backend.dmas
        ]
        facts = (backend.v2, backend.nesting, backend.dma_avail, backend.page_sizes, backend.dirty_tracking, backend.valid_iova)
        return ("type1", dmas, facts, [_domain(d) for d in backend.domains], [g.id for g in backend.emulated])
    if isinstance(backend, Compat):
        areas = [(a.iova, a.size, a.vaddr, a.prot, a.account, a.pinned) for a in backend.areas]
        opened = [(group.id, dict(names)) for group, names in backend._open.items()]
        return ("compat", areas, backend.v1, backend.exists, opened, [_domain(d) for d in backend.domains])
    return (repr(backend),)


def servers(host: Host) -> list[Any]:
    """Return every container that lives: open, or kept alive by a group in it."""
    found = [file.server for file in host.process.descriptors.values() if isinstance(file, Container)]
    found += [group.container for group in (*host.drivers.groups.values(), *host.drivers.noiommu.values()) if group.container]
    found += [file.vfio.container for file in host.process.descriptors.values() if isinstance(file, (Group, Device)) and file.vfio.container]
    found += [file._server for file in host.process.descriptors.values() if isinstance(file, Device)]
    return list({id(server): server for server in found}.values())


def _file(file: Any, numbers: dict[int, int]) -> tuple[Any, ...]:
    facts: tuple[Any, ...] = (type(file).__name__, file.references)
    if isinstance(file, Container):
        return (*facts, numbers[id(file.server)])
    return (*facts, file.vfio.id, file.vfio.dead, getattr(file, "name", ""))


def snapshot(host: Host) -> dict[str, Any]:
    """Return all observable state of a host as plain values: equal before and after means that nothing happened."""
    process, drivers = host.process, host.drivers
    alive = servers(host)
    numbers = {id(server): number for number, server in enumerate(alive)}
    vfio_groups = {
        (vfio.id, vfio.noiommu): (sorted(vfio.bound), vfio.users, vfio.opened, vfio.dead, vfio.container and numbers[id(vfio.container)],
                                  sorted((name, n) for name, n in vfio.devices_open.items() if n))
        for vfio in (*drivers.groups.values(), *drivers.noiommu.values())
    }  # fmt: skip
    return {
        "params": dict(host.params),
        "drivers": dict(drivers._bound),
        "vfs": dict(drivers._numvfs),
        "vfio groups": vfio_groups,
        "groups": {g.id: (g.devices, sorted(g.native), g.owner is not None, g.domain and g.domain.number, g.reserved) for g in host.groups},
        "containers": [([group.id for group in server.groups], _backend(server.backend)) for server in alive],
        "descriptors": {number: _file(file, numbers) for number, file in process.descriptors.items()},
        "irqs": {name: repr(s) for name, s in process.irqs.items() if s.index is not None},
        "memory": list(process.memory.regions),
        "process": (process.memlock, process.locked_pages, sorted(process.capabilities), process.exited),
    }


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
                assert region.kind == "direct-relaxable" or not any(region.span.overlaps(span) for span in backend.valid_iova), region
        assert all(span.last <= domain.aperture.last for domain in backend.domains for span in backend.valid_iova)
        assert list(backend.valid_iova) == sorted(backend.valid_iova)
    if backend.kernel.has("valid_iova"):
        assert backend.valid_iova or not backend.domains


def invariants(host: Host, lost_pages: int = 0) -> None:
    """Assert what holds after every operation. `lost_pages`: locked pages of mappings that old kernels lose track of."""
    host._check()
    process, alive = host.process, servers(host)
    charged = 0
    for server in alive:
        server._check()
        if isinstance(server.backend, Type1):
            _check_type1(server.backend)
            charged += sum(dma.charged for dma in server.backend.dmas)
        elif isinstance(server, Compat):
            charged += sum(server._pages(area) for area in server.areas if area.account and area.pinned)
    assert process.locked_pages == charged + lost_pages, f"{process.locked_pages} pages locked, {charged} charged to mappings"
    for group in host.groups:
        inside = [server for server in alive if any(vfio.group is group and not vfio.dead for vfio in server.groups)]
        assert len(inside) <= 1, f"group {group.id} is in {len(inside)} containers"
        if host.kernel.has("dma_ownership") and host.machine.vfio == "type1" and not group.emulated:
            assert (group.owner is not None) == bool(inside), f"group {group.id} is owned by {group.owner}, and in {inside}"
        assert not (group.owner is not None and group.native), f"native drivers {group.native} beside an owner"
    opened = [file.vfio for file in process.descriptors.values() if isinstance(file, Group)]
    assert len(opened) == len({id(vfio) for vfio in opened}), "a group is open twice"
    assert all(vfio.opened for vfio in opened)


# the walk

IOVAS = (0, 0x1000, 0x2000, 0x3000, 0x10000, 0x20000, 0x1FF000, 0x200000, 0x7FFF000, 0x8000000, 0x8100000, 0xFEDFF000, 0xFEE00000, 0xFEF00000,
         0x7FFFFFF000, 0x8000000000, 0xFFFFFFF000, 0xFD00000000, 1 << 40, (1 << 44) - 0x1000, 1 << 48, 1 << 63, U64 - 0x2000, U64 - 0x1000,
         0x800, 1, -1, -0x1000)  # fmt: skip
SIZES = (0x1000, 0x1000, 0x1000, 0x2000, 0x3000, 0x10000, 0x200000, 0, 1, 0x800, 0x100000, 1 << 32, 1 << 63, U64 - 1, U64 - 0x1000, -0x1000)
FLAGS = (3, 3, 3, 1, 2, 0, 4, 5, 7, 8, 0xFFFFFFFF)
BAD_FDS = (-1, 0, 2, 999, 1 << 31)


class Walk:
    """Carry out one verb after the other; `pick(sequence)` chooses, so that Hypothesis or a seeded generator can drive it."""

    def __init__(self, host: Host, pick: Callable[[Sequence[Any]], Any]) -> None:
        self.host, self.pick = host, pick
        self.lost_pages = 0
        self.dead = False
        self.seen = snapshot(host)
        self.outcomes: dict[tuple[str, str], int] = {}
        self.devices = sorted(bdf for bdf in host.drivers._bound) + ["0000:ff:1f.7"]
        self.endpoints = [d for d in self.devices if d.startswith("mdev") or (d in host.machine.topology and not host.machine.topology[d].is_bridge)]
        self.loaded = sorted(host.machine.drivers)

    WEIGHTS = dict(open_container=2, open_group=3, set_container=4, set_iommu=3, map=16, unmap=7, unmap_all=1, vaddr=3, dirty=4, get_info=2, check_extension=2,
                   get_device_fd=4, set_irqs=5, unset_container=2, close=3, bind=2, unbind=2, set_param=2, memlock=2, capability=2, remap=1, status=2, ioctl=1,
                   exit=1, prepare=5)  # fmt: skip
    VERBS = [verb for verb, weight in WEIGHTS.items() for _ in range(weight)]

    def step(self, verb: str) -> str:
        """Carry out one verb with chosen arguments, and check everything; return the outcome."""
        tops, process = self._tops(), self.host.process
        try:
            getattr(self, f"do_{verb}")()
            outcome = "0"
        except VfioError as error:
            outcome = error.name
            assert ERRNO[error.name] == error.errno
            assert error.why, "a refusal without its reason"
            assert error.source, "a refusal without its source"
        except KernelCrashError:
            self.dead = True
            outcome = "crash"
        except WouldBlockError:
            outcome = "blocks"
        except NotModelledError:
            outcome = "not modelled"
        self.outcomes[verb, outcome] = self.outcomes.get((verb, outcome), 0) + 1
        if self.dead:
            return outcome
        self.lost_pages = self.lost_pages + self._lost(tops) if process is self.host.process else 0
        now = snapshot(self.host)
        if outcome != "0" and not self._may_change(verb, outcome):
            changed = differing(self.seen, now)
            if verb == "set_irqs":  # a refused block takes the vectors along that it had set up so far
                changed.pop("irqs", None)
            assert {} == changed, f"{verb} was refused ({outcome})"
        self.seen = now
        invariants(self.host, self.lost_pages)
        return outcome

    def _may_change(self, verb: str, outcome: str) -> bool:
        """Say whether a refusal leaves something behind in the kernel too."""
        unbinds_first = verb == "bind" and outcome not in ("ENOENT", "blocks")
        cuts_first = self.host.machine.vfio != "type1" and verb == "unmap"
        return unbinds_first or cuts_first or verb == "prepare"

    # Mappings that end at 2^64 stay locked when old kernels remove them.

    def _tops(self) -> list[tuple[Any, int]]:
        if self.host.kernel.has("inclusive_ends"):
            return []
        backends = [server.backend for server in servers(self.host) if isinstance(server.backend, Type1)]
        return [(dma, dma.charged) for backend in backends for dma in backend.dmas if dma.iova + dma.size == U64]

    def _lost(self, before: list[tuple[Any, int]]) -> int:
        still = {id(dma) for dma, _ in self._tops()}
        return sum(pages for dma, pages in before if id(dma) not in still)

    # choosing

    def files(self, kind: type) -> list[Any]:
        return [file for _, file in sorted(self.host.process.descriptors.items()) if isinstance(file, kind)]

    def one(self, kind: type) -> Any:
        found = self.files(kind)
        if not found:
            raise WouldBlockError("nothing to do it to")
        return self.pick(found)

    def container(self) -> Any:
        """Choose a container, one with a backend if there is one, mostly."""
        ready = [container for container in self.files(Container) if container.backend is not None]
        return self.pick(ready) if ready and self.pick((True,) * 6 + (False,)) else self.one(Container)

    def _spot(self) -> tuple[int, int]:
        """Choose a range: free choice, or the very range or the neighbourhood of a mapping that is there."""
        dmas = [dma for server in servers(self.host) for dma in getattr(server.backend, "dmas", ())]
        how = self.pick(("free", "same", "same", "same", "around"))
        if not dmas or how == "free":
            return self.pick(IOVAS), self.pick(SIZES)
        dma = self.pick(dmas)
        if how == "same":
            return dma.iova, dma.size
        return (dma.iova + self.pick((-0x1000, 0, 0x1000))) % U64, min(dma.size + self.pick((-0x1000, 0, 0x1000, 0x100000)), U64 - 1)

    # the verbs

    def do_open_container(self) -> None:
        if len(self.files(Container)) < 3:
            self.host.process.open_container()

    def do_open_group(self) -> None:
        groups = sorted(self.host.drivers.groups)
        if groups and self.pick((True, True, False)):
            self.host.process.open_group(self.pick(groups))
        else:
            self.host.process.open_group(self.pick((*self.endpoints, 999, 0)))

    def do_prepare(self) -> None:
        """Do what a user does first: bind, open, put into a container, choose the backend."""
        device = self.pick(self.endpoints)
        if self.host.drivers.driver_of(device) not in ("vfio-pci", "vfio_mdev"):
            self.host.bind(device)
        container = self.pick(self.files(Container)) if self.files(Container) else self.host.process.open_container()
        group = self.host.process.open_group(device)
        group.set_container(container)
        if container.backend is None:
            container.set_iommu(self.pick((3, 3, 1)))

    def do_set_container(self) -> None:
        containers = self.files(Container)
        group = self.one(Group)
        target = self.pick(containers) if containers and self.pick((True,) * 5 + (False,)) else self.pick(BAD_FDS)
        group.set_container(target)

    def do_unset_container(self) -> None:
        self.one(Group).unset_container()

    def do_set_iommu(self) -> None:
        self.one(Container).set_iommu(self.pick((3, 3, 3, 1, 1, 6, 8, 0, 2, 99, -1)))

    def do_map(self) -> None:
        arena, page = self.host.machine.arena, self.host.machine.page_size
        if self.pick((True, True, False)):
            iova, size = 0x40000000 + self.pick(range(24)) * 2 * page, self.pick((1, 1, 2, 2, 3)) * page
            self.container().map_dma(iova, size, arena.base + self.pick(range(8)) * page, self.pick((3, 3, 1)))
            return
        iova, size = self._spot()
        vaddr = self.pick((arena.base,) * 4 + (arena.base + 0x200000, arena.base + 0x800, arena.ro_base, 0, U64 - 0x1000, arena.base + arena.size - page))
        pointer, argsz = self.pick(("good",) * 9 + ("bad",)), self.pick((32,) * 8 + (31, 0, 64))
        self.container().map_dma(iova, size, vaddr, self.pick(FLAGS), argsz=argsz, ptr=pointer)

    def do_unmap(self) -> None:
        iova, size = self._spot()
        flags = self.pick((0,) * 8 + (1, 1, 2, 3, 8))
        bitmap = {"bm_pgsize": self.pick((4096, 0, 8192)), "bm_size": self.pick((8, 0, 1 << 20))} if flags & 1 else {}
        self.container().unmap_dirty(iova, size, flags, ptr=self.pick(("good",) * 9 + ("null",)), **bitmap)

    def do_unmap_all(self) -> None:
        self.container().unmap_dma(flags=2)

    def do_vaddr(self) -> None:
        iova, size = self._spot()
        container = self.container()
        if self.pick((True, False)):
            container.unmap_dma(iova, size, 4)
        else:
            container.map_dma(iova, size, self.host.machine.arena.base + 0x300000, 4)

    def do_dirty(self) -> None:
        flags = self.pick((1, 2, 4, 4, 0, 3, 8))
        iova, size = self._spot()
        self.container().dirty_pages(flags, iova=iova, size=size, bm_pgsize=self.pick((4096, 4096, 0, 8192)), bm_size=self.pick((8, 64, 1 << 20, 0)))

    def do_get_info(self) -> None:
        self.container().get_info(self.pick((0, 15, 16, 19, 20, 24, 56, 120, 256)))

    def do_check_extension(self) -> None:
        assert self.container().check_extension(self.pick((*range(12), 1 << 31))) in (0, 1)

    def do_get_device_fd(self) -> None:
        group = self.one(Group)
        names = sorted(group.vfio.bound) or self.endpoints
        group.get_device_fd(self.pick((*names, *names, *names, *group.vfio.group.devices, "bogus")))

    def do_set_irqs(self) -> None:
        device = self.one(Device)
        device.set_irqs(self.pick((2, 2, 2, 1, 1, 0, 3, 5)), self.pick((0, 0, 0, 0, 1, 7, 1 << 31)), self.pick((1, 1, 2, 0, 4, 65)))

    def do_close(self) -> None:
        self.one(object).close()

    def do_bind(self) -> None:
        self.host.bind(self.pick(self.devices), self.pick(("vfio-pci", "vfio-pci", *self.loaded)))

    def do_unbind(self) -> None:
        self.host.unbind(self.pick(self.devices))

    def do_set_param(self) -> None:
        self.host.set_param(*self.pick(((f"{PARAM}dma_entry_limit", 2), (f"{PARAM}dma_entry_limit", 65535), (f"{PARAM}allow_unsafe_interrupts", "Y"),
                                        (f"{PARAM}allow_unsafe_interrupts", "N"), (f"{PARAM}dma_entry_limit", "many"), ("no.such", 1))))  # fmt: skip

    def do_memlock(self) -> None:
        self.host.process.set_memlock(self.pick((None, None, 8 << 20, 8 << 20, 0, 0x4000, 0x10001)))

    def do_capability(self) -> None:
        if self.pick((True, False, False)):
            self.host.process.drop_capability(self.pick((14, 17)))
        else:
            self.host.process.restore_capability(self.pick((14, 17)))

    def do_remap(self) -> None:
        offset = self.pick((0, 0x1000, 0x200000))
        self.host.process.remap(self.host.machine.arena.base + offset, self.pick((0x1000, 0x2000)), self.pick(("rw", "rw", "r", "none", "hole")))

    def do_status(self) -> None:
        assert self.one(Group).get_status(self.pick((8, 8, 8, 8, 7, 16))) in range(4)

    def do_ioctl(self) -> None:
        self.one(object).ioctl(self.pick((0x3B64, 0x3B65, 0x3B71, 0x3BFF))) if self.files(Container) == self.files(object) else self.container().ioctl(0x3B71)

    def do_exit(self) -> None:
        if not self.pick((False,) * 9 + (True,)):
            return
        self.host.process.exit()
        self.after_exit()
        memlock = self.host.process.memlock
        self.host.process = self.host.new_process()
        self.host.process.memlock = memlock

    def after_exit(self) -> None:
        """Assert that a process that ended has left nothing behind."""
        host = self.host
        assert [] == servers(host)
        assert not host.process.descriptors
        assert all(group.owner is None and group.domain is None for group in host.groups)
        assert all(not vfio.users and not vfio.opened and vfio.container is None for vfio in host.drivers.groups.values())
        if host.kernel.has("inclusive_ends"):
            assert 0 == host.process.locked_pages


def differing(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Return what differs between two snapshots."""
    return {key: (before[key], after[key]) for key in before if before[key] != after[key]}
