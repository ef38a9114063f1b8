"""What becomes of an interrupt on each kind of machine, cell by cell: written by hand, beside what the model's experiments give.

d delivered, m memory, l lost, f fault, c corrupts, r refused, u unknown; a capital letter rests on reading or inference.
Columns: raise vector; the same with RAM put there before; with RAM put there after; DMA to RAM put there; another device's message.
"""

import pytest

from vfiolab.course.experiments import EXPERIMENTS, KERNELS, MACHINES, carry_out, outcomes, summary

LETTERS = {"delivered": "d", "memory": "m", "lost": "l", "fault": "f", "corrupts": "c", "refused": "r", "unknown": "u"}
EXPECTED = {
    ("x86-remapping", "4.4"): "DDDLR",
    ("x86-remapping", "4.11"): "DDDLR",
    ("x86-remapping", "7.3"): "DrrrR",
    ("x86-plain", "4.4"): "rrrrr",
    ("x86-plain", "4.11"): "rrrrr",
    ("x86-plain", "7.3"): "rrrrr",
    ("x86-plain-unsafe", "4.4"): "DDDLD",
    ("x86-plain-unsafe", "4.11"): "DDDLD",
    ("x86-plain-unsafe", "7.3"): "DrrrD",
    ("smmu-its", "4.4"): "LCCMF",
    ("smmu-its", "4.11"): "DLRMR",
    ("smmu-its", "7.3"): "drrrR",
    ("smmu-v2m", "4.4"): "LCCMF",
    ("smmu-v2m", "4.11"): "RRRRR",
    ("smmu-v2m", "7.3"): "rrrrr",
    ("smmu-v2m-unsafe", "4.4"): "LCCMF",
    ("smmu-v2m-unsafe", "4.11"): "DLRMD",
    ("smmu-v2m-unsafe", "7.3"): "drrrD",
    ("hisilicon", "4.4"): "DDDLR",
    ("hisilicon", "4.11"): "UUULU",
    ("hisilicon", "7.3"): "DRRRR",
    ("virtio-x86-unsafe", "7.3"): "DrrrD",
    ("virtio-arm", "7.3"): "DRRRR",
    ("virtio-arm-bare", "7.3"): "DRRRR",
}
CELLS = [
    (machine, kernel, experiment, letter)
    for (machine, kernel), row in EXPECTED.items()
    for experiment, letter in zip(EXPERIMENTS, row, strict=True)
]


@pytest.mark.parametrize(("machine", "kernel", "experiment", "letter"), CELLS, ids=lambda value: str(value).replace(" ", "-"))
def test_a_cell_comes_out_as_written_by_hand(machine, kernel, experiment, letter):
    result = carry_out(machine, kernel, experiment)
    found = LETTERS[result.outcome]
    assert letter == (found.upper() if result.rests else found), result.why


def test_every_machine_and_every_kernel_that_drives_it_has_a_row():
    rows = {(machine, kernel) for machine, kind in MACHINES.items() for kernel in KERNELS if kind.since == "4.4" or kernel == "7.3"}
    assert rows == EXPECTED.keys()


REASONS = [
    ("smmu-its", "4.4", "raise vector", "never reaches the doorbell"),
    ("smmu-its", "4.4", "raise vector, RAM put there", "no interrupt is raised, and no error is seen anywhere"),
    ("smmu-its", "4.11", "raise vector, RAM put later", "MAP: EEXIST: 0x800_0000-0x800_ffff covers the MSI doorbell page"),
    ("smmu-its", "7.3", "DMA to RAM put there", "MAP: EINVAL: 0x800_0000-0x800_ffff overlaps the software MSI window"),
    ("smmu-v2m", "7.3", "raise vector", "attach: EPERM: group 2 is behind iommu0"),
    ("x86-remapping", "4.4", "DMA to RAM put there", "the memory mapped there (guest RAM + 0x40) is not written"),
    ("x86-remapping", "7.3", "another's message", "interrupt remapping has no entry that lets this device send it"),
    ("x86-remapping", "7.3", "another's message", "[fault reason 0x26] Blocked an interrupt request due to source-id verification failure"),
    (
        "virtio-arm",
        "7.3",
        "raise vector, RAM put there",
        "0x809_0000-0x809_ffff overlaps the MSI window 0x809_0000-0x809_ffff",
    ),
    ("virtio-arm-bare", "7.3", "raise vector, RAM put there", "overlaps the software MSI window"),
    ("x86-plain-unsafe", "7.3", "another's message", "an interrupt is raised that was never given to this device"),
    ("hisilicon", "4.11", "raise vector", "was neither recorded nor read"),
]


@pytest.mark.parametrize(("machine", "kernel", "experiment", "words"), REASONS)
def test_a_cell_gives_its_reason(machine, kernel, experiment, words):
    assert words in carry_out(machine, kernel, experiment).why


def test_the_table_has_a_row_for_each_cell_and_says_what_each_rests_on():
    table = outcomes()
    assert len(CELLS) == len(table)
    assert {"rules, recordings", "reading", "inference"} == {row["rests on"] for row in table}


def test_the_summary_marks_what_no_recording_shows():
    row = next(row for row in summary() if row["machine"] == "SMMU and GICv3 ITS")
    assert "raise vector (4.11?, 7.3)" == row["delivered"]
    assert "raise vector, RAM put there (4.4?); raise vector, RAM put later (4.4?)" == row["corrupts"]
    assert "never" == row["unknown"]


def test_an_unknown_machine_or_experiment_is_named_with_those_there_are():
    with pytest.raises(ValueError, match="'moon'; there are: x86-remapping"):
        outcomes("moon")
    with pytest.raises(ValueError, match="experiments are raise vector"):
        carry_out("smmu-its", "4.4", "sing")
