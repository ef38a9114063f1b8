"""SVG: the same bytes everywhere, no script, words for those who cannot see it, colours for every theme."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from draw_machines import arm_mixed, intel_two_widths, scattered

from vfiolab.draw import figure_html, inline_svg, iova_map, timeline, to_svg
from vfiolab.draw.stage.palette import CONTRAST, DARK, LIGHT, LOOKS, TEXT_ROLES

NS = "{http://www.w3.org/2000/svg}"
THEMES = {"light": LIGHT, "dark": DARK, "contrast": CONTRAST}
DRAW_AND_PRINT = (
    "from draw_machines import intel_two_widths as m; from vfiolab.draw import *; b = m(); print(to_svg(iova_map(b, log=b.log)))"
)


def contrast_ratio(first, second):
    """Return the WCAG contrast of two `#rrggbb` colours, from 1 to 21."""
    lighter, darker = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


class Tags(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.found = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def inner_svg(picture):
    """Return a widget's picture without the box in which it scrolls: the layout that has a name."""
    svg, _ = ET.fromstring(inline_svg(picture))
    return ET.tostring(svg, encoding="unicode")


@pytest.fixture(scope="module")
def scene():
    bench = intel_two_widths()
    return iova_map(bench, log=bench.log)


def test_a_picture_is_well_formed_xml(scene):
    assert f"{NS}svg" == ET.fromstring(to_svg(scene)).tag


@pytest.mark.parametrize("seed", ["0", "1", "12345"])
def test_the_bytes_do_not_depend_on_the_process_that_draws(scene, seed):
    here = Path(__file__).parent
    paths = os.pathsep.join([str(here.parent), str(here)])
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": paths, "PYTHONIOENCODING": "utf-8"}
    run = subprocess.run([sys.executable, "-c", DRAW_AND_PRINT], env=environment, capture_output=True, encoding="utf-8", check=True)

    assert to_svg(scene) + "\n" == run.stdout


@pytest.mark.parametrize("draw", [to_svg, inline_svg])
def test_a_picture_holds_no_script_and_asks_for_nothing_outside(scene, draw):
    text = draw(scene)

    assert not re.search(r"<script|\son\w+=|javascript:|<foreignObject", text)
    assert {"http://www.w3.org/2000/svg"} == set(re.findall(r"https?://[^\"]+", text))


@pytest.mark.parametrize("draw", [to_svg, inner_svg])
def test_title_and_description_come_first_and_say_what_is_seen(scene, draw):
    root = ET.fromstring(draw(scene))

    assert [f"{NS}title", f"{NS}desc"] == [child.tag for child in list(root)[:2]]
    assert "2 domains mirror the user's 3 mappings (4 GiB)" == root[0].text
    assert "Refused: map 0xfee0_0000-0xfeef_ffff (1 MiB), EINVAL, meets the MSI window of D2 and D1." in root[1].text


@pytest.mark.parametrize("draw", [to_svg, inner_svg])
def test_a_picture_is_an_image_with_a_name_for_screen_readers(scene, draw):
    root = ET.fromstring(draw(scene))

    assert ("img", scene.alt) == (root.get("role"), root.get("aria-label"))


def test_every_mark_has_a_tooltip(scene):
    tips = [e.text for e in ET.fromstring(inline_svg(scene)).iter(f"{NS}title")]

    assert "MSI window of the hardware: writes here are interrupts: 0xfee0_0000-0xfeef_ffff, 1 MiB; group 7" in tips


def test_ids_and_classes_of_two_pictures_on_one_page_do_not_meet(scene):
    first, second = (set(re.findall(r'id="([^"]+)"', inline_svg(p))) for p in (scene, iova_map(arm_mixed())))

    assert first
    assert not first & second


def test_every_pattern_that_is_used_is_defined(scene):
    text = to_svg(scene)

    assert set(re.findall(r"url\(#([^)]+)\)", text)) <= set(re.findall(r'id="([^"]+)"', text))


def test_a_stored_output_is_a_figure_with_an_image_its_words_and_a_table(scene):
    html = figure_html(scene, "what the user may map")
    tags = [tag for tag, _ in Tags(html).found]

    assert ["figure", "style", "div", "img", "img", "figcaption", "details", "summary", "table"] == [
        t for t in tags if t not in {"thead", "tbody", "tr", "th", "td"}
    ]
    assert len(scene.rows()) + 1 == tags.count("tr")


def test_the_image_of_a_stored_output_is_the_same_svg(scene):
    image = next(attributes for tag, attributes in Tags(figure_html(scene)).found if tag == "img")

    assert scene.alt == image["alt"]
    assert to_svg(scene, tips=False) == base64.b64decode(image["src"].removeprefix("data:image/svg+xml;base64,")).decode()


def test_a_name_with_markup_in_it_stays_text():
    bench = arm_mixed()
    bench.map("8G", "1M", '<b onclick="x">&</b>')

    assert "<b " not in to_svg(iova_map(bench)) + figure_html(iova_map(bench))


def test_a_notebook_cell_shows_the_figure_and_the_text_twin(scene):
    assert {"text/html": figure_html(scene), "text/plain": "\n".join(scene.lines)} == scene._repr_mimebundle_()


