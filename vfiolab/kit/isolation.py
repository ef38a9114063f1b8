"""Why a device is in its group, and what a change would do to the groups: each shows itself in a cell as picture, table and text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vfiolab.model import whatif
from vfiolab.model.pci import why
from vfiolab.readers.pciids import pci_ids

if TYPE_CHECKING:
    import pandas as pd

    from vfiolab.draw import Picture
    from vfiolab.model.machine import Host


class WhatIf(whatif.WhatIf):
    """A machine before and after a change, which shows itself in a cell."""

    @classmethod
    def of(cls, plain: whatif.WhatIf) -> WhatIf:
        """Return a comparison of the model as one that shows itself."""
        return cls(plain.was, plain.machine, plain.before, plain.after, plain.notes)

    def picture(self, only: Iterable[str] = (), width: int | None = None) -> Picture:
        """Return the groups before and after in one picture: what the change touches, or `only` these devices with the bridges above.

        >>> import vfiolab as vl
        >>> vl.load("amd-matisse-desktop").what_if(drop_acs="2c:00.0").picture().title
        '25 groups before, 23 after: 1 merged'
        """
        from vfiolab.draw import what_if

        return what_if(self, only=only, width=width)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return self.picture()._repr_mimebundle_()


@dataclass(frozen=True, kw_only=True, repr=False)
class Why(why.Why):
    """Why a device is in its group on a host; it shows itself in a cell."""

    host: Host = field(compare=False)

    @classmethod
    def on(cls, host: Host, device: str) -> Why:
        """Ask a host; its own groups count, and the joins are told where they lead to the same one."""
        function, group, grouping = host.topology.get(device), host.group_of(device), host.grouping
        name = "" if function is None else function.name or pci_ids().title(function.class_code, function.vendor, function.device)
        known = grouping is not None and device in grouping.topology
        if grouping is not None and known and set(grouping.mates(device)) == set(group.devices if group else ()):
            plain = why.Why.of(grouping, device, name, group.id if group else None)
        elif group is None:
            plain = why.Why(device=device, name=name, note="is in no group")
        else:
            note = "which joins put it there is not known: no registers of this machine say why the group is so"
            plain = why.Why(device=device, name=name, number=group.id, group=tuple(group.devices), note=note)
        return cls(host=host, **vars(plain))

    def frame(self) -> pd.DataFrame:
        """Return the joins as a pandas DataFrame: device, joins, step, because, stays while.

        >>> import vfiolab as vl
        >>> vl.load("amd-matisse-desktop").why("02:00.1").frame()["joins"].tolist()
        ['02:00.0', '', '02:00.0', '02:00.2', '02:00.2', '02:00.2', '03:06.0', '03:07.0', '03:09.0']
        """
        return self.table().frame()

    def picture(self, width: int | None = None) -> Picture:
        """Return the tree narrowed to the group and the bridges above it, with the joins on it.

        >>> import vfiolab as vl
        >>> vl.load("amd-matisse-desktop").why("2d:00.0").picture().title
        '2d:00.0 is in group 18, alone'
        """
        from vfiolab.draw import topology

        return topology(self.host, why=self, width=width)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {**self.picture()._repr_mimebundle_(), "text/plain": str(self)}
