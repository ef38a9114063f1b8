"""Several processes on one container: whose memory, whose account, who may unmap, who waits for whom."""

import pytest
from model_steps import PAGE, A, container, fill, group, intel, refused

from vfiolab.kit import load
from vfiolab.model.builder import MachineBuilder
from vfiolab.model.errors import WouldBlockError
from vfiolab.model.irq.delivery import write
from vfiolab.model.uapi.requests import DeviceInfo, RegionInfo

BASE = 0x2000_0000_0000


def with_child(kernel="6.12"):
    """Return a host with a mapped container, and a child that shares it."""
    host = intel().host(kernel)
    opened = container(host, A)
    child = host.process.fork("P")
    return host, opened, child, child.descriptors[opened.fd]


def opened_device(kernel):
    host = intel().host(kernel)
    opened = host.process.open_container()
    member = group(host, A, opened)
    opened.set_iommu(3)
    return host, opened, member, member.get_device_fd(A)


def outsider(host, name="Q"):
    """Fork a child that holds nothing."""
    child = host.process.fork(name)
    for fd in list(child.descriptors):
        child.close(fd)
    return child


def test_a_mapping_is_of_the_callers_memory_and_on_the_callers_account():
    host, _, child, theirs = with_child()
    child.remap(0x10_0000, PAGE)
    theirs.map_dma(0, PAGE, 0x10_0000)
    assert (0, 1) == (host.process.locked_pages, child.locked_pages)
    with refused("EFAULT"):
        host.process.descriptors[theirs.fd].map_dma(PAGE, PAGE, 0x10_0000)


def test_the_callers_own_limit_holds():
    host, opened, child, theirs = with_child()
    child.drop_capability()
    child.set_memlock(PAGE)
    with refused("ENOMEM", host):
        theirs.map_dma(0, 2 * PAGE, BASE)
    fill(host, opened, 0, 2 * PAGE)
    assert 2 == host.process.locked_pages


@pytest.mark.parametrize(("kernel", "first", "all_of_it"), [("5.15", 0, 0), ("6.1", PAGE, 2 * PAGE)])
def test_unmap_ends_at_another_processs_mapping_up_to_5_19(kernel, first, all_of_it):
    host, opened, _, theirs = with_child(kernel)
    theirs.map_dma(0x1000, PAGE, BASE)
    fill(host, opened, 0x2000, PAGE)
    assert first == opened.unmap_dma(0x1000, PAGE)
    theirs.map_dma(0x8000, PAGE, BASE)
    assert all_of_it == opened.unmap_dma(0, 0x10000)


def test_up_to_5_11_what_unmap_meets_first_depends_on_the_trees_shape():
    host, opened, _, theirs = with_child("4.19")
    theirs.map_dma(0x10000, 4 * PAGE, BASE)
    theirs.map_dma(0x30000, PAGE, BASE)
    fill(host, opened, 0x20000, PAGE)
    assert PAGE == opened.unmap_dma(0, 0x100000)


def test_a_mapping_outlives_its_process_and_stays_on_nobodys_account():
    host, opened, child, theirs = with_child()
    theirs.map_dma(0, PAGE, BASE)
    child.exit()
    with refused("EEXIST", host):
        fill(host, opened, 0, PAGE)
    assert 0 == host.process.locked_pages
    assert PAGE == opened.unmap_dma(0, PAGE)


def test_before_6_0_nobody_can_unmap_what_a_dead_process_mapped():
    _, opened, child, theirs = with_child("5.15")
    theirs.map_dma(0, PAGE, BASE)
    child.exit()
    assert 0 == opened.unmap_dma(0, PAGE)


def test_a_group_stays_open_until_the_last_process_closes_it():
    host = intel().host("6.12")
    opened = host.process.open_container()
    member = group(host, A, opened)
    child = host.process.fork("P")
    member.close()
    with refused("EBUSY", host):
        host.process.open_group(A)
    child.descriptors[member.fd].unset_container()
    child.exit()
    assert host.process.open_group(A).is_open


