"""One request travels: what the IOMMU, the window, the doorbell and a peer make of it; each step with its reason."""

import random
from contextlib import suppress

import pytest

import vfiolab as vl
from vfiolab.kit import Journey
from vfiolab.model.irq import delivery
from vfiolab.model.irq.delivery import OUTCOMES, PLACES
from vfiolab.model.irq.msi import InterruptController
from vfiolab.model.pci.topology import Acs

NIC = "0000:01:00.0"


def space(machine="one-smmu-its", kernel=None, *devices):
    it = vl.load(machine, kernel).address_space()
    it.attach(*(devices or (NIC,)))
    return it


def kinds(trip):
    return [step.kind for step in trip.steps]


def marked(trip):
    return {step.kind: step.rests for step in trip.steps if step.rests}


# ordinary DMA


def test_a_write_arrives_where_the_page_table_says():
    it = space()
    it.map(0x4000_0000, "1M", "guest RAM")
    trip = it.dma_write(NIC, 0x4000_1234, 7)
    run = it.domains[0].translate(0x4000_1234)
    assert ("memory", run.physical + 0x1234) == (trip.outcome, trip.physical)
    assert "guest RAM + 0x1234" in trip.why


def test_a_read_comes_from_the_same_place():
    it = space()
    it.map(0x4000_0000, "1M")
    assert it.dma_write(NIC, 0x4000_0040).physical == it.dma_read(NIC, 0x4000_0040).physical


def test_an_address_that_nothing_maps_is_a_fault():
    trip = space().dma_write(NIC, 0x5000_0000)
    assert ("fault", None) == (trip.outcome, trip.physical)
    assert "D1 maps nothing at iova 0x5000_0000" == trip.why


@pytest.mark.parametrize(("rights", "verb", "outcome"), [
    ("r", "dma_read", "memory"), ("r", "dma_write", "fault"), ("w", "dma_write", "memory"), ("w", "dma_read", "fault"),
])  # fmt: skip
def test_a_mapping_lets_a_device_do_what_its_rights_say(rights, verb, outcome):
    it = space()
    it.map(0x4000_0000, "4K", rights=rights)
    assert outcome == getattr(it, verb)(NIC, 0x4000_0000).outcome


def test_a_request_across_the_end_of_a_mapping_faults_at_its_first_unmapped_byte():
    it = space()
    it.map(0x4000_0000, "4K")
    trip = it.dma_write(NIC, 0x4000_0FFE, size=4)
    assert "D1 maps nothing at iova 0x4000_1000, which the request reaches" == trip.why


def test_a_request_across_two_neighbours_arrives():
    it = space()
    it.map(0x4000_0000, "4K")
    it.map(0x4000_1000, "4K")
    assert "memory" == it.dma_write(NIC, 0x4000_0FFE, size=4).outcome


def test_past_the_aperture_the_fault_says_so():
    assert "it lies past the aperture 0x0-0xffff_ffff_ffff" in space().dma_write(NIC, 1 << 48).why


def test_a_group_that_is_claimed_and_not_attached_sits_in_a_blocking_domain():
    host = vl.load("one-smmu-its", "6.12")
    process = host.process
    process.open_group(NIC).set_container(process.open_container())
    trip = delivery.write(host, NIC, 0x1000)
    assert ("fault", {"fault": "reading"}) == (trip.outcome, marked(trip))
    assert "blocking domain" in trip.why


def test_a_group_that_nobody_claimed_is_in_its_default_domain_and_that_is_inference():
    trip = delivery.write(vl.load("one-smmu-its", "6.12"), NIC, 0x1000)
    assert {"fault": "inference"} == marked(trip)
    assert "default domain" in trip.why


def test_two_devices_of_two_units_reach_the_same_memory_through_their_own_domains():
    it = space("two-smmu-server", None, NIC, "0000:21:00.0")
    it.map(0x4000_0000, "1M")
    first, second = (it.dma_write(device, 0x4000_0000) for device in (NIC, "0000:21:00.0"))
    assert first.physical == second.physical
    assert first.at("IOMMU")[0].domain != second.at("IOMMU")[0].domain


