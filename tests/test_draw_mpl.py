"""matplotlib axes: the same scene, and no matplotlib until it is asked for."""

from __future__ import annotations

import subprocess
import sys

import matplotlib.pyplot as plt
import pytest
from draw_machines import arm_mixed, intel_two_widths

from vfiolab.draw import Box, iova_map, plot, timeline

plt.switch_backend("agg")


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def test_drawing_svg_does_not_load_matplotlib():
    code = "import sys, vfiolab.draw as d; d.to_svg(d.pages(0, 0, 4096, 4096)); sys.exit('matplotlib' in sys.modules)"

    assert 0 == subprocess.run([sys.executable, "-c", code], check=False).returncode


def test_the_axes_that_were_given_are_the_axes_that_come_back():
    _, ax = plt.subplots()

    assert ax is plot(iova_map(arm_mixed()), ax)


def test_without_axes_there_is_a_figure_of_the_pictures_size():
    scene = iova_map(arm_mixed())
    ax = plot(scene)

    assert pytest.approx((scene.width / 100, scene.height / 100)) == tuple(ax.figure.get_size_inches())


def test_a_pixel_of_the_scene_is_a_unit_of_the_axes():
    scene = iova_map(arm_mixed())
    ax = plot(scene)
    bell = next(m for m in scene.marks if m.kind == "doorbell")
    lefts = [patch.get_x() for patch in ax.patches if hasattr(patch, "get_x")]

    assert bell.x in lefts


def test_every_box_of_the_scene_is_a_patch():
    scene = iova_map(intel_two_widths())
    ax = plot(scene)

    assert sum(isinstance(shape, Box) for shape in scene.shapes) < len(ax.patches)


def test_every_letter_of_the_scene_is_on_the_axes():
    scene = iova_map(arm_mixed())
    words = "".join(text.get_text() for text in plot(scene).texts)

    assert "guest RAM" in words
    assert "smmu3.0x0c020000" in words


@pytest.mark.parametrize("theme", ["light", "dark", "contrast"])
def test_a_theme_colours_the_page(theme):
    from matplotlib.colors import to_hex

    page = plot(iova_map(arm_mixed()), theme=theme).patches[0]

    assert {"light": "#ffffff", "dark": "#111111", "contrast": "#ffffff"}[theme] == to_hex(page.get_facecolor())


def test_an_unknown_theme_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="a theme is one of light, dark, contrast, not 'sepia'"):
        plot(iova_map(arm_mixed()), theme="sepia")


@pytest.mark.parametrize("kind", ["pdf", "png", "svg"])
def test_other_pictures_can_be_saved_for_a_paper(tmp_path, kind):
    file = tmp_path / f"picture.{kind}"
    plot(timeline(intel_two_widths().log)).figure.savefig(file)

    assert file.stat().st_size > 5000
