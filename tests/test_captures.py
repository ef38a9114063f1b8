"""Captures become calls that the model carries out: QEMU's traces, tracepoints, strace. What is not understood is named.

The lines are made. Their forms are QEMU's hw/vfio/trace-events (2.10, 8.2, 10.1), trace/simple.c, Linux's include/trace/events/iommu.h, and
what strace 6.1 prints.
"""

import random
import re
import struct

import pytest

import vfiolab as vl
from vfiolab.__main__ import main
from vfiolab._paths import data_dir
from vfiolab.kit.capture import open_capture
from vfiolab.lab import Stepper
from vfiolab.readers.capture import capture_kind, read_capture
from vfiolab.readers.errors import InputError

CAPTURES = data_dir() / "captures"
ARM, X86, FTRACE = (CAPTURES / name for name in ("qemu-arm-smmuv3-vfio.log", "qemu-listener-x86.txt", "ftrace-qemu-kvm-vfio-map.txt"))
ADD = "vfio_listener_region_add_ram region_add [ram] {:#x} - {:#x} [0x7f5b41e00000]"
STRACE = """\
openat(AT_FDCWD, "/dev/vfio/vfio", O_RDWR|O_CLOEXEC) = 12
openat(AT_FDCWD, "/dev/vfio/26", O_RDWR) = 13
ioctl(13, VFIO_GROUP_SET_CONTAINER, 0x7ffe12) = 0
ioctl(12, VFIO_SET_IOMMU, 0x3) = 0
mmap(NULL, 1048576, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f2d39000000
"""
MAP = "{{argsz=32, flags=VFIO_DMA_MAP_FLAG_READ|VFIO_DMA_MAP_FLAG_WRITE, vaddr=0x7f2d39000000, iova={:#x}, size=0x1000}}"


def texts(capture):
    return [operation.text for operation in capture.operations]


def verbs(capture):
    return [operation.verb for operation in capture.operations if operation.line]


# what a text is


@pytest.mark.parametrize(("text", "kind"), [
    (ADD.format(0, 0xFFF), "qemu"),
    (f"Nov 25 10:00:00 host qemu-kvm[12]: 7@1.5:{ADD.format(0, 0xFFF)}", "qemu"),
    ("kvm-7 [001] ..... 1.5: map: IOMMU: iova=0x1000 paddr=0x80000000 size=4096", "ftrace"),
    ("qemu-kvm  4575 [008]   438.308514:  iommu:map: IOMMU: iova=0x1000 - 0x2000 paddr=0x80000000 size=4096", "ftrace"),
    (STRACE, "strace"),
    ("## one\nopen_container A\n", "trace"),
    ("hello\nworld\n", ""),
])  # fmt: skip
def test_a_capture_is_told_from_what_is_in_it(text, kind):
    assert kind == capture_kind(text)


@pytest.mark.parametrize("text", ["hello\nworld\n", "\n\n", "\x00\n"])
def test_what_is_no_capture_is_refused_with_what_to_give(text):
    with pytest.raises(InputError, match=r"no capture: .*; give QEMU's trace"):
        open_capture(text)


def test_a_capture_without_any_call_is_refused_and_its_first_unread_line_named():
    with pytest.raises(InputError, match="1 lines of strace hold no call that can be carried out"):
        open_capture("ioctl(9, TCGETS, 0x1) = -1 ENOTTY (Inappropriate ioctl for device)\n")


# the real captures


def test_the_x86_capture_works_on_vtd_and_meets_the_software_window_on_arm():
    capture = open_capture(X86)
    assert {"lines": 8, "calls": 4, "passed by": 4, "not understood": 0} == capture.counts
    assert capture.run("intel-vtd-39bit").first_refused is None
    refused = capture.run("two-smmu-server").first_refused
    assert (5, "EINVAL") == (refused.line, refused.result)
    assert "software MSI window" in refused.why


