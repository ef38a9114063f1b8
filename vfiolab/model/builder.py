"""Build a machine by hand, a few lines at a time."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from vfiolab.model.address import Span
from vfiolab.model.iommu.unit import IommuUnit, ReservedRegion
from vfiolab.model.irq.msi import InterruptController
from vfiolab.model.kernel import Kernel
from vfiolab.model.machine import DRIVERS, Host, Machine
from vfiolab.model.pci.topology import Acs, Function, Topology, bdf_key, normal_bdf

ACS_ON = Acs(0x1D, 0x1D)
ITS = InterruptController("gicv3-its", 0x8090040)
GICV2M = InterruptController("gicv2m", 0x8020040)


class MachineBuilder:
    """Put a machine together: units first, then ports, bridges and endpoints from the root downward.

    >>> m = MachineBuilder("two units")
    >>> a, b = m.unit("smmu0", kind="arm-smmu-v3"), m.unit("smmu1", kind="arm-smmu-v3")
    >>> m.endpoint("01:00.0", below=m.root_port("00:01.0", unit=a))
    >>> m.endpoint("21:00.0", below=m.root_port("20:01.0", unit=b))
    >>> m.machine()
    Machine('two units', 4 functions, 2 IOMMU units)
    """

    def __init__(self, name: str, *, page_size: int = 0x1000) -> None:
        if page_size not in (0x1000, 0x4000, 0x10000):
            raise ValueError(f"a CPU's page is 4, 16 or 64 KiB (0x1000, 0x4000, 0x10000 bytes), not {page_size!r}")
        self.name, self.page_size = name, page_size
        self._functions: dict[str, Function] = {}
        self._units: dict[str, IommuUnit] = {}
        self._behind: dict[str, str] = {}
        self._firmware: dict[str, list[ReservedRegion]] = {}
        self._emulated: list[str] = []
        self._controller: InterruptController | None = None
        self._beside: list[InterruptController] = []
        self._bars: dict[str, tuple[Span, ...]] = {}

    def unit(
        self,
        name: str,
        kind: str,
        *,
        width: int | None = None,
        stage: int | None = None,
        page_sizes: int = 0x40201000,
        snoop_control: bool = False,
        isolated_msi: bool | None = None,
        coherent: bool = True,
        hardware_msi: tuple[int, int] | None = None,
        translates_msi: bool = False,
    ) -> str:
        """Add an IOMMU and return its name. `kind`: intel-vtd, amd-vi, arm-smmu-v3 or virtio-iommu.

        `width`: bits of an iova, by default 64 for AMD-Vi and 48 for the others. `stage`: of an SMMU's tables, 1 or 2. `page_sizes`: a bit
        for each page size in bytes. `snoop_control`: it can make every DMA snoop the CPU's caches; `coherent`: its own table walks do.
        `isolated_msi`: it checks who sends an interrupt. `hardware_msi`: an untranslated MSI range, first and last byte. `translates_msi`:
        a virtio-iommu of an Arm machine, with doorbells behind it. ValueError if there is a unit of that name, or no such hardware.

        >>> m = MachineBuilder("demo")
        >>> m.unit("dmar0", kind="intel-vtd", width=39)
        'dmar0'
        >>> m.machine().units
        (IommuUnit('dmar0', intel-vtd, 39-bit, 0 devices),)
        """
        if name in self._units:
            raise ValueError(f"there is a unit {name!r} already; choose another name")
        self._units[name] = IommuUnit(
            name=name, kind=kind, page_sizes=page_sizes, snoop_control=snoop_control, translates_msi=translates_msi, coherent=coherent,
            width=width if width is not None else 64 if kind == "amd-vi" else 48,
            stage=stage or (1 if kind == "arm-smmu-v3" else None),
            isolated_msi=(kind != "virtio-iommu" or translates_msi) if isolated_msi is None else isolated_msi,
            hardware_msi=Span.inclusive(*hardware_msi) if hardware_msi else None,
        )  # fmt: skip
        return name

    def interrupts(self, controller: InterruptController) -> None:
        """Choose the interrupt controller (default: an ITS behind SMMUs, else the x86 APIC); one with `devices` takes only those.

        >>> m = MachineBuilder("demo")
        >>> m.interrupts(InterruptController("gicv3-its", 0x8090040))
        >>> m.machine().interrupts
        InterruptController('gicv3-its', 0x809_0040)
        """
        if controller.devices:
            self._beside.append(replace(controller, devices=frozenset(map(normal_bdf, controller.devices))))
        else:
            self._controller = controller

    def bar(self, bdf: str, first: int, last: int) -> None:
        """Let a device answer at these bus addresses (first and last byte): what a peer's request may hit before any IOMMU sees it.

        >>> m = MachineBuilder("demo")
        >>> m.bar("01:00.0", 0xF000_0000, 0xF000_FFFF)
        >>> m.machine().bars["0000:01:00.0"]
        (Span(0xf000_0000, 0xf001_0000),)
        """
        name = normal_bdf(bdf)
        self._bars[name] = (*self._bars.get(name, ()), Span.inclusive(first, last))

    def root_port(self, bdf: str, unit: str, *, acs: bool | Acs = True) -> str:
        """Add a root port and return its address. acs: True (the four bits that count, on), False (no capability), or registers.

        ValueError for what is no PCI address or is taken, and for a unit that is not there.

        >>> m = MachineBuilder("demo")
        >>> m.root_port("00:01.0", unit=m.unit("dmar0", kind="intel-vtd"))
        '0000:00:01.0'
        """
        return self._add(bdf, "root-port", None, unit, acs, driver="pcieport", class_code=0x060400)

    def upstream(self, bdf: str, below: str) -> str:
        """Add a switch's upstream port and return its address; errors as `root_port`.

        >>> m = MachineBuilder("demo")
        >>> port = m.root_port("00:01.0", unit=m.unit("dmar0", kind="intel-vtd"))
        >>> m.upstream("01:00.0", below=port)
        '0000:01:00.0'
        """
        return self._add(bdf, "upstream", below, None, False, driver="pcieport", class_code=0x060400)

    def downstream(self, bdf: str, below: str, *, acs: bool | Acs = True) -> str:
        """Add a switch's downstream port and return its address; `acs` and errors as `root_port`.

        >>> m = MachineBuilder("demo")
        >>> port = m.root_port("00:01.0", unit=m.unit("dmar0", kind="intel-vtd"))
        >>> m.downstream("02:00.0", below=m.upstream("01:00.0", below=port), acs=False)
        '0000:02:00.0'
        """
        return self._add(bdf, "downstream", below, None, acs, driver="pcieport", class_code=0x060400)

    def pci_bridge(self, bdf: str, below: str) -> str:
        """Add a PCIe-to-PCI bridge and return its address; errors as `root_port`.

        >>> m = MachineBuilder("demo")
        >>> port = m.root_port("00:01.0", unit=m.unit("dmar0", kind="intel-vtd"))
        >>> m.pci_bridge("01:00.0", below=port)
        '0000:01:00.0'
        """
        return self._add(bdf, "pcie-to-pci", below, None, False, class_code=0x060400)

    def endpoint(
        self,
        bdf: str,
        below: str | None = None,
        *,
        unit: str | None = None,
        functions: int = 1,
        kind: str | None = None,
        acs: bool | Acs = False,
        driver: str | None = "vfio-pci",
        vendor: int = 0x1B36,
        device: int = 0x0010,
        class_code: int = 0x020000,
        msi: int = 1,
        msix: int = 8,
    ) -> None:
        """Add an endpoint of so many functions: below a port, or on the root bus (then `unit` says behind which IOMMU).

        `kind`: a word of the machine file, such as legacy-endpoint. `acs`: as for `root_port`. `driver`: what it is bound to at boot, None
        for nothing. `vendor`, `device`: its ids; `class_code`: what it is, 24 bits (Ethernet). `msi`, `msix`: how many vectors it has of each. ValueError for an address that is taken,
        a bus that is elsewhere, or a unit that is not there.

        >>> m = MachineBuilder("demo")
        >>> port = m.root_port("00:01.0", unit=m.unit("dmar0", kind="intel-vtd"))
        >>> m.endpoint("01:00.0", below=port, functions=2)
        >>> m.host().groups
        [IommuGroup(0, [0000:00:01.0]), IommuGroup(1, [0000:01:00.0, 0000:01:00.1])]
        """
        segment, bus, slot, first = bdf_key(bdf)
        for number in range(first, first + functions):
            self._add(
                f"{segment:04x}:{bus:02x}:{slot:02x}.{number}", kind or ("endpoint" if below else "rc-endpoint"), below, unit, acs,
                driver=driver, vendor=vendor, device=device, class_code=class_code, multifunction=functions > 1, msi=msi, msix=msix, intx=1,
            )  # fmt: skip

    def mdev(self, name: str = "mdev0") -> str:
        """Add a mediated (emulated) device, a group without an IOMMU, and return its name.

        >>> m = MachineBuilder("demo")
        >>> m.mdev()
        'mdev0'
        >>> m.machine().emulated
        ('mdev0',)
        """
        self._emulated.append(name)
        return name

    def region(self, bdf: str, first: int, last: int, kind: str = "direct") -> None:
        """Let the firmware demand a region for a device: first and last byte; direct, direct-relaxable or reserved.

        >>> m = MachineBuilder("demo")
        >>> m.region("01:00.0", 0xE8000, 0xE8FFF)
        >>> m.machine().firmware["0000:01:00.0"]
        (ReservedRegion(span=Span(0xe_8000, 0xe_9000), kind='direct'),)
        """
        self._firmware.setdefault(normal_bdf(bdf), []).append(ReservedRegion(Span.inclusive(first, last), kind))

    def _add(
        self, bdf: str, kind: str, below: str | None, unit: str | None, acs: bool | Acs, *, multifunction: bool = False, **facts: object
    ) -> str:
        name = normal_bdf(bdf)
        if name in self._functions:
            raise ValueError(f"there is a function {name} already")
        if below is not None:
            bus, parent = bdf_key(name)[1], normal_bdf(below)
            if parent not in self._functions:
                raise ValueError(f"{name} is to be below {parent}, which is not there; add that first")
            above = self._functions[parent]
            if above.secondary not in (None, bus):
                raise ValueError(f"{name} is on bus {bus:02x}, but bus {above.secondary:02x} is below {parent}")
            self._functions[parent] = replace(above, secondary=bus)
            self._widen(parent, bus)
            below = parent
            if unit not in (None, self._behind[parent]):
                raise ValueError(
                    f"{name} is below {parent}, which is behind {self._behind[parent]}, and so it cannot be behind {unit}: leave unit out"
                )
        owner = unit if unit is not None else self._behind.get(below or "")
        if owner is None or owner not in self._units:
            raise ValueError(f"{name} is behind no IOMMU unit; name one of {', '.join(self._units) or 'none yet: add one with unit()'}")
        register = acs if isinstance(acs, Acs) else ACS_ON if acs else None
        self._functions[name] = Function(bdf=name, kind=kind, parent=below, acs=register, multifunction=multifunction, **facts)  # type: ignore[arg-type] # facts come from this class's own verbs
        self._behind[name] = owner
        return name

    def _widen(self, port: str | None, bus: int) -> None:
        """Let the bridges from a port upward lead to a bus."""
        while port is not None:
            function = self._functions[port]
            self._functions[port] = replace(function, subordinate=max(function.subordinate or 0, bus))
            port = function.parent

    def machine(self) -> Machine:
        """Return the machine so far.

        >>> m = MachineBuilder("demo")
        >>> unit = m.unit("dmar0", kind="intel-vtd")
        >>> m.machine()
        Machine('demo', 0 functions, 1 IOMMU units)
        """
        arm = any(unit.translates_msi for unit in self._units.values())
        controller = self._controller or (ITS if arm else InterruptController("x86-apic"))
        controller = replace(controller, beside=(*controller.beside, *self._beside))
        units = tuple(
            replace(
                unit,
                devices=frozenset(bdf for bdf, owner in self._behind.items() if owner == unit.name),
                isolated_msi=unit.isolated_msi and (controller.isolated or not unit.translates_msi),
                exposed=frozenset(bdf for other in controller.beside if not other.isolated for bdf in other.devices),
            )
            for unit in self._units.values()
        )
        return Machine(
            name=self.name, source="built by hand", topology=Topology(self._functions.values()), units=units, interrupts=controller,
            firmware=MappingProxyType({bdf: tuple(regions) for bdf, regions in self._firmware.items()}),
            bars=MappingProxyType(dict(self._bars)),
            drivers=DRIVERS | {"e1000e", "nvme"}, page_size=self.page_size, emulated=tuple(self._emulated),
        )  # fmt: skip

    def host(self, kernel: Kernel | str | None = None) -> Host:
        """Boot a kernel on the machine; the newest by default.

        >>> m = MachineBuilder("demo")
        >>> unit = m.unit("dmar0", kind="intel-vtd")
        >>> m.host("6.12")
        Host('demo', kernel 6.12, 0 groups)
        """
        return self.machine().host(kernel)

    def __repr__(self) -> str:
        return f"MachineBuilder({self.name!r}, {len(self._functions)} functions)"
