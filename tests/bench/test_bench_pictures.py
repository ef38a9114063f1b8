"""The iova map beside matplotlib, which draws the same mappings in the same lanes: broken_barh is its quickest way to do that."""

from __future__ import annotations

import io

import pytest
from draw_machines import scattered
from growing import grown

from vfiolab.draw import figure_html, inline_svg, iova_map

pytestmark = pytest.mark.bench
TOO_LARGE = 400_000


def matplotlib_picture(backend):
    """Draw every mapping of the user and of each domain with matplotlib, to a PNG as a notebook would show it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), dpi=100)
    FigureCanvasAgg(figure)
    ax = figure.add_subplot()
    for row, mappings in enumerate([backend.dmas, *(domain.mappings for domain in backend.domains)]):
        ax.broken_barh([(m.iova, m.size) for m in mappings], (-row, 0.8), edgecolor="black", linewidth=0.5)
    target = io.BytesIO()
    figure.savefig(target, format="png")
    return len(target.getvalue())


@pytest.mark.parametrize(
    ("count", "domains", "within"), [(3, 1, 0.5), (3, 3, 0.5), (1000, 1, 0.4), (1000, 3, 0.4), (65535, 1, 1 / 12), (65535, 3, 1 / 15)]
)
def test_an_iova_map_beside_matplotlib(beside, count, domains, within):
    bench = scattered(count, domains)
    size = len(inline_svg(iova_map(bench)).encode())
    measured = beside(
        f"iova map, {count:,} mappings, {domains} domains, {size // 1000} kB",
        lambda: inline_svg(iova_map(bench)) and None,
        "matplotlib, broken_barh, PNG",
        lambda: matplotlib_picture(bench.backend) and None,
        within=within,
        rounds=3,
    )

    assert size < TOO_LARGE
    assert len(figure_html(iova_map(bench)).encode()) < TOO_LARGE
    if count == 65535:
        print(f"{measured.seconds * 1e3:.0f} ms for {count:,} mappings in {domains} domains")


def test_what_a_learner_calls_at_65000_mappings_with_its_log_beside_matplotlib(beside):
    space = grown(65_000)
    assert 65_000 < len(space.log)
    beside(
        "space.picture(), 65,000 mappings and their log",
        lambda: inline_svg(space.picture()) and None,
        "matplotlib, broken_barh, PNG",
        lambda: matplotlib_picture(space.container.backend) and None,
        within=1 / 15,
        rounds=3,
    )