def test_the_arm_capture_works_on_arm_and_stops_at_the_msi_window_of_x86():
    capture = open_capture(ARM)
    assert (1035, 0) == (capture.counts["lines"], capture.counts["not understood"])
    assert {"map", "unmap", "pwrite", "get_device_fd", "device_reset", "set_irqs"} <= set(verbs(capture))
    assert capture.run("two-smmu-server").first_refused is None
    refused = capture.run("intel-vtd-39bit").first_refused
    assert (3, "the range lies inside one usable iova range") == (refused.line, refused.check)


def test_the_same_capture_works_before_the_kernel_knew_the_window():
    assert "MSI window" in open_capture(ARM).run("intel-vtd-39bit", kernel="6.12").first_refused.why
    before = open_capture(ARM).run("intel-vtd-39bit", kernel="4.19").first_refused
    assert before is None or "MSI window" not in before.why


def test_the_tracepoints_of_a_real_guest_are_carried_out():
    run = open_capture(FTRACE).run("intel-vtd-39bit")
    assert (None, 12) == (run.first_refused, len(run.space.mappings))


def test_a_trace_of_the_kit_is_a_capture_too():
    run = open_capture("## one\nopen_container A -> 0\nset_iommu A type=3 -> EINVAL\n").run("intel-vtd-39bit")
    assert ("EINVAL", "EINVAL", 3) == (run.first_refused.result, run.first_refused.recorded, run.first_refused.line)


# QEMU


def test_a_device_that_the_machine_has_is_taken_and_else_the_first_that_can_be_attached_is_named():
    capture = open_capture(f"vfio_realize  (0000:01:00.0) group 1\n{ADD.format(0, 0xFFFF)}\n")
    assert [] == [said for said in capture.run("intel-vtd-39bit").said if "stands for" in said]
    other = open_capture(f"vfio_realize  (0000:77:00.0) group 1\n{ADD.format(0, 0xFFFF)}\n").run("intel-vtd-39bit")
    assert [said for said in other.said if said.endswith("stands for 0000:77:00.0")]
    chosen = capture.run("intel-vtd-39bit", devices="0f:00.0")
    assert "0000:0f:00.0 stands for 0000:01:00.0" in chosen.said
    with pytest.raises(ValueError, match=r"has no device 55:00\.0"):
        capture.run("intel-vtd-39bit", devices="55:00.0")


def test_an_errno_below_a_map_stands_beside_it():
    lines = [ADD.format(0xFEE00000, 0xFEEFFFFF), "kvm: vfio_dma_map(0x1, 0xfee00000, 0x100000, 0x7f5b41e00000) = -22 (Invalid argument)"]
    capture = open_capture("\n".join(lines))
    assert ["map"] == [verb for verb in verbs(capture) if verb == "map"]
    refused = capture.run("intel-vtd-39bit").first_refused
    assert ("EINVAL", "EINVAL", 1) == (refused.result, refused.recorded, refused.line)


def test_iommufds_event_and_the_listeners_are_one_call_with_its_answer():
    event = "iommufd_backend_map_dma  iommufd=10 ioas=2 iova=0x0 size=0x1000 addr=0x7f5b41e00000 readonly=0 (-1)"
    capture = open_capture(f"{ADD.format(0, 0xFFF)}\n{event}\n")
    assert [("map", "refused")] == [(o.verb, a) for o, a in zip(capture.operations, capture.answers, strict=True) if o.verb == "map"]
    assert [7] == capture.run("intel-vtd-39bit").differing


def test_an_unmap_of_the_whole_space_is_asked_for_in_two_halves():
    lines = f"{ADD.format(0, 0xFFF)}\nvfio_listener_region_del region_del 0x0 - 0xffffffffffffffff\n"
    run = open_capture(lines).run("intel-vtd-39bit")
    assert (["0", "0"], 0) == ([done.result for done in run.done if done.operation.verb == "unmap"], len(run.space.mappings))


