"""The native VFIO container behind a descriptor: groups, and the type1 or no-IOMMU backend they share (drivers/vfio/container.c)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from vfiolab.model.address import Span
from vfiolab.model.backends.dmatree import Dma
from vfiolab.model.backends.group import CORE, SET_CONTAINER, VfioGroup
from vfiolab.model.backends.protocol import Caller, System
from vfiolab.model.backends.type1 import NESTING, TYPE1, Type1, TYPE1v2
from vfiolab.model.checks import Check, table
from vfiolab.model.iommu.domain import Domain
from vfiolab.model.uapi.info import Info
from vfiolab.model.uapi.requests import DIRTY_PAGES, DirtyPages, IommuInfo, MapDma, UnmapDma, switched_on

DMA_CC, NOIOMMU, UNMAP_ALL_EXT, UPDATE_VADDR = 4, 8, 9, 10
NOIOMMU_MODE = "vfio.enable_unsafe_noiommu_mode"


class NoIommu:
    """The no-IOMMU backend (4.5 and later, with vfio.enable_unsafe_noiommu_mode): nothing is translated and nothing is protected."""

    name, v2 = "noiommu", False
    mapped_bytes = 0
    dmas: tuple[Dma, ...] = ()
    domains: tuple[Domain, ...] = ()
    valid_iova: tuple[Span, ...] = ()

    def at(self, _: int) -> Iterator[Dma]:
        """Yield no mapping."""
        return iter(())

    def __repr__(self) -> str:
        return "NoIommu()"


class Native:
    """The VFIO container: groups, then (after SET_IOMMU) one backend until the last group leaves."""

    attaches_at_open = False

    def __init__(self, system: System) -> None:
        self.system = system
        self.kernel = system.kernel
        self.pins_group = system.kernel.has("dma_ownership")
        self.groups: list[VfioGroup] = []
        self.backend: Type1 | NoIommu | None = None

    def check_enter(self, group: VfioGroup) -> None:
        """Refuse to mix no-IOMMU groups with others (EPERM, 4.5 and later)."""
        table(ENTER_CHECKS, self.kernel).run((self, group))

    def enter(self, group: VfioGroup) -> None:
        """Claim the group (5.19+) and attach it if there is a backend; a refusal undoes the claim."""
        core = self.system.core
        claim = self.kernel.has("dma_ownership") and not group.noiommu and not group.group.emulated
        if claim:
            core.claim(group.group, self)
        if isinstance(self.backend, Type1):
            try:
                self.backend.attach(group.group)
            except BaseException:
                if claim:
                    core.release(group.group)
                raise
        self.groups.append(group)
        group.container = self

    def leave(self, group: VfioGroup) -> None:
        """Detach, release, and end the backend with the last group."""
        self.groups.remove(group)
        group.container = None
        if isinstance(self.backend, Type1):
            self.backend.detach(group.group)
        if group.group.owner is self:
            self.system.core.release(group.group)
        if not self.groups:
            self.backend = None

    def drop(self, group: VfioGroup) -> None:
        """Let a group go at once: its last device is gone."""
        self.leave(group)

    @property
    def _noiommu_offered(self) -> bool:
        return self.kernel.has("noiommu") and switched_on(self.system.params, NOIOMMU_MODE) and all(group.noiommu for group in self.groups)

    def _type1_extension(self, number: int) -> int:
        kernel, backend = self.kernel, self.backend
        if number in (TYPE1, TYPE1v2):
            return 1
        if number == DMA_CC:
            return backend.dma_cc() if isinstance(backend, Type1) else 0
        if number == NESTING:
            return int(not kernel.has("no_nesting"))
        if number == UNMAP_ALL_EXT:
            return int(kernel.has("unmap_all"))
        if number == UPDATE_VADDR and kernel.has("vaddr_update"):
            return int(not kernel.has("update_vaddr_needs_backend") or (isinstance(backend, Type1) and not backend.emulated))
        return 0

    def check_extension(self, number: int) -> int:
        """Ask the backend, or before SET_IOMMU every backend that may serve the container's groups. Unknown numbers are 0."""
        if isinstance(self.backend, NoIommu):
            return int(number == NOIOMMU and switched_on(self.system.params, NOIOMMU_MODE))
        answer = 0 if any(group.noiommu for group in self.groups) else self._type1_extension(number)
        if self.backend is None and not answer and self._noiommu_offered:
            answer = int(number == NOIOMMU)
        return answer

    def set_iommu(self, kind: int) -> None:
        """Open a backend and attach all groups, newest first. EINVAL (no group, or a backend already), ENODEV (no such type), the attach's errno."""
        table(SET_IOMMU_CHECKS, self.kernel).run(_Asked(self, kind))
        if kind == NOIOMMU:
            self.backend = NoIommu()
            return
        backend = Type1(self.system.core, self.system.params, kind)
        try:
            for group in reversed(self.groups):
                backend.attach(group.group)
        except BaseException:
            backend.close()
            raise
        self.backend = backend

    def offers(self, kind: int) -> bool:
        """Say whether a backend serves a type of container on this kernel, for the groups that are in."""
        return self._noiommu_offered if kind == NOIOMMU else self.check_extension(kind) > 0

    def _need_type1(self, call: str) -> Type1:
        """Return the type1 backend, for a call that is no other's: EINVAL without a backend, ENOTTY for the no-IOMMU one."""
        table(BACKEND_CHECKS, self.kernel).run(_Asked(self, call=call))
        assert isinstance(self.backend, Type1)
        return self.backend

    def info(self, request: IommuInfo) -> Info:
        """GET_INFO; EINVAL without a backend."""
        return self._need_type1("GET_INFO").info(request)

    def map(self, caller: Caller, request: MapDma) -> None:
        """MAP_DMA; EINVAL without a backend."""
        backend = self.backend
        (backend if isinstance(backend, Type1) else self._need_type1("MAP_DMA")).map(caller, request)

    def unmap(self, caller: Caller, request: UnmapDma) -> tuple[int, int | None]:
        """UNMAP_DMA; EINVAL without a backend."""
        backend = self.backend
        return (backend if isinstance(backend, Type1) else self._need_type1("UNMAP_DMA")).unmap(caller, request)

    def dirty(self, caller: Caller, request: DirtyPages) -> int | None:
        """DIRTY_PAGES; EINVAL without a backend, ENOTTY before 5.8."""
        backend = self._need_type1("DIRTY_PAGES")
        if not self.kernel.has("dirty_tracking"):
            self.refuse_unknown(DIRTY_PAGES)
        return backend.dirty(caller, request)

    def close(self) -> None:
        """Nothing happens: the groups keep the container."""

    def refuse_unknown(self, cmd: int) -> None:
        """EINVAL before SET_IOMMU, ENOTTY after."""
        table(UNKNOWN_CHECKS, self.kernel).run(_Asked(self, call=f"ioctl {cmd:#_x}"))

    def open_device(self, group: VfioGroup, name: str) -> None:
        """Nothing more to do: the group is attached already."""

    def close_device(self, group: VfioGroup, name: str) -> None:
        """Nothing to do: the group stays attached."""

    def __repr__(self) -> str:
        return f"Native(groups {[group.id for group in self.groups]}, {self.backend!r})"

    def _check(self) -> None:
        assert all(group.container is self for group in self.groups)
        assert self.backend is None or self.groups, "a backend without groups"
        if isinstance(self.backend, Type1):
            attached = self.backend.groups
            assert {group.group for group in self.groups} == set(attached), f"{self.groups} in the container, {attached} in the backend"
            assert len(attached) == len(set(attached)), "a group is in two domains"
            self.backend._check()


