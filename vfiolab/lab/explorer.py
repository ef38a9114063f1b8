"""The explorer: attach groups, map memory, see the domains split. Each click is one verb of an AddressSpace."""

from __future__ import annotations

import re

import ipywidgets

from vfiolab.course.toggles import column, toggles
from vfiolab.draw import Picture, figure_html, inline_svg, to_text, topology
from vfiolab.kit import AddressSpace, Host
from vfiolab.kit.session import Session
from vfiolab.kit.steps import Step
from vfiolab.lab.choices import Run
from vfiolab.lab.controls import App, on_enter, press, row
from vfiolab.lab.panels import columns, panels, status
from vfiolab.lab.stage import Stage
from vfiolab.lab.stepper import player

#: One of each kind: two units, units of different stages, VT-d, AMD-Vi, and a desktop that someone asked about.
CHOICE = ("two-smmu-server", "two-smmu-mixed-stages", "intel-vtd-39bit", "amd-vi-server", "amd-matisse-desktop")


def number(field: ipywidgets.Text) -> int | str:
    """Read a field: a number as Python writes it, else the words as they stand, for the verb to judge."""
    text = str(field.value).strip()
    return int(text, 0) if re.fullmatch(r"0x[0-9a-fA-F]+(_[0-9a-fA-F]+)*|[1-9]\d*|0", text) else text


class Explorer(App):
    """A machine's groups and one address space, as buttons and pictures.

    `machines` are the names to choose from, of those that `vl.machines()` lists; the first is loaded. What the buttons act
    on is at hand as `explorer.space` and `explorer.host`.
    """

    def __init__(self, *machines: str) -> None:
        names = machines or CHOICE
        self.session: Session = Run("vl.load", names[0])
        self._build(names)
        self.stage.fill(self.host)
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
        self.stage = Stage(lambda verb, device: self._do(f"space.{verb}", device), lambda device: self._do("host.bind", device))
        self.iova = ipywidgets.Text("0x4000_0000", description="iova", layout={"width": "230px"})
        self.size = ipywidgets.Text("1G", description="Size", layout={"width": "180px"})
        self.name = ipywidgets.Text("guest RAM", description="Name", layout={"width": "230px"})
        self.map = press("Map", "Map this range for the device", self._map)
        self.unmap = press("Unmap", "Unmap this range", lambda: self._do("space.unmap", number(self.iova), number(self.size)))
        self.undo = press("Undo", "Take the last step back", self._undo)
        self.play = press("Play the last step", "Walk through what the kernel did, request by request", self._play)
        self.again = press("Start over", "Load the machine anew", lambda: self.load(self.machine.value))
        self.status, self.picture, self.panels = ipywidgets.HTML(), ipywidgets.HTML(), ipywidgets.HTML()
        self.player = ipywidgets.VBox()
        form, steps = row(self.iova, self.size, self.name, self.map, self.unmap), row(self.undo, self.play, self.again)
        self.box = column(self.machine, self.stage.box, form, steps, self.status, self.player, self.picture, self.panels)
        self.machine.observe(lambda change: self.load(change["new"]), "value")
        for entry in (self.iova, self.size, self.name):  # Enter in a field does what Map does
            on_enter(entry, self._map)

    def load(self, machine: str) -> None:
        """Load a machine anew: what its button does."""
        self.session = Run("vl.load", machine)
        self.stage.fill(self.host)
        self._show(self.session.steps[-1])

    def _map(self) -> None:
        named = {"name": self.name.value} if self.name.value else {}
        self._do("space.map", number(self.iova), number(self.size), **named)

    def _do(self, verb: str, *args: object, **named: object) -> None:
        step = self.session.do(verb, *args, **named)
        self._show(step)
        if step.refused and verb == "space.attach":
            self.stage.offer_drivers(str(args[0]))

    def _undo(self) -> None:
        if len(self.session.steps) > 1:
            self.session.undo()
        self._show(self.session.steps[-1])

    def _play(self) -> None:
        self.player.children = (player(self.session).box,)
        self.picture.value = ""  # the player draws the same at each moment

    @property
    def pictures(self) -> list[Picture]:
        """The chain and the iova map; the machine, while no group is attached."""
        return [self.space.chain(), self.space.picture()] if self.space.groups else [topology(self.host)]

    def _show(self, step: Step) -> None:
        """Bring every view to what the objects are now; controls stay the same, so the keyboard's focus does."""
        self.stage.show(self.host, self.space, self.session.spaces)
        self.player.children = ()
        self.status.value = status(step, self.session)
        self.picture.value = columns(map(inline_svg, self.pictures), 440)
        self.panels.value = panels(self.session)

    def __repr__(self) -> str:
        return f"Explorer({self.host.machine.name!r}, {len(self.session.steps)} steps)"

    def still(self) -> tuple[str, str]:
        """Return the picture and the steps."""
        picture = self.pictures[-1]
        still = f"{figure_html(picture)}<p><em>Run this cell to attach groups and map memory with buttons.</em></p>"
        return to_text(picture), still
