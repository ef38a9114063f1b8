"""Every switch of the version table changes what can be seen: each has a probe whose answer differs when only that switch is flipped."""

import re
from dataclasses import replace

import pytest
from model_steps import (
    LIMIT,
    PAGE,
    A,
    B,
    amd,
    arm,
    container,
    fill,
    group,
    intel,
    machines,
    vaddr,
    with_params,
)
from recorded import ENVIRONMENTS, machine

from vfiolab.model.builder import GICV2M, MachineBuilder
from vfiolab.model.errors import NAMES, NotModelledError, VfioError, WouldBlockError
from vfiolab.model.irq.faultlog import dma_fault, interrupt_fault
from vfiolab.model.irq.msi import InterruptController
from vfiolab.model.kernel import RECORDED, Kernel
from vfiolab.model.pci.grouping import iommu_groups
from vfiolab.model.pci.topology import Function, Topology
from vfiolab.model.switches import SWITCHES, show

PORT = "0000:00:01.0"
TOP = (1 << 64) - PAGE
PROBES = {}


def probe(kernel, *, on, off, switch=None):
    """Register a probe: on `kernel`, with the switch on it answers `on`, with the switch off `off`."""

    def register(function):
        PROBES[switch or function.__name__] = (kernel, function, on, off)
        return function

    return register


def answer(call, *args, **more):
    """Return what a call answers: its value (0 for None), the errno's name, or why there is no answer."""
    try:
        value = call(*args, **more)
    except VfioError as error:
        return error.name
    except WouldBlockError:
        return "blocks"
    except NotModelledError:
        return "not modelled"
    return 0 if value is None else value


def vtd(kernel, *units, kind=3, **options):
    host = intel(*units, **options).host(kernel)
    return host, container(host, A, kind=kind)


def capabilities(kernel):
    return tuple((cap.id, cap.off) for cap in vtd(kernel)[1].get_info(256).caps)


def ids(kernel):
    return tuple(number for number, _ in capabilities(kernel))


def try_map(kernel, iova, size, flags=3, machine=None):
    host = (machine or intel()).host(kernel)
    return answer(fill, host, container(host, A), iova, size, flags)


def try_unmap(kernel, iova, size, flags=0):
    return answer(vtd(kernel)[1].unmap_dma, iova, size, flags)


def region(first, last, kind, *, second=None):
    """Build a VT-d machine whose device has a firmware region."""
    m = MachineBuilder("region")
    m.endpoint("01:00.0", below=m.root_port("00:01.0", unit=m.unit("dmar0", kind="intel-vtd")))
    m.region(A, first, last, kind)
    if second is not None:
        m.region(A, *second, kind)
    return m.machine()


def events(host):
    return [str(event) for event in host.log.calls[-1].events]


# GET_INFO


@probe("4.5", on=1, off=0)
def info_pgsizes_flag(kernel):
    return vtd(kernel)[1].get_info(24).flags


@probe("4.5", on="EFAULT", off="16")
def copy_back_efault(kernel):
    host, opened = vtd(kernel)
    answer(opened.get_info, 24, writable=False)
    return host.log.calls[-1].result


probe("5.4", on=(1, 3), off=(3,), switch="info_iova_ranges")(ids)
probe("5.8", on=(2, 1), off=(1,), switch="info_migration")(ids)
probe("5.10", on=(2, 3, 1), off=(2, 1), switch="info_dma_avail")(ids)
probe("5.10", on=(2, 3, 1), off=(2, 1, 3), switch="info_avail_first")(ids)
probe("6.6", on=((2, 24), (3, 56), (1, 72)), off=((2, 24), (3, 56), (1, 68)), switch="info_caps_padded")(capabilities)


# containers and groups


@probe("4.5", on=1, off=0)
def noiommu(kernel):
    return machines()["no iommu"].host(kernel).process.open_container().check_extension(8)


def not_viable(kernel):
    host = intel().host(kernel)
    host.bind("0000:02:00.1", "e1000e")
    return host, group(host, "0000:02:00.0")


@probe("5.19", on="EPERM", off=0)
def dma_ownership(kernel):
    host, member = not_viable(kernel)
    return answer(member.set_container, host.process.open_container())


@probe("6.1", on="EBADF", off="EINVAL")
def negative_fd_ebadf(kernel):
    return answer(group(intel().host(kernel), A).set_container, -1)


