"""The lab: any machine, any number of address spaces and processes, any kernel; every click is a step that can be taken back and kept."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import ipywidgets

from vfiolab._text import count, page_text
from vfiolab.client import NOT_ANSWERED
from vfiolab.course.toggles import column, toggles
from vfiolab.draw import figure_html, inline_svg, to_text, topology
from vfiolab.kit import AddressSpace, Host, Journey, load, loads, machines
from vfiolab.kit.programs import PROGRAMS
from vfiolab.kit.recorded import recorded_scenarios, recordings
from vfiolab.kit.saved import SessionFile
from vfiolab.kit.session import Session
from vfiolab.kit.steps import made_by
from vfiolab.lab.build import BuildLab
from vfiolab.lab.controls import App, on_enter, press, row, said, upload
from vfiolab.lab.explorer import number
from vfiolab.lab.panels import checks_panel, columns, events_panel, panel, status, steps_text
from vfiolab.lab.split import grid
from vfiolab.lab.stage import Stage, users
from vfiolab.lab.stepper import player
from vfiolab.model.errors import Refusal, VfioError
from vfiolab.model.kernel import SERIES, Kernel
from vfiolab.readers.lines import decoded

MODES = ("Stage", "Mappings", "Devices", "Grid of splits", "Recorded kernels", "Machine", "Build", "Keep and open")
#: What a session is written as: the ending of the file, and what writes it.
FORMS: dict[str, tuple[str, Callable[[Session], str]]] = {
    "session": (".trace", Session.text), "Python": (".py", Session.python), "C": (".c", Session.c),
    "strace": (".txt", Session.strace), "page": (".html", Session.page),
}  # fmt: skip
MOST_EVENTS, MOST_ROWS = 200, 50
QUICK = 0.3  # seconds that work may take before it lets other clicks in


class Lab(App):
    """Explore freely. `lab.session` is what was done so far, `lab.space` the address space that the buttons act on.

    `machine`: a name of the kit, a host, or a session to go on with.
    """

    def __init__(self, machine: str | Host | Session = "two-smmu-server") -> None:
        self.before: Session | None = None
        self.window: tuple[int | str, int | str] | None = None
        self.stopped = self.busy = False
        self._build()
        self.take(machine if isinstance(machine, Session) else self._started(load(machine) if isinstance(machine, str) else machine))

    @staticmethod
    def _started(host: Host, made: str = "") -> Session:
        session = Session(host, made or made_by(host))
        session.do("host.address_space")
        return session

    @property
    def host(self) -> Host:
        """The host that is shown."""
        return self.session.host

    @property
    def space(self) -> AddressSpace | None:
        """The address space that the buttons act on; None if none is open."""
        return self.session.spaces.get(self.spaces.value)

    # controls

    def _build(self) -> None:
        """Make the controls; only buttons, toggle buttons and text fields, which JupyterLab leaves to the keyboard."""
        self.mode = toggles(MODES, MODES[0], [f"Show: {mode}" for mode in MODES], "Show", "50px")
        self.mode.observe(lambda _: self._open_mode(), "value")
        self.stage = Stage(self._in_space, lambda device: self.do("host.bind", device))
        self.room = ipywidgets.VBox()
        rooms = lambda: self.stage.box, self._map_room, self._device_room, lambda: grid(self.take), self._recorded_room, self._machine_room
        self.rooms = dict(zip(MODES, (*rooms, self._build_room, self._keep_room), strict=True))
        self.built: dict[str, Any] = {}
        self.spaces = toggles(("space",), "space", ["Act on space"], "Act on", "50px")
        self.spaces.observe(lambda _: self._show(), "value")
        another = "host.address_space(): another container of the same process"
        self.new = press("New container", another, lambda: self.do("host.address_space"))
        self.child = press("Fork", "A child process that shares the container", self._fork)
        self.kernel = toggles(SERIES, SERIES[-1], [f"Run all on Linux {kernel}" for kernel in SERIES], "Linux", "50px")
        self.kernel.observe(self._reboot, "value")
        self.moves = {
            "Rewind": press("Rewind", "Take everything back", lambda: self.go(0)),
            "Undo": press("Undo", "Take the last step back", lambda: self.go(len(self.session.steps) - 1)),
            "Redo": press("Redo", "Carry out what was taken back, or the next recorded call", lambda: self.go(len(self.session.steps) + 1)),
            "To the end": press("To the end", "Carry out all that was taken back, or recorded", self._to_end),
            "Next refusal": press("Next refusal", "Go on to the next step that is refused", self._to_refusal),
            "Next divergence": press("Next divergence", "Go on to the next call that the kernel answered otherwise", self._to_divergence),
            "Play": press("Play the last step", "Walk through what the kernel did, request by request", self._play),
            "Stop": press("Stop", "Stop what takes long; the session stays whole", self._stop),
        }
        self.progress = ipywidgets.HTML()
        self.status = ipywidgets.HTML(layout={"min_height": "5em"})
        self.player, self.picture, self.panels = ipywidgets.VBox(), ipywidgets.HTML(), ipywidgets.HTML()
        where, moves = row(self.spaces, self.new, self.child), row(*self.moves.values(), self.progress)
        self.box = column(self.mode, self.room, where, self.kernel, moves, self.status, self.player, self.picture, self.panels)
        self._open_mode()

    def _open_mode(self) -> None:
        if self.mode.value not in self.built:
            self.built[self.mode.value] = self.rooms[self.mode.value]()
        self.room.children = (self.built[self.mode.value],)

    def _field(self, value: str, words: str, act: Callable[[], object] | None = None, width: str = "230px", **more: Any) -> Any:
        """Return a text field; Enter in it does what its button does."""
        kind = ipywidgets.Combobox if "options" in more else ipywidgets.Text
        made = kind(value=value, description=words, layout={"width": width}, style={"description_width": "initial"}, **more)
        if act is not None:
            on_enter(made, act)
        return made

    def _upload(self, words: str, tooltip: str, read: Callable[[str, str], None]) -> Any:
        return upload(words, tooltip, lambda content, name: self._try(lambda: read(decoded(content, where=name), name)))

    def _map_room(self) -> Any:
        self.iova = self._field("0x4000_0000", "iova", self._map)
        self.size = self._field("1G", "Size", self._map, "150px")
        self.name = self._field("guest RAM", "Name", self._map, "180px")
        self.low = self._field("0", "From", self._zoom, "180px")
        self.high = self._field("", "to", self._zoom, "180px", placeholder="the end")
        self.ram = self._field("4G", "Memory", None, "150px")
        presets = [press(words, f"space.map_program: {words}", partial(self._program, name)) for name, (words, _) in PROGRAMS.items()]
        unmap = press("Unmap", "Unmap this range", lambda: self._in_space("unmap", number(self.iova), number(self.size)))
        every = press("Unmap all", "Unmap everything", lambda: self._in_space("unmap_all"))
        zoom = press("Zoom", "Draw this range", self._zoom)
        whole = press("Whole space", "Draw everything", self._whole)
        one = row(self.iova, self.size, self.name, press("Map", "Map this range for the devices", self._map), unmap, every)
        program = row(self.ram, ipywidgets.HTML("mapped as by"), *presets)
        return ipywidgets.VBox([one, program, row(self.low, self.high, zoom, whole)])

    def _device_room(self) -> Any:
        self.device = self._field("", "Device", options=[], width="240px", ensure_option=False)
        self.at = self._field("0x4000_0000", "iova or vector", width="230px")
        acts: tuple[tuple[str, str, Callable[[], object]], ...] = (
            ("Bind to vfio-pci", "host.bind", lambda: self.do("host.bind", self.device.value)),
            ("Unbind", "host.unbind", lambda: self.do("host.unbind", self.device.value)),
            ("Remove", "The device is unplugged", lambda: self.do("host.process.remove", self.device.value)),
            ("Rescan", "Removed devices come back", lambda: self.do("host.process.rescan")),
            ("Attach", "space.attach", lambda: self._in_space("attach", self.device.value)),
            ("Detach", "space.detach", lambda: self._in_space("detach", self.device.value)),
            ("Enable MSI", "space.enable_msi: one vector", lambda: self._in_space("enable_msi", self.device.value)),
            ("Raise the interrupt", "space.raise_msi: the vector in the field, 0 if it holds an iova", self._raise),
            ("DMA write", "The device writes at the iova", lambda: self._in_space("dma_write", self.device.value, number(self.at), 0x1234)),
            ("DMA read", "The device reads at the iova", lambda: self._in_space("dma_read", self.device.value, number(self.at))),
        )
        self._fill_devices()
        return row(self.device, self.at, *(press(words, tip, act) for words, tip, act in acts))

    def _fill_devices(self) -> None:
        names = [bdf for bdf, function in self.host.topology.items() if function.is_for_users]
        self.device.options = names
        if self.device.value not in names:
            inside = [group.group for group in self.space.container.groups] if self.space is not None else []
            self.device.value = next((users(self.host, group)[0] for group in (*inside, *self.host.groups) if users(self.host, group)), "")

    def _recorded_room(self) -> Any:
        self.recording = self._field(recordings()[0], "Recording", options=recordings(), width="300px", ensure_option=False)
        self.scenario = self._field("", "Scenario", self._load_recorded, "300px", options=[], ensure_option=False)
        self.recording.observe(lambda _: self._fill_scenarios(), "value")
        self._fill_scenarios()
        return row(self.recording, self.scenario, press("Load", "Load the scenario; Redo goes call by call", self._load_recorded))

    def _fill_scenarios(self) -> None:
        if self.recording.value in recordings():
            names = [scenario.name for scenario in recorded_scenarios(self.recording.value)[1]]
            self.scenario.options, self.scenario.value = names, names[0]

    def _machine_room(self) -> Any:
        self.machine = self._field(self.host.machine.name, "Machine", self._load, "320px", options=machines(), ensure_option=False)
        hint = "lspci -vvvnn, run as root, or a machine file"
        self.paste = ipywidgets.Textarea(description="Paste", placeholder=hint, rows=3, layout={"width": "100%"})
        read = press("Read what is pasted", "Read the listing in the field", lambda: self._read(self.paste.value, "pasted"))
        self.upload = self._upload("Upload a machine", "A listing, or a machine file", self._read)
        first = row(self.machine, press("Load", "Load the machine", self._load), self.upload)
        return ipywidgets.VBox([first, self.paste, read])

    def _build_room(self) -> Any:
        self.builder = BuildLab(lambda machine, code: self.take(self._started(machine.host(), code.partition("\n")[2])))
        return self.builder.box

    def _keep_room(self) -> Any:
        self.form = toggles(tuple(FORMS), "session", [f"Write as {form}" for form in FORMS], "Write as", "60px")
        self.form.observe(lambda _: self._write(), "value")
        self.text = ipywidgets.Textarea(description="Text", rows=8, layout={"width": "100%"})
        self.link = ipywidgets.HTML()
        write = press("Write", "Write the session as it is now", self._write)
        read = press("Open what stands here", "Open the session in the field", lambda: self._open(self.text.value))
        self.kept = self._upload("Upload a session", "A file that was written here", lambda text, _: self._open(text))
        self._write()
        return ipywidgets.VBox([row(self.form, write, self.link), self.text, row(read, self.kept)])

    # what the controls do

    def take(self, session: Session) -> None:
        """Show another session; what was compared is forgotten."""
        self.before, self.session = None, session
        self._show()

    def do(self, verb: str, *args: object, **named: object) -> None:
        """Take a step: a verb of the host or of a space, as `Session.do` does it."""
        if self._free():
            self.before = None
            try:
                self.session.do(verb, *args, **named)
            except ValueError as dead:
                self.status.value = said(f"{dead}.", alert=True)
            else:
                self._show()
                if verb.endswith(".attach"):
                    if "Devices" in self.built:
                        self.device.value = str(args[0])
                    if self.session.steps[-1].refused:
                        self.stage.offer_drivers(str(args[0]))

    def _in_space(self, verb: str, *args: object, **named: object) -> None:
        self.do(f"{self.spaces.value}.{verb}", *args, **named)

    def _fork(self) -> None:
        self._in_space("fork", f"P{len(self.host.processes)}")

    def _map(self) -> None:
        named = {"name": self.name.value} if self.name.value else {}
        self._in_space("map", number(self.iova), number(self.size), **named)

    def _program(self, name: str) -> None:
        self._in_space("map_program", name, number(self.ram))

    def _raise(self) -> None:
        vector = number(self.at)
        self._in_space("raise_msi", self.device.value, *([vector] if isinstance(vector, int) and vector < 1 << 12 else []))

    def _zoom(self) -> None:
        def drawn() -> None:
            window = number(self.low) or 0, number(self.high) or 1 << 64
            if self.space is not None:
                self.space.picture(window)
            self.window = window
            self._show()

        self._try(drawn, "")

    def _whole(self) -> None:
        self.low.value, self.high.value, self.window = "0", "", None
        self._show()

    def _load(self) -> None:
        self._try(lambda: self.take(self._started(load(self.machine.value))))

    def _read(self, text: str, name: str) -> None:
        self._try(lambda: self.take(self._started(loads(text, name=name))))

    def _load_recorded(self) -> None:
        self._try(lambda: self.take(self._recorded()))

    def _recorded(self) -> Session:
        machine, scenarios = recorded_scenarios(self.recording.value)
        found = next((scenario for scenario in scenarios if scenario.name == self.scenario.value), None)
        if found is None:
            raise ValueError(f"{self.recording.value} has no scenario {self.scenario.value!r}: choose one from the list of the field")
        return Session.of_scenario(machine, found)

    def _open(self, text: str) -> None:
        def opened() -> None:
            file = SessionFile(text, "the session")
            self._run(file.run(), len(file.parts), lambda: self.take(file.session))

        self._try(opened)

    def _try(self, act: Callable[[], None], words: str = "Not read, and what is below stays: ") -> None:
        """Do what may make no sense; if so, that is said and nothing changes."""
        if self._free():
            try:
                act()
            except (ValueError, Refusal) as refused:
                self.status.value = said(f"{words}{refused}", alert=True)

    def _write(self) -> None:
        ending, written = FORMS[self.form.value]
        self.text.value = text = written(self.session)
        kept, name = base64.b64encode(text.encode()).decode(), f"session{ending}"
        self.link.value = f'<a download="{name}" href="data:application/octet-stream;base64,{kept}">Download {name}</a>'

    # long work

    def _free(self) -> bool:
        if self.busy:
            self.status.value = said("The lab is busy with the last click: wait, or stop it.", alert=True)
        return not self.busy

    def _stop(self) -> None:
        self.stopped = True

    def _run(self, work: Iterator[object], total: int, done: Callable[[], None]) -> None:
        """Do work that yields as it goes. After a moment it lets other clicks in, and shows how far it is; Stop ends it."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # no front end that could be kept waiting
            loop = None
        began = time.monotonic()
        for _ in work:
            if loop is not None and time.monotonic() - began > QUICK:
                self.busy, self.stopped = True, False
                self.task = loop.create_task(self._slowly(work, total, done))
                return
        done()

    async def _slowly(self, work: Iterator[object], total: int, done: Callable[[], None]) -> None:
        try:
            last = time.monotonic()
            for step, _ in enumerate(work):
                if time.monotonic() - last > QUICK:
                    self.progress.value = f"<span>about {100 * step // max(total, 1)} % done</span>"
                    await asyncio.sleep(0.02)
                    last = time.monotonic()
                if self.stopped:
                    self._show()
                    self.status.value = said("Stopped; the session is whole.", alert=True)
                    return
            done()
        except (ValueError, Refusal) as refused:
            self.status.value = said(str(refused), alert=True)
        finally:
            self.busy, self.progress.value = False, ""

    def go(self, at: int) -> None:
        """Go to where `at` steps are done."""
        if self._free():
            self.before = None
            at = max(0, at)
            done = len(self.session.steps)
            self._run(self.session.travel(at), at - done if at > done else at, self._show)

    def _to_end(self) -> None:
        self.go(len(self.session.steps) + len(self.session.undone))

    def _reboot(self, change: dict[str, Any]) -> None:
        """Run the session on another kernel, and mark what differs."""
        kernel = change["new"]
        if kernel == self.host.kernel.release or not self._free():
            return
        try:
            other = self.session.fresh(kernel)
        except (ValueError, Refusal) as refused:
            self.status.value = said(f"{refused}. What is below stays.", alert=True)
            return

        def done() -> None:
            self.before, self.session = self.session, other
            self._show()

        self._run(other.following(self.session), len(self.session.steps), done)

    def _to_refusal(self) -> None:
        def work() -> Iterator[int]:
            for _ in range(len(self.session.undone)):
                yield from self.session.travel(len(self.session.steps) + 1)
                if self.session.steps[-1].refused:
                    return

        if self._free():
            self._run(work(), len(self.session.undone), self._show)

    def _to_divergence(self) -> None:
        following = [step for step in self.session.divergences() if step > len(self.session.steps)]
        if following:
            self.go(following[0])
        else:
            self.status.value = said("No call from here on was answered otherwise by the kernel that was recorded.")

    def _play(self) -> None:
        def played() -> None:
            self.player.children = (player(self.session).box,)
            self.picture.value = ""  # the player draws the same at each moment

        self._try(played, "")

    # what is shown

    def _show(self) -> None:
        """Bring every view to what the session is now; controls stay the same, so the keyboard's focus does."""
        session = self.session
        names = tuple(session.spaces) or ("space",)
        if tuple(self.spaces.options) != names:
            chosen = self.spaces.value if self.spaces.value in names else names[-1]
            self.spaces.options, self.spaces.tooltips, self.spaces.value = names, [f"Act on {name}" for name in names], chosen
        self._offer_kernels(self.host.kernel.release)
        if not hasattr(self.stage, "host"):
            self.stage.fill(self.host)
        self.stage.show(self.host, self.space, session.spaces)
        if "Devices" in self.built:
            self._fill_devices()
        self.player.children = ()
        self.status.value = self.words
        self.picture.value = columns(map(inline_svg, self.pictures), 440)
        self.panels.value = self._panels()

    def _offer_kernels(self, release: str) -> None:
        """Let the buttons show the kernel that is booted, which may be one that they do not offer otherwise."""
        offered = sorted({*SERIES, release}, key=lambda one: Kernel(one).version)
        if [*self.kernel.options] != offered:
            self.kernel.unobserve(self._reboot, "value")  # it would go to the first one on its way
            self.kernel.options, self.kernel.tooltips = offered, [f"Run all on Linux {kernel}" for kernel in offered]
            self.kernel.value = release
            self.kernel.observe(self._reboot, "value")
        self.kernel.value = release

    @property
    def words(self) -> str:
        """What just happened, as HTML."""
        session = self.session
        if not session.steps:
            coming = f"; {count(len(session.undone), 'step')} to come: Redo takes the next" if session.undone else ""
            return said(f"{self.host.machine.name}, Linux {self.host.kernel}: nothing was done yet{coming}.")
        told = status(session.steps[-1], session)
        answer = session.recorded[len(session.steps) - 1] if len(session.recorded) >= len(session.steps) else None
        if answer is not None and session.steps[-1].asked.verb in NOT_ANSWERED:
            told += said("No call of VFIO: it is not compared.")
        elif answer is not None:
            found = session.divergences().get(len(session.steps))
            same = f"Here they differ: the kernel {found[0]}, the model {found[1]}." if found else "The model answers the same."
            told += said(f"The recorded kernel answered {answer.result}. {same}", alert=found is not None)
        if self.before is not None:
            told += self._compared(self.before)
        return told + "".join(said(words, alert=True) for words in session.said)

    def _compared(self, before: Session) -> str:
        """Say which steps came out otherwise than on the kernel before."""
        kernels, steps = f"Linux {before.host.kernel} and {self.host.kernel}", count(len(before.steps), "step")
        told = f"{kernels} answer all {steps} the same"
        if differing := before.differing(self.session):
            at = differing[0] - 1
            answers = [f"{run.steps[at].outcome} on {run.host.kernel}" for run in (before, self.session)]
            first = f"step {at + 1}, {self.session.steps[at].code}: {', '.join(answers)}"
            told = f"{kernels} answer {len(differing)} of {steps} otherwise, first {first}"
            met = next((run.steps[at].refused for run in (before, self.session) if isinstance(run.steps[at].refused, VfioError)), None)
            told += f" (the check: {met.failed})" if isinstance(met, VfioError) and met.failed else ""
        asked = set(before.differing(self.session, requests=True)) - set(differing)
        others = f"; {count(len(asked), 'step')} {'asks' if len(asked) == 1 else 'ask'} the IOMMU core for something else" if asked else ""
        then, now = (len(run.space.domains) if run.spaces else 0 for run in (before, self.session))
        split = f"; {count(then, 'domain')} on {before.host.kernel}, {now} on {self.host.kernel}" if then != now else ""
        return said(f"{told}{others}{split}.")

    @property
    def pictures(self) -> list[Any]:
        """The chain and the iova map of the address space; before there is one, the machine."""
        space = self.space
        if space is None or not space.container.is_open:
            return [topology(self.host)]
        answer = self.session.steps[-1].answer if self.session.steps else None
        beside = [answer.picture()] if isinstance(answer, Journey) else [space.chain()] if space.groups else []
        return [*beside, space.picture(self.window)] if beside or space.groups else [topology(self.host)]

    def _panels(self) -> str:
        space, session = self.space, self.session
        number_mapped = len(space.container.backend.dmas) if space is not None and space.container.backend is not None else 0
        table = f"{number_mapped:,} mappings: the picture merges them" if number_mapped else "nothing is mapped"
        if space is not None and 0 < number_mapped <= MOST_ROWS:
            table = str(space.mappings)
        legend = "✗ refused" + ("; in brackets: what came of it on the kernel before" if self.before else "")
        steps, mapped = panel("Steps", steps_text(session, self.before), legend), panel("Mappings", table, top=True, wrap=False)
        events = [events_panel(session.events[:MOST_EVENTS])] if session.events else []
        return columns([*checks_panel(session), steps, mapped, *events], 420)

    def __repr__(self) -> str:
        return f"Lab({self.session!r})"

    def still(self) -> tuple[str, str]:
        """Return the pictures and the steps."""
        drawn = self.pictures
        steps = f"<pre>{page_text(steps_text(self.session, None))}</pre><p><em>Run this cell to explore with buttons.</em></p>"
        return "\n".join(map(to_text, drawn)), "".join(map(figure_html, drawn)) + steps
