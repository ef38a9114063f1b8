"""The user's process: descriptors and the order in which they close, memory, locked memory, capabilities."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from vfiolab.model.address import U64, Span, SpanMap

if TYPE_CHECKING:
    from vfiolab.model.events import EventLog

CAP_IPC_LOCK = 14
CAP_SYS_RAWIO = 17
FIRST_FD = 3


@dataclass(frozen=True, slots=True)
class Region:
    """A stretch of the process's memory: `prot` holds r and w, `physical` is where its first byte lies in the model's RAM."""

    prot: str
    physical: int


@dataclass(frozen=True, slots=True)
class Arena:
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


class Memory:
    """What is mapped where in the process. Physical addresses are the model's own choice: each region is one contiguous piece of RAM."""

    RAM = 0x1_0000_0000

    def __init__(self, arena: Arena) -> None:
        self.regions: SpanMap[Region] = SpanMap()
        self._next_physical = self.RAM
        self._next_vaddr = 0x7F00_0000_0000
        self.place(Span.sized(arena.base, arena.size), "rw")
        if arena.ro_size:
            self.place(Span.sized(arena.ro_base, arena.ro_size), "r")

    def place(self, span: Span, prot: str) -> None:
        """Put memory at `span` (half-open), in place of what was there. prot: rw, r, none, or hole."""
        for old, region in self.regions.overlapping(span):
            self.regions.pop(old.start)
            if old.start < span.start:
                self.regions.add(Span(old.start, span.start), region)
            if span.end < old.end:
                self.regions.add(Span(span.end, old.end), Region(region.prot, region.physical + span.end - old.start))
        if prot != "hole":
            self.regions.add(span, Region("" if prot == "none" else prot, self._next_physical))
            self._next_physical += -(-span.size // 0x4000_0000) * 0x4000_0000

    def mmap(self, size: int) -> int:
        """Allocate anonymous memory of `size` bytes; return its address (aligned to 2 MiB, so that big pages are possible)."""
        vaddr = self._next_vaddr
        self.place(Span.sized(vaddr, size), "rw")
        self._next_vaddr += -(-size // 0x20_0000) * 0x20_0000 + 0x20_0000
        return vaddr

    @contextmanager
    def trial(self) -> Iterator[Memory]:
        """Give the memory back as it was if the block ends in an error: what it allocated is gone."""
        before = (list(self.regions), self._next_physical, self._next_vaddr)
        try:
            yield self
        except BaseException:
            self.regions, self._next_physical, self._next_vaddr = SpanMap(before[0]), before[1], before[2]
            raise

    def first_bad(self, vaddr: int, size: int, *, write: bool, page_size: int) -> int | None:
        """Return the index of the first page that cannot be pinned, None if all can."""
        need = "w" if write else "r"
        address, end = vaddr, vaddr + size
        while address < end:
            hit = self.regions.at(address) if address < U64 else None
            if hit is None or need not in hit[1].prot:
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


class Process:
    """A process with descriptors. A new descriptor takes the lowest free number from 3 on (0-2 are ordinary files).

    `memlock` is the soft RLIMIT_MEMLOCK in bytes, None for unlimited; `locked_pages` what is charged against it.
    """

    def __init__(self, log: EventLog, arena: Arena, memlock: int | None, page_size: int) -> None:
        self.log, self.page_size = log, page_size
        self.memory = Memory(arena)
        self.memlock = memlock
        self.locked_pages = 0
        self.capabilities = {CAP_IPC_LOCK, CAP_SYS_RAWIO}
        self.permitted = set(range(64))
        self.descriptors: dict[int, File] = {}
        self.exited = False

    @property
    def limit_pages(self) -> int | None:
        """Pages that may be locked, rounded down; None without a limit."""
        return None if self.memlock is None else self.memlock // self.page_size

    def room(self) -> int | None:
        """Pages that may still be locked; None without a limit (unlimited, or CAP_IPC_LOCK)."""
        limit = self.limit_pages
        return None if limit is None or CAP_IPC_LOCK in self.capabilities else limit - self.locked_pages

    def install(self, file: File) -> int:
        """Give a file the lowest free descriptor."""
        number = FIRST_FD
        while number in self.descriptors:
            number += 1
        self.descriptors[number] = file
        file.references += 1
        return number

    def close(self, number: int) -> None:
        """Close one descriptor; the file goes with its last reference. KeyError if it is not open."""
        self._put([self.descriptors.pop(number)])

    def exit(self) -> None:
        """End: close every descriptor, ascending; files whose last reference goes are queued, and the queue runs newest first."""
        files = [self.descriptors.pop(number) for number in sorted(self.descriptors)]
        self._put(files)
        self.exited = True

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
