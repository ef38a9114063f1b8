"""Tables of checks: what a call tests, in the kernel's order. A table is stated once, and compiled into one function for each kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from types import CodeType
from typing import Any, NoReturn

from vfiolab.model.address import U64
from vfiolab.model.errors import Obstacle, VfioError
from vfiolab.model.kernel import Kernel
from vfiolab.model.switches import SWITCHES


@dataclass(frozen=True, slots=True, eq=False)
class Check:
    """One test of a kernel call.

    `text` states what must hold. `broken(request)` returns None when it holds, else one sentence with the offending number and the limit.
    `test` is an expression on the request `r`: where it is false the check holds, and `broken` is not asked; then `broken` may be the
    sentence itself, with `{r.field}` where a number goes, as in `fix`. `errno` is empty where a driver's answer is passed on: it is the
    request's own. `when` says for which kernels the test exists, an expression on names of switches. `met(request)` returns what a refused
    call ran into.

    >>> row = Check("the size is not 0", "EINVAL", "here", "size {r.size} maps nothing", test="not r.size")
    """

    text: str
    errno: str
    source: str
    broken: Callable[[Any], str | None] | str
    fix: str = ""
    when: str = ""
    test: str = ""
    met: Callable[[Any], Iterable[Obstacle]] | None = None


class Table:
    """The checks that one kernel makes at one point of a call.

    `run(request)` raises VfioError for the first that does not hold, and changes nothing. `before` and `after` are the tables that the same
    call meets there: an error shows them all.

    >>> from types import SimpleNamespace
    >>> row = Check("the size is not 0", "EINVAL", "here", "size {r.size} maps nothing", test="not r.size")
    >>> Table([row], Kernel("6.12")).run(SimpleNamespace(size=0))
    Traceback (most recent call last):
    vfiolab.VfioError: EINVAL: size 0 maps nothing
    """

    __slots__ = ("rows", "run", "whole")

    def __init__(self, rows: Iterable[Check], kernel: Kernel, before: Iterable[Check] = (), after: Iterable[Check] = ()) -> None:
        before, after, self.rows = of_kernel(before, kernel), of_kernel(after, kernel), of_kernel(rows, kernel)
        self.whole = (*before, *self.rows, *after)
        self.run = self._compiled(len(before))

    def _compiled(self, earlier: int) -> Callable[[Any], None]:
        names: dict[str, Any] = {f"broken{number}": _words(row) for number, row in enumerate(self.rows)}
        names |= {"U64": U64, "refuse": lambda number, r, why: refuse(self.whole, number + earlier, r, why)}
        exec(_code(tuple(row.test for row in self.rows)), names)  # noqa: S102 - the text is made of the tables' own expressions
        run: Callable[[Any], None] = names["run"]
        return run


def _words(row: Check) -> Callable[[Any], str | None]:
    """Return what asks a row why it does not hold."""
    sentence = row.broken
    return (lambda r: sentence.format(r=r)) if isinstance(sentence, str) else sentence


@cache
def _code(tests: tuple[str, ...]) -> CodeType:
    """Return the code of a function that asks the rows one after the other."""
    lines = ["def run(r):", "    pass"]
    for number, test in enumerate(tests):
        lines += [
            f"    if {test or 'True'}:",
            f"        why = broken{number}(r)",
            "        if why is not None:",
            f"            refuse({number}, r, why)",
        ]
    return compile("\n".join(lines), f"{__file__}: a table of checks", "exec")


def of_kernel(rows: Iterable[Check], kernel: Kernel) -> tuple[Check, ...]:
    """Return the checks that this kernel makes, in order."""
    switches = {name: kernel.has(name) for name in SWITCHES}
    return tuple(row for row in rows if not row.when or eval(row.when, {}, switches))  # noqa: S307 - the tables' own expressions


def refuse(rows: tuple[Check, ...], position: int, request: Any, why: str) -> NoReturn:
    """Raise the VfioError of one row, with the state of every check of the call and what the call ran into."""
    failed = rows[position]
    states = [(row.text, "passed" if i < position else "failed" if i == position else "not reached") for i, row in enumerate(rows)]
    raise VfioError(
        failed.errno or request.errno,
        why,
        failed.source,
        failed.fix.format(r=request),
        states,
        tuple(failed.met(request)) if failed.met is not None else (),
    )


@lru_cache(maxsize=512)
def table(rows: tuple[Check, ...], kernel: Kernel, before: tuple[Check, ...] = (), after: tuple[Check, ...] = ()) -> Table:
    """Return the compiled table of some rows on a kernel, made once."""
    return Table(rows, kernel, before, after)
