"""Interrupts of a device: vectors, the messages that raise them, and the doorbells those need. Knows domains, not containers."""

from __future__ import annotations

from dataclasses import dataclass, field

from vfiolab.model.address import hexa
from vfiolab.model.core import IommuCore, IommuGroup
from vfiolab.model.domain import Domain
from vfiolab.model.errors import Check, NotModelledError, VfioError, run_checks
from vfiolab.model.events import Event
from vfiolab.model.iommu import X86_MSI, IommuUnit
from vfiolab.model.kernel import Kernel
from vfiolab.model.pci import Function

INTX, MSI, MSIX, ERR, REQ = range(5)
INDEX_NAMES = ("INTx", "MSI", "MSI-X", "ERR", "REQ")
DATA_NONE, DATA_BOOL, DATA_EVENTFD = 1, 2, 4
ACTION_TRIGGER = 32
DISABLE = DATA_NONE | ACTION_TRIGGER
TRIGGER_EVENTFD = DATA_EVENTFD | ACTION_TRIGGER
INTRS = "drivers/vfio/pci/vfio_pci_intrs.c"
CONTROLLERS = ("x86-apic", "gicv2m", "gicv3-its")
FIRST_SPI = 80  # of the GICv2m frame that QEMU's machine has
FIRST_VECTOR, VECTORS = 0x31, 0xBE
FIRST_ARM_RECORDING = (5, 10)