@probe("6.2", on="EBADFD", off="EINVAL")
def wrong_fd_ebadfd(kernel):
    return answer(group(intel().host(kernel), A).set_container, 0)


def last_unbind(kernel):
    host, _ = vtd(kernel)
    return answer(host.unbind, A)


probe("5.19", on=0, off="blocks", switch="no_container_wait")(last_unbind)
probe("5.10", on="blocks", off=0, switch="last_unbind_blocks")(last_unbind)


@probe("6.1", on="ENODEV", off=1)
def group_can_die(kernel):
    host = intel().host(kernel)
    opened = group(host, A)
    host.unbind(A)
    return answer(opened.get_status)


@probe("4.19", on="ENODEV", off=0)
def pf_with_vfs_refused(kernel):
    host = machine("intel-6.12-ir").host(kernel)
    return answer(host.bind, "0000:10:00.0")


def unbind_while_open(kernel):
    """Return a host whose device is being unbound by a child while the first process has it open."""
    host = intel().host(kernel)
    opened = host.process.open_container()
    member = group(host, A, opened)
    opened.set_iommu(3)
    opened_device = member.get_device_fd(A)
    child = host.process.fork("P")
    child.exit()
    other = host.process.fork("Q")
    for fd in list(other.descriptors):
        other.close(fd)
    assert not other.unbind(A).done
    return member, opened_device


@probe("6.6", on="ENODEV", off=True)
def leaving_device_hidden(kernel):
    member, _ = unbind_while_open(kernel)
    opened = answer(member.get_device_fd, A)
    return opened if isinstance(opened, str) else opened.is_open


def close_while_unbound(kernel):
    return answer(unbind_while_open(kernel)[1].close)


probe("4.14", on="blocks", off=0, switch="bus_reset_takes_lock")(close_while_unbound)
probe("5.4", on=0, off="blocks", switch="close_takes_no_device_lock")(close_while_unbound)


@probe("6.1", on="EINVAL", off="ENODEV")
def probe_errno_reaches_bind(kernel):
    return answer(intel().host(kernel).bind, PORT)


def claim_with_rmrr(kernel):
    host = region(0xE8000, 0xE8FFF, "direct").host(kernel)
    opened = host.process.open_container()
    return answer(group(host, A).set_container, opened) or answer(opened.set_iommu, 3)


probe("6.6", on="EINVAL", off="EPERM", switch="direct_blocks_ownership")(claim_with_rmrr)
probe("5.10", on=0, off="EPERM", switch="intel_no_rmrr_lock")(claim_with_rmrr)


@probe("6.1", on="EINVAL", off=0)
def needs_coherent_iommu(kernel):
    host = arm({"coherent": False}).host(kernel)
    host.unbind(A)
    return answer(host.bind, A)


# attach


@probe("4.11", on=("0x800_0000-0x80f_ffff sw-msi",), off=())
def reserved_regions(kernel):
    return tuple(str(one) for one in arm().host(kernel).group_of(A).reserved)


def gicv2m(kernel):
    host = arm(controller=GICV2M).host(kernel)
    return answer(container, host, A) == "EPERM"


probe("4.11", on=True, off=False, switch="smmu_msi_not_remapped")(gicv2m)


@probe("6.6", on=1, off="EPERM")
def isolated_msi_per_group(kernel):
    v2m = InterruptController("gicv2m", 0x2C1C0040, devices=frozenset({B}))
    host = arm({}, {}, controller=InterruptController("gicv3-its", 0x2F030040, beside=(v2m,))).host(kernel)
    opened = answer(container, host, A)
    return opened if isinstance(opened, str) else len(opened.backend.domains)


HISILICON = {"hardware_msi": (0xC6010000, 0xC601FFFF)}


@probe("4.15", on=2, off=1)
def arm_hardware_msi(kernel):
    return len(arm(HISILICON).host(kernel).group_of(A).reserved)


@probe("4.15", on=None, off=0x8000000)
def hw_msi_overrides_sw_msi(kernel):
    return container(arm(HISILICON).host(kernel), A).backend.domains[0].msi_base


@probe("5.4", on=0, off="EINVAL")
def direct_relaxable(kernel):
    return try_map(kernel, 0xE8000, PAGE, machine=region(0xE8000, 0xE8FFF, "direct-relaxable"))