@pytest.mark.parametrize(("address", "size"), [(-1, 4), (1 << 64, 4), (0, 0), (0, 4097)])
def test_an_address_or_size_that_no_request_has_is_refused(address, size):
    with pytest.raises(ValueError, match=r"one request carries 1 to 4096|a bus address is 0 to"):
        space().dma_write(NIC, address, size=size)


def test_a_device_that_is_not_there_is_named():
    with pytest.raises(ValueError, match=r"0000:99:00\.0 is no PCI function"):
        space().dma_write("0000:99:00.0", 0)


def test_each_fault_is_seen_in_the_iova_map():
    it = space()
    it.dma_write(NIC, 0x5000_0000)
    assert "DMA fault at 0x5000_0000" in it.picture().description


# x86


@pytest.mark.parametrize("machine", ["intel-vtd-39bit", "amd-vi-server"])
def test_with_interrupt_remapping_a_message_names_an_entry_and_is_delivered(machine):
    it = space(machine)
    it.enable_msi(NIC, index=1)
    trip = it.raise_msi(NIC)
    assert "delivered" == trip.outcome
    assert 0xFEE00000 <= trip.address < 0xFEF00000
    assert ["write", "route", "window", "doorbell", "interrupt"] == kinds(trip)


def test_the_window_comes_before_translation_as_the_kernels_documentation_says():
    it = space("intel-vtd-kernel-4.4")
    it.map(0xFEE00000, "1M", "guest RAM")
    trip = it.dma_write(NIC, 0xFEE01000, 0x1234)
    assert ("lost", None) == (trip.outcome, trip.physical)
    assert "translate" not in kinds(trip)
    assert "reading" == marked(trip)["window"]


LOGGED = {
    "4.4": "DMAR: INTR-REMAP: Request device [[01:00.0] fault index ..\nINTR-REMAP:[fault reason 37] {}",
    "4.7": "DMAR: [INTR-REMAP] Request device [01:00.0] fault index .. [fault reason 37] {}",
    "5.13": "DMAR: [INTR-REMAP] Request device [01:00.0] fault index .. [fault reason 37] {}",
    "5.14": "DMAR: [INTR-REMAP] Request device [0x01:0x00.0] fault index 0x.. [fault reason 0x25] {}",
    "5.15": "DMAR: [INTR-REMAP] Request device [01:00.0] fault index 0x.. [fault reason 0x25] {}",
}


@pytest.mark.parametrize("kernel", LOGGED)
def test_with_remapping_the_host_logs_a_write_into_the_window_in_that_kernels_words(kernel):
    trip = space("intel-vtd-39bit", kernel).dma_write(NIC, 0xFEE01000, 0x1234)
    assert "refused" == trip.outcome
    assert LOGGED[kernel].format("Blocked a compatibility format interrupt request") == trip.logged
    assert " ".join(trip.logged.split()) in trip.at("target")[0].why


def test_the_outcome_of_ram_over_the_window_is_lost_although_the_host_logs_the_write():
    it = space("intel-vtd-kernel-4.4")
    it.map(0xFEE00000, "1M")
    trip = it.dma_write(NIC, 0xFEE01000)
    assert ("lost", True) == (trip.outcome, "fault reason 37" in trip.logged)


@pytest.mark.parametrize(("address", "data", "words"), [
    (0xFEE00018, 0, ""),
    (0xFEE00038, 0, "index 0x1 [fault reason 0x26] Blocked an interrupt request due to source-id verification failure"),
    (0xFEE00018, 2, "index 0x2 [fault reason 0x22] Present field in the IRTE entry is clear"),
    (0xFEE00014, 0, "index 0x8000 [fault reason 0x22] Present field in the IRTE entry is clear"),
])  # fmt: skip
def test_the_form_of_the_address_and_the_entry_it_names_decide_the_fault_reason(address, data, words):
    it = space("intel-vtd-39bit", "6.12", NIC, "0000:03:00.0")
    it.enable_msi(NIC)
    it.enable_msi("0000:03:00.0")
    logged = it.dma_write(NIC, address, data).logged
    assert words in logged
    assert bool(words) == bool(logged)


def test_nothing_is_logged_where_nothing_checks_the_sender_and_what_amd_vi_logs_is_not_known():
    assert "" == plain_x86().dma_write(NIC, 0xFEE01004, 0x31).logged
    trip = space("amd-vi-server").dma_write(NIC, 0xFEE01000, 0x31)
    assert ("refused", "") == (trip.outcome, trip.logged)
    assert "what the host logs of it was not read" in trip.at("target")[0].why