class _Asked(NamedTuple):
    """What is asked of a container: a backend for a type, or an ioctl that the backend answers."""

    native: Native
    kind: int = 0
    call: str = ""


ENTER_CHECKS = (
    Check("no-IOMMU groups and others are not mixed", "EPERM", SET_CONTAINER,
          lambda r: "the container holds groups of the other kind (with and without an IOMMU)" if any(g.noiommu != r[1].noiommu for g in r[0].groups[:1]) else None,
          "use a second container", "noiommu"),
)  # fmt: skip

SET_IOMMU = f"vfio_ioctl_set_iommu, {CORE}"
_TYPES = "type 3 is type1 v2, 1 is type1"
SET_IOMMU_CHECKS = (
    Check("the container holds a group", "EINVAL", SET_IOMMU, "the container holds no group yet", "GROUP_SET_CONTAINER first", test="not r.native.groups"),
    Check("the container has no backend yet", "EINVAL", SET_IOMMU, "the container has its backend already ({r.native.backend!r})", "SET_IOMMU is done once; it ends with the last group",
          test="r.native.backend is not None"),
    Check("a backend offers the type", "ENODEV", SET_IOMMU, "no backend offers type {r.kind} on kernel {r.native.kernel}", _TYPES, test="not r.native.offers(r.kind)"),
    Check("the type is one of a container", "EINVAL", "vfio_iommu_type1_open, drivers/vfio/vfio_iommu_type1.c", "{r.kind} is an extension that type1 answers, but no type of a container", _TYPES,
          test=f"r.kind not in {TYPE1, TYPE1v2, NESTING, NOIOMMU}"),
)  # fmt: skip

UNL_IOCTL = f"vfio_fops_unl_ioctl, {CORE}"
BACKEND_CHECKS = (
    Check("the container has a backend", "EINVAL", UNL_IOCTL, "{r.call} before SET_IOMMU: the container has no backend",
          "attach a group and SET_IOMMU first; the last group's leaving ends it", test="r.native.backend is None"),
    Check("the backend is type1", "ENOTTY", "vfio_noiommu_ioctl, drivers/vfio/container.c", "the no-IOMMU backend has no {r.call}: devices use physical addresses",
          "use an IOMMU, or hand the device physical addresses", test="r.native.backend.name == 'noiommu'"),
)  # fmt: skip
UNKNOWN_CHECKS = (
    Check("the container has a backend", "EINVAL", UNL_IOCTL, "an ioctl that needs a backend, before SET_IOMMU", "SET_IOMMU first", test="r.native.backend is None"),
    Check("the backend has the ioctl", "ENOTTY", "vfio_iommu_type1_ioctl, drivers/vfio/vfio_iommu_type1.c", "kernel {r.native.kernel} does not know {r.call} on a container", "see the container's ioctls", test="True"),
)  # fmt: skip
