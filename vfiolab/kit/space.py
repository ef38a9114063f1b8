"""One user I/O address space with short verbs: each is made of the model's own, which `transcript` shows as system calls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from copy import copy
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Self, cast

from vfiolab._table import Table
from vfiolab.kit.journey import Journey
from vfiolab.kit.programs import layout
from vfiolab.model.address import Span, hexa, human_size, parse_size
from vfiolab.model.backends.group import VfioGroup
from vfiolab.model.errors import Refusal
from vfiolab.model.events import EventLog
from vfiolab.model.iommu.domain import Domain
from vfiolab.model.irq import delivery
from vfiolab.model.irq.msi import IrqState
from vfiolab.model.machine import Host
from vfiolab.model.pci.topology import TopologyError, normal_bdf
from vfiolab.model.signals import whole
from vfiolab.model.uapi.requests import field, word
from vfiolab.model.user.container import Container, Group
from vfiolab.model.user.descriptor import Descriptor
from vfiolab.model.user.device import Device
from vfiolab.model.user.drivers import VFIO_DRIVERS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from vfiolab.draw import Picture, Scene, SpaceFacts
    from vfiolab.draw.transcript import Transcript
    from vfiolab.model.backends.compat_checks import Area
    from vfiolab.model.backends.dmatree import Dma, DmaTree

Size = int | str
RIGHTS = {"r": 1, "w": 2, "rw": 3, "": 0}
ACCESS = ("", "r", "w", "rw")
LARGEST_WRITE = 4096  # bytes of data that one request of PCI Express can carry
MOST_NAMED = 20  # mappings that an error lists


def device_name(host: Host, device: object) -> Any:
    """Return a device's name as the host knows it: `21:00.0` is 0000:21:00.0. What the host does not have comes back as it was given."""
    if not isinstance(device, str) or device in host.drivers:
        return device
    try:
        full = normal_bdf(device)
    except TopologyError:
        return device
    return full if full in host.drivers else device


