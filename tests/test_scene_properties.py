"""What holds of every iova map, whatever the container: tried on random ones, at random widths and windows."""

from __future__ import annotations

from itertools import combinations

from draw_machines import Bench, direct, intel, smmu
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vfiolab.draw import Box, Text, iova_map, to_svg, to_text
from vfiolab.draw.stage.measure import text_width
from vfiolab.model.errors import KernelCrashError, NotModelledError, VfioError

NAMES = st.sampled_from(["", "guest RAM", "BAR", "a rather long name for a mapping", "x"])
SIZES = st.integers(0, 30).map(lambda bits: 4096 << bits)
STARTS = st.one_of(
    st.integers(0, (1 << 36) - 1),
    st.integers(0xFEDFF, 0xFEF01),
    st.integers(0x7FFF, 0x8102),
    st.sampled_from([0, (1 << 27) - 1, (1 << 36) - 1]),
).map(lambda page: page << 12)
UNITS = st.sampled_from([
    intel("dmar0"),
    intel("dmar1", width=39, snoop_control=True),
    smmu("smmu3.0x000000000c000000"),
    smmu("smmu3.0x000000000c020000", stage=2),
])  # fmt: skip


@st.composite
def containers(draw):
    units = draw(st.lists(UNITS, min_size=1, max_size=8))
    if len({unit.is_arm for unit in units}) > 1:
        units = [unit for unit in units if unit.is_arm]
    bench = Bench(*units, kernel=draw(st.sampled_from(["4.4", "4.11", "6.12"])))
    groups = [bench.group(i, i, *([direct(0x7C000000, 0x7DFFFFFF)] if draw(st.integers(0, 4)) == 0 else [])) for i in range(len(units))]
    maps = draw(st.lists(st.tuples(st.just("map"), STARTS, SIZES, NAMES), max_size=14))
    calls = [*(("attach", g) for g in groups), *maps]
    first, *rest = calls
    for verb, *arguments in [first, *draw(st.permutations(rest))]:
        try:
            getattr(bench, verb)(*arguments)
        except (VfioError, NotModelledError, KernelCrashError):
            continue
    for group in bench.groups:
        if group.domain.msi_base is not None and draw(st.booleans()):
            bench.doorbell(group)
    return bench


@st.composite
def scenes(draw):
    bench = draw(containers())
    window = draw(st.one_of(st.none(), st.tuples(STARTS, SIZES).map(lambda pair: (pair[0], pair[0] + pair[1]))))
    width = draw(st.integers(320, 1400))
    faults = draw(st.lists(STARTS, max_size=2))
    return iova_map(bench, log=bench.log, window=window, width=width, faults=faults)


EASY = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def extent(text: Text):
    width = sum(text_width(run.text, text.size, bold=run.bold, mono=text.mono) for run in text.runs)
    left = text.x - {"start": 0, "middle": width / 2, "end": width}[text.anchor]
    return left, text.y - 0.74 * text.size, left + width, text.y + 0.2 * text.size


def overlap(a, b, air=0.4):
    return a[0] + air < b[2] and b[0] + air < a[2] and a[1] + air < b[3] and b[1] + air < a[3]


@EASY
@given(scenes())
def test_no_two_labels_overlap(scene):
    texts = [shape for shape in scene.shapes if isinstance(shape, Text)]
    hits = [(a.text, b.text) for a, b in combinations(texts, 2) if overlap(extent(a), extent(b))]

    assert [] == hits


@EASY
@given(scenes())
def test_a_name_is_whole_or_has_a_letter_or_is_counted_in_a_note(scene):
    drawn = " ".join(shape.text for shape in scene.shapes if isinstance(shape, Text))
    names = {m.label for m in scene.marks if m.kind == "mapping" and m.lane == 0 and m.count == 1 and m.width >= 9}

    assert "…" not in drawn
    assert "no room here" in drawn or [] == [name for name in names if name not in drawn]


@EASY
@given(scenes())
def test_everything_stands_on_the_page(scene):
    for shape in scene.shapes:
        if isinstance(shape, Text):
            left, top, right, bottom = extent(shape)
        elif isinstance(shape, Box):
            left, top, right, bottom = shape.x, shape.y, shape.x + shape.width, shape.y + shape.height
        else:
            continue
        assert left >= 0, shape
        assert right <= scene.width, shape
        assert top >= 0, shape
        assert bottom <= scene.height, shape


@EASY
@given(scenes())
def test_marks_lie_inside_their_lane_and_inside_the_window(scene):
    low, high = scene.layout.window
    for m in scene.marks:
        assert low <= m.start < m.end <= high
        assert scene.ruler.xs[0] <= m.x <= m.x + m.width <= scene.ruler.xs[-1] + 0.02
        assert m.lane < len(scene.lanes)


@EASY
@given(scenes())
def test_marks_of_a_kind_stand_in_the_order_of_their_iovas(scene):
    for lane in range(len(scene.lanes)):
        marks = sorted((m for m in scene.marks if m.lane == lane and m.kind == "mapping"), key=lambda m: m.start)

        assert sorted(m.x for m in marks) == [m.x for m in marks]


@EASY
@given(scenes())
def test_pointing_into_a_mark_gives_an_iova_of_that_mark(scene):
    for m in scene.marks:
        if m.width >= 1:
            assert m.start <= scene.iova(m.x + m.width / 2) < m.end


@EASY
@given(scenes())
def test_the_user_and_every_domain_show_the_same_mappings_at_the_same_place(scene):
    user = {(m.start, m.end, m.x) for m in scene.marks if m.kind == "mapping" and m.lane == 0}
    for lane in scene.lanes[1:]:
        assert user == {(m.start, m.end, m.x) for m in scene.marks if m.kind == "mapping" and m.lane == lane.index}


@EASY
@given(scenes())
def test_the_table_has_a_row_for_every_drawn_mark(scene):
    rows = {(row.start, row.last, row.kind) for row in scene.rows()}

    assert {(m.start, m.end - 1, m.kind) for m in scene.marks} == rows


@EASY
@given(scenes())
def test_the_text_twin_fits_eighty_columns(scene):
    assert max(map(len, to_text(scene).splitlines())) <= 80


@EASY
@given(scenes())
def test_drawing_twice_gives_the_same_bytes(scene):
    assert to_svg(scene) == to_svg(scene)
