"""What the host's kernel log says when VT-d blocks an interrupt request: the line that an administrator finds.

A write into the MSI window is an interrupt request. Without an entry that lets the sender raise it, the unit records a fault, and the host
logs it; the guest and the device are told nothing. That Linux blocks compatibility format while it remaps is iommu_enable_irq_remapping
(drivers/iommu/intel_irq_remapping.c, 4.4; later intel/irq_remapping.c).
"""

from __future__ import annotations

from vfiolab.model.kernel import Kernel

__all__ = ["BLOCKED", "blocked_reason", "interrupt_fault"]

#: Fault reasons of blocked interrupt requests, in the kernel's words (irq_remap_fault_reasons, 4.4 to 6.12).
BLOCKED = {
    34: "Present field in the IRTE entry is clear",
    37: "Blocked a compatibility format interrupt request",
    38: "Blocked an interrupt request due to source-id verification failure",
}
#: The line's form by the switch that brought it, newest first. Source: dmar_fault_do_one, drivers/iommu/intel/dmar.c.
FORMS = (
    ("fault_line_is_plain", "[INTR-REMAP] Request device [{bus}:{rest}] fault index 0x{index} [fault reason 0x{reason:02x}] {words}"),
    ("fault_line_is_hex", "[INTR-REMAP] Request device [0x{bus}:0x{rest}] fault index 0x{index} [fault reason 0x{reason:02x}] {words}"),
    ("fault_line_is_one", "[INTR-REMAP] Request device [{bus}:{rest}] fault index {index} [fault reason {reason:02}] {words}"),
)  # fmt: skip
FIRST_FORM = "INTR-REMAP: Request device [[{bus}:{rest}] fault index {index}\nINTR-REMAP:[fault reason {reason:02}] {words}"


def blocked_reason(address: int, data: int, given: int) -> tuple[int, int | None]:
    """Return the fault reason of a write into the window that no entry allows, and the entry it names, None if it names none.

    `given`: how many entries the host has handed out; one of those belongs to another device. Bit 4 of the address says remappable format,
    bits 19:5 and 2 hold the entry, and with bit 3 the low 16 bits of `data` are added (VT-d specification, interrupt request formats).

    >>> blocked_reason(0xFEE01000, 0x1234, 0), blocked_reason(0xFEE00038, 0, 2), blocked_reason(0xFEE00038, 0, 0)
    ((37, None), (38, 1), (34, 1))
    """
    if not address & 0x10:
        return 37, None
    entry = (address >> 5 & 0x7FFF) + ((address >> 2 & 1) << 15) + (data & 0xFFFF if address & 8 else 0)
    return (38 if entry < given else 34), entry


def interrupt_fault(kernel: Kernel, device: str, reason: int, entry: int | None) -> str:
    r"""Return what this kernel logs; two lines before 4.7. An index that the hardware may choose is printed as two dots.

    >>> interrupt_fault(Kernel("6.12"), "0000:01:00.0", 37, None)
    'DMAR: [INTR-REMAP] Request device [01:00.0] fault index 0x.. [fault reason 0x25] Blocked a compatibility format interrupt request'
    >>> interrupt_fault(Kernel("4.4"), "0000:01:00.0", 34, 0x10)
    'DMAR: INTR-REMAP: Request device [[01:00.0] fault index 10\nINTR-REMAP:[fault reason 34] Present field in the IRTE entry is clear'
    """
    _, bus, rest = device.split(":")
    form = next((form for switch, form in FORMS if kernel.has(switch)), FIRST_FORM)
    return "DMAR: " + form.format(bus=bus, rest=rest, index=".." if entry is None else f"{entry:x}", reason=reason, words=BLOCKED[reason])
