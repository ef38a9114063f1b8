"""strace's text of a program that uses VFIO: which calls it made, and what the kernel answered.

strace (6.1) shows the structs of VFIO as bare addresses; what stands behind one is not in the text, so such a call is named and not
carried out. Two pointers have one possible meaning and are read: a SET_CONTAINER that worked while one container is open, and the name of a
GET_DEVICE_FD, which is a device of its group. Structs that are written out (`{argsz=32, flags=..., iova=0x1000, ...}`) are read.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable

from vfiolab.model.uapi.ioctls import IOCTLS
from vfiolab.model.uapi.words import EXTENSIONS, WORDS
from vfiolab.readers.calls import ANY, Builder, Calls
from vfiolab.readers.lines import lines_of
from vfiolab.readers.trace import Operation

_PREFIX = re.compile(
    r"^\s{0,16}(?:\[pid\s{1,8}(\d{1,10})\]\s{1,8}|(\d{1,10})\s{1,8})?(?:[+(]?\s{0,8}[\d:.]{4,20}\)?\s{1,8})?(?:\(\+\s{0,8}[\d.]{1,20}\)\s)?"
)
_CALL = re.compile(
    r"(\w{2,32})\((.*)\)\s{1,60}= (\?|-?\d{1,20}|0x[0-9a-fA-F]{1,16})(?:<[^>]{0,300}>)?(?: (E[A-Z0-9]{2,15}))?(?: .{0,200})?$"
)
_RESUMED = re.compile(r"<\.\.\. (\w{2,32}) resumed>(.*)$")
_OTHER = re.compile(r"(?:---|\+\+\+|strace: |\?{3,})")
_NODE = re.compile(r"/dev/vfio/(vfio|(?:noiommu-)?\d{1,9})")
_FD = re.compile(r"(-?\d{1,9})(?:<(.{0,300})>)?$")
_FIELD = re.compile(r"(\w{1,20})=([^,{}\s]{1,200})")
_SYSCALLS = frozenset((
    "open", "openat", "close", "dup", "dup2", "dup3", "fcntl", "clone", "clone3", "fork", "vfork", "mmap", "munmap", "mprotect", "pwrite64",
    "ioctl",
))  # fmt: skip
_TYPES = {name: number for number, name in EXTENSIONS.items()}
_INDEXES = {f"VFIO_PCI_{name}_IRQ_INDEX": number for number, name in enumerate(("INTX", "MSI", "MSIX", "ERR", "REQ"))}
#: What a number may mean: from 112 on one thing to a container, another to a device.
_NUMBERS: dict[int, list[str]] = {}
for _row in (row for kind in ("container", "group", "device") for row in IOCTLS[kind].values()):
    _NUMBERS.setdefault(_row.number, []).append(_row.name)
_NUMBERS[0x3B72].append("VFIO_DEVICE_QUERY_GFX_PLANE")
#: The fields of a struct without which a call cannot be carried out.
_NEEDED: dict[str, tuple[str, ...]] = {
    "region_info": ("index",), "irq_info": ("index",), "set_irqs": ("index", "start", "count", "flags"),
    "map": ("flags", "vaddr", "iova", "size"), "unmap": ("flags", "iova", "size"),
}  # fmt: skip
_NOT_DONE = {"dirty", "device_feature", "hot_reset_info", "hot_reset", "bind_iommufd", "attach_pt", "detach_pt"}
_VERBS = {word.name: verb for verb, word in WORDS.items() if verb not in _NOT_DONE}


def is_strace_line(line: str) -> bool:
    """Say whether strace writes such lines.

    >>> is_strace_line('openat(AT_FDCWD, "/dev/vfio/vfio", O_RDWR) = 3')
    True
    """
    return _CALL.match(_split(line)[1]) is not None


def _split(line: str) -> tuple[str, str]:
    """Return the number of the process that a line begins with ("" if none) and what stands behind it and the time."""
    prefix = _PREFIX.match(line)
    return (prefix[1] or prefix[2] or "", line[prefix.end() :]) if prefix else ("", line)


def strace_calls(text: str, *, source: str = "") -> Calls:
    r"""Read the VFIO calls of a program from strace's text; calls of child processes are not followed.

    >>> calls = strace_calls('openat(AT_FDCWD, "/dev/vfio/vfio", O_RDWR) = 3\nioctl(3, VFIO_IOMMU_MAP_DMA, 0x7ffe12) = 0\n')
    >>> [operation.text for operation in calls.operations], str(calls.unread[0])[:76]
    (['open_container fd3'], 'line 2: the struct of VFIO_IOMMU_MAP_DMA is not written out, only its addres')
    """
    reading = _Reading()
    lines = lines_of(text)
    for number, line in enumerate(lines, 1):
        if line.strip():
            reading.line(number, line)
    for number, line in reading.pending.values():
        if "VFIO" in line or "/dev/vfio" in line:
            reading.b.missed(number, line, "the call does not return in this text")
    return reading.b.done("strace", source, len(lines))


class _Reading:
    def __init__(self) -> None:
        self.b = Builder()
        self.pending: dict[str, tuple[int, str]] = {}
        self.children: set[str] = set()
        self.opened: dict[str, Operation] = {}

    def line(self, number: int, line: str) -> None:
        pid, body = _split(line)
        resumed = _RESUMED.match(body)
        if resumed is not None:
            number, before = self.pending.pop(pid, (number, f"{resumed[1]}("))
            body = before + resumed[2].lstrip()
        elif body.endswith("<unfinished ...>"):
            self.pending[pid] = number, body.removesuffix("<unfinished ...>").rstrip()
            return
        call = _CALL.match(body)
        if call is None:
            if _OTHER.match(body):
                self.b.passed += 1
            else:
                self.b.missed(number, line, "no line of strace")
            return
        name, args, value, errno = call.groups()
        answer = errno or ("" if value == "?" else "0")
        use: Callable[[int, str, list[str], str, str], bool] | None = getattr(self, f"_{name}", None) if name in _SYSCALLS else None
        concerns = use is not None and (name != "ioctl" or "VFIO" in args or "0x3b" in args.lower())
        if pid in self.children:
            if "/dev/vfio" in args or "VFIO_" in args:
                self.b.missed(number, line, "a call of a child process, which is not followed")
            else:
                self.b.passed += 1
            return
        if use is None or not concerns or not use(number, line, args.split(", "), answer, value):
            self.b.passed += 1

    # each returns whether there is something that is to be counted elsewhere: a call, or a line that was not understood

    def _openat(self, n: int, _: str, args: list[str], answer: str, value: str) -> bool:
        node = _NODE.search(" ".join(args))
        if node is None:
            return False
        handle = self.new(n, answer, value)
        if node[1] == "vfio":
            self.b.call(n, "open_container", handle, answer=answer)
        else:
            self.opened[handle] = self.b.call(n, "open_group", handle, grp=node[1], answer=answer)
        if answer == "0":
            self.b.open[handle] = "container" if node[1] == "vfio" else "group"
        return True

    _open = _openat

    def new(self, n: int, answer: str, value: str) -> str:
        """Return the handle of a call that opens something; the number was free again if it was in use."""
        handle = f"fd{value}" if answer == "0" else f"line{n}"
        if handle in self.b.open:
            self.b.assumed["a descriptor whose number comes back was closed before"] = None
            self.b.call(n, f"close_{self.b.open.pop(handle)}", handle)
        return handle

    def _close(self, n: int, _: str, args: list[str], answer: str, __: str) -> bool:
        fd = _FD.match(args[0])
        kind = self.b.open.pop(f"fd{fd[1]}", None) if fd and answer in ("0", "") else None
        if kind and fd:
            self.b.call(n, f"close_{kind}", f"fd{fd[1]}", answer=answer)
        return kind is not None

    def _dup(self, n: int, line: str, args: list[str], _: str, __: str) -> bool:
        fd = _FD.match(args[0])
        if fd is None or f"fd{fd[1]}" not in self.b.open or (args[1:] and args[1].startswith(("F_GET", "F_SET"))):
            return False
        self.b.missed(n, line, "a second descriptor of the same file is not followed")
        return True

    _dup2 = _dup3 = _fcntl = _dup

    def _clone(self, _: int, __: str, args: list[str], answer: str, value: str) -> bool:
        words = " ".join(args)
        if answer == "0" and ("CLONE_VM" not in words or "CLONE_VFORK" in words):
            self.children.add(value)
        return False

    _clone3 = _fork = _vfork = _clone

    def _mmap(self, n: int, line: str, args: list[str], answer: str, value: str) -> bool:
        size, offset = (_number(args[place]) if place < len(args) else None for place in (1, 5))
        where, kind = _number(value), _FD.match(args[4]) if len(args) > 4 else None
        if answer != "0" or size is None or where is None or len(args) < 6:
            return False
        if kind is not None and self.b.open.get(f"fd{kind[1]}") == "device":
            if offset is None:
                self.b.missed(n, line, "mmap without its offset")
            else:
                self.b.call(n, "mmapdev", f"fd{kind[1]}", region=offset >> 40, off=offset % (1 << 40), size=size, vaddr=where, answer="0")
            return True
        self.b.memory(n, where, size, _prot(args[2]))
        return False

    def _munmap(self, n: int, _: str, args: list[str], answer: str, __: str) -> bool:
        where, size = _number(args[0]), _number(args[1]) if len(args) > 1 else None
        if answer == "0" and where is not None and size:
            self.b.memory(n, where, size, _prot(args[2]) if len(args) > 2 else "hole")
        return False

    _mprotect = _munmap

    def _pwrite64(self, n: int, line: str, args: list[str], answer: str, _: str) -> bool:
        fd, offset = _FD.match(args[0]), _number(args[-1])
        if fd is None or self.b.open.get(f"fd{fd[1]}") != "device":
            return False
        data = _bytes(", ".join(args[1:-2]))
        if data is None or offset is None or len(data) not in (1, 2, 4, 8):
            self.b.missed(n, line, "the bytes that it writes are not all in the text")
        else:
            place = {"region": offset >> 40, "off": offset % (1 << 40), "len": len(data)}
            self.b.call(n, "pwrite", f"fd{fd[1]}", **place, val=int.from_bytes(data, "little"), answer=answer and str(len(data)))
        return True

    def _ioctl(self, n: int, line: str, args: list[str], answer: str, value: str) -> bool:
        fd, struct = _FD.match(args[0]), ", ".join(args[2:])
        if "_IOC(" in ", ".join(args[1:]):  # _IOC(_IOC_NONE, 0x3b, 0x71, 0): the commas are its own
            parts = [_number(word.strip(" )")) for word in args[2:5]]
            number, struct = ((parts[0] or 0) << 8) | (parts[1] or 0) if len(parts) > 1 else 0, ", ".join(args[5:])
        else:
            number = _number(args[1]) or 0 if len(args) > 1 else 0
        names = _NUMBERS.get(number) or "".join(args[1:2]).split(" or ")
        request = " or ".join(names)
        if fd is None or "VFIO_" not in request:
            if fd is not None and f"fd{fd[1]}" in self.b.open:
                self.b.missed(n, line, "an ioctl that is not known")
                return True
            return False
        handle = f"fd{fd[1]}"
        kind = self.b.open.get(handle) or _kind_of_path(fd[2] or "")
        names = [name for name in names if kind in ("", _kind(name))]
        if len(names) != 1 and "iova=" in struct:
            names = [name for name in names if "DMA" in name]
        if len(names) != 1 or names[0] not in _VERBS:
            why = f"{request} is not carried out" if kind else f"descriptor {fd[1]} was opened before the text begins: container or device?"
            self.b.missed(n, line, why)
            return True
        self.do(n, line, handle, names[0], struct, answer, value)
        return True

    def do(self, n: int, line: str, handle: str, name: str, struct: str, answer: str, value: str) -> None:
        verb = _VERBS[name]
        needed = _NEEDED.get(verb, ())
        fields = _fields(verb, struct)
        if fields is None or not all(key in fields for key in needed):
            why = f"the struct of {name} is not written out, only its address"
            self.b.missed(n, line, f"{name} lacks fields, or has words that are not known" if struct.startswith("{") else why)
            return
        args = {key: fields[key] for key in (*needed, *(("argsz",) if verb in ("map", "unmap", "set_irqs") else ())) if key in fields}
        if handle not in self.b.open:
            self.assume(handle, _kind(name), needs_iommu=name not in ("VFIO_GET_API_VERSION", "VFIO_CHECK_EXTENSION", "VFIO_SET_IOMMU"))
        if verb in ("get_api_version", "check_extension") and answer == "0":
            answer = value
        if verb == "map":
            iova, size, vaddr = args.pop("iova"), args.pop("size"), args.pop("vaddr")
            self.b.map(n, handle, iova, size, vaddr, answer=answer, **args)
        elif verb == "get_device_fd":
            self.device(n, handle, struct, answer, value)
        elif verb == "set_container":
            self.into(n, line, handle, struct, answer)
        elif verb in ("set_iommu", "check_extension"):
            which = _TYPES.get(struct) or _number(struct)
            if which is None:
                self.b.missed(n, line, f"{name} without its argument")
            else:
                self.b.call(n, verb, handle, **{"type" if verb == "set_iommu" else "ext": which}, answer=answer)
        else:
            self.b.call(n, verb, handle, answer=answer, **args)

    def device(self, n: int, group: str, struct: str, answer: str, value: str) -> None:
        named = re.match(r'"([\w:.-]{1,64})"', struct)
        if named is None:
            self.b.assumed["GET_DEVICE_FD, whose name is not in the text, asks for the first device of its group"] = None
        elif group in self.opened:
            self.opened[group].args["dev"] = named[1]
        handle = self.new(n, answer, value)
        self.b.call(n, "get_device_fd", handle, group, name=named[1] if named else ANY, answer=answer)
        if answer == "0":
            self.b.open[handle] = "device"

    def into(self, n: int, line: str, group: str, struct: str, answer: str) -> None:
        given = re.match(r"\[?(\d{1,9})(?:<.{0,300}>)?\]?$", struct)
        containers = [handle for handle, kind in self.b.open.items() if kind == "container"]
        if given is not None and f"fd{given[1]}" in containers:
            self.b.call(n, "set_container", group, f"fd{given[1]}", answer=answer)
        elif given is not None:
            self.b.call(n, "set_container", group, fd=int(given[1]), answer=answer)
        elif answer == "0" and len(containers) == 1:
            self.b.assumed["SET_CONTAINER, whose descriptor is not in the text, names the one container that is open"] = None
            self.b.call(n, "set_container", group, containers[0], answer=answer)
        else:
            self.b.missed(n, line, "which container it names is not in the text")

    def assume(self, handle: str, kind: str, *, needs_iommu: bool) -> None:
        self.b.assumed[f"{handle}, opened before the text begins, is a {kind} that is in use"] = None
        if kind == "container" and not needs_iommu:
            self.b.call(0, "open_container", handle)
        elif kind == "container":
            self.b.setup(0, handle, f"group-of-{handle}", ANY)
        else:
            group = handle if kind == "group" else f"group-of-{handle}"
            self.b.setup(0, f"container-of-{handle}", group, ANY)
            if kind == "device":
                self.b.call(0, "get_device_fd", handle, group, name=ANY)
        self.b.open[handle] = kind


def _kind(request: str) -> str:
    return "group" if request.startswith("VFIO_GROUP") else "device" if request.startswith("VFIO_DEVICE") else "container"


def _kind_of_path(path: str) -> str:
    node = _NODE.search(path)
    return "device" if "vfio-device" in path else "" if node is None else "container" if node[1] == "vfio" else "group"


def _number(word: str) -> int | None:
    word = word.replace("_", "").strip()
    if re.fullmatch(r"0x[0-9a-fA-F]{1,16}", word):
        return int(word, 16)
    return int(word) if re.fullmatch(r"\d{1,20}", word) and int(word) < 1 << 64 else 0 if word == "NULL" else None


def _fields(verb: str, struct: str) -> dict[str, int] | None:
    """Return the fields of a struct that is written out; None if one of them is no number and no known word."""
    found: dict[str, int] = {}
    if not struct.startswith("{"):
        return found
    for key, word in _FIELD.findall(struct):
        value = 0
        for part in word.split("|"):
            number = _number(part)
            if number is None and key == "flags":
                number = next((1 << bit for bit, flag in enumerate(WORDS[verb].flags) if f"_{part}".endswith(f"_{flag}")), None)
            elif number is None:
                number = _INDEXES.get(part)
            if number is None and key in _NEEDED.get(verb, ()):
                return None
            value |= number or 0
        found[key] = value
    return found


def _prot(word: str) -> str:
    return "rw" if "PROT_WRITE" in word else "r" if "PROT_READ" in word else "none"


def _bytes(word: str) -> bytes | None:
    if not re.fullmatch(r'"(?:[ !#-\[\]-~]|\\[0-7]{1,3}|\\[abfnrtv"\\]|\\x[0-9a-f]{2}){0,64}"', word):
        return None
    return bytes(ast.literal_eval(f"b{word}"))
