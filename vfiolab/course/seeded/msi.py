"""Problems on interrupts: which message a device has, where it arrives, and which call says no before."""

from __future__ import annotations

from random import Random

from vfiolab.course.predict import Option
from vfiolab.course.seeded.draft import ANSWER, Draft, Kind, built, elsewhere, free_device, loaded, pages, tried
from vfiolab.course.seeded.told import Names, Reasons, by_checks, by_journey
from vfiolab.draw import sentences
from vfiolab.kit.steps import call
from vfiolab.model.address import hexa
from vfiolab.model.iommu.unit import SOFTWARE_MSI, X86_MSI
from vfiolab.proposals import PROMISES, PROPOSALS, SCENARIOS

__all__ = ["MSI"]

ARM = ("one-smmu-its", "two-smmu-server", "two-smmu-mixed-stages")
X86 = ("intel-vtd-39bit", "intel-vtd-48bit-snoop", "amd-vi-server")
ERAS = ("4.4", "4.11", "5.10", "6.1", "6.12", "7.3")
BELL = 0x809_0040  # of the Arm machines
DRAWN = "space.picture() if trip is None else trip.picture()"
UNSAFE = 'host.set_param("vfio_iommu_type1.allow_unsafe_interrupts", "Y")'


def _its(
    rng: Random, kernel: str, *steps: str, devices: int = 1, units: int = 1, controller: str = "gicv3-its", **facts: object
) -> tuple[int, tuple[str, ...]]:
    """Return a doorbell's physical address, and the code of an Arm machine that has it, with units of such facts, and some steps."""
    bell = rng.randint(0x2000, 0x7FFF) * 0x1_0000 + rng.choice((0x40, 0x1040, 0x8040))
    places = [(f"{n + 1:02x}:00.0", n % units) for n in range(devices)]
    first, *lines = built(kernel, "arm-smmu-v3", [facts] * units, places, *steps)
    return bell, (first, f'm.interrupts(vl.InterruptController("{controller}", {bell:#_x}))', *lines)


def _message(rng: Random) -> Draft:
    kernel = rng.choice(("4.4", "4.4", "4.4", "4.4", "4.11", "5.10", "6.12", "7.3"))
    bell, given = _its(rng, kernel, 'space.attach("01:00.0")', 'space.enable_msi("01:00.0")')
    inside = SOFTWARE_MSI.start + bell % 0x1000
    options = tuple(dict.fromkeys(map(hexa, (bell, inside, SOFTWARE_MSI.start + 0x1000 + bell % 0x1000, X86_MSI.start + bell % 0x1000))))
    question = "Which address is in the message of the device's vector 0?"
    asked = ('truth = vl.hexa(space.messages[0]["address"])',)
    return Draft(question, given, asked, options, _why_address, others=elsewhere(kernel, "4.4", "6.12"))


def _why_address(names: Names) -> Reasons:
    row, bell = names["space"].messages[0], names["host"].interrupts.doorbell
    windows = {hexa(bell): "the doorbell's physical address", hexa(X86_MSI.start + bell % 0x1000): "in the window of x86"}
    page = "a page of the software window that is not the doorbell’s"
    return f"{row['why']}.", lambda option: f"That is {windows.get(str(option), page)}. {row['why']}."


def _raise(rng: Random) -> Draft:
    """RAM is mapped somewhere, and the device raises its interrupt."""
    arm, kernel = rng.random() < 0.75, rng.choice(("4.4", "4.4", "4.4", "4.11", "5.10", "6.12", "7.3"))
    machine = rng.choice(ARM if arm else X86)
    device = free_device(rng, machine, kernel, 1)
    places = (BELL & -0x1_0000, SOFTWARE_MSI.start, 0x4000_0000) if arm else (0, X86_MSI.start, 0x4000_0000)
    start = places[0] if kernel == "4.4" and rng.random() < 0.5 else rng.choice(places)
    size = 0x1_0000_0000 if start == 0 else 0x10_0000 + pages(rng)
    steps = (f"said = {tried('space.map', start, size, name='guest RAM')}", f"met = {tried('space.enable_msi', device)}")
    asked = (*(steps if rng.random() < 0.5 else steps[::-1]), f'trip = None if said.error or met.error else space.raise_msi("{device}")')
    first, then = (line.partition("vl.answer(")[2].replace(", ", "(", 1) for line in asked[:2])
    question = f"`{first}`, then `{then}`, then the device raises vector 0. What becomes of the message?"
    truth = ("said = met if met.error else said", 'truth = "a call is refused" if trip is None else trip.outcome')
    options = ("delivered", "lost", "corrupts", "a call is refused")
    given = loaded(machine, kernel, f'space.attach("{device}")')
    return Draft(question, given, (*asked, *truth), options, by_journey, DRAWN)


