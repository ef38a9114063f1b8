"""Judges of the exercises about maps: errnos, layouts, the order of checks, GET_INFO's bytes. The model is run for every answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache, partial
from typing import Any

from vfiolab.course.answer import Answer
from vfiolab.course.cases import Case, WrongShapeError, asked, errno, facts, listed, pairs, place, shown, whole
from vfiolab.course.machines import attached, put
from vfiolab.kit import AddressSpace, Host, MachineBuilder, load
from vfiolab.kit.host import boot
from vfiolab.model.address import Span, hexa, human_size
from vfiolab.model.backends.type1 import ENTRY_LIMIT
from vfiolab.model.iommu.unit import SOFTWARE_MSI, X86_MSI
from vfiolab.model.machine import Machine
from vfiolab.model.uapi.info import CAPABILITY_NAMES, Info
from vfiolab.model.uapi.requests import CAP_IPC_LOCK

VTD, NIC = "intel-vtd-39bit", "0000:01:00.0"
RAM, GIB, MIB = 0x4000_0000, 1 << 30, 1 << 20
ROOM = 16 * MIB  # what the process of `map-errnos` may still lock
NOWHERE = 0x10_0000  # an address at which a process has no memory
MAP_ERRNOS = ("0", "EINVAL", "EEXIST", "ENOSPC", "EFAULT", "ENOMEM", "EOVERFLOW")


@cache
def _vtd() -> Machine:
    return load(VTD).machine


def _prepared(wanted: str) -> AddressSpace:
    host = boot(_vtd(), "7.3")
    if wanted == "ENOSPC":
        host.set_param(ENTRY_LIMIT, 1)
    space = attached(host, NIC)
    host.process.drop_capability(CAP_IPC_LOCK)
    host.process.set_memlock(GIB + ROOM)
    space.map(RAM, GIB, "RAM")
    return space


def map_errnos() -> Iterator[Case]:
    """Let the learner's call be made on a fresh space for each errno."""
    for wanted in MAP_ERRNOS:
        space = _prepared(wanted)
        yield Case(wanted, (wanted, space), partial(_refused_with, wanted), f"({wanted!r}, {space!r})")


def _refused_with(wanted: str, call: object) -> str | None:
    words = listed(call, "(iova, size) or (iova, size, vaddr)")
    if len(words) not in (2, 3):
        raise WrongShapeError(f"A call is (iova, size) or (iova, size, vaddr), which is 2 or 3 numbers, not {len(words)}.")
    iova, size, *vaddr = (whole(word, name) for word, name in zip(words, ("iova", "size", "vaddr"), strict=False))
    said = asked(_prepared(wanted).map, iova, size, vaddr=vaddr[0] if vaddr else None)
    if errno(said) == wanted:
        return None
    if said.error is None:
        return f"The model maps it and answers 0: every check passed. {wanted} was asked for."
    return f"The model answers {said}.{place(said)} {'A success' if wanted == '0' else wanted} was asked for."


def _firmware_smmu() -> Host:
    m = MachineBuilder("SMMU of 34 bits")
    put(m, m.unit("smmu0", kind="arm-smmu-v3", width=34), NIC)
    for first in (5 * GIB, 10 * GIB):
        m.region(NIC, first, first + 0xFFFF, "direct")
    return m.host("6.1")  # kernels from 6.7 on give no device with such a region to a user


def layout() -> Iterator[Case]:
    """Map the learner's layouts on machines that differ in what is usable, and count the maps."""
    for name, host, size in (
        ("VT-d of 39 bits", load(VTD), 8 * GIB),
        ("SMMU of 48 bits", load("two-smmu-server"), 8 * GIB),
        ("SMMU of 34 bits with firmware's regions", _firmware_smmu(), 8 * GIB),
        ("the same with 14 GiB", _firmware_smmu(), 14 * GIB),
    ):
        space = attached(host, NIC)
        usable = [(span.start, span.last) for span in space.iova_ranges]
        yield Case(name, (usable, size), partial(_laid_out, space, size))


def fewest_maps(usable: Sequence[Span], size: int) -> int:
    """Return how many usable ranges are needed to hold `size` bytes: the largest first."""
    count, left = 0, size
    for room in sorted((span.size for span in usable), reverse=True):
        if left > 0:
            count, left = count + 1, left - room
    return count


def _laid_out(space: AddressSpace, size: int, maps: object) -> str | None:
    usable, total = space.iova_ranges, 0
    for iova, length in pairs(maps):
        said = asked(space.map, iova, length)
        if said.error is not None:
            return f"The model refuses {shown((iova, length))}: {said}"
        total += length
    if total != size:
        more = "too much" if total > size else "missing"
        held = f"{human_size(total)} ({hexa(total)})"
        return f"Every map is accepted, but together they hold {held}: {hexa(abs(size - total))} bytes are {more}."
    best = fewest_maps(usable, size)
    if len(space.mappings) > best:
        sizes = ", ".join(human_size(span.size) for span in usable)
        return f"All of it is mapped, in {len(space.mappings)} maps; {best} would do. The usable ranges hold {sizes}."
    return None


