"""What the kernel answers, as a value: so that several calls can stand side by side in one cell."""

from __future__ import annotations

from collections import UserString
from collections.abc import Callable
from typing import Any

from vfiolab.kit.ipython import box, case
from vfiolab.model.errors import KernelCrashError, VfioError, WouldBlockError


class Answer(UserString):  # no str: IPython prints those in its own way
    """`0`, or the errno's name and the reason; shows itself without quotes. `error` is the refusal, None if there was none.

    Alone in a cell a refusal shows the whole case, with every check of the call in the kernel's order.
    """

    def __init__(self, said: object, error: VfioError | None = None) -> None:
        super().__init__(said)
        self.error = error

    def __repr__(self) -> str:
        return str(self)

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        if self.error is None:
            return {"text/plain": str(self)}
        return {"text/plain": "\n".join(case(self.error)), "text/html": box(self.error)}


def answer(verb: Callable[..., object], *args: Any, **named: Any) -> Answer:
    """Call a verb and return what the kernel answered instead of raising it: a number, or the errno's name and the reason.

    Where no answer comes, it says `the kernel dies: ` or `waits: ` and why.

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
    except (KernelCrashError, WouldBlockError) as never:
        return Answer(f"{'the kernel dies' if isinstance(never, KernelCrashError) else 'waits'}: {never}")
    return Answer(error if error is not None else 0 if value is None else value, error)
