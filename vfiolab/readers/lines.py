"""Text from outside, read the same way by every reader: bounded, decoded, line by line.

Whatever the file is (a pipe, a device, a folder, something that never ends), reading it ends; whatever encoding it is in, it becomes text;
no line is longer than `LONGEST`, so that no pattern can be made slow.
"""

from __future__ import annotations

import codecs
import os
import re
import stat
import sys
from pathlib import Path

from vfiolab.readers.errors import InputError

#: No listing, trace or log of a real machine is larger; more is refused.
MOST_BYTES = 64 << 20
#: Characters of a line that are looked at. No line that says something is longer.
LONGEST = 4096
#: Digits of the longest number that is looked at: 2^64 has 20.
MOST_DIGITS = 40

_ESCAPES = re.compile(
    r"(?:\x1b|\^\[|\x9b|ESC)\[[0-9;?]{0,16}[A-Za-z]|\x1b\][^\x07\x1b]{0,200}(?:\x07|\x1b\\)?|\x1b[()][A-Z0-9]"
    r"|\[[0-9][0-9;]{0,11}m(?:\[K)?(?![A-Za-z0-9\]])|\[m\[K"  # the same after a program took the escape itself away
)
#: What every colour code has; a text without it needs no second look.
_HINTS = ("\x1b", "\x9b", "^[", "ESC[")
_HINT = re.compile(r"m(?<=[0-9;\[]m)(?![A-Za-z0-9\]])")
_ENDS = re.compile(r"\r\n|\n|\r|\x0b|\x0c|\x85|\u2028|\u2029")


def read_bytes(path: Path) -> bytes:
    """Return what a regular file holds. Raises InputError for anything else, for more than `MOST_BYTES`, and if it cannot be read."""
    try:
        # O_NONBLOCK: a FIFO that nobody writes to would hold us in open() itself.
        with os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise InputError(f"is {_what(mode)}", where=str(path), advice="give a file")
            data = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        if isinstance(error, InputError):
            raise
        raise InputError(f"cannot be read: {getattr(error, 'strerror', None) or error}", where=str(path)) from error
    if len(data) > MOST_BYTES:
        raise InputError("too large", where=str(path), advice=f"files over {MOST_BYTES >> 20} MiB are not read")
    return data


def _what(mode: int) -> str:
    kinds = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"))
    return next((name for test, name in kinds if test(mode)), "a device")


def read_text(path: Path) -> str:
    """Return a file's text, whatever of UTF-8, UTF-16 or Latin-1 it is in. Raises InputError if it cannot be read, or holds no text."""
    return decoded(read_bytes(path), where=str(path))


def given(source: str | Path, where: str) -> tuple[str, str]:
    """Return the text of a file (a Path), or the text itself; and what errors call it."""
    return (read_text(source), where or source.name) if isinstance(source, Path) else (source, where)


def read_stdin() -> str:
    """Return standard input's text, as `read_text` does."""
    source = getattr(sys.stdin, "buffer", None)
    data = source.read(MOST_BYTES + 1) if source is not None else sys.stdin.read(MOST_BYTES + 1).encode("utf-8", "surrogateescape")
    if len(data) > MOST_BYTES:
        raise InputError("too large", where="standard input", advice=f"more than {MOST_BYTES >> 20} MiB are not read")
    return decoded(data, where="standard input")


def decoded(data: bytes, *, where: str) -> str:
    """Return the text that the bytes stand for. InputError if it is a compressed file or a picture rather than text."""
    for magic, name in _MAGIC:
        if data.startswith(magic):
            raise InputError(f"holds {name}, no text", where=where, advice="unpack it, or give the text itself")
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


_MAGIC = (
    (b"PK\x03\x04", "a zip archive"), (b"\x1f\x8b", "gzip data"), (b"\xfd7zXZ\x00", "xz data"), (b"BZh", "bzip2 data"),
    (b"\x28\xb5\x2f\xfd", "zstd data"), (b"\x89PNG", "a picture"), (b"\xff\xd8\xff", "a picture"), (b"%PDF", "a PDF"),
)  # fmt: skip


def lines_of(text: str) -> list[str]:
    r"""Return the lines without colour codes and line ends, each cut to `LONGEST` characters.

    >>> lines_of("\x1b[01;31m00:1f.3\x1b[0m Audio\r\n" + "x" * 9999)[0]
    '00:1f.3 Audio'
    """
    lines = _ENDS.split(text.replace("\u00a0", " "))
    if lines and not lines[-1]:
        lines.pop()
    if max(map(len, lines), default=0) > LONGEST:
        lines = [line[:LONGEST] for line in lines]
    elif not (any(hint in text for hint in _HINTS) or _HINT.search(text)):
        return lines
    return [_ESCAPES.sub("", line) for line in lines]


def number_of(digits: str, base: int = 10) -> int | None:
    """Return the number that ASCII digits stand for; None if it is none, or longer than any number in our inputs."""
    if len(digits) > MOST_DIGITS or not digits.isascii():
        return None
    try:
        return int(digits, base)
    except ValueError:
        return None
