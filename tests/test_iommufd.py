"""iommufd's own ioctls and devices opened by their own nodes: one rule, one test. All of it rests on reading."""

import inspect
import random
from contextlib import suppress
from dataclasses import replace
from functools import partial

import pytest
from host_state import assert_same
from model_steps import PAGE, A, B, arm, group, intel, refused, vaddr
from model_walk import IOVAS, SIZES
from model_world import differing, invariants, snapshot

import vfiolab as vl
from vfiolab.client import Client
from vfiolab.draw import iova_map, to_text
from vfiolab.model.address import Span
from vfiolab.model.backends.ioas import Hwpt, Ioas
from vfiolab.model.backends.iommufd import Bound
from vfiolab.model.errors import NotModelledError, Refusal, VfioError
from vfiolab.model.irq import delivery
from vfiolab.model.uapi import iommufd as uapi
from vfiolab.model.uapi.ioctls import IOCTLS, NUMBERS
from vfiolab.model.user.container import Group
from vfiolab.model.user.iommufd import VERBS, Cdev, Iommufd
from vfiolab.readers.trace import read_trace
from vfiolab.readers.write import write_trace

GIB, PAIR = 1 << 30, ("0000:02:00.0", "0000:02:00.1")


def opened(kernel="6.12", machine=None, *devices):
    """Return a host, an iommufd, and devices that are tied to it."""
    host = replace(machine or intel({"width": 39}, {"width": 48}), vfio="iommufd-compat").host(kernel)
    fd = host.process.open_iommufd()
    tied = [host.process.open_cdev(device) for device in devices]
    for device in tied:
        device.bind_iommufd(fd)
    return host, fd, *tied


def mapped(fd, number):
    return [(area.iova, area.size) for area in fd.context.ioas(number).areas]


# objects


def test_objects_take_the_lowest_free_number_from_1_on():
    _, fd = opened()
    assert [1, 2, 3] == [fd.ioas_alloc() for _ in range(3)]
    fd.destroy(2)
    assert 2 == fd.ioas_alloc()


def test_a_destroyed_address_space_takes_its_mappings_along():
    host, fd = opened()
    fd.ioas_map(fd.ioas_alloc(), vaddr(host), PAGE, 0)
    fd.destroy(1)
    fd.ioas_alloc()
    assert [] == mapped(fd, 1)


def test_an_address_space_that_is_destroyed_is_no_containers_any_more():
    _, fd = opened()
    fd.vfio_ioas(fd.ioas_alloc())
    fd.destroy(1)
    with refused("ENODEV"):
        fd.vfio_ioas()


# mappings


def test_without_a_device_a_mapping_needs_no_alignment_and_no_memory():
    host, fd = opened()
    ioas = fd.ioas_alloc()
    assert 0x1001 == fd.ioas_map(ioas, 0x7003, 5, 0x1001)
    assert (Span(0, 1 << 64),) == fd.ioas_iova_ranges(ioas)
    assert 1 == host.log.calls[-1].output["out_iova_alignment"]


@pytest.mark.parametrize(
    ("vaddr_at", "size", "iova"), [(0, PAGE, PAGE), (0, 0x20_0000, 0x20_0000), (0x1000, 0x20_0000, 0x1000), (0x123, 1, 0x1123)]
)
def test_a_chosen_iova_has_the_alignment_of_the_memory_and_is_never_0(vaddr_at, size, iova):
    host, fd = opened("6.12")
    assert iova == fd.ioas_map(fd.ioas_alloc(), vaddr(host) + vaddr_at, size)


def test_a_chosen_iova_is_the_first_place_that_is_free_and_usable():
    host, fd, device = opened("6.12", None, A)
    ioas = fd.ioas_alloc()
    device.attach(ioas)
    fd.ioas_map(ioas, vaddr(host), PAGE, 2 * PAGE)
    assert [PAGE, 3 * PAGE] == [fd.ioas_map(ioas, vaddr(host), PAGE) for _ in range(2)]
    fd.ioas_allow_iovas(ioas, (0xFEDF_F000, 0xFEDF_FFFF), (0xFEF0_0000, 0xFFFF_FFFF))
    assert [0xFEDF_F000, 0xFEF0_0000] == [fd.ioas_map(ioas, vaddr(host), PAGE) for _ in range(2)]


