"""`Descriptor`: what descriptors of containers, groups, devices and iommufds have in common, and how an ioctl is called by its number.

`UserStruct` is the bytes that a running program's pointer leads to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from vfiolab.model.checks import table
from vfiolab.model.events import Call
from vfiolab.model.uapi.ioctls import IOCTLS, NUMBERS, Ioctl
from vfiolab.model.uapi.requests import Struct, field
from vfiolab.model.user.checks import IOCTL_CHECKS, Command
from vfiolab.model.user.files import OpenFile

if TYPE_CHECKING:
    from vfiolab.model.user.process_calls import UserProcess


class Descriptor:
    """A number in one process's table of open files, and the calls that this process makes by it."""

    def __init__(self, process: UserProcess, file: OpenFile | None = None) -> None:
        self.process = process
        self.file = OpenFile() if file is None else file
        self.fd = process.install(self)

    @property
    def fd(self) -> int:
        """The number."""
        return self._fd

    @fd.setter
    def fd(self, number: int) -> None:
        self._fd, self._word = number, f"fd{number}"

    def inherited(self, process: UserProcess) -> Descriptor:
        """Return another process's descriptor of the same open file, with the same number; the caller puts it into that process's table."""
        twin = copy(self)
        twin.process = process
        self.file.references += 1
        return twin

    @property
    def is_open(self) -> bool:
        """Whether the user still holds the descriptor."""
        return self.process.descriptors.get(self.fd) is self

    def _need_open(self) -> None:
        process = self.process
        if process.write is not None or process.stuck:
            process.need_awake()
        if process.descriptors.get(self.fd) is not self:
            process.refuse_descriptor(self.fd)

    def _brings(self, verb: str, request: Struct) -> Call:
        """Record a call that brings a struct, for the length of a `with` block: the log keeps the struct itself."""
        process = self.process
        if process.descriptors.get(self._fd) is not self or process.write is not None or process.stuck:
            self._need_open()
        return Call(verb, self._word, request, process.name, process.log)

    KIND: ClassVar[str]

    @property
    def opened_as(self) -> str:
        """The kind of node that was opened, as a trace's words have it."""
        return self.KIND

    #: What each ioctl of this kind does with its argument: the number, or the bytes that its pointer leads to.
    carried_out: ClassVar[Mapping[str, Callable[[Any, Any], int | None]]] = MappingProxyType({})

    def ioctl(self, cmd: int, arg: int | bytearray = 0) -> int:
        """Call by number, as a C program does. `arg` is a number, or the bytes that its pointer leads to: what comes back is put into them.

        What follows a struct lies behind it in `arg`; a dirty bitmap goes to its own address. A number where a pointer is needed leads nowhere
        (EFAULT, where the call comes as far as reading it). ENOTTY for what this kind does not have; on VFIO's own container EINVAL before SET_IOMMU.

        >>> from vfiolab.model.builder import MachineBuilder
        >>> container = MachineBuilder("demo").host("6.12").process.open_container()
        >>> container.ioctl(0x3B65, 3), container.ioctl(0x3B64)
        (1, 0)
        """
        self._need_open()
        cmd = field("cmd", cmd)
        row = IOCTLS[self.KIND].get(cmd)
        if row is None or not self._has(row):
            number = 0 if isinstance(arg, bytearray) else field("arg", arg)
            with self.process.call("raw_ioctl", f"fd{self.fd}", cmd=cmd, arg=number):
                self._unknown(cmd)
                raise AssertionError("an ioctl that nobody knows is refused")
        if row.struct:
            return self.carried_out[row.name](self, arg if isinstance(arg, bytearray) else bytearray()) or 0
        return self.carried_out[row.name](self, field("arg", arg)) or 0

    def _has(self, row: Ioctl) -> bool:  # noqa: ARG002 - most kinds have all of theirs on every kernel
        """Say whether this kernel has an ioctl of the kind."""
        return True

    def _needs(self, name: str, data: bytearray, size: int, what: str) -> None:
        """Refuse fewer bytes than an ioctl's pointer should lead to."""
        if len(data) < size:
            with self.process.call("raw_ioctl", f"fd{self.fd}", cmd=NUMBERS[name], arg=0):
                table(IOCTL_CHECKS, self.process.system.kernel).run(Command(NUMBERS[name], self.KIND, what))

    def _unknown(self, cmd: int, what: str = "") -> None:
        """Refuse an ioctl that this kind does not have, or one whose pointer to `what` cannot be read."""
        table(IOCTL_CHECKS, self.process.system.kernel).run(Command(cmd, self.KIND, what))

    def close(self) -> None:
        """Close the descriptor; the file behind it goes with its last reference."""
        self._need_open()
        with self.process.call(f"close_{self.opened_as}", f"fd{self.fd}"):
            self.process.close(self.fd)


class UserStruct(bytearray):
    """The bytes that a pointer of a running program leads to.

    `writable`: whether an answer can be put there; `answered`: how many bytes from the start hold the answer.
    """

    writable = True
    answered = 0


def put(data: bytearray, new: bytes) -> None:
    """Write what comes back over the bytes of the user's struct, as far as they reach."""
    kept = new[: len(data)]
    data[: len(kept)] = kept
    if isinstance(data, UserStruct):
        data.answered = max(data.answered, len(kept))
