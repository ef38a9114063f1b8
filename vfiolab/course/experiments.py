"""What becomes of an interrupt, or of DMA where its message goes, on each kind of machine: experiments that the model carries out.

>>> print(outcomes("smmu-its", "4.4").frame().to_string(index=False, columns=["experiment", "outcome"]))
                  experiment  outcome
                raise vector     lost
raise vector, RAM put there corrupts
  raise vector, RAM put later corrupts
  DMA to RAM put there           memory
   another's message              fault
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from vfiolab.course.machines import put
from vfiolab.kit import AddressSpace, Host, MachineBuilder, Table
from vfiolab.model.backends.type1 import ALLOW_UNSAFE
from vfiolab.model.errors import NotModelledError, VfioError
from vfiolab.model.iommu.unit import SOFTWARE_MSI, X86_MSI
from vfiolab.model.irq.delivery import OUTCOMES, Journey
from vfiolab.model.irq.msi import InterruptController
from vfiolab.model.kernel import parse_version
from vfiolab.model.machine import Host as ModelHost
from vfiolab.proposals.table import refusal_rests

__all__ = ["EXPERIMENTS", "KERNELS", "MACHINES", "Result", "carry_out", "outcomes", "summary"]

DEVICE, OTHER = "0000:01:00.0", "0000:02:00.0"
KERNELS = ("4.4", "4.11", "7.3")
ITS, V2M = InterruptController("gicv3-its", 0x8090040), InterruptController("gicv2m", 0x8020040)
HISILICON_ITS = InterruptController("gicv3-its", 0xC6010040)
HISILICON_MSI = (0xC6010000, 0xC601FFFF)
QEMU_MSI = (0x8090000, 0x809FFFF)  # what QEMU's virt machine tells its virtio-iommu to let through, from QEMU 5.1 on


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of machine: its unit, what takes its interrupts, whether unsafe ones are allowed. `since`: the first kernel to ask."""

    words: str
    unit: str
    controller: InterruptController | None = None
    remapping: bool = True
    hardware_msi: tuple[int, int] | None = None
    translates_msi: bool = False
    unsafe: bool = False
    since: str = "4.4"

    def host(self, kernel: str) -> Host:
        """Boot a machine of this kind with two endpoints, each in its group."""
        m = MachineBuilder(self.words)
        safe = None if self.remapping else False
        unit = m.unit("iommu0", self.unit, isolated_msi=safe, hardware_msi=self.hardware_msi, translates_msi=self.translates_msi)
        if self.controller is not None:
            m.interrupts(self.controller)
        put(m, unit, DEVICE, OTHER)
        host = m.host(kernel)
        if self.unsafe:
            host.set_param(ALLOW_UNSAFE, "Y")
        return host


