"""Drivers: which are loaded, what unbinding takes along, and what stays whole when it cannot go on."""

from dataclasses import replace

import pytest
from model_steps import A, container, intel, refused, snapshot
from model_world import invariants
from recorded import machine as recorded

from vfiolab.model.builder import MachineBuilder
from vfiolab.model.errors import WouldBlockError
from vfiolab.model.pci.topology import Topology

VFS = ["0000:02:00.0", "0000:03:00.0"]


def with_functions(machine, **by_bdf):
    """Return the machine with facts of some functions replaced."""
    functions = [replace(f, **by_bdf.get(f.bdf, {})) for f in machine.topology.values()]
    return replace(machine, topology=Topology(functions))


def test_a_driver_that_a_device_has_at_boot_is_loaded():
    machine = intel()
    host = with_functions(machine, **{A: {"driver": "tg3"}}).host("6.12")
    host.unbind(A)
    host.bind(A, "tg3")
    assert "tg3" == host.drivers.driver_of(A)


def sriov():
    """Return a machine whose igb has two virtual functions, each on vfio-pci in a group of its own."""
    m = MachineBuilder("sriov")
    unit = m.unit("dmar0", kind="intel-vtd")
    for bus in (1, 2, 3):
        m.endpoint(f"{bus:02x}:00.0", below=m.root_port(f"00:{bus:02x}.0", unit=unit))
    return with_functions(m.machine(), **{A: {"driver": "igb", "sriov_numvfs": 2}} | {vf: {"physfn": A} for vf in VFS})


@pytest.mark.parametrize("kernel", ["5.4", "5.10", "6.12"])
@pytest.mark.parametrize("vf", VFS)
def test_a_physical_function_whose_virtual_function_is_open_loses_nothing_while_it_waits(vf, kernel):
    host = sriov().host(kernel)
    opened = container(host, vf)
    node = next(file for file in host.process.descriptors.values() if getattr(file, "id", None) == host.group_of(vf).id)
    held = node.get_device_fd(vf)
    before = snapshot(host)
    with pytest.raises(WouldBlockError, match=f"unbinding {vf} waits until its device descriptor is closed"):
        host.unbind(A)
    assert before == snapshot(host)
    invariants(host)
    for file in (held, node, opened):
        file.close()
    host.unbind(A)
    assert None is host.drivers.driver_of(A)
    assert 0 == host.drivers.enabled_vfs(A)
    assert [None, None] == [host.group_of(name) for name in VFS]
    invariants(host)


LATE = "0000:00:1f.2"


def test_behind_a_virtio_iommu_a_device_without_driver_gets_its_group_at_its_first_bind():
    host = recorded("virtio-6.12").host()
    assert None is host.group_of(LATE)
    host.bind(LATE)
    assert 28 == host.group_of(LATE).id
    host.unbind(LATE)
    host.bind(LATE)
    assert (28, (LATE,)) == (host.group_of(LATE).id, host.group_of(LATE).devices)
    host.bind("0000:00:1f.3", "pci-stub")
    assert (LATE, "0000:00:1f.3") == host.group_of(LATE).devices
    host._check()


@pytest.mark.parametrize(("device", "kernel"), [("0000:0c:03.0", "6.12"), (LATE, "7.3")])
def test_behind_a_conventional_bridge_and_from_7_3_no_group_comes_late(device, kernel):
    host = recorded("virtio-6.12").host(kernel)
    with refused("EINVAL"):
        host.bind(device)
    assert None is host.group_of(device)
