"""The files that a program sees: /sys and /dev/vfio of a modelled host, as a folder of ordinary files, links and empty nodes."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from vfiolab.model.errors import VfioError
from vfiolab.model.machine import Host
from vfiolab.model.pci.bars import bars_of
from vfiolab.model.pci.config import config_space
from vfiolab.model.pci.topology import Function, normal_bdf

GROUPS, CONTAINER = "/dev/vfio/", "/dev/vfio/vfio"
#: What is the modelled host's; every other path is this machine's own.
PREFIXES = (
    "/sys/bus/pci", "/sys/devices/pci", "/sys/kernel/iommu_groups", "/sys/class/iommu", "/sys/class/vfio", "/sys/class/vfio-dev",
    "/sys/bus/mdev", "/sys/module/vfio", "/dev/vfio", "/dev/iommu",
)  # fmt: skip
RESOURCES, MEMORY = 13, 0x0004_0200  # lines of a `resource` file; IORESOURCE_MEM | SIZEALIGN
WRITTEN_ONCE = ("bind", "unbind", "new_id", "remove_id", "remove", "rescan", "drivers_probe")


class Tree:
    """Writes the files of a host, keeps them as the host is, and carries out what a program writes into them.

    `watch` is told each file that a program may write into. `overrides` and `ids`: what was written to driver_override and new_id.
    """

    def __init__(self, host: Host, watch: Callable[[Path], None]) -> None:
        self.host, self._watch = host, watch
        shared = Path("/dev/shm")  # noqa: S108 - hundreds of small files: faster in memory, where there is such a place
        self.root = Path(tempfile.mkdtemp(prefix="vfiolab-run-", dir=shared if os.access(shared, os.W_OK) else None))
        self._links: dict[str, str] = {}
        self._nodes: set[str] = set()
        self.overrides: dict[str, str] = {}
        self.ids: dict[str, set[str]] = {}
        self._places = {function.bdf: self._place(function) for function in host.topology.values()}
        for function in host.topology.values():
            self._device(function)
        for driver in sorted(host.drivers.loaded):
            for name in ("bind", "unbind", "new_id", "remove_id"):
                self._writable(f"sys/bus/pci/drivers/{driver}/{name}", "")
        for name in ("drivers_probe", "rescan"):
            self._writable(f"sys/bus/pci/{name}", "")
        for module in ("vfio", "vfio_pci", "vfio_iommu_type1"):
            (self.root / "sys/module" / module / "parameters").mkdir(parents=True)
        for parameter, value in host.params.items():
            module, _, name = parameter.rpartition(".")
            self._writable(f"sys/module/{module}/parameters/{name}", f"{value}\n")
        for unit in host.units:
            for bdf in filter(self._places.__contains__, sorted(unit.devices)):
                self._link(f"sys/class/iommu/{unit.name}/devices/{bdf}", self._places[bdf])
        cdevs = ("dev/vfio/devices", "sys/class/vfio-dev") if host.has_cdevs else ()
        for folder in ("dev/vfio", "sys/kernel/iommu_groups", "sys/bus/pci/devices", *cdevs):
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        if host.has_iommufd:
            (self.root / "dev/iommu").touch()
        self.refresh()

    def remove(self) -> None:
        """Take the folder away."""
        shutil.rmtree(self.root, ignore_errors=True)

    def inside(self, path: str) -> str | None:
        """Return the file that stands for an absolute path; None for a path that is not the modelled host's."""
        if not path.startswith(("/sys/", "/dev/", "//")) and "/.." not in path and "/./" not in path:
            return None
        path = "/" + os.path.normpath(path).lstrip("/")
        return str(self.root / path[1:]) if path.startswith(PREFIXES) else None

    # what is there

    def _place(self, function: Function) -> str:
        """Return where sysfs has the device: below its bridges, from the root bus on; behind VMD below that device."""
        topology = self.host.topology
        steps = [function.bdf, *(bridge.bdf for bridge in topology.path(function.bdf))]
        root = f"pci{steps[-1][:-5]}"
        if function.real_dma is not None and function.real_dma in topology:
            return "/".join([self._place(topology[function.real_dma]), root, *reversed(steps)])
        return "/".join(["sys/devices", root, *reversed(steps)])

    def _device(self, function: Function) -> None:
        place, bars = self._places[function.bdf], bars_of(function, self.host.bars.get(function.bdf, ()))
        space = config_space(function, bars)
        number = space[2:4][::-1].hex()
        lines = [f"{bar.start:#018x} {bar.start + bar.size - 1:#018x} {MEMORY:#018x}\n" if bar.size else _NO_RESOURCE for bar in bars]
        texts = {
            "vendor": f"0x{space[0:2][::-1].hex()}\n", "device": f"0x{number}\n", "class": f"0x{space[9:12][::-1].hex()}\n",
            "subsystem_vendor": "0x0000\n", "subsystem_device": "0x0000\n", "revision": "0x00\n", "irq": "0\n", "numa_node": "-1\n",
            "enable": "1\n", "resource": "".join([*lines, *[_NO_RESOURCE] * (RESOURCES - len(lines))]),
            "modalias": f"pci:v0000{space[0:2][::-1].hex().upper()}d0000{number.upper()}\n",
            "uevent": f"PCI_CLASS={function.class_code or 0:X}\nPCI_ID={space[0:2][::-1].hex().upper()}:{number.upper()}\n"
            f"PCI_SLOT_NAME={function.bdf}\n",
        }  # fmt: skip
        if function.sriov_totalvfs:
            texts |= {"sriov_totalvfs": f"{function.sriov_totalvfs}\n", "sriov_numvfs": f"{function.sriov_numvfs}\n"}
        folder = self.root / place
        folder.mkdir(parents=True, exist_ok=True)
        for name, words in texts.items():
            (folder / name).write_text(words, encoding="ascii")
        (folder / "config").write_bytes(space)
        self._writable(f"{place}/driver_override", "(null)\n")
        self._writable(f"{place}/remove", "")
        self._link(f"{place}/subsystem", "sys/bus/pci")
        if function.physfn is not None:
            self._link(f"{place}/physfn", self._places[function.physfn])

    def _writable(self, name: str, words: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(words, encoding="ascii")
        self._watch(path)

    def _link(self, name: str, target: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(os.path.relpath(target, Path(name).parent))

    def refresh(self) -> None:
        """Let drivers, groups and nodes be as the host has them now."""
        links, nodes = dict(self._present()), {"vfio", *map(str, self.host.drivers.groups)}
        nodes |= {f"noiommu-{group.id}" for group in self.host.drivers.noiommu.values()}
        own = {bdf: f"vfio{number}" for bdf, number in self.host.drivers.nodes.items()} if self.host.has_cdevs else {}
        nodes |= {f"devices/{node}" for node in own.values()}
        links |= {f"{self._places[bdf]}/vfio-dev/{node}": "sys/class/vfio-dev" for bdf, node in own.items() if bdf in self._places}
        for name, _ in self._links.items() - links.items():
            (self.root / name).unlink()
        for name, target in links.items() - self._links.items():
            self._link(name, target)
        for node in self._nodes - nodes:
            (self.root / "dev/vfio" / node).unlink()
        for node in nodes - self._nodes:
            (self.root / "dev/vfio" / node).touch()
        self._links, self._nodes = links, nodes
        for group in self.host.groups if self.host.kernel.has("reserved_regions") else ():
            regions = self.root / f"sys/kernel/iommu_groups/{group.id}/reserved_regions"
            if not regions.exists() and regions.parent.exists():
                words = [(region.span, "msi" if region.kind == "sw-msi" else region.kind) for region in group.reserved]
                regions.write_text("".join(f"{span.start:#018x} {span.last:#018x} {word}\n" for span, word in words), encoding="ascii")

    def _present(self) -> Iterator[tuple[str, str]]:
        """Yield each link that is there now: its name, and the file that it leads to."""
        drivers = self.host.drivers
        for bdf, place in self._places.items():
            if bdf not in drivers:
                continue
            yield f"sys/bus/pci/devices/{bdf}", place
            driver = drivers.driver_of(bdf)
            if driver is not None:
                yield f"{place}/driver", f"sys/bus/pci/drivers/{driver}"
                yield f"sys/bus/pci/drivers/{driver}/{bdf}", place
            group = self.host.group_of(bdf) or (drivers.noiommu[bdf].group if bdf in drivers.noiommu else None)
            if group is not None:
                yield f"{place}/iommu_group", f"sys/kernel/iommu_groups/{group.id}"
                yield f"sys/kernel/iommu_groups/{group.id}/devices/{bdf}", place

    # what is written

    def written(self, path: Path) -> None:
        """Carry out what was written into a file. The refusal is raised; ValueError for what no kernel reads there."""
        words = path.read_text(encoding="utf-8", errors="replace").strip("\0 \n")
        if path.name in WRITTEN_ONCE and path.stat().st_size:
            os.truncate(path, 0)  # which is a write, too: of nothing
        if not words:
            return
        name = path.relative_to(self.root).parts
        if name[1] == "module":
            self.host.set_param(f"{name[2]}.{name[4]}", words)
        elif path.name == "driver_override":
            self.overrides[name[-2]] = words
        elif path.name == "new_id":
            self.ids.setdefault(name[-2], set()).add(":".join(words.lower().split()[:2]))
            self._probe(lambda bdf: self.host.drivers.driver_of(bdf) is None and self._matches(bdf, name[-2]), name[-2])
        elif path.name == "rescan":
            self.host.process.rescan()
        elif path.name == "remove":
            self.host.process.remove(name[-2])
        elif path.name in ("bind", "unbind", "drivers_probe"):
            self._driver(path.name, normal_bdf(words), name[-2])
        self.refresh()

    def _driver(self, verb: str, bdf: str, driver: str) -> None:
        present = self.host.drivers.driver_of(bdf)
        if verb == "unbind":
            if present != driver:
                raise VfioError("ENODEV", f"{bdf} is on {present or 'no driver'}, not on {driver}", "unbind_store, drivers/base/bus.c")
            self.host.unbind(bdf)
        elif verb == "bind":
            if present is not None or not self._matches(bdf, driver):
                why = f"{bdf} is on {present}" if present else f"{driver} does not match {bdf}"
                raise VfioError("ENODEV", why, "bind_store, drivers/base/bus.c", "unbind it, and write the driver to its driver_override")
            self.host.bind(bdf, driver)
        elif present is None:
            override = self.overrides.get(bdf) or self.host.topology[bdf].driver
            if override in self.host.drivers.loaded:
                self.host.bind(bdf, override)

    def _matches(self, bdf: str, driver: str) -> bool:
        """Say whether a driver takes a device: its driver_override, else an id that was added, else the driver that it had at boot."""
        function = self.host.topology[bdf]
        if self.overrides.get(bdf):
            return self.overrides[bdf] == driver
        number = f"{function.vendor or 0:04x}:{function.device or 0:04x}"
        return number in self.ids.get(driver, ()) or function.driver == driver

    def _probe(self, wanted: Callable[[str], bool], driver: str) -> None:
        for bdf in filter(wanted, self._places):
            self.host.bind(bdf, driver)


_NO_RESOURCE = f"{0:#018x} {0:#018x} {0:#018x}\n"
