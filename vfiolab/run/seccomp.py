"""Catch a program's system calls by seccomp user notification (Linux 5.9+): no root, no compiler, no ptrace.

The program gets a filter before it starts. What the filter picks is held until `Listener.answer` says what the program sees.
Numbers and layouts are those of include/uapi/linux/seccomp.h and of the system call tables.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import platform
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple


class NotPossibleError(Exception):
    """Programs cannot be run here: the system has no seccomp notification, or refuses it."""


class Syscalls(NamedTuple):
    """An architecture: its number in a filter, and those of its system calls that matter here."""

    audit: int
    numbers: dict[str, int]


_X86_64 = Syscalls(0xC000_003E, {
    "open": 2, "stat": 4, "lstat": 6, "ioctl": 16, "pwrite64": 18, "access": 21, "readlink": 89, "openat": 257, "newfstatat": 262,
    "readlinkat": 267, "faccessat": 269, "statx": 332, "openat2": 437, "faccessat2": 439,
    "process_vm_readv": 310, "process_vm_writev": 311, "seccomp": 317, "pidfd_open": 434, "pidfd_getfd": 438,
})  # fmt: skip
#: Never tried: nobody ran a program on this architecture.
_AARCH64 = Syscalls(0xC000_00B7, {
    "ioctl": 29, "faccessat": 48, "openat": 56, "pwrite64": 68, "readlinkat": 78, "newfstatat": 79, "statx": 291, "openat2": 437,
    "faccessat2": 439,
    "process_vm_readv": 270, "process_vm_writev": 271, "seccomp": 277, "pidfd_open": 434, "pidfd_getfd": 438,
})  # fmt: skip
ARCHITECTURES = {"x86_64": _X86_64, "aarch64": _AARCH64}
#: What the filter picks, beside `ioctl` and `pwrite64`: calls by path. Which argument is the path, which the buffer to be filled; its size.
BY_PATH: dict[str, tuple[int, int | None, int]] = {
    "open": (0, None, 0), "stat": (0, 1, 144), "lstat": (0, 1, 144), "access": (0, None, 0), "readlink": (0, 1, 4096),
    "openat": (1, None, 0), "newfstatat": (1, 2, 144), "readlinkat": (1, 2, 4096), "faccessat": (1, None, 0), "statx": (1, 4, 256),
    "openat2": (1, None, 0), "faccessat2": (1, None, 0),
}  # fmt: skip
AT_EMPTY_PATH = 0x1000
_ALLOW, _NOTIFY = 0x7FFF_0000, 0x7FC0_0000
_LOAD, _EQUAL, _GREATER_EQUAL, _ANY_BIT, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_SET_FILTER, _NEW_LISTENER = 1, 8
_NO_NEW_PRIVS, _DEATH_SIGNAL = 38, 1
_RECEIVE, _SEND, _VALID, _ADD_FD, _FLAGS = 0xC050_2100, 0xC018_2101, 0x4008_2102, 0x4018_2103, 0x4008_2104
_CONTINUE, _ADD_AND_SEND = 1, 2

_libc = ctypes.CDLL(None, use_errno=True)


def syscalls() -> Syscalls:
    """Return this machine's system calls. NotPossibleError elsewhere than on 64-bit Linux on x86 or Arm."""
    found = ARCHITECTURES.get(platform.machine()) if sys.platform == "linux" and sys.maxsize > 1 << 32 else None
    if found is None:
        raise NotPossibleError(
            f"a program's calls can be answered on 64-bit Linux on x86 (and Arm, untested), not on {sys.platform} on {platform.machine()}"
        )
    return found


def syscall(name: str, *args: object) -> int:
    """Make a system call of this process by name; return its value, or minus the errno."""
    given = [ctypes.c_long(one) if isinstance(one, int) else one for one in args]
    value = _libc.syscall(ctypes.c_long(syscalls().numbers[name]), *given)
    return -ctypes.get_errno() if value == -1 else int(value)


