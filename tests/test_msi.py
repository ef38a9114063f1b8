"""Messages and doorbells: what SET_IRQS programs, which page is mapped where, by version, controller and page size."""

from __future__ import annotations

from dataclasses import replace

import pytest
from recorded import machine

import vfiolab as vl
from vfiolab._paths import data_dir
from vfiolab.client import Client
from vfiolab.model.address import Span
from vfiolab.model.builder import GICV2M, MachineBuilder
from vfiolab.model.iommu.unit import SOFTWARE_MSI, IommuUnit
from vfiolab.model.irq.msi import InterruptController
from vfiolab.model.kernel import Kernel
from vfiolab.readers.trace import read_trace_file

A, B, C = "0000:01:00.0", "0000:02:00.0", "0000:03:00.0"
V2M = InterruptController("gicv2m", 0x2C1C0040)
ITS = InterruptController("gicv3-its", 0x2F030040)


def host(*, kernel="6.12", controller=ITS, v2m=(), page_size=0x1000, unit="arm-smmu-v3", **facts):
    m = vl.MachineBuilder("msi", page_size=page_size)
    smmu = m.unit("unit0", kind=unit, **facts)
    m.interrupts(controller)
    if v2m:
        m.interrupts(replace(V2M, devices=frozenset(v2m)))
    for n, device in enumerate((A, B, C), 1):
        m.endpoint(device, below=m.root_port(f"00:0{n}.0", unit=smmu))
    return m.host(kernel)


def attached(it, *devices, unsafe=False):
    if unsafe:
        it.set_param("vfio_iommu_type1.allow_unsafe_interrupts", "Y")
    space = it.address_space()
    space.attach(*(devices or (A,)))
    return space


def events(space, kind):
    return [str(event) for event in space.log.events if event.kind == kind]


# doorbell pages


def test_several_doorbells_take_the_next_page_of_the_window_and_devices_share_them():
    space = attached(host(v2m=[A]), A, B, C, unsafe=True)
    for device in (A, B, C):
        space.enable_msi(device, index=1)
    assert [0x800_0040, 0x800_1040, 0x800_1040] == [row["address"] for row in space.messages]
    assert ["msi_map D1 0x800_0000 0x2c1c_0000 0x1000 26", "msi_map D1 0x800_1000 0x2f03_0000 0x1000 26"] == events(space, "msi_map")


def test_in_another_order_the_same_doorbells_lie_at_other_iovas():
    space = attached(host(v2m=[A]), A, B, unsafe=True)
    space.enable_msi(B)
    space.enable_msi(A)
    assert {B: 0x800_0040, A: 0x800_1040} == {row["device"]: row["address"] for row in space.messages}


@pytest.mark.parametrize(("page", "message", "size", "second"), [
    (0x1000, 0x8000040, 0x1000, 0x8001040), (0x4000, 0x8000040, 0x4000, 0x8004040), (0x10000, 0x8000040, 0x10000, 0x8010040),
])  # fmt: skip
def test_a_doorbell_page_has_the_size_of_the_cpus_page(page, message, size, second):
    granules = 0x40201000 | 0x02004000 | 0x20010000
    space = attached(host(page_size=page, page_sizes=granules, v2m=[B]), A, B, unsafe=True)
    for device in (A, B):
        space.enable_msi(device)
    bells = space.domains[0].doorbells
    assert [message, second] == space.messages["address"]
    assert [(SOFTWARE_MSI.start, size), (SOFTWARE_MSI.start + size, size)] == [(bell.iova, bell.size) for bell in bells]


def test_with_large_pages_the_offset_within_the_page_stays_in_the_message_and_the_page_is_shared():
    frame = InterruptController("gicv3-its", 0x8091040)
    space = attached(host(page_size=0x10000, controller=frame, page_sizes=0x20010000), A, B)
    space.enable_msi(A)
    space.enable_msi(B)
    assert [0x8090000] == [bell.physical for bell in space.domains[0].doorbells]
    assert [0x800_1040, 0x800_1040] == [row["address"] for row in space.messages]


def test_each_domain_has_its_own_cookie_and_only_the_asking_devices_domain_gets_the_page():
    space = vl.load("two-smmu-server").address_space()
    space.attach(A, "0000:21:00.0")
    space.enable_msi(A)
    assert {1: 1, 2: 0} == {domain.number: len(domain.doorbells) for domain in space.domains}
    space.enable_msi("0000:21:00.0")
    assert {0x8000000} == {bell.iova for domain in space.domains for bell in domain.doorbells}


def test_the_page_outlives_interrupts_devices_and_unmap_all_and_dies_with_the_domain():
    space = attached(host(), A, B)
    space.enable_msi(A)
    space.open(A).set_irqs(2, 0, 0)
    space.unmap_all()
    space.detach(A)
    assert 1 == len(space.domains[0].doorbells)
    space.detach(B)
    space.attach(A)
    assert () == space.domains[0].doorbells
    assert [] == events(space, "unmap")


