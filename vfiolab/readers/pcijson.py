"""The PCI part of a machine file (machine.json): devices, groups as recorded, devices behind units. Both ways."""

from __future__ import annotations

from typing import Any

from vfiolab.model.pci.topology import KINDS, Acs, Function
from vfiolab.readers.errors import InputError
from vfiolab.readers.fields import Field, parse_json
from vfiolab.readers.listing import Draft, PciInput, settle, with_acs_on

_NO_ACS = "its ACS registers were not recorded (groups_from: recorded), and without them the groups do not follow from the topology"
#: Fields of a device that are counts, and what they are called here.
_COUNTS = {name: name for name in ("intx", "msi", "msix", "sriov_totalvfs", "sriov_numvfs")} | {
    "sriov_offset": "vf_offset",
    "sriov_stride": "vf_stride",
}


def read_pci_json(text: str, *, source: str = "machine.json") -> PciInput:
    """Read the devices and groups of a machine file.

    Raises InputError naming line and field for what does not fit the schema.

    >>> found = read_pci_json('{"groups_from": "topology", "devices": [{"bdf": "0000:00:02.0", "kind": "pci"}]}')
    >>> list(found.topology)
    ['0000:00:02.0']
    """
    return pci_of(parse_json(text, source=source), source)


def pci_of(data: Field, source: str) -> PciInput:
    """Return the devices and groups of a machine file that is parsed already."""
    warnings: list[str] = []
    entries = data.get("devices").needed_items("list the PCI functions there")
    drafts = [_device(entry) for entry in entries]
    seen: set[str] = set()
    for entry, draft in zip(entries, drafts, strict=True):
        if draft.bdf in seen:
            raise entry.get("bdf").fail(f"is {draft.bdf} for the second time", "keep one entry a function")
        seen.add(draft.bdf)
    recorded = tuple(tuple(one.address() for one in _devices_of(entry, "group", "id")) for entry in data.get("groups").items())
    try:
        topology = settle(drafts, warnings, where=source)
    except InputError as error:
        line = next((entry.line for entry, draft in zip(entries, drafts, strict=True) if draft.bdf in error.what), None)
        raise InputError(error.what, where=source, line=line, advice=error.advice) from error
    kernel = data.get("kernel").value
    if data.get("units").value == [] and data.get("groups").value == []:  # what a snapshot of a machine without an IOMMU in use says
        topology = with_acs_on(topology, recorded, warnings)
    behind = frozenset(one.address() for entry in data.get("units").items() for one in _devices_of(entry, "unit", "name"))
    return PciInput(
        source=source,
        form="machine file",
        topology=topology,
        recorded=recorded,
        warnings=tuple(warnings),
        kernel=kernel if isinstance(kernel, str) else None,
        participants=behind or None,
        not_computable=_NO_ACS if data.get("groups_from").value == "recorded" else "",
        name=str(data.get("name").value or ""),
    )


def _devices_of(entry: Field, what: str, named: str) -> list[Field]:
    return entry.entry(f"each {what} is an object with '{named}' and 'devices'").get("devices").items()


def _device(entry: Field) -> Draft:
    entry.entry("each device is an object with at least 'bdf'")
    kind = entry.get("kind").choice(KINDS) if entry.get("kind") else None
    draft = Draft(bdf=entry.get("bdf").address(), line=0, kind=kind, caps_known=kind is not None)
    draft.vendor, draft.device, draft.class_code = (_count(entry.get(name)) for name in ("vendor", "device", "class"))
    buses, acs = entry.get("buses").object(), entry.get("acs").object()
    draft.secondary, draft.subordinate = (_count(buses.get(name), 0xFF) for name in ("secondary", "subordinate"))
    if acs.value:
        cap, ctrl, wide = (_count(acs.get(name)) for name in ("cap", "ctrl", "wide_ctrl"))
        draft.acs = Acs(cap or 0, ctrl or 0, wide)
    draft.caps_known = draft.caps_known and entry.get("caps_known").value is not False
    multifunction, driver = entry.get("multifunction").value, entry.get("driver").value
    draft.multifunction = multifunction if isinstance(multifunction, bool) else None
    for name in ("parent", "physfn", "real_dma"):
        if entry.get(name):
            setattr(draft, name, entry.get(name).address())
    for name, where in _COUNTS.items():
        setattr(draft, where, _count(entry.get(name)) or 0)
    draft.name = str(entry.get("name").value or "")
    draft.driver = driver if isinstance(driver, str) else None
    return draft


def _count(field: Field, high: int = (1 << 32) - 1) -> int | None:
    return field.number(0, high) if field else None


def device_record(f: Function) -> dict[str, Any]:
    """Return a function as an entry of ``devices``; what is not known is left out or null.

    >>> device_record(Function(bdf="00:02.0", vendor=0x8086, device=0x3e92, kind="pci"))["vendor"]
    '0x8086'
    """

    def hexa(value: int | None, digits: int) -> str | None:
        return None if value is None else f"0x{value:0{digits}x}"

    ids = {"vendor": hexa(f.vendor, 4), "device": hexa(f.device, 4), "class": hexa(f.class_code, 6)}
    record: dict[str, Any] = {"bdf": f.bdf, **ids, "kind": f.kind, "multifunction": f.multifunction, "acs": None, "buses": None}
    record |= {name: getattr(f, name) for name in ("parent", "driver", "intx", "msi", "msix", "name")}
    if f.acs is not None:
        record["acs"] = {"cap": f.acs.cap, "ctrl": f.acs.ctrl}
        if f.acs.wide_ctrl is not None:
            record["acs"]["wide_ctrl"] = f.acs.wide_ctrl
    if f.secondary is not None:
        record["buses"] = {"primary": f.bus, "secondary": f.secondary, "subordinate": f.subordinate}
    optional = ("sriov_totalvfs", "sriov_numvfs", "physfn", "real_dma")
    record |= {name: value for name in optional if (value := getattr(f, name))}
    if not f.caps_known:
        record["caps_known"] = False
    return record
