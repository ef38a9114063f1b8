"""The memory of a running program: its structs, and which of its pages the kernel could pin."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import struct
from collections.abc import Iterator
from typing import NamedTuple

from vfiolab.run.seccomp import syscall

PAGE = 4096
_QUERY, _COVERING_OR_NEXT = 0xC068_6611, 0x10


def _vectors(local: ctypes.Array[ctypes.c_char], address: int, size: int) -> tuple[object, object]:
    ours = ctypes.create_string_buffer(struct.pack("<QQ", ctypes.addressof(local), size), 16)
    theirs = ctypes.create_string_buffer(struct.pack("<QQ", address, size), 16)
    return ctypes.byref(ours), ctypes.byref(theirs)


def read(pid: int, address: int, size: int) -> bytes:
    """Return the bytes at an address, as far as they can be read: fewer than `size` where the memory ends."""
    out = b""
    while size and address < 1 << 64:  # page by page, for what cannot be read ends it
        part = min(size, PAGE - address % PAGE)
        buffer = ctypes.create_string_buffer(part)
        ours, theirs = _vectors(buffer, address, part)
        if syscall("process_vm_readv", pid, ours, 1, theirs, 1, 0) != part:
            break
        out, address, size = out + buffer.raw, address + part, size - part
    return out


def write(pid: int, address: int, data: bytes) -> bool:
    """Write bytes at an address; False if not all of it may be written."""
    buffer = ctypes.create_string_buffer(bytes(data), max(len(data), 1))
    ours, theirs = _vectors(buffer, address, len(data))
    return not data or syscall("process_vm_writev", pid, ours, 1, theirs, 1, 0) == len(data)


def text(pid: int, address: int, longest: int = PAGE) -> bytes | None:
    """Return the bytes up to a zero, such as a path; None if there is no zero within `longest` bytes that can be read."""
    out = b""
    while len(out) < longest:
        place = address + len(out)
        part = read(pid, place, min(PAGE - place % PAGE, longest - len(out)))
        out += part
        if b"\0" in part:
            return out[: out.index(b"\0")]
        if not part:
            break
    return None


class Area(NamedTuple):
    """A stretch of a program's memory, half-open, with its rights (of r and w), and the file behind it."""

    start: int
    end: int
    prot: str
    offset: int
    device: tuple[int, int]
    inode: int


class Areas:
    """What lies where in a process. From Linux 6.11 on each question is one call (PROCMAP_QUERY); before, all of /proc/PID/maps is read."""

    queries = True

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._fd = os.open(f"/proc/{pid}/maps", os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """Let go."""
        os.close(self._fd)

    def within(self, start: int, end: int) -> Iterator[Area]:
        """Yield the areas that have a byte in [start, end), ascending."""
        if self.queries:
            with contextlib.suppress(_NoQueriesError):
                yield from self._queried(start, end)
                return
            type(self).queries = False
        with open(f"/proc/{self.pid}/maps", encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - a file of a moment
            for area in map(_parsed, file):
                if area.start < end and start < area.end:
                    yield area

    def _queried(self, start: int, end: int, *, again: bool = False) -> Iterator[Area]:
        while start < end:
            data = bytearray(struct.pack("<QQQ", 104, _COVERING_OR_NEXT, start) + bytes(80))
            try:
                fcntl.ioctl(self._fd, _QUERY, data)
            except FileNotFoundError:
                return
            except ProcessLookupError:  # it has become another program: its memory is another
                if again:
                    return
                self.close()
                self._fd = os.open(f"/proc/{self.pid}/maps", os.O_RDONLY | os.O_CLOEXEC)
                yield from self._queried(start, end, again=True)
                return
            except OSError as error:
                raise _NoQueriesError from error
            first, last, flags, _, offset, inode, major, minor = struct.unpack_from("<QQQQQQII", data, 24)
            if first >= end:
                return
            yield Area(first, last, "r" * (flags & 1) + "w" * (flags >> 1 & 1), offset, (major, minor), inode)
            start = last


class _NoQueriesError(Exception):
    """The kernel has no PROCMAP_QUERY."""


def _parsed(line: str) -> Area:
    span, rights, offset, device, inode = line.split(maxsplit=5)[:5]
    start, _, end = span.partition("-")
    major, _, minor = device.partition(":")
    return Area(int(start, 16), int(end, 16), rights[:2].replace("-", ""), int(offset, 16), (int(major, 16), int(minor, 16)), int(inode))
