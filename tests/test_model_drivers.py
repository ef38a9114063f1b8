"""Drivers: which are loaded, what unbinding takes along, and what stays whole when it cannot go on."""

from dataclasses import replace

from model_steps import A, intel

from vfiolab.model.pci import Topology


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
