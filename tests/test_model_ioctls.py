"""Ioctls by their numbers: the same answers as by name, as far as a call without a pointer goes."""

from dataclasses import replace

import pytest
from model_steps import A, container, group, intel, refused

GET_INFO, MAP, UNMAP, DIRTY_PAGES = 0x3B70, 0x3B71, 0x3B72, 0x3B75
ALWAYS = {GET_INFO: "EFAULT", MAP: "EFAULT", UNMAP: "EFAULT"}


@pytest.mark.parametrize(
    ("kernel", "layer", "expected"),
    [
        ("5.7", False, ALWAYS | {DIRTY_PAGES: "ENOTTY"}),
        ("5.8", False, ALWAYS | {DIRTY_PAGES: "EFAULT"}),
        ("6.12", True, ALWAYS | {DIRTY_PAGES: "ENOTTY"}),
    ],
)
def test_a_containers_ioctls_with_a_pointer_that_cannot_be_read(kernel, layer, expected):
    host = (replace(intel(), vfio="iommufd-compat") if layer else intel()).host(kernel)
    opened = container(host, A)
    for number, errno in expected.items():
        with refused(errno, host):
            opened.ioctl(number)


@pytest.mark.parametrize("number", [*ALWAYS, DIRTY_PAGES])
def test_without_a_backend_they_are_invalid(number):
    host = intel().host("6.12")
    opened = host.process.open_container()
    with refused("EINVAL", host):
        opened.ioctl(number)


def test_a_group_leaves_its_container_by_number_too():
    host = intel().host("6.12")
    opened = host.process.open_container()
    member = group(host, A, opened)
    assert 0 == member.ioctl(0x3B69)
    assert [] == opened.groups
    assert "unset_container" == host.log.calls[-1].verb
    with refused("EINVAL", host):
        member.ioctl(0x3B69)


@pytest.mark.parametrize(("number", "errno"), [(0x3B67, "EFAULT"), (0x3B68, "EFAULT"), (0x3B6A, "EFAULT"), (0x3B70, "ENOTTY")])
def test_a_groups_ioctls_with_a_pointer_that_cannot_be_read(number, errno):
    host = intel().host("6.12")
    member = group(host, A)
    with refused(errno, host):
        member.ioctl(number)


def test_set_irqs_by_number():
    host = intel().host("6.12")
    opened = host.process.open_container()
    member = group(host, A, opened)
    opened.set_iommu()
    device = member.get_device_fd(A)
    with refused("EFAULT", host):
        device.ioctl(0x3B6E)
