"""Judges of the exercises about addresses: what is usable, what is lost, what is taken, and which rule a call breaks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache, partial
from itertools import pairwise
from typing import TYPE_CHECKING

from vfiolab.course.cases import Case, asked, listed, pairs, shown, stored
from vfiolab.course.machines import attached, put
from vfiolab.kit import AddressSpace, MachineBuilder, load
from vfiolab.model.address import Span, hexa, human_size
from vfiolab.model.errors import NAMES, STRERROR
from vfiolab.model.iommu.unit import X86_MSI
from vfiolab.readers.qemu import parse_dma_map_error

if TYPE_CHECKING:
    from vfiolab.proposals import Debate

NIC, PAGE, MIB, GIB = "0000:01:00.0", 0x1000, 1 << 20, 1 << 30
REAL = ("intel-vtd-39bit", "two-smmu-server", "amd-vi-server")


@cache
def _real(name: str) -> AddressSpace:
    return attached(load(name, "6.12"), NIC)


def fits() -> Iterator[Case]:
    """Make each map on real machines: around the ends of what is usable, and across what is not."""
    for name in REAL:
        space = _real(name)
        (_, low), (high, last) = [(span.start, span.last) for span in (space.iova_ranges[0], space.iova_ranges[1])]
        calls = (
            (0, PAGE), (low - MIB + 1, MIB), (low - MIB + 1, MIB + PAGE), (high, MIB), (high - PAGE, MIB), (low + 1, PAGE),
            (low - MIB + 1, high - low + 2 * MIB - 1), (last - PAGE + 1, PAGE), (last + 1, PAGE), (last + 1 - PAGE, MIB),
        )  # fmt: skip
        for iova, size in calls:
            ranges = [(span.start, span.last) for span in space.iova_ranges]
            yield Case(name, (iova, size, ranges), partial(_fitted, space, iova, size))


def _fitted(space: AddressSpace, iova: int, size: int, came: object) -> str | None:
    said = asked(space.map, iova, size)
    if said.error is None:
        space.unmap(iova, size)
    span, truth = Span.sized(iova, size), said.error is None
    if not isinstance(came, bool):
        return f"True or False is asked for, and {shown(came)} is neither."
    if came == truth:
        return None
    return f"The model maps {span}: its last byte {hexa(span.last)} is in the same range." if truth else f"The model refuses it: {said}"


def lost_ram() -> Iterator[Case]:
    """Map the RAM on kernels that take it, and let the device write to the ends of every part."""
    for number, (name, found) in enumerate(stored("lost-ram").items()):
        pieces = [(first, last) for first, last in found]
        kernel = ("4.4", "4.19", "5.3")[number % 3]
        yield Case(f"{name}, Linux {kernel}", (list(pieces),), partial(_lost, kernel, pieces))


def lost_bytes(kernel: str, pieces: Sequence[tuple[int, int]]) -> tuple[AddressSpace, list[Span]]:
    """Map pieces of RAM; return the space, and the parts to whose ends the device's writes are lost."""
    space, found = attached(load(REAL[0], kernel), NIC), []
    for piece in (Span.inclusive(*one) for one in pieces):
        space.map(piece.start, piece.size, "RAM")
        cuts = sorted({piece.start, piece.end, *(cut for cut in (X86_MSI.start, X86_MSI.end) if piece.contains(cut))})
        parts = [Span(start, end) for start, end in pairwise(cuts)]
        found += [part for part in parts if "memory" not in {space.dma_write(NIC, at, size=1).outcome for at in (part.start, part.last)}]
    return space, found


def _lost(kernel: str, pieces: Sequence[tuple[int, int]], came: object) -> str | None:
    space, truth = lost_bytes(kernel, pieces)
    mine = pairs(came, "(first, last)")
    if turned := [one for one in mine if one[0] > one[1]]:
        return f"{shown(turned[0])} ends before it begins: a pair is the first and the last byte, and what is empty is left out."
    spans = [Span.inclusive(*one) for one in mine]
    for span in spans:
        if not any(ram.covers(span) for ram in merged([Span.inclusive(*one) for one in pieces])):
            return f"{span} is inside none of the pieces {shown(list(pieces))}: only RAM that is mapped can be lost."
        for at in (span.start, span.last):
            if not any(part.contains(at) for part in truth):
                what = space.dma_write(NIC, at, size=1)
                return f"{span} is too much: the device's write to {hexa(at)} is not lost. In the model: {what.outcome}, {what.why}."
    for part in truth:
        held = sum(common.size for span in spans if (common := part.intersection(span)) is not None)
        if held != part.size:
            return f"The device can write no byte of {part}, {hexa(part.size)} bytes. Yours, {shown(mine)}, has {hexa(held)} of them."
    return None


@cache
def table() -> Debate:
    """Run the debate, in the situations that the exercises use."""
    from vfiolab.proposals import debate  # it draws, and few need it

    rows = ("foreign-guest", "arm-v2m", "arm-its", "own-layout", "hot-add", "two-domains", "many-doorbells", "late-doorbell")
    return debate(scenarios=rows)


def imposed() -> Iterator[Case]:
    """Give the learner what some cells of the debate took, and count its bytes, each once."""
    for name, cells in stored("imposed").items():
        pieces = [(one.start, one.end) for design, scenario in cells for one in table()[design, scenario].imposed]
        yield Case(name, (pieces,), partial(_taken, [Span.inclusive(*one) for one in pieces]))


