"""Judges of the exercises about containers and domains: how many there are and why, how few will do, and which hot-add fails."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from vfiolab.course.answer import Answer
from vfiolab.course.cases import Case, WrongShapeError, asked, errno, facts, listed, shown, stored, whole
from vfiolab.course.machines import FIRST, SECOND, two_units
from vfiolab.kit import AddressSpace, Host, MachineBuilder, load
from vfiolab.kit.space import device_name
from vfiolab.model.address import Span
from vfiolab.model.errors import Refusal

SMMUS = ("0000:01:00.0", "0000:02:00.0", "0000:21:00.0", "0000:22:00.0")
NEXT = ("0000:02:00.0", "0000:82:00.0")
Wishes = Mapping[str, Sequence[tuple[int, int, str]]]


def _count(given: Mapping[str, Any]) -> int:
    """Return how many domains two groups behind two such VT-d units have in one container."""
    try:
        space = two_units("intel-vtd", **given).address_space()
        space.attach(FIRST)
    except (ValueError, TypeError, Refusal) as misfit:
        raise WrongShapeError(f"No such machine can be built: {misfit}") from misfit
    said = asked(space.attach, SECOND)
    if said.error is not None:
        raise WrongShapeError(f"The second group is refused: {said}")
    return len(space.domains)


def _domains_of(host: Host, devices: Sequence[str]) -> list[str]:
    """Attach devices in turn, and return the unit of each domain, the oldest first."""
    with host.address_space() as space:
        space.attach(*devices)
        return [domain.unit.name for domain in space.domains][::-1]


def domain_count() -> Iterator[Case]:
    """Attach the devices in turn; `shares` is found out in the same way, with a device of each unit."""
    vtd = (FIRST, NEXT[0], SECOND, NEXT[1])
    hosts = {
        "two SMMUs": (load("two-smmu-server"), SMMUS, ((), (0,), (0, 1), (0, 2), (0, 2, 1, 3))),
        "two VT-d units, alike": (two_units("intel-vtd", "7.3"), vtd, ((0, 2), (0, 1, 2, 3))),
        "VT-d of 48 and 39 bits": (two_units("intel-vtd", "7.3", width=(48, 39)), vtd, ((0, 2), (2, 0), (2, 0, 3, 1), (0, 2, 1))),
    }
    for name, (host, four, lists) in hosts.items():
        units = {device: group.unit.name for device in four if (group := host.group_of(device)) is not None and group.unit is not None}
        alike = {(units[one], units[other]): len(_domains_of(host, (one, other))) == 1 for one in four for other in four if one != other}

        def shares(domain: str, unit: str, alike: Mapping[tuple[str, str], bool] = alike) -> bool:
            return alike[domain, unit]

        for numbers in lists:
            devices = [four[number] for number in numbers]
            words = f"({shown(devices)}, units.get, shares) with units {shown(units)}"
            yield Case(name, (list(devices), units.get, shares), partial(_counted, host, devices), words)


def _counted(host: Host, devices: Sequence[str], came: object) -> str | None:
    mine, truth = whole(came, "The number of domains"), _domains_of(host, devices)
    if mine == len(truth):
        return None
    made = ", ".join(f"D{number} for {unit}" for number, unit in enumerate(truth, 1)) or "no device, so no page table"
    return f"The model's container has {len(truth)} of them, not {mine}: {made}."


def two_domains() -> Iterator[Case]:
    """Build the learner's machines; a fact is the cause of the second domain if there is one domain once both units have it alike."""
    known: dict[str, int] = {}
    for number in (1, 2, 3):
        yield Case(f"way {number}", (number,), partial(_split, number, known), f"({number})")