def test_allowed_ranges_bind_the_kernels_choice_and_not_the_users():
    host, fd = opened()
    ioas = fd.ioas_alloc()
    fd.ioas_allow_iovas(ioas, (0x4000_0000, 0x7FFF_FFFF))
    assert 0x4000_0000 == fd.ioas_map(ioas, vaddr(host), PAGE)
    assert 0x1000 == fd.ioas_map(ioas, vaddr(host), PAGE, 0x1000)


def test_unmapping_0_to_the_end_takes_everything_and_nothing_is_no_error():
    host, fd = opened()
    ioas = fd.ioas_alloc()
    assert 0 == fd.ioas_unmap(ioas)
    for iova in (0, 0x10000, 1 << 40):
        fd.ioas_map(ioas, vaddr(host), PAGE, iova)
    assert 3 * PAGE == fd.ioas_unmap(ioas)


def test_a_mapping_is_in_every_domain_of_its_address_space():
    host, fd, first, second = opened("6.12", intel({"width": 39, "snoop_control": True}, {"width": 48}), A, B)
    ioas = fd.ioas_alloc()
    fd.ioas_map(ioas, vaddr(host), PAGE, 0)
    assert first.attach(ioas) != second.attach(ioas)
    fd.ioas_map(ioas, vaddr(host), PAGE, 0x10000)
    assert [[0, 0x10000]] * 2 == [[run.iova for run in domain.mappings] for domain in fd.context.ioas(ioas).domains]


# copies


def test_a_copy_shares_the_memory_which_is_charged_once():
    host, fd, device, other = opened("6.12", None, A, B)
    host.process.drop_capability()
    source, target = fd.ioas_alloc(), fd.ioas_alloc()
    device.attach(source)
    other.attach(target)
    fd.ioas_map(source, vaddr(host), 4 * PAGE, 0)
    fd.ioas_copy(target, source, PAGE, 2 * PAGE, 0x10000)
    assert 4 == host.user_pages
    fd.ioas_unmap(source)
    assert 2 == host.user_pages
    fd.ioas_unmap(target)
    assert 0 == host.user_pages


def test_a_copy_of_several_mappings_is_as_many_side_by_side():
    host, fd = opened()
    source, target = fd.ioas_alloc(), fd.ioas_alloc()
    for iova in (0, PAGE):
        fd.ioas_map(source, vaddr(host), PAGE, iova)
    assert 0x10000 == fd.ioas_copy(target, source, 0x800, PAGE, 0x10000)
    assert [(0x10000, 0x800), (0x10800, 0x800)] == mapped(fd, target)


def test_a_copy_keeps_the_pinned_pages_whatever_the_process_maps_there_since():
    host, fd, device = opened("6.12", None, A)
    source, target = fd.ioas_alloc(), fd.ioas_alloc()
    device.attach(source)
    fd.ioas_map(source, vaddr(host), PAGE, 0)
    before = device.vfio.group.domain.translate(0).physical
    host.process.remap(vaddr(host), PAGE)
    fd.ioas_copy(target, source, 0, PAGE, 0)
    device.attach(fd.hwpt_alloc(1, target))
    assert before == device.vfio.group.domain.translate(0).physical


# accounting


def test_the_users_pages_count_and_not_the_processs_until_rlimit_mode_says_so():
    host, fd, device = opened("6.12", None, A)
    other = host.process.open_iommufd()
    assert (0, 0, 1) == (fd.option(0), other.option(0), other.option(0, 1))
    host.process.drop_capability()
    device.attach(fd.ioas_alloc())
    fd.ioas_map(2, vaddr(host), 2 * PAGE, 0)
    assert (2, 0) == (host.user_pages, host.process.locked_pages)
    host.process.set_memlock(3 * PAGE)
    with refused("ENOMEM", host):
        fd.ioas_map(2, vaddr(host), 2 * PAGE, 0x10000)


