"""The user's process: descriptors and the order in which they close, memory, locked memory, capabilities."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

from vfiolab.model.address import U64, Span, SpanMap
from vfiolab.model.uapi.iommufd import CAP_SYS_RESOURCE
from vfiolab.model.uapi.requests import CAP_IPC_LOCK, CAP_SYS_RAWIO

if TYPE_CHECKING:
    from vfiolab.model.events import EventLog

FIRST_FD = 3


@dataclass(frozen=True, slots=True)
class Region:
    """A stretch of the process's memory: `prot` holds r and w, `physical` is where its first byte lies.

    `fresh`: private memory that nobody has written yet, read as the kernel's one page of zeros. `bar`: the file of the device whose BAR
    appears here; it stays open as long as the memory does.
    """

    prot: str
    physical: int
    fresh: bool = False
    bar: DeviceMemory | None = None


class Arena(NamedTuple):
    """The client's memory as a machine file gives it: read-write memory at `base`, read-only memory after it."""

    base: int = 0x2000_0000_0000
    size: int = 0x4000_0000
    ro_base: int = 0x2000_4000_0000
    ro_size: int = 0x100_0000


class File(Protocol):
    """An open file behind a descriptor. `references` counts descriptors and other files that hold it."""

    references: int

    def release(self) -> Iterable[File]:
        """Let go at the last reference; return the files that lose a reference by it."""


class DeviceMemory(File, Protocol):
    """An open device whose BARs can be mapped into a process."""

    @property
    def memory_space(self) -> bool:
        """Whether the device answers at its BARs at present."""


