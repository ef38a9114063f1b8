"""The machine of the hotplug notebook: one emulated device, and three real ones that want different things of the iova space."""

from __future__ import annotations

from vfiolab.kit import Host, MachineBuilder

__all__ = ["DEVICES", "EMULATED", "NARROW", "PLAIN", "RESERVED", "hotplug_host"]

EMULATED = "mdev0"
PLAIN, RESERVED, NARROW = "0000:01:00.0", "0000:02:00.0", "0000:81:00.0"
DEVICES = {EMULATED: "emulated (mdev)", PLAIN: "plain", RESERVED: "with a reserved region", NARROW: "behind a 39-bit unit"}


def hotplug_host(kernel: str = "7.3") -> Host:
    """Boot a machine with two VT-d units, of 48 and 39 bits; one device has a reserved region at 0xe8000-0xe8fff.

    >>> [group.devices for group in hotplug_host().groups if not group.devices[0].endswith("1.0")]
    [('0000:00:02.0',), ('0000:01:00.0',), ('0000:02:00.0',), ('0000:81:00.0',), ('mdev0',)]
    """
    m = MachineBuilder("hotplug")
    wide, narrow = m.unit("dmar0", kind="intel-vtd", width=48), m.unit("dmar1", kind="intel-vtd", width=39)
    m.endpoint(PLAIN, below=m.root_port("00:01.0", unit=wide))
    m.endpoint(RESERVED, below=m.root_port("00:02.0", unit=wide))
    m.endpoint(NARROW, below=m.root_port("80:01.0", unit=narrow))
    m.region(RESERVED, 0xE8000, 0xE8FFF, "reserved")
    m.mdev(EMULATED)
    return m.host(kernel)