def test_a_mapping_made_with_the_capability_is_never_charged():
    host, fd, device = opened("6.12", None, A)
    ioas = fd.ioas_alloc()
    fd.ioas_map(ioas, vaddr(host), PAGE, 0)
    host.process.drop_capability()
    device.attach(ioas)
    assert (0, 0) == (host.user_pages, host.process.locked_pages)


# devices and domains


def test_a_device_reaches_memory_through_the_address_space_that_it_is_attached_to():
    host, fd, device = opened("6.12", None, A)
    ioas = fd.ioas_alloc()
    fd.ioas_map(ioas, vaddr(host), PAGE, 0x4000_0000)
    assert "fault" == delivery.write(host, A, 0x4000_0000).outcome
    device.attach(ioas)
    assert "memory" == delivery.write(host, A, 0x4000_0000).outcome
    device.detach()
    assert "fault" == delivery.write(host, A, 0x4000_0000).outcome


def test_a_domain_that_was_made_for_an_attach_goes_with_its_last_device_and_another_stays():
    _, fd, device = opened("6.12", None, A)
    ioas = fd.ioas_alloc()
    auto = device.attach(ioas)
    manual = fd.hwpt_alloc(1, ioas)
    assert manual == device.attach(manual)
    assert fd.context.hwpt(auto) is None
    device.detach()
    assert fd.context.hwpt(manual) is not None
    fd.destroy(manual)
    fd.destroy(ioas)


def test_detaching_what_is_not_attached_is_no_error():
    host, _, device = opened("6.12", None, A)
    before = snapshot(host)
    device.detach()
    assert before == snapshot(host)


def test_the_devices_of_a_group_move_together():
    host, fd, first, second = opened("6.12", None, *PAIR)
    one, two = fd.ioas_alloc(), fd.ioas_alloc()
    assert first.attach(one) == second.attach(one)
    first.attach(two)
    assert {fd.context.ioas(two)} == {device.hwpt.ioas for device in fd.context.devices()}
    invariants(host)


def test_a_group_is_claimed_with_its_first_device_and_released_with_its_last():
    host, _, first, second = opened("6.12", None, *PAIR)
    first.close()
    assert host.group_of(PAIR[0]).owner is not None
    second.close()
    assert host.group_of(PAIR[0]).owner is None


def test_two_iommufds_never_share_a_group():
    host, _, _ = opened("6.12", None, PAIR[0])
    other, device = host.process.open_iommufd(), host.process.open_cdev(PAIR[1])
    with refused("EPERM", host):
        device.bind_iommufd(other)


def test_a_domain_alone_pins_the_memory_and_narrows_the_iovas():
    host, fd, _ = opened("7.3", None, A)
    ioas = fd.ioas_alloc()
    fd.ioas_map(ioas, vaddr(host), PAGE, 0)
    fd.hwpt_alloc(1, ioas)
    assert [True] == [area.pinned for area in fd.context.ioas(ioas).areas]
    assert (Span(0, 1 << 39),) == fd.ioas_iova_ranges(ioas)


def test_up_to_6_12_a_vtd_domain_has_57_bits_until_a_device_is_attached():
    host, fd, device = opened("6.12", None, A)
    ioas = fd.ioas_alloc()
    hwpt = fd.hwpt_alloc(1, ioas)
    assert 1 << 57 == fd.ioas_iova_ranges(ioas)[-1].end
    device.attach(hwpt)
    with refused("EFAULT", host):
        fd.ioas_map(ioas, vaddr(host), PAGE, 1 << 39)


def test_what_other_units_allocate_without_an_attach_is_not_said():
    host, fd, _ = opened("6.12", arm(), A)
    before = snapshot(host)
    with pytest.raises(NotModelledError, match="made without an attach"):
        fd.hwpt_alloc(1, fd.ioas_alloc())
    assert {"containers"} == differing(before, snapshot(host)).keys()


