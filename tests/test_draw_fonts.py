"""Letters stay readable and apart in every font that a picture may meet, at every width: measured with the fonts' own advances."""

import re
from itertools import combinations

import pytest
from hypothesis import HealthCheck, given, settings
from test_debate import WHOLE
from test_scene_properties import scenes
from tools.gallery import EXHIBITS, arm_server, intel_workstation

import vfiolab as vl
from vfiolab.course.machines import two_units
from vfiolab.draw import Box, Text, chain, compare, info_reply, pages, timeline, topology, who_is_who
from vfiolab.draw.iovamap.kinds import KINDS
from vfiolab.draw.iovamap.layout import Scene
from vfiolab.draw.stage import page, svg
from vfiolab.draw.stage.fonts import ADVANCES
from vfiolab.draw.stage.measure import text_width
from vfiolab.draw.stage.page import NARROW, WIDE

FONTS = sorted({name for name, _ in ADVANCES})
WIDTHS = (320, NARROW, 640, WIDE, 900, 1400)


def extent(text, font):
    width = sum(text_width(run.text, text.size, bold=run.bold, mono=text.mono, font=font) for run in text.runs)
    left = text.x - {"start": 0, "middle": width / 2, "end": width}[text.anchor]
    return left, text.y - 0.74 * text.size, left + width, text.y + 0.2 * text.size


def overlap(a, b, air=0.4):
    return a[0] + air < b[2] and b[0] + air < a[2] and a[1] + air < b[3] and b[1] + air < a[3]


def problems(picture):
    """List what is cut, too small, or runs into a neighbour or a swatch, font by font."""
    texts = [shape for shape in picture.shapes if isinstance(shape, Text) and shape.text]
    swatches = [box for box in picture.shapes if isinstance(box, Box) and (box.width, box.height) == (15, 10)]
    found = [f"{text.size} px: {text.text}" for text in texts if text.size < 11]
    for font in FONTS:
        ends = [(text.text, extent(text, font)) for text in texts]
        found += [f"{font}, off the page: {words}" for words, at in ends if at[0] < 0 or at[2] > picture.width]
        found += [f"{font}, on each other: {a} | {b}" for (a, x), (b, y) in combinations(ends, 2) if overlap(x, y)]
        for box in swatches:
            edge = (box.x, box.y, box.x + box.width, box.y + box.height)
            found += [f"{font}, on a swatch: {words}" for words, at in ends if overlap(at, edge)]
    return found


def test_the_widest_font_is_never_wider_than_measured():
    text = "".join(map(chr, range(32, 127))) + "·…≈≠→←✓✗é漢"
    for font, bold in ADVANCES:
        assert text_width(text, 11, bold=bold, font=font) <= text_width(text, 11, bold=bold)


def test_the_letters_of_a_picture_are_spaced_as_measured_on_every_screen():
    assert "text-rendering:geometricPrecision" in svg.to_svg(EXHIBITS[0].draw())


@pytest.mark.parametrize("exhibit", EXHIBITS, ids=lambda exhibit: exhibit.name)
def test_no_picture_of_the_gallery_has_letters_that_are_cut_small_or_colliding(exhibit):
    picture = exhibit.draw()

    layouts = [layout for layout in (picture, picture.narrow) if layout]

    assert [layout.width for layout in layouts] in ([WIDE, NARROW], [NARROW])  # one that fits everywhere needs no other
    assert [] == [problem for layout in layouts for problem in problems(layout)]


def journeys():
    space = spaces()[0]
    return [space.raise_msi("0000:01:00.0"), space.dma_write("0000:01:00.0", 0x5000_0000), space.dma_read("0000:01:00.0", 0x1)]


DRAWN = {exhibit.name: exhibit.draw for exhibit in EXHIBITS} | {
    "who-is-who": who_is_who,
    "debate": WHOLE.picture,
    "info-reply": lambda: info_reply(spaces()[1].container.get_info(120)),
    **{f"chain-{number}": lambda number=number: chain(spaces()[number].container) for number in range(2)},
    **{f"journey-{number}": lambda number=number: journeys()[number].picture() for number in range(3)},
}
#: What stands in an iova map only where there is room: other words for a mark, what its letter means, the axis.
INSTEAD = {word for kind in KINDS.values() for one in kind.inside for word in one.split()} | set("abcdefghijkl") | {"at"}
AXIS = re.compile(r"0x\w+|[\d.]+|[KMGT]iB|[→=]")


def words(picture):
    """Return every word that is drawn, without the signs of a sentence; a range is two words."""
    texts = [shape.text for shape in picture.shapes if isinstance(shape, Text)]
    return {word.strip(".,:;()") for text in texts for word in re.split(r"[\s-]+", text)} - {""}


@pytest.mark.parametrize("width", [NARROW, 520, 640, WIDE, 900, 1400])
@pytest.mark.parametrize("name", DRAWN)
def test_every_word_stands_whole_whatever_the_width(name, width, monkeypatch):
    monkeypatch.setattr(page, "WIDE", 4000)  # as wide as it takes: no line is folded
    whole = words(DRAWN[name]())
    monkeypatch.setattr(page, "WIDE", width)
    picture = DRAWN[name]()

    broken, lost = words(picture) - whole, whole - words(picture)
    if isinstance(picture, Scene):
        broken, lost = broken - INSTEAD, {word for word in lost - INSTEAD if not AXIS.fullmatch(word)}
    assert (set(), set()) == (broken, lost)
    assert [] == problems(picture)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(scenes())
def test_no_iova_map_has(scene):
    assert [] == problems(scene)


def spaces():
    arm = vl.load("two-smmu-server").address_space()
    arm.attach("0000:01:00.0", "0000:21:00.0")
    arm.map(0x4000_0000, "1G", "guest RAM")
    arm.enable_msi("0000:01:00.0")
    split = two_units("intel-vtd", "6.12", snoop_control=(True, False)).address_space()
    split.attach("0000:01:00.0", "0000:81:00.0")
    return [arm, split, vl.load("amd-matisse-desktop").address_space()]


@pytest.mark.parametrize("width", WIDTHS)
def test_no_chain_timeline_or_comparison_has(width):
    for space in spaces():
        assert [] == problems(chain(space.container, width=width))
        assert [] == problems(timeline(space.log, width=width))
        assert [] == problems(
            compare(space.log, space.log, names=("Linux 6.12", "the kernel of a distribution with a long name"), width=width)
        )


@pytest.mark.parametrize("width", WIDTHS)
def test_no_page_table_and_no_journey_has(width):
    assert [] == problems(pages(0x10_0000, 0x4010_0000, 4 << 20, 0x4020_1000, width=width))
    assert [] == [
        found for trip in journeys() for n in range(1, len(trip.steps) + 1) for found in problems(trip.picture(upto=n, width=width))
    ]


@pytest.mark.parametrize("width", WIDTHS[1:])
def test_no_topology_has(width):
    for host in (arm_server(), intel_workstation(), vl.load("amd-matisse-desktop")):
        assert [] == problems(topology(host, width=width))


@pytest.mark.parametrize("width", WIDTHS)
def test_who_is_who_has_not(width):
    assert [] == problems(who_is_who(width=width))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("argsz", [16, 24, 120])
def test_no_answer_of_get_info_has(argsz, width):
    assert [] == problems(info_reply(spaces()[1].container.get_info(argsz), width=width))
