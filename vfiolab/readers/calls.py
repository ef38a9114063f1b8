"""What every capture becomes: operations as a trace has them, the recorded answers beside them, and what was not understood."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from vfiolab.model.address import U64, Span
from vfiolab.readers.qemu import Unread
from vfiolab.readers.trace import Operation

#: The name of a device that the capture does not name.
ANY = "?"
PAGE = 4096


@dataclass(frozen=True, slots=True)
class Calls:
    """The calls of a capture. `answers` run parallel to `operations`: an errno's name or a number, "" where none was recorded.

    `passed`: lines that are understood and hold no call; `assumed`: what the capture does not hold, in words. An operation on line 0 is
    such an assumption.
    """

    kind: str
    source: str
    lines: int
    operations: tuple[Operation, ...]
    answers: tuple[str, ...]
    unread: tuple[Unread, ...]
    passed: int
    assumed: tuple[str, ...]


class Builder:
    """Collects calls. `open`: the handles in use and what they are: container, group or device."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.answers: list[str] = []
        self.unread: list[Unread] = []
        self.assumed: dict[str, None] = {}
        self.passed = 0
        self.open: dict[str, str] = {}
        self._memory: list[Span] = []
        self._said: list[Span] = []

    def call(self, line: int, verb: str, *names: str, answer: str = "", **args: int | str) -> Operation:
        """Add a call; numbers are written in hex."""
        words = {key: f"{value:#x}" if isinstance(value, int) else value for key, value in args.items()}
        text = " ".join([verb, *names, *(f"{key}={word}" for key, word in words.items())])
        self.operations.append(Operation(text, line, verb, names, words))
        self.answers.append(answer)
        return self.operations[-1]

    def map(self, line: int, container: str, iova: int, size: int, vaddr: int, *, answer: str = "", **args: int | str) -> None:
        """Add a map; the memory behind it is there, unless the kernel said EFAULT."""
        self.call(line, "map", container, iova=iova, size=size, vaddr=vaddr, answer=answer, **args)
        start, end = vaddr // PAGE * PAGE, -(-(vaddr + size) // PAGE) * PAGE
        if start < end <= U64 and answer != "EFAULT":
            self._memory.append(Span(start, end))

    def memory(self, line: int, vaddr: int, size: int, prot: str) -> None:
        """Add memory that the capture itself shows; it is dropped at the end if no map uses it."""
        end = vaddr + -(-size // PAGE) * PAGE
        if vaddr % PAGE == 0 and size > 0 and end <= U64:
            if prot != "hole":
                self._said.append(Span(vaddr, end))
            self.call(line, "mem", vaddr=vaddr, size=end - vaddr, kind="hole" if prot == "hole" else "populate", prot=prot)

    def setup(self, line: int, container: str, group: str, device: str, **args: str) -> None:
        """Add what puts a group into a container, and an IOMMU into it if it has none."""
        first = self.open.setdefault(container, "") == ""
        if first:
            self.call(line, "open_container", container)
        self.call(line, "open_group", group, dev=device, **args)
        self.call(line, "set_container", group, container)
        if first:
            self.call(line, "set_iommu", container, type=3)
        self.open |= {container: "container", group: "group"}

    def missed(self, line: int, text: str, why: str) -> None:
        """Keep a line that was not understood."""
        self.unread.append(Unread(line, text, why))

    def done(self, kind: str, source: str, lines: int) -> Calls:
        """Return the calls, the memory that the capture does not show before them."""
        used, said = _merged(self._memory), _merged(self._said)
        keep = [i for i, one in enumerate(self.operations) if one.verb != "mem" or _meets(used, one)]
        assumed = Builder()
        for span in used:
            place = bisect_right(said, span.start, key=lambda one: one.start) - 1
            if place < 0 or said[place].end < span.end:
                assumed.call(0, "mem", vaddr=span.start, size=span.size, kind="populate")
        if assumed.operations:
            self.assumed["the process's memory is where its maps say"] = None
        operations = (*assumed.operations, *(self.operations[i] for i in keep))
        answers = (*assumed.answers, *(self.answers[i] for i in keep))
        return Calls(kind, source, lines, operations, answers, tuple(self.unread), self.passed, tuple(self.assumed))


def _merged(spans: list[Span]) -> list[Span]:
    """Return the same addresses as spans that do not touch, in order."""
    found: list[Span] = []
    for span in sorted(spans, key=lambda one: one.start):
        if found and span.start <= found[-1].end:
            found[-1] = Span(found[-1].start, max(found[-1].end, span.end))
        else:
            found.append(span)
    return found


def _meets(spans: list[Span], memory: Operation) -> bool:
    start = int(memory.args["vaddr"], 16)
    end = start + int(memory.args["size"], 16)
    place = bisect_right(spans, start, key=lambda one: one.end)
    return place < len(spans) and spans[place].start < end
