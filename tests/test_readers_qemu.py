"""QEMU's traces and failure lines: both backends, the real captures, and what is not understood is named."""

from __future__ import annotations

import random

import pytest

from vfiolab._paths import data_dir
from vfiolab.model.address import Span
from vfiolab.model.errors import ERRNO
from vfiolab.readers.errors import InputError
from vfiolab.readers.qemu import parse_dma_map_error, read_qemu_trace

CAPTURES = data_dir() / "captures"
ARM, X86 = CAPTURES / "qemu-arm-smmuv3-vfio.log", CAPTURES / "qemu-listener-x86.txt"
LOG = "38511@1618242847.842083:vfio_listener_region_add_ram region_add [ram] 0x0 - 0x9ffff [0x7fcaa7e00000]"
SIMPLE = "vfio_dma_map_ram 639.622 pid=20045 iova_start=0x40000000 iova_end=0x13fffffff vaddr=0xfffea7e00000"


# the real captures


def test_every_line_of_the_arm_capture_is_an_event():
    trace = read_qemu_trace(ARM)
    assert (1035, 1035, ()) == (trace.lines, len(trace.events), trace.unread)


def test_the_arm_capture_binds_two_vectors_to_the_guests_its():
    bindings = read_qemu_trace(ARM).bindings
    assert [(586, 0), (638, 0), (642, 1)] == [(binding.line, binding.vector) for binding in bindings]
    assert {("0000:01:10.1", 0xFFFFF040, 0x8090040)} == {(b.device, b.giova, b.doorbell) for b in bindings}


def test_each_binding_says_what_the_vsmmu_translated_just_before():
    trace = read_qemu_trace(ARM)
    translated = {event.line: event.fields for event in trace.named("smmuv3_translate_success")}
    for binding in trace.bindings:
        fields = translated[binding.line - 1]
        assert (fields["iova"], fields["translated"]) == (binding.giova, binding.doorbell)


def test_the_arm_capture_maps_ram_and_two_pieces_of_a_bar_and_takes_some_back():
    trace = read_qemu_trace(ARM)
    assert (7, 4) == tuple(sum(part.what == what for part in trace.ram) for what in ("map", "unmap"))
    assert [Span(0x40000000, 0x140000000), Span(0x8000000000, 0x8000004000), Span(0x8000005000, 0x8000008000)] == [
        part.span for part in trace.mapped
    ]


def test_names_with_blanks_keep_them():
    trace = read_qemu_trace(ARM)
    assert "0000:01:10.1 BAR 0" == trace.named("vfio_region_setup")[0].fields["name"]
    assert "0000:01:10.1 DMA FAULT 9 mmaps[0]" == trace.named("vfio_region_mmap")[0].fields["name"]


def test_the_x86_capture_skips_the_msi_window_and_leaves_it_unmapped():
    trace = read_qemu_trace(X86)
    window = Span(0xFEE00000, 0xFEF00000)
    assert window in [part.span for part in trace.ram if part.what == "skip"]
    assert [] == [part for part in trace.mapped if part.span.overlaps(window)]
    assert "8 lines: 8 events of 2 kinds, 8 memory ranges, 0 not understood" == str(trace)


# the two backends


def test_the_log_backend():
    (event,) = read_qemu_trace(LOG).events
    assert (38511, 1618242847.842083, "vfio_listener_region_add_ram") == (event.pid, event.time, event.event)
    assert {"start": 0, "end": 0x9FFFF, "vaddr": 0x7FCAA7E00000} == event.fields


def test_the_simple_backend():
    (event,) = read_qemu_trace(SIMPLE).events
    assert (20045, 639.622) == (event.pid, event.time)
    assert {"iova_start": 0x40000000, "iova_end": 0x13FFFFFFF, "vaddr": 0xFFFEA7E00000} == event.fields


def test_both_backends_in_one_file():
    assert [0, 0x40000000] == [part.span.start for part in read_qemu_trace(f"{LOG}\n{SIMPLE}\n").ram]


def test_a_prefix_of_a_journal_does_not_hide_an_event():
    (event,) = read_qemu_trace(f"Jun 04 07:25:13 pve1 QEMU[3989106]: {LOG}").events
    assert "vfio_listener_region_add_ram" == event.event


