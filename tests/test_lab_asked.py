"""The labs that take what a learner brings: a machine's listing, an error line or a log; pasted, uploaded, or wrong."""

from datetime import UTC, datetime

import pytest

import vfiolab as vl

LISTING = """00:1c.0 PCI bridge [0604]: Intel Corporation Device [8086:a110] (prog-if 00 [Normal decode])
\tBus: primary=00, secondary=01, subordinate=01, sec-latency=0
\tCapabilities: [40] Express (v2) Root Port (Slot+), MSI 00
01:00.0 VGA compatible controller [0300]: NVIDIA Corporation Device [10de:1b80]
\tCapabilities: [60] Express (v2) Legacy Endpoint, MSI 00
01:00.1 Audio device [0403]: NVIDIA Corporation Device [10de:10f0]
\tCapabilities: [60] Express (v2) Endpoint, MSI 00
"""
LINE = "vfio_dma_map(0x55d0, 0x8000000000, 0x40000000, 0x7f2e40000000) = -22 (Invalid argument)"


def upload(lab, name, data):
    """Do what the browser does once a file is read."""
    lab.upload.value = ({"name": name, "type": "", "size": len(data), "content": memoryview(data), "last_modified": datetime.now(UTC)},)


@pytest.fixture
def mine():
    return vl.lab.MachineLab("amd-matisse-desktop", "hp-elitebook-630")


def test_a_machine_is_looked_at_with_its_first_shared_group(mine):
    assert mine.verdict.startswith("amd-matisse-desktop: 25 groups, ")
    assert len(mine.host.group_of(mine.device.value).devices) > 1
    assert "<svg" in mine.picture.value


def test_a_pasted_listing_is_read_and_a_text_that_is_none_leaves_the_machine_as_it_was(mine):
    mine.paste.value = LISTING
    mine.read.click()
    assert mine.verdict == "pasted: 1 group, 1 of them with more than one device. 01:00.0 is in group 0, with 00:1c.0, 01:00.1."
    mine.paste.value = "hello"
    mine.read.click()
    assert "Not read, and the machine below stays" in mine.status.value
    assert "pasted" == mine.host.machine.name


@pytest.mark.parametrize(("data", "said"), [(LISTING.encode(), "mine.txt: 1 group"), (b"PK\x03\x04....", "holds a zip archive, no text")])
def test_a_file_is_uploaded_or_refused_by_name(mine, data, said):
    upload(mine, "mine.txt", data)
    assert said in mine.status.value


def test_a_card_is_moved_and_both_sides_are_shown(mine):
    mine.device.value, mine.port.value = "2a:00.0", "00:01.1"
    mine.look.click()
    assert "After the change 2a:00.0 is alone, in 26 groups." in mine.verdict
    assert "split" in mine.picture.value
    for part in ("Why", "What if", "Plan", "The same in Python"):
        assert f'aria-label="{part}"' in mine.panels.value


@pytest.mark.parametrize(
    ("device", "port", "said"), [("99:00.0", "", "there is no device"), ("2a:00.0", "99:00.0", "99:00.0"), ("what", "", "what")]
)
def test_a_field_that_makes_no_sense_is_said_and_the_rest_stays(mine, device, port, said):
    before = mine.panels.value
    mine.device.value, mine.port.value = device, port
    mine.look.click()
    assert 'role="alert"' in mine.status.value
    assert said in mine.status.value
    assert before == mine.panels.value


def test_the_code_that_is_shown_gives_the_same_plan(mine):
    mine.device.value, mine.port.value = "2a:00.0", "00:01.1"
    mine.look.click()
    names = {}
    for line in mine.code_shown.splitlines():
        exec(line, names)
    assert vl.plan(names["host"], "2a:00.0") == mine.plan


def test_a_line_is_explained_with_the_map_of_its_experiment():
    lab = vl.lab.LogLab(LINE)
    assert lab.verdict.startswith("The cause: the iova lies past what the host's IOMMU can translate")
    assert "<svg" in lab.picture.value
    assert "LogLab(Answer('qemu-dma-map'" in repr(lab)


def test_a_log_shows_its_cause_and_an_unknown_text_says_so():
    lab = vl.lab.LogLab("one\ntwo\n" + LINE)
    assert lab.cause.kind == "qemu-dma-map"
    lab.paste.value = "nothing of the kind"
    lab.read.click()
    assert "Not known" in lab.status.value
    assert 'role="alert"' in lab.status.value
    assert "" == lab.picture.value


def test_a_log_is_uploaded_and_a_picture_refused():
    lab = vl.lab.LogLab("")
    upload(lab, "log.txt", b"EAL: Cannot open /dev/vfio/151: Device or resource busy\n")
    assert "/dev/vfio/151 is open already" in lab.verdict
    upload(lab, "shot.png", b"\x89PNG....")
    assert "Not read, and the answer below stays: shot.png: holds a picture, no text" in lab.status.value
    assert "/dev/vfio/151 is open already" in lab.verdict
