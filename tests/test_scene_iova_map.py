"""The iova map's rows, exactly: what is drawn of each container, and in which order."""

from __future__ import annotations

from dataclasses import replace

import pytest
from draw_machines import Bench, arm_mixed, direct, intel, intel_two_widths, scattered, smmu

from vfiolab.draw import Text, iova_map, lay_out, observe
from vfiolab.model.address import Span
from vfiolab.model.builder import MachineBuilder
from vfiolab.model.errors import VfioError
from vfiolab.model.iommu.unit import IommuUnit
from vfiolab.model.uapi.requests import MapDma


def rows(container, **options):
    scene = iova_map(container, **options)
    return [(row.start, row.last, row.kind, row.domains, row.owner) for row in scene.rows()]


def test_mappings_are_one_row_each_with_every_domain_that_mirrors_them():
    bench = Bench(smmu("smmu0"), smmu("smmu1"))
    bench.attach(bench.group(8, 0), bench.group(4, 1)).map("1G", "2G", "guest RAM")

    assert [
        (0x8000000, 0x80FFFFF, "hole", "-", "usable iova ranges"),
        (0x8000000, 0x80FFFFF, "sw-msi", "D2", "group 4"),
        (0x8000000, 0x80FFFFF, "sw-msi", "D1", "group 8"),
        (0x40000000, 0xBFFFFFFF, "mapping", "D2, D1", "guest RAM"),
    ] == rows(bench)


def test_a_doorbell_page_belongs_to_one_domain_only():
    assert (0x8000000, 0x8000FFF, "doorbell", "D2", "physical 0x809_0000") in rows(arm_mixed())


def test_the_narrower_domain_is_grey_beyond_its_aperture_and_the_user_may_not_map_there():
    found = rows(arm_mixed())

    assert (1 << 44, (1 << 48) - 1, "outside", "D2", "smmu3.0x0c020000") in found
    assert (1 << 44, (1 << 48) - 1, "hole", "-", "usable iova ranges") in found


def test_lanes_stand_in_the_kernels_order_newest_domain_first():
    assert ["user", "D2", "D1"] == [lane.name for lane in iova_map(intel_two_widths()).lanes]


def test_a_refused_map_over_the_msi_window_names_every_domain_that_stood_in_the_way():
    bench = intel_two_widths()
    scene = iova_map(bench, log=bench.log)

    assert {"EINVAL": (1, 2)} == {m.label: m.blockers for m in scene.marks if m.kind == "refused" and m.start == 0xFEE00000}


def test_a_refused_map_beyond_one_aperture_is_blamed_on_that_lane_alone():
    bench = intel_two_widths()
    scene = iova_map(bench, log=bench.log)
    refused = next(m for m in scene.marks if m.kind == "refused" and m.start == 0x382000000000)

    assert ["D2"] == [scene.lanes[lane].name for lane in refused.blockers]


def test_an_overlap_is_the_users_own_doing_and_no_domain_is_blamed():
    bench = Bench(intel())
    bench.attach(bench.group(1)).map(0, "1M", "a").map(0x1000, 4096, "b")

    assert [("EEXIST", ())] == [(m.label, m.blockers) for m in iova_map(bench, log=bench.log).marks if m.kind == "refused"]


def test_only_the_last_three_refused_maps_are_drawn_and_the_sentence_counts_all():
    bench = Bench(intel())
    bench.attach(bench.group(1))
    for n in range(5):
        bench.map(0xFEE00000 + n * 4096, 4096)
    scene = iova_map(bench, log=bench.log)

    assert 3 == sum(m.kind == "refused" for m in scene.marks)
    assert "5 maps were refused." in scene.description


def test_without_the_log_nothing_refused_is_drawn():
    assert "refused" not in {row[2] for row in rows(intel_two_widths())}


def test_a_direct_region_is_drawn_and_a_relaxable_one_blames_nobody():
    bench = Bench(intel())
    bench.attach(bench.group(2, 0, direct(0x7C000000, 0x7DFFFFFF)))

    assert (0x7C000000, 0x7DFFFFFF, "direct", "D1", "group 2") in rows(bench)


def test_read_only_and_write_only_mappings_carry_a_letter():
    bench = Bench(intel())
    bench.attach(bench.group(1)).map(0, "1M", "rom", 1).map("2M", "1M", "log", 2).map("4M", "1M", "ram", 3)

    assert ["rom R", "log W", "ram"] == [m.label for m in iova_map(bench).marks if m.kind == "mapping" and m.lane == 0]