@pytest.mark.parametrize(("event", "expected"), [
    ("vfio_msi_enable  (0000:01:00.0) Enabled 4 MSI vectors", ["index=0x1 count=0x4"]),
    ("vfio_msi_disable  (0000:01:00.0)", ["index=0x1 count=0x0"]),
    ("vfio_intx_enable  (0000:01:00.0)", ["index=0x0 count=0x1"]),
    ("vfio_intx_disable  (0000:01:00.0)", ["index=0x0 count=0x0"]),
    ("vfio_msix_disable  (0000:01:00.0)", ["index=0x2 count=0x0"]),
    ("vfio_msix_vector_do_use  (0000:01:00.0) vector 2 used", ["index=0x2 count=0x3"]),
    ("vfio_msix_vector_do_use  (0000:01:00.0) vector 0 used\nvfio_msix_vector_do_use  (0000:01:00.0) vector 1 used",
     ["index=0x2 count=0x1", "index=0x2 count=0x0", "index=0x2 count=0x2"]),
    ("vfio_msix_vector_do_use 1.0 pid=7 name=0000:01:00.0 index=0x0", ["index=0x2 count=0x1"]),
])  # fmt: skip
def test_interrupt_events_are_calls_of_set_irqs(event, expected):
    asked = [text.split(" ", 2)[2] for text in texts(open_capture(event + "\n")) if text.startswith("set_irqs")]
    assert expected == asked


@pytest.mark.parametrize("names", [
    ("vfio_realize", "vfio_get_device", "vfio_put_base_device", "vfio_disconnect_container", "vfio_put_group"),
    ("vfio_attach_device", "vfio_get_device", "vfio_put_base_device", "vfio_disconnect_container", "vfio_put_group"),
    ("vfio_device_attach", "vfio_device_get", "vfio_device_put", "vfio_container_disconnect", "vfio_group_put"),
])  # fmt: skip
def test_the_events_of_a_whole_life_by_their_names_in_each_version(names):
    attach, get, put, disconnect, put_group = names
    text = (
        f"{attach}  (0000:01:00.0) group 17\n{get} Device 0000:01:00.0 flags: 3, regions: 9, irqs: 5\n{put} close vdev->fd=30\n"
        f"{disconnect} close container->fd=28\n{put_group} close group->fd=29\n"
    )
    capture = open_capture(text)
    expected = "open_container open_group set_container set_iommu get_device_fd close_device unset_container close_container close_group"
    assert expected.split() == verbs(capture)
    assert capture.run("intel-vtd-39bit").first_refused is None


def test_a_descriptor_that_could_be_any_of_two_is_not_guessed():
    get = "vfio_get_device Device 0000:0{}:00.0 flags: 3, regions: 9, irqs: 5\n"
    capture = open_capture(get.format(1) + get.format(2) + "vfio_put_base_device close vdev->fd=30\n")
    assert [(3, "vfio_put_base_device: which device it closes is not in the capture")] == [
        (row["line"], row["why"]) for row in capture.unread
    ]


# the binary backend


def binary(*records, order="<", version=4):
    """Make a file of QEMU's simple backend: the names first, then a record each; texts and numbers as arguments."""
    names = list(dict.fromkeys(name for name, *_ in records))
    data = struct.pack(f"{order}QQQ", (1 << 64) - 1, 0xF2B177CB0AA429B4, version)
    for number, name in enumerate(names):
        data += struct.pack(f"{order}QQI", 0, number, len(name)) + name.encode()
    for time, (name, *arguments) in enumerate(records):
        body = b"".join(
            struct.pack(f"{order}Q", one % (1 << 64)) if isinstance(one, int) else struct.pack(f"{order}I", len(one)) + one.encode()
            for one in arguments
        )
        data += struct.pack(f"{order}QQQII", 1, names.index(name), 1000 * time, 24 + len(body), 7) + body
    return data


RECORDS = (
    ("vfio_realize", "0000:01:00.0", 17), ("kvm_run_exit", 3, 4), ("vfio_listener_region_add_ram", 0x1000, 0x1FFF, 0x7F0000000000),
    ("iommufd_backend_map_dma", 10, 2, 0x2000, 0x1000, 0x7F0000000000, 0, -1),
)  # fmt: skip


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_binary_backend_is_read_in_either_byte_order(order, tmp_path):
    path = tmp_path / "trace-4711"
    path.write_bytes(binary(*RECORDS, order=order))
    calls = read_capture(path)
    assert (4, 1, ()) == (calls.lines, calls.passed, calls.unread)
    assert ["map A iova=0x1000 size=0x1000 vaddr=0x7f0000000000", "map A iova=0x2000 size=0x1000 vaddr=0x7f0000000000"] == texts(calls)[-2:]
    assert ("", "refused") == calls.answers[-2:]


