"""An error line of QEMU gets the cause that the model gives, and says what it cannot know."""

from __future__ import annotations

import pytest

import vfiolab as vl
from vfiolab.__main__ import main
from vfiolab.explain import explain_map
from vfiolab.readers.qemu import parse_dma_map_error

BAR = "qemu: vfio_dma_map(0x5e043daea2f0, 0x380010000000, 0x2000000, 0x771a6ce00000) = -22 (Invalid argument)"


def explained(line, machine, kernel=None, devices=()):
    return explain_map(parse_dma_map_error(line), vl.load(machine, kernel), devices)


def test_a_bar_above_39_bits_lies_past_the_aperture():
    found = explained(BAR, "intel-vtd-39bit")
    why = "0x3800_1000_0000-0x3800_11ff_ffff reaches past the aperture, whose last iova is 0x7f_ffff_ffff"
    assert {why} == {case.refused.why for case in found.causes}
    assert 'space = vl.load("intel-vtd-39bit", kernel="6.12").address_space()' in str(found)


def test_the_experiment_it_prints_meets_the_same_errno():
    text = str(explained(BAR, "intel-vtd-39bit"))
    lines = [line.strip() for line in text[text.index("Try it:") :].splitlines()[1:5]]
    with pytest.raises(vl.VfioError, match="EINVAL"):
        exec("\n".join(lines), {})


@pytest.mark.parametrize(
    ("machine", "iova", "word"),
    [
        ("two-smmu-server", 0x8000000, "the software MSI window"),
        ("intel-vtd-39bit", 0xFEE00000, "the MSI window"),
        ("amd-vi-server", 0xFD00000000, "the reserved range"),
    ],
)
def test_the_region_in_the_way_is_named(machine, iova, word):
    found = explained(f"vfio_dma_map(0x1, {iova:#x}, 0x1000, 0x7f0000000000) = -22 (Invalid argument)", machine)
    assert found.causes
    assert all(word in case.refused.why for case in found.causes)


def test_the_same_line_on_4_4_would_have_been_mapped():
    found = explained("vfio_dma_map(0x1, 0xfee00000, 0x1000, 0x7f0000000000) = -22 (Invalid argument)", "intel-vtd-39bit", "4.4")
    assert [] == found.causes
    assert "the same call would be mapped" in str(found)


def test_a_cause_that_the_line_cannot_show_is_listed_with_its_rule():
    found = explained("vfio_dma_map(0x1, 0x100000, 0x1000, 0x7f0000000000) = -17 (File exists)", "intel-vtd-39bit")
    assert [] == found.causes
    assert ["no existing mapping overlaps"] == [text for text, _, _ in found.others]
    assert "vfio_find_dma" in str(found)


def test_a_device_can_be_named():
    found = explained(BAR, "two-smmu-mixed-stages", devices=["0000:01:00.0"])
    assert [("0000:01:00.0", 8)] == [(case.device, case.group) for case in found.cases]


def test_the_command_prints_the_cause_and_the_other_machines(capsys):
    assert 0 == main(["explain", BAR])
    said = capsys.readouterr().out
    assert said.startswith("MAP_DMA of iova 0x3800_1000_0000-0x3800_11ff_ffff (32 MiB)")
    assert "amd-vi-server, kernel 6.1: would be mapped" in said


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["explain", "no such thing"], "no line of the form"),
        (["explain", BAR, "--machine", "nowhere"], "no machine and no file"),
        (["explain", BAR, "--kernel", "3.2"], "older than 4.4"),
    ],
)
def test_what_cannot_be_used_is_said_without_a_traceback(arguments, word, capsys):
    assert 2 == main(arguments)
    assert word in capsys.readouterr().err
