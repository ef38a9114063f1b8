"""Worked examples W08 and W11 to W45: small machines by hand, a few calls, and the answer. (The others are groups: test_grouping_rules.)

Which of them a recording shows too is said in test_replay_recordings; those with several units on x86, with unsafe interrupts on Arm, with
emulated groups and with kernels between the recorded ones rest on reading the kernel's source.
"""

import pytest
from model_steps import (
    GIB,
    LIMIT,
    MIB,
    PAGE,
    UNSAFE,
    A,
    B,
    arm,
    container,
    fill,
    group,
    intel,
    mapped,
    ranges,
    refused,
    vaddr,
    with_params,
)

from vfiolab.model.builder import GICV2M, MachineBuilder
from vfiolab.model.errors import KernelCrashError
from vfiolab.model.irq.msi import InterruptController

SECOND = "0000:02:00.1"


def two_functions(kernel, second="e1000e", vfio="vfio-pci"):
    """A root port with ACS, and below it two functions without: one group. The first is on vfio-pci."""
    m = MachineBuilder("two functions")
    port = m.root_port("00:01.0", unit=m.unit("dmar0", kind="intel-vtd"))
    m.endpoint("02:00.0", below=port, functions=2, driver=vfio)
    host = m.host(kernel)
    if second is None:
        host.unbind(SECOND)
    else:
        host.bind(SECOND, second)
    return host


def test_w08_no_part_of_a_group_can_be_given_elsewhere():
    host = two_functions("6.12", "vfio-pci")
    first, second = host.process.open_container(), host.process.open_container()
    member = group(host, "0000:02:00.0", first)
    with refused("EBUSY", host) as twice:
        host.process.open_group(SECOND)
    assert "a group has one user" in twice.value.why
    with refused("EINVAL", host) as elsewhere:
        member.set_container(second)
    assert "in a container already" in elsewhere.value.why


def test_w11_two_vtd_units_alike_share_one_domain():
    host = intel({"width": 48, "snoop_control": True}, {"width": 48, "snoop_control": True}).host("6.12")
    opened = container(host, A, B)
    assert 1 == len(opened.backend.domains)
    assert 1 == opened.check_extension(4)


def test_w12_two_smmus_get_two_domains_and_each_map_is_done_twice_newest_first():
    host = arm({}, {}).host("6.12")
    opened = container(host, A)
    group(host, B, opened)
    assert ["unit1", "unit0"] == [domain.unit.name for domain in opened.backend.domains]
    fill(host, opened, 0x10000, PAGE)
    assert ["map D2 0x1_0000 0x1000 7", "map D1 0x1_0000 0x1000 7"] == [str(event) for event in host.log.calls[-1].events]
    assert 0 == opened.check_extension(4)


def test_w13_a_unit_without_snoop_control_splits_the_domain_and_ends_coherency():
    host = intel({"width": 48, "snoop_control": True, "page_sizes": 0x40201000}, {"width": 48, "page_sizes": 0x201000}).host("7.3")
    opened = container(host, A)
    assert (1, 1, 0x40201000) == (len(opened.backend.domains), opened.check_extension(4), opened.get_info().pgsizes)
    group(host, B, opened)
    assert (2, 0, 0x201000) == (len(opened.backend.domains), opened.check_extension(4), opened.get_info().pgsizes)


def test_w14_a_fresh_container_cannot_map_and_a_group_does_not_know_other_ioctls():
    host = intel().host("6.12")
    opened = host.process.open_container()
    with refused("EINVAL", host):
        fill(host, opened, 0, PAGE)
    member = group(host, A)
    with refused("ENOTTY", host):
        member.ioctl(0x3BFF)


def test_w15_set_iommu_needs_a_group_a_known_type_and_happens_once():
    host = intel().host("6.12")
    opened = host.process.open_container()
    with refused("EINVAL", host) as without_group:
        opened.set_iommu(1)
    group(host, A, opened)
    with refused("ENODEV", host):
        opened.set_iommu(99)
    opened.set_iommu(1)
    with refused("EINVAL", host) as twice:
        opened.set_iommu(1)
    assert without_group.value.why != twice.value.why


