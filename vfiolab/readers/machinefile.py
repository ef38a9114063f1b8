"""Machine files: one JSON schema for recorded kernels, real machines and made-up ones (data/README.md describes it)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from vfiolab.model.address import Span
from vfiolab.model.iommu import AMD_OLD, AMD_V1, KINDS, SOFTWARE_MSI, IommuUnit, Reported, ReservedRegion
from vfiolab.model.kernel import Kernel, parse_version
from vfiolab.model.machine import DRIVERS, MEMLOCK, PARAMS, Machine, RecordedGroup
from vfiolab.model.msi import CONTROLLERS, InterruptController
from vfiolab.model.pci import Topology, normal_bdf
from vfiolab.model.process import Arena
from vfiolab.readers.errors import InputError
from vfiolab.readers.pcijson import parse_json, read_pci_json

__all__ = ["read_machine", "read_machine_file"]

HARDWARE_PAGES = 0x40201000


def read_machine_file(path: Path) -> Machine:
    """Read a machine file. InputError names the line and field that do not fit; OSError if it cannot be read."""
    return read_machine(path.read_text(encoding="utf-8"), source=str(path))


def read_machine(text: str, *, source: str = "machine.json") -> Machine:
    """Read the text of a machine file.

    >>> read_machine('{"name": "one", "devices": [{"bdf": "0000:00:02.0", "kind": "pci"}]}')
    Machine('one', 1 functions, 0 IOMMU units)
    """
    data = parse_json(text, source=source)
    found = read_pci_json(text, source=source)
    return _Reader(data, text, source).machine(found.topology)


class _Reader:
    def __init__(self, data: Mapping[str, Any], text: str, source: str) -> None:
        self.data, self.text, self.source = data, text, source

    def fail(self, field: str, problem: str, advice: str) -> InputError:
        names = (field.rsplit(".", 1)[-1], field.split("[", 1)[0])
        at = next((at for name in names if (at := self.text.find(f'"{name}"')) >= 0), -1)
        line = self.text.count("\n", 0, at) + 1 if at >= 0 else None
        return InputError(f"field '{field}' {problem}", where=self.source, line=line, advice=advice)

    def number(self, value: object, field: str) -> int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if isinstance(value, str):
            try:
                return int(value, 0)
            except ValueError:
                pass
        raise self.fail(field, f"is {value!r}", "write a number, or hex as a string such as '0x1000'")

    def word(self, field: str, allowed: tuple[str, ...], default: str) -> str:
        value = self.data.get(field, default)
        if value not in allowed:
            raise self.fail(field, f"is {value!r}", f"use one of {', '.join(allowed)}")
        return str(value)

    def span(self, value: object, field: str) -> Span:
        if not isinstance(value, list) or len(value) < 2:
            raise self.fail(field, f"is {value!r}", "write [first, last], both inclusive")
        first, last = self.number(value[0], field), self.number(value[1], field)
        try:
            return Span.inclusive(first, last)
        except ValueError as error:
            raise self.fail(field, f"is {value!r}", "the first address comes before the last, both below 2^64") from error

    def machine(self, topology: Topology) -> Machine:
        data = self.data
        kernel = data.get("kernel")
        if kernel is not None:
            try:
                Kernel(kernel)
            except (TypeError, ValueError) as error:
                raise self.fail("kernel", f"is {kernel!r}", "write what uname -r prints (4.4 or later), or null") from error
        controller = self.controller()
        page_size = self.number(data.get("page_size") or 4096, "page_size")
        if page_size <= 0 or page_size & page_size - 1:
            raise self.fail("page_size", f"is {page_size}", "a page size is a power of two")
        memlock = data.get("memlock", MEMLOCK)
        return Machine(
            name=str(data.get("name") or Path(self.source).stem),
            topology=self.with_intx(topology),
            units=self.units(kernel, controller),
            interrupts=controller,
            kernel=kernel,
            source=str(data.get("source") or ""),
            cpu=str(data.get("cpu") or ""),
            notes=self.words("notes"),
            vfio=self.word("vfio", ("type1", "iommufd-compat"), "type1"),
            groups=self.groups(),
            groups_from=self.word("groups_from", ("topology", "recorded"), "topology"),
            drivers=frozenset(self.words("drivers")) or DRIVERS | {f.driver for f in topology.values() if f.driver},
            params=self.params(),
            page_size=page_size,
            arena=self.arena(),
            memlock=None if memlock in (None, -1) else self.number(memlock, "memlock"),
            emulated=self.words("emulated"),
        )

    def words(self, field: str) -> tuple[str, ...]:
        value = self.data.get(field)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
            raise self.fail(field, f"is {value!r}", "write a list of texts")
        return tuple(value)

    def params(self) -> Mapping[str, str]:
        value = self.data.get("params")
        if value is None:
            return PARAMS
        if not isinstance(value, dict):
            raise self.fail("params", f"is {value!r}", "write an object: 'module.name' and its value")
        return MappingProxyType({str(name): str(one) for name, one in value.items()})

    def with_intx(self, topology: Topology) -> Topology:
        """Where the file is silent, an ordinary function has an INTx pin and a virtual function has none."""
        silent = {normal_bdf(entry["bdf"]) for entry in self.data.get("devices", ()) if "intx" not in entry}
        changed = [replace(f, intx=1) for f in topology.values() if f.bdf in silent and f.kind != "vf" and not f.is_bridge]
        return topology.replace(*changed) if changed else topology

    def controller(self) -> InterruptController | None:
        value = self.data.get("interrupts")
        if value is None:
            return None
        if not isinstance(value, dict) or value.get("controller") not in CONTROLLERS:
            raise self.fail("interrupts", f"is {value!r}", f"name a controller: {', '.join(CONTROLLERS)}")
        doorbell = value.get("doorbell")
        return InterruptController(value["controller"], None if doorbell is None else self.number(doorbell, "interrupts.doorbell"))

    def units(self, kernel: str | None, controller: InterruptController | None) -> tuple[IommuUnit, ...]:
        return tuple(
            self.unit(entry, f"units[{n}]", kernel, controller)
            for n, entry in enumerate(self.data.get("units") or ())
            if isinstance(entry, dict) and "kind" in entry
        )

    def unit(self, entry: Mapping[str, Any], field: str, kernel: str | None, controller: InterruptController | None) -> IommuUnit:
        kind = entry["kind"]
        if kind not in KINDS:
            raise self.fail(f"{field}.kind", f"is {kind!r}", f"use one of {', '.join(KINDS)}")
        aperture = None if entry.get("aperture") in (None, "", []) else self.span(entry["aperture"], f"{field}.aperture")
        pages = None if entry.get("page_sizes") in (None, "") else self.number(entry["page_sizes"], f"{field}.page_sizes")
        stage = entry.get("stage")
        default = 64 if kind in ("amd-vi", "virtio-iommu") else 48
        width = (
            self.number(entry["width"], f"{field}.width")
            if "width" in entry
            else aperture.last.bit_length()
            if aperture and not (kind == "arm-smmu-v3" and stage == 2)
            else default
        )
        isolated = entry.get("isolated_msi")
        reported = {parse_version(kernel): Reported(aperture, pages)} if kernel else {}
        hardware_msi = entry.get("hardware_msi")
        return IommuUnit(
            name=str(entry.get("name") or field),
            kind=kind,
            devices=frozenset(normal_bdf(device) for device in entry.get("devices") or ()),
            width=width,
            page_sizes=self.hardware_pages(kind, pages),
            stage=stage if stage is not None else (1 if kind == "arm-smmu-v3" else None),
            stage2_bits=aperture.last.bit_length()
            if aperture and stage == 2
            else self.number(entry.get("stage2_bits") or 44, f"{field}.stage2_bits"),
            snoop_control=bool(entry.get("snoop_control", kind == "intel-vtd" and entry.get("enforces_coherency", False))),
            isolated_msi=bool(isolated) if isolated is not None else kind != "virtio-iommu" and (controller is None or controller.isolated),
            coherent=entry.get("coherent") is not False,
            hardware_msi=None if hardware_msi is None else self.span(hardware_msi, f"{field}.hardware_msi"),
            reported=MappingProxyType(reported),
        )

    @staticmethod
    def hardware_pages(kind: str, pages: int | None) -> int:
        """Tell the unit's own page sizes from a recorded bitmap: old VT-d and AMD drivers reported what they liked."""
        if kind == "virtio-iommu":
            return pages or 0xFFFFFFFFFFFFF000
        if pages is None or (kind == "intel-vtd" and pages >> 31) or pages in (AMD_OLD, AMD_V1):
            return HARDWARE_PAGES
        return pages

    def groups(self) -> tuple[RecordedGroup, ...]:
        out = []
        for n, entry in enumerate(self.data.get("groups") or ()):
            field = f"groups[{n}]"
            regions = entry.get("reserved")
            behind = [
                unit["kind"]
                for unit in self.data.get("units") or ()
                if set(unit.get("devices", ())) & set(entry["devices"]) and "kind" in unit
            ]
            read = None if regions is None else tuple(self.region(one, field, behind) for one in regions)
            out.append(
                RecordedGroup(
                    self.number(entry.get("id", n), f"{field}.id"),
                    tuple(map(normal_bdf, entry["devices"])),
                    read,
                    str(entry.get("type") or ""),
                )
            )
        return tuple(out)

    def region(self, entry: object, field: str, kinds: list[str]) -> ReservedRegion:
        if not isinstance(entry, list) or len(entry) != 3:
            raise self.fail(f"{field}.reserved", f"holds {entry!r}", "write [first, last, word]")
        span, word = self.span(entry, f"{field}.reserved"), entry[2]
        if word == "msi" and span == SOFTWARE_MSI and any(kind in ("arm-smmu-v3", "virtio-iommu") for kind in kinds):
            word = "sw-msi"
        try:
            return ReservedRegion(span, str(word))
        except ValueError as error:
            raise self.fail(f"{field}.reserved", f"has the word {word!r}", str(error)) from error

    def arena(self) -> Arena:
        value = self.data.get("arena")
        if value is None:
            return Arena()
        if not isinstance(value, dict):
            raise self.fail("arena", f"is {value!r}", "write an object with base, size, ro_base, ro_size")
        return Arena(
            **{name: self.number(value[name], f"arena.{name}") for name in ("base", "size", "ro_base", "ro_size") if name in value}
        )
