"""The user's interface as data: every struct and number is what C makes of the system's linux/vfio.h."""

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_steps import intel

from vfiolab.model.errors import VfioError
from vfiolab.model.uapi import iommufd, requests
from vfiolab.model.uapi.ioctls import IOCTLS, NUMBERS
from vfiolab.model.uapi.requests import (
    CapHeader,
    DeviceInfo,
    GroupStatus,
    HotReset,
    HotResetInfo,
    IommuInfo,
    IovaRangeCap,
    IrqInfo,
    IrqSet,
    MapDma,
    PciDependent,
    RegionInfo,
    Struct,
    UnmapDma,
    field,
)

STRUCTS = [
    kind
    for module in (requests, iommufd)
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, Struct) and kind.FIELDS
]
#: The kernel's headers: the system's, or newer ones that the environment names (those of a distribution may know no iommufd).
HEADERS = Path(os.environ.get("LINUX_HEADERS", "/usr/include"))
HEADER = HEADERS / "linux/vfio.h"
# What a record holds of the struct that lies behind another one, and the fields of a struct inside a struct.
BEHIND = {
    "vfio_iommu_type1_dma_unmap": ("vfio_bitmap", {"bm_pgsize": "pgsize", "bm_size": "size", "bm_data": "data"}),
    "vfio_iommu_type1_dirty_bitmap": (
        "vfio_iommu_type1_dirty_bitmap_get",
        {"iova": "iova", "size": "size", "bm_pgsize": "bitmap.pgsize", "bm_size": "bitmap.size", "bm_data": "bitmap.data"},
    ),
}
IOMMUFD_HEADER, OLD = HEADERS / "linux/iommufd.h", ("iommu_", "vfio_device_bind", "vfio_device_attach", "vfio_device_detach")
needs_c = pytest.mark.skipif(not HEADER.is_file() or shutil.which("cc") is None, reason="no C compiler, or no kernel headers")


def answers_of_c(expressions, folder):
    """Compile expressions against the header; return their values."""
    source = folder / "ask.c"
    lines = "\n".join(f'    printf("%lu\\n", (unsigned long)({expression}));' for expression in expressions)
    headers = "\n".join(
        f"#include <{name}.h>" for name in ("stddef", "stdio", "sys/ioctl", "linux/vfio", *["linux/iommufd"] * IOMMUFD_HEADER.is_file())
    )
    source.write_text(f"{headers}\nint main(void)\n{{\n{lines}\n    return 0;\n}}\n")
    subprocess.run(["cc", "-I", HEADERS, "-o", folder / "ask", source], check=True, capture_output=True)
    return [int(line) for line in subprocess.run([folder / "ask"], check=True, capture_output=True, text=True).stdout.split()]


def places(kind):
    """Return the C expressions of a struct's size and of each field's offset, and what the record says."""
    behind, renamed = BEHIND.get(kind.NAME, ("", {}))
    size = f"sizeof(struct {kind.NAME})" + (f" + sizeof(struct {behind})" if behind else "")
    if kind.NAME == "vfio_device_info":
        size = "offsetof(struct vfio_device_info, cap_offset) + 4"  # newer headers have 4 unused bytes behind it
    if kind.NAME.startswith(OLD[1:]):  # newer headers have a token or a PASID behind these
        last = list(kind.OFFSETS)[-1]
        size = f"offsetof(struct {kind.NAME}, {last}) + sizeof(((struct {kind.NAME} *)0)->{last})"
    yield size, kind.FORMAT.size
    for name, offset in kind.OFFSETS.items():
        if name in renamed:
            yield f"sizeof(struct {kind.NAME}) + offsetof(struct {behind}, {renamed[name]})", offset
        elif kind.NAME.startswith("vfio_iommu_type1_info_") and name in {"id", "version", "next"}:
            yield f"offsetof(struct {kind.NAME}, header) + offsetof(struct vfio_info_cap_header, {name})", offset
        elif name.startswith("reserved") and kind.NAME.startswith("iommu_"):
            yield f"offsetof(struct {kind.NAME}, __{name})", offset
        elif name != "pad":  # older headers leave it to the compiler
            yield f"offsetof(struct {kind.NAME}, {name})", offset


