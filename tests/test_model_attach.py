"""Attaching that ends without an answer: nothing stays half done."""

from dataclasses import replace

import pytest
from model_steps import PAGE, A, B, arm, container, fill, group, intel, snapshot
from model_world import invariants

from vfiolab.model.address import Span
from vfiolab.model.builder import MachineBuilder
from vfiolab.model.errors import KernelCrashError, NotModelledError, VfioError
from vfiolab.model.iommu.unit import IommuUnit, Reported
from vfiolab.model.machine import RecordedGroup


def test_an_attach_on_which_the_kernel_dies_leaves_the_container_whole():
    host = intel({"width": 48}, mdevs=1).host("4.4")
    opened = container(host, "mdev0")
    fill(host, opened, (1 << 64) - PAGE, PAGE)
    entering = group(host, A)
    before = snapshot(host)
    with pytest.raises(KernelCrashError):
        entering.set_container(opened)
    assert before == snapshot(host)
    invariants(host)


def without_unit(machine, device):
    """Return the machine with recorded groups, and one device behind no listed unit."""
    groups = tuple(RecordedGroup(group.id, group.devices) for group in machine.host("6.12").groups if not group.emulated)
    units = tuple(replace(unit, devices=unit.devices - {device}) for unit in machine.units)
    return replace(machine, units=units, groups=groups, groups_from="recorded")


@pytest.mark.parametrize("kernel", ["5.4", "6.12"])
def test_a_recorded_group_behind_no_listed_unit_is_refused_with_a_word(kernel):
    host = without_unit(intel(), A).host(kernel)
    opened = host.process.open_container()
    group(host, A, opened)
    before = snapshot(host)
    with pytest.raises(NotModelledError, match=r"no IOMMU unit is listed for group 2 \(0000:01:00.0\)"):
        opened.set_iommu(3)
    assert before == snapshot(host)
    invariants(host)


@pytest.mark.parametrize("name", ["mdev0", A])
def test_iommufds_layer_says_of_which_devices_it_knows_nothing(name):
    machine = replace(intel({"width": 48}, mdevs=1), vfio="iommufd-compat")
    host = (machine if name == "mdev0" else without_unit(machine, A)).host("6.12")
    opened = host.process.open_container()
    entered = group(host, name, opened)
    before = snapshot(host)
    with pytest.raises(NotModelledError, match=f"{name}.*was neither recorded nor read|no IOMMU unit is listed"):
        entered.get_device_fd(name)
    assert before == snapshot(host)
    invariants(host)


def test_a_vtd_unit_cannot_have_reported_more_than_its_width():
    reported = {(6, 1): Reported(Span(0, 1 << 48), None)}
    with pytest.raises(ValueError, match=r"unit d: kernel 6\.1 cannot have reported the aperture .* 39 bits wide"):
        IommuUnit(name="d", kind="intel-vtd", width=39, reported=reported)
    IommuUnit(name="d", kind="intel-vtd", width=39, reported={(5, 4): Reported(Span(0, 1 << 57), None)})


def test_iommufds_layer_aligns_to_the_largest_of_the_smallest_pages_where_units_share_none():
    machine = replace(arm({"page_sizes": 0x800}, {"page_sizes": 0x1000}), vfio="iommufd-compat")
    host = machine.host("6.12")
    opened = host.process.open_container()
    group(host, A, opened).get_device_fd(A)
    assert 0x800 == opened.backend.granule
    group(host, B, opened).get_device_fd(B)
    assert (0x1000, 0x1000) == (opened.backend.granule, opened.get_info().pgsizes)
    invariants(host)


@pytest.mark.parametrize(("page_size", "shown"), [(0x1000, 0xFFFFFFFFFFFFF000), (0x10000, 0xFFFFFFFFFFFF0000)])
def test_iommufds_layer_reports_whole_pages_of_the_cpu_before_a_device_is_open(page_size, shown):
    host = replace(arm(), vfio="iommufd-compat", page_size=page_size).host("6.12")
    opened = host.process.open_container()
    group(host, A, opened)
    assert shown == opened.get_info().pgsizes


@pytest.mark.parametrize("kernel", ["4.4", "6.1"])
def test_no_kernel_before_6_2_has_iommufds_layer(kernel):
    with pytest.raises(ValueError, match=f"iommufd serves /dev/vfio/vfio from Linux 6.2 on; .*not {kernel}"):
        replace(intel(), vfio="iommufd-compat").host(kernel)


@pytest.mark.parametrize(("first_hole", "place"), [(0x1000, 0x8000), (0x2000, 0), (0x3000, 0)])
def test_the_superpage_probe_takes_the_first_aligned_place_of_two_pages(first_hole, place):
    m = MachineBuilder("holes")
    m.endpoint("01:00.0", below=m.root_port("00:01.0", unit=m.unit("dmar0", kind="intel-vtd")))
    m.region("01:00.0", first_hole, 0x7FFF, "reserved")
    host = m.host("6.12")
    container(host, "0000:01:00.0")
    probes = [event for call in host.log.calls for event in call.events if event.kind == "fgsp"]
    assert [(place, 0x2000)] == [(event.iova, event.size) for event in probes]


def test_a_container_is_taken_by_what_it_is():
    host = intel({"width": 48}).host("6.12")
    closed = host.process.open_container()
    closed.close()
    again = host.process.open_container()
    other = host.new_process("Q").open_container()
    joining = group(host, A)
    assert closed.fd == again.fd == other.fd
    for stranger in (closed, other):
        with pytest.raises(VfioError, match="EBADF"):
            joining.set_container(stranger)
    joining.set_container(again)
    assert [joining.vfio] == again.groups
