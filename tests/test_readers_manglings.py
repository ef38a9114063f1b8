"""A good listing after what mail, terminals and people do to it: its groups come out right, or the doubt is named."""

from __future__ import annotations

import random
import re
import textwrap
from functools import cache

import pytest
from real_machines import kernel, listing, machine, partition

from vfiolab.model.pci.grouping import NotComputableError
from vfiolab.readers.errors import InputError
from vfiolab.readers.lspci import read_lspci

GOOD = ("amd-matisse-desktop", "amd-renoir-laptop", "hp-elitebook-630", "apple-macmini-2018-egpu")
COLOURS = ("\x1b[01;31m\x1b[K{}\x1b[m\x1b[K", "\x1b[1m{}\x1b[0m", "\x1b[38;5;208m{}\x1b[0m", "^[[36m{}^[[0m")


def quoted(text, rng):
    mark = rng.choice(("> ", ">", ">> ", "> > ", "| "))
    return "".join(f"{mark}{line}\n" for line in text.splitlines())


def wrapped(text, rng):
    """Break lines at blanks, as mail programs do: what goes on begins at the left or is indented, or quoted anew."""
    room, indent = rng.randint(50, 110), rng.choice(("", "", "  ", "\t"))
    out = []
    for line in text.splitlines():
        body = textwrap.wrap(line.expandtabs(8).strip(), room, break_long_words=False, break_on_hyphens=False) or [""]
        lead = line[: len(line) - len(line.lstrip())] if rng.random() < 0.9 else ""
        out += [lead + body[0], *(indent + piece for piece in body[1:])]
    return "\n".join(out) + "\n"


def hard_wrapped(text, rng):
    """Break lines in the middle of a word, as copying from a narrow terminal does."""
    room = rng.randint(70, 120)
    return "\n".join(
        piece for line in text.splitlines() for piece in (textwrap.wrap(line.expandtabs(8), room, drop_whitespace=False) or [""])
    )


def narrowed(text, rng):
    room = rng.randint(40, 140)
    return "".join(f"{line.expandtabs(8)[:room]}\n" for line in text.splitlines())


def ended(text, rng):
    return text[: rng.randrange(len(text) // 3, len(text))]


def begun(text, rng):
    return text[rng.randrange(len(text) // 2) :]


def holed(text, rng):
    lines = text.splitlines(keepends=True)
    first = rng.randrange(len(lines))
    return "".join(lines[:first] + lines[first + rng.randint(1, 12) :])


def thinned(text, rng):
    share = rng.uniform(0.005, 0.05)
    return "".join(line for line in text.splitlines(keepends=True) if rng.random() > share)


def without_blank_lines(text, _rng):
    return re.sub(r"\n\s*\n", "\n", text)


def double_spaced(text, _rng):
    return text.replace("\n", "\n\n")


def coloured(text, rng):
    look = rng.choice(COLOURS)
    word = rng.choice((r"^[0-9a-f:]+\.[0-7]", r"Capabilities", r"Root Port|Endpoint", r"ACS\w+", r"\[[0-9a-f]{4}:[0-9a-f]{4}\]"))
    return re.sub(word, lambda found: look.format(found[0]), text, flags=re.MULTILINE)


def titles_first(text, _rng):
    """`lspci -nn`, and the verbose listing behind it."""
    return "".join(f"{line}\n" for line in text.splitlines() if re.match(r"[0-9a-f:]+\.[0-7] ", line)) + "\n" + text


def twice(text, rng):
    return text + rng.choice(("", "\n", "$ sudo lspci -vvv\n")) + text


def prompts(text, rng):
    return f"user@host:~$ sudo lspci -vvv\n{text}user@host:~$ {rng.choice(('exit', 'uname -r', ''))}\n"


def crlf(text, _rng):
    return text.replace("\n", "\r\n")


def blanks(text, rng):
    return text.replace("\t", " " * rng.choice((1, 2, 4, 8)))


def flat(text, _rng):
    return "".join(f"{line.strip()}\n" for line in text.splitlines())


def hard_blanks(text, _rng):
    return text.replace(" ", "\u00a0")


def html(text, _rng):
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


WAYS = (
    quoted, wrapped, hard_wrapped, narrowed, ended, begun, holed, thinned, without_blank_lines, double_spaced, coloured, titles_first,
    twice, prompts, crlf, blanks, flat, hard_blanks, html,
)  # fmt: skip
#: What takes nothing away: after these the groups have to be right.
HARMLESS = {quoted, wrapped, hard_wrapped, without_blank_lines, coloured, twice, prompts, crlf, blanks, flat, hard_blanks, html}


def mangled(seed):
    """Return a listing, one to three ways in which it was mangled, and the result."""
    rng = random.Random(seed)
    name, ways = rng.choice(GOOD), rng.sample(WAYS, rng.choice((1, 1, 2, 2, 3)))
    text = listing(name)
    for way in ways:
        text = way(text, rng)
    return name, ways, text


def outcome(name, text):
    """Return right, doubted (wrong or refused, and said so) or wrong."""
    try:
        found = read_lspci(text)
        grouping = found.machine().grouping(kernel(machine(name)))
    except (InputError, NotComputableError):
        return "doubted"
    wanted = {bdf for members in machine(name).recorded for bdf in members}
    shown = set(found.topology) & wanted
    same = partition(grouping.groups, shown) == partition(machine(name).recorded, shown)
    if same:
        return "right"
    return "doubted" if {*found.warnings, *grouping.warnings} - said_anyway(name) else "wrong"


@cache
def said_anyway(name):
    found = read_lspci(listing(name))
    return {*found.warnings, *found.machine().grouping(kernel(machine(name))).warnings}


@pytest.mark.parametrize("part", [pytest.param(part, marks=[pytest.mark.slow] if part > 3 else []) for part in range(10)])
def test_a_mangled_listing_gives_the_groups_or_names_the_doubt(part):
    for seed in range(100 * part, 100 * part + 100):
        name, ways, text = mangled(seed)
        found = outcome(name, text)
        allowed = {"right"} if set(ways) <= HARMLESS else {"right", "doubted"}
        assert found in allowed, f"seed {seed}: {name} after {', '.join(way.__name__ for way in ways)}: {found}"