@pytest.mark.parametrize("address", [0xFEE00000, 0xFEEFFFFF])
def test_the_windows_first_and_last_byte_are_not_translated(address):
    it = space("intel-vtd-kernel-4.4")
    it.map(0xFED00000, "4M")
    assert "lost" == it.dma_write(NIC, address, size=1).outcome


@pytest.mark.parametrize("address", [0xFEDFFFFF, 0xFEF00000])
def test_beside_the_window_memory_is_reached(address):
    it = space("intel-vtd-kernel-4.4")
    it.map(0xFED00000, "4M")
    assert "memory" == it.dma_write(NIC, address, size=1).outcome


def test_a_read_of_the_window_does_not_reach_the_memory_mapped_there():
    it = space("intel-vtd-kernel-4.4")
    it.map(0xFEE00000, "1M")
    assert ("lost", "inference") == ((trip := it.dma_read(NIC, 0xFEE00000)).outcome, trip.steps[-1].rests)


def plain_x86(*, allow=True):
    m = vl.MachineBuilder("plain")
    unit = m.unit("dmar0", kind="intel-vtd", isolated_msi=False)
    m.endpoint("01:00.0", below=m.root_port("00:01.0", unit=unit))
    host = m.host("7.3")
    if allow:
        host.set_param("vfio_iommu_type1.allow_unsafe_interrupts", "Y")
    it = host.address_space()
    it.attach(NIC)
    return it


@pytest.mark.parametrize("vector", [0x20, 0x31, 0xFE])
def test_without_remapping_a_device_can_raise_any_vector(vector):
    trip = plain_x86().dma_write(NIC, 0xFEE01004, vector)
    assert "delivered" == trip.outcome
    assert f"CPU vector {vector:#x}: without interrupt remapping nobody checks who sent it" in trip.at("target")[0].why


def test_that_is_why_such_a_group_is_let_in_only_when_the_risk_is_accepted():
    with pytest.raises(vl.VfioError, match="EPERM: group 1 is behind dmar0"):
        plain_x86(allow=False)


# Arm


def test_an_its_message_is_translated_like_any_write():
    it = space()
    it.enable_msi(NIC)
    trip = it.raise_msi(NIC)
    assert ("delivered", 0x8000040, 0x8090040, {}) == (trip.outcome, trip.address, trip.physical, marked(trip))
    assert ["write", "route", "translate", "doorbell", "interrupt"] == kinds(trip)


def test_an_its_refuses_an_event_that_it_never_gave_to_the_device():
    it = space()
    it.enable_msi(NIC, 2)
    assert ["delivered", "delivered", "refused"] == [it.dma_write(NIC, 0x8000040, event).outcome for event in range(3)]


def test_a_v2m_frame_takes_any_spi_from_anyone():
    host = vl.load("one-smmu-gicv2m")
    host.set_param("vfio_iommu_type1.allow_unsafe_interrupts", "Y")
    it = host.address_space()
    it.attach(NIC)
    it.enable_msi(NIC)
    assert ["lost", "delivered", "delivered", "lost"] == [it.dma_write(NIC, 0x8000040, spi).outcome for spi in (31, 32, 1019, 1020)]


def test_another_register_beside_the_doorbell_raises_nothing():
    it = space()
    it.enable_msi(NIC)
    assert "0x809_0044 is another register beside the doorbell" == it.dma_write(NIC, 0x8000044).why


def test_a_doorbell_page_cannot_be_read():
    it = space()
    it.enable_msi(NIC)
    assert "fault" == it.dma_read(NIC, 0x8000040).outcome


@pytest.mark.parametrize("kernel", ["4.4", "4.9", "4.10"])
def test_before_4_11_the_message_holds_the_physical_doorbell_and_faults(kernel):
    it = space(kernel=kernel)
    it.enable_msi(NIC)
    trip = it.raise_msi(NIC)
    assert ("lost", 0x8090040) == (trip.outcome, trip.address)
    assert ["write", "route", "fault", "lost"] == kinds(trip)


