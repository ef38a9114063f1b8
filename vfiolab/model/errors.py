"""Refusals: what the kernel answers, which check said so, and what to try.

The numbers are Linux's own (generic architectures), so an error means the same on every host that runs this package.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from vfiolab.model.kernel import Kernel

ERRNO = {
    "EPERM": 1, "ENOENT": 2, "ESRCH": 3, "EIO": 5, "ENXIO": 6, "E2BIG": 7, "EBADF": 9, "EAGAIN": 11, "ENOMEM": 12, "EACCES": 13,
    "EFAULT": 14, "EBUSY": 16, "EEXIST": 17, "EXDEV": 18, "ENODEV": 19, "EINVAL": 22, "EMFILE": 24, "ENOTTY": 25,
    "ENOSPC": 28, "ERANGE": 34, "EOVERFLOW": 75, "EBADFD": 77, "EOPNOTSUPP": 95, "EADDRINUSE": 98,
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
    "EOPNOTSUPP": "Operation not supported", "EADDRINUSE": "Address already in use",
}  # fmt: skip


class VfioError(OSError):
    """What the kernel answers when it refuses: an `OSError` with Linux's errno, and the reason.

    `name` is the errno's name, `why` one sentence with the offending number and the limit it broke, `source` the kernel function,
    `fix` what to try, `checks` every check of the call in order, as `(text, "passed" | "failed" | "not reached")`. `either`: the answers
    among which something decides that the model does not know, such as how contiguous the memory is.

    >>> error = VfioError("EINVAL", "size 0 maps nothing", "vfio_dma_do_map (vfio_iommu_type1.c)", "give a size")
    >>> error.errno, str(error)
    (22, 'EINVAL: size 0 maps nothing')
    """

    def __init__(self, name: str, why: str, source: str, fix: str = "", checks: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(ERRNO[name], STRERROR[name])
        self.name, self.why, self.source, self.fix = name, why, source, fix
        self.checks = tuple(checks)
        self.either: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}: {self.why}"

    def __repr__(self) -> str:
        return f"VfioError({self.name!r}, {self.why!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return VfioError, (self.name, self.why, self.source, self.fix, self.checks)

    def explain(self) -> str:
        """Return the whole case as text: the rule, the kernel function, the way out, and every check in order."""
        lines = [f"{self.name} ({STRERROR[self.name]})", f"  why:    {self.why}", f"  source: {self.source}"]
        if self.fix:
            lines.append(f"  fix:    {self.fix}")
        if self.checks:
            lines.append("  checks, in the kernel's order:")
            marks = {"passed": "✓", "failed": "✗", "not reached": "·"}
            lines += [f"    {marks[state]} {text}" + (" (not reached)" if state == "not reached" else "") for text, state in self.checks]
        return "\n".join(lines)


class KernelCrashError(RuntimeError):
    """The real kernel of this version dies here (a recorded BUG); the model says so instead of answering."""

    either: tuple[str, ...] = ()


class WouldBlockError(RuntimeError):
    """The real kernel of this version never returns from this call; the model says so instead of answering."""


class NotModelledError(RuntimeError):
    """The kernel's answer here is not known: no trace shows it and C leaves it undefined."""


@dataclass(frozen=True, slots=True)
class Check:
    """One test of a kernel call.

    `text` states what must hold; `broken(request)` returns None when it holds, else one sentence with the offending number and the limit.
    `when(kernel)` says for which kernels the test exists.
    """

    text: str
    errno: str
    source: str
    broken: Callable[[Any], str | None]
    fix: str = ""
    when: Callable[[Kernel], bool] | None = None


def for_kernel(checks: Iterable[Check], kernel: Kernel) -> tuple[Check, ...]:
    """Return the checks that this kernel makes, in order."""
    return tuple(check for check in checks if check.when is None or check.when(kernel))


def run_checks(checks: Sequence[Check], request: object, whole: Sequence[Check] | None = None) -> None:
    """Raise VfioError for the first check that does not hold; change nothing. `whole`: all checks of the call, if these are a part."""
    for check in checks:
        if (why := check.broken(request)) is not None:
            refuse(checks if whole is None else whole, check, why)


def refuse(checks: Sequence[Check], failed: Check, why: str) -> NoReturn:
    """Raise the VfioError of `failed`, with the state of every check of the call."""
    position = [check is failed for check in checks].index(True)
    states = [(check.text, "passed" if i < position else "failed" if i == position else "not reached") for i, check in enumerate(checks)]
    raise VfioError(failed.errno, why, failed.source, failed.fix, states)
