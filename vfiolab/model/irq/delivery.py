"""One request of a device travels: over the bus, through its IOMMU or past it, to memory, a doorbell or nowhere.

Each journey is a list of events, one a step, each with its reason. A step that no recording shows says what it rests on: `reading` of
the kernel's source or documentation, or `inference` about hardware that no kernel rule decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from vfiolab.model.address import U64, Span, hexa
from vfiolab.model.errors import NotModelledError
from vfiolab.model.events import PROT_READ, PROT_WRITE, Event, EventLog
from vfiolab.model.iommu.core import IommuCore
from vfiolab.model.iommu.domain import Domain
from vfiolab.model.iommu.doorbells import ALL_ONES, FIRST_ARM_RECORDING
from vfiolab.model.iommu.group import IommuGroup
from vfiolab.model.iommu.unit import X86_MSI, IommuUnit
from vfiolab.model.irq.faultlog import blocked_reason, dma_fault, interrupt_fault
from vfiolab.model.irq.msi import InterruptController, IrqState, Message
from vfiolab.model.kernel import Kernel
from vfiolab.model.pci.bars import bar_at
from vfiolab.model.pci.peers import turn
from vfiolab.model.pci.topology import Topology

__all__ = ["OUTCOMES", "PLACES", "Journey", "JourneyStep", "raise_msi", "read", "write"]

#: What can become of a request.
OUTCOMES = {
    "delivered": "an interrupt is raised",
    "memory": "the memory that the user mapped there is reached",
    "lost": "it arrives nowhere",
    "fault": "the IOMMU refuses to translate it",
    "corrupts": "an interrupt's message is written into the user's memory",
    "refused": "the interrupt hardware refuses it",
    "p2p": "a peer device is reached, past the IOMMU",
}
#: The stations of a journey, in order.
PLACES = ("device", "bus", "IOMMU", "target", "outcome")
SPI = range(32, 1020)


class Bound(Protocol):
    """Who knows which driver a device has."""

    def driver_of(self, device: str) -> str | None:
        """Return a device's driver, None if it has none."""


class Fabric(Protocol):
    """What a delivery needs of a host."""

    kernel: Kernel
    core: IommuCore
    topology: Topology
    interrupts: InterruptController | None
    log: EventLog

    @property
    def drivers(self) -> Bound:
        """Who knows the drivers."""

    @property
    def bars(self) -> Mapping[str, tuple[Span, ...]]:
        """The bus addresses that devices answer at."""


class JourneyStep(NamedTuple):
    """One step of a request: what happened (`kind`), at which station of `PLACES`, and why. The numbers are as in `Event`.

    `rests` says what it rests on if no recording shows it: "reading" (of kernel source) or "inference" about hardware.
    """

    kind: str
    place: str
    why: str
    rests: str = ""
    domain: int | None = None
    iova: int | None = None
    size: int | None = None
    prot: int | None = None
    physical: int | None = None

    @property
    def event(self) -> Event:
        """The step as a log has it."""
        return Event(self.kind, self.domain, None, self.iova, self.size, self.prot, self.physical)


@dataclass(frozen=True, slots=True)
class Journey:
    """What became of one request: the steps in order, and the outcome, one of `OUTCOMES`.

    what: "write", "read" or "message". `address` is what the device put on the bus, `physical` where it ended up, None if nowhere.
    `logged`: what the host's kernel logs of it, "" for nothing, or where that was not read.
    """

    device: str
    what: str
    address: int
    size: int
    data: int
    vector: int | None
    outcome: str
    steps: tuple[JourneyStep, ...]
    physical: int | None
    kernel: str
    logged: str = ""

    @property
    def why(self) -> str:
        """The reason of the last step."""
        return self.steps[-1].why

    @property
    def inference(self) -> bool:
        """Whether a step rests on reading or inference, so that no recording shows it."""
        return any(step.rests for step in self.steps)

    @property
    def act(self) -> str:
        """What the device did, in words."""
        if self.what == "message":
            return f"{self.device} raises vector {self.vector}"
        return f"{self.device} {self.what}s {self.size} bytes at {hexa(self.address)}"

    def at(self, place: str) -> tuple[JourneyStep, ...]:
        """Return the steps at one station of `PLACES`."""
        return tuple(step for step in self.steps if step.place == place)

    def __str__(self) -> str:
        from textwrap import fill  # nothing else on the way to a first address space needs it

        lines = [f"{self.act}, {Kernel(self.kernel).title}: {self.outcome} ({OUTCOMES[self.outcome]})"]
        lines += [fill(f"  {step.place:<7} {step.kind:<10} {step.why}{mark(step)}", 100, subsequent_indent=" " * 21) for step in self.steps]
        if self.logged:
            lines.append("  host's log: " + self.logged.replace("\n", "\n" + " " * 14).replace("\t", "  "))
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"Journey({self.act}: {self.outcome}, {len(self.steps)} steps)"


