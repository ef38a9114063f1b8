"""Problems on groups: how many there are, who is together, and whether a user may have one."""

from __future__ import annotations

from functools import partial
from random import Random

from vfiolab._text import count
from vfiolab.course.predict import Option
from vfiolab.course.seeded.draft import ANSWER, KERNELS, Draft, Kind, booted, elsewhere, loaded, look, short, tried
from vfiolab.course.seeded.told import Names, Reasons, by_checks, by_group
from vfiolab.kit import Host
from vfiolab.kit.steps import call, word

__all__ = ["GROUPS"]

REAL = (
    "amd-family15h-laptop", "amd-matisse-desktop", "amd-renoir-laptop", "amd-vi-server", "apple-macmini-2018-egpu", "emerson-industrial",
    "hp-elitebook-630", "intel-alderlake-vmd", "intel-skylake-plx-switch", "intel-vtd-39bit", "lenovo-thinkpad-amd", "loongson-desktop",
    "virtio-iommu-guest",
)  # fmt: skip
Tree = partial(Draft, shows="vl.topology(host)")
OVERRIDE = ("pcie_acs_override=downstream", "pcie_acs_override=multifunction", "pcie_acs_override=downstream,multifunction")


def _switch(rng: Random) -> tuple[list[str], tuple[str, ...]]:
    """Return the devices and the code of a machine with root ports and a switch, with ACS or without."""
    slots, ports = rng.randint(2, 4), rng.randint(0, 2)
    acs = [rng.choice((True, False)) for _ in range(3)]
    lines = [
        'm = vl.MachineBuilder("a switch and cards")', 'unit = m.unit("dmar0", kind="intel-vtd")',
        f'switch = m.upstream("02:00.0", below=m.root_port("00:01.0", unit=unit, acs={acs[0]}))',
        f'for n in range({slots}): m.endpoint(f"{{n + 4:02x}}:00.0", below=m.downstream(f"03:{{n:02x}}.0", below=switch, acs={acs[1]}))',
    ]  # fmt: skip
    devices = ["00:01.0", "02:00.0", *(f"03:{n:02x}.0" for n in range(slots)), *(f"{n + 4:02x}:00.0" for n in range(slots))]
    if ports:
        port = f'm.root_port(f"00:02.{{n}}", unit=unit, acs={acs[2]})'
        lines.append(f'for n in range({ports}): m.endpoint(f"{{n + 16:02x}}:00.0", below={port})')
        devices += [bdf for n in range(ports) for bdf in (f"00:02.{n}", f"{n + 16:02x}:00.0")]
    return devices, (*lines, f'host = m.host("{rng.choice(KERNELS)}")')


def _number(rng: Random) -> Draft:
    devices, given = _switch(rng)
    slots, ports = (sum(device[:2] == first for device in devices) for first in ("03", "00"))
    beside = {1, 2 * (ports - 1)} if ports > 1 else {0}
    options = tuple(sorted({one + other for one in (1, 2 + slots, 2 + 2 * slots) for other in beside}))
    asked = ("about = host.groups[-1].devices[0]", "truth = len(host.groups)")
    return Tree("How many groups are there?", given, asked, options, _why_number)


def _why_number(names: Names) -> Reasons:
    host = names["host"]
    found = [host.why(group.devices[0]) for group in host.groups]
    first = [str(one.steps[-1]) for one in found if one.steps]
    joins = [str(step) for one in found for step in one.joins() if step.joins]

    def why(option: Option) -> str:
        if int(option) > names["truth"]:
            return f"For more groups, a join would have to go: {joins[0]}."
        return f"For fewer, one of these would have to join another: {'; '.join(first[-3:])}."

    return f"{'; '.join(first)}.", why


def _real(rng: Random) -> tuple[Host, tuple[str, ...]]:
    """Choose a real machine and a kernel; return the host and the code that loads it."""
    machine, kernel = rng.choice(REAL), rng.choice(KERNELS)
    return look(machine, kernel), (booted(machine, kernel),)


def _mates(rng: Random) -> Draft:
    host, given = _real(rng)
    sizes = [len(group.devices) - 1 for group in host.groups]
    group = rng.choice([group for group in host.groups if group.id >= 0 and (len(group.devices) > 1 or rng.random() < 0.2)])
    about = rng.choice(group.devices)
    options = tuple(sorted({0, 1, len(group.devices) - 1, max(sizes), rng.randint(2, 6)}))
    question = f"With how many other functions does {short(about)} share its group?"
    asked = (f"about = {word(about)}", "truth = len(host.group_of(about).devices) - 1")
    return Tree(question, given, asked, options, by_group)