def test_before_4_11_ram_over_the_doorbell_is_overwritten_and_nobody_is_told():
    it = space(kernel="4.4")
    it.map(0x8000000, "1M", "guest RAM")
    it.enable_msi(NIC, 2)
    trip = it.raise_msi(NIC, 1)
    assert "corrupts" == trip.outcome
    assert "(guest RAM + 0x9_0040) now hold 0x1, which nobody put there" in trip.at("target")[0].why
    assert trip.physical == it.domains[0].translate(0x8090040).physical + 0x90040


@pytest.mark.parametrize("kernel", ["4.11", "4.15", "4.19"])
def test_from_4_11_on_a_window_covered_first_makes_the_message_all_ones(kernel):
    it = space(kernel=kernel)
    it.map(0x8000000, "4K")
    it.enable_msi(NIC)
    trip = it.raise_msi(NIC)
    assert ("lost", (1 << 64) - 1, 0xFFFF_FFFF) == (trip.outcome, trip.address, trip.data)


def test_on_5_3_what_a_covered_window_gives_is_not_known_and_nothing_changes():
    it = space(kernel="5.3")
    it.map(0x8000000, "4K")
    with pytest.raises(vl.NotModelledError, match="neither recorded nor read"):
        it.enable_msi(NIC)
    assert [] == it.messages.rows


@pytest.mark.parametrize("kernel", ["4.11", "5.3"])
def test_up_to_5_3_a_map_over_the_doorbell_page_is_eexist(kernel):
    it = space(kernel=kernel)
    it.enable_msi(NIC)
    with pytest.raises(vl.VfioError, match=r"EEXIST: .* covers the MSI doorbell page"):
        it.map(0x8000000, "4K")
    it.map(0x8001000, "4K")


def test_a_hardware_msi_region_takes_the_physical_doorbell_untranslated():
    m = vl.MachineBuilder("hisilicon")
    unit = m.unit("smmu0", kind="arm-smmu-v3", hardware_msi=(0xC6010000, 0xC601FFFF))
    m.interrupts(InterruptController("gicv3-its", 0xC6010040))
    m.endpoint("01:00.0", below=m.root_port("00:01.0", unit=unit))
    it = m.host("6.12").address_space()
    it.attach(NIC)
    it.enable_msi(NIC)
    trip = it.raise_msi(NIC)
    assert ("delivered", 0xC6010040, 0xC6010040) == (trip.outcome, trip.address, trip.physical)
    assert ["write", "route", "window", "doorbell", "interrupt"] == kinds(trip)


# peers


def switch(*, acs):
    """Two endpoints below a switch; the second answers at 0xe000_0000."""
    m = vl.MachineBuilder("switch")
    unit = m.unit("dmar0", kind="intel-vtd")
    up = m.upstream("01:00.0", below=m.root_port("00:01.0", unit=unit))
    m.endpoint("03:00.0", below=m.downstream("02:00.0", below=up, acs=acs))
    m.endpoint("04:00.0", below=m.downstream("02:01.0", below=up, acs=acs))
    m.bar("04:00.0", 0xE0000000, 0xE0000FFF)
    it = m.host("6.12").address_space()
    it.attach("0000:03:00.0")
    it.map(0xE0000000, "1M", "guest RAM")
    return it


def test_without_acs_a_switch_sends_a_request_to_a_peer_and_the_iommu_never_sees_it():
    trip = switch(acs=False).dma_write("0000:03:00.0", 0xE0000000)
    assert ("p2p", {"p2p": "inference"}) == (trip.outcome, marked(trip))
    assert "0000:02:00.0 does not redirect requests upstream" in trip.why


def test_with_acs_the_same_request_goes_up_and_is_translated():
    trip = switch(acs=True).dma_write("0000:03:00.0", 0xE0000000)
    assert "memory" == trip.outcome
    assert "ACS at 0000:02:00.0 redirects requests upstream" in trip.at("bus")[0].why


def test_acs_that_is_there_but_not_switched_on_redirects_nothing():
    assert "p2p" == switch(acs=Acs(0x1D, 0x19)).dma_write("0000:03:00.0", 0xE0000000).outcome


def test_beside_the_peers_bar_a_request_goes_up():
    assert "memory" == switch(acs=False).dma_write("0000:03:00.0", 0xE0001000).outcome


