"""Pictures of the live objects: a pure scene, then SVG, matplotlib axes, or text.

>>> from vfiolab.draw import Picture, Text, to_svg
>>> picture = Picture("Nothing mapped", "An empty address space.", 320, 40, (Text.plain(8, 24, "nothing mapped"),))
>>> to_svg(picture).startswith("<svg ")
True
"""

from vfiolab.draw.facts import Attempt, DomainFacts, SpaceFacts, observe
from vfiolab.draw.scene import Mark, Row, Scene, iova_map, lay_out
from vfiolab.draw.shapes import Box, Curve, Line, Picture, Poly, Text
from vfiolab.draw.svg import figure_html, inline_svg, to_svg
from vfiolab.draw.text import to_text

__all__ = [
    "Attempt",
    "Box",
    "Curve",
    "DomainFacts",
    "Line",
    "Mark",
    "Picture",
    "Poly",
    "Row",
    "Scene",
    "SpaceFacts",
    "Text",
    "figure_html",
    "inline_svg",
    "iova_map",
    "lay_out",
    "observe",
    "to_svg",
    "to_text",
]