@probe("5.4", on=2, off=3)
def touching_regions_merge(kernel):
    return len(region(0x1000, 0x1FFF, "reserved", second=(0x2000, 0x2FFF)).host(kernel).group_of(A).reserved)


@probe("5.4", on="EINVAL", off=0)
def valid_iova(kernel):
    return try_map(kernel, 0xFEE00000, PAGE)


@probe("5.19", on=0, off=1)
def enforced_coherency(kernel):
    return container(arm().host(kernel), A).check_extension(4)


@probe("6.13", on=0, off=1)
def no_nesting(kernel):
    return intel().host(kernel).process.open_container().check_extension(6)


def superpage_probe(kernel, machine=None):
    host = (machine or intel()).host(kernel)
    container(host, A)
    return [event for event in events(host) if event.startswith("fgsp")]


probe("6.19", on=[], off=["fgsp D1 0 0x2000"], switch="no_superpage_probe")(superpage_probe)


@probe("6.2", on=["fgsp D1 0x2000 0x2000"], off=["fgsp D1 0 0x2000"])
def probe_in_valid_iova(kernel):
    return superpage_probe(kernel, region(0, 0xFFF, "reserved"))


@probe("6.1", on="EBUSY", off=0)
def attach_needs_valid_vaddr(kernel):
    host, opened = vtd(kernel)
    fill(host, opened, 0, PAGE)
    opened.unmap_dma(0, PAGE, 4)
    return answer(group(host, "0000:02:00.0").set_container, opened)


@probe("6.12", on="attach D1 6 -22", off="attach D1 6 -6")
def smmu_other_unit_einval(kernel):
    host = arm({}, {}).host(kernel)
    group(host, B, container(host, A))
    return next(event for event in events(host) if event.startswith("attach D1"))


def nesting(kernel, machine):
    host = machine.host(kernel)
    opened = host.process.open_container()
    group(host, A, opened)
    return answer(opened.set_iommu, 6)


@probe("6.12", on="EPERM", off=0)
def smmu_nesting_eperm(kernel):
    return nesting(kernel, arm())


@probe("6.1", on="EINVAL", off="ENODEV")
def intel_nesting_einval(kernel):
    return nesting(kernel, intel())


@probe("5.10", on="ENODEV", off="EINVAL")
def intel_nesting_enodev(kernel):
    return nesting(kernel, intel())


# what IOMMU units report


@probe("5.10", on=(1 << 48) - 1, off=(1 << 57) - 1)
def intel_aperture_by_width(kernel):
    return vtd(kernel)[1].get_info(256).ranges[-1][1]


@probe("5.15", on=0x40201000, off=0xFFFFFFFFFFFFF000)
def intel_real_page_sizes(kernel):
    return vtd(kernel)[1].get_info(256).pgsizes


@probe("6.13", on=0x40201000, off=0x201000)
def intel_page_sizes_per_unit(kernel):
    return vtd(kernel, {"width": 48}, {"width": 48, "page_sizes": 0x201000})[1].get_info(256).pgsizes


def width_by_what_was_mapped(kernel):
    """A VT-d domain remembers how high it was mapped, in some orders of unmapping: a narrower unit cannot join then."""
    host, opened = vtd(kernel, {"width": 48}, {"width": 39})
    for iova in (0x8000000000, 0x8000001000):
        fill(host, opened, iova, PAGE)
    for iova in (0x8000000000, 0x8000001000):
        opened.unmap_dma(iova, PAGE)
    group(host, B, opened)
    return next(event for event in events(host) if event.startswith("attach D1"))


probe("6.2", on="attach D1 6 -22", off="attach D1 6 -14", switch="intel_attach_einval")(width_by_what_was_mapped)


@probe("6.19", on=2, off=1)
def intel_domain_fixed(kernel):
    host, opened = vtd(kernel, {"width": 48}, {"width": 39})
    group(host, B, opened)
    return len(opened.backend.domains)


@probe("6.12", on=0x000FFF7FFFFFF000, off=0xFFFFFF7FFFFFF000)
def amd_v1_to_2_51(kernel):
    return container(amd().host(kernel), A).get_info(256).pgsizes


# mapping