def test_a_device_does_not_meet_its_own_bar():
    it = switch(acs=False)
    assert "fault" == it.dma_write("0000:04:00.0", 0xE0000000).outcome


def test_functions_of_one_slot_without_acs_reach_each_other():
    m = vl.MachineBuilder("card")
    m.endpoint("01:00.0", below=m.root_port("00:01.0", unit=m.unit("dmar0", kind="intel-vtd")), functions=2)
    m.bar("01:00.1", 0xE0000000, 0xE0000FFF)
    trip = delivery.write(m.host("6.12"), NIC, 0xE0000000)
    assert "p2p" == trip.outcome
    assert "0000:01:00.0 does not redirect" in trip.why


def test_devices_on_one_conventional_bus_hear_each_other():
    m = vl.MachineBuilder("old bus")
    bridge = m.pci_bridge("01:00.0", below=m.root_port("00:01.0", unit=m.unit("dmar0", kind="intel-vtd")))
    m.endpoint("02:00.0", below=bridge, kind="pci")
    m.endpoint("02:01.0", below=bridge, kind="pci")
    m.bar("02:01.0", 0xE0000000, 0xE0000FFF)
    assert "share one conventional bus" in delivery.write(m.host("6.12"), "0000:02:00.0", 0xE0000000).why


@pytest.mark.parametrize(("acs", "outcome"), [(True, "fault"), (False, "p2p")])
def test_between_root_ports_it_depends_on_the_ports_acs(acs, outcome):
    m = vl.MachineBuilder("ports")
    unit = m.unit("dmar0", kind="intel-vtd")
    m.endpoint("01:00.0", below=m.root_port("00:01.0", unit=unit, acs=acs))
    m.endpoint("02:00.0", below=m.root_port("00:02.0", unit=unit, acs=acs))
    m.bar("02:00.0", 0xE0000000, 0xE0000FFF)
    assert outcome == delivery.write(m.host("6.12"), NIC, 0xE0000000).outcome


# the journey itself


def journeys():
    it = space("one-smmu-its", "4.4")
    it.enable_msi(NIC)
    yield it.raise_msi(NIC)
    it.map(0x8000000, "1M")
    yield it.raise_msi(NIC)
    yield it.dma_write(NIC, 0x8000000)
    yield it.dma_read(NIC, 0x9000000)
    yield switch(acs=False).dma_write("0000:03:00.0", 0xE0000000)
    yield plain_x86().dma_write(NIC, 0xFEE01004, 0x31)


@pytest.mark.parametrize("trip", list(journeys()), ids=lambda trip: trip.outcome)
def test_the_steps_go_from_station_to_station_and_each_has_a_reason(trip):
    places = [PLACES.index(step.place) for step in trip.steps]
    assert sorted(places) == places
    assert all(step.why for step in trip.steps)
    assert trip.outcome in OUTCOMES


@pytest.mark.parametrize("trip", list(journeys()), ids=lambda trip: trip.outcome)
def test_the_text_says_each_step_and_marks_what_no_recording_shows(trip):
    text = " ".join(str(trip).split())
    words = [f"{step.kind} {step.why}{delivery.mark(step)}" for step in trip.steps]
    assert [] == [said for said in words if said not in text]
    assert sum(bool(step.rests) for step in trip.steps) == text.count("[")
    assert max(map(len, str(trip).splitlines()[1:])) <= 100


def test_each_step_is_an_event_of_the_log():
    it = space()
    trip = it.dma_write(NIC, 0x5000_0000)
    call = it.log.calls[-1]
    assert ("dma_write", {"outcome": "fault"}, [step.event for step in trip.steps]) == (call.verb, call.output, list(call.events))


def test_a_vector_that_is_not_enabled_says_how_to_enable_it():
    with pytest.raises(ValueError, match=r'vector 3 of 0000:01:00.0 is not enabled: space.enable_msi\("0000:01:00.0", 4\)'):
        space().raise_msi(NIC, 3)


def test_a_journey_shows_itself_as_picture_and_as_text():
    it = space()
    it.enable_msi(NIC)
    trip = it.raise_msi(NIC)
    assert isinstance(trip, Journey)
    bundle = trip._repr_mimebundle_()
    assert str(trip) == bundle["text/plain"]
    assert '<img alt="0000:01:00.0 raises vector 0: delivered. Linux 6.12.' in bundle["text/html"]
    assert "Journey(0000:01:00.0 raises vector 0: delivered, 5 steps)" == repr(trip)