def _together(rng: Random) -> Draft:
    host, given = _real(rng)
    big = [group for group in host.groups if len(group.devices) > 1]
    group = rng.choice(big)
    about, *mates = rng.sample(group.devices, len(group.devices))
    strangers = rng.sample([bdf for other in host.groups if other is not group for bdf in other.devices], 3)
    shown = sorted([*strangers[: rng.randint(2, 3)], mates[0]] if rng.random() < 0.75 else strangers)
    mates_of = f"mates = host.group_of({word(about)}).devices"
    asked = (f"about = {word(about)}", mates_of, f'truth = next((one for one in {shown!r} if one in mates), "none of them")')
    return Tree(f"Which of these is in the group of {about}?", given, asked, (*shown, "none of them"), by_group)


def _changed(rng: Random) -> Draft:
    """Ask what a boot parameter, or a port that loses its ACS, does to the number of groups."""
    host, given = _real(rng)
    ports = [short(bdf) for bdf, function in host.topology.items() if function.is_bridge and function.acs is not None]
    change = {"options": rng.choice(OVERRIDE)} if not ports or rng.random() < 0.65 else {"drop_acs": rng.choice(ports)}
    asked = (f"found = {call('host.what_if', named=change)}", "before, after = len(found.before.groups), len(found.after.groups)")
    truth = 'truth = "more" if after > before else "fewer" if after < before else "as many"'
    option, port = change.get("options"), change.get("drop_acs")
    what = f"The kernel is booted with {option}." if option else f"The port {port} loses its ACS capability."
    question = f"{what} Are there more groups then, fewer, or as many?"
    return Draft(question, given, (*asked, truth), ("more", "as many", "fewer"), _why_change, "found.picture()")


def _why_change(names: Names) -> Reasons:
    found = names["found"]
    changed = [f"{count(len(one.group), 'function')} came apart: {one.because}" for one in found.split]
    changed += [f"{count(len(one.into), 'function')} came together: {one.because}" for one in found.merged]
    because = "; ".join([f"{len(found.before.groups)} groups before, {len(found.after.groups)} after", *changed, *found.notes]) + "."
    if not changed:
        because += " No join of any group rests on what was changed."
    return because, because


def _may_have(rng: Random) -> Draft:
    """Whether a user may have a device of a group after some binds: asked at the join since 5.19, before at the open."""
    machine, kernel = rng.choice(("intel-vtd-39bit", "intel-vtd-48bit-snoop", "amd-vi-server", "intel-vtd-kernel-4.4")), rng.choice(KERNELS)
    host = look(machine, kernel)
    candidates = [group for group in host.groups if 1 < len(group.native) < 5 and not group.has_direct]
    users = [bdf for bdf in rng.choice(candidates).devices if host.topology[bdf].is_for_users]
    wanted, *others = rng.sample(users, len(users))
    acts = [call("host.bind", (short(bdf), rng.choice(("vfio-pci", "pci-stub")))) for bdf in others]
    acts = rng.sample(acts, len(acts) if rng.random() < 0.4 else rng.randrange(len(acts)))
    device, given = short(wanted), loaded(machine, kernel, *acts)
    asked = (f"said = {tried('space.attach', device)}", f"if not said.error: said = {tried('space.open', device)}", ANSWER)
    named = ", ".join(f"{short(bdf)} on {host.drivers.driver_of(bdf) or 'no driver'}" for bdf in sorted(others))
    rest = f"At boot, the rest of the group of {device} is {named}."
    question = f"{rest} A user attaches {device} and opens it. What is the answer? (0: success.)"
    return Tree(question, given, asked, ("0", "EPERM", "EINVAL"), by_checks, others=elsewhere(kernel, "5.10", "6.12"))


DRIVERS = ("e1000e", "nouveau", "snd_hda_intel", "pci-stub", None, "vfio-pci")


def _native(rng: Random) -> Draft:
    drivers = [rng.choice(DRIVERS) for _ in range(rng.randint(3, 6))]
    lines = ['m = vl.MachineBuilder("one group")', 'unit = m.unit("dmar0", kind="intel-vtd")']
    for n, driver in enumerate(drivers):
        lines.append(f'm.endpoint("{n + 1:02x}:00.0", below=m.root_port("00:01.{n}", unit=unit, acs=False), driver={word(driver)})')
    given = (*lines, f'host = m.host("{rng.choice(KERNELS)}")')
    asked = ('about = "0000:01:00.0"', 'host.bind("01:00.0")', "truth = len(host.group_of(about).native)")
    question = "01:00.0 goes to vfio-pci. How many others of its group must still lose the driver that they have?"
    return Tree(question, given, asked, (0, 1, 2, 3, 4, 5), _why_native)


