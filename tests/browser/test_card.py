"""The reference card, printed by Chromium: one A4 page, and nothing of it cut off."""

from __future__ import annotations

import re

import pytest
from tools import card

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def opened(browser):
    page, asked = browser.chromium.new_page(viewport={"width": 1180, "height": 830}), []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((card.notebooks_dir() / card.PAGE).as_uri())
    yield page, asked
    page.close()


def test_the_tool_prints_one_a4_page(tmp_path):
    pdf = card.print_pdf(tmp_path / "card.pdf").read_bytes()
    assert [b"1"] == re.findall(rb"/Type /Pages\n/Count (\d+)", pdf)
    (width, height) = re.search(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", pdf).groups()
    assert (842, 595) == (round(float(width)), round(float(height)))


def test_no_column_is_wider_than_its_place(opened):
    page, _ = opened
    page.emulate_media(media="print")
    wide = "[...document.querySelectorAll('main > div, section, table')].filter(one => one.scrollWidth > one.clientWidth + 1).length"
    assert 0 == page.evaluate(wide)
    assert page.evaluate("document.body.scrollWidth <= document.body.clientWidth")


def test_the_card_asks_for_nothing_beside_itself(opened):
    assert [opened[0].url] == opened[1]
