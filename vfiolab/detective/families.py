"""Families of error lines, and what each call of the kernel answers with which errno: all of it data below `data/lines/`.

A file holds `[[family]]` and `[[call]]` tables; its README says what each key means. Patterns are regular expressions in which a blank
stands for any white space and %WORD% for one of `SHORT`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from vfiolab._paths import data_dir
from vfiolab.model.errors import ERRNO, NAMES, STRERROR

__all__ = ["Family", "Found", "families", "rows", "search"]

BLANK = r"(?:\s{1,9})"
TEXTS = "|".join(STRERROR.values())
WORDS = {words.casefold(): name for name, words in STRERROR.items()}
#: What a pattern writes in short. `words`: an errno's text as the C library writes it; `errno`: its number; `name`: EBUSY.
SHORT = {
    "ERR": rf"(?:\[Errno (?P<number>\d{{1,5}})\] )?(?:(?P<words>{TEXTS})|(?P<name>{'|'.join(ERRNO)})(?: \((?P<words_0>{TEXTS})\))?)"
    r"(?: \((?:os )?error (?P<code>\d{1,5})\))?",
    "BDF": r"(?P<device>(?:[0-9a-f]{4,8}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])",
    "ANYBDF": r"(?:[0-9a-f]{4,8}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]",
    "NUM": r"(?P<errno>\d{1,10})",
    "MINUS": r"(?P<errno>-\d{1,10})",
    "OS": rf"Os \{{ code: (?P<errno>\d{{1,5}}), kind: \w{{1,40}}, message: \"(?P<words>{TEXTS})\" \}}",
    "FAILS": r"\)?(?: ioctl)?(?:, .{0,300}\))?(?: failed)?(?::| with|,| -| =)(?: error)? (?:-1 )?%ERR%",
    "GROUP": r"(?P<group>\d{1,10})",
    "HEX": r"(?:0x)?[0-9a-f]{1,16}",
    "Q": r"[\"'`]?",
}


@dataclass(frozen=True, slots=True)
class Family:
    """A kind of line. `keys`: lower-case texts of which each line of it holds one; `role`: as in `Answer`."""

    id: str
    pattern: re.Pattern[str]
    keys: tuple[str, ...]
    role: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Found:
    """A family's match in a text: `fields` by name, the errno's name as `error`. `clash` names two readings that contradict each other."""

    family: Family
    span: tuple[int, int]
    fields: dict[str, str]
    clash: tuple[str, ...] = ()


def _keys(text: str) -> frozenset[str]:
    """Return texts of which a line holds one if a pattern fits it, found in a pattern without classes, escapes and short forms."""
    branches, groups, flat = _parts(text)
    if len(branches) > 1:
        return frozenset().union(*map(_keys, branches))
    best = frozenset({max(re.split("\0", re.sub(r".(?:[?*]|\{[^}]*\})|[.+^$]", "\0", flat)), key=len).lower()})
    for group, after in groups:
        if after not in {"?", "*", "{"} and not group.startswith("(?!"):
            best = max(best, _keys(re.sub(r"^\((?:\?:|\?P<\w+>)?", "", group[:-1])), key=lambda keys: min(map(len, keys)))
    return best


def _parts(text: str) -> tuple[list[str], list[tuple[str, str]], str]:
    """Return the branches of a pattern, the brackets that stand in no other with the sign after each, and the text outside of them."""
    depth, begin, branches, groups, flat = 0, 0, [""], [], ""
    for place, one in enumerate(text):
        if one == "(":
            begin = place if depth == 0 else begin
            depth += 1
        if one == "|" and depth == 0:
            branches.append("")
        else:
            branches[-1] += one
        flat += "\0" if depth else one
        if one == ")":
            depth -= 1
            if depth == 0:
                groups.append((text[begin : place + 1], text[place + 1 : place + 2]))
    return branches, groups, flat


def _numbered(name: str, number: str) -> str:
    """Return what a short form stands for; %ERR2% has the same fields again, for another branch of a pattern."""
    meaning = SHORT[name].replace("%ERR%", SHORT["ERR"])
    return re.sub(r"\(\?P<(\w+)>", rf"(?P<\1_{number}>", meaning) if number else meaning


def _family(row: dict[str, Any]) -> Family:
    text = re.sub(r"%([A-Z]+)(\d?)%", lambda short: _numbered(*short.groups()), row["pattern"])
    text = re.sub(r"\\.|\[(?:\\.|[^]\\])*\]| ", lambda part: BLANK if part[0] == " " else part[0].replace(" ", r"\s"), text)
    pattern = re.compile(rf"(?<![\w-])(?:{text})(?![\w-])", re.IGNORECASE | re.ASCII)
    keys = _keys(re.sub(r"\[[^]]*\]", "\0", re.sub(r"%[A-Z]+\d?%|\\.", "\0", row["pattern"])))
    return Family(row["id"], pattern, tuple(sorted(keys)), row.get("role", "cause"), row)


@cache
def _data() -> tuple[tuple[Family, ...], dict[str, list[dict[str, Any]]], dict[str, dict[str, str]]]:
    found: list[Family] = []
    calls: dict[str, list[dict[str, Any]]] = {}
    tables: dict[str, dict[str, str]] = {}
    for path in sorted((data_dir() / "lines").glob("*.toml")):
        text = tomllib.loads(path.read_text(encoding="utf-8"))
        found += [_family({**text.get("every", {}), **row}) for row in text.get("family", ())]
        for row in text.get("call", ()):
            calls.setdefault(row["call"], []).append(row)
        tables |= text.get("agree", {})
    return tuple(found), calls, tables


def families() -> tuple[Family, ...]:
    """Return every family of `data/lines/`, in the order of the files."""
    return _data()[0]


@cache
def _by_key() -> dict[str, list[Family]]:
    found: dict[str, list[Family]] = {}
    for family in families():
        for key in family.keys:
            found.setdefault(key, []).append(family)
    return found


def rows(family: Family, fields: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Yield what is known of such a line, best first: the family's own rows whose `when` fits the fields, then those of its call."""
    for row in (*family.data.get("case", ()), *_data()[1].get(family.data.get("call", ""), ())):
        if all(re.fullmatch(value, fields.get(name, ""), re.IGNORECASE) for name, value in row["when"].items()):
            yield row


