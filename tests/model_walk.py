"""A walk over every verb of the model, checked after each step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from model_world import PARAM, differing, invariants, servers, snapshot

from vfiolab.model.address import U64
from vfiolab.model.backends.type1 import Type1
from vfiolab.model.errors import ERRNO, KernelCrashError, NotModelledError, VfioError, WouldBlockError
from vfiolab.model.machine import Host
from vfiolab.model.user.container import Container, Device, Group

LOW = 0, 0x1000, 0x2000, 0x3000, 0x10000, 0x20000, 0x1FF000, 0x200000, 0x7FFF000, 0x8000000, 0x8100000, 0xFEDFF000, 0xFEE00000, 0xFEF00000
HIGH = 0x7FFFFFF000, 0x8000000000, 0xFFFFFFF000, 0xFD00000000, 1 << 40, (1 << 44) - 0x1000, 1 << 48, 1 << 63, U64 - 0x2000, U64 - 0x1000
IOVAS = (*LOW, *HIGH, 0x800, 1, -1, -0x1000)
SIZES = (0x1000, 0x1000, 0x1000, 0x2000, 0x3000, 0x10000, 0x200000, 0, 1, 0x800, 0x100000, 1 << 32, 1 << 63, U64 - 1, U64 - 0x1000, -0x1000)
FLAGS = (3, 3, 3, 1, 2, 0, 4, 5, 7, 8, 0xFFFFFFFF)
BAD_FDS = (-1, 0, 2, 999, 1 << 31)


OFTEN = ("map", "map", "map", "map", "unmap", "unmap", "set_irqs", "prepare", "set_container", "get_device_fd", "dirty") * 4
SOMETIMES = ("open_group", "set_iommu", "vaddr", "close") * 3 + ("open_container", "get_info", "check_extension", "unset_container") * 2
SELDOM = ("bind", "unbind", "set_param", "memlock", "capability", "status") * 2 + ("unmap_all", "remap", "ioctl", "exit")
VERBS = (*OFTEN, *SOMETIMES, *SELDOM)


class Walk:
    """Carry out one verb after the other; `pick(sequence)` chooses, so that Hypothesis or a seeded generator can drive it."""

    def __init__(self, host: Host, pick: Callable[[Sequence[Any]], Any]) -> None:
        self.host, self.pick = host, pick
        self.lost_pages = 0
        self.dead = False
        self.seen = snapshot(host)
        self.outcomes: dict[tuple[str, str], int] = {}
        self.devices = [*sorted(host.drivers._bound), "0000:ff:1f.7"]
        self.endpoints = [
            d for d in self.devices if d.startswith("mdev") or (d in host.machine.topology and not host.machine.topology[d].is_bridge)
        ]
        self.loaded = sorted(host.machine.drivers)

    def step(self, verb: str) -> str:
        """Carry out one verb with chosen arguments, and check everything; return the outcome."""
        tops, process = self._tops(), self.host.process
        try:
            getattr(self, f"do_{verb}")()
            outcome = "0"
        except VfioError as error:
            outcome = error.name if self._tells_all(error) else "a refusal that does not say why"
        except KernelCrashError:
            self.dead = True
            outcome = "crash"
        except WouldBlockError:
            outcome = "blocks"
        except NotModelledError:
            outcome = "not modelled"
        assert outcome != "a refusal that does not say why", verb
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

    @staticmethod
    def _tells_all(error: VfioError) -> bool:
        return ERRNO[error.name] == error.errno and bool(error.why) and bool(error.source)

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
        how = self.pick(("slot", "slot", "slot", "edge", "edge", "wild"))
        if how != "wild":
            slot = 0x40000000 + self.pick(range(24)) * 2 * page, self.pick((1, 1, 2, 2, 3)) * page
            iova, size = slot if how == "slot" else (self.pick((*LOW, *HIGH)), self.pick((page, 2 * page, 0x200000)))
            self.container().map_dma(iova, size, arena.base + self.pick(range(8)) * page, self.pick((3, 3, 1)))
            return
        iova, size = self._spot()
        vaddr = self.pick(
            (arena.base,) * 4 + (arena.base + 0x200000, arena.base + 0x800, arena.ro_base, 0, U64 - 0x1000, arena.base + arena.size - page)
        )
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
        self.container().dirty_pages(
            flags, iova=iova, size=size, bm_pgsize=self.pick((4096, 4096, 0, 8192)), bm_size=self.pick((8, 64, 1 << 20, 0))
        )

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
        limit, unsafe = f"{PARAM}dma_entry_limit", f"{PARAM}allow_unsafe_interrupts"
        self.host.set_param(*self.pick(((limit, 2), (limit, 65535), (unsafe, "Y"), (unsafe, "N"), (limit, "many"), ("no.such", 1))))

    def do_memlock(self) -> None:
        self.host.process.set_memlock(self.pick((None, None, 8 << 20, 8 << 20, 0, 0x4000, 0x10001)))

    def do_capability(self) -> None:
        if self.pick((True, False, False)):
            self.host.process.drop_capability(self.pick((14, 17)))
        else:
            self.host.process.restore_capability(self.pick((14, 17)))

    def do_remap(self) -> None:
        offset = self.pick((0, 0x1000, 0x200000))
        self.host.process.remap(
            self.host.machine.arena.base + offset, self.pick((0x1000, 0x2000)), self.pick(("rw", "rw", "r", "none", "hole"))
        )

    def do_status(self) -> None:
        assert self.one(Group).get_status(self.pick((8, 8, 8, 8, 7, 16))) in range(4)

    def do_ioctl(self) -> None:
        self.one(object).ioctl(self.pick((0x3B64, 0x3B65, 0x3B71, 0x3BFF))) if self.files(Container) == self.files(
            object
        ) else self.container().ioctl(0x3B71)

    def do_exit(self) -> None:
        if not self.pick((False,) * 9 + (True,)):
            return
        self.host.process.exit()
        self.after_exit()
        memlock = self.host.process.memlock
        self.host.new_process().set_memlock(memlock)

    def after_exit(self) -> None:
        """Assert that a process that ended has left nothing behind."""
        host = self.host
        assert [] == servers(host)
        assert not host.process.descriptors
        assert all(group.owner is None and group.domain is None for group in host.groups)
        assert all(not vfio.users and not vfio.opened and vfio.container is None for vfio in host.drivers.groups.values())
        if host.kernel.has("inclusive_ends"):
            assert 0 == host.process.locked_pages
