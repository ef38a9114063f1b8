"""What if: each change and its refusals, the comparison, and who reaches whom; against machines built that way from the start."""

from __future__ import annotations

import json
import random
from itertools import permutations

import pytest

import vfiolab as vl
from vfiolab.__main__ import main
from vfiolab._paths import data_dir
from vfiolab.model.irq.delivery import write
from vfiolab.model.irq.msi import InterruptController
from vfiolab.model.kernel import Kernel
from vfiolab.model.machine import Machine
from vfiolab.model.pci.bars import bars_of
from vfiolab.model.pci.changes import DropAcs, EnableVfs, Move, Remove, SetAcs, acs_words, planned
from vfiolab.model.pci.grouping import GroupingOptions
from vfiolab.model.pci.topology import Acs, Function, Topology, TopologyError
from vfiolab.model.whatif import what_if

NEW = Kernel("6.12")
RR_OFF = "fails the ACS test now: ACS is there but RR is off (before: ACS has SV RR CR UF on)"
ON, OFF = Acs(0x5F, 0x1D), Acs(0x5F, 0)


def rp(bdf, bus=None, acs=ON, **more):
    return Function(bdf=bdf, kind="root-port", secondary=bus, subordinate=bus, acs=acs, **more)


def fn(bdf, kind="endpoint", **more):
    return Function(bdf=bdf, kind=kind, **more)


def box(*functions, **more):
    return Machine(name="box", topology=Topology(functions), **more)


def asked(machine, *changes, kernel=NEW, **options):
    return what_if(machine, *changes, kernel=kernel, options=GroupingOptions(**options), before=(kernel, None))


def shown(groups):
    return [" ".join(bdf.removeprefix("0000:") for bdf in members) for members in groups]


def switch(port=None):
    """A switch below a good root port, with two cards."""
    return box(
        rp("00:01.0", 1), fn("01:00.0", "upstream", secondary=2), fn("02:00.0", "downstream", secondary=3, acs=port),
        fn("02:01.0", "downstream", secondary=4, acs=port), fn("03:00.0"), fn("04:00.0", multifunction=True, acs=ON), fn("04:00.1", acs=ON),
        rp("00:02.0", 5), rp("00:03.0", None, None),
    )  # fmt: skip


# the changes


def test_acs_words_are_signs_and_the_words_of_lspci():
    assert (0x3D, 0x1D) == acs_words("+SV+RR+CR+UF-EC")
    assert (0x42, 0x40) == acs_words("-tb +dt")


def test_set_acs_sets_and_clears_what_is_named_and_leaves_the_rest():
    found = asked(switch(Acs(0x5F, 0x06)), SetAcs("2:0.0", "+SV-RR"))
    assert Acs(0x5F, 0x03) == found.machine.topology["0000:02:00.0"].acs


def test_a_bit_that_the_capability_lacks_stays_off_and_is_named():
    found = asked(switch(Acs(0x0D, 0)), SetAcs("02:00.0", "+SV+RR+CR+UF"))
    assert (Acs(0x0D, 0x0D), ("0000:02:00.0: its ACS capability has no UF: what it does not have stays off",)) == (
        found.machine.topology["0000:02:00.0"].acs, found.notes[:1],
    )  # fmt: skip


def test_on_ports_that_keep_the_word_at_offset_8_that_word_is_set():
    port = box(rp("00:1c.0", 1, Acs(0x0F, 0), vendor=0x8086, device=0xA110), fn("01:00.0"))
    assert ["00:1c.0", "01:00.0"] == shown(asked(port).after.groups)
    assert ["00:1c.0 01:00.0"] == shown(asked(port, SetAcs("00:1c.0", "-RR")).after.groups)
    assert ["00:1c.0", "01:00.0"] == shown(asked(port, SetAcs("00:1c.0", "-TB")).after.groups)


