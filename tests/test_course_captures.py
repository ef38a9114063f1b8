"""Captures for the notebooks: what is there, what is in the way of a guest, and what a recorded kernel programmed."""

import pytest

from vfiolab.course.captures import capture, real_regions, recorded_calls, recorded_messages
from vfiolab.model.address import Span


def test_a_capture_that_is_not_there_is_told_which_are():
    with pytest.raises(ValueError, match=r"no capture is called 'moon'; captures: .*qemu-listener-x86\.txt"):
        capture("moon")


def test_a_scenario_that_is_not_there_is_told_which_are():
    with pytest.raises(ValueError, match="has no scenario 'moon'; scenarios: msi, msi_reattach"):
        recorded_calls("messages-its-6.12.trace", "moon")


def test_recorded_calls_stand_above_their_events():
    text = recorded_calls("messages-its-6.12.trace", "msi", "set_irqs")
    assert text.startswith("set_irqs D index=1 -> 0\n    prep_msi 0x809_0040\n    msi_map D1 0x800_0000 0x809_0000 0x1000 26\n")


@pytest.mark.parametrize("kernel", ["6.1.0", "6.12", "7.3.4"])
def test_three_kernels_programmed_the_same_messages(kernel):
    assert recorded_messages("messages-its-6.12.trace", "msi").rows == recorded_messages(f"messages-its-{kernel}.trace", "msi").rows


def test_what_of_five_real_machines_is_in_the_way_of_an_arm_guests_memory_and_relaxable_regions_are_not():
    table = real_regions(Span.sized(0x4000_0000, 4 << 30))
    assert {("HP DL388 Gen8 (Intel, RMRR)", "direct"), ("HP DL388 Gen8 (Intel, RMRR)", "msi"), ("Arm with IORT RMR", "direct"),
            ("HiSilicon D05 (hardware and software MSI window, both printed msi)", "msi"), ("AMD platform eMMC device", "msi"),
            } == {(row["machine"], row["word"]) for row in table if row["in the way"] == "yes"}  # fmt: skip


def test_without_a_guest_the_table_says_only_what_the_machines_print():
    assert ["machine", "first", "last", "word"] == real_regions().columns
