"""Two hosts side by side: everything that can be seen of them and of all their processes."""

from model_world import differing, snapshot

from vfiolab.draw import iova_map, to_text
from vfiolab.model.user.container import Container


def state(host):
    """Return everything that can be seen of a host and all its processes."""
    first, everything = host.process, {}
    for name, process in host.processes.items():
        host.process = process
        memory = [
            (span, region.prot, region.physical, region.fresh, region.bar and region.bar.name) for span, region in process.memory.regions
        ]
        everything[name] = snapshot(host) | {"memory": memory} | {"asleep": process.asleep(), "permitted": process.permitted}
    host.process = first
    return everything


def different(first, second):
    assert first.keys() == second.keys()
    return {name: found for name in first if (found := differing(first[name], second[name]))}


def pictures(host):
    files = [file for process in host.processes.values() for file in process.descriptors.values()]
    return [to_text(iova_map(file, log=host.log)) for file in files if isinstance(file, Container)]


def assert_same(first, second):
    """Assert that two hosts are in the same state and look the same."""
    assert {} == different(state(first), state(second))
    assert pictures(first) == pictures(second)
