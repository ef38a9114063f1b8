"""Load a machine and boot a kernel on it, or build one by hand."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from vfiolab._table import Table
from vfiolab.kit.space import AddressSpace, device_name
from vfiolab.model.assumptions import ASSUMPTIONS
from vfiolab.model.builder import MachineBuilder as ModelBuilder
from vfiolab.model.iommu.group import IommuGroup
from vfiolab.model.kernel import Kernel
from vfiolab.model.machine import Host as ModelHost
from vfiolab.model.machine import Machine as ModelMachine
from vfiolab.model.pci.grouping import GroupingOptions, NotComputableError
from vfiolab.model.pci.topology import Function
from vfiolab.model.user.container import Container

if TYPE_CHECKING:
    from pathlib import Path

    from vfiolab.kit.isolation import WhatIf, Why


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Machine(ModelMachine):
    """A machine of the model whose `host` has the learner's verbs."""

    @classmethod
    def of(cls, plain: ModelMachine) -> Machine:
        """Return a machine of the model as one whose `host` has the learner's verbs."""
        return plain if isinstance(plain, cls) else cls(**{field.name: getattr(plain, field.name) for field in fields(plain)})

    def host(self, kernel: Kernel | str | None = None, options: GroupingOptions | str | None = None) -> Host:
        """Boot a kernel on the machine, as `boot` does."""
        return boot(self, kernel, options)

    def json(self) -> str:
        """Return the machine as the text of a machine file, which `load` reads: all that is known of it.

        >>> from vfiolab.readers.machinefile import read_machine
        >>> machine = load("one-smmu-its").machine
        >>> Machine.of(read_machine(machine.json())) == machine
        True
        """
        from vfiolab.readers.write import write_machine

        return write_machine(self)


