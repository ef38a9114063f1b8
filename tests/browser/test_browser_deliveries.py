"""Notebooks 05, 06 and 08 in a real JupyterLab: as they come from a clone, then run, and their apps with mouse and keyboard."""

import re

import pytest

pytestmark = pytest.mark.browser

X86, ARM, HOTPLUG = "05-msi-on-x86.ipynb", "06-msi-on-arm.ipynb", "08-iova-space-and-hotplug.ipynb"


@pytest.mark.parametrize(("notebook", "picture"), [
    (X86, "raises vector 1: delivered"), (ARM, "raises vector 0: delivered"), (HOTPLUG, "A type1v2 container without a domain"),
])  # fmt: skip
def test_before_a_notebook_is_run_its_pictures_are_there(opened, notebook, picture):
    page = opened(notebook, kernel=False)
    image = page.picture(re.compile(picture))
    image.wait_for()
    assert image.bounding_box()["width"] > 600
    assert [] == re.findall(r"</?(?:svg|path|figure|details)\b|base64,", page.page.inner_text(".jp-Notebook"))


def test_the_stepper_goes_along_the_journey_with_mouse_and_keyboard(opened):
    page = opened(ARM)
    page.run_all()
    page.button("Next").click()
    page.inline(re.compile("step 2 of 5")).wait_for()
    page.page.keyboard.press("Space")  # the focus is still on Next
    page.inline(re.compile("step 3 of 5")).wait_for()
    page.text(re.compile(r"Step 3 of 5, IOMMU: D1 translates iova 0x800_0040 to 0x2f03_0040")).wait_for()
    page.button("Last").click()
    page.inline(re.compile("raises vector 0: delivered")).wait_for()
    assert page.focused() == "Last"
    page.button("Next").focus()
    page.page.keyboard.press("Space")
    assert page.focused() == "Next"


def test_the_window_lab_tells_the_silent_loss_from_the_refusal(opened):
    page = opened(X86)
    page.run_all()
    page.inline(re.compile("0xfee0_1000: lost")).wait_for()
    page.button("7.3").click()
    alert = page.page.get_by_role("alert").filter(has_text="Refused before any DMA")
    alert.wait_for()
    assert "overlaps the MSI window" in alert.inner_text()
    page.button("leaves the window out").click()
    page.inline(re.compile("0xfee0_1000: refused")).wait_for()


def test_the_hot_add_lab_lets_a_device_in_when_the_memory_leaves_room(opened):
    page = opened(HOTPLUG)
    page.run_all()
    page.page.get_by_role("alert").filter(has_text="The device cannot join").wait_for()
    page.button("1 TiB around the window").click()
    page.text(re.compile("The device joins. Usable iovas now")).wait_for()
    page.inline(re.compile("1 domain holds the user's 2 mappings")).wait_for()
