"""Ten thousand changed lines: never a traceback, and never a certain answer for a line whose meaning was changed."""

from __future__ import annotations

import json
import random
import re

import pytest

import vfiolab as vl
from vfiolab.detective.families import families, rows, search
from vfiolab.model.errors import ERRNO, STRERROR

SHARDS, EACH = 20, 500
LINES = [(family, example["line"]) for family in families() for example in family.data["examples"] if family.role != "note"]
TEXT = re.compile("|".join(sorted(STRERROR.values(), key=len, reverse=True)))
NUMBER = re.compile(r"(?:(?<== -)|(?<=error )|(?<=error -)|(?<=Errno )|(?<=Error\()|(?<=VFIO_MAP_DMA: -))\d+")
MAP_NUMBERS = re.compile(r"(?<=dma_map\()(0x[0-9a-f]+), (0x[0-9a-f]+), (0x[0-9a-f]+), (0x[0-9a-f]+)")
#: Words whose exchange turns a message's meaning round.
OPPOSITES = (
    ("Read", "Write"), ("Write", "Read"), (" not ", " "), ("no ", "one "), ("exceeded", "kept"), ("fault", "hit"), ("cannot", "can"),
    ("Failed", "Managed"), ("failed", "managed"), ("'PA'", "'VA'"), ("dma_map", "dma_unmap"), ("TRIGGER", "MASK"), ("unaligned", "aligned"),
    ("F_TRANSLATION", "F_PERMISSION"), ("Expecting", "Having"), ("is clear", "is set"), ("busy", "idle"), ("event 0x10", "event 0x13"),
)  # fmt: skip
WIDTH, HOLE, WINDOW = 1 << 39, (0xFD00000000, 0x10000000000), (0xFEE00000, 0xFEF00000)
DOORBELLS = (0x8000000, 0x8100000)


def other_errno(rng, name):
    return rng.choice([one for one in ERRNO if one != name])


def name_of(text):
    return next(name for name, words in STRERROR.items() if words == text)


def same_row(family, line, changed):
    """Say whether the data has one row for both errnos: then the same cause is right."""
    before, after = (next(iter(rows(family, search(one)[-1].fields)), None) for one in (line, changed))
    return before is after


def swap_text(rng, line):
    found = TEXT.search(line)
    return None if found is None else line[: found.start()] + STRERROR[other_errno(rng, name_of(found[0]))] + line[found.end() :]


def swap_number(rng, line):
    found = NUMBER.search(line)
    return (
        None
        if found is None
        else f"{line[: found.start()]}{ERRNO[other_errno(rng, '')] if rng.random() < 0.8 else 123}{line[found.end() :]}"
    )


def swap_both(rng, line):
    name = other_errno(rng, "")
    if NUMBER.search(line) is None or TEXT.search(line) is None:
        return None
    return NUMBER.sub(str(ERRNO[name]), TEXT.sub(STRERROR[name], line))


def turn_round(rng, line):
    """Turn a word of the error itself round; what wraps it, such as "failed to setup container", says nothing of the cause."""
    start, end = search(line)[-1].span
    fitting = [pair for pair in OPPOSITES if pair[0] in line[start:end]]
    return line[:start] + line[start:end].replace(*rng.choice(fitting)) + line[end:] if fitting else None


def change_map(rng, line):
    sizes = (0, 1, 0x1000, 0x2000, 0x10000, 1 << 20, 1 << 30, 1 << 38, 1 << 40, 0x1800, 1 << 63)
    found = MAP_NUMBERS.search(line)
    if found is None:
        return None
    iova = rng.choice((rng.getrandbits(rng.randint(12, 64)), WIDTH, HOLE[0], WINDOW[0], DOORBELLS[0], 0)) & rng.choice(
        (-1, -0x1000, -0x10000)
    )
    vaddr = rng.getrandbits(47) & rng.choice((-0x1000, -0x1000, -1))
    return line[: found.start()] + f"0x1, {iova:#x}, {rng.choice(sizes):#x}, {vaddr:#x}" + line[found.end() :]


def scramble(rng, line):
    place = rng.randrange(len(line))
    what = rng.choice(("", rng.choice("abcxyz0123456789 :()[]'\"\\\n\t\0\u202e%{}"), line[place] * 2, "-" * rng.randint(1, 5000)))
    return line[:place] + what + line[place + rng.randint(0, 3) :] if rng.random() < 0.9 else line[:place]


def true_of_numbers(cause, iova, size, vaddr):
    """Say whether a cause that an EINVAL line got is true of its numbers, worked out here from the rules alone."""

    def meets(span):
        return iova < span[1] and span[0] < iova + size

    truths = {
        "can translate": iova + size > WIDTH,
        "HyperTransport": meets(HOLE),
        "x86 MSI window": meets(WINDOW),
        "MSI doorbells": meets(DOORBELLS),
        "is not a multiple": any(number % 0x1000 for number in (iova, size, vaddr)),
        "maps nothing": size == 0,
        "wraps past": iova + size > 1 << 64 or vaddr + size > 1 << 64,
    }
    return next(truth for words, truth in truths.items() if words in cause)


def check(change, family, line, changed):
    before, after = vl.explain(line), vl.explain(changed)
    json.loads(after.json())
    str(after)
    if not isinstance(after, type(before)) or after.kind is None or after.cause is None:
        return
    said = f"{change.__name__}: {line!r} -> {changed!r}: {after.cause}"
    has_both = bool(NUMBER.search(line) and TEXT.search(line))
    if change in {swap_text, swap_number} and has_both:
        assert (
            changed == line or TEXT.search(changed) is None or ERRNO[name_of(TEXT.search(changed)[0])] == int(NUMBER.search(changed)[0])
        ), said
    elif change in {swap_text, swap_number, swap_both} and changed != line:
        assert after.cause != before.cause or same_row(family, line, changed), said
    elif change is turn_round:
        assert (after.kind, after.cause, after.what) != (before.kind, before.cause, before.what), said
    elif change is change_map and "EINVAL" in after.what:
        iova, size, vaddr = (int(one, 16) for one in MAP_NUMBERS.search(changed).groups()[1:])
        assert true_of_numbers(after.cause, iova, size, vaddr), said


@pytest.mark.parametrize("seed", range(SHARDS))
def test_a_changed_line_gets_another_answer_or_none(seed):
    rng = random.Random(seed)
    done = 0
    while done < EACH:
        family, line = rng.choice(LINES)
        change = rng.choice((swap_text, swap_number, swap_both, turn_round, change_map, scramble))
        changed = change(rng, line)
        if changed is not None and changed != line:
            check(change, family, line, changed)
            done += 1