def test_a_capability_given_or_dropped_splits_or_merges_and_says_so():
    given = asked(switch(), SetAcs("02:00.0", "+SV+RR+CR+UF"))
    assert [("02:00.0 03:00.0", ["02:00.0", "03:00.0"])] == [(*shown([one.group]), shown(one.into)) for one in given.split]
    assert "02:00.0 passes the ACS test now: ACS has SV RR CR UF on (before: no ACS capability)" == given.split[0].because
    dropped = asked(switch(ON), DropAcs("02:00.0"))
    assert [(["02:00.0", "03:00.0"], "02:00.0 03:00.0")] == [(shown(one.groups), *shown([one.into])) for one in dropped.merged]
    assert "02:00.0 fails the ACS test now: no ACS capability (before: ACS has SV RR CR UF on)" == dropped.merged[0].because


def test_a_card_moves_with_all_its_functions_and_all_that_is_below_it():
    found = asked(switch(), Move("04:00.1", "00:03.0"))
    assert "00:03.0 04:00.0 04:00.1" in shown(found.after.groups)
    moved = "04:00.0, 04:00.1 are below 00:03.0 now (before: 02:01.0)"
    assert ([moved], [moved]) == ([one.because for one in found.split], [one.because for one in found.merged])
    whole = asked(switch(), Move("01:00.0", "00:03.0")).after.groups
    assert "00:03.0 01:00.0 02:00.0 02:01.0 03:00.0 04:00.0 04:00.1" in shown(whole)


def test_what_is_moved_is_behind_the_iommu_of_its_new_port():
    m = vl.MachineBuilder("two")
    a, b = (m.root_port(f"{n}0:01.0", unit=m.unit(f"dmar{n}", kind="intel-vtd")) for n in "02")
    m.endpoint("01:00.0", below=m.downstream("03:00.0", below=m.upstream("02:00.0", below=a)))
    m.endpoint("21:00.0", below=b)
    first, second = what_if(m.machine(), Remove("21:00.0"), Move("02:00.0", b), kernel=NEW).machine.units
    assert ({a}, {b, "0000:02:00.0", "0000:03:00.0", "0000:01:00.0"}) == (first.devices, second.devices)


def test_what_is_moved_shares_no_id_any_more_with_what_is_left_on_its_bus():
    adaptec = fn("00:0e.0", "pci", vendor=0x9005, device=0x0285)  # its DMA may carry slot 1 of its bus
    found = asked(box(fn("00:01.0", "pci"), adaptec, rp("00:02.0", 1)), Move("00:0e.0", "00:02.0"))
    assert ["00:01.0 00:0e.0", "00:02.0"] == shown(found.before.groups)
    assert ["00:01.0", "00:02.0", "00:0e.0"] == shown(found.after.groups)


@pytest.mark.parametrize(("change", "said"), [
    (Move("03:00.0", "02:01.0"), "0000:02:01.0: holds 04:00.0, 04:00.1 already, and a link has one device; computed as if both were there"),
    (Move("03:00.0", "00:02.0"), "0000:03:00.0: is below 00:02.0 now and would get a new address there; it is named by the old one"),
])  # fmt: skip
def test_what_a_move_takes_for_granted_is_said(change, said):
    assert said in asked(switch(), change).notes


def test_a_device_is_removed_with_all_below_and_a_card_without_its_function_number():
    assert ("0000:01:00.0", "0000:02:00.0", "0000:02:01.0", "0000:03:00.0", "0000:04:00.0", "0000:04:00.1") == asked(
        switch(), Remove("01:00.0")
    ).gone
    one, card = asked(switch(), Remove("4:0.1")), asked(switch(), Remove("04:00"))
    assert (("0000:04:00.1",), ("0000:04:00.0", "0000:04:00.1")) == (one.gone, card.gone)
    assert (("0000:04:00.1: 04:00.0 of the same card stays; 04:00 takes the whole card",), ()) == (one.notes[:-2], card.notes[:-2])


