"""What the clients of test_run.py share: each is this text and a body, run by a Python of its own. `say` writes what the test compares."""

# ruff: noqa: F401 - what the bodies use

import array
import ctypes
import errno
import fcntl
import json
import mmap
import os
import signal
import socket
import struct
import sys

A, B = "0000:01:00.0", "0000:02:00.0"
libc = ctypes.CDLL(None, use_errno=True)
out = open(sys.argv[1], "w")  # noqa: PTH123, SIM115 - small, and open until the client ends


def say(*values):
    out.write(json.dumps(values if len(values) > 1 else values[0]) + "\n")
    out.flush()


def call(fd, cmd, arg=0):
    """Make an ioctl with a number or with bytes, which are filled; return its value or the errno's name."""
    pointer = (ctypes.c_char * len(arg)).from_buffer(arg) if isinstance(arg, bytearray) else ctypes.c_ulong(arg)
    value = libc.ioctl(fd, ctypes.c_ulong(cmd), pointer)
    return errno.errorcode[ctypes.get_errno()] if value < 0 else value


def opened(path, flags=os.O_RDWR):
    try:
        return os.open(path, flags)
    except OSError as error:
        return errno.errorcode[error.errno]


def group_of(device):
    return os.path.basename(os.readlink(f"/sys/bus/pci/devices/{device}/iommu_group"))  # noqa: PTH115, PTH119 - as C programs do


def memory(size, prot=3):
    """Return the address of fresh memory; prot as mmap has it."""
    libc.mmap.restype = ctypes.c_void_p
    return libc.mmap(None, ctypes.c_size_t(size), prot, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)


def attached(*devices, kind=3):
    """Return a container with the devices' groups in it and a backend, then the groups."""
    container = os.open("/dev/vfio/vfio", os.O_RDWR)
    groups = [os.open(f"/dev/vfio/{group_of(device)}", os.O_RDWR) for device in devices]
    for group in groups:
        assert call(group, 0x3B68, bytearray(struct.pack("i", container))) == 0
    assert call(container, 0x3B66, kind) == 0
    return container, *groups


def dma_map(container, iova, size, vaddr, flags=3):
    return call(container, 0x3B71, bytearray(struct.pack("IIQQQ", 32, flags, vaddr, iova, size)))


def dma_unmap(container, iova, size, flags=0):
    data = bytearray(struct.pack("IIQQ", 24, flags, iova, size))
    value = call(container, 0x3B72, data)
    return struct.unpack("IIQQ", data)[3] if value == 0 else value


def device_of(group, name):
    return call(group, 0x3B6A, bytearray(name.encode() + b"\0"))


def irqs(device, flags, index, start, count, data=b"", argsz=None):
    argsz = 20 + len(data) if argsz is None else argsz
    return call(device, 0x3B6E, bytearray(struct.pack("IIIII", argsz, flags, index, start, count) + data))
