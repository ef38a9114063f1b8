"""What a notebook shows when a cell ends with a refusal: the cell's own lines, then the case; none of the model's frames."""

from __future__ import annotations

import os
import traceback

from vfiolab._text import folded, in_every_font, page_text
from vfiolab.model.errors import VfioError

__all__ = ["box", "case", "install", "shown"]

_BOX = "margin:0;border-left:4px solid #D55E00;padding:4px 8px;white-space:pre-wrap;word-break:normal;overflow-wrap:anywhere"
PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120 - pathlib is a tenth of what importing the kit takes


def shown(error: VfioError) -> list[str]:
    """Return what IPython prints for a refusal: the lines of the user's own code, outermost first, then the case and its notes."""
    return [*_own_lines(error), *case(error)]


def case(error: VfioError) -> list[str]:
    """Return the lines of the whole case: the rule, the kernel function, the way out, every check in order, and the error's notes."""
    return [*error.explain().splitlines(), *getattr(error, "__notes__", ())]


def box(error: VfioError) -> str:
    """Return the whole case as HTML, with a bar at its side: what a cell shows that asked for the answer and so does not fail."""
    return f'{folded("a refusal")}<pre style="{_BOX}">{page_text(in_every_font(chr(10).join(case(error))))}</pre>'


def _own_lines(error: VfioError) -> list[str]:
    """List the frames behind IPython's own and outside this package: a cell's, and those of the user's functions."""
    frames = traceback.extract_tb(error.__traceback__)
    inside = [number for number, frame in enumerate(frames) if f"{os.sep}IPython{os.sep}" in frame.filename]
    own = [frame for frame in frames[inside[-1] + 1 if inside else 0 :] if not frame.filename.startswith(PACKAGE + os.sep)]
    return [f"line {frame.lineno}{'' if frame.name == '<module>' else f', in {frame.name}'}: {frame.line}" for frame in own]


def install() -> None:
    """Let IPython ask `shown`: it calls this method of an error, if there is one, in place of printing every frame."""
    VfioError._render_traceback_ = shown  # type: ignore[attr-defined]
