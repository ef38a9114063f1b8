"""The device `vfiolab-edu`: a toy of this kit and no real hardware, for a learner's own driver. It is another one than QEMU's `edu` device.

It stands in the place of a function that the machine has, so that groups, ports and IOMMU stay the machine's, and so do the ids in its
configuration space; what is the toy's are BAR 0, one MSI vector, and no other interrupt. Registers in BAR 0, little endian:

    0x000  ID       8 bytes  "vfiolab" and a zero
    0x008  ADDRESS  8 bytes  an iova
    0x010  LENGTH   4 bytes  1 to 1024
    0x014  COMMAND  4 bytes  1: read memory into BUFFER, 2: write BUFFER to memory, 4: then raise the interrupt; reads as 0
    0x018  STATUS   4 bytes  1: done, 2: fault
    0x400  BUFFER   1024 bytes

BAR 0 is smaller than a page and begins at no page, so that vfio-pci lets nobody mmap it (vfio_pci_probe_mmaps): registers are written by
pwrite. A program that maps it all the same writes where nobody reads. Each opening of the device has registers of its own.
The toy knows when a write was not translated. A real device is told of refused reads alone: writes to memory are posted, and nothing
comes back (PCI Express Base Specification, transaction ordering).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace

from vfiolab.model.address import U64, Span
from vfiolab.model.errors import NotModelledError
from vfiolab.model.irq import delivery
from vfiolab.model.machine import Host, Machine
from vfiolab.model.pci.bars import bars_of
from vfiolab.model.pci.topology import Topology, normal_bdf
from vfiolab.model.user.device import Device

NAME = "vfiolab-edu"
ADDRESS, STATUS, BUFFER, SIZE, PAGE = 0x008, 0x018, 0x400, 0x800, 4096
READ, WRITE, INTERRUPT = 1, 2, 4
DONE, FAULT = 1, 2
#: The registers before anybody wrote, and which of them a program writes.
POWER_ON = b"vfiolab\0".ljust(SIZE, b"\0")
WRITABLE = (range(ADDRESS, STATUS), range(BUFFER, SIZE))
Tell = Callable[[delivery.Journey], None]
Reach = Callable[[int, bytes | int], bytes]


def with_edu(machine: Machine, bdf: str) -> Machine:
    """Return the machine with the toy in the place of a function; `notes` say so. ValueError for a bridge, and where nothing is.

    >>> from vfiolab.readers.opening import open_machine
    >>> with_edu(open_machine("two-smmu-server"), "01:00.0").bars["0000:01:00.0"]
    (Span(0xe0_1000_0800, 0xe0_1000_1000),)
    """
    name = normal_bdf(bdf)
    function = machine.topology.get(name)
    if function is None or function.is_bridge:
        what = "no such function" if function is None else "a bridge"
        raise ValueError(f"{NAME} {bdf}: {what} on {machine.name}; name an endpoint of the machine, whose place the toy takes")
    toy = replace(function, msi=1, msix=0, intx=0)
    functions = [toy if one.bdf == name else one for one in machine.topology.values()]
    place = Span.sized(bars_of(function)[0].start + SIZE, SIZE)
    notes = (*machine.notes, f"{name}: {NAME}, a toy device of this kit and no real hardware, stands in the place of the function")
    return replace(machine, topology=Topology(functions), bars={**machine.bars, name: (place,)}, notes=notes)


def written(registers: bytearray, offset: int, new: bytes) -> int:
    """Write into the registers, as far as they can be written; return the command that is to be carried out now, 0 for none."""
    for place, byte in enumerate(new, offset):
        if any(place in part for part in WRITABLE):
            registers[place] = byte
    command = int.from_bytes(registers[STATUS - 4 : STATUS], "little")
    registers[STATUS - 4 : STATUS] = bytes(4)
    if command:
        registers[STATUS : STATUS + 4] = bytes(4)
    return command


def transfer(host: Host, device: Device, registers: bytearray, command: int, reach: Reach, tell: Tell) -> None:
    """Do the DMA of a command, a request for each page, up to the first that fails; STATUS says how it ended.

    `reach`: reads so many bytes, or writes bytes, of the program's memory behind an iova. `tell` hears of each request.
    NotModelledError where a request reaches another device.
    """
    address, length = struct.unpack_from("<QI", registers, ADDRESS)
    status, done = DONE, 0
    wanted = length if command & (READ | WRITE) else 0
    if command & (READ | WRITE) and not (0 < length <= SIZE - BUFFER and address + length <= U64):
        status, wanted = DONE | FAULT, 0
    while done < wanted:
        size, iova, at = min(wanted - done, PAGE - (address + done) % PAGE), address + done, BUFFER + done
        data = bytes(registers[at : at + size])
        if command & WRITE:
            trip = delivery.write(host, device.name, iova, int.from_bytes(data[:8], "little"), size, irqs=device.irqs)
        else:
            trip = delivery.read(host, device.name, iova, size)
        tell(trip)
        if trip.outcome == "p2p":
            raise NotModelledError(f"{trip.act}: {trip.why}; what another device's registers hold is not modelled")
        if trip.outcome == "memory":
            registers[at : at + size] = reach(iova, data if command & WRITE else size)
        elif trip.outcome != "delivered":
            status |= FAULT
            break
        done += size
    registers[STATUS : STATUS + 4] = status.to_bytes(4, "little")


def failed(registers: bytearray) -> None:
    """Let STATUS say that a command came to nothing."""
    registers[STATUS : STATUS + 4] = (DONE | FAULT).to_bytes(4, "little")


def raise_interrupt(host: Host, device: Device, tell: Tell) -> bool:
    """Raise the toy's vector; say whether it is delivered. Without an eventfd on it nothing is sent."""
    if 0 not in device.irqs.signals:
        return False
    trip = delivery.raise_msi(host, device.name, device.irqs)
    tell(trip)
    return trip.outcome == "delivered"
