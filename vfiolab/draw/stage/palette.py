"""The one palette: what each role looks like, light, dark and in high contrast.

Hues are Okabe and Ito's, which people with any common colour blindness tell apart. The pale ones fill, the dark ones
draw edges; text is ink or muted ink on paper and keeps a contrast of 4.5 to 1 in every theme (tested). No role is
told by colour alone: each has a pattern, a dash or a word of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Each colour in light, dark and high contrast.
_COLOURS = {
    "paper": ("#ffffff", "#111111", "#ffffff"),
    "ink": ("#1b1b1b", "#f2f2f2", "#000000"),
    "muted": ("#5a5a5a", "#b4b4b4", "#000000"),
    "rule": ("#8a8a8a", "#8c8c8c", "#000000"),
    "faint": ("#d9d9d9", "#3a3a3a", "#808080"),
    "lane": ("#f6f6f4", "#202122", "#ffffff"),
    "blue": ("#0072b2", "#56b4e9", "#00507d"),
    "pale-blue": ("#d6e8f5", "#123e57", "#d6e8f5"),
    "quiet": ("#e6ebef", "#2c3338", "#e6ebef"),
    "quiet-edge": ("#6d7a84", "#8596a3", "#000000"),
    "vermilion": ("#c24e00", "#f0803c", "#8a3500"),
    "vermilion-text": ("#a63f00", "#ff9d66", "#7a2f00"),
    "pale-vermilion": ("#fbe9dd", "#43220d", "#fbe9dd"),
    "green": ("#007a59", "#2fc79c", "#00523c"),
    "pale-green": ("#d3efe5", "#0d3f31", "#d3efe5"),
    "orange": ("#a86e00", "#e69f00", "#6e4700"),
    "purple": ("#9a4f7c", "#dd94bc", "#6a2f53"),
    "pale-purple": ("#f6e3ee", "#43213a", "#f6e3ee"),
    "outside": ("#dcdcdc", "#454545", "#dcdcdc"),
}
LIGHT, DARK, CONTRAST = ({name: themes[n] for name, themes in _COLOURS.items()} for n in range(3))


@dataclass(frozen=True, slots=True)
class Look:
    """How a role is drawn: colour names of the palette, a pattern's name instead of a fill, a line width and a dash."""

    fill: str = "none"
    edge: str = "none"
    pattern: str = ""
    width: float = 1.0
    dash: str = ""


LOOKS = {
    # the address map
    "lane": Look("lane", "rule", width=0.8),
    "mapping": Look("pale-blue", "blue", width=1.2),
    "mirror": Look("quiet", "quiet-edge", width=0.8),
    "msi": Look("paper", "vermilion", "hatch", 1.4),
    "sw-msi": Look("paper", "purple", "dots", 1.4),
    "doorbell": Look("green", "green", width=1.2),
    "direct": Look("paper", "orange", "cross", 1.4),
    "direct-relaxable": Look("paper", "orange", "cross", 1.4, "2 2"),
    "reserved": Look("paper", "ink", "bars", 1.2),
    "outside": Look("outside", "rule", width=0.8),
    "hole": Look("lane", "rule", "slants", 0.8),
    "refused": Look("paper", "vermilion-text", width=1.8, dash="5 3"),
    "ghost": Look("lane", "vermilion-text", width=1.6, dash="6 4"),
    "conflict": Look("none", "vermilion-text", width=2.0, dash="3 3"),
    "fault": Look("vermilion", "vermilion", width=2.0),
    "appeared": Look("pale-green", "green", width=2.0),
    "gone": Look("paper", "rule", "slants", 1.4, "2 3"),
    # lines
    "rule": Look("none", "rule", width=0.8),
    "faint": Look("none", "faint", width=0.8),
    "guide": Look("none", "vermilion-text", width=1.4, dash="3 3"),
    "caret": Look("ink", "none"),
    "tip": Look("vermilion-text", "paper", width=0.8),
    "tear": Look("paper", "rule", width=1.0),
    "edge": Look("none", "ink", width=2.2),
    "guide-quiet": Look("none", "blue", width=1.0, dash="1 4"),
    "link": Look("none", "rule", width=1.4),
    "link-strong": Look("none", "blue", width=2.0),
    "paper": Look("paper", "none"),
    # cards of the other pictures
    "card": Look("paper", "rule", width=1.0),
    "group": Look("none", "blue", width=1.6),
    "hull": Look("pale-blue", "blue", width=1.4),
    "badge": Look("lane", "rule", width=0.8),
    "unit": Look("pale-purple", "purple", width=1.4),
    "domain": Look("pale-green", "green", width=1.6),
    "container": Look("lane", "ink", width=1.4),
    "band": Look("lane", "none"),
    "alarm": Look("pale-vermilion", "vermilion", width=1.4),
    "good": Look("pale-green", "green", width=1.2),
    "flow": Look("none", "ink", width=1.2),
    "cut": Look("none", "vermilion", width=1.6, dash="4 3"),
}
LEVELS = 8  # shades of coverage, from 1/8 to all
SHADES = {n: round(0.12 + 0.76 * n / LEVELS, 3) for n in range(1, LEVELS + 1)}

TEXT_ROLES = ("ink", "muted", "vermilion-text", "blue", "green", "purple")
