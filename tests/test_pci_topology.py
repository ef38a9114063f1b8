"""Functions and the tree they form."""

from __future__ import annotations

import pytest

from vfiolab.model.pci.topology import Acs, Function, Topology, TopologyError, normal_bdf


def port(bdf, secondary, **more):
    return Function(bdf=bdf, kind="root-port", secondary=secondary, subordinate=secondary, **more)


def endpoint(bdf, **more):
    return Function(bdf=bdf, kind="endpoint", **more)


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("00:1F.3", "0000:00:1f.3"),
        ("0001:0a:00.0", "0001:0a:00.0"),
        ("10000:e1:00.0", "10000:e1:00.0"),
        ("0:1.2", "0000:00:01.2"),
    ],
)
def test_an_address_has_one_spelling(written, normal):
    assert normal == normal_bdf(written)


@pytest.mark.parametrize("wrong", ["", "00:20.0", "00:1f.8", "zz:00.0", "00:00:00", "100:00.0"])
def test_what_is_no_address_is_refused_with_an_example(wrong):
    with pytest.raises(TopologyError, match=r"must look like '0000:00:1f.3'"):
        normal_bdf(wrong)


def test_a_requester_id_is_bus_slot_and_function():
    assert 0x2A1B == Function(bdf="2a:03.3").requester_id


def test_a_bridge_is_known_by_kind_bus_or_class():
    assert all(
        f.is_bridge
        for f in (
            Function(bdf="00:01.0", kind="upstream"),
            Function(bdf="00:01.0", secondary=1),
            Function(bdf="00:01.0", class_code=0x060400),
        )
    )


def test_an_endpoint_of_class_bridge_is_none():
    assert not Function(bdf="00:1f.0", kind="pci", class_code=0x060100).is_bridge


def test_an_unknown_kind_is_refused_and_the_known_ones_are_named():
    with pytest.raises(TopologyError, match=r"kind 'rootport' is none of .*root-port"):
        Function(bdf="00:01.0", kind="rootport")


def test_the_parent_is_the_bridge_whose_secondary_bus_it_is():
    tree = Topology([port("00:01.0", 1), port("00:02.0", 2), endpoint("02:00.0")])
    assert "0000:00:02.0" == tree.parent("0000:02:00.0").bdf


def test_buses_of_different_segments_are_different():
    tree = Topology([port("0000:00:01.0", 1), port("0001:00:01.0", 1), endpoint("0001:01:00.0")])
    assert "0001:00:01.0" == tree.parent("0001:01:00.0").bdf


def test_the_path_goes_up_to_the_root_bus():
    tree = Topology([port("00:01.0", 1), Function(bdf="01:00.0", kind="upstream", secondary=2), endpoint("02:00.0")])
    assert ["0000:01:00.0", "0000:00:01.0"] == [f.bdf for f in tree.path("0000:02:00.0")]


def test_virtual_functions_hang_where_their_physical_function_does():
    tree = Topology([port("00:01.0", 1), endpoint("01:00.0"), Function(bdf="02:10.0", kind="vf", physfn="01:00.0")])
    assert "0000:00:01.0" == tree.parent("0000:02:10.0").bdf


def test_siblings_share_the_slot():
    tree = Topology([endpoint("00:02.0"), endpoint("00:02.1"), endpoint("00:03.0")])
    assert ["0000:00:02.1"] == [f.bdf for f in tree.siblings("0000:00:02.0")]


def test_a_function_above_zero_is_multifunction_whatever_its_header_says():
    assert Topology([endpoint("00:02.3", multifunction=False)]).is_multifunction("0000:00:02.3")


def test_function_zero_of_an_unrecorded_header_is_multifunction_if_it_has_siblings():
    tree = Topology([endpoint("00:02.0"), endpoint("00:02.1"), endpoint("00:03.0")])
    assert [True, False] == [tree.is_multifunction("0000:00:02.0"), tree.is_multifunction("0000:00:03.0")]


def test_a_virtual_function_is_never_multifunction():
    assert not Topology([Function(bdf="00:02.3", kind="vf")]).is_multifunction("0000:00:02.3")


def test_a_device_listed_twice_is_refused():
    with pytest.raises(TopologyError, match=r"listed twice: 0000:00:02.0"):
        Topology([endpoint("00:02.0"), endpoint("0:2.0")])


def test_bridges_that_form_a_loop_are_refused():
    with pytest.raises(TopologyError, match="loop"):
        Topology([port("01:00.0", 2), port("02:00.0", 1)])


def test_of_two_bridges_with_one_bus_the_first_counts_and_a_warning_names_both():
    tree = Topology([port("00:01.0", 1), port("00:02.0", 1), endpoint("01:00.0")])
    assert "0000:00:01.0" == tree.parent("0000:01:00.0").bdf
    assert "0000:00:02.0 and 0000:00:01.0 both claim bus 01" in tree.warnings[0]


def test_bus_zero_behind_a_bridge_means_not_configured():
    assert Topology([port("00:01.0", 0), endpoint("00:02.0")]).parent("0000:00:02.0") is None


def test_acs_shows_only_what_is_advertised():
    assert "Acs(SV+ RR-)" == repr(Acs(0x05, 0x01))


def test_replacing_a_function_that_is_not_there_is_refused():
    with pytest.raises(TopologyError, match=r"not in this machine: 0000:00:09.0"):
        Topology([endpoint("00:02.0")]).replace(endpoint("00:09.0"))
