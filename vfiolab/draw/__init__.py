"""Pictures of the live objects: a pure scene, then SVG, matplotlib axes, or text.

Each function that draws returns a `Picture`: shapes, a title, a description, a table twin and a text twin. In a
notebook it shows itself.

What may not come in: rules of the kernel, and state. A picture is what the model knew when it was looked at.

>>> from vfiolab.draw import pages, to_text
>>> print(to_text(pages(0x100000, 0x40100000, 4 << 20, 0x40201000)).splitlines()[0])
4 MiB became 1 × 2 MiB + 512 × 4 KiB
"""

from vfiolab.draw.chain import chain, chain_at
from vfiolab.draw.inforeply import info_reply
from vfiolab.draw.iovamap.change import change
from vfiolab.draw.iovamap.facts import DomainFacts, Newcomer, SpaceFacts, observe
from vfiolab.draw.iovamap.layout import Lane, Layout, Mark, Row, Scene
from vfiolab.draw.iovamap.refusals import Attempt
from vfiolab.draw.iovamap.scene import iova_map, lay_out
from vfiolab.draw.moments import Moment, moments, sentences
from vfiolab.draw.overview import who_is_who
from vfiolab.draw.pages import page_table, pages
from vfiolab.draw.stage.mpl import plot
from vfiolab.draw.stage.shapes import Box, Curve, Line, Picture, Poly, Run, Text
from vfiolab.draw.stage.svg import figure_html, inline_svg, table_html, to_svg
from vfiolab.draw.stage.text import to_text
from vfiolab.draw.timeline import compare, timeline
from vfiolab.draw.topology import topology
from vfiolab.draw.whatif import what_if

__all__ = [
    "Attempt", "Box", "Curve", "DomainFacts", "Lane", "Layout", "Line", "Mark", "Moment", "Newcomer", "Picture", "Poly", "Row", "Run",
    "Scene", "SpaceFacts", "Text", "chain", "chain_at", "change", "compare", "figure_html", "info_reply", "inline_svg", "iova_map",
    "lay_out", "moments", "observe", "page_table", "pages", "plot", "sentences", "table_html", "timeline", "to_svg", "to_text",
    "topology", "what_if", "who_is_who",
]  # fmt: skip