@probe("5.3", on="ENOSPC", off=0)
def dma_entry_limit(kernel):
    host = with_params(intel(), **{LIMIT: "1"}).host(kernel)
    opened = container(host, A)
    fill(host, opened, 0, PAGE)
    return answer(fill, host, opened, 0x10000, PAGE)


@probe("5.12", on="ENOENT", off="EINVAL")
def vaddr_update(kernel):
    return try_map(kernel, 0, PAGE, 4)


@probe("6.1", on=0, off=1)
def update_vaddr_needs_backend(kernel):
    return intel().host(kernel).process.open_container().check_extension(10)


@probe("6.19", on="EOVERFLOW", off="EINVAL")
def wrap_eoverflow(kernel):
    return try_map(kernel, TOP, 2 * PAGE)


@probe("6.19", on="EEXIST", off=0)
def inclusive_ends(kernel):
    host = amd().host(kernel)
    opened = container(host, A)
    fill(host, opened, TOP, PAGE)
    return answer(fill, host, opened, TOP, PAGE)


@probe("4.15", on="EINVAL", off=0)
def unmap_wrap_check(kernel):
    return try_unmap(kernel, TOP, 2 * PAGE)


@probe("5.3", on=0, off="EINVAL")
def unmap_may_end_at_top(kernel):
    return try_unmap(kernel, TOP, PAGE)


@probe("5.12", on=0, off="EINVAL")
def unmap_all(kernel):
    return try_unmap(kernel, 0, 0, 2)


