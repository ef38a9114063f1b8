"""What an ioctl's pointer leads to in a running program: read before the model is asked, written back after it has answered."""

from __future__ import annotations

from collections.abc import Callable

from vfiolab.model.irq.msi import DATA_BOOL, DATA_EVENTFD
from vfiolab.model.uapi.iommufd import AllowIovas, BindIommufd, IoasMap, IovaRange, IovaRanges, Sized
from vfiolab.model.uapi.requests import DeviceFeature, HotReset, IommuInfo, IrqSet, MapDma, Struct
from vfiolab.model.user.descriptor import UserStruct
from vfiolab.run import memory

PAGE, MOST_OF_A_STRUCT = 4096, 1 << 16
#: A function has no more vectors (MSI-X), and a bus no more functions: larger counts are refused before what they count is read.
MOST_VECTORS = 2048
MOST_RANGES = 1 << 16  # of an array that is read at once
STRUCTS = {kind.NAME: kind for kind in (*Struct.__subclasses__(), *Sized.__subclasses__())}
#: Where an ioctl has the address of memory that is to be pinned (its length is at 24), and where it names a descriptor.
PINNED = {MapDma.NAME: 8, IoasMap.NAME: 16}
NAMING = {"int": 0, BindIommufd.NAME: 8}


def argument(pid: int, arg: int, struct: str, writable: Callable[[int, int], bool]) -> UserStruct:
    """Return what an ioctl's pointer leads to, as much of it as the kernel reads or fills. `writable` tells whether it may be written."""
    if struct == "int":
        return UserStruct(memory.read(pid, arg, 4))
    if struct == "char[]":
        name = memory.text(pid, arg, PAGE)
        if name is not None:
            return UserStruct(name + b"\0")
        whole = memory.read(pid, arg, PAGE)
        return UserStruct(whole if len(whole) == PAGE else b"")
    kind = STRUCTS[struct]
    if issubclass(kind, Sized):
        size = int.from_bytes(memory.read(pid, arg, 4), "little")
        data = UserStruct(memory.read(pid, arg, min(max(size, 4), MOST_OF_A_STRUCT)))
        if (pointer := _array(kind, data)) is not None and len(data) == size:
            data += memory.read(pid, pointer, min(int.from_bytes(data[8:12], "little"), MOST_RANGES) * IovaRange.FORMAT.size)
        return data
    data = UserStruct(memory.read(pid, arg, kind.FORMAT.size))
    argsz = int.from_bytes(data[:4], "little")
    if len(data) < kind.MINIMUM:
        return UserStruct()
    del data[max(argsz, kind.MINIMUM) :]
    if kind is IrqSet:
        count = IrqSet.unpack(data).count
        size = {DATA_BOOL: 1, DATA_EVENTFD: 4}.get(data[4] & 7, 0) * count
        data += memory.read(pid, arg + len(data), size) if count <= MOST_VECTORS else b""
    elif kind is HotReset:
        count = HotReset.unpack(data).count
        data += memory.read(pid, arg + len(data), 4 * count) if count <= MOST_VECTORS else b""
    elif kind is not DeviceFeature:
        data += bytes(max(min(argsz, MOST_OF_A_STRUCT) - len(data), 0))
    if kind is IommuInfo:
        data.writable = writable(pid, arg)
    return data


def unknown(pid: int, arg: int) -> int | UserStruct:
    """Return the argument of an ioctl that the model has no row for: what it leads to, if it is a pointer."""
    readable = memory.read(pid, arg, 32)
    return UserStruct(readable) if readable else 0


def written_back(pid: int, arg: int, struct: str, data: UserStruct, given: int | None) -> bool:
    """Write an answer into the program's memory; False if it cannot be put there. `given`: the program's own descriptor in it."""
    if struct == BindIommufd.NAME and given is not None:
        data[8:12] = given.to_bytes(4, "little", signed=True)  # out_devid alone comes back
    if data.answered and (pointer := _array(IovaRanges, data)) is not None and struct == IovaRanges.NAME:
        behind = data[int.from_bytes(data[:4], "little") :][: int.from_bytes(data[8:12], "little") * IovaRange.FORMAT.size]
        if behind and not memory.write(pid, pointer, bytes(behind)):
            return False
    return not data.answered or memory.write(pid, arg, bytes(data[: data.answered]))


def _array(kind: type[Struct], data: bytes | bytearray) -> int | None:
    """Return where the array of an iommufd's struct is in the program's memory; None for a struct without one, or cut off before that."""
    return int.from_bytes(data[16:24], "little") if kind in (IovaRanges, AllowIovas) and len(data) >= 24 else None
