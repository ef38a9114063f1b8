"""ftrace's IOMMU events: both forms, the real capture, and what is not understood is named."""

import pytest

from vfiolab._paths import data_dir
from vfiolab.model.address import Span
from vfiolab.readers.errors import InputError
from vfiolab.readers.ftrace import read_ftrace

CAPTURE = data_dir() / "captures" / "ftrace-qemu-kvm-vfio-map.txt"
NEW = "  qemu-kvm-4575    [008] .......   438.308514: map: IOMMU: iova=0x0 - 0xc0000 paddr=0x00000001a6800000 size=786432"
OLD = "CPU 0/KVM-77 [001] 12.5: map: IOMMU: iova=0x100000 paddr=0x80000000 size=8192"


def test_every_line_of_the_real_capture_is_an_event():
    trace = read_ftrace(CAPTURE)
    assert "14 IOMMU events (12 map, 2 unmap), 0 not understood" == str(trace)
    assert {("qemu-kvm", 4575)} == {(event.task, event.pid) for event in trace.events}


def test_the_superpage_probe_comes_before_the_guests_memory():
    first, second, third, *_ = read_ftrace(CAPTURE).events
    assert ["unmap", "unmap", "map"] == [first.kind, second.kind, third.kind]
    assert [Span(0, 0x1000), Span(0x1000, 0x2000), Span(0, 0xC0000)] == [event.span for event in (first, second, third)]


def test_the_form_with_both_ends():
    (event,) = read_ftrace(NEW).events
    assert (Span(0, 0xC0000), 0x1A6800000, 438.308514) == (event.span, event.physical, event.time)


def test_the_older_form_and_a_task_name_with_blanks_and_dashes():
    (event,) = read_ftrace(OLD).events
    assert ("CPU 0/KVM", 77, Span(0x100000, 0x102000), 0x80000000) == (event.task, event.pid, event.span, event.physical)


def test_a_page_fault_names_its_device():
    (event,) = read_ftrace("x-1 [000] d.h.. 3.5: io_page_fault: IOMMU:intel-iommu 0000:00:02.0 iova=0xfee01000 flags=0x1").events
    assert ("io_page_fault", "0000:00:02.0", 0xFEE01000) == (event.kind, event.device, event.span.start)


def test_what_is_unmapped_is_not_mapped_at_the_end():
    gone = "kvm-7 [001] ..... 2.5: unmap: IOMMU: iova=0x100000 - 0x102000 size=8192 unmapped_size=8192"
    assert [0] == [event.span.start for event in read_ftrace(f"{NEW}\n{OLD}\n{gone}\n").mapped]


@pytest.mark.parametrize(("line", "why"), [
    ("hello", "no ftrace line"),
    ("kvm-7 [001] ..... 2.5: kvm_exit: reason 1", "kvm_exit is none of the IOMMU's events"),
    ("kvm-7 [001] ..... 2.5: map: IOMMU: paddr=0x1000 size=1", "map without its range"),
    ("kvm-7 [001] ..... 2.5: map: IOMMU: iova=0x1000 paddr=0x1000 size=0", "map without its range"),
])  # fmt: skip
def test_what_is_not_understood_is_named_and_the_rest_is_kept(line, why):
    trace = read_ftrace(f"# tracer: nop\n{line}\n{NEW}\n")
    assert [(2, why)] == [(unread.line, unread.why) for unread in trace.unread]
    assert 1 == len(trace.events)


@pytest.mark.parametrize("text", ["", "# tracer: nop\n", "hello\n"])
def test_a_file_without_any_event_says_how_to_make_one(text):
    with pytest.raises(InputError, match="no IOMMU event in it; enable the events"):
        read_ftrace(text)