def test_a_doorbell_page_is_mapped_in_the_domain_behind_an_smmu():
    host, fd, device = opened("6.12", arm(), A)
    device.attach(fd.ioas_alloc())
    device.set_irqs(1)
    assert 1 == len(host.group_of(A).domain.doorbells)


# the compatibility layer works on the same objects


def test_a_container_is_an_iommufd_and_its_first_group_makes_an_address_space():
    host = replace(intel(), vfio="iommufd-compat").host("6.12")
    container = host.process.open_container()
    member = group(host, A, container)
    assert 1 == container.vfio_ioas()
    container.map_dma(0x10000, PAGE, vaddr(host))
    assert PAGE == container.ioas_unmap(1, 0x10000, PAGE)
    member.get_device_fd(A)
    assert 4 == container.ioas_alloc()  # 2 is the device, 3 its domain


def test_a_group_takes_an_iommufd_for_a_container_and_its_address_space():
    host = replace(intel(), vfio="iommufd-compat").host("6.12")
    fd = host.process.open_iommufd()
    fd.vfio_ioas(fd.ioas_alloc())
    fd.ioas_map(1, vaddr(host), PAGE, 0x10000)
    group(host, A, fd).get_device_fd(A)
    assert PAGE == fd.unmap_dma(0x10000, PAGE)


def test_a_containers_mappings_are_charged_to_the_process_also_in_an_iommufd():
    host = replace(intel(), vfio="iommufd-compat").host("6.12")
    fd = host.process.open_iommufd()
    host.process.drop_capability()
    group(host, A, fd).get_device_fd(A)
    fd.map_dma(0, PAGE, vaddr(host))
    fd.ioas_map(1, vaddr(host), PAGE, 0x10000)
    assert (1, 1) == (host.process.locked_pages, host.user_pages)


def test_a_containers_huge_pages_are_off_with_version_1():
    host = replace(intel(), vfio="iommufd-compat").host("6.12")
    container = host.process.open_container()
    group(host, A, container)
    assert 1 == container.option(1, number=1)
    container.set_iommu(1)
    assert 0 == container.option(1, number=1)
    container.option(1, 1, 1)
    assert container.backend.v2


# descriptors


def test_an_iommufd_lives_on_while_a_device_is_tied_to_it():
    host, fd, device = opened("6.12", None, A)
    context, ioas = fd.context, fd.ioas_alloc()
    fd.ioas_map(ioas, vaddr(host), PAGE, 0)
    device.attach(ioas)
    fd.close()
    assert "memory" == delivery.write(host, A, 0).outcome
    device.close()
    assert {} == context.objects
    assert host.group_of(A).owner is None


def test_an_exit_lets_everything_go():
    host, fd, device = opened("6.12", None, A)
    host.process.drop_capability()
    device.attach(fd.ioas_alloc())
    fd.ioas_map(2, vaddr(host), PAGE, 0)
    fd.hwpt_alloc(1, 2)
    host.process.exit()
    assert (0, {}) == (host.user_pages, fd.context.objects)
    assert not host.drivers.holder(A).users


def test_unbinding_waits_for_a_node_that_is_open_and_hides_it():
    host, _, device = opened("6.12", None, A)
    waiting = host.process.fork("P").unbind(A)
    assert not waiting.done
    with refused("ENOENT"):
        host.process.open_cdev(A)
    device.close()
    host.processes["P"].exit()
    assert waiting.done


def test_nodes_take_the_lowest_free_number():
    host = replace(intel(), vfio="iommufd-compat").host("6.12")
    node = host.drivers.nodes[A]
    host.unbind(A)
    host.bind(A)
    assert node == host.drivers.nodes[A]


def test_a_child_uses_the_same_iommufd():
    host, fd, _ = opened("6.12", None, A)
    child = host.process.fork("P")
    assert 2 == child.descriptors[fd.fd].ioas_alloc()
    assert fd.context.ioas(2) is not None


# by number


