"""How long readers take for what nobody means well, and for large hosts: in proportion to the input."""

from __future__ import annotations

import gc
from contextlib import suppress
from time import process_time

import pytest
from hostile import HOSTILE, many_devices

import vfiolab as vl
from vfiolab.readers.errors import InputError
from vfiolab.readers.lspci import read_lspci
from vfiolab.readers.pcifile import read_pci_text

pytestmark = pytest.mark.bench

BAR = 1.6  # exponent: 1 is in proportion, 2 is quadratic; caches take their part of large inputs


def reading(read, text):
    """Return an action: read the text; it gives its CPU seconds, without the garbage collector's, which grow with all that lives."""

    def act():
        gc.disable()
        start = process_time()
        with suppress(InputError):
            read(text)
        seconds = process_time() - start
        gc.enable()
        return seconds

    return act


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_input_takes_time_in_proportion(beside, name):
    small, large = (reading(lambda text: read_pci_text(text, source="hostile"), HOSTILE[name](size)) for size in (1, 8))
    beside(f"{name}, 8 times as much", large, "once", small, within=8**BAR, rounds=3)


def test_a_listing_of_many_devices_is_read_in_proportion(beside):
    small, large = (reading(read_lspci, many_devices(segments)) for segments in (1, 4))
    beside("a listing of 32,768 devices", large, "8,192", small, within=4**BAR, rounds=3)


def long_capture(kind, lines):
    """Return a capture of so many lines, two of five of them calls: maps and unmaps of pages far apart."""
    begin, call = {
        "qemu": (
            "",
            "7@1.5:vfio_listener_region_add_ram region_add [ram] {0:#x} - {1:#x} [0x7f0000000000]\n"
            "7@1.5:vfio_listener_region_del region_del {0:#x} - {1:#x}\n" + 3 * "7@1.5:kvm_run_exit cpu_index 0, reason 2\n",
        ),
        "strace": (
            (
                'openat(AT_FDCWD, "/dev/vfio/vfio", O_RDWR) = 12\nopenat(AT_FDCWD, "/dev/vfio/26", O_RDWR) = 13\n'
                "ioctl(13, VFIO_GROUP_SET_CONTAINER, [12]) = 0\nioctl(12, VFIO_SET_IOMMU, 0x3) = 0\n"
            ),
            "ioctl(12, VFIO_IOMMU_MAP_DMA, {{argsz=32, flags=READ, vaddr=0x7f0000000000, iova={0:#x}, size=0x1000}}) = 0\n"
            "ioctl(12, VFIO_IOMMU_UNMAP_DMA, {{argsz=24, flags=0, iova={0:#x}, size=0x1000}}) = 0\n"
            + 3
            * "futex(0x7f12, FUTEX_WAKE, 1) = 0\n",
        ),
    }[kind]
    return begin + "".join(call.format(n << 13, (n << 13) + 0xFFF) for n in range(lines // 5))


@pytest.mark.parametrize("kind", ["qemu", "strace"])
def test_a_capture_of_100000_lines_takes_10_times_of_10000(beside, kind):
    host = vl.load("two-smmu-server", kernel="4.19")
    small, large = (
        reading(lambda text: vl.open_capture(text).run(host).first_refused, long_capture(kind, lines)) for lines in (10_000, 100_000)
    )
    measured = beside(f"{kind}: 100,000 lines read and run", large, "10,000", small, within=10**1.25, rounds=2)
    assert measured.seconds < 30
