"""The claims of the mail of 3 December 2015 that the notebooks show, as the model answers them; the table is notebooks/claims.md."""

import inspect
import re

import nbformat
import pytest
from mutations import restate
from tools import notebooks

import vfiolab as vl
from vfiolab.course import answer, two_below_a_switch, two_units
from vfiolab.model import machine
from vfiolab.model.backends import iova
from vfiolab.model.backends.dmatree import DmaTree
from vfiolab.model.backends.type1 import Type1
from vfiolab.model.backends.type1_checks import NEW_MAPPING_CHECKS
from vfiolab.model.iommu.domain import Domain
from vfiolab.model.iommu.doorbells import Doorbells, Landed
from vfiolab.model.iommu.unit import IommuUnit
from vfiolab.model.pci.acs import AcsTester, Verdict
from vfiolab.proposals import P1, P2, P3, P4, debate

TABLE = notebooks.NOTEBOOKS / "claims.md"
FIRST, SECOND = "0000:01:00.0", "0000:21:00.0"


def rows():
    lines = [line for line in TABLE.read_text(encoding="utf-8").splitlines() if re.match(r"\| S\d+ ", line)]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.fixture
def server():
    return vl.load("two-smmu-server").address_space()


def kinds(call):
    return [f"{event.kind} D{event.domain}" for event in call.events if event.kind in {"map", "unmap"}]


# The table.


def test_every_claim_has_its_row_in_order():
    assert [f"S{number}" for number in range(1, 28)] == [row[0] for row in rows()]


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_each_claim_is_linked_to_a_cell_and_a_test(row):
    where, test = row[3], row[4].strip("`")
    links = re.findall(r"\]\(([\w-]+\.ipynb)#cell-id=([\w-]+)\)", where)
    assert links
    for name, cell in links:
        assert cell in {found["id"] for found in nbformat.read(notebooks.NOTEBOOKS / name, 4).cells}
    assert test in globals()


# The claims.


def test_s3_s9_a_map_reaches_every_domain_newest_first(server):
    server.attach(FIRST, SECOND)
    server.map(0x1000_0000, "1M")
    assert ["map D2", "map D1"] == kinds(server.log.calls[-1])
    server.unmap(0x1000_0000)
    assert ["unmap D1", "unmap D2"] == kinds(server.log.calls[-1])


def test_s4_one_iommu_is_not_one_domain():
    pair = two_units("intel-vtd", "6.12").address_space()
    pair.attach("0000:01:00.0", "0000:81:00.0")
    assert (2, 1) == (len({group.group.unit for group in pair.container.groups}), len(pair.domains))
    host = vl.load("two-smmu-server")
    one, other = host.address_space(), host.address_space()
    one.attach(FIRST)
    other.attach("0000:02:00.0")
    assert one.domains[0].unit is other.domains[0].unit
    assert one.domains[0] is not other.domains[0]


def test_s5_s6_a_container_holds_the_mappings_and_lists_iommu_domains(server):
    server.attach(FIRST, SECOND)
    server.map(0x4000_0000, "1G")
    assert 1 == len(list(server.container.backend.dmas))
    assert {"Domain"} == {type(domain).__name__ for domain in server.domains}


def test_s7_an_older_mapping_is_replayed_into_the_new_groups_domain(server):
    server.attach(FIRST)
    server.map(0x4000_0000, "1G")
    server.attach(SECOND)
    newest, oldest = server.domains
    assert [(0x4000_0000, 1 << 30)] == [(mapping.iova, mapping.size) for mapping in newest.mappings]
    assert newest.translate(0x4000_0000).physical == oldest.translate(0x4000_0000).physical


def test_s8_s15_features_decide_how_many_domains_one_context_needs():
    for snoop, expected in (((True, True), 1), ((True, False), 2)):
        space = two_units("intel-vtd", "6.12", snoop_control=snoop).address_space()
        space.attach("0000:01:00.0", "0000:81:00.0")
        assert expected == len(space.domains)