class AddressSpace:
    """One user I/O address space: a container, and the groups in it.

    >>> import vfiolab as vl
    >>> space = vl.load("two-smmu-server").address_space()
    >>> space.attach("0000:01:00.0", "0000:21:00.0")
    >>> space.map(0x4000_0000, "1G", name="guest RAM")
    >>> [str(domain.unit) for domain in space.domains]
    ['smmu3.0xc020000 (arm-smmu-v3 stage 1, 48-bit)', 'smmu3.0xc000000 (arm-smmu-v3 stage 1, 48-bit)']
    """

    def __init__(self, host: Host, kind: int = 3, container: Container | None = None) -> None:
        self.host, self.kind = host, kind
        self.process = host.process if container is None else container.process
        self._first_call = len(host.log.calls)
        self._files: dict[VfioGroup, Group] = {}  # where a group's descriptor was last met
        self.container: Container = self.process.open_container() if container is None else container

    def fork(self, name: str = "P") -> AddressSpace:
        """Return a child process's view of the same address space: it shares the container and maps memory of its own.

        >>> import vfiolab as vl
        >>> space = vl.load("intel-vtd-39bit", kernel="5.15").address_space()
        >>> space.attach("0000:01:00.0")
        >>> child = space.fork("P")
        >>> child.map(0x10_0000, "16K")
        >>> space.unmap(0x10_0000)
        0
        """
        child = copy(self)
        child.process = self.process.fork(name)
        child.container = cast("Container", child.process.descriptors[self.container.fd])
        return child

    @whole
    def close(self) -> None:
        """Close what this process holds of the address space: devices, then groups, then the container. Each group leaves it.

        Afterwards every call is EBADF, and closing again does nothing. `with host.address_space() as space:` closes at the end of the
        block, however it ends.

        >>> import vfiolab as vl
        >>> host = vl.load("two-smmu-server")
        >>> with host.address_space() as space:
        ...     space.attach("01:00.0")
        ...     space.map(0x4000_0000, "1G")
        >>> space
        AddressSpace('two-smmu-server', closed)
        >>> space.close()
        >>> space.map(0x4000_0000, "1G")
        Traceback (most recent call last):
            ...
        vfiolab.VfioError: EBADF: descriptor 3 is closed
        """
        files: list[Descriptor | None] = [*self._open_devices(), *map(self._descriptor, self.container.groups), self.container]
        for file in files:
            if file is not None and file.is_open:
                file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # groups

    @whole
    def attach(self, *devices: str) -> None:
        """Put the groups of these devices into the address space: bind, open the group, SET_CONTAINER, and SET_IOMMU the first time.

        A device without a VFIO driver is bound to vfio-pci first. If a call is refused, everything this attach did is undone; what cannot
        be undone is a note on the refusal.

        >>> import vfiolab as vl
        >>> space = vl.load("two-smmu-server").address_space()
        >>> space.attach("01:00.0", "21:00.0")
        >>> space.groups, space.domains
        ((8, 10), [Domain(D2, smmu3.0xc020000, groups [10], 0 mappings), Domain(D1, smmu3.0xc000000, groups [8], 0 mappings)])
        """
        undo = ExitStack()
        try:
            for device in devices:
                self._attach_one(device, undo)
        except BaseException as refused:
            try:
                undo.close()  # every step runs, whatever another one meets
            except Refusal as left:
                refused.add_note(f"what attach had done could not all be undone: {left}")
            raise

    def _attach_one(self, device: str, undo: ExitStack) -> None:
        device = device_name(self.host, device)
        before = self.host.drivers.driver_of(device)
        if before not in VFIO_DRIVERS:
            undo.callback(partial(self.host.unbind, device) if before is None else partial(self.host.bind, device, before))
            self.host.bind(device)
        opened = self.process.open_group(device)
        self._files[opened.vfio] = opened
        undo.callback(opened.close)
        first = not self.container.groups
        opened.set_container(self.container)
        undo.callback(opened.unset_container)
        if self.container.backend is None or (self._is_compat and first):
            self.container.set_iommu(self.kind)

    @property
    def _is_compat(self) -> bool:
        return self.host.machine.vfio == "iommufd-compat"

    @whole
    def detach(self, *devices: str) -> None:
        """Take the groups of these devices out: close their devices, UNSET_CONTAINER, close the group. ValueError if one is not inside.

        >>> import vfiolab as vl
        >>> space = vl.load("two-smmu-server").address_space()
        >>> space.attach("01:00.0", "21:00.0")
        >>> space.detach("21:00.0")
        >>> space.groups, space.domains
        ((8,), [Domain(D1, smmu3.0xc000000, groups [8], 0 mappings)])
        """
        groups = [self._group_of(device) for device in devices]
        for group in dict.fromkeys(groups):
            for device in self._open_devices(group):
                device.close()
            opened = self._descriptor(group)
            if opened is not None:
                opened.unset_container()
                opened.close()

    def _group_of(self, device: str) -> VfioGroup:
        """Return the group inside that holds a device."""
        device = device_name(self.host, device)
        self.host.drivers.driver_of(device)
        holder = self.host.group_of(device)
        inside = self.container.groups
        known = self.host.drivers.groups.get(holder.id) if holder is not None else self.host.drivers.noiommu.get(device)
        if known is not None and known.container is self.container.server:
            return known
        found = next((group for group in inside if device in group.group.devices), None)
        if found is None:
            numbers = ", ".join(map(str, self.groups)) or "none"
            raise ValueError(f"the group of {device} is not in this address space, which holds groups {numbers}: attach it first")
        return found

    def _descriptor(self, group: VfioGroup) -> Group | None:
        """Return the process's descriptor of a group; None if it was closed while a device holds the group here."""
        met = self._files.get(group)
        if met is not None and met.is_open and met.process is self.process:
            return met
        files = self.process.descriptors.values()
        met = next((file for file in files if isinstance(file, Group) and file.vfio is group), None)
        if met is not None:
            self._files[group] = met
        else:
            self._files.pop(group, None)
        return met

    def _open_devices(self, *groups: VfioGroup) -> list[Device]:
        """List the open devices of some groups, by default of all inside, in the order in which they were opened."""
        inside = {group for group in groups or self.container.groups if any(group.devices_open.values())}
        if not inside:
            return []
        return [file for file in self.process.descriptors.values() if isinstance(file, Device) and file.vfio in inside]

    @property
    def groups(self) -> tuple[int, ...]:
        """Numbers of the groups inside."""
        return tuple(sorted(group.id for group in self.container.groups))

    @whole
    def open(self, device: str) -> Device:
        """Open a device of a group inside (GROUP_GET_DEVICE_FD); while it is open, the same descriptor comes back.

        >>> import vfiolab as vl
        >>> space = vl.load("two-smmu-server").address_space()
        >>> space.attach("01:00.0")
        >>> space.open("01:00.0")
        Device(fd 5, 0000:01:00.0)
        """
        name = device_name(self.host, word("device", device))
        inside = self._group_of(name) if name in self.host.drivers else None
        if inside is None or inside.devices_open.get(name):
            known = next((file for file in self._open_devices() if file.name == name), None)
            if known is not None:
                return known
        group = inside or self._group_of(name)
        opened = self._descriptor(group) or self.process.open_group(group.id)  # EBUSY, if another device holds the group
        return opened.get_device_fd(name)

    @whole
    def enable_msi(self, device: str, vectors: int = 1, *, index: int = 2) -> None:
        """Enable a device's MSI-X (index 2) or MSI (index 1) vectors: DEVICE_SET_IRQS.

        Errors are those of `Device.set_irqs`; ValueError as `open`.

        >>> import vfiolab as vl
        >>> space = vl.load("two-smmu-server").address_space()
        >>> space.attach("01:00.0")
        >>> space.enable_msi("01:00.0", 2)
        >>> space.messages[["vector", "address", "data"]]
        vector  address     data
        0       0x800_0040  0x0
        1       0x800_0040  0x1
        """
        self.open(device).set_irqs(index, 0, vectors)

    @property
    def messages(self) -> Table:
        """The message of each vector that a device of this address space has enabled: what it writes, and where."""
        rows = [
            (device, vector, message.address, message.data, message.why)
            for device in dict.fromkeys(file.name for file in self._open_devices())
            for vector, message in self._irqs(device).messages.items()
        ]
        return Table(["device", "vector", "address", "data", "why"], rows, {"address": hexa, "data": hexa})

    # mappings

    @whole
    def map(self, iova: Size, size: Size, name: str = "", *, rights: str = "rw", vaddr: Size | None = None) -> None:
        """Map memory for every device inside: MAP_DMA. Without a vaddr, fresh memory is allocated for it, less than 64 TiB.

        Sizes and addresses are bytes or words ("1G", "0x1000"). rights: r the device may read, w write, rw both.
        VfioError as `type1_checks.MAP_CHECKS` lists them; ValueError for words and sizes that no call can have.

        >>> import vfiolab as vl
        >>> space = vl.load("two-smmu-server").address_space()
        >>> space.attach("01:00.0")
        >>> space.map(0x4000_0000, "1G", "guest RAM")
        >>> space.map("1G", "4K", rights="r")
        Traceback (most recent call last):
            ...
        vfiolab.VfioError: EEXIST: 0x4000_0000-0x4000_0fff overlaps the mapping 0x4000_0000-0x7fff_ffff (guest RAM)
        """
        if not isinstance(name, str):
            raise TypeError(f"the third argument, name, is a text, not {name!r}: the process's address is given as vaddr=")
        start, length = parse_size(iova, "an iova"), parse_size(size)
        if word("rights", rights) not in RIGHTS:
            raise ValueError(f"rights are 'r', 'w' or 'rw' (what the device may do), not {rights!r}")
        place = None if vaddr is None else parse_size(vaddr, "an address")
        self.container.map_dma(start, length, place, RIGHTS[rights], name=name)

    @whole
    def map_program(self, program: str, size: Size) -> None:
        """Map memory as a known program does for so many bytes: one MAP_DMA for each of its ranges (`programs.layout`, with sources).

        If one is refused, those before it are unmapped again. Errors are those of `map`; ValueError for a program not known.

        >>> import vfiolab as vl
        >>> space = vl.load("intel-vtd-39bit").address_space()
        >>> space.attach("01:00.0")
        >>> space.map_program("qemu-q35", "4G")
        >>> space.mappings[["start", "size", "name"]]
        start          size       name
        0x0            640 KiB    RAM below 4G
        0xc_0000       128 KiB    RAM below 4G
        0xe_0000       128 KiB    RAM below 4G
        0x10_0000      1.999 GiB  RAM below 4G
        0x1_0000_0000  2 GiB      RAM above 4G
        """
        done: list[int] = []
        try:
            for iova, length, name in layout(program, parse_size(size)):
                self.container.map_dma(iova, length, None, RIGHTS["rw"], name=name)
                done.append(iova)
        except (Refusal, ValueError):
            for iova in reversed(done):
                self.unmap(iova)
            raise

    @whole
    def unmap(self, iova: Size, size: Size | None = None) -> int:
        """Unmap a range, by default the mapping that begins at `iova`: UNMAP_DMA. Return the bytes unmapped.

        ValueError if no mapping begins there; VfioError as `type1_checks.UNMAP_CHECKS` lists them.

        >>> import vfiolab as vl
        >>> space = vl.load("two-smmu-server").address_space()
        >>> space.attach("01:00.0")
        >>> space.map(0x4000_0000, "1G")
        >>> space.unmap(0x4000_0000)
        1073741824
        """
        start = parse_size(iova, "an iova")
        if size is not None:
            return self.container.unmap_dma(start, parse_size(size))
        found = next((dma for dma in self._at(start) if dma.iova == start), None)
        if found is None:
            starts = [hexa(dma.iova) for dma in islice(self._dmas, MOST_NAMED + 1)]
            listed = ", ".join(starts[:MOST_NAMED]) + (", and so on" if len(starts) > MOST_NAMED else "")
            raise ValueError(f"no mapping begins at {hexa(start)}; mappings begin at: {listed or 'none'}. Give a size to unmap a range")
        return self.container.unmap_dma(start, found.size)

    @whole
    def unmap_all(self) -> int:
        """Unmap everything: UNMAP_DMA with ALL, before 5.12 over the whole space. Return the bytes unmapped.

        >>> import vfiolab as vl
        >>> space = vl.load("two-smmu-server").address_space()
        >>> space.attach("01:00.0")
        >>> space.map(0x4000_0000, "1G")
        >>> space.map(0x8000_0000, "64K")
        >>> space.unmap_all()
        1073807360
        """
        if self._is_compat or self.host.kernel.has("unmap_all"):
            return self.container.unmap_dma(flags=2)
        return self.container.unmap_dma(0, (1 << 64) - self.host.machine.page_size)

    @property
    def _dmas(self) -> DmaTree | Sequence[Dma | Area]:
        return self.container.backend.dmas if self.container.backend is not None else ()

    def _at(self, iova: int) -> Iterator[Dma | Area]:
        return self.container.backend.at(iova) if self.container.backend is not None else iter(())

    @property
    def mappings(self) -> Table:
        """The user's mappings: first and last byte, size in bytes, rights, name."""
        rows = [(dma.iova, dma.iova + dma.size - 1, dma.size, ACCESS[dma.prot & 3], dma.name) for dma in self._dmas]
        return Table(["start", "end", "size", "rights", "name"], rows, {"start": hexa, "end": hexa, "size": human_size})

    @property
    def domains(self) -> list[Domain]:
        """The IOMMU domains behind the address space, newest first."""
        return list(self.container.backend.domains) if self.container.backend is not None else []

    @property
    def iova_ranges(self) -> tuple[Span, ...]:
        """What may be mapped, half-open; empty if the kernel does not say (before 5.4, or no hardware group)."""
        return tuple(self.container.backend.valid_iova) if self.container.backend is not None else ()

    # what devices do

    def _irqs(self, device: str) -> IrqState:
        return self.process.irqs.get(device, IrqState())

    def _owner(self, iova: int) -> str:
        """Name the user's memory at an iova: the mapping's label, or where it is mapped, and the offset."""
        found = next(self._at(iova), None)
        return "" if found is None else f"{found.name or f'the mapping at {hexa(found.iova)}'} + {hexa(iova - found.iova)}"

    @whole
    def dma_write(self, device: str, iova: int | str, data: int = 0, size: int = 4) -> Journey:
        """Let a device write `size` bytes of `data` at a bus address, and see where they go.

        ValueError for an address or a size that no request has.

        >>> import vfiolab as vl
        >>> space = vl.load("two-smmu-server").address_space()
        >>> space.attach("01:00.0")
        >>> space.map(0x4000_0000, "1G", "guest RAM")
        >>> space.dma_write("01:00.0", 0x4000_1000, 0x1234).outcome, space.dma_write("01:00.0", 0).outcome
        ('memory', 'fault')
        """
        device = device_name(self.host, device)
        size = field("size", parse_size(size), 32)
        args = (self.host, device, parse_size(iova, "an iova"), field("data", data, 8 * min(max(size, 1), LARGEST_WRITE)), size)
        return Journey.of(delivery.write(*args, irqs=self._irqs(device), owner=self._owner))

    @whole
    def dma_read(self, device: str, iova: int | str, size: int = 4) -> Journey:
        """Let a device read `size` bytes at a bus address, and see where they come from; errors as `dma_write`.

        >>> import vfiolab as vl
        >>> space = vl.load("two-smmu-server").address_space()
        >>> space.attach("01:00.0")
        >>> space.map(0x4000_0000, "1G", "guest RAM", rights="w")
        >>> space.dma_read("01:00.0", 0x4000_1000).outcome
        'fault'
        """
        return Journey.of(delivery.read(self.host, device_name(self.host, device), parse_size(iova, "an iova"), size, owner=self._owner))

    @whole
    def raise_msi(self, device: str, vector: int = 0) -> Journey:
        """Let a device raise one of its vectors: it writes that vector's message. ValueError if the vector is not enabled.

        >>> import vfiolab as vl
        >>> space = vl.load("two-smmu-server").address_space()
        >>> space.attach("01:00.0")
        >>> space.enable_msi("01:00.0")
        >>> space.raise_msi("01:00.0").outcome
        'delivered'
        """
        device, vector = device_name(self.host, device), field("vector", vector, 32)
        if vector not in self._irqs(device).messages:
            raise ValueError(f'vector {vector} of {device} is not enabled: space.enable_msi("{device}", {max(vector, 0) + 1}) enables it')
        return Journey.of(delivery.raise_msi(self.host, device, self._irqs(device), vector, owner=self._owner))

    # views

    @property
    def log(self) -> EventLog:
        """Every call on this host, with its events."""
        return self.host.log

    def transcript(self, *, events: bool = True, last: int | None = None) -> Transcript:
        """Return the calls of this address space, or the `last` so many, as strace prints them, with the IOMMU core's events below.

        >>> import vfiolab as vl
        >>> space = vl.load("two-smmu-server").address_space()
        >>> space.attach("01:00.0")
        >>> space.transcript(events=False)
        open("/dev/vfio/vfio", O_RDWR) = 3
        open("/dev/vfio/8", O_RDWR) = 4
        ioctl(4, VFIO_GROUP_SET_CONTAINER, [3]) = 0
        ioctl(3, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) = 0
        """
        from vfiolab.draw.transcript import transcript

        calls = self.host.log.calls[self._first_call :]
        return transcript(calls if last is None else calls[len(calls) - min(last, len(calls)) :], events=events)

    def picture(self, window: tuple[Size, Size] | None = None, width: int | None = None) -> Scene:
        """Return the iova map as it is now; `window` is (start, end) in bytes or words, end exclusive.

        >>> import vfiolab as vl
        >>> space = vl.load("two-smmu-server").address_space()
        >>> space.attach("01:00.0")
        >>> space.picture(window=(0, "4G"))
        Scene('1 domain, nothing mapped yet', 760 x 282, 2 rows)
        """
        from vfiolab.draw import iova_map

        return iova_map(self.container, log=self.host.log, window=window, width=width)

    def look(self) -> SpaceFacts:
        """Copy what there is to be seen now, for `changed` to compare with later.

        >>> import vfiolab as vl
        >>> space = vl.load("two-smmu-server").address_space()
        >>> space.attach("01:00.0")
        >>> before = space.look()
        >>> space.map(0x4000_0000, "1G")
        >>> before == space.look()
        False
        """
        from vfiolab.draw import observe

        return observe(self.container)

    def changed(self, before: SpaceFacts) -> Scene:
        """Draw what is new, gone or refused since `before = space.look()`, under the last call that did something.

        >>> import vfiolab as vl
        >>> space = vl.load("two-smmu-server").address_space()
        >>> space.attach("01:00.0")
        >>> before = space.look()
        >>> space.map(0x4000_0000, "1G")
        >>> space.changed(before)
        Scene('MAP_DMA 0x4000_0000, 1 GiB → 0', 760 x 282, 3 rows)
        """
        from vfiolab.draw import change

        calls = self.host.log.calls
        told = next((call for call in reversed(calls) if call.events or call.error), None)  # closing a descriptor is seldom the story
        return change(before, self.look(), told, log=self.host.log)

    def chain(self) -> Picture:
        """Draw devices, groups, container, domains and IOMMU units, and which serves which.

        >>> import vfiolab as vl
        >>> space = vl.load("two-smmu-server").address_space()
        >>> space.attach("01:00.0")
        >>> space.chain()
        Picture('1 device, 1 group, 1 container, 1 domain, 1 IOMMU unit', 760 x 180, 1 rows)
        """
        from vfiolab.draw import chain

        return chain(self.container, log=self.host.log)

    def timeline(self, last: int = 20) -> Picture:
        """Draw what the last calls on this host did to each domain, in order.

        >>> import vfiolab as vl
        >>> space = vl.load("two-smmu-server").address_space()
        >>> space.attach("01:00.0")
        >>> space.map(0x4000_0000, "1G")
        >>> space.timeline(last=1)
        Picture('1 call on D1', 760 x 100, 1 rows)
        """
        from vfiolab.draw import timeline

        return timeline(self.host.log, last=last)

    def __repr__(self) -> str:
        if not self.container.is_open:
            return f"AddressSpace({self.host.machine.name!r}, closed)"
        name = self.container.backend.name if self.container.backend is not None else "no backend yet"
        held = (len(self._dmas), "mapping"), (len(self.domains), "domain")
        counts = ", ".join(f"{number} {noun}{'' if number == 1 else 's'}" for number, noun in held)
        return f"AddressSpace({self.host.machine.name!r}, groups {list(self.groups)}, {counts}, {name})"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return self.picture()._repr_mimebundle_() if self.container.is_open else {"text/plain": repr(self)}


def plot(space: AddressSpace, ax: Axes | None = None, *, window: tuple[Size, Size] | None = None) -> Axes:
    """Draw an address space's iova map on matplotlib axes, and return them."""
    from vfiolab.draw import plot as draw_on

    return draw_on(space.picture(window), ax)
