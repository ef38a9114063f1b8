"""A log: the lines that matter in order, which is the cause and which are echoes; prefixes, colours and folded lines are no matter."""

from __future__ import annotations

import io
import json
import sys

import pytest

import vfiolab as vl
from vfiolab.__main__ import main

FIRMWARE = (
    "vfio-pci 0000:01:00.0: Firmware has requested this device have a 1:1 IOMMU mapping, rejecting configuring the device"
    " without a 1:1 mapping. Contact your platform vendor."
)
REFUSED = (
    "kvm: -device vfio-pci,host=0000:01:00.0: vfio 0000:01:00.0: failed to setup container for group 13:"
    " Failed to set group container: Invalid argument"
)
ENDED = "TASK ERROR: start failed: QEMU exited with code 1"
FAULT = "DMAR: [DMA Read NO_PASID] Request device [01:00.0] fault addr 0x9c000000 [fault reason 0x06] PTE Read access is not set"


def kinds(log):
    return [one.kind for one in log.lines]


def test_what_repeats_an_error_is_an_echo_and_the_error_is_the_cause():
    log = vl.explain(f"all is well\n{REFUSED}\n{ENDED}\n")
    assert (["set-container", "pve-start-failed"], 0, (2, 3), 3) == (kinds(log), log.cause, log.numbers, log.read)
    assert ["cause", "echo"] == [one.role for one in log.lines]


@pytest.mark.parametrize("lines", [(FIRMWARE, REFUSED, ENDED), (REFUSED, ENDED, FIRMWARE)], ids=["before", "after"])
def test_the_kernels_line_that_says_why_is_the_cause_wherever_it_stands(lines):
    log = vl.explain("\n".join(lines))
    assert "firmware-1-to-1" == log.lines[log.cause].kind


def test_a_fault_of_earlier_is_not_the_cause_of_a_refused_call():
    log = vl.explain(f"{FAULT}\n{REFUSED}")
    assert "set-container" == log.lines[log.cause].kind
    assert 0 == vl.explain(f"{FAULT}\nsome other line").cause


def test_echoes_alone_have_no_cause():
    assert vl.explain(f"{ENDED}\nerror: Failed to start domain 'win10'").cause is None


@pytest.mark.parametrize(
    "prefix",
    [
        "[ 5959.338214] ",
        "[Fri Mar 27 06:21:01 2026] ",
        "[  +0.000012] ",
        "<4>[   12.345678] ",
        "Nov 26 08:00:01 host kernel: [   12.345678] ",
        "2026-03-27T06:21:01.123456+01:00 host kernel: ",
        "> ",
        "\x1b[01;31m",
        "2022-11-25T01:10:52.810Z|00093|dpdk|ERR|",
    ],
)
def test_a_loggers_prefix_is_passed_over(prefix):
    assert ["dmar-fault"] == kinds(vl.explain(f"{prefix}{FAULT}\n{prefix}something else\n"))


@pytest.mark.parametrize("at", [60, 90, 110])
def test_a_line_that_was_folded_is_read_as_one(at):
    cut = FAULT.index(" ", at)
    log = vl.explain(f"{FAULT[:cut]}\n{FAULT[cut + 1 :]}\nanother line\n")
    assert ["dmar-fault"] == kinds(log)
    assert log.lines[0].cause is not None


def test_a_line_that_was_cut_in_a_word_is_read_as_one():
    assert ["dmar-fault"] == kinds(vl.explain(f"{FAULT[:80]}\n{FAULT[80:]}\nanother line\n"))


def test_the_two_lines_that_old_kernels_wrote_are_one():
    first = "[  1.1] DMAR:[DMA Write] Request device [00:02.0] fault addr 6df084000"
    log = vl.explain(f"{first} \n[  1.1] DMAR:[fault reason 05] PTE Write access is not set\n[  1.2] other")
    assert ["dmar-fault"] == kinds(log)
    assert "0x6df084000" in log.lines[0].cause


def test_a_line_that_says_something_alone_is_not_joined_to_the_next():
    log = vl.explain(f"{ENDED}\nvfio: error no iommu_group for device\nEAL: no supported IOMMU extensions found!")
    assert ["pve-start-failed", "no-iommu-group", "no-iommu-model"] == kinds(log)


def test_curly_quotes_of_a_forum_are_straight():
    assert "bar-reserve" == vl.explain("vfio-pci 0000:01:00.0: BAR 3: can\u2019t reserve [mem 0xd0000000-0xd1ffffff 64bit pref]").kind


def test_of_what_wraps_another_error_the_inner_one_is_the_kind():
    assert "set-container" == vl.explain(f"internal error: qemu unexpectedly closed the monitor: {REFUSED}").kind


# the command


def test_a_file_a_pipe_and_a_text_give_the_same(tmp_path, monkeypatch, capsys):
    text = f"all is well\n{REFUSED}\n{ENDED}\n"
    (tmp_path / "guest.log").write_text(text)
    said = []
    for argument in (str(tmp_path / "guest.log"), "-", text):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        assert 0 == main(["explain", argument, "--json"])
        said.append(json.loads(capsys.readouterr().out))
    assert said[0] == said[1] == said[2]
    assert (["lines", "cause"], 2, 0) == (list(said[0]), len(said[0]["lines"]), said[0]["cause"])


def test_a_log_is_told_by_kind_and_then_its_cause(capsys):
    assert 0 == main(["explain", f"{FAULT}\n{FAULT}\n{REFUSED}\n{ENDED}"])
    said = capsys.readouterr().out
    assert said.startswith("4 of 4 lines are known:\n  line 1 (symptom, 2 lines of this kind): DMAR: [DMA Read")
    assert "line 3 (the cause): kvm: -device" in said
    assert "Check: vfio_group_ioctl_set_container" in said


def test_a_log_without_a_known_line_is_not_known(capsys):
    assert 3 == main(["explain", "one\ntwo\n"])
    assert "0 of 2 lines are known" in capsys.readouterr().err


def test_a_file_that_is_no_text_is_said(tmp_path, capsys):
    (tmp_path / "log.gz").write_bytes(b"\x1f\x8b\x08")
    assert 2 == main(["explain", str(tmp_path / "log.gz")])
    assert "holds gzip data" in capsys.readouterr().err


def test_ten_thousand_lines_are_each_looked_at():
    lines = [f"[{n}.5] {FAULT if n % 100 == 0 else 'vfio-pci 0000:01:00.0: enabling device (0000 -> 0003)'}" for n in range(10000)]
    log = vl.explain("\n".join(lines))
    assert (100, 10000, 0) == (len(log.lines), log.read, log.cause)