def test_s10_s17_different_maps_for_two_devices_are_two_containers():
    host = vl.load("two-smmu-server")
    one, other = host.address_space(), host.address_space()
    one.attach(FIRST)
    other.attach("0000:02:00.0")
    one.map(0x4000_0000, "1M")
    assert one.domains[0].translate(0x4000_0000) is not None
    assert other.domains[0].translate(0x4000_0000) is None


def test_s11_a_group_is_what_peers_can_reach_and_what_the_iommu_cannot_tell_apart():
    desktop = vl.load("amd-matisse-desktop")
    assert desktop.group_of("0000:2a:00.0") is desktop.group_of("0000:03:09.0")
    assert "no ACS capability" in str(desktop.grouping.reasons["0000:2a:00.0"])
    bare = two_below_a_switch(acs=False, root=False, kernel="6.12")
    assert ["yes"] == bare.peers("04:00.0")["reached"]
    assert bare.group_of("04:00.0") is bare.group_of("05:00.0")
    m = vl.MachineBuilder("conventional PCI")
    bridge = m.pci_bridge("01:00.0", below=m.root_port("00:01.0", unit=m.unit("dmar0", kind="intel-vtd")))
    m.endpoint("02:00.0", below=bridge, kind="legacy-endpoint")
    old = m.host("6.12")
    assert ("0000:01:00.0", "0000:02:00.0") == old.group_of("02:00.0").devices
    assert "under one id" in str(old.grouping.reasons["0000:02:00.0"])


def test_s12_two_functions_of_a_group_cannot_have_two_users():
    card = vl.load("intel-vtd-39bit")
    card.bind("0000:0f:00.0")
    card.bind("0000:0f:00.1")
    one, other = card.address_space(), card.address_space()
    one.attach("0000:0f:00.0")
    assert "EBUSY" == answer(other.attach, "0000:0f:00.1").error.name


def test_s13_where_every_port_isolates_each_function_has_a_group_of_its_own():
    made = two_below_a_switch(acs=True, kernel="6.12")
    assert [1] * 6 == [len(group.devices) for group in made.groups]
    assert {1} == {len(group.devices) for group in vl.load("nxp-ls1028a-enetc").groups}
    assert 1 < max(len(group.devices) for group in vl.load("amd-matisse-desktop").groups)


def test_s16_incompatible_units_get_a_domain_each_and_equal_ones_do_not():
    def domains(kind, **facts):
        space = two_units(kind, "7.3", **facts).address_space()
        space.attach("0000:01:00.0", "0000:81:00.0")
        return len(space.domains)

    assert (1, 2, 2) == (domains("intel-vtd"), domains("intel-vtd", width=(48, 39)), domains("arm-smmu-v3"))


def test_s20_a_guest_that_leaves_the_window_out_is_never_refused():
    guest = vl.load("intel-vtd-39bit").address_space()
    guest.attach("0000:01:00.0")
    assert ["0", "0"] == [answer(guest.map, 0, 0xFEE0_0000), answer(guest.map, 0xFEF0_0000, 0x1_0110_0000)]
    pages = [answer(guest.map, page, 4096) for page in (0xFEE0_0000, 0xFEEF_F000)]
    assert ["EINVAL", "EINVAL"] == [page.partition(":")[0] for page in pages], "the window is what the guest left out, to the page"


@pytest.mark.parametrize(("kernel", "expected"), [("4.4", "0"), ("4.11", "0"), ("5.4", "EINVAL"), ("6.12", "EINVAL")])
def test_s21_ram_over_the_window_is_accepted_in_2015_and_refused_today(kernel, expected):
    space = vl.load("intel-vtd-39bit", kernel=kernel).address_space()
    space.attach("0000:01:00.0")
    assert expected == answer(space.map, 0xFEE0_0000, "1M").partition(":")[0]


