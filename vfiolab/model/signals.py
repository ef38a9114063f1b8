"""Ctrl-C waits until a call is done: a system call of the model, like one of a kernel, happens as a whole or not at all."""

from __future__ import annotations

import importlib
import signal
from collections.abc import Callable
from functools import wraps
from threading import get_ident, main_thread
from types import FrameType
from typing import Any, ParamSpec, TypeVar

__all__ = ["HOLD", "whole"]

P = ParamSpec("P")
R = TypeVar("R")

# The functions that the signal module wraps: its conversions to enums and back cost thirty times what they convert for.
try:
    _below: Any = importlib.import_module("_signal")
except ImportError:  # another Python than CPython may have none
    _below = signal
_get: Callable[[int], Any] = _below.getsignal
_set: Callable[[int, Any], Any] = _below.signal
_SIGINT, _IGNORED = int(signal.SIGINT), int(signal.SIG_IGN)
_MAIN = main_thread().ident


class _Hold:
    """Keeps SIGINT back in the main thread, where Python delivers it, from the outermost `enter` to its `leave`.

    The first `enter` puts a handler in the place of the one that is there, and leaves it: to change handlers asks the system, which costs
    more than a call of the model. Between calls it passes on what comes to the one that was there. Who sets a handler later keeps it so
    too: the next `enter` finds it, and stands before it.
    """

    def __init__(self) -> None:
        self._depth = 0
        self._came: list[tuple[Callable[[int, FrameType | None], object], FrameType | None]] = []

    def enter(self) -> bool:
        """Begin to keep it back; whether `leave` has to be called: not in another thread, nor where SIGINT is not Python's to handle."""
        if get_ident() != _MAIN:
            return False
        if not self._depth and type(_get(_SIGINT)) is not _Keeper and not self._stand_before():
            return False
        self._depth += 1
        return True

    def leave(self) -> None:
        """End it; what came meanwhile is delivered to whoever handles SIGINT, which by default raises KeyboardInterrupt here."""
        self._depth -= 1
        if self._came and not self._depth:
            deliver, frame = self._came[0]
            self._came.clear()
            deliver(_SIGINT, frame)

    def _stand_before(self) -> bool:
        before = _get(_SIGINT)
        if before is None or before == _IGNORED:
            return False
        try:
            _set(_SIGINT, _Keeper(self, before))
        except ValueError:  # a subinterpreter
            return False
        return True

    def note(self, keeper: _Keeper, frame: FrameType | None) -> bool:
        """Keep an interrupt for `leave`; whether it was kept: not between calls."""
        if self._depth:
            self._came.append((keeper.deliver, frame))
        return bool(self._depth)


class _Keeper:
    """A handler of SIGINT before another."""

    def __init__(self, hold: _Hold, before: Any) -> None:
        self._hold, self._before = hold, before

    def __call__(self, _number: int, frame: FrameType | None) -> None:
        if not self._hold.note(self, frame):
            self.deliver(_SIGINT, frame)

    def deliver(self, number: int, frame: FrameType | None) -> None:
        """Hand an interrupt to the handler before which it stands; without one the process ends, as it would have."""
        if callable(self._before):
            self._before(number, frame)
        else:
            _set(_SIGINT, self._before)
            signal.raise_signal(signal.SIGINT)


HOLD = _Hold()


def whole(verb: Callable[P, R]) -> Callable[P, R]:
    """Make a verb of several calls one that Ctrl-C does not interrupt half-way.

    >>> @whole
    ... def both(first, second): return first + second
    >>> both(1, 2)
    3
    """

    @wraps(verb)
    def held(*args: P.args, **named: P.kwargs) -> R:
        entered = HOLD.enter()
        try:
            return verb(*args, **named)
        finally:
            if entered:
                HOLD.leave()

    return held
