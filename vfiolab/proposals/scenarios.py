"""What users want of devices and interrupts: each scenario is a machine, the iovas that its user means to use, and a few calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from vfiolab.kit import AddressSpace, Journey, MachineBuilder
from vfiolab.model.address import Span
from vfiolab.model.backends.type1 import ALLOW_UNSAFE
from vfiolab.model.iommu.unit import SOFTWARE_MSI, X86_MSI
from vfiolab.model.irq.msi import InterruptController
from vfiolab.model.machine import Host, Machine

FIRST, SECOND, BESIDE = "0000:01:00.0", "0000:02:00.0", "0000:01:00.1"
EMULATED = "mdev0"
K64, MIB, GIB = 0x1_0000, 1 << 20, 1 << 30
ITS, V2M = 0x0809_0040, 0x0802_0040  # where QEMU's virt machine has them
LATE = 0x5000_0040
GUEST = (Span.sized(GIB, GIB),)  # RAM at 1 GiB, as QEMU's virt machine has it
OVER_DOORBELL = (Span.sized(SOFTWARE_MSI.start, 2 * MIB),)
X86_RAM = (Span(0, X86_MSI.start), Span.sized(1 << 32, GIB))
FLAT_RAM = (Span(0, 1 << 32),)
FRAME = 0x2C1D_0040  # a frame of its own, for hosts with large pages
AROUND = (Span.sized(0x2C18_0000, 5 * K64), Span.sized(0x2C1E_0000, 2 * K64))
MANY = 17
MANY_AT = 0x3000_0000
BEHIND = Span.sized(SOFTWARE_MSI.end, K64)


class Play:
    """A scenario under way on a booted host: address spaces of the user or users, and what the proposal asks them to do besides."""

    def __init__(self, host: Host, ram: tuple[Span, ...], prepare: Callable[[AddressSpace], None]) -> None:
        self.host, self.ram, self._prepare = host, ram, prepare
        self.spaces: list[AddressSpace] = []

    def space(self, *devices: str) -> AddressSpace:
        """Open an address space, put devices into it, and do what the proposal asks of its user."""
        space = AddressSpace(self.host)
        self.spaces.append(space)
        self.join(space, *devices)
        return space

    def join(self, space: AddressSpace, *devices: str) -> None:
        """Put devices into a space."""
        space.attach(*devices)
        self._prepare(space)

    def map(self, space: AddressSpace) -> None:
        """Map all of the user's RAM."""
        for number, span in enumerate(self.ram):
            space.map(span.start, span.size, f"RAM {number}" if len(self.ram) > 1 else "RAM")


def _interrupt(space: AddressSpace, *devices: str) -> list[Journey]:
    for device in devices:
        space.enable_msi(device)
    return [space.raise_msi(device) for device in devices]


def _guest(play: Play, *devices: str) -> list[Journey]:
    space = play.space(*(devices or (FIRST,)))
    play.map(space)
    return _interrupt(space, FIRST)


def _foreign(play: Play) -> list[Journey]:
    space = play.space(FIRST)
    play.map(space)
    return [space.dma_write(FIRST, X86_MSI.start + 0x40, 0x1234)]


def _hot_add(play: Play) -> list[Journey]:
    space = play.space(EMULATED)
    play.map(space)
    play.join(space, FIRST)
    return _interrupt(space, FIRST)


def _two_containers(play: Play) -> list[Journey]:
    one, other = play.space(FIRST), play.space(SECOND)
    play.map(one)
    play.map(other)
    return _interrupt(one, FIRST) + _interrupt(other, SECOND)


def _shared_group(play: Play) -> list[Journey]:
    one, other = play.space(FIRST), play.space(BESIDE)
    return _interrupt(one, FIRST) + _interrupt(other, BESIDE)


def _many(play: Play) -> list[Journey]:
    devices = [f"0000:{bus:02x}:00.0" for bus in range(1, MANY + 1)]
    space = play.space(*devices)
    play.map(space)
    trips = _interrupt(space, *devices)
    space.map(BEHIND.start, BEHIND.size, "more RAM")
    return trips


def _late(play: Play) -> list[Journey]:
    space = play.space(FIRST)
    play.map(space)
    late = InterruptController("gicv3-its", LATE, frozenset({FIRST}))
    play.host.interrupts = InterruptController("gicv3-its", ITS, beside=(late,))
    return _interrupt(space, FIRST)


def _x86() -> Machine:
    m = MachineBuilder("x86 with interrupt remapping")
    m.endpoint(FIRST, below=m.root_port("00:01.0", unit=m.unit("dmar0", "intel-vtd")))
    return m.machine()


