"""A host's log is a trace: written, read and carried out on a fresh host, it gives the same answers and the same state."""

import json
import random
from contextlib import redirect_stdout, suppress
from io import StringIO

import nbformat
import pytest
from host_state import different, pictures, state
from model_walk import VERBS, Walk
from model_world import KERNELS, boot, machines

import vfiolab as vl
from vfiolab.__main__ import main
from vfiolab._paths import notebooks_dir
from vfiolab.client import Client
from vfiolab.draw import to_text
from vfiolab.model.errors import KernelCrashError, Refusal
from vfiolab.model.events import canonical
from vfiolab.model.irq import delivery
from vfiolab.model.irq.msi import IrqState
from vfiolab.model.machine import Host
from vfiolab.model.user.container import Device
from vfiolab.readers.trace import SKIPPED, boot_of, read_trace
from vfiolab.readers.write import write_trace


def again(host, fresh):
    """Carry out a host's log on a fresh one, and assert that everything is the same."""
    text = write_trace(host)
    (scenario,) = read_trace(text)
    client = Client(fresh)
    for operation, answer in zip(scenario.operations, scenario.answers, strict=True):
        done = client.do(operation)
        if answer is None or answer.result == SKIPPED:
            continue
        assert answer.result == done.result, f"{operation.text}: {done.why}"
        if done.result.lstrip("-").isdecimal():
            assert answer.output == json.loads(json.dumps(done.output)), operation.text
        assert answer.events == [event.line for event in canonical(done.events)], operation.text
    assert {} == different(state(host), state(fresh))
    assert pictures(host) == pictures(fresh)
    assert said(text) == said(write_trace(fresh))


def said(text):
    return [line for line in text.split("\n") if not line.startswith("# ")]


class Wild(Walk):
    """A walk with children, writes to sysfs and BARs as memory; nothing is checked after a step."""

    def step(self, verb):
        living = list(self.host.processes.values())
        first, self.host.process = self.host.process, self.pick(living)
        try:
            getattr(self, f"do_{verb}")()
        except KernelCrashError:
            self.dead = True
        except Refusal:
            pass
        finally:
            if not first.exited:
                self.host.process = first

    def do_fork(self):
        if len(self.host.processes) < 4:
            self.host.process.fork(self.pick([name for name in "PQRST" if name not in self.host.processes]))

    def do_exit(self):
        if not self.pick((True, False, False)):
            return
        process = self.host.process
        process.exit()
        if not process.name:
            self.host.new_process()

    def do_sysfs(self):
        verb, device = self.pick(("bind", "unbind", "unbind", "remove", "rescan", "rescan")), self.pick(self.devices)
        getattr(self.host.process, verb)(*([] if verb == "rescan" else [device]))

    def do_bar(self):
        device = self.one(Device)
        device.write_config(4, self.pick((0, 2, 6)))
        device.mmap(0, self.pick((0x1000, 0x4000)), self.host.machine.arena.base + 0x400000, self.pick((0, 0x1000)))

    def do_fresh(self):
        self.container().map_dma(self.pick(range(0x5000_0000, 0x5001_0000, 0x1000)), self.pick((0x1000, 0x800, 0)), None, self.pick((1, 3)))

    def do_dma(self):
        device, irqs = self.pick(self.endpoints), self.host.process.irqs
        verb = self.pick(("write", "read", "raise_msi"))
        with suppress(ValueError):  # what cannot be asked for: no message, an emulated device
            if verb == "raise_msi":
                delivery.raise_msi(self.host, device, irqs[device] if device in irqs else IrqState(), 0)
            else:
                address = self.pick((0x40000000, 0x40002000, 0xFEE00000, 0x8000040))
                if verb == "write":  # as a space does: a message of the device's own is told from any other write
                    delivery.write(self.host, device, address, irqs=irqs.get(device))
                else:
                    delivery.read(self.host, device, address)

    def do_mmap(self):
        self.host.process.mmap(self.pick((1, 0x1000, 1 << 30)))

    def do_device(self):
        device = self.one(Device)
        device.get_info()
        device.get_irq_info(self.pick(range(6)))
        device.get_region_info(self.pick(range(10)))
        device.reset()

    def do_irqs2(self):
        self.one(Device).set_irqs(
            self.pick((0, 1, 2, 2)),
            0,
            1,
            self.pick((None, 0x24, 0x22, 0x21, 0x0C)),
            evfd=self.pick((None, None, -1, 1)),
            value=self.pick((1, 0)),
        )

    def do_readonly(self):
        self.container().get_info(self.pick((24, 256)), writable=False)

    def do_good(self):
        self.host.process.drop_capability(17, keep=self.pick((True, True, True, False)))

    def do_named(self):
        base = self.host.machine.arena.base
        self.container().map_dma(
            self.pick(range(0x6000_0000, 0x6004_0000, 0x1000)), 0x1000, base, name=self.pick(("RAM", "guest RAM 1", "ä=%20 -> 0"))
        )