#: What a message became when its doorbell page could not be mapped (4.11 to 5.2; iommu_dma_map_msi_msg).
ALL_ONES = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class InterruptController:
    """What takes a message-signalled interrupt: x86-apic, gicv2m or gicv3-its; `doorbell` is the physical address of its register.

    A host may have several: `beside` are others, each for its `devices` (empty: for all that no other names).

    >>> v2m = InterruptController("gicv2m", 0x2C1C0040, devices=frozenset({"0000:01:00.0"}))
    >>> host = InterruptController("gicv3-its", 0x2F030040, beside=(v2m,))
    >>> host.of("0000:01:00.0").kind, host.of("0000:02:00.0").kind
    ('gicv2m', 'gicv3-its')
    """

    kind: str
    doorbell: int | None = None
    devices: frozenset[str] = frozenset()
    beside: tuple[InterruptController, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in CONTROLLERS:
            raise ValueError(f"an interrupt controller is one of {', '.join(CONTROLLERS)}, not {self.kind!r}")

    @property
    def isolated(self) -> bool:
        """Whether it tells who sent an MSI (an ITS gets the device's id with the write)."""
        return self.kind != "gicv2m"

    def of(self, device: str) -> InterruptController:
        """Return the controller that takes this device's messages."""
        return next((other for other in self.beside if device in other.devices), self)

    @property
    def all(self) -> tuple[InterruptController, ...]:
        """Every controller of the host."""
        return (self, *self.beside)

    def __repr__(self) -> str:
        where = f", {hexa(self.doorbell)}" if self.doorbell is not None else ""
        more = f", beside={self.beside!r}" if self.beside else ""
        return f"InterruptController({self.kind!r}{where}{f', devices={sorted(self.devices)}' if self.devices else ''}{more})"


@dataclass(frozen=True, slots=True)
class Message:
    """What a device writes to raise one vector: 4 bytes of `data` at `address`, as the kernel programmed it, and why so.

    Which interrupt number `data` holds, and which remapping entry an x86 address names, is the model's own choice where several are free.
    `rests`: "reading" where no recording shows this kernel's messages.
    """

    address: int
    data: int
    why: str
    rests: str = ""


@dataclass(slots=True)
class IrqState:
    """Which interrupt type a device has enabled, how many vectors it was allocated, and what each is to write.

    `allocated` are the messages of all its vectors (none where the host's controller is not known), `messages` those of the vectors that
    have an eventfd: the others are masked. `singles`: which of ERR and REQ have an eventfd.
    """

    index: int | None = None
    vectors: int = 0
    singles: set[int] = field(default_factory=set)
    allocated: dict[int, Message] = field(default_factory=dict)
    messages: dict[int, Message] = field(default_factory=dict)

    def disable(self) -> None:
        """Turn the device's interrupts off; doorbell pages stay in the domain."""
        self.index, self.vectors = None, 0
        self.allocated.clear()
        self.messages.clear()

    def arm(self, start: int, count: int) -> None:
        """Give vectors an eventfd: unmask them."""
        found = {vector: self.allocated[vector] for vector in range(start, start + count) if vector in self.allocated}
        self.messages = dict(sorted((self.messages | found).items()))

    def mask(self, start: int, count: int) -> None:
        """Take the eventfd from vectors."""
        for vector in range(start, start + count):
            self.messages.pop(vector, None)


@dataclass(slots=True)
class IrqRequest:
    """VFIO_DEVICE_SET_IRQS on one device."""

    function: Function
    state: IrqState
    dynamic: bool
    index: int
    start: int
    count: int
    flags: int

    @property
    def available(self) -> int:
        """Number of vectors that the device has of this type."""
        f = self.function
        return (f.intx, f.msi, f.msix, 1, 1)[self.index] if 0 <= self.index < 5 else 0


def _range(r: IrqRequest) -> str | None:
    if r.start >= r.available or r.start + r.count > r.available:
        return f"vectors {r.start}..{r.start + max(r.count, 1) - 1} of {r.available} {INDEX_NAMES[r.index]} vectors of {r.function.bdf}"
    return None


def _flags(r: IrqRequest) -> str | None:
    data, action = r.flags & 7, r.flags & 0x38
    if r.flags & ~0x3F or data not in (1, 2, 4) or action not in (8, 16, 32):
        return f"flags {r.flags:#x} is not one data type (1, 2, 4) and one action (8, 16, 32)"
    return "count is 0, but the data is not of type NONE" if not r.count and data != DATA_NONE else None


def _other_type(r: IrqRequest) -> str | None:
    if r.state.index in (None, r.index) or r.index > MSIX:
        return None
    assert r.state.index is not None
    return f"{INDEX_NAMES[r.state.index]} is enabled on {r.function.bdf}: {INDEX_NAMES[r.index]} cannot be used beside it"


def _not_enabled(r: IrqRequest) -> str | None:
    enabled = r.state.index == r.index if r.index <= MSIX else r.index in r.state.singles
    if r.flags & DATA_EVENTFD or r.flags & 0x38 != ACTION_TRIGGER or enabled:
        return None
    return f"{INDEX_NAMES[r.index]} is not enabled on {r.function.bdf}"


def _grown(r: IrqRequest) -> str | None:
    if r.count and r.state.index == r.index and r.start + r.count > r.state.vectors and not r.dynamic:
        return f"{r.state.vectors} {INDEX_NAMES[r.index]} vectors were allocated when it was enabled, vector {r.start + r.count - 1} is not among them"
    return None


IRQ_CHECKS = (
    Check("the interrupt index exists", "EINVAL", "vfio_pci_ioctl_set_irqs, drivers/vfio/pci/vfio_pci_core.c",
          lambda r: f"index {r.index} is none of {', '.join(f'{i} {n}' for i, n in enumerate(INDEX_NAMES))}" if r.index > REQ else None, "MSI is 1, MSI-X is 2"),
    Check("the vectors exist on the device", "EINVAL", "vfio_set_irqs_validate_and_prepare, drivers/vfio/vfio_main.c", _range, "ask DEVICE_GET_IRQ_INFO for the count"),
    Check("the flags are one data type and one action", "EINVAL", "vfio_set_irqs_validate_and_prepare, drivers/vfio/vfio_main.c", _flags, "eventfd + trigger is 0x24"),
    Check("what is to be disabled or signalled is enabled", "EINVAL", f"vfio_pci_set_msi_trigger, {INTRS}", _not_enabled, "enable it first"),
    Check("no other interrupt type is enabled", "EINVAL", f"vfio_pci_set_msi_trigger, {INTRS}", _other_type, "disable that one first (count = 0)"),
    Check("the vectors were allocated at enabling", "EINVAL", f"vfio_msi_set_block, {INTRS}", _grown, "disable, then enable with all vectors at once"),
)  # fmt: skip


def set_irqs(core: IommuCore, controller: InterruptController | None, group: IommuGroup | None, request: IrqRequest) -> None:
    """Enable, change or disable a device's interrupts. EINVAL as `IRQ_CHECKS` say.

    Behind an SMMU each vector asks for its doorbell; the first in a domain maps the doorbell's page there (iommu_dma_prepare_msi).
    """
    r = request
    try:
        run_checks(IRQ_CHECKS, r)
    except VfioError:
        undone = core.kernel.has("refused_block_masks") and r.index == r.state.index and not _range(r) and _grown(r) is not None
        if undone:
            r.state.mask(r.start, r.count)
        raise
    if r.flags & 0x38 != ACTION_TRIGGER:
        raise NotModelledError("SET_IRQS with MASK or UNMASK is not modelled")
    if not r.count and r.index <= MSIX:
        r.state.disable()
    elif not r.count:
        r.state.singles.discard(r.index)
    elif r.index > MSIX and r.flags & DATA_EVENTFD:
        r.state.singles.add(r.index)
    elif r.flags & DATA_EVENTFD:
        _enable(core, controller, group, r)


def _enable(core: IommuCore, controller: InterruptController | None, group: IommuGroup | None, r: IrqRequest) -> None:
    messages = r.index in (MSI, MSIX) and controller is not None
    if messages:
        _need_modelled(core, controller, group)
    allocated = r.state.vectors if r.state.index == r.index else 0
    r.state.index = r.index
    r.state.vectors = max(allocated, r.start + r.count)
    if messages:
        for vector in range(allocated, r.state.vectors):
            assert controller is not None
            r.state.allocated[vector] = _message(core, controller, group, vector)
        r.state.arm(r.start, r.count)


def _cookie_of(group: IommuGroup | None) -> Domain | None:
    domain = group.domain if group is not None else None
    return domain if domain is not None and domain.msi_base is not None else None


def _need_modelled(core: IommuCore, controller: InterruptController | None, group: IommuGroup | None) -> None:
    """Stop before anything changes where the answer of this kernel is not known."""
    domain = _cookie_of(group)
    if domain is None or controller is None or controller.doorbell is None or not core.kernel.has("msi_two_phase"):
        return
    iova = core.doorbell_iova(domain, controller.doorbell)
    if domain.overlaps(iova, core.page_size):
        raise NotModelledError(
            f"the doorbell's page cannot be mapped at iova {hexa(iova)}, which a user's mapping covers: kernel {core.kernel} fails the allocation of the interrupt, with an errno that was neither recorded nor read"
        )


def _message(core: IommuCore, controller: InterruptController, group: IommuGroup | None, vector: int) -> Message:
    number = core.interrupts_given
    core.interrupts_given += 1
    if controller.doorbell is None:
        return _x86_message(group.unit if group is not None else None, number)
    data = vector if controller.kind == "gicv3-its" else FIRST_SPI + number
    domain = _cookie_of(group)
    if domain is None:
        return _physical_message(core.kernel, controller.doorbell, data, group)
    core.log.add(Event("prep_msi", physical=controller.doorbell))
    address = core.map_doorbell(domain, controller.doorbell)
    rests = "reading" if domain.kind == "virtio-iommu" or core.kernel.version < FIRST_ARM_RECORDING else ""
    if address is None:
        why = (
            "the doorbell's page could not be mapped, because a user's mapping covers its place in the window: the message became all ones"
        )
        return Message(ALL_ONES, 0xFFFF_FFFF, why, "reading")
    page, offset = hexa(address & -core.page_size), hexa(address % core.page_size)
    return Message(address, data, f"the page at {page} of D{domain.number} is the doorbell's, the offset in it is {offset}", rests)


def _physical_message(kernel: Kernel, doorbell: int, data: int, group: IommuGroup | None) -> Message:
    hardware = group is not None and any(region.kind == "msi" and region.span.contains(doorbell) for region in group.reserved)
    if hardware:
        why = "the physical doorbell: its range is a hardware MSI region, so the domain has no cookie"
    elif kernel.has("reserved_regions"):
        why = "the physical doorbell: no domain with a cookie is in front of the device"
    else:
        why = f"the physical doorbell: kernel {kernel} has no cookie that would make it reachable in a user's domain"
    return Message(doorbell, data, why, "reading")


def _x86_message(unit: IommuUnit | None, number: int) -> Message:
    """Compose an x86 message as kernels were seen to program it: remapped (VT-d, AMD-Vi), or with the vector in the data."""
    if unit is not None and unit.isolated_msi:
        if unit.kind == "amd-vi":
            return Message(X86_MSI.start, number, f"remapped format: the data names entry {number} of the interrupt remapping table")
        handle = number & 0x7FFF
        return Message(X86_MSI.start | 0x18 | handle << 5, 0, f"remapped format: the address names entry {handle} of the remapping table")
    vector = FIRST_VECTOR + number % VECTORS
    return Message(X86_MSI.start | 0x1004, vector, f"compatibility format: the data names the CPU's vector {vector:#x}")