@pytest.mark.parametrize("kernel", ["4.4", "4.11"])
def test_w16_ram_over_the_msi_window_is_accepted_up_to_5_3(kernel):
    host = intel().host(kernel)
    opened = container(host, A)
    fill(host, opened, 0xFEE00000, PAGE)
    assert [(0xFEE00000, PAGE)] == mapped(opened)


@pytest.mark.parametrize("kernel", ["5.4", "6.12", "7.3"])
def test_w17_from_5_4_the_msi_window_is_refused_and_its_neighbours_are_not(kernel):
    host = intel().host(kernel)
    opened = container(host, A)
    with refused("EINVAL", host) as caught:
        fill(host, opened, 0xFEE00000, PAGE)
    assert "the MSI window 0xfee0_0000-0xfeef_ffff" in caught.value.why
    fill(host, opened, 0xFEDFF000, PAGE)
    fill(host, opened, 0xFEF00000, PAGE)
    assert [(0xFEDFF000, PAGE), (0xFEF00000, PAGE)] == mapped(opened)


def test_w18_ram_in_one_piece_spans_the_hole_and_in_two_it_does_not():
    host = intel().host("6.12")
    opened = container(host, A)
    host.process.remap(vaddr(host), 4 * GIB)
    with refused("EINVAL", host):
        fill(host, opened, 0, 4 * GIB)
    fill(host, opened, 0, 0xFEE00000)
    fill(host, opened, 0xFEF00000, 4 * GIB - 0xFEF00000)
    assert 2 == len(mapped(opened))


def test_w19_an_arm_guest_does_not_collide_with_the_software_window():
    host = arm().host("6.12")
    opened = container(host, A)
    fill(host, opened, 0x40000000, GIB)
    with refused("EINVAL", host) as caught:
        fill(host, opened, 0x8000000, PAGE)
    assert "the software MSI window" in caught.value.why


def test_w20_an_emulated_group_lets_ram_over_the_window_and_keeps_a_real_group_out():
    host = intel(mdevs=1).host("6.12")
    opened = container(host, "mdev0")
    host.process.remap(vaddr(host), 4 * GIB)
    fill(host, opened, 0, 4 * GIB)
    late = group(host, A)
    with refused("EINVAL", host) as caught:
        late.set_container(opened)
    assert "overlaps the MSI window" in caught.value.why
    assert [(0, 4 * GIB)] == mapped(opened)
    assert [] == opened.backend.domains


def narrow_and_wide():
    host = arm({"width": 48}, {"width": 40}).host("6.12")
    return host, container(host, A)


def test_w21_a_mapping_above_a_narrower_smmu_keeps_its_group_out():
    host, opened = narrow_and_wide()
    fill(host, opened, 0x10000000000, PAGE)
    late = group(host, B)
    with refused("EINVAL", host) as caught:
        late.set_container(opened)
    assert "0x100_0000_0000-0x100_0000_0fff lies outside the aperture" in caught.value.why
    opened.unmap_dma(0x10000000000, PAGE)
    late.set_container(opened)
    assert 2 == len(opened.backend.domains)
    assert 0xFFFFFFFFFF == ranges(opened)[-1][1]
    with refused("EINVAL", host):
        fill(host, opened, 0x10000000000, PAGE)


def test_w22_the_aperture_widens_again_when_the_narrow_smmus_domain_dies():
    host, opened = narrow_and_wide()
    late = group(host, B, opened)
    late.unset_container()
    assert 0xFFFFFFFFFFFF == ranges(opened)[-1][1]


def test_w23_a_reserved_region_at_the_very_edge_is_not_given_back_and_one_inside_is():
    m = MachineBuilder("edges")
    unit = m.unit("dmar0", kind="intel-vtd", snoop_control=True)
    for bus in (1, 2, 3):
        m.endpoint(f"{bus:02x}:00.0", below=m.root_port(f"00:{bus:02x}.0", unit=unit))
    m.region("02:00.0", 0, 0xFFF, "reserved")
    m.region("03:00.0", 0x5000, 0x5FFF, "reserved")
    host = m.host("6.12")
    opened = container(host, A)
    edge, inside = group(host, "0000:02:00.0", opened), group(host, "0000:03:00.0", opened)
    assert [(0x1000, 0x4FFF), (0x6000, 0xFEDFFFFF)] == ranges(opened)[:2]
    inside.unset_container()
    edge.unset_container()
    assert [(0x1000, 0xFEDFFFFF)] == ranges(opened)[:1]


