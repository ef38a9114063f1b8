"""Problems on iovas: what MAP and UNMAP answer, which ranges are left, what a device reaches."""

from __future__ import annotations

from random import Random

from vfiolab.course.captures import real_regions
from vfiolab.course.seeded.draft import KERNELS, NOW, Draft, Kind, built, buses, comes_next, elsewhere, free_device, loaded, pages, tried
from vfiolab.course.seeded.told import Names, Reasons, by_checks, by_journey
from vfiolab.draw import info_reply, sentences
from vfiolab.kit.steps import call, word
from vfiolab.model.address import Span, human_size
from vfiolab.model.iommu.unit import SOFTWARE_MSI, X86_MSI

__all__ = ["IOVA"]

VTD = {"intel-vtd-39bit": 39, "intel-vtd-48bit-snoop": 48, "hp-elitebook-630": 39, "intel-skylake-plx-switch": 39}
X86 = (*VTD, "amd-vi-server", "amd-matisse-desktop", "emerson-industrial")
ARM = ("two-smmu-server", "one-smmu-its", "nxp-ls1028a-enetc")
RAM = 'space.map(0x4000_0000, 0x4000_0000, name="RAM")'
FULL = 'host.set_param("vfio_iommu_type1.dma_entry_limit", 1)'
LOCKED = ("host.process.drop_capability(14)", f"host.process.set_memlock({0x10_0000:#_x})")
BAD = 0x10_0000  # where this process has no memory
COMPAT = ("EINVAL", "EEXIST", "ENOENT", "ENODEV", "EADDRINUSE")
ERRNOS = ("0", "EINVAL", "EEXIST", "ENOSPC", "EFAULT", "ENOMEM")


def _host(rng: Random, machines: tuple[str, ...], kernels: tuple[str, ...], *steps: str, kind: int = 3) -> tuple[str, str, tuple[str, ...]]:
    """Choose a machine and a kernel, and return them with the code up to an attached device and some steps."""
    machine, kernel = rng.choice(machines), rng.choice(kernels)
    return machine, kernel, loaded(machine, kernel, f'space.attach("{free_device(rng, machine, kernel)}")', *steps, kind=kind)


def _window(machine: str) -> Span:
    return SOFTWARE_MSI if machine in ARM else X86_MSI


def _spoiled(rng: Random, mistakes: tuple[str, ...], *steps: str, options: tuple[str, ...]) -> Draft:
    """Make a map call in free space, but for what `mistakes` name: over the RAM, at the window's edge, odd numbers, and so on."""
    machine, _, given = _host(rng, X86 + ARM, NOW, *steps)
    window = _window(machine)
    iova, size = (0x4000_0000 + pages(rng, 0x30000) if "over" in mistakes else 0x1_0000_0000 + pages(rng, 0x10000)), pages(rng)
    if "edge" in mistakes:
        iova = rng.choice((window.start - size, window.end))
    if "window" in mistakes:
        iova, size = window.start + rng.choice((0, 0x1000, -0x1000)), size + 0x1000
    if "odd" in mistakes:
        iova, size = rng.choice(((iova + 0x200, size), (iova, size + 0x800), (iova, size + 1)))
    if "locked" in mistakes:
        size = rng.choice((0x8_0000, 0x10_0000, 0x10_1000, 0x20_0000))
    return comes_next(given, "space.map", iova, size, options=options, named={"vaddr": BAD} if "bad" in mistakes else {})


def _one_call(rng: Random) -> Draft:
    """One map call, accepted or with one mistake."""
    case = rng.choice(("free", "free", "edge", "over", "over", "odd", "window", "full", "bad", "bad", "locked", "locked"))
    needs = {"full": (FULL, RAM), "over": (RAM,), "locked": LOCKED}
    return _spoiled(rng, (case,), *(needs[case] if case in needs else (RAM,) * (rng.random() < 0.5)), options=ERRNOS)


def _two_mistakes(rng: Random) -> Draft:
    """One map call with two mistakes: the check that comes first is the answer."""
    both = rng.choice((("odd", "over"), ("odd", "full"), ("over", "full"), ("over", "bad"), ("full", "window"), ("full", "bad"),
                       ("window", "bad"), ("over", "full")))  # fmt: skip
    steps = (*[FULL] * ("full" in both), *[RAM] * (both != ("window", "bad")))
    return _spoiled(rng, both, *steps, options=ERRNOS[1:5])