def _usable(space: AddressSpace) -> list[Span]:
    """Return where a device reaches memory if it is mapped: what the kernel says, or x86 around its window where it says nothing."""
    return list(space.iova_ranges) or [Span(0, X86_MSI.start), Span(X86_MSI.end, 1 << 39)]


def old_program() -> Iterator[Case]:
    """Map the learner's 4 GiB on kernels that describe the usable iovas and on one that does not; let the device write into each map."""
    hosts = {f"VT-d, Linux {kernel}": boot(_vtd(), kernel) for kernel in ("4.4", "6.12")}
    hosts |= {"SMMU, Linux 6.12": load("two-smmu-server", "6.12"), "SMMU of 34 bits with firmware's regions, Linux 6.1": _firmware_smmu()}
    for name, host in hosts.items():
        space = attached(host, NIC)
        told = [(span.start, span.last) for span in space.iova_ranges]
        yield Case(name, (told,), partial(_repaired, space))


def _repaired(space: AddressSpace, came: object) -> str | None:
    maps = pairs(came)
    for iova, size in maps:
        said = asked(space.map, iova, size)
        if said.error is not None:
            return f"The model refuses {shown((iova, size))}: {said}"
    for span in (Span.sized(*one) for one in maps):
        inside = (part.start for window in (X86_MSI, SOFTWARE_MSI) if (part := span.intersection(window)) is not None)
        for iova in (span.start, *inside, span.last - 3):
            if (trip := space.dma_write(NIC, iova, 0x1234)).outcome != "memory":
                return f"Every map is accepted, but a write of the device to {hexa(iova)} does not reach the RAM: {trip.why}"
    total = sum(size for _, size in maps)
    if total != 4 * GIB:
        return f"Every map is accepted, but together they hold {hexa(total)} bytes of {hexa(4 * GIB)}."
    top = max(iova + size for iova, size in maps)
    for part in (part for span in _usable(space) if (part := span.intersection(Span(0, top))) is not None):
        held = sum(common.size for one in maps if (common := part.intersection(Span.sized(*one))) is not None)
        if held < part.size:
            ends = f"Yours ends at {hexa(top)} and leaves {hexa(part.size - held)} bytes of {part} out."
            return f"A guest's RAM goes up from 0, around what is not usable. {ends}"
    return None


MISTAKES = ("window", "memory", "odd", "full", "overlap")


@cache
def mistaken(kernel: str, *mistakes: str) -> Answer:
    """Make one MAP call with these of `MISTAKES` on a fresh space of that kernel, and return what it answers."""
    host = boot(_vtd(), kernel)
    if "full" in mistakes and host.kernel.has("dma_entry_limit"):
        host.set_param(ENTRY_LIMIT, 1)
    space = attached(host, NIC)
    space.map(RAM, GIB, "RAM")
    start = 0x7FFF_0000 if "overlap" in mistakes else 0xE000_0000
    end = 0xFEE1_0000 if "window" in mistakes else 0xE001_0000
    return asked(space.map, start, end - start + 0x800 * ("odd" in mistakes), vaddr=NOWHERE if "memory" in mistakes else None)


def check_order() -> Iterator[Case]:
    """Give the learner a kernel to ask; compare with the place of each mistake's check in that kernel's own list."""
    for kernel in ("6.12", "4.11", "7.3"):
        asks: list[tuple[str, ...]] = []

        def call(*mistakes: str, kernel: str = kernel, asks: list[tuple[str, ...]] = asks) -> str:
            if strange := [one for one in mistakes if one not in MISTAKES]:
                raise ValueError(f"call knows the mistakes {', '.join(MISTAKES)}, not {strange!r}")
            asks.append(mistakes)
            return errno(mistaken(kernel, *mistakes))

        yield Case(f"Linux {kernel}", (call, list(MISTAKES)), partial(_ordered, kernel, asks), f"(call, {list(MISTAKES)})")


def kernels_order(kernel: str) -> list[str]:
    """Return the mistakes that a kernel refuses, in the order of its checks: which check fails when one alone is made."""
    found = {one: said.error for one in MISTAKES if (said := mistaken(kernel, one)).error is not None}
    return sorted(found, key=lambda one: [state for _, state in found[one].checks].index("failed"))


