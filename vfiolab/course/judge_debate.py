"""Judges of the exercises about who may answer: the designs of the debate, and the two that stand behind /dev/vfio/vfio."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache, partial
from operator import attrgetter

from vfiolab.course.answer import Answer
from vfiolab.course.cases import Case, WrongShapeError, asked, errno, listed, shown, stored, whole
from vfiolab.course.judge_ranges import table
from vfiolab.course.twins import NIC, TWIN_CALLS, carry_out_twins, twins


def serves() -> Iterator[Case]:
    """Give the learner the table's rows, and compare with the cells."""
    found = table()
    rows = [(cell.proposal, cell.scenario, cell.word) for cell in found.cells]
    for name, wanted in stored("serves").items():
        yield Case(name, (list(rows), list(wanted)), partial(_served, wanted), f"({len(rows)} rows: {shown(rows[:2])} ..., {wanted})")


def _served(wanted: Sequence[str], came: object) -> str | None:
    found, mine = table(), listed(came, "of designs")
    if strange := [one for one in mine if not isinstance(one, str) or one not in found.proposals]:
        return f"{shown(strange[0])} is no design: they are {', '.join(found.proposals)}."
    for design in found.proposals:
        bad = [found[design, scenario] for scenario in wanted if found[design, scenario].outcome != "delivered"]
        if (design in mine) == bool(bad):
            words = f"{bad[0].scenario} is {bad[0].word}: {bad[0].why}" if bad else f"it delivers in all of {shown(list(wanted))}"
            return f"{design} {'does not belong to' if bad else 'is missing from'} {shown(mine)}: {words}."
    return None if len(set(mine)) == len(mine) else f"A design stands in the list twice: {shown(mine)}."


@cache
def _asked(kernel: str, words: str) -> list[str]:
    return [errno(said) for said in carry_out_twins(kernel, words)[1]]


def who_answers() -> Iterator[Case]:
    """Let the learner ask one of two hosts that are alike; what stands behind the descriptor is the machine's own word for it."""
    for number, (kernel, which) in enumerate((kernel, which) for kernel in ("6.8", "6.12", "7.3") for which in (0, 1)):
        asks: list[str] = []

        def call(words: str, kernel: str = kernel, which: int = which, asks: list[str] = asks) -> str:
            if words not in TWIN_CALLS:
                raise ValueError(f"call knows {', '.join(map(repr, TWIN_CALLS))}, not {words!r}")
            asks.append(words)
            return _asked(kernel, words)[which]

        name = twins(kernel)[which].host.machine.vfio.removesuffix("-compat")
        yield Case(f"host {number + 1}, Linux {kernel}", (call,), partial(_named, kernel, which, name, asks), "(call)")


def _named(kernel: str, which: int, name: str, asks: Sequence[str], came: object) -> str | None:
    if came != name:
        said = ", ".join(f"{words!r}: {_asked(kernel, words)[which]}" for words in dict.fromkeys(asks))
        return f"Behind this descriptor is {name}, not {shown(came)}. What you asked: {said or 'nothing'}."
    return None if asks else f"{shown(came)} is right by chance: `call` was never used. Which call do the two answer differently?"


PAIRS = (("0", "0"), ("EINVAL", "0"), ("EEXIST", "EEXIST"), ("EINVAL", "ENOENT"), ("EINVAL", "EEXIST"))
VERBS = {"map": "map", "unmap": "container.unmap_dma"}


def both_layers() -> Iterator[Case]:
    """Make the learner's call on both; no device is open, so the layer knows no hole and no page size."""
    for pair in PAIRS:
        yield Case(" and ".join(pair), pair, partial(_said, pair))


def both(verb: str, iova: int, size: int) -> list[Answer]:
    """Make a call on type1 and on iommufd's layer, each with 1 MiB mapped at 0x1000_0000."""
    said = []
    for space in twins("6.12"):
        space.attach(NIC)
        space.map(0x1000_0000, "1M", "RAM")
        said.append(asked(attrgetter(VERBS[verb])(space), iova, size))
    return said


def _said(pair: Sequence[str], came: object) -> str | None:
    words = listed(came, '("map" or "unmap", iova, size)')
    if len(words) != 3 or not isinstance(words[0], str) or words[0] not in VERBS:
        raise WrongShapeError(f'A call is ("map" or "unmap", iova, size), not {shown(came)}.')
    one, other = both(words[0], whole(words[1], "The iova"), whole(words[2], "The size"))
    answers = [errno(said) for said in (one, other)]
    if answers == list(pair):
        return None
    return f"On {shown(tuple(words))} type1 answers {one}; iommufd's layer answers {other}. Asked for are {pair[0]} and {pair[1]}."