def test_who_updates_a_vaddr_becomes_the_owner_from_6_3_on():
    host, opened, child, theirs = with_child("6.3")
    fill(host, opened, 0, PAGE)
    opened.unmap_dma(0, PAGE, 4)
    theirs.map_dma(0, PAGE, BASE, 4)
    assert (0, 1) == (host.process.locked_pages, child.locked_pages)


@pytest.mark.parametrize("kernel", ["5.15", "6.1", "6.12"])
def test_unbinding_an_open_device_waits_for_its_last_descriptor(kernel):
    host, _, member, device = opened_device(kernel)
    writer = outsider(host)
    write = writer.unbind(A)
    assert not write.done
    assert "until its last descriptor is closed" in write.why
    assert 3 == member.get_status()
    device.set_irqs(2)
    with pytest.raises(WouldBlockError, match="process Q sleeps"):
        writer.open_container()
    device.close()
    assert (kernel != "5.15") == write.done
    member.close()
    assert write.done
    assert host.drivers.driver_of(A) is None


def test_up_to_6_5_an_open_prolongs_the_wait():
    host, _, member, device = opened_device("6.1")
    write = outsider(host).unbind(A)
    second = member.get_device_fd(A)
    device.close()
    assert not write.done
    second.close()
    assert write.done


def test_on_4_19_before_99_the_closing_process_sleeps_for_ever_too():
    host, _, _, device = opened_device("4.19.48")
    write = outsider(host).unbind(A)
    with pytest.raises(WouldBlockError, match="device lock"):
        device.close()
    with pytest.raises(WouldBlockError, match="sleeps"):
        host.process.open_container()
    assert not write.done


def test_removing_a_device_takes_it_off_its_bus_and_a_rescan_brings_it_back():
    host, opened, member, device = opened_device("6.12")
    write = outsider(host).remove(A)
    assert not write.done
    with pytest.raises(WouldBlockError, match="remove and rescan"):
        outsider(host, "R").rescan()
    device.close()
    assert write.done
    assert A not in host.drivers
    with refused("ENODEV"):
        member.get_status()
    assert [] == opened.groups
    host.process.rescan()
    assert A in host.drivers
    assert host.group_of(A) is not None


def test_a_remove_of_one_of_two_leaves_the_group_its_other_device():
    host = intel().host("6.12")
    before = host.group_of("0000:02:00.0").devices
    assert len(before) == 2
    assert host.process.remove("0000:02:00.1").done
    assert ("0000:02:00.0",) == host.group_of("0000:02:00.0").devices
    host.process.rescan()
    assert before == host.group_of("0000:02:00.1").devices


@pytest.mark.parametrize(("kernel", "off"), [("4.19.48", 0), ("4.19", "EFAULT"), ("6.12", "EFAULT")])
def test_a_bar_is_mapped_without_a_charge_and_only_while_its_memory_space_is_on(kernel, off):
    host, opened, _, device = opened_device(kernel)
    host.process.drop_capability()
    host.process.set_memlock(0)
    device.mmap(0, 4 * PAGE, 0x10_0000)
    opened.map_dma(0, 4 * PAGE, 0x10_0000)
    assert 0 == host.process.locked_pages
    device.write_config(4, 0)
    if off:
        with refused(off, host):
            opened.map_dma(0x10000, PAGE, 0x10_0000)
    else:
        opened.map_dma(0x10000, PAGE, 0x10_0000)


def test_a_mapped_bar_keeps_its_device_open():
    host, _, member, device = opened_device("6.12")
    device.mmap(0, PAGE, 0x10_0000)
    device.close()
    with refused("EBUSY"):
        member.unset_container()
    host.process.remap(0x10_0000, PAGE, "hole")
    member.unset_container()


def test_iommufd_refuses_to_pin_a_bar():
    from dataclasses import replace

    host = replace(intel({"width": 39}), vfio="iommufd-compat").host("6.12")
    opened = host.process.open_container()
    member = group(host, A, opened)
    opened.set_iommu(3)
    device = member.get_device_fd(A)
    device.mmap(0, PAGE, 0x10_0000)
    with refused("EFAULT", host):
        opened.map_dma(0, PAGE, 0x10_0000)


