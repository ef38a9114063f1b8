"""A sysfs tree as a directory or a tar file, read the same way and never unpacked."""

from __future__ import annotations

import io
import os
import posixpath
import tarfile
from abc import ABC, abstractmethod
from pathlib import Path

from vfiolab.readers.errors import InputError

__all__ = ["DirectoryTree", "TarTree", "Tree"]

MOST_ENTRIES = 2_000_000
MOST_BYTES = 1 << 16


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
        try:
            return int(self.text(path) or "", 0)
        except ValueError:
            return None

    def link_name(self, path: str) -> str | None:
        """Return the last part of where a link leads, also where its target was not copied; None if it is none."""
        found = self.target(path)
        return None if found is None else posixpath.basename(found)


class DirectoryTree(Tree):
    """A folder, such as /sys itself."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def _at(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def names(self, path: str) -> list[str]:
        """Return what is in a directory, sorted."""
        try:
            return sorted(entry.name for entry in self._at(path).iterdir())
        except OSError:
            return []

    def bytes(self, path: str) -> bytes | None:
        """Return at most 64 KiB of a file."""
        try:
            with self._at(path).open("rb") as file:
                return file.read(MOST_BYTES)
        except OSError:
            return None

    def target(self, path: str) -> str | None:
        """Return the path that a name stands for."""
        real = os.path.realpath(self._at(path))
        root = os.path.realpath(self.root)
        if not os.path.lexists(self._at(path)):
            return None
        return "/" + os.path.relpath(real, root).replace(os.sep, "/") if real.startswith(root) else real


class TarTree(Tree):
    """A tar file, compressed or not. Members are looked at in place; nothing is written anywhere."""

    def __init__(self, path: Path) -> None:
        self.kids: dict[str, set[str]] = {}
        self.links: dict[str, str] = {}
        self.files: dict[str, bytes] = {}
        try:
            with tarfile.open(path) as archive:
                for count, member in enumerate(archive):
                    if count > MOST_ENTRIES:
                        raise InputError(
                            f"more than {MOST_ENTRIES} members",
                            where=str(path),
                            advice="pack /sys/bus/pci and /sys/devices only",
                        )
                    self._add(archive, member)
        except (tarfile.TarError, EOFError, OSError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"not a readable tar file: {error}", where=str(path)) from error

    def _add(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        name = posixpath.normpath("/" + member.name)
        parent = name
        while parent != "/":
            up = posixpath.dirname(parent)
            known = posixpath.basename(parent) in self.kids.setdefault(up, set())
            self.kids[up].add(posixpath.basename(parent))
            if known:
                break
            parent = up
        if member.issym():
            self.links[name] = posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname))
        elif member.isfile() and member.size <= MOST_BYTES:
            file = archive.extractfile(member) or io.BytesIO()
            self.files[name] = file.read(MOST_BYTES)

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
