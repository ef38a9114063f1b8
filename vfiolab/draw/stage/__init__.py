"""The stage of every picture: shapes, colours, measures of text, the page, and the printers (SVG, matplotlib, text).

What may not come in: anything that asks VFIO's objects. A shape has a place, words and a role; `palette` says how each role looks, those of
VFIO's regions among them.
"""
