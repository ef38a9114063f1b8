"""Machine files: one JSON schema for recorded kernels, real machines and made-up ones (data/README.md describes it)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from vfiolab.model.backends.type1 import ENTRY_LIMIT
from vfiolab.model.iommu.unit import AMD_OLD, AMD_V1, KINDS, SOFTWARE_MSI, IommuUnit, Reported, ReservedRegion
from vfiolab.model.irq.msi import CONTROLLERS, InterruptController
from vfiolab.model.kernel import Kernel, parse_version
from vfiolab.model.machine import DRIVERS, MEMLOCK, PARAMS, Machine, RecordedGroup
from vfiolab.model.pci.topology import Topology
from vfiolab.model.user.process import Arena
from vfiolab.readers.errors import InputError
from vfiolab.readers.fields import Field, parse_json
from vfiolab.readers.lines import read_text
from vfiolab.readers.pcijson import pci_of

T = TypeVar("T")
HARDWARE_PAGES = 0x40201000
PAGE_SIZES = (0x1000, 0x4000, 0x10000)


def read_machine_file(path: Path) -> Machine:
    """Read a machine file. InputError names the line and field that do not fit; OSError if it is not there."""
    path.stat()
    return read_machine(read_text(path), source=str(path))


def read_machine(text: str, *, source: str = "machine.json") -> Machine:
    """Read the text of a machine file.

    >>> read_machine('{"name": "one", "devices": [{"bdf": "0000:00:02.0", "kind": "pci"}]}')
    Machine('one', 1 functions, 0 IOMMU units)
    """
    data = parse_json(text, source=source)
    found = pci_of(data, source)
    machine = _machine(data, found.topology, source)
    behind = frozenset(one.address() for one in data.get("participants").items()) if data.get("participants") else found.participants
    known = machine.units_assumed or behind == frozenset(device for unit in machine.units for device in unit.devices)
    return replace(machine, participants=None if known and not data.get("participants") else behind)


def _machine(data: Field, topology: Topology, source: str) -> Machine:
    kernel, memlock, page_size = data.get("kernel"), data.get("memlock"), data.get("page_size")
    if kernel:
        try:
            Kernel(kernel.value)
        except (TypeError, ValueError) as error:
            raise kernel.fail(f"is {kernel.value!r}", "write what uname -r prints (4.4 or later), or null") from error
    if page_size and page_size.number() not in PAGE_SIZES:
        raise page_size.fail(f"is {page_size.value!r}", "a page size is a power of two: 4096, 16384 or 65536 bytes")
    controller = _controller(data.get("interrupts"))
    limit = MEMLOCK if "memlock" not in data.value else memlock.number(-1) if memlock else -1
    return Machine(
        name=str(data.get("name").value or Path(source).stem),
        topology=_with_intx(data, topology),
        units=_units(data, controller),
        interrupts=controller,
        kernel=kernel.value,
        source=str(data.get("source").value or ""),
        cpu=str(data.get("cpu").value or ""),
        notes=data.get("notes").words(),
        vfio=_choice(data.get("vfio"), "type1", "iommufd-compat"),
        groups=_groups(data),
        groups_from=_choice(data.get("groups_from"), "topology", "recorded"),
        drivers=frozenset(data.get("drivers").words()) or DRIVERS | {f.driver for f in topology.values() if f.driver},
        params=_params(data.get("params")),
        page_size=page_size.number() if page_size else 4096,
        arena=_arena(data.get("arena")),
        memlock=None if limit == -1 else limit,
        units_assumed=data.get("units_assumed").flag(default=False),
        firmware=MappingProxyType(_by_device(data.get("firmware"), lambda one: _region(one, set()))),
        bars=MappingProxyType(_by_device(data.get("bars"), Field.span)),
        emulated=_emulated(data.get("emulated"), topology),
    )


def _by_device(field: Field, read: Callable[[Field], T]) -> dict[str, tuple[T, ...]]:
    """Read an object of lists: for each device, what it has."""
    entries = field.object("write an object: a device's address, and a list of ranges")
    return {Field(bdf, entries.path, entries.document).address(): tuple(map(read, entries.get(bdf).items())) for bdf in entries.value}


def _choice(field: Field, default: str, *others: str) -> str:
    return field.choice((default, *others)) if field else default


def _params(field: Field) -> Mapping[str, str]:
    if not field:
        return PARAMS
    found = field.object("write an object: 'module.name' and its value").value
    limit = field.get(ENTRY_LIMIT)
    if limit:
        Field(str(limit.value), limit.path, limit.document).number(0, (1 << 32) - 1)
    return MappingProxyType({str(name): str(one) for name, one in found.items()})


def _emulated(field: Field, topology: Topology) -> tuple[str, ...]:
    names = field.words()
    real = next((n for n, name in enumerate(names) if name in topology), None)
    if real is not None:
        raise field.items()[real].fail(f"is {names[real]!r}, which is one of the devices", "give an emulated device a name, no address")
    twice = next((n for n, name in enumerate(names) if name in names[:n]), None)
    if twice is not None:
        raise field.items()[twice].fail(f"is {names[twice]!r} for the second time", "give each emulated device a name of its own")
    return names


def _with_intx(data: Field, topology: Topology) -> Topology:
    """Where the file is silent, an ordinary function has an INTx pin and a virtual function has none."""
    silent = {entry.get("bdf").address() for entry in data.get("devices").items() if "intx" not in entry.value}
    changed = [replace(f, intx=1) for f in topology.values() if f.bdf in silent and f.kind != "vf" and not f.is_bridge]
    return topology.replace(*changed) if changed else topology


def _controller(field: Field) -> InterruptController | None:
    if not field:
        return None
    if not isinstance(field.value, dict) or field.value.get("controller") not in CONTROLLERS:
        raise field.fail(f"is {field.value!r}", f"name a controller: {', '.join(CONTROLLERS)}")
    doorbell, beside = field.get("doorbell"), (_controller(one) for one in field.get("beside").items())
    return InterruptController(
        field.value["controller"],
        doorbell.number() if doorbell else None,
        frozenset(one.address() for one in field.get("devices").items()),
        tuple(one for one in beside if one is not None),
    )


def _units(data: Field, controller: InterruptController | None) -> tuple[IommuUnit, ...]:
    return tuple(_unit(entry, data.get("kernel").value, controller) for entry in data.get("units").items() if "kind" in entry.value)


def _unit(entry: Field, kernel: str | None, controller: InterruptController | None) -> IommuUnit:
    kind = entry.get("kind").choice(KINDS)
    window, sizes, isolated, hardware_msi = (entry.get(name) for name in ("aperture", "page_sizes", "isolated_msi", "hardware_msi"))
    hardware_pages = entry.get("hardware_page_sizes")
    aperture = None if window.value in (None, "", []) else window.span()
    pages = None if sizes.value in (None, "") else sizes.number(1)
    stage = entry.get("stage").number(1, 2) if entry.get("stage") else None
    width = 64 if kind in ("amd-vi", "virtio-iommu") else 48
    if "width" in entry.value:
        width = entry.get("width").number(13, 64)
    elif aperture and not (kind == "arm-smmu-v3" and stage == 2):
        width = aperture.last.bit_length()
    stage2_bits = aperture.last.bit_length() if aperture and stage == 2 else 44
    if entry.get("stage2_bits"):
        stage2_bits = entry.get("stage2_bits").number(13, 64)
    snoop = kind == "intel-vtd" and entry.get("enforces_coherency").flag(default=False)
    safe = kind != "virtio-iommu" and (controller is None or controller.isolated)
    try:
        return IommuUnit(
            name=str(entry.get("name").value or entry.name),
            kind=kind,
            devices=frozenset(one.address() for one in entry.get("devices").items()),
            width=width,
            page_sizes=hardware_pages.number(1) if hardware_pages else _hardware_pages(kind, pages),
            stage=stage if stage is not None else (1 if kind == "arm-smmu-v3" else None),
            stage2_bits=stage2_bits,
            snoop_control=entry.get("snoop_control").flag(default=snoop),
            isolated_msi=isolated.flag(default=safe),
            coherent=entry.get("coherent").flag(default=True),
            hardware_msi=hardware_msi.span() if hardware_msi else None,
            translates_msi=entry.get("translates_msi").flag(default=False),
            exposed=frozenset(one.address() for one in entry.get("exposed").items()),
            reported=MappingProxyType({parse_version(kernel): Reported(aperture, pages)} if kernel else {}),
        )
    except InputError:
        raise
    except ValueError as error:  # fields that do not go together
        raise entry.fail(f"does not fit: {error}", "see data/README.md for what a unit has") from error


def _hardware_pages(kind: str, pages: int | None) -> int:
    """Tell the unit's own page sizes from a recorded bitmap: old VT-d and AMD drivers reported what they liked."""
    if kind == "virtio-iommu":
        return pages or 0xFFFFFFFFFFFFF000
    if pages is None or (kind == "intel-vtd" and pages >> 31) or pages in (AMD_OLD, AMD_V1):
        return HARDWARE_PAGES
    return pages


