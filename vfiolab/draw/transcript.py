"""A log of calls as strace would show it, with what the IOMMU core was asked to do below each call."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from vfiolab._text import plain
from vfiolab.draw.calls import EVENT
from vfiolab.model.errors import STRERROR
from vfiolab.model.events import Call, canonical
from vfiolab.model.irq.msi import INDEX_NAMES
from vfiolab.model.user.iommufd import VERBS

__all__ = ["Transcript", "strace_line"]

TYPES = {1: "VFIO_TYPE1_IOMMU", 3: "VFIO_TYPE1v2_IOMMU", 6: "VFIO_TYPE1_NESTING_IOMMU", 8: "VFIO_NOIOMMU_IOMMU"}
DEATHS = {
    "crash": "the kernel dies here",
    "blocks": "the kernel never returns here",
    "not modelled": "the model does not know the kernel's answer here",
}
EXTENSIONS = TYPES | {4: "VFIO_DMA_CC_IOMMU", 9: "VFIO_UNMAP_ALL", 10: "VFIO_UPDATE_VADDR"}


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
    writer = _WRITERS.get(call.verb)
    words = writer(call) if writer else f"{call.verb}({', '.join(str(value) for value in call.args.values() if value is not None)})"
    process = f"[{call.process}] " if call.process else ""
    return plain(f"{process}{words} = {_answer(call)}")


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


def _flags(value: object, names: tuple[str, ...]) -> str:
    number = value if isinstance(value, int) else 0
    known = [name for bit, name in enumerate(names) if number >> bit & 1]
    rest = number >> len(names) << len(names)
    return "|".join(known + ([f"{rest:#_x}"] if rest else [])) or "0"


def _map(call: Call) -> str:
    a = call.args
    flags = _flags(a["flags"], ("READ", "WRITE", "VADDR"))
    where = f"vaddr={a['vaddr']:#_x}, iova={a['iova']:#_x}, size={a['size']:#_x}"
    return f"ioctl({_fd(call)}, VFIO_IOMMU_MAP_DMA, {{argsz=32, flags={flags}, {where}}})"


def _unmap(call: Call) -> str:
    a = call.args
    flags = _flags(a.get("flags"), ("GET_DIRTY_BITMAP", "ALL", "VADDR"))
    done = f" => {call.output['unmapped']:#_x}" if "unmapped" in call.output else ""
    return f"ioctl({_fd(call)}, VFIO_IOMMU_UNMAP_DMA, {{argsz=24, flags={flags}, iova={a['iova']:#_x}, size={a['size']:#_x}{done}}})"


def _named(request: str, argument: Callable[[Call], str] | None = None) -> Callable[[Call], str]:
    def write(call: Call) -> str:
        rest = f", {argument(call)}" if argument else ""
        return f"ioctl({_fd(call)}, {request}{rest})"

    return write


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


_WRITERS: dict[str, Callable[[Call], str]] = {
    "open_container": lambda _: 'open("/dev/vfio/vfio", O_RDWR)',
    "open_group": lambda call: f'open("/dev/vfio/{call.output.get("group", call.target)}", O_RDWR)',
    **dict.fromkeys(("close_container", "close_group", "close_device"), lambda call: f"close({_fd(call)})"),
    "get_api_version": _named("VFIO_GET_API_VERSION"),
    "check_extension": _named("VFIO_CHECK_EXTENSION", lambda call: EXTENSIONS.get(int(str(call.args["ext"])), str(call.args["ext"]))),
    "set_iommu": _named("VFIO_SET_IOMMU", lambda call: TYPES.get(int(str(call.args["type"])), str(call.args["type"]))),
    "get_info": _named("VFIO_IOMMU_GET_INFO", _info),
    "map": _map,
    "unmap": _unmap,
    "dirty": _named("VFIO_IOMMU_DIRTY_PAGES", lambda call: f"{{flags={_flags(call.args['flags'], ('START', 'STOP', 'GET_BITMAP'))}}}"),
    "group_status": _named("VFIO_GROUP_GET_STATUS", lambda call: f"{{flags={call.output.get('flags', '?')}}}"),
    "set_container": _named("VFIO_GROUP_SET_CONTAINER", lambda call: f"[{str(call.args['container']).removeprefix('fd')}]"),
    "unset_container": _named("VFIO_GROUP_UNSET_CONTAINER"),
    "get_device_fd": _named("VFIO_GROUP_GET_DEVICE_FD", lambda call: f'"{call.args["name"]}"'),
    "set_irqs": _named("VFIO_DEVICE_SET_IRQS", _irqs),
    "device_info": _named("VFIO_DEVICE_GET_INFO", lambda call: f"{{{_told(call)}}}"),
    "region_info": _named("VFIO_DEVICE_GET_REGION_INFO", lambda call: f"{{index={call.args['index']}{_told(call)}}}"),
    "irq_info": _named("VFIO_DEVICE_GET_IRQ_INFO", lambda call: f"{{index={call.args['index']}{_told(call)}}}"),
    "device_feature": _named("VFIO_DEVICE_FEATURE", lambda call: f"{{flags={call.args['flags']:#x}}}"),
    "pwrite": lambda call: f"pwrite({_fd(call)}, {call.args['val']:#x}, {call.args['len']}, config space + {call.args['off']:#x})",
    "device_reset": _named("VFIO_DEVICE_RESET"),
    "hot_reset_info": _named("VFIO_DEVICE_GET_PCI_HOT_RESET_INFO"),
    "hot_reset": _named("VFIO_DEVICE_PCI_HOT_RESET"),
    "open_iommufd": lambda _: 'open("/dev/iommu", O_RDWR)',
    "open_cdev": lambda call: f'open("/dev/vfio/devices/{call.output.get("node", call.args["dev"])}", O_RDWR)',
    **{verb: _named(row.ioctl, _fields) for verb, row in VERBS.items()},
    "bind_iommufd": _named("VFIO_DEVICE_BIND_IOMMUFD", _fields),
    "attach_pt": _named("VFIO_DEVICE_ATTACH_IOMMUFD_PT", _fields),
    "detach_pt": _named("VFIO_DEVICE_DETACH_IOMMUFD_PT", _fields),
    "fork": lambda call: f"fork() /* {call.target} */",
    "remove": lambda call: f"echo 1 > /sys/bus/pci/devices/{call.args['dev']}/remove",
    "rescan": lambda _: "echo 1 > /sys/bus/pci/rescan",
    "bind": lambda call: f"echo {call.args['dev']} > /sys/bus/pci/drivers/{call.args['drv']}/bind",
    "unbind": lambda call: f"echo {call.args['dev']} > /sys/bus/pci/devices/{call.args['dev']}/driver/unbind",
    "param": lambda call: f"echo {call.args['value']} > /sys/module/{str(call.args['name']).replace('.', '/parameters/')}",
    "rlimit_memlock": lambda call: f"setrlimit(RLIMIT_MEMLOCK, {call.target})",
    "exit": lambda _: "exit_group(0)",
}
