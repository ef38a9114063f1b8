"""Groups of a large host, beside a general graph library that only builds the same tree."""

from __future__ import annotations

import networkx as nx
import pytest

from vfiolab.model.pci.grouping import iommu_groups
from vfiolab.model.pci.topology import Acs, Function, Topology

pytestmark = pytest.mark.bench

ON, OFF = Acs(0x5F, 0x1D), Acs(0x5F, 0)


def big_host(count):
    """Return functions of a host with switches of four ports and cards of eight functions, good and weak ports mixed."""
    functions = []
    unit = 0
    while len(functions) < count:
        segment, place = divmod(unit, 40)
        bus, unit = 1 + 6 * place, unit + 1
        functions += [
            Function(bdf=f"{segment:04x}:00:{place % 32:02x}.{place // 32}", vendor=0x8086, device=0x1234, class_code=0x060400,
                     kind="root-port", multifunction=True, acs=OFF if place % 3 == 0 else ON, secondary=bus, subordinate=bus + 5),
            Function(bdf=f"{segment:04x}:{bus:02x}:00.0", vendor=0x10B5, device=0x8748, class_code=0x060400, kind="upstream",
                     secondary=bus + 1, subordinate=bus + 5),
        ]  # fmt: skip
        for port in range(4):
            below = bus + 2 + port
            functions.append(
                Function(bdf=f"{segment:04x}:{bus + 1:02x}:{port:02x}.0", vendor=0x10B5, device=0x8748, class_code=0x060400,
                         kind="downstream", acs=ON if port % 2 else OFF, secondary=below, subordinate=below)
            )  # fmt: skip
            functions += [
                Function(bdf=f"{segment:04x}:{below:02x}:00.{n}", vendor=0x8086, device=0x1521 if port == 3 else 0x10D3,
                         class_code=0x020000, kind="endpoint", multifunction=True)
                for n in range(8)
            ]  # fmt: skip
    return functions[:count]


def same_tree(functions):
    """Build the same tree with networkx, with what Topology promises: the facts, no loop, the order in which Linux scans."""
    above = {(f.segment, f.secondary): f.bdf for f in functions if f.secondary}
    tree = nx.DiGraph()
    for f in sorted(functions, key=lambda f: f.key):
        tree.add_node(f.bdf, vendor=f.vendor, device=f.device, kind=f.kind, acs=f.acs, multifunction=f.multifunction)
    for f in functions:
        bridge = above.get((f.segment, f.bus))
        if bridge is not None:
            tree.add_edge(bridge, f.bdf)
    assert nx.is_forest(tree)
    return list(nx.lexicographical_topological_sort(tree))


def test_groups_of_4096_functions_within_3_times_of_networkx_building_the_tree(beside):
    functions = big_host(4096)
    beside(
        "groups of 4,096 functions", lambda: iommu_groups(Topology(functions)) and None, "networkx builds the tree",
        lambda: same_tree(functions) and None, within=3,
    )  # fmt: skip


def test_twice_the_functions_take_twice_the_time(beside):
    small, large = Topology(big_host(4096)), Topology(big_host(8192))
    beside(
        "groups of 8,192 functions", lambda: iommu_groups(large) and None, "groups of 4,096 functions",
        lambda: iommu_groups(small) and None, within=2.6,
    )  # fmt: skip
