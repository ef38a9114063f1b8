"""Short words for tests of the model: machines of a few lines, and the steps of a user of VFIO."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
from model_world import machines, smmus, snapshot, with_params

from vfiolab.model.errors import VfioError
from vfiolab.model.user.container import Container, Group

A, B = "0000:01:00.0", "0000:11:00.0"
PAGE = 0x1000
MIB, GIB = 1 << 20, 1 << 30
UNSAFE, LIMIT = "vfio_iommu_type1.allow_unsafe_interrupts", "vfio_iommu_type1.dma_entry_limit"


def intel(*units, **options):
    return smmus(*(units or ({"width": 48},)), kind="intel-vtd", **options)


def amd(*units, **options):
    return smmus(*(units or ({},)), kind="amd-vi", **options)


def arm(*units, **options):
    return smmus(*(units or ({},)), **options)


def group(host, device: str, container: Container | None = None) -> Group:
    """Open a device's group, and put it into a container if one is given."""
    opened = host.process.open_group(device)
    if container is not None:
        opened.set_container(container)
    return opened


def container(host, *devices: str, kind: int = 3) -> Container:
    """Open a container, put the devices' groups in, choose the backend."""
    opened = host.process.open_container()
    for device in devices:
        group(host, device, opened)
    opened.set_iommu(kind)
    return opened


def vaddr(host) -> int:
    return host.machine.arena.base


def fill(host, opened: Container, iova: int, size: int, flags: int = 3, **more) -> None:
    """Map memory that is there."""
    opened.map_dma(iova, size, vaddr(host), flags, **more)


@contextmanager
def refused(name: str, host=None):
    """Expect a refusal with this errno; if a host is given, nothing on it may have changed."""
    before = snapshot(host) if host is not None else None
    with pytest.raises(VfioError) as caught:
        yield caught
    assert name == caught.value.name
    assert caught.value.why
    assert caught.value.source
    if host is not None:
        assert before == snapshot(host)


def mapped(opened: Container) -> list[tuple[int, int]]:
    return [(dma.iova, dma.size) for dma in opened.backend.dmas]


def ranges(opened: Container) -> list[tuple[int, int]]:
    """Return the usable iovas as GET_INFO lists them, inclusive."""
    return list(opened.get_info(4096).ranges)


__all__ = [
    "GIB",
    "LIMIT",
    "MIB",
    "PAGE",
    "UNSAFE",
    "A",
    "B",
    "amd",
    "arm",
    "container",
    "fill",
    "group",
    "intel",
    "machines",
    "mapped",
    "ranges",
    "refused",
    "smmus",
    "snapshot",
    "vaddr",
    "with_params",
]  # fmt: skip
