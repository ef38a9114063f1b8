"""A sysfs tree as a directory or a tar file, read the same way and never unpacked.

What is in it may be anybody's: only the files that say something about PCI and IOMMUs are read, each once and its first 64 KiB at most,
only if it is a regular file inside the tree; links are followed inside it only; a tar may be so large and no larger.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import posixpath
import stat
import tarfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Self, cast

from vfiolab.readers.errors import InputError
from vfiolab.readers.lines import number_of

MOST_ENTRIES = 500_000
MOST_BYTES = 1 << 16
#: Of an archive as it is when unpacked: a tar of all of /sys has a tenth of it.
MOST_UNPACKED = 1 << 30
MOST_KEPT = 256 << 20
LONGEST_NAME = 4096
#: The files that are read. All others are only names.
WANTED = frozenset({"class", "config", "device", "reserved_regions", "sriov_numvfs", "sriov_totalvfs", "type", "vendor"})
#: What tarfile and the decompressors raise for an archive that is damaged.
_BROKEN = (tarfile.TarError, EOFError, OSError, ValueError, zlib.error, lzma.LZMAError, OverflowError, MemoryError, IndexError)


class Tree(ABC):
    """Files by absolute path inside the tree ("/bus/pci/devices"); links are followed inside it only."""

    @abstractmethod
    def names(self, path: str) -> list[str]:
        """Return what is in a directory, sorted; nothing if it is none."""

    @abstractmethod
    def bytes(self, path: str) -> bytes | None:
        """Return at most 64 KiB of a file; None if there is none or it may not be read."""

    @abstractmethod
    def target(self, path: str) -> str | None:
        """Return the full path that a name stands for, links resolved; None if it does not exist."""

    def text(self, path: str) -> str | None:
        """Return a file's text without padding; None if there is none."""
        data = self.bytes(path)
        return None if data is None else data.rstrip(b"\0").decode("utf-8", errors="replace").strip()

    def number(self, path: str) -> int | None:
        """Return a file that holds one number."""
        word = self.text(path) or ""
        return number_of(word.removeprefix("0x"), 16 if word.startswith("0x") else 10)

    def link_name(self, path: str) -> str | None:
        """Return the last part of where a link leads, also where its target was not copied; None if it is none."""
        found = self.target(path)
        return None if found is None else posixpath.basename(found)


