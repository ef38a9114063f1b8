"""The model beside sorted dictionaries: what all checks, events and errors cost, and how it grows."""

from __future__ import annotations

from time import perf_counter

import pytest
from sortedcontainers import SortedDict

from vfiolab.model.builder import MachineBuilder

pytestmark = pytest.mark.bench

PAGE, MANY = 0x1000, 65_535
PAIRS = 2_000


def space(mappings, domains=1):
    """Return a host, a container with so many mappings in so many domains (an SMMU each), and how to attach the last group again."""
    m = MachineBuilder("bench")
    for number in range(domains + 1):
        port = m.root_port(f"{16 * number:02x}:01.0", unit=m.unit(f"smmu{number}", kind="arm-smmu-v3"))
        m.endpoint(f"{16 * number + 1:02x}:00.0", below=port)
    host = m.host("6.12")
    opened = host.process.open_container()
    for number in range(domains):
        host.process.open_group(f"0000:{16 * number + 1:02x}:00.0").set_container(opened)
        if opened.backend is None:
            opened.set_iommu(3)
    for slot in range(mappings):
        opened.map_dma(0x1_0000_0000 + 2 * PAGE * slot, PAGE, host.machine.arena.base)
    assert domains == len(opened.backend.domains)
    late = host.process.open_group(f"0000:{16 * domains + 1:02x}:00.0")
    return host, opened, late


def pairs(host, opened):
    """Return an action: map and unmap, among the other mappings; it gives the seconds of one pair."""
    base, vaddr = 0x1_0000_0000 + PAGE, host.machine.arena.base
    step = max(len(opened.backend.dmas) // PAIRS, 1)

    def act():
        host.log.clear()
        start = perf_counter()
        for slot in range(PAIRS):
            iova = base + 2 * PAGE * step * slot
            opened.map_dma(iova, PAGE, vaddr)
            opened.unmap_dma(iova, PAGE)
        return (perf_counter() - start) / PAIRS

    return act


def attach(host, opened, late):
    """Return an action: a group comes in with a domain of its own, into which all mappings are replayed; it gives its seconds."""

    def act():
        host.log.clear()
        start = perf_counter()
        late.set_container(opened)
        elapsed = perf_counter() - start
        late.unset_container()
        return elapsed

    return act


def keys(count):
    return [0x1_0000_0000 + 2 * PAGE * slot for slot in range(count)]


def test_map_and_unmap_among_65000_within_9_times_of_a_sorted_dictionary(beside):
    host, opened, _ = space(65_000)
    table = SortedDict.fromkeys(keys(65_000), PAGE)

    def peer():
        step = 65_000 // PAIRS
        start = perf_counter()
        for slot in range(PAIRS):
            key = 0x1_0000_0000 + PAGE + 2 * PAGE * step * slot
            table[key] = PAGE
            del table[key]
        return (perf_counter() - start) / PAIRS

    beside("map + unmap among 65,000 mappings", pairs(host, opened), "SortedDict set + delete", peer, within=9)


def test_attach_with_65535_mappings_to_replay_within_8_times_of_copying_a_sorted_dictionary(beside):
    table = SortedDict.fromkeys(keys(MANY), PAGE)
    beside(
        "attach, 65,535 mappings replayed", attach(*space(MANY)), "copying a SortedDict of 65,535", lambda: table.copy() and None, within=8
    )


def test_map_and_unmap_grow_slowly_from_1000_to_65000_mappings(beside):
    few, many = space(1_000), space(65_000)
    beside("map + unmap among 65,000", pairs(*many[:2]), "map + unmap among 1,000", pairs(*few[:2]), within=3)


def test_replay_grows_with_the_mappings(beside):
    few, many = space(1_000), space(MANY)
    quadratic = (MANY / 1_000) ** 2
    beside("attach, 65,535 replayed", attach(*many), "attach, 1,000 replayed", attach(*few), within=quadratic / 16)


def test_eight_domains_cost_less_than_three_times_one(beside):
    one, eight = space(1_000), space(1_000, domains=8)
    beside("map + unmap in 8 domains", pairs(*eight[:2]), "map + unmap in 1 domain", pairs(*one[:2]), within=3)