def test_virtual_functions_hang_where_their_owner_does_and_stand_alone_below_a_good_port():
    card = [fn("01:00.0", sriov_totalvfs=8)]
    good, bad = box(rp("00:01.0", 1), *card), box(rp("00:01.0", 1, None), *card)
    found = asked(good, EnableVfs("01:00.0", 2))
    assert ["00:01.0", "01:00.0", "01:10.0", "01:10.1"] == shown(found.after.groups)
    assert ("0000:01:10.0", "0000:01:10.1") == found.new
    assert ["00:01.0 01:00.0 01:10.0 01:10.1"] == shown(asked(bad, EnableVfs("01:00.0", 2)).after.groups)
    assert ["0000:00:01.0"] == list(asked(good, Remove("01:00.0")).after.topology)


def test_virtual_functions_move_and_go_with_their_owner():
    machine = box(
        rp("00:01.0", 1), rp("00:02.0", 2, None), fn("01:00.0", sriov_totalvfs=8, sriov_numvfs=1), fn("01:10.0", "vf", physfn="01:00.0")
    )
    assert ["00:01.0", "00:02.0 01:00.0 01:10.0"] == shown(asked(machine, Move("01:00.0", "00:02.0")).after.groups)
    assert ["00:01.0", "00:02.0"] == shown(asked(machine, Remove("01:00.0")).after.groups)


@pytest.mark.parametrize(("change", "said"), [
    (SetAcs("07:00.0", "+SV"), r"^07:00.0: no such function; on that bus or like it: 04:00.0, 03:00.0, 02:00.0"),
    (SetAcs("nic", "+SV"), "PCI address 'nic'"),
    (SetAcs("00:01.0", "+SW"), r"'SW' is no ACS bit; did you mean \+SV\?"),
    (SetAcs("00:01.0", "-ReqRedir"), "'ReqRedir' is no ACS bit; did you mean -RR?"),
    (SetAcs("00:01.0", "+QQQ"), "'QQQ' is no ACS bit; words: SV TB RR CR UF EC DT"),
    (SetAcs("00:01.0", "SV"), "write each as a sign and a word"),
    (SetAcs("00:01.0", "+SV-SV"), "SV is set and cleared"),
    (DropAcs("02:00.0"), "has no ACS capability that could be dropped"),
    (Move("03:00.0", "04:00.0"), "^04:00.0 is no bridge, so nothing can be below it; bridges: 00:01.0, 00:02.0"),
    (Move("01:00.0", "02:00.0"), "which is itself or lies below it"),
    (Move("01:00.0", "01:00.0"), "which is itself or lies below it"),
    (Move("02:00.0", "00:03.0"), "it is part of its switch: move the switch's upstream port"),
    (Move("00:01.0", "00:03.0"), "it is part of the root complex"),
    (Remove("07:00.0"), "no such function"),
    (EnableVfs("03:00.0", 1), "no SR-IOV capability"),
])  # fmt: skip
def test_nonsense_is_refused_and_says_what_is_wrong(change, said):
    with pytest.raises(TopologyError, match=said):
        asked(switch(), change)


def test_capabilities_that_nobody_read_cannot_be_set():
    with pytest.raises(TopologyError, match="its capabilities are not in the input"):
        asked(box(rp("00:01.0", 1, None, caps_known=False)), SetAcs("00:01.0", "+SV"))


@pytest.mark.parametrize("number", [0, 9])
def test_more_virtual_functions_than_there_are_cannot_be_enabled(number):
    with pytest.raises(TopologyError, match="1 to 8 virtual functions"):
        asked(box(rp("00:01.0", 1), fn("01:00.0", sriov_totalvfs=8)), EnableVfs("01:00.0", number))


def test_a_machine_whose_groups_were_recorded_computes_no_change():
    with pytest.raises(ValueError, match="its groups are recorded"):
        vl.load("one-smmu-gicv2m").what_if(remove="01:00.0")


# random machines: a tree of nodes is laid out twice, as it was and as it is after the change


class Node:
    """A slot with its functions; what is below its first function."""

    def __init__(self, kinds, acs, below=()):
        self.kinds, self.acs, self.below = kinds, acs, list(below)

    def nodes(self):
        return [self, *(inner for node in self.below for inner in node.nodes())]


