"""Refusals: what a verb can answer instead of a result, which check said so, and what to try.

The numbers are Linux's own (generic architectures), so an error means the same on every host that runs this package.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from vfiolab.model.address import Span

ERRNO = {
    "EPERM": 1, "ENOENT": 2, "ESRCH": 3, "EIO": 5, "ENXIO": 6, "E2BIG": 7, "EBADF": 9, "EAGAIN": 11, "ENOMEM": 12, "EACCES": 13,
    "EFAULT": 14, "EBUSY": 16, "EEXIST": 17, "EXDEV": 18, "ENODEV": 19, "EINVAL": 22, "EMFILE": 24, "ENOTTY": 25,
    "ENOSPC": 28, "ERANGE": 34, "EOVERFLOW": 75, "EBADFD": 77, "EMSGSIZE": 90, "EOPNOTSUPP": 95, "EADDRINUSE": 98,
}  # fmt: skip
NAMES = {number: name for name, number in ERRNO.items()}
STRERROR = {
    "EPERM": "Operation not permitted", "ENOENT": "No such file or directory", "ESRCH": "No such process", "EIO": "Input/output error",
    "ENXIO": "No such device or address", "E2BIG": "Argument list too long", "EBADF": "Bad file descriptor",
    "EAGAIN": "Resource temporarily unavailable", "ENOMEM": "Cannot allocate memory", "EACCES": "Permission denied",
    "EFAULT": "Bad address", "EBUSY": "Device or resource busy", "EEXIST": "File exists", "EXDEV": "Invalid cross-device link",
    "ENODEV": "No such device", "EINVAL": "Invalid argument", "EMFILE": "Too many open files",
    "ENOTTY": "Inappropriate ioctl for device", "ENOSPC": "No space left on device", "ERANGE": "Numerical result out of range",
    "EOVERFLOW": "Value too large for defined data type", "EBADFD": "File descriptor in bad state",
    "EMSGSIZE": "Message too long", "EOPNOTSUPP": "Operation not supported", "EADDRINUSE": "Address already in use",
}  # fmt: skip


class Obstacle(NamedTuple):
    """What a refused call ran into: iovas `span` (half-open).

    `kind`: mapping, doorbell, outside (of the aperture), or a reserved region's kind: direct, reserved, msi, sw-msi. `domain` is the number
    of the domain that brings it, None for a mapping, which is the container's.
    """

    kind: str
    span: Span
    domain: int | None = None


class Refusal(Exception):  # noqa: N818 - the kernel's own word for it is no error of ours
    """What a verb of the model can answer instead of a result; its kinds are below.

    `either`: the answers among which something decides that the model does not know, such as how contiguous the memory is.
    """

    __module__ = "vfiolab"  # the name that a traceback shows

    either: tuple[str, ...] = ()


class VfioError(Refusal, OSError):
    """What the kernel answers when it refuses: an `OSError` with Linux's errno, and the reason.

    `name` is the errno's name, `why` one sentence with the offending number and the limit it broke, `source` the kernel function,
    `fix` what to try, `checks` every check of the call in order, as `(text, "passed" | "failed" | "not reached")`, `obstacles` what the
    call ran into. A refused attach has the group and the domain that was made for it in `tried`.

    >>> import vfiolab as vl
    >>> error = vl.VfioError("EINVAL", "size 0 maps nothing", "vfio_dma_do_map (vfio_iommu_type1.c)", "give a size")
    >>> error.errno, str(error)
    (22, 'EINVAL: size 0 maps nothing')
    """

    __module__ = "vfiolab"

    def __init__(
        self, name: str, why: str, source: str, fix: str = "", checks: Sequence[tuple[str, str]] = (), obstacles: Sequence[Obstacle] = ()
    ) -> None:
        super().__init__(ERRNO[name], STRERROR[name])
        self.name, self.why, self.source, self.fix = name, why, source, fix
        self.checks, self.obstacles = tuple(checks), tuple(obstacles)
        self.tried: tuple[Any, Any] | None = None

    def __str__(self) -> str:
        return f"{self.name}: {self.why}"

    def __repr__(self) -> str:
        return f"VfioError({self.name!r}, {self.why!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return VfioError, (self.name, self.why, self.source, self.fix, self.checks, self.obstacles)

    @property
    def failed(self) -> str:
        """The text of the check that did not hold, "" where no check was asked."""
        return next((text for text, state in self.checks if state == "failed"), "")

    def as_errno(self, name: str) -> VfioError:
        """Return the same refusal with another errno: what a caller in between makes of it."""
        return VfioError(name, self.why, self.source, self.fix, self.checks, self.obstacles)

    def explain(self) -> str:
        """Return the whole case as text: the rule, the kernel function, the way out, and every check in order."""
        lines = [f"{self.name} ({STRERROR[self.name]})", f"  why:    {self.why}", f"  source: {self.source}"]
        if self.fix:
            lines.append(f"  fix:    {self.fix}")
        if self.checks:
            lines.append("  checks, in the kernel's order:")
            marks = {"passed": ("✓", ""), "failed": ("✗", " (does not hold)"), "not reached": ("·", " (not reached)")}
            lines += [f"    {marks[state][0]} {text}{marks[state][1]}" for text, state in self.checks]
        return "\n".join(lines)


class KernelCrashError(Refusal):
    """The real kernel of this version dies here (a recorded BUG); the model says so instead of answering."""

    __module__ = "vfiolab"


class WouldBlockError(Refusal):
    """The real kernel of this version never returns from this call; the model says so instead of answering."""

    __module__ = "vfiolab"


class NotModelledError(Refusal):
    """The kernel's answer here is not known: no trace shows it and C leaves it undefined."""

    __module__ = "vfiolab"
