"""What a learner types: load a machine, open an address space, attach, map, look.

Everything here is made of the model's own verbs, which `AddressSpace.transcript` shows as system calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vfiolab._paths import data_dir
from vfiolab.journeys import Deliveries
from vfiolab.model.address import Span, hexa, human_size, parse_size
from vfiolab.model.builder import MachineBuilder as ModelBuilder
from vfiolab.model.errors import VfioError
from vfiolab.model.events import EventLog
from vfiolab.model.iommu import Domain
from vfiolab.model.kernel import Kernel
from vfiolab.model.machine import Host as ModelHost
from vfiolab.model.machine import Machine
from vfiolab.model.pci import Function
from vfiolab.model.vfio import Container, Device, Group

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from vfiolab.draw import Picture, Scene, SpaceFacts
    from vfiolab.draw.transcript import Transcript

__all__ = ["AddressSpace", "Host", "MachineBuilder", "Table", "here", "load", "machines", "plot"]

Size = int | str
RIGHTS = {"r": 1, "w": 2, "rw": 3, "": 0}


class Table(Sequence[dict[str, Any]]):
    """Rows with the same columns: text in a cell, a DataFrame on request; `table[["iova"]]` has fewer columns.

    >>> Table(["iova", "size"], [["0x1000", "4 KiB"]])
    iova    size
    0x1000  4 KiB
    """

    def __init__(self, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        self.columns = list(columns)
        self.rows = [list(row) for row in rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        """Return a row by its number, or the table of some columns by their names."""
        if isinstance(index, list):
            places = [self.columns.index(name) for name in index]
            return Table(index, [[row[place] for place in places] for row in self.rows])
        return dict(zip(self.columns, self.rows[index], strict=True))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (dict(zip(self.columns, row, strict=True)) for row in self.rows)

    def frame(self) -> pd.DataFrame:
        """Return the table as a pandas DataFrame."""
        import pandas as pd

        return pd.DataFrame(self.rows, columns=self.columns)

    def __repr__(self) -> str:
        lines = [self.columns, *([str(cell) for cell in row] for row in self.rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.columns))]
        return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)

    def _repr_html_(self) -> str:
        from html import escape

        left = ' style="text-align:left"'  # JupyterLab would push words to the right
        head = "".join(f'<th scope="col"{left}>{escape(str(name))}</th>' for name in self.columns)
        body = "".join("<tr>" + "".join(f"<td{left}>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in self.rows)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


class Host(ModelHost):
    """A machine that runs a kernel, with the learner's verbs.

    >>> host = load("two-smmu-server")
    >>> host
    Host('two-smmu-server', kernel 6.12, 12 groups)
    """

    def address_space(self, kind: int = 3) -> AddressSpace:
        """Open a container: one user I/O address space. kind: 3 type1 v2, 1 type1, 6 nesting."""
        return AddressSpace(self, kind)

    def with_kernel(self, kernel: Kernel | str) -> Host:
        """Return the same machine, freshly booted with another kernel."""
        return Host(self.machine, kernel if isinstance(kernel, Kernel) else Kernel(kernel))

    @property
    def groups_table(self) -> Table:
        """The IOMMU groups: number, devices, unit, reserved regions."""
        rows = [
            (group.id, ", ".join(group.devices), group.unit.name if group.unit else "none", "; ".join(map(str, group.reserved)) or "none")
            for group in self.groups
        ]
        return Table(["group", "devices", "IOMMU", "reserved regions"], rows)

    def mates(self, device: str) -> Table:
        """List all devices of a device's group, with what they are (name, or vendor and device number) and their drivers."""
        self.drivers.driver_of(device)
        group = self.group_of(device)
        known = self.machine.topology
        rows = [
            (bdf, _what(known[bdf]) if bdf in known else "", self.drivers.driver_of(bdf) or "none")
            for bdf in (group.devices if group else (device,))
        ]
        return Table(["device", "what it is", "driver"], rows)