class Host(ModelHost):
    """A machine that runs a kernel, with the learner's verbs.

    >>> host = load("two-smmu-server")
    >>> host
    Host('two-smmu-server', kernel 6.12, 12 groups)
    """

    def address_space(self, kind: int = 3) -> AddressSpace:
        """Open a container: one user I/O address space. kind: 3 type1 v2, 1 type1, 6 nesting.

        >>> load("intel-vtd-39bit").address_space(kind=1)
        AddressSpace('intel-vtd-39bit', groups [], 0 mappings, 0 domains, no backend yet)
        """
        return AddressSpace(self, kind)

    def trace(self, name: str = "session") -> str:
        """Return all that was done on this host as the text of a trace, with every answer: to be kept in a file, and opened by `replay`.

        ValueError if calls were cleared from the log.

        >>> host = load("intel-vtd-39bit")
        >>> host.bind("01:00.0")
        >>> print(host.trace("one bind"))
        # machine intel-vtd-39bit
        # kernel 6.12
        ## one bind
        bind dev=0000:01:00.0 drv=vfio-pci -> 0 {"driver":"vfio-pci"}
        # the events of the end belong below the last line
        status
        """
        from vfiolab.readers.write import write_trace

        return write_trace(self, name)

    @property
    def spaces(self) -> list[AddressSpace]:
        """An address space for each open container, process by process; one that processes share has a view in each."""
        files = [file for process in self.processes.values() for file in process.descriptors.values()]
        return [AddressSpace(self, container=file) for file in files if isinstance(file, Container)]

    def replay(self, trace: str, *, resume: bool = False) -> list[AddressSpace]:
        """Carry out a trace of one scenario, such as `trace` writes, on this host; return `spaces`, as it leaves them.

        `resume`: the trace goes on from here, and what is open has the handles that `trace` gives it. The answers are this host's own.
        InputError (a ValueError) for what is no trace, or has several scenarios; ValueError to resume after the log was cleared.

        >>> host = load("two-smmu-server")
        >>> space = host.address_space()
        >>> space.attach("0000:01:00.0")
        >>> space.map(0x4000_0000, "1G", name="guest RAM")
        >>> load("two-smmu-server").replay(host.trace())
        [AddressSpace('two-smmu-server', groups [8], 1 mapping, 1 domain, type1)]
        """
        from vfiolab.client import Client
        from vfiolab.readers.errors import InputError
        from vfiolab.readers.trace import read_trace
        from vfiolab.readers.write import handles

        scenarios = read_trace(trace)
        if len(scenarios) > 1:
            raise InputError(f"{len(scenarios)} scenarios", line=scenarios[1].line, advice="each needs a host of its own: give one of them")
        client = Client(self)
        if resume:
            client.adopt(handles(self))
        for operation in scenarios[0].operations:
            client.do(operation)
        return self.spaces

    def bind(self, device: str, driver: str = "vfio-pci") -> None:
        """Bind a device to a driver, through driver_override; see `Drivers.bind` for the errnos.

        >>> host = load("intel-vtd-39bit")
        >>> host.bind("01:00.0")
        >>> host.mates("01:00.0")
        device        what it is           driver
        0000:01:00.0  Ethernet, 8086:10d3  vfio-pci
        """
        super().bind(device_name(self, device), driver)

    def unbind(self, device: str) -> None:
        """Unbind a device from its driver.

        ENOENT: no such device; ENODEV: it has no driver.

        >>> host = load("intel-vtd-39bit")
        >>> host.unbind("01:00.0")
        >>> host.mates("01:00.0")
        device        what it is           driver
        0000:01:00.0  Ethernet, 8086:10d3  none
        """
        super().unbind(device_name(self, device))

    def group_of(self, device: str) -> IommuGroup | None:
        """Return a device's group, None if it has none.

        >>> load("intel-vtd-39bit").group_of("01:00.0")
        IommuGroup(17, [0000:01:00.0])
        """
        return super().group_of(device_name(self, device))

    def with_kernel(self, kernel: Kernel | str) -> Host:
        """Return the same machine, freshly booted with another kernel and the same options.

        ValueError for a kernel older than 4.4, or one that cannot serve the machine.

        >>> load("intel-vtd-39bit").with_kernel("4.4")
        Host('intel-vtd-39bit', kernel 4.4, 30 groups)
        """
        return Host(self.machine, kernel if isinstance(kernel, Kernel) else Kernel(kernel), self.options)

    def what_if(
        self, *, set_acs: Mapping[str, str] | None = None, drop_acs: str | Iterable[str] = (),
        move: Mapping[str, str] | None = None, remove: str | Iterable[str] = (), vfs: Mapping[str, int] | None = None,
        kernel: Kernel | str | None = None, options: GroupingOptions | str | None = None,
    ) -> WhatIf:  # fmt: skip
        """Compare this host with what it would be: which groups split or merge, by which fact, and who reaches whom past the IOMMU.

        `set_acs`: for each port, ACS bits as `+SV+RR-EC`, which give it the capability if it has none; `drop_acs`: ports that lose theirs.
        `move`: a card (with all functions and all below) and the port to put it below; `remove`: devices to take away with all below
        (`01:00` is the whole card). `vfs`: how many virtual functions to enable. `kernel`, `options`: another boot, as for `load`. The host
        itself stays as it is. ValueError says what makes no sense.

        >>> host = load("amd-matisse-desktop")
        >>> found = host.what_if(options="pcie_acs_override=downstream,multifunction")
        >>> len(found.before.groups), len(found.after.groups), len(found.split)
        (25, 33, 1)
        >>> print(found.reach[0])
        02:00.0 still reaches 02:00.1 by p2p, though in another group [inference]
        >>> found.machine.host("6.12")
        Host('amd-matisse-desktop', kernel 6.12, 25 groups)
        """
        from vfiolab.kit.isolation import WhatIf
        from vfiolab.model.pci.changes import planned
        from vfiolab.model.whatif import what_if

        changes = planned(
            set_acs=(set_acs or {}).items(), drop_acs=_list(drop_acs),
            move=(move or {}).items(), remove=_list(remove), vfs=(vfs or {}).items(),
        )  # fmt: skip
        chosen = kernel if isinstance(kernel, Kernel) else self.kernel if kernel is None else Kernel(kernel)
        booted = _options(options) or self.options
        return WhatIf.of(what_if(self.machine, *changes, kernel=chosen, options=booted, before=(self.kernel, self.options)))

    def why(self, device: str) -> Why:
        """Say why a device is in its group: the joins that put it there, what ties it to the others, and what would free it.

        ENOENT for a device that the machine does not have.

        >>> why = load("amd-matisse-desktop").why("00:14.3")
        >>> why
        Why('0000:00:14.3', group 12, with 1 other)
        >>> print(why.stays)
        It stays where it is as long as 00:14.3 does not isolate; otherwise it would be alone
        """
        from vfiolab.kit.isolation import Why

        name = device_name(self, device)
        self.drivers.driver_of(name)
        return Why.on(self, name)

    @property
    def groups_table(self) -> Table:
        """The IOMMU groups: number, devices, unit, reserved regions."""
        rows = []
        for group in self.groups:
            unit, reserved = group.unit.name if group.unit else "none", "; ".join(map(str, group.reserved))
            rows.append((group.id, ", ".join(group.devices), unit, reserved or "none"))
        return Table(["group", "devices", "IOMMU", "reserved regions"], rows)

    def mates(self, device: str) -> Table:
        """List all devices of a device's group, with what they are (name, or class, vendor and device number) and their drivers.

        ENOENT for a device that the machine does not have.

        >>> load("intel-vtd-39bit").mates("0f:00.0")
        device        what it is           driver
        0000:0f:00.0  Ethernet, 8086:10d3  e1000e
        0000:0f:00.1  Ethernet, 8086:10d3  e1000e
        """
        device = device_name(self, device)
        self.drivers.driver_of(device)
        group, known = self.group_of(device), self.topology
        devices = group.devices if group else (device,)
        rows = [(bdf, _what(known[bdf]) if bdf in known else "", self.drivers.driver_of(bdf) or "none") for bdf in devices]
        return Table(["device", "what it is", "driver"], rows)

    def peers(self, device: str) -> Table:
        """List which devices this one reaches past the IOMMU by peer-to-peer DMA, and where such a request turns round.

        Inference from what PCI Express lets a port do: no rule of the kernel says it. ENOENT for a device that the machine does not have.

        >>> peers = load("intel-vtd-39bit").peers("0f:00.0")
        >>> [(row["peer"], row["group"], row["where it turns"]) for row in peers if row["reached"] == "yes"][-1]
        ('0000:0f:00.1', 24, '0000:0f:00.0')
        """
        from vfiolab.model.pci.peers import meeting, redirects

        device = device_name(self, device)
        self.drivers.driver_of(device)
        rows = []
        for peer in (f.bdf for f in self.topology.values() if f.is_for_users and f.bdf != device and device in self.topology):
            where, group = meeting(self.topology, device, peer), self.group_of(peer)
            sent_up, why = redirects(self.topology, self.kernel, where)
            rows.append((peer, group.id if group else "none", "no" if sent_up else "yes", where.bdf, why))
        return Table(["peer", "group", "reached", "where it turns", "why"], rows)

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        from vfiolab.draw import figure_html, to_text, topology

        picture = topology(self)
        return {"text/plain": f"{self!r}\n{to_text(picture)}", "text/html": figure_html(picture, repr(self))}