def _groups(data: Field) -> tuple[RecordedGroup, ...]:
    kinds = {
        one.address(): unit.value["kind"]
        for unit in data.get("units").items()
        if "kind" in unit.value
        for one in unit.get("devices").items()
    }
    numbers: set[int] = set()
    held: set[str] = set()
    out = []
    for n, entry in enumerate(data.get("groups").items()):
        number = entry.get("id").number(0, (1 << 31) - 1) if entry.get("id") else n
        if number in numbers:
            raise entry.get("id").fail(f"is {number} for the second time", "a group has a number of its own")
        members = entry.get("devices").needed_items("list the group's devices")
        for one in members:
            if one.address() in held:
                raise one.fail(f"is {one.address()}, which is in a group already", "a device is in one group")
            held.add(one.address())
        numbers.add(number)
        devices = tuple(one.address() for one in members)
        behind = {kinds[device] for device in devices if device in kinds}
        regions = entry.get("reserved")
        read = tuple(_region(one, behind) for one in regions.items()) if regions else None
        out.append(RecordedGroup(number, devices, read, str(entry.get("type").value or "")))
    return tuple(out)


def _region(entry: Field, kinds: set[str]) -> ReservedRegion:
    if not isinstance(entry.value, list) or len(entry.value) != 3:
        raise entry.fail(f"holds {entry.value!r}", "write [first, last, word]")
    span, word = entry.span(), entry.value[2]
    if word == "msi" and span == SOFTWARE_MSI and kinds & {"arm-smmu-v3", "virtio-iommu"}:
        word = "sw-msi"
    try:
        return ReservedRegion(span, str(word))
    except ValueError as error:
        raise entry.items()[2].fail(f"is {word!r}", str(error)) from error


def _arena(field: Field) -> Arena:
    if not field:
        return Arena()
    given = field.object("write an object with base, size, ro_base, ro_size")
    arena = Arena(**{name: given.get(name).number() for name in ("base", "size", "ro_base", "ro_size") if given.get(name)})
    ends = arena.base + arena.size, arena.ro_base + arena.ro_size
    if not arena.size or max(ends) > 1 << 47 or (arena.ro_size and arena.base < ends[1] and arena.ro_base < ends[0]):
        raise field.fail("is no memory of a process", "size is not 0, both stretches end by 2^47 and do not overlap")
    return arena