class Memory:
    """What is mapped where in the process. Physical addresses are the model's own choice: each region is one contiguous piece of RAM."""

    RAM = 0x1_0000_0000

    def __init__(self, arena: Arena) -> None:
        self.regions: SpanMap[Region] = SpanMap()
        self._next_physical = self.RAM
        self._next_vaddr = 0x7F00_0000_0000
        self.plain = True  # no fresh memory and no BAR was ever placed
        self.place(Span.sized(arena.base, arena.size), "rw")
        if arena.ro_size:
            self.place(Span.sized(arena.ro_base, arena.ro_size), "r")

    def copied(self) -> Memory:
        """Return a child's memory after a fork: the same places, the same pages."""
        child = Memory.__new__(Memory)
        child.regions, child.plain = SpanMap(self.regions), self.plain
        child._next_physical, child._next_vaddr = self._next_physical, self._next_vaddr
        return child

    def place(self, span: Span, prot: str, *, fresh: bool = False, bar: DeviceMemory | None = None, physical: int | None = None) -> None:
        """Put memory at `span` (half-open), in place of what was there. prot: rw, r, none, or hole; `fresh`, `bar` as in `Region`."""
        self.plain = self.plain and not fresh and bar is None
        for old, region in self.regions.overlapping(span):
            self.regions.pop(old.start)
            if old.start < span.start:
                self.regions.add(Span(old.start, span.start), region)
            if span.end < old.end:
                self.regions.add(Span(span.end, old.end), replace(region, physical=region.physical + span.end - old.start))
        room = -(-span.size // 0x20_0000) * 0x20_0000 + 0x20_0000
        if prot != "hole" and span.start == self._next_vaddr:
            self._next_vaddr += room
        elif prot == "hole" and span.start + room == self._next_vaddr:
            self._next_vaddr = span.start  # the last memory is gone: the next comes in its place
        if physical is not None:
            self.regions.add(span, Region(prot, physical, fresh, bar))
        elif prot != "hole":
            self.regions.add(span, Region("" if prot == "none" else prot, self._next_physical, fresh))
            self._next_physical += -(-span.size // 0x4000_0000) * 0x4000_0000

    def written(self, span: Span) -> None:
        """Note that every byte of `span` gets written: none of it is fresh any more."""
        for old, region in () if self.plain else self.regions.overlapping(span):
            if region.fresh:
                part = old.intersection(span)
                assert part is not None
                self.place(part, region.prot, physical=region.physical + part.start - old.start)

    def bars(self) -> list[DeviceMemory]:
        """List the devices whose BARs are mapped, once for each region."""
        return [region.bar for _, region in self.regions if region.bar is not None]

    def uncharged(self, vaddr: int, size: int, *, zeros: bool, page_size: int) -> int:
        """Return how many pages of a range are never counted as locked: BARs, and (`zeros`) fresh memory."""
        if self.plain or not size:
            return 0
        bytes_free = 0
        for span, region in self.regions.overlapping(Span(vaddr, vaddr + size)):
            if region.bar is not None or (zeros and region.fresh):
                bytes_free += min(span.end, vaddr + size) - max(span.start, vaddr)
        return bytes_free // page_size

    def next_place(self, size: int) -> Span:
        """Return where fresh memory of `size` bytes will lie (aligned to 2 MiB, so that big pages are possible)."""
        return Span.sized(self._next_vaddr, max(size, 1))

    def mmap(self, size: int) -> int:
        """Allocate anonymous memory of `size` bytes; return its address."""
        span = self.next_place(size)
        self.place(span, "rw")
        return span.start

    def pinned(self, vaddr: int, size: int, prot: int, bars: str) -> list[tuple[int, int]] | None:
        """Return (physical address, bytes) of the contiguous pieces of a range, None if a page of it cannot be pinned; `bars` as in first_bad."""
        hit = self.regions.at(vaddr) if vaddr < U64 else None
        if hit is not None:
            span, region = hit
            if region.bar is None and vaddr + size <= span.end and ("w" if prot & 2 else "r") in region.prot:
                return [(region.physical + vaddr - span.start, size)]
        return None if self.first_bad(vaddr, size, prot, bars) is not None else self.physical_runs(vaddr, size)

    def first_bad(self, vaddr: int, size: int, prot: int, bars: str, page_size: int = 1) -> int | None:
        """Return the index of the first page that cannot be pinned, None if all can.

        `prot`: 2 the device will write; `bars`: whether a BAR can be pinned: "always", "on" (while its memory space is) or "never".
        """
        need = "w" if prot & 2 else "r"
        address, end = vaddr, vaddr + size
        while address < end:
            hit = self.regions.at(address) if address < U64 else None
            if hit is None or need not in hit[1].prot or not _answers(hit[1].bar, bars):
                return (address - vaddr) // page_size
            address = hit[0].end
        return None

    def physical_runs(self, vaddr: int, size: int) -> list[tuple[int, int]]:
        """Return (physical address, bytes) of each contiguous piece of pinned memory."""
        hit = self.regions.at(vaddr)
        if hit is not None and vaddr + size <= hit[0].end:
            return [(hit[1].physical + vaddr - hit[0].start, size)]
        runs: list[tuple[int, int]] = []
        address, end = vaddr, vaddr + size
        while address < end:
            hit = self.regions.at(address)
            assert hit is not None
            span, region = hit
            take = min(end, span.end) - address
            runs.append((region.physical + address - span.start, take))
            address += take
        return runs


def _answers(bar: DeviceMemory | None, bars: str) -> bool:
    return bar is None or bars == "always" or (bars == "on" and bar.memory_space)


class Handle(Protocol):
    """A descriptor of one process: what it leads to is the open file, which others may hold too."""

    @property
    def file(self) -> File:
        """The open file."""


class Process:
    """A process with descriptors. A new descriptor takes the lowest free number from 3 on (0-2 are ordinary files).

    `memlock` is the soft RLIMIT_MEMLOCK in bytes, None for unlimited; `locked_pages` what is charged against it.
    """

    def __init__(self, log: EventLog, memory: Memory, memlock: int | None, page_size: int, name: str = "") -> None:
        self.log, self.page_size, self.name = log, page_size, name
        self.memory = memory
        self.memlock = memlock
        self.locked_pages = 0
        self.capabilities = {CAP_IPC_LOCK, CAP_SYS_RAWIO, CAP_SYS_RESOURCE}
        self.permitted = set(range(64))
        self.descriptors: dict[int, Handle] = {}
        self._all_taken_below = FIRST_FD
        self.exited = False

    @property
    def limit_pages(self) -> int | None:
        """Pages that may be locked, rounded down; None without a limit."""
        return None if self.memlock is None else self.memlock // self.page_size

    def room(self) -> int | None:
        """Pages that may still be locked; None without a limit (unlimited, or CAP_IPC_LOCK)."""
        limit = self.limit_pages
        return None if limit is None or CAP_IPC_LOCK in self.capabilities else limit - self.locked_pages

    def install(self, handle: Handle) -> int:
        """Give an open file the lowest free descriptor."""
        number = self._all_taken_below
        while number in self.descriptors:
            number += 1
        self.descriptors[number] = handle
        self._all_taken_below = number + 1
        handle.file.references += 1
        return number

    def close(self, number: int) -> None:
        """Close one descriptor; the file goes with its last reference. KeyError if it is not open."""
        file = self.descriptors.pop(number).file
        self._all_taken_below = min(self._all_taken_below, number)
        self._put([file])

    def place(self, span: Span, prot: str, *, fresh: bool = False, bar: DeviceMemory | None = None, physical: int | None = None) -> None:
        """Put memory at `span`, as `Memory.place`; a device is let go with the last of its BARs' memory."""
        covered = [region.bar for _, region in self.memory.regions.overlapping(span) if region.bar is not None]
        if bar is not None and bar not in self.memory.bars():
            bar.references += 1
        self.memory.place(span, prot, fresh=fresh, bar=bar, physical=physical)
        if covered:
            left = self.memory.bars()
            self._put([file for file in {id(file): file for file in covered}.values() if file not in left])

    def exit(self) -> None:
        """End: the memory goes, then every descriptor, ascending; files whose last reference goes are queued, and the queue runs newest first."""
        files: list[File] = [*{id(file): file for file in self.memory.bars()}.values()]
        files += [self.descriptors.pop(number).file for number in sorted(self.descriptors)]
        self._all_taken_below = FIRST_FD
        self.exited = True
        self._put(files)

    def _put(self, files: Iterable[File]) -> None:
        queue = []
        for file in files:
            file.references -= 1
            if not file.references:
                queue.append(file)
        while queue:
            dropped: list[File] = []
            for file in reversed(queue):
                dropped += file.release()
            queue = []
            for file in dropped:
                file.references -= 1
                if not file.references:
                    queue.append(file)

    def __repr__(self) -> str:
        return f"Process({len(self.descriptors)} descriptors, {self.locked_pages} pages locked)"