def test_the_allocator_does_not_test_the_end_of_its_window():
    it = host()
    space = attached(it)
    core, domain = it.core, space.domains[0]
    last = [core.doorbells.requested(domain, None, 0x10_0000_0000 + n * 0x1000).address for n in range(257)][-1]
    assert SOFTWARE_MSI.end == last


@pytest.mark.parametrize(("kernel", "cookies"), [("4.4", 0), ("4.10", 0), ("4.11", 1), ("7.3", 1)])
def test_domains_have_a_cookie_from_4_11_on(kernel, cookies):
    assert cookies == len(events(attached(host(kernel=kernel)), "msi_cookie"))


# regions


def test_an_smmu_reports_the_software_window_and_a_hardware_region_beside_it_from_4_15():
    unit = IommuUnit(name="u", kind="arm-smmu-v3", hardware_msi=Span(0xC6010000, 0xC6020000))
    assert ["sw-msi"] == [region.kind for region in unit.reserved(Kernel("4.12"))]
    assert ["sw-msi", "msi"] == [region.kind for region in unit.reserved(Kernel("4.15"))]


def test_a_hardware_region_overrides_the_software_window():
    space = attached(host(hardware_msi=(0x2F030000, 0x2F03FFFF)))
    space.enable_msi(A)
    assert ([], [], 0x2F03_0040) == (events(space, "msi_cookie"), events(space, "msi_map"), space.messages[0]["address"])


def test_both_regions_are_holes_all_the_same():
    space = attached(host(hardware_msi=(0x2F030000, 0x2F03FFFF)))
    assert [Span(0, 0x8000000), Span(0x8100000, 0x2F030000), Span(0x2F040000, 1 << 48)] == list(space.iova_ranges)


def test_a_virtio_iommu_on_arm_that_declares_the_doorbells_page_gets_no_window_and_no_cookie():
    space = attached(host(unit="virtio-iommu", translates_msi=True, hardware_msi=(0x2F030000, 0x2F03FFFF)))
    space.enable_msi(A)
    assert ["0x2f03_0000-0x2f03_ffff msi"] == [str(region) for region in space.host.group_of(A).reserved]
    assert ([], [], 0x2F030040) == (events(space, "msi_cookie"), events(space, "msi_map"), space.raise_msi(A).physical)


def test_a_virtio_iommu_on_arm_that_declares_nothing_reports_the_software_window_and_gives_a_cookie():
    space = attached(host(unit="virtio-iommu", translates_msi=True))
    space.enable_msi(A)
    assert ["msi_cookie D1 0x800_0000"] == events(space, "msi_cookie")
    assert "delivered" == space.raise_msi(A).outcome


def test_a_virtio_iommu_on_x86_reports_the_hardware_window():
    m = MachineBuilder("x86 guest")
    m.endpoint("01:00.0", below=m.root_port("00:01.0", unit=m.unit("v", kind="virtio-iommu")))
    assert "0xfee0_0000-0xfeef_ffff msi" == str(m.host("6.12").groups[0].reserved[0])


def test_only_an_smmu_or_a_virtio_iommu_can_translate_messages():
    with pytest.raises(ValueError, match="MSIs behind intel-vtd are not translated"):
        IommuUnit(name="u", kind="intel-vtd", translates_msi=True)


# conflicts between what is mapped and where messages go (semantics of 5.4 and later)


REGIONS = {
    "x86": ({"unit": "intel-vtd", "controller": InterruptController("x86-apic")}, [0xFEE00000, 0xFEEFFFFF]),
    "AMD": ({"unit": "amd-vi", "controller": InterruptController("x86-apic")}, [0xFEE00000, 0xFEEFFFFF, 0xFD00000000, 0xFFFFFFFFFF]),
    "SMMU": ({}, [0x8000000, 0x80FFFFF]),
    "HiSilicon": ({"hardware_msi": (0x2F030000, 0x2F03FFFF)}, [0x8000000, 0x80FFFFF, 0x2F030000, 0x2F03FFFF]),
    "virtio on Arm": ({"unit": "virtio-iommu", "translates_msi": True}, [0x8000000, 0x80FFFFF]),
}
EDGES = [pytest.param(facts, edge, id=f"{name} {edge:#x}") for name, (facts, edges) in REGIONS.items() for edge in edges]


@pytest.mark.parametrize(("facts", "edge"), EDGES)
def test_a_map_on_the_regions_first_or_last_page_is_refused_and_beside_it_is_not(facts, edge):
    space = attached(host(**facts))
    with pytest.raises(vl.VfioError, match=r"EINVAL: .* overlaps the"):
        space.map(edge & -0x1000, "4K")
    space.map((edge & -0x1000) + (0x1000 if edge & 1 else -0x1000), "4K")