MORE = ("dma", "fork", "sysfs", "sysfs", "bar", "fresh", "fresh", "mmap", "device", "irqs2", "readonly", "good", "named")


def wander(seed, name, kernel, calls):
    """Walk with all verbs until there were so many calls, then write, read, carry out; say whether the kernel lived so long."""
    rng = random.Random(seed)
    walk = Wild(boot(name, kernel), rng.choice)
    while len(walk.host.log) < calls:
        walk.step(rng.choice((*VERBS, *MORE)))
        if walk.dead:
            return False
    again(walk.host, boot(name, kernel))
    return True


@pytest.mark.parametrize("name", sorted(machines()))
def test_the_log_of_a_walk_on_each_machine_is_a_trace_that_gives_the_same(name):
    lived = [kernel for seed, kernel in enumerate(KERNELS) if wander(seed, name, kernel, 60)]
    assert len(lived) > len(KERNELS) // 2


def test_a_process_that_sleeps_can_end_in_a_trace_too():
    host = boot("amd", "5.15")
    container, group = host.process.open_container(), host.process.open_group("0000:01:00.0")
    group.set_container(container)
    container.set_iommu(3)
    group.get_device_fd("0000:01:00.0")
    child = host.process.fork("P")
    child.unbind("0000:01:00.0")
    assert child.asleep()
    child.exit()
    again(host, boot("amd", "5.15"))


def test_what_is_done_from_outside_while_the_first_process_sleeps_is_said_to_be_so():
    host = boot("amd", "5.15")
    container, group = host.process.open_container(), host.process.open_group("0000:01:00.0")
    group.set_container(container)
    container.set_iommu(3)
    group.get_device_fd("0000:01:00.0")
    host.process.unbind("0000:01:00.0")
    host.bind("0000:11:00.0", "pci-stub")
    assert "host: bind dev=0000:11:00.0 drv=pci-stub -> 0" in write_trace(host)
    again(host, boot("amd", "5.15"))


def test_a_log_that_was_cleared_is_no_trace():
    host = boot("amd", "6.12")
    host.process.open_container()
    host.log.clear()
    with pytest.raises(ValueError, match="1 calls were cleared"):
        write_trace(host)


@pytest.mark.parametrize("notebook", sorted(notebooks_dir().glob("*.ipynb")), ids=lambda path: path.stem)
def test_everything_that_a_notebook_does_can_be_written_read_and_done_again(notebook, monkeypatch):
    hosts = []
    start = Host.__init__

    def noted(host, *args, **options):
        start(host, *args, **options)
        hosts.append((host, type(host), args, options))

    monkeypatch.setattr(Host, "__init__", noted)
    cells = [cell for cell in nbformat.read(notebook, as_version=4).cells if cell.cell_type == "code"]
    scope = {}
    with redirect_stdout(StringIO()):
        for cell in cells:
            with suppress(Refusal, ValueError):  # a cell that shows a refusal
                exec(cell.source, scope)
    ours = [one for one in hosts if "doorbells" not in one[3]]  # a trace holds calls, and no design of the debate
    done = [(host, kind, args, options) for host, kind, args, options in ours if host.log.calls]
    assert done or (hosts and not ours)
    for host, kind, args, options in done:
        again(host, kind(*args, **options))


def test_a_session_is_saved_and_opened_again():
    host = vl.load("two-smmu-server")
    space = host.address_space()
    space.attach("0000:01:00.0", "0000:21:00.0")
    space.map(0x4000_0000, "1G", name="guest RAM")
    with suppress(vl.VfioError):
        space.map(0x800_0000, "1M")
    space.enable_msi("0000:01:00.0")
    space.dma_write("0000:01:00.0", 0x4000_0000)
    (opened,) = vl.load("two-smmu-server").replay(host.trace())
    assert repr(space) == repr(opened)
    assert to_text(space.picture()) == to_text(opened.picture())
    space.map(0x9000_0000, "4K")
    opened.map(0x9000_0000, "4K")
    assert list(space.mappings) == list(opened.mappings)
    assert [call.args["vaddr"] for call in (host.log.calls[-1], opened.log.calls[-1])] == [host.log.calls[-1].args["vaddr"]] * 2


