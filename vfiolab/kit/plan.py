"""Plan a passthrough: who goes along, who may stay, what the kernel will refuse, and the shell lines. Each answer is the model's, run."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

from vfiolab._paths import data_dir
from vfiolab._text import plain
from vfiolab.kit.host import Host, Machine
from vfiolab.kit.space import device_name
from vfiolab.model.backends.compat_checks import UNSAFE
from vfiolab.model.backends.type1 import ALLOW_UNSAFE
from vfiolab.model.errors import STRERROR, Refusal, VfioError
from vfiolab.model.kernel import SERIES, Kernel
from vfiolab.model.machine import Machine as ModelMachine
from vfiolab.model.pci.aliases import FIRST_VMD_SEGMENT, short
from vfiolab.model.pci.grouping import Grouping, GroupingOptions, NotComputableError, iommu_groups
from vfiolab.model.pci.reasons import between
from vfiolab.model.pci.topology import Function, Topology
from vfiolab.model.user.device import Device
from vfiolab.model.user.drivers import VFIO_DRIVERS
from vfiolab.readers.errors import InputError
from vfiolab.readers.pciids import pci_ids

ASSUMED = "its usual driver"
#: What a refusal begins with where no device of the group is one that a guest could have.
NOBODY = "nobody needs it: "
IOCTLS = {
    "set_container": "VFIO_GROUP_SET_CONTAINER", "set_iommu": "VFIO_SET_IOMMU", "get_device_fd": "VFIO_GROUP_GET_DEVICE_FD",
}  # fmt: skip
#: Kernels that people run, and that a refused plan is tried on.
#: Classes of what a chipset or a processor brings along: memory, ISA bridge, management, SMBus, flash, security and sensor functions.
BOARD = frozenset({0x0500, 0x0580, 0x0601, 0x0780, 0x0C05, 0x0C80, 0x1080, 0x1180, 0x1300})
#: Notes of a machine file that say where it comes from, and leave nothing open.
TOLD = ("recorded", "derived", "not recorded", "shortened")


class Member(NamedTuple):
    """A device of a group, and why it goes along or may stay."""

    bdf: str
    why: str


class Refused(NamedTuple):
    """What the kernel will not do: at which step, its errno by name ("" for what no kernel refuses), why, and what to do instead."""

    step: str
    errno: str
    why: str
    instead: str

    def __str__(self) -> str:
        return f"{self.step}: {self.errno and f'{self.errno} ({STRERROR[self.errno]}), '}{self.why}"


class Needed(NamedTuple):
    """What a host may need itself: base classes or classes (16 bits), and what it means if all of the machine's go, or some."""

    classes: frozenset[int]
    all: str
    some: str = ""


