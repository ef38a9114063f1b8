"""A log of calls as strace would show it, with what the IOMMU core was asked to do below each call."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from vfiolab._text import plain
from vfiolab.draw.calls import EVENT
from vfiolab.model.errors import STRERROR
from vfiolab.model.events import Call, canonical
from vfiolab.model.irq.msi import INDEX_NAMES
from vfiolab.model.uapi.words import EXTENSIONS, TYPES, WORDS
from vfiolab.model.user.iommufd import VERBS

__all__ = ["Transcript", "strace_line"]

DEATHS = {
    "crash": "the kernel dies here",
    "blocks": "the kernel never returns here",
    "not modelled": "the model does not know the kernel's answer here",
}


class Transcript(str):
    """Text that shows itself as it is, so that a cell reads like a terminal."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def strace_line(call: Call) -> str:
    """Return one call as strace prints it, hex grouped for reading, the process in brackets if it is not the first.

    >>> print(strace_line(Call("map", "fd3", {"iova": 0x1000, "size": 4096, "vaddr": 0x7f00_0000_0000, "flags": 3})))
    ioctl(3, VFIO_IOMMU_MAP_DMA, {argsz=32, flags=READ|WRITE, vaddr=0x7f00_0000_0000, iova=0x1000, size=0x1000}) = 0
    """
    process = f"[{call.process}] " if call.process else ""
    return plain(f"{process}{_words(call)} = {_answer(call)}")


def transcript(calls: Iterable[Call], *, events: bool = True) -> Transcript:
    """Return calls as strace prints them, each with its events indented below (contiguous runs merged), and how to read those on top."""
    lines: list[str] = []
    for call in calls:
        lines.append(strace_line(call))
        if events:
            lines += [f"    {event}" for event in canonical(call.events)]
    if any(line.startswith("    ") for line in lines):
        lines.insert(0, f"    # below a call, what it asked of the IOMMU core: {EVENT}")
    return Transcript("\n".join(lines))


def _words(call: Call) -> str:
    if call.verb in _CALLS:
        return _CALLS[call.verb](call)
    if call.verb in _IOCTLS:
        argument = _ARGUMENTS.get(call.verb)
        return f"ioctl({_fd(call)}, {_IOCTLS[call.verb]}{f', {argument(call)}' if argument else ''})"
    return f"{call.verb}({', '.join(str(value) for value in call.args.values() if value is not None)})"


def _answer(call: Call) -> str:
    if call.died:
        return f"?  +++ {DEATHS[call.died]} +++"
    if call.error is not None:
        return f"-1 {call.error.name} ({STRERROR[call.error.name]})"
    if call.verb in ("open_container", "open_group", "get_device_fd", "open_iommufd", "open_cdev"):
        return str(call.args.get("fd", 0))
    return str(call.value)


def _fd(call: Call) -> str:
    return call.target.removeprefix("fd")


def _flags(call: Call) -> str:
    flags = call.args.get("flags")
    known, rest = WORDS[call.verb].known(flags if isinstance(flags, int) else 0)
    return "|".join(known + ([f"{rest:#_x}"] if rest else [])) or "0"


def _map(call: Call) -> str:
    a = call.args
    return f"{{argsz=32, flags={_flags(call)}, vaddr={a['vaddr']:#_x}, iova={a['iova']:#_x}, size={a['size']:#_x}}}"


def _unmap(call: Call) -> str:
    a = call.args
    done = f" => {call.output['unmapped']:#_x}" if "unmapped" in call.output else ""
    return f"{{argsz=24, flags={_flags(call)}, iova={a['iova']:#_x}, size={a['size']:#_x}{done}}}"


def _info(call: Call) -> str:
    out = call.output
    return f"{{argsz={call.args['argsz']}}} => {{argsz={out['argsz']}, flags={out['flags']}}}" if out else f"{{argsz={call.args['argsz']}}}"


def _irqs(call: Call) -> str:
    index, start, count = (int(str(call.args[name])) for name in ("index", "start", "count"))
    name = INDEX_NAMES[index] if index < len(INDEX_NAMES) else str(index)
    return f"{{index={name}, start={start}, count={count}}}"


def _told(call: Call) -> str:
    """Return what a device told of itself, as far as it is numbers."""
    told = ", ".join(f"{name}={value:#x}" for name, value in call.output.items() if isinstance(value, int))
    return f" => {told}" if told else ""


def _fields(call: Call) -> str:
    """Return a struct by its fields: what was asked, then what came back."""
    asked = ", ".join(f"{name}={value:#_x}" for name, value in call.args.items() if isinstance(value, int))
    return f"{{{asked}{_told(call)}}}"


_IOCTLS = {verb: word.name for verb, word in WORDS.items()} | {verb: row.ioctl for verb, row in VERBS.items()}
#: What stands behind an ioctl's name, if something does.
_ARGUMENTS: dict[str, Callable[[Call], str]] = {
    "check_extension": lambda call: EXTENSIONS.get(int(str(call.args["ext"])), str(call.args["ext"])),
    "set_iommu": lambda call: TYPES.get(int(str(call.args["type"])), str(call.args["type"])),
    "get_info": _info,
    "map": _map,
    "unmap": _unmap,
    "dirty": lambda call: f"{{flags={_flags(call)}}}",
    "group_status": lambda call: f"{{flags={call.output.get('flags', '?')}}}",
    "set_container": lambda call: f"[{str(call.args['container']).removeprefix('fd')}]",
    "get_device_fd": lambda call: f'"{call.args["name"]}"',
    "set_irqs": _irqs,
    "device_info": lambda call: f"{{{_told(call)}}}",
    **dict.fromkeys(("region_info", "irq_info"), lambda call: f"{{index={call.args['index']}{_told(call)}}}"),
    "device_feature": lambda call: f"{{flags={call.args['flags']:#x}}}",
    **dict.fromkeys((*VERBS, "bind_iommufd", "attach_pt", "detach_pt"), _fields),
}
#: The calls that are no ioctls.
_CALLS: dict[str, Callable[[Call], str]] = {
    "open_container": lambda _: 'open("/dev/vfio/vfio", O_RDWR)',
    "open_group": lambda call: f'open("/dev/vfio/{call.output.get("group", call.target)}", O_RDWR)',
    "open_iommufd": lambda _: 'open("/dev/iommu", O_RDWR)',
    "open_cdev": lambda call: f'open("/dev/vfio/devices/{call.output.get("node", call.args["dev"])}", O_RDWR)',
    **dict.fromkeys(("close_container", "close_group", "close_device"), lambda call: f"close({_fd(call)})"),
    "pwrite": lambda call: f"pwrite({_fd(call)}, {call.args['val']:#x}, {call.args['len']}, config space + {call.args['off']:#x})",
    "fork": lambda call: f"fork() /* {call.target} */",
    "remove": lambda call: f"echo 1 > /sys/bus/pci/devices/{call.args['dev']}/remove",
    "rescan": lambda _: "echo 1 > /sys/bus/pci/rescan",
    "bind": lambda call: f"echo {call.args['dev']} > /sys/bus/pci/drivers/{call.args['drv']}/bind",
    "unbind": lambda call: f"echo {call.args['dev']} > /sys/bus/pci/devices/{call.args['dev']}/driver/unbind",
    "param": lambda call: f"echo {call.args['value']} > /sys/module/{str(call.args['name']).replace('.', '/parameters/')}",
    "rlimit_memlock": lambda call: f"setrlimit(RLIMIT_MEMLOCK, {call.target})",
    "exit": lambda _: "exit_group(0)",
}
