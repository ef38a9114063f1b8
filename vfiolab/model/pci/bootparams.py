"""Boot parameters that reshape IOMMU groups, read in the syntax of the kernel's command line.

Source: Documentation/admin-guide/kernel-parameters.txt (``pci=disable_acs_redir=`` from 4.19,
``pci=config_acs=`` from 6.11) and the out-of-tree ``pcie_acs_override=`` patch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from vfiolab.model.kernel import Kernel
from vfiolab.model.pci.topology import ACS_BITS, Acs, Function, Topology, TopologyError, normal_bdf

__all__ = ["AcsOverride", "BootParameterError", "apply_acs_parameters", "with_acs"]

#: What disable_acs_redir= clears: request and completion redirect, egress control.
REDIRECT = ACS_BITS["RR"] | ACS_BITS["CR"] | ACS_BITS["EC"]
_MAX_OVERRIDE_IDS = 15


class BootParameterError(ValueError):
    """A boot parameter that Linux would not understand."""


class AcsOverride(NamedTuple):
    """``pcie_acs_override=``: pretend isolation where there is no ACS capability.

    >>> AcsOverride.parse("downstream,id:8086:1c10")
    AcsOverride(downstream=True, multifunction=False, ids=frozenset({(32902, 7184)}))
    """

    downstream: bool = False
    multifunction: bool = False
    ids: frozenset[tuple[int, int]] = frozenset()

    @classmethod
    def parse(cls, text: str) -> AcsOverride:
        """Read the parameter's value; BootParameterError (a ValueError) names a word that means nothing."""
        words = [word.strip() for word in text.split(",") if word.strip()]
        ids = []
        for word in words:
            match = re.fullmatch(r"id:([0-9a-fA-F]{4}):([0-9a-fA-F]{4})", word)
            if match:
                ids.append((int(match[1], 16), int(match[2], 16)))
            elif word not in {"downstream", "multifunction"}:
                raise BootParameterError(f"pcie_acs_override={text}: {word!r} is none of downstream, multifunction, id:VVVV:DDDD")
        if len(ids) > _MAX_OVERRIDE_IDS:
            raise BootParameterError(f"pcie_acs_override: {len(ids)} ids, the patch takes at most {_MAX_OVERRIDE_IDS}")
        return cls("downstream" in words, "multifunction" in words, frozenset(ids))

    def covers(self, function: Function, *, multifunction: bool) -> bool:
        """Return whether the patch claims isolation for this function: PCIe, and without an ACS capability."""
        if function.express_type is None or function.acs is not None:
            return False
        if function.ids in self.ids:
            return True
        if function.kind in {"root-port", "downstream"}:
            return self.downstream
        return self.multifunction and multifunction and function.kind in {"endpoint", "legacy-endpoint", "upstream", "rc-endpoint"}


def apply_acs_parameters(
    topology: Topology, kernel: Kernel, *, disable_acs_redir: str = "", config_acs: str = ""
) -> tuple[Topology, list[str]]:
    """Return the machine as it is after the two ``pci=`` parameters changed ACS control words, and warnings.

    A kernel that does not know the parameter ignores it (with a warning here). ``disable_acs_redir``
    is a list of devices separated by ``;``; ``config_acs`` a list of ``BITS@DEVICE``, the bits written
    from the right (source validation first) as 0, 1 or x. Raises BootParameterError for anything else.

    >>> port = Function(bdf="00:01.0", kind="root-port", acs=Acs(0x1d, 0x1d))
    >>> changed, _ = apply_acs_parameters(Topology([port]), Kernel("6.12"), config_acs="0xx@0000:00:01.0")
    >>> changed["0000:00:01.0"].acs
    Acs(SV+ RR- CR+ UF+)
    """
    warnings: list[str] = []
    changes: list[tuple[str, int, int]] = [(device, REDIRECT, 0) for device in _items(disable_acs_redir)]
    if changes and not _known(kernel, "disable_acs_redir", "4.19", "4.18", warnings):
        changes = []
    configured = [_parse_config(item) for item in _items(config_acs)]
    if configured and _known(kernel, "config_acs", "6.11", "6.10", warnings):
        changes += configured
    for device, mask, bits in changes:
        selected, changed = list(_selected(topology, device)), []
        for function in selected:
            if function.acs is None:
                warnings.append(f"{function.bdf}: has no ACS capability; the boot parameter cannot change it")
            else:
                changed.append(with_acs(function, function.acs, mask, bits))
        if not selected:
            warnings.append(f"boot parameter: no device matches {device}")
        topology = topology.replace(*changed)
    return topology, warnings


def with_acs(function: Function, acs: Acs, mask: int, bits: int) -> Function:
    """Return a function whose ACS control word (the wide one too) has these bits under the mask, where its capability has them."""

    def turn(word: int) -> int:
        return word & ~mask | bits & acs.cap

    wide = None if acs.wide_ctrl is None else turn(acs.wide_ctrl)
    return replace(function, acs=Acs(acs.cap, turn(acs.ctrl), wide))


def _items(text: str) -> Iterator[str]:
    return (item.strip() for item in text.split(";") if item.strip())


def _known(kernel: Kernel, name: str, first_seen: str, absent_in: str, warnings: list[str]) -> bool:
    landed = kernel.landed(first_seen=first_seen, absent_in=absent_in)
    if not landed:
        since = f"it is in {first_seen} and not in {absent_in}"
        warnings.append(f"pci={name}= is ignored: kernel {kernel} {'may not' if landed is None else 'does not'} know it ({since})")
    return bool(landed)


def _parse_config(item: str) -> tuple[str, int, int]:
    bits, at, device = item.partition("@")
    if not at or not device or not re.fullmatch(r"[01xX]{1,7}", bits):
        raise BootParameterError(f"config_acs={item}: must be BITS@DEVICE, up to seven bits each 0, 1 or x, the rightmost for SV")
    digits = bits[::-1]
    mask = sum(1 << n for n, digit in enumerate(digits) if digit in "01")
    return device, mask, sum(1 << n for n, digit in enumerate(digits) if digit == "1")


def _selected(topology: Topology, text: str) -> Iterator[Function]:
    match = re.fullmatch(r"pci:([0-9a-fA-F]{1,4}):([0-9a-fA-F]{1,4})(?::[0-9a-fA-F]+:[0-9a-fA-F]+)?", text)
    if match:
        vendor, device = int(match[1], 16), int(match[2], 16)
        return (f for f in topology.values() if vendor in {0, f.vendor} and device in {0, f.device})
    try:
        first, *deeper = text.split("/")
        at = topology.get(normal_bdf(first))
        for step in deeper:  # a path: slot.function below the bridge so far
            wanted = normal_bdf(f"00:{step}")[-4:]
            at = next((f for f in topology.children(at.bdf) if f.bdf.endswith(wanted)), None) if at else None
    except TopologyError:
        raise BootParameterError(f"boot parameter: {text!r} is no device; write 0000:00:1c.0 or pci:VVVV:DDDD") from None
    return iter([at] if at else [])
