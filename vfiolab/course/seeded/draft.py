"""What a seeded problem is made of: code that a learner could type, the options, and who says afterwards why."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random

from vfiolab.course.predict import Option
from vfiolab.course.seeded.told import Names, Reasons, by_checks
from vfiolab.kit import Host, load
from vfiolab.kit.steps import call, word

__all__ = [
    "KERNELS", "NOW", "Draft", "Kind", "alone", "booted", "built", "buses", "comes_next", "elsewhere", "free_device", "loaded",
    "look", "pages", "short", "tried",
]  # fmt: skip

KERNELS = ("4.4", "5.10", "6.1", "6.12", "7.3")  # of these there are recordings
NOW = KERNELS[1:]  # those that know the usable iovas
ANSWER = 'truth = said.error.name if said.error else "0"'
UNITS = {"intel-vtd": "dmar", "amd-vi": "ivhd", "arm-smmu-v3": "smmu"}


@dataclass(frozen=True, slots=True)
class Draft:
    """One problem: `given` and then `asked` is its code, which leaves `truth`; `told` asks what they left for reasons.

    `others`: in words, the same problem elsewhere, as (what of the code is replaced, by what). `shows`: what is drawn.
    """

    question: str
    given: tuple[str, ...]
    asked: tuple[str, ...]
    options: tuple[Option, ...]
    told: Callable[[Names], Reasons]
    shows: str = "space.picture()"
    others: Mapping[str, tuple[str, str]] | None = None


Kind = Callable[[Random], Draft]


def short(device: str) -> str:
    """Return a device's address as people type it: without the domain 0000."""
    return device.removeprefix("0000:")


def pages(rng: Random, most: int = 256) -> int:
    """Return a number of bytes that is whole pages of 4 KiB, up to `most` of them."""
    return rng.randint(1, most) * 0x1000


def booted(machine: str, kernel: str) -> str:
    """Return the code that loads a machine of the kit."""
    return f"host = {call('vl.load', (machine,), {'kernel': kernel})}"


def loaded(machine: str, kernel: str, *steps: str, kind: int = 3) -> tuple[str, ...]:
    """Return the code that loads a machine, opens an address space, and takes some steps; those of the host come before the space."""
    return _opened((), booted(machine, kernel), steps, "kind=1" if kind == 1 else "")


def built(
    kernel: str, kind: str, units: Iterable[Mapping[str, object]], devices: Iterable[tuple[str, int]], *steps: str
) -> tuple[str, ...]:
    """Return the code that builds a machine of units, and of devices below a root port each, as (address, number of its unit).

    Then steps as in `loaded`; those of the builder come before the host.
    """
    made = ['m = vl.MachineBuilder("a machine")']
    made += [call("m.unit", (f"{UNITS[kind]}{number}",), {"kind": kind, **facts}) for number, facts in enumerate(units)]
    for device, number in devices:
        port = call("m.root_port", (f"00:{device[:2]}.0",), {"unit": f"{UNITS[kind]}{number}"})
        made.append(f"m.endpoint({word(device)}, below={port})")
    return _opened(made, f"host = m.host({word(kernel)})", steps)


def _opened(made: Iterable[str], host: str, steps: Sequence[str], kind: str = "") -> tuple[str, ...]:
    machines, hosts = ([step for step in steps if step.startswith(of)] for of in ("m.", "host."))
    spaces = [step for step in steps if step not in machines + hosts]
    return (*made, *machines, host, *hosts, f"space = host.address_space({kind})", *spaces)


def buses(rng: Random, number: int) -> list[str]:
    """Choose addresses for so many devices, in order, each on a bus of its own."""
    return [f"{bus:02x}:00.0" for bus in sorted(rng.sample(range(1, 0x20), number))]


@lru_cache(maxsize=128)
def look(machine: str, kernel: str) -> Host:
    """Load a machine to be looked at while a problem is made: nothing is done on it."""
    return load(machine, kernel)


def alone(host: Host, vectors: int = 0) -> list[str]:
    """List the devices that one can hand to a user without asking anybody else: each alone in its group, with so many vectors."""
    singles = [group.devices[0] for group in host.groups if len(group.devices) == 1 and not group.has_direct]
    known = [device for device in singles if device in host.topology and not host.drivers.enabled_vfs(device)]
    return [short(device) for device in known if host.topology[device].is_for_users and host.topology[device].msix >= vectors]


def free_device(rng: Random, machine: str, kernel: str, vectors: int = 0) -> str:
    """Choose a device of a machine that is alone in its group and has so many MSI-X vectors."""
    return rng.choice(alone(look(machine, kernel), vectors))


def tried(verb: str, *args: object, **named: object) -> str:
    """Return the code that asks a call for its answer."""
    return f"vl.answer({call(verb, args, named).replace('(', ', ', 1)}"


def comes_next(
    given: tuple[str, ...], verb: str, *args: object, options: tuple[Option, ...], named: Mapping[str, object] = {},
    others: Mapping[str, tuple[str, str]] | None = None,
) -> Draft:  # fmt: skip
    """Ask what the kernel answers to a call."""
    question = f"`{call(verb, args, named)}` comes next. What does the kernel answer? (0 is success.)"
    return Draft(question, given, (f"said = {tried(verb, *args, **named)}", ANSWER), options, by_checks, others=others)


def elsewhere(kernel: str, *others: str) -> dict[str, tuple[str, str]]:
    """Return the same problem on other kernels (by default on the oldest and the newest), for `Draft.others`."""
    return {f"on Linux {other}": (word(kernel), word(other)) for other in others or (KERNELS[0], KERNELS[-1]) if other != kernel}
