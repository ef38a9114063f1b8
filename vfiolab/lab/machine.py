"""The machine lab: one of the kit, or a listing that is pasted or uploaded; its groups, why, what if, and a plan."""

from __future__ import annotations

import ipywidgets

from vfiolab._text import count
from vfiolab.course.toggles import column, toggles
from vfiolab.draw import Picture, inline_svg
from vfiolab.kit import Host, load, loads
from vfiolab.kit.plan import plan
from vfiolab.kit.steps import call, word
from vfiolab.lab.controls import App, choice, frozen, on_enter, press, row, said, upload
from vfiolab.lab.panels import columns, panel
from vfiolab.model.errors import Refusal
from vfiolab.model.pci.aliases import short
from vfiolab.readers.lines import decoded

MACHINES = ("intel-skylake-plx-switch", "amd-matisse-desktop", "apple-macmini-2018-egpu", "hp-elitebook-630", "nxp-ls1028a-enetc")
KERNELS = ("5.10", "6.12", "7.3")
BOOT = ("no parameter", "pcie_acs_override=downstream,multifunction")


class MachineLab(App):
    """Look at a machine: choose it, paste its listing or upload it; then name a device, and what might be changed.

    What the buttons act on is at hand as `host`; `why`, `found` (None if nothing is to be changed) and `plan` are what it answered last.
    """

    def __init__(self, *machines: str) -> None:
        names = machines or MACHINES
        self.machine = toggles(names, names[0], [f"Load {name}" for name in names], "Machine", "70px")
        self.paste = ipywidgets.Textarea(
            description="Paste", placeholder="lspci -vvvnn, run as root", rows=4, layout={"width": "100%", "max_width": "720px"}
        )
        self.read = press("Read what is pasted", "Read the listing in the field", lambda: self._read(self.paste.value, "pasted"))
        self.upload = upload("Upload a file", "A listing, or a machine file", self._read)
        self.device = ipywidgets.Text(description="Device", placeholder="01:00.0", layout={"width": "230px"})
        self.port = ipywidgets.Text(description="Move below", placeholder="00:1c.4", layout={"width": "230px"})
        self.look = press("Look", "Show the device's group, the change and the plan", self._show)
        self.kernel = choice("Kernel", KERNELS, "6.12", self._show)
        self.boot = choice("Boot with", BOOT, BOOT[0], self._show)
        self.status, self.picture, self.panels = ipywidgets.HTML(), ipywidgets.HTML(), ipywidgets.HTML()
        own, form = row(self.read, self.upload), row(self.device, self.port, self.look)
        self.box = column(self.machine, self.paste, own, form, self.kernel, self.boot, self.status, self.picture, self.panels)
        self.machine.observe(lambda change: self.load(change["new"]), "value")
        for entry in (self.device, self.port):  # Enter in a field does what Look does
            on_enter(entry, self._show)
        self.load(names[0])

    def load(self, machine: str) -> None:
        """Load a machine of the kit: what its button does."""
        self._take(load(machine), f"host = vl.load({word(machine)})")

    def _read(self, listing: str | bytes, name: str) -> None:
        try:
            host = loads(listing if isinstance(listing, str) else decoded(listing, where=name), name=name)
        except ValueError as refused:
            self.status.value = said(f"Not read, and the machine below stays: {refused}", alert=True)
        else:
            self._take(host, f"host = vl.load({word(name)})" if name != "pasted" else "host = vl.loads(text)  # what is pasted")

    def _take(self, host: Host, code: str) -> None:
        self.host, self.code = host, code
        users = {bdf: group for bdf, f in host.topology.items() if f.is_for_users and (group := host.group_of(bdf))}
        shared = (bdf for bdf, group in users.items() if len(group.devices) > 1)
        self.device.value = short(next(shared, next(iter(users)))) if users else ""
        self.port.value = ""
        self._show()

    def _asked(self) -> dict[str, object]:
        """Return what is to be changed, as the arguments of `what_if`."""
        port = self.port.value.strip()
        asked: dict[str, object] = {"move": {self.device.value.strip(): port}} if port else {}
        return asked | ({"options": self.boot.value} if self.boot.value != BOOT[0] else {})

    def _show(self) -> None:
        """Ask the host anew, and say what it answers; where a field makes no sense, that is said and the rest stays."""
        device, kernel, asked = self.device.value.strip(), self.kernel.value, self._asked()
        try:
            host = self.host.with_kernel(kernel)
            why, planned = host.why(device), plan(host, device)
            self.found = host.what_if(**asked) if asked else None  # type: ignore[arg-type] # the fields hold what the verb takes
        except (ValueError, Refusal) as refused:
            self.status.value = said(f"{refused}. What is below stays.", alert=True)
            return
        self.why, self.plan = why, planned
        self.status.value = said(self.verdict)
        self.picture.value = inline_svg(self.shown)
        lines = ["import vfiolab as vl", self.code, f"host = host.with_kernel({word(kernel)})", f"host.why({word(device)})"]
        lines += [call("host.what_if", (), asked)] if asked else []
        self.code_shown = "\n".join([*lines, f"vl.plan(host, {word(device)})"])
        parts = {"Why": str(why), **({"What if": repr(self.found)} if asked else {}), "Plan": repr(planned)}
        parts["The same in Python"] = self.code_shown
        self.panels.value = columns([panel(title, text, top=True) for title, text in parts.items()], 380)

    @property
    def verdict(self) -> str:
        """Say how the machine is divided, and with whom the device is."""
        groups = self.why.host.groups
        shared = sum(len(group.devices) > 1 for group in groups)
        whole = f"{self.host.machine.name}: {count(len(groups), 'group')}, {shared} of them with more than one device. "
        device = self.why.device
        if self.found is None or device not in self.found.after.reasons:
            return f"{whole}{self.why.headline(8)}."
        mates = [short(bdf) for bdf in self.found.after.mates(device) if bdf != device]
        now = f"shares its group with {len(mates)}" if mates else "is alone"
        return f"{whole}{self.why.headline(8)}. After the change {short(device)} {now}, in {count(len(self.found.after.groups), 'group')}."

    @property
    def shown(self) -> Picture:
        """The groups before and after if something is changed, else why the device is in its group."""
        return self.why.picture() if self.found is None else self.found.picture()

    def __repr__(self) -> str:
        return f"MachineLab({self.host.machine.name!r}, {self.device.value!r})"

    def still(self) -> tuple[str, str]:
        """Return the verdict and the picture."""
        return frozen(self.verdict, self.shown, "choose a machine, paste a listing, or upload one")
