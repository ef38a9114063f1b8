"""The split lab: two IOMMU units, a kernel and a mapping; how many domains? Each change runs the same three verbs anew."""

from __future__ import annotations

from typing import Any

import ipywidgets

from vfiolab._text import page_text
from vfiolab.course.benches import FIRST, SECOND, two_units
from vfiolab.course.toggles import column
from vfiolab.draw import figure_html, inline_svg, to_text
from vfiolab.kit import AddressSpace
from vfiolab.lab.controls import choice, said
from vfiolab.lab.panels import events_panel, panel
from vfiolab.lab.session import word
from vfiolab.model.errors import NAMES, NotModelledError, Refusal

#: What the two units are: words on the button, kind, and the facts in which they may differ.
HARDWARE: dict[str, tuple[str, dict[str, Any]]] = {
    "VT-d, two equal units": ("intel-vtd", {}),
    "VT-d, snoop control in one": ("intel-vtd", {"snoop_control": (True, False)}),
    "VT-d, 48 and 39 bits": ("intel-vtd", {"width": (48, 39)}),
    "AMD-Vi, two equal units": ("amd-vi", {}),
    "SMMUv3, two equal units": ("arm-smmu-v3", {}),
    "SMMUv3, 48 and 40 bits": ("arm-smmu-v3", {"width": (48, 40)}),
}
KERNELS = ("4.4", "5.10", "6.1", "6.12", "7.3")
MAPPED: dict[str, int | None] = {"nothing": None, "1 GiB at 0x4000_0000": 0x4000_0000, "1 GiB at 0x100_0000_0000": 0x100_0000_0000}


class Experiment:
    """One run: build the machine, attach the first group, map, attach the second group. `refused` is what ended it early."""

    def __init__(self, hardware: str, kernel: str, mapped: str) -> None:
        kind, facts = HARDWARE[hardware]
        words = "".join(f", {name}={value!r}" for name, value in facts.items())
        iova = MAPPED[mapped]
        self.code = [f'host = vl.course.two_units("{kind}", "{kernel}"{words})', "space = host.address_space()"]
        self.space: AddressSpace = two_units(kind, kernel, **facts).address_space()
        self.refused: Refusal | None = None
        steps = [f'space.attach("{FIRST}")', f'space.map({word(iova)}, "1G", name="RAM")', f'space.attach("{SECOND}")']
        try:
            self._step(steps[0], lambda: self.space.attach(FIRST))
            if iova is not None:
                self._step(steps[1], lambda: self.space.map(iova, "1G", name="RAM"))
            self._step(steps[2], lambda: self.space.attach(SECOND))
        except Refusal as refusal:
            self.refused = refusal
            self.code[-1] += "  # refused"

    def _step(self, code: str, verb: Any) -> None:
        self.code.append(code)
        verb()

    @property
    def events(self) -> list[str]:
        """What the IOMMU core was asked by the call that brought the second group."""
        joined = [call for call in self.space.log.calls if call.verb == "set_container"]
        return [str(event) for event in joined[-1].events] if len(joined) > 1 else []

    @property
    def verdict(self) -> str:
        """Say how many domains there are, and what decided it."""
        domains = self.space.domains
        if isinstance(self.refused, NotModelledError):
            return f"Not known: {self.refused}."
        if self.refused is not None:
            return f"Refused. {self.refused}. The address space stays as it was before this call."
        if len(domains) == 1:
            return "1 domain. The kernel tried the second group in D1 and its driver agreed, so the domain made for it was freed."
        joined = [call for call in self.space.log.calls if call.verb == "set_container"][-1]
        tried = next((event for event in joined.events if event.kind == "attach" and event.errno), None)
        if tried is None:
            return "2 domains. D1 was not even tried: only one of the two units can enforce snooping, and the kernel compares that first."
        name = NAMES[-(tried.errno or 0)]
        return f"2 domains. The kernel tried the second group in D1, and the driver answered {name}."


class SplitLab:
    """Choose two units, a kernel and what is mapped; see whether the second group shares the first one's domain."""

    def __init__(self) -> None:
        self.hardware = choice("Units", tuple(HARDWARE), "VT-d, two equal units", self._show)
        self.kernel = choice("Kernel", KERNELS, "6.12", self._show)
        self.mapped = choice("Mapped", tuple(MAPPED), "1 GiB at 0x4000_0000", self._show)
        self.status, self.picture, self.panels = ipywidgets.HTML(), ipywidgets.HTML(), ipywidgets.HTML()
        self.box = column(self.hardware, self.kernel, self.mapped, self.status, self.picture, self.panels)
        self._show()

    def run(self) -> Experiment:
        """Run what is chosen: what each click does."""
        return Experiment(self.hardware.value, self.kernel.value, self.mapped.value)

    def _show(self) -> None:
        self.experiment = run = self.run()
        self.status.value = said(run.verdict, alert=run.refused is not None)
        pictures = "".join(map(inline_svg, (run.space.chain(), run.space.picture())))
        beside = "display:grid;grid-template-columns:repeat(auto-fit,minmax(min(440px,100%),1fr))"
        self.picture.value = f'<div style="{beside}">{pictures}</div>'
        parts = [
            panel("The same in Python", "\n".join(["import vfiolab as vl", *run.code])),
            events_panel("Events of the second attach", run.events),
        ]
        columns = "display:grid;grid-template-columns:repeat(auto-fit,minmax(380px,1fr));gap:8px"
        self.panels.value = f'<div style="{columns}">{"".join(parts)}</div>'

    def __repr__(self) -> str:
        return f"SplitLab({self.hardware.value!r}, kernel {self.kernel.value}, mapped {self.mapped.value!r})"

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        """Give the controls to a live front end; without one, the verdict and the picture."""
        run = self.experiment
        still = f"<p>{page_text(run.verdict)}</p>{figure_html(run.space.chain())}<p><em>Run this cell to choose with buttons.</em></p>"
        bundle = dict(self.box._repr_mimebundle_(**kwargs) or {})
        return {**bundle, "text/plain": f"{run.verdict}\n{to_text(run.space.chain())}", "text/html": still}
