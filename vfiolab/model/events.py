"""What happened: calls, and under each what the IOMMU core was asked to do, with the trace format's words, and the steps of a device's request."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType, TracebackType
from typing import Any, NamedTuple, Protocol, Self

from vfiolab.model.errors import KernelCrashError, NotModelledError, VfioError, WouldBlockError
from vfiolab.model.signals import HOLD

PROT_READ, PROT_WRITE, PROT_CACHE, PROT_NOEXEC, PROT_MMIO = 1, 2, 4, 8, 16


class Event(NamedTuple):
    """One request to the IOMMU core, or one step of a device's request. `str()` is for reading, `line` the same as a trace has it.

    kind: claim, release (DMA ownership of `group`), alloc, free (of `domain`), attach (`errno` 0 or negative), detach, map, unmap,
    msi_cookie (`iova` is the base), prep_msi (`physical` is the doorbell), msi_map, fgsp (the superpage probe). `delivery` adds the steps
    of one request of a device: write, read, route, p2p, window, translate, fault, memory, corrupt, interrupt, lost, refused. `size` in bytes; `prot` bits: 1 read, 2 write, 4 cache, 8 noexec, 16 MMIO.

    >>> event = Event("map", domain=1, iova=0x4000_0000, size=0x2000, prot=7)
    >>> str(event), event.line
    ('map D1 0x4000_0000 0x2000 7', 'map D1 0x40000000 0x2000 7')
    """

    kind: str
    domain: int | None = None
    group: int | None = None
    iova: int | None = None
    size: int | None = None
    prot: int | None = None
    physical: int | None = None
    errno: int | None = None

    def __str__(self) -> str:
        return self._written("#_x")

    @property
    def line(self) -> str:
        """The event as a trace has it, without the indent."""
        return self._written("#x")

    def _written(self, form: str) -> str:
        words = [self.kind]
        if self.domain is not None:
            words.append(f"D{self.domain}")
        if self.group is not None:
            words.append(str(self.group))
        addresses = (self.iova, self.physical, self.size)
        words += [f"{number:{form}}" if number > 9 else str(number) for number in addresses if number is not None]
        words += [str(number) for number in (self.prot, self.errno) if number is not None]
        return " ".join(words)


def mapped(domain: int, runs: Iterable[tuple[int, int, int, int]]) -> list[Event]:
    """Return the map events of (iova, size, physical, prot) runs: what a replay of many mappings records."""
    new = tuple.__new__
    return [new(Event, ("map", domain, None, iova, size, prot, None, None)) for iova, size, _, prot in runs]


NOTHING: Mapping[str, object] = MappingProxyType({})


class Record(Protocol):
    """The struct that a call brought."""

    def logged(self) -> dict[str, Any]:
        """Return the arguments that a log shows."""


class Call:
    """One system call of the user's process (or something outside it that changes its world, such as a bind).

    `process` is the name of the process that made it, "" for the first one, None for what came from outside of every process.
    `args`: always what the verb is about; of the rest, what differs from the defaults.

    It runs as a `with` block in its log. One made inside another is not listed: what happens in it is the outer one's. Arguments that
    Python refuses (TypeError, ValueError) never reach a kernel: such a call is not listed either. Ctrl-C waits until the call
    has ended.
    """

    value = 0
    error: VfioError | None = None
    output: Mapping[str, object] = NOTHING
    died = ""
    _held = False
    _outer: Call

    def __init__(
        self,
        verb: str,
        target: str = "",
        args: dict[str, Any] | Record | None = None,
        process: str | None = None,
        log: EventLog | None = None,
    ) -> None:
        self.verb, self.target = verb, target
        self._args = args or {}
        self.process, self.log = process, log
        self.events: list[Event] = []

    @property
    def args(self) -> dict[str, Any]:
        """The arguments, by name; those of a struct are read from it when somebody looks."""
        if not isinstance(self._args, dict):
            self._args = self._args.logged()
        return self._args

    @args.setter
    def args(self, new: dict[str, Any]) -> None:
        self._args = new

    @property
    def result(self) -> str:
        """The return value, or the errno's name, as a trace prints it; else `crash`, `blocks` or `not modelled`."""
        return self.died or (self.error.name if self.error else str(self.value))

    def __str__(self) -> str:
        words = [self.verb, self.target, *(f"{key}={_word(key, value)}" for key, value in self.args.items() if value is not None)]
        return f"{self.process}: " * bool(self.process) + " ".join(word for word in words if word) + f" -> {self.result}"

    def __repr__(self) -> str:
        return f"Call({self})"

    def __enter__(self) -> Self:
        self._held = HOLD.enter()
        log = self.log
        assert log is not None, "a call runs in a log"
        self._outer = outer = log.current
        if outer is log.outside:
            log.list_call(self)
        else:
            self.events = outer.events
        log.current = self
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        log = self.log
        log.current = self._outer  # type: ignore[union-attr] # __enter__ has looked
        if error is not None:
            self._refused(error)
        if self._held:
            HOLD.leave()

    def _refused(self, error: BaseException) -> None:
        if isinstance(error, VfioError):
            self.error, self.value = error, -1
        elif isinstance(error, KernelCrashError):
            self.died = "crash"
        elif isinstance(error, WouldBlockError):
            self.died = "blocks"
        elif isinstance(error, NotModelledError):
            self.died = "not modelled"
        elif isinstance(error, (TypeError, ValueError)) and self.log is not None and not self.log.running:
            del self.log.calls[-1]