def test_a_programs_bytes_do_what_the_calls_do():
    host, fd, device = opened("6.12", None, A)
    data = bytearray(uapi.IoasAlloc().pack())
    assert 0 == fd.ioctl(NUMBERS["IOMMU_IOAS_ALLOC"], data)
    assert 2 == uapi.IoasAlloc.unpack(data).out_ioas_id
    data = bytearray(uapi.IoasMap(ioas_id=2, flags=6, user_va=vaddr(host), length=PAGE).pack())
    fd.ioctl(NUMBERS["IOMMU_IOAS_MAP"], data)
    assert PAGE == uapi.IoasMap.unpack(data).iova
    data = bytearray(uapi.AttachPt(pt_id=2).pack())
    device.ioctl(NUMBERS["VFIO_DEVICE_ATTACH_IOMMUFD_PT"], data)
    assert 3 == uapi.AttachPt.unpack(data).pt_id
    data = bytearray(uapi.IoasUnmap(ioas_id=2, length=uapi.ALL).pack())
    fd.ioctl(NUMBERS["IOMMU_IOAS_UNMAP"], data)
    assert PAGE == uapi.IoasUnmap.unpack(data).length
    data = bytearray(uapi.Option(option_id=1, object_id=2).pack())
    fd.ioctl(NUMBERS["IOMMU_OPTION"], data)
    assert 1 == uapi.Option.unpack(data).val64
    assert 0 == device.ioctl(NUMBERS["VFIO_DEVICE_DETACH_IOMMUFD_PT"], bytearray(uapi.DetachPt().pack()))


def test_ranges_come_back_behind_the_struct_and_how_many_there_are_also_with_emsgsize():
    _, fd, device = opened("6.12", None, A)
    device.attach(fd.ioas_alloc())
    data = bytearray(uapi.IovaRanges(ioas_id=2, num_iovas=4).pack() + bytes(4 * 16))
    fd.ioctl(NUMBERS["IOMMU_IOAS_IOVA_RANGES"], data)
    assert (2, PAGE) == ((told := uapi.IovaRanges.unpack(data)).num_iovas, told.out_iova_alignment)
    assert (0xFEF0_0000, (1 << 39) - 1) == ((pair := uapi.IovaRange.unpack(data[48:])).start, pair.last)
    data = bytearray(uapi.IovaRanges(ioas_id=2, num_iovas=1).pack() + bytes(16))
    with refused("EMSGSIZE"):
        fd.ioctl(NUMBERS["IOMMU_IOAS_IOVA_RANGES"], data)
    assert (2, 0xFEDF_FFFF) == (uapi.IovaRanges.unpack(data).num_iovas, uapi.IovaRange.unpack(data[32:]).last)


def test_ranges_to_be_allowed_lie_behind_the_struct():
    _, fd = opened()
    head, pair = uapi.AllowIovas(ioas_id=fd.ioas_alloc(), num_iovas=1).pack(), uapi.IovaRange(0x1000, 0x1FFF).pack()
    fd.ioctl(NUMBERS["IOMMU_IOAS_ALLOW_IOVAS"], bytearray(head + pair))
    assert ["0x1000-0x1fff"] == [str(span) for span in fd.context.ioas(1).allowed]
    with refused("EFAULT"):
        fd.ioctl(NUMBERS["IOMMU_IOAS_ALLOW_IOVAS"], bytearray(head + pair[:15]))


@pytest.mark.parametrize(("kernel", "known"), [("6.6", 24), ("6.7", 40), ("6.12", 48)])
def test_a_struct_may_be_longer_than_the_kernel_knows_if_the_rest_is_0(kernel, known):
    _, fd, _ = opened(kernel, None, A)
    fd.ioas_alloc()
    data = bytearray(uapi.HwptAlloc(size=56, dev_id=1, pt_id=2).pack() + bytes(8))
    fd.ioctl(NUMBERS["IOMMU_HWPT_ALLOC"], data)
    assert 3 == uapi.HwptAlloc.unpack(data).out_hwpt_id
    data[known] = 1
    with refused("E2BIG"):
        fd.ioctl(NUMBERS["IOMMU_HWPT_ALLOC"], data)


