"""The line that the host's kernel logs of a request that an IOMMU faults: each unit's own, each kernel's own, shown to the learner."""

import pytest

import vfiolab as vl
from vfiolab.model.irq.faultlog import dma_fault
from vfiolab.model.kernel import Kernel

VTD = {
    "4.4": "DMAR: DMAR:[DMA Write] Request device [01:00.0] fault addr 4000 \nDMAR:[fault reason 05] PTE Write access is not set",
    "5.10": "DMAR: [DMA Write] Request device [01:00.0] PASID ffffffff fault addr 4000 [fault reason 05] PTE Write access is not set",
    "6.12": "DMAR: [DMA Write NO_PASID] Request device [01:00.0] fault addr 0x4000 [fault reason 0x05] PTE Write access is not set",
}


def attached(machine, kernel, device="01:00.0"):
    space = vl.load(machine, kernel=kernel).address_space()
    space.attach(device)
    return space


@pytest.mark.parametrize("kernel", VTD)
def test_vt_d_logs_a_write_to_what_nobody_mapped_by_page(kernel):
    assert VTD[kernel] == attached("intel-vtd-39bit", kernel).dma_write("01:00.0", 0x4321, 1).logged


def test_vt_d_tells_a_read_from_a_write_and_a_place_past_the_width_from_an_empty_one():
    space = attached("intel-vtd-39bit", "6.12")
    assert "[DMA Read NO_PASID]" in space.dma_read("01:00.0", 0x4321).logged
    assert "[fault reason 0x06] PTE Read access is not set" in space.dma_read("01:00.0", 0x4321).logged
    assert "[fault reason 0x04] Access beyond MGAW" in space.dma_write("01:00.0", 1 << 40, 1).logged


def test_a_write_to_memory_mapped_for_reading_is_logged_as_missing_the_right():
    space = attached("amd-vi-server", "6.1")
    space.map(0x1_0000, "4K", rights="r")
    assert "flags=0x0070]" in space.dma_write("01:00.0", 0x1_0000, 1).logged
    assert "flags=0x0020]" in space.dma_write("01:00.0", 0x9_0000, 1).logged
    assert "flags=0x0000]" in space.dma_read("01:00.0", 0x9_0000).logged


def test_amd_vi_names_the_driver_on_new_kernels_and_is_silent_where_its_line_was_not_read():
    at = {"device": "0000:0a:00.0", "driver": "vfio-pci", "address": 0x637C000, "write": False, "mapped": False, "beyond": False}
    lines = [dma_fault(Kernel(version), "amd-vi", "ivhd0", **at) for version in ("4.4", "4.19", "6.1")]
    assert [
        "AMD-Vi: Event logged [IO_PAGE_FAULT device=0a:00.0 domain=0x.... address=0x000000000637c000 flags=0x0000]",
        "",
        "vfio-pci 0000:0a:00.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x.... address=0x637c000 flags=0x0000]",
    ] == lines


def test_an_smmu_prints_the_event_with_the_stream_and_the_iova():
    space = attached("two-smmu-server", "6.12")
    lines = space.dma_write("01:00.0", 0x4000_0000, 1).logged.splitlines()
    unit = space.host.group_of("01:00.0").unit.name
    assert [f"arm-smmu-v3 {unit}: event 0x10 received:", f"arm-smmu-v3 {unit}: \t0x0000010000000010"] == lines[:2]
    assert f"arm-smmu-v3 {unit}: \t0x0000000040000000" == lines[3]


def test_what_arrives_is_not_logged_and_what_does_not_is_shown_with_its_line():
    space = attached("intel-vtd-39bit", "6.12")
    space.map(0x10_0000, "64K")
    assert "" == space.dma_write("01:00.0", 0x10_0000, 1).logged
    assert f"host's log: {VTD['6.12']}" in str(space.dma_write("01:00.0", 0x4321, 1))
