"""What a learner types: load a machine, open an address space, attach, map, look.

What may not come in: rules of its own. A verb here calls verbs of the model, and shows what they left.
"""

from vfiolab._table import Table
from vfiolab.kit.host import Host, Machine, MachineBuilder, assumptions, boot, here, load, loads, machines
from vfiolab.kit.ipython import install
from vfiolab.kit.journey import Journey
from vfiolab.kit.space import AddressSpace, plot

__all__ = [
    "AddressSpace", "Host", "Journey", "Machine", "MachineBuilder", "Table", "assumptions", "boot", "here", "load", "loads", "machines",
    "plot",
]  # fmt: skip

install()
