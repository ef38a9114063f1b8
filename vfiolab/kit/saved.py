"""A session as a file: a trace with the steps, the kernel and the machine in its comments, which every reader of traces takes too."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import NamedTuple

from vfiolab.kit.export import CALLS, END, FORM, MACHINE, STEP
from vfiolab.kit.host import Host, boot
from vfiolab.kit.session import Session
from vfiolab.kit.steps import Asked
from vfiolab.readers.errors import InputError
from vfiolab.readers.lines import read_text
from vfiolab.readers.machinefile import read_machine
from vfiolab.readers.trace import SKIPPED, Answer, Operation, boot_of, read_trace

__all__ = ["SessionFile", "booted", "is_session", "open_session"]


def open_session(source: str | Path, tell: Callable[[int], None] = lambda _: None) -> Session:
    """Open a session from its text (a text with more than one line), or from a file; its steps run again, and nothing else does.

    The calls in the file count. Where a step's code makes other calls than those below it, all from there on is opened as bare calls, and
    `said` tells; it tells, too, at which line the model answers otherwise than the file says. `tell` hears how many steps are done.
    InputError (a ValueError) names the line that cannot be read.

    >>> import vfiolab as vl
    >>> session = vl.Session(vl.load("two-smmu-server"))
    >>> for verb, *args in (("host.address_space",), ("space.attach", "01:00.0")):
    ...     _ = session.do(verb, *args)
    >>> vl.open_session(session.text())
    Session('two-smmu-server', kernel 6.12, 2 steps)
    """
    kept = isinstance(source, Path) or "\n" not in source
    where = str(source) if kept else "session"
    file = SessionFile(read_text(Path(source)) if kept else str(source), where)
    for done in file.run():
        tell(done)
    return file.session


def is_session(text: str) -> bool:
    """Say whether a text begins as a session's file does."""
    return text.partition("\n")[0].rstrip() == FORM


def booted(path: Path) -> Host:
    """Boot the machine and the kernel that a session's file holds; nothing is done there. InputError as `open_session`."""
    return SessionFile(read_text(path), str(path)).boot()


class _Part(NamedTuple):
    """A part of a file: where it begins, the step that it says it is (None: bare calls), its calls, and its lines."""

    line: int
    asked: Asked | None
    operations: list[tuple[Operation, Answer | None]]
    lines: list[str]


class SessionFile:
    """A session's file, taken apart: what `Session.text` puts together. `run` carries it out; then `session` is there."""

    session: Session

    def __init__(self, text: str, where: str) -> None:
        self.where, lines = where, text.split("\n")
        if not is_session(text):
            raise InputError("no session", where=where, line=1, advice=f"the first line of a session is {FORM!r}")
        scenarios = read_trace(text, source=where)
        if len(scenarios) > 1:
            raise InputError("a second scenario", where=where, line=scenarios[1].line, advice="a session has one: take the other out")
        scenario = scenarios[0]
        self.name = scenario.name
        self.booted = boot_of(text, source=where)
        self.machine_at = next((number for number, line in enumerate(lines, 1) if line.startswith(MACHINE)), 0)
        self.machine = [line.removeprefix(MACHINE) for line in lines if line.startswith(MACHINE)]
        pairs = {one.line: (one, answer) for one, answer in zip(scenario.operations, scenario.answers, strict=True)}
        self.parts = [_Part(scenario.line, None, [], [])]
        for number, line in enumerate(map(str.rstrip, lines[scenario.line :]), scenario.line + 1):
            if line == END or line.startswith(MACHINE):
                break
            if line.startswith(STEP) or line == CALLS:
                self.parts.append(_Part(number, self._asked(line, number) if line != CALLS else None, [], []))
            elif not line.startswith("#"):
                self.parts[-1].lines.append(line)
                if number in pairs:
                    self.parts[-1].operations.append(pairs[number])

    def _asked(self, line: str, number: int) -> Asked:
        try:
            return Asked.read(line.removeprefix(STEP))
        except ValueError as error:
            raise InputError(str(error), where=self.where, line=number, advice="take the line out: the calls below it count") from error

    def boot(self) -> Host:
        """Boot what the file says."""
        if not self.machine:
            raise InputError("no machine in it", where=self.where, advice=f"the lines of its machine begin with {MACHINE!r}")
        try:
            machine = read_machine("\n".join(self.machine), source=self.where)
        except InputError as error:
            line = None if error.line is None else error.line + self.machine_at - 1
            raise InputError(error.what, where=self.where, line=line, advice=error.advice) from error
        try:
            return boot(machine, self.booted.kernel, self.booted.options)
        except ValueError as error:
            raise InputError(str(error), where=self.where, line=1) from error

    def _session(self) -> Session:
        return Session(self.boot(), name=self.name)

    def run(self) -> Iterator[int]:
        """Run the steps and yield how many are done; where one makes other calls than the file has, run anew with calls from there on."""
        session = self._session()
        bare = yield from self._run(session, len(self.parts))
        if bare is not None:
            session = self._session()
            yield from self._run(session, bare)
            where = f"{self.where}, line {self.parts[bare].line}"
            session.said.insert(0, f"{where}: the step makes other calls than those below it, which are run")
        self.session = session

    def _run(self, session: Session, bare: int) -> Generator[int, None, int | None]:
        """Run the parts, those from `bare` on as calls; return the first one whose step makes other calls than the file has."""
        session.said.clear()
        for place, part in enumerate(self.parts):
            if session.dead:
                session.said.append(f"{self.where}, line {part.line}: what follows the kernel's death is left out")
                return None
            if part.asked is not None and place < bare:
                lines = [line for line in session.carry(part.asked).lines if not line.startswith("#")]
                if list(map(_question, lines)) != list(map(_question, part.lines)):
                    return place
                other = next((line for line, own in zip(part.lines, lines, strict=True) if line != own), "")
                self._tell(session, part.line, other)
            for operation, answer in part.operations if part.asked is None or place >= bare else ():
                done = session.carry(operation).done
                if answer is not None and done is not None and answer.result not in (done.result, SKIPPED):
                    self._tell(session, operation.line, f"{operation.text} -> {answer.result}")
            yield len(session.steps)
        return None

    def _tell(self, session: Session, line: int, other: str) -> None:
        if other and not session.said:
            session.said.append(f"{self.where}, line {line}: the file says {other.strip()!r}, and the model answers otherwise")


def _question(line: str) -> str:
    """Return the call of a line, without its answer; of the events below it nothing."""
    return "" if line[:1].isspace() else line.partition(" -> ")[0]