class AddressSpace(Deliveries):
    """One user I/O address space: a container, and the groups in it.

    >>> space = load("two-smmu-server").address_space()
    >>> space.attach("0000:01:00.0", "0000:21:00.0")
    >>> space.map(0x4000_0000, "1G", name="guest RAM")
    >>> [str(domain.unit) for domain in space.domains]
    ['smmu3.0xc020000 (arm-smmu-v3 stage 1, 48-bit)', 'smmu3.0xc000000 (arm-smmu-v3 stage 1, 48-bit)']
    """

    def __init__(self, host: Host, kind: int = 3) -> None:
        self.host, self.kind = host, kind
        self.process = host.process
        self._first_call = len(host.log.calls)
        self.container: Container = self.process.open_container()
        self._groups: dict[int, Group] = {}
        self._devices: dict[str, Device] = {}

    # groups

    def attach(self, *devices: str) -> None:
        """Put the groups of these devices into the address space: bind, open the group, SET_CONTAINER, and SET_IOMMU the first time.

        A device without a VFIO driver is bound to vfio-pci first. If a call is refused, everything this attach did is undone.
        """
        undo: list[Callable[[], None]] = []
        try:
            for device in devices:
                self._attach_one(device, undo)
        except BaseException:
            for step in reversed(undo):
                step()
            raise

    def _attach_one(self, device: str, undo: list[Callable[[], None]]) -> None:
        group = self.host.group_of(device)
        if group is not None and group.id in self._groups:
            raise VfioError(
                "EINVAL",
                f"group {group.id}, which holds {device}, is in this address space already",
                "vfio_group_set_container",
                "attach each group once",
            )
        before = self.host.drivers.driver_of(device)
        if before not in ("vfio-pci", "vfio_mdev"):
            undo.append(lambda: self._put_back(device, before))
            self.host.bind(device)
        opened = self.process.open_group(device)
        undo.append(opened.close)
        opened.set_container(self.container)
        undo.append(opened.unset_container)
        if self.container.backend is None or (self._is_compat and not self._groups):
            self.container.set_iommu(self.kind)
        self._groups[opened.id] = opened
        undo.append(lambda: self._forget(opened))

    @property
    def _is_compat(self) -> bool:
        return self.host.machine.vfio == "iommufd-compat"

    def _forget(self, group: Group) -> None:
        del self._groups[group.id]

    def _put_back(self, device: str, driver: str | None) -> None:
        if driver is None:
            self.host.unbind(device)
        else:
            self.host.bind(device, driver)

    def detach(self, *devices: str) -> None:
        """Take the groups of these devices out: close their devices, UNSET_CONTAINER, close the group."""
        groups = [self._group_of(device) for device in devices]
        for group in dict.fromkeys(groups):
            for name in [name for name in self._devices if name in group.vfio.group.devices]:
                self._devices.pop(name).close()
            group.unset_container()
            group.close()
            del self._groups[group.id]

    def _group_of(self, device: str) -> Group:
        self.host.drivers.driver_of(device)
        group = self.host.group_of(device)
        if group is None or group.id not in self._groups:
            inside = ", ".join(map(str, sorted(self._groups))) or "none"
            raise VfioError(
                "EINVAL",
                f"the group of {device} is not in this address space, which holds groups {inside}",
                "vfio_group_unset_container",
                "attach it first",
            )
        return self._groups[group.id]

    @property
    def groups(self) -> tuple[int, ...]:
        """Numbers of the groups inside."""
        return tuple(sorted(self._groups))

    def open(self, device: str) -> Device:
        """Open a device of a group inside (GROUP_GET_DEVICE_FD); opened once, the same descriptor comes back."""
        if device not in self._devices:
            self._devices[device] = self._group_of(device).get_device_fd(device)
        return self._devices[device]

    def enable_msi(self, device: str, vectors: int = 1, *, index: int = 2) -> None:
        """Enable a device's MSI-X (index 2) or MSI (index 1) vectors: DEVICE_SET_IRQS."""
        self.open(device).set_irqs(index, 0, vectors)

    @property
    def messages(self) -> Table:
        """The message of each vector that a device of this address space has enabled: what it writes, and where."""
        rows = [
            (device, vector, hexa(message.address), hexa(message.data), message.why)
            for device in self._devices
            for vector, message in self._irqs(device).messages.items()
        ]
        return Table(["device", "vector", "address", "data", "why"], rows)

    # mappings

    def map(self, iova: Size, size: Size, name: str = "", *, rights: str = "rw", vaddr: Size | None = None) -> None:
        """Map memory for every device inside: MAP_DMA. Without a vaddr, fresh memory is allocated for it.

        Sizes and addresses are bytes or words ("1G", "0x1000"). rights: r the device may read, w write, rw both.
        """
        start, length = parse_size(iova), parse_size(size)
        if rights not in RIGHTS:
            raise ValueError(f"rights are 'r', 'w' or 'rw' (what the device may do), not {rights!r}")
        with self.process.memory.trial() as memory:
            place = memory.mmap(max(length, 1)) if vaddr is None and 0 <= length < 1 << 46 else parse_size(vaddr or 0)
            self.container.map_dma(start, length, place, RIGHTS[rights], name=name)

    def unmap(self, iova: Size, size: Size | None = None) -> int:
        """Unmap a range, by default the mapping that begins at `iova`: UNMAP_DMA. Return the bytes unmapped."""
        start = parse_size(iova)
        if size is None:
            found = [dma.size for dma in self._dmas() if dma.iova == start]
            if not found:
                starts = ", ".join(hexa(dma.iova) for dma in self._dmas()) or "none"
                raise ValueError(f"no mapping begins at {hexa(start)}; mappings begin at: {starts}. Give a size to unmap a range")
            return self.container.unmap_dma(start, found[0])
        return self.container.unmap_dma(start, parse_size(size))

    def unmap_all(self) -> int:
        """Unmap everything: UNMAP_DMA with ALL, before 5.12 over the whole space. Return the bytes unmapped."""
        if self._is_compat or self.host.kernel.has("unmap_all"):
            return self.container.unmap_dma(flags=2)
        return self.container.unmap_dma(0, (1 << 64) - self.host.machine.page_size)

    def _dmas(self) -> list[Any]:
        backend = self.container.backend
        return list(getattr(backend, "dmas", ()))

    @property
    def mappings(self) -> Table:
        """The user's mappings: range (inclusive), size, rights, name."""
        rows = [
            (
                hexa(dma.iova),
                hexa(dma.iova + dma.size - 1),
                human_size(dma.size),
                ("r" if dma.prot & 1 else "") + ("w" if dma.prot & 2 else ""),
                dma.name,
            )
            for dma in self._dmas()
        ]
        return Table(["start", "end", "size", "rights", "name"], rows)

    @property
    def domains(self) -> list[Domain]:
        """The IOMMU domains behind the address space, newest first."""
        backend = self.container.backend
        return list(getattr(backend, "domains", ()))

    @property
    def iova_ranges(self) -> tuple[Span, ...]:
        """What may be mapped, half-open; empty if the kernel does not say (before 5.4, or no hardware group)."""
        backend = self.container.backend
        return tuple(getattr(backend, "valid_iova", ()))

    # views

    @property
    def log(self) -> EventLog:
        """Every call on this host, with its events."""
        return self.host.log

    def transcript(self, *, events: bool = True) -> Transcript:
        """Return the calls of this address space as strace prints them, with the IOMMU core's events below."""
        from vfiolab.draw.transcript import transcript

        return transcript(self.host.log.calls[self._first_call :], events=events)

    def picture(self, window: tuple[Size, Size] | None = None, width: int = 900) -> Scene:
        """Return the iova map as it is now; `window` is (start, end) in bytes or words, end exclusive."""
        from vfiolab.draw import iova_map

        return iova_map(self.container, log=self.host.log, window=window, width=width)

    def look(self) -> SpaceFacts:
        """Copy what there is to be seen now, for `changed` to compare with later."""
        from vfiolab.draw import observe

        return observe(self.container)

    def changed(self, before: SpaceFacts) -> Scene:
        """Draw what is new, gone or refused since `before = space.look()`, under the last call that did something."""
        from vfiolab.draw import change

        calls = self.host.log.calls
        told = next((call for call in reversed(calls) if call.events or call.error), None)  # closing a descriptor is seldom the story
        return change(before, self.look(), told, log=self.host.log)

    def chain(self) -> Picture:
        """Draw devices, groups, container, domains and IOMMU units, and which serves which."""
        from vfiolab.draw import chain

        return chain(self.container)

    def timeline(self, last: int = 20) -> Picture:
        """Draw what the last calls on this host did to each domain, in order."""
        from vfiolab.draw import timeline

        return timeline(self.host.log, last=last)

    def __repr__(self) -> str:
        backend = self.container.backend
        name = getattr(backend, "name", None) or "no backend yet"
        counts = f"{len(self._dmas())} mappings, {len(self.domains)} domains"
        return f"AddressSpace({self.host.machine.name!r}, groups {list(self.groups)}, {counts}, {name})"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        from vfiolab.draw import figure_html, to_text

        picture = self.picture()
        return {"text/plain": to_text(picture), "text/html": figure_html(picture)}


