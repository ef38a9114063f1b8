"""How wide a text will be: a fixed table, so that the same picture is laid out the same way on every machine.

A picture does not know the font that it will meet, so a letter is as wide as in the widest of those that it may be.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Iterator

from vfiolab.draw.stage.fonts import ADVANCES, LETTERS

MONO = 0.602
MOST_LINES = 12  # of a text that somebody else chose: a name of thousands of letters


class _Widths(dict[str, int]):
    """The advance of a letter in thousandths; without an entry it is that of the letter below the accents, else a full square or more."""

    def __missing__(self, letter: str) -> int:
        plain = unicodedata.normalize("NFD", letter)[0]
        if unicodedata.combining(letter):
            return 0
        return self[plain] if plain in self else 1000 if ord(letter) < 0x1_0000 else 1300


_WIDTHS = {key: _Widths(zip(LETTERS, row, strict=True)) for key, row in ADVANCES.items()}
_WIDEST = [_Widths(zip(LETTERS, map(max, *(row for (_, b), row in ADVANCES.items() if b == bold)), strict=True)) for bold in (False, True)]
_THINNEST = min(_WIDEST[0].values())


def text_width(text: str, size: float = 11, *, bold: bool = False, mono: bool = False, font: str = "") -> float:
    """Return the width in pixels of one line at `size` pixels: in the widest font that it may be drawn with, or in `font`.

    >>> text_width("0xfee0_0000", 10, mono=True), text_width("guest RAM", 11), text_width("guest RAM", 11, font="Liberation Sans")
    (66.2, 59.3, 54.5)
    """
    if mono:
        return round(len(text) * size * MONO, 1)
    widths = _WIDTHS[font, bold] if font else _WIDEST[bold]
    return round(sum(map(widths.__getitem__, text)) * size / 1000, 1)


def _most(room: float, size: float) -> int:
    """Return a number of letters of which the last cannot fit."""
    return max(0, int(room / (size * _THINNEST / 1000))) + 2


def shorten(text: str, room: float, size: float = 11, *, bold: bool = False, least: int = 4) -> str:
    """Return the text, or its beginning and `…`, or nothing if not even `least` letters fit.

    >>> shorten("guest RAM below 4G", 64, 11), shorten("guest RAM", 12, 11)
    ('guest RA…', '')
    """
    most = _most(room, size)
    start = text[:most]
    if start == text and text_width(text, size, bold=bold) <= room:
        return text

    def short(keep: int) -> str:
        return start[:keep].rstrip() + "…"

    lengths = range(least, min(len(start), len(text) - 1) + 1)
    fits = bisect_right(lengths, room, key=lambda keep: text_width(short(keep), size, bold=bold))
    return short(least + fits - 1) if fits else ""


def wrap(text: str, room: float, size: float = 11, *, bold: bool = False, lines: int = MOST_LINES) -> list[str]:
    """Return the text in lines no wider than `room`; what does not fit in `lines` ends in `…`: far more than the kit's own words need.

    A word that is too long for a line goes on in the next one after a dash; one that has none is broken only if nothing else is left.

    >>> wrap("two domains mirror three mappings", 115, 11)
    ['two domains mirror', 'three mappings']
    """
    done: list[str] = []
    line = ""
    most = (lines + 1) * _most(room, size)
    for word in (part for whole in " ".join(text.split())[:most].split(" ") for part in _parts(whole, room, size, bold=bold)):
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


def widest(texts: Iterable[str], *, bold: bool = False) -> float:
    """Return the width in pixels that a column of letters of 11 pixels needs so that no word of the texts is broken in it.

    >>> widest(["two domains", "0xfee0_0000-0xfeef_ffff"]) == text_width("0xfee0_0000-", 11)
    True
    """
    parts = {part for text in texts for part in text.replace("-", "- ").split(" ")}
    return max((text_width(part, bold=bold) for part in parts), default=0.0)


def _parts(word: str, room: float, size: float, *, bold: bool) -> Iterator[str]:
    most = _most(room, size)
    while len(word) > 1 and text_width(word[:most], size, bold=bold) > room:
        fits = next(n for n in range(min(most, len(word)), 0, -1) if n == 1 or text_width(word[:n], size, bold=bold) <= room)
        at = word.rfind("-", 1, fits) + 1 or fits
        yield word[:at]
        word = word[at:]
    yield word