class MachineBuilder(ModelBuilder):
    """Build a machine by hand; `host` boots it with the learner's verbs.

    >>> m = MachineBuilder("demo")
    >>> smmu = m.unit("smmu0", kind="arm-smmu-v3")
    >>> port = m.root_port("00:01.0", unit=smmu, acs=True)
    >>> m.endpoint("01:00.0", below=port, functions=2)
    >>> m.host(kernel="6.12").address_space()
    AddressSpace('demo', groups [], 0 mappings, 0 domains, no backend yet)
    """

    def machine(self) -> Machine:
        """Return the machine so far; its `host` boots it with the learner's verbs.

        >>> m = MachineBuilder("demo")
        >>> m.machine()
        Machine('demo', 0 functions, 0 IOMMU units)
        """
        return Machine.of(super().machine())

    def host(self, kernel: Kernel | str | None = None, options: GroupingOptions | str | None = None) -> Host:
        """Boot a kernel on the machine: by default the newest. `options`: boot parameters that shape groups.

        >>> m = MachineBuilder("demo")
        >>> m.host("6.12")
        Host('demo', kernel 6.12, 0 groups)
        """
        return boot(self.machine(), kernel, options)


def boot(machine: ModelMachine, kernel: Kernel | str | None = None, options: GroupingOptions | str | None = None) -> Host:
    """Boot a kernel on a machine: the given one, else the machine's own, else the newest.

    `options`: boot parameters that shape groups, as on the kernel's command line ("pcie_acs_override=downstream"), or as GroupingOptions.
    Every host of the kit starts so: `load`, `MachineBuilder.host`, `Machine.host`.

    >>> boot(load("intel-vtd-39bit").machine, "4.4")
    Host('intel-vtd-39bit', kernel 4.4, 30 groups)
    """
    chosen = kernel if kernel is not None else machine.kernel or Kernel()
    return Host(Machine.of(machine), chosen if isinstance(chosen, Kernel) else Kernel(chosen), _options(options))


