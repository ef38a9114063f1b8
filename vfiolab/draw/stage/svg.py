"""A picture as SVG text: the same bytes every time, no script, legible light, dark, in high contrast and printed in black and white.

Three forms. `to_svg` is a file. `figure_html` is for stored outputs: JupyterLab strips an inline `<svg>` from an
untrusted notebook but keeps an `<img>` with its alternative text and a `<details><table>`. `inline_svg` is for
`widgets.HTML`: it follows JupyterLab's theme.
"""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Iterable

from vfiolab._text import drawn_text, folded, markup, page_text
from vfiolab.draw.stage.palette import CONTRAST, DARK, LIGHT, LOOKS, SHADES, TEXT_ROLES
from vfiolab.draw.stage.shapes import Box, Curve, Picture, Poly, Shape, Text

SANS = "Helvetica Neue,Helvetica,Arial,Liberation Sans,Nimbus Sans,sans-serif"
MONO = "SFMono-Regular,Menlo,Consolas,Liberation Mono,DejaVu Sans Mono,monospace"
_GROWS = (960, 600)  # pixels up to which a wide and a narrow layout grow with the page
_LIGHT_PAGE = "<style>[data-jp-theme-light=true] .vfiolab{color-scheme:light}</style>"  # a page without a dark theme, on a dark desktop
_SCROLLED = "width:0;min-width:100%;overflow-x:auto"  # as wide as the page lets it be, whatever the picture needs
_GROUNDS = {"paper", "lane", "pale-blue", "pale-green", "pale-purple", "pale-vermilion", "quiet", "outside"}
_PATTERNS = {
    "hatch": ("7", '<path d="M-1 1l2-2M0 7l7-7M6 8l2-2" stroke="var(--{c})" stroke-width="1.8"/>'),
    "dots": ("7", '<circle cx="2" cy="2" r="1.5" fill="var(--{c})"/><circle cx="5.5" cy="5.5" r="1.5" fill="var(--{c})"/>'),
    "cross": ("8", '<path d="M0 0l8 8M8 0l-8 8" stroke="var(--{c})" stroke-width="1.3"/>'),
    "bars": ("6", '<path d="M0 3h6" stroke="var(--{c})" stroke-width="1.6"/>'),
    "slants": ("9", '<path d="M-1 8l2 2M0 0l9 9M8-1l2 2" stroke="var(--{c})" stroke-width=".8"/>'),
}


def to_svg(picture: Picture, *, tips: bool = True) -> str:
    """Return the picture as a standalone SVG document; it follows the reader's light, dark and contrast settings.

    Without `tips` it has no tooltips: an image inside a page never shows them.
    """
    return _document(picture, tips=tips)


def inline_svg(picture: Picture) -> str:
    """Return the picture for `widgets.HTML` in JupyterLab, with tooltips; it follows the theme of the page."""
    drawn = (_document(one, style=style, tips=True, named=one is picture) for one, style in _layouts(picture))
    return f'<div tabindex="0" style="{_SCROLLED}">{"".join(drawn)}</div>'


def figure_html(picture: Picture, caption: str = "") -> str:
    """Return the form for stored outputs: `<figure>` with an image, its alternative text, a caption and the table twin."""
    parts = [f'{folded("a picture")}<figure class="vfiolab" style="margin:0">{_LIGHT_PAGE}<div tabindex="0" style="{_SCROLLED}">']
    for one, style in _layouts(picture):
        data = base64.b64encode(to_svg(one, tips=False).encode()).decode()
        first = one is picture
        size = f'width="{_n(one.width)}" height="{_n(one.height)}"' if first else 'inert width="0"'  # for a page without styles
        parts.append(f'<img alt="{markup(one.alt) if first else ""}" {size} style="{style}" src="data:image/svg+xml;base64,{data}">')
    parts.append("</div>")
    if caption:
        parts.append(f"<figcaption>{page_text(caption)}</figcaption>")
    if picture.table:
        rows = f"{len(picture.table)} row{'s' * (len(picture.table) != 1)}"
        parts.append(f"<details><summary>The same as a table ({rows})</summary>{table_html(picture)}</details>")
    parts.append("</figure>")
    return "".join(parts)


