"""The stage: a machine as buttons. Each IOMMU unit is a card with the groups behind it; a group's button attaches or detaches it."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

import ipywidgets

from vfiolab._text import count, page_text
from vfiolab.draw.tree import what
from vfiolab.kit import AddressSpace, Host
from vfiolab.lab.controls import press, row
from vfiolab.model.address import human_size
from vfiolab.model.iommu.group import IommuGroup
from vfiolab.model.machine import Machine
from vfiolab.model.pci.topology import Function
from vfiolab.model.user.drivers import VFIO_DRIVERS

MOST_LETTERS = 36
_CELLS = {"grid_template_columns": "repeat(auto-fill,minmax(min(270px,100%),1fr))", "grid_gap": "2px", "overflow": "visible"}
_CARD = {
    "flex": "1 1 300px", "border": "2px solid var(--jp-border-color1,#888)",
    "padding": "2px 6px 6px", "margin": "2px", "overflow": "visible",
}  # fmt: skip


def brief(function: Function) -> str:
    """Name a function in few letters: what its name has in brackets at the end, else what follows the vendor, else its class.

    >>> from vfiolab.kit import load
    >>> functions = load("amd-matisse-desktop").machine.topology
    >>> brief(functions["0000:2d:00.0"]), brief(functions["0000:01:00.0"])
    ('Radeon RX 6600/6600 XT/6600M', 'E16 PCIe4 NVMe Controller')
    """
    name = function.name.partition(": ")[2]
    bracketed = re.search(r"\[([^\[\]]+)\]$", name)
    words = bracketed[1] if bracketed else re.sub(r"^.*?\b(?:Corporation|Corp|Inc|Ltd|Limited|GmbH)\b\.?(?: \[[^\]]*\])?,? ", "", name)
    return (words if len(words) <= MOST_LETTERS else words[: MOST_LETTERS - 1].rstrip() + "…") or what(function)


def users(host: Host, group: IommuGroup) -> list[str]:
    """List what of a group can be handed to a user: bridges stay with the host."""
    functions = host.topology
    return [bdf for bdf in group.devices if bdf not in functions or functions[bdf].is_for_users]


class Stage:
    """A machine's groups as buttons, behind their IOMMU units, with the memory below. `act(verb, device)` is what a button does.

    A click on a button of a machine that is no longer shown does nothing.
    """

    def __init__(self, act: Callable[[str, str], object], bind: Callable[[str], object]) -> None:
        self.act, self.bind = act, bind
        self.groups = ipywidgets.Box(layout={"flex_flow": "row wrap", "align_items": "stretch", "max_height": "24em", "overflow": "auto"})
        self.memory, self.unoffered = ipywidgets.HTML(), ipywidgets.HTML()
        self.drivers = row()
        self.box = ipywidgets.VBox([self.groups, self.memory, self.unoffered, self.drivers])

    def fill(self, host: Host) -> None:
        """Make one button for each group that has a device for the user, on the card of the IOMMU that it is behind."""
        self.host, self.inside = host, set[int]()
        self.buttons: dict[int, tuple[IommuGroup, ipywidgets.Button]] = {}
        behind: dict[str, list[ipywidgets.Button]] = {}
        for group in filter(partial(users, host), host.groups):
            button = press("", self._who(group), partial(self._click, host.machine, group.id), width="auto", margin="0")
            self.buttons[group.id] = (group, button)
            behind.setdefault(f"Behind {group.unit.name} ({group.unit.kind})" if group.unit else "Behind no IOMMU", []).append(button)
        heads = [ipywidgets.HTML(f"<strong>{page_text(unit)}</strong>") for unit in behind]
        cells = [ipywidgets.GridBox(buttons, layout=_CELLS) for buttons in behind.values()]
        self.groups.children = [ipywidgets.VBox(one, layout=_CARD) for one in zip(heads, cells, strict=True)]
        bridges = len(host.groups) - len(self.buttons)
        words = f"{bridges} of {len(host.groups)} groups hold bridges only: they cannot be attached, so they are not offered."
        self.unoffered.value = f'<p style="margin:4px 0;line-height:1.5">{words}</p>' if bridges else ""

    def _click(self, machine: Machine, number: int) -> None:
        if machine is self.host.machine:
            self.act("detach" if number in self.inside else "attach", users(self.host, self.buttons[number][0])[0])

    def _who(self, group: IommuGroup) -> str:
        """Name a group's devices in words."""
        functions = self.host.topology
        names = [functions[bdf].name for bdf in users(self.host, group) if bdf in functions]
        return "; ".join(name for name in names if name) or ", ".join(group.devices)

    def _label(self, group: IommuGroup) -> str:
        """Name a group for its button: its number, the first device, what that is, and how many more there are."""
        functions = self.host.topology
        first, *others = users(self.host, group)
        more = f" and {len(others)} more" if others else ""
        return " ".join(filter(None, (f"group {group.id}: {first}", brief(functions[first]) if first in functions else ""))) + more

    def show(self, host: Host, space: AddressSpace | None, others: dict[str, AddressSpace]) -> None:
        """Bring the buttons to what is so now; where groups come and go, or drivers, they are made anew."""
        now = {group.id: group for group in filter(partial(users, host), host.groups)}
        if host.machine is not self.host.machine or now.keys() != self.buttons.keys():
            self.fill(host)
        self.host = host
        self.buttons = {number: (now[number], button) for number, (_, button) in self.buttons.items()}
        held = {group.id: name for name, one in reversed(others.items()) for group in one.container.groups}
        self.inside = {group.id for group in space.container.groups} if space is not None else set()
        for group, button in self.buttons.values():
            where = f" (in {held[group.id]})" if group.id in held and group.id not in self.inside else ""
            button.description = f"{'Detach' if group.id in self.inside else 'Attach'} {self._label(group)}{where}"
            button.button_style = "info" if group.id in self.inside else ""
        self.drivers.children = ()
        backend = space.container.backend if space is not None else None
        units = count(len({group.unit.name for group, _ in self.buttons.values() if group.unit}), "IOMMU")
        told = "memory: nothing is mapped, so no device reaches it"
        if backend is not None and backend.mapped_bytes:
            told = f"{human_size(backend.mapped_bytes)} of memory mapped for the devices inside"
        style = "margin:2px;padding:2px 6px;line-height:1.5;border:2px solid var(--jp-border-color1,#888)"
        self.memory.value = f'<p style="{style}">↓ through {units} ↓ {told}</p>'

    def offer_drivers(self, device: str) -> None:
        """Offer to bind what of a device's group is not with a VFIO driver yet: the usual way to a viable group."""
        group = self.host.group_of(device)
        buttons = []
        for bdf in users(self.host, group) if group is not None else ():
            driver = self.host.drivers.driver_of(bdf)
            if driver not in VFIO_DRIVERS:
                words = f"Bind {bdf} to vfio-pci"
                buttons.append(press(words, f"Now with {driver or 'no driver'}", partial(self._bind, self.host.machine, bdf)))
        self.drivers.children = buttons

    def _bind(self, machine: Machine, device: str) -> None:
        if machine is self.host.machine:
            self.bind(device)
