"""Judges of the exercises about groups: who is together, who is in the way, which call says so, and what a listing cannot tell."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial

from vfiolab._text import count
from vfiolab.course.cases import Case, WrongShapeError, asked, listed, shown, stored
from vfiolab.course.machines import no_iommu, three_ports
from vfiolab.kit import Host, MachineBuilder, load
from vfiolab.kit.host import boot
from vfiolab.kit.plan import Plan, plan
from vfiolab.model.errors import VfioError
from vfiolab.model.machine import Machine
from vfiolab.model.pci.grouping import Grouping, GroupingOptions, NotComputableError, iommu_groups
from vfiolab.model.pci.reasons import between
from vfiolab.model.pci.topology import Topology
from vfiolab.model.user.container import Group


def _sets(value: object, known: Collection[str]) -> list[set[str]]:
    """Return a list of sets of known devices; WrongShapeError for anything else."""
    found = []
    for one in listed(value, "of sets of devices"):
        if not isinstance(one, set | frozenset | list | tuple):
            raise WrongShapeError(f"Each group is a set of devices, not {shown(one)}.")
        found.append(_devices(list(one), known))
    return found


def _devices(value: object, known: Collection[str]) -> set[str]:
    names = sorted(value, key=str) if isinstance(value, set | frozenset) else listed(value, "of devices")
    if strange := [one for one in names if not isinstance(one, str) or one not in known]:
        raise WrongShapeError(f"{shown(strange[0])} is no device that was given: addresses such as {min(known)} are asked for.")
    return set(names)


@cache
def _grouping(name: str) -> Grouping:
    found = load(name).grouping
    if found is None:
        raise ValueError(f"{name} has no PCI tree")
    return found


def same_group() -> Iterator[Case]:
    """Give the learner the joins of real machines, the last first; compare with the groups."""
    for name in ("nxp-ls1028a-enetc", "hp-elitebook-630", "amd-matisse-desktop", "apple-macmini-2018-egpu"):
        found = _grouping(name)
        joins = [(one.device, one.joins) for one in found.reasons.values() if one.joins is not None][::-1]
        args = (list(found.reasons), joins)
        yield Case(name, args, partial(_grouped, found), f"({len(args[0])} devices, {shown(joins)})")


def _grouped(found: Grouping, came: object) -> str | None:
    mine = _sets(came, found.reasons)
    counts = f"Yours has {count(len(mine), 'group')}, the model {len(found.groups)}."
    for device in found.reasons:
        holding = [one for one in mine if device in one]
        if len(holding) != 1:
            return f"{device} is in {len(holding) or 'none'} of your groups, and each device is in one. {counts}"
    for device in found.reasons:
        right, holding = set(found.mates(device)), [one for one in mine if device in one]
        if missing := sorted(right - holding[0]):
            links = "; ".join(map(str, between(found.reasons, device, missing[0])))
            return f"{device} and {missing[0]} are in one group, and apart in yours: {links}. {counts}"
        if extra := sorted(holding[0] - right):
            return f"{device} and {extra[0]} are together in yours, and no pairs lead from one to the other. {counts}"
    return None if all(mine) else f"One of the groups is empty. {counts}"


@cache
def _machine(name: str) -> Machine:
    """Read a machine of the kit, or build one of the course's; once."""
    if name == "no IOMMU":
        return no_iommu().machine
    if name == "three ports":
        return three_ports().machine
    if name != "four drivers":
        return load(name).machine
    m = MachineBuilder("one port, four drivers")
    port = m.root_port("00:01.0", unit=m.unit("dmar0", kind="intel-vtd"), acs=False)
    for number, driver in enumerate(("vfio-pci", "uio_pci_generic", None, "nvme")):
        m.endpoint(f"01:00.{number}", below=port, driver=driver)
    return m.machine()


@cache
def _viable(name: str, gone: frozenset[str] = frozenset()) -> tuple[bool, dict[str, str | None]]:
    """Unbind some devices of a wanted one's group; return whether the group is viable, and who is on which driver then."""
    machine, kernel, device = stored("in-the-way")[name]
    host = boot(_machine(machine), kernel)
    for one in gone:
        host.unbind(one)
    group = host.group_of(device)
    if group is None:
        raise ValueError(f"{device} of {machine} is in no group")
    return host.drivers.viable(group), {one: host.drivers.driver_of(one) for one in group.devices}


def in_the_way() -> Iterator[Case]:
    """Unbind the learner's devices on several kernels, and ask whether the group is viable then; and without each of them."""
    for name in stored("in-the-way"):
        members = _viable(name)[1]
        yield Case(name, (dict(members),), partial(_unbound, name, members), f"({members})")


def _unbound(name: str, members: Mapping[str, str | None], came: object) -> str | None:
    mine = sorted(_devices(came, members))
    viable, left = _viable(name, frozenset(mine))
    if not viable:
        ways = [one for one, driver in left.items() if driver and not _viable(name, frozenset({*left} - {one}))[0]]
        words = ", ".join(f"{one} on {left[one]}" for one in ways)
        return f"With {shown(mine)} unbound the model's group is not viable. In the way: {words}."
    for one in mine:
        if _viable(name, frozenset(mine) - {one})[0]:
            return f"{one} need not go: the group is viable with it on {members[one] or 'no driver'}. Yours is {shown(mine)}."
    return None


@cache
def _planned(name: str) -> tuple[Host, Plan]:
    machine, kernel, device = stored("in-the-way")[name]
    host = boot(_machine(machine), kernel)
    return host, plan(host, device)


