r"""A session as a C program: the system calls of its first process, through <linux/vfio.h>, each with the model's answer beside it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from vfiolab._paths import data_dir
from vfiolab._text import plain
from vfiolab.kit.export import Kept
from vfiolab.model.address import Span
from vfiolab.model.events import Call
from vfiolab.model.irq.msi import DISABLE, TRIGGER_EVENTFD, irq_set_size
from vfiolab.model.uapi.requests import Struct
from vfiolab.model.uapi.words import WORDS

__all__ = ["to_c"]

IN_DATA = {"iova", "size", "bm_pgsize", "bm_size"}  # of a dirty bitmap: behind the struct's head
PROT = {"rw": "PROT_READ | PROT_WRITE", "r": "PROT_READ", "none": "PROT_NONE"}
POINTERS = {"bad": "(void *)8", "null": "(void *)0", "readonly": "readonly()"}
NOT_DONE = {
    **dict.fromkeys(("dma_write", "dma_read"), "a device does this by itself: no system call does it"),
    "raise_msi": "a device raises its interrupt by itself: no system call does it",
    **dict.fromkeys(("fork", "new_process"), "this program is one process, and starts no other"),
}
#: The arguments of the ioctls without a struct.
PLAIN: Mapping[str, str] = {
    "get_api_version": "0", "check_extension": "{ext}UL", "set_iommu": "{type}UL", "unset_container": "0", "device_reset": "0",
}  # fmt: skip
#: The writes to one file of sysfs: the file and the word.
WRITES: Mapping[str, tuple[str, str]] = {
    "unbind": ("bus/pci/devices/{dev}/driver/unbind", "{dev}"),
    "remove": ("bus/pci/devices/{dev}/remove", "1"),
    "rescan": ("bus/pci/rescan", "1"),
}
#: The name that a part of the template defines: a macro that older headers lack (5.8, 5.12, glibc 2.27), or a function.
_NAME = re.compile(r"(?<=#define )\w+|\w+\(")
_FILE_NAME = re.compile(r"(?!\.)[\w.:-]{1,200}", re.ASCII)


def to_c(session: Kept) -> str:
    """Return a session as a C program: the first process's calls, with what is none of them as comments."""
    body = "\n".join(f"    {line}" for line in _Program(session).lines())
    fds = [int(call.args["fd"]) for call in session.host.log.calls if "fd" in call.args]
    head = f"""/* {_words(session.name)}: a session on {_words(session.host.machine.name)}, Linux {_words(str(session.host.kernel))}, as C.
 * Build it with: gcc -std=c11 -Wall -o session session.c
 * Run it as root on such a machine: devices change their drivers. It prints what the kernel answers;
 * what the model answers stands beside each call. A call that is refused there is expected to be refused.
 */"""
    text = (data_dir() / "templates" / "session.c").read_text(encoding="utf-8")
    includes, *parts = text.rstrip().split("\n\n")
    used = [part for part in parts if _NAME.findall(part)[0] in body]
    newer = "\n".join(part for part in used if part.startswith("#ifndef"))
    helpers = [part for part in used if not part.startswith("#ifndef")]
    first = f"    static int fd[{max(fds, default=0) + 1}]; /* the descriptors, by the numbers that they have in the model */"
    opening = f"int main(void) {{\n{first}\n    memset(fd, -1, sizeof fd);"
    return "\n\n".join([head, includes, *filter(None, [newer]), *helpers, f"{opening}\n{body}\n    return 0;\n}}\n"])


