"""The user's interface as data: every struct and number is what C makes of the system's linux/vfio.h."""

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfiolab.model.uapi import requests
from vfiolab.model.uapi.ioctls import IOCTLS
from vfiolab.model.uapi.requests import MapDma, Struct, UnmapDma, field

STRUCTS = [kind for kind in vars(requests).values() if isinstance(kind, type) and issubclass(kind, Struct) and kind is not Struct]
HEADER = Path("/usr/include/linux/vfio.h")
# What a record holds of the struct that lies behind another one, and the fields of a struct inside a struct.
BEHIND = {
    "vfio_iommu_type1_dma_unmap": ("vfio_bitmap", {"bm_pgsize": "pgsize", "bm_size": "size", "bm_data": "data"}),
    "vfio_iommu_type1_dirty_bitmap": (
        "vfio_iommu_type1_dirty_bitmap_get",
        {"iova": "iova", "size": "size", "bm_pgsize": "bitmap.pgsize", "bm_size": "bitmap.size", "bm_data": "bitmap.data"},
    ),
}
needs_c = pytest.mark.skipif(not HEADER.is_file() or shutil.which("cc") is None, reason="no C compiler, or no kernel headers")


def answers_of_c(expressions, folder):
    """Compile expressions against the header; return their values."""
    source = folder / "ask.c"
    lines = "\n".join(f'    printf("%lu\\n", (unsigned long)({expression}));' for expression in expressions)
    headers = "\n".join(f"#include <{name}.h>" for name in ("stddef", "stdio", "sys/ioctl", "linux/vfio"))
    source.write_text(f"{headers}\nint main(void)\n{{\n{lines}\n    return 0;\n}}\n")
    subprocess.run(["cc", "-o", folder / "ask", source], check=True, capture_output=True)
    return [int(line) for line in subprocess.run([folder / "ask"], check=True, capture_output=True, text=True).stdout.split()]


def places(kind):
    """Return the C expressions of a struct's size and of each field's offset, and what the record says."""
    behind, renamed = BEHIND.get(kind.NAME, ("", {}))
    size = f"sizeof(struct {kind.NAME})" + (f" + sizeof(struct {behind})" if behind else "")
    if kind.NAME == "vfio_device_info":
        size = "offsetof(struct vfio_device_info, cap_offset) + 4"  # newer headers have 4 unused bytes behind it
    yield size, kind.FORMAT.size
    for name, offset in kind.OFFSETS.items():
        if name in renamed:
            yield f"sizeof(struct {kind.NAME}) + offsetof(struct {behind}, {renamed[name]})", offset
        elif kind.NAME.startswith("vfio_iommu_type1_info_") and name in {"id", "version", "next"}:
            yield f"offsetof(struct {kind.NAME}, header) + offsetof(struct vfio_info_cap_header, {name})", offset
        elif name != "pad":  # older headers leave it to the compiler
            yield f"offsetof(struct {kind.NAME}, {name})", offset


@needs_c
@pytest.mark.parametrize("kind", STRUCTS, ids=lambda kind: kind.NAME)
def test_a_struct_has_the_size_and_the_offsets_that_c_gives_it(kind, tmp_path):
    asked = dict(places(kind))
    assert list(asked.values()) == answers_of_c(asked, tmp_path)


@needs_c
def test_every_ioctl_has_the_number_that_c_gives_it(tmp_path):
    rows = [row for kind in IOCTLS.values() for row in kind.values()]
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