def _at_window(rng: Random) -> Draft:
    """Make a map call near the MSI window, on kernels with and without a list of usable ranges."""
    machine, kernel, given = _host(rng, X86 + ARM, ("4.4", *NOW))
    window, size = _window(machine), pages(rng, 4096)
    into = rng.random() < 0.7
    iova = (
        rng.choice((0, window.start - size, window.start, window.end - 0x1000)) if into else rng.choice((window.start - size, window.end))
    )
    size += 0x1000 * into if iova else window.end
    others = elsewhere(kernel, "4.4", "6.12")
    return comes_next(given, "space.map", iova, size, options=("0", "EINVAL", "EEXIST"), others=others)


def _at_the_end(rng: Random) -> Draft:
    """Make a map call near the last iova that a VT-d unit translates."""
    machine, _kernel, given = _host(rng, tuple(VTD), ("4.4", "4.4", "5.10", "6.12", "7.3"))
    size = pages(rng)
    iova = (1 << VTD[machine]) - rng.choice((size, size - 0x1000, 0, -0x10_0000))
    return comes_next(given, "space.map", iova, size, options=("0", "EINVAL", "EFAULT"))


def _unmap(rng: Random) -> Draft:
    """Two mappings side by side, and an unmap call that fits them or does not: version 2 removes whole ones or refuses."""
    kind, first, second = rng.choice((1, 3)), pages(rng) * 2, pages(rng) * 2
    start = 0x1000_0000 * rng.randint(1, 9)
    steps = (f'space.map({start:#_x}, {first:#_x}, "A")', f'space.map({start + first:#_x}, {second:#_x}, "B")')
    _, _, given = _host(rng, X86 + ARM, KERNELS, *steps, kind=kind)
    half = first // 2
    iova, size = rng.choice(((start, half), (start, first), (start, first + second), (start + half, half), (start, first + second // 2),
                             (start + half, half + second), (start + first, second)))  # fmt: skip
    options = ("0", *sorted({str(first), str(second), str(first + second), str(size)}, key=int), "EINVAL")
    version = "type1 v2" if kind == 3 else "type1 version 1 (kind=1)"
    made = call("space.unmap", (iova, size))
    question = f"{version}: `{made}` comes next. How many bytes does the kernel unmap, or what does it answer?"
    turned = ("address_space(kind=1)", "address_space()") if kind == 1 else ("address_space()", "address_space(kind=1)")
    others = {"on type1 v2" if kind == 1 else "on type1 version 1": turned}
    truth = "truth = said.error.name if said.error else str(said)"
    return Draft(question, given, (f"said = {tried('space.unmap', iova, size)}", truth), options, by_checks, others=others)


def _two_processes(rng: Random) -> Draft:
    """Let the mappings be of a parent and a child in one container, and an unmap call over both."""
    kernel, who = rng.choice(("5.10", "5.15", "6.1", "6.12")), rng.choice(("space", "child"))
    first, second = rng.sample(range(1, 64), 2)
    sizes = [first * 0x1000, second * 0x1000]
    order = rng.sample(["space", "child"], 2)
    steps = [f"{owner}.map({0x10_0000 * (n + 1):#_x}, {size:#_x})" for n, (owner, size) in enumerate(zip(order, sizes, strict=True))]
    machine = rng.choice(X86)
    attach = f'space.attach("{free_device(rng, machine, kernel)}")'
    given = loaded(machine, kernel, attach, 'child = space.fork("P")', *steps)
    question = f'The child shares the container. `{who}.unmap(0, "1G")` comes next. How many bytes does it unmap?'
    asked = (f'said = vl.answer({who}.unmap, 0, "1G")', "truth = int(str(said))")
    options = tuple(sorted({0, *sizes, sum(sizes)}))
    return Draft(question, given, asked, options, _bytes, others=elsewhere(kernel, "5.15", "6.1"))


def _bytes(names: Names) -> Reasons:
    did = " ".join(sentences(names["host"].log.calls[-1:])) or "Nothing was unmapped."
    left = ", ".join(
        f"{row['start']} (made by {dma.process or 'the first process'})"
        for row, dma in zip(names["space"].mappings, names["space"].container.backend.dmas, strict=True)
    )
    because = f"{did} {f'Still mapped: {left}.' if left else 'No mapping is left.'}"
    return because, lambda option: f"{human_size(int(option)) if option else 'Nothing'} is not what went away. {did}"


def _entries(rng: Random) -> Draft:
    number = rng.randint(1, 4)
    iova = 0x4000_0000 * rng.randint(4, 30) + rng.choice((0, 0x20_0000, 0x1000)) * rng.randint(1, 9)
    size = number * 0x4000_0000
    machines = ("intel-vtd-39bit", "intel-vtd-48bit-snoop", "one-smmu-its")
    _, _, given = _host(rng, machines, ("6.12", "7.3"), f"space.map({iova:#_x}, {size:#_x})")
    table = f"table = vl.page_table(space.domains[0], {iova:#_x}).table"
    pieces = "The memory is one piece; the unit has pages of 4 KiB, 2 MiB and 1 GiB."
    question = f"{pieces} How many page-table entries hold the {human_size(size)}?"
    return Draft(question, given, (table, "truth = sum(int(row[3]) for row in table)"), (number, number * 512, number << 18), _runs)


def _runs(names: Names) -> Reasons:
    runs = "; ".join(f"{number} of {size} from {iova} on ({why})" for iova, _, size, number, why in names["table"])
    return f"{runs}.", lambda option: f"{option} would be entries of another size. Chosen were {runs}."


WANT = ("none", "direct", "direct-relaxable")


def _usable(rng: Random) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    kernel, kind, word = rng.choice(("4.4", *NOW)), rng.choice(("intel-vtd", "amd-vi", "arm-smmu-v3")), rng.choice(WANT)
    if word == "direct" and (kind == "intel-vtd" or kernel not in {"5.10", "6.1"}):
        kernel, kind = rng.choice(("5.10", "6.1")), rng.choice(("amd-vi", "arm-smmu-v3"))
    machine = rng.choice({"intel-vtd": tuple(VTD), "amd-vi": X86[4:], "arm-smmu-v3": ARM}[kind])
    if word == "none":
        return kernel, loaded(machine, kernel), (f'space.attach("{free_device(rng, machine, kernel)}")',)
    made = f'host = vl.course.firmware_host("{kind}", "{kernel}", "{word}")'
    return kernel, (made, "space = host.address_space()"), ('space.attach("01:00.0")', 'space.attach("02:00.0")')


def _ranges(rng: Random) -> Draft:
    kernel, made, steps = _usable(rng)
    question, asked = "How many usable iova ranges does the kernel list?", ("truth = len(space.iova_ranges)",)
    return Draft(question, (*made, *steps), asked, (0, 1, 2, 3, 4), _holes, others=elsewhere(kernel, "4.4"))


def _holes(names: Names) -> Reasons:
    space, kernel = names["space"], names["host"].kernel
    regions = sorted({region for group in names["host"].groups if group.id in space.groups for region in group.reserved})
    lost = ", ".join(str(region.span) for region in regions if region.kind != "direct-relaxable")
    left = ", ".join(map(str, space.iova_ranges))
    cut = f"Cut out of the list: {lost}." if left else f"Linux {kernel} has no such list."
    stays = [f"{region.words} stays in the list: VFIO leaves such regions out." for region in regions if region.kind == "direct-relaxable"]
    return " ".join([cut, *stays, *[f"What is left: {left}."] * bool(left)]), " ".join([cut, *stays])


def _info(rng: Random) -> Draft:
    kernel, made, steps = _usable(rng)
    fixed = 84 if kernel in {"5.10", "6.1"} else 88
    options = (24, *(fixed + 16 * number for number in (1, 2, 3, 4)))
    question = (
        "`space.container.get_info(24)` comes next: argsz has room for the fixed fields alone. Which argsz does the kernel write back?"
    )
    return Draft(question, (*made, *steps), ("truth = space.container.get_info(24).argsz",), options, _chain)


def _chain(names: Names) -> Reasons:
    answer = names["space"].container.get_info()
    parts = "; ".join(f"{size} bytes from {at} on: {what}" for at, size, what in info_reply(answer).table)
    ends = f"The chain of this container ends at byte {names['truth']}, with {len(answer.ranges)} usable ranges of 16 bytes in it."
    bare = f"Linux {names['host'].kernel} has no chain of capabilities."
    return f"With room for all, the answer is: {parts}.", bare if names["truth"] == 24 else ends


def _back(rng: Random) -> Draft:
    """How far the usable iovas reach when a unit of another width has come and gone."""
    kernel = rng.choice(("5.10", "6.1", "6.12", "7.3", "7.3"))
    widths = [{"width": bits} for bits in rng.sample(rng.choice(((39, 48), (39, 57), (48, 57), (48, 57))), 2)]
    first, second = buses(rng, 2)
    steps = call("space.attach", (first, second)), call("space.detach", (rng.choice((first, second, second)),))
    given = built(kernel, "intel-vtd", widths, [(first, 0), (second, 1)], *steps)
    question = "Up to how many bits do the usable iovas reach now?"
    asked = ("truth = space.iova_ranges[-1].last.bit_length()",)
    return Draft(question, given, asked, (39, 48, 57), _widths, others=elsewhere(kernel, "6.12", "7.3"))


def _widths(names: Names) -> Reasons:
    joined = [made for made in names["host"].log.calls if made.verb in {"set_container", "set_iommu", "unset_container"}]
    live = ", ".join(f"D{domain.number}, made for {domain.width} bits and now {domain.aperture}" for domain in names["space"].domains)
    return f"{' '.join(sentences(joined[1:]))} Alive: {live}.", f"What a domain reaches is what its tables were made for. Alive: {live}."


def _real(rng: Random) -> Draft:
    machine = rng.choice(sorted({str(row["machine"]) for row in real_regions()}))
    start, size = rng.choice((0, 0x4000_0000, 0x1_0000_0000, 0x8_0000_0000)), rng.choice(("2G", "4G", "16G", "1T"))
    ram = f'ram = vl.Span.sized({start:#_x}, vl.parse_size("{size}"))'
    rows = f'rows = [row for row in vl.course.real_regions(ram) if row["machine"] == {word(machine)}]'
    question = f"How many regions of the machine “{machine}” are in the way of a guest's RAM of {size} from {start:#_x} on?"
    return Draft(question, (ram,), (rows, 'truth = sum(row["in the way"] == "yes" for row in rows)'), (0, 1, 2, 3), _rows, shows="")


def _rows(names: Names) -> Reasons:
    listed = "; ".join(f"{row['first']}-{row['last']} {row['word']}: {row['in the way']}" for row in names["rows"])
    return f"The RAM is {names['ram']}. In its way? {listed}.", f"Count where it says yes: {listed}."


def _dma(rng: Random) -> Draft:
    """Ask what becomes of a device's read or write: it reaches what is mapped, as the rights say."""
    base, size, rights = 0x1000_0000 * rng.randint(4, 14), pages(rng, 64), rng.choice(("rw", "rw", "r", "w"))
    _machine, _, given = _host(rng, X86 + ARM, KERNELS, f'space.map({base:#_x}, {size:#_x}, name="RAM", rights="{rights}")')
    device = given[-2].split('"')[1]
    at = base + (rng.randrange(0, size, 16) if rng.random() < 0.65 else rng.choice((-16, size, 0x800_0000)))
    verb = rng.choice(("space.dma_read", "space.dma_write"))
    read = call(verb, (device, at))
    asked = ("said = None", f"trip = {read}", "truth = trip.outcome")
    question = f"`{read}` comes next. What becomes of it?"
    return Draft(question, given, asked, ("memory", "fault", "lost"), by_journey, shows="trip.picture()")


def _compat(rng: Random) -> Draft:
    """Take the same steps with type1 and with iommufd's layer behind the same descriptor."""
    kernel, kind, at, size = rng.choice(("6.12", "7.3")), rng.choice((1, 3)), 0x1000_0000 * rng.randint(1, 9), pages(rng) * 2
    attach, opened, mapped = 'space.attach("01:00.0")', 'space.open("01:00.0")', f"space.map({at:#_x}, {size:#_x})"
    covering = (0xFEF0_0000 - size, size)
    steps, verb, *args = rng.choice((
        ((), "space.container.set_iommu", kind), ((), "space.container.set_iommu", kind),
        ((attach, opened, mapped), "space.map", at + size // 2, size), ((attach, mapped), "space.map", at + size // 2, size),
        ((attach,), "space.map", *covering), ((attach, opened), "space.map", *covering),
        ((attach, mapped), "space.container.unmap_dma", at, size // 2), ((attach, mapped), "space.container.unmap_dma", at, size // 2),
        ((attach,), "space.map", at, size - 0x800), ((attach, tried("space.map", *covering)), "space.open", "01:00.0"),
    ))  # fmt: skip
    asked = tried(verb, *args)
    given = (f'said, pair = [], vl.course.twins("{kernel}", kind={kind})', "for space in pair:", *(f"    {step}" for step in steps))
    made = f"`{call(verb, args)}`"
    question = f"The second of the pair is iommufd's layer, and {made} comes last. What does the layer answer? (A number: bytes removed.)"
    options = ("0", *((str(size // 2), str(size)) if verb.endswith("unmap_dma") else ()), *COMPAT)
    truth = f"truth = said[1].error.name if said[1].error else {'str(said[1])' if verb.endswith('unmap_dma') else word('0')}"
    return Draft(question, given, (f"    said.append({asked})", truth), options, _both, shows="pair[1].picture()")


def _both(names: Names) -> Reasons:
    type1, layer = names["said"]
    because, other = f"iommufd's layer: {layer}. type1: {type1}.", str(type1).partition(":")[0]
    return because, lambda option: f"That is what type1 answers: {type1}." if str(option) == other else because


IOVA: dict[str, Kind] = {
    "map": _one_call, "order": _two_mistakes, "window": _at_window, "end": _at_the_end, "unmap": _unmap, "processes": _two_processes,
    "entries": _entries, "ranges": _ranges, "info": _info, "back": _back, "real": _real, "dma": _dma, "compat": _compat,
}  # fmt: skip