MACHINES = {
    "x86-remapping": Kind("x86 with interrupt remapping", "intel-vtd"),
    "x86-plain": Kind("x86 without interrupt remapping", "intel-vtd", remapping=False),
    "x86-plain-unsafe": Kind("x86 without interrupt remapping, unsafe interrupts allowed", "intel-vtd", remapping=False, unsafe=True),
    "smmu-its": Kind("SMMU and GICv3 ITS", "arm-smmu-v3", ITS),
    "smmu-v2m": Kind("SMMU and GICv2m", "arm-smmu-v3", V2M),
    "smmu-v2m-unsafe": Kind("SMMU and GICv2m, unsafe interrupts allowed", "arm-smmu-v3", V2M, unsafe=True),
    "hisilicon": Kind("HiSilicon SMMU with a hardware MSI region", "arm-smmu-v3", HISILICON_ITS, hardware_msi=HISILICON_MSI),
    "virtio-x86-unsafe": Kind("virtio-iommu on x86, unsafe interrupts allowed", "virtio-iommu", remapping=False, unsafe=True, since="6.12"),
    "virtio-arm": Kind("virtio-iommu on Arm (QEMU)", "virtio-iommu", ITS, hardware_msi=QEMU_MSI, translates_msi=True, since="6.12"),
    "virtio-arm-bare": Kind("virtio-iommu on Arm that declares no MSI range", "virtio-iommu", ITS, translates_msi=True, since="6.12"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Result:
    """What one experiment came to: an outcome of `delivery.OUTCOMES` or "unknown", why, and what it rests on if no recording shows it."""

    machine: str
    kernel: str
    experiment: str
    outcome: str
    why: str
    rests: str = ""
    journey: Journey | None = None


def _spot(host: ModelHost) -> int:
    """Return where this host's messages go: what a user who knows nothing of it would put RAM over."""
    controller, unit = host.interrupts, host.units[0]
    if controller is None or controller.doorbell is None:
        return X86_MSI.start
    if unit.hardware_msi is not None:
        return unit.hardware_msi.start
    return SOFTWARE_MSI.start if host.kernel.has("reserved_regions") else controller.doorbell & -0x1000


def _ram(space: AddressSpace) -> None:
    space.map(_spot(space.host), "64K", "guest RAM")


def _enable(space: AddressSpace) -> None:
    space.enable_msi(DEVICE)


def _raise(space: AddressSpace) -> Journey:
    return space.raise_msi(DEVICE)


def _dma(space: AddressSpace) -> Journey:
    return space.dma_write(DEVICE, _spot(space.host) + 0x40, 0x1234)


def _forge(space: AddressSpace) -> Journey:
    space.attach(OTHER)
    _enable(space)
    space.enable_msi(OTHER, 2)
    message = space.process.irqs[OTHER].messages[1]
    return space.dma_write(DEVICE, message.address, message.data)


#: What is done before, in this order, and the request that is followed.
EXPERIMENTS: dict[str, tuple[tuple[Callable[[AddressSpace], None], ...], Callable[[AddressSpace], Journey]]] = {
    "raise vector": ((_enable,), _raise),
    "raise vector, RAM put there": ((_ram, _enable), _raise),
    "raise vector, RAM put later": ((_enable, _ram), _raise),
    "DMA to RAM put there": ((_ram,), _dma),
    "another's message": ((), _forge),
}


def carry_out(machine: str, kernel: str, experiment: str) -> Result:
    """Carry one experiment out on a fresh host. ValueError names the machines and experiments there are."""
    if machine not in MACHINES or experiment not in EXPERIMENTS:
        raise ValueError(f"{machine!r}, {experiment!r}: machines are {', '.join(MACHINES)}; experiments are {', '.join(EXPERIMENTS)}")
    space = MACHINES[machine].host(kernel).address_space()
    try:
        space.attach(DEVICE)
        before, request = EXPERIMENTS[experiment]
        for step in before:
            step(space)
        trip = request(space)
    except VfioError as error:
        call = "attach" if not space.groups else "MAP"
        return Result(machine, kernel, experiment, "refused", f"{call}: {error}", refusal_rests(space.host, error))
    except NotModelledError as error:
        return Result(machine, kernel, experiment, "unknown", str(error), "inference")
    rests = next((kind for kind in ("inference", "reading") if any(step.rests == kind for step in trip.steps)), "")
    return Result(machine, kernel, experiment, trip.outcome, trip.why, rests, trip)


def _wanted(machine: str | None, kernel: str | None) -> Iterable[tuple[str, str, str]]:
    for name, kind in MACHINES.items():
        for version in KERNELS if kernel is None else (kernel,):
            known = parse_version(version) >= parse_version(kind.since)
            if known and machine in (None, name):
                yield from ((name, version, experiment) for experiment in EXPERIMENTS)


def outcomes(machine: str | None = None, kernel: str | None = None) -> Table:
    """Return what each experiment came to, on one kind of machine or all, on one kernel or 4.4, 4.11 and 7.3."""
    if machine is not None and machine not in MACHINES:
        raise ValueError(f"no kind of machine is called {machine!r}; there are: {', '.join(MACHINES)}")
    results = [carry_out(*names) for names in _wanted(machine, kernel)]
    rows = [(MACHINES[r.machine].words, r.kernel, r.experiment, r.outcome, r.why, r.rests or "rules, recordings") for r in results]
    return Table(["machine", "Linux", "experiment", "outcome", "why", "rests on"], rows)


def summary() -> Table:
    """Return a row for each kind of machine and a column for each outcome: which experiments on which kernels came to it.

    A `?` marks what rests on reading or inference, so that no recording shows it.
    """
    found: dict[tuple[str, str], dict[str, list[str]]] = {}
    for names in _wanted(None, None):
        result = carry_out(*names)
        cell = found.setdefault((result.machine, result.outcome), {})
        cell.setdefault(result.experiment, []).append(result.kernel + ("?" if result.rests else ""))
    columns = [*OUTCOMES, "unknown"]
    used = [column for column in columns if any(outcome == column for _, outcome in found)]
    rows = [[kind.words, *(_cell(found.get((name, outcome), {})) for outcome in used)] for name, kind in MACHINES.items()]
    return Table(["machine", *used], rows)


def _cell(experiments: dict[str, list[str]]) -> str:
    return "; ".join(f"{experiment} ({', '.join(kernels)})" for experiment, kernels in experiments.items()) or "never"