@pytest.mark.parametrize(
    ("kernel", "number", "errno"),
    [("6.2", "IOMMU_HWPT_ALLOC", "ENOTTY"), ("6.6", "IOMMU_HWPT_ALLOC", "EFAULT"), ("6.2", "IOMMU_OPTION", "EFAULT")],
)
def test_a_kernel_has_the_ioctls_of_its_version(kernel, number, errno):
    host = replace(intel(), vfio="iommufd-compat").host(kernel)
    fd = host.process.open_iommufd()
    with refused(errno, host):
        fd.ioctl(NUMBERS[number])


def test_an_ioctl_that_the_kernel_has_and_the_model_has_not_gets_no_invented_errno():
    _, fd = opened()
    with pytest.raises(NotModelledError, match="0x3b8a"):
        fd.ioctl(0x3B8A, bytearray(40))


def test_a_node_that_is_not_tied_answers_einval_to_every_other_number():
    host = replace(intel(), vfio="iommufd-compat").host("6.12")
    device = host.process.open_cdev(A)
    for number in (*IOCTLS["cdev"], 0x3BFF):
        if number != NUMBERS["VFIO_DEVICE_BIND_IOMMUFD"]:
            with refused("EINVAL", host):
                device.ioctl(number)


def test_random_bytes_meet_an_answer_and_no_traceback():
    host, fd, device = opened("6.12", None, A)
    device.attach(fd.ioas_alloc())
    rng = random.Random(1)
    rows = [(descriptor, row) for descriptor in (fd, device) for row in IOCTLS[descriptor.KIND].values()]
    for _ in range(4000):
        descriptor, row = rng.choice(rows)
        size = rng.choice((0, 3, 8, 12, 24, 40, 48, 64))
        words = [size, *(rng.choice((0, 1, 2, PAGE, 7, 0xFFFFFFFF)) for _ in range(16))]
        data = bytearray(b"".join(word.to_bytes(4, "little") for word in words))
        with suppress(Refusal):
            descriptor.ioctl(row.number, data[: rng.choice((0, 4, size, 68))] if row.struct else rng.choice((0, 1, 3)))
        invariants(host)


# walks and traces


