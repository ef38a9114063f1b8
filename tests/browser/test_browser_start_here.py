"""Notebook 00 in a real JupyterLab: read as it comes from a clone, then run, then used with mouse and keyboard."""

import re

import pytest

pytestmark = pytest.mark.browser

NOTEBOOK = "00-start-here.ipynb"
FIRST, SECOND = "0000:01:00.0", "0000:21:00.0"


def attach(device):
    return re.compile(rf"^Attach group \d+: {device}")


def detach(device):
    return re.compile(rf"^Detach group \d+: {device}")


@pytest.fixture
def page(opened):
    page = opened(NOTEBOOK)
    page.run_all()
    return page


def test_untrusted_and_before_it_is_run_the_picture_is_there_with_its_text(opened):
    page = opened(NOTEBOOK, kernel=False)
    picture = page.picture(re.compile("1 domain holds the user's 1 mapping"))
    picture.wait_for()
    assert picture.bounding_box()["width"] > 600
    assert picture.evaluate("image => image.complete && image.naturalWidth > 0")


def test_untrusted_and_before_it_is_run_no_markup_spills_into_the_page(opened):
    page = opened(NOTEBOOK, kernel=False)
    page.picture(re.compile("1 domain holds the user's 1 mapping")).wait_for()
    assert [] == re.findall(r"</?(?:svg|path|figure|table|details)\b|base64,", page.page.inner_text(".jp-Notebook"))


SHOWN = """() => [...document.querySelectorAll('.jp-OutputArea figure')].map(figure => [...figure.querySelectorAll('img')]
    .map(image => [image.getBoundingClientRect().width, image.naturalWidth]).filter(([width]) => width > 1))"""


@pytest.mark.parametrize(("window", "natural"), [(620, 440), (760, 440), (1000, 760), (1400, 760)])
def test_untrusted_or_not_each_picture_shows_the_layout_that_fits_and_no_letter_is_smaller_than_drawn(opened, window, natural):
    page = opened(NOTEBOOK, kernel=False)
    page.page.set_viewport_size({"width": window, "height": 900})
    page.page.wait_for_function("() => [...document.querySelectorAll('.jp-OutputArea figure img')].every(image => image.complete)")
    page.page.wait_for_timeout(500)
    figures = page.page.evaluate(SHOWN)

    assert len(figures) >= 4
    assert [1] * len(figures) == [len(images) for images in figures]
    assert {natural} == {drawn for ((_, drawn),) in figures}
    assert all(width >= drawn for ((width, drawn),) in figures)
    nodes = page.page.context.new_cdp_session(page.page).send("Accessibility.getFullAXTree")["nodes"]
    heard = [node["name"]["value"] for node in nodes if node.get("role", {}).get("value") == "image" and not node["ignored"]]
    assert "Image" not in heard  # the name that JupyterLab gives to an image without one
    assert len(figures) <= len(heard)


def fill(page, label, words):
    page.page.get_by_label(label).first.fill(words)
    page.page.keyboard.press("Tab")


def test_the_second_groups_lane_appears_and_the_mapping_is_in_it(page):
    page.button(attach(FIRST)).click()
    page.inline(re.compile("D1: group 8")).wait_for()
    page.button("Map").click()
    page.inline(re.compile("^1 domain holds the user's 1 mapping")).first.wait_for()
    assert page.inline(re.compile("D2: group")).count() == 0
    page.button(attach(SECOND)).click()
    picture = page.inline(re.compile("D2: group 10"))
    picture.wait_for()
    assert re.match(r"2 domains mirror the user's 1 mapping \(1 GiB\)", picture.first.get_attribute("aria-label"))
    page.text(re.compile("the address space has 2 domains")).wait_for()


def test_a_refused_map_is_an_alert_with_rule_source_and_way_out(page):
    page.button(attach(FIRST)).click()
    fill(page, "iova", "0x800_0000")
    fill(page, "Size", "1M")
    page.button("Map").click()
    alert = page.page.get_by_role("alert").first
    alert.wait_for()
    words = alert.inner_text()
    assert "EINVAL: 0x800_0000-0x80f_ffff overlaps the software MSI window" in words
    assert "Source: vfio_iommu_iova_dma_valid" in words
    assert "Try: map within the usable ranges" in words
    page.inline(re.compile("1 map was refused")).wait_for()


def test_a_prediction_made_with_the_mouse_is_answered_in_place_with_its_picture(page):
    page.text("Choose, and the answer appears here.").wait_for()
    before = page.inline(re.compile("2 domains mirror")).count()
    page.button("1").click()
    page.text("Not quite: you predicted 1, and it is 2.").wait_for()
    page.inline(re.compile("2 domains mirror")).nth(before).wait_for()
    page.text("How the model found out").first.click()
    page.text(re.compile(r"truth = len\(space\.domains\)")).wait_for()


def test_what_follows_a_question_is_folded_until_it_is_opened_or_run(opened):
    page = opened(NOTEBOOK, kernel=False)
    told = page.page.locator(".jp-RenderedMarkdown p").filter(has_text="The newest domain, D2, comes first")
    told.wait_for(state="attached")
    assert not told.is_visible()
    page.page.locator("summary").filter(has_text="After your choice").first.click()
    told.wait_for()


def test_the_explorer_works_with_the_keyboard_alone(page):
    press = page.page.keyboard.press
    page.button(attach(FIRST)).focus()
    press("Enter")
    page.button(detach(FIRST)).wait_for()
    assert re.match("Detach group", page.focused())
    page.page.get_by_label("iova").first.focus()
    press("Control+a")
    page.page.keyboard.type("0x800_0000")
    press("Tab")
    press("Control+a")
    page.page.keyboard.type("1M")
    press("Tab")
    press("Tab")
    assert page.focused() == "Map"
    press("Space")
    alert = page.page.get_by_role("alert").first
    alert.wait_for()
    assert "EINVAL" in alert.inner_text()
    assert page.focused() == "Map"


def test_another_machine_is_chosen_with_the_keyboard(page):
    page.button("intel-vtd-39bit").focus()
    page.page.keyboard.press("Space")
    page.text('host = vl.load("intel-vtd-39bit")').wait_for()