def _split(number: int, known: dict[str, int], came: object) -> str | None:
    given = facts(came, "with `kernel` and facts of the units")
    if not isinstance(given.get("kernel"), str):
        return 'The kernel is missing: the dict needs "kernel", a word such as "6.12".'
    pairs = {name: value for name, value in given.items() if isinstance(value, tuple)}
    if strange := [name for name, value in pairs.items() if len(value) != 2]:
        return f"{strange[0]} is a pair, one value for each of the two units, not {shown(pairs[strange[0]])}."
    if _count(given) < 2:
        return _one_domain(given, pairs)
    causes = [name for name, (one, _) in pairs.items() if _count(given | {name: one}) == 1]
    if len(causes) != 1:
        return f"There are two domains, but no single fact is the cause: {', '.join(pairs)} differ. Change one fact at a time."
    before = known.setdefault(causes[0], number)
    if before != number:
        alike = f"with {causes[0]} alike for both units there is one"
        return f"There are two domains, for the same cause as way {before}: {alike}. Find another cause."
    return None


def _one_domain(given: Mapping[str, Any], pairs: Mapping[str, tuple[Any, Any]]) -> str:
    """Say why there is one domain, and which change the model answers with two."""
    differ = ", ".join(f"{name} {shown(pair)}" for name, pair in pairs.items() if pair[0] != pair[1])
    lets = f"Linux {given['kernel']} lets the second group into the first's domain."
    if not differ:
        return f"The model makes one domain: the two units are alike, and {lets}"
    turned = {name: (other, one) for name, (one, other) in pairs.items()}
    if _count({**given, **turned}) > 1:
        return f"The model makes one domain: the units differ in {differ}, but {lets} Turn the pair round: what may the second unit lack?"
    later = next((kernel for kernel in ("5.19", "6.13", "7.3") if _count({**given, "kernel": kernel}) > 1), None)
    more = f"Linux {later} does not: the rule is younger than {given['kernel']}." if later else "Neither does 7.3 mind."
    return f"The model makes one domain: the units differ in {differ}, and {lets} {more}"


WIDTHS = {"0000:01:00.0": 48, "0000:02:00.0": 48, "0000:02:00.1": 48, "0000:03:00.0": 48, "0000:81:00.0": 39}
A, CARD, _, D, NARROW = WIDTHS
LOW, HIGH, GIB = 0x1_0000_0000, 1 << 40, 1 << 30


def _five() -> Host:
    m = MachineBuilder("five devices")
    wide, narrow = m.unit("dmar0", kind="intel-vtd"), m.unit("dmar1", kind="intel-vtd", width=39)
    for slot, (device, functions) in enumerate(((A, 1), (CARD, 2), (D, 1)), 1):
        m.endpoint(device, below=m.root_port(f"00:{slot:02x}.0", unit=wide), functions=functions)
    m.endpoint(NARROW, below=m.root_port("80:01.0", unit=narrow))
    host = m.host("7.3")
    for device in WIDTHS:
        host.bind(device)
    return host


def _wishes() -> Iterator[tuple[str, Wishes]]:
    places = {"low": LOW, "next": LOW + GIB, "third": LOW + 2 * GIB, "high": HIGH}
    for name, devices in stored("few-containers").items():
        wishes = [[(places[place], GIB, memory) for place, memory in map(str.split, wish)] for wish in devices]
        yield name, dict(zip(WIDTHS, wishes, strict=True))


def few_containers() -> Iterator[Case]:
    """Carry the learner's plan out, and compare with the fewest containers in which the model serves all wishes."""
    for name, wishes in _wishes():
        host = _five()
        groups = {device: group.id for device in wishes if (group := host.group_of(device)) is not None}
        words = f"({shown(dict(wishes))}, groups {groups}, widths {WIDTHS})"
        args = ({device: list(wish) for device, wish in wishes.items()}, dict(groups), dict(WIDTHS))
        yield Case(name, args, partial(_planned, wishes, groups), words)


def carried_out(wishes: Wishes, plan: Sequence[Sequence[str]]) -> tuple[str, Answer] | None:
    """Open a container for each part of a plan, attach and map; return the first call that is refused, and the answer."""
    host = _five()
    sizes = {name: size for wish in wishes.values() for _, size, name in wish}
    vaddrs = {name: host.process.mmap(size) for name, size in sizes.items()}
    for number, devices in enumerate(plan, 1):
        space = host.address_space()
        for device in devices:
            said = asked(space.attach, device) if host.group_of(device) not in [one.group for one in space.container.groups] else None
            if said is not None and said.error is not None:
                return f"container {number} cannot take {device}", said
        for iova, size, name in dict.fromkeys(wish for device in devices for wish in wishes[device]):
            said = asked(space.map, iova, size, name, vaddr=vaddrs[name])
            if said.error is not None:
                return f"container {number} cannot map {name!r} at {shown(iova)}", said
    return None