def test_a_binary_trace_cut_short_or_of_an_old_version_says_so(tmp_path):
    path = tmp_path / "trace-4711"
    path.write_bytes(binary(*RECORDS)[:-3])
    with pytest.raises(InputError, match="ends in the middle of a record"):
        open_capture(path)
    path.write_bytes(binary(*RECORDS, version=3))
    with pytest.raises(InputError, match="version 3 of QEMU's trace files"):
        open_capture(path)


# tracepoints


def test_perf_script_holds_the_same_events_as_ftrace():
    line = "qemu-kvm  4575 [008]   438.308514:  iommu:{}: IOMMU: iova=0x1000 - 0x2000 {} size=4096"
    capture = open_capture(f"{line.format('map', 'paddr=0x80000000')}\n{line.format('unmap', 'x=1')} unmapped_size=4096\n")
    assert ["map", "unmap"] == verbs(capture)
    assert 0 == capture.counts["not understood"]


def test_the_device_of_an_attach_event_is_taken():
    attach = "qemu-kvm-7 [001] ..... 1.4: attach_device_to_domain: IOMMU: device=0000:01:00.0"
    capture = open_capture(f"{attach}\nqemu-kvm-7 [001] ..... 1.5: map: IOMMU: iova=0x1000 - 0x2000 paddr=0x80000000 size=4096\n")
    assert "open_group dev=0000:01:00.0" in [f"{o.verb} dev={o.args.get('dev')}" for o in capture.operations]


def test_the_maps_of_another_task_and_an_ioctl_without_its_struct_are_named():
    line = "{} [001] ..... 1.5: map: IOMMU: iova={} - {} paddr=0x80000000 size=4096\n"
    ioctl = "qemu-kvm-7 [001] ..... 1.5: sys_ioctl(fd: c, cmd: 3b71, arg: 7ffe12345678)\n"
    capture = open_capture(line.format("qemu-kvm-7", "0x1000", "0x2000") * 2 + line.format("swapper-0", "0x1000", "0x2000") + ioctl)
    assert [4, 3] == capture.unread["line"]
    assert "an event of swapper, not of qemu-kvm" in capture.unread["why"]


# strace


def test_a_programs_calls_are_carried_out_with_its_memory():
    good = f"ioctl(12, VFIO_IOMMU_MAP_DMA, {MAP.format(0x100000)}) = 0\n"
    capture = open_capture(STRACE + good)
    assert ["open_container", "open_group", "set_container", "set_iommu", "mem", "map"] == verbs(capture)
    assert capture.run("intel-vtd-39bit").first_refused is None
    gone = open_capture(STRACE + "munmap(0x7f2d39000000, 1048576) = 0\n" + good).run("intel-vtd-39bit").first_refused
    assert ("EFAULT", "0", 7) == (gone.result, gone.recorded, gone.line)


@pytest.mark.parametrize("line", [
    "ioctl(12, VFIO_IOMMU_MAP_DMA, {}) = -1 EINVAL (Invalid argument)",
    "ioctl(12, VFIO_DEVICE_PCI_HOT_RESET or VFIO_IOMMU_MAP_DMA, {}) = -1 EINVAL (Invalid argument) <0.000037>",
    "ioctl(12, _IOC(_IOC_NONE, 0x3b, 0x71, 0), {}) = -1 EINVAL (Invalid argument)",
    "ioctl(12, 0x3b71, {}) = -1 EINVAL (Invalid argument)",
    "ioctl(12</dev/vfio/vfio>, VFIO_IOMMU_MAP_DMA, {}) = -1 EINVAL (Invalid argument)",
    "[pid  4711] ioctl(12, VFIO_IOMMU_MAP_DMA, {}) = -1 EINVAL (Invalid argument)",
    "4711  12:30:01.123456 ioctl(12, VFIO_IOMMU_MAP_DMA, {}) = -1 EINVAL (Invalid argument)",
    ("[pid 7] 0.000041 ioctl(12, VFIO_IOMMU_MAP_DMA <unfinished ...>\n[pid 8] futex(0x1, 2) = 0\n"
     "[pid 7] 0.000060 <... ioctl resumed>, {}) = -1 EINVAL (Invalid argument)"),
])  # fmt: skip
def test_each_form_of_a_refused_map_is_found(line):
    refused = open_capture(STRACE + line.format(MAP.format(0xFEE00000)) + "\n").run("intel-vtd-39bit").first_refused
    assert ("map", 6, "EINVAL", "EINVAL") == (refused.operation.verb, refused.line, refused.result, refused.recorded)