def some_acs(dice):
    return dice.choice([None, ON, ON, OFF, Acs(0x5F, 0x1C), Acs(0, 0)])


def card(dice, depth):
    pick = dice.random()
    if depth < 3 and pick < 0.3:
        ports = [Node(["downstream"], [some_acs(dice)], cards(dice, depth + 1)) for _ in range(dice.randint(1, 3))]
        return Node(["upstream"], [some_acs(dice)], ports)
    if pick < 0.4:
        return Node(["pcie-to-pci"], [None], [Node(["pci"], [None]) for _ in range(dice.randint(0, 2))])
    number = dice.choice([1, 1, 2, 3])
    return Node(["endpoint"] * number, [some_acs(dice) for _ in range(number)])


def cards(dice, depth):
    return [card(dice, depth)] if dice.random() < 0.7 else []


def roots(dice):
    """Slots of the root bus: root ports (some in one slot, then all but the first hold nothing) and endpoints of the root complex."""
    found = []
    for _ in range(dice.randint(2, 4)):
        if dice.random() < 0.2:
            number = dice.choice([1, 2])
            found.append(Node(["rc-endpoint"] * number, [some_acs(dice) for _ in range(number)]))
        else:
            number = dice.choice([1, 1, 2])
            found.append(Node(["root-port"] * number, [some_acs(dice) for _ in range(number)], cards(dice, 0)))
    return found


def layout(nodes):
    """Give every function an address as firmware does; return the topology and the label (node, number) of each address."""
    functions, labels, free = [], {}, iter(range(1, 256))

    def place(siblings, bus):
        for slot, node in enumerate(siblings):
            for number, (kind, acs) in enumerate(zip(node.kinds, node.acs, strict=True)):
                bridge = kind in {"root-port", "upstream", "downstream", "pcie-to-pci"}
                secondary = next(free) if bridge else None
                many = len(node.kinds) > 1
                f = fn(f"{bus:02x}:{slot:02x}.{number}", kind, acs=acs, secondary=secondary, multifunction=many)
                functions.append(f)
                labels[f.bdf] = (node, number)
                if bridge and number == 0:
                    place(node.below, secondary)

    place(nodes, 0)
    return Topology(functions), labels


def by_label(groups, labels):
    return {frozenset(labels[bdf] for bdf in members) for members in groups}


def built(nodes):
    topology, labels = layout(nodes)
    return by_label(Machine(name="built", topology=topology).grouping(NEW).groups, labels)


def change(dice, nodes, labels):
    """Choose a change; carry it out on the nodes, and return it as a value."""
    at = {label: bdf for bdf, label in labels.items()}
    every = [inner for node in nodes for inner in node.nodes()]
    able = [label for label in at if label[0].acs[label[1]] is not None]
    loose = [node for node in every if node.kinds[0] in {"endpoint", "upstream", "pcie-to-pci", "pci"}]
    kind = dice.choice(["set", "drop", "move", "move", "remove"])
    if kind in {"set", "drop"} and able:
        node, number = dice.choice(able)
        mask, bits, acs = dice.randrange(1, 0x80), dice.randrange(0x80), node.acs[number]
        names = [("SV", 1), ("TB", 2), ("RR", 4), ("CR", 8), ("UF", 16), ("EC", 32), ("DT", 64)]
        words = "".join(("+" if bits & bit else "-") + name for name, bit in names if mask & bit)
        node.acs[number] = None if kind == "drop" else Acs(acs.cap, (acs.ctrl & ~mask) | (bits & mask & acs.cap))
        return DropAcs(at[node, number]) if kind == "drop" else SetAcs(at[node, number], words)
    if kind == "move" and loose:
        node = dice.choice(loose)
        ports = [one for one in every if one.kinds[0] in {"root-port", "downstream"} and one not in node.nodes()]
        if ports:
            port = dice.choice(ports)
            next(one for one in every if node in one.below).below.remove(node)
            port.below.append(node)
            return Move(at[node, 0], at[port, 0])
    node = dice.choice(every)
    next((one.below for one in every if node in one.below), nodes).remove(node)
    return Remove(at[node, 0].removesuffix(".0"))


