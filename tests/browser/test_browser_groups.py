"""Notebooks 01, 02, 09 and 10 in a real JupyterLab: ACS switched, a group made viable, listings and logs pasted and uploaded."""

import re

import pytest

pytestmark = pytest.mark.browser

ISOLATION, VIABILITY, MINE = "01-isolation.ipynb", "02-groups-and-viability.ipynb", "09-your-machine.ipynb"
LISTING = """00:1c.0 PCI bridge [0604]: Intel Corporation Device [8086:a110] (prog-if 00 [Normal decode])
\tBus: primary=00, secondary=01, subordinate=01, sec-latency=0
\tCapabilities: [40] Express (v2) Root Port (Slot+), MSI 00
01:00.0 VGA compatible controller [0300]: NVIDIA Corporation Device [10de:1b80]
\tCapabilities: [60] Express (v2) Legacy Endpoint, MSI 00
01:00.1 Audio device [0403]: NVIDIA Corporation Device [10de:10f0]
\tCapabilities: [60] Express (v2) Endpoint, MSI 00
"""


def button(page, name):
    return page.page.locator(".jp-OutputArea").get_by_role("button", name=name, exact=True)


def status(page, words):
    return page.page.locator("[role=status], [role=alert]").filter(has_text=re.compile(words)).first


def test_the_isolation_lab_splits_groups_in_name_while_the_write_still_arrives(opened):
    page = opened(ISOLATION)
    page.run_all()
    status(page, "6 groups, and the cards are in two groups").wait_for()
    button(page, "no ACS").first.click()
    status(page, "1 group, and the cards are in one group").wait_for()
    button(page, "no ACS").last.click()
    status(page, "in one group. .* ends in p2p").wait_for()
    page.button("pcie_acs_override=downstream").click()
    status(page, "6 groups, and the cards are in two groups. .* ends in p2p").wait_for()


def test_the_viability_lab_goes_from_a_refusal_to_success_with_the_keyboard(opened):
    page = opened(VIABILITY)
    page.run_all()
    status(page, "Refused at space.attach. EPERM").wait_for()
    button(page, "unbind").nth(0).click()
    status(page, "0000:02:00.0 is bound to a native driver").wait_for()
    button(page, "unbind").nth(1).focus()
    page.page.keyboard.press("Space")
    status(page, "The user has the card").wait_for()
    page.button("5.10").click()
    status(page, "The user has the card").wait_for()


def test_a_listing_is_pasted_and_its_groups_are_shown(opened):
    page = opened(MINE)
    page.run_all()
    status(page, "hp-elitebook-630: 22 groups").wait_for()
    page.page.get_by_label("Paste", exact=True).first.fill("no listing at all")
    page.button("Read what is pasted").click()
    status(page, "Not read, and the machine below stays").wait_for()
    page.page.get_by_label("Paste", exact=True).first.fill(LISTING)
    page.button("Read what is pasted").click()
    status(page, r"pasted: 1 group, 1 of them with more than one device. 01:00.0 is in group 0, with 00:1c.0, 01:00.1").wait_for()
    page.page.get_by_label("Device", exact=True).first.fill("01:00.1")
    page.page.keyboard.press("Enter")
    status(page, "01:00.1 is in group 0, with 00:1c.0, 01:00.0").wait_for()


def test_a_listing_is_uploaded_and_a_card_moved(opened, tmp_path):
    file = tmp_path / "mine.txt"
    file.write_text(LISTING)
    page = opened(MINE)
    page.run_all()
    with page.page.expect_file_chooser() as chooser:
        page.button(re.compile("Upload a file")).click()
    chooser.value.set_files(file)
    status(page, "mine.txt: 1 group").wait_for()
    page.button("amd-matisse-desktop").click()
    status(page, "amd-matisse-desktop: 25 groups").wait_for()
    page.page.get_by_label("Device", exact=True).first.fill("2a:00.0")
    page.page.get_by_label("Move below", exact=True).first.fill("00:01.1")
    page.button("Look").click()
    page.picture(re.compile("split")).first.wait_for()


def test_a_line_is_pasted_and_a_log_uploaded_in_notebook_10(opened, tmp_path):
    file = tmp_path / "mine.log"
    file.write_text("one line\nvfio 0000:01:00.0: group 1 is not viable\nanother\n")
    page = opened("10-detective.ipynb")
    page.run_all()
    status(page, "The cause: the iova lies past what the host").wait_for()
    page.page.get_by_label("Line or log", exact=True).first.fill("EAL: Cannot open /dev/vfio/151: Device or resource busy")
    page.button("Explain").click()
    status(page, "/dev/vfio/151 is open already").wait_for()
    with page.page.expect_file_chooser() as chooser:
        page.button(re.compile("Upload a log")).click()
    chooser.value.set_files(file)
    status(page, "The cause: another device of the IOMMU group").wait_for()
