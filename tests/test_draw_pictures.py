"""Chain, before and after, timeline, version diff and topology: what each says of the same live objects."""

from __future__ import annotations

import pytest
from draw_machines import Bench, arm_mixed, intel, intel_two_widths, scattered, smmu

import vfiolab as vl
from vfiolab.draw import Box, Poly, Text, chain, change, compare, info_reply, iova_map, observe, timeline, to_text, topology
from vfiolab.draw.iovamap.layout import percent
from vfiolab.draw.stage.measure import text_width
from vfiolab.draw.stage.page import card
from vfiolab.model.builder import MachineBuilder
from vfiolab.model.errors import VfioError


def words(picture):
    return [shape.text for shape in picture.shapes if isinstance(shape, Text)]


def two_units():
    m = MachineBuilder("two units")
    a, b = m.unit("smmu0", kind="arm-smmu-v3"), m.unit("smmu1", kind="arm-smmu-v3", stage=2)
    m.endpoint("01:00.0", below=m.root_port("00:01.0", unit=a), functions=2)
    m.endpoint("21:00.0", below=m.root_port("20:01.0", unit=b))
    return m.host("6.12")


def opened(host):
    process = host.process
    container, first, second = process.open_container(), process.open_group("0000:01:00.0"), process.open_group("0000:21:00.0")
    first.set_container(container)
    container.set_iommu(3)
    container.map_dma(0x40000000, 1 << 30, process.memory.mmap(1 << 30), name="guest RAM")
    return container, second


# cards


def test_words_on_a_card_end_before_its_edge_and_what_is_cut_says_so():
    shapes, _ = card(10, 0, 120, [("0000:01:00.0 a device with a very long name", "ink", False), ("short", "ink", True)])
    box, long, short = shapes
    assert long.text.startswith("0000:01:00.0")
    assert long.text.endswith("…")
    assert long.x + text_width(long.text, long.size) <= box.x + box.width
    assert "short" == short.text


@pytest.mark.parametrize("width", [320, 640, 1000])
def test_no_words_run_out_of_a_card(width):
    m = MachineBuilder("long names")
    a = m.unit("an-iommu-with-a-name-that-is-longer-than-any-card-is-wide-at-any-width-of-the-page", kind="arm-smmu-v3")
    m.endpoint("01:00.0", below=m.root_port("00:01.0", unit=a))
    m.endpoint("21:00.0", below=m.root_port("20:01.0", unit=a))
    host = m.host("6.12")
    container, _ = opened(host)
    for picture in (chain(container, width=width), topology(host, width=width)):
        boxes = [shape for shape in picture.shapes if isinstance(shape, Box) and shape.width > 40 and shape.height >= 20]
        assert boxes
        for text in (shape for shape in picture.shapes if isinstance(shape, Text)):
            on = [b for b in boxes if b.x <= text.x < b.x + b.width and b.y <= text.y <= b.y + b.height]
            for box in on[-1:]:
                left = text.x - (text_width(text.text, text.size) / 2 if text.anchor == "middle" else 0)
                assert left + text_width(text.text, text.size) <= box.x + box.width + 1, text.text


# chain


def test_the_chain_is_a_table_of_device_group_domain_and_unit():
    host = two_units()
    container, second = opened(host)
    second.set_container(container)

    assert (
        ("0000:21:00.0", "3", "D2", "smmu1"),
        ("0000:01:00.0", "1", "D1", "smmu0"),
        ("0000:01:00.1", "1", "D1", "smmu0"),
    ) == chain(container).table


def test_the_chain_counts_its_links():
    assert "2 devices, 2 groups, 1 container, 2 domains, 2 IOMMU units" == chain(arm_mixed()).title


def test_groups_that_share_a_domain_lead_to_one_card():
    bench = Bench(intel("dmar0"))
    bench.attach(bench.group(1), bench.group(2))

    assert ["D1", "D1"] == [row[2] for row in chain(bench).table]
    assert 1 == sum(shape.role == "domain" for shape in chain(bench).shapes if isinstance(shape, Box))


def test_a_container_without_a_backend_has_groups_and_no_domain():
    host = two_units()
    container = host.process.open_container()
    host.process.open_group("0000:21:00.0").set_container(container)

    assert (("0000:21:00.0", "3", "no domain yet", ""),) == chain(container).table


def test_many_devices_of_a_group_are_counted():
    bench = Bench(intel())
    bench.attach(bench.group(1, 0, devices=tuple(f"0000:01:00.{n}" for n in range(8))))

    assert "and 5 more" in words(chain(bench))


# before and after


def after(bench, verb, *arguments):
    before = observe(bench)
    getattr(bench, verb)(*arguments)
    return change(before, observe(bench), log=bench.log)