def test_on_1000_random_machines_a_change_gives_what_a_machine_built_so_gives():
    kinds = {}
    for seed in range(1000):
        dice = random.Random(seed)
        nodes = roots(dice)
        topology, labels = layout(nodes)
        chosen = change(dice, nodes, labels)
        found = what_if(Machine(name="random", topology=topology), chosen, kernel=NEW)
        assert built(nodes) == by_label(found.after.groups, labels), f"seed {seed}: {chosen}"
        kinds[type(chosen)] = kinds.get(type(chosen), 0) + 1
    assert all(kinds.get(kind, 0) > 100 for kind in (SetAcs, DropAcs, Move, Remove)), kinds


def stated(topology):
    """The rule stated again, as classes of a relation.

    A function is open if it is a bridge to conventional PCI, or a port or one of several functions that lacks ACS or has one of its bits
    off. Alike are: a function and the bridge above it if any bridge above it is open (or it is on a conventional bus); and two open
    functions of one slot.
    """

    def is_open(f):
        if f.kind in {"pcie-to-pci", "pci"}:
            return True
        if f.kind in {"root-port", "downstream"} or topology.is_multifunction(f.bdf):
            return f.acs is None or bool(0x1D & f.acs.cap & ~f.acs.ctrl)
        return False

    classes = {bdf: {bdf} for bdf in topology}

    def alike(one, other):
        for bdf in (joined := classes[one] | classes[other]):
            classes[bdf] = joined

    for f in topology.values():
        if any(map(is_open, topology.path(f.bdf))):
            alike(f.bdf, topology.parent(f.bdf).bdf)
        for other in topology.siblings(f.bdf):
            if topology.is_multifunction(f.bdf) and is_open(f) and is_open(other):
                alike(f.bdf, other.bdf)
    return {frozenset(one) for one in classes.values()}


def test_on_random_machines_groups_before_and_after_are_those_of_the_rule_stated_again():
    for seed in range(400):
        dice = random.Random(seed)
        nodes = roots(dice)
        topology, labels = layout(nodes)
        found = what_if(Machine(name="random", topology=topology), change(dice, nodes, labels), kernel=NEW)
        for grouping in (found.before, found.after):
            assert stated(grouping.topology) == set(map(frozenset, grouping.groups)), f"seed {seed}"


def test_on_random_machines_each_split_and_merge_is_told_once_with_a_fact():
    told = 0
    for seed in range(1000):
        dice = random.Random(seed)
        nodes = roots(dice)
        topology, labels = layout(nodes)
        found = what_if(Machine(name="random", topology=topology), change(dice, nodes, labels), kernel=NEW)
        was, now = (grouping.groups for grouping in (found.before, found.after))
        torn = [group for group in was if len({one for one in now if set(one) & set(group)}) > 1]
        assert torn == [one.group for one in found.split]
        assert [group for group in now if len({one for one in was if set(one) & set(group)}) > 1] == [one.into for one in found.merged]
        facts = [one.because for one in (*found.split, *found.merged)]
        assert all(any(word in fact for word in (" ACS test now", " now (before", "is gone")) for fact in facts), f"seed {seed}: {facts}"
        told += len(facts)
    assert told > 150


# who reaches whom


def answering(machine):
    """Return the machine with an IOMMU and with a BAR for every device that is no bridge."""
    bars = {f.bdf: [bar.span for bar in bars_of(f) if bar.size] for f in machine.topology.values() if not f.is_bridge}
    return Machine(name="answering", topology=machine.topology, bars=bars).with_assumed_units()