def test_a_kernel_without_a_valid_iova_list_shows_no_hole():
    bench = Bench(intel(), kernel="4.4")
    bench.attach(bench.group(1)).map(0xFEE00000, "1M", "RAM")

    assert ["mapping"] == [row[2] for row in rows(bench) if row[2] in {"hole", "mapping"}]


def test_an_empty_container_has_the_users_lane_and_nothing_on_it():
    class Empty:
        backend = None
        groups = ()

    scene = iova_map(Empty())

    assert ["user"] == [lane.name for lane in scene.lanes]
    assert [] == scene.rows()
    assert "A container with no group and no backend: attach a group to begin" == scene.title


def test_one_page_at_zero_and_one_below_2_to_the_64_are_both_drawn():
    bench = Bench(IommuUnit(name="ivhd0", kind="amd-vi", width=64))
    bench.attach(bench.group(1)).map(0, 4096, "zero").map((1 << 64) - 4096, 4096, "top")
    marks = {m.owner: m for m in iova_map(bench).marks if m.kind == "mapping" and m.lane == 0}

    assert marks["zero"].width > 20
    assert marks["top"].width > 20
    assert (1 << 64) == marks["top"].end


def test_eight_domains_are_eight_lanes():
    bench = Bench(*(smmu(f"smmu{i}") for i in range(8)))
    bench.attach(*(bench.group(i, i) for i in range(8)))

    assert [f"D{n}" for n in range(8, 0, -1)] == [lane.name for lane in iova_map(bench).lanes[1:]]


@pytest.mark.parametrize("count", [0, 1, 3, 100, 1000, 20000])
def test_every_mapping_is_drawn_or_counted_in_a_merged_mark(count):
    scene = iova_map(scattered(count))

    assert count == sum(m.count for m in scene.marks if m.kind == "mapping" and m.lane == 0)


def test_merged_marks_together_hold_exactly_the_mapped_bytes():
    bench = scattered(3000)

    assert sum(d.size for d in bench.backend.dmas) == sum(m.covered for m in iova_map(bench).marks if m.kind == "mapping" and m.lane == 0)


def test_what_is_merged_is_said():
    assert "3,000 mappings are thinner than a pixel" in iova_map(scattered(3000)).description


def test_a_merged_mark_never_crosses_a_boundary_of_something_else():
    bench = Bench(intel(), kernel="4.4", limit=1 << 20)
    bench.attach(bench.group(1))
    vaddr = bench.process.memory.mmap(1 << 20)
    for page in range(2000):
        bench.backend.map(bench.process, MapDma(iova=0xFEE00000 - 1000 * 0x2000 + page * 0x2000, size=0x1000, vaddr=vaddr))
    marks = [m for m in iova_map(bench).marks if m.kind == "mapping" and m.count > 1]

    assert marks
    assert not [m for m in marks if m.start < 0xFEE00000 < m.end]


def test_a_window_cuts_marks_and_says_so():
    scene = iova_map(intel_two_widths(), window=("3G", "5G"))

    assert [(0x100000000, 0x13FFFFFFF)] == [(r.start, r.last) for r in scene.rows() if r.kind == "mapping"]
    assert (True, True) == scene.layout.torn
    assert "Cut to 0xc000_0000-0x1_3fff_ffff." in scene.description


def test_a_window_over_all_of_it_tears_nothing():
    assert (False, False) == iova_map(intel_two_widths(), window=(0, 1 << 48)).layout.torn


@pytest.mark.parametrize("window", [("5G", "3G"), (0, 0), (0, 1 << 65)])
def test_a_window_that_is_none_is_refused_with_what_it_must_be(window):
    with pytest.raises(ValueError, match="a window runs from a start to a larger end"):
        iova_map(intel_two_widths(), window=window)


def test_a_picture_stays_as_it_was_when_the_container_changes():
    bench = intel_two_widths()
    facts = observe(bench)
    before = lay_out(facts)
    bench.unmap("4G", "2G")

    assert before.rows() == lay_out(facts).rows()
    assert before.rows() != iova_map(bench).rows()


