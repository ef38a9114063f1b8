"""Typed fields of a machine file: each knows its path, so that an error names the field and the line on which it stands."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from vfiolab._text import plain
from vfiolab.model.address import U64, Span
from vfiolab.model.pci.topology import TopologyError, normal_bdf
from vfiolab.readers.errors import InputError

Path = tuple[str | int, ...]
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')
_PRINTED = re.compile(r"[\n\r\t -\[\]-~]*")  # no escape, nothing outside of ASCII: no text in it needs a second look
_LONG = re.compile(r"\d{4301}")  # Python reads no longer number


def parse_json(text: str, *, source: str) -> Field:
    """Return the object of a machine file. Raises InputError with the line where it is not JSON."""
    advice = "a machine file is one JSON object"
    twice = False

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal twice
        found = dict(pairs)
        twice = twice or len(found) < len(pairs)
        return found

    try:
        data = json.loads(text, object_pairs_hook=once)
    except json.JSONDecodeError as error:
        raise InputError(f"not JSON: {error.msg}", where=source, line=error.lineno, advice=advice) from error
    except RecursionError as error:
        raise InputError("nested too deeply", where=source, advice=advice) from error
    except ValueError as error:
        digits = _LONG.search(text)
        line = _line(text, digits.start()) if digits else None
        raise InputError("holds a number of more than 4,300 digits", where=source, line=line, advice="write a number of 64 bits") from error
    if not isinstance(data, dict):
        raise InputError(f"holds a {type(data).__name__}", where=source, line=1, advice=advice)
    document = _Document(text, source)
    if twice:
        raise document.doubled()
    return Field(data if _PRINTED.fullmatch(text) else _shown_as_text(data), (), document)


def _shown_as_text(value: Any) -> Any:
    """Return a value whose texts hold only what prints: names go to terminals, pages and pictures."""
    if isinstance(value, dict):
        return {key: _shown_as_text(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_shown_as_text(one) for one in value]
    return plain(value) if isinstance(value, str) else value


@dataclass(frozen=True, slots=True)
class _Document:
    text: str
    source: str

    def doubled(self) -> InputError:
        """Return the error that a field is there twice, of which JSON would take the last."""
        met: dict[Path, int] = {}
        for path, position in _values(self.text):
            if path in met:
                break
            met[path] = position
        problem = f"field '{_name(path)}' is there twice"
        return InputError(problem, where=self.source, line=_line(self.text, position), advice="keep the one that is meant")

    def line(self, path: Path) -> int:
        """Return the line on which the value at a path begins, or the innermost one around it that is there."""
        known = {at: position for at, position in _values(self.text) if path[: len(at)] == at}
        return _line(self.text, known[max(known, key=len)])


@dataclass(frozen=True, slots=True)
class Field:
    r"""A value of a machine file and its path; `value` None: it is null, or not there.

    >>> units = parse_json('{"units": [\n {"width": 48},\n {"width": "wide"}]}', source="m.json").get("units")
    >>> units.items()[1].get("width").number()
    Traceback (most recent call last):
    vfiolab.InputError: m.json, line 3: field 'units[1].width' is 'wide'; write a number, or hex as a string such as '0x1000'
    """

    value: Any
    path: Path
    document: _Document

    @property
    def name(self) -> str:
        """The path as people write it: `units[1].width`."""
        return _name(self.path)

    @property
    def line(self) -> int:
        """The line on which the value stands."""
        return self.document.line(self.path)

    def __bool__(self) -> bool:
        return self.value is not None

    def fail(self, problem: str, advice: str) -> InputError:
        """Return the error that this field does not fit."""
        return InputError(f"field '{self.name}' {problem}", where=self.document.source, line=self.line, advice=advice)

    def _is(self) -> str:
        return "is missing or null" if self.value is None else f"is {_shown(self.value)}"

    def _holds(self) -> str:
        return f"is a {type(self.value).__name__}"

    def get(self, key: str) -> Field:
        """Return a field of this object."""
        return Field(self.value.get(key), (*self.path, key), self.document)

    def object(self, advice: str = "it must be an object or null") -> Field:
        """Return the field as an object; null is an empty one."""
        if self.value is not None and not isinstance(self.value, dict):
            raise self.fail(self._is(), advice)
        return self if self.value is not None else Field({}, self.path, self.document)

    def entry(self, advice: str) -> Field:
        """Return the field as an object that has to be there."""
        if not isinstance(self.value, dict):
            raise self.fail(self._holds(), advice)
        return self

    def items(self) -> list[Field]:
        """Return the entries of a list; null is an empty one."""
        if self.value is not None and not isinstance(self.value, list):
            raise self.fail(self._holds(), "it must be a list")
        return [Field(one, (*self.path, n), self.document) for n, one in enumerate(self.value or ())]

    def needed_items(self, advice: str) -> list[Field]:
        """Return the entries of a list that has to hold some."""
        found = self.items()
        if not found:
            raise self.fail("is missing or empty", advice)
        return found

    def number(self, low: int = 0, high: int = U64 - 1) -> int:
        """Return a number from `low` to `high`, both inclusive."""
        value = self.value
        if isinstance(value, str):
            try:
                value = int(value, 0)
            except ValueError:
                value = None
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.fail(self._is(), "write a number, or hex as a string such as '0x1000'")
        if not low <= value <= high:
            raise self.fail(self._is(), f"write a number from {_bound(low)} to {_bound(high)}")
        return value

    def choice(self, allowed: Iterable[str]) -> str:
        """Return one of some words."""
        words = sorted(allowed) if isinstance(allowed, (set, frozenset)) else list(allowed)
        if self.value not in words:
            raise self.fail(self._is(), f"use one of {', '.join(words)}")
        return str(self.value)

    def flag(self, *, default: bool) -> bool:
        """Return true or false; null is the default."""
        if self.value is None:
            return default
        if not isinstance(self.value, bool):
            raise self.fail(self._is(), "write true, false or null")
        return self.value

    def words(self) -> tuple[str, ...]:
        """Return a list of texts; null is an empty one."""
        value = self.value
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
            raise self.fail(self._is(), "write a list of texts")
        return tuple(value)

    def address(self) -> str:
        """Return a PCI address, the one way it is written everywhere."""
        try:
            if isinstance(self.value, str):
                return normal_bdf(self.value)
        except TopologyError:
            pass
        raise self.fail(self._is(), "write an address such as '0000:01:00.0'")

    def span(self) -> Span:
        """Return a range given as [first, last], both inclusive."""
        if not isinstance(self.value, list) or len(self.value) < 2:
            raise self.fail(self._is(), "write [first, last], both inclusive")
        first, last = (one.number() for one in self.items()[:2])
        try:
            return Span.inclusive(first, last)
        except ValueError as error:
            raise self.fail(self._is(), "the first address comes before the last, both below 2^64") from error


def _name(path: Path) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def _shown(value: object) -> str:
    words = repr(value)
    return words if len(words) <= 60 else f"{words[:59]}…"


def _bound(number: int) -> str:
    return "2^64 - 1" if number == U64 - 1 else str(number)


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def _values(text: str) -> Iterator[tuple[Path, int]]:
    """Yield the path and position of every value of a text that is JSON, each before what is inside it."""
    kinds: list[str] = []
    steps: list[str | int] = []  # the key or the index in each container that is open
    key_comes = False
    for token in _TOKEN.finditer(text):
        word = token[0]
        if word == ",":
            key_comes = kinds[-1] == "{"
            if not key_comes:
                steps[-1] = int(steps[-1]) + 1
        elif word in ("}", "]"):
            kinds.pop()
            steps.pop()
            key_comes = False
        elif word == ":":
            key_comes = False
        elif key_comes:
            steps[-1] = json.loads(word)
        else:
            yield tuple(steps), token.start()
            if word in ("{", "["):
                kinds.append(word)
                steps.append("" if word == "{" else 0)
                key_comes = word == "{"