LANDMARKS = frozenset(
    {"open_container", "open_group", "get_device_fd", "set_container", "unset_container", "close_group", "set_iommu"},
)


class EventLog:
    """The calls in order, each with its events. Views and replay print this one list.

    So that a view need not walk a long log, a call that has ended is looked at once, when a view asks. `forgotten` counts the
    calls that are no longer here.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.list_call: Callable[[Call], None] = self.calls.append
        self._kept: int | None = None
        self.current = self.outside = Call("boot")
        self.forgotten = 0
        self._forget()

    @property
    def running(self) -> list[Call]:
        """The call that is running, and those made inside it; empty between calls."""
        inside: list[Call] = []
        call = self.current
        while call is not self.outside:
            inside.insert(0, call)
            call = call._outer
        return inside

    def _forget(self) -> None:
        self._seen = 0  # how many calls were looked at
        self._landmarks: list[int] = []
        self._changed: dict[str, int] = {}
        self._tally: dict[tuple[str, bool], int] = {}
        self._events = 0

    def keep(self, calls: int | None) -> None:
        """Bound the log: from now on it holds the last `calls` calls at least, and no more than twice as many. None: all of them.

        Pictures show what is left. A log that has forgotten something cannot be written as a trace. ValueError below 1.

        >>> log = EventLog()
        >>> log.keep(10)
        >>> for _ in range(100):
        ...     with log.call("get_info"): pass
        >>> 10 <= len(log) <= 20, len(log) + log.forgotten
        (True, 100)
        """
        if calls is not None and calls < 1:
            raise ValueError(f"a log keeps one call at least, not {calls}")
        self._kept = calls
        self.list_call = self.calls.append if calls is None else self._list_bounded
        self._trim()

    def _list_bounded(self, call: Call) -> None:
        self.calls.append(call)
        self._trim()

    def _trim(self) -> None:
        """Forget the oldest calls of a bounded log that is full."""
        if self._kept is not None and len(self.calls) > 2 * self._kept:
            gone = len(self.calls) - self._kept
            del self.calls[:gone]
            self._forget()
            self.forgotten += gone

    def clear(self) -> None:
        """Forget every call; `forgotten` counts them."""
        self.forgotten += len(self.calls)
        self.calls.clear()
        self._forget()

    @property
    def landmarks(self) -> list[int]:
        """Where in `calls` the verbs of LANDMARKS are, calls that were refused, and faults of devices."""
        self._look()
        return self._landmarks

    @property
    def changed(self) -> Mapping[str, int]:
        """Where in `calls` each descriptor's last successful map or unmap is."""
        self._look()
        return self._changed

    @property
    def tally(self) -> Mapping[tuple[str, bool], int]:
        """How many calls there were, by verb and whether they were refused."""
        self._look()
        return self._tally

    def _look(self) -> None:
        """Look at the calls that ended since the last time."""
        ended = len(self.calls) - (self.current is not self.outside)
        if ended < self._seen:
            self._forget()  # somebody emptied the list
        for at in range(self._seen, ended):
            call = self.calls[at]
            refused = call.error is not None
            self._tally[call.verb, refused] = self._tally.get((call.verb, refused), 0) + 1
            self._events += len(call.events)
            if call.verb in ("map", "unmap") and not refused and not call.died:
                self._changed[call.target] = at
            elif refused or call.verb in LANDMARKS or any(event.kind == "fault" for event in call.events):
                self._landmarks.append(at)
        self._seen = max(ended, 0)

    def add(self, event: Event) -> None:
        """Record one event under the call that is running."""
        self.current.events.append(event)

    def extend(self, events: Iterable[Event]) -> None:
        """Record many events under the call that is running."""
        self.current.events.extend(events)

    def call(self, verb: str, target: str = "", **args: object) -> Call:
        """Record a call for the length of a `with` block; a refusal that leaves the block is kept with it and goes on to the caller."""
        return Call(verb, target, args, None, self)

    @property
    def events(self) -> list[Event]:
        """All events, in order, without their calls."""
        return [event for call in self.calls for event in call.events]

    def __len__(self) -> int:
        return len(self.calls)

    def __repr__(self) -> str:
        refused = sum(count for (_, wrong), count in self.tally.items() if wrong)
        return f"EventLog({len(self.calls)} calls, {refused} refused, {self._events} events)"


def canonical(events: Iterable[Event]) -> list[Event]:
    """Merge map and unmap runs that are contiguous in iova, per domain, within one call: how traces store them.

    The kernel maps one physically contiguous run at a time, and how long those are depends on the machine's memory.

    >>> runs = [Event("map", 1, iova=0, size=0x1000, prot=7), Event("map", 1, iova=0x1000, size=0x1000, prot=7)]
    >>> [str(event) for event in canonical(runs)]
    ['map D1 0 0x2000 7']
    """
    out: list[Event] = []
    open_runs: dict[int | None, int] = {}
    running = ""
    for event in events:
        if event.kind not in ("map", "unmap"):
            open_runs.clear()
            running = ""
        elif event.kind != running:
            open_runs.clear()
            running = event.kind
        at = open_runs.get(event.domain)
        if running and at is not None:
            last = out[at]
            assert last.iova is not None
            assert last.size is not None
            assert event.size is not None
            if last.iova + last.size == event.iova and last.prot == event.prot:
                out[at] = last._replace(size=last.size + event.size)
                continue
        if running:
            open_runs[event.domain] = len(out)
        out.append(event)
    return out


def _word(key: str, value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and key in ("iova", "size", "vaddr", "cmd"):
        return f"{value:#_x}"
    return str(value)