DISKS = "`ls -l /sys/block /sys/class/nvme` says which are behind it"
ANOTHER_WAY = "have another way in before, such as ssh"
SESSION = "End the graphical session before (systemctl isolate multi-user.target): while a screen is in use, the unbind may hang"
NEEDS = (
    Needed(
        frozenset({0x03}),
        f"no other display adapter is in the input. The host's screen goes dark when its driver lets go: {ANOTHER_WAY}. {SESSION}",
        "if it is the primary display (its boot_vga in sysfs is 1), the console is on it: choose another one in the firmware's setup."
        f" {SESSION}",
    ),
    Needed(
        frozenset({0x01, 0x0805, 0x0C04}),
        f"no other disk controller is in the input. If the host's own disk is behind it, the host dies: {DISKS}",
        f"its disks leave the host. Unmount them before, and do not go on if / is among them: {DISKS}",
    ),
    Needed(
        frozenset({0x02}),
        "no other network card is in the input. The host is offline then, and a login over ssh ends: run the lines at its own keyboard",
        "if a login or a bridge of the host is on it, the host is offline then: `ls -l /sys/class/net` and `ip route` say",
    ),
    Needed(
        frozenset({0x0C03}),
        f"no other USB controller is in the input. A keyboard on USB leaves the host: {ANOTHER_WAY}",
        "what is plugged in there leaves the host: `ls -l /sys/bus/usb/devices` says what",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A plan for handing devices to a user, found by running it on the model.

    `devices`: those asked for. `together`: what must go along, `may_stay`: the rest of their groups, each with why. `refusals`: what the
    kernel will refuse. `commands` and `undo`: lines for /bin/sh, as root; none where the kernel refuses the plan for good. `warnings`: what
    the host loses, and what the input leaves open. `title`: for whom, where, on which kernel.
    """

    title: str
    devices: tuple[str, ...]
    together: tuple[Member, ...]
    may_stay: tuple[Member, ...]
    refusals: tuple[Refused, ...]
    commands: tuple[str, ...]
    undo: tuple[str, ...]
    warnings: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as the object that `vfiolab plan --json` prints: all but the title."""
        whole = asdict(self)
        rows = {name: [row._asdict() for row in getattr(self, name)] for name in ("together", "may_stay", "refusals")}
        return {name: rows.get(name, list(value)) for name, value in whole.items() if name != "title"}

    def __repr__(self) -> str:
        return "\n\n".join(plain("\n  ".join((heading, *lines)), keep="\n") for heading, lines in self.sections())

    def sections(self) -> Iterator[tuple[str, Iterable[str]]]:
        """Yield each heading with its lines."""
        yield self.title, ()
        said: dict[str, None] = {}  # a join that ties several devices is told once
        lines = []
        for bdf, why in self.together:
            parts = why.split("; ")
            lines.append(f"{short(bdf)}: {'; '.join(part for part in parts if part not in said)}")
            said |= dict.fromkeys(part for part in parts if " joins " in part)
        yield "Goes along:", lines or ["nothing else"]
        if self.may_stay:
            yield "May stay:", [f"{short(bdf)}: {why}" for bdf, why in self.may_stay]
        if self.refusals:
            lines = []
            for refused in self.refusals:
                lines += [str(refused), *[f"  instead: {refused.instead}"] * bool(refused.instead)]
            yield ("Refused on the way, which the plan avoids or survives:" if self.commands else "Refused:"), lines
        if self.warnings:
            yield "Warnings:", [f"- {warning}" for warning in self.warnings]
        if self.commands:
            yield "As root (until the next boot; running them twice is harmless):", self.commands
            yield "To undo it:", self.undo
        else:
            yield "There are no lines to run: the plan does not work as it is.", ()


def plan(host: Host, *devices: str) -> Plan:
    """Plan to hand devices of a host to a user, all in one container; the host itself stays as it is.

    Each step is carried out on the same machine booted anew, with the drivers as they are. Where nobody recorded a driver, each ordinary
    device is taken to be on one. InputError (a ValueError) if no device is named, or one that the host does not have.

    >>> import vfiolab as vl
    >>> found = vl.plan(vl.load("intel-vtd-39bit"), "05:00.0")
    >>> [bdf for bdf, _ in found.together], [bdf for bdf, _ in found.may_stay]
    (['0000:06:00.0'], ['0000:00:06.0', '0000:00:06.1'])
    >>> [(refused.step, refused.errno) for refused in found.refusals]
    [('without the rest of the group: VFIO_GROUP_SET_CONTAINER', 'EPERM')]
    >>> [line for line in found.commands if line.startswith("vfio_take 0")]
    ['vfio_take 0000:05:00.0 0x10d3 &&', 'vfio_take 0000:06:00.0 0x0010']
    """
    return _Planner(host, tuple(dict.fromkeys(_known(host, device) for device in devices))).plan()


def refusals(
    machine: ModelMachine, kernel: Kernel, options: GroupingOptions | None = None, grouping: Grouping | None = None
) -> dict[str, str]:
    """Say of each function what the kernel refuses if its whole group is handed over, as `plan` does; "" for nothing.

    All are tried on one boot. Of groups behind one unit with the same reserved regions the first one's way into a container is that of all:
    a container looks at nothing else. A text that begins with `NOBODY`: there are bridges and the host's own functions alone in the group.
    `grouping`: see `Host`.

    >>> import vfiolab as vl
    >>> found = refusals(vl.load("intel-vtd-39bit").machine, vl.Kernel("6.12"))
    >>> found["0000:05:00.0"], found["0000:00:03.0"].split(", ")[0]
    ('', 'nobody needs it: bind 00:03.0 to vfio-pci: EINVAL (Invalid argument)')
    """
    host = Host(_usual(machine, {f.bdf: f.driver for f in machine.topology.values()}), kernel, options, grouping=grouping)
    planner, tried, found = _Planner(host, tuple(host.topology)), host, dict.fromkeys(host.topology, "")
    groups = [(group, members) for group in host.groups if (members := [bdf for bdf in group.devices if bdf in host.topology])]
    grouped = {bdf for _, members in groups for bdf in members}
    alone = [(None, [bdf]) for bdf in host.topology if bdf not in grouped]
    passed: set[Any] = set()
    # virtual functions first: they go with the driver of their physical one
    for group, members in sorted([*groups, *alone], key=lambda pair: not any(host.topology[bdf].physfn for bdf in pair[1])):
        users = [bdf for bdf in members if bdf in planner.users]
        way = group and (group.unit and group.unit.name, group.reserved, group.firmware)
        refused = planner.whole_group(tried, members, users, attach=way is None or way not in passed)
        if refused is not None:
            found |= dict.fromkeys(members, str(refused) if users else NOBODY + str(refused))
            tried = planner.boot() if users else tried
        elif way is not None:
            passed.add(way)
    return found


def _known(host: Host, device: str) -> str:
    name = device_name(host, device)
    if name in host.drivers and name in host.topology:
        return str(name)
    if name in host.drivers:
        raise InputError(f"{device} is an emulated device: it is on its VFIO driver from the start", advice="name a PCI device")
    alike = [short(bdf) for bdf in host.topology if bdf.endswith(str(device)[-7:]) or short(bdf)[:-5] == str(device)[:-5]]
    advice = f"there is {', '.join(alike[:8])}" if alike else "`lspci` lists the addresses, such as 01:00.0"
    raise InputError(f"there is no device {device!r} on {host.machine.name}", advice=advice)


def _usual(machine: ModelMachine, drivers: Mapping[str, str | None]) -> Machine:
    """Return the machine with these drivers; where none is recorded at all, each ordinary device is on its usual one."""
    if not any(drivers.values()):
        drivers = {bdf: ASSUMED if machine.topology[bdf].is_for_users else None for bdf in drivers}
    functions = [f if f.driver == (on := drivers.get(f.bdf)) else replace(f, driver=on) for f in machine.topology.values()]
    return Machine.of(replace(machine, topology=Topology(functions), drivers=machine.drivers | {"vfio-pci", ASSUMED}))


class _Planner:
    """What is asked for, and the machine that it is tried on again and again."""

    def __init__(self, host: Host, wanted: tuple[str, ...]) -> None:
        if not wanted:
            raise InputError("no device is named", advice="name those that the guest shall have, such as 01:00.0")
        self.host, self.wanted, self.topology = host, wanted, host.topology
        self.drivers = {bdf: host.drivers.driver_of(bdf) for bdf in self.topology if bdf in host.drivers}
        self.recorded = any(self.drivers.values())
        self.machine = _usual(host.machine, self.drivers)
        groups = dict.fromkeys(group for bdf in wanted if (group := host.group_of(bdf)) is not None)
        others = [bdf for group in groups for bdf in group.devices if bdf not in wanted]
        self.together = [bdf for bdf in others if self.topology[bdf].is_for_users and not self._idle(bdf)]
        self.stays = [bdf for bdf in others if bdf not in self.together]
        self.users = [bdf for bdf in wanted if self.topology[bdf].is_for_users]
        self.held = self.users + self.together
        self.released = [] if not others else self._let_go(self.boot(), self.held, self.stays)

    def _idle(self, bdf: str) -> bool:
        """Return whether a function can be left as it is: held by pci-stub, or part of the board and known to have no driver."""
        return self.drivers[bdf] == "pci-stub" or (self.recorded and self.drivers[bdf] is None and _is(self.topology[bdf], BOARD))

    def boot(self, *, unsafe: bool = False) -> Host:
        """Boot the machine anew; `unsafe`: interrupts that are not isolated are allowed."""
        host = Host(Machine.of(self.machine), self.host.kernel, self.host.options, grouping=self.host.grouping)
        _set(host, self.host.params | (dict.fromkeys((ALLOW_UNSAFE, UNSAFE), "Y") if unsafe else {}))
        return host

    def _let_go(self, host: Host, held: Iterable[str], stays: Iterable[str]) -> list[str]:
        """Unbind what is handed over, and return who of the rest loses its driver then, for the group to be viable.

        Bridges last: before 5.19 they never have to.
        """
        found = []
        for bdf in held:
            if bdf in host.drivers:  # virtual functions go with the driver of their physical one
                host.unbind(bdf)
        for bdf in sorted(stays, key=lambda one: self.topology[one].is_bridge):
            group = host.group_of(bdf)
            if group is not None and bdf in group.native and not host.drivers.viable(group):
                host.unbind(bdf)
                found.append(bdf)
        return found

    def whole_group(self, host: Host, members: list[str], users: list[str], *, attach: bool) -> Refused | None:
        """Hand over a group on a host that may have seen this with others; return the first refusal. `attach`: also into a container."""
        if not users:
            return self._not_for_users(members[0], host)
        behind, rest = self._behind_vmd(users), [bdf for bdf in members if bdf not in users]
        if behind:
            return behind[0]
        if rest:
            self._let_go(host, users, rest)
        refused = None if attach else self.refusal(host, users, users=())
        group = host.group_of(users[0])
        if attach or (refused is None and group is not None and not host.drivers.viable(group)):
            refused = self.refusal(host, users, users=users)
        return refused

    def refusal(self, host: Host, held: Iterable[str], released: Iterable[str] = (), users: Iterable[str] | None = None) -> Refused | None:
        """Carry the plan out, up to the opening of the user's devices (`users`, else all); return the first refusal."""
        users, before = self.users if users is None else users, len(host.log.calls)
        try:
            for bdf in released:
                host.unbind(bdf)
            for bdf in held:
                host.bind(bdf)
            if not users:
                return None
            space = host.address_space()
            space.attach(*{host.group_of(bdf) or bdf: bdf for bdf in users}.values())
            for bdf in users:
                space.open(bdf)
        except Refusal as refused:
            call = next(call for call in host.log.calls[before:] if call.error is not None or call.died)
            step = f"bind {short(call.args['dev'])} to vfio-pci" if call.verb == "bind" else IOCTLS.get(call.verb, call.verb)
            return _told(step, refused)
        return None

    def plan(self) -> Plan:
        refusals = [self._not_for_users(bdf, self.boot()) for bdf in self.wanted if bdf not in self.users]
        refusals += self._behind_vmd(self.held)
        works, warnings = not refusals, list(self._warnings())
        if self.users:
            host = self.boot()
            refused = self.refusal(host, self.held, self.released)
            if refused is not None:
                risky = self.refusal(self.boot(unsafe=True), self.held, self.released) is None
                risk = "plan again then; the risk: a device of the guest can raise any interrupt of the host" if risky else ""
                refusals.append(refused._replace(instead="; ".join(filter(None, (refused.instead, risk, *self._later())))))
                works = False
            else:
                found = list(self._running(host))
                refusals += [one for one in found if isinstance(one, Refused)]
                warnings += [one for one in found if isinstance(one, str)]
            alone = self.refusal(self.boot(), self.users)
            if alone is not None and (alone.errno, alone.why) != (refused and (refused.errno, refused.why)):
                instead = "; ".join(("let the rest go along, as this plan does", *self._slots()))
                refusals.append(Refused(f"without the rest of the group: {alone.step}", alone.errno, alone.why, instead))
        commands, undo = self._lines() if works else ([], [])
        names = ", ".join(f"{short(bdf)} ({self._name(bdf)})" for bdf in self.wanted)
        return Plan(
            title=f"{names}, on {self.host.machine.name} with {self.host.kernel.title}",
            devices=self.wanted, together=tuple(Member(bdf, self._why_along(bdf)) for bdf in self.together),
            may_stay=tuple(Member(bdf, self._why_stay(bdf)) for bdf in self.stays),
            refusals=tuple(refusals), commands=tuple(commands), undo=tuple(undo), warnings=tuple(dict.fromkeys(warnings)),
        )  # fmt: skip

    # why

    def _name(self, bdf: str) -> str:
        f = self.topology[bdf]
        driver = self.drivers[bdf]
        return (f.name or pci_ids().title(f.class_code, f.vendor, f.device) or "PCI function") + (f", on {driver}" if driver else "")

    def _why_along(self, bdf: str) -> str:
        mate = next(one for one in self.wanted if self.host.group_of(one) is self.host.group_of(bdf))
        grouping = self.host.grouping
        reasons = between(grouping.reasons, mate, bdf) if grouping is not None else ()
        why = "; ".join(map(str, reasons)) or f"a real kernel had it in one group with {short(mate)}"
        if self.recorded and self.drivers[bdf] is None:
            why += "; it has no driver and could stay, but bound no driver takes it while the guest runs"
        return f"{self._name(bdf)}; {why}"

    def _why_stay(self, bdf: str) -> str:
        """Say why nobody has to bind it.

        Sources: vfio_dev_viable and vfio_dev_whitelisted, drivers/vfio/vfio.c, 4.4 to 5.18; since 5.19 pci_dma_configure,
        drivers/pci/pci-driver.c, which counts no driver with driver_managed_dma (pcieport, pci-stub and vfio-pci have it).
        """
        f, driver = self.topology[bdf], self.drivers[bdf]
        if bdf in self.released:
            why = f"It stays with the host, but {driver} has to let go: it uses the group's DMA"
        elif driver == "pci-stub":
            why = "The driver pci-stub holds it, and uses no DMA"
        elif f.is_bridge:
            by = f"on {driver}" if driver else "without a driver" if self.recorded else "(its driver is pcieport as a rule)"
            why = f"A bridge {by} does not stand in the way, and vfio-pci refuses bridges"
        elif driver:
            why = f"Its driver {driver} does not stand in the way on this kernel"
        else:
            why = "Without a driver it does not stand in the way" + ("" if self.recorded else "; if `lspci -k` names one, unbind it")
        return f"{self._name(bdf)}. {why}"

    # refusals

    def _not_for_users(self, bdf: str, host: Host) -> Refused:
        try:
            if self.topology[bdf].is_bridge:
                host.bind(bdf)
        except Refusal as refused:
            return _told(f"bind {short(bdf)} to vfio-pci", refused)
        why = f"{short(bdf)} is the host's own (a host bridge or an IOMMU): the kernel would bind it, and the host may stop"
        return Refused(f"bind {short(bdf)} to vfio-pci", "", why, "leave it to the host, and name the device that the guest needs")

    def _behind_vmd(self, held: Iterable[str]) -> list[Refused]:
        """Refuse what a VMD controller's driver made: with the driver its whole domain goes (vmd_remove, drivers/pci/controller/vmd.c)."""
        behind = [bdf for bdf in held if self.topology[bdf].segment >= FIRST_VMD_SEGMENT]
        why = f"{_some(behind)}: behind a VMD controller, whose driver made this domain. When it lets go, the domain is gone, disks and all"
        return [Refused("unbind the VMD controller", "", why, "turn VMD off in the firmware's setup")] * bool(behind)

    def _later(self) -> list[str]:
        """Say which later kernel takes the plan."""
        for version in SERIES[1:]:
            if Kernel(version).version > self.host.kernel.version:
                host = self.host.with_kernel(version)
                _set(host, self.host.params)
                other = _Planner(host, self.wanted)
                if other.refusal(other.boot(), other.held, other.released) is None:
                    return [f"Linux {version} takes it"]
        return []

    def _running(self, host: Host) -> Iterator[Refused | str]:
        """Yield what shows while a guest runs: resets that are refused, functions gone, an undo that harms.

        QEMU goes on where a device has no reset, and says "no available reset mechanism" (hw/vfio/pci.c, vfio_pci_hot_reset).
        """
        files = list(host.process.descriptors.values())
        for device in [file for file in files if isinstance(file, Device)]:
            try:
                device.reset()
            except VfioError as refused:
                why = f"{refused.why}, as far as the input says (it does not tell of AF resets and power states)"
                todo = "try it: QEMU starts without a reset. Before the device goes to another guest, boot the host again"
                yield Refused(f"VFIO_DEVICE_RESET {short(device.name)}", refused.name, why, todo)
        gone = [bdf for bdf in self.drivers if bdf not in host.drivers]
        if gone:
            yield f"{_some(gone)}: virtual functions that go with the driver of their physical one"
        try:
            host.bind(self.held[-1], ASSUMED)
        except Refusal as refused:
            yield f"while the guest runs, give nothing back: {refused}"

    def _slots(self) -> list[str]:
        """Say below which ports a card would have a group of its own: a card is put there, and the groups are computed."""
        grouping = self.host.grouping
        cards = [bdf for bdf in self.users if (port := self.topology.parent(bdf)) is not None and port.kind in {"root-port", "downstream"}]
        if grouping is None or not cards:
            return []
        below = [f for f in self.topology.values() if f.kind in {"root-port", "downstream"} and f.secondary]
        ports = {f"{f.segment:04x}:{f.secondary:02x}:1f.0": f for f in below}
        tried = [Function(bdf=bdf, kind="endpoint", multifunction=False) for bdf in ports if bdf not in self.topology]
        behind = None if grouping.participants is None else grouping.participants | ports.keys()
        try:
            found = iommu_groups(Topology([*self.topology.values(), *tried]), self.host.kernel, self.host.options, participants=behind)
        except NotComputableError:
            return []
        above = {port.bdf for bdf in cards for port in self.topology.path(bdf)}
        good = [port for bdf, port in ports.items() if found.mates(bdf) == (bdf,) and port.bdf not in above]
        good.sort(key=lambda port: bool(self.topology.children(port.bdf)))  # empty ones first
        named = [
            short(port.bdf) + "".join(f" ({short(on.bdf)} is there now)" for on in self.topology.children(port.bdf)[:1]) for port in good
        ]
        advice = f"or, if it is a card that can be moved: in a slot below {' or '.join(named[:4])} it would have a group of its own"
        lie = "pcie_acs_override of patched kernels splits the group in name only: its devices still reach each other"
        return [advice, lie] if named else [lie]

    # what the host loses

    def _warnings(self) -> Iterator[str]:
        if not self.recorded:
            yield "the input names no driver: each ordinary device is taken to be on its usual one. `lspci -k` names them"
        grouping = self.host.grouping
        yield from (note for note in self.host.machine.notes if not note.startswith(TOLD) and "INTx" not in note)
        yield from grouping.warnings if grouping is not None else ()
        yield from (doubt for doubt in self.host.kernel.doubts if "is newer than" in doubt)
        taken = {*self.held, *self.released}
        for need in NEEDS:
            alike = [f for f in self.topology.values() if _is(f, need.classes) and f.kind != "vf"]
            gone = [f.bdf for f in alike if f.bdf in taken]
            said = need.all if len(gone) == len(alike) else need.some
            if gone and said:
                yield f"{_some(gone)}: {said}"
        board = [bdf for bdf in self.together if _is(self.topology[bdf], BOARD)]
        if board:
            yield f"{_some(board)}: as a rule part of the board. Bind it to free the group; given to the guest it may harm the host"
        for ids in dict.fromkeys(self.topology[bdf].ids for bdf in self.held):
            twins = [f.bdf for f in self.topology.values() if f.ids == ids]
            mine = [bdf for bdf in self.held if bdf in twins]
            if ids is not None and len(mine) < len(twins):
                number = "{:04x}:{:04x}".format(*ids)
                yield f"{_some(twins)} look the same: ids={number} of vfio-pci takes them all, driver_override takes {_some(mine)} alone"

    # the lines

    def _lines(self) -> tuple[list[str], list[str]]:
        held = [bdf for bdf in self.held if self.drivers[bdf] not in VFIO_DRIVERS]
        place = "${SYSFS:-/sys}/bus/pci"
        ids = {bdf: number for bdf in held if (number := self.topology[bdf].device) is not None}
        take = _script("take.sh") if held else ["modprobe vfio-pci"]
        take += [f'[ ! -e "{place}/devices/{bdf}/driver" ] || echo {bdf} > "{place}/devices/{bdf}/driver/unbind"' for bdf in self.released]
        taken = [f"vfio_take {bdf}" + (f" 0x{ids[bdf]:04x}" if bdf in ids else "") for bdf in held]
        take += [f"{line} &&" for line in taken[:-1]] + taken[-1:]
        back = ["# Shut the guest down before.", *(_script("give-back.sh") if held else ()), *map(self._back, reversed(held))]
        back += [f'[ -e "{place}/devices/{bdf}/driver" ] || echo {bdf} > "{place}/drivers_probe"' for bdf in reversed(self.released)]
        nodes = [f"pci_{bdf.replace(':', '_').replace('.', '_')}" for bdf in held]
        take += [f"# Proxmox: hostpci{number}: {bdf}" for number, bdf in enumerate(self.users)]
        take += ["# Proxmox takes every device of the group itself when the guest starts."]
        take += [f"# libvirt, instead of these lines: virsh nodedev-detach {node}" for node in nodes]
        take += ["# libvirt's managed='yes' does that for devices of the guest, for no other."] * bool(nodes)
        return take, back + [f"# libvirt, instead: virsh nodedev-reattach {node}" for node in nodes]

    def _back(self, bdf: str) -> str:
        return f"vfio_give_back {bdf}" + " none" * (self.recorded and self.drivers[bdf] is None)


def _script(name: str) -> list[str]:
    """Return the lines of a shell function.

    driver_override: driver_override_store, drivers/pci/pci-sysfs.c, since 3.16 (782a985d7af2): an empty line takes it away. drivers_probe
    leaves a device that has a driver alone: bus_rescan_devices_helper, drivers/base/bus.c.
    """
    return (data_dir() / "templates" / name).read_text(encoding="utf-8").splitlines()


def _set(host: Host, params: Mapping[str, str]) -> None:
    for name in params.keys() & host.params.keys():
        host.set_param(name, params[name])


def _some(devices: Collection[str]) -> str:
    listed = [short(bdf) for bdf in devices]
    return ", ".join(listed[:8]) + (f" and {len(listed) - 8} more" if len(listed) > 8 else "")


def _is(f: Function, classes: Collection[int]) -> bool:
    code = f.class_code or 0
    return code >> 16 in classes or code >> 8 in classes


def _told(step: str, refused: Refusal) -> Refused:
    if isinstance(refused, VfioError):
        return Refused(step, refused.name, refused.why, refused.fix)
    return Refused(step, "", str(refused), "")
