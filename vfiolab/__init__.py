"""vfiolab: how Linux hands devices to user space, as a model that answers as the kernel does.

>>> import vfiolab as vl
>>> host = vl.load("two-smmu-server")
>>> space = host.address_space()
>>> space.attach("0000:01:00.0", "0000:21:00.0")
>>> space.map(0x4000_0000, "1G", name="guest RAM")
>>> len(space.domains)
2
>>> space.map(0x800_0000, "1M")
Traceback (most recent call last):
    ...
vfiolab.model.errors.VfioError: EINVAL: 0x800_0000-0x80f_ffff overlaps the software MSI window 0x800_0000-0x80f_ffff
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vfiolab.course.experiments import outcomes
    from vfiolab.kit import AddressSpace, Host, Machine, MachineBuilder, Table, assumptions, here, load, machines, plot
    from vfiolab.model.address import Span, hexa, human_size, parse_size
    from vfiolab.model.errors import KernelCrashError, NotModelledError, VfioError, WouldBlockError
    from vfiolab.model.iommu.unit import IommuUnit
    from vfiolab.model.kernel import Kernel

__version__ = "0.1.0"
__all__ = [
    "AddressSpace",
    "Host",
    "IommuUnit",
    "Kernel",
    "KernelCrashError",
    "Machine",
    "MachineBuilder",
    "NotModelledError",
    "Span",
    "Table",
    "VfioError",
    "WouldBlockError",
    "assumptions",
    "here",
    "hexa",
    "human_size",
    "load",
    "machines",
    "outcomes",
    "parse_size",
    "plot",
]

# Each name is loaded when it is first asked for: `import vfiolab` stays small, and a command loads only what its word needs.
_HOMES = {
    "vfiolab.course.experiments": ("outcomes",),
    "vfiolab.kit": ("AddressSpace", "Host", "Machine", "MachineBuilder", "Table", "assumptions", "here", "load", "machines", "plot"),
    "vfiolab.model.address": ("Span", "hexa", "human_size", "parse_size"),
    "vfiolab.model.errors": ("KernelCrashError", "NotModelledError", "VfioError", "WouldBlockError"),
    "vfiolab.model.iommu.unit": ("IommuUnit",),
    "vfiolab.model.kernel": ("Kernel",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'vfiolab' has no attribute {name!r}; it has {', '.join(__all__)}")
    value: object = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
