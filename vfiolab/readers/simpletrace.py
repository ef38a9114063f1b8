"""QEMU's binary trace file (the `simple` backend, version 4): its records as the lines that its own tool prints.

Layout from QEMU's trace/simple.c and scripts/simpletrace.py (since 2.9): a header of three u64 (all ones, a magic number, the version).
Then items that begin with a u64, 0 for the name of an event's number, 1 for a record. A record: u64 event, u64 nanoseconds, u32 length with
this header, u32 pid, then the arguments, a u64 each, a text as u32 length and bytes. The file does not say of what kind an argument is.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from vfiolab._text import plain
from vfiolab.readers.errors import InputError

_ONES, _MAGIC, _DROPPED, _VERSION = (1 << 64) - 1, 0xF2B177CB0AA429B4, (1 << 64) - 2, 4
#: The arguments of events that hold a call: `$` before a text, `-` before a signed number (hw/vfio/trace-events, backends/trace-events).
_ARGUMENTS = {
    **dict.fromkeys(("vfio_listener_region_add_ram", "vfio_dma_map_ram"), "iova_start iova_end vaddr"),
    **dict.fromkeys(("vfio_listener_region_del", "vfio_listener_region_add_skip", "vfio_listener_region_del_skip"), "start end"),
    "vfio_listener_region_skip": "$name start end",
    **dict.fromkeys(("vfio_get_device", "vfio_device_get"), "$name flags num_regions num_irqs"),
    **dict.fromkeys(("vfio_realize", "vfio_attach_device", "vfio_device_attach"), "$name -group_id"),
    **dict.fromkeys(
        (
            "vfio_put_base_device", "vfio_device_put", "vfio_put_group", "vfio_group_put", "vfio_disconnect_container",
            "vfio_container_disconnect",
        ),
        "-fd",
    ),
    "vfio_msi_enable": "$name -nr_vectors", "vfio_msix_vector_do_use": "$name -index", "vfio_pci_write_config": "$name addr val len",
    **dict.fromkeys(
        ("vfio_msi_disable", "vfio_msix_enable", "vfio_msix_disable", "vfio_intx_enable", "vfio_intx_disable", "vfio_pci_reset_flr"),
        "$name",
    ),
    "iommufd_backend_map_dma": "-iommufd ioas iova size addr readonly -ret", "iommufd_backend_unmap_dma": "-iommufd ioas iova size -ret",
}  # fmt: skip


def is_simple_trace(data: bytes) -> bool:
    """Say whether a file's bytes are such a trace, in either byte order."""
    return any(data[:16] == struct.pack(f"{order}QQ", _ONES, _MAGIC) for order in "<>")


def simple_lines(data: bytes, *, where: str = "") -> Iterator[str]:
    """Yield a line for each record, as QEMU's tool prints it. InputError for a version that names no events, and for a file cut short.

    >>> list(simple_lines(struct.pack("<QQQ", _ONES, _MAGIC, 4)))
    []
    """
    order = "<" if data[:16] == struct.pack("<QQ", _ONES, _MAGIC) else ">"
    try:
        yield from _records(data, order, where)
    except struct.error as error:
        advice = "stop QEMU, or flush its trace (trace-file flush), before the file is copied"
        raise InputError(f"ends in the middle of a record ({error})", where=where, advice=advice) from error


def _records(data: bytes, order: str, where: str) -> Iterator[str]:
    (version,) = struct.unpack_from(f"{order}Q", data, 16)
    if version != _VERSION:
        advice = "print it with the scripts/simpletrace.py of the QEMU that wrote it, and give that text"
        raise InputError(f"version {version} of QEMU's trace files, which does not name its events", where=where, advice=advice)
    names: dict[int, str] = {}
    at, before = 24, None
    while at < len(data):
        (kind,) = struct.unpack_from(f"{order}Q", data, at)
        if kind == 0:
            number, length = struct.unpack_from(f"{order}QI", data, at + 8)
            (name,) = struct.unpack_from(f"{length}s", data, at + 20)
            names[number] = plain(name.decode("utf-8", "replace"))
            at += 20 + length
            continue
        event, time, length, pid = struct.unpack_from(f"{order}QQII", data, at + 8)
        if kind != 1 or length < 24 or at + 8 + length > len(data):
            raise struct.error(f"byte {at}: item of kind {kind}, {length} bytes")
        before, delta = time, (time - (time if before is None else before)) / 1000
        name_of = "dropped" if event == _DROPPED else names.get(event, f"event_{event}")
        yield f"{name_of} {max(delta, 0):.3f} pid={pid}{_arguments(name_of, data[at + 32 : at + 8 + length], order)}"
        at += 8 + length


def _arguments(name: str, data: bytes, order: str) -> str:
    words, at = "", 0
    for argument in _ARGUMENTS.get(name, "").split():
        if argument[0] == "$":
            (length,) = struct.unpack_from(f"{order}I", data, at)
            (text,) = struct.unpack_from(f"{length}s", data, at + 4)
            words += f" {argument[1:]}={plain(text.decode('utf-8', 'replace'))}"
            at += 4 + length
        else:
            signed = argument[0] == "-"
            (value,) = struct.unpack_from(f"{order}{'q' if signed else 'Q'}", data, at)
            words += f" ({value})" if argument == "-ret" else f" {argument[1:]}={value}" if signed else f" {argument}={value:#x}"
            at += 8
    return words
