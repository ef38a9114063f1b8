"""The apps as a page through Voila, and the machine builder in both front ends: with the keyboard alone, and with no other host asked."""

import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

pytestmark = pytest.mark.browser

APPS = ("import vfiolab as vl\nvl.lab.Explorer()", "vl.lab.BuildLab()")
REFUSED = 'space = vl.load("two-smmu-server").address_space()\nspace.attach("01:00.0")\nspace.map(0x800_0000, "64K")'


def write(path, *cells):
    notebook = new_notebook(cells=[new_code_cell(cell) for cell in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, path)
    return path


@pytest.fixture(scope="module")
def voila(tmp_path_factory):
    from browser.harness import serving_voila

    with serving_voila(write(tmp_path_factory.mktemp("voila") / "apps.ipynb", *APPS, REFUSED)) as address:
        yield address


@pytest.fixture
def page(voila, browser):
    """A page of Voila; afterwards no error is in its console, and it has asked no other host for anything."""
    shown = browser.visit(voila)
    yield shown
    shown.page.close()
    assert ([], []) == (shown.errors, shown.external)


def tab_to(page, words):
    """Press Tab until the keyboard is on a button with these words, or on the field of this name."""
    label = "document.activeElement.labels?.[0]?.textContent.trim()"
    for _ in range(80):
        page.page.keyboard.press("Tab")
        if re.search(words, page.page.evaluate(f"() => {label} || document.activeElement.textContent.trim()")):
            return
    raise AssertionError(f"Tab does not reach {words!r}")


def said(page, words):
    page.page.locator("[role=status], [role=alert]").filter(has_text=re.compile(words)).first.wait_for()


def build(page):
    """Build a machine of a unit, a root port and a card of two functions, with Tab, Space, Enter and digits alone."""
    for thing in ("IOMMU unit", "root port", "endpoint"):
        tab_to(page, f"^{thing}$")
        page.page.keyboard.press("Space")
        page.button(re.compile(f"^Add {thing}")).wait_for()
        if thing == "endpoint":
            tab_to(page, "^Functions$")
            page.page.keyboard.press("ControlOrMeta+a")
            page.page.keyboard.type("2")
            page.page.keyboard.press("Tab")
            page.button(re.compile("^Add endpoint 01:00.0 with 2 functions")).wait_for()
            page.page.keyboard.press("Shift+Tab")
        tab_to(page, f"^Add {thing}")
        page.page.keyboard.press("Enter")
        said(page, f"Added {thing}")
        page.page.evaluate("() => document.activeElement.closest('.vfiolab-app').querySelector('input').focus()")
    added = "Added endpoint 01:00.0 with 2 functions below root port 00:01.0"
    said(page, f"{added}. 3 functions in 2 groups, 1 of them with more than one device")


def test_a_group_is_attached_and_a_map_refused_with_the_keyboard_alone_and_axe_finds_nothing(page):
    from browser.test_accessibility import violations

    page.button(re.compile("^Attach group 8")).wait_for()
    tab_to(page, "^Attach group 8")
    page.page.keyboard.press("Space")
    said(page, "space.attach.* — done; the address space has 1 domain")
    assert page.focused().startswith("Detach group 8")
    assert [] == violations(page)
    tab_to(page, "^iova$")
    page.page.keyboard.press("ControlOrMeta+a")
    page.page.keyboard.insert_text("0x800_0000")  # at once: ipywidgets holds letters back while the kernel is busy, but not Enter
    page.page.keyboard.press("Enter")
    said(page, "refused: .*EINVAL.*Source: vfio_iommu_iova_dma_valid.*Try: ")
    assert [] == violations(page)


def test_a_refusal_that_ends_a_cell_is_told_with_its_case_there_too(page):
    page.text("source: vfio_iommu_iova_dma_valid").wait_for()
    assert 0 == page.page.get_by_text("There was an error when executing").count()


def test_the_lab_is_the_page_that_is_shown_unless_another_is_named(browser):
    from browser.harness import serving_voila

    from vfiolab.lab.launch import PAGE

    with serving_voila(PAGE) as address:
        lab = browser.visit(address)
        lab.button(re.compile("^Attach group 8")).wait_for()
        tab_to(lab, "^Attach group 8")
        lab.page.keyboard.press("Enter")
        said(lab, "the address space has 1 domain")
        lab.page.close()
        assert ([], []) == (lab.errors, lab.external)


def test_each_visitor_has_a_machine_of_their_own(page, voila, browser):
    other = browser.visit(voila)
    page.button(re.compile("^Attach group 8")).click()
    page.button(re.compile("^Detach group 8")).wait_for()
    other.button(re.compile("^Attach group 8")).wait_for()
    assert 0 == other.page.get_by_role("button", name=re.compile("^Detach group 8")).count()
    other.page.close()


def test_the_kernel_of_a_closed_page_ends_and_that_of_an_idle_one_stays(tmp_path, browser):
    from browser.harness import VOILA, VOILA_READY, running
    from tools.memory import kernels

    notebook = write(tmp_path / "explorer.ipynb", APPS[0])
    soon = ["--MappingKernelManager.cull_idle_timeout=4", "--MappingKernelManager.cull_interval=1"]
    with running(["--voila", str(notebook), *VOILA, *soon], VOILA_READY) as (address, server):
        closed, idle = browser.visit(address), browser.visit(address)
        for shown in (closed, idle):
            shown.button("Map").wait_for()
        assert 2 == len(kernels(server.pid))
        closed.page.close()
        idle.page.wait_for_timeout(12_000)
        assert 1 == len(kernels(server.pid))
        idle.button(re.compile("^Attach group 8")).click()
        idle.button(re.compile("^Detach group 8")).wait_for()
        idle.page.close()


def test_a_machine_is_built_with_the_keyboard_alone_in_voila(page):
    from browser.test_accessibility import violations

    page.button("Add IOMMU unit dmar0").wait_for()
    build(page)
    assert [] == violations(page)


def test_a_machine_is_built_with_the_keyboard_alone_in_jupyterlab_too(tmp_path, browser):
    from browser.harness import serving
    from browser.test_accessibility import violations

    write(tmp_path / "apps.ipynb", *APPS)
    with serving(root=tmp_path) as address:
        page = browser.open(address, "apps.ipynb")
        page.run_all()
        page.button("Add IOMMU unit dmar0").wait_for()
        page.page.get_by_label("Machine", exact=True).last.focus()
        build(page)
        assert [] == violations(page)
        page.page.close()
        assert ([], []) == (page.errors, page.external)
