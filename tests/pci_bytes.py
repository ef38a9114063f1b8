"""Build configuration spaces, hex dumps and sysfs trees from functions: what a real machine would show of them."""

from __future__ import annotations

import tarfile

from vfiolab.model.pci.topology import EXPRESS_TYPES

SERIAL = bytes.fromhex("a1b2c3d4e5f60718")
MAC = "a1:b2:c3:d4:e5:f6"
HOST = "secret-host-name"


def config_space(f, size=4096):
    """Return the bytes of a function, with a serial number capability as real cards have."""
    data = bytearray(4096)

    def word(at, value):
        data[at : at + 2] = value.to_bytes(2, "little")

    word(0, 0x1AF4 if f.vendor is None else f.vendor)
    word(2, 0xFFF0 if f.device is None else f.device)
    code = f.class_code or 0
    data[0x09], data[0x0A], data[0x0B] = code & 0xFF, code >> 8 & 0xFF, code >> 16
    data[0x0E] = int(f.is_bridge) | (0x80 if f.multifunction else 0)
    if f.is_bridge:
        data[0x18], data[0x19], data[0x1A] = f.bus, f.secondary or 0, f.subordinate or 0
    express = EXPRESS_TYPES.get(f.kind or "")
    chain = 0x40
    if express is not None or f.msi:
        word(0x06, 0x10)
        data[0x34] = chain
    if express is not None:
        data[chain], data[chain + 1] = 0x10, 0x60 if f.msi else 0
        word(chain + 2, 2 | express << 4)
    if f.msi:
        at = 0x60 if express is not None else chain
        data[at], data[at + 1] = 0x05, 0
        word(at + 2, (f.msi - 1).bit_length() << 1)
    if express is not None:
        data[0x100:0x104] = (0x0003 | 1 << 16 | (0x140 << 20 if f.acs else 0)).to_bytes(4, "little")
        data[0x104:0x10C] = SERIAL
        if f.acs:
            data[0x140:0x144] = (0x000D | 1 << 16).to_bytes(4, "little")
            word(0x144, f.acs.cap)
            word(0x146, f.acs.ctrl)
            data[0x148:0x14C] = (f.acs.wide_ctrl or 0).to_bytes(4, "little")
    return bytes(data[:size])


def hex_dump(data):
    """Return the lines that lspci -xxxx prints for these bytes."""
    return "".join(f"{at:02x}: {data[at : at + 16].hex(' ')}\n" for at in range(0, len(data), 16))


def sysfs_tree(root, topology, groups=(), size=4096):
    """Write a tree as /sys shows the machine: devices by place, links by address, groups, a network card's address."""
    number = {bdf: n for n, members in enumerate(groups) for bdf in members}
    by_bus = root / "bus/pci/devices"
    by_bus.mkdir(parents=True)
    for bdf, f in topology.items():
        at = root / "devices" / _place(topology, f)
        at.mkdir(parents=True, exist_ok=True)
        (at / "config").write_bytes(config_space(f, size))
        (at / "vendor").write_text(f"0x{f.vendor or 0x1AF4:04x}\n")
        (at / "device").write_text(f"0x{f.device or 0xFFF0:04x}\n")
        (at / "class").write_text(f"0x{f.class_code or 0:06x}\n")
        (at / "vpd").write_bytes(b"SN" + SERIAL.hex().encode())
        if f.class_code == 0x020000:
            (at / "net/eth0").mkdir(parents=True)
            (at / "net/eth0/address").write_text(MAC + "\n")
        if f.physfn:
            (at / "physfn").symlink_to(f"../{f.physfn}")
        (by_bus / bdf).symlink_to(f"../../../devices/{_place(topology, f)}")
        if bdf in number:
            group = root / f"kernel/iommu_groups/{number[bdf]}"
            group.mkdir(parents=True, exist_ok=True)
            (group / "type").write_text("DMA\n")
            (group / "reserved_regions").write_text("0x00000000fee00000 0x00000000feefffff msi\n")
            depth = _place(topology, f).count("/") + 2
            (at / "iommu_group").symlink_to("../" * depth + f"kernel/iommu_groups/{number[bdf]}")
    (root / "kernel").mkdir(exist_ok=True)
    (root / "kernel/hostname").write_text(HOST + "\n")
    return root


def _place(topology, f):
    steps = [f.bdf, *(bridge.bdf for bridge in topology.path(f.bdf))]
    top = topology[steps[-1]]
    root = f"pci{top.bdf[:-5]}"
    if f.segment >= 0x10000:
        controller = next(o for o in topology.values() if o.segment == 0 and (o.class_code or 0) >> 8 == 0x0104)
        root = f"pci0000:00/{controller.bdf}/{root}"
    return "/".join([root, *reversed(steps)])


def as_tar(tree, path):
    """Pack a tree as 'tar czf' does."""
    with tarfile.open(path, "w:gz") as archive:
        archive.add(tree, arcname="sys")
    return path
