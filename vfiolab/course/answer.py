"""What the kernel answers, as a value: so that several calls can stand side by side in one cell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vfiolab.model.errors import VfioError


class Answer(str):
    """`0`, or the errno's name and the reason; shows itself without quotes. `error` is the refusal, None if there was none."""

    __slots__ = ("error",)
    error: VfioError | None

    def __repr__(self) -> str:
        return str(self)


def answer(verb: Callable[..., object], *args: Any, **named: Any) -> Answer:
    """Call a verb and return what the kernel answered instead of raising it: a number, or the errno's name and the reason.

    >>> import vfiolab as vl
    >>> space = vl.load("two-smmu-server").address_space()
    >>> space.attach("0000:01:00.0")
    >>> answer(space.map, 0x4000_0000, "1G"), answer(space.map, 0x4000_0000, "1M")
    (0, EEXIST: 0x4000_0000-0x400f_ffff overlaps the mapping 0x4000_0000-0x7fff_ffff)
    """
    error: VfioError | None = None
    try:
        value = verb(*args, **named)
    except VfioError as refusal:
        error = refusal
    said = Answer(error if error is not None else 0 if value is None else value)
    said.error = error
    return said