@pytest.mark.parametrize(("line", "why"), [
    ("ioctl(12, VFIO_DEVICE_PCI_HOT_RESET or VFIO_IOMMU_MAP_DMA, 0x7ffd774f7) = 0", "the struct of VFIO_IOMMU_MAP_DMA is not written out"),
    ("ioctl(12, VFIO_IOMMU_MAP_DMA, {argsz=32, flags=VFIO_MOON, vaddr=0x1000, iova=0x0, size=0x1000}) = 0", "lacks fields"),
    ("ioctl(12, VFIO_IOMMU_MAP_DMA, {argsz=32, iova=0x0}) = 0", "VFIO_IOMMU_MAP_DMA lacks fields"),
    ("ioctl(12, VFIO_EEH_PE_OP, 0x7ffd) = 0", "VFIO_EEH_PE_OP is not carried out"),
    ("ioctl(55, VFIO_DEVICE_PCI_HOT_RESET or VFIO_IOMMU_MAP_DMA, 0x7ffd) = 0", "descriptor 55 was opened before the text begins"),
    ("dup(12) = 20", "a second descriptor of the same file is not followed"),
    ("garbage", "no line of strace"),
])  # fmt: skip
def test_what_is_behind_a_pointer_is_never_guessed(line, why):
    capture = open_capture(f"{STRACE}{line}\n")
    assert [6] == capture.unread["line"]
    assert why in capture.unread["why"][0]


def test_a_child_process_is_not_followed_and_a_thread_is():
    close = "[pid 99] close(12) = 0\n"
    thread = open_capture(f"{STRACE}clone(child_stack=0x7f, flags=CLONE_VM|CLONE_THREAD) = 99\n{close}")
    child = open_capture(f"{STRACE}clone(child_stack=NULL, flags=CLONE_CHILD_SETTID|SIGCHLD) = 99\n{close}")
    assert ("close_container", "set_iommu") == (verbs(thread)[-1], verbs(child)[-1])


def test_a_descriptor_from_before_the_text_is_assumed_to_be_in_use():
    capture = open_capture(f"ioctl(12, VFIO_IOMMU_MAP_DMA, {MAP.format(0x100000)}) = 0\n")
    assert "fd12, opened before the text begins, is a container that is in use" in capture.assumed
    assert capture.run("intel-vtd-39bit").first_refused is None


def test_the_kits_own_transcript_is_understood_by_the_kit():
    space = vl.load("intel-vtd-39bit").address_space()
    space.attach("01:00.0")
    space.map(0x10_0000, "64K")
    run = open_capture(str(space.transcript(events=False))).run("intel-vtd-39bit")
    assert (None, [0x10_0000]) == (run.first_refused, run.space.mappings["start"])


# pictures, the command, hostile input


def test_there_is_a_picture_at_every_step():
    run = open_capture(X86).run("intel-vtd-39bit")
    assert [0, 0, 1, 4] == [len(run.at(step).mappings) for step in (9, 8, 10, 13)]
    stepper = Stepper(run)
    for step in range(1, len(run.steps) + 1):
        stepper.go(step)
        assert f"Step {step} of 13" in stepper.words
        assert "<svg" in stepper.picture.value


def replay(capsys, *words):
    status = main(["replay", *map(str, words)])
    return status, *capsys.readouterr()


