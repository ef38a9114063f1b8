"""The explorer: attach groups, map memory, see the domains split. Each click is one verb of an AddressSpace."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

import ipywidgets

from vfiolab._text import page_text
from vfiolab.course.toggles import column, toggles
from vfiolab.draw import figure_html, inline_svg, to_text
from vfiolab.draw.tree import what
from vfiolab.kit import AddressSpace, Host
from vfiolab.lab.controls import App, press
from vfiolab.lab.panels import panels, status
from vfiolab.lab.session import Session, Step
from vfiolab.model.iommu.group import IommuGroup
from vfiolab.model.pci.topology import Function
from vfiolab.model.user.drivers import VFIO_DRIVERS

MOST_LETTERS = 36
_WRAP = {"flex_flow": "row wrap", "align_items": "center"}
_WHOLE = {**_WRAP, "flex": "0 0 auto", "overflow": "visible"}  # in a box that scrolls

#: One of each kind: two units, units of different stages, VT-d, AMD-Vi, and a desktop that someone asked about.
CHOICE = ("two-smmu-server", "two-smmu-mixed-stages", "intel-vtd-39bit", "amd-vi-server", "amd-matisse-desktop")


def _number(field: ipywidgets.Text) -> int | str:
    """Read a field: a number as Python writes it, else the words as they stand, for the verb to judge."""
    text = str(field.value).strip()
    return int(text, 0) if re.fullmatch(r"0x[0-9a-fA-F]+(_[0-9a-fA-F]+)*|[1-9]\d*|0", text) else text


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


class Explorer(App):
    """A machine's groups and one address space, as buttons and a picture.

    `machines` are the names to choose from, of those that `vl.machines()` lists; the first is loaded. What the buttons act
    on is at hand as `explorer.space` and `explorer.host`.
    """

    def __init__(self, *machines: str) -> None:
        names = machines or CHOICE
        self.session = Session("vl.load", names[0])
        self._build(names)
        self._fill_groups()
        self._show(self.session.steps[-1])

    @property
    def host(self) -> Host:
        """The host that is shown."""
        return self.session.host

    @property
    def space(self) -> AddressSpace:
        """The address space that is shown."""
        return self.session.space

    def _build(self, names: tuple[str, ...]) -> None:
        """Make the controls; only buttons, toggle buttons and text fields, which JupyterLab leaves to the keyboard."""
        self.machine = toggles(names, names[0], [f"Load {name}" for name in names], "Machine", "70px")
        self.unoffered = ipywidgets.HTML()
        self.groups = ipywidgets.VBox(layout={"max_height": "22em", "overflow": "auto"})
        self.iova = ipywidgets.Text("0x4000_0000", description="iova", layout={"width": "230px"})
        self.size = ipywidgets.Text("1G", description="Size", layout={"width": "180px"})
        self.name = ipywidgets.Text("guest RAM", description="Name", layout={"width": "230px"})
        self.map = press("Map", "Map this range for the device", self._map)
        self.unmap = press("Unmap", "Unmap this range", lambda: self._do("space.unmap", _number(self.iova), _number(self.size)))
        self.again = press("Start over", "Load the machine anew", lambda: self.load(self.machine.value))
        self.drivers = ipywidgets.Box(layout=_WRAP)
        self.status, self.picture, self.panels = ipywidgets.HTML(), ipywidgets.HTML(), ipywidgets.HTML()
        form = ipywidgets.Box([self.iova, self.size, self.name, self.map, self.unmap, self.again], layout=_WRAP)
        self.box = column(self.machine, self.groups, self.unoffered, form, self.status, self.drivers, self.picture, self.panels)
        self.machine.observe(lambda change: self.load(change["new"]), "value")
        for entry in (self.iova, self.size, self.name):  # Enter in a field does what Map does
            entry.on_msg(lambda _, content, __: self._map() if content.get("event") == "submit" else None)

    def load(self, machine: str) -> None:
        """Load a machine anew: what its button does."""
        self.session = Session("vl.load", machine)
        self._fill_groups()
        self._show(self.session.steps[-1])

    def _devices(self, group: IommuGroup) -> list[str]:
        """List what of a group can be handed to a user: bridges stay with the host."""
        functions = self.host.topology
        return [bdf for bdf in group.devices if bdf not in functions or functions[bdf].is_for_users]

    def _on(self, host: Host, act: Callable[..., object], *args: object) -> None:
        """Do what a button of a host does; a click that comes after the machine changed does nothing."""
        if host is self.host:
            act(*args)

    def _fill_groups(self) -> None:
        """Make one button for each group that has a device for the user, beside the name of the IOMMU that it is behind."""
        self._buttons = {}
        behind: dict[str, list[ipywidgets.Button]] = {}
        for group in filter(self._devices, self.host.groups):
            button = press("", self._who(group), partial(self._on, self.host, self._toggle, group), flex="0 0 auto")
            self._buttons[group.id] = (group, button)
            behind.setdefault(f"Behind {group.unit.name} ({group.unit.kind})" if group.unit else "Behind no IOMMU", []).append(button)
        self.groups.children = [
            ipywidgets.Box([ipywidgets.HTML(f"<strong>{page_text(unit)}</strong>"), *buttons], layout=_WHOLE)
            for unit, buttons in behind.items()
        ]
        bridges = len(self.host.groups) - len(self._buttons)
        words = f"{bridges} of {len(self.host.groups)} groups hold bridges only: they cannot be attached, so they are not offered."
        self.unoffered.value = f'<p style="margin:4px 0;line-height:1.5">{words}</p>' if bridges else ""

    def _who(self, group: IommuGroup) -> str:
        """Name a group's devices in words."""
        functions = self.host.topology
        names = [functions[bdf].name for bdf in self._devices(group) if bdf in functions]
        return "; ".join(name for name in names if name) or ", ".join(group.devices)

    def _label(self, group: IommuGroup) -> str:
        """Name a group for its button: its number, the first device, what that is, and how many more there are."""
        functions = self.host.topology
        first, *others = self._devices(group)
        more = f" and {len(others)} more" if others else ""
        return " ".join(filter(None, (f"group {group.id}: {first}", brief(functions[first]) if first in functions else ""))) + more

    def _attached(self) -> set[int]:
        return {group.id for group in self.space.container.groups}

    def _toggle(self, group: IommuGroup) -> None:
        step = self._do("space.detach" if group.id in self._attached() else "space.attach", self._devices(group)[0])
        if step.refused:
            self._offer_drivers(group)

    def _map(self) -> None:
        named = {"name": self.name.value} if self.name.value else {}
        self._do("space.map", _number(self.iova), _number(self.size), **named)

    def _do(self, verb: str, *args: object, **named: object) -> Step:
        step = self.session.do(verb, *args, **named)
        self._show(step)
        return step

    def _offer_drivers(self, group: IommuGroup) -> None:
        """Offer to bind what of a refused group is not with a VFIO driver yet: the usual way to a viable group."""
        buttons = []
        for bdf in self._devices(group):
            driver = self.host.drivers.driver_of(bdf)
            if driver not in VFIO_DRIVERS:
                act = partial(self._on, self.host, self._do, "host.bind", bdf)
                buttons.append(press(f"Bind {bdf} to vfio-pci", f"Now with {driver or 'no driver'}", act))
        self.drivers.children = buttons

    def _show(self, step: Step) -> None:
        """Bring every view to what the objects are now; controls stay the same, so the keyboard's focus does."""
        attached = self._attached()
        for group, button in self._buttons.values():
            button.description = f"{'Detach' if group.id in attached else 'Attach'} {self._label(group)}"
            button.button_style = "info" if group.id in attached else ""
        self.drivers.children = ()
        self.status.value = status(step, self.session)
        self.picture.value = inline_svg(self.space.picture())
        self.panels.value = panels(self.session)

    def __repr__(self) -> str:
        return f"Explorer({self.host.machine.name!r}, {len(self.session.steps)} steps)"

    def still(self) -> tuple[str, str]:
        """Return the picture and the steps."""
        picture = self.space.picture()
        still = f"{figure_html(picture)}<p><em>Run this cell to attach groups and map memory with buttons.</em></p>"
        return to_text(picture), still
