"""A program's descriptors: each is a memfd, whose inode is its name, so that dup, fork, exec and passing on need nothing here.

The server keeps no descriptor of them. When the last reference goes, the kernel says so (inotify), in the order in which it closes files.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vfiolab.model.user.descriptor import Descriptor

REGION, CONFIG, REGIONS = 40, 7, 9
_MODIFIED, _GONE, _FORGOTTEN = 0x2, 0x400, 0x8000
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(slots=True)
class Opened:
    """An open file of VFIO: container, group or device. `name` is its path or the device's.

    `twins` are the model's descriptors of it, by the name of the model's process.
    """

    kind: str
    name: str
    twins: dict[str, Descriptor] = field(default_factory=dict)


def inode_of(pid: int, fd: int) -> tuple[int, int] | None:
    """Return (device, inode) of what a program's descriptor leads to; None if it has no such descriptor."""
    try:
        found = os.stat(f"/proc/{pid}/fd/{fd}")  # noqa: PTH116 - a hot path
    except OSError:
        return None
    return found.st_dev, found.st_ino


def region_at(offset: int) -> tuple[int, int]:
    """Return the region of a device that lies at an offset of its descriptor, and the offset in it."""
    return offset >> REGION, offset & (1 << REGION) - 1


class Files:
    """The open files of VFIO by (device, inode), and the watch on them and on the files that a program may write into."""

    def __init__(self) -> None:
        self.fd = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        self._opened: dict[tuple[int, int], Opened] = {}
        self._watched: dict[int, tuple[int, int] | Path] = {}
        self.paths: set[Path] = set()

    def at(self, pid: int, fd: int) -> Opened | None:
        """Return the open file behind a program's descriptor; None for any that is not VFIO's."""
        found = inode_of(pid, fd)
        return None if found is None else self._opened.get(found)

    def of(self, device: tuple[int, int], inode: int) -> Opened | None:
        """Return the open file behind a stretch of memory, of which (major, minor) and the inode are known."""
        return self._opened.get((os.makedev(*device), inode))

    def new(self, opened: Opened, config: bytes = b"") -> int:
        """Return a descriptor of ours for a new open file, to be handed over and closed; `config`: a device's configuration space."""
        fd = os.memfd_create(f"vfio-{opened.kind}", os.MFD_CLOEXEC)
        if config:
            os.ftruncate(fd, REGIONS << REGION)
            os.pwrite(fd, config, CONFIG << REGION)
        stat = os.fstat(fd)
        name = stat.st_dev, stat.st_ino
        self._opened[name] = opened
        self._watched[self._watch(f"/proc/self/fd/{fd}", _GONE)] = name
        return fd

    def watch(self, path: Path) -> None:
        """Watch a file that a program may write into."""
        self._watched[self._watch(str(path), _MODIFIED)] = path
        self.paths.add(path)

    def _watch(self, path: str, mask: int) -> int:
        number: int = _libc.inotify_add_watch(self.fd, os.fsencode(path), mask)
        if number < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), path)
        return number

    def news(self) -> Iterator[Opened | Path]:
        """Yield what happened since the last time, in order: the open files that are closed for good, the files that were written into."""
        while True:
            try:
                data = os.read(self.fd, 1 << 16)
            except BlockingIOError:
                return
            at = 0
            while at < len(data):
                number, mask, _, length = struct.unpack_from("<iIII", data, at)
                at += 16 + length
                what = self._watched.get(number)
                if isinstance(what, Path) and mask & _MODIFIED:
                    yield what
                elif isinstance(what, tuple) and mask & (_GONE | _FORGOTTEN):
                    del self._watched[number]
                    yield self._opened.pop(what)

    def close(self) -> None:
        """Stop watching."""
        with contextlib.suppress(OSError):
            os.close(self.fd)
