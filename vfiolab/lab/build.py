"""Build a machine with buttons: units, ports, switches, bridges, endpoints. Each click is one call, or a few, of a MachineBuilder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ipywidgets

from vfiolab._text import count
from vfiolab.course.toggles import column, toggles
from vfiolab.draw import inline_svg, topology
from vfiolab.kit import Host, Machine, MachineBuilder
from vfiolab.kit.steps import Asked, call
from vfiolab.lab.controls import App, choice, frozen, on_enter, press, row, said
from vfiolab.lab.panels import panel
from vfiolab.model.pci.aliases import short
from vfiolab.model.pci.topology import Function, bdf_key

UNIT, ROOT_PORT, SWITCH, ENDPOINT, BRIDGE = THINGS = ("IOMMU unit", "root port", "switch", "endpoint", "PCI bridge")
#: For each kind of unit: what its units are called here, and how many bits an iova has unless another number is chosen.
KINDS = {"intel-vtd": ("dmar", 48), "amd-vi": ("ivhd", 64), "arm-smmu-v3": ("smmu", 48), "virtio-iommu": ("viommu", 48)}
ON, OFF = ACS = ("on", "off")
#: What leads to one device: slot 00 of the bus below.
LINKS = {"root-port": "root port", "downstream": "switch port"}
WINDOW = 16  # the buses that are kept free for what is below one root port
_BESIDE = {"description_width": "70px"}  # as wide as the names of the buttons

Thing = tuple[Asked, ...]


def built(things: list[Thing]) -> Machine:
    """Carry out the calls of a MachineBuilder and return the machine. ValueError says what makes no sense, in words."""
    (made,), *others = things
    m = MachineBuilder(*made.args)
    for asked in (one for thing in others for one in thing):
        getattr(m, asked.verb.removeprefix("m."))(*asked.args, **asked.named)
    machine = m.machine()
    if words := _nonsense(machine):
        raise ValueError(words)
    return machine


def _nonsense(machine: Machine) -> str:
    """Say what no machine can be, though each call alone is right; nothing if it can be."""
    makers = sorted({unit.kind for unit in machine.units} - {"virtio-iommu"})
    if len(makers) > 1:
        return f"{' and '.join(makers)} are not in one machine: each is of another maker's platform"
    tree = machine.topology
    if clash := [unit.name for unit in machine.units if unit.name in tree]:
        return f"{clash[0]} is a device's address: give the unit another name"
    for f in tree.values():
        name, parent, above = short(f.bdf), tree.get(f.parent or ""), tree.parent(f.bdf)
        if above and not parent:
            return f"{name} cannot be on a root bus: bus {f.bus:02x} is below {short(above.bdf)}"
        if f.key[3] and f"{f.bdf[:-1]}0" not in tree:
            return f"{name} is function {f.key[3]} of a device that has no function 0: begin at {name[:-1]}0"
        if parent and f.segment != parent.segment:
            return f"{name} cannot be below {short(parent.bdf)}: it is in another segment"
        if parent and f.bus <= parent.bus:
            return f"{name} cannot be below {short(parent.bdf)}: what is below has a higher bus number"
        if parent and parent.kind in LINKS and f.key[2]:
            return f"{name} cannot be below {short(parent.bdf)}: a PCI Express link leads to one device, at slot 00"
    for bridge in (bridge for bridge in tree.values() if bridge.secondary is not None):
        first, last = bridge.secondary or 0, bridge.subordinate or 0
        for f in tree.values():
            inside, below = f.segment == bridge.segment and first <= f.bus <= last, bridge in tree.path(f.bdf)
            if inside != below:
                is_below = f"{short(f.bdf)} is {'' if below else 'not '}below it"
                return (
                    f"{short(bridge.bdf)} would have bus {first:02x} to {last:02x}, and {is_below}: "
                    "choose another bus, or undo and add what is deeper first"
                )
    return ""


class BuildLab(App):
    """Build a machine: choose what to add and below what, press Add; see the tree, its groups and the code.

    `machine` is the machine so far, `code` builds the same. `on_use` is called with both by a button "Use this machine", which is there
    if `on_use` is given.
    """

    def __init__(self, on_use: Callable[[Machine, str], object] | None = None, *, name: str = "my machine") -> None:
        self.things: list[Thing] = [(Asked("vl.MachineBuilder", (name,)),)]
        self.machine = built(self.things)
        self.name = ipywidgets.Text(name, description="Machine", continuous_update=False, layout={"width": "300px"}, style=_BESIDE)
        rows = ("Add", "Below", "Kind", "ACS")
        self.thing = choice("Add", THINGS, UNIT, lambda: self._offer(anew=True), among=rows)
        self.place = toggles((), None, (), "Below", _BESIDE["description_width"])
        self.kind = choice("Kind", tuple(KINDS), "intel-vtd", self._widen, among=rows)
        self.acs = choice("ACS", ACS, ON, self._offer, among=rows)
        self.width = _number("iova bits", 48, 13, 64)
        self.ports, self.functions = _number("Ports", 2, 1, 32), _number("Functions", 1, 1, 8)
        self.address = ipywidgets.Text(layout={"width": "250px"}, style=_BESIDE)
        self.options = row()
        self.add = press("", "Add this to the machine", self._add, margin="2px 2px 2px 78px")
        self.add.style.font_weight = "bold"
        self.undo = press("Undo", "Take away what was added last", self._undo)
        self.use = press("Use this machine", "Go on with this machine", lambda: self._use(on_use))
        self.status, self.picture, self.code_shown = ipywidgets.HTML(), ipywidgets.HTML(), ipywidgets.HTML()
        acts = row(self.add, self.undo, *([self.use] if on_use else []))
        self.box = column(self.name, self.thing, self.place, self.options, acts, self.status, self.picture, self.code_shown)
        self.place.observe(lambda _: self._offer(), "value")
        self.address.observe(lambda _: self._offer(), "value")
        for number in (self.ports, self.functions):
            number.observe(lambda _: self._offer(), "value")
        self.name.observe(lambda change: self._rename(change["new"]), "value")
        on_enter(self.address, self._add)
        self._show("")

    # what is offered

    def _places(self) -> dict[str, str]:
        """Return what the chosen thing can be put below, each with its name: units, ports with nothing below them, and PCI bridges."""
        tree, thing = self.machine.topology, self.thing.value
        units = {unit.name: f"{unit.name}, root bus" if thing == ENDPOINT else unit.name for unit in self.machine.units}
        free = {f.bdf: f"{LINKS[f.kind]} {short(f.bdf)}" for f in tree.values() if f.kind in LINKS and not tree.children(f.bdf)}
        slots = {f.bdf: f"PCI bridge {short(f.bdf)}" for f in tree.values() if f.kind == "pcie-to-pci"}
        return {UNIT: {}, ROOT_PORT: units, ENDPOINT: units | free | slots}.get(thing, free)

    def _offer(self, *, anew: bool = False) -> None:
        """Bring the controls to the thing that is chosen: where it can go (`anew`: choose that again), what it can be, its next address."""
        thing, places = self.thing.value, self._places()
        options = tuple((words, place) for place, words in places.items())
        if anew or options != tuple(self.place.options):
            chosen = self.place.value if self.place.value in places and not anew else max(places, key=self._depth, default=None)
            self.place.tooltips = [f"Below: {words}" for words in places.values()]
            self.place.options, self.place.value = options, chosen
        self.place.description = "Behind" if thing == ROOT_PORT else "Below"
        self.place.layout.display = "" if places else "none"
        self.address.description, self.address.placeholder = "Name" if thing == UNIT else "Address", f"{self._free()} (the next one)"
        asked = {UNIT: (self.kind, self.width), ROOT_PORT: (self.acs,), SWITCH: (self.ports, self.acs), ENDPOINT: (self.functions,)}
        if (shown := (*asked.get(thing, ()), self.address)) != self.options.children:
            self.options.children = shown
        below = f" {self.place.description.lower()} {places[self.place.value]}" if self.place.value in places else ""
        parts = {SWITCH: count(self.ports.value, "port"), ENDPOINT: count(self.functions.value, "function")}.get(thing)
        self.add.description = f"Add {thing} {self._chosen()}{f' with {parts}' if parts else ''}{below}"

    def _depth(self, place: str) -> tuple[int, ...]:
        """Rank the places: the first port on the highest bus is where most people go on; of units the newest."""
        f = self.machine.topology.get(place)
        return (f.bus, -f.devfn) if f else (-1, [unit.name for unit in self.machine.units].index(place))

    def _chosen(self) -> str:
        return self.address.value.strip() or self._free()

    def _free(self) -> str:
        """Return the next free name of a unit, or the next free address below the chosen place; empty if there is no place."""
        tree, place = self.machine.topology, self.place.value
        if self.thing.value == UNIT:
            names, prefix = {unit.name for unit in self.machine.units}, KINDS[self.kind.value][0]
            return next(name for number in range(len(names) + 1) if (name := f"{prefix}{number}") not in names)
        if place is None:
            return ""
        port = tree.get(place)
        bus = 0 if port is None else self._bus(port)
        taken = {f.key[2] for f in tree.values() if f.key[:2] == (0, bus)}
        return f"{bus:02x}:{next(slot for slot in range(port is None, 0x40) if slot not in taken):02x}.0"

    def _bus(self, port: Function) -> int:
        """Return the bus below a port: its own, else the next one behind what its switch has, else the first of a free window."""
        tree = self.machine.topology
        if port.secondary is not None:
            return port.secondary
        used = {bus for f in tree.values() for bus in (f.bus, *range(f.secondary or 0, (f.subordinate or -1) + 1))}
        if (above := tree.parent(port.bdf)) is not None:
            return next(bus for bus in range((above.subordinate or 0) + 1, 0x102) if bus not in used)
        return next((bus for bus in range(1, 0x100, WINDOW) if not used & {*range(bus, bus + WINDOW)}), min(max(used) + 1, 0xFF))

    def _widen(self) -> None:
        self.width.value = KINDS[self.kind.value][1]
        self._offer()

    # what the buttons do

    def _asked(self) -> Thing:
        """Return the calls that add what is chosen. ValueError where it has no place."""
        thing, place, at, acs = self.thing.value, self.place.value, self._chosen(), self.acs.value == ON
        if thing == UNIT:
            return (Asked("m.unit", (at,), {"kind": self.kind.value, "width": self.width.value}),)
        if place is None:
            first = UNIT if not self.machine.units else ROOT_PORT
            raise ValueError(f"there is no place for this {thing}: add {'an' if first == UNIT else 'a'} {first} first")
        port = self.machine.topology.get(place)
        below = short(place) if port else place
        if thing == ROOT_PORT:
            return (Asked("m.root_port", (at,), {"unit": below, "acs": acs}),)
        if thing == BRIDGE:
            return (Asked("m.pci_bridge", (at,), {"below": below}),)
        if thing == ENDPOINT:
            kind = {"kind": "pci"} if port and port.kind == "pcie-to-pci" else {}
            return (Asked("m.endpoint", (at,), {"below" if port else "unit": below, "functions": self.functions.value, **kind}),)
        bus = bdf_key(at)[1] + 1
        ports = (Asked("m.downstream", (f"{bus:02x}:{slot:02x}.0",), {"below": at, "acs": acs}) for slot in range(self.ports.value))
        return (Asked("m.upstream", (at,), {"below": below}), *ports)

    def _add(self) -> None:
        try:
            thing = self._asked()
            machine = built([*self.things, thing])
        except ValueError as refused:
            self.status.value = said(f"Not added: {refused}. The machine stays as it was.", alert=True)
            return
        done = f"{self.add.description.replace('Add', 'Added', 1)}. "
        self.things, self.machine = [*self.things, thing], machine
        self.address.value = ""
        self._show(done)

    def _undo(self) -> None:
        taken = self.things.pop() if len(self.things) > 1 else ()
        self.machine = built(self.things)
        self._show(f"Taken away: {taken[0].args[0]}. " if taken else "Nothing is left to take away. ")

    def _rename(self, name: str) -> None:
        self.things[0] = (Asked("vl.MachineBuilder", (name.strip() or "my machine",)),)
        self.machine = built(self.things)
        self._show("")

    def _use(self, on_use: Callable[[Machine, str], object] | None) -> None:
        if on_use is not None and any(f.is_for_users for f in self.machine.topology.values()):
            on_use(self.machine, self.code)
            self.status.value = said(f"{self.machine.name} is in use. {self.verdict}")
        else:
            self.status.value = said("Not used yet: the machine has no endpoint that could be given to a user.", alert=True)

    # what is shown

    @property
    def host(self) -> Host:
        """The machine so far with the newest kernel on it."""
        return self.machine.host()

    @property
    def code(self) -> str:
        """The code that builds the same machine, and boots it."""
        (made,), *others = self.things
        lines = ["import vfiolab as vl", f"m = {call(made.verb, made.args, made.named)}"]
        return "\n".join([*lines, *(asked.code for thing in others for asked in thing), "host = m.host()"])

    @property
    def verdict(self) -> str:
        """Say what the machine is by now, and what comes next while it has no device."""
        if not self.machine.units:
            return "The machine is empty. Begin with an IOMMU unit: press Add."
        if not self.machine.topology:
            return "Next: a root port behind the unit, and endpoints below it."
        groups = self.host.groups
        shared = sum(len(group.devices) > 1 for group in groups)
        functions = count(len(self.machine.topology), "function")
        return f"{functions} in {count(len(groups), 'group')}, {shared} of them with more than one device."

    def _show(self, done: str) -> None:
        """Bring every view to the machine as it is now; the buttons stay the same, so the keyboard's focus does."""
        self._offer()
        self.status.value = said(done + self.verdict)
        self.picture.value = inline_svg(topology(self.host)) if self.machine.topology else ""
        self.code_shown.value = panel("This machine in Python", self.code)

    def __repr__(self) -> str:
        return f"BuildLab({self.machine.name!r}, {count(len(self.things) - 1, 'thing')})"

    def still(self) -> tuple[str, str]:
        """Return the verdict and the picture."""
        return frozen(self.verdict, topology(self.host), "build a machine with buttons")


def _number(name: str, value: int, least: int, most: int) -> Any:
    return ipywidgets.BoundedIntText(value, min=least, max=most, description=name, layout={"width": "150px"}, style=_BESIDE)
