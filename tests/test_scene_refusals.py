"""What a refusal leaves in the picture: the last ones only, the group that could not join, words that can be read."""

from __future__ import annotations

from contextlib import suppress

import pytest
from draw_machines import Bench, direct, intel, intel_two_widths

from vfiolab.draw import Box, Line, Poly, Text, change, iova_map, observe, to_text
from vfiolab.draw.stage.measure import text_width
from vfiolab.kit import MachineBuilder
from vfiolab.model.errors import VfioError


def crossing(bench, *groups):
    """Attach groups; a refusal is kept with its call."""
    for group in groups:
        with suppress(VfioError):
            bench.attach(group)
    return bench


def refused(scene):
    return [(m.start, m.label) for m in scene.marks if m.kind == "refused"]


def words(scene):
    return [shape for shape in scene.shapes if isinstance(shape, Text)]


@pytest.fixture
def one():
    bench = Bench(intel(), intel("dmar1", width=39))
    return bench.attach(bench.group(1))


def test_a_group_that_left_clears_nothing_where_it_was():
    m = MachineBuilder("two groups")
    unit = m.unit("dmar0", kind="intel-vtd")
    for bus in (1, 2):
        m.endpoint(f"0{bus}:00.0", below=m.root_port(f"00:0{bus}.0", unit=unit))
    host = m.host("6.12")
    process = host.process
    stays, moves = process.open_group("0000:01:00.0"), process.open_group("0000:02:00.0")
    first, second = process.open_container(), process.open_container()
    stays.set_container(first)
    moves.set_container(first)
    first.set_iommu(3)
    moves.unset_container()
    moves.set_container(second)
    with pytest.raises(VfioError):
        first.map_dma(0xFEE00000, 4096, process.memory.mmap(4096))
    moves.unset_container()
    assert [0xFEE00000] == [start for start, _ in refused(iova_map(first, log=host.log))]


@pytest.fixture
def kept_out(one):
    return crossing(one.map("1T", "1G", "guest RAM"), one.group(2, 1))


def test_a_map_that_succeeds_clears_what_was_refused_before(one):
    one.map(1 << 52, "4K").map(0, "1M")
    scene = iova_map(one, log=one.log)
    assert [] == refused(scene)
    assert 1 << 48 == scene.layout.window[1], "nor does it keep the scale"
    assert "Not drawn: 1 map refused before the last change." in scene.description


def test_of_many_refused_maps_the_last_three_are_drawn(one):
    for page in range(5):
        one.map(0xFEE00000 + page * 4096, "4K")
    scene = iova_map(one, log=one.log)
    assert [0xFEE02000, 0xFEE03000, 0xFEE04000] == sorted(start for start, _ in refused(scene))


def test_a_map_that_is_refused_clears_nothing(one):
    one.map(0, "1M").map(0xFEE00000, "4K").map(0, "4K")
    assert [(0, "EEXIST"), (0xFEE00000, "EINVAL")] == sorted(refused(iova_map(one, log=one.log)))


@pytest.mark.parametrize("act", [lambda b: b.unmap(0, "1M"), lambda b: b.attach(b.group(3)), lambda b: b.detach(b.groups[-1])])
def test_an_unmap_an_attach_or_a_detach_clears_too(one, act):
    one.attach(one.group(2)).map(0, "1M").map(0xFEE00000, "4K")
    act(one)
    assert [] == refused(iova_map(one, log=one.log))


def test_another_containers_success_clears_nothing():
    m = MachineBuilder("two groups")
    unit = m.unit("dmar0", kind="intel-vtd")
    for bus in (1, 2):
        m.endpoint(f"0{bus}:00.0", below=m.root_port(f"00:0{bus}.0", unit=unit))
    host = m.host("6.12")
    first, second = host.address_space(), host.address_space()
    first.attach("0000:01:00.0")
    with pytest.raises(VfioError):
        first.map(0xFEE00000, "4K")
    second.attach("0000:02:00.0")
    second.map(0, "1M")
    second.detach("0000:02:00.0")
    assert [(0xFEE00000, "EINVAL")] == refused(first.picture())
    assert [] == refused(second.picture())


def test_a_group_that_was_refused_has_the_last_lane_and_holds_nothing(kept_out):
    scene = iova_map(kept_out, log=kept_out.log)
    assert ["user", "D1", "D2"] == [lane.name for lane in scene.lanes]
    assert [0, 1] == [m.lane for m in scene.marks if m.kind == "mapping"]
    assert "refused: EINVAL" in "".join(text.text for text in words(scene))


def test_what_is_mapped_beyond_the_newcomers_aperture_is_marked_as_in_its_way(kept_out):
    scene = iova_map(kept_out, log=kept_out.log)
    assert [(1 << 40, (1 << 40) + (1 << 30), (0, 2))] == [(m.start, m.end, m.blockers) for m in scene.marks if m.kind == "conflict"]
    assert 2 == sum(isinstance(shape, Box) and shape.role == "conflict" and shape.height > 20 for shape in scene.shapes)