def _write(rng: Random) -> Draft:
    """Let a device write a packet into the user's memory, at or beside the place of messages."""
    machine = rng.choice((*X86, "hp-elitebook-630", "amd-matisse-desktop", "emerson-industrial"))
    kernel = rng.choice(("4.4", "4.4", "4.11", "4.11", "5.10", "6.12"))
    device = free_device(rng, machine, kernel)
    start, size = rng.choice(((0, 0x1_0000_0000), (0xFEC0_0000, 0x40_0000), (0x8000_0000, 0x7EE0_0000), (0xFEF0_0000, 0x100_0000)))
    at = rng.choice((X86_MSI.start, X86_MSI.last - 0xFFF)) + 4 * rng.randrange(512)
    if rng.random() < 0.35:
        at = rng.choice((start + size - 0x1000, start + 0x1000)) + 4 * rng.randrange(512)
    write = call("space.dma_write", (device, at, rng.randrange(1 << 16)))
    asked = (f"said = {tried('space.map', start, size, name='guest RAM')}", f"trip = None if said.error else {write}")
    question = f"`space.map({start:#_x}, {size:#_x})`, then the card writes a packet: `{write}`. What becomes of the bytes?"
    given = loaded(machine, kernel, f'space.attach("{device}")')
    truth = 'truth = "the map is refused" if trip is None else trip.outcome'
    options, others = ("memory", "lost", "refused", "fault", "the map is refused"), elsewhere(kernel, "4.4", "6.12")
    return Draft(question, given, (*asked, truth), options, by_journey, DRAWN, others)


def _forge(rng: Random) -> Draft:
    """Let a device write a message that nobody gave it."""
    kernel, kind, remaps = rng.choice(ERAS), rng.choice(("intel-vtd", "amd-vi")), rng.random() < 0.45
    units = [{} if remaps else {"isolated_msi": False}]
    given = built(kernel, kind, units, [("01:00.0", 0)], UNSAFE, 'space.attach("01:00.0")')
    at = (X86_MSI.start if rng.random() < 0.75 else 0xFED0_0000) + 4 * rng.randrange(1024)
    write = call("space.dma_write", ("01:00.0", at, rng.randint(0x20, 0xFE)))
    asked = ("said = None", f"trip = {write}", "truth = trip.outcome")
    how = "remaps interrupts" if remaps else "cannot remap interrupts (isolated_msi=False)"
    question = f"The unit {how}, and nothing is mapped. `{write}`: what comes of it?"
    return Draft(question, given, asked, ("delivered", "refused", "fault"), by_journey, DRAWN)


def _attach(rng: Random) -> Draft:
    """Whether a group may come whose interrupts nobody checks."""
    kernel, allowed, safe = rng.choice(ERAS), rng.random() < 0.2, rng.random() < 0.25
    steps = [UNSAFE] * allowed
    if rng.random() < 0.6:
        _, given = _its(rng, kernel, *steps, controller="gicv3-its" if safe else "gicv2m", isolated_msi=safe)
    else:
        given = built(kernel, "intel-vtd", [{"isolated_msi": safe}], [("01:00.0", 0)], *steps)
    asked = ('said = vl.answer(space.attach, "01:00.0")', ANSWER)
    question = '`space.attach("01:00.0")` comes next. What is the answer? (0: success. isolated_msi: somebody checks who sent a message.)'
    return Draft(question, given, asked, ("0", "EPERM", "EINVAL"), by_checks, others=elsewhere(kernel, "4.4", "6.12"))


def _doorbells(rng: Random) -> Draft:
    kernel, units, devices = rng.choice(("4.4", *ERAS[1:], "6.12")), rng.randint(1, 3), rng.randint(2, 4)
    _, lines = _its(rng, kernel, devices=devices, units=units)
    names = [f"{n + 1:02x}:00.0" for n in range(devices)]
    on = rng.sample(names, rng.randint(1, devices))
    enabled = [call("space.enable_msi", (device, rng.randint(1, 8))) for device in on]
    given = (*lines, call("space.attach", names), *enabled)
    asked = ("truth = sum(len(domain.doorbells) for domain in space.domains)",)
    return Draft("How many doorbell pages do the domains hold, all together?", given, asked, (0, 1, 2, 3), _why_pages)