class MachineBuilder(ModelBuilder):
    """Build a machine by hand; `host` boots it with the learner's verbs.

    >>> m = MachineBuilder("demo")
    >>> smmu = m.unit("smmu0", kind="arm-smmu-v3")
    >>> port = m.root_port("00:01.0", unit=smmu, acs=True)
    >>> m.endpoint("01:00.0", below=port, functions=2)
    >>> m.host(kernel="6.12").address_space()
    AddressSpace('demo', groups [], 0 mappings, 0 domains, no backend yet)
    """

    def host(self, kernel: Kernel | str | None = None) -> Host:
        """Boot a kernel on the machine; the newest by default."""
        return _boot(self.machine(), kernel)


def _boot(machine: Machine, kernel: Kernel | str | None) -> Host:
    chosen = kernel if kernel is not None else machine.kernel or Kernel()
    return Host(machine, chosen if isinstance(chosen, Kernel) else Kernel(chosen))


def _what(function: Function) -> str:
    ids = ":".join(f"{number:04x}" for number in (function.vendor, function.device) if number is not None)
    return function.name or ids


def machines() -> list[str]:
    """List the machines that come with the kit.

    >>> "two-smmu-server" in machines()
    True
    """
    return sorted(path.stem for path in (data_dir() / "machines").glob("*.json"))


