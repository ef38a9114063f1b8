"""The PCI part of a machine file (machine.json): devices, groups as recorded, devices behind units. Both ways."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from vfiolab.model.pci import KINDS, Acs, Function, TopologyError, normal_bdf
from vfiolab.readers.errors import InputError
from vfiolab.readers.listing import Draft, PciInput, Recorded, settle

__all__ = ["device_record", "parse_json", "read_pci_json"]

_NO_ACS = "its ACS registers were not recorded (groups_from: recorded), and without them the groups do not follow from the topology"
_QUOTED = re.compile(r'"([^"\\]{1,64})"')
_HEX = re.compile(r"0x[0-9a-fA-F]{1,8}")


def parse_json(text: str, *, source: str) -> dict[str, Any]:
    """Return the object of a machine file. Raises InputError with the line where it is not JSON."""
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"not JSON: {error.msg}", where=source, line=error.lineno, advice="a machine file is one JSON object") from error
    except RecursionError as error:
        raise InputError("nested too deeply", where=source, advice="a machine file is one JSON object") from error
    if not isinstance(data, dict):
        raise InputError(f"holds a {type(data).__name__}", where=source, line=1, advice="a machine file is one JSON object")
    return data


def read_pci_json(text: str, *, source: str = "machine.json") -> PciInput:
    """Read the devices and groups of a machine file.

    Raises InputError naming line and field for what does not fit the schema.

    >>> found = read_pci_json('{"groups_from": "topology", "devices": [{"bdf": "0000:00:02.0", "kind": "pci"}]}')
    >>> list(found.topology)
    ['0000:00:02.0']
    """
    data = parse_json(text, source=source)
    fields = _Fields(text, source)
    warnings: list[str] = []
    entries = fields.sequence(data, "devices")
    drafts = [fields.device(entry, n) for n, entry in enumerate(entries)]
    if not drafts:
        raise InputError("field 'devices' is missing or empty", where=source, line=1, advice="list the PCI functions there")
    doubles = [bdf for bdf, count in Counter(d.bdf for d in drafts).items() if count > 1]
    if doubles:
        raise InputError(
            f"field 'devices': {min(doubles)} is there twice",
            where=source,
            line=fields.line_of(min(doubles)),
            advice="keep one entry a function",
        )
    recorded = fields.groups(data)
    topology = settle(drafts, warnings, where=source)
    computable = data.get("groups_from", "topology") != "recorded"
    behind = fields.behind_units(data)
    kernel = data.get("kernel")
    return PciInput(
        source=source,
        form="machine file",
        topology=topology,
        recorded=recorded,
        warnings=tuple(warnings),
        kernel=kernel if isinstance(kernel, str) else None,
        participants=behind,
        not_computable="" if computable else _NO_ACS,
    )


class _Fields:
    """Typed access that says which field of which line is wrong."""

    def __init__(self, text: str, source: str) -> None:
        self.source = source
        self.lines: dict[str, int] = {}
        for number, line in enumerate(text.splitlines(), start=1):
            for word in _QUOTED.findall(line):
                self.lines.setdefault(word, number)

    def line_of(self, word: str) -> int | None:
        """Return the line on which a quoted word first stands."""
        return self.lines.get(word)

    def fail(self, field: str, problem: str, advice: str, near: str = "") -> InputError:
        return InputError(
            f"field '{field}' {problem}",
            where=self.source,
            line=self.line_of(near or field.rsplit(".", 1)[-1]),
            advice=advice,
        )

    def sequence(self, data: Mapping[str, Any], name: str, path: str = "") -> list[Any]:
        value = data.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.fail(path + name, f"is a {type(value).__name__}", "it must be a list")
        return value

    def address(self, value: object, field: str) -> str:
        if not isinstance(value, str):
            raise self.fail(field, f"is {value!r}", "write an address such as '0000:01:00.0'")
        try:
            return normal_bdf(value)
        except TopologyError as error:
            raise self.fail(field, f"is {value!r}", "write an address such as '0000:01:00.0'", near=value) from error

    def number(self, entry: Mapping[str, Any], name: str, field: str, near: str) -> int | None:
        value = entry.get(name)
        if value is None:
            return None
        if isinstance(value, str) and _HEX.fullmatch(value):
            return int(value, 16)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 32:
            return value
        raise self.fail(f"{field}.{name}", f"is {value!r}", "write a number, ids as hex strings such as '0x8086'", near=near)

    def device(self, entry: object, n: int) -> Draft:
        field = f"devices[{n}]"
        if not isinstance(entry, dict):
            raise self.fail(field, f"is a {type(entry).__name__}", "each device is an object with at least 'bdf'", near="devices")
        bdf = self.address(entry.get("bdf"), f"{field}.bdf")
        near = str(entry["bdf"])
        kind = entry.get("kind")
        if kind is not None and kind not in KINDS:
            raise self.fail(f"{field}.kind", f"is {kind!r}", f"use one of {', '.join(sorted(KINDS))}", near=near)
        draft = Draft(bdf=bdf, line=self.line_of(near) or 0, kind=kind, caps_known=kind is not None)
        draft.vendor, draft.device, draft.class_code = (self.number(entry, name, field, near) for name in ("vendor", "device", "class"))
        buses = self.mapping(entry, "buses", field, near)
        draft.secondary, draft.subordinate = (self.number(buses, name, f"{field}.buses", near) for name in ("secondary", "subordinate"))
        acs = self.mapping(entry, "acs", field, near)
        if acs:
            cap, ctrl, wide = (self.number(acs, name, f"{field}.acs", near) for name in ("cap", "ctrl", "wide_ctrl"))
            draft.acs = Acs(cap or 0, ctrl or 0, wide)
        draft.caps_known = draft.caps_known and entry.get("caps_known") is not False
        draft.multifunction = entry.get("multifunction") if isinstance(entry.get("multifunction"), bool) else None
        for name in ("parent", "physfn", "real_dma"):
            if entry.get(name) is not None:
                setattr(draft, name, self.address(entry[name], f"{field}.{name}"))
        for name, where in (
            ("intx", "intx"),
            ("msi", "msi"),
            ("msix", "msix"),
            ("sriov_totalvfs", "totalvfs"),
            ("sriov_numvfs", "numvfs"),
            ("sriov_offset", "vf_offset"),
            ("sriov_stride", "vf_stride"),
        ):
            setattr(draft, where, self.number(entry, name, field, near) or 0)
        draft.title, driver = str(entry.get("name") or ""), entry.get("driver")
        draft.driver = driver if isinstance(driver, str) else None
        return draft

    def mapping(self, entry: Mapping[str, Any], name: str, field: str, near: str) -> Mapping[str, Any]:
        value = entry.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self.fail(f"{field}.{name}", f"is {value!r}", "it must be an object or null", near=near)
        return value

    def groups(self, data: Mapping[str, Any]) -> Recorded:
        found = []
        for n, entry in enumerate(self.sequence(data, "groups")):
            if not isinstance(entry, dict):
                raise self.fail(
                    f"groups[{n}]",
                    f"is a {type(entry).__name__}",
                    "each group is an object with 'id' and 'devices'",
                    near="groups",
                )
            members = [self.address(one, f"groups[{n}].devices") for one in self.sequence(entry, "devices", f"groups[{n}].")]
            found.append(tuple(members))
        return tuple(found)

    def behind_units(self, data: Mapping[str, Any]) -> frozenset[str] | None:
        """Return the devices behind the units, if units are given with their devices."""
        found: set[str] = set()
        for n, unit in enumerate(self.sequence(data, "units")):
            if not isinstance(unit, dict):
                raise self.fail(
                    f"units[{n}]",
                    f"is a {type(unit).__name__}",
                    "each unit is an object with 'name' and 'devices'",
                    near="units",
                )
            found |= {self.address(one, f"units[{n}].devices") for one in self.sequence(unit, "devices", f"units[{n}].")}
        return frozenset(found) or None


def device_record(f: Function) -> dict[str, Any]:
    """Return a function as an entry of ``devices``; what is not known is left out or null.

    >>> device_record(Function(bdf="00:02.0", vendor=0x8086, device=0x3e92, kind="pci"))["vendor"]
    '0x8086'
    """

    def hexa(value: int | None, digits: int) -> str | None:
        return None if value is None else f"0x{value:0{digits}x}"

    record: dict[str, Any] = {
        "bdf": f.bdf,
        "vendor": hexa(f.vendor, 4),
        "device": hexa(f.device, 4),
        "class": hexa(f.class_code, 6),
        "kind": f.kind,
        "multifunction": f.multifunction,
        "acs": None,
        "buses": None,
        "parent": f.parent,
        "driver": f.driver,
        "intx": f.intx,
        "msi": f.msi,
        "msix": f.msix,
        "name": f.name,
    }
    if f.acs is not None:
        record["acs"] = {"cap": f.acs.cap, "ctrl": f.acs.ctrl}
        if f.acs.wide_ctrl is not None:
            record["acs"]["wide_ctrl"] = f.acs.wide_ctrl
    if f.secondary is not None:
        record["buses"] = {"primary": f.bus, "secondary": f.secondary, "subordinate": f.subordinate}
    optional = {
        "sriov_totalvfs": f.sriov_totalvfs,
        "sriov_numvfs": f.sriov_numvfs,
        "physfn": f.physfn,
        "real_dma": f.real_dma,
    }
    record |= {name: value for name, value in optional.items() if value}
    if not f.caps_known:
        record["caps_known"] = False
    return record