def test_reach_is_what_becomes_of_a_write_to_the_peer():
    asked_of = 0
    for seed in range(60):
        dice = random.Random(seed)
        nodes = roots(dice)
        topology, labels = layout(nodes)
        found = what_if(answering(box(*topology.values())), change(dice, nodes, labels), kernel=NEW)
        hosts = [one.host(NEW) for one in (found.was, found.machine)]
        told = {(row.device, row.peer): (row.before, row.after) for row in found.reach}
        users = [f.bdf for f in found.machine.topology.values() if f.is_for_users]
        for device, peer in permutations(users, 2):
            delivered = tuple("p2p" == write(host, device, host.bars[peer][0].start).outcome for host in hosts)
            if (device, peer) in told or delivered[0] != delivered[1]:
                assert delivered == told[device, peer], f"seed {seed}: {device} {peer}"
                asked_of += 1
    assert asked_of > 50


def open_switch():
    """A switch below a root port; no port has ACS."""
    return box(rp("00:01.0", 1, None), fn("01:00.0", "upstream", secondary=2), fn("02:00.0", "downstream", secondary=3),
               fn("02:01.0", "downstream", secondary=4), fn("03:00.0"), fn("04:00.0"))  # fmt: skip


def test_the_override_splits_groups_as_wished_and_the_peer_write_still_arrives():
    machine, options = answering(open_switch()), GroupingOptions(pcie_acs_override="downstream")
    assert ["00:01.0 01:00.0 02:00.0 02:01.0 03:00.0 04:00.0"] == shown(what_if(machine, kernel=NEW).after.groups)
    host = machine.host(NEW, options)
    assert ["00:01.0", "01:00.0", "02:00.0", "02:01.0", "03:00.0", "04:00.0"] == shown(group.devices for group in host.groups)
    assert "p2p" == write(host, "0000:03:00.0", host.bars["0000:04:00.0"][0].start).outcome


def test_reach_that_an_override_leaves_and_a_capability_takes_away_is_told():
    machine = open_switch()
    lie = asked(machine, pcie_acs_override="downstream")
    assert [("0000:03:00.0", "0000:04:00.0", "p2p", True, True, "inference", True)] == [
        tuple(row) for row in lie.reach if row.device < row.peer
    ]
    assert "pcie_acs_override claims isolation that the hardware does not have" in lie.split[0].because
    truth = asked(machine, *(SetAcs(port, "+SV+RR+CR+UF") for port in ("00:01.0", "02:00.0", "02:01.0")))
    assert shown(lie.after.groups) == shown(truth.after.groups)
    assert [("0000:03:00.0", "0000:04:00.0", "p2p", True, False, "inference", True)] == [
        tuple(row) for row in truth.reach if row.device < row.peer
    ]


def mixed_units():
    m = vl.MachineBuilder("mixed")
    unsafe, safe = m.unit("dmar0", kind="intel-vtd", isolated_msi=False), m.unit("dmar1", kind="intel-vtd")
    m.endpoint("01:00.0", below=m.root_port("00:01.0", unit=unsafe))
    m.endpoint("21:00.0", below=m.root_port("20:01.0", unit=safe))
    m.root_port("20:02.0", unit=safe)
    return m.machine()


def test_a_card_moved_to_where_interrupts_are_remapped_no_longer_raises_those_of_others():
    found = what_if(mixed_units(), Move("01:00.0", "20:02.0"), kernel=NEW)
    assert [("0000:01:00.0", "0000:21:00.0", "interrupt", True, False, "rule", True)] == [tuple(row) for row in found.reach]
    outcomes = [write(one.host(NEW), "0000:01:00.0", 0xFEE0_0000, 0x31).outcome for one in (found.was, found.machine)]
    assert ["delivered", "refused"] == outcomes


def frames():
    """A switch behind an SMMU, no port with ACS: two cards whose interrupts one GICv2m frame takes, and a third on the ITS."""
    m = vl.MachineBuilder("frames")
    m.interrupts(InterruptController("gicv3-its", 0x8090040))
    m.interrupts(InterruptController("gicv2m", 0x8020040, devices=frozenset({"03:00.0", "04:00.0"})))
    up = m.upstream("01:00.0", below=m.root_port("00:01.0", unit=m.unit("smmu0", kind="arm-smmu-v3"), acs=False))
    for n in (3, 4, 5):
        m.endpoint(f"0{n}:00.0", below=m.downstream(f"02:0{n}.0", below=up, acs=False))
    return m


