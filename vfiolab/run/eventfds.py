"""Eventfds that a program gave its devices: descriptors of ours, signalled when the model raises an interrupt."""

from __future__ import annotations

import os

from vfiolab.model.irq.msi import DATA_BOOL, DATA_EVENTFD, TRIGGER
from vfiolab.model.machine import Host
from vfiolab.model.uapi.requests import IrqSet
from vfiolab.model.user.descriptor import UserStruct
from vfiolab.model.user.device import Device
from vfiolab.run.seccomp import syscall


class Eventfds:
    """The eventfds of a run, by device, interrupt type and vector."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._kept: dict[tuple[str, int, int], int] = {}

    def close(self) -> None:
        """Let go of all."""
        for fd in self._kept.values():
            os.close(fd)

    def signal(self, device: str, index: int, vector: int) -> None:
        """Signal a vector's eventfd, if it has one."""
        if (fd := self._kept.get((device, index, vector))) is not None:
            os.eventfd_write(fd, 1)

    def given(self, device: Device, data: UserStruct, fds: list[int], value: int) -> None:
        """Keep the eventfds that a device was given, and signal those that the program triggers itself."""
        head = IrqSet.unpack(data) if len(data) >= IrqSet.FORMAT.size else IrqSet()
        for vector, fd in enumerate(fds, head.start):
            key = device.name, head.index, vector
            if value >= 0 and head.flags & TRIGGER:
                self._drop(key)
                if fd >= 0:
                    self._kept[key] = fd
            elif fd >= 0:
                os.close(fd)
        if value >= 0 and head.flags & TRIGGER and not head.flags & DATA_EVENTFD:
            chosen = data[IrqSet.FORMAT.size :] if head.flags & DATA_BOOL else b"\1" * head.count
            for vector, wanted in enumerate(chosen, head.start):
                if wanted:
                    self.signal(device.name, head.index, vector)
        self.prune()

    def prune(self) -> None:
        """Let go of eventfds that no device has any more."""
        for device, index, vector in list(self._kept):
            state = self.host.drivers.states.get(device)
            irqs = state.irqs if state is not None else None
            if irqs is None or not (index in irqs.singles or (irqs.index == index and vector in irqs.signals)):
                self._drop((device, index, vector))

    def _drop(self, key: tuple[str, int, int]) -> None:
        if key in self._kept:
            os.close(self._kept.pop(key))


def taken(handle: int, fd: int) -> int:
    """Return a descriptor of ours for an eventfd of the process that a pidfd stands for; -1 if it is none, or closed."""
    ours = syscall("pidfd_getfd", handle, fd, 0)
    if ours >= 0 and os.readlink(f"/proc/self/fd/{ours}") != "anon_inode:[eventfd]":  # noqa: PTH115 - a file of a moment
        os.close(ours)
        return -1
    return max(ours, -1)