def _layouts(picture: Picture) -> list[tuple[Picture, str]]:
    """Return each layout with the style that shows it where it fits, never smaller than drawn: its letters would be too small to read.

    The page's own width decides, by arithmetic: a layout that does not fit is one pixel wide. So it needs neither script nor style sheet,
    which JupyterLab takes out of a notebook that it does not trust. A screen reader hears the first layout, whichever is seen.
    """
    if picture.narrow is None:
        return [(picture, f"display:block;min-width:{_n(picture.width)}px;max-width:none;height:{_n(picture.height)}px")]
    edge, least = f"{_n(picture.width - 0.1)}px", f"{_n(picture.narrow.width)}px"
    wide, narrow = (f"min(100%,{most}px)" for most in _GROWS)
    widths = f"(100% - {edge})*9999),{wide}", f"({edge} - 100%)*9999),max({least},{narrow})"
    styles = [f"display:block;max-width:none;height:auto;width:clamp(1px,calc({width})" for width in widths]
    return [(picture, styles[0]), (picture.narrow, styles[1])]


def table_html(picture: Picture) -> str:
    """Return the table twin as an HTML table."""
    head = "".join(f'<th scope="col">{page_text(c)}</th>' for c in picture.columns)
    body = "".join("<tr>" + "".join(f"<td>{page_text(c)}</td>" for c in row) + "</tr>" for row in picture.table)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _document(picture: Picture, *, tips: bool, style: str = "", named: bool = True) -> str:
    """Return the SVG; with a `style` it is a part of a page. Without a name it is not there for screen readers."""
    body = "\n".join(_shape(shape, tips=tips) for shape in picture.shapes)
    mark = f"v{zlib.crc32(f'{picture.title}{picture.width}{body}'.encode()):08x}"
    roles = sorted({shape.role for shape in picture.shapes if not isinstance(shape, Text)})
    patterns = _patterns(mark, sorted({LOOKS[role].pattern for role in roles} - {""}))
    size = f'width="{_n(picture.width)}" height="{_n(picture.height)}" viewBox="0 0 {_n(picture.width)} {_n(picture.height)}"'
    words = [f"<title>{markup(picture.title)}</title>", f"<desc>{markup(picture.description)}</desc>"] if named else []
    name = f'role="img" aria-label="{markup(picture.alt)}"' if named else 'aria-hidden="true"'
    shown = f' style="{style}"' if style else ""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" class="{mark}" {name} {size}{shown}>',
            *words,
            f"<style>{_style(mark, body + patterns, roles, inline=bool(style))}</style>",
            f"<defs>{patterns}</defs>",
            f'<rect class="page" width="{_n(picture.width)}" height="{_n(picture.height)}"/>',
            body,
            "</svg>",
        ]
    )


def _patterns(mark: str, used: Iterable[str]) -> str:
    owners: dict[str, list[str]] = {}
    for look in LOOKS.values():
        if look.pattern and look.edge not in owners.setdefault(look.pattern, []):
            owners[look.pattern].append(look.edge)
    out = []
    for name in used:
        side, drawing = _PATTERNS[name]
        for colour in owners[name]:
            ground = "lane" if name == "slants" else "paper"
            out.append(
                f'<pattern id="{mark}{name}-{colour}" width="{side}" height="{side}" patternUnits="userSpaceOnUse">'
                f'<path d="M0 0h{side}v{side}H0z" fill="var(--{ground})"/>{drawing.format(c=colour)}</pattern>'
            )
    return "".join(out)


