"""The labs on groups: ACS and a boot parameter decide groups, and a peer's write where it arrives; drivers decide viability."""

import contextlib
import itertools

import pytest

import vfiolab as vl
from vfiolab.lab import groups as labs

HERE, OTHER = "no ACS", "ACS on"


@pytest.mark.parametrize(("choice", "groups", "together", "outcome"), [
    ((OTHER, OTHER, "none"), 6, False, "memory"),
    ((OTHER, HERE, "none"), 4, False, "p2p"),
    ((HERE, HERE, "none"), 1, True, "p2p"),
    ((HERE, HERE, "pcie_acs_override=downstream"), 6, False, "p2p"),
    ((HERE, OTHER, "none"), 1, True, "memory"),
])  # fmt: skip
def test_acs_and_the_override_decide_the_groups_and_only_acs_where_a_write_arrives(choice, groups, together, outcome):
    run = vl.lab.IsolationRun(*choice)
    assert (groups, together, outcome) == (len(run.host.groups), run.together, run.trip.outcome)
    assert run.verdict.startswith(f"{groups} group")


@pytest.mark.parametrize(("kernel", "errno", "where"), [("5.10", "EINVAL", "space.open"), ("6.12", "EPERM", "space.attach")])
def test_a_native_driver_in_the_group_is_refused_by_each_kernel_at_its_own_step(kernel, errno, where):
    for audio, network, port, stub in itertools.product(labs.ACTS, labs.ACTS, ("leave it", "unbind"), labs.ACTS):
        run = vl.lab.ViabilityRun(kernel, audio, network, port, stub)
        in_the_way = "leave it" in (audio, network)
        assert (errno if in_the_way else "0") == run.outcome
        assert run.verdict.startswith(f"Refused at {where}. {errno}" if in_the_way else "The user has the card.")


@pytest.mark.parametrize("kernel", labs.KERNELS)
def test_vfio_pci_will_not_have_a_port_which_has_lost_its_driver_then(kernel):
    run = vl.lab.ViabilityRun(kernel, "unbind", "unbind", "vfio-pci", "leave it")
    assert run.verdict.startswith("Refused at host.bind.")
    assert "is a bridge" in run.verdict
    assert "none" == run.host.mates("00:01.1")["driver"][1]


@pytest.mark.parametrize(("kind", "choices"), [
    (vl.lab.IsolationRun, [labs.ACS, labs.ACS, labs.BOOT]),
    (vl.lab.ViabilityRun, [labs.KERNELS, *[("leave it", "vfio-pci")] * 4]),
])  # fmt: skip
def test_the_code_shown_gives_the_same_host(kind, choices):
    for choice in itertools.product(*choices):
        run, names = kind(*choice), {"vl": vl}
        for line in run.code.splitlines():
            with contextlib.suppress(vl.Refusal):
                exec(line, names)
        assert repr(run.space) == repr(names["space"])
        device = run.host.groups[-1].devices[-1]
        assert run.host.mates(device).rows == names["host"].mates(device).rows


def test_the_picture_of_a_group_shows_the_drivers_as_they_are_now():
    run = vl.lab.ViabilityRun("6.12", "vfio-pci", "unbind", "leave it", "leave it")
    words = vl.draw.to_svg(run.pictures[0])
    assert "e1000e" not in words
    assert 2 <= words.count("vfio-pci")
