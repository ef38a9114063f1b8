"""The ruler: order is kept, a pointer finds its iova, every segment has room."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfiolab.draw.iovamap.ruler import Segment, fit, log2, wish

PAGES = st.integers(0, (1 << 52) - 1).map(lambda page: page << 12)
CUTS = st.lists(PAGES, min_size=2, max_size=60, unique=True).map(sorted)
WIDTHS = st.floats(300, 2000)


def ruler_of(cuts, width, gap_every=2):
    segments = [
        Segment(a, b, i % gap_every == 0, 36 if i % gap_every == 0 else wish(b - a, 34), 1 if i % gap_every == 0 else 1.8)
        for i, (a, b) in enumerate(pairwise(cuts))
    ]
    return fit(segments, 14, width)


@given(CUTS, WIDTHS)
def test_the_ruler_fills_exactly_the_width_it_was_given(cuts, width):
    ruler = ruler_of(cuts, width)

    assert 14 == ruler.xs[0]
    assert pytest.approx(14 + width, abs=0.01) == ruler.xs[-1]


@given(CUTS, WIDTHS)
def test_a_higher_boundary_stands_further_right(cuts, width):
    xs = ruler_of(cuts, width).xs

    assert sorted(xs) == list(xs)
    assert len(set(xs)) == len(xs)


@given(CUTS, WIDTHS, st.data())
def test_the_order_of_any_two_iovas_is_kept(cuts, width, data):
    ruler = ruler_of(cuts, width)
    a, b = sorted(data.draw(st.tuples(*[st.integers(cuts[0], cuts[-1])] * 2)))

    assert ruler.x(a) <= ruler.x(b)


@given(CUTS, WIDTHS, st.floats(0, 1))
def test_a_pointer_turned_into_an_iova_and_back_is_where_it_was(cuts, width, part):
    ruler = ruler_of(cuts, width)
    x = ruler.xs[0] + part * (ruler.xs[-1] - ruler.xs[0])

    assert pytest.approx(x, abs=0.02) == ruler.x(ruler.iova(x))


@given(CUTS, WIDTHS)
def test_the_middle_of_a_segment_is_an_iova_of_that_segment(cuts, width):
    ruler = ruler_of(cuts, width)

    for (a, b), (x, x2) in zip(pairwise(cuts), pairwise(ruler.xs), strict=True):
        assert a <= ruler.iova((x + x2) / 2) < b


def test_a_pointer_left_of_the_ruler_is_on_the_first_byte():
    assert 0x1000 == ruler_of([0x1000, 0x2000, 0x9000], 300).iova(-5)


def test_a_pointer_right_of_the_ruler_is_on_the_last_byte():
    assert 0x8FFF == ruler_of([0x1000, 0x2000, 0x9000], 300).iova(5000)


def test_the_last_page_below_2_to_the_64_can_be_pointed_at():
    top = 1 << 64
    ruler = ruler_of([0, top - 4096, top], 600)

    assert top - 4096 <= ruler.iova(ruler.xs[-1] - 1) < top


def test_a_bigger_segment_is_wider_but_not_in_proportion():
    assert wish(4096, 34) < wish(1 << 30, 34) < 5 * wish(4096, 34)


def test_log2_does_not_depend_on_the_machines_mathematics():
    assert [12.0, 12.25, 12.5, 63.0] == [log2(4096), log2(5120), log2(6144), log2(1 << 63)]


def test_sixty_segments_in_three_hundred_pixels_all_stay_visible():
    ruler = ruler_of([i << 30 for i in range(61)], 300)

    assert min(b - a for a, b in pairwise(ruler.xs)) > 0.9
