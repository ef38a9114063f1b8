"""How verbs and views grow with what they do not show: each beside itself, on a space, a log or a host that holds much less.

The bar is a power of the sizes' ratio. 0.2 lets a search that is logarithmic pass, and a busy machine; a walk over everything is 1.
"""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from math import log
from time import process_time

import pytest
from growing import FAR, FIRST, NIC, PAGE, busy, grown

import vfiolab as vl
from vfiolab.draw.stage.measure import shorten, wrap
from vfiolab.kit import MachineBuilder, boot
from vfiolab.model.kernel import Kernel
from vfiolab.model.pci.grouping import iommu_groups
from vfiolab.model.pci.topology import Function, Topology

pytestmark = pytest.mark.bench

FEW, MANY = 1_000, 65_535
FLAT, LINEAR = 0.2, 1.2
spaces, logs = cache(grown), cache(busy)


def fresh(space):
    """Return the iova behind the last mapping, a new one each time."""
    return FIRST + 2 * PAGE * (len(space.container.backend.dmas) + 1)


def refused(call, *args):
    with suppress(vl.VfioError, ValueError):
        call(*args)


def map_and_write(space):
    iova = fresh(space)
    space.map(iova, PAGE)
    space.dma_write(NIC, iova)


def map_and_unmap(space):
    space.map(0x1000, PAGE, "one more")
    space.unmap(0x1000)


def second_device(space):
    space.host.bind(FAR, "e1000e")
    space.host.bind(FAR)


