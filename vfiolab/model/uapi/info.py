"""GET_INFO: what a backend tells its user, in the struct's own form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from vfiolab.model.address import Span
from vfiolab.model.checks import Check
from vfiolab.model.uapi.requests import DmaAvailCap, IommuInfo, IovaRangeCap, MigrationCap

HEADER = 24
IOVA_RANGE, MIGRATION, DMA_AVAIL = 1, 2, 3
CAPABILITY_NAMES = {IOVA_RANGE: "IOVA_RANGE", MIGRATION: "MIGRATION", DMA_AVAIL: "DMA_AVAIL"}
FLAG_PGSIZES, FLAG_CAPS = 1, 2
#: A capability before it has its place: id, size in bytes, fields.
Part: TypeAlias = tuple[int, int, list[tuple[str, object]]]
GET_INFO = "vfio_iommu_type1_get_info, drivers/vfio/vfio_iommu_type1.c"


class Capability(NamedTuple):
    """One entry of the chain at offset `off`: `ranges` (inclusive) of id 1, the migration fields of id 2, `avail` of id 3."""

    id: int
    off: int
    size: int
    fields: tuple[tuple[str, object], ...]
    version: int = 1

    def pack(self, following: int) -> bytes:
        """Return its bytes, `size` of them; `following` is where the next capability begins, 0 if none does."""
        fields: dict[str, Any] = dict(self.fields)
        if self.id == IOVA_RANGE:
            ranges = fields["ranges"]
            head = IovaRangeCap(next=following, nr_iovas=len(ranges)).pack()
            raw = head + b"".join(edge.to_bytes(8, "little") for pair in ranges for edge in pair)
        elif self.id == MIGRATION:
            raw = MigrationCap(next=following, **fields).pack()
        else:
            raw = DmaAvailCap(next=following, **fields).pack()
        return raw.ljust(self.size, b"\0")

    def as_dict(self) -> dict[str, object]:
        """Return the capability as the trace's JSON has it."""
        return {"id": self.id, "version": self.version, "off": self.off, "name": CAPABILITY_NAMES[self.id], **dict(self.fields)}


@dataclass(frozen=True, slots=True)
class Info:
    """The answer: `argsz` may have grown to what the chain needs; `cap_offset` None if the struct was too short to hold it."""

    argsz: int
    flags: int
    pgsizes: int
    cap_offset: int | None
    caps: tuple[Capability, ...]

    @property
    def ranges(self) -> tuple[tuple[int, int], ...]:
        """The usable iova ranges, inclusive; empty if the capability is not there."""
        found: Any = next((dict(capability.fields)["ranges"] for capability in self.caps if capability.id == IOVA_RANGE), ())
        return tuple((first, last) for first, last in found)

    def pack(self) -> bytes:
        """Return the answer's bytes: the struct, and the chain of capabilities behind it."""
        out = bytearray(IommuInfo(self.argsz, self.flags, self.pgsizes, self.cap_offset or 0).pack())
        for capability, following in zip(self.caps, (*self.caps, None)[1:], strict=True):
            out[capability.off :] = capability.pack(following.off if following is not None else 0)
        return bytes(out)

    def as_dict(self) -> dict[str, object]:
        """Return the answer as the trace's JSON has it."""
        out: dict[str, object] = {"argsz": self.argsz, "flags": self.flags, "pgsizes": self.pgsizes}
        if self.cap_offset is not None:
            out["cap_offset"] = self.cap_offset
        return out | {"caps": [capability.as_dict() for capability in self.caps]}


INFO_CHECKS = (
    Check("the struct can be read", "EFAULT", GET_INFO, "the pointer to the struct vfio_iommu_type1_info is {r.ptr}", "pass a pointer to a struct vfio_iommu_type1_info", test="r.ptr != 'good'"),
    Check("argsz holds the smallest struct (16 bytes)", "EINVAL", GET_INFO, "argsz {r.argsz} is below 16, the smallest struct vfio_iommu_type1_info",
          "set argsz = 24, then again with the argsz that comes back", test="r.argsz < 16"),
)  # fmt: skip


def chain(parts: list[Part], *, padded: bool) -> tuple[tuple[Capability, ...], int]:
    """Lay capabilities out one behind the other; return them and the total size of struct and chain."""
    offset, out = HEADER, []
    for number, size, fields in parts:
        taken = -(-size // 8) * 8 if padded else size
        out.append(Capability(number, offset, taken, tuple(fields)))
        offset += taken
    return tuple(out), offset


def iova_part(iovas: Sequence[Span]) -> Part:
    """Return capability 1: the usable ranges, inclusive."""
    return IOVA_RANGE, 16 + 16 * len(iovas), [("ranges", [[span.start, span.last] for span in iovas])]


def answer(argsz: int, flags: int, pgsizes: int, caps: tuple[Capability, ...], total: int) -> Info:
    """Fit the chain into the user's struct, or tell how much it needs."""
    if not caps:
        return Info(argsz, flags, pgsizes, 0 if argsz >= 20 else None, ())
    fits = argsz >= total
    cap_offset = None if argsz < 20 else HEADER if fits else 0
    return Info(max(argsz, total), flags | FLAG_CAPS, pgsizes, cap_offset, caps if fits else ())
