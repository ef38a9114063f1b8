"""The messages of a log in which a family finds itself: prefixes passed over, lines that were folded joined again."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from vfiolab.detective.families import Found, search

__all__ = ["Message", "messages"]

#: What a logger puts before a line: a level, dmesg's time, syslog's date and host, a program and its number.
PREFIX = re.compile(
    r"\s{0,8}(?:> ?){0,3}(?:<\d{1,3}>\s?)?"
    r"(?:(?:[A-Z][a-z]{2} [A-Z][a-z]{2} {1,2}\d|[A-Z][a-z]{2} {1,2}\d{1,2} \d\d:|\d{4}-\d\d-\d\d[T ]\d\d:)[\d:.,TZ+ -]{2,40}"
    r"(?:[\w.-]{1,64} [\w./@-]{1,64}(?:\[\d{1,10}\])?: )?(?:\[ {0,8}\d{1,10}\.\d{1,9}\] )?|\[[A-Z+]?[\w :.+]{3,40}\] ?)"
)
#: Messages that kernels before 4.7 wrote as two lines; the second one has the reason.
SECOND = re.compile(r"(?:DMAR|INTR-REMAP): ?\[fault reason")
STRAIGHT = str.maketrans("\u2018\u2019\u201c\u201d\u00b4", "''\"\"'")


class Message(NamedTuple):
    """A line, or several that were one: the number of the first, the text, and what was found in it."""

    number: int
    text: str
    found: list[Found]


def messages(lines: Sequence[str]) -> Iterator[Message]:
    """Yield the messages in which a family finds itself; line numbers count from 1."""
    texts = [line.translate(STRAIGHT) for line in lines]
    bodies = [(match.end() if (match := PREFIX.match(text)) else 0) for text in texts]
    place = 0
    while place < len(texts):
        message, used = _joined(texts, bodies, place)
        if message is not None and message.found:
            yield message
        place += used


def _joined(texts: Sequence[str], bodies: Sequence[int], place: int) -> tuple[Message | None, int]:
    """Return the message that begins at a line, and how many lines it takes: more than one if only together they say something."""
    alone = texts[place]
    found = search(alone) if alone.strip() else []
    best = Message(place + 1, alone, found), 1
    if not alone.strip():
        return best
    for count in (2, 3):
        tail = texts[place + count - 1 : place + count]
        if not tail or not tail[0].strip() or not (bodies[place + count - 1] == 0 or SECOND.match(tail[0][bodies[place + count - 1] :])):
            break
        parts = [texts[at][bodies[at] :].strip() for at in range(place + 1, place + count)]
        for glue in (" ", ""):
            text = alone.rstrip() + glue + glue.join(parts)
            joined = search(text)
            if _errors(joined, len(alone)) > _errors(best[0].found) and not any(_errors(search(part)) for part in parts):
                best = Message(place + 1, text, joined), count
    return best


def _errors(found: Sequence[Found], across: int | None = None) -> int:
    """Count the errors, or those that reach across a place; an echo is none."""
    return sum(one.family.role in {"cause", "symptom"} and (across is None or one.span[0] < across < one.span[1]) for one in found)
