r"""Text from strangers, made safe to show: what a terminal, a browser or an XML parser would act on is written out.

Names come from files, and from whoever types them. One rule for all of them: characters that are not printable (control characters,
bidirectional and other invisible marks, lone surrogates, what XML forbids) are shown as ``\x1b``, ``\u202e``.
"""

from __future__ import annotations

from html import escape

__all__ = ["count", "drawn_text", "in_every_font", "markup", "page_text", "plain"]


def plain(text: str, *, keep: str = "") -> str:
    r"""Return the text with each character that does not print written out; those of `keep` stay.

    >>> plain("disk\x1b[2J \u202eevil")
    'disk\\x1b[2J \\u202eevil'
    >>> plain("two\nlines", keep="\n")
    'two\nlines'
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in keep else _written(one) for one in text)


def _written(one: str) -> str:
    code = ord(one)
    return " " if one == "\u00a0" else f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def markup(text: str) -> str:
    r"""Return the text for an attribute or an XML element.

    >>> markup("a<b\x00")
    'a&lt;b\\x00'
    """
    return escape(plain(text, keep="\n"))


def page_text(text: str) -> str:
    """Return the text for a page: nothing in it is markup, and no page typesets it as a formula.

    >>> page_text("<b>$x$")
    '&lt;b&gt;$<span></span>x$<span></span>'
    """
    return _no_formula(markup(text), "span")


_IN_EVERY_FONT = str.maketrans({"✓": "√", "✗": "×", "₂": "2", **{chr(0x2460 + n): f"{n + 1}." for n in range(9)}})


def drawn_text(text: str) -> str:
    """Return the text for an SVG text element; `page_text` for pictures that stand in a page."""
    return _no_formula(markup(in_every_font(text)), "tspan")


def in_every_font(text: str) -> str:
    """Return the text with signs that Liberation Sans, Arial and Helvetica have, in place of those that they have not; none is wider.

    >>> in_every_font("① attach group 8 ✓"), in_every_font("✗ EINVAL")
    ('1. attach group 8 √', '× EINVAL')
    """
    return text.translate(_IN_EVERY_FONT)


def _no_formula(written: str, element: str) -> str:
    """Part what begins a formula (``$``, a backslash) from what follows it."""
    for mark in ("\\", "$"):
        if mark in written:
            written = written.replace(mark, f"{mark}<{element}></{element}>")
    return written


def folded(what: str) -> str:
    r"""Return the first line of an output's HTML: JupyterLab shows it in place of an output that is folded, and it must tell nothing.

    >>> folded("a table")
    '<!-- a table: click to see it -->\n'
    """
    return f"<!-- {what}: click to see it -->\n"


def count(number: int, noun: str) -> str:
    """Return a count with its noun.

    >>> count(1, "domain"), count(65535, "mapping")
    ('1 domain', '65,535 mappings')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
