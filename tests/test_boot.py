"""One boot: what boot parameters change is the same for groups, delivery, drivers and pictures."""

import pytest

import vfiolab as vl
from vfiolab.draw import topology
from vfiolab.model.address import Span
from vfiolab.model.pci.grouping import GroupingOptions

A, B = "0000:03:00.0", "0000:04:00.0"
BAR = Span.sized(0xE000_0000, 0x10_0000)
PORTS = ("0000:02:00.0", "0000:02:01.0")


def switch(options=None, kernel="6.12"):
    """Return a host with two devices below a switch whose ports have ACS; the second device's BAR is known."""
    m = vl.MachineBuilder("switch")
    root = m.root_port("00:01.0", unit=m.unit("dmar0", kind="intel-vtd"), acs=True)
    up = m.upstream("01:00.0", below=root)
    for port, device in zip(PORTS, (A, B), strict=True):
        m.endpoint(device, below=m.downstream(port, below=up, acs=True))
    m.bar(B, BAR.start, BAR.last)
    return m.host(kernel, options)


def redirects(host):
    return {port: "RR+" in repr(host.topology[port].acs) for port in PORTS}


def peer_write(host):
    """Let the first device write to the second one's BAR; return whether it got there."""
    space = host.address_space()
    space.attach(A)
    return "p2p" in [step.kind for step in space.dma_write(A, BAR.start, 4).steps]


def test_without_parameters_the_ports_redirect_and_the_groups_are_apart():
    host = switch()
    assert dict.fromkeys(PORTS, True) == redirects(host)
    assert host.topology is host.machine.topology
    assert (A,) == host.group_of(A).devices
    assert not peer_write(host)


def test_disable_acs_redir_changes_groups_registers_drivers_and_delivery_alike():
    host = switch(GroupingOptions(disable_acs_redir=";".join(PORTS)))
    assert dict.fromkeys(PORTS, False) == redirects(host)
    assert (PORTS[0], A) == host.group_of(A).devices
    assert host.topology is host.drivers.topology is host.grouping.topology
    for device in (A, B):
        host.bind(device)
    assert peer_write(host)
    assert "ACS" in str(topology(host).table)


def test_the_machine_itself_stays_as_it_was():
    host = switch(GroupingOptions(config_acs="0000000@0000:02:00.0"))
    assert {"0000:02:00.0": False, "0000:02:01.0": True} == redirects(host)
    assert host.machine.topology["0000:02:00.0"].acs == switch().topology["0000:02:00.0"].acs


def test_another_kernel_boots_with_the_same_parameters():
    options = GroupingOptions(config_acs="0000000@0000:02:00.0")
    assert not redirects(switch(options).with_kernel("6.11"))["0000:02:00.0"]
    assert redirects(switch(options).with_kernel("6.10"))["0000:02:00.0"]


def test_an_override_changes_the_groups_and_no_register():
    m = vl.MachineBuilder("no ACS")
    root = m.root_port("00:01.0", unit=m.unit("dmar0", kind="intel-vtd"), acs=False)
    m.endpoint("01:00.0", below=root)
    plain, overridden = m.host("6.12"), m.host("6.12", GroupingOptions(pcie_acs_override="downstream"))
    assert plain.group_of("0000:00:01.0") is plain.group_of("0000:01:00.0")
    assert overridden.group_of("0000:00:01.0") is not overridden.group_of("0000:01:00.0")
    assert plain.topology == overridden.topology


@pytest.mark.parametrize("causes", ["acs", "none"])
def test_what_a_grouping_asks_again_stands_on_the_same_registers(causes):
    found = switch(GroupingOptions(disable_acs_redir=";".join(PORTS))).grouping
    wanted = [cause for reason in found.reasons.values() for cause in reason.causes if cause.kind == causes]
    assert found.without(*wanted).topology is found.topology
