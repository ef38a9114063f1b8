"""A machine, written as a machine file and read again, is equal: recorded ones, real ones, and whatever a builder makes."""

from dataclasses import fields, replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from model_world import machines
from recorded import TRACES

from vfiolab._paths import data_dir
from vfiolab.model.builder import GICV2M, ITS, MachineBuilder
from vfiolab.model.irq.msi import InterruptController
from vfiolab.model.machine import Machine
from vfiolab.model.pci.topology import Acs
from vfiolab.readers.machinefile import read_machine, read_machine_file
from vfiolab.readers.opening import open_machine
from vfiolab.readers.write import write_machine

FILES = sorted([*(data_dir() / "machines").glob("*.json"), *TRACES.glob("*/machine.json")])


def differing(machine, other):
    """Return the fields in which two machines differ, what units reported included."""
    found = [field.name for field in fields(Machine) if getattr(machine, field.name) != getattr(other, field.name)]
    reported = [[dict(unit.reported) for unit in one.units] for one in (machine, other)]
    return [*found, *(["reported"] if reported[0] != reported[1] else [])]


def groups(machine):
    return [(group.id, group.devices, group.reserved) for group in machine.host("6.12").groups]


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_machine_file_read_and_written_gives_the_same_machine(path):
    machine = read_machine_file(path)
    assert [] == differing(machine, read_machine(write_machine(machine)))


@pytest.mark.parametrize("name", sorted(machines()))
def test_a_machine_of_the_walks_written_and_read_is_equal(name):
    machine = machines()[name]
    again = read_machine(write_machine(machine))
    assert [] == differing(machine, again)
    assert groups(machine) == groups(again)


@pytest.mark.parametrize("path", sorted((data_dir() / "lspci").glob("*.txt")), ids=lambda path: path.stem)
def test_a_machine_of_a_listing_with_assumed_units_written_and_read_is_equal(path):
    machine = open_machine(path).with_assumed_units()
    assert [] == differing(machine, read_machine(write_machine(machine)))


@st.composite
def built(draw):
    """Build a machine with all that a builder knows."""
    m = MachineBuilder(draw(st.sampled_from(["demo", "zwei Einheiten", "a/b"])), page_size=draw(st.sampled_from([0x1000, 0x4000, 0x10000])))
    ends = []
    kinds = draw(st.lists(st.sampled_from(["intel-vtd", "amd-vi", "virtio-iommu", "arm-smmu-v3"]), min_size=1, max_size=3))
    for number, kind in enumerate(kinds):
        unit = m.unit(
            f"unit{number}",
            kind,
            width=draw(st.sampled_from([None, 39, 48, 57, 64])),
            stage=draw(st.sampled_from([None, 1, 2])) if kind == "arm-smmu-v3" else None,
            page_sizes=draw(st.sampled_from([0x40201000, 0x20010000, 0x1000])),
            snoop_control=draw(st.booleans()),
            isolated_msi=draw(st.sampled_from([None, True, False])),
            coherent=draw(st.booleans()),
            hardware_msi=draw(st.sampled_from([None, (0xFEE00000, 0xFEEFFFFF)])),
            translates_msi=kind == "virtio-iommu" and draw(st.booleans()),
        )
        acs = draw(st.sampled_from([True, False, Acs(0x5F, 0x1D), Acs(0xF, 0, 0x1D)]))
        port = m.root_port(f"{32 * number:02x}:01.0", unit, acs=acs)
        if draw(st.booleans()):
            upstream = m.upstream(f"{32 * number + 1:02x}:00.0", port)
            port = m.downstream(f"{32 * number + 2:02x}:01.0", upstream, acs=draw(st.booleans()))
        if draw(st.booleans()):
            port = m.pci_bridge(f"{32 * number + 3:02x}:00.0", port)
        ends.append(f"{32 * number + 4:02x}:00.0")
        functions, driver = draw(st.integers(1, 3)), draw(st.sampled_from([None, "vfio-pci", "nvme", "mine"]))
        m.endpoint(ends[-1], below=port, functions=functions, driver=driver, msi=draw(st.integers(0, 4)), msix=draw(st.integers(0, 64)))
        m.endpoint(f"{32 * number:02x}:1f.0", unit=unit, kind=draw(st.sampled_from([None, "pci", "rc-event-collector"])))
    if draw(st.booleans()):
        m.root_port("80:01.0", "unit0")  # nothing below
    for end in draw(st.lists(st.sampled_from(ends), max_size=3)):
        m.region(end, 0x1000 * draw(st.integers(0, 4)), 0x4FFF, draw(st.sampled_from(["direct", "direct-relaxable", "reserved"])))
    for end in draw(st.lists(st.sampled_from(ends), max_size=2)):
        m.bar(end, 0xE0000000, 0xE0000FFF)
    for number in range(draw(st.integers(0, 2))):
        m.mdev(f"mdev{number}")
    if draw(st.booleans()):
        m.interrupts(draw(st.sampled_from([ITS, GICV2M, InterruptController("x86-apic")])))
    if draw(st.booleans()):
        m.interrupts(InterruptController("gicv2m", 0x2C1C0040, devices=frozenset(ends[:1])))
    return m.machine()


@settings(max_examples=150, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(machine=built(), recorded=st.booleans())
def test_whatever_a_builder_makes_is_equal_after_writing_and_reading(machine, recorded):
    if recorded:
        machine = replace(machine, memlock=None, cpu="a CPU", notes=("assumed: a thing",), params={"vfio_iommu_type1.dma_entry_limit": "7"})
    again = read_machine(write_machine(machine))
    assert [] == differing(machine, again)
    assert machine == again
    assert groups(machine) == groups(again)


def test_what_no_builder_knows_is_written_too():
    text = '{"name": "x", "units": [{"name": "a", "devices": ["0000:00:02.0"]}], "devices": [{"bdf": "0000:00:02.0", "kind": "pci"}]}'
    behind = read_machine(text)
    assert frozenset({"0000:00:02.0"}) == behind.participants
    smmu = machines()["mixed stages"]
    narrow = replace(smmu, units=tuple(replace(unit, stage2_bits=40) for unit in smmu.units))
    assert [[], []] == [differing(machine, read_machine(write_machine(machine))) for machine in (behind, narrow)]