def _ordered(kernel: str, asks: list[tuple[str, ...]], came: object) -> str | None:
    names = listed(came, "of mistakes, the first checked first")
    truth = kernels_order(kernel)
    if strange := [one for one in names if one not in MISTAKES]:
        return f"{shown(strange[0])} is none of the mistakes: {', '.join(MISTAKES)}."
    if len(set(names)) < len(names):
        return f"A mistake stands in the list twice: {shown(names)}."
    if extra := [one for one in names if one not in truth]:
        return f"call({extra[0]!r}) answers 0 on Linux {kernel}: that kernel does not check it, so it has no place in the order."
    if missing := [one for one in truth if one not in names]:
        return f"{missing[0]!r} is missing: alone it is refused, call({missing[0]!r}) answers {errno(mistaken(kernel, missing[0]))}."
    if names == truth:
        return None if asks else "The order is right, but `call` was never used: let the kernel answer, and read nothing off."
    first = next(n for n, (one, other) in enumerate(zip(names, truth, strict=True)) if one != other)
    early, late = truth[first], names[first]
    both = mistaken(kernel, early, late)
    same = errno(mistaken(kernel, early)) == errno(mistaken(kernel, late))
    more = f" Both alone are {errno(both)}: compare each with a third." if same else f" So {early!r} is checked first."
    return f"{late!r} stands before {early!r}, but call({early!r}, {late!r}) answers {both}.{more}"


def _infos() -> Iterator[tuple[str, bytes, Info]]:
    space = attached(load(VTD, "6.12"), NIC)
    whole_chain = space.container.get_info()
    yield "three capabilities", whole_chain.pack(), whole_chain
    short = space.container.get_info(24)
    yield "no room for the chain", short.pack(), short
    old = attached(load(VTD, "4.11"), NIC)
    bare = old.container.get_info()
    used = bare.pack()[:16] + whole_chain.pack()[16:]  # it writes 16 bytes; what follows is what the user had there
    yield "a kernel without capabilities, in a used buffer", used, bare
    space.map(RAM, GIB)
    later = space.container.get_info()
    data = bytearray(later.pack())
    first = later.caps[0]
    data[first.off : first.off + 2] = (0x77).to_bytes(2, "little")
    yield "a capability of a later kernel", bytes(data), later
    arm = attached(load("two-smmu-server"), NIC)
    window = arm.container.get_info()
    yield "an SMMU", window.pack(), window


def parse_info() -> Iterator[Case]:
    """Give the learner the bytes of several answers; compare with what the model packed into them."""
    for name, data, info in _infos():
        yield Case(name, (data,), partial(_parsed, info), f"({len(data)} bytes: {data.hex(' ', 4)})")


def _parsed(info: Info, came: object) -> str | None:
    got = facts(came, "with argsz, flags, pgsizes, ranges and avail")
    avail: dict[int, Any] = {one.id: dict(one.fields).get("avail") for one in info.caps}
    places = {"argsz": "bytes 0-3", "flags": "bytes 4-7", "pgsizes": "the 8 bytes at offset 8"}
    truth = {"argsz": info.argsz, "flags": info.flags, "pgsizes": info.pgsizes, "ranges": list(info.ranges), "avail": avail.get(3)}
    if missing := [name for name in truth if name not in got]:
        return f"{missing[0]!r} is missing from the dict, which has {', '.join(got) or 'nothing'}."
    got["ranges"] = pairs(got["ranges"], "(first, last)")
    wrong = [name for name, value in truth.items() if got[name] != value]
    if not wrong:
        return None
    name, more = wrong[0], f" Wrong too: {', '.join(wrong[1:])}." if wrong[1:] else ""
    at = places.get(name) or _at(info, 1 if name == "ranges" else 3)
    return f"{name} is {shown(truth[name])}, not {shown(got[name])}: {at}.{_likely(got[name], truth[name])}{more}"


def _likely(mine: object, value: object) -> str:
    """Name the slip that leads from what the bytes say to what was read, if it is a usual one."""
    if isinstance(mine, int) and isinstance(value, int):
        if any(mine == int.from_bytes(value.to_bytes(size, "little"), "big") for size in (4, 8) if value < 1 << 8 * size):
            return " The low byte comes first."
        return " Half of its bytes were read." if mine == value & 0xFFFFFFFF else ""
    if isinstance(mine, list) and isinstance(value, list):
        if value and not mine:
            return " Follow each `next` until it is 0."
        if mine == [(first, last + 1) for first, last in value]:
            return " The second number is the last byte itself."
        return " A pair takes 16 bytes." if mine and value and mine[0] == value[0] else ""
    return " What is not in the chain is None." if value is None else ""


def _at(info: Info, number: int) -> str:
    found = next((one for one in info.caps if one.id == number), None)
    if found is None:
        why = "cap_offset, at offset 16, is 0" if info.flags & 2 else "bit 1 of flags is not set"
        return f"there is no chain, because {why}"
    inside = "nr_iovas is the 4 bytes at offset 8 in it, the pairs begin at 16"
    if number != 1:
        inside = "the number is the 4 bytes at offset 8 in it"
    return f"capability {number} ({CAPABILITY_NAMES[number]}) is at offset {found.off}; {inside}"
