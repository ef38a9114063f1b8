"""A driver in user space for vfiolab-edu, a toy device of vfiolab (no real hardware, and not QEMU's edu). It knows nothing of vfiolab.

vfiolab run --machine intel-vtd-39bit --edu 01:00.0 -- python driver.py 0000:01:00.0 [--broken]
"""

import ctypes
import fcntl
import mmap
import os
import struct
import sys

SET_IOMMU, GET_DEVICE_FD, SET_CONTAINER = 0x3B66, 0x3B6A, 0x3B68  # include/uapi/linux/vfio.h
GET_REGION_INFO, SET_IRQS, MAP_DMA = 0x3B6C, 0x3B6E, 0x3B71
ADDRESS, STATUS, BUFFER = 0x008, 0x018, 0x400  # the device's registers in BAR 0; LENGTH and COMMAND follow ADDRESS
READ, WRITE, INTERRUPT = 1, 2, 4
IOVA, SIZE = 0x10_0000, 4096
broken, device_name = "--broken" in sys.argv, next(word for word in sys.argv[1:] if ":" in word)

# A container with the device's group in it, and the device
container = os.open("/dev/vfio/vfio", os.O_RDWR)
number = os.path.basename(os.readlink(f"/sys/bus/pci/devices/{device_name}/iommu_group"))
group = os.open(f"/dev/vfio/{number}", os.O_RDWR)
fcntl.ioctl(group, SET_CONTAINER, struct.pack("i", container))
fcntl.ioctl(container, SET_IOMMU, 3)  # VFIO_TYPE1v2_IOMMU
device = fcntl.ioctl(group, GET_DEVICE_FD, bytearray(device_name.encode() + b"\0"))

# Where its registers and its configuration space are in the descriptor; let it send requests: bus master, memory space
bar, config = (
    struct.unpack("IIIIQQ", fcntl.ioctl(device, GET_REGION_INFO, struct.pack("IIIIQQ", 32, 0, index, 0, 0, 0)))[5] for index in (0, 7)
)
os.pwrite(device, struct.pack("<H", 0x06), config + 4)

# A page for the device, and an eventfd for its interrupt (MSI, vector 0)
page = mmap.mmap(-1, SIZE)
address = ctypes.addressof(ctypes.c_char.from_buffer(page))
fcntl.ioctl(container, MAP_DMA, struct.pack("IIQQQ", 32, 3, address, IOVA, SIZE))
event = os.eventfd(0)
fcntl.ioctl(device, SET_IRQS, struct.pack("IIIIIi", 24, 0x24, 1, 0, 1, event))


def dma(command, iova, length):
    """Let the device read or write at an iova, and wait for its interrupt."""
    os.pwrite(device, struct.pack("<QII", iova, length, command | INTERRUPT), bar + ADDRESS)
    os.eventfd_read(event)
    status = struct.unpack("<I", os.pread(device, 4, bar + STATUS))[0]
    print("fault" if status & 2 else "done", f"at iova {iova:#x}", flush=True)
    return not status & 2


page[:5] = b"hello"
if not dma(READ, IOVA + SIZE if broken else IOVA, 5):  # what lies behind the page was never mapped
    sys.exit(1)
os.pwrite(device, os.pread(device, 5, bar + BUFFER).upper(), bar + BUFFER)
dma(WRITE, IOVA + 16, 5)
print("the page holds", page[:5], "and", page[16:21])
