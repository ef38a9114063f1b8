"""Addresses: half-open spans, sets of spans, and the words for sizes.

Inside the package every range is half-open, `[start, end)`; ranges print start-end *inclusive*, in hex, as sysfs prints them.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import index
from typing import Generic, SupportsIndex, TypeVar

PAGE_SIZE = 4096
U64 = 1 << 64

V = TypeVar("V")

_UNITS = {"": 1, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "P": 1 << 50, "E": 1 << 60}


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A half-open range of addresses, `[start, end)`, in bytes.

    >>> Span.sized(0xfee00000, 0x100000)
    Span(0xfee0_0000, 0xfef0_0000)
    >>> str(Span.sized(0xfee00000, 0x100000))
    '0xfee0_0000-0xfeef_ffff'
    """

    start: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end <= U64:
            raise ValueError(f"a span runs from a start to a larger end within 0..2^64, not {self.start:#_x}..{self.end:#_x}")

    @classmethod
    def sized(cls, start: int, size: int) -> Span:
        """Return the span of `size` bytes from `start`."""
        return cls(start, start + size)

    @classmethod
    def inclusive(cls, first: int, last: int) -> Span:
        """Return the span whose first and last byte are given (the form sysfs and GET_INFO use)."""
        return cls(first, last + 1)

    @property
    def size(self) -> int:
        """Number of bytes."""
        return self.end - self.start

    @property
    def last(self) -> int:
        """Address of the last byte (inclusive end)."""
        return self.end - 1

    def overlaps(self, other: Span) -> bool:
        """Say whether at least one byte is in both."""
        return self.start < other.end and other.start < self.end

    def contains(self, address: int) -> bool:
        """Say whether the byte at `address` is inside."""
        return self.start <= address < self.end

    def covers(self, other: Span) -> bool:
        """Say whether the other span lies wholly inside this one."""
        return self.start <= other.start and other.end <= self.end

    def intersection(self, other: Span) -> Span | None:
        """Return the bytes that are in both, or None."""
        start, end = max(self.start, other.start), min(self.end, other.end)
        return Span(start, end) if start < end else None

    def __repr__(self) -> str:
        return f"Span({hexa(self.start)}, {hexa(self.end)})"

    def __str__(self) -> str:
        return f"{hexa(self.start)}-{hexa(self.last)}"


class SpanMap(Generic[V]):
    """Disjoint spans in ascending order, each with a value.

    >>> m = SpanMap()
    >>> m.add(Span(0x1000, 0x3000), "ram")
    >>> m.at(0x2fff)
    (Span(0x1000, 0x3000), 'ram')
    >>> m.at(0x3000) is None
    True
    """

    __slots__ = ("_entries", "_starts")

    def __init__(self, entries: Iterable[tuple[Span, V]] = ()) -> None:
        self._entries = list(entries)
        self._starts = [span.start for span, _ in self._entries]

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[tuple[Span, V]]:
        return iter(self._entries)

    def add(self, span: Span, value: V) -> None:
        """Add a span; ValueError names the span in the way."""
        hit = next(iter(self.overlapping(span)), None)
        if hit is not None:
            raise ValueError(f"{span} overlaps {hit[0]}, which is already in the map")
        index = bisect_left(self._starts, span.start)
        self._starts.insert(index, span.start)
        self._entries.insert(index, (span, value))

    def pop(self, start: int) -> tuple[Span, V]:
        """Remove and return the span that begins at `start`; KeyError if none does."""
        index = bisect_left(self._starts, start)
        if index == len(self._starts) or self._starts[index] != start:
            raise KeyError(f"no span begins at {hexa(start)}")
        del self._starts[index]
        return self._entries.pop(index)

    def at(self, address: int) -> tuple[Span, V] | None:
        """Return the span that holds the byte at `address`, with its value."""
        index = bisect_right(self._starts, address) - 1
        if index < 0:
            return None
        entry = self._entries[index]
        return entry if address < entry[0].end else None

    def overlapping(self, span: Span) -> list[tuple[Span, V]]:
        """Return the entries that share a byte with `span`, ascending."""
        first = bisect_right(self._starts, span.start) - 1
        if first < 0 or self._entries[first][0].end <= span.start:
            first += 1
        return self._entries[first : bisect_left(self._starts, span.end)]

    def _check(self) -> None:
        assert self._starts == [span.start for span, _ in self._entries]
        previous = 0
        for span, _ in self._entries:
            assert previous <= span.start, f"{span} begins before {previous:#_x}, where its neighbour ends"
            previous = span.end


def parse_size(text: int | str, what: str = "a size") -> int:
    """Return a number of bytes from an int, a hex or decimal word, or a word with a binary unit.

    >>> parse_size("1G") == 1 << 30, parse_size("0x1000"), parse_size("64 KiB")
    (True, 4096, 65536)
    """
    if isinstance(text, bool) or not isinstance(text, (str, SupportsIndex)):
        raise TypeError(f"{what} is an int or a word such as '2M' or '0x1000', not {text!r}")
    if not isinstance(text, str):
        return index(text)
    word = text.strip().replace("_", "").upper()
    negative, word = (True, word[1:]) if word.startswith("-") else (False, word)
    try:
        if not word.isascii():
            raise ValueError  # noqa: TRY301 # digits of other scripts, which Linux does not read
        if word.startswith("0X"):
            number = int(word, 16)
        else:
            digits = word.removesuffix("IB").removesuffix("B") if word[-1:] == "B" else word
            unit = digits[-1:] if digits[-1:] in _UNITS and not digits[-1:].isdigit() else ""
            number = int(digits.removesuffix(unit).strip()) * _UNITS[unit]
    except ValueError:
        raise ValueError(f"cannot read {what} from {text!r}: write bytes (4096, 0x1000) or a binary unit (4K, 2M, 1G, 1T)") from None
    return -number if negative else number


def human_size(size: int) -> str:
    """Return a size as people say it: exact in the largest binary unit, else to three places.

    >>> human_size(4096), human_size(3 << 29), human_size(1 << 48)
    ('4 KiB', '1.5 GiB', '256 TiB')
    """
    for unit, factor in (("EiB", 1 << 60), ("PiB", 1 << 50), ("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= factor:
            return f"{size / factor:.4g} {unit}"
    return f"{size} B"


def hexa(number: int) -> str:
    """Return hex with its digits in groups of four, for reading.

    >>> hexa(0xfee00000), hexa(0), hexa(0x1000)
    ('0xfee0_0000', '0x0', '0x1000')
    """
    return f"-{-number:#_x}" if number < 0 else f"{number:#_x}"


def joined(starts: Iterable[int], sizes: Iterable[int]) -> list[tuple[int, int]]:
    """Return ascending half-open ranges with the touching ones joined.

    >>> joined([0, 0x1000, 0x8000], [0x1000, 0x1000, 0x1000])
    [(0, 8192), (32768, 36864)]
    """
    out: list[tuple[int, int]] = []
    for start, size in zip(starts, sizes, strict=True):
        if out and out[-1][1] == start:
            out[-1] = (out[-1][0], start + size)
        else:
            out.append((start, start + size))
    return out