def _options(given: GroupingOptions | str | None) -> GroupingOptions | None:
    return GroupingOptions.parse(given) if isinstance(given, str) else given


def _list(names: str | Iterable[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


def _what(function: Function) -> str:
    from vfiolab.draw.tree import what

    ids = ":".join(f"{number:04x}" for number in (function.vendor, function.device) if number is not None)
    return function.name or ", ".join(filter(None, (what(function), ids)))


def machines() -> list[str]:
    """List the machines that come with the kit.

    >>> "two-smmu-server" in machines()
    True
    """
    from vfiolab.readers.opening import machine_names

    return machine_names()


def load(name: str | Path, kernel: Kernel | str | None = None, options: GroupingOptions | str | None = None) -> Host:
    """Load a machine by name (see `machines`) or from a file (a `Path`, or a text that is no name): machine file, lspci text, sysfs tree.

    A name of the kit is that machine; `./name` or a Path is a file. `options`: boot parameters that shape groups, as on the kernel's
    command line ("pcie_acs_override=downstream"), or as GroupingOptions. ValueError names the machines there are, or the line and field of
    a file that cannot be read. A machine whose IOMMU units are not recorded gets assumed ones: `host.doubts` says which.
    """
    from vfiolab.readers.opening import open_machine

    return _booted(open_machine(name, lambda said: warnings.warn(said, stacklevel=4)), name, kernel, options)


def loads(text: str, kernel: Kernel | str | None = None, options: GroupingOptions | str | None = None, *, name: str = "pasted") -> Host:
    """Load a machine from text that was pasted or uploaded: lspci text or a machine file; the rest as `load`, which opens files.

    >>> loads(load("intel-vtd-39bit").machine.json())
    Host('intel-vtd-39bit', kernel 6.12, 31 groups)
    """
    from vfiolab.readers.opening import machine_of

    return _booted(machine_of(text, source=name, name=name), name, kernel, options)


def _booted(machine: ModelMachine, name: str | Path, kernel: Kernel | str | None, options: GroupingOptions | str | None) -> Host:
    chosen = kernel if kernel is None or isinstance(kernel, Kernel) else Kernel(kernel)
    try:
        return boot(machine.with_assumed_units(), chosen, options)
    except NotComputableError as error:
        raise NotComputableError(f"{name}: {error}", error.finest, error.coarsest) from error
    except ValueError as error:  # what a file says of its groups, devices and parameters may not go together
        raise ValueError(f"{name}: {error}") from error


def here(kernel: Kernel | str | None = None) -> Host:
    """Load this machine from /sys. InputError if it shows no PCI devices."""
    return load("/sys", kernel)


def assumptions() -> Table:
    """List what the model takes for granted without a recording or a reading of the kernel.

    >>> len(assumptions()) > 5
    True
    """
    return Table(["what is assumed", "where it shows", "why"], ASSUMPTIONS)