def mark(step: JourneyStep) -> str:
    """Return the words that mark a step which no recording shows.

    >>> mark(JourneyStep("window", "IOMMU", "", "inference")), mark(JourneyStep("translate", "IOMMU", ""))
    (' [inference]', '')
    """
    return f" [{step.rests}]" if step.rests else ""


Owner = Callable[[int], str]


def write(
    system: Fabric, device: str, address: int, data: int = 0, size: int = 4, *, irqs: IrqState | None = None, owner: Owner | None = None
) -> Journey:
    """Let a device write `size` bytes of `data` at a bus address.

    `irqs` tells a message of the device's own from any other write; `owner` names the user's memory at an iova. ValueError for an address
    or size that no request has.
    """
    own = next((m for m in (irqs.messages.values() if irqs else ()) if (m.address, m.data) == (address, data)), None)
    trip = _Trip(system, device, "write", address, size, data, None, own, owner)
    return trip.run("dma_write", iova=address, size=size, data=data)


def read(system: Fabric, device: str, address: int, size: int = 4, *, owner: Owner | None = None) -> Journey:
    """Let a device read `size` bytes at a bus address; errors as `write`."""
    return _Trip(system, device, "read", address, size, 0, None, None, owner).run("dma_read", iova=address, size=size)


def raise_msi(system: Fabric, device: str, irqs: IrqState, vector: int = 0, *, owner: Owner | None = None) -> Journey:
    """Let a device write the message of one of its vectors. ValueError if that vector is not enabled."""
    if vector not in irqs.messages:
        enabled = ", ".join(map(str, irqs.messages)) or "none"
        raise ValueError(f"vector {vector} of {device} has no message; vectors enabled by SET_IRQS: {enabled}")
    message = irqs.messages[vector]
    return _Trip(system, device, "message", message.address, 4, message.data, vector, message, owner).run("raise_msi", vector=vector)


