"""What is asked of a machine's groups: a kernel, boot parameters, changes. The one way from an input to its groups."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from vfiolab.model.kernel import Kernel
from vfiolab.model.machine import Machine
from vfiolab.model.pci.aliases import short
from vfiolab.model.pci.changes import Change, SetAcs, acs_words
from vfiolab.model.pci.grouping import Grouping, GroupingOptions, iommu_groups
from vfiolab.model.pci.topology import Topology, TopologyError, normal_bdf
from vfiolab.model.whatif import WhatIf, what_if
from vfiolab.readers.errors import InputError
from vfiolab.readers.listing import PciInput

__all__ = ["Answer", "Asked", "merge_warnings"]


class Answer(NamedTuple):
    """The groups of an input, with all warnings; `changed` compares them with the input as it is, if that was asked for."""

    kernel: Kernel
    grouping: Grouping
    changed: WhatIf | None
    warnings: tuple[str, ...]


class Asked(NamedTuple):
    """What is asked of every input. `kernel` None: the input's own, else the newest; `boot`: fields of GroupingOptions."""

    kernel: str | None = None
    boot: Mapping[str, Any] = {}
    changes: tuple[Change, ...] = ()
    compare: bool = False

    @property
    def options(self) -> GroupingOptions:
        """The boot parameters."""
        return GroupingOptions(**self.boot)

    def check(self) -> None:
        """Refuse what makes no sense on any machine: ValueError for a kernel, a boot parameter or ACS bits that there are none of."""
        iommu_groups(Topology([]), None if self.kernel is None else Kernel(self.kernel), self.options)
        for change in self.changes:
            if isinstance(change, SetAcs):
                acs_words(change.words)

    def of(self, found: PciInput, whole: Callable[[], Machine]) -> Answer:
        """Compute the groups. `whole` reads all that a machine file says: its units, doorbells and BARs.

        InputError, NotComputableError or TopologyError (each a ValueError) where there is no answer.
        """
        kernel, doubt = self.kernel_of(found)
        if found.not_computable:
            raise InputError(f"not computable: {found.not_computable}", where=found.source)
        machine, changed = found.machine(), None
        if self.compare or self.changes:
            if found.form == "machine file":
                known = whole()
                own = {name: getattr(known, name) for name in ("units", "units_assumed", "interrupts", "bars")}
                machine = replace(machine, **own)
            before = (Asked().kernel_of(found)[0], None)
            changed = what_if(machine, *self.changes, kernel=kernel, options=self.options, before=before)
        grouping = changed.after if changed else machine.grouping(kernel, self.options)
        warnings = (*doubt, *found.warnings, *grouping.warnings, *_hints(found), *(changed.notes if changed else ()))
        return Answer(kernel, grouping, changed, warnings)

    def kernel_of(self, found: PciInput) -> tuple[Kernel, list[str]]:
        """Return the kernel asked for, else the input's, else the newest; what either names may be unknown to us."""
        if self.kernel is not None:
            kernel = Kernel(self.kernel)
            return kernel, [doubt for doubt in kernel.doubts if "is newer than" in doubt]
        if found.kernel is None:
            return Kernel(), []
        try:
            return Kernel(found.kernel), []
        except ValueError as error:
            return Kernel(), [f"the input's kernel is not used: {error}; the rules of Linux {Kernel()} apply"]


def merge_warnings(warnings: Iterable[str]) -> list[str]:
    """Put warnings that say the same of several devices into one, naming each.

    >>> merge_warnings(["0000:00:1c.0: cut off", "0000:00:1c.1: cut off", "made without -vvv"])
    ['00:1c.0, 00:1c.1: cut off', 'made without -vvv']
    """
    named: dict[str, list[str]] = {}
    for warning in dict.fromkeys(warnings):
        device, _, text = warning.partition(": ")
        try:
            who = short(normal_bdf(device))
        except TopologyError:
            named.setdefault(warning, [])
        else:
            named.setdefault(text, []).append(who)
    return [f"{', '.join(who)}: {text}" if who else text for text, who in named.items()]


def _hints(found: PciInput) -> list[str]:
    if found.form != "sysfs" or found.recorded or any(warning.startswith("no IOMMU was in use") for warning in found.warnings):
        return []
    what = f"{found.source} has no IOMMU groups: no IOMMU is in use. These are the groups that Linux would form if every device were"
    return [f"{what} behind one (turn it on in the firmware; Intel also needs intel_iommu=on)"]