def test_w24_v2_removes_what_lies_inside_and_never_cuts():
    host = intel().host("6.12")
    opened = container(host, A)
    fill(host, opened, 0, 0x2000)
    fill(host, opened, 0x2000, 0x2000)
    with refused("EINVAL", host):
        opened.unmap_dma(0x1000, 0x1000)
    assert 0x4000 == opened.unmap_dma(0, 0x4000)
    assert 0 == opened.unmap_dma(0x10000, 0x1000)


def test_w25_v1_stops_at_a_mapping_that_begins_before_and_removes_whole_ones():
    host = intel().host("6.12")
    opened = container(host, A, kind=1)
    fill(host, opened, 0, 0x4000)
    assert 0 == opened.unmap_dma(0x1000, 0x1000)
    assert [(0, 0x4000)] == mapped(opened)
    assert 0x4000 == opened.unmap_dma(0, 0x1000)
    assert [] == mapped(opened)


@pytest.mark.parametrize(
    ("args", "errno"),
    [
        ({"flags": 0}, "EINVAL"),
        ({"flags": 8}, "EINVAL"),
        ({"size": 0}, "EINVAL"),
        ({"iova": 0x800}, "EINVAL"),
        ({"iova": 0x1000}, "EEXIST"),
    ],
)
def test_w26_what_no_kernel_maps(args, errno):
    host = intel().host("6.12")
    opened = container(host, A)
    fill(host, opened, 0x1000, PAGE)
    with refused(errno, host):
        opened.map_dma(**{"iova": 0x10000, "size": PAGE, "vaddr": vaddr(host), "flags": 3} | args)


def test_w27_the_budget_of_mappings_runs_out_and_comes_back():
    host = with_params(intel(), **{LIMIT: "2"}).host("6.12")
    opened = container(host, A)

    def avail():
        return next(dict(cap.fields)["avail"] for cap in opened.get_info(256).caps if cap.id == 3)

    seen = [avail()]
    for slot in (0, 1):
        fill(host, opened, slot * PAGE, PAGE)
        seen.append(avail())
    with refused("ENOSPC", host) as caught:
        fill(host, opened, 2 * PAGE, PAGE)
    assert "2 mappings" in caught.value.why
    with refused("EEXIST", host):
        fill(host, opened, 0, PAGE)
    opened.unmap_dma(0, PAGE)
    seen.append(avail())
    fill(host, opened, 2 * PAGE, PAGE)
    seen.append(avail())
    assert [2, 1, 0, 1, 0] == seen


def test_w29_locked_memory_is_counted_in_pages_and_a_refusal_leaves_nothing():
    host = intel().host("6.12")
    host.process.drop_capability()
    host.process.set_memlock(64 << 10)
    opened = container(host, A)
    with refused("ENOMEM", host) as caught:
        fill(host, opened, 0, 17 * PAGE)
    assert "0x1_0000 bytes = 16 pages" in caught.value.why
    fill(host, opened, 0, 16 * PAGE)
    with refused("ENOMEM", host):
        fill(host, opened, 0x100000, PAGE)


def test_w30_up_to_5_17_a_group_that_is_not_viable_gets_everything_but_its_devices():
    host = two_functions("5.4")
    opened = host.process.open_container()
    member = group(host, "0000:02:00.0")
    assert 0 == member.get_status()
    member.set_container(opened)
    opened.set_iommu(3)
    fill(host, opened, 0, PAGE)
    with refused("EINVAL", host) as caught:
        member.get_device_fd("0000:02:00.0")
    assert f"{SECOND} on a native driver" in caught.value.why


def test_w31_from_5_19_a_group_that_is_not_viable_gets_no_container():
    host = two_functions("5.19")
    opened, member = host.process.open_container(), group(host, "0000:02:00.0")
    assert 0 == member.get_status()
    with refused("EPERM", host) as caught:
        member.set_container(opened)
    assert SECOND in caught.value.why


