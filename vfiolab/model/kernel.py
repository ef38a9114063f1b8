"""Which Linux: one record of behaviour switches.

Each switch says what changed, where, between which two kernels that were looked at, and whether a recording shows it. A version between
the two is in a gap: it gets the older behaviour, and `Kernel.doubts` says so.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from vfiolab.model.switches import SWITCHES, Switch, Version

OLDEST: Version = (4, 4)
NEWEST = "7.3"
_VERSION = re.compile(r"v?(\d+)\.(\d+)(?!\d)")


def parse_version(release: str) -> Version:
    """Return (major, minor) of a version or a `uname -r` string.

    >>> parse_version("6.1.0-56-amd64"), parse_version("4.4")
    ((6, 1), (4, 4))
    """
    if not isinstance(release, str):
        raise TypeError(f"a kernel version is a text such as '6.12', not {release!r}: as a number, 6.10 would be 6.1")
    match = _VERSION.match(release.strip())
    if match is None:
        raise ValueError(f"cannot read a kernel version from {release!r}: write it as '6.12' or as uname -r prints it")
    return int(match[1]), int(match[2])


@dataclass(frozen=True, slots=True)
class Kernel:
    """The rules of one Linux version, from 4.4 on.

    >>> Kernel("6.1.0-56-amd64")
    Kernel('6.1')
    >>> Kernel("4.4").has("valid_iova"), Kernel("6.12").has("valid_iova")
    (False, True)
    """

    release: str = NEWEST
    flips: frozenset[str] = frozenset()
    version: Version = field(init=False, compare=False)
    _on: frozenset[str] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        version = parse_version(self.release)
        if version < OLDEST:
            raise ValueError(f"kernel {self.release} is older than {OLDEST[0]}.{OLDEST[1]}, the oldest that the model knows")
        unknown = self.flips - SWITCHES.keys()
        if unknown:
            raise ValueError(f"no such switch: {', '.join(sorted(unknown))}")
        object.__setattr__(self, "release", f"{version[0]}.{version[1]}")
        object.__setattr__(self, "version", version)
        on = {name for name, switch in SWITCHES.items() if bool(_landed(version, switch)) != (name in self.flips)}
        object.__setattr__(self, "_on", frozenset(on))

    def has(self, switch: str) -> bool:
        """Say whether this kernel behaves in the newer way that the switch names; KeyError if there is no such switch."""
        if switch in self._on:
            return True
        SWITCHES[switch]
        return False

    def landed(self, first_seen: str, absent_in: str | None = None) -> bool | None:
        """Say whether something first seen in one tree, and absent from an older one, is in this kernel; None inside the gap.

        >>> Kernel("4.6").landed("4.7", "4.6"), Kernel("5.0").landed("5.3", "4.19"), Kernel("5.3").landed("5.3", "4.19")
        (False, None, True)
        """
        return _landed(
            self.version,
            Switch("", "", "", first_seen=parse_version(first_seen), absent_in=parse_version(absent_in) if absent_in else None),
        )

    @property
    def doubts(self) -> tuple[str, ...]:
        """One warning for each switch whose change lies in a gap that holds this version, and one for a version that nobody has looked at."""
        unseen = (f"kernel {self} is newer than {NEWEST}, the newest that was looked at: taken as {NEWEST}",)
        return (unseen if self.version > parse_version(NEWEST) else ()) + tuple(
            f"kernel {self}: {switch.what} (landed between {show(switch.absent_in)} and {show(switch.first_seen)}): taken as before"
            for switch in SWITCHES.values()
            if _landed(self.version, switch) is None
        )

    def flipped(self, *switches: str) -> Kernel:
        """Return this kernel with some switches the other way round: for what-ifs and tests."""
        return replace(self, flips=self.flips ^ frozenset(switches))

    def diff(self, other: Kernel | str) -> list[dict[str, str]]:
        """List what differs from another kernel: one row a switch, as a notebook shows it."""
        other = other if isinstance(other, Kernel) else Kernel(other)
        return [
            {
                "switch": name,
                "what": switch.what,
                str(self): "yes" if self.has(name) else "no",
                str(other): "yes" if other.has(name) else "no",
                "landed": switch.landed,
                "source": switch.source,
                "rests on": switch.evidence,
            }
            for name, switch in SWITCHES.items()
            if self.has(name) != other.has(name)
        ]

    def __str__(self) -> str:
        return self.release + "".join(f" with {name} flipped" for name in sorted(self.flips))

    def __repr__(self) -> str:
        return (
            f"Kernel({self.release!r})"
            if not self.flips
            else f"Kernel({self.release!r}).flipped({', '.join(map(repr, sorted(self.flips)))})"
        )


def show(version: Version | None) -> str:
    """Return a version as people write it."""
    return "the beginning" if version is None else f"{version[0]}.{version[1]}"


def _landed(version: Version, switch: Switch) -> bool | None:
    if version >= switch.first_seen:
        return True
    return False if switch.absent_in is None or version <= switch.absent_in else None