class DirectoryTree(Tree):
    """A folder, such as /sys itself."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._real = os.path.realpath(root)

    def _at(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def _inside(self, path: str) -> str | None:
        """Return where a name leads on the disk; None if that is outside the tree."""
        real = os.path.realpath(self._at(path))
        return real if real == self._real or real.startswith(self._real.rstrip(os.sep) + os.sep) else None

    def names(self, path: str) -> list[str]:
        """Return what is in a directory, sorted."""
        try:
            real = self._inside(path)
            return [] if real is None else sorted(entry.name for entry in Path(real).iterdir())
        except (OSError, ValueError):
            return []

    def bytes(self, path: str) -> bytes | None:
        """Return at most 64 KiB of a file."""
        try:
            real = self._inside(path)
            if real is None or not stat.S_ISREG(Path(real).stat().st_mode):
                return None
            with os.fdopen(os.open(real, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
                return file.read(MOST_BYTES)
        except (OSError, ValueError):
            return None

    def target(self, path: str) -> str | None:
        """Return the path that a name stands for; of a link that leads out of the tree, where it would lead."""
        try:
            real = os.path.realpath(self._at(path))
            if not os.path.lexists(self._at(path)):
                return None
        except (OSError, ValueError):
            return None
        inside = self._inside(path)
        return real if inside is None else "/" + os.path.relpath(inside, self._real).replace(os.sep, "/")


class _Bounded:
    """A compressed file that ends with an error rather than without end."""

    def __init__(self, file: IO[bytes], most: int) -> None:
        self._file, self._left = file, most

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(min(size, self._left + 1) if size >= 0 else self._left + 1)
        self._left -= len(data)
        if self._left < 0:
            raise tarfile.ReadError(f"more than {MOST_UNPACKED >> 20} MiB unpacked")
        return data


class TarTree(Tree):
    """A tar file, compressed or not. Members are looked at in place; nothing is written anywhere."""

    def __init__(self, path: Path) -> None:
        self.kids: dict[str, set[str]] = {}
        self.links: dict[str, str] = {}
        self.files: dict[str, bytes] = {}
        self._kept = 0
        advice = "pack /sys/bus/pci, /sys/class/iommu, /sys/kernel/iommu_groups and /sys/devices only"
        try:
            for count, (archive, member) in enumerate(_members(path)):
                if count > MOST_ENTRIES:
                    raise InputError(f"more than {MOST_ENTRIES} members", where=str(path), advice=advice)
                self._add(archive, member)
                if self._kept > MOST_KEPT:
                    raise InputError(f"more than {MOST_KEPT >> 20} MiB of it would have to be kept", where=str(path), advice=advice)
        except _BROKEN as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"not a readable tar file: {error}", where=str(path), advice=advice) from error

    def _add(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        if len(member.name) > LONGEST_NAME or member.name.count("/") > 64:
            return
        name = posixpath.normpath("/" + member.name)
        self._kept += 400 + len(name)
        parent = name
        while parent != "/":
            up = posixpath.dirname(parent)
            known = posixpath.basename(parent) in self.kids.setdefault(up, set())
            self.kids[up].add(posixpath.basename(parent))
            if known:
                break
            parent = up
        if member.issym() and len(member.linkname) <= LONGEST_NAME:
            self.links[name] = posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname))
        elif member.isfile() and posixpath.basename(name) in WANTED:
            file = archive.extractfile(member)
            self.files[name] = b"" if file is None else file.read(MOST_BYTES)
            self._kept += len(self.files[name])

    def _resolve(self, path: str) -> str:
        for _ in range(16):
            parts, at = path.strip("/").split("/"), ""
            for n, part in enumerate(parts):
                at = f"{at}/{part}"
                if at in self.links:
                    path = posixpath.normpath("/".join([self.links[at], *parts[n + 1 :]]))
                    break
            else:
                return at
        return path

    def names(self, path: str) -> list[str]:
        """Return what is in a directory, sorted."""
        return sorted(self.kids.get(self._resolve(path), ()))

    def bytes(self, path: str) -> bytes | None:
        """Return at most 64 KiB of a file."""
        return self.files.get(self._resolve(path))

    def target(self, path: str) -> str | None:
        """Return the path that a name stands for."""
        here = posixpath.dirname(path)
        exists = posixpath.basename(path) in self.kids.get(self._resolve(here), ())
        return self._resolve(path) if exists else None


class _Header(tarfile.TarInfo):
    """A member's header; one that says that further headers of megabytes follow is none of ours."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        found = super().frombuf(buf, encoding, errors)
        if found.type in _EXTENSIONS and found.size > MOST_BYTES:
            raise tarfile.HeaderError(f"a header of {found.size} bytes")
        return found


_EXTENSIONS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)


def is_tar(path: Path) -> bool:
    """Return whether the file is a tar archive, compressed or not."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return False
        with path.open("rb") as raw:
            tarfile.TarInfo.frombuf(_unpacked(raw).read(tarfile.BLOCKSIZE), "utf-8", "surrogateescape")
    except _BROKEN:
        return False
    return True


def _members(path: Path) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """Yield the members of an archive, read front to back, within the bounds above."""
    with path.open("rb") as raw:
        bounded = cast("IO[bytes]", _Bounded(_unpacked(raw), MOST_UNPACKED))
        with tarfile.open(fileobj=bounded, mode="r|", bufsize=1 << 16, tarinfo=_Header, errors="surrogateescape") as archive:
            while (member := archive.next()) is not None:
                yield archive, member
                cast("Any", archive).members.clear()  # or it keeps every one of them


def _unpacked(raw: IO[bytes]) -> IO[bytes]:
    magic = raw.read(6)
    raw.seek(0)
    if magic.startswith(b"\x1f\x8b"):
        return cast("IO[bytes]", gzip.GzipFile(fileobj=raw))
    if magic.startswith(b"BZh"):
        return cast("IO[bytes]", bz2.BZ2File(raw))
    if magic.startswith((b"\xfd7zXZ", b"\x5d\x00\x00")):
        return cast("IO[bytes]", lzma.LZMAFile(raw))
    return raw