@pytest.mark.parametrize(("facts", "edge"), EDGES)
def test_memory_that_was_there_first_keeps_the_group_out_and_stays(facts, edge):
    m = vl.MachineBuilder("memory first")
    facts = {"unit": "arm-smmu-v3", "controller": ITS, **facts}
    kind, controller = facts.pop("unit"), facts.pop("controller")
    m.interrupts(controller)
    m.endpoint(A, below=m.root_port("00:01.0", unit=m.unit("unit0", kind=kind, **facts)))
    m.mdev("mdev0")
    space = m.host("6.12").address_space()
    space.attach("mdev0")
    space.map(edge & -0x1000, "4K", "RAM")
    with pytest.raises(vl.VfioError, match=r"EINVAL: the mapping .* overlaps the"):
        space.attach(A)
    assert (1, []) == (len(space.mappings), space.domains)
    space.unmap_all()
    space.attach(A)


# isolation


@pytest.mark.parametrize("kernel", ["4.11", "6.2"])
def test_up_to_6_2_one_frame_that_checks_nobody_makes_every_group_unsafe(kernel):
    it = host(kernel=kernel, v2m=[A])
    for device in (A, B):
        with pytest.raises(vl.VfioError, match="EPERM"):
            attached(it, device)


def test_from_6_6_on_each_group_is_judged_by_its_own_doorbell():
    it = host(kernel="6.6", v2m=[A])
    with pytest.raises(vl.VfioError, match="EPERM"):
        attached(it, A)
    assert 1 == len(attached(it, B).domains)


@pytest.mark.parametrize("kernel", ["4.4", "4.10"])
def test_up_to_4_10_smmu_drivers_claim_to_remap_so_a_gicv2m_host_attaches(kernel):
    assert 1 == len(attached(host(kernel=kernel, controller=GICV2M)).domains)


def test_a_cpus_page_is_one_of_three():
    with pytest.raises(ValueError, match="4, 16 or 64 KiB"):
        MachineBuilder("odd", page_size=8192)


# messages beside recorded ones


def enabled(answer):
    """List (address, data) of each vector that a recorded device has enabled; empty if nothing is."""
    for cap in answer.output["caps"]:
        if cap["enabled"]:
            entries = [entry for entry in cap["table"] if not entry["ctl"] & 1] if cap["cap"] == "MSIX" else [cap]
            return [(entry["addr"], entry["data"]) for entry in entries]
    return []


def programmed(capture):
    """Return what a recorded kernel had programmed into a device, and the model's messages at the same place of the same scenario."""
    environment = {"its": "errors", "gicv2m": "smmu1gicv2m"}[capture.split("-")[1]] + "-" + capture.split("-")[2]
    pairs = []
    for scenario in read_trace_file(data_dir() / "captures" / f"{capture}.trace"):
        client = Client(machine(environment).host())
        for operation, answer in zip(scenario.operations, scenario.answers, strict=True):
            client.do(operation)
            if operation.verb == "host_msi":
                irqs = client.process.irqs.get(operation.args["dev"])
                pairs.append((enabled(answer), [(m.address, m.data) for m in irqs.messages.values()] if irqs else []))
    return pairs


@pytest.mark.parametrize("capture", ["messages-its-6.1.0", "messages-its-6.12", "messages-its-7.3.4"])
def test_each_message_that_a_recorded_kernel_programmed_for_an_its_is_the_models(capture):
    pairs = programmed(capture)
    assert [found for found, _ in pairs] == [mine for _, mine in pairs]
    assert [0, 1, 3, 0, 1] == [len(found) for found, _ in pairs]


def test_each_address_that_a_recorded_kernel_programmed_for_a_gicv2m_is_the_models():
    pairs = programmed("messages-gicv2m-6.12")
    assert [[address for address, _ in found] for found, _ in pairs] == [[address for address, _ in mine] for _, mine in pairs]
    assert any(found for found, _ in pairs)


def test_the_spi_numbers_of_a_frame_are_the_models_own_and_lie_in_the_frame():
    for found, mine in programmed("messages-gicv2m-6.12"):
        assert all(80 <= data <= 143 for _, data in (*found, *mine))


@pytest.mark.parametrize(("kernel", "live"), [("6.1", [0, 1]), ("6.12", [])])
def test_a_refused_larger_block_leaves_the_vectors_masked_from_6_12_on(kernel, live):
    space = vl.load("one-smmu-its", kernel).address_space()
    space.attach(A)
    space.enable_msi(A, 2)
    with pytest.raises(vl.VfioError, match="vector 2 is not among them"):
        space.enable_msi(A, 3)
    assert live == list(space.process.irqs[A].messages)
    space.enable_msi(A, 1)
    assert [0, *live[1:]] == list(space.process.irqs[A].messages)


@pytest.mark.parametrize(("name", "kernel", "recorded", "varies"), [
    ("intel-vtd-39bit", "6.1", (0xFEE00518, 0), 0xFFFE0),
    ("intel-vtd-39bit", "4.4", (0xFEE00338, 0), 0xFFFE0),
    ("amd-vi-server", "6.1", (0xFEE00000, 0), 0),
])  # fmt: skip
def test_a_remapped_message_has_the_form_that_was_recorded(name, kernel, recorded, varies):
    space = vl.load(name, kernel).address_space()
    space.attach(A)
    space.enable_msi(A, index=1)
    message = space.process.irqs[A].messages[0]
    assert (recorded[0] & ~varies, recorded[1]) == (message.address & ~varies, message.data)
