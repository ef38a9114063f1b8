"""Controls that several apps share: toggle buttons, which Tab and Space reach, and a status line that screen readers hear."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import ipywidgets

from vfiolab._text import page_text
from vfiolab.course.toggles import toggles
from vfiolab.draw import Picture, figure_html, to_text
from vfiolab.lab.panels import LINES

LETTERS_COME = 0.2  # seconds
WRAP = {"flex_flow": "row wrap", "align_items": "center"}


class App:
    """An app: `box` holds its widgets, `still` is what a page without a live front end shows, as text and as HTML."""

    box: Any

    def still(self) -> tuple[str, str]:
        """Return the app's state as text and as HTML."""
        raise NotImplementedError

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        text, html = self.still()
        return {**(self.box._repr_mimebundle_(**kwargs) or {}), "text/plain": text, "text/html": html}


def choice(name: str, options: tuple[str, ...], value: str, changed: Callable[[], None], *, among: Iterable[str] = ()) -> Any:
    """Return toggle buttons with a name and a tooltip each; `changed` is called after every choice.

    The name has room for the longest of `among`, the names that stand one below the other.
    """
    width = max(70, 8 * max(map(len, (name, *among))))
    buttons = toggles(options, value, [f"{name}: {option}" for option in options], name, f"{width}px")
    buttons.observe(lambda _: changed(), "value")
    return buttons


def said(words: str, *, alert: bool = False) -> str:
    """Return a status line; an alert is read out at once and carries a bar, so that colour is not all there is."""
    bar = ";border-left:4px solid #D55E00;padding-left:8px" if alert else ""
    return f'<p role="{"alert" if alert else "status"}" style="{LINES}{bar}"><strong>{page_text(words)}</strong></p>'


def press(words: str, tooltip: str, act: Callable[[], object], **layout: str) -> Any:
    """Return a button that does something; as wide as its words."""
    button = ipywidgets.Button(description=words, tooltip=tooltip, layout={"width": "auto", **layout})
    button.on_click(lambda _: act())
    return button


def row(*parts: Any) -> Any:
    """Return parts side by side, on as many lines as they need."""
    return ipywidgets.Box(parts, layout=WRAP)


def upload(words: str, tooltip: str, read: Callable[[bytes, str], object]) -> Any:
    """Return a button that uploads files; `read` gets the content and the name of each."""
    button = ipywidgets.FileUpload(description=words, tooltip=tooltip, layout={"width": "auto"})
    button.observe(lambda _: [read(bytes(file["content"]), file["name"]) for file in button.value], "value")
    return button


def frozen(words: str, picture: Picture, what: str) -> tuple[str, str]:
    """Return an app as a page without a live front end shows it: words, a picture, and what there is to do when the cell is run."""
    hint = f"<p><em>Run this cell to {what}.</em></p>"
    return f"{words}\n{to_text(picture)}", f"{said(words)}{figure_html(picture)}{hint}"


def on_enter(field: Any, act: Callable[[], object]) -> None:
    """Let Enter in a text field do something.

    The front end holds the last letters of who types quickly back until the kernel has answered for the ones before, but not the Enter: so
    where messages are waited for, what it does comes a moment later.
    """

    def entered(_: object, content: dict[str, object], __: object) -> None:
        if content.get("event") == "submit":
            try:
                asyncio.get_running_loop().call_later(LETTERS_COME, act)
            except RuntimeError:  # nobody waits for messages
                act()

    field.on_msg(entered)