def search(text: str) -> list[Found]:
    """Return the families' matches in a text; of matches that overlap, the one that begins first, or is longest."""
    low = " ".join(text.lower().split())
    near = {family.id: family for key, members in _by_key().items() if key in low for family in members}
    found = []
    for family in near.values():
        if (match := family.pattern.search(text)) is not None:
            fields = {name.rstrip("_0123456789"): value for name, value in match.groupdict().items() if value is not None}
            found.append(Found(family, match.span(), *_checked(family, fields)))
    found.sort(key=lambda one: (one.span[0], -one.span[1]))
    kept: list[Found] = []
    for one in found:
        if not kept or one.span[0] >= kept[-1].span[1]:
            kept.append(one)
    return kept


def _checked(family: Family, fields: dict[str, str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Name the errno, and say where a number and its text contradict each other."""
    fields = {**family.data.get("fields", {}), **fields}
    clash: tuple[str, ...] = ()
    numbers = [int(fields[name].lstrip("-")) for name in ("errno", "number", "code") if name in fields]
    words = " ".join(fields.get("words", "").split())
    readings = [NAMES.get(number, f"errno {number}") for number in numbers]
    readings += [fields["name"].upper()] if "name" in fields else []
    readings += [WORDS.get(words.casefold(), repr(words))] if words else []
    if readings:
        fields["error"] = readings[0]
        clash = tuple(dict.fromkeys(readings)) if len(set(readings)) > 1 else ()
    if (name := family.data.get("agree")) is not None and not clash:
        value = fields["reason"]
        number = str(int(value, 16 if value.lower().startswith("0x") else 10))
        wanted = _data()[2][name].get(number)
        if wanted is not None and wanted.casefold() != " ".join(fields["text"].split()).casefold():
            clash = (f"reason {value} ({wanted})", fields["text"])
        fields["reason"] = number
    return fields, clash
