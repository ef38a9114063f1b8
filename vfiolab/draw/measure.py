"""How wide a text will be: a fixed table, so that the same picture is laid out the same way on every machine."""

from __future__ import annotations

from bisect import bisect_right

SAFETY = 1.05  # the reader's font may be a little wider than Helvetica
MONO = 0.602
_NARROW = {
    " ": 278, "!": 278, '"': 355, "'": 191, "(": 333, ")": 333, "*": 389, ",": 278, "-": 333, ".": 278, "/": 278, ":": 278, ";": 278,
    "[": 278, "]": 278, "f": 278, "i": 222, "j": 222, "l": 222, "r": 333, "t": 278, "I": 278, "J": 500, "c": 500, "k": 500, "s": 500,
    "v": 500, "x": 500, "y": 500, "z": 500, "|": 260, "·": 278, "…": 1000, "m": 833, "w": 722, "M": 833, "W": 944, "%": 889,
    "A": 667, "B": 667, "C": 722, "D": 722, "E": 667, "F": 611, "G": 778, "H": 722, "K": 667, "L": 556, "N": 722, "O": 778, "P": 667,
    "Q": 778, "R": 722, "S": 667, "T": 611, "U": 722, "V": 667, "X": 667, "Y": 667, "Z": 611, "+": 584, "=": 584, "<": 584, ">": 584,
    "≈": 584, "→": 1000, "←": 1000, "✗": 790, "✓": 790, "≠": 584,
}  # fmt: skip
_THINNEST = min(_NARROW.values())


def text_width(text: str, size: float, *, bold: bool = False, mono: bool = False) -> float:
    """Return the width in pixels of one line at `size` pixels.

    >>> text_width("0xfee0_0000", 10, mono=True)
    66.2
    """
    if mono:
        return round(len(text) * size * MONO, 1)
    units = sum(_NARROW.get(letter, 556) for letter in text)
    return round(units * size * SAFETY * (1.07 if bold else 1.0) / 1000, 1)


def shorten(text: str, room: float, size: float, *, bold: bool = False, mono: bool = False, least: int = 4) -> str:
    """Return the text, or its beginning and `…`, or nothing if not even `least` letters fit.

    >>> shorten("guest RAM below 4G", 60, 11), shorten("guest RAM", 12, 11)
    ('guest RA…', '')
    """
    most = max(0, int(room / (size * (MONO if mono else SAFETY * _THINNEST / 1000)))) + 2  # what more letters there are cannot fit
    start = text[:most]
    if start == text and text_width(text, size, bold=bold, mono=mono) <= room:
        return text

    def short(keep: int) -> str:
        return start[:keep].rstrip() + "…"

    fits = bisect_right(
        range(least, min(len(start), len(text) - 1) + 1), room, key=lambda keep: text_width(short(keep), size, bold=bold, mono=mono)
    )
    return short(least + fits - 1) if fits else ""


def wrap(text: str, room: float, size: float, *, bold: bool = False, lines: int = 4) -> list[str]:
    """Return the text in lines no wider than `room`; what does not fit in `lines` ends in `…`.

    >>> wrap("two domains mirror three mappings", 100, 11)
    ['two domains mirror', 'three mappings']
    """
    done: list[str] = []
    line = ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if line and text_width(longer, size, bold=bold) > room:
            done.append(line)
            line = word
        else:
            line = longer
    done.append(line)
    if len(done) > lines:
        done = [*done[: lines - 1], shorten(" ".join(done[lines - 1 :]), room, size, bold=bold)]
    return [part for part in done if part]
