"""Short texts for a cell: escaped for HTML, with `code` marked by backquotes as in Markdown."""

from __future__ import annotations

import re
from html import escape

_CODE = re.compile(r"`([^`]+)`")


def html(text: str) -> str:
    """Escape `text` for HTML; what stands between backquotes becomes code.

    >>> html("is `a < b`?")
    'is <code>a &lt; b</code>?'
    """
    return _CODE.sub(r"<code>\1</code>", escape(text, quote=False))


def plain(text: str) -> str:
    """Drop the backquotes, for tooltips and labels that show no formatting.

    >>> plain("is `a < b`?")
    'is a < b?'
    """
    return _CODE.sub(r"\1", text)