def _partitions(parts: Sequence[str]) -> Iterator[list[list[str]]]:
    if not parts:
        yield []
        return
    first, *rest = parts
    for found in _partitions(rest):
        for n, part in enumerate(found):
            yield [*found[:n], [first, *part], *found[n + 1 :]]
        yield [[first], *found]


def fewest(wishes: Wishes, groups: Mapping[str, int]) -> list[list[str]]:
    """Return a plan with the fewest containers that the model carries out: every division of the groups is tried, small ones first."""
    mates = {number: [device for device in wishes if groups[device] == number] for number in groups.values()}
    heads = [devices[0] for devices in mates.values()]
    for plan in sorted(_partitions(heads), key=len):
        whole = [[device for head in part for device in mates[groups[head]]] for part in plan]
        if carried_out(wishes, whole) is None:
            return whole
    raise ValueError("no plan serves these wishes")


def _planned(wishes: Wishes, groups: Mapping[str, int], came: object) -> str | None:
    plan = [listed(part, "of devices for each container") for part in listed(came, "of containers")]
    named = [device for part in plan for device in part]
    if strange := [device for device in named if not isinstance(device, str) or device not in wishes]:
        return f"{shown(strange[0])} is none of the five devices."
    if missing := [device for device in wishes if device not in named]:
        return f"{missing[0]} is in no container, and each of the five needs one."
    if double := [device for device in wishes if named.count(device) > 1]:
        return f"{double[0]} is in two containers; a group has one at a time."
    if not all(plan):
        return "One of the containers is empty."
    stuck = carried_out(wishes, plan)
    if stuck is not None:
        return f"In the model, {stuck[0]}: {stuck[1]}"
    best = fewest(wishes, groups)
    if len(plan) > len(best):
        return f"Every wish is served, with {len(plan)} containers. {len(best)} would do, for instance {best}."
    return None


def hot_add() -> Iterator[Case]:
    """Attach the learner's device to the learner's running space, and look at the answer."""
    for wanted in ("EINVAL", "EPERM", "another"):
        yield Case(wanted, (wanted,), partial(_added, wanted), f"({wanted!r})")


def _added(wanted: str, came: object) -> str | None:
    words = listed(came, "(space, device)")
    if len(words) != 2 or not isinstance(words[0], AddressSpace) or not isinstance(words[1], str):
        pair = "A pair is asked for: an address space, and the address of the device that is to join."
        raise WrongShapeError(f"{pair} It was {shown(came)}.")
    space, device = words
    if not space.groups:
        return "Nobody is in the address space yet. A hot-add comes to one that runs: attach a first device before you return it."
    name = device_name(space.host, device)
    if name not in space.host.drivers:
        return f"There is no device {device} on this machine."
    if any(name in one.group.devices for one in space.container.groups):
        return f"{device} is inside already, so this is no hot-add: its group came with an earlier attach."
    inside = space.groups
    said = asked(space.attach, device)
    if said.error is None:
        mapped = ", ".join(str(Span(row["start"], row["end"] + 1)) for row in space.mappings) or "nothing"
        return f"The model lets {device} join: nothing was in its way. Mapped is {mapped}. {_wish_words(wanted)}"
    found = errno(said)
    if wanted == "another" and found in {"EINVAL", "EPERM"}:
        return f"The model answers {said}. That errno you had: another one was asked for."
    if wanted not in {"another", found}:
        return f"The model answers {said}. {_wish_words(wanted)} Groups {list(inside)} were inside."
    return None


def _wish_words(wanted: str) -> str:
    return "Any errno but EINVAL and EPERM was asked for." if wanted == "another" else f"{wanted} was asked for."