class _Program:
    """Writes the calls, one after the other; `opened`: the numbers that descriptors have had."""

    def __init__(self, session: Kept) -> None:
        self.host, self.opened = session.host, set[int]()
        arena = self.host.machine.arena
        self.arena = [("rw", Span.sized(arena.base, arena.size)), ("r", Span.sized(arena.ro_base, arena.ro_size))]

    def lines(self) -> Iterator[str]:
        """Yield the body's lines: the memory that was there from the start, then the calls."""
        calls = self.host.log.calls
        places = [int(call.args["vaddr"]) for call in calls if call.args.get("vaddr") is not None]
        for prot, span in self.arena:
            if span.size and any(span.start <= place < span.end for place in places):
                yield f'told("mmap", memory({_hex(span.start)}, {_hex(span.size)}, {PROT[prot]}, MAP_FIXED_NOREPLACE));'
        ended = False
        for call in calls:
            answer = f"{call.result}: {call.error.why}" if call.error else "opens it" if "fd" in call.args else call.result
            if call.process:
                yield f"/* process {_words(call.process)}, which is not this one: {_words(str(call))} */"
            elif ended:
                yield f"/* after the end of this process: {_words(str(call))} */"
            else:
                yield from self._call(call, f"/* the model: {_words(answer)} */")
                ended = call.verb == "exit"

    def _call(self, call: Call, answer: str) -> Iterator[str]:
        lines = self._written(call)
        if lines is None:
            why = NOT_DONE.get(call.verb, "this program does not do it")
            yield f"/* {why}: {_words(str(call))} */"
            return
        yield from lines[:-1]
        yield f"{lines[-1]} {answer}"

    def _written(self, call: Call) -> list[str] | None:
        """Return the lines that make a call; None if this program cannot make it."""
        if call.verb in PLAIN:
            return self._ioctl(call, PLAIN[call.verb].format(**call.args))
        if call.verb in WRITES:
            path, word = WRITES[call.verb]
            return self._put(path.format(**call.args), word.format(**call.args))
        if call.verb in WORDS and (struct := WORDS[call.verb].struct):
            return self._request(call, struct)
        write: Callable[[Call], list[str] | None] | None = getattr(self, f"_{call.verb}", None)
        return write(call) if write is not None else None

    def _fd(self, number: int) -> str:
        return f"fd[{number}]" if number in self.opened else str(number)

    def _of(self, call: Call) -> str:
        return self._fd(int(call.target.removeprefix("fd")))

    def _ioctl(self, call: Call, argument: str) -> list[str]:
        request = WORDS[call.verb].name
        return [f'told("{request}", ioctl({self._of(call)}, {request}, {argument}));']

    def _open(self, call: Call, path: str, result: str) -> list[str]:
        if "fd" not in call.args:
            return [f"told({_text(f'open {path}')}, {result});"]
        self.opened.add(call.args["fd"])
        return [f"{self._fd(call.args['fd'])} = told({_text(f'open {path}')}, {result});"]

    # open, close

    def _open_container(self, call: Call) -> list[str]:
        return self._open(call, "/dev/vfio/vfio", 'open("/dev/vfio/vfio", O_RDWR)')

    def _open_group(self, call: Call) -> list[str] | None:
        group = str(call.output.get("group", call.target))
        known = self.host.core.group_of(group) if not group.isdecimal() else None
        path = f"/dev/vfio/{known.id if known else group}"
        return self._open(call, path, f"open({_text(path)}, O_RDWR)") if _FILE_NAME.fullmatch(group) else None

    def _get_device_fd(self, call: Call) -> list[str]:
        name = str(call.args["name"])
        return self._open(call, name, f"ioctl({self._of(call)}, VFIO_GROUP_GET_DEVICE_FD, {_text(name)})")

    def _close(self, call: Call) -> list[str]:
        return [f'told("close", close({self._of(call)}));']

    _close_container = _close_group = _close_device = _close_descriptor = _close

    # ioctls

    def _set_container(self, call: Call) -> list[str]:
        number = self._fd(int(str(call.args["container"]).removeprefix("fd")))
        return self._ioctl(call, f"&(int){{{number}}}")

    def _raw_ioctl(self, call: Call) -> list[str]:
        return [f'told("ioctl {call.args["cmd"]:#x}", ioctl({self._of(call)}, {_hex(call.args["cmd"])}, {_hex(call.args["arg"])}));']

    def _request(self, call: Call, kind: type[Struct]) -> list[str]:
        name = WORDS[call.verb].name
        given = {key: value for key, value in call.args.items() if key in kind.OFFSETS and value is not None}
        if call.verb == "set_irqs":
            flags = given.setdefault("flags", TRIGGER_EVENTFD if given["count"] else DISABLE)
            given.setdefault("argsz", irq_set_size(flags, given["count"]))
        record = kind(**given)
        head = kind.OFFSETS.keys() - (IN_DATA if call.verb == "dirty" else IN_DATA - {"iova", "size"}) - {"bm_data"}
        fields = [(field, getattr(record, field)) for field in kind.OFFSETS if field in head]
        written = [f"    arg->{field} = {_value(call.verb, field, value)};" for field, value in fields if value]
        pointer = POINTERS.get(str(call.args.get("ptr")), "arg")
        label = f"{name} {_words(call.args['name'])}" if call.args.get("name") else name
        block = ["{", f"    struct {kind.NAME} *arg = argument();", *written, *self._behind(call, record)]
        if pointer != "arg":
            block.append("    (void)arg;")
        if not call.args.get("fresh"):
            return [*block, f"    told({_text(label)}, ioctl({self._of(call)}, {name}, {pointer}));", "}"]
        place = f"{_hex(call.args['vaddr'])}, {_hex(max(call.args['size'], 1))}"
        return [
            f'told("mmap", memory({place}, {PROT["rw"]}, MAP_FIXED_NOREPLACE));', *block,
            f"    if (told({_text(label)}, ioctl({self._of(call)}, {name}, {pointer})) < 0)",
            f"        munmap((void *){place});", "}",
        ]  # fmt: skip

    def _behind(self, call: Call, record: Any) -> list[str]:
        """Return what stands behind the struct's head: a bitmap to be filled, or a byte or a descriptor for each vector."""
        if call.verb in ("unmap", "dirty") and (record.bm_pgsize or record.bm_size):
            numbers = [record.bm_pgsize, record.bm_size]
            numbers = [record.iova, record.size, *numbers] if call.verb == "dirty" else numbers
            size = _hex(min(max(record.bm_size, 1), 1 << 32))
            room = f"(uintptr_t)mmap(0, {size}, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)"
            return [
                "    __u64 *more = (void *)arg->data;",
                *(f"    more[{n}] = {word};" for n, word in enumerate([*map(_hex, numbers), room])),
            ]
        kind = record.flags & 7 if call.verb == "set_irqs" else 0
        if kind not in (2, 4) or not record.count:
            return []
        evfd = call.args.get("evfd")
        evfd = "new" if evfd is None else str(evfd)
        new = "eventfd(0, EFD_CLOEXEC)"
        words = [new if word == "new" else self._fd((int(word) + (1 << 31)) % (1 << 32) - (1 << 31)) for word in evfd.split(",")]
        each = words[0] if len(words) == 1 else f"(int[]){{{', '.join(words)}}}[n]"
        if kind == 2:
            each = "1" if call.args.get("vals") is None else str(call.args["vals"])
        return [
            f"    {'int' if kind == 4 else 'unsigned char'} *each = (void *)arg->data;",
            f"    for (unsigned n = 0; n < {min(record.count, 4096)}; n++)",
            f"        each[n] = {each};",
        ]

    # the process and its memory

    def _mem(self, call: Call) -> list[str]:
        place = f"{_hex(call.args['vaddr'])}, {_hex(call.args['size'])}"
        if call.args["prot"] == "hole":
            return [f'told("munmap", munmap((void *){place}));']
        flags = "MAP_FIXED | MAP_POPULATE" if call.args["kind"] == "populate" else "MAP_FIXED"
        return [f'told("mmap", memory({place}, {PROT[call.args["prot"]]}, {flags}));']

    def _mmapdev(self, call: Call) -> list[str]:
        a = call.args
        where = f"((__u64){_hex(a['region'])} << 40) + {_hex(a['off'] or 0)}"  # vfio-pci: a region's number stands above bit 40
        place = f"(void *){_hex(a['vaddr'])}, {_hex(a['size'])}"
        mapped = f"mmap({place}, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, {self._of(call)}, {where})"
        return [f'told("mmap", {mapped} == MAP_FAILED ? -1 : 0);']

    def _pwrite(self, call: Call) -> list[str]:
        a = call.args
        if a["len"] > 8:
            return [f"/* {_words(str(call))} */"]
        where = f"((__u64){_hex(a['region'])} << 40) + {_hex(a['off'])}"
        return [f'told("pwrite", pwrite({self._of(call)}, &(__u64){{{_hex(a["val"])}}}, {a["len"]}, {where}));']

    def _rlimit_memlock(self, call: Call) -> list[str]:
        limit = "RLIM_INFINITY" if call.target.startswith("-") else _hex(int(call.target, 16))
        return [f'told("setrlimit", memlock({limit}));']

    def _drop_cap(self, call: Call) -> list[str]:
        back, kept = int(call.args.get("restore") == 1), int(call.args.get("keep") != 0)
        return [f'told("capset", capability({call.args["cap"]}U, {back}, {kept}));']

    def _exit(self, _: Call) -> list[str]:
        return ["return 0;"]

    # sysfs

    def _put(self, path: str, word: str) -> list[str] | None:
        """Return a write to sysfs; None for names that are no names of files: a program that runs as root writes nowhere else."""
        if not all(map(_FILE_NAME.fullmatch, [*path.split("/"), word])):
            return None
        return [f"told({_text(f'echo {word} > /sys/{path}')}, put({_text(f'/sys/{path}')}, {_text(word)}));"]

    def _bind(self, call: Call) -> list[str] | None:
        device, driver = str(call.args["dev"]), str(call.args["drv"])
        steps = [
            self._put(f"bus/pci/devices/{device}/driver_override", driver),
            self._put(f"bus/pci/devices/{device}/driver/unbind", device),  # without a driver there is no such file
            self._put(f"bus/pci/drivers/{driver}/bind", device),
        ]
        return None if None in steps else [line for step in steps for line in step or ()]

    def _param(self, call: Call) -> list[str] | None:
        return self._put(f"module/{str(call.args['name']).replace('.', '/parameters/', 1)}", str(call.args["value"]))


def _hex(number: int) -> str:
    return str(number) if 0 <= number < 10 else f"{number % (1 << 64):#x}ULL"


def _value(verb: str, field: str, value: int) -> str:
    return _flags(verb, value) if field == "flags" else str(value) if field == "argsz" else _hex(value)


def _flags(verb: str, value: int) -> str:
    word = WORDS[verb]
    known, rest = word.known(value)
    return " | ".join([*(f"{word.prefix}{name}" for name in known), *([f"{rest:#x}U"] if rest else [])])


def _text(text: str) -> str:
    """Return a text as a C literal: nothing in it ends the literal, nor is a trigraph."""
    raw = text.encode(errors="surrogatepass")
    return '"' + "".join(chr(one) if 32 <= one < 127 and chr(one) not in '"\\?' else f"\\{one:03o}" for one in raw) + '"'


def _words(text: str) -> str:
    """Return a text for a comment: plain ASCII, which neither ends the comment nor begins another."""
    ascii_text = plain(text).encode("ascii", "backslashreplace").decode()
    return re.sub(r"\?(?=\?)", "? ", ascii_text.replace("*/", "* /").replace("/*", "/ *"))