@needs_c
@pytest.mark.parametrize("kind", STRUCTS, ids=lambda kind: kind.NAME)
def test_a_struct_has_the_size_and_the_offsets_that_c_gives_it(kind, tmp_path):
    if kind.NAME.startswith(OLD) and not IOMMUFD_HEADER.is_file():
        pytest.skip("these headers are from before 6.2 and have no iommufd; name newer ones in LINUX_HEADERS")
    asked = dict(places(kind))
    assert list(asked.values()) == answers_of_c(asked, tmp_path)


@needs_c
def test_every_ioctl_has_the_number_that_c_gives_it(tmp_path):
    rows = [row for kind in IOCTLS.values() for row in kind.values() if IOMMUFD_HEADER.is_file() or not row.struct.startswith(OLD)]
    assert [row.number for row in rows] == answers_of_c([row.name for row in rows], tmp_path)


@pytest.mark.parametrize("kind", STRUCTS, ids=lambda kind: kind.NAME)
@given(data=st.data())
def test_bytes_and_records_are_the_same_thing(kind, data):
    values = {name: data.draw(st.integers(0, (1 << bits) - 1), label=name) for name, bits in kind.FIELDS}
    record = kind(**values)
    packed = record.pack()
    assert kind.FORMAT.size == len(packed)
    assert record == kind.unpack(packed)
    assert values == {name: int.from_bytes(packed[kind.OFFSETS[name] :][: bits // 8], "little") for name, bits in kind.FIELDS}


def test_a_struct_cut_short_reads_as_zeros_and_below_its_minimum_cannot_be_read():
    whole = UnmapDma(argsz=48, iova=0x1000, size=0x2000, bm_pgsize=4096).pack()
    assert (0x2000, 0, "good") == ((cut := UnmapDma.unpack(whole[:24])).size, cut.bm_pgsize, cut.ptr)
    assert "bad" == UnmapDma.unpack(whole[:23]).ptr
    assert "bad" == MapDma.unpack(b"").ptr


@pytest.mark.parametrize(("value", "held"), [(-1, 0xFFFF_FFFF_FFFF_FFFF), (1 << 63, 1 << 63), (-(1 << 63), 1 << 63)])
def test_a_field_holds_a_number_as_c_does(value, held):
    assert held == MapDma(iova=value).iova == field("iova", value)


@pytest.mark.parametrize("value", [1 << 64, -(1 << 63) - 1, 1.5, "0x1000", None, True])
def test_what_is_no_number_of_the_fields_width_is_named(value):
    with pytest.raises((TypeError, ValueError), match="iova"):
        MapDma(iova=value)


def test_fields_and_structs_of_two_ioctls_never_differ_in_name_only():
    assert len(STRUCTS) == len({kind.NAME for kind in STRUCTS})
    assert {row.struct for kind in IOCTLS.values() for row in kind.values()} - {"", "int", "char[]"} <= {kind.NAME for kind in STRUCTS}


# A program's bytes and a learner's calls

GROUP_OF = "0000:01:00.0"
NUMBER = {name.removeprefix("VFIO_"): number for name, number in NUMBERS.items()}


def fresh(kernel="6.12"):
    host = intel().host(kernel)
    return host, host.process.open_container(), host.process.open_group(GROUP_OF)


def by_calls(host, container, group):
    """Do with calls what `by_bytes` does with bytes; return what came back."""
    out = [container.get_api_version(), group.get_status()]
    group.set_container(container)
    container.set_iommu(3)
    container.map_dma(0x4000_0000, 0x20_0000, host.machine.arena.base)
    info = container.get_info(256)
    device = group.get_device_fd(GROUP_OF)
    out += [info.argsz, info.flags, info.pgsizes, info.ranges, device.fd]
    told = device.get_info(), device.get_region_info(7), device.get_irq_info(1)
    out += [(told[0].num_regions, told[0].num_irqs), (told[1].size, told[1].offset), (told[2].flags, told[2].count)]
    out.append(container.unmap_dma(0x4000_0000, 0x20_0000))
    return out


def told(data):
    """Read GET_INFO's bytes as a C program does, walking the chain."""
    info, ranges = IommuInfo.unpack(data), ()
    at = info.cap_offset
    while at:
        head = CapHeader.unpack(data[at:])
        if head.id == 1:
            count = IovaRangeCap.unpack(data[at:]).nr_iovas
            edges = [int.from_bytes(data[at + 16 + 8 * n :][:8], "little") for n in range(2 * count)]
            ranges = tuple(zip(edges[::2], edges[1::2], strict=True))
        at = head.next
    return [info.argsz, info.flags, info.iova_pgsizes, ranges]


def by_bytes(host, container, group):
    out = [container.ioctl(NUMBER["GET_API_VERSION"])]
    data = bytearray(GroupStatus().pack())
    assert 0 == group.ioctl(NUMBER["GROUP_GET_STATUS"], data)
    out.append(GroupStatus.unpack(data).flags)
    group.ioctl(NUMBER["GROUP_SET_CONTAINER"], bytearray(container.fd.to_bytes(4, "little")))
    container.ioctl(NUMBER["SET_IOMMU"], 3)
    container.ioctl(NUMBER["IOMMU_MAP_DMA"], bytearray(MapDma(vaddr=host.machine.arena.base, iova=0x4000_0000, size=0x20_0000).pack()))
    data = bytearray(IommuInfo(argsz=256).pack().ljust(256, b"\xff"))
    container.ioctl(NUMBER["IOMMU_GET_INFO"], data)
    fd = group.ioctl(NUMBER["GROUP_GET_DEVICE_FD"], bytearray(GROUP_OF.encode() + b"\0"))
    out += [*told(data), fd]
    device = host.process.descriptors[fd]
    kinds = (("GET_INFO", DeviceInfo()), ("GET_REGION_INFO", RegionInfo(index=7)), ("GET_IRQ_INFO", IrqInfo(index=1)))
    answers = []
    for name, record in kinds:
        data = bytearray(record.pack())
        device.ioctl(NUMBER[f"DEVICE_{name}"], data)
        answers.append(type(record).unpack(data))
    out += [(answers[0].num_regions, answers[0].num_irqs), (answers[1].size, answers[1].offset), (answers[2].flags, answers[2].count)]
    data = bytearray(UnmapDma(iova=0x4000_0000, size=0x20_0000).pack()[:24])
    container.ioctl(NUMBER["IOMMU_UNMAP_DMA"], data)
    out.append(UnmapDma.unpack(data).size)
    return out


@pytest.mark.parametrize("kernel", ["4.4", "5.10", "6.12", "7.3"])
def test_a_programs_bytes_and_a_learners_calls_meet_the_same_code(kernel):
    called, written = fresh(kernel), fresh(kernel)
    assert by_calls(*called) == by_bytes(*written)
    assert list(map(str, called[0].log.calls)) == list(map(str, written[0].log.calls))
    assert called[0].log.events == written[0].log.events


def test_a_mapping_whose_dirty_bitmap_cannot_be_written_stays_with_those_after_it():
    host, container, group = fresh()
    group.set_container(container)
    container.set_iommu()
    for iova in (0x4000_0000, 0x4000_1000, 0x4000_2000):
        container.map_dma(iova, 0x1000, host.machine.arena.base)
    container.dirty_pages(1)
    answers = iter((True, False))
    host.process.copy_out = lambda _address, _data: next(answers)
    asked = bytearray(UnmapDma(48, 1, 0x4000_0000, 0x3000, 0x1000, 8, 0x7000).pack())
    with pytest.raises(VfioError, match="EFAULT: the bitmap cannot be written"):
        container.ioctl(NUMBER["IOMMU_UNMAP_DMA"], asked)
    assert [0x4000_1000, 0x4000_2000] == [dma.iova for dma in container.backend.dmas]
    assert ("EFAULT", 1) == (host.log.calls[-1].result, len(host.log.calls[-1].events))
    container.server._check()


def test_interrupts_and_resets_are_asked_for_in_bytes_too():
    _, container, group = fresh()
    group.set_container(container)
    container.set_iommu()
    device = group.get_device_fd(GROUP_OF)
    head = IrqSet(argsz=20 + 2 * 4, flags=36, index=2, start=0, count=2).pack()
    with pytest.raises(VfioError, match="EBADF"):
        device.ioctl(NUMBER["DEVICE_SET_IRQS"], bytearray(head + 2 * (1000).to_bytes(4, "little")))
    with pytest.raises(VfioError, match="descriptor 0 is no eventfd"):
        device.ioctl(NUMBER["DEVICE_SET_IRQS"], bytearray(head + bytes(4) + b"\1\0\0\0"))
    device.process.eventfds = frozenset({9})
    assert 0 == device.ioctl(NUMBER["DEVICE_SET_IRQS"], bytearray(head + (9).to_bytes(4, "little") + b"\xff" * 4))
    assert ({0}, {0, 1}) == (device.irqs.signals, device.irqs.vectors)
    data = bytearray(HotResetInfo(argsz=12 + 4 * 8).pack().ljust(12 + 4 * 8, b"\0"))
    device.ioctl(NUMBER["DEVICE_GET_PCI_HOT_RESET_INFO"], data)
    first = PciDependent.unpack(data[12:])
    assert (1, group.id, 1, 0) == (HotResetInfo.unpack(data).count, first.group_id, first.bus, first.devfn)
    ask = HotReset(argsz=16, count=1).pack()
    assert 0 == device.ioctl(NUMBER["DEVICE_PCI_HOT_RESET"], bytearray(ask + group.fd.to_bytes(4, "little")))
    with pytest.raises(VfioError, match="EBADF"):
        device.ioctl(NUMBER["DEVICE_PCI_HOT_RESET"], bytearray(ask + container.fd.to_bytes(4, "little")))
    with pytest.raises(VfioError, match="EFAULT"):
        device.ioctl(NUMBER["DEVICE_PCI_HOT_RESET"], bytearray(ask))


@pytest.mark.parametrize("kind", IOCTLS)
def test_a_pointer_that_leads_nowhere_is_efault_for_every_ioctl_that_takes_one(kind):
    host, container, group = fresh()
    group.set_container(container)
    container.set_iommu()
    device = group.get_device_fd(GROUP_OF)
    if kind in ("iommufd", "cdev"):
        host = replace(intel(), vfio="iommufd-compat").host("6.12")
        container, device = host.process.open_iommufd(), host.process.open_cdev(GROUP_OF)
        device.bind_iommufd(container)
    descriptor = {"container": container, "iommufd": container, "group": group, "device": device, "cdev": device}[kind]
    for row in IOCTLS[kind].values():
        if (
            row.struct
            and (kind != "device" or not row.struct.startswith(OLD))
            and row.name != "VFIO_IOMMU_DIRTY_PAGES" * (kind == "iommufd")
        ):
            for nowhere in (0, bytearray()):
                with pytest.raises(VfioError, match="EFAULT"):
                    descriptor.ioctl(row.number, nowhere)


def test_what_comes_back_never_reaches_beyond_the_users_bytes():
    _, container, group = fresh()
    group.set_container(container)
    container.set_iommu()
    data = bytearray(IommuInfo(argsz=256).pack()[:20])
    container.ioctl(NUMBER["IOMMU_GET_INFO"], data)
    assert 20 == len(data)
