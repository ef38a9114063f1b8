"""A session: a machine, a kernel, and the steps that were taken on it; to go back and forth in, to run again elsewhere, and to keep."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple, Self, cast

from vfiolab._text import count, plain
from vfiolab.client import Client, Done
from vfiolab.draw import Moment, Picture, SpaceFacts, chain_at, lay_out, moments
from vfiolab.kit import export
from vfiolab.kit.host import Host, boot
from vfiolab.kit.space import AddressSpace
from vfiolab.kit.steps import MOST_OF_A_STEP, Asked, Step, is_plain, made_by, word
from vfiolab.model.errors import KernelCrashError, Refusal
from vfiolab.model.events import Call, Event, canonical
from vfiolab.model.irq.delivery import JourneyStep
from vfiolab.model.kernel import Kernel
from vfiolab.model.machine import Machine as ModelMachine
from vfiolab.readers.trace import Answer, Operation, Scenario
from vfiolab.readers.write import TraceWriter

__all__ = ["Session"]


class Session:
    """A host and the steps that were taken on it.

    `steps` are those that were carried out, `undone` what was taken back and may come again. `spaces` are the open address spaces by the
    names that the steps' code gives them: `space`, `space2`, and `space_P` for a process P. `made`: the code that made the host.
    `recorded`: of a recorded trace, what the kernel answered, parallel to steps and what was undone.

    >>> from vfiolab.kit import load
    >>> session = Session(load("two-smmu-server"))
    >>> for verb, *args in (("host.address_space",), ("space.attach", "01:00.0"), ("space.map", 0x4000_0000, "1G")):
    ...     _ = session.do(verb, *args)
    >>> session.undo(), session
    (True, Session('two-smmu-server', kernel 6.12, 2 steps, 1 undone))
    >>> session.redo(), session.space
    (True, AddressSpace('two-smmu-server', groups [8], 1 mapping, 1 domain, type1))
    """

    def __init__(self, host: Host, made: str = "", name: str = "session") -> None:
        self.made, self.name = made, plain(name)
        self.undone: list[Asked | Operation] = []
        self.recorded: list[Answer | None] = []
        self.said: list[str] = []
        self._diverging: tuple[int, dict[int, tuple[str, str]]] | None = None
        self._begin(host)

    def _begin(self, host: Host) -> None:
        self.host, self.client, self.writer = host, Client(host), TraceWriter()
        self.steps: list[Step] = []
        self.spaces: dict[str, AddressSpace] = {}

    @classmethod
    def of_scenario(cls, machine: ModelMachine, scenario: Scenario) -> Self:
        """Return a recorded scenario as a session in which nothing is done yet; each operation is a step to come."""
        session = cls(boot(machine), name=scenario.name)
        session.undone, session.recorded = list(scenario.operations), list(scenario.answers)
        return session

    # steps

    def do(self, verb: str, *args: object, **named: object) -> Step:
        """Call one public verb, such as `space.map` or `host.bind`; a refusal is kept in the step. What was undone is given up.

        ValueError after the kernel's death, and for a step that no file could hold; TypeError for an argument that is no word or number.

        >>> from vfiolab.kit import load
        >>> Session(load("two-smmu-server")).do("host.bind", "01:00.0").code
        'host.bind("01:00.0")'
        """
        if self.dead:
            raise ValueError(
                "the kernel died at the last step, and answers nothing more: undo that step, or run the session on another kernel"
            )
        self.undone.clear()
        del self.recorded[len(self.steps) :]
        asked = Asked(verb, args, named)
        if not all(map(is_plain, (*args, *named.values()))):
            raise TypeError(f"{asked.code[:80]} cannot be kept: an argument is a word, a whole number or None")
        if len(asked.code) > MOST_OF_A_STEP:
            raise ValueError(f"a step of {len(asked.code)} characters: {MOST_OF_A_STEP} are the most")
        return self.carry(asked)

    @property
    def dead(self) -> bool:
        """Whether the last step was the kernel's death."""
        return bool(self.steps) and isinstance(self.steps[-1].refused, KernelCrashError)

    def carry(self, asked: Asked | Operation) -> Step:
        """Carry one step out, and write its calls down."""
        mark = len(self.host.log.calls)
        if isinstance(asked, Operation):
            done = self.client.do(asked)
            step = Step(asked, asked.text, done.refused, done=done)
        else:
            step = Step(asked, asked.code)
            step.missing = self._missing(asked.verb)
            try:
                step.answer = self._verb(asked.verb)(*asked.args, **asked.named)
            except (Refusal, ValueError) as met:
                step.refused = met
            except TypeError as met:
                step.refused = ValueError(f"{asked.verb} does not take these arguments: {met}")
                step.refused.__cause__ = met
        step.calls = mark, len(self.host.log.calls)
        self._name(step)
        step.lines = tuple(self.writer.lines(self.host.log.calls[mark:]))
        self.client.adopt(self.writer.names)
        self.steps.append(step)
        return step

    def _verb(self, verb: str) -> Callable[..., Any]:
        where, _, what = verb.partition(".")
        if self._missing(verb):
            raise ValueError(f"there is no {where} here: the step that opened it was refused, or it is closed")
        target = self.host if where == "host" else self.spaces[where]
        found: Callable[..., Any] = attrgetter(what)(target)
        return found

    def _missing(self, verb: str) -> bool:
        return (where := verb.partition(".")[0]) != "host" and where not in self.spaces

    def _name(self, step: Step) -> None:
        """Give each container that has appeared a name, in each process, and forget those that are closed."""
        known = {(space.process.name, space.container.fd): name for name, space in self.spaces.items()}
        open_now: dict[str, AddressSpace] = {}
        for place, seen in enumerate(self.host.spaces):
            who, file = seen.process.name, seen.container
            name = known.get((who, file.fd)) or self._free(f"_{who}" if who else "", {*self.spaces, *open_now})
            space = self.spaces.get(name)
            if space is None or space.container is not file:
                space = step.answer if isinstance(step.answer, AddressSpace) and step.answer.container is file else seen
                if isinstance(step.asked, Asked) and space is step.answer:
                    step.code = f"{name} = {step.code}"
                else:
                    step.found[name] = place
            open_now[name] = space
        self.spaces = open_now

    def _free(self, behind: str, taken: Iterable[str]) -> str:
        number = 1
        while (name := f"space{number if number > 1 else ''}{behind}") in taken:
            number += 1
        return name

    @property
    def space(self) -> AddressSpace:
        """The address space that was opened first, of those still open. ValueError if there is none."""
        if not self.spaces:
            raise ValueError("no address space is open: host.address_space() opens one")
        return next(iter(self.spaces.values()))

    @property
    def calls(self) -> list[Call]:
        """The calls of the last step."""
        return self.host.log.calls[slice(*self.steps[-1].calls)] if self.steps else []

    @property
    def events(self) -> list[Event]:
        """The events of the last step."""
        return [event for one in self.calls for event in one.events]

    # back and forth

    def travel(self, at: int) -> Iterator[int]:
        """Go to where `at` steps are done, and yield how many are. Forward, each step counts at once; back, all or nothing.

        An iteration that is given up leaves a session as it was, or so far forward as it came.
        """
        if at >= len(self.steps):
            for _ in range(min(at - len(self.steps), len(self.undone))):
                if self.dead:
                    return
                self.carry(self.undone[0])
                del self.undone[0]
                yield len(self.steps)
            return
        asked = [step.asked for step in self.steps]
        trial = self.fresh()
        for one in asked[: max(at, 0)]:
            trial.carry(one)
            yield len(trial.steps)
        self._take(trial)
        self.undone = [*asked[max(at, 0) :], *self.undone]

    def go(self, at: int) -> None:
        """Go to where `at` steps are done; below 0 is the start, past the end the end."""
        for _ in self.travel(at):
            pass

    def undo(self) -> bool:
        """Take the last step back; False if there is none."""
        self.go(len(self.steps) - 1) if (any_left := bool(self.steps)) else None
        return any_left

    def redo(self) -> bool:
        """Carry out again what was undone last; False if there is nothing."""
        any_left = bool(self.undone) and not self.dead
        self.go(len(self.steps) + 1) if any_left else None
        return any_left

    def fresh(self, kernel: Kernel | str | None = None) -> Session:
        """Return a session on the same machine, freshly booted, by default with the same kernel: nothing is done there."""
        chosen = kernel if isinstance(kernel, Kernel) else Kernel(kernel) if kernel else self.host.kernel
        host = Host(self.host.machine, chosen, self.host.options)
        booted = f"{self.made.partition('.with_kernel(')[0]}.with_kernel({word(chosen.release)})" if self.made else ""
        session = Session(host, self.made if chosen == self.host.kernel else made_by(host) or booted, self.name)
        session.recorded = list(self.recorded)
        return session

    def _take(self, other: Session) -> None:
        self.host, self.client, self.writer, self.steps, self.spaces = other.host, other.client, other.writer, other.steps, other.spaces

    def on(self, kernel: Kernel | str) -> Session:
        """Return the same session on another kernel: its steps run again there, each as it was asked for. ValueError for no such kernel.

        >>> from vfiolab.kit import load
        >>> session = Session(load("intel-vtd-39bit"))
        >>> for verb, *args in (("host.address_space",), ("space.attach", "01:00.0"), ("space.map", 0, "4G")):
        ...     _ = session.do(verb, *args)
        >>> session.steps[-1].reason, session.on("4.4").steps[-1].refused, session.differing(session.on("4.4"))
        ('EINVAL', None, [3])
        """
        other = self.fresh(kernel)
        for _ in other.following(self):
            pass
        return other

    def following(self, first: Session) -> Iterator[int]:
        """Take the steps of another session here, one after the other, and yield how many are done; then hold what it has undone."""
        self.undone = [*(step.asked for step in first.steps), *first.undone]
        yield from self.travel(len(first.steps))

    def differing(self, other: Session, *, requests: bool = False) -> list[int]:
        """Return which steps, counted from 1, were answered otherwise there; with `requests` those that asked the IOMMU core otherwise."""
        pairs = enumerate(zip(self.outcomes(), other.outcomes(), strict=False), 1)
        return [number for number, (mine, theirs) in pairs if mine[requests] != theirs[requests]]

    def outcomes(self) -> list[tuple[tuple[object, ...], list[Event]]]:
        """Return what came of each step, to be compared: what it and its calls answered, and the events without physical addresses."""
        found: list[tuple[tuple[object, ...], list[Event]]] = []
        for step in self.steps:
            calls = self.host.log.calls[slice(*step.calls)]
            answers = step.outcome, *((one.verb, one.result) for one in calls)
            found.append((answers, [event._replace(physical=None) for one in calls for event in canonical(one.events)]))
        return found

    def play(self) -> Played:
        """Return the last step request by request, to walk along: the session runs again up to it. ValueError if there is none.

        >>> from vfiolab.kit import load
        >>> session = Session(load("two-smmu-server"))
        >>> for verb, *args in (("host.address_space",), ("space.attach", "01:00.0"), ("space.attach", "21:00.0")):
        ...     _ = session.do(verb, *args)
        >>> print(session.play().steps[5].why)
        Group 10 was tried in D1, and the driver answered EINVAL (Invalid argument).
        """
        if not self.steps:
            raise ValueError("nothing was done yet")
        trial = self.fresh()
        for step in self.steps[:-1]:
            trial.carry(step.asked)
        asked = self.steps[-1].asked
        name = asked.verb.partition(".")[0] if isinstance(asked, Asked) else ""
        space = trial.spaces.get(name) or next(iter(trial.spaces.values()), None)
        before = space.look() if space is not None and space.container.is_open else SpaceFacts("none")
        trial.carry(asked)
        after = (space or trial.space).look() if trial.spaces else before
        return Played(moments(before, after, trial.calls), {group.id: group.devices for group in trial.host.groups})

    # what a trace recorded

    def divergences(self) -> dict[int, tuple[str, str]]:
        """Of a recorded trace: the steps, counted from 1, at which the kernel answered otherwise; what it said, and the model."""
        if self._diverging is None or self._diverging[0] != len(self.recorded):
            self._diverging = len(self.recorded), self._compared()
        return self._diverging[1]

    def _compared(self) -> dict[int, tuple[str, str]]:
        from vfiolab.replay import compare

        whole = self.fresh()
        for _ in whole.following(self):
            pass
        whole.go(len(whole.steps) + len(whole.undone))
        operations = [step.asked for step in whole.steps]
        if not self.recorded or not all(isinstance(one, Operation) for one in operations):
            return {}
        scenario = Scenario(self.name, 0, cast("list[Operation]", operations), [*self.recorded[: len(operations)]])
        found = compare([scenario], [[cast("Done", step.done) for step in whole.steps]], self.host.machine).divergences
        return {one.index + 1: (one.kernel, one.model) for one in found}

    # kept

    def text(self) -> str:
        """Return the session as a file's text, which `open_session` opens: a trace; comments hold the steps, the kernel and the machine.

        Every reader of traces takes it, too. What is undone is not kept. ValueError for a kernel whose rules were switched by hand.
        """
        return export.session_text(self)

    @property
    def code(self) -> str:
        """All steps as Python; a refused one says so behind its line. `python` gives a program that runs."""
        made = self.made or made_by(self.host) or f"host = vl.loads(machine, kernel={word(str(self.host.kernel))})"
        lines = [step.code + (f"  # refused: {step.reason}" if step.refused else "") for step in self.steps]
        return "\n".join(["import vfiolab as vl", made, *lines])

    def again(self) -> Iterator[Session]:
        """Run the steps anew on a fresh host, and yield the session there after each of them.

        >>> from vfiolab.kit import load
        >>> session = Session(load("two-smmu-server"))
        >>> _ = session.do("host.bind", "01:00.0")
        >>> [len(there.steps) for there in session.again()]
        [1]
        """
        there = self.fresh()
        for step in self.steps:
            there.carry(step.asked)
            yield there

    def python(self) -> str:
        """Return a Python program that gives the same state. ValueError for a kernel whose rules were switched by hand.

        >>> from vfiolab.kit import load
        >>> session = Session(load("two-smmu-server"))
        >>> _ = session.do("host.address_space"), session.do("space.attach", "99:00.0")
        >>> print(session.python())
        import vfiolab as vl
        <BLANKLINE>
        host = vl.load("two-smmu-server", kernel="6.12")
        space = host.address_space()
        try:  # ENOENT
            space.attach("99:00.0")
        except (vl.Refusal, ValueError) as refused:
            print(refused)
        <BLANKLINE>
        """
        return export.to_python(self)

    def c(self) -> str:
        """Return a C program that makes the system calls of the first process, to be run on such a machine.

        >>> from vfiolab.kit import load
        >>> session = Session(load("two-smmu-server"))
        >>> _ = session.do("host.address_space")
        >>> [line.strip() for line in session.c().splitlines() if "open(" in line]
        ['fd[3] = told("open /dev/vfio/vfio", open("/dev/vfio/vfio", O_RDWR)); /* the model: opens it */']
        """
        from vfiolab.kit.program import to_c

        return to_c(self)

    def strace(self) -> str:
        """Return the calls as strace prints them, with what the IOMMU core was asked to do below each.

        `open_capture` reads the first process's opens, closes, groups, containers, maps and unmaps back. It leaves out, and lists as
        unread, what strace would not show so: the events, writes to sysfs, what devices and other processes do, SET_IRQS and DIRTY_PAGES.

        >>> from vfiolab.kit import load
        >>> session = Session(load("two-smmu-server"))
        >>> _ = session.do("host.address_space")
        >>> print(session.strace())
        open("/dev/vfio/vfio", O_RDWR) = 3
        """
        from vfiolab.draw.transcript import transcript

        return str(transcript(self.host.log.calls))

    def page(self) -> str:
        """Return one HTML page that needs nothing beside itself: the machine, each step with its answer, and pictures.

        >>> from vfiolab.kit import load
        >>> Session(load("two-smmu-server")).page()[:15]
        '<!DOCTYPE html>'
        """
        from vfiolab.kit.page import to_page

        return to_page(self)

    def save(self, path: str | Path) -> None:
        """Write the session to a file whose name says how: .vfiolab or .trace, .py, .c, .strace or .txt, .html.

        ValueError for another ending; a file that is there stays as it was until the new one is whole. OSError as writing any file.

        >>> from vfiolab.kit import load
        >>> Session(load("two-smmu-server")).save("session.doc")
        Traceback (most recent call last):
            ...
        ValueError: a session is saved as .vfiolab, .trace, .py, .c, .strace, .txt or .html, not as 'session.doc'
        """
        export.save(Path(path), {".vfiolab": self.text, ".trace": self.text, ".py": self.python, ".c": self.c, ".strace": self.strace,
                                 ".txt": self.strace, ".html": self.page})  # fmt: skip

    def __repr__(self) -> str:
        undone = f", {len(self.undone)} undone" if self.undone else ""
        return f"Session({self.host.machine.name!r}, kernel {self.host.kernel}, {count(len(self.steps), 'step')}{undone})"


class Played(NamedTuple):
    """A step, moment by moment; a Stepper walks along it."""

    moments: list[Moment]
    devices: dict[int, tuple[str, ...]]

    @property
    def steps(self) -> list[JourneyStep]:
        """What happened, in words."""
        return [JourneyStep("moment", "in the kernel", moment.words) for moment in self.moments]

    def picture(self, upto: int | None = None) -> Picture:
        """Draw the address space at a moment, 1 being the first; by default at the last."""
        return chain_at(self.moments[(upto or len(self.moments)) - 1], self.devices)

    def map(self, upto: int) -> Picture:
        """Draw the iova map at a moment."""
        return lay_out(self.moments[upto - 1].facts)
