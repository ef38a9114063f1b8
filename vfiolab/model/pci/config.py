"""Configuration space made of what is known of a function: its bytes, and what a user's write through vfio-pci leaves of them.

Offsets are those of include/uapi/linux/pci_regs.h. What no machine file holds (revision, subsystem, serial numbers) is 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vfiolab.model.pci.bars import Bar, msix_bar
from vfiolab.model.pci.topology import Function

__all__ = ["config_space", "written"]

HEADER, EXTENDED = 0x40, 0x100
COMMAND, STATUS, LATENCY, BAR_0, INTERRUPT_LINE, INTERRUPT_PIN = 0x04, 0x06, 0x0D, 0x10, 0x3C, 0x3D
POWER, MSI, EXPRESS, MSIX = 0x01, 0x05, 0x10, 0x11
ACS, SRIOV = 0x0D, 0x10
HAS_CAPABILITIES = 0x10
FLR = 1 << 28
#: What a user's write changes: offset in the header, or id of a capability and offset in it, and the bits of a byte (init_pci_cap_*_perm,
#: drivers/vfio/pci/vfio_pci_config.c). The command register's are those that hardware implements; the reset bit of PCI Express reads as 0.
WRITABLE_HEADER = {COMMAND: 0x47, COMMAND + 1: 0x05, 0x0C: 0xFF, LATENCY: 0xFF, INTERRUPT_LINE: 0xFF}
WRITABLE_CAPABILITY = {
    MSI: {2: 0x71, **dict.fromkeys(range(4, 20), 0xFF)}, MSIX: {3: 0xC0}, EXPRESS: {8: 0xFF, 9: 0x7F}, POWER: {5: 0x01},
}  # fmt: skip


def config_space(function: Function, bars: Sequence[Bar] = ()) -> bytes:
    """Return the bytes of a function: 4096 with PCI Express, else 256. BARs above 2 GiB or without room below 4 GiB are 64 bits wide.

    >>> from vfiolab.model.pci.topology import Function
    >>> data = config_space(Function(bdf="01:00.0", vendor=0x8086, device=0x10d3, kind="endpoint"))
    >>> data[:4].hex(), len(data)
    ('8680d310', 4096)
    """
    express = function.express_type is not None
    data = bytearray(4096 if express else 256)
    data[0:4] = _word(0xFFFF if function.vendor is None else function.vendor) + _word(
        0xFFFF if function.device is None else function.device
    )
    data[COMMAND] = 0x06 if function.is_bridge or bars else 0
    data[0x09:0x0C] = (function.class_code or 0).to_bytes(3, "little")
    data[0x0E] = int(function.is_bridge) | (0x80 if function.multifunction else 0)
    if function.is_bridge:
        data[0x18:0x1B] = bytes([function.bus, function.secondary or 0, function.subordinate or 0])
    for number, bar in enumerate(bars[:6]):
        if bar.size:
            data[BAR_0 + 4 * number : BAR_0 + 4 * number + 4] = (bar.start & 0xFFFF_FFF0).to_bytes(4, "little")
    data[INTERRUPT_PIN] = int(function.intx > 0)
    at, before = HEADER, 0x34
    for number, body in _capabilities(function, bars):
        data[STATUS], data[before] = HAS_CAPABILITIES, at
        data[at : at + 2 + len(body)] = bytes([number, 0]) + body
        at, before = -(-(at + 2 + len(body)) // 4) * 4, at + 1
    at, before = EXTENDED, 0
    for number, body in _extended(function) if express else ():
        if before:
            data[before + 2 : before + 4] = _word(1 | at << 4)
        data[at : at + 4 + len(body)] = (number | 1 << 16).to_bytes(4, "little") + body
        at, before = -(-(at + 4 + len(body)) // 16) * 16, at
    return bytes(data)


def _word(value: int) -> bytes:
    return value.to_bytes(2, "little")


def _capabilities(function: Function, bars: Sequence[Bar]) -> Iterator[tuple[int, bytes]]:
    """Yield each capability's id and what stands behind its two bytes of head."""
    if function.express_type is not None:
        yield EXPRESS, _word(2 | function.express_type << 4) + FLR.to_bytes(4, "little") + bytes(52)
    if function.msi:
        yield MSI, _word(0x80 | (function.msi - 1).bit_length() << 1) + bytes(10)  # messages of 64 bits
    if function.msix:
        table, entries = msix_bar(function, bars) or 0, 16 * function.msix
        half = bars[table].size // 2 if bars and bars[table].size // 2 >= entries else 0
        pending = half + -(-entries // 4096) * 4096 if half else 0
        yield MSIX, _word(function.msix - 1) + (half | table).to_bytes(4, "little") + (pending | table).to_bytes(4, "little")


def _extended(function: Function) -> Iterator[tuple[int, bytes]]:
    """Yield each extended capability's id and what stands behind its four bytes of head; a version word of AER keeps the chain's start."""
    if function.acs is not None or function.sriov_totalvfs:
        yield 0x0003, bytes(8)  # a serial number of zeros: the chain begins with it
    if function.acs is not None:
        yield ACS, _word(function.acs.cap) + _word(function.acs.ctrl) + (function.acs.wide_ctrl or 0).to_bytes(4, "little")
    if function.sriov_totalvfs:
        counts = (function.sriov_totalvfs, function.sriov_totalvfs, function.sriov_numvfs, 0, 1, 1)
        yield SRIOV, bytes(8) + b"".join(map(_word, counts)) + bytes(40)


def written(data: bytes, offset: int, new: bytes, bars: Sequence[Bar] = ()) -> bytes:
    r"""Return configuration space after a user's write of `new` at `offset`; what a user may not change stays.

    A BAR takes the address bits above its size, as one that is asked for its size does.

    >>> from vfiolab.model.pci.topology import Function
    >>> bars = (Bar(0xE000_0000, 0x4000),)
    >>> data = config_space(Function(bdf="01:00.0", vendor=0x8086, device=0x10d3), bars)
    >>> written(data, 0x10, b"\xff" * 4, bars)[0x10:0x14].hex(), written(data, 0, b"\0\0") == data
    ('00c0ffff', True)
    """
    out, masks = bytearray(data), _masks(data, bars)
    for place, byte in enumerate(new, offset):
        mask = masks.get(place, 0)
        if place < len(out):
            out[place] = out[place] & ~mask | byte & mask
    return bytes(out)


def _masks(data: bytes, bars: Sequence[Bar]) -> dict[int, int]:
    """Return the writable bits of each byte that has some."""
    masks = dict(WRITABLE_HEADER)
    for number, bar in enumerate(bars[:6]):
        if bar.size:
            mask = -max(bar.size, 16) % (1 << 32)
            masks |= {BAR_0 + 4 * number + byte: mask >> 8 * byte & 0xFF for byte in range(4)}
    at = data[0x34] if data[STATUS] & HAS_CAPABILITIES else 0
    while at:
        masks |= {at + byte: mask for byte, mask in WRITABLE_CAPABILITY.get(data[at], {}).items()}
        at = data[at + 1]
    return masks
