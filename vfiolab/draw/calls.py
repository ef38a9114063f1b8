"""Calls and events in the words of the field: what a timeline, a version diff and a title say."""

from __future__ import annotations

from dataclasses import dataclass

from vfiolab.model.address import hexa, human_size
from vfiolab.model.errors import NAMES
from vfiolab.model.events import Call, Event, EventLog

VERBS = {
    "map": "MAP_DMA", "unmap": "UNMAP_DMA", "set_container": "SET_CONTAINER", "unset_container": "UNSET_CONTAINER",
    "set_iommu": "SET_IOMMU", "get_device_fd": "GET_DEVICE_FD", "set_irqs": "SET_IRQS", "dirty": "DIRTY_PAGES", "get_info": "GET_INFO",
    "group_status": "GET_STATUS", "check_extension": "CHECK_EXTENSION", "get_api_version": "GET_API_VERSION",
    "open_container": "open container", "open_group": "open group", "close_container": "close container", "close_group": "close group",
    "close_device": "close device",
}  # fmt: skip
TYPES = {1: "type1", 3: "type1v2", 6: "type1 nesting", 8: "noiommu"}
QUIET = ("get_api_version", "check_extension", "get_info", "group_status", "status")
#: How to read an event.
EVENT = "verb, domain; then group and answer (0 or -errno), or iova, size and rights (a sum: 1 read, 2 write, 4 cached)"
LEFT_OUT = ("vaddr", "argsz", "fd", "name", "container", "flags", "fresh", "ptr")


@dataclass(frozen=True, slots=True)
class Step:
    """Events of one kind on one domain, drawn as one line: the first stands for all `number` of them, `size` bytes together."""

    event: Event
    number: int
    size: int

    @property
    def words(self) -> str:
        """What was done, in the words of the trace."""
        e = self.event
        many = f" × {self.number:,}" if self.number > 1 else ""
        if e.kind in {"map", "unmap"}:
            where = f" {hexa(e.iova or 0)}" if self.number == 1 else many
            return f"{e.kind}{where}, {human_size(self.size)}"
        if e.kind == "attach":
            answer = "✓" if not e.errno else f"✗ {NAMES.get(-e.errno, str(e.errno))}"
            return f"attach group {e.group} {answer}"
        if e.kind in {"detach", "claim", "release"}:
            return f"{e.kind} group {e.group}"
        if e.kind == "msi_cookie":
            return f"MSI cookie at {hexa(e.iova or 0)}"
        if e.kind == "msi_map":
            return f"doorbell {hexa(e.iova or 0)} → {hexa(e.physical or 0)}"
        if e.kind == "fgsp":
            return "superpage probe"
        where = hexa(e.iova) if e.iova is not None else hexa(e.physical) if e.physical is not None else ""
        return f"{e.kind.replace('_', ' ')} {where}".strip() + many


def steps(call: Call) -> list[Step]:
    """Return the events of a call, runs of map and of unmap on one domain joined."""
    out: list[Step] = []
    for e in call.events:
        last = out[-1] if out else None
        if last and (e.kind, e.domain) == (last.event.kind, last.event.domain) and e.kind in {"map", "unmap"}:
            out[-1] = Step(last.event, last.number + 1, last.size + (e.size or 0))
        else:
            out.append(Step(e, 1, e.size or 0))
    return out


def names_of(log: EventLog | None) -> dict[str, str]:
    """Return what each descriptor of a log stands for: `fd4` is group 3. One container alone needs no name."""
    names: dict[str, str] = {}
    containers: list[str] = []
    for call in [log.calls[at] for at in log.landmarks] if log is not None else ():
        fd = f"fd{call.args.get('fd')}"
        if call.verb == "open_group" and "group" in call.output:
            names[fd] = f"group {call.output['group']}"
        elif call.verb == "get_device_fd" and "fd" in call.args:
            names[fd] = str(call.args.get("name", fd))
        elif call.verb == "open_container" and call.error is None:
            containers.append(fd)
            names[fd] = f"container {len(containers)}"
    return {**names, containers[0]: ""} if len(containers) == 1 else names


def answer(call: Call) -> str:
    """Return what a call was answered, with a sign: accepted, or not."""
    return f"{'✗' if call.error or call.died else '→'} {call.result}"


def call_words(call: Call, names: dict[str, str] | None = None) -> str:
    """Return a call in words, without its answer; `names` says what descriptors stand for.

    >>> call_words(Call("map", "fd3", {"iova": 0x1000, "size": 8192, "vaddr": 0, "name": "RAM"}), {"fd3": ""})
    'MAP_DMA 0x1000, 8 KiB, RAM'
    >>> call_words(Call("set_container", "fd4", {"container": "fd3"}), {"fd3": "", "fd4": "group 7"})
    'SET_CONTAINER group 7'
    """
    names = names or {}
    known = {"", *names.values()}
    parts = [VERBS.get(call.verb, call.verb.replace("_", " ")), names.get(call.target, call.target)]
    if call.verb == "open_group" and "group" in call.output:
        return f"open group {call.output['group']}" + (f" ({call.target})" if ":" in call.target else "")
    if call.verb in {"open_container", "open_group"}:
        return " ".join(p for p in parts if p)
    args = {k: v for k, v in call.args.items() if v is not None and k not in LEFT_OUT}
    iova, size = args.pop("iova", None), args.pop("size", None)
    where = [hexa(iova)] if isinstance(iova, int) else []
    if isinstance(size, int):
        where.append(human_size(size) if 0 < size < 1 << 63 and size % 1024 == 0 else hexa(size))
    label = str(call.args.get("name") or "")
    if (label and label not in known) or call.verb == "get_device_fd":
        where.append(label)
    parts.append(", ".join(where))
    if call.verb == "set_iommu" and args.get("type") in TYPES:
        parts.append(TYPES[int(str(args.pop("type")))])
    other = names.get(str(call.args.get("container")), str(call.args.get("container") or ""))
    parts += [f"into {other}"] if other else []
    parts += [f"{k}={hexa(v) if isinstance(v, int) and v > 9 else v}" for k, v in args.items() if v not in {"", 0}]
    return " ".join(p for p in parts if p)