def merged(spans: Sequence[Span]) -> list[Span]:
    """Join spans that overlap or touch."""
    found: list[Span] = []
    for span in sorted(spans):
        if found and span.start <= found[-1].end:
            found[-1] = Span(found[-1].start, max(found[-1].end, span.end))
        else:
            found.append(span)
    return found


def _taken(pieces: Sequence[Span], came: object) -> str | None:
    truth = sum(span.size for span in merged(pieces))
    if isinstance(came, bool) or not isinstance(came, int):
        return f"A number of bytes is asked for, and {shown(came)} is none."
    if came == truth:
        return None
    whole = f"{len(merged(pieces))} {'separate parts' if len(merged(pieces)) != 1 else 'part'}"
    twice = sum(span.size for span in pieces) - truth
    more = f" {hexa(twice)} bytes are in more than one piece, and count once." if twice else " No two overlap; `last` counts too."
    return f"Taken are {hexa(truth)} bytes ({human_size(truth)}) in {whole}, not {shown(came)}.{more}"


def read_line() -> Iterator[Case]:
    """Give the learner lines of several QEMUs; compare with what the kit's own reader makes of them."""
    for name, line in stored("read-line").items():
        yield Case(name, (line, dict(NAMES)), partial(_read, line), f"({line!r}, names)")


def _read(line: str, came: object) -> str | None:
    read = parse_dma_map_error(line)
    if read is None:
        raise ValueError(f"no line of a failed map: {line}")
    mine = listed(came, "(iova, size, errno)")
    if len(mine) != 3:
        return f"Three things are asked for, iova, size and the errno's name, not {len(mine)}."
    for name, one, value in zip(("iova", "size", "errno"), mine, (read.iova, read.size, read.name), strict=True):
        if one != value or isinstance(one, bool):
            return f"The {name} is {shown(value)}, not {shown(one)}. {_where(name, one, read.iova, read.size, read.errno)}"
    return None


def _where(name: str, mine: object, iova: int, size: int, code: int) -> str:
    if name == "errno":
        return f"The line says -{code} behind the call, which is {NAMES[code]} ({STRERROR[NAMES[code]]})."
    if isinstance(mine, str):
        return "A number is asked for: int(word, 16) reads what the line prints."
    if mine == (size if name == "iova" else iova + size - 1):
        return "The call prints the container, then iova, size and vaddr; the size is a number of bytes."
    return "The call prints the container, then iova, size and vaddr, all in hexadecimal."


USABLE = "the range lies inside one usable iova range"
RULES = {"alignment": "iova, size and vaddr are multiples of the smallest page", "reserved": USABLE, "width": USABLE}


@cache
def _wide_pages() -> AddressSpace:
    m = MachineBuilder("SMMU of 48 bits, pages of 64 KiB", page_size=0x1_0000)
    put(m, m.unit("smmu0", kind="arm-smmu-v3", page_sizes=0x2001_0000), NIC)
    return attached(m.host("6.12"), NIC)


def suspects() -> Iterator[Case]:
    """Try calls that break one rule, two, or none; ask the model about each rule alone."""
    for name, tried in stored("suspects").items():
        space = _wide_pages() if name not in REAL else _real(name)
        page = space.host.machine.page_size
        width = (space.iova_ranges[-1].last).bit_length()
        holes = [(before.end, after.start - 1) for before, after in pairwise(space.iova_ranges)]
        for iova, size in tried:
            yield Case(name, (iova, size, page, list(holes), width), partial(_suspected, space, iova, size))


def broken_rules(space: AddressSpace, iova: int, size: int) -> list[str]:
    """Return the rules that a call breaks: it is made as it is, then in whole pages for the part below the width, and for the rest."""
    page, end = space.host.machine.page_size, space.iova_ranges[-1].end
    first, behind = iova // page * page, -(-(iova + size) // page) * page
    alone = {"alignment": (iova, size), "reserved": (first, min(behind, end) - first), "width": (max(first, end), behind - max(first, end))}
    found = []
    for rule, (at, length) in alone.items():
        error = asked(space.map, at, length, vaddr=GIB * GIB).error if length > 0 else None
        if error is not None and error.failed == RULES[rule]:
            found.append(rule)
    return found


def _suspected(space: AddressSpace, iova: int, size: int, came: object) -> str | None:
    mine, truth = listed(came, "of words"), broken_rules(space, iova, size)
    if strange := [one for one in mine if one not in tuple(RULES)]:
        return f"{shown(strange[0])} is none of the three words: {', '.join(RULES)}."
    usable = ", ".join(map(str, space.iova_ranges))
    page = f"the page is {hexa(space.host.machine.page_size)}, and usable are {usable}"
    if wrong := [rule for rule in RULES if (rule in mine) != (rule in truth)]:
        says = "is broken and missing from" if wrong[0] in truth else "is not broken, but stands in"
        return f"{wrong[0]!r} {says} {shown(mine)}: the call is {hexa(iova)}-{hexa(iova + size - 1)}, {page}."
    if len(set(mine)) < len(mine) or ("alignment" in mine and mine[0] != "alignment"):
        return f"The kernel checks the alignment first, and a word comes once: {shown(truth)}, not {shown(mine)}."
    return None