@pytest.mark.parametrize(("line", "what"), [
    ("1@2.0:vfio_listener_region_del region_del 0x1000 - 0x1fff", "unmap"),
    ("1@2.0:vfio_listener_region_add_skip SKIPPING region_add 0x1000 - 0x1fff", "skip"),
    ("1@2.0:vfio_listener_region_skip SKIPPING region_add 0x1000 - 0x1fff", "skip"),
    ("1@2.0:vfio_listener_region_add_ram region_add [ram] 0x1000 - 0x1fff [(nil)]", "map"),
])  # fmt: skip
def test_each_wording_of_a_memory_range(line, what):
    (part,) = read_qemu_trace(line).ram
    assert (what, Span(0x1000, 0x2000)) == (part.what, part.span)


def test_an_event_without_arguments_and_one_of_another_kind_are_kept():
    trace = read_qemu_trace("1@2.0:vfio_display_edid_available\n1@2.0:kvm_run_exit cpu_index 0, reason 2\n")
    assert ["vfio_display_edid_available", "kvm_run_exit"] == [event.event for event in trace.events]


def test_what_is_unmapped_is_not_mapped_at_the_end():
    trace = read_qemu_trace(f"{LOG}\n1@2.0:vfio_listener_region_del region_del 0x0 - 0x9ffff\n{SIMPLE}\n")
    assert [0x40000000] == [part.span.start for part in trace.mapped]


# what is not understood


def test_a_line_that_is_no_event_is_named_with_its_number_and_the_rest_is_kept():
    trace = read_qemu_trace(f"{LOG}\nqemu-system: warning: hello\n\n{SIMPLE}\n")
    assert ["line 2: neither a trace event nor a failed map: 'qemu-system: warning: hello'"] == [str(line) for line in trace.unread]
    assert 2 == len(trace.events)


@pytest.mark.parametrize("line", [
    "1@2.0:vfio_listener_region_add_ram region_add [ram] nowhere",
    "vfio_dma_map_ram 1.0 pid=1 iova_start=0x0 vaddr=0x1",
    "vfio_dma_map_ram 1.0 pid=1 iova_start=0x0 iova_end=none",
    "vfio_dma_map_ram 1.0 pid=1 iova_start=0x2000 iova_end=0x1000",
    "vfio_register_msi_binding 1.0 pid=1 name=x vector=0x0 giova=0x1",
])  # fmt: skip
def test_a_known_event_that_lacks_its_arguments_is_kept_and_named(line):
    trace = read_qemu_trace(line)
    assert (1, 1, (), ()) == (len(trace.events), len(trace.unread), trace.ram, trace.bindings)
    assert "line 1: " in str(trace.unread[0])


@pytest.mark.parametrize("text", ["", "\n\n", "just words\nand more\n"])
def test_a_file_without_any_event_is_refused_with_an_example(text):
    with pytest.raises(InputError, match="no QEMU trace event in it; give lines such as"):
        read_qemu_trace(text)


def test_a_damaged_capture_loses_only_what_is_damaged():
    lines = ARM.read_text().splitlines()
    dice = random.Random(7)
    broken = set(dice.sample(range(len(lines)), 100))
    trace = read_qemu_trace("\n".join("\x00" + line[5:12] if n in broken else line for n, line in enumerate(lines)))
    assert {n + 1 for n in broken} == {line.line for line in trace.unread}
    assert len(lines) - len(broken) == len(trace.events)


# failure lines


@pytest.mark.parametrize(("line", "expected"), [
    ("vfio_dma_map(0x5e043daea2f0, 0x380010000000, 0x2000000, 0x771a6ce00000) = -22 (Invalid argument)",
     ("map", 0x380010000000, 0x2000000, 0x771A6CE00000, "EINVAL")),
    ("Jun 04 07:25:13 pve1 QEMU[39]: kvm: vfio_dma_map(0x1, 0xfd00000000, 0x1000, 0x2000) = -22 (Invalid argument)",
     ("map", 0xFD00000000, 0x1000, 0x2000, "EINVAL")),
    ("qemu-system-x86_64: vfio_container_dma_map(0x1, 0x0, 0xa0000, 0x7f00) = -12 (Cannot allocate memory)",
     ("map", 0, 0xA0000, 0x7F00, "ENOMEM")),
    ("vfio_dma_unmap(0x1, 0x1000, 0x2000) = -22 (Invalid argument)", ("unmap", 0x1000, 0x2000, None, "EINVAL")),
    ("vfio_dma_map(0x1, 0x1000, 0x2000, (nil)) = -14", ("map", 0x1000, 0x2000, 0, "EFAULT")),
])  # fmt: skip
def test_a_failure_line_is_read_wherever_it_stands(line, expected):
    error = parse_dma_map_error(line)
    assert expected == (error.verb, error.iova, error.size, error.vaddr, error.name)