class Native:
    """A walk over the native verbs; `pick(sequence)` chooses."""

    def __init__(self, host, pick):
        self.host, self.pick, self.outcomes = host, pick, {}
        self.process = host.process
        for _ in range(2):
            self.process.open_iommufd()

    def of(self, kind):
        found = [one for one in self.process.descriptors.values() if isinstance(one, kind)]
        return self.pick(found) if found else None

    def step(self):
        verb, before, outcome = self.pick(self.WORDS), snapshot(self.host), "0"
        try:
            getattr(self, f"do_{verb}")()
        except (VfioError, NotModelledError) as error:
            outcome = getattr(error, "name", "?")
        if outcome != "0" and verb != "unmap":  # what was removed before a mapping that sticks out stays removed
            assert {} == differing(before, snapshot(self.host)), f"{verb} was refused: {outcome}"
        self.outcomes[verb, outcome] = self.outcomes.get((verb, outcome), 0) + 1
        invariants(self.host)

    OFTEN = ("map", "map", "map", "unmap", "copy", "alloc", "destroy", "ranges", "allow", "hwpt", "option", "vfio")
    SELDOM = ("open", "tie", "attach", "attach", "attach", "detach", "close", "group", "join", "join", "device", "device")
    WORDS = (*OFTEN, *OFTEN, *SELDOM, "container", "capability", "irqs", "dma")

    def number(self, kind=None, fd=None):
        """Choose an object's number, one of the kind of some iommufd mostly."""
        fds = [fd] if fd else [one for one in self.process.descriptors.values() if isinstance(one, Iommufd)]
        found = [number for one in fds for number, made in one.context.objects.items() if kind is None or isinstance(made, kind)]
        return self.pick(found) if found and self.pick((True,) * 5 + (False,)) else self.pick(range(8))

    def do_map(self):
        iova = self.pick((None, None, *IOVAS))
        vaddr_ = vaddr(self.host) + self.pick((0, 0, PAGE, 0x800, 1 << 40))
        fd = self.of(Iommufd)
        fd.ioas_map(self.number(Ioas, fd), vaddr_, self.pick(SIZES), iova, self.pick((6, 6, 4, 2, 0, 8)))

    def do_unmap(self):
        fd = self.of(Iommufd)
        fd.ioas_unmap(self.number(Ioas, fd), *self.pick(((), (self.pick(IOVAS), self.pick(SIZES)))))

    def do_copy(self):
        fd = self.of(Iommufd)
        source, target, iova = self.number(Ioas, fd), self.number(Ioas, fd), self.pick((None, *IOVAS))
        areas = fd.context.ioas(source).areas if fd.context.ioas(source) else []
        area = self.pick(areas) if areas else None
        place = (area.iova, area.size) if area else (self.pick(IOVAS), self.pick(SIZES))
        fd.ioas_copy(target, source, *place, iova, self.pick((6, 4, 4)))

    def do_alloc(self):
        self.of(Iommufd).ioas_alloc()

    def do_destroy(self):
        self.of(Iommufd).destroy(self.number())

    def do_ranges(self):
        self.of(Iommufd).ioas_iova_ranges(self.number(Ioas), self.pick((0, 1, 8)))

    def do_allow(self):
        self.of(Iommufd).ioas_allow_iovas(
            self.number(Ioas), *self.pick(((), ((0, (1 << 32) - 1),), ((0x10000, 0x1FFFF), (0x20000, 0x2FFFF)), ((5, 4),)))
        )

    def do_hwpt(self):
        fd = self.of(Iommufd)
        fd.hwpt_alloc(self.number(Bound, fd), self.number(Ioas, fd))

    def do_option(self):
        self.of(Iommufd).option(self.pick((0, 1, 2)), self.pick((None, 0, 1, 2)), self.number())

    def do_vfio(self):
        self.of(Iommufd).vfio_ioas(self.pick((None, self.number())), clear=self.pick((True, False, False)))

    def do_open(self):
        self.process.open_cdev(self.pick((A, B, *PAIR)))

    def do_tie(self):
        device = self.of(Cdev)
        if device is not None:
            device.bind_iommufd(self.of(Iommufd))

    def do_attach(self):
        device = self.of(Cdev)
        if device is not None:
            device.attach(self.number((Ioas, Hwpt)))

    def do_detach(self):
        device = self.of(Cdev)
        if device is not None:
            device.detach()

    def do_close(self):
        one = self.pick(list(self.process.descriptors.values()))
        one.close()
        if self.of(Iommufd) is None:
            self.process.open_iommufd()

    def do_group(self):
        group(self.host, self.pick((A, B, *PAIR)))

    def do_join(self):
        member = self.of(Group)
        if member is not None:
            member.set_container(self.of(Iommufd))

    def do_device(self):
        member = self.of(Group)
        if member is not None:
            member.get_device_fd(self.pick((A, B, *PAIR)))

    def do_container(self):
        fd = self.of(Iommufd)
        self.pick((lambda: fd.map_dma(self.pick(IOVAS), PAGE, vaddr(self.host)), fd.unmap_dma, lambda: fd.set_iommu(self.pick((1, 3)))))()

    def do_capability(self):
        self.pick((self.process.drop_capability, self.process.restore_capability))()

    def do_irqs(self):
        device = self.of(Cdev)
        if device is not None:
            device.set_irqs(1, 0, self.pick((0, 1)))

    def do_dma(self):
        delivery.write(self.host, self.pick((A, B)), self.pick((0, PAGE, 0x10000, 0x20_0000)))


def walk(seed):
    rng = random.Random(seed)
    machine = intel({"width": 39, "snoop_control": bool(seed % 2)}, {"width": 48}) if seed % 3 else arm({}, {})
    walked = Native(replace(machine, vfio="iommufd-compat").host(rng.choice(("6.6", "6.8", "6.12", "6.13", "7.3"))), rng.choice)
    for _ in range(120):
        walked.step()
    return walked


def test_whatever_is_called_the_invariants_hold_and_a_refusal_changes_nothing():
    outcomes = set()
    for seed in range(30):
        outcomes |= set(walk(seed).outcomes)
    done = {verb for verb, outcome in outcomes if outcome == "0"}
    assert set(Native.WORDS) == done