def _style(mark: str, body: str, roles: Iterable[str], *, inline: bool) -> str:
    """Return the rules for what is in the body, and the colours that those rules name."""
    me = f".{mark}"
    rules = [f"{me} text{{font:11px {SANS};fill:var(--ink);text-rendering:geometricPrecision}}"]  # spaced as measured
    rules.append(f"{me} .m{{font-family:{MONO}}}{me} .b{{font-weight:700}}")
    rules.append(f"{me} .h{{stroke:var(--paper);stroke-width:4px;stroke-linejoin:round;paint-order:stroke}}{me} .page{{fill:var(--paper)}}")
    classes = {name for names in re.findall(r'class="([^"]*)"', body) for name in names.split()}
    rules += [f"{me} .t-{r}{{fill:var(--{r})}}" for r in TEXT_ROLES if f"t-{r}" in classes]
    rules += [f"{me} .s{n}{{fill:var(--blue);fill-opacity:{opacity}}}" for n, opacity in SHADES.items() if f"s{n}" in classes]
    quiet = {n: round(opacity * 0.6, 3) for n, opacity in SHADES.items() if f"q{n}" in classes}
    rules += [f"{me} .q{n}{{fill:var(--quiet-edge);fill-opacity:{opacity}}}" for n, opacity in quiet.items()]
    rules += [_rule(me, role) for role in roles]
    named = set(re.findall(r"var\(--([a-z-]+)\)", body + "".join(rules)))
    used = [name for name in LIGHT if name in named]
    dark, forced = (_variables(theme, used) for theme in (DARK, {name: "Canvas" if name in _GROUNDS else "CanvasText" for name in LIGHT}))
    strong = _variables(CONTRAST, used)
    themes = [f"{me}{{{_variables(LIGHT, used)};background:var(--paper)}}"]
    if inline:
        lab = "[data-jp-theme-light="
        themes.append(f'{lab}"false"] {me}{{{dark}}}')
        themes.append(f"@media screen and (prefers-color-scheme:dark){{:root:not(:has({lab}])) {me}{{{dark}}}}}")
    else:
        themes.append(f"@media screen and (prefers-color-scheme:dark){{{me}{{{dark}}}}}")
    themes.append(f"@media (prefers-contrast:more){{{me}{{{strong}}}}}")
    themes.append(f"@media (forced-colors:active){{{me}{{forced-color-adjust:none;{forced}}}}}")
    return "".join([*themes, *rules])


def _variables(theme: dict[str, str], names: Iterable[str]) -> str:
    return ";".join(f"--{name}:{theme[name]}" for name in names)


def _rule(me: str, role: str) -> str:
    look = LOOKS[role]
    fill = f"url(#{me[1:]}{look.pattern}-{look.edge})" if look.pattern else _paint(look.fill)
    dash = f";stroke-dasharray:{look.dash}" if look.dash else ""
    return f"{me} .{role}{{fill:{fill};stroke:{_paint(look.edge)};stroke-width:{look.width}{dash}}}"


def _paint(name: str) -> str:
    return "none" if name == "none" else f"var(--{name})"


def _n(number: float) -> str:
    return f"{number:.2f}".rstrip("0").rstrip(".")


def _shape(shape: Shape, *, tips: bool) -> str:
    if isinstance(shape, Text):
        return _text(shape)
    if isinstance(shape, Box):
        name = (f"q{shape.level}" if shape.role == "mirror" else f"s{shape.level}") if shape.level else shape.role
        corner = f' rx="{_n(shape.round)}"' if shape.round else ""
        where = f'x="{_n(shape.x)}" y="{_n(shape.y)}" width="{_n(shape.width)}" height="{_n(shape.height)}"'
        tip = f"><title>{markup(shape.tip)}</title></rect>" if tips and shape.tip else "/>"
        return f'<rect class="{name}" {where}{corner}{tip}'
    if isinstance(shape, Poly):
        d = "M" + "L".join(f"{_n(x)} {_n(y)}" for x, y in shape.points) + ("z" if shape.closed else "")
        filled = "" if shape.closed else ' style="fill:none"'
        return f'<path class="{shape.role}" d="{d}"{filled}/>'
    start, end = f"{_n(shape.x)} {_n(shape.y)}", f"{_n(shape.x2)} {_n(shape.y2)}"
    if isinstance(shape, Curve):
        middle = _n((shape.x + shape.x2) / 2)
        return f'<path class="{shape.role}" d="M{start}C{middle} {_n(shape.y)} {middle} {_n(shape.y2)} {end}"/>'
    return f'<path class="{shape.role}" d="M{start}L{end}"/>'


def _text(text: Text) -> str:
    anchor = f' text-anchor="{text.anchor}"' if text.anchor != "start" else ""
    size = f' style="font-size:{_n(text.size)}px"' if text.size != 11 else ""
    own = [c for c, wanted in (("m", text.mono), ("h", text.halo)) if wanted]
    looks = [[*([f"t-{run.role}"] if run.role != "ink" else []), *(["b"] if run.bold else [])] for run in text.runs]
    words = [drawn_text(run.text) for run in text.runs]
    where = f'<text x="{_n(text.x)}" y="{_n(text.y)}"{anchor}'
    if len(words) == 1:
        return f"{where}{_class([*own, *looks[0]])}{size}>{words[0]}</text>"
    spans = "".join(f"<tspan{_class(look)}>{part}</tspan>" for look, part in zip(looks, words, strict=True))
    return f'{where}{_class(own)}{size} xml:space="preserve">{spans}</text>'


def _class(names: list[str]) -> str:
    return f' class="{" ".join(names)}"' if names else ""