def test_s22_s27_the_usable_ranges_leave_the_interrupt_window_out(server):
    x86 = vl.load("intel-vtd-39bit").address_space()
    x86.attach("0000:01:00.0")
    server.attach(FIRST)
    assert ["0x0-0xfedf_ffff", "0xfef0_0000-0x7f_ffff_ffff"] == [str(usable) for usable in x86.iova_ranges]
    assert ["0x0-0x7ff_ffff", "0x810_0000-0xffff_ffff_ffff"] == [str(usable) for usable in server.iova_ranges]


def test_s23_a_group_that_does_not_fit_what_is_mapped_is_refused():
    space = two_units("intel-vtd", "6.12", width=(48, 39)).address_space()
    space.attach("0000:01:00.0")
    space.map("1T", "1G")
    assert "EINVAL" == answer(space.attach, "0000:81:00.0").error.name
    assert 1 == len(space.mappings)


def test_s23_a_device_whose_interrupt_window_lies_in_mapped_ram_cannot_be_added():
    m = vl.MachineBuilder("guest with an emulated device")
    m.endpoint("01:00.0", below=m.root_port("00:01.0", unit=m.unit("dmar0", kind="intel-vtd")))
    emulated = m.mdev()
    space = m.host("6.12").address_space()
    space.attach(emulated)
    space.map(0, "4G")
    assert "0xfee0_0000-0xfeef_ffff" in answer(space.attach, "0000:01:00.0").error.why
    assert (1, []) == (len(space.mappings), space.domains)


def test_s24_every_group_behind_an_smmu_reserves_the_same_window(server):
    assert {"0x800_0000-0x80f_ffff sw-msi"} == {str(region) for group in server.host.groups for region in group.reserved}


def test_s26_each_domain_gets_its_own_msi_cookie(server):
    server.attach(FIRST, SECOND)
    assert [0x800_0000, 0x800_0000] == [domain.msi_base for domain in server.domains]
    assert [1, 2] == [event.domain for event in server.log.events if event.kind == "msi_cookie"]


def test_s26_a_doorbell_is_mapped_only_in_the_domain_of_the_device_that_asks(server):
    server.attach(FIRST, SECOND)
    server.enable_msi(FIRST)
    assert {"D1": 1, "D2": 0} == {f"D{domain.number}": len(domain.doorbells) for domain in server.domains}


# The claims that notebook 07 runs.


def again(*scenarios):
    return debate(scenarios=scenarios)


def test_s1_a_call_through_another_layers_operations_is_seen_as_an_edge_into_vfio():
    edges = again("arm-its").edges
    assert {"P1"} == {name for name, found in edges.items() if ("interrupt code", "VFIO") in found.found}


def test_s2_what_landed_reaches_no_thing_of_vfio_from_below():
    assert [] == again("arm-its").edges["P7"].forbidden


def test_s18_a_map_for_each_device_parts_no_group_and_divides_a_container():
    found = again("shared-group", "two-domains", "many-doorbells")
    assert found["P0", "shared-group"].word == found["P2", "shared-group"].word == "EBUSY open_group"
    assert "same-map" in found["P2", "many-doorbells"].broken


def test_s19_a_static_map_serves_what_is_known_at_boot_and_nothing_later():
    found = again("arm-its", "own-layout", "late-doorbell")
    assert ["delivered", "EEXIST map", "corrupts"] == [found["P3", name].word for name in ("arm-its", "own-layout", "late-doorbell")]


def test_s25_the_raw_domain_is_enough_to_map_and_reaches_no_further_than_the_iommu_core():
    found = again("arm-its", "two-domains")
    assert "delivered" == found["P4", "arm-its"].outcome
    assert {("interrupt code", "IOMMU core")} == {edge for edge in found.edges["P4"].found if edge[0] == "interrupt code"}
    assert "same-map" in found["P4", "two-domains"].broken


# What each claim rests on, switched off: its test has to fail.


def method(owner, name, new):
    return lambda patch: patch.setattr(owner, name, new)


def without(table, text):
    """Leave one check out."""
    return lambda patch: restate(patch, table, tuple(check for check in table if check.text != text))


def _reads_the_owner(old):
    def requested(self, domain, group, doorbell):
        assert group.owner.backend is not None
        return old(self, domain, group, doorbell)

    return requested


