"""Problems on domains: how many are kept, what outlives a group, and whether a group may come at all."""

from __future__ import annotations

from functools import partial
from random import Random
from typing import Any

from vfiolab.course.seeded.draft import KERNELS, Draft, Kind, alone, built, buses, comes_next, elsewhere, loaded, look, pages
from vfiolab.course.seeded.told import Names, Reasons, by_domains
from vfiolab.draw import sentences
from vfiolab.kit.steps import call
from vfiolab.model.address import hexa

__all__ = ["DOMAINS"]

MANY = "How many domains has the address space now?"
COUNT = ("truth = len(space.domains)",)
REAL = ("two-smmu-server", "two-smmu-mixed-stages", "two-smmu-server", "intel-vtd-39bit", "amd-renoir-laptop", "loongson-desktop")


def _attach(devices: list[str]) -> str:
    return call("space.attach", devices)


def _units(rng: Random) -> Draft:
    """Several units of one kind, or a real machine: SMMUs keep a domain for each unit, VT-d and AMD-Vi share."""
    kernel = rng.choice(KERNELS)
    if rng.random() < 0.4:
        machine = rng.choice(REAL)
        given = loaded(machine, kernel, _attach(rng.sample(alone(look(machine, kernel)), rng.randint(2, 3))))
        return Draft(MANY, given, COUNT, (1, 2, 3, 4), by_domains)
    kind, number = rng.choice(("arm-smmu-v3",) * 5 + ("intel-vtd", "amd-vi")), rng.randint(2, 4)
    places = [*range(number), *(rng.randrange(number) for _ in range(rng.randint(0, 2)))]
    devices = list(zip(buses(rng, len(places)), places, strict=True))
    joining = rng.sample([device for device, _ in devices], rng.randint(2, len(devices)))
    return Draft(MANY, built(kernel, kind, [{}] * number, devices, _attach(joining)), COUNT, (1, 2, 3, 4), by_domains)


def _facts(rng: Random, kernels: tuple[str, ...], name: str, values: tuple[Any, ...]) -> Draft:
    """VT-d units that differ in one fact, a device behind each."""
    kernel = rng.choice(kernels)
    chosen = rng.sample(values, 2) + [rng.choice(values) for _ in range(rng.randint(0, 1))]
    facts = [{name: value} for value in (chosen if rng.random() < 0.3 else sorted(chosen, reverse=True))]
    order = buses(rng, len(facts))
    devices = [(device, n) for n, device in enumerate(order)]
    rng.shuffle(order) if rng.random() < 0.3 else None
    given = built(kernel, "intel-vtd", facts, devices, _attach(order))
    return Draft(MANY, given, COUNT, (1, 2, 3), by_domains, others=elsewhere(kernel))


def _left(rng: Random) -> Draft:
    """Ask what is mapped when groups have gone: mappings outlive a domain, not the backend."""
    number, kernel = rng.randint(2, 4), rng.choice(KERNELS)
    mapped = [f"space.map({0x1000_0000 * (n + 1):#_x}, {pages(rng):#_x})" for n in range(number)]
    dropped = [f"space.unmap({0x1000_0000 * rng.randint(1, number):#_x})"] * rng.randint(0, 1)
    first, second = rng.sample(["01:00.0", "02:00.0", "21:00.0", "22:00.0"], 2)
    gone = [first, second] if rng.random() < 0.4 else [rng.choice((first, second))]
    steps = [f'space.attach("{first}", "{second}")', *mapped, *dropped, *(f'space.detach("{device}")' for device in gone)]
    back = f'space.attach("{gone[-1]}")'
    given = loaded("two-smmu-server", kernel, *steps, back)
    return Draft("How many mappings has the address space now?", given, ("truth = len(space.mappings)",), tuple(range(5)), _kept)


def _kept(names: Names) -> Reasons:
    calls = names["host"].log.calls
    first = next(n for n, made in enumerate(calls) if made.verb == "unset_container")
    gone = " ".join(sentences([made for made in calls[first:] if made.verb == "unset_container"]))
    now = ", ".join(map(hexa, names["space"].mappings["start"])) or "nothing"
    undone = " ".join(sentences([made for made in calls[:first] if made.verb == "unmap"]))
    return f"{gone} Mapped now: {now}.", f"{undone} {gone}".strip()


def _join(rng: Random) -> Draft:
    """Something is mapped, then a group comes whose unit or firmware wants another iova space."""
    kernel, case = rng.choice(KERNELS), rng.choice(("width", "window", "width", "window", "firmware"))
    old, new = buses(rng, 2)
    extra, first, kind, places, at = "", _attach([old]), "intel-vtd", [(old, 0), (new, 0)], 0
    units: list[dict[str, int]] = [{}]
    if case == "firmware":
        kind = rng.choice(("intel-vtd", "amd-vi", "arm-smmu-v3"))
        start = 0x10_0000 * rng.randint(1, 100)
        extra = call("m.region", (new, start, start + pages(rng) - 1))
        at, size = start + rng.choice((0, 0x1000_0000)), pages(rng)
    elif case == "width":
        bits = rng.choice((39, 48))
        units, places = [{"width": 57}, {"width": bits}], [(old, 0), (new, 1)]
        at, size = (1 << bits) - rng.choice((0x1_0000_0000, 0)), pages(rng)
    else:
        extra, first, places = 'm.mdev("mdev0")', _attach(["mdev0"]), [(new, 0)]
        size = rng.choice((0xFEE0_0000, 0x1_0000_0000, 0xFEE0_0000 + pages(rng)))
    mapped = call("space.map", (at, size), {"name": "guest RAM"})
    given = built(kernel, kind, units, places, *filter(None, (extra, first, mapped)))
    return comes_next(given, "space.attach", new, options=("0", "EINVAL", "EPERM", "EFAULT"), others=elsewhere(kernel))


DOMAINS: dict[str, Kind] = {
    "units": _units, "snoop": partial(_facts, kernels=("4.4", "5.10", "6.1", "6.12"), name="snoop_control", values=(True, False)),
    "width": partial(_facts, kernels=("7.3", "7.3", "7.3", "7.3", "6.12", "4.4"), name="width", values=(39, 48, 57)),
    "left": _left, "join": _join,
}  # fmt: skip
