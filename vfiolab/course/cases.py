"""What a judge is made of: cases, and how they are told."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

from vfiolab._paths import data_dir
from vfiolab.course.answer import Answer, answer
from vfiolab.model.address import U64, hexa

LONGEST = 320  # characters of an answer that a message quotes


@cache
def entries() -> dict[str, dict[str, Any]]:
    """Read `data/course/exercises.toml`: name -> texts, and cases where they are data."""
    return tomllib.loads((data_dir() / "course" / "exercises.toml").read_text(encoding="utf-8"))


def stored(exercise: str) -> dict[str, Any]:
    """Return the cases of an exercise that stand beside its texts."""
    cases: dict[str, Any] = entries()[exercise]["cases"]
    return cases


class WrongShapeError(ValueError):
    """A learner's answer is of another form than the task asks for."""


class Case(NamedTuple):
    """One case: what a summary calls it, the arguments, what says why an answer is wrong (None: right), and the arguments in words."""

    name: str
    args: tuple[Any, ...]
    judge: Callable[[Any], str | None]
    words: str = ""

    @property
    def given(self) -> str:
        """The arguments, to be read."""
        return self.words or shown(self.args)


def shown(value: object) -> str:
    """Write a value for reading: addresses in hex, cut where it is long.

    >>> shown([(0, 0x4000_0000), "EINVAL"])
    "[(0, 0x4000_0000), 'EINVAL']"
    """
    text = _shown(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."


def _shown(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return hexa(value) if value >= 0x1000 else str(value)
    if type(value) is tuple:
        return f"({', '.join(map(_shown, value))}{',' * (len(value) == 1)})"
    if type(value) is list:
        return f"[{', '.join(map(_shown, value))}]"
    if type(value) is dict:
        return "{" + ", ".join(f"{key!r}: {_shown(one)}" for key, one in value.items()) + "}"
    return repr(value)


def whole(value: object, what: str) -> int:
    """Return a whole number of 0 to 2^64 - 1; WrongShapeError for anything else."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < U64:
        raise WrongShapeError(f"{what} is a whole number from 0 to 2^64 - 1, not {shown(value)}.")
    return value


def listed(value: object, what: str) -> list[Any]:
    """Return a list or tuple as a list; WrongShapeError for anything else."""
    if not isinstance(value, list | tuple):
        raise WrongShapeError(f"A list or tuple is asked for, {what}, not {shown(value)}.")
    return list(value)


def pairs(value: object, what: str = "(iova, size)") -> list[tuple[int, int]]:
    """Return a list of pairs of whole numbers; WrongShapeError for anything else."""
    found = []
    for one in listed(value, f"of pairs {what}"):
        if not isinstance(one, list | tuple) or len(one) != 2:
            raise WrongShapeError(f"Each entry is a pair {what}, not {shown(one)}.")
        found.append((whole(one[0], "The first of a pair"), whole(one[1], "The second of a pair")))
    return found


def facts(value: object, what: str) -> dict[str, Any]:
    """Return a dict with words as keys; WrongShapeError for anything else."""
    if not isinstance(value, Mapping) or any(not isinstance(key, str) for key in value):
        raise WrongShapeError(f"A dict is asked for, {what}, not {shown(value)}.")
    return dict(value)


def asked(verb: Callable[..., object], *args: object, **named: object) -> Answer:
    """Call a verb with what a learner gave: the kernel's answer; WrongShapeError for what no call can have."""
    try:
        return answer(verb, *args, **named)
    except (ValueError, TypeError) as misfit:
        raise WrongShapeError(f"The kit cannot make a call of that: {misfit}") from misfit


def errno(said: Answer) -> str:
    """Return the errno's name, or "0"."""
    return said.error.name if said.error is not None else "0"


def place(said: Answer) -> str:
    """Say where in the kernel's order the check stands that refused: "" if none did, or the call knows no order."""
    states = [state for _, state in said.error.checks] if said.error is not None else []
    if "failed" not in states:
        return ""
    return f" It is check {states.index('failed') + 1} of {len(states)}; those after it were not reached."