def _arm(controller: str = "gicv3-its", doorbell: int = ITS, page_size: int = 0x1000, units: int = 1, functions: int = 1) -> Machine:
    m = MachineBuilder(f"Arm with {units} SMMU{'s' * (units > 1)}", page_size=page_size)
    names = [m.unit(f"smmu{number}", "arm-smmu-v3", page_sizes=0x40201000 | 0x20010000) for number in range(units)]
    m.interrupts(InterruptController(controller, doorbell))
    m.endpoint(FIRST, below=m.root_port("00:01.0", unit=names[0]), functions=functions)
    m.endpoint(SECOND, below=m.root_port("00:02.0", unit=names[-1]))
    m.mdev(EMULATED)
    return m.machine()


def _arm_many() -> Machine:
    m = MachineBuilder(f"Arm with {MANY} ITS frames and pages of 64 KiB", page_size=K64)
    unit = m.unit("smmu0", "arm-smmu-v3", page_sizes=0x40201000 | 0x20010000)
    for number in range(MANY):
        device = f"0000:{number + 1:02x}:00.0"
        m.endpoint(device, below=m.root_port(f"00:{number + 1:02x}.0", unit=unit))
        where = MANY_AT + 2 * K64 * number + 0x40
        m.interrupts(InterruptController("gicv3-its", where, frozenset({device}) if number else frozenset()))
    return m.machine()


class Scenario(NamedTuple):
    """What a user wants, on a machine: `ram` are the iovas it means to use, `play` its calls; it returns the journeys that they made.

    `unsafe`: the host's owner allows interrupts that nobody checks (allow_unsafe_interrupts). `lent`: what of the hardware is younger than
    some of the kernels it is played on, "" for nothing.
    """

    words: str
    wants: str
    machine: Callable[[], Machine]
    ram: tuple[Span, ...]
    play: Callable[[Play], list[Journey]]
    unsafe: bool = False
    lent: str = ""

    def start(self, host: Host, prepare: Callable[[AddressSpace], None]) -> Play:
        """Return the play on a booted host."""
        if self.unsafe:
            host.set_param(ALLOW_UNSAFE, "Y")
        return Play(host, self.ram, prepare)


_MDEV = "an emulated device (mdev), which came with Linux 4.10"
SCENARIOS = {
    "x86-guest": Scenario("an x86 guest, which knows the window", "RAM around 0xfee0_0000, and its interrupt",
        _x86, X86_RAM, _guest),
    "foreign-guest": Scenario("another guest, or a program, on x86", "RAM from 0 to 4 GiB, all of it for DMA",
        _x86, FLAT_RAM, _foreign),
    "arm-v2m": Scenario("Arm with a GICv2m frame, RAM at 1 GiB", "its interrupt",
        lambda: _arm("gicv2m", V2M), GUEST, _guest, unsafe=True),
    "arm-its": Scenario("Arm with an ITS, RAM at 1 GiB", "its interrupt",
        _arm, GUEST, _guest),
    "own-layout": Scenario("a program whose RAM lies over the doorbell", "its RAM there, and its interrupt",
        _arm, OVER_DOORBELL, _guest),
    "hot-add": Scenario("RAM over the doorbell first, the device later", "to keep its RAM, and the interrupt",
        _arm, OVER_DOORBELL, _hot_add, lent=_MDEV),
    "two-domains": Scenario("two devices behind two SMMUs, one container", "one map for both, and an interrupt of one",
        lambda: _arm(units=2), GUEST, lambda play: _guest(play, FIRST, SECOND)),
    "two-containers": Scenario("two users, a device each", "each its own map and its interrupt",
        _arm, GUEST, _two_containers),
    "shared-group": Scenario("two functions that cannot be parted, two users", "a function for each user",
        lambda: _arm(functions=2), GUEST, _shared_group),
    "many-doorbells": Scenario("17 doorbell pages of 64 KiB, one more than 1 MiB holds", "every interrupt, then RAM behind the window",
        _arm_many, GUEST, _many),
    "late-doorbell": Scenario("a doorbell that nobody knew at boot, under the RAM", "its RAM, and the new doorbell's interrupt",
        _arm, GUEST, _late),
    "64k-pages": Scenario("a host with pages of 64 KiB, RAM around the doorbell's", "its RAM, and its interrupt",
        lambda: _arm(doorbell=FRAME, page_size=K64), AROUND, _guest),
}  # fmt: skip
