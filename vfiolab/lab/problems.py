"""Endless map problems: a seed gives a state and a call, the model gives the answer and its reason. No widgets here."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

from vfiolab.draw import SpaceFacts
from vfiolab.kit.session import Session
from vfiolab.kit.steps import Step
from vfiolab.lab.choices import Run
from vfiolab.model.backends.type1 import ENTRY_LIMIT
from vfiolab.model.errors import VfioError
from vfiolab.model.uapi.requests import CAP_IPC_LOCK

MACHINE, DEVICE = "intel-vtd-39bit", "0000:01:00.0"
OPTIONS = ("0", "EINVAL", "EEXIST", "ENOSPC", "EFAULT", "ENOMEM")
RAM, RAM_SIZE = 0x4000_0000, 0x4000_0000
WINDOW, WINDOW_END, WIDTH_END = 0xFEE0_0000, 0xFEF0_0000, 1 << 39

Request = tuple[int, int, dict[str, Any]]
Case = Callable[[random.Random, Session], Request]


def _pages(rng: random.Random, most: int = 256) -> int:
    return rng.randint(1, most) * 0x1000


def _free(rng: random.Random, _: Session) -> Request:
    return 0x1_0000_0000 + _pages(rng, 0x10000), _pages(rng), {}


def _inside(rng: random.Random, _: Session) -> Request:
    return RAM + _pages(rng, 0x30000), _pages(rng), {}


def _odd_address(rng: random.Random, s: Session) -> Request:
    iova, size, more = _free(rng, s)
    return iova + rng.choice((0x200, 0x800, 0x80)), size, more


def _odd_size(rng: random.Random, s: Session) -> Request:
    iova, size, more = _inside(rng, s)
    return iova, size + rng.choice((0x200, 0x800, 1)), more


def _below_window(rng: random.Random, _: Session) -> Request:
    size = _pages(rng)
    return WINDOW - size, size, {}


def _from(iova: int, beyond: int = 0, **more: int) -> Case:
    """Return a case of whole pages from an iova on, `beyond` bytes more of them."""
    return lambda rng, _: (iova, beyond + _pages(rng), more)


def _bad_memory(rng: random.Random, s: Session) -> Request:
    iova, size, _ = _free(rng, s)
    return iova, size, {"vaddr": 0x10_0000}


def _locked(rng: random.Random, s: Session) -> Request:
    iova, _, more = _free(rng, s)
    s.do("host.process.drop_capability", CAP_IPC_LOCK)
    s.do("host.process.set_memlock", 0x10_0000)
    return iova, rng.choice((0x8_0000, 0x10_0000, 0x10_1000, 0x20_0000)), more


#: Name of a case -> what it does to the state, and the call it asks about. A name ending in "full" starts with the entry limit used up.
CASES: dict[str, Case] = {
    "free": _free,
    "inside": _inside,
    "odd address": _odd_address,
    "odd size on top of a mapping": _odd_size,
    "below the window": _below_window,
    "above the window": _from(WINDOW_END),
    "into the window": _from(WINDOW - 0x1000, 0x1000),
    "past the width": _from(WIDTH_END - 0x1000, 0x1000),
    "bad memory": _bad_memory,
    "bad memory in the window": _from(WINDOW, vaddr=0x10_0000),
    "locked memory": _locked,
    "free, full": _free,
    "inside, full": _inside,
    "into the window, full": _from(WINDOW - 0x1000, 0x1000),
}


@dataclass(frozen=True, eq=False)
class Problem:
    """State and call of one seed; seeds 0-13, 14-27 and so on meet every case once.

    >>> problem = Problem(1)
    >>> print(problem.code.splitlines()[-1])
    space.map(0x4000_0000, "1G", name="RAM")
    >>> problem.call, problem.answer
    ('space.map(0x4899_7000, 0x2_1000)', 'EEXIST')
    """

    seed: int

    @property
    def case(self) -> str:
        """Name of the case behind this seed."""
        block, place = divmod(self.seed, len(CASES))
        return random.Random(block).sample(sorted(CASES), len(CASES))[place]  # noqa: S311 - an exercise, not a secret

    @cached_property
    def _played(self) -> tuple[Session, str, SpaceFacts, Any, Step]:
        rng = random.Random(self.seed)  # noqa: S311 - likewise
        s = Run("vl.load", MACHINE)
        full = self.case.endswith("full")
        if full:
            s.do("host.set_param", ENTRY_LIMIT, 1)
        s.do("space.attach", DEVICE)
        if full or "mapping" in self.case or self.case == "inside" or rng.random() < 0.5:
            s.do("space.map", RAM, "1G", name="RAM")
        iova, size, more = CASES[self.case](rng, s)
        code, before, picture = s.code, s.space.look(), s.space.picture()
        return s, code, before, picture, s.do("space.map", iova, size, **more)

    @property
    def code(self) -> str:
        """The steps before the call, as Python."""
        return self._played[1]

    @property
    def call(self) -> str:
        """The call whose answer is asked for."""
        return self._played[4].code

    @property
    def picture(self) -> Any:
        """The iova map before the call."""
        return self._played[3]

    @property
    def after(self) -> Any:
        """The iova map after the call: what came, or what was refused and by whom."""
        return self._played[0].space.changed(self._played[2])

    @property
    def refused(self) -> VfioError | None:
        """The refusal, None if the call was accepted."""
        return cast("VfioError | None", self._played[4].refused)  # these calls meet no other kind of refusal

    @property
    def answer(self) -> str:
        """What the kernel answers: "0" or the errno's name."""
        return self.refused.name if self.refused else "0"

    @property
    def reason(self) -> str:
        """Say which check decided, and where in the kernel's order it stands."""
        if self.refused is None:
            return "Every check passed, and the range is mapped."
        states = [state for _, state in self.refused.checks]
        place = f" It is check {states.index('failed') + 1} of {len(states)}; those after it were not reached." if states else ""
        return f"{self.refused.why}.{place} ({self.refused.source})"

    def __repr__(self) -> str:
        return f"Problem({self.seed}): {self.call}"