VERBS = {
    "map of fresh memory": lambda space: space.map(fresh(space), PAGE),
    "map and unmap": map_and_unmap,
    "map that is refused": lambda space: refused(space.map, FIRST, PAGE),
    "unmap of what is not there": lambda space: refused(space.unmap, FIRST + 1),
    "dma_write": lambda space: space.dma_write(NIC, FIRST + 2 * PAGE * (len(space.container.backend.dmas) // 2)),
    "dma_read that faults": lambda space: space.dma_read(NIC, FIRST + PAGE),
    "map, then dma_write": map_and_write,
    "raise_msi": lambda space: space.raise_msi(NIC),
    "enable_msi": lambda space: space.enable_msi(NIC),
    "open": lambda space: space.open(NIC),
    "bind of another device": second_device,
    "get_info": lambda space: space.container.get_info(),
    "groups, domains, iova_ranges, messages": lambda space: (space.groups, space.domains, space.iova_ranges, space.messages),
    "repr of space, domains, log and host": lambda space: (repr(space), repr(space.domains), repr(space.log), repr(space.host)),
    "timeline": lambda space: space.timeline(last=5),
    "chain": lambda space: space.chain(),
}
OF_A_LOG = {
    "picture": lambda space: space.picture(),
    "look and changed": lambda space: space.changed(space.look()),
    "repr of the log": lambda space: repr(space.log),
    "timeline": lambda space: space.timeline(last=5),
    "mappings": lambda space: space.mappings,
    "map and unmap": map_and_unmap,
    "dma_write": lambda space: space.dma_write(NIC, FIRST),
}
OF_ALL = {
    "picture": lambda space: space.picture(),
    "look and changed": lambda space: space.changed(space.look()),
    "mappings": lambda space: space.mappings,
}


def seconds(act, space, times):
    """Return an action that gives the CPU seconds of one call."""

    def measure():
        start = process_time()
        for _ in range(times):
            act(space)
        return (process_time() - start) / times

    return measure


def compared(beside, name, act, few, many, most, sizes=(FEW, MANY), times=20, rounds=3):
    """Measure an act on much beside the same on little; its exponent is at most `most`."""
    ratio = sizes[1] / sizes[0]
    measured = beside(
        f"{name}, {sizes[1]:,}", seconds(act, many, times), f"{sizes[0]:,}", seconds(act, few, times), within=ratio**most, rounds=rounds
    )
    print(f"{name}: exponent {log(measured.ratio) / log(ratio):.2f}")


@pytest.mark.parametrize("name", VERBS)
def test_a_call_does_not_grow_with_the_mappings(beside, name):
    compared(beside, name, VERBS[name], spaces(FEW), spaces(MANY), FLAT)


@pytest.mark.parametrize("name", OF_A_LOG)
def test_a_view_does_not_grow_with_the_log(beside, name):
    compared(beside, f"{name}, log", OF_A_LOG[name], logs(FEW), logs(MANY), FLAT)


@pytest.mark.parametrize("name", OF_ALL)
def test_what_shows_every_mapping_grows_in_proportion(beside, name):
    compared(beside, name, OF_ALL[name], spaces(FEW), spaces(MANY), LINEAR, times=1, rounds=3)


# hosts


def crowd(groups):
    """Return a space on a host with so many devices, each in a group of its own behind one unit."""
    m = MachineBuilder("crowd")
    unit = m.unit("dmar0", kind="intel-vtd")
    for number in range(groups):
        m.endpoint(f"{number // 8192:04x}:{number // 32 % 256:02x}:{number % 32:02x}.0", unit=unit)
    return boot(m.machine(), "6.12").address_space()


def attach_all(space):
    for group in space.host.groups:
        space.attach(group.devices[0])


def detach_all(space):
    for group in space.host.groups:
        space.detach(group.devices[0])


def one_by_one(groups):
    """Return an action: every group joins and leaves again, one call each; it gives the CPU seconds of one group."""
    space = crowd(groups)

    def act():
        start = process_time()
        attach_all(space)
        detach_all(space)
        return (process_time() - start) / groups

    return act


def test_attach_and_detach_one_by_one_do_not_grow_with_the_groups_inside(beside):
    beside("attach + detach, 2,000 groups", one_by_one(2_000), "250 groups", one_by_one(250), within=8**FLAT, rounds=3)


def test_the_chain_of_many_groups_grows_in_proportion(beside):
    few, many = crowd(250), crowd(2_000)
    attach_all(few)
    attach_all(many)
    compared(beside, "chain of groups", lambda space: space.chain(), few, many, LINEAR, sizes=(250, 2_000), times=1, rounds=3)


def containers(count):
    """Return an action: open so many containers and close them; it gives the CPU seconds of one."""
    process = crowd(1).process

    def act():
        start = process_time()
        opened = [process.open_container() for _ in range(count)]
        for container in opened:
            container.close()
        return (process_time() - start) / count

    return act


def test_a_descriptor_does_not_grow_with_those_that_are_open(beside):
    beside("open + close, 8,000 containers", containers(8_000), "500 containers", containers(500), within=16**FLAT, rounds=7)


def bridges(depth):
    """Return a topology of bridges below each other."""
    names = [f"{number // 256:04x}:{number % 256:02x}:00.0" for number in range(depth)]
    kinds = ["root-port", *(("upstream", "downstream")[number % 2] for number in range(depth - 1))]
    return Topology([Function(bdf=bdf, kind=kind, parent=above) for bdf, kind, above in zip(names, kinds, [None, *names], strict=False)])


def test_groups_of_a_chain_of_bridges_grow_in_proportion(beside):
    act = lambda tree: iommu_groups(tree, Kernel("6.12"))
    compared(beside, "groups of a chain", act, bridges(500), bridges(8_000), LINEAR, sizes=(500, 8_000), times=1, rounds=3)


# words


@pytest.mark.parametrize("write", [lambda text: shorten(text, 100, 11), lambda text: wrap(text, 100, 11)], ids=["shorten", "wrap"])
def test_a_long_name_grows_at_most_in_proportion(beside, write):
    few, many = ("guest memory " * 100, "guest memory " * 10_000)
    compared(beside, "a long name", write, few, many, LINEAR, sizes=(100, 10_000), times=3)