def _why_pages(names: Names) -> Reasons:
    space, kernel = names["space"], names["host"].kernel
    held = "; ".join(f"D{d.number} of {d.unit.name} holds {', '.join(map(repr, d.doorbells)) or 'none'}" for d in space.domains[::-1])
    said = " ".join(sentences([made for made in names["host"].log.calls if made.verb == "set_irqs"]))
    return f"{said or f'Linux {kernel} maps no doorbell.'} {held}.", f"Count them: {held}."


STATIONS = {
    "leave the device": "write",
    "become a physical address": "translate",
    "reach the doorbell": "doorbell",
    "become an interrupt": "interrupt",
    "go over the bus": "route",
}


def _step(rng: Random) -> Draft:
    kernel, (what, kind) = rng.choice(ERAS[1:]), rng.choice(list(STATIONS.items()))
    machine = rng.choice(ARM)
    device = free_device(rng, machine, kernel, 1)
    given = loaded(machine, kernel, f'space.attach("{device}")', f'space.enable_msi("{device}")', f'trip = space.raise_msi("{device}")')
    asked = ("said = None", f'truth = [step.kind for step in trip.steps].index("{kind}") + 1')
    return Draft(f"At which step of the journey does the message {what}?", given, asked, (1, 2, 3, 4, 5), _why_step, "trip.picture()")


def _why_step(names: Names) -> Reasons:
    def why(step: Option) -> str:
        return f"Step {step}: {names['trip'].steps[int(step) - 1].why}."

    return why(names["truth"]), why


def _cell(rng: Random, *often: str) -> tuple[str, str, tuple[str, ...]]:
    name = rng.choice([*PROPOSALS, *often])
    scenario = rng.choice(["own-layout", "hot-add", "late-doorbell", "many-doorbells", "foreign-guest", "two-domains"])
    about = f"The design {name} ({PROPOSALS[name].title}) on the scenario “{SCENARIOS[scenario].words}”:"
    return about, name, (f'table = vl.debate(proposals=["{name}"], scenarios=["{scenario}"])', f'cell = table["{name}", "{scenario}"]')


def _proposal(rng: Random) -> Draft:
    about, _, run = _cell(rng)
    asked = (*run, 'truth = "a call is refused" if cell.errno else cell.outcome')
    options = ("delivered", "lost", "corrupts", "a call is refused")
    return Draft(f"{about} what becomes of what the device writes?", (), asked, options, _why_cell, "cell.picture()")


def _promise(rng: Random) -> Draft:
    about, _, run = _cell(rng)
    promise = rng.choice(("memory-untouched", "interrupt-arrives", "same-map", "user-owns-iova", "user-owns-iova", "user-owns-iova"))
    words = f"{about} is the promise {promise} ({PROMISES[promise]}) kept?"
    truth = f'truth = "broken" if "{promise}" in cell.broken else "kept"'
    return Draft(words, (), (*run, truth), ("kept", "broken"), _why_cell, "cell.picture()")


def _layers(rng: Random) -> Draft:
    about, name, run = _cell(rng, *["P1"] * 6)
    asked = (*run, f'truth = "yes" if table.edges["{name}"].forbidden else "no"')
    question = f"{about} does a lower layer reach up into a higher one, such as the interrupt code into VFIO?"
    return Draft(question, (), asked, ("yes", "no"), _why_layers, "")


def _why_cell(names: Names) -> Reasons:
    cell = names["cell"]
    broken = f" Promises broken: {', '.join(cell.broken)}." if cell.broken else " Every promise is kept."
    return f"{cell.sentence}: {cell.why}.{broken}", f"It came to this: {cell.word}. {cell.why}.{broken}"


def _why_layers(names: Names) -> Reasons:
    rows = "; ".join(f"{row['from']} to {row['to']} by {row['by']} (allowed: {row['allowed']})" for row in names["table"].layers)
    told = f"Who reached whom: {rows or 'nobody, in this run'}."
    return told, told


MSI: dict[str, Kind] = {
    "message": _message, "raise": _raise, "write": _write, "forge": _forge, "attach": _attach, "doorbells": _doorbells, "step": _step,
    "proposal": _proposal, "promise": _promise, "layers": _layers,
}  # fmt: skip
