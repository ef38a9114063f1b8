"""Random sessions: verbs of a host and of spaces, with refusals, several spaces and processes, back and forth, on several kernels."""

from __future__ import annotations

import random
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

from model_world import machines

import vfiolab as vl
from vfiolab.kit.host import boot
from vfiolab.kit.session import Session

#: A name that would end a literal, a comment, a line or an element of whatever it is written into.
NASTY = "a\"b'c\\\n*/ ??/ /* </pre><script>alert(1)</script> %s {0} \u202e \U000e0001 \x00 -> 0"
OWN = ("two smmus", "three dmars", "amd", "gicv2m", "compat", "no iommu", "direct regions", "virtio")
OF_THE_KIT = ("two-smmu-server", "intel-vtd-39bit", "one-smmu-its")
KERNELS = ("4.4", "5.4", "5.15", "6.1", "6.12")
IOVAS = (0, 0x1000, 0x4000_0000, "1G", 0x800_0000, 0xFEE0_0000, 1 << 48, "12 apples", -1, (1 << 64) - 0x1000)
SIZES = ("4K", "1M", "1G", 0x2000, 0, 0x800, "2M", 1 << 63, "-1")


class Wandering:
    """Takes random steps in a session; `pick` chooses."""

    def __init__(self, rng: random.Random, name: str = "session") -> None:
        self.rng, self.pick = rng, rng.choice
        of_the_kit = self.pick((True, False))
        kernel = self.pick(KERNELS)
        if of_the_kit:
            host = vl.load(self.pick(OF_THE_KIT), kernel=kernel)
        else:
            machine = machines()[self.pick(OWN)]
            host = boot(machine, "6.12" if machine.vfio == "iommufd-compat" else kernel)
        self.session = Session(host, name=name)
        self.devices = [*[bdf for bdf, one in host.topology.items() if not one.is_bridge][:5], "99:00.0", "nothing"]

    def step(self) -> None:
        """Take one step, in whatever direction."""
        session = self.session
        if session.dead:
            session.undo()
        if self.rng.random() < 0.08:
            self.pick((session.undo, session.redo, lambda: session.go(self.rng.randrange(len(session.steps) + 2))))()
            return
        where = self.pick([*session.spaces] * 8 + ["host"] * 3 + ["space", "space7"] * self.pick((0, 0, 1)))
        verb, *args = self.pick(self.of_the_host() if where == "host" else self.of_a_space())
        named: dict[str, Any] = args.pop() if args and isinstance(args[-1], dict) else {}
        session.do(f"{where}.{verb}", *args, **named)

    def of_the_host(self) -> list[tuple[Any, ...]]:
        """List steps that a host can take."""
        device = self.pick(self.devices)
        return [
            *[("address_space",)] * 3, ("address_space", self.pick((1, 3, 6, 99))),
            ("bind", device), ("bind", device, self.pick(("pci-stub", NASTY))),
            ("unbind", device), ("set_param", "vfio_iommu_type1.dma_entry_limit", self.pick((1, "2", "many"))), ("set_param", NASTY, NASTY),
            *self.of_a_process(),
        ]  # fmt: skip

    def of_a_process(self) -> list[tuple[Any, ...]]:
        """List steps that a process can take."""
        device = self.pick(self.devices)
        return [
            ("process.set_memlock", self.pick((None, 0, 8 << 20))), ("process.drop_capability", self.pick((14, 17, 99))),
            ("process.restore_capability",), ("process.drop_capability", 14, {"keep": False}), ("process.rescan",),
            *[("process.remove", device)] * self.pick((0, 0, 1)), *[("process.exit",)] * self.pick((0, 0, 0, 1)),
        ]  # fmt: skip

    def of_a_space(self) -> list[tuple[Any, ...]]:
        """List steps that a space can take."""
        device, iova, size = self.pick(self.devices), self.pick(IOVAS), self.pick(SIZES)
        return [
            *[("attach", device)] * 6, ("attach", *self.devices[:2]), ("detach", device), ("open", device), *[("enable_msi", device)] * 2,
            ("enable_msi", device, self.pick((1, 2, 10**9)), {"index": self.pick((1, 2, 77))}), ("raise_msi", device), ("close",),
            *[("map", iova, size)] * 5, ("map", iova, "4K", self.pick(("guest RAM", NASTY)), {"rights": self.pick(("r", "rw", "w", "x"))}),
            ("map", iova, "4K", {"vaddr": self.pick((0x2000_0000_0000, 0, "64K"))}), ("unmap", iova), ("unmap", iova, size), ("unmap_all",),
            ("dma_write", device, iova, 7), ("dma_read", device, iova), ("fork", self.pick(("P", "Q", "no name"))), ("attach", 5), ("map",),
            *self.of_a_process(),
        ]  # fmt: skip


def wandered(seed: int, steps: int = 40, name: str = "session") -> Session:
    """Return a session of random steps."""
    walk = Wandering(random.Random(seed), name)
    for _ in range(steps):
        walk.step()
    return walk.session


def carried_out(program: str) -> vl.Host:
    """Run a session's Python; return its host."""
    scope: dict[str, Any] = {}
    with redirect_stdout(StringIO()):
        exec(program, scope)
    return scope["host"]