@pytest.mark.parametrize("name", ["EINVAL", "ENOMEM", "EEXIST", "ENOSPC", "EFAULT", "EPERM"])
def test_each_errno_gets_its_name_and_its_words(name):
    error = parse_dma_map_error(f"vfio_dma_map(0x1, 0x1000, 0x2000, 0x3000) = -{ERRNO[name]}")
    assert (name, True) == (error.name, bool(error.message))


def test_an_errno_without_a_name_keeps_its_number():
    assert "map 0x1000, 0x2000 bytes: 999 ()" == str(parse_dma_map_error("vfio_dma_map(0x1, 0x1000, 0x2000, 0x3000) = -999"))


@pytest.mark.parametrize("line", ["", "VFIO_MAP_DMA failed: Invalid argument", "vfio_dma_map(0x1, 0x2) = -22", "vfio_dma_map(a, b) = -22"])
def test_any_other_line_is_none(line):
    assert parse_dma_map_error(line) is None


def test_a_failure_line_of_a_range_that_wraps_has_no_span():
    assert parse_dma_map_error("vfio_dma_map(0x1, 0xfffffffffffff000, 0x2000, 0x0) = -22").span is None


def test_failure_lines_between_events_are_collected_with_their_numbers():
    trace = read_qemu_trace(f"{LOG}\nkvm: vfio_dma_map(0x1, 0x1000, 0x2000, 0x3000) = -22 (Invalid argument)\n")
    assert [2] == [error.line for error in trace.errors]
    assert "2 lines: 1 events of 1 kinds, 1 memory range, 1 failed map, 0 not understood" == str(trace)


ADDED = "vfio_listener_region_add_ram region_add [ram] 0x0 - 0x9ffff [0x7fca0000]"


@pytest.mark.parametrize(
    "before",
    [
        "", "  ", "7@1.5:", "2023-01-01T00:00:00.123456Z ", "2023-01-01T00:00:00.123456Z 7@1.5:",
        "Nov 25 10:00:00 host qemu-system-x86_64[47]: ", "Nov 25 10:00:00 host qemu-system-x86_64[47]: 7@1.5:",
        "2023-11-25T10:00:00+01:00 host qemu-kvm[12]: ", "2023-01-01 00:00:00.123+0000: ",
    ],
)  # fmt: skip
def test_an_event_is_read_behind_whatever_a_log_writes_before_it(before):
    assert [Span(0, 0xA0000)] == [part.span for part in read_qemu_trace(before + ADDED).mapped]


def test_a_message_that_begins_like_an_event_is_none():
    trace = read_qemu_trace(f"{ADDED}\nqemu-system-x86_64: vfio_listener_region_add_ram failed\n")
    assert [2] == [line.line for line in trace.unread]


def test_iommufds_events_map_refuse_and_unmap():
    event = "7@1.5:iommufd_backend_{}  iommufd=10 ioas=2 {}"
    lines = [
        event.format("map_dma", "iova=0x0 size=0xc0000 addr=0x7f0000000000 readonly=0 (0)"),
        event.format("map_dma", "iova=0xc0000 size=0x20000 addr=0x7f0000100000 readonly=1 (0)"),
        event.format("map_dma", "iova=0x380000001000 size=0x3000 addr=0x7f0000200000 readonly=0 (-1)"),
        "qemu-system-x86_64: IOMMU_IOAS_MAP failed: Invalid argument",
    ]
    trace = read_qemu_trace("\n".join(lines))
    assert ([0, 0xC0000], ["map", "map", "refused"], 0) == (
        [part.span.start for part in trace.mapped], [part.what for part in trace.ram], len(trace.unread),
    )  # fmt: skip
    assert [("EINVAL", 0x380000001000, 0x3000)] == [(error.name, error.iova, error.size) for error in trace.errors]
    named = "qemu-system-x86_64: vfio_container_dma_map(0x55, 0x380000001000, 0x3000, 0x7f0000200000) = -22 (Invalid argument)"
    assert [0x55] == [error.context for error in read_qemu_trace("\n".join([*lines, named])).errors]
    gone = event.format("unmap_dma", "iova=0x0 size=0xffffffffffffffff (0)")
    assert () == read_qemu_trace("\n".join([*lines, gone])).mapped