def test_a_saved_session_replayed_by_the_command_does_not_diverge(tmp_path, capsys):
    host = vl.load("two-smmu-server")
    space = host.address_space()
    space.attach("0000:01:00.0", "0000:21:00.0")
    space.map(0x4000_0000, "1G", name="guest RAM")
    with suppress(vl.VfioError):
        space.map(0x800_0000, "1M")
    (tmp_path / "mine.trace").write_text(host.trace(), encoding="utf-8")
    assert 0 == main(["replay", str(tmp_path / "mine.trace"), "--machine", "two-smmu-server"])
    assert capsys.readouterr().out.endswith(" 0 divergences\n")


@pytest.mark.slow
def test_ten_thousand_random_operations_written_read_and_carried_out_give_the_same():
    young = KERNELS[KERNELS.index("5.19") :]  # older ones die of a bind sooner
    for seed, name in enumerate(sorted(machines())):
        assert wander(1000 + seed, name, young[seed % len(young)], 10_000)


# how the host was booted


@pytest.mark.parametrize(("release", "flips"), [("4.4", ()), ("6.1.0-26-amd64", ()), ("6.12", ("valid_iova", "dma_ownership"))])
@pytest.mark.parametrize("words", ["", "pcie_acs_override=downstream", "pci=disable_acs_redir=00:01.0 pcie_acs_override=multifunction"])
def test_a_trace_says_how_its_host_was_booted(release, flips, words):
    host = vl.load("two-smmu-server", vl.Kernel(release).flipped(*flips) if flips else release, options=words)
    found = boot_of(host.trace())
    assert (host.kernel, "") == (found.kernel, found.doorbells)
    assert host.options == (found.options or host.options)
    assert bool(words) == (found.options is not None)


def test_a_host_booted_with_parameters_is_replayed_with_them(tmp_path, capsys):
    host = vl.load("amd-matisse-desktop", "5.10", options="pcie_acs_override=downstream,multifunction")
    assert len(vl.load("amd-matisse-desktop", "5.10").groups) < len(host.groups)
    space = host.address_space()
    device = next(group.devices[0] for group in reversed(host.groups) if len(group.devices) == 1)
    host.bind(device)
    space.attach(device)
    space.map(0, "1M")
    path = tmp_path / "one.trace"
    path.write_text(host.trace())
    replay = ["replay", str(path), "--machine", "amd-matisse-desktop"]
    assert 0 == main(replay)
    assert " 0 divergences" in capsys.readouterr().out
    path.write_text("".join(line for line in host.trace().splitlines(keepends=True) if not line.startswith("# boot")))
    assert 1 == main(replay)


def test_another_kernel_may_be_asked_than_the_one_that_a_trace_names(tmp_path, capsys):
    host = vl.load("intel-vtd-39bit", "4.4")
    space = host.address_space()
    space.attach("01:00.0")
    space.map(0xFEE0_0000, "4K")
    (tmp_path / "one.trace").write_text(host.trace())
    replay = ["replay", str(tmp_path / "one.trace"), "--machine", "intel-vtd-39bit"]
    assert 0 == main(replay)
    assert 1 == main([*replay, "--kernel", "6.12"])
    assert "EINVAL" in capsys.readouterr().out


@pytest.mark.parametrize("line", ["# kernel none", "# boot quiet", "# kernel 6.12\n# switches nothing"])
def test_a_head_that_no_kernel_understands_is_named_with_its_line(line, tmp_path, capsys):
    (tmp_path / "one.trace").write_text(f"{line}\n## one\nopen_container A\n")
    assert 2 == main(["replay", str(tmp_path / "one.trace"), "--machine", "intel-vtd-39bit"])
    assert f"line {line.count(chr(10)) + 1}" in capsys.readouterr().err


def test_a_design_of_doorbells_that_no_linux_has_is_named_and_not_replayed(tmp_path, capsys):
    host = vl.debate(proposals="P3", scenarios="arm-its")["P3", "arm-its"].space.host
    text = write_trace(host)
    assert ("P3", host.kernel) == (boot_of(text).doorbells, boot_of(text).kernel)
    (tmp_path / "one.trace").write_text(text)
    assert 2 == main(["replay", str(tmp_path / "one.trace"), "--machine", "two-smmu-server"])
    assert "design P3" in capsys.readouterr().err