def test_a_domain_that_does_not_mirror_the_user_is_shown_as_it_is():
    bench = intel_two_widths(refused=False)
    newest = bench.backend.domains[0]
    newest.unmap(0x100000000, 2 << 30)
    scene = iova_map(bench)

    assert (0x100000000, 0x17FFFFFFF, "mapping", "D1", "high RAM") in [(r.start, r.last, r.kind, r.domains, r.owner) for r in scene.rows()]
    assert "D2 holds other ranges than the user's mappings." in scene.description


@pytest.mark.parametrize("width", [500, 700, 900, 1400])
def test_the_end_of_the_last_mapping_is_written_beside_the_end_of_the_axis(width):
    bench = Bench(smmu())
    bench.attach(bench.group(8)).map("1G", "1G", "guest RAM")
    seen = [shape.text for shape in iova_map(bench, width=width).shapes if isinstance(shape, Text)]

    assert {"0x8000_0000", "0x1_0000_0000_0000"} <= set(seen)


def test_the_sentence_names_what_differs_between_the_domains():
    assert "D2 and D1 have different IOMMU units, apertures and coherency." in iova_map(intel_two_widths()).description


def test_a_mapping_of_several_physical_runs_still_counts_as_mirrored():
    bench = Bench(smmu())
    bench.attach(bench.group(1))
    arena = bench.process.memory
    low = arena.mmap(2 << 20)
    arena.place(type(next(iter(arena.regions))[0]).sized(low + 0x1000, 0x1000), "rw")
    bench.backend.map(bench.process, MapDma(iova=0x10000000, size=0x4000, vaddr=low))

    assert len(list(bench.backend.domains[0].mappings)) > 1
    assert observe(bench).domains[0].mapped is None


def by_hand(vfio="type1"):
    m = MachineBuilder("two units")
    a, b = m.unit("smmu0", kind="arm-smmu-v3"), m.unit("smmu1", kind="arm-smmu-v3", stage=2)
    m.endpoint("01:00.0", below=m.root_port("00:01.0", unit=a))
    m.endpoint("21:00.0", below=m.root_port("20:01.0", unit=b))
    return replace(m.machine(), vfio=vfio).host("6.12")


def test_iommufds_compatibility_layer_has_domains_once_devices_are_open():
    host = by_hand("iommufd-compat")
    process = host.process
    container, group = process.open_container(), process.open_group("0000:01:00.0")
    group.set_container(container)
    container.set_iommu(3)
    container.map_dma(0x40000000, 1 << 30, process.memory.mmap(1 << 30), name="guest RAM")
    closed = iova_map(container)
    group.get_device_fd("0000:01:00.0")

    assert "An iommufd-compat container without a domain: the user's 1 mapping (1 GiB)" == closed.title
    assert ["user", "D1"] == [lane.name for lane in iova_map(container).lanes]


def test_a_container_shows_its_own_refusals_and_not_another_ones():
    host = by_hand()
    process = host.process
    first, second = process.open_container(), process.open_container()
    for container, device in ((first, "0000:01:00.0"), (second, "0000:21:00.0")):
        process.open_group(device).set_container(container)
        container.set_iommu(3)
    with pytest.raises(VfioError):
        first.map_dma(0x8000000, 4096, process.memory.mmap(4096))

    assert 1 == sum(m.kind == "refused" for m in iova_map(first, log=host.log).marks)
    assert 0 == sum(m.kind == "refused" for m in iova_map(second, log=host.log).marks)


def test_a_name_without_room_gets_a_letter_that_the_legend_spells_out():
    bench = Bench(intel())
    bench.attach(bench.group(1))
    for n in range(26):
        bench.map((1 << 30) + n * (1 << 28), 4096 << n % 12, f"region {n} of guest")
    words = [shape.text for shape in iova_map(bench, width=900).shapes if isinstance(shape, Text)]

    assert {"a", "l"} <= set(words)
    assert "region 0 of guest at 0x4000_0000, 4 KiB" in words
    assert "14 more names have no room here; the table has them." in words


def test_what_a_domain_holds_beside_the_users_mappings_is_drawn_in_its_lane():
    bench = arm_mixed()
    facts = observe(bench)
    other = replace(facts.domains[0], mapped=(Span(0x10000000, 0x10010000),))
    scene = lay_out(replace(facts, domains=(other, *facts.domains[1:])))
    lane = next(lane for lane in scene.lanes if lane.domain is other)
    assert [(0x10000000, 0x10010000, other.name)] == [
        (mark.start, mark.end, mark.owner) for mark in scene.marks if mark.lane == lane.index and mark.kind == "mapping"
    ]
