"""Which Linux: one record of behaviour switches.

Each switch says what changed, where, between which two kernels, and whether a recording shows it. A version between the two is in a gap:
it gets the older behaviour, and `Kernel.doubts` says so. Stable kernels take fixes from later ones: `6.1` means the last stable release of
that series, the one people run, and `6.1.20` is judged as such. Only `4.4` is 4.4.0, the kernel of December 2015 as it was recorded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from vfiolab._table import Table
from vfiolab.model.switches import IOMMUFD_IOCTLS, SWITCHES, StableFrom, Switch, Version

OLDEST: Version = (4, 4)
#: The series of which there are recordings, oldest first: what menus offer, and where a report looks for a change.
SERIES = ("4.4", "4.14", "4.19", "5.4", "5.10", "5.15", "6.1", "6.6", "6.8", "6.12", "7.3")
NEWEST = SERIES[-1]
_VERSION = re.compile(r"v?([0-9]{1,4})\.([0-9]{1,4})(?:\.([0-9]{1,4}))?(?![0-9])(.*)", re.ASCII | re.DOTALL)
#: A distribution's own number: Debian's and Ubuntu's 6.1.0-56-amd64 is a later 6.1 than 6.1.0.
_DISTRIBUTION = re.compile(r"-[0-9]")
#: Builds whose answers were recorded: what they add to the plain kernel is in the recordings.
RECORDED = frozenset(
    {
        "4.4.0.osta", "5.10.0-32-amd64", "5.10.0-32-arm64", "6.1.0-50-amd64", "6.1.0-50-arm64", "6.1.0-56-amd64",
        "6.12.107+deb12-amd64", "6.12.107+deb13-amd64", "6.12.107+deb13-arm64", "7.3.4+deb13-amd64", "7.3.4+deb13-arm64",
    }
)  # fmt: skip


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


def _stable_number(release: str) -> tuple[int | None, str]:
    """Return the stable number that a release is judged by, None for the last of its series; and what stands behind the number."""
    match = _VERSION.match(release.strip())
    assert match is not None, "parse_version has read it"
    if match[3] is None:
        return (0 if (int(match[1]), int(match[2])) == OLDEST else None), match[4]
    number = int(match[3])
    return (None if number == 0 and _DISTRIBUTION.match(match[4]) else number), match[4]


@dataclass(frozen=True, slots=True)
class Kernel:
    """The rules of one Linux version, from 4.4 on.

    `stable`: the stable number that decides what was taken from later kernels, None for the last of the series; `build`: the release as it
    was given, with what a distribution put behind the number.

    >>> Kernel("6.1.0-56-amd64")
    Kernel('6.1')
    >>> Kernel("4.4").has("valid_iova"), Kernel("6.12").has("valid_iova")
    (False, True)
    >>> Kernel("5.4").has("info_dma_avail"), Kernel("5.4.80").has("info_dma_avail"), Kernel("5.4.80")
    (True, False, Kernel('5.4.80'))
    """

    release: str = NEWEST
    flips: frozenset[str] = frozenset()
    version: Version = field(init=False, compare=False)
    stable: int | None = field(init=False, compare=False)
    build: str = field(init=False, compare=False, repr=False)
    _on: frozenset[str] = field(init=False, compare=False, repr=False)
    _gaps: tuple[str, ...] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        version = parse_version(self.release)
        if version < OLDEST:
            raise ValueError(f"kernel {self.release} is older than {OLDEST[0]}.{OLDEST[1]}, the oldest that the model knows")
        unknown = self.flips - SWITCHES.keys()
        if unknown:
            raise ValueError(f"no such switch: {', '.join(sorted(unknown))}")
        stable, _ = _stable_number(self.release)
        landed = {name: switch.landed_in(version, stable) for name, switch in SWITCHES.items()}
        last = {name: switch.landed_in(version, 0 if version == OLDEST else None) for name, switch in SWITCHES.items()}
        short = f"{version[0]}.{version[1]}"
        object.__setattr__(self, "build", self.release)
        object.__setattr__(self, "release", short if landed == last else f"{short}.{stable}")
        object.__setattr__(self, "version", version)
        object.__setattr__(self, "stable", stable)
        object.__setattr__(self, "_on", frozenset(name for name, state in landed.items() if bool(state) != (name in self.flips)))
        object.__setattr__(self, "_gaps", tuple(name for name, state in landed.items() if state is None))

    def has(self, switch: str) -> bool:
        """Say whether this kernel behaves in the newer way that the switch names; KeyError if there is no such switch.

        >>> Kernel("4.4").has("valid_iova"), Kernel("6.12").has("valid_iova")
        (False, True)
        """
        if switch in self._on:
            return True
        SWITCHES[switch]
        return False

    def landed(self, first_seen: str, absent_in: str | None = None, stable: Iterable[StableFrom] = ()) -> bool | None:
        """Say whether something first seen in one tree, and absent from an older one, is in this kernel; None inside the gap.

        `stable`: the stable releases of older series that took it over.

        >>> Kernel("4.6").landed("4.7", "4.6"), Kernel("5.0").landed("5.3", "4.19"), Kernel("5.3").landed("5.3", "4.19")
        (False, None, True)
        """
        absent = parse_version(absent_in) if absent_in else None
        return Switch("", "", "", parse_version(first_seen), absent, stable=tuple(stable)).landed_in(self.version, self.stable)

    @property
    def doubts(self) -> tuple[str, ...]:
        """What is uncertain about this version: each switch in whose gap it lies, a version or a build that nobody has looked at."""
        unseen = (f"kernel {self} is newer than {NEWEST}, the newest that was looked at: taken as {NEWEST}",)
        judged = f"{self.version[0]}.{self.version[1]}.{self.stable}" if self.stable is not None else f"the last stable {self.release}"
        own = (f"kernel {self.build} is a distribution's build: judged as {judged}; its own patches are not known",)
        return (
            (unseen if self.version > parse_version(NEWEST) else ())
            + (own if _stable_number(self.build)[1] and self.build not in RECORDED else ())
            + tuple(map(self.doubt, self._gaps))
        )

    def in_gap(self, switch: str) -> bool:
        """Say whether the change landed somewhere around this version: nobody looked closely enough to tell.

        >>> Kernel("5.0").in_gap("bus_reset_takes_lock"), Kernel("6.12").in_gap("valid_iova")
        (False, False)
        """
        return switch in self._gaps

    def doubt(self, switch: str) -> str:
        """Say in a sentence what is uncertain about a switch in whose gap this version lies.

        >>> Kernel("5.0").doubt("wrap_eoverflow")
        'kernel 5.0: a range that wraps past 2^64 is EOVERFLOW, and MAP tests it before the alignment (in 6.18): taken as before'
        """
        return f"kernel {self}: {SWITCHES[switch].what} ({SWITCHES[switch].landed}): taken as before"

    @property
    def title(self) -> str:
        """The version as a heading says it: 4.4 means 4.4.0, every other the last stable release of its series.

        >>> Kernel("4.4").title, Kernel("6.12").title
        ('Linux 4.4 (4.4.0)', 'Linux 6.12')
        """
        return f"Linux {self}" + (" (4.4.0)" if self.release == "4.4" else "")

    @property
    def iommufd_ioctls(self) -> int:
        """How many ioctls of its own an iommufd has; 0 before 6.2."""
        return max((count for version, count in IOMMUFD_IOCTLS if self.version >= version), default=0)

    def flipped(self, *switches: str) -> Kernel:
        """Return this kernel with some switches the other way round: for what-ifs and tests.

        ValueError names those that do not exist.

        >>> Kernel("6.12").flipped("valid_iova").has("valid_iova")
        False
        """
        return replace(self, release=self.build, flips=self.flips ^ frozenset(switches))

    def diff(self, other: Kernel | str) -> Table:
        """List what differs from another kernel: one row a switch. ValueError for a version that the model does not know.

        >>> import vfiolab as vl
        >>> vl.Kernel("4.11").diff("4.12")[["switch", "4.11", "4.12", "landed"]]
        switch                4.11  4.12  landed
        bus_reset_takes_lock  no    yes   in 4.13; stable 4.12.8
        runs_are_charged      no    yes   after 4.11, by 4.12
        """
        other = other if isinstance(other, Kernel) else Kernel(other)
        said = {True: "yes", False: "no"}
        rows = [
            (name, switch.what, said[self.has(name)], said[other.has(name)], switch.landed, switch.source, switch.evidence)
            for name, switch in SWITCHES.items()
            if self.has(name) != other.has(name)
        ]
        return Table(["switch", "what", str(self), str(other), "landed", "source", "rests on"], rows)

    def __str__(self) -> str:
        return self.release + "".join(f" with {name} flipped" for name in sorted(self.flips))

    def __repr__(self) -> str:
        flipped = f".flipped({', '.join(map(repr, sorted(self.flips)))})" if self.flips else ""
        return f"Kernel({self.release!r}){flipped}"