def test_the_repr_is_one_line(scene):
    assert 'Scene("2 domains mirror the user\'s 3 mappings (4 GiB)", 760 x 400, 10 rows)' == re.sub(r"x \d+,", "x 400,", repr(scene))


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("role", TEXT_ROLES)
def test_text_on_paper_and_on_lanes_is_readable_in_every_theme(theme, role):
    colours = THEMES[theme]

    assert contrast_ratio(colours[role], colours["paper"]) >= 4.5
    assert contrast_ratio(colours[role], colours["lane"]) >= 4.5


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("ground", ["pale-blue", "pale-green", "pale-purple", "pale-vermilion", "quiet"])
def test_letters_on_every_pale_ground_are_readable_in_every_theme(theme, ground):
    colours = THEMES[theme]

    assert contrast_ratio(colours["ink"], colours[ground]) >= 4.5
    assert contrast_ratio(colours["muted"], colours[ground]) >= 4.5


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("edge", ["rule", "blue", "quiet-edge", "vermilion", "green", "orange", "purple"])
def test_edges_stand_out_from_paper_in_every_theme(theme, edge):
    colours = THEMES[theme]

    assert contrast_ratio(colours[edge], colours["paper"]) >= 3


def test_every_theme_names_every_colour():
    assert LIGHT.keys() == DARK.keys() == CONTRAST.keys()


def test_kinds_of_marks_differ_in_more_than_colour():
    kinds = ["mapping", "msi", "sw-msi", "doorbell", "direct", "direct-relaxable", "reserved", "outside", "hole", "refused"]
    looks = {kind: (LOOKS[kind].pattern, LOOKS[kind].dash) for kind in kinds}
    solid = [kind for kind, look in looks.items() if look == ("", "")]

    assert ["mapping", "doorbell", "outside"] == solid  # told apart by lightness: pale, dark, grey without a strong edge
    assert len(set(looks.values())) == len(kinds) - len(solid) + 1


def test_sixty_five_thousand_mappings_stay_under_four_hundred_kilobytes():
    scene = iova_map(scattered(65535, 3))

    assert len(to_svg(scene).encode()) < 400_000
    assert len(figure_html(scene).encode()) < 400_000


def test_a_thousand_mappings_in_three_domains_stay_under_four_hundred_kilobytes():
    assert len(figure_html(iova_map(scattered(1000, 3))).encode()) < 400_000


def test_a_timeline_is_well_formed_xml_too():
    assert f"{NS}svg" == ET.fromstring(to_svg(timeline(intel_two_widths().log))).tag


def shown(html, page):
    """Return how wide each layout stands on a page of so many pixels: the arithmetic of its style, as a browser does it."""
    widths = [dict(part.split(":", 1) for part in attributes["style"].split(";"))["width"] for tag, attributes in Tags(html).found
              if tag in {"img", "svg"}]  # fmt: skip
    names = {"clamp": lambda low, wish, high: max(low, min(wish, high)), "min": min, "max": max}
    sums = [width.replace("calc", "").replace("px", "").replace("100%", str(page)) for width in widths]
    return [eval(one, {"__builtins__": {}}, names) for one in sums]


@pytest.mark.parametrize("draw", [figure_html, inline_svg])
@pytest.mark.parametrize(
    ("page", "wide", "narrow"),
    [(300, 1, 440), (448, 1, 448), (572, 1, 572), (712, 1, 600), (759, 1, 600), (760, 760, 1), (948, 948, 1), (1400, 960, 1)],
)
def test_a_page_shows_the_one_layout_that_fits_and_never_shrinks_it(scene, draw, page, wide, narrow):
    assert [wide, narrow] == shown(draw(scene), page)


@pytest.mark.parametrize("draw", [figure_html, inline_svg])
def test_a_picture_of_a_width_that_was_asked_for_keeps_it_and_a_narrower_page_scrolls_it(draw):
    html = draw(iova_map(arm_mixed(), width=900))
    (style,) = (attributes["style"] for tag, attributes in Tags(html).found if tag in {"img", "svg"})
    box = next(attributes for tag, attributes in Tags(html).found if tag == "div")

    assert "min-width:900px;max-width:none" in style
    assert ("0", "width:0;min-width:100%;overflow-x:auto") == (box["tabindex"], box["style"])


def test_a_screen_reader_hears_a_picture_once(scene):
    stored = [attributes["alt"] for tag, attributes in Tags(figure_html(scene)).found if tag == "img"]
    live = [
        (attributes.get("aria-label"), attributes.get("aria-hidden")) for tag, attributes in Tags(inline_svg(scene)).found if tag == "svg"
    ]

    assert [scene.alt, ""] == stored
    assert [(scene.alt, None), (None, "true")] == live


def test_a_page_that_takes_styles_away_shows_the_wide_layout_alone(scene):
    sizes = [(attributes["width"], attributes.get("height")) for tag, attributes in Tags(figure_html(scene)).found if tag == "img"]

    assert [(f"{scene.width:g}", f"{scene.height:g}"), ("0", None)] == sizes


def test_both_layouts_say_the_same(scene):
    assert (scene.title, scene.description, scene.table, scene.lines) == (
        scene.narrow.title, scene.narrow.description, scene.narrow.table, scene.narrow.lines,
    )  # fmt: skip


def test_only_colours_and_rules_that_a_picture_uses_are_in_it(scene):
    text = to_svg(scene)
    body = text[text.index("</style>") :]
    classes = {name for names in re.findall(r'class="([^"]*)"', body) for name in names.split()}
    ruled = set(re.findall(r"\.v[0-9a-f]{8} \.([a-z0-9-]+)\{", text))

    assert ruled - classes <= {"m", "b", "h"}
    assert set(re.findall(r"var\(--([a-z-]+)\)", text)) == set(re.findall(r"--([a-z-]+):", text))