# other servers of /dev/vfio/vfio, and no IOMMU at all


def test_behind_iommufd_a_device_reaches_memory_only_once_it_is_open():
    it = vl.load("intel-vtd-iommufd").address_space()
    it.attach(NIC)
    it.map(0x4000_0000, "1M")
    assert "default domain" in it.dma_write(NIC, 0x4000_0000).why
    it.open(NIC)
    assert "memory" == it.dma_write(NIC, 0x4000_0000).outcome


def test_without_an_iommu_a_bus_address_is_a_physical_one_and_a_message_is_still_an_interrupt():
    m = vl.MachineBuilder("bare")
    m.endpoint("01:00.0", below=m.root_port("00:01.0", unit=m.unit("dmar0", kind="intel-vtd")))
    bare = vl.Machine(name="bare", topology=m.machine().topology, interrupts=InterruptController("x86-apic")).host("6.12")
    assert ("memory", 0x1234) == ((trip := delivery.write(bare, NIC, 0x1234)).outcome, trip.physical)
    assert {"translate": "inference"} == marked(trip)
    assert "delivered" == delivery.write(bare, NIC, 0xFEE01004, 0x31).outcome


def test_an_emulated_device_does_no_dma_of_its_own():
    m = vl.MachineBuilder("mdev")
    m.endpoint("01:00.0", below=m.root_port("00:01.0", unit=m.unit("dmar0", kind="intel-vtd")))
    m.mdev("mdev0")
    with pytest.raises(ValueError, match="mdev0 is no PCI function of this host that does DMA of its own"):
        delivery.write(m.host("6.12"), "mdev0", 0)


# what holds of every request


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("machine", ["one-smmu-its", "intel-vtd-39bit", "amd-vi-server", "virtio-iommu-guest"])
def test_a_request_reaches_memory_exactly_where_the_page_table_and_the_rights_say_and_changes_nothing(machine, seed):
    dice = random.Random(seed)
    host = vl.load(machine, dice.choice(["4.4", "4.11", "5.3", "6.1", "6.12", "7.3"]))
    host.set_param("vfio_iommu_type1.allow_unsafe_interrupts", "Y")
    it = host.address_space()
    it.attach(NIC)
    for _ in range(12):
        start = dice.choice([0, 0x7FFF000, 0x8000000, 0x40000000, 0xFED00000, 0xFEF00000]) + dice.randrange(8) * 0x1000
        with suppress(vl.VfioError):
            it.map(start, dice.randint(1, 4) * 0x1000, rights=dice.choice(["r", "w", "rw"]))
    domain = it.domains[0]
    before = list(domain.mappings)
    for _ in range(60):
        address = dice.choice([*(run.iova for run in before), 0x8000000, 0xFEE00000, 0xFEF00000]) + dice.randrange(-8, 0x1008)
        verb = dice.choice(["dma_read", "dma_write"])
        trip = getattr(it, verb)(NIC, max(address, 0), size=1)
        run = domain.translate(max(address, 0))
        window = not domain.unit.translates_msi and 0xFEE00000 <= address < 0xFEF00000
        allowed = run is not None and not window and run.prot & (1 if verb == "dma_read" else 2)
        assert ("memory" == trip.outcome) == bool(allowed), trip
        if allowed:
            assert trip.physical == run.physical + max(address, 0) - run.iova
    assert before == list(domain.mappings)


@pytest.mark.parametrize(("address", "size"), [((1 << 64) - 1, 2), ((1 << 64) - 2, 4), ((1 << 64) - 3, 4), ((1 << 64) - 4, 5)])
def test_a_request_that_runs_past_the_last_bus_address_is_none(address, size):
    with pytest.raises(ValueError, match=rf"{size} bytes at 0x.* run past the last bus address, 2\^64 - 1"):
        space().dma_write(NIC, address, size=size)


def test_the_message_of_all_ones_goes_to_the_last_byte_of_the_bus_and_a_write_may_end_there():
    it = space()
    assert ["fault", "fault"] == [it.dma_write(NIC, address, 0xFFFF_FFFF).outcome for address in ((1 << 64) - 1, (1 << 64) - 4)]
