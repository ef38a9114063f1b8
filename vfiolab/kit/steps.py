"""The steps of a session: what each is to do, as data and as code that a learner would type, and what came of it."""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from vfiolab._text import plain
from vfiolab.client import Done
from vfiolab.kit.host import Host, Machine
from vfiolab.model.errors import Refusal, VfioError
from vfiolab.readers.opening import machine_names, open_machine
from vfiolab.readers.trace import Operation

__all__ = ["Asked", "Step", "boot_words", "call", "is_plain", "made_by", "word"]

#: What a step of a file may call. Whatever else stands there is not called: a session that somebody sent runs nothing but these.
PROCESS_VERBS = {f"process.{verb}" for verb in ("drop_capability", "exit", "remove", "rescan", "restore_capability", "set_memlock")}
HOST_VERBS = {"address_space", "bind", "set_param", "unbind"} | PROCESS_VERBS
SPACE_VERBS = {
    "attach", "close", "detach", "dma_read", "dma_write", "enable_msi", "fork", "map", "map_program", "open", "raise_msi", "unmap",
    "unmap_all",
} | PROCESS_VERBS  # fmt: skip
_SPACE = re.compile(r"space[0-9]*(_\w+)?", re.ASCII)
_MADE = re.compile(r"(?:space[0-9]*(?:_\w+)? = )?(?=host\.|space)", re.ASCII)
MOST_OF_A_STEP = 1 << 15


@dataclass(frozen=True, slots=True)
class Asked:
    """What a step is to do: a verb of `host` or of a space, and its arguments."""

    verb: str
    args: tuple[Any, ...] = ()
    named: dict[str, Any] = field(default_factory=dict)

    @property
    def code(self) -> str:
        """The call as a learner would type it."""
        return call(self.verb, self.args, self.named)

    @classmethod
    def read(cls, code: str) -> Asked:
        """Read a call back, as data: nothing is evaluated. ValueError for anything but a verb of a session with plain arguments."""
        code = code[match.end() :] if (match := _MADE.match(code)) else code
        try:
            with warnings.catch_warnings(action="ignore"):  # what Python would have written otherwise
                node: Any = ast.parse(code[: MOST_OF_A_STEP + 1], mode="eval").body
            verb = ast.unparse(node.func)
            args = tuple(map(ast.literal_eval, node.args))
            named = {one.arg: ast.literal_eval(one.value) for one in node.keywords}
        except (AttributeError, ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
            raise ValueError(f"{plain(code[:80])!r} is no call with plain arguments") from error
        if None in named or not all(map(is_plain, (*args, *named.values()))):
            raise ValueError(f"an argument of {plain(code[:80])!r} is no word and no whole number")
        where, _, what = verb.partition(".")
        if not (where == "host" and what in HOST_VERBS) and not (_SPACE.fullmatch(where) and what in SPACE_VERBS):
            raise ValueError(f"{plain(verb[:80])!r} is no verb of a session")
        return cls(verb, args, named)


@dataclass(slots=True)
class Step:
    """One step: `asked` is a verb, or one operation of a trace. `code`: as it would be typed. `calls`: where its calls are in the log.

    `refused`: what it met (ValueError: a typed word is no number, or does not fit). `lines`: its calls as a trace has them. `missing`: the
    space that it is about was not open. `found`: the spaces that it opened beside the one that its code names, by their place in
    `host.spaces`.
    """

    asked: Asked | Operation
    code: str
    refused: Refusal | ValueError | None = None
    answer: Any = None
    calls: tuple[int, int] = (0, 0)
    lines: tuple[str, ...] = ()
    done: Done | None = None
    missing: bool = False
    found: dict[str, int] = field(default_factory=dict)

    @property
    def outcome(self) -> str:
        """What came of it in one word: `reason`, what a trace's operation answered, what became of a request of DMA, or "accepted"."""
        if self.refused or self.done:
            return self.reason if self.done is None else self.done.result
        return str(getattr(self.answer, "outcome", "accepted"))

    @property
    def reason(self) -> str:
        """The refusal in one word: the errno's name, or the kind of the error."""
        return self.refused.name if isinstance(self.refused, VfioError) else type(self.refused).__name__


def is_plain(value: object) -> bool:
    """Say whether an argument can stand in a step: a word, a whole number, or None."""
    return value is None or isinstance(value, str | int)


def word(value: object) -> str:
    """Write an argument as a learner would type it: addresses in grouped hexadecimal.

    >>> print(word(0x4000_0000), word("1G"), word(12))
    0x4000_0000 "1G" 12
    """
    if isinstance(value, str):
        written = json.dumps(value, ensure_ascii=False)
        return written if written.isprintable() else ascii(value)
    return f"{value:#_x}" if isinstance(value, int) and abs(value) > 0xFFF else repr(value)


def call(verb: str, args: Iterable[object] = (), named: Mapping[str, object] = {}) -> str:
    """Write a call as a learner would type it.

    >>> print(call("space.map", (0x4000_0000, "1G"), {"name": "RAM"}))
    space.map(0x4000_0000, "1G", name="RAM")
    """
    return f"{verb}({', '.join([*map(word, args), *(f'{name}={word(value)}' for name, value in named.items())])})"


def made_by(host: Host) -> str:
    """Return the code that makes a host of a machine of the kit; "" for any other machine."""
    name = host.machine.name
    if name not in machine_names() or Machine.of(open_machine(name).with_assumed_units()) != host.machine:
        return ""
    return f"host = {call('vl.load', [name], boot_words(host))}"


def boot_words(host: Host) -> dict[str, object]:
    """Return the kernel and the boot options that a host was booted with, as `vl.load` takes them."""
    words = host.options.words
    return {"kernel": host.kernel.release, **({"options": words} if words else {})}
