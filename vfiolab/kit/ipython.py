"""What a notebook shows when a cell ends with a refusal: the cell's own lines, then the case; none of the model's frames."""

from __future__ import annotations

import traceback
from pathlib import Path

from vfiolab.model.errors import VfioError

__all__ = ["install", "shown"]

PACKAGE = Path(__file__).parents[1]


def shown(error: VfioError) -> list[str]:
    """Return what IPython prints for a refusal: the lines of the user's own code, outermost first, then the case and its notes."""
    return [*_own_lines(error), *error.explain().splitlines(), *getattr(error, "__notes__", ())]


def _own_lines(error: VfioError) -> list[str]:
    """List the frames behind IPython's own and outside this package: a cell's, and those of the user's functions."""
    frames = traceback.extract_tb(error.__traceback__)
    inside = [number for number, frame in enumerate(frames) if "IPython" in Path(frame.filename).parts]
    own = [frame for frame in frames[inside[-1] + 1 if inside else 0 :] if not Path(frame.filename).is_relative_to(PACKAGE)]
    return [f"line {frame.lineno}{'' if frame.name == '<module>' else f', in {frame.name}'}: {frame.line}" for frame in own]


def install() -> None:
    """Let IPython ask `shown`: it calls this method of an error, if there is one, in place of printing every frame."""
    VfioError._render_traceback_ = shown  # type: ignore[attr-defined]
