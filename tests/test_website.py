"""The readable site: every page is there, no link in it leads nowhere, and no other host is asked for a part of it."""

import html
import re
from pathlib import Path

import pytest
from tools import website

import vfiolab as vl

pytestmark = pytest.mark.site
NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("website") / "site"
    website.build(out, kit=False)
    return out


def test_no_link_leads_nowhere_and_no_other_host_is_asked_for_a_part(site):
    assert [] == website.faults(site)


def test_every_notebook_and_every_page_beside_them_is_in_the_menu(site):
    menu = set(re.findall(r'class="toctree-l1"><a class="reference internal" href="([\w-]+)\.html"', (site / "index.html").read_text()))
    assert {path.stem for path in NOTEBOOKS.iterdir() if path.suffix in {".ipynb", ".md"}} | {"reference"} == menu


def test_a_notebooks_stored_output_can_be_read(site):
    words = html.unescape(re.sub(r"<[^>]+>", "", (site / "00-start-here.html").read_text()))
    assert "Host('two-smmu-server', kernel 6.12, 12 groups)" in words


def test_each_public_name_that_is_no_module_has_its_docstring_in_the_reference(site):
    page = (site / "reference.html").read_text()
    names = [name for name in vl.__all__ if name not in {"course", "draw", "lab", "proposals"}]
    assert [] == [name for name in names if f'id="vfiolab.{name}"' not in page]


@pytest.mark.parametrize(
    ("page", "fault"),
    [
        ('<a href="gone.html">', "a.html: gone.html leads nowhere"),
        ('<a href="#nowhere">', "a.html: #nowhere has no such place"),
        ('<script src="https://elsewhere.example/x.js">', "a.html loads https://elsewhere.example/x.js"),
    ],
)
def test_a_fault_is_found(tmp_path, page, fault):
    (tmp_path / "a.html").write_text(page)
    assert [fault] == website.faults(tmp_path)
