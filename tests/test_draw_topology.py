"""The topology picture, small and large; the groups before and after a change; why a device is in its group."""

from __future__ import annotations

import random
import re
from collections import Counter

import matplotlib.pyplot as plt
import pytest
from test_draw_fonts import FONTS, WIDTHS, extent, problems

import vfiolab as vl
from vfiolab._paths import data_dir
from vfiolab.commands.groupsview import as_json, as_text
from vfiolab.draw import Box, Text, plot, to_text, topology
from vfiolab.draw.tree import Groups, nodes, numbers, runs
from vfiolab.model.pci.grouping import GroupingOptions, iommu_groups
from vfiolab.model.pci.topology import Acs, Function, Topology, TopologyError

DRIVERS = ("nvme", "vfio-pci", "a-driver-with-a-name-longer-than-a-narrow-card", None)


def rack():
    """A server of 324 functions: network cards with 64 virtual functions, switches with disks, and cards; 6 ports lack ACS."""
    m = vl.MachineBuilder("rack server")
    units = [m.unit(f"dmar{n}", kind="intel-vtd") for n in range(2)]
    for n in range(16):
        port = m.root_port(f"{0x80 * (n // 8):02x}:{n % 8 + 1:02x}.0", unit=units[n // 8], acs=n not in (5, 13))
        bus = 0x80 * (n // 8) + 1 + n % 8 * 12
        if n % 8 < 2:
            m.endpoint(f"{bus:02x}:00.0", below=port, functions=2, driver="mlx5_core", acs=True)
            for v in range(64):
                m.endpoint(f"{bus:02x}:{2 + v // 8:02x}.{v % 8}", below=port, kind="vf", driver="vfio-pci" if v < 8 else "mlx5_core")
        elif n % 8 < 4:
            switch = m.upstream(f"{bus:02x}:00.0", below=port)
            for d in range(4):
                m.endpoint(
                    f"{bus + 2 + d:02x}:00.0", below=m.downstream(f"{bus + 1:02x}:{d:02x}.0", below=switch, acs=n != 3), driver="nvme"
                )
        else:
            m.endpoint(f"{bus:02x}:00.0", below=port, driver="nvme" if n % 2 else "nvidia")
    return m.host("6.12")


def made(seed):
    """A random machine: ports with and without ACS, switches in switches, bridges, cards of several functions."""
    dice, m, bus = random.Random(seed), vl.MachineBuilder(f"machine {seed}"), 0
    unit = m.unit("dmar0", kind="intel-vtd")

    def acs():
        return dice.choice([True, True, False, Acs(0x5F, 0x11)])

    def fill(port, depth):
        nonlocal bus
        bus = here = bus + 1
        if depth < 4 and dice.random() < 0.35:
            switch = m.upstream(f"{here:02x}:00.0", below=port)
            bus = inner = bus + 1
            for d in range(dice.randint(1, 4)):
                fill(m.downstream(f"{inner:02x}:{d:02x}.0", below=switch, acs=acs()), depth + 1)
        elif depth < 4 and dice.random() < 0.15:
            fill(m.pci_bridge(f"{here:02x}:00.0", below=port), 4)
        else:
            m.endpoint(
                f"{here:02x}:00.0", below=port, functions=dice.choice([1, 1, 2, 3]), driver=dice.choice(DRIVERS), acs=dice.random() < 0.3
            )

    for n in range(dice.randint(1, 10)):
        fill(m.root_port(f"00:{n + 1:02x}.0", unit=unit, acs=acs()), 1)
    m.endpoint("00:1f.0", unit=unit, functions=dice.randint(1, 3), driver=None)
    return m.host("6.12")


def changes(host, seed):
    """A random change to a machine that it allows."""
    dice, ports = random.Random(seed), [f.bdf for f in host.topology.values() if f.is_bridge and f.kind != "pcie-to-pci"]
    port, other = dice.choice(ports), dice.choice(ports)
    card = dice.choice([f.bdf for f in host.topology.values() if f.kind == "endpoint"] or ports)
    options = [
        {"drop_acs": port}, {"set_acs": {port: "+SV+RR+CR+UF"}}, {"remove": card}, {"move": {card: other}}, {"remove": port},
        {"options": GroupingOptions(pcie_acs_override="downstream,multifunction")},
    ]  # fmt: skip
    for change in dice.sample(options, len(options)):
        try:
            return host.what_if(**change)
        except TopologyError:  # a port that holds the card, or a root port that is to move
            continue
    raise AssertionError("one of these changes is always possible")


def spilled(picture):
    """List the words that stand on a box and end beyond it, font by font."""
    boxes = [box for box in picture.shapes if isinstance(box, Box) and (box.width, box.height) != (15, 10)]
    found = []
    for text in (shape for shape in picture.shapes if isinstance(shape, Text)):
        for font in FONTS:
            left, top, right, bottom = extent(text, font)
            on = [b for b in boxes if b.x <= (left + right) / 2 <= b.x + b.width and b.y <= (top + bottom) / 2 <= b.y + b.height]
            inner = min(on, key=lambda b: b.width * b.height, default=None)
            if inner and not (
                inner.x <= left and right <= inner.x + inner.width and inner.y <= top + 1.5 and bottom <= inner.y + inner.height + 0.5
            ):
                found.append(f"{font}: {text.text}")
    return found


# one picture, small and large


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("seed", range(6))
def test_no_made_machine_has_letters_that_collide_or_leave_their_card_before_and_after_a_change(seed, width):
    host = made(seed)
    device = random.Random(seed).choice([*host.topology])
    for picture in (topology(host, width=width), changes(host, seed).picture(width=width), host.why(device).picture(width=width)):
        assert ([], []) == (problems(picture), spilled(picture)), picture


@pytest.mark.parametrize("width", WIDTHS)
def test_no_machine_of_the_kit_has(width):
    for name in ("radxa-orion-o6-arm64", "apple-macmini-2018-egpu", "intel-skylake-plx-switch", "two-smmu-server"):
        assert ([], []) == (problems(picture := topology(vl.load(name), width=width)), spilled(picture)), name


@pytest.mark.parametrize("width", WIDTHS)
def test_three_hundred_devices_fit_on_two_screens_and_none_of_them_is_lost(width):
    host = rack()
    picture = topology(host, width=width)
    assert 324 == len(host.topology) == len(picture.table)
    assert ([], []) == (problems(picture), spilled(picture))
    assert picture.height < (1000 if width >= 760 else 1800)
    assert {str(host.group_of(bdf).id) for bdf in host.topology} == {row[2] for row in picture.table}


@pytest.mark.parametrize("host", [rack(), *map(made, range(40)), *map(vl.load, ("apple-macmini-2018-egpu", "amd-matisse-desktop"))])
def test_each_function_is_in_one_row_and_the_functions_of_a_row_are_equal_with_all_below_them(host):
    side, tree = Groups.of(host), host.topology
    rows = nodes([side], set(tree), lambda _: "")
    assert sorted(tree) == sorted(f.bdf for row in rows for f in row.all)
    row_of = {f.bdf: n for n, row in enumerate(rows) for f in row.all}
    sizes = Counter(host.group_of(bdf) and host.group_of(bdf).id for bdf in tree)
    for row in rows:
        seen = [
            (
                f.kind, f.is_for_users and (f.vendor, f.device), host.drivers.driver_of(f.bdf), side.acs(f.bdf),
                sizes[side.number.get(f.bdf)], Counter(row_of[child.bdf] for child in tree.children(f.bdf)),
                row_of[above.bdf] if (above := tree.parent(f.bdf)) else None,
            )
            for f in row.all
        ]  # fmt: skip
        assert [seen[0]] * len(seen) == seen


@pytest.mark.parametrize("seed", range(40))
def test_two_devices_of_one_group_are_never_told_as_two_groups_nor_two_groups_as_one(seed):
    host = made(seed)
    side = Groups.of(host)
    for row in nodes([side], set(host.topology), lambda _: ""):
        held = {side.number[f.bdf] for f in row.all}
        assert (f"group {min(held)}" if len(held) == 1 else f"{len(held)} groups: {runs(sorted(held))}") == numbers(side, row)
        assert 0 == len(row.all) % len(held)


@pytest.mark.parametrize("width", WIDTHS)
def test_names_of_hundreds_of_letters_stay_on_their_cards_and_in_eighty_columns(width):
    card = Function(bdf="01:00.0", kind="endpoint", name=f"Ethernet controller: {'x' * 500} {'y ' * 300}", driver="d" * 300)
    picture = topology(iommu_groups(Topology([Function(bdf="00:01.0", kind="root-port", secondary=1), card])), width=width)
    assert ([], []) == (problems(picture), spilled(picture))
    assert max(map(len, to_text(picture).splitlines())) <= 80


def test_ports_that_are_equal_but_for_one_device_below_are_not_one():
    m = vl.MachineBuilder("two ports")
    unit = m.unit("dmar0", kind="intel-vtd")
    for n, driver in enumerate(("nvme", "nvme", "ahci"), 1):
        m.endpoint(f"0{n}:00.0", below=m.root_port(f"00:0{n}.0", unit=unit), driver=driver)
    shown = [shape.text for shape in topology(m.host()).shapes if isinstance(shape, Text)]
    assert ["2", "2"] == [text.partition("  ×")[2] or text.partition(" ×")[2] for text in shown if re.search(r"×\d$", text)]


def test_a_driver_is_the_one_that_the_device_is_bound_to_now():
    host = vl.load("intel-vtd-39bit")
    host.bind("01:00.0")
    assert ["vfio-pci"] == [row[4] for row in topology(host, only=["01:00.0"]).table][-1:]
    assert "[vfio-pci]" in to_text(topology(host, only=["01:00.0"]))


def test_a_shared_group_that_is_scattered_says_at_each_place_that_it_is_a_part():
    parts = [
        shape.text for shape in vl.load("amd-matisse-desktop").what_if(move={"05:00.0": "00:03.1"}).picture().shapes
        if isinstance(shape, Text) and "part" in shape.text
    ]  # fmt: skip
    assert ["group 15, part 1 of 2", "group 15, part 2 of 2"] == parts


def test_each_port_tells_its_acs_in_words_and_with_a_sign():
    host = vl.load("apple-macmini-2018-egpu")
    ports = [row for row in topology(host).table if host.topology[row[0]].is_bridge]
    assert 20 < len(ports)
    assert [] == [row for row in ports if not re.match(r"ACS (✓ (isolates|needs none)|✗ \w.+)$", row[3])]


def test_the_text_twin_has_each_group_that_is_drawn_and_each_reason_beside_it():
    host = vl.load("amd-matisse-desktop")
    text = to_text(topology(host))
    flat = " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 80
    assert {"0, 3 … 10", *(str(n) for n in (1, 2, 5, 9, *range(11, 25)))} == {
        line[:11].strip() for line in text.splitlines()[4:] if line[:1].strip() not in ("", "-")
    }
    for group in host.groups:
        joins = [r for bdf in group.devices if (r := host.grouping.reasons[bdf]).joins]
        assert not joins or str(joins[0]) in flat


def test_matplotlib_has_every_word_of_the_svg():
    for picture in (topology(rack()), changes(made(3), 3).picture()):
        drawn = [text.get_text() for text in plot(picture).texts]
        plt.close("all")
        assert sorted(shape.text for shape in picture.shapes if isinstance(shape, Text)) == sorted(drawn)


# before and after


def words(picture):
    return [shape.text for shape in picture.shapes if isinstance(shape, Text)]


DMA = "by peer-to-peer DMA (inference)"
ONLY, STAYS = "Only what the change touches is drawn.", "Who reaches whom past the IOMMU stays as it was."
AMD = {
    "split": {"options": GroupingOptions(pcie_acs_override="downstream,multifunction")},
    "merge": {"drop_acs": "2c:00.0"},
    "move": {"move": {"05:00.0": "00:03.1"}},
    "remove": {"remove": "02:00"},
    "none": {"set_acs": {"00:01.1": "+SV"}},
}


@pytest.mark.parametrize("kind", AMD)
def test_the_table_and_the_text_have_the_groups_of_the_model_before_and_after(kind):
    found = vl.load("amd-matisse-desktop").what_if(**AMD[kind])
    picture = found.picture()
    for bdf, _, before, after, _, _, happens in picture.table:
        for number, grouping in ((before, found.before), (after, found.after)):
            assert number == (str(grouping.group_of(bdf)) if bdf in grouping.reasons else "-")
        because = [one.because for one in (*found.split, *found.merged) if bdf in getattr(one, "group", getattr(one, "into", ()))]
        assert [] == [reason for reason in because if reason not in happens]
        assert (bdf in found.gone, (bdf, kind) == ("0000:05:00.0", "move")) == ("✗ gone" in happens, "moves: " in happens)
    touched = (
        {bdf for one in found.split for bdf in one.group} | {bdf for one in found.merged for bdf in one.into} | {*found.gone, *found.new}
    )
    assert touched <= {row[0] for row in picture.table}
    assert (kind == "none") == (not picture.table)
    flat = " ".join(to_text(picture).split())
    assert [] == [one.because for one in (*found.split, *found.merged) if one.because not in flat]
    assert [] == [title for title in found.isolation if title not in flat]
    assert max(map(len, to_text(picture).splitlines())) <= 80


@pytest.mark.parametrize(("kind", "said"), [
    ("split", ["split 1 → 9", "was in 15", "ACS ✗ no ACS capability → ✓ isolates", f"✗ No isolation, though in two groups, {DMA}"]),
    ("merge", ["merged 3 → 1", "goes into 17", f"{ONLY} {STAYS}"]),
    ("move", ["split 1 → 2", "moves: 03:07.0 → 00:03.1", f"✓ Isolation gained, {DMA}", "no longer here", "new here"]),
    ("remove", [f"No group splits or merges. {ONLY} {STAYS}", "✗ gone"]),
    ("none", ["25 groups before, 25 after", f"No group splits or merges, and no port's ACS verdict changes. {STAYS}"]),
])  # fmt: skip
def test_what_happens_is_told_in_words_and_signs(kind, said):
    shown = words(vl.load("amd-matisse-desktop").what_if(**AMD[kind]).picture(width=900))
    assert [] == [one for one in said if one not in shown]
    assert {"split": ["split 1 → 9"] * 2, "merge": ["merged 3 → 1"] * 2, "move": ["split 1 → 2"] * 2}.get(kind, []) == [
        word for word in shown if re.match(r"(split|merged) \d", word)
    ]  # told with its reason, and on the group


def test_what_is_moved_stands_at_both_places_each_with_its_group_on_one_side_only():
    found = vl.load("amd-matisse-desktop").what_if(**AMD["move"])
    sides = Groups.of(found.before), Groups.of(found.after)
    rows = nodes(sides, {*found.before.topology}, lambda _: "")
    assert [(True, False), (False, True)] == [row.here for row in rows if row.function.bdf == "0000:05:00.0"]


def test_a_change_to_few_of_three_hundred_devices_draws_these_and_the_bridges_above():
    found = rack().what_if(drop_acs=["00:03.0", "1a:00.0"], set_acs={"26:00.0": "+SV+RR+CR+UF"})
    picture = found.picture()
    assert "318 groups before, 310 after: 1 split, 1 merged" == picture.title
    assert 14 == len(picture.table)
    assert picture.height < 900


def test_only_chooses_what_is_drawn_and_refuses_what_is_on_neither_side():
    found = vl.load("amd-matisse-desktop").what_if(**AMD["remove"])
    assert ["0000:00:03.1", "0000:2b:00.0", "0000:2c:00.0"] == [row[0] for row in found.picture(only=["2c:0.0"]).table]
    assert {"0000:02:00.0"} < {row[0] for row in found.picture(only=["02:00.0"]).table}
    with pytest.raises(KeyError, match=r"neither before nor after: 0000:99:00\.0"):
        found.picture(only=["99:00.0"])


def test_a_what_if_shows_itself_as_its_picture_and_its_text():
    found = vl.load("amd-matisse-desktop").what_if(**AMD["merge"])
    shown = found._repr_mimebundle_()
    assert to_text(found.picture()) == shown["text/plain"]
    assert f'alt="{found.picture().alt}"' in shown["text/html"]
    assert isinstance(found, vl.WhatIf)


# why

LISTED = sorted(path.stem for path in (data_dir() / "lspci").glob("*.txt"))


@pytest.mark.parametrize("name", LISTED)
def test_why_says_of_each_device_what_the_command_prints(name):
    host = vl.load(name)
    for bdf in host.topology:
        number = host.group_of(bdf).id if host.group_of(bdf) else None
        if number is None or number == host.grouping.group_of(bdf):
            assert str(host.why(bdf)).splitlines() == as_text("", host.grouping, [], why=bdf, device=bdf, check=None)
            assert host.why(bdf).json() == as_json(host.grouping, [], bdf, None)["why"]


def test_the_table_has_the_chain_first_and_the_picture_numbers_it():
    why = vl.load("amd-matisse-desktop").why("5:0.0")
    assert ["05:00.0", "03:07.0", "02:00.2", "02:00.0"] == why.frame()["device"].tolist()[:4]
    picture = why.picture()
    cards = dict(re.findall(r"(\d)\. (joins \S+|begins a group)", " ".join(words(picture))))
    assert {"1": "joins 03:07.0", "2": "joins 02:00.2", "3": "joins 02:00.0", "4": "begins a group"} == cards
    assert {"0000:00:01.2", *why.group} == {row[0] for row in picture.table}
    assert (
        "It stays where it is as long as 03:07.0 does not isolate or 02:00.2 does not isolate; otherwise it would be alone"
        in picture.description
    )


@pytest.mark.parametrize(("machine", "device", "shown"), [
    ("amd-matisse-desktop", "05:00.0", "Why('0000:05:00.0', group 15, with 8 others)"),
    ("amd-matisse-desktop", "00:14.3", "Why('0000:00:14.3', group 12, with 1 other)"),
    ("amd-matisse-desktop", "2d:00.0", "Why('0000:2d:00.0', group 18, alone)"),
    ("amd-matisse-desktop", "00:00.0", "Why('0000:00:00.0', in no group)"),
    ("two-smmu-server", "01:00.0", "Why('0000:01:00.0', group 8, alone)"),
])  # fmt: skip
def test_an_answer_is_one_line_and_shows_itself(machine, device, shown):
    why = vl.load(machine).why(device)
    assert shown == repr(why)
    assert {"text/plain": str(why), "text/html": why._repr_mimebundle_()["text/html"]} == why._repr_mimebundle_()
    assert [] == problems(why.picture())


def test_what_would_free_a_device_names_those_that_stay_with_it():
    assert vl.load("apple-macmini-2018-egpu").why("44:00.0").stays.endswith("; otherwise it would be with 44:00.1")


def test_a_machine_whose_groups_are_recorded_has_no_joins_and_says_so():
    assert "which joins put it there is not known: no registers of this machine say why the group is so" in str(
        vl.load("two-smmu-server").why("01:00.0")
    )


def test_a_device_that_is_not_there_has_no_why():
    with pytest.raises(vl.VfioError, match="ENOENT"):
        vl.load("two-smmu-server").why("99:00.0")