def test_a_mapping_that_is_in_the_way_as_a_whole_keeps_its_name(kept_out):
    assert "guest RAM" in [text.text for text in words(iova_map(kept_out, log=kept_out.log))]


def test_only_the_part_of_a_mapping_that_meets_a_reserved_region_is_in_the_way(one):
    crossing(one.map("1G", "1G"), one.group(2, 0, direct(0x50000000, 0x5000FFFF)))
    conflicts = [(m.start, m.end) for m in iova_map(one, log=one.log).marks if m.kind == "conflict"]
    assert [(0x50000000, 0x50010000)] == conflicts


def test_the_refused_group_and_why_are_said_in_picture_text_and_table(kept_out):
    scene = iova_map(kept_out, log=kept_out.log)
    assert "Group 2 was refused with EINVAL: the mapping 0x100_0000_0000-0x100_3fff_ffff lies outside" in scene.description
    assert "D2: refused: EINVAL" in to_text(scene)
    assert "in the way" in to_text(scene)
    assert [("conflict", "D2")] == [(row.kind, row.domains) for row in scene.rows() if row.kind == "conflict"]


def test_once_the_group_can_join_the_refusal_is_gone(kept_out):
    kept_out.unmap("1T", "1G")
    assert ["user", "D1"] == [lane.name for lane in iova_map(kept_out, log=kept_out.log).lanes]


def test_without_the_log_no_refused_group_is_drawn(kept_out):
    assert ["user", "D1"] == [lane.name for lane in iova_map(kept_out).lanes]


def test_before_and_after_a_refused_attach_the_title_says_so(one):
    before = observe(one.map("1T", "1G"))
    crossing(one, one.group(2, 1))
    scene = change(before, observe(one, one.log), log=one.log)
    assert scene.title.endswith("EINVAL")
    assert "D2" in [lane.name for lane in scene.lanes]


@pytest.mark.parametrize("width", [320, 420, 700, 900, 1400])
@pytest.mark.parametrize("size", ["4K", "300G", "100T"])
def test_the_words_of_a_refused_map_are_never_cut(one, size, width):
    one.map("1G", "1G", "guest RAM").map(0, size).map(0xFEE00000, "1M")
    scene = iova_map(one, log=one.log, width=width)
    said = [text.text for text in words(scene) if text.runs[0].role == "vermilion-text"]
    assert said
    assert not [text for text in said if text.endswith("…")]


@pytest.mark.parametrize("width", [320, 420, 700, 900, 1400])
@pytest.mark.parametrize("start", [0xFEDF_F000, 0xFFFF_FFFF_F000])
def test_no_guide_line_runs_through_the_words_of_a_refusal(one, start, width):
    one.map("1G", "1G", "guest RAM").map(start, "1G")
    scene = iova_map(one, log=one.log, width=width)
    back = {"start": 0, "middle": 0.5, "end": 1}
    told = [(t, text_width(t.text, t.size)) for t in words(scene) if t.runs[0].role == "vermilion-text"]
    lines = [shape for shape in scene.shapes if isinstance(shape, Line) and shape.role == "guide"]
    assert lines
    for text, wide in told:
        left = text.x - back[text.anchor] * wide
        assert not [o for o in lines if left < o.x < left + wide and o.y < text.y + 2 and text.y - 9 < o.y2]


def test_each_arrow_ends_just_above_a_domain_that_refused():
    scene = iova_map(intel_two_widths(), log=intel_two_widths().log)
    ends = [shape.points[-1][1] for shape in scene.shapes if isinstance(shape, Poly) and shape.role == "tip"]
    tops = [scene.lane_tops[lane][0] for mark in scene.layout.marks for lane in mark.blockers if lane]
    assert ends
    assert [] == [end for end in ends if not any(top - 25 < end < top for top in tops)]


@pytest.mark.parametrize("width", [320, 420, 700, 900, 1400])
def test_no_guide_line_or_tip_runs_through_a_title(width):
    scene = iova_map(intel_two_widths(), log=intel_two_widths().log, width=width)
    lowest = {top - 5 for top, _ in scene.lane_tops[1:]}
    titles = [(t.x, t.x + text_width(t.text, 12), t.y - 9, t.y + 2) for t in words(scene) if t.y in lowest and t.size == 12]
    assert len(scene.lanes) - 1 == len(titles)
    for shape in scene.shapes:
        if isinstance(shape, Line) and shape.role == "guide":
            assert not [t for t in titles if t[0] <= shape.x <= t[1] and shape.y < t[3] and t[2] < shape.y2]
        elif isinstance(shape, Poly) and shape.role == "tip":
            x, y = shape.points[-1]
            assert not [t for t in titles if t[0] <= x <= t[1] and t[2] < y < t[3]]
