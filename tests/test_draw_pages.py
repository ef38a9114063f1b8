"""Which hardware pages a run becomes, and the picture of it."""

from __future__ import annotations

import pytest
from draw_machines import arm_mixed
from hypothesis import given
from hypothesis import strategies as st

from vfiolab.draw import page_table, pages
from vfiolab.model.iommu.pagetable import hardware_pages

K, M, G = 1 << 10, 1 << 20, 1 << 30
USUAL = 0x40201000
ALL_POWERS = sum(1 << bit for bit in range(12, 40))


@pytest.mark.parametrize(
    ("iova", "physical", "size", "bitmap", "expected"),
    [
        (0, 0x40000000, G, USUAL, [(1, G)]),
        (0, 0x40200000, G, USUAL, [(512, 2 * M)]),
        (0x100000, 0x40100000, 4 * M, USUAL, [(256, 4 * K), (1, 2 * M), (256, 4 * K)]),
        (0x1000, 0x40001000, 4 * M, USUAL, [(511, 4 * K), (1, 2 * M), (1, 4 * K)]),
        (0x200000, 0x40001000, 2 * M, USUAL, [(512, 4 * K)]),
        (0, 0x40000000, G, 0x201000, [(512, 2 * M)]),
        (0, 0x40000000, 3 * M, ALL_POWERS, [(1, 2 * M), (1, M)]),
    ],
)
def test_the_known_splits(iova, physical, size, bitmap, expected):
    assert expected == [(run.count, run.page) for run in hardware_pages(iova, physical, size, bitmap)]


PAGES = st.integers(0, 1 << 20).map(lambda n: n * 4 * K)


def one_by_one(iova, physical, size, bitmap):
    """The rule itself, a page at a time: the largest page that fits and to which both addresses are aligned."""
    pages_ = [1 << bit for bit in range(64) if bitmap >> bit & 1]
    while size:
        page = max(p for p in pages_ if p <= size and not iova % p and not physical % p)
        yield page
        iova, physical, size = iova + page, physical + page, size - page


@given(PAGES, PAGES, st.integers(1, 3000).map(lambda n: n * 4 * K), st.sampled_from([USUAL, 0x201000, 0x1000, ALL_POWERS, 0x12001000]))
def test_counting_pages_by_runs_gives_what_the_rule_gives_page_by_page(iova, physical, size, bitmap):
    runs = hardware_pages(iova, physical, size, bitmap)

    assert list(one_by_one(iova, physical, size, bitmap)) == [run.page for run in runs for _ in range(run.count)]


@given(PAGES, PAGES, st.integers(1, 1 << 20).map(lambda n: n * 4 * K))
def test_runs_cover_the_range_without_gap_or_overlap(iova, physical, size):
    at = iova
    for run in hardware_pages(iova, physical, size, USUAL):
        assert (at, physical - iova) == (run.iova, run.physical - run.iova)
        at += run.size

    assert iova + size == at


@pytest.mark.parametrize(
    ("iova", "physical", "size", "why"),
    [
        (0x100000, 0x40100000, 4 * M, "the next 2 MiB boundary is 0x20_0000"),
        (0x200000, 0x40001000, 2 * M, "iova and physical address lie at different offsets within 2 MiB"),
        (0x200000, 0x40200000, 4 * K, "less than 2 MiB is left"),
        (0x201000, 0x40201000, M, "no whole, aligned 2 MiB is left"),
        (0, 0x40000000, G, ""),
    ],
)
def test_each_run_says_why_its_pages_are_not_larger(iova, physical, size, why):
    assert why == hardware_pages(iova, physical, size, USUAL)[0].why


@pytest.mark.parametrize(
    ("iova", "physical", "size", "bitmap", "message"),
    [
        (0x800, 0, 4 * K, USUAL, "iova 0x800 is not a multiple of the smallest page, 4 KiB"),
        (0, 0x800, 4 * K, USUAL, "physical address 0x800 is not a multiple"),
        (0, 0, 5, USUAL, "size 0x5 is not a multiple"),
        (0, 0, 0, USUAL, "a run lies within 0..2.64 and is not empty"),
        (0, 0, 4 * K, 0, "a page-size bitmap has at least one bit set, not 0"),
    ],
)
def test_what_is_no_run_is_refused_with_the_number_that_is_wrong(iova, physical, size, bitmap, message):
    with pytest.raises(ValueError, match=message):
        hardware_pages(iova, physical, size, bitmap)


def test_the_picture_counts_page_table_entries():
    picture = pages(0x100000, 0x40100000, 4 * M, USUAL)

    assert "4 MiB became 1 × 2 MiB + 512 × 4 KiB" == picture.title
    assert "513 page-table entries" in picture.description


def test_the_table_twin_has_a_row_for_each_run():
    assert (
        ("0x10_0000", "0x4010_0000", "4 KiB", "256", "the next 2 MiB boundary is 0x20_0000"),
        ("0x20_0000", "0x4020_0000", "2 MiB", "1", "no whole, aligned 1 GiB is left"),
        ("0x40_0000", "0x4040_0000", "4 KiB", "256", "less than 2 MiB is left"),
    ) == pages(0x100000, 0x40100000, 4 * M, USUAL).table


def test_the_picture_of_a_live_domain_shows_the_run_at_an_iova():
    domain = arm_mixed().backend.domains[0]

    assert "2 GiB became" in page_table(domain, 0x50000000).title


def test_where_a_domain_maps_nothing_there_is_no_picture():
    with pytest.raises(ValueError, match="D2 maps nothing at iova 0x1000"):
        page_table(arm_mixed().backend.domains[0], 0x1000)


def test_many_stretches_end_in_a_sentence_and_not_in_a_blur():
    odd = sum(1 << bit for bit in range(12, 30))
    picture = pages(0x1000, 0x1000, 0x3FFFE000, odd)

    assert "more stretches are in the table" in "".join(
        run.text for shape in picture.shapes if hasattr(shape, "runs") for run in shape.runs
    )
