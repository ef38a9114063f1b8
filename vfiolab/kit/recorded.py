"""The recorded kernels of the kit, by name: a machine, and scenarios with what the kernel answered."""

from __future__ import annotations

from functools import lru_cache

from vfiolab._paths import data_dir
from vfiolab.model.machine import Machine
from vfiolab.readers.errors import InputError
from vfiolab.readers.opening import open_machine
from vfiolab.readers.trace import Scenario, read_trace_file

__all__ = ["recorded_scenarios", "recordings"]


def recordings() -> list[str]:
    """List the recordings that come with the kit.

    >>> recordings()[0]
    'amd-4.14'
    """
    return sorted(path.parent.name for path in (data_dir() / "traces").glob("*/*.trace"))


@lru_cache(maxsize=4)
def recorded_scenarios(name: str) -> tuple[Machine, tuple[Scenario, ...]]:
    """Return the machine and the scenarios of a recording. InputError (a ValueError) names what there is.

    >>> machine, scenarios = recorded_scenarios("intel-6.12-ir")
    >>> machine.name, scenarios[0].operations[0].text
    ('intel-6.12-ir', 'open_container A')
    """
    if name not in recordings():
        raise InputError(f"no recording is called {name!r}", advice=f"recordings: {', '.join(recordings())}")
    folder = data_dir() / "traces" / name
    return open_machine(folder / "machine.json"), tuple(read_trace_file(next(folder.glob("*.trace"))))
