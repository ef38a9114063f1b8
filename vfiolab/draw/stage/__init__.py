"""The stage of every picture: shapes, colours, measures of text, the page, and the printers (SVG, matplotlib, text).

What may not come in: anything that knows VFIO. A shape has a place and words, no meaning.
"""