@probe("5.12", on=[0, 1, 2], off=[1, 2, 0])
def unmap_in_iova_order(kernel):
    host, opened = vtd(kernel)
    for slot in range(3):
        fill(host, opened, slot * PAGE, PAGE)
    opened.unmap_dma(0, 3 * PAGE)
    return [event.iova // PAGE for event in host.log.calls[-1].events]


@probe("5.8", on=0, off="ENOTTY")
def dirty_tracking(kernel):
    return answer(vtd(kernel)[1].dirty_pages, 1)


@probe("4.14", on=("EFAULT", "ENOMEM"), off=())
def runs_are_charged(kernel):
    host, opened = vtd(kernel)
    host.process.drop_capability()
    host.process.set_memlock(PAGE)
    with pytest.raises(VfioError) as caught:
        fill(host, opened, (1 << 48) - PAGE, 2 * PAGE)
    return caught.value.either


def unmapped_by_a_child(kernel):
    host, opened = vtd(kernel)
    fill(host, opened, 0, PAGE)
    return host.process.fork("P").descriptors[opened.fd].unmap_dma(0, PAGE)


probe("4.14", on=0, off=PAGE, switch="unmap_stops_at_others")(unmapped_by_a_child)
probe("6.1", on=PAGE, off=0, switch="unmap_by_anyone")(unmapped_by_a_child)


@probe("6.1", on=(0, 1), off=(1, 0))
def vaddr_changes_owner(kernel):
    host, opened = vtd(kernel)
    fill(host, opened, 0, PAGE)
    opened.unmap_dma(0, PAGE, 4)
    child = host.process.fork("P")
    child.descriptors[opened.fd].map_dma(0, PAGE, host.machine.arena.base, 4)
    return host.process.locked_pages, child.locked_pages


def read_of_fresh_memory(kernel):
    host, opened = vtd(kernel)
    host.process.remap(0x10_0000, PAGE)
    opened.map_dma(0, PAGE, 0x10_0000, 1)
    return host.process.locked_pages


probe("5.8", on=1, off=0, switch="read_pin_breaks_cow")(read_of_fresh_memory)
probe("5.9", on=0, off=1, switch="zero_page_pinned")(read_of_fresh_memory)
probe("6.6", on=1, off=0, switch="long_term_cow")(read_of_fresh_memory)


@probe("6.12", on="EFAULT", off=0)
def bar_needs_memory_space(kernel):
    _, opened, opened_device = device(kernel, intel())
    opened_device.mmap(0, PAGE, 0x10_0000)
    opened_device.write_config(4, 0)
    return answer(opened.map_dma, 0, PAGE, 0x10_0000)


@probe("6.12", on=0, off="ENOENT")
def compat_unmap_nothing(kernel):
    host = replace(intel({"width": 39}), vfio="iommufd-compat").host(kernel)
    opened = host.process.open_container()
    group(host, A, opened)
    return answer(opened.unmap_dma, 0, PAGE)


@probe("6.19", on="ERANGE", off="EFAULT")
def intel_map_erange(kernel):
    domain = vtd(kernel, {"width": 39})[1].backend.domains[0]
    return NAMES[-domain.map_errno(1 << 39, PAGE)]


def fault_line(kernel):
    return interrupt_fault(kernel, A, 34, 0x10)


TAIL = "Present field in the IRTE entry is clear"
HEX = "DMAR: [INTR-REMAP] Request device [{}01:{}00.0] fault index 0x10 [fault reason 0x22] " + TAIL
ONE_LINE = f"DMAR: [INTR-REMAP] Request device [01:00.0] fault index 10 [fault reason 34] {TAIL}"
TWO_LINES = f"DMAR: INTR-REMAP: Request device [[01:00.0] fault index 10\nINTR-REMAP:[fault reason 34] {TAIL}"
probe("4.7", on=ONE_LINE, off=TWO_LINES, switch="fault_line_is_one")(fault_line)
probe("5.14", on=HEX.format("0x", "0x"), off=ONE_LINE, switch="fault_line_is_hex")(fault_line)
probe("5.15", on=HEX.format("", ""), off=HEX.format("0x", "0x"), switch="fault_line_is_plain")(fault_line)


def dma_line(kernel):
    return dma_fault(kernel, "intel-vtd", "dmar0", A, "vfio-pci", 0x1234, write=False, mapped=False, beyond=False)


UNREAD = "[fault reason 06] PTE Read access is not set"
probe(
    "5.4",
    on=f"DMAR: [DMA Read] Request device [01:00.0] PASID ffffffff fault addr 1000 {UNREAD}",
    off=f"DMAR: [DMA Read] Request device [01:00.0] fault addr 1000 {UNREAD}",
    switch="fault_line_has_pasid",
)(dma_line)


# groups


def pch_port(kernel):
    m = MachineBuilder("pch")
    port = m.root_port("00:1c.0", unit=m.unit("dmar0", kind="intel-vtd"), acs=False)
    m.endpoint("02:00.0", below=port)
    built = m.machine()
    changed = replace(built.topology["0000:00:1c.0"], vendor=0x8086, device=0x8C10)
    return len(replace(built, topology=built.topology.replace(changed)).host(kernel).groups)


probe("5.9.5", on=1, off=2, switch="pch_workaround_lost")(pch_port)
probe("5.10", on=2, off=1, switch="pch_workaround_back")(pch_port)


@probe("5.6", on=("0000:00:0e.0", "10000:00:02.0"), off=("0000:00:0e.0",))
def vmd_real_dma(kernel):
    m = MachineBuilder("vmd")
    m.endpoint("00:0e.0", unit=m.unit("dmar0", kind="intel-vtd"))
    built = m.machine()
    behind = Function(bdf="10000:00:02.0", kind="pci", vendor=0x8086, device=1, class_code=0x020000, real_dma="0000:00:0e.0")
    topology = Topology([*built.topology.values(), behind])
    found = iommu_groups(topology, kernel).groups
    return next(tuple(members) for members in found if "0000:00:0e.0" in members)


@probe("7.3", on=None, off=0)
def virtio_groups_at_boot(kernel):
    host = machine("virtio-6.12").host(kernel)
    assert host.group_of("0000:00:02.0") is None
    answer(host.bind, "0000:00:02.0")
    found = host.group_of("0000:00:02.0")
    return None if found is None else 0


# interrupts


def device(kernel, machine=None):
    host = (machine or arm()).host(kernel)
    opened = host.process.open_container()
    member = group(host, A, opened)
    opened.set_iommu(3)
    return host, opened, member.get_device_fd(A)


@probe("5.3", on="not modelled", off=0)
def msi_two_phase(kernel):
    host, opened, opened_device = device(kernel)
    fill(host, opened, 0x8000000, PAGE)
    return answer(opened_device.set_irqs, 1)


def no_vectors(kernel):
    return answer(device(kernel, intel())[2].set_irqs, 2, 0, 0, 0x24)


probe("5.4", on="ENOSPC", off="ERANGE", switch="no_vectors_enospc")(no_vectors)
probe("5.10", on="ERANGE", off="ENOSPC", switch="no_vectors_erange")(no_vectors)


@probe("4.16", on=(3,), off=())
def msix_mappable(kernel):
    m = MachineBuilder("nvme")
    m.endpoint("01:00.0", below=m.root_port("00:01.0", unit=m.unit("dmar0", kind="intel-vtd")))
    built = m.machine()
    nvme = replace(built.topology[A], class_code=0x010802)
    return device(kernel, replace(built, topology=built.topology.replace(nvme)))[2].get_region_info(0).cap_ids


@probe("5.7", on=True, off="ENODEV")
def vf_token(kernel):
    host = intel().host(kernel)
    opened = host.process.open_container()
    member = group(host, A, opened)
    opened.set_iommu(3)
    found = answer(member.get_device_fd, f"{A} ")
    return found if isinstance(found, str) else found.is_open


def null_pointer(number):
    return lambda kernel: answer(device(kernel, intel())[2].ioctl, number)


probe("5.7", on="EFAULT", off="ENOTTY", switch="device_feature")(null_pointer(0x3B75))
probe("4.17", on="EFAULT", off="ENOTTY", switch="device_ioeventfd")(null_pointer(0x3B74))


@probe("6.12", on=1, off=9)
def dynamic_msix_x86(kernel):
    return device(kernel, intel())[2].get_irq_info(2).flags


@probe("6.12", on=[], off=[0])
def refused_block_masks(kernel):
    _, _, opened_device = device(kernel)
    opened_device.set_irqs(2, 0, 1)
    assert "EINVAL" == answer(opened_device.set_irqs, 2, 0, 2)
    return list(opened_device.irqs.messages)


@probe("7.3", on=0, off="EINVAL")
def dynamic_msix_its(kernel):
    _, _, opened_device = device(kernel)
    opened_device.set_irqs(2, 0, 1)
    return answer(opened_device.set_irqs, 2, 0, 2)


# iommufd


def iommufd(kernel):
    host = replace(intel(), vfio="iommufd-compat").host(kernel)
    fd = host.process.open_iommufd()
    return host, fd, fd.ioas_alloc()


@probe("6.12", on="EINVAL", off=0)
def ioas_map_needs_rights(kernel):
    host, fd, ioas = iommufd(kernel)
    return answer(fd.ioas_map, ioas, vaddr(host), PAGE, 0, 0)


@probe("7.3", on=0x20_0000, off=0x4000_0000)
def chosen_iova_within_huge_page(kernel):
    host, fd, ioas = iommufd(kernel)
    return fd.ioas_map(ioas, vaddr(host), 0x4000_0000)


@probe("6.12", on="EINVAL", off="ENOENT")
def hwpt_alloc_typed(kernel):
    host, fd, _ = iommufd(kernel)
    return answer(fd.hwpt_alloc, host.process.open_cdev(A).bind_iommufd(fd), 99)


@probe("6.12", on=None, off="ENOENT")
def device_cdev(kernel):
    host, _, _ = iommufd(kernel)
    found = answer(host.process.open_cdev, A)
    return found if isinstance(found, str) else None


# the tests


@pytest.mark.parametrize("name", SWITCHES)
def test_a_flipped_switch_changes_an_answer(name):
    release, ask, on, off = PROBES[name]
    kernel = Kernel(release)
    answers = {kernel.has(name): ask(kernel), not kernel.has(name): ask(kernel.flipped(name))}
    assert {True: on, False: off} == answers


def test_every_switch_has_its_probe():
    assert set(SWITCHES) == set(PROBES)


@pytest.mark.parametrize("name", SWITCHES)
def test_a_switch_is_on_from_where_it_was_first_seen_and_off_where_it_was_absent(name):
    switch = SWITCHES[name]
    assert Kernel(f"{show(switch.first_seen)}.0").has(name)
    assert switch.absent_in is not None
    assert not Kernel(f"{show(switch.absent_in)}.0").has(name)
    assert Kernel("7.3").has(name)
    assert not Kernel("4.4").has(name)


@pytest.mark.parametrize(("name", "taken"), [(name, taken) for name, switch in SWITCHES.items() for taken in switch.stable])
def test_a_stable_series_has_a_change_from_the_release_that_took_it_over(name, taken):
    series = show(taken.series)
    assert Kernel(f"{series}.{taken.since}").has(name)
    assert not Kernel(f"{series}.{taken.known_absent}").has(name)
    assert taken.series == (4, 4) or Kernel(series).has(name)
    between = [number for number in range(taken.known_absent + 1, taken.since) if not Kernel(f"{series}.{number}").in_gap(name)]
    assert [] == between


def test_the_stable_number_is_written_where_it_decides():
    assert ("5.4", "5.4.50", "6.12", "4.4") == tuple(str(Kernel(one)) for one in ("5.4.302", "5.4.50", "6.12.107", "4.4.0"))


def test_a_distributions_build_is_judged_by_its_number_and_said_to_be_one():
    doubts = Kernel("5.4.302-generic").doubts
    assert ("kernel 5.4.302-generic is a distribution's build: judged as 5.4.302; its own patches are not known",) == doubts
    assert "judged as the last stable 6.8" in Kernel("6.8.0-31-generic").doubts[0]
    assert Kernel("6.1.0-99-amd64") == Kernel("6.1")
    assert () == Kernel("6.1.0-56-amd64").doubts
    assert RECORDED >= {machine(one).kernel for one in ENVIRONMENTS if re.search("[^0-9.]", machine(one).kernel)}


def test_4_4_is_4_4_0_and_says_so():
    assert Kernel("4.4") == Kernel("4.4.0")
    assert not Kernel("4.4").has("dma_entry_limit")
    assert Kernel("4.4.302").has("dma_entry_limit")
    assert "4.4.0" in Kernel("4.4").title


@pytest.mark.parametrize("name", SWITCHES)
def test_a_switch_says_what_where_and_what_it_rests_on(name):
    switch = SWITCHES[name]
    assert switch.evidence in ("recording", "reading")
    assert switch.what
    assert "/" in switch.source or "drivers" in switch.source
    assert switch.absent_in < switch.first_seen


def test_inside_a_gap_the_older_behaviour_holds_and_a_warning_names_it():
    kernel = Kernel("6.14")
    assert not kernel.has("dynamic_msix_its")
    doubt = next(doubt for doubt in kernel.doubts if "behind an ITS" in doubt)
    assert "after 6.12, by 7.3" in doubt
    assert () == Kernel("7.3").doubts


def test_a_difference_of_two_kernels_is_one_row_a_switch():
    rows = Kernel("6.12").diff("7.3")
    assert {"no_nesting", "wrap_eoverflow", "dynamic_msix_its"} < {row["switch"] for row in rows}
    assert all({"6.12": "no", "7.3": "yes"}.items() <= row.items() for row in rows)
    assert 0 == len(Kernel("6.12").diff("6.12.107+deb13-arm64"))


def test_a_recorded_value_overrides_the_derived_one_for_its_kernel_only():
    from recorded import machine

    unit = machine("smmu2mixed-6.12").units[1]
    assert 44 == unit.bits()
    assert unit.aperture(Kernel("6.12")).last == (1 << 44) - 1
    old = machine("intel-4.4").units[0]
    assert 0xFFFFFFFFFFFFF000 == old.reported_page_sizes(Kernel("4.4"), [old], PAGE)
    assert 0x40201000 == old.reported_page_sizes(Kernel("6.1"), [old], PAGE)


def test_unknown_switches_and_versions_are_refused():
    with pytest.raises(ValueError, match="no such switch: nonsense"):
        Kernel("6.12").flipped("nonsense")
    with pytest.raises(KeyError):
        Kernel("6.12").has("nonsense")
    with pytest.raises(ValueError, match=r"older than 4\.4"):
        Kernel("3.10")
    with pytest.raises(ValueError, match="cannot read a kernel version from 'newest'"):
        Kernel("newest")


def test_flipping_twice_is_no_flip():
    kernel = Kernel("6.12")
    assert kernel == kernel.flipped("valid_iova").flipped("valid_iova")
    assert "6.12 with valid_iova flipped" == str(kernel.flipped("valid_iova"))
    assert replace(kernel, release="6.12.107") == kernel


VERSIONS = {machine(environment).host().kernel.version for environment in ENVIRONMENTS}


@pytest.mark.parametrize(
    "switch", [switch for switch in SWITCHES.values() if switch.evidence == "recording"], ids=lambda switch: switch.name
)
def test_a_switch_that_claims_recordings_has_them_on_both_sides(switch):
    assert any(version >= switch.first_seen for version in VERSIONS)
    assert switch.absent_in is None or any(version <= switch.absent_in for version in VERSIONS)