def both(*parts):
    return lambda patch: [part(patch) for part in parts]


NOT_ISOLATED = method(AcsTester, "test", lambda *_: Verdict(passed=False, why="", rule=""))
ISOLATED = method(AcsTester, "test", lambda *_: Verdict(passed=True, why="", rule=""))
NOT_RESERVED = method(machine, "merged_reserved", lambda *_: ())
MECHANISMS = {
    "S1": ("s1", method(P1, "_domains", P4._domains)),
    "S2": ("s2", method(Landed, "requested", _reads_the_owner(Landed.requested))),
    "S3": ("s3_s9", method(Type1, "_map_in_domains", lambda *_: None)),
    "S4": ("s4", method(Domain, "attach_errno", lambda *_: -22)),
    "S5": ("s5_s6", method(vl.AddressSpace, "domains", property(lambda space: [(one,) for one in space.container.backend.domains]))),
    "S6": ("s5_s6", method(DmaTree, "__iter__", lambda tree: iter(2 * list(tree.starts.values())))),
    "S7": ("s7", method(Type1, "_replay", lambda *_: None)),
    "S8": ("s8_s15", both(method(IommuUnit, "coherency", lambda *_: True), method(Domain, "attach_errno", lambda *_: 0))),
    "S9": ("s3_s9", method(Type1, "_unmap_in_domains", lambda self, dma: [one.unmap(dma.iova, dma.size) for one in self.domains])),
    "S10": ("s10_s17", method(Domain, "translate", lambda *_: "something")),
    "S11": ("s11", ISOLATED),
    "S12": ("s12", ISOLATED),
    "S13": ("s13", NOT_ISOLATED),
    "S14": ("s7", method(Domain, "map_many", lambda *_: None)),
    "S15": ("s8_s15", method(Type1, "_join_existing", lambda *_: False)),
    "S16": ("s16", method(Domain, "attach_errno", lambda *_: 0)),
    "S17": ("s10_s17", method(Type1, "_map_in_domains", lambda *_: None)),
    "S18": ("s18", method(P2, "group_joins", lambda *_: True)),
    "S19": ("s19", method(P3, "domain_made", lambda *_: None)),
    "S20": ("s20", method(iova, "exclude", lambda iovas, _: iovas)),
    "S21": ("s21", without(NEW_MAPPING_CHECKS, "the range lies inside one usable iova range")),
    "S22": ("s22_s27", method(iova, "exclude", lambda iovas, _: iovas)),
    "S23": ("s23", method(iova, "first_overlap", lambda *_: None)),
    "S24": ("s24", NOT_RESERVED),
    "S25": ("s25", method(P4, "requested", Doorbells.requested)),
    "S26": ("s26", method(Landed, "domain_made", lambda *_: None)),
    "S27": ("s22_s27", NOT_RESERVED),
}


def runs_of(prefix):
    """List the tests of a claim, with the arguments of each run."""
    found = [test for name, test in globals().items() if name.startswith(f"test_{prefix}_")]
    assert found
    for test in found:
        marks = [mark for mark in getattr(test, "pytestmark", ()) if mark.name == "parametrize"]
        for values in marks[0].args[1] if marks else [()]:
            yield test, values


def test_each_claim_has_a_mechanism():
    assert {f"S{number}" for number in range(1, 28)} == MECHANISMS.keys()


@pytest.mark.parametrize("claim", MECHANISMS)
def test_a_claims_test_fails_when_its_mechanism_is_switched_off(claim, monkeypatch):
    prefix, switch_off = MECHANISMS[claim]
    runs = list(runs_of(prefix))
    switch_off(monkeypatch)
    noticed = 0
    for test, values in runs:
        try:
            host = [vl.load("two-smmu-server").address_space()] if "server" in inspect.signature(test).parameters else []
            test(*host, *values)
        except (AssertionError, AttributeError, ValueError, StopIteration, vl.Refusal):
            noticed += 1
    assert noticed, f"{claim} is shown by no test that needs its mechanism"