@dataclass(slots=True)
class _Trip:
    """One request under way: the steps so far."""

    system: Fabric
    device: str
    what: str
    address: int
    size: int
    data: int
    vector: int | None
    message: Message | None
    owner: Owner | None
    steps: list[JourneyStep] = field(default_factory=list)
    physical: int | None = None
    logged: str = ""

    def __post_init__(self) -> None:
        address, size = self.address, self.size
        if not 0 < size <= 4096:
            raise ValueError(f"one request carries 1 to 4096 bytes, not {size!r}")
        if not 0 <= address < U64:
            raise ValueError(f"a bus address is 0 to 2^64 - 1, not {address!r}")
        if address + size > U64 and (address, size) != (ALL_ONES, 4):  # the message of all ones goes to the last byte
            raise ValueError(f"{size} bytes at {hexa(address)} run past the last bus address, 2^64 - 1")
        if self.device not in self.system.topology or (self.group is not None and self.group.emulated):
            raise ValueError(f"{self.device} is no PCI function of this host that does DMA of its own")

    @property
    def group(self) -> IommuGroup | None:
        """The device's group."""
        return self.system.core.group_of(self.device)

    def run(self, verb: str, **args: int) -> Journey:
        """Carry the request as far as it gets, as a call of the log."""
        with self.system.log.call(verb, self.device, **args) as call:
            outcome = self._leave_device()
            self.system.log.extend(step.event for step in self.steps)
            call.output = {"outcome": outcome}
            fields = (self.device, self.what, self.address, self.size, self.data, self.vector)
            return Journey(*fields, outcome, tuple(self.steps), self.physical, str(self.system.kernel), self.logged)

    def _add(self, kind: str, place: str, why: str, rests: str = "", **numbers: int | None) -> None:
        self.steps.append(JourneyStep(kind, place, why, rests, **numbers))

    def _leave_device(self) -> str:
        if self.message is not None:
            why = f"writes {hexa(self.data)} at {hexa(self.address)}: {self.message.why}"
            self._add("write", "device", why, self.message.rests, iova=self.address, size=self.size)
        else:
            what = f"writes {hexa(self.data)}" if self.what == "write" else f"reads {self.size} bytes"
            self._add(self.what, "device", f"{what} at {hexa(self.address)}", iova=self.address, size=self.size)
        return self._on_the_bus()

    def _on_the_bus(self) -> str:
        topology = self.system.topology
        met = turn(topology, self.system.kernel, self.system.bars, self.device, self.address)
        unit = self.group.unit if self.group is not None else None
        to = unit.name if unit is not None else "the host bridge; no IOMMU is in front of the device"
        if met is None:
            ports = ", ".join(function.bdf for function in topology.path(self.device))
            self._add("route", "bus", f"goes upstream {f'through {ports} ' if ports else ''}to {to}")
        elif met.redirected:
            self._add("route", "bus", f"{met.why}: it goes upstream to {to}", "inference")
        else:
            self.physical = self.address
            self._add("p2p", "bus", f"{met.why}; no IOMMU sees it", "inference", physical=self.address)
            return "p2p"
        return self._at_the_iommu(unit)

    def _at_the_iommu(self, unit: IommuUnit | None) -> str:
        x86 = unit is None or not unit.translates_msi
        if x86 and X86_MSI.contains(self.address) and (self.system.interrupts is None or self.system.interrupts.doorbell is None):
            return self._x86_window(unit)
        if unit is None:
            why = "there is no IOMMU: the address is physical"
            self._add("translate", "IOMMU", why, "inference", iova=self.address, physical=self.address)
            return self._arrive(self.address)
        if unit.hardware_msi is not None and unit.hardware_msi.contains(self.address):
            why = f"{hexa(self.address)} lies in the range {unit.hardware_msi}, whose MSIs {unit.name} does not translate"
            self._add("window", "IOMMU", why, "reading", iova=self.address)
            outcome = self._arrive(self.address)
            return self._lose_ram() if self.message is None and self._mapped_here() else outcome
        assert self.group is not None
        return self._no_domain(self.group) if self.group.domain is None else self._translate(self.group.domain)

    def _mapped_here(self) -> bool:
        domain = self.group.domain if self.group is not None else None
        return domain is not None and domain.translate(self.address) is not None

    def _x86_window(self, unit: IommuUnit | None) -> str:
        why = f"{hexa(self.address)} lies in the MSI window {X86_MSI}, which is recognised before translation: no page table is looked at"
        self._add("window", "IOMMU", why, "inference" if unit is None else "reading", iova=self.address)
        remaps = unit is not None and unit.isolated_msi
        if self.what == "read":
            return self._lose("what a read of the window gives was not read, but it is not the memory mapped there", "inference")
        if self.message is None and unit is not None and remaps:
            self._block(unit)
            return self._lose_ram() if self._mapped_here() else "refused"
        if self.message is None:
            what = f"taken as an interrupt, CPU vector {self.data & 0xFF:#_x}: without interrupt remapping nobody checks who sent it"
        elif remaps:
            what = "the entry of the remapping table is valid for this sender"
        else:
            what = "the message itself names the CPU and its vector; nobody checks who sent it"
        self._add("doorbell", "target", what, "reading" if self.message else "inference", iova=self.address)
        if self.message is None and self._mapped_here():
            return self._lose_ram()
        self._add("interrupt", "outcome", self._interrupt_words(), "inference" if self.message is None else "")
        return "delivered"

    def _block(self, unit: IommuUnit) -> None:
        """Refuse an interrupt request that no entry of the remapping table allows: the host logs it, the guest is told nothing."""
        said, rests = "what the host logs of it was not read", "inference"
        if unit.kind == "intel-vtd":
            reason, entry = blocked_reason(self.address, self.data, self.system.core.interrupts_given)
            self.logged = interrupt_fault(self.system.kernel, self.device, reason, entry)
            said, rests = f"the host logs: {' '.join(self.logged.split())}", "reading"
        self._add("refused", "target", f"interrupt remapping has no entry that lets this device send it; {said}", rests, iova=self.address)

    def _interrupt_words(self) -> str:
        if self.vector is not None:
            return f"the host's interrupt for vector {self.vector} is raised"
        return "an interrupt is raised" + ("" if self.message is not None else " that was never given to this device")

    def _lose_ram(self) -> str:
        return self._lose(f"{self._named('the memory mapped there')} is not written: it is unreachable for the device", "inference")

    def _named(self, memory: str) -> str:
        """Put the name of the user's memory at the address behind a word for it."""
        name = self.owner(self.address) if self.owner is not None else ""
        return f"{memory} ({name})" if name else memory

    def _lose(self, why: str, rests: str = "") -> str:
        self._add("lost", "outcome", why, rests, iova=self.address)
        return "lost"

    def _no_domain(self, group: IommuGroup) -> str:
        if group.owner is not None:
            why = f"group {group.id} is claimed for a user and attached to nothing yet: it sits in a blocking domain"
            return self._fault(why, "reading")
        return self._fault(f"group {group.id} is in its default domain, where nothing of the user is mapped", "inference")

    def _fault(self, why: str, rests: str = "", domain: int | None = None) -> str:
        self._add("fault", "IOMMU", why, rests, domain=domain, iova=self.address)
        if self.message is None:
            return "fault"
        return self._lose("the message never reaches the doorbell: no interrupt is raised", rests)

    def _log(self, unit: IommuUnit, address: int, *, mapped: bool = False, beyond: bool = False) -> None:
        """Keep the line that the host's kernel logs of a DMA fault."""
        driver = self.system.drivers.driver_of(self.device) or ""
        self.logged = dma_fault(
            self.system.kernel, unit.kind, unit.name, self.device, driver, address, write=self.what != "read", mapped=mapped, beyond=beyond
        )

    def _translate(self, domain: Domain) -> str:
        unseen = domain.unit.is_arm and self.system.kernel.version < FIRST_ARM_RECORDING  # no recording shows what this kernel maps
        rests = "reading" if unseen else ""
        run, last = domain.translate(self.address), self.address + self.size - 1
        name = f"D{domain.number}"
        if run is None:
            beyond = self.address >= domain.aperture.end
            past = f"; it lies past the aperture {domain.aperture}" if beyond else ""
            self._log(domain.unit, self.address, beyond=beyond)
            return self._fault(f"{name} maps nothing at iova {hexa(self.address)}{past}", rests, domain.number)
        if last >= run.iova + run.size and domain.translate(last) is None:
            self._log(domain.unit, run.iova + run.size)
            return self._fault(f"{name} maps nothing at iova {hexa(run.iova + run.size)}, which the request reaches", rests, domain.number)
        need, word = (PROT_READ, "read") if self.what == "read" else (PROT_WRITE, "write")
        if not run.prot & need:
            self._log(domain.unit, self.address, mapped=True)
            return self._fault(f"{name} does not let the device {word} at iova {hexa(self.address)}", rests, domain.number)
        self.physical = run.physical + self.address - run.iova
        why = f"{name} translates iova {hexa(self.address)} to {hexa(self.physical)}"
        self._add("translate", "IOMMU", why, rests, domain=domain.number, iova=self.address, physical=self.physical, prot=run.prot)
        if domain.unit.hardware_msi is not None and self._controller_at(self.physical) is not None:
            raise NotModelledError(
                f"{domain.unit.name} does not translate MSIs, but kernel {self.system.kernel} gave the device a translated one: "
                "what the hardware then does was neither recorded nor read"
            )
        return self._arrive(self.physical)

    def _controller_at(self, physical: int, mask: int = -1) -> InterruptController | None:
        every = self.system.interrupts.all if self.system.interrupts is not None else ()
        return next((one for one in every if one.doorbell is not None and one.doorbell & mask == physical & mask), None)

    def _arrive(self, physical: int) -> str:
        self.physical = physical
        controller = self._controller_at(physical)
        if controller is not None and self.what != "read":
            return self._doorbell(controller, physical)
        bar = bar_at(self.system.topology, self.system.bars, physical)
        if bar is not None:
            why = f"{hexa(physical)} lies in a BAR of {bar}: the translated request reaches that device"
            self._add("p2p", "target", why, "inference", physical=physical)
            return "p2p"
        if self._controller_at(physical, -self.system.core.page_size) is not None:
            return self._lose(f"{hexa(physical)} is another register beside the doorbell", "inference")
        where = self._named(hexa(physical))
        if self.message is None:
            verb = "comes from" if self.what == "read" else "arrives in"
            self._add("memory", "target", f"{verb} memory at {where}", physical=physical, size=self.size)
            return "memory"
        why = f"the {self.size} bytes of memory at {where} now hold {hexa(self.data)}, which nobody put there"
        self._add("corrupt", "target", why, "reading", physical=physical, size=self.size)
        self._add("lost", "outcome", "no interrupt is raised, and no error is seen anywhere", "reading", iova=self.address)
        return "corrupts"

    def _doorbell(self, controller: InterruptController, physical: int) -> str:
        its, own = controller.kind == "gicv3-its", self.message is not None
        rests = "" if own else "inference"
        if its and not own:
            why = f"the ITS knows no event {self.data} of this device: it drops the write"
            self._add("refused", "target", why, "inference", physical=physical)
            return "refused"
        if not its and self.data not in SPI:
            return self._lose(f"{self.data} is no SPI number of the frame", "inference")
        register = "GITS_TRANSLATER" if its else "MSI_SETSPI of the GICv2m frame"
        takes = f"event {self.data} together with the device's id" if its else f"SPI {self.data}; it does not see who wrote"
        self._add("doorbell", "target", f"{register} at {hexa(physical)} takes {takes}", rests, physical=physical)
        self._add("interrupt", "outcome", self._interrupt_words(), rests)
        return "delivered"