def test_the_command_prints_the_first_call_that_cannot_work_and_the_unread_lines(tmp_path, capsys):
    path = tmp_path / "qemu.log"
    path.write_text("hello\n" * 7 + ADD.format(0xFEE00000, 0xFEEFFFFF) + "\n" + ADD.format(0, 0xFFF) + "\n")
    status, out, _ = replay(capsys, path, "--machine", "intel-vtd-39bit", "--kernel", "6.1")
    assert 1 == status
    assert "9 lines, 2 calls, 0 passed by, 7 not understood (qemu)" in out
    assert ("  and 2 more" in out, "line 6" in out) == (True, False)
    assert re.search(r"intel-vtd-39bit, kernel 6\.1: call \d+ of \d+ is the first that cannot work\nline 8: map A", out)
    assert 0 == replay(capsys, X86, "--machine", "intel-vtd-39bit")[0]


def test_the_commands_results_of_a_capture_are_a_trace(tmp_path, capsys):
    _, out, _ = replay(capsys, X86, "--machine", "intel-vtd-39bit", "--results")
    path = tmp_path / "again.trace"
    path.write_text(out)
    status, again, _ = replay(capsys, path, "--machine", "intel-vtd-39bit")
    assert (0, True) == (status, again.endswith("0 divergences\n"))


def test_the_command_needs_a_machine_and_keeps_its_options_apart(tmp_path, capsys):
    path = tmp_path / "qemu.log"
    path.write_text(ADD.format(0, 0xFFF) + "\n")
    status, _, err = replay(capsys, path)
    assert (2, True) == (status, "name a machine to run it on" in err)
    path.write_text("## one\nopen_container A\n")
    status, _, err = replay(capsys, path, "--machine", "intel-vtd-39bit", "--device", "01:00.0")
    assert (2, True) == (status, "is no capture" in err)


SOURCES = {
    "qemu": (ARM.read_text() + X86.read_text(), 300), "ftrace": (FTRACE.read_text(), 1000), "binary": ("", 1000),
    "strace": (STRACE + "".join(f"[pid {n}] ioctl(12, VFIO_IOMMU_MAP_DMA, {MAP.format(n << 20)}) = 0\n" for n in range(9))
               + 'ioctl(13, VFIO_GROUP_GET_DEVICE_FD, 0x7f) = 14\npwrite64(14, "\\7\\4", 2, 7696581394436) = 2\nclose(14) = 0\n', 1500),
}  # fmt: skip
GARBAGE = [
    "\x00",
    "9" * 5000,
    "0x" + "f" * 40,
    "{",
    "}",
    '"',
    "\\",
    "(",
    ")",
    "= -1",
    "-",
    "@",
    "<unfinished ...>",
    "[pid ",
    " = ",
    ", ",
    "",
]


@pytest.mark.parametrize("kind", SOURCES)
def test_mutated_captures_give_a_run_or_a_clear_error(kind, tmp_path):
    dice = random.Random(kind)
    text, count = SOURCES[kind]
    lines = text.splitlines() if len(text) < 9000 else text.splitlines()[:60] + text.splitlines()[-8:]
    host = vl.load("intel-vtd-39bit")
    for _ in range(count):
        source = tmp_path / "binary"
        if kind == "binary":
            data = bytearray(binary(*RECORDS))
            for _ in range(dice.randrange(1, 4)):
                data[dice.randrange(24, len(data))] = dice.randrange(256)
            source.write_bytes(bytes(data[: dice.randrange(40, len(data) + 40)]))
        else:
            changed = list(lines)
            for _ in range(dice.randrange(1, 4)):
                at = dice.randrange(len(changed))
                place = dice.randrange(len(changed[at]) + 1)
                changed[at] = changed[at][:place] + dice.choice(GARBAGE) + changed[at][place + dice.randrange(6) :]
            source.write_text("\n".join(changed) + "\n", encoding="utf-8")
        try:
            run = open_capture(source).run(host)
        except InputError as error:
            assert len(str(error)) > 20  # noqa: PT017 - not every input fails; each failure has to say why
        else:
            assert len(run.done) == len(run.operations)
            assert repr(run.first_refused)
