"""What a learner may write: short addresses, and names of machines or files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vfiolab.model.pci.topology import TopologyError, normal_bdf

if TYPE_CHECKING:
    from vfiolab.model.machine import Host


def device_name(host: Host, device: object) -> Any:
    """Return a device's name as the host knows it: `21:00.0` is 0000:21:00.0. What the host does not have comes back as it was given."""
    if not isinstance(device, str) or device in host.drivers:
        return device
    try:
        full = normal_bdf(device)
    except TopologyError:
        return device
    return full if full in host.drivers else device
