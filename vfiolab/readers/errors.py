"""What a reader says when it cannot use its input."""

from __future__ import annotations


class InputError(ValueError):
    """Input that no machine can be made of: what is wrong, where, and what to do.

    >>> import vfiolab as vl
    >>> str(vl.InputError("no PCI device in it", where="notes.txt", advice="give the output of 'lspci -vvv'"))
    "notes.txt: no PCI device in it; give the output of 'lspci -vvv'"
    """

    __module__ = "vfiolab"

    def __init__(self, what: str, *, where: str = "", line: int | None = None, advice: str = "") -> None:
        self.what, self.where, self.line, self.advice = what, where, line, advice
        place = ", ".join(part for part in (where, f"line {line}" if line is not None else "") if part)
        super().__init__((f"{place}: " if place else "") + what + (f"; {advice}" if advice else ""))
