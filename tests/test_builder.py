"""Machines built by hand: what is chosen stays chosen, and what cannot be is refused where it is written."""

from __future__ import annotations

import pytest

from vfiolab.model.builder import MachineBuilder


@pytest.mark.parametrize(
    ("kind", "chosen", "width"),
    [
        ("amd-vi", None, 64),
        ("amd-vi", 48, 48),
        ("amd-vi", 47, 47),
        ("intel-vtd", None, 48),
        ("arm-smmu-v3", 44, 44),
        ("virtio-iommu", None, 48),
    ],
)
def test_a_width_that_was_chosen_stays_and_only_a_missing_one_has_a_default(kind, chosen, width):
    m = MachineBuilder("widths")
    m.unit("unit0", kind=kind, width=chosen)
    assert [width] == [unit.width for unit in m.machine().units]


def test_a_bridge_keeps_the_buses_below_it_when_one_more_device_comes():
    m = MachineBuilder("switch")
    port = m.root_port("00:01.0", unit=m.unit("dmar0", kind="intel-vtd"))
    up = m.upstream("01:00.0", below=port)
    m.endpoint("03:00.0", below=m.downstream("02:00.0", below=up))
    m.endpoint("01:00.1", below=port)
    m.downstream("02:01.0", below=up)
    topology = m.machine().topology
    assert [3, 3] == [topology[bdf].subordinate for bdf in ("0000:00:01.0", "0000:01:00.0")]


def test_a_device_is_behind_the_unit_of_the_port_above_it_and_no_other():
    m = MachineBuilder("two units")
    a, b = m.unit("a", kind="intel-vtd"), m.unit("b", kind="intel-vtd")
    port = m.root_port("00:01.0", unit=a)
    m.endpoint("01:00.0", below=port, unit=a)
    with pytest.raises(
        ValueError, match=r"0000:01:00.1 is below 0000:00:01.0, which is behind a, and so it cannot be behind b: leave unit out"
    ):
        m.endpoint("01:00.1", below=port, unit=b)
    assert "MachineBuilder('two units', 2 functions)" == repr(m)


def test_a_host_says_that_a_group_has_devices_behind_two_units():
    m = MachineBuilder("one slot, two units")
    a, b = m.unit("a", kind="intel-vtd"), m.unit("b", kind="intel-vtd")
    m.endpoint("00:02.0", unit=a, functions=2, kind="pci")
    m.endpoint("00:02.2", unit=b, kind="pci")
    m.endpoint("00:03.0", unit=b, kind="pci")
    host = m.host("6.12")
    said = f"group {host.group_of('0000:00:02.0').id} has devices behind a and b: all are taken to be behind a"
    assert [said] == [doubt for doubt in host.doubts if doubt.startswith("group")]
