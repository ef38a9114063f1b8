"""Module parameters: which a kernel has; and what a version is."""

from dataclasses import replace

import pytest
from model_steps import LIMIT, intel, refused, with_params

from vfiolab.model.address import parse_size
from vfiolab.model.kernel import NEWEST, Kernel

NOIOMMU = "vfio.enable_unsafe_noiommu_mode"


def test_the_limit_of_mappings_is_no_parameter_before_it_came():
    host = intel().host("4.4")
    with refused("ENOENT", host):
        host.get_param(LIMIT)
    with refused("ENOENT"):
        host.set_param(LIMIT, 7)
    assert "65535" == intel().host("5.3").get_param(LIMIT)


def test_what_was_recorded_of_a_kernel_stays_on_that_kernel():
    machine = replace(with_params(intel(), **{LIMIT: "9"}), kernel="4.4")
    assert "9" == machine.host().get_param(LIMIT)
    with refused("ENOENT"):
        machine.host("4.15").get_param(LIMIT)


def test_no_iommu_mode_can_be_switched_on_from_4_5():
    with refused("ENOENT"):
        intel().host("4.4").set_param(NOIOMMU, "Y")
    host = intel().host("4.5")
    assert not host.drivers.noiommu_mode
    host.set_param(NOIOMMU, "Y")
    assert host.drivers.noiommu_mode


def test_a_version_newer_than_any_seen_is_in_doubt():
    assert () == Kernel(NEWEST).doubts
    assert ("kernel 8.0 is newer than 7.3, the newest that was looked at: taken as 7.3",) == Kernel("8.0").doubts


@pytest.mark.parametrize("release", [6.10, 6, None, (6, 1)])
def test_a_version_is_a_text_because_6_10_is_not_6_1(release):
    with pytest.raises(TypeError, match="a kernel version is a text"):
        Kernel(release)


def test_digits_of_other_scripts_are_no_numbers():
    with refused("EINVAL"):
        intel().host("6.12").set_param(LIMIT, "٣")
    with pytest.raises(ValueError, match="cannot read a kernel version"):
        Kernel("٦.١")
    with pytest.raises(ValueError, match="cannot read a size"):
        parse_size("٤٠٩٦")