def test_a_log_names_the_process_of_each_call():
    host, _, _, theirs = with_child()
    theirs.map_dma(0, PAGE, BASE)
    assert "P" == host.log.calls[-1].process
    assert str(host.log.calls[-1]).startswith("P: map fd3 ")


def test_a_devices_dma_to_a_mapped_bar_reaches_the_other_device():
    host = intel().host("6.12")
    opened = container(host, A)
    second = group(host, "0000:02:00.0", opened)
    bar = second.get_device_fd("0000:02:00.0")
    bar.mmap(0, PAGE, 0x10_0000)
    opened.map_dma(0x4000, PAGE, 0x10_0000)
    journey = write(host, A, 0x4000)
    assert "p2p" == journey.outcome
    assert "lies in a BAR of 0000:02:00.0" in journey.steps[-1].why


def test_a_reset_of_the_bus_takes_along_what_shares_it_and_wants_every_group():
    m = MachineBuilder("two functions")
    m.endpoint("0e:00.0", below=m.root_port("00:02.0", unit=m.unit("unit0", kind="intel-vtd")), functions=2, acs=True)
    host = m.host("6.12")
    opened = host.process.open_container()
    groups = [group(host, f"0000:0e:00.{n}", opened) for n in range(2)]
    opened.set_iommu(3)
    device = groups[0].get_device_fd("0000:0e:00.0")
    assert [("0000:0e:00.0", groups[0].id), ("0000:0e:00.1", groups[1].id)] == device.get_hot_reset_info()
    with refused("EINVAL", host):
        device.hot_reset(groups[0])
    device.hot_reset(*groups)
    device.reset()


def test_what_a_device_tells_of_itself():
    _, _, _, device = opened_device("6.12")
    assert DeviceInfo(flags=3, num_regions=9, num_irqs=5) == device.get_info()
    assert RegionInfo(flags=7, size=128 << 10) == device.get_region_info(0)
    assert RegionInfo(flags=3, index=7, size=4096, offset=7 << 40) == device.get_region_info(7)
    assert [7, 9, 1, 9, 9] == [device.get_irq_info(index).flags for index in range(5)]
    assert [1, 1, 8, 1, 1] == [device.get_irq_info(index).count for index in range(5)]


def test_intx_is_masked_and_unmasked():
    _, _, _, device = opened_device("6.12")
    device.set_irqs(0)
    device.set_irqs(0, flags=0x9)
    assert device.irqs.masked
    device.set_irqs(0, flags=0x11)
    assert not device.irqs.masked
    device.set_irqs(0, flags=0xA, value=0)
    assert not device.irqs.masked


def test_a_block_that_fails_half_way_leaves_nothing_enabled_or_its_vectors_masked():
    _, _, _, device = opened_device("6.12")
    with refused("EBADF"):
        device.set_irqs(2, 0, 2, evfd=999)
    assert device.irqs.index is None
    device.set_irqs(2, 0, 3)
    with refused("EBADF"):
        device.set_irqs(2, 0, 2, evfd=999)
    assert [1, 2] == list(device.irqs.messages)
    device.set_irqs(2, 0, 3, flags=0x21)
    with refused("EINVAL"):
        device.set_irqs(2, 0, 9, flags=0x21)
    assert [1, 2] == list(device.irqs.messages)


def test_the_picture_and_the_transcript_of_a_shared_address_space():
    space = load("intel-vtd-39bit", kernel="5.15").address_space()
    space.attach(A)
    child = space.fork("P")
    child.map(0x10_0000, "16K", name="the child's")
    assert "[P] ioctl(3, VFIO_IOMMU_MAP_DMA" in space.transcript(events=False)
    assert "the child's" in str(space.picture().table)
    assert [("the child's")] == [row["name"] for row in space.mappings]