def who_leaves() -> Iterator[Case]:
    """Compare with the plan: the devices that it takes from the host's drivers."""
    for name, (_, _, device) in stored("in-the-way").items():
        host, found = _planned(name)
        drivers = {one: host.drivers.driver_of(one) for one in host.topology}
        groups = [list(group.devices) for group in host.groups]
        words = f"({device!r}, {shown(groups)}, {shown({one: driver for one, driver in drivers.items() if driver})})"
        yield Case(name, (device, groups, dict(drivers)), partial(_left, found, drivers), words)


def _left(found: Plan, drivers: Mapping[str, str | None], came: object) -> str | None:
    along = [one for one in (*found.devices, *(one.bdf for one in found.together)) if drivers[one] not in (None, "vfio-pci")]
    mine = _devices(came, drivers)
    if missing := [one for one in along if one not in mine]:
        why = dict(found.together).get(missing[0], "it is the device that the guest shall have")
        return f"{missing[0]} has to leave {drivers[missing[0]]}, and is missing from {shown(sorted(mine))}: {why}."
    if extra := sorted(mine - set(along)):
        stays = dict(found.may_stay).get(extra[0], f"the plan takes nothing from it: it is on {drivers[extra[0]] or 'no driver'}")
        return f"{extra[0]} need not leave, of {shown(sorted(mine))}: {stays.rstrip('.')}."
    return None


def _calls(host: Host, device: str, kind: int, asks: list[str]) -> dict[str, Callable[[], object]]:
    """Return the calls of a program, by name; each notes in `asks` that it was made."""
    program = host.address_space().process
    container, opened = program.open_container(), list[Group]()

    def group() -> Group:
        if not opened:
            raise VfioError("EBADF", "the group was never opened", "fdget, fs/file.c", "open it first")
        return opened[0]

    steps: dict[str, Callable[[], object]] = {
        "bind": lambda: host.bind(device),
        "open": lambda: opened.append(program.open_group(device)),
        "SET_CONTAINER": lambda: group().set_container(container),
        "SET_IOMMU": lambda: container.set_iommu(kind),
        "GET_DEVICE_FD": lambda: group().get_device_fd(device),
        "MAP_DMA": lambda: container.map_dma(0x1_0000, 0x1000, None),
    }

    def made(name: str) -> object:
        asks.append(name)
        return steps[name]()

    return {name: partial(made, name) for name in steps}


def _program(name: str, asks: list[str]) -> dict[str, Callable[[], object]]:
    machine, kernel, device, kind = stored("first-refusal")[name]
    host = boot(_machine(machine), kernel)
    if "taken" in name:
        host.address_space().attach(device)
    return _calls(host, device, kind, asks)


@cache
def refused_first(name: str) -> tuple[str, VfioError] | None:
    """Return the first call of a program that the kernel refuses, and its answer; None if it takes all."""
    for call, make in _program(name, []).items():
        said = asked(make).error
        if said is not None:
            return call, said
    return None


def first_refusal() -> Iterator[Case]:
    """Let the learner make a program's calls, and make them again on a host that is alike."""
    for name in stored("first-refusal"):
        asks: list[str] = []
        calls = _program(name, asks)
        yield Case(name, (calls,), partial(_refused, name, asks), f"({{{', '.join(map(repr, calls))}: the calls}})")


def _refused(name: str, asks: Sequence[str], came: object) -> str | None:
    truth = refused_first(name)
    mine = tuple(came) if isinstance(came, list) else came
    if mine != (truth and (truth[0], truth[1].name)):
        words = f"The first refusal is {truth[0]}, {truth[1]}" if truth else "The model's kernel takes every call: None is asked for"
        return f"{words}. Yours is {shown(came)}; made were {', '.join(asks) or 'no calls'}."
    if truth and asks and asks[-1] != truth[0]:
        return f"{shown(mine)} is right, but {asks[-1]} was called after that: a program stops at the first refusal."
    return None


def unsure() -> Iterator[Case]:
    """Hide capabilities of real machines; compare with what the kit says of such a listing: it refuses where they decide a group."""
    for name, (machine, hidden) in stored("unsure").items():
        known = _grouping(machine)
        topology = Topology([replace(f, caps_known=False, acs=None) if f.bdf in hidden else f for f in known.topology.values()])

        def groups(isolated: Collection[str], topology: Topology = topology, hidden: Collection[str] = hidden) -> list[set[str]]:
            if strange := [one for one in isolated if one not in hidden]:
                raise ValueError(f"groups takes devices of `unknown`, not {shown(strange[0])}")
            return [set(one) for one in _read(topology, isolated)[0].groups]

        yield Case(name, (list(hidden), groups), partial(_open, topology), f"({list(hidden)}, groups)")


def _read(topology: Topology, isolated: Collection[str] = ()) -> tuple[Grouping, Grouping]:
    """Group with the capabilities that are known; return the coarsest reading and the finest."""
    try:
        found = iommu_groups(topology, options=GroupingOptions(isolated=frozenset(isolated)))
    except NotComputableError as refused:
        return refused.coarsest, refused.finest
    return found, found


def _open(topology: Topology, came: object) -> str | None:
    coarse, fine = _read(topology)
    truth = {device for device in coarse.reasons if coarse.mates(device) != fine.mates(device)}
    mine = _devices(came, coarse.reasons)
    counts = f"The groups are {len(coarse.groups)} if those devices do not isolate, {len(fine.groups)} if they do"
    if missing := sorted(truth - mine):
        both = f"{len(coarse.mates(missing[0]))} devices or {len(fine.mates(missing[0]))}"
        return f"{counts}. The group of {missing[0]} has {both}: it is open, and {shown(sorted(mine))} leaves it out."
    if extra := sorted(mine - truth):
        return f"{counts}. The group of {extra[0]} is the same in both, so it is certain; named are {len(mine)}, open are {len(truth)}."
    return None