def test_devices_of_one_gicv2m_frame_raise_each_others_interrupts_whatever_their_groups():
    found = what_if(
        frames().machine(), *(SetAcs(port, "+SV+RR+CR+UF") for port in ("00:01.0", "02:03.0", "02:04.0", "02:05.0")), kernel=NEW
    )
    rows = [tuple(row) for row in found.reach if row.by == "interrupt"]
    pair = ("0000:03:00.0", "0000:04:00.0")
    assert [(*pair, "interrupt", True, True, "rule", True), (*pair[::-1], "interrupt", True, True, "rule", True)] == rows
    host = vl.Machine.of(found.machine).host("6.12")
    host.set_param("vfio_iommu_type1.allow_unsafe_interrupts", "Y")
    space = host.address_space()
    space.attach("03:00.0", "04:00.0")
    for device in pair:
        space.enable_msi(device)
    doorbell = 0x0800_0040  # the frame's page, mapped at the start of the software MSI window
    assert "delivered" == space.dma_write(pair[0], doorbell, 100).outcome


# the facts


def test_functions_to_which_the_same_happened_are_named_in_one_fact():
    found = asked(open_switch(), pcie_acs_override="downstream")
    claim = "pcie_acs_override claims isolation that the hardware does not have (before: no ACS capability)"
    assert [f"00:01.0, 02:00.0, 02:01.0 pass the ACS test now: {claim}"] == [one.because for one in found.split]


def test_the_proposal_of_2025_is_told_by_the_reasons_before_and_now():
    found = asked(switch(), proposal_2025=True)
    assert "(proposal of 2025): no ACS capability" in found.merged[0].because


# kernels


def test_the_isolation_that_5_9_lost_and_5_10_brought_back_is_a_change_of_kernel():
    pch = box(
        rp("00:1c.0", 1, None, vendor=0x8086, device=0x8C10),
        rp("00:1c.1", 2, None, vendor=0x8086, device=0x8C12),
        fn("01:00.0"),
        fn("02:00.0"),
    )
    lost = what_if(pch, kernel=Kernel("5.9.8"), before=(Kernel("5.8"), None))
    assert (["00:1c.0", "00:1c.1", "01:00.0", "02:00.0"], ["00:1c.0 00:1c.1 01:00.0 02:00.0"]) == (
        shown(lost.merged[0].groups),
        shown(lost.after.groups),
    )
    assert "kernel 5.9 lost the workaround for Intel PCH root ports" in lost.merged[0].because
    back = what_if(pch, kernel=Kernel("5.10"), before=(Kernel("5.9.8"), None))
    assert [lost.after.groups] == [(one.group,) for one in back.split]
    assert "(before: kernel 5.9 lost the workaround" in back.split[0].because


# in Python and as a command


def test_the_verb_of_a_host_takes_short_addresses_and_leaves_the_host_as_it_was():
    host = vl.load("hp-elitebook-630")
    before = shown(group.devices for group in host.groups)
    found = host.what_if(set_acs={"4:4.0": "-RR"}, remove=["00:1f.6"])
    assert ["04:04.0 2c:00.0"] == shown(one.into for one in found.merged)
    assert before == shown(group.devices for group in host.groups) == shown(found.before.groups)
    assert {"device", "peer", "by"} <= set(found.table().columns)
    assert isinstance(found.machine.host(), vl.Host)


def test_changes_are_made_in_one_order_whatever_the_order_of_the_options():
    made = planned(set_acs=[("00:01.0", "+SV")], drop_acs=["00:01.0"], move=[("a", "b")], remove=["c"], vfs=[("d", 1)])
    assert [Remove, Move, EnableVfs, DropAcs, SetAcs] == [type(one) for one in made]


def answer(capsys, *words):
    status = main(["groups", *words])
    said = capsys.readouterr()
    return status, said.out, said.err


def answered(capsys, *words):
    return json.loads(answer(capsys, *words, "--json")[1])