def load(name: str | Path, kernel: Kernel | str | None = None) -> Host:
    """Load a machine by name (see `machines`) or from a file: a machine file, lspci text, a sysfs tree.

    ValueError names the machines there are, or the line and field of a file that cannot be read. A machine whose IOMMU units are not
    recorded gets assumed ones: `host.doubts` says which.
    """
    from vfiolab.readers.machinefile import read_machine_file
    from vfiolab.readers.pcifile import read_pci

    if str(name) in machines():
        return _boot(read_machine_file(data_dir() / "machines" / f"{name}.json").with_assumed_units(), kernel)
    path = Path(name)
    if not path.exists():
        raise ValueError(f"no machine and no file is called {str(name)!r}; machines: {', '.join(machines())}")
    if path.suffix == ".json":
        return _boot(read_machine_file(path).with_assumed_units(), kernel)
    found = read_pci(path)
    machine = Machine(
        name=path.stem,
        topology=found.topology,
        source=str(path.name),
        kernel=found.kernel,
        participants=found.participants,
        notes=tuple(found.warnings),
    )
    return _boot(machine.with_assumed_units(), kernel)


def here(kernel: Kernel | str | None = None) -> Host:
    """Load this machine from /sys. InputError if it shows no PCI devices."""
    return load(Path("/sys"), kernel)


def plot(space: AddressSpace, ax: Axes | None = None, *, window: tuple[Size, Size] | None = None) -> Axes:
    """Draw an address space's iova map on matplotlib axes, and return them."""
    from vfiolab.draw import plot as draw_on

    return draw_on(space.picture(window), ax)
