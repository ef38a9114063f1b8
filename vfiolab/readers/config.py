"""Decode the bytes of a function's configuration space.

Offsets are those of include/uapi/linux/pci_regs.h. 64 bytes hold the header, 256 the capabilities,
4096 the extended capabilities: what lies beyond the bytes given is not known, and is said to be so.
"""

from __future__ import annotations

from vfiolab.model.pci.topology import EXPRESS_TYPES, Acs
from vfiolab.readers.listing import Draft

_KIND = {number: kind for kind, number in EXPRESS_TYPES.items() if kind != "vf"}
_MSI, _EXPRESS, _MSIX = 0x05, 0x10, 0x11
_EXT_ACS, _EXT_SRIOV = 0x0D, 0x10


def decode(data: bytes) -> Draft | None:
    """Return what 64, 256 or 4096 bytes (or any number between) say of a function, its address left empty.

    None if no device answers (all ones) or the header is cut; `caps_known` is false if capabilities may lie beyond the bytes.

    >>> header = bytearray(64)
    >>> header[0:4] = bytes.fromhex("86803412"); header[0x0b] = 2; header[0x0e] = 0x80
    >>> found = decode(bytes(header))
    >>> hex(found.vendor), found.multifunction, found.kind, found.caps_known
    ('0x8086', True, 'pci', True)
    """
    if len(data) < 64 or data[:4] == b"\xff\xff\xff\xff":
        return None
    is_bridge = data[0x0E] & 0x7F == 1
    caps = _capabilities(data)
    known = not (caps and len(data) < 256)
    express = caps.get(_EXPRESS)
    kind: str | None = "pci-bridge" if is_bridge else "pci"
    extended: dict[int, int] = {}
    if express is not None and express + 4 <= len(data):
        kind = _KIND.get(_word(data, express + 2) >> 4 & 0xF)
        known = known and len(data) > 256
        extended = _extended(data)
    elif not known:
        kind = None
    acs = _acs(data, extended.get(_EXT_ACS))
    sriov = extended.get(_EXT_SRIOV, 0)
    has_vfs = sriov and sriov + 0x18 <= len(data)
    return Draft(
        bdf="",
        vendor=_word(data, 0),
        device=_word(data, 2),
        class_code=data[0x0B] << 16 | data[0x0A] << 8 | data[0x09],
        kind=kind,
        multifunction=bool(data[0x0E] & 0x80),
        acs=acs,
        caps_known=known and not (_EXT_ACS in extended and acs is None),
        secondary=data[0x19] if is_bridge else None,
        subordinate=data[0x1A] if is_bridge else None,
        intx=int(data[0x3D] != 0),
        msi=1 << (_word(data, caps[_MSI] + 2) >> 1 & 7) if caps.get(_MSI, len(data)) + 4 <= len(data) else 0,
        msix=(_word(data, caps[_MSIX] + 2) & 0x7FF) + 1 if caps.get(_MSIX, len(data)) + 4 <= len(data) else 0,
        sriov_totalvfs=_word(data, sriov + 0x0E) if has_vfs else 0,
        sriov_numvfs=_word(data, sriov + 0x10) if has_vfs else 0,
        vf_offset=_word(data, sriov + 0x14) if has_vfs else 0,
        vf_stride=_word(data, sriov + 0x16) if has_vfs else 0,
    )


def _word(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "little")


def _capabilities(data: bytes) -> dict[int, int]:
    """Map capability id to offset; {0: pointer} if there are some beyond the bytes."""
    if not _word(data, 0x06) & 0x10:
        return {}
    found: dict[int, int] = {}
    at = data[0x34] & ~3
    for _ in range(48):  # as many as fit; a list that bites its tail ends here
        if at < 0x40:
            return found
        if at + 4 > len(data):
            return found or {0: at}
        found.setdefault(data[at], at)
        at = data[at + 1] & ~3
    return found


def _extended(data: bytes) -> dict[int, int]:
    found: dict[int, int] = {}
    at = 0x100
    for _ in range(480):
        if at < 0x100 or at + 4 > len(data):
            break
        head = int.from_bytes(data[at : at + 4], "little")
        if head in {0, 0xFFFFFFFF}:
            break
        found.setdefault(head & 0xFFFF, at)
        at = head >> 20 & ~3
    return found


def _acs(data: bytes, at: int | None) -> Acs | None:
    if at is None or at + 8 > len(data):
        return None
    wide = int.from_bytes(data[at + 8 : at + 12], "little") if at + 12 <= len(data) else None
    return Acs(_word(data, at + 4), _word(data, at + 6), wide)