def test_json_of_a_what_if_has_before_and_after_splits_merges_and_reach(capsys):
    plain = answered(capsys, "hp-elitebook-630")
    found = answered(capsys, "hp-elitebook-630", "--set-acs", "04:04.0=-RR")
    assert ["groups", "warnings", "before", "split", "merged", "reach"] == list(found)
    assert plain["groups"] == found["before"]
    assert [{"groups": [["0000:04:04.0"], ["0000:2c:00.0"]], "into": ["0000:04:04.0", "0000:2c:00.0"],
             "because": f"04:04.0 {RR_OFF}"}] == found["merged"]  # fmt: skip
    assert ([], []) == (found["split"], found["reach"])


def test_json_names_the_ends_of_a_reach_from_and_to(capsys):
    found = answered(capsys, "amd-matisse-desktop", "--pcie-acs-override", "downstream,multifunction", "--diff")
    row = {"from": "0000:04:00.0", "to": "0000:05:00.0", "by": "p2p", "before": True, "after": True, "rests": "inference"}
    assert row in found["reach"]
    assert (25, 33) == (len(found["before"]), len(found["groups"]))


def test_without_a_what_if_the_json_is_as_it_was(capsys):
    assert ["groups", "warnings"] == list(answered(capsys, "amd-matisse-desktop", "--pcie-acs-override", "downstream"))


def test_diff_without_a_change_says_that_no_group_changes(capsys):
    status, out, _ = answer(capsys, "amd-matisse-desktop", "--diff")
    assert (0, 1, 1) == (status, out.count("devices: before, "), out.count("devices: after, "))
    assert out.rstrip().endswith("no group")


def test_before_is_the_input_with_its_own_kernel_and_no_boot_parameter(capsys):
    plain = answered(capsys, "hp-elitebook-630")["groups"]
    assert plain == answered(capsys, "hp-elitebook-630", "--kernel", "5.9.8", "--disable-acs-redir", "0000:04:04.0", "--diff")["before"]


def test_text_says_what_splits_and_who_can_still_reach_whom(capsys):
    _, out, _ = answer(capsys, "amd-matisse-desktop", "--pcie-acs-override", "downstream,multifunction", "--diff")
    assert "split: 02:00.0 02:00.1" in out
    assert (
        "No isolation, though in two groups, by peer-to-peer DMA (inference):\n  02:00.0, 02:00.1, 04:00.0, 05:00.0, 2a:00.0: one another"
        in out
    )


def test_several_changes_go_together(capsys):
    found = answered(
        capsys,
        "hp-elitebook-630",
        "--set-acs",
        "04:04.0=-RR",
        "--set-acs",
        "00:06.2=-SV",
        "--remove",
        "00:14.3",
        "--move",
        "02:00.0=00:07.0",
    )
    assert ["0000:04:04.0", "0000:2c:00.0"] in found["groups"]
    assert "0000:00:14.3" not in {bdf for group in found["groups"] for bdf in group}


@pytest.mark.parametrize(("words", "said"), [
    (("--set-acs", "04:04.0"), "--set-acs 04:04.0: must be BDF=BITS"),
    (("--vfs", "2c:00.0=two"), "--vfs 2c:00.0=two: must be BDF=N"),
    (("--move", "2c:00.0="), "--move 2c:00.0=: must be BDF=PORT"),
    (("--remove", "77:00.0"), "77:00.0: no such function"),
    (("--set-acs", "04:04.0=+RX"), "did you mean +RR?"),
])  # fmt: skip
def test_the_command_refuses_nonsense_with_2(words, said, capsys):
    status, _, err = answer(capsys, "hp-elitebook-630", *words)
    assert 2 == status
    assert said in " ".join(err.split())


def test_a_listing_from_standard_input_takes_changes_too(monkeypatch, capsys):
    text = (data_dir() / "lspci/hp-elitebook-630.txt").read_text()
    import io
    import sys

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert ["0000:04:04.0", "0000:2c:00.0"] in answered(capsys, "-", "--set-acs", "04:04.0=-RR")["groups"]
