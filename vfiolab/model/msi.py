"""Interrupts of a device: vectors, and the doorbells their messages need. Knows domains, not containers."""

from __future__ import annotations

from dataclasses import dataclass, field

from vfiolab.model.core import IommuCore, IommuGroup
from vfiolab.model.errors import Check, NotModelledError, run_checks
from vfiolab.model.events import Event
from vfiolab.model.pci import Function

INTX, MSI, MSIX, ERR, REQ = range(5)
INDEX_NAMES = ("INTx", "MSI", "MSI-X", "ERR", "REQ")
DATA_NONE, DATA_BOOL, DATA_EVENTFD = 1, 2, 4
ACTION_TRIGGER = 32
DISABLE = DATA_NONE | ACTION_TRIGGER
TRIGGER_EVENTFD = DATA_EVENTFD | ACTION_TRIGGER
INTRS = "drivers/vfio/pci/vfio_pci_intrs.c"
CONTROLLERS = ("x86-apic", "gicv2m", "gicv3-its")


@dataclass(frozen=True, slots=True)
class InterruptController:
    """What takes a message-signalled interrupt: x86-apic, gicv2m or gicv3-its; `doorbell` is the physical address of its register."""

    kind: str
    doorbell: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in CONTROLLERS:
            raise ValueError(f"an interrupt controller is one of {', '.join(CONTROLLERS)}, not {self.kind!r}")

    @property
    def isolated(self) -> bool:
        """Whether it tells who sent an MSI (an ITS gets the device's id with the write)."""
        return self.kind != "gicv2m"


@dataclass(slots=True)
class IrqState:
    """Which interrupt type a device has enabled, how many vectors, and the address each message is sent to."""

    index: int | None = None
    vectors: int = 0
    addresses: dict[int, int | None] = field(default_factory=dict)

    def disable(self) -> None:
        """Turn the device's interrupts off; doorbell pages stay in the domain."""
        self.index, self.vectors = None, 0
        self.addresses.clear()


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
    if r.flags & DATA_NONE and not r.count and r.index <= MSIX and r.state.index != r.index:
        return f"{INDEX_NAMES[r.index]} is not enabled on {r.function.bdf}"
    return None


def _grown(r: IrqRequest) -> str | None:
    if r.count and r.state.index == r.index and r.start + r.count > r.state.vectors and not r.dynamic:
        return f"{r.state.vectors} {INDEX_NAMES[r.index]} vectors were allocated when it was enabled, vector {r.start + r.count - 1} is not among them"
    return None


IRQ_CHECKS = (
    Check("the interrupt index exists", "EINVAL", "vfio_pci_ioctl_set_irqs, drivers/vfio/pci/vfio_pci_core.c",
          lambda r: f"index {r.index} is none of {', '.join(f'{i} {n}' for i, n in enumerate(INDEX_NAMES))}" if r.index > REQ else None, "MSI is 1, MSI-X is 2"),
    Check("the vectors exist on the device", "EINVAL", "vfio_set_irqs_validate_and_prepare, drivers/vfio/vfio_main.c", _range, "ask DEVICE_GET_IRQ_INFO for the count"),
    Check("the flags are one data type and one action", "EINVAL", "vfio_set_irqs_validate_and_prepare, drivers/vfio/vfio_main.c", _flags, "eventfd + trigger is 0x24"),
    Check("what is to be disabled is enabled", "EINVAL", f"vfio_pci_set_msi_trigger, {INTRS}", _not_enabled, "enable it first"),
    Check("no other interrupt type is enabled", "EINVAL", f"vfio_pci_set_msi_trigger, {INTRS}", _other_type, "disable that one first (count = 0)"),
    Check("the vectors were allocated at enabling", "EINVAL", f"vfio_msi_set_block, {INTRS}", _grown, "disable, then enable with all vectors at once"),
)  # fmt: skip


def set_irqs(core: IommuCore, controller: InterruptController | None, group: IommuGroup | None, request: IrqRequest) -> None:
    """Enable, change or disable a device's interrupts. EINVAL as `IRQ_CHECKS` say.

    Behind an SMMU each vector asks for its doorbell; the first in a domain maps the doorbell's page there (iommu_dma_prepare_msi).
    """
    r = request
    run_checks(IRQ_CHECKS, r)
    if r.flags & 0x38 != ACTION_TRIGGER:
        raise NotModelledError("SET_IRQS with MASK or UNMASK is not modelled")
    if not r.count:
        if r.index <= MSIX:
            r.state.disable()
        return
    if r.index > MSIX or not r.flags & DATA_EVENTFD:
        return
    allocated = r.state.vectors if r.state.index == r.index else 0
    r.state.index = r.index
    r.state.vectors = max(allocated, r.start + r.count)
    if r.index in (MSI, MSIX):
        for vector in range(allocated, r.state.vectors):
            r.state.addresses[vector] = _message_address(core, controller, group)


def _message_address(core: IommuCore, controller: InterruptController | None, group: IommuGroup | None) -> int | None:
    if controller is None or controller.doorbell is None:
        return None
    domain = group.domain if group is not None else None
    if domain is None or domain.msi_base is None:
        return controller.doorbell
    core.log.add(Event("prep_msi", physical=controller.doorbell))
    return core.map_doorbell(domain, controller.doorbell)