@pytest.mark.parametrize("seed", range(100, 112))
def test_a_trace_of_native_calls_is_written_read_and_replayed_with_the_same_answers(seed):
    walked = walk(seed)
    host, fresh = walked.host, walked.host.machine.host(walked.host.kernel)
    (scenario,) = read_trace(write_trace(host))
    client = Client(fresh)
    for operation, answer in zip(scenario.operations, scenario.answers, strict=True):
        done = client.do(operation)
        if answer is not None:
            assert answer.result == done.result, f"{operation.text}: {done.why}"
    assert_same(host, fresh)
    assert write_trace(host).split("\n")[1:] == write_trace(fresh).split("\n")[1:]


def test_every_ioctl_of_the_table_has_its_row_its_operation_and_its_verb():
    assert {row.ioctl for row in VERBS.values()} == {row.name for row in IOCTLS["iommufd"].values()} - {
        row.name for row in IOCTLS["container"].values()
    }
    assert set() == {f"_do_{verb}" for verb in VERBS} - set(dir(Client))


@pytest.mark.parametrize(
    "value", [-1, 1 << 31, 1 << 64, -(1 << 64), True, 1.5, "1", None, b"y", object()], ids=lambda one: repr(one).partition(" at 0x")[0]
)
@pytest.mark.parametrize(
    ("kind", "verb"),
    [(kind, name) for kind in (Iommufd, Cdev) for name in vars(kind) if inspect.isfunction(vars(kind)[name]) and name[0] != "_"],
)
def test_each_argument_at_its_edges_is_answered_or_refused_clearly(kind, verb, value):
    host, fd, device = opened("6.12", None, A)
    device.attach(fd.ioas_alloc())
    good = {
        "number": 2,
        "ioas": 2,
        "vaddr": vaddr(host),
        "length": PAGE,
        "source": 2,
        "source_iova": 0,
        "device": 1,
        "option": 1,
        "cmd": 0x3BFF,
    }
    bound = inspect.signature(getattr(device if kind is Cdev else fd, verb))
    for name, parameter in bound.parameters.items():
        if verb == "ask" or parameter.kind is parameter.VAR_POSITIONAL:
            continue
        before = snapshot(host)
        args = {one: good[one] for one, other in bound.parameters.items() if one in good and other.default is other.empty}
        said = "done"
        try:
            getattr(device if kind is Cdev else fd, verb)(**args | {name: value})
        except (Refusal, TypeError, ValueError) as error:
            said = str(error)
        assert said == "done" or (said and before == snapshot(host)), f"{verb}({name}={value!r}): {said}"
        invariants(host)
        if not device.is_open or fd.context.ioas(2) is None or device.file.bound.hwpt is None:
            return


def test_an_address_space_has_a_picture():
    host, fd, device = opened("6.12", None, A)
    device.attach(fd.ioas_alloc())
    fd.ioas_map(2, vaddr(host), GIB, 0x4000_0000, name="guest RAM")
    assert "guest RAM" in to_text(iova_map(fd.context.ioas(2)))


@pytest.mark.parametrize("verb", ["bind", "attach", "detach"])
def test_a_flag_that_newer_kernels_know_is_einval_up_to_the_newest_that_was_read_and_no_invented_errno_after_it(verb):
    for kernel, kind, words in (("6.12", vl.VfioError, "EINVAL"), ("7.3", vl.NotModelledError, "a token or a PASID")):
        host = vl.load("intel-vtd-iommufd", kernel)
        host.bind("0000:01:00.0")
        fd, device = host.process.open_iommufd(), host.process.open_cdev("0000:01:00.0")
        if verb != "bind":
            device.bind_iommufd(fd)
        calls = {
            "bind": partial(device.bind_iommufd, fd),
            "attach": partial(device.attach, fd.ioas_alloc()),
            "detach": device.detach,
        }
        with pytest.raises(kind, match=words):
            calls[verb](flags=1)