@pytest.mark.parametrize("kernel", ["5.4", "6.12"])
@pytest.mark.parametrize("second", ["pci-stub", None])
def test_w32_pci_stub_and_no_driver_do_not_hurt(kernel, second):
    host = two_functions(kernel, second)
    member = group(host, "0000:02:00.0")
    assert 1 == member.get_status()
    member.set_container(host.process.open_container())


@pytest.mark.parametrize("kernel", ["5.4", "6.12"])
def test_w32_a_bridge_on_the_port_driver_does_not_hurt(kernel):
    m = MachineBuilder("no acs")
    m.endpoint(A[5:], below=m.root_port("00:01.0", unit=m.unit("dmar0", kind="intel-vtd"), acs=False))
    host = m.host(kernel)
    assert ("0000:00:01.0", A) == host.group_of(A).devices
    assert 1 == group(host, A).get_status()


def test_w33_a_native_driver_cannot_bind_into_a_claimed_group():
    host = two_functions("6.1", None)
    container(host, "0000:02:00.0")
    with refused("EBUSY", host) as caught:
        host.bind(SECOND, "e1000e")
    assert SECOND in caught.value.why


@pytest.mark.parametrize("kernel", ["4.4", "5.10", "5.17"])
def test_w33_before_5_19_binding_a_native_driver_kills_the_host(kernel):
    host = two_functions(kernel, None)
    container(host, "0000:02:00.0")
    with pytest.raises(KernelCrashError, match="BUG_ON in vfio_iommu_group_notifier"):
        host.bind(SECOND, "e1000e")


@pytest.mark.parametrize(("kernel", "errno"), [("5.17", "EINVAL"), ("5.19", "ENODEV")])
def test_w34_an_unknown_device_before_the_backend(kernel, errno):
    host = intel().host(kernel)
    member = group(host, A, host.process.open_container())
    with refused(errno, host):
        member.get_device_fd("bogus")


@pytest.mark.parametrize(
    ("kernel", "negative", "plain"),
    [
        ("4.4", "EINVAL", "EINVAL"),
        ("5.19", "EINVAL", "EINVAL"),
        ("6.1", "EBADF", "EINVAL"),
        ("6.2", "EBADF", "EBADFD"),
        ("7.3", "EBADF", "EBADFD"),
    ],
)
def test_w35_what_is_no_container(kernel, negative, plain):
    host = intel().host(kernel)
    member = group(host, A)
    with refused(negative, host):
        member.set_container(-1)
    with refused(plain, host):
        member.set_container(0)


def test_w36_an_open_device_keeps_its_group_in_the_container():
    host = intel().host("6.12")
    opened = host.process.open_container()
    member = group(host, A, opened)
    opened.set_iommu(3)
    device = member.get_device_fd(A)
    with refused("EBUSY", host) as busy:
        member.unset_container()
    assert A in busy.value.why
    device.close()
    member.unset_container()
    with refused("EINVAL", host):
        member.unset_container()


def test_w37_without_interrupt_remapping_the_backend_is_refused_unless_the_risk_is_taken():
    machine = intel({"width": 48, "isolated_msi": False})
    host = machine.host("6.12")
    opened = host.process.open_container()
    group(host, A, opened)
    with refused("EPERM", host) as caught:
        opened.set_iommu(3)
    assert "no interrupt remapping" in caught.value.why
    assert "allow_unsafe_interrupts=1" in caught.value.fix
    assert container(with_params(machine, **{UNSAFE: "Y"}).host("6.12"), A).backend


@pytest.mark.parametrize(("kernel", "errno"), [("4.4", None), ("4.10", None), ("4.11", "EPERM"), ("6.12", "EPERM")])
def test_w38_a_gicv2m_host_is_let_through_only_while_smmu_drivers_claim_to_remap(kernel, errno):
    host = arm(controller=GICV2M).host(kernel)
    if errno is None:
        assert container(host, A).backend
        return
    with refused(errno):
        container(host, A)


