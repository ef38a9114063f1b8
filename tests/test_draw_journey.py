"""The picture of a journey: drawn from its events, the same in SVG, text and on matplotlib axes, with what no recording shows marked."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

import vfiolab as vl
from vfiolab.course.experiments import carry_out
from vfiolab.draw import figure_html, plot, to_svg, to_text
from vfiolab.draw.journey import COLUMNS, HEADS, journey
from vfiolab.draw.stage.measure import text_width
from vfiolab.draw.stage.shapes import Box, Line, Text
from vfiolab.model.address import hexa

CASES = {
    "delivered": ("smmu-its", "7.3", "raise vector"),
    "fault, then lost": ("smmu-its", "4.4", "raise vector"),
    "corrupts": ("smmu-its", "4.4", "raise vector, RAM put there"),
    "all ones": ("smmu-its", "4.11", "raise vector, RAM put there"),
    "memory": ("smmu-its", "4.11", "DMA to RAM put there"),
    "fault": ("smmu-its", "4.4", "another's message"),
    "window": ("x86-remapping", "4.4", "raise vector"),
    "window, lost": ("x86-plain-unsafe", "4.4", "DMA to RAM put there"),
    "refused": ("x86-remapping", "7.3", "another's message"),
    "untranslated": ("hisilicon", "7.3", "raise vector"),
}
WIDTHS = (320, 640, 700, 900, 1400)


@pytest.fixture(scope="module", params=CASES.values(), ids=CASES)
def trip(request):
    return carry_out(*request.param).journey


def words(picture):
    return [shape.text for shape in picture.shapes if isinstance(shape, Text)]


def letters(picture):
    return " ".join(words(picture))


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_leaves_the_page(trip, width):
    picture = journey(trip, width=width)
    for shape in picture.shapes:
        if isinstance(shape, Box):
            assert 0 <= shape.x
            assert shape.x + shape.width <= picture.width + 0.2
            assert shape.y + shape.height <= picture.height
        elif isinstance(shape, Text):
            left = shape.x - (text_width(shape.text, shape.size) / 2 if shape.anchor == "middle" else 0)
            assert left >= 0
            assert left + text_width(shape.text, shape.size) <= picture.width + 1, shape.text
            assert shape.y <= picture.height


@pytest.mark.parametrize("width", WIDTHS)
def test_each_station_and_each_reason_is_there_at_any_width(trip, width):
    seen = letters(journey(trip, width=width))
    assert all(head in seen for head in HEADS.values())
    for step in trip.steps:
        assert step.why.split()[0] in seen


def test_the_address_on_the_bus_and_where_it_led_are_written(trip):
    seen = letters(journey(trip))
    assert f"bus address {hexa(trip.address)}" in seen
    assert ("physical 0x" in seen) == (trip.physical is not None)


def test_what_no_recording_shows_is_marked_in_picture_text_and_table(trip):
    picture = journey(trip)
    unsure = [step for step in trip.steps if step.rests]
    for rests in {step.rests for step in unsure}:
        assert f"[{rests}]" in words(picture), "in its station's card"
        assert f"[{rests}]" in to_text(picture)
    assert [step.rests for step in trip.steps] == ["" if row[-1] == "a rule or a recording" else row[-1] for row in picture.table]
    assert bool(unsure) == ("No recording shows every step" in picture.description)


def test_the_table_has_a_row_for_each_step(trip):
    picture = journey(trip)
    assert (COLUMNS, len(trip.steps)) == (picture.columns, len(picture.table))
    assert [step.why for step in trip.steps] == [row[5] for row in picture.table]


def test_the_text_twin_fits_80_columns_and_says_each_step(trip):
    text = to_text(journey(trip))
    assert max(map(len, text.splitlines())) <= 80
    joined = " ".join(text.split())
    assert all(step.why in joined for step in trip.steps)


def test_the_outcome_is_in_the_title_and_told_by_more_than_colour(trip):
    picture = journey(trip)
    assert picture.title.endswith(f": {trip.outcome}")
    sign = "✓" if trip.outcome in {"delivered", "memory"} else "✗"
    assert f"{sign} {trip.outcome}" in letters(picture)


def test_the_svg_is_well_formed_and_the_same_every_time(trip):
    assert ET.fromstring(to_svg(journey(trip))) is not None
    assert to_svg(journey(trip)) == to_svg(journey(trip))


def test_matplotlib_writes_every_letter(trip):
    import matplotlib.pyplot as plt

    plt.switch_backend("agg")
    picture = journey(trip)
    drawn = "".join(text.get_text() for text in plot(picture).texts)
    plt.close("all")
    assert all(run.text in drawn for shape in picture.shapes if isinstance(shape, Text) for run in shape.runs)


def test_a_journey_drawn_up_to_a_step_says_what_is_still_to_come():
    trip = carry_out(*CASES["delivered"]).journey
    assert [5, 4, 3, 2, 1] == [len(journey(trip, upto=n).table) for n in (5, 4, 3, 2, 1)]
    picture = journey(trip, upto=2)
    assert picture.title.endswith("step 2 of 5")
    assert 3 == words(picture).count("not yet")


@pytest.mark.parametrize(("upto", "station"), [(1, "device"), (2, "bus"), (3, "IOMMU")])
def test_the_arrow_of_the_bus_address_ends_at_the_last_station_that_was_reached(upto, station):
    shapes = journey(carry_out(*CASES["delivered"]).journey, upto=upto).shapes
    heads = {shape.text: (shape.x, shape.y) for shape in shapes if isinstance(shape, Text) and shape.text in HEADS.values()}
    above = [shape.x2 for shape in shapes if isinstance(shape, Line) and shape.y == shape.y2 < heads[HEADS["device"]][1]]
    reached = [head for head, (x, _) in heads.items() if any(x < x2 for x2 in above)] or ["device"]
    assert HEADS[station] == reached[-1]


def test_a_way_that_is_still_to_come_is_not_drawn_as_cut():
    trip = carry_out(*CASES["fault, then lost"]).journey
    lines = [[shape.role for shape in journey(trip, upto=n).shapes if isinstance(shape, Line)] for n in (2, 4)]
    assert [0, 2] == [roles.count("cut") for roles in lines]
    assert 3 == lines[0].count("faint")


@pytest.mark.parametrize(("upto", "rows"), [(0, 1), (-3, 1), (99, 5)])
def test_a_step_outside_the_journey_is_its_first_or_last(upto, rows):
    assert rows == len(journey(carry_out(*CASES["delivered"]).journey, upto=upto).table)


def test_where_a_journey_ends_early_the_stations_after_it_say_so():
    seen = words(journey(carry_out(*CASES["fault"]).journey))
    assert 1 == seen.count("not reached")
    assert "✗ fault" in seen


def test_a_request_to_a_peer_shows_the_iommu_as_not_reached():
    m = vl.MachineBuilder("ports")
    unit = m.unit("dmar0", kind="intel-vtd")
    m.endpoint("01:00.0", below=m.root_port("00:01.0", unit=unit, acs=False))
    m.endpoint("02:00.0", below=m.root_port("00:02.0", unit=unit, acs=False))
    m.bar("02:00.0", 0xE0000000, 0xE0000FFF)
    picture = m.host("6.12").address_space().dma_write("0000:01:00.0", 0xE0000000).picture(width=900)
    assert "② turned to a peer" in words(picture)
    assert 2 == words(picture).count("not reached")


def test_the_stored_form_is_an_image_with_words_and_a_table(trip):
    html = figure_html(journey(trip))
    assert f'<img alt="{trip.device}' in html
    assert "<details><summary>The same as a table" in html


@pytest.mark.parametrize(("case", "says"), [("memory", "③ D1 translates"), ("fault", "③ D1: fault")])
def test_the_iommus_card_says_which_domain_does_what(case, says):
    picture = journey(carry_out(*CASES[case]).journey)
    assert says in words(picture)
