"""The model answers as the recorded kernels did, everywhere in data/traces."""

import re
from dataclasses import replace

import pytest
from recorded import COLUMNS, ENVIRONMENTS, TRACES, machine, scenarios, table_scenarios

from vfiolab import replay
from vfiolab.client import NOT_ANSWERED, run
from vfiolab.model.pci.topology import Topology
from vfiolab.readers.trace import questions
from vfiolab.replay import compare

KINDS = {"intel-vtd", "amd-vi", "virtio-iommu", "arm-smmu-v3"}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_no_recorded_answer_differs_from_the_models(environment):
    recorded = scenarios(environment)
    report = compare(recorded, run(questions(recorded), machine(environment)), machine(environment))
    assert [] == [str(divergence) for divergence in report.divergences]
    assert len(recorded) == report.scenarios
    assert report.operations > 90


def test_the_selection_has_every_kind_of_iommu_and_kernel():
    machines = [machine(environment) for environment in ENVIRONMENTS]
    assert KINDS == {unit.kind for one in machines for unit in one.units}
    assert {"4.4", "4.14.177", "4.19.48", "5.4", "5.10", "5.15", "6.1", "6.6.57", "6.8", "6.12", "7.3"} == {
        str(one.host().kernel) for one in machines
    }
    assert {"type1", "iommufd-compat"} == {one.vfio for one in machines}
    assert 62 == len(ENVIRONMENTS)


def test_each_recorded_machine_says_where_it_comes_from():
    for environment in ENVIRONMENTS:
        assert machine(environment).source.startswith(f"recorded for vfiolab on Linux {machine(environment).kernel} under QEMU")
        assert any(note.startswith("derived: ") for note in machine(environment).notes)


def test_the_recordings_stay_small_and_readable():
    files = [path for path in TRACES.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 6_000_000
    assert max(len(line) for path in files if path.suffix == ".trace" for line in path.read_text().splitlines()) < 600


@pytest.mark.parametrize("environment", ["amd-6.1", "amd-6.1-ivmd", "amd-4.4", "intel-6.12compat"])
def test_what_follows_a_mapping_that_ends_at_2_64_agrees_too(environment, monkeypatch):
    """The format leaves it out, because old kernels lose such a mapping; the model loses it in the same way."""
    recorded, one = scenarios(environment), machine(environment)
    usual = compare(recorded, run(questions(recorded), one), one)
    monkeypatch.setattr(replay, "_ends_at_top", lambda *_: False)
    report = compare(recorded, run(questions(recorded), one), one)
    assert [] == [str(divergence) for divergence in report.divergences]
    assert report.operations > usual.operations


# The table of hand-written x86 cases.


def column_machine(column):
    one = machine(COLUMNS[column])
    if column == "virtio-6.12":
        return replace(one, params=dict(one.params) | {"vfio_iommu_type1.allow_unsafe_interrupts": "Y"})
    if column != "amd-6.1":
        return one
    functions = [f for f in one.topology.values() if f.physfn is None]
    bare = [replace(f, driver=None if f.driver in ("e1000", "e1000e") else f.driver, sriov_numvfs=0, sriov_totalvfs=0) for f in functions]
    gone = {f.bdf for f in one.topology.values()} - {f.bdf for f in functions}
    groups = tuple(group for group in one.groups if not set(group.devices) & gone)
    return replace(one, topology=Topology(bare), groups=groups, drivers=one.drivers - {"e1000", "e1000e"})


def short(done):
    """Return the model's answer as the table writes it."""
    verb, output = done.operation.verb, done.output
    if done.result == "skipped":
        return "skip"
    if done.result != "0":
        return done.result
    if verb == "group_status":
        return f"ok:{output['flags']}"
    if verb == "unmap":
        return f"ok:{output['unmapped']:#x}"
    if verb == "status":
        return f"lck={output['VmLck_kB']}"
    ranges = [f"{first:#x}-{last:#x}" for cap in output.get("caps", ()) for first, last in cap.get("ranges", ())]
    if verb == "get_info" and ranges:
        avail = next(cap["avail"] for cap in output["caps"] if "avail" in cap)
        return f"ok avail={avail} {' '.join(ranges)}"
    return "ok"


def as_short(answer):
    return re.sub(r"^0$", "ok", answer)


@pytest.mark.parametrize("column", COLUMNS)
def test_the_hand_written_cases_agree_in_each_configuration(column):
    one, differing, compared = column_machine(column), [], 0
    for scenario, answers in table_scenarios():
        for done, by_column in zip(run([scenario.operations], one)[0], answers, strict=True):
            expected = as_short(by_column[column])
            if done.operation.verb in (*NOT_ANSWERED, "sysfs") or expected == "skip":
                continue
            compared += 1
            if expected != short(done):
                differing.append(f"{scenario.name} line {done.operation.line}: {done.operation.text}: {expected}, the model: {short(done)}")
    assert [] == differing
    assert compared > 900
