"""What the host's kernel log says when an IOMMU faults a request: the line that an administrator finds.

A write into the MSI window is an interrupt request. Without an entry that lets the sender raise it, the unit records a fault, and the host
logs it; the guest and the device are told nothing. That Linux blocks compatibility format while it remaps is iommu_enable_irq_remapping
(drivers/iommu/intel_irq_remapping.c, 4.4; later intel/irq_remapping.c).

Any other request that finds no mapping, or no right, is a DMA fault: each kind of unit has its own line.
"""

from __future__ import annotations

from vfiolab.model.kernel import Kernel

__all__ = ["BLOCKED", "blocked_reason", "dma_fault", "interrupt_fault"]

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


#: Fault reasons of DMA requests, in the kernel's words (dma_remap_fault_reasons, 4.4 to 6.12): no write, no read, beyond the width.
UNTRANSLATED = {4: "Access beyond MGAW", 5: "PTE Write access is not set", 6: "PTE Read access is not set"}
DMA_FORMS = (
    ("fault_line_is_plain", "[{what} NO_PASID] Request device [{bus}:{rest}] fault addr 0x{address:x} [fault reason 0x{reason:02x}] {words}"),
    ("fault_line_is_hex", "[{what} NO_PASID] Request device [0x{bus}:0x{rest}] fault addr 0x{address:x} [fault reason 0x{reason:02x}] {words}"),
    ("fault_line_has_pasid", "[{what}] Request device [{bus}:{rest}] PASID ffffffff fault addr {address:x} [fault reason {reason:02}] {words}"),
    ("fault_line_is_one", "[{what}] Request device [{bus}:{rest}] fault addr {address:x} [fault reason {reason:02}] {words}"),
)  # fmt: skip
FIRST_DMA_FORM = "DMAR:[{what}] Request device [{bus}:{rest}] fault addr {address:x} \nDMAR:[fault reason {reason:02}] {words}"
#: Flags of an AMD-Vi event: the page was present, the request was a write, the right was missing (AMD IOMMU specification, IO_PAGE_FAULT).
PRESENT, WRITE, RIGHT = 0x10, 0x20, 0x40


def dma_fault(
    kernel: Kernel, kind: str, unit: str, device: str, driver: str, address: int, *, write: bool, mapped: bool, beyond: bool
) -> str:
    r"""Return what this kernel logs of a DMA request that was not translated; what only the hardware knows is printed as dots.

    `kind`, `unit`: of the IOMMU; `driver`: that of the device, which newer AMD lines begin with. `mapped`: the page is mapped, without the
    right; `beyond`: it lies past the width. "" where the line was not read: for other units, and for AMD-Vi from 4.9 to 5.3.
    Sources: dmar_fault_do_one, drivers/iommu/intel/dmar.c; iommu_print_event, drivers/iommu/amd_iommu.c (4.4 to 4.8) and
    amd_iommu_report_page_fault (5.4 and later); arm_smmu_evtq_thread, drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3.c.

    >>> at = {"device": "0000:01:00.0", "driver": "vfio-pci", "address": 0x1234, "write": True, "mapped": False, "beyond": False}
    >>> dma_fault(Kernel("6.12"), "intel-vtd", "dmar0", **at)
    'DMAR: [DMA Write NO_PASID] Request device [01:00.0] fault addr 0x1000 [fault reason 0x05] PTE Write access is not set'
    >>> dma_fault(Kernel("6.12"), "amd-vi", "ivhd0", **at)
    'vfio-pci 0000:01:00.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x.... address=0x1234 flags=0x0020]'
    """
    _, bus, rest = device.split(":")
    if kind == "intel-vtd":
        form = next((form for switch, form in DMA_FORMS if kernel.has(switch)), FIRST_DMA_FORM)
        reason = 4 if beyond else 5 if write else 6
        what, page = "DMA Write" if write else "DMA Read", address & ~0xFFF
        return "DMAR: " + form.format(what=what, bus=bus, rest=rest, address=page, reason=reason, words=UNTRANSLATED[reason])
    if kind == "amd-vi":
        flags = (WRITE if write else 0) | (PRESENT | RIGHT if mapped else 0)
        if kernel.version >= (5, 4):
            return f"{driver} {device}: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x.... address={address:#x} flags=0x{flags:04x}]"
        if kernel.version <= (4, 8):
            return f"AMD-Vi: Event logged [IO_PAGE_FAULT device={bus}:{rest} domain=0x.... address=0x{address:016x} flags=0x{flags:04x}]"
    if kind == "arm-smmu-v3":
        slot, function = rest.split(".")
        stream, event = int(bus, 16) << 8 | int(slot, 16) << 3 | int(function), 0x13 if mapped else 0x10
        words = (f"0x{stream:08x}{event:08x}", "0x" + 16 * ".", f"0x{address:016x}", "0x" + 16 * ".")
        head = f"arm-smmu-v3 {unit}: "
        return "\n".join((f"{head}event 0x{event:02x} received:", *(f"{head}\t{one}" for one in words)))
    return ""