def test_attaching_a_group_that_splits_shows_the_new_lane_with_the_mappings_replayed():
    bench = Bench(smmu("smmu0"), smmu("smmu1"))
    first, second = bench.group(8, 0), bench.group(4, 1)
    bench.attach(first).map("1G", "2G", "guest RAM")
    picture = after(bench, "attach", second)

    assert "D2 appeared for group 4 and got the mapping replayed into it." in picture.description
    assert ["D2"] == [picture.lanes[m.lane].name for m in picture.marks if m.news == "appeared"]


def test_attaching_to_a_domain_that_fits_says_which():
    bench = Bench(intel())
    bench.attach(bench.group(1))
    picture = after(bench, "attach", bench.group(2))

    assert "Group 2 joined D1." in picture.description


def test_a_new_mapping_appears_in_every_lane():
    picture = after(arm_mixed(), "map", "8G", "1G", "more RAM")

    assert "1 mapping appeared, in D2 and D1." in picture.description
    assert [0, 1, 2] == [m.lane for m in picture.marks if m.news == "appeared"]


def test_what_was_unmapped_is_drawn_where_it_was():
    picture = after(arm_mixed(), "unmap", "1G", "2G")

    assert {(0x40000000, 0xC0000000)} == {(m.start, m.end) for m in picture.marks if m.kind == "gone"}
    assert "1 mapping disappeared from D2 and D1." in picture.description


def test_a_refused_map_changes_nothing_and_names_the_lane():
    picture = after(intel_two_widths(refused=False), "map", 1 << 40, 4096)

    assert "Refused with EINVAL: outside the aperture of D2." in picture.description
    assert not [m for m in picture.marks if m.news]


def test_the_domain_of_a_group_that_left_is_shown_as_gone():
    bench = intel_two_widths(refused=False)
    picture = after(bench, "detach", bench.groups[1])

    assert "D2 is gone." in picture.description
    assert ["user", "D1", "D2"] == [lane.name for lane in picture.lanes]


def test_iovas_that_an_attach_takes_from_the_user_are_named():
    bench = Bench(intel("dmar0", snoop_control=True), intel("dmar1", width=39))
    bench.attach(bench.group(1, 0))
    picture = after(bench, "attach", bench.group(2, 1))

    assert "No longer valid: 0x80_0000_0000-0xffff_ffff_ffff." in picture.description


def test_a_call_that_changed_nothing_says_so():
    bench = arm_mixed()

    assert "Nothing changed." in change(observe(bench), observe(bench)).description


def test_the_title_is_the_call_and_its_answer():
    host = two_units()
    container, second = opened(host)
    before = observe(container)
    second.set_container(container)

    assert "SET_CONTAINER group 3 → 0" == change(before, observe(container), log=host.log).title


# timeline


def test_the_timeline_tells_each_request_in_the_kernels_order():
    host = two_units()
    container, second = opened(host)
    second.set_container(container)

    assert (
        "7",
        "SET_CONTAINER group 3",
        "0",
        (
            "claim group 3; D2 alloc; D2 attach group 3 ✓; D2 detach group 3; D1 attach group 3 ✗ EINVAL; D2 attach group 3 ✓; "
            "D2 superpage probe; D2 map 0x4000_0000, 1 GiB; D2 MSI cookie at 0x800_0000"
        ),
    ) == timeline(host.log).table[-1]


def test_replayed_mappings_are_one_line_with_their_number():
    bench = scattered(50, 2)

    assert any(text.startswith("map × 50") for text in words(timeline(bench.log)))


def test_only_the_last_calls_are_shown_and_the_rest_is_counted():
    bench = Bench(intel())
    bench.attach(bench.group(1))
    for n in range(30):
        bench.map(n << 20, 4096)
    picture = timeline(bench.log, last=5)

    assert 5 == len(picture.table)
    assert "26 earlier calls are not shown." in " ".join(words(picture))


def test_a_refused_call_shows_its_reason():
    bench = Bench(intel())
    bench.attach(bench.group(1)).map(0, 4096).map(0, 4096)

    assert "✗ EEXIST" in " ".join(words(timeline(bench.log)))
    assert "overlaps the mapping" in " ".join(words(timeline(bench.log)))


def test_questions_are_left_out_unless_asked_for():
    host = two_units()
    container, _ = opened(host)
    container.get_api_version()

    assert len(timeline(host.log).table) + 1 == len(timeline(host.log, questions=True).table)


def test_an_empty_log_is_an_empty_timeline():
    assert () == timeline(two_units().log).table


# version diff


def run_on(kernel):
    bench = Bench(intel(), kernel=kernel)
    bench.attach(bench.group(1)).map(0, "1M", "RAM").map(0xFEE00000, "1M", "over the window")
    return bench.log


def test_the_map_over_the_msi_window_is_where_2015_and_today_differ():
    picture = compare(run_on("4.4"), run_on("6.12"), names=("4.4", "6.12"))

    assert "4.4 and 6.12: 1 of 3 calls answer differently" == picture.title
    assert ("different", "0", "EINVAL") == (picture.table[-1][3], picture.table[-1][1], picture.table[-1][2])


