"""The kinds of marks on an iova map, and what each is called, in pictures, text twin, legend and sentences (`palette` has its look)."""

from __future__ import annotations

from typing import NamedTuple


class Kind(NamedTuple):
    """What a kind is called: in the legend; in the text twin, where it has a sign too; inside its mark, longest first; in a sentence."""

    legend: str
    text: str
    sign: str
    inside: tuple[str, ...] = ()
    noun: str = ""


#: Bottom layer first: so the rows of the table twin are ordered, where they begin and end at the same iova.
KINDS = {
    "mapping": Kind("mapping", "mapped", "===="),
    "gone": Kind("disappeared", "disappeared", "gone", ("gone",)),
    "hole": Kind("outside the usable iova ranges", "outside the usable ranges", "----", ("not usable",)),
    "direct": Kind("direct region: must stay mapped 1:1", "direct", "xxxx", ("direct 1:1", "direct"), "direct region"),
    "direct-relaxable": Kind(
        "direct, relaxable: ignored for assignment", "direct-relaxable", "x-x-",
        ("direct-relaxable", "relaxable"), "direct-relaxable region",
    ),
    "reserved": Kind("reserved region", "reserved", "####", ("reserved",), "reserved region"),
    "msi": Kind("MSI window of the hardware: writes here are interrupts", "MSI window", "////", ("MSI window", "MSI"), "MSI window"),
    "sw-msi": Kind(
        "software MSI window: the kernel places doorbells here", "software MSI window", "::::",
        ("software MSI window", "software MSI", "sw MSI"), "software MSI window",
    ),
    "doorbell": Kind("doorbell page", "doorbell page", "bell", ("doorbell", "bell")),
    "outside": Kind("outside the domain's aperture", "outside the aperture", "", ("outside the aperture", "outside"), "aperture"),
    "conflict": Kind("mapped, and in the way of the refused group", "in the way", "✗✗✗✗"),
    "refused": Kind("refused attempt", "refused", "✗"),
    "fault": Kind("DMA fault", "DMA fault", "!"),
}  # fmt: skip
QUIET = frozenset({"gone", "hole", "outside"})  # nothing is there, so their labels step back
#: The legend's words for every look: a kind of mark, or what is drawn in a way of its own.
LEGEND = {name: kind.legend for name, kind in KINDS.items()} | {
    "mirror": "the user's mapping, mirrored",
    "ghost": "refused group: the domain tried for it, freed again",
    "merged": "mappings thinner than a pixel, shaded by coverage",
    "appeared": "appeared",
}