def _why_native(names: Names) -> Reasons:
    host = names["host"]
    native, mates = host.group_of(names["about"]).native, host.mates(names["about"])
    uses = dict.fromkeys(native, "uses the DMA of the kernel")
    listed = "; ".join(f"{short(row['device'])} on {row['driver']}: {uses.get(row['device'], 'not in the way')}" for row in mates)
    return f"{listed}.", f"Count them: {listed}."


def _bind(rng: Random) -> Draft:
    """Ask what a write to a driver's bind or unbind answers while a user has the group, or of a bridge."""
    kernel, case = rng.choice(KERNELS), rng.choice(("back", "back", "last", "bridge", "stub"))
    machine = rng.choice(("intel-vtd-39bit", "intel-vtd-48bit-snoop", "amd-vi-server"))
    host = look(machine, kernel)
    groups = [group.devices for group in host.groups if 1 < len(group.devices) < 4 and not group.has_direct]
    pairs = [devices for devices in groups if all(host.topology[bdf].is_for_users for bdf in devices)]
    one, other, *_ = (short(bdf) for bdf in rng.choice(pairs))
    acts = [call("host.bind", (short(bdf),)) for bdf in next(p for p in pairs if f"0000:{one}" in p)]
    inside, verb, args = one, "host.bind", [other, "pci-stub" if case == "stub" else "e1000e"]
    if case == "last":
        singles = [group.devices[0] for group in host.groups if len(group.devices) == 1]
        inside = short(next(bdf for bdf in singles if host.topology[bdf].is_for_users))
        acts, verb, args = [], "host.unbind", [inside]
    given = loaded(machine, kernel, *acts, call("space.attach", (inside,)))
    if case == "bridge":
        bridge = rng.choice([short(bdf) for bdf, function in host.topology.items() if function.is_bridge])
        given, args = (booted(machine, kernel),), [bridge]
    asked = (f"said = {tried(verb, *args)}", 'truth = str(said).partition(":")[0]')
    question = f"`{call(verb, args)}` comes next. What happens? (0 is success.)"
    options = ("0", "EBUSY", "EINVAL", "ENODEV", "the kernel dies", "waits")
    return Tree(question, given, asked, options, _why_bind, others=elsewhere(kernel, "5.10", "6.12"))


def _why_bind(names: Names) -> Reasons:
    never = {"the kernel dies": "Nothing here makes this kernel stop.", "waits": "Nothing here makes this kernel wait."}
    if names["truth"] in never:
        because = str(names["said"]).partition(": ")[2] + "."
        return because, f"This kernel never answers: {because}"
    because, by_check = by_checks(names)
    return because, lambda option: never.get(str(option)) or (by_check if isinstance(by_check, str) else by_check(option))


def _alike(rng: Random) -> Draft:
    host, given = _real(rng)
    known = [function for function in host.topology.values() if function.ids is not None and not function.is_bridge]
    alike = [function.bdf for function in known if sum(other.ids == function.ids for other in known) > 1]
    about = rng.choice(alike if alike and rng.random() < 0.6 else [function.bdf for function in known])
    vendor, device = host.topology[about].ids or (0, 0)
    options = tuple(sorted({1, 2, 3, sum(function.ids == (vendor, device) for function in host.topology.values()), rng.randint(4, 9)}))
    alike_code = "alike = [f.bdf for f in host.topology.values() if f.ids == host.topology[about].ids]"
    asked = (f"about = {word(about)}", alike_code, "truth = len(alike)")
    question = f"{short(about)} is {vendor:04x}:{device:04x}. How many functions of this machine does `ids={vendor:04x}:{device:04x}` mean?"
    return Tree(question, given, asked, options, _why_alike)


def _why_alike(names: Names) -> Reasons:
    listed = ", ".join(map(short, names["alike"]))
    return f"These have the same vendor and device: {listed}.", f"Count them: {listed}."


GROUPS: dict[str, Kind] = {
    "number": _number, "mates": _mates, "together": _together, "changed": _changed, "viable": _may_have, "native": _native, "bind": _bind,
    "alike": _alike,
}  # fmt: skip