def test_w39_each_doorbell_page_enters_a_domain_once():
    v2m = InterruptController("gicv2m", 0x2C1C0040, devices=frozenset({A}))
    machine = with_params(arm(controller=InterruptController("gicv3-its", 0x2F030040, beside=(v2m,))), **{UNSAFE: "Y"})
    host = machine.host("6.12")
    opened = host.process.open_container()
    first, second = group(host, A, opened), group(host, "0000:02:00.0", opened)
    opened.set_iommu(3)
    messages = []
    for device in (first.get_device_fd(A), second.get_device_fd("0000:02:00.0"), second.get_device_fd(SECOND)):
        device.set_irqs(2)
        messages.append(device.irqs.messages[0].address)
    assert [0x8000040, 0x8001040, 0x8001040] == messages
    assert [0x2C1C0000, 0x2F030000] == [bell.physical for bell in opened.backend.domains[0].doorbells]


def test_w40_get_info_says_how_large_a_struct_it_needs():
    host = intel({"width": 48}).host("6.12")
    opened = container(host, A)
    answers = [opened.get_info(argsz) for argsz in (16, 24, 120)]
    assert [(3, 120)] * 3 == [(info.flags, info.argsz) for info in answers]
    assert [None, 0, 24] == [info.cap_offset for info in answers]
    assert [(2, 24), (3, 56), (1, 72)] == [(cap.id, cap.off) for cap in answers[2].caps]
    assert 2 == len(answers[2].ranges)


@pytest.mark.parametrize(
    ("kernel", "map_errno", "unmap_errno"),
    [("4.4", "EINVAL", None), ("5.4", "EINVAL", "EINVAL"), ("6.12", "EINVAL", "EINVAL"), ("6.19", "EOVERFLOW", "EOVERFLOW")],
)
def test_w41_a_range_that_wraps(kernel, map_errno, unmap_errno):
    host = intel().host(kernel)
    opened = container(host, A)
    with refused(map_errno, host):
        fill(host, opened, 0xFFFFFFFFFFFFF000, 0x2000)
    if unmap_errno is None:
        assert 0 == opened.unmap_dma(0xFFFFFFFFFFFFF000, 0x2000)
        return
    with refused(unmap_errno, host):
        opened.unmap_dma(0xFFFFFFFFFFFFF000, 0x2000)


def test_w42_dirty_tracking_needs_v2():
    host = intel().host("6.12")
    opened = container(host, A, kind=1)
    with refused("EACCES", host):
        opened.dirty_pages(1)


def test_w43_all_goes_with_an_empty_range():
    host = intel().host("6.12")
    opened = container(host, A)
    fill(host, opened, 0, 2 * MIB)
    fill(host, opened, GIB, PAGE)
    with refused("EINVAL", host):
        opened.unmap_dma(0, PAGE, 2)
    assert 2 * MIB + PAGE == opened.unmap_dma(flags=2)


def test_w44_the_backend_ends_with_the_last_group():
    host = intel().host("6.12")
    opened = host.process.open_container()
    member = group(host, A, opened)
    opened.set_iommu(3)
    fill(host, opened, 0, PAGE)
    member.unset_container()
    member.set_container(opened)
    with refused("EINVAL", host) as caught:
        fill(host, opened, 0x10000, PAGE)
    assert "before SET_IOMMU" in caught.value.why
    opened.set_iommu(3)
    assert [] == mapped(opened)


def test_w45_up_to_6_13_a_narrower_vtd_unit_narrows_the_shared_domain_for_good():
    host = intel({"width": 48}, {"width": 39}).host("6.12")
    opened = container(host, A)
    late = group(host, B, opened)
    assert 1 == len(opened.backend.domains)
    assert 0x7FFFFFFFFF == ranges(opened)[-1][1]
    late.unset_container()
    assert 0x7FFFFFFFFF == ranges(opened)[-1][1]


def test_w45_from_6_19_a_narrower_vtd_unit_gets_its_own_domain():
    host = intel({"width": 48}, {"width": 39}).host("6.19")
    opened = container(host, A)
    late = group(host, B, opened)
    assert 2 == len(opened.backend.domains)
    late.unset_container()
    assert 0xFFFFFFFFFFFF == ranges(opened)[-1][1]