def _filter(calls: Syscalls, *, every_write: bool = False) -> bytes:
    """Return the program of the filter: a block for each system call that may be picked, and all others pass."""
    picked = [(_RETURN, 0, 0, _NOTIFY)]
    passed = [(_RETURN, 0, 0, _ALLOW)]
    blocks = {name: picked for name in BY_PATH if name in calls.numbers}
    for name, argument in (("newfstatat", 3), ("statx", 2)):  # fstat: a descriptor without a path
        blocks[name] = [(_LOAD, 0, 0, 16 + 8 * argument), (_ANY_BIT, 0, 1, AT_EMPTY_PATH), *passed, *picked]
    blocks["ioctl"] = [(_LOAD, 0, 0, 24), (_AND, 0, 0, 0xFFFF_FF00), (_EQUAL, 0, 1, 0x3B00), *picked, *passed]
    # config space: a write from offset 7 << 40 on, which no ordinary file has
    blocks["pwrite64"] = [(_LOAD, 0, 0, 44), (_AND, 0, 0, 0xFFFF_FF00), (_EQUAL, 0, 1, 0x700), *picked, *passed]
    if every_write:  # registers of BAR 0 begin at offset 0, as any file does
        blocks["pwrite64"] = picked
    code = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, calls.audit), *passed, (_LOAD, 0, 0, 0)]
    for name, block in blocks.items():
        code += [(_EQUAL, 0, len(block), calls.numbers[name]), *block]
    return b"".join(struct.pack("<HBBI", *one) for one in code + passed)


