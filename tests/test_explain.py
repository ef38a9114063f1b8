"""An error line of QEMU gets the cause that the model gives, and says what it cannot know."""

from __future__ import annotations

import pytest

import vfiolab as vl
from vfiolab.__main__ import main
from vfiolab._paths import data_dir
from vfiolab.detective import explain_map
from vfiolab.readers.qemu import parse_dma_map_error

BAR = "qemu: vfio_dma_map(0x5e043daea2f0, 0x380010000000, 0x2000000, 0x771a6ce00000) = -22 (Invalid argument)"

SHARED = "0000:05:00.0"  # its group holds another device, on a native driver


def explained(line, machine, kernel=None, devices=()):
    return explain_map(parse_dma_map_error(line), vl.load(machine, kernel), devices)


def experiment(text):
    return "\n".join(line.strip() for line in text[text.index("Try it:") :].splitlines()[1:5])


def test_a_bar_above_39_bits_lies_past_the_aperture():
    found = explained(BAR, "intel-vtd-39bit")
    why = "0x3800_1000_0000-0x3800_11ff_ffff reaches past the aperture, whose last iova is 0x7f_ffff_ffff"
    assert {why} == {case.refused.why for case in found.causes}
    assert 'space = vl.load("intel-vtd-39bit", kernel="6.12").address_space()' in str(found)


def test_the_experiment_it_prints_meets_the_same_errno():
    with pytest.raises(vl.VfioError, match="EINVAL"):
        exec(experiment(str(explained(BAR, "intel-vtd-39bit"))), {})


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
        (["explain", BAR, "--device", "0000:99:00.0"], "has no device 0000:99:00.0"),
        (["explain", BAR, "--machine", "nowhere"], "no machine and no file"),
        (["explain", BAR, "--kernel", "3.2"], "older than 4.4"),
    ],
)
def test_what_cannot_be_used_is_said_without_a_traceback(arguments, word, capsys):
    assert 2 == main(arguments)
    assert word in capsys.readouterr().err


def test_a_line_that_is_not_known_is_said_to_be_and_the_nearest_kind_is_shown(capsys):
    assert 3 == main(["explain", "group 7 is viable"])
    said = capsys.readouterr()
    assert "" == said.out
    assert "This line is not known: group 7 is viable" in said.err
    assert "The nearest kind is not-viable" in said.err


def test_a_group_refused_at_attach_is_not_the_cause_of_the_map_line():
    found = explained(
        "vfio_dma_map(0x1, 0x100000, 0x1000, 0x7f0000000000) = -1 (Operation not permitted)", "intel-vtd-39bit", devices=[SHARED]
    )
    assert [("attach", "EPERM")] == [(case.stage, case.refused.name) for case in found.cases]
    assert [] == found.causes
    assert "cannot be attached, so the call is not reached: EPERM: group" in str(found)
    assert found.summary.endswith("no group could be attached")


def test_an_unknown_device_is_an_unusable_argument(capsys):
    assert 2 == main(["explain", BAR, "--machine", "intel-vtd-39bit", "--device", "0000:99:00.0"])
    assert "intel-vtd-39bit has no device 0000:99:00.0" in capsys.readouterr().err


def test_a_misaligned_vaddr_is_part_of_the_experiment():
    found = explained("vfio_dma_map(0x1, 0x100000, 0x1000, 0x7f0000000800) = -22 (Invalid argument)", "intel-vtd-39bit")
    with pytest.raises(vl.VfioError, match="vaddr 0x7f00_0000_0800 is not a multiple"):
        exec(experiment(str(found)), {})


@pytest.mark.parametrize("size", ["0x400000000000", "0x8000000000001000", "0xfffffffffffff000"])
def test_a_size_that_no_process_has_meets_the_lines_errno_in_the_experiment_too(size):
    found = explained(f"vfio_dma_map(0x1, 0x100000, {size}, 0x7f0000000000) = -22 (Invalid argument)", "intel-vtd-39bit")
    with pytest.raises(vl.VfioError, match="EINVAL"):
        exec(experiment(str(found)), {})


def test_the_experiment_loads_the_file_that_was_given(tmp_path, capsys):
    path = tmp_path / "my own.json"
    path.write_text((data_dir() / "machines/intel-vtd-39bit.json").read_text())
    assert 0 == main(["explain", BAR, "--machine", str(path)])
    said = capsys.readouterr().out
    assert f'vl.load("{path}", kernel="6.12")' in said
    with pytest.raises(vl.VfioError, match="EINVAL"):
        exec(experiment(said), {})


@pytest.mark.parametrize("machine", ["intel-vtd-39bit", "amd-vi-server", "amd-matisse-desktop"])
def test_no_bridge_is_proposed_as_the_device_to_try_it_with(machine):
    host = vl.load(machine)
    found = explain_map(parse_dma_map_error("vfio_dma_map(0x1, 0xfee00000, 0x1000, 0x7f0000000000) = -22 (Invalid argument)"), host)
    tried = [host.machine.topology[case.device] for case in found.cases]
    assert tried != []
    assert [] == [function.bdf for function in tried if (function.class_code or 0) >> 16 == 0x06]
