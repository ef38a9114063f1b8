"""Interrupts of a device: vectors, the messages that raise them, and the doorbells those need. Knows domains, not containers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from vfiolab.model.address import hexa
from vfiolab.model.checks import Check, table
from vfiolab.model.errors import Refusal
from vfiolab.model.iommu.core import IommuCore
from vfiolab.model.iommu.doorbells import ALL_ONES
from vfiolab.model.iommu.group import IommuGroup
from vfiolab.model.iommu.unit import X86_MSI, IommuUnit
from vfiolab.model.kernel import Kernel
from vfiolab.model.pci.topology import Function

INTX, MSI, MSIX, ERR, REQ = range(5)
INDEX_NAMES = ("INTx", "MSI", "MSI-X", "ERR", "REQ")
DATA_NONE, DATA_BOOL, DATA_EVENTFD = 1, 2, 4
DATA_SIZES = {DATA_NONE: 0, DATA_BOOL: 1, DATA_EVENTFD: 4}
HEADER = 20  # bytes of a struct vfio_irq_set before its data
MASK, UNMASK, TRIGGER = 8, 16, 32
DISABLE = DATA_NONE | TRIGGER
TRIGGER_EVENTFD = DATA_EVENTFD | TRIGGER
INTRS = "drivers/vfio/pci/vfio_pci_intrs.c"
CONTROLLERS = ("x86-apic", "gicv2m", "gicv3-its")
FIRST_SPI = 80  # of the GICv2m frame that QEMU's machine has
FIRST_VECTOR, VECTORS = 0x31, 0xBE


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
    """Which interrupt type a device has enabled, which vectors it was allocated, and what each is to write.

    `vectors`: the allocated ones of MSI or MSI-X, or vector 0 of INTx. `signals`: those that have an eventfd, the others are masked;
    `allocated` are the messages of all vectors (none where the host's controller is not known). `singles`: which of ERR and REQ have an
    eventfd. INTx alone: `masked`, and `unmask_fd` if an eventfd unmasks it.
    """

    index: int | None = None
    vectors: set[int] = field(default_factory=set)
    signals: set[int] = field(default_factory=set)
    singles: set[int] = field(default_factory=set)
    allocated: dict[int, Message] = field(default_factory=dict)
    masked: bool = False
    unmask_fd: bool = False

    @property
    def messages(self) -> dict[int, Message]:
        """The messages of the vectors that have an eventfd, ascending."""
        return {vector: self.allocated[vector] for vector in sorted(self.signals) if vector in self.allocated}

    def disable(self) -> None:
        """Turn the device's interrupts off; doorbell pages stay in the domain."""
        self.index, self.masked, self.unmask_fd = None, False, False
        for part in (self.vectors, self.signals, self.allocated):
            part.clear()


@dataclass(frozen=True, slots=True)
class Eventfd:
    """The descriptor that SET_IRQS gives for each vector: -1 takes one away; any other is refused, for only fresh eventfds are real ones here."""

    number: int
    is_open: bool

    @property
    def removes(self) -> bool:
        """Whether it takes an eventfd away."""
        return self.number < 0


@dataclass(slots=True)
class IrqRequest:
    """VFIO_DEVICE_SET_IRQS on one device. `eventfd` None: a fresh eventfd for each vector; `value`: what every bool says.

    `each`: what every vector gets, from `start` on, where they do not all get the same. `ptr`: "cut" if the struct can be read and the data
    behind it cannot.
    """

    function: Function
    state: IrqState
    dynamic: bool
    index: int
    start: int
    count: int
    flags: int
    argsz: int = 20
    eventfd: Eventfd | None = None
    value: bool = True
    ptr: str = "good"
    each: tuple[Eventfd | None, ...] = ()

    def of(self, vector: int) -> IrqRequest:
        """Return the part of the request that is about one vector."""
        eventfd = self.each[vector - self.start] if self.each else self.eventfd
        return replace(self, start=vector, count=1, eventfd=eventfd, each=())

    @property
    def last(self) -> int:
        """The last vector that is named; the first, if none is."""
        return self.start + max(self.count, 1) - 1

    @property
    def whole_size(self) -> int:
        """Bytes of the struct with its data."""
        return HEADER + self.count * DATA_SIZES[self.data]

    @property
    def available(self) -> int:
        """Number of vectors that the device has of this type."""
        return vectors_of(self.function, self.index)

    @property
    def data(self) -> int:
        """The kind of data: 1 none, 2 bools, 4 eventfds."""
        return self.flags & 7

    @property
    def action(self) -> int:
        """The action: 8 mask, 16 unmask, 32 trigger."""
        return self.flags & 0x38

    @property
    def name(self) -> str:
        """What people call the interrupt type."""
        return INDEX_NAMES[self.index]


def vectors_of(function: Function, index: int) -> int:
    """Return how many vectors a function has of a type: ERR exists on PCI Express only (vfio_pci_get_irq_count; recorded)."""
    if not 0 <= index <= REQ:
        return 0
    return (function.intx, function.msi, function.msix, int(function.express_type is not None), 1)[index]


def irq_set_size(flags: int, count: int) -> int:
    """Return the size of a struct vfio_irq_set with its data, in bytes."""
    return HEADER + min(count, 1024) * DATA_SIZES.get(flags & 7, 0)


def is_dynamic(kernel: Kernel, controller: InterruptController | None, function: Function, index: int) -> bool:
    """Say whether single vectors of this type can be allocated after enabling: MSI-X, where the interrupt domain can (recorded)."""
    if index != MSIX or controller is None or not function.msix:
        return False
    switch = {"x86-apic": "dynamic_msix_x86", "gicv3-its": "dynamic_msix_its"}.get(controller.kind)
    return switch is not None and kernel.has(switch)


def _not_allocated(r: IrqRequest) -> str:
    return f"{len(r.state.vectors)} {r.name} vectors were allocated when it was enabled, vector {r.last} is not among them"


def _no_single(r: IrqRequest) -> str | None:
    if r.data == DATA_NONE:
        return f"{r.name} of {r.function.bdf} has no eventfd" if r.index not in r.state.singles else None
    return "count is 0: bools and eventfds need a vector" if not r.count else None


_VALIDATE = "vfio_set_irqs_validate_and_prepare, drivers/vfio/vfio_main.c"
_GIVES_FD = f"r.data == {DATA_EVENTFD} and r.eventfd is not None and not r.eventfd.removes"
_EVENTFD_CHECKS = (
    Check("the descriptor is open", "EBADF", "eventfd_ctx_fdget, fs/eventfd.c", "descriptor {r.eventfd.number} is not open", "pass an eventfd, or -1 to take one away",
          test=f"{_GIVES_FD} and not r.eventfd.is_open"),
    Check("the descriptor is an eventfd", "EINVAL", "eventfd_ctx_fdget, fs/eventfd.c", "descriptor {r.eventfd.number} is no eventfd", "pass an eventfd, or -1 to take one away", test=_GIVES_FD),
)  # fmt: skip
IRQ_CHECKS = (
    Check("the struct can be read", "EFAULT", "vfio_pci_ioctl_set_irqs, drivers/vfio/pci/vfio_pci_core.c", "the pointer to the struct is {r.ptr}", "pass a pointer to a struct vfio_irq_set",
          test="r.ptr not in ('good', 'cut')"),
    Check("argsz holds the struct (20 bytes)", "EINVAL", _VALIDATE, "argsz {r.argsz} is below 20", "set argsz = 20 and the size of the data", test="r.argsz < 20"),
    Check("the interrupt index exists", "EINVAL", _VALIDATE, f"index {{r.index}} is none of {', '.join(f'{i} {n}' for i, n in enumerate(INDEX_NAMES))}", "MSI is 1, MSI-X is 2",
          test=f"r.index > {REQ}"),
    Check("only known flags are set", "EINVAL", _VALIDATE, lambda r: f"flags {r.flags:#_x} holds {r.flags & ~0x3F:#_x}, which no kernel knows", "eventfd + trigger is 0x24", test="r.flags & ~0x3F"),
    Check("the vectors exist on the device", "EINVAL", _VALIDATE, "vectors {r.start}..{r.last} of {r.available} {r.name} vectors of {r.function.bdf}", "ask DEVICE_GET_IRQ_INFO for the count",
          test="r.start >= r.available or r.start + r.count > r.available"),
    Check("the data is of one type", "EINVAL", _VALIDATE, "flags {r.flags:#_x} is not one data type (1 none, 2 bools, 4 eventfds)", "eventfd + trigger is 0x24",
          test=f"r.data not in {tuple(DATA_SIZES)}"),
    Check("argsz holds the data", "EINVAL", _VALIDATE, "argsz {r.argsz} does not hold the data of {r.count} vectors: {r.whole_size} bytes do", "argsz is 20, and 1 byte a bool or 4 an eventfd",
          test="r.argsz < r.whole_size"),
    Check("the data can be read", "EFAULT", "vfio_pci_ioctl_set_irqs, drivers/vfio/pci/vfio_pci_core.c", "the data of {r.count} vectors behind the struct cannot be read", "pass readable memory",
          test="r.ptr == 'cut' and r.count and r.data != 1"),
    Check("the type has this action", "ENOTTY", f"vfio_pci_set_irqs_ioctl, {INTRS}", "flags {r.flags:#_x} holds no action (8 mask, 16 unmask, 32 trigger), or one that {r.name} does not have",
          "only INTx can be masked and unmasked", test=f"r.action not in ({MASK}, {UNMASK}, {TRIGGER}) or (r.action != {TRIGGER} and r.index != {INTX})"),
)  # fmt: skip
INTX_MASK_CHECKS = (
    Check("INTx is enabled, and it is its one vector", "EINVAL", f"vfio_pci_set_intx_mask, vfio_pci_set_intx_unmask, {INTRS}",
          "INTx of {r.function.bdf} is not enabled, or start {r.start} and count {r.count} are not 0 and 1", "enable INTx first; start 0, count 1",
          test=f"(r.state.index, r.start, r.count) != ({INTX}, 0, 1)"),
    Check("masking is not asked of an eventfd", "ENOTTY", f"vfio_pci_set_intx_mask, {INTRS}", "an eventfd that masks INTx is not implemented in Linux", "mask with data NONE or BOOL",
          test=f"r.action == {MASK} and r.data == {DATA_EVENTFD}"),
    *_EVENTFD_CHECKS,
    Check("no eventfd unmasks it yet", "EBUSY", "vfio_virqfd_enable, drivers/vfio/virqfd.c", "INTx of {r.function.bdf} has an eventfd that unmasks it already", "take the present one away first (-1)",
          test=f"r.action == {UNMASK} and r.data == {DATA_EVENTFD} and r.eventfd is None and r.state.unmask_fd"),
)  # fmt: skip
TRIGGER_CHECKS = (
    Check("no other interrupt type is enabled", "EINVAL", f"vfio_pci_set_msi_trigger, {INTRS}", lambda r: f"{INDEX_NAMES[r.state.index]} is enabled on {r.function.bdf}: {r.name} cannot be used beside it",
          "disable that one first (count = 0)", test="r.state.index not in (None, r.index)"),
    Check("INTx has one vector", "EINVAL", f"vfio_pci_set_intx_trigger, {INTRS}", "INTx has one vector, 0; start {r.start} and count {r.count} are not 0 and 1", "start 0, count 1",
          test=f"r.index == {INTX} and r.count != 1"),
    Check("what is to be disabled or signalled is enabled", "EINVAL", f"vfio_pci_set_msi_trigger, {INTRS}", "{r.name} is not enabled on {r.function.bdf}", "enable it first",
          test=f"r.data != {DATA_EVENTFD} and r.state.index != r.index"),
    Check("the vectors were allocated at enabling", "EINVAL", f"vfio_msi_set_block, {INTRS}", _not_allocated, "disable, then enable with all vectors at once",
          "not refused_block_masks", f"r.state.index == r.index != {INTX} and (r.start + r.count > len(r.state.vectors) or (r.data == {DATA_EVENTFD} and r.start >= len(r.state.vectors)))"),
    *(Check("there is a vector to enable", errno, "pci_alloc_irq_vectors_affinity, drivers/pci/msi.c", "{r.name} cannot be enabled with no vector at all", "enable at least one", when,
            f"r.state.index is None and r.index in ({MSI}, {MSIX}) and not r.start + r.count")
      for errno, when in (("ENOSPC", "no_vectors_enospc and not no_vectors_erange"), ("ERANGE", "not no_vectors_enospc or no_vectors_erange"))),
)  # fmt: skip
SINGLE_CHECKS = (
    Check("there is an eventfd, or one comes", "EINVAL", f"vfio_pci_set_ctx_trigger_single, {INTRS}", _no_single, "give it an eventfd first"),
    *_EVENTFD_CHECKS,
)  # fmt: skip
VECTOR_CHECKS = (
    Check("the vector was allocated at enabling", "EINVAL", f"vfio_msi_alloc_irq, {INTRS}", _not_allocated, "disable, then enable with all vectors at once",
          test="r.start not in r.state.vectors and not r.dynamic"),
    *_EVENTFD_CHECKS,
)  # fmt: skip


def set_irqs(core: IommuCore, controller: InterruptController | None, group: IommuGroup | None, request: IrqRequest) -> None:
    """Enable, change, signal, mask or disable a device's interrupts (vfio_pci_set_irqs_ioctl). The tables above are the refusals, in order.

    Behind an SMMU each vector asks for its doorbell; the first in a domain maps the doorbell's page there (iommu_dma_prepare_msi).
    """
    r, kernel = request if len(request.each) != 1 else request.of(request.start), core.kernel
    table(IRQ_CHECKS, kernel).run(r)
    if r.action != TRIGGER:
        table(INTX_MASK_CHECKS, kernel, before=IRQ_CHECKS).run(r)
        if r.data == DATA_EVENTFD:
            r.state.unmask_fd = r.eventfd is None
        elif r.data == DATA_NONE or r.value:
            r.state.masked = r.action == MASK
    elif r.index > MSIX:
        table(SINGLE_CHECKS, kernel, before=IRQ_CHECKS).run(r)
        if (r.data == DATA_NONE and not r.count) or (r.data == DATA_EVENTFD and r.eventfd):
            r.state.singles.discard(r.index)
        elif r.data == DATA_EVENTFD:
            r.state.singles.add(r.index)
    elif r.state.index == r.index and not r.count and r.data == DATA_NONE:
        r.state.disable()
    else:
        table(TRIGGER_CHECKS, kernel, before=IRQ_CHECKS).run(r)
        if r.data == DATA_EVENTFD:
            _signal(core, controller, group, r)


def _signal(core: IommuCore, controller: InterruptController | None, group: IommuGroup | None, r: IrqRequest) -> None:
    """Give eventfds to a block of vectors, enabling the type if none is. One that fails leaves the block masked, or nothing enabled."""
    takes = controller if r.index in (MSI, MSIX) else None
    enabled_here = r.state.index is None

    def allocate(vectors: Iterable[int]) -> None:
        for vector in vectors:
            if takes is not None:
                r.state.allocated[vector] = _message(core, takes, group, vector)
            r.state.vectors.add(vector)

    block = range(r.start, r.start + r.count)
    checks = table(VECTOR_CHECKS, core.kernel, before=IRQ_CHECKS + TRIGGER_CHECKS)
    vector = r.start
    try:
        if enabled_here:
            r.state.index = r.index
            allocate(range(r.start + r.count))
        for vector in block:
            r.state.signals.discard(vector)
            one = r.of(vector)
            if one.eventfd and one.eventfd.removes:
                continue
            checks.run(one)
            if vector not in r.state.vectors:
                allocate([vector])
            r.state.signals.add(vector)
    except Refusal:
        r.state.signals.difference_update(block[: vector - r.start + 1])
        if enabled_here:
            r.state.disable()
        raise


def _message(core: IommuCore, controller: InterruptController, group: IommuGroup | None, vector: int) -> Message:
    number = core.interrupts_given
    core.interrupts_given += 1
    if controller.doorbell is None:
        return _x86_message(group.unit if group is not None else None, number)
    reached = core.doorbells.requested(group.domain if group is not None else None, group, controller.doorbell)
    data = 0xFFFF_FFFF if reached.address == ALL_ONES else vector if controller.kind == "gicv3-its" else FIRST_SPI + number
    return Message(reached.address, data, reached.why, reached.rests)


def _x86_message(unit: IommuUnit | None, number: int) -> Message:
    """Compose an x86 message as kernels were seen to program it: remapped (VT-d, AMD-Vi), or with the vector in the data."""
    if unit is not None and unit.isolated_msi:
        if unit.kind == "amd-vi":
            return Message(X86_MSI.start, number, f"remapped format: the data names entry {number} of the interrupt remapping table")
        handle = number & 0x7FFF
        return Message(X86_MSI.start | 0x18 | handle << 5, 0, f"remapped format: the address names entry {handle} of the remapping table")
    vector = FIRST_VECTOR + number % VECTORS
    return Message(X86_MSI.start | 0x1004, vector, f"compatibility format: the data names the CPU's vector {vector:#_x}")
