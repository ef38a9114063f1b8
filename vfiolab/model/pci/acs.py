"""May traffic pass from one function to another without going through the IOMMU? Linux's ACS test.

Mirrors ``pci_acs_enabled`` and ``pci_acs_path_enabled`` (drivers/pci/pci.c, the same from 4.4 to 6.19)
and ``pci_dev_specific_acs_enabled`` (drivers/pci/quirks.c). Every verdict says why.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from vfiolab.model.kernel import Kernel
from vfiolab.model.pci.bootparams import AcsOverride
from vfiolab.model.pci.quirks import QUIRKS, AcsQuirk, Quirks
from vfiolab.model.pci.topology import ACS_BITS, Acs, Function, Topology

__all__ = ["REQUIRED", "AcsTester", "Verdict"]

#: The bits that isolation needs: source validation, request and completion redirect, upstream forwarding.
REQUIRED = 0x1D

_SINGLE_PASSES = {
    "endpoint": "an endpoint", "legacy-endpoint": "a legacy endpoint", "upstream": "a switch's upstream port",
    "rc-endpoint": "an endpoint in the root complex", "vf": "a virtual function",
}  # fmt: skip
_NEVER = {
    "pci": "conventional PCI knows no ACS",
    "pci-bridge": "a conventional PCI bridge knows no ACS",
    "pcie-to-pci": "a PCIe-to-PCI bridge cannot isolate what is behind it",
    "pci-to-pcie": "a PCI-to-PCIe bridge cannot isolate what is behind it",
    "rc-event-collector": "a root complex event collector counts as not isolated",
}

_SAYS = {
    "certified-multifunction": "its maker told Linux that its functions do not send to each other",
    "intel-rc-endpoint": "Intel's root complex lets its endpoints reach each other only through the IOMMU",
    "no-peer-to-peer-port": "Linux knows that this port passes nothing on to its neighbours",
}


class Verdict(NamedTuple):
    """The ACS test's answer for one function.

    ``why`` completes a sentence; ``rule`` is short and countable; ``uncertain`` says that the
    answer rests on something that the input does not show, ``assumption`` names it.
    """

    passed: bool
    why: str
    rule: str
    assumption: str = ""
    uncertain: bool = False


class AcsTester:
    """Tests functions and paths of one machine, each once.

    ``isolated`` are functions that pass whatever they are: the what-if behind a reason.
    ``reading`` is what to take where capabilities are unknown: True passes, False fails.
    """

    def __init__(
        self,
        topology: Topology,
        kernel: Kernel,
        *,
        quirks: Quirks = QUIRKS,
        override: AcsOverride | None = None,
        isolated: Collection[str] = (),
        reading: bool = False,
    ) -> None:
        self.topology, self.kernel, self.quirks, self.override = topology, kernel, quirks, override
        self.isolated, self.reading = frozenset(isolated), reading
        #: Rows that matched a function but whose version is in a gap.
        self.doubts: dict[str, str] = {}
        self._verdicts: dict[str, Verdict] = {}
        self._first_failure: dict[str, str | None] = {}
        self._has_amd_iommu = any(f.vendor in {0x1022, 0x1002} and (f.class_code or 0) >> 8 == 0x0806 for f in topology.values())

    def test(self, bdf: str) -> Verdict:
        """Return the verdict on one function for the bits that grouping asks for."""
        found = self._verdicts.get(bdf)
        if found is None:
            found = self._verdicts[bdf] = self._judge(self.topology[bdf])
        return found

    def verdicts(self) -> dict[str, Verdict]:
        """Return the verdicts given so far."""
        return dict(self._verdicts)

    def first_failure(self, bridge: str) -> str | None:
        """Return the first bridge, from this one upward, that fails; None if the whole path to the root passes."""
        trail = []
        at: str | None = bridge
        while at is not None and at not in self._first_failure:
            trail.append(at)
            above = self.topology.parent(at)
            at = None if above is None or not self.test(trail[-1]).passed else above.bdf
        for step in reversed(trail):
            if not self.test(step).passed:
                self._first_failure[step] = step
            else:
                above = self.topology.parent(step)
                self._first_failure[step] = None if above is None else self._first_failure[above.bdf]
        return self._first_failure[bridge]

    def _judge(self, f: Function) -> Verdict:
        if f.bdf in self.isolated:
            return Verdict(True, "taken as isolated", "what-if")
        if f.kind is None or (not f.caps_known and f.kind != "vf"):
            return self._judge_unknown(f)
        return self._by_quirk(f) or self._by_override(f) or self._without_id(f, self._by_registers(f))

    def _judge_unknown(self, f: Function) -> Verdict:
        known = self._by_quirk(f)
        if known is not None and not known.uncertain:
            return known
        if f.kind in _NEVER or (f.kind in _SINGLE_PASSES and not self.topology.is_multifunction(f.bdf)):
            return self._by_registers(f)
        if not f.is_bridge and not self.topology.is_multifunction(f.bdf):
            return Verdict(True, "it has one function, and such a function passes or stands alone", "single function", uncertain=True)
        return Verdict(self.reading, "its capabilities are not known", "unknown", uncertain=True)

    def _without_id(self, f: Function, verdict: Verdict) -> Verdict:
        """Name the assumption where the device id is not known and a row of the table might be about it.

        A name that stands for several ids, of which Linux has a rule for some, is taken to be one of those.
        """
        rows = [row for row in self.quirks.possible_rows(f) if self._has_landed(row, f)]
        if verdict.passed or not rows:
            return verdict
        rules = ", ".join(sorted({row.family for row in rows}))
        found = self._apply(rows[0], f) if f.candidates else None
        if found is not None:
            ids = "/".join(f"{device:04x}" for device in f.candidates[:4])
            known = f"{f.bdf}: its name stands for several devices ({ids}); taken to be one that Linux has a rule for ({rules})"
            return found._replace(assumption=known)
        unknown = f"{f.bdf}: its device id is not known; taken to be none that Linux has an isolation rule for ({rules})"
        return verdict._replace(assumption=unknown)

    def _has_landed(self, row: AcsQuirk, f: Function) -> bool:
        landed = self.kernel.landed(row.first_seen, row.absent_in, row.stable) if row.first_seen else True
        if landed is None:
            self.doubts[f.bdf] = (
                f"{f.bdf}: Linux has a rule for this device ({row.family}) from {row.first_seen} on and none in"
                f" {row.absent_in}; kernel {self.kernel} lies between and is taken to be without it"
            )
        return bool(landed)

    def _by_quirk(self, f: Function) -> Verdict | None:
        for row in self.quirks.acs_rows(f):
            verdict = self._apply(row, f) if self._has_landed(row, f) else None
            if verdict is not None:
                return verdict
        return None

    def _apply(self, row: AcsQuirk, f: Function) -> Verdict | None:
        rule = f"quirk {row.family}"
        if row.rule == "amd-south-bridge":
            on_root = self.topology.parent(f.bdf) is None
            if self.topology.is_multifunction(f.bdf) and on_root and self._has_amd_iommu:
                return Verdict(True, "Linux's table says that this AMD south bridge sends nothing from function to function", rule)
            return None
        if row.rule == "intel-pch":
            if self.kernel.has("pch_workaround_lost") and not self.kernel.has("pch_workaround_back"):
                return Verdict(False, "kernel 5.9 lost the workaround for Intel PCH root ports", rule)
            return Verdict(
                True, "Linux programs this Intel PCH root port to isolate, without an ACS capability", rule,
                assumption=f"{f.bdf}: Linux managed to program the isolation registers of this Intel PCH root port"
                " (dmesg says 'ACS workaround enabled')",
            )  # fmt: skip
        if row.rule == "wide-registers":
            return self._wide(f, rule)
        if row.rule == "fail":
            return Verdict(False, f"Linux's table says that it does not isolate ({row.family})", rule)
        return Verdict(True, _SAYS[row.family], rule)

    def _wide(self, f: Function, rule: str) -> Verdict | None:
        if f.acs is None:
            return None
        if f.acs.wide_ctrl is not None:
            return _by_words(Acs(f.acs.cap, f.acs.wide_ctrl), rule)
        return Verdict(
            True, "Linux turns on the control word that this Intel root port keeps at offset 8", rule,
            assumption=f"{f.bdf}: its ACS control word lies at offset 8, where lspci does not look; taken to be on,"
            " as Linux sets it (a listing made with -xxxx would show it)",
        )  # fmt: skip

    def _by_override(self, f: Function) -> Verdict | None:
        if self.override is None or not self.override.covers(f, multifunction=self.topology.is_multifunction(f.bdf)):
            return None
        return Verdict(
            True, "pcie_acs_override claims isolation that the hardware does not have", "pcie_acs_override",
            assumption=f"{f.bdf}: pcie_acs_override only claims isolation: peer-to-peer DMA may bypass the IOMMU here",
        )  # fmt: skip

    def _by_registers(self, f: Function) -> Verdict:
        kind = f.kind or ""
        if kind in _NEVER:
            return Verdict(False, _NEVER[kind], kind)
        if kind in _SINGLE_PASSES and not self.topology.is_multifunction(f.bdf):
            return Verdict(True, f"{_SINGLE_PASSES[kind]} with one function needs no ACS", "single function")
        if f.acs is None:
            what = "no ACS capability" if kind in {"root-port", "downstream"} else "multifunction without an ACS capability"
            return Verdict(False, what, "no ACS")
        return _by_words(f.acs, "ACS registers")


def _by_words(acs: Acs, rule: str) -> Verdict:
    missing = REQUIRED & acs.cap & ~acs.ctrl
    if missing:
        return Verdict(False, f"ACS is there but {_names(missing, ' is', ' are')} off", rule)
    if not REQUIRED & acs.cap:
        return Verdict(True, "its ACS capability is empty: nothing to turn on", rule)
    return Verdict(True, f"ACS has {_names(REQUIRED & acs.cap)} on", rule)


def _names(bits: int, one: str = "", more: str = "") -> str:
    found = [name for name, bit in ACS_BITS.items() if bits & bit]
    return " ".join(found) + (one if len(found) == 1 else more)
