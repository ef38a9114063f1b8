"""The text twin, word for word, and the words of sizes and widths."""

from __future__ import annotations

from draw_machines import arm_mixed, intel_two_widths, scattered

from vfiolab.draw import iova_map, timeline, to_text
from vfiolab.draw.stage.measure import shorten, text_width, wrap

ARM = """\
2 domains mirror the user's 1 mapping (2 GiB)
D2 and D1 have different IOMMU units, stages, apertures and doorbell pages.
  D2: group 4 · smmu3.0x0c020000 · stage 2 · 44-bit · pages 4K 2M 1G · snoop not
  enforced
  D1: group 8 · smmu3.0x0c000000 · stage 1 · 48-bit · pages 4K 2M 1G · snoop not
  enforced
iova                         size user           D2             D1
0x0                  ≈    128 MiB .              .              .
0x800_0000                  4 KiB ----           doorbell page  ::::
0x800_1000               1020 KiB ----           ::::           ::::
0x810_0000           ≈    895 MiB .              .              .
0x4000_0000                 2 GiB guest RAM      ====           ====
0xc000_0000          ≈     16 TiB .              .              .
0x1000_0000_0000          240 TiB ----                          .
0x1_0000_0000_0000
---- outside the usable ranges :::: software MSI window bell doorbell page ====
mapped blank outside the aperture"""


def test_iovas_run_down_the_page_with_a_column_for_each_lane():
    assert ARM == to_text(iova_map(arm_mixed()))


def test_a_refused_map_is_told_with_its_reason():
    bench = intel_two_widths()

    assert "✗ EINVAL map 0xfee0_0000-0xfeef_ffff: 0xfee0_0000-0xfeef_ffff overlaps" in to_text(iova_map(bench, log=bench.log))


def test_a_long_map_is_cut_and_the_cut_is_said():
    lines = to_text(iova_map(scattered(120))).splitlines()

    assert len(lines) < 80
    assert any("more segments; the table has them" in line for line in lines)


def test_merged_mappings_are_a_count_and_a_share():
    assert "x " in next(line for line in to_text(iova_map(scattered(5000))).splitlines() if "%" in line)


def test_the_timeline_in_text_has_each_step_under_its_call():
    text = to_text(timeline(intel_two_widths().log))

    assert "    D2 attach group 7 ✓" in text
    assert max(map(len, text.splitlines())) <= 80


def test_bold_is_wider():
    assert text_width("domain", 12, bold=True) > text_width("domain", 12)


def test_shortening_keeps_what_fits_whole():
    assert "guest RAM" == shorten("guest RAM", 200, 11)


def test_shortening_gives_up_below_four_letters():
    assert shorten("guest RAM", 20, 11) == ""


def test_wrapping_ends_what_does_not_fit_with_dots():
    lines = wrap("one two three four five six seven eight", 60, 11, lines=2)

    assert 2 == len(lines)
    assert lines[-1].endswith("…")
