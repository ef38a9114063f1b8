"""What a run says while it goes on: a line for each call, as strace prints it, and below a refusal the model's reason."""

from __future__ import annotations

from copy import copy

from vfiolab.draw.transcript import strace_line
from vfiolab.model.events import Call
from vfiolab.model.uapi.ioctls import IOCTLS

#: What the server itself does, so that the model knows what a program has.
SILENT = frozenset({"mem", "receive", "mmapdev", "new_process"})


def call_lines(call: Call, kind: str, fd: int, given: int | None) -> list[str]:
    """Return the lines of one call: the program's own descriptors `fd` and `given` (opened, or named in the call) stand for the model's."""
    if call.verb in SILENT:
        return []
    shown = copy(call)
    shown.target = f"fd{fd}" if call.target.startswith("fd") else call.target
    shown.args = dict(call.args)
    if given is not None:
        shown.args |= {name: f"fd{given}" if name == "container" else given for name in ("fd", "container") if name in call.args}
    line = strace_line(shown)
    if call.verb.startswith("close_"):  # the last reference is gone, whatever its number was
        line = f"close({kind}){line[line.rindex(' = ') :]}"
    if call.verb == "raw_ioctl":
        row = IOCTLS.get(kind, {}).get(call.args["cmd"])
        name = row.name if row is not None else f"{call.args['cmd']:#x}"
        line = f"ioctl({fd}, {name}, {call.args['arg']:#x}){line[line.rindex(' = ') :]}"
    if call.error is None:
        return [line]
    where = f"{call.error.source}{f'; the check: {call.error.failed}' if call.error.failed else ''}"
    return [line, f"    {call.error.why}", f"    {where}", *([f"    {call.error.fix}"] if call.error.fix else [])]