def _install(program: bytes) -> int:
    """Give this process, and all that it becomes, the filter; return the listener's descriptor. OSError if the kernel refuses."""
    buffer = ctypes.create_string_buffer(program, len(program))
    head = ctypes.create_string_buffer(struct.pack("<HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer)), 16)
    if _libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    listener = syscall("seccomp", _SET_FILTER, _NEW_LISTENER, ctypes.byref(head))
    if listener < 0:
        raise OSError(-listener, os.strerror(-listener))
    return listener


class Notice(NamedTuple):
    """One call that is held: `pid` is the thread that makes it, `args` are its six registers."""

    id: int
    pid: int
    number: int
    args: tuple[int, int, int, int, int, int]


class Listener:
    """Where held calls come in and answers go out."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.names = {number: name for name, number in syscalls().numbers.items()}
        with contextlib.suppress(OSError):  # 6.6+: answered on the same CPU, which is faster
            fcntl.ioctl(fd, _FLAGS, 1)

    def receive(self) -> Notice | None:
        """Return the next call; None if whoever made it is gone."""
        buffer = bytearray(80)
        try:
            fcntl.ioctl(self.fd, _RECEIVE, buffer)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINTR):
                return None
            raise
        number, pid, _, call, _, _, *args = struct.unpack("<QIIiIQ6Q", buffer)
        return Notice(number, pid, call, (args[0], args[1], args[2], args[3], args[4], args[5]))

    def alive(self, notice: Notice) -> bool:
        """Say whether who made the call still waits: only then is what was read of it its own."""
        return self._tell(_VALID, struct.pack("<Q", notice.id))

    def answer(self, notice: Notice, value: int) -> None:
        """Answer with a value; a negative one is minus an errno."""
        self._tell(_SEND, struct.pack("<QqiI", notice.id, max(value, 0), min(value, 0), 0))

    def let_pass(self, notice: Notice) -> None:
        """Let the kernel carry the call out."""
        self._tell(_SEND, struct.pack("<QqiI", notice.id, 0, 0, _CONTINUE))

    def answer_with(self, notice: Notice, fd: int, *, cloexec: bool) -> int:
        """Answer with a new descriptor of the program for our open file `fd`; return its number, or minus the errno that it met."""
        flags = os.O_CLOEXEC if cloexec else 0
        number = self._add(notice, fd, _ADD_AND_SEND, flags)
        if number == -errno.EINVAL:  # before 5.14: in two steps
            number = self._add(notice, fd, 0, flags)
            if number >= 0:
                self.answer(notice, number)
        return number

    def _add(self, notice: Notice, fd: int, how: int, flags: int) -> int:
        try:
            return int(fcntl.ioctl(self.fd, _ADD_FD, bytearray(struct.pack("<QIIII", notice.id, how, fd, 0, flags))))
        except OSError as error:
            return -(error.errno or errno.EIO)

    def _tell(self, request: int, data: bytes) -> bool:
        try:
            fcntl.ioctl(self.fd, request, data)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EINPROGRESS):
                raise
            return False
        return True


class Child:
    """The program and all that it started."""

    def __init__(self, pid: int, listener: Listener, pipe: socket.socket) -> None:
        self.pid, self.listener, self._pipe = pid, listener, pipe
        self.status: int | None = None

    def notices(self, wake: int, tick: Callable[[], bool]) -> Iterator[Notice | None]:
        """Yield each held call, and None whenever something else can be read from `wake`; ends with the last process, or as `tick` says."""
        poll = select.poll()
        poll.register(self.listener.fd, select.POLLIN)
        poll.register(wake, select.POLLIN)
        while not tick():
            ready = dict(poll.poll(200))
            if wake in ready:
                yield None
            state = ready.get(self.listener.fd, 0)
            if state & select.POLLIN:
                notice = self.listener.receive()
                if notice is not None:
                    yield notice
            elif state & (select.POLLHUP | select.POLLERR):
                return

    def not_started(self) -> int:
        """Return the errno that the program could not be started with; 0 if it runs, or ran."""
        self._pipe.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            return int(self._pipe.recv(16) or b"0")
        return 0

    def kill(self) -> None:
        """Kill the program and all that it started: its descendants, and for a second whoever makes another call that is caught."""
        for pid in _descendants(self.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        until = time.monotonic() + 1
        for notice in self.notices(self._pipe.fileno(), lambda: time.monotonic() > until):
            if notice is not None and self.listener.alive(notice):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(notice.pid, signal.SIGKILL)

    def close(self) -> None:
        """Stop listening: whoever still makes a call that is caught is told that there is no such call (ENOSYS)."""
        os.close(self.listener.fd)
        self._pipe.close()

    def wait(self) -> int:
        """Return the program's exit status; 128 and the signal for one that was killed."""
        if self.status is None:
            code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            self.status = code if code >= 0 else 128 - code
        return self.status


def _descendants(top: int) -> set[int]:
    """Return the program's process and what descends from it."""
    parents: dict[int, int] = {}
    for place in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(place.parent.name)] = int(place.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1])
    found = {top}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def start(command: Sequence[str], environment: dict[str, str] | None = None, *, every_write: bool = False) -> Child:
    """Start a program with the filter. NotPossibleError where the kernel has no such filter, or refuses it.

    `every_write`: each pwrite is held, not only those into configuration space.
    """
    program = _filter(syscalls(), every_write=every_write)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if not pid:
        _become(command, environment, program, theirs)
    theirs.close()
    try:
        message, fds, _, _ = socket.recv_fds(ours, 64, 1)
    except OSError as error:
        raise NotPossibleError(f"the program's start was cut off: {error}") from error
    if not fds:
        os.waitpid(pid, 0)
        why = os.strerror(int(message or b"0"))
        raise NotPossibleError(
            f"seccomp user notification is refused here ({why}): it needs Linux 5.9 or later, and a container that lets it through"
        )
    return Child(pid, Listener(fds[0]), ours)


def _become(command: Sequence[str], environment: dict[str, str] | None, program: bytes, pipe: socket.socket) -> None:
    """Become the program, in a fresh process; what fails goes down the pipe. Never returns."""
    try:
        try:
            listener = _install(program)
        except OSError as error:
            pipe.send(str(error.errno).encode())
            os._exit(1)
        _libc.prctl(_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)  # without who answers it could not go on
        socket.send_fds(pipe, [b"0"], [listener])
        os.close(listener)
        for number in (signal.SIGPIPE, signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        os.execvpe(command[0], list(command), os.environ if environment is None else environment)  # noqa: S606 - the user's own program
    except OSError as error:
        pipe.send(str(error.errno or errno.EIO).encode())
    finally:
        os._exit(127)
