"""The log lab: a line or a log is pasted or uploaded; which lines matter, which is the cause, and what it means."""

from __future__ import annotations

from contextlib import suppress

import ipywidgets

from vfiolab._text import page_text
from vfiolab.course.toggles import column
from vfiolab.detective import Answer, Log, explain
from vfiolab.draw import Picture, figure_html, inline_svg, to_text
from vfiolab.kit import AddressSpace
from vfiolab.lab.controls import App, press, row, said, upload
from vfiolab.lab.panels import panel
from vfiolab.model.errors import Refusal
from vfiolab.readers.lines import decoded


class LogLab(App):
    """Explain what is in the field: `found` is the answer that is shown, an Answer for one line, a Log for several."""

    def __init__(self, text: str) -> None:
        self.paste = ipywidgets.Textarea(text, description="Line or log", rows=5, layout={"width": "100%", "max_width": "900px"})
        self.read = press("Explain", "Explain the line or log in the field", self._show)
        self.upload = upload("Upload a log", "A log of any program", self._uploaded)
        self.status, self.picture, self.panels = ipywidgets.HTML(), ipywidgets.HTML(), ipywidgets.HTML()
        self.box = column(self.paste, row(self.read, self.upload), self.status, self.panels, self.picture)
        self._show()

    def _uploaded(self, content: bytes, name: str) -> None:
        try:
            self.paste.value = decoded(content, where=name)
        except ValueError as refused:
            self.status.value = said(f"Not read, and the answer below stays: {refused}", alert=True)
        else:
            self._show()

    def _show(self) -> None:
        self.found: Answer | Log = explain(self.paste.value)
        self.status.value = said(self.verdict, alert=not self.known)
        self.panels.value = panel("What it means", str(self.found), top=True)
        drawn = self.shown
        self.picture.value = inline_svg(drawn) if drawn else ""

    @property
    def cause(self) -> Answer | None:
        """The line that is the cause, or the only one; None if there is none."""
        if isinstance(self.found, Answer):
            return self.found
        return None if self.found.cause is None else self.found.lines[self.found.cause]

    @property
    def known(self) -> bool:
        """Whether a cause was found, or candidates for it."""
        return self.cause is not None and self.cause.kind is not None

    @property
    def verdict(self) -> str:
        """Say the cause, or that the line alone does not tell, or that it is not known."""
        one = self.cause
        if one is None or one.kind is None:
            return "Not known: no line of a kind that the kit has."
        if one.cause:
            return f"The cause: {one.cause}"
        return f"The line alone does not tell: {len(one.candidates)} candidates, each with what decides."

    @property
    def shown(self) -> Picture | None:
        """The iova map of the cause's experiment, if it has an address space."""
        names: dict[str, object] = {}
        if self.cause is None or self.cause.experiment is None:
            return None
        with suppress(Refusal):  # that is what the experiment is to show
            exec(self.cause.experiment, names)  # noqa: S102 - the kit's own text, with numbers of the line alone
        space = names.get("space")
        return space.picture() if isinstance(space, AddressSpace) and space.groups else None

    def __repr__(self) -> str:
        return f"LogLab({self.found!r})"

    def still(self) -> tuple[str, str]:
        """Return the verdict and the picture."""
        drawn = self.shown
        hint = "<p><em>Run this cell to paste a line of yours, or to upload a log.</em></p>"
        text = to_text(drawn) if drawn else str(self.found)
        shown = figure_html(drawn) if drawn else f"<pre>{page_text(text)}</pre>"
        return f"{self.verdict}\n{text}", f"{said(self.verdict)}{shown}{hint}"
