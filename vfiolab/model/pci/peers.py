"""Peer-to-peer: whether a request that a device sends upstream is turned round before any IOMMU sees it.

Linux decides groups by ACS because of this, but no rule of the kernel says where a request goes: every answer here is inference from what
PCI Express lets a port do. Only devices whose BARs are known can be hit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from vfiolab.model.address import Span, hexa
from vfiolab.model.kernel import Kernel
from vfiolab.model.pci.acs import AcsTester
from vfiolab.model.pci.topology import Function, Topology

REDIRECT = 0x04
CONVENTIONAL = ("pcie-to-pci", "pci-bridge")


class Turn(NamedTuple):
    """Where a request to a peer's BAR may turn round: at `function`, towards `peer`. `redirected`: ACS sends it upstream all the same."""

    function: str
    peer: str
    bar: Span
    redirected: bool
    why: str


def turn(topology: Topology, kernel: Kernel, bars: Mapping[str, tuple[Span, ...]], device: str, address: int) -> Turn | None:
    """Say where a request of `device` meets a peer that answers at `address`; None if no known BAR is there."""
    hit = next(((peer, bar) for peer, spans in bars.items() for bar in spans if peer != device and bar.contains(address)), None)
    if hit is None or device not in topology or hit[0] not in topology:
        return None
    peer, bar = hit
    where = meeting(topology, device, peer)
    redirected, why = redirects(topology, kernel, where)
    return Turn(where.bdf, peer, bar, redirected, f"{peer} answers at {bar}, and {hexa(address)} is among it: {why}")


def meeting(topology: Topology, device: str, peer: str) -> Function:
    """Return the last function that a request of `device` passes before its way and the peer's join."""
    theirs = {peer, *(function.bdf for function in topology.path(peer))}
    last = topology[device]
    for above in topology.path(device):
        if above.bdf in theirs:
            break
        last = above
    return last


def redirects(topology: Topology, kernel: Kernel, where: Function) -> tuple[bool, str]:
    """Say whether a request to a peer that could turn round at this function is sent upstream all the same, and why."""
    above = topology.parent(where.bdf)
    if above is not None and above.kind in CONVENTIONAL:
        return False, f"devices below {above.bdf} share one conventional bus and hear each other"
    if where.acs is not None and where.acs.cap & where.acs.ctrl & REDIRECT:
        return True, f"ACS at {where.bdf} redirects requests upstream (RR+)"
    verdict = AcsTester(topology, kernel).test(where.bdf)
    if verdict.passed and (where.is_bridge or topology.is_multifunction(where.bdf)):
        return True, f"{where.bdf} is known not to route requests to its peers"
    what = "the root complex may route between its ports" if above is None and where.is_bridge else "the request may be routed to its peer"
    return False, f"{where.bdf} does not redirect requests upstream (no ACS RR), so {what}"