def test_the_same_kernel_twice_does_not_differ():
    assert {"same"} == {row[3] for row in compare(run_on("6.12"), run_on("6.12")).table}


def test_different_calls_cannot_be_compared():
    with pytest.raises(ValueError, match="needs the same calls in both logs"):
        compare(run_on("6.12"), Bench(intel()).log)


# topology


def test_topology_has_a_row_for_each_function_with_its_group_and_reason():
    host = two_units()

    assert [
        ("0000:00:01.0", "root port", "0", "ACS ✓ isolates", "pcieport"),
        ("0000:01:00.0", "Ethernet", "1", "ACS ✗ multifunction without an ACS capability", "vfio-pci"),
        ("0000:01:00.1", "Ethernet", "1", "ACS ✗ multifunction without an ACS capability", "vfio-pci"),
        ("0000:20:01.0", "root port", "2", "ACS ✓ isolates", "pcieport"),
        ("0000:21:00.0", "Ethernet", "3", "ACS ✓ needs none", "vfio-pci"),
    ] == [row[:5] for row in topology(host).table]


def test_equal_functions_of_one_group_are_drawn_once_with_their_number():
    assert any(text.startswith("01:00.0, 01:00.1 Ethernet ×2") for text in words(topology(two_units())))


def test_a_shared_group_is_explained_beside_its_hull():
    assert "01:00.1 joins 01:00.0 because" in " ".join(words(topology(two_units())))


def test_topology_can_be_narrowed_to_a_device_and_what_is_above_it():
    assert ["0000:20:01.0", "0000:21:00.0"] == [row[0] for row in topology(two_units(), only=["0000:21:00.0"]).table]


def test_a_grouping_without_a_host_can_be_drawn_too():
    host = two_units()

    assert topology(host).table == topology(host.grouping).table


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(KeyError):
        topology(two_units(), only=["0000:99:00.0"])


# all of them


@pytest.mark.parametrize("width", [320, 600, 900, 1400])
def test_every_picture_stays_on_its_page(width):
    host = two_units()
    container, second = opened(host)
    before = observe(container)
    second.set_container(container)
    with pytest.raises(VfioError):
        container.map_dma(0x8000000, 4096, 0x2000_0000_0000)
    pictures = [
        chain(container, width=width),
        change(before, observe(container), log=host.log, width=width),
        timeline(host.log, width=width),
        compare(host.log, host.log, width=width),
        topology(host, width=width),
        iova_map(container, log=host.log, width=width),
    ]
    for picture in pictures:
        for shape in picture.shapes:
            if isinstance(shape, Box):
                assert 0 <= shape.x <= shape.x + shape.width <= picture.width + 0.1, (picture, shape)
                assert 0 <= shape.y <= shape.y + shape.height <= picture.height, (picture, shape)


def test_every_picture_says_in_words_and_in_eighty_columns_what_it_shows():
    host = two_units()
    container, _ = opened(host)

    for picture in (chain(container), timeline(host.log), compare(host.log, host.log), topology(host)):
        assert len(picture.description) > 40
        assert max(map(len, to_text(picture).splitlines())) <= 80


# shares in words


@pytest.mark.parametrize(
    ("part", "whole", "words"),
    [
        (0, 7, "0 %"),
        (1, 101, "<1 %"),
        (1, 100, "1 %"),
        (4, 100, "4 %"),
        (99, 100, "99 %"),
        (995, 1000, ">99 %"),
        (10**9 - 1, 10**9, ">99 %"),
        (7, 7, "100 %"),
    ],
)
def test_a_share_is_none_or_all_only_where_it_is(part, whole, words):
    assert words == percent(part, whole)


def test_the_answer_of_get_info_is_drawn_at_its_offsets():
    info = vl.load("intel-vtd-39bit").address_space()
    info.attach("0000:01:00.0")
    reply = info.container.get_info(4096)
    picture = info_reply(reply)

    assert ["0", *(str(cap.off) for cap in reply.caps)] == [row[0] for row in picture.table]
    assert ["24", *(str(cap.size) for cap in reply.caps)] == [row[1] for row in picture.table]
    assert f"cap_offset {reply.cap_offset}" in [shape.text for shape in picture.shapes if isinstance(shape, Text)]
    assert len(reply.caps) == sum(isinstance(shape, Poly) for shape in picture.shapes)


def test_without_room_the_chain_is_dashed_and_argsz_says_how_much_to_bring():
    space = vl.load("intel-vtd-39bit").address_space()
    space.attach("0000:01:00.0")
    short = space.container.get_info(24)
    picture = info_reply(short)

    assert f"No room for the chain: argsz says to bring {short.argsz} bytes" == picture.title
    assert ["ghost"] == [shape.role for shape in picture.shapes if isinstance(shape, Box) and shape.role == "ghost"]
    assert [("0", "24"), ("24", str(short.argsz - 24))] == [row[:2] for row in picture.table]
