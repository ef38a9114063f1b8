"""The toy device `vfiolab-edu`, the driver for it in notebooks/, and what the modelled kernel logs."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from run_possible import possible

from vfiolab.__main__ import main
from vfiolab.client import run as carry_out
from vfiolab.kit.host import boot
from vfiolab.readers.machinefile import read_machine
from vfiolab.readers.opening import open_machine
from vfiolab.readers.trace import questions, read_trace
from vfiolab.replay import compare
from vfiolab.run import run_program
from vfiolab.run.edu import with_edu
from vfiolab.run.report import elsewhere, trace_text

CLIENT = (Path(__file__).parent / "run_client.py").read_text()
DRIVER = Path(__file__).parent.parent / "notebooks" / "driver.py"
A, B = "0000:01:00.0", "0000:02:00.0"
MACHINES = ("intel-vtd-39bit", "amd-vi-server", "two-smmu-server")
#: The line of a read at iova 0x10_1000, which nobody mapped, as each unit's driver prints it.
LOGGED = {
    "intel-vtd-39bit": [
        "DMAR: [DMA Read NO_PASID] Request device [01:00.0] fault addr 0x101000 [fault reason 0x06] PTE Read access is not set"
    ],
    "amd-vi-server": [f"vfio-pci {A}: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x.... address=0x101000 flags=0x0000]"],
    "two-smmu-server": [f"arm-smmu-v3 smmu3.0xc000000: {words}" for words in (
        "event 0x10 received:", "\t0x0000010000000010", "\t0x................", "\t0x0000000000101000", "\t0x................")],
}  # fmt: skip
pytestmark = possible


def drive(tmp_path, machine, *words):
    """Run the driver: its exit status, what it printed, what the run said of the device, and the kernel's log."""
    log = tmp_path / "dmesg"
    command = [sys.executable, "-m", "vfiolab", "run", "--machine", machine, "--kernel", "6.12", "--edu", "01:00.0", "--dmesg", str(log)]
    done = subprocess.run([*command, "--", sys.executable, str(DRIVER), A, *words], capture_output=True, text=True, check=False, timeout=60)
    said = [line for line in done.stderr.splitlines() if line.startswith(("vfiolab", "dmesg: "))]
    return done.returncode, done.stdout.splitlines(), said, log.read_text().splitlines()


@pytest.mark.parametrize("machine", MACHINES)
def test_a_learners_driver_meets_a_fault_finds_it_in_the_log_and_is_repaired(tmp_path, machine):
    first = "vfiolab run: 01:00.0 is vfiolab-edu: a toy device of this kit and no real hardware (and not QEMU's edu)"
    told = [f"vfiolab-edu {A} reads 5 bytes at 0x10_1000: fault", *(f"dmesg: {line}" for line in LOGGED[machine])]
    raised = f"vfiolab-edu {A} raises vector 0: delivered"
    assert (1, ["fault at iova 0x101000"], [first, *told, raised], LOGGED[machine]) == drive(tmp_path, machine, "--broken")
    done = ["done at iova 0x100000", "done at iova 0x100010", "the page holds b'hello' and b'HELLO'"]
    told = [f"vfiolab-edu {A} reads 5 bytes at 0x10_0000: memory", raised, f"vfiolab-edu {A} writes 5 bytes at 0x10_0010: memory", raised]
    assert (0, done, [first, *told], []) == drive(tmp_path, machine)


SHARED = """
c, g = attached(A)
d = device_of(g, A)
ID, ADDRESS, LENGTH, COMMAND, STATUS, BUFFER = 0, 8, 0x10, 0x14, 0x18, 0x400
event = os.eventfd(0, os.EFD_NONBLOCK)
COMMAND_REGISTER = (7 << 40) + 4
begins = os.pread(d, 1, COMMAND_REGISTER)[0]
os.pwrite(d, struct.pack("<H", 6), COMMAND_REGISTER)
def counted():
    try:
        return os.eventfd_read(event)
    except BlockingIOError:
        return 0
def do(command, iova, length):
    os.pwrite(d, struct.pack("<QII", iova, length, command), ADDRESS)
    return os.pread(d, 4, STATUS)[0]
def fill(data):
    return os.pwrite(d, data, BUFFER)
m = memory(2 << 12)
"""


class Ran:
    """A client that ran with a toy in the place of A: what it said, how it ended, the lines that were told, and the host."""

    def __init__(self, tmp_path, body, machine="intel-vtd-39bit", kernel="6.12"):
        self.host = boot(with_edu(open_machine(machine).with_assumed_units(), A), kernel)
        self.host.bind(A)
        self.lines, said = [], tmp_path / "said"
        command = [sys.executable, "-S", "-E", "-c", CLIENT + SHARED + body, str(said)]
        self.outcome = run_program(self.host, command, tell=self.lines.extend, keep=True, seconds=30, toys=[A])
        self.said = [json.loads(line) for line in said.read_text().splitlines()]


@pytest.fixture
def ran(tmp_path):
    def run(body, *args, **more):
        found = Ran(tmp_path, body, *args, **more)
        assert (0, "") == (found.outcome.status, found.outcome.ended), (found.outcome, found.said)
        return found

    return run


def test_registers_are_read_and_written_as_they_are_described(ran):
    found = ran("""
say(os.pread(d, 8, ID).decode(), os.pwrite(d, b"x" * 8, ID), os.pread(d, 8, ID).decode(), os.pread(d, 4, STATUS)[0])
say(os.pwrite(d, b"\\1\\2", ADDRESS + 3), os.pread(d, 8, ADDRESS).hex(), os.pwrite(d, b"\\7", STATUS), os.pread(d, 4, STATUS)[0])
try:
    os.pwrite(d, b"x", 0x800)
except OSError as error:
    say(errno.errorcode[error.errno], os.pwrite(d, b"xyz", 0x7fe))
info = bytearray(struct.pack("IIIIQQ", 32, 0, 0, 0, 0, 0))
say(call(d, 0x3b6c, info), struct.unpack("IIIIQQ", info)[1], do(0, 0, 0))
other = os.memfd_create("other")
say(os.pwrite(other, b"abc", 0), os.pread(other, 3, 0).decode())
""")
    assert [
        ["vfiolab\0", 8, "vfiolab\0", 0],
        [2, "0000000102000000", 1, 0],
        ["EINVAL", 2],
        [0, 3, 0],
        [3, "abc"],
    ] == found.said


def test_dma_follows_the_maps_and_their_rights(ran):
    found = ran("""
say(dma_map(c, 0x1000, 4096, m, 1), dma_map(c, 0x2000, 4096, m + 4096, 3), fill(b"A" * 1024))
say(do(2, 0x1000, 8), do(2, 0x1ff8, 16), do(2, 0x2ff8, 16), do(2, 0x2000, 16), do(1, 0x1ff8, 16), do(1, 0x3000, 1))
say(ctypes.string_at(m, 4096).count(b"A"), ctypes.string_at(m + 4096, 4096).count(b"A"), ctypes.string_at(m + 8184, 8).decode())
say(os.pread(d, 17, BUFFER).decode())
say(do(2, 0x2000, 0), do(2, 0x2000, 1025), do(2, (1 << 64) - 8, 16), do(1, 0xffff_ffff_ffff, 1))
dma_unmap(c, 0x2000, 4096)
say(do(2, 0x2000, 16))
""")  # the second and third write reach over a mapping's end
    assert [[0, 0, 1024], [3, 3, 3, 1, 1, 3], [0, 24, "A" * 8], "\0" * 8 + "A" * 9, [3, 3, 3, 3], 3] == found.said
    addresses = [re.search(r"(Read|Write) .*addr (\w+) .*reason (\w+)", line).groups() for line in found.outcome.dmesg]
    assert [
        ("Write", "0x1000", "0x05"), ("Write", "0x1000", "0x05"), ("Write", "0x3000", "0x05"), ("Read", "0x3000", "0x06"),
        ("Read", "0xfffffffff000", "0x04"), ("Write", "0x2000", "0x05"),
    ] == addresses  # fmt: skip


def test_the_interrupt_reaches_the_programs_eventfd_if_there_is_one_and_the_device_may_send(ran):
    found = ran("""
dma_map(c, 0, 4096, m)
given = struct.pack("i", event)
say(do(6, 0, 8), counted(), irqs(d, 0x24, 1, 0, 1, given), do(6, 0, 8), counted(), do(4, 0, 0), counted(), do(2, 0, 8), counted())
say(irqs(d, 0x24, 1, 0, 1, struct.pack("i", -1)), do(6, 0, 8), counted(), irqs(d, 0x24, 1, 0, 1, given))
at = COMMAND_REGISTER
say(begins, os.pwrite(d, b"\\2\\0", at), do(6, 0, 8), counted(), os.pwrite(d, b"\\6\\0", at), do(6, 0, 8), counted())
""")
    assert [[1, 0, 0, 1, 1, 1, 1, 1, 0], [0, 1, 0, 0], [2, 2, 3, 0, 2, 1, 1]] == found.said
    assert f"    vfiolab-edu {A} sends nothing: bus mastering is off (bit 2 of the command register)" in found.lines


def test_a_forged_interrupt_is_blocked_and_logged(ran):
    found = ran("say(fill(b'\\x34\\x12\\0\\0'), do(2, 0xfee0_1000, 4))")
    assert [[4, 3]] == found.said
    line = (
        "DMAR: [INTR-REMAP] Request device [01:00.0] fault index 0x.. [fault reason 0x25] Blocked a compatibility format interrupt request"
    )
    assert (line,) == found.outcome.dmesg


def test_a_childs_mapping_leads_into_the_childs_memory(ran):
    found = ran("""
ctypes.memset(m, 0x50, 16)
if not os.fork():
    ctypes.memset(m, 0x43, 16)
    say(dma_map(c, 0, 4096, m), fill(b"new"), do(2, 8, 3), ctypes.string_at(m, 12).decode())
    os._exit(0)
os.wait()
say(ctypes.string_at(m, 12).decode())
""")
    assert [[0, 3, 1, "C" * 8 + "newC"], "P" * 12] == found.said


def test_a_request_whose_memory_nobody_has_ends_the_program(tmp_path):
    body = "dma_map(c, 0, 4096, m)\nlibc.munmap(ctypes.c_void_p(m), 4096)\nsay(do(2, 0, 8))\n"
    assert "pinned, but the program has given it back" in Ran(tmp_path, body).outcome.ended


@pytest.mark.parametrize("machine", [*MACHINES, "intel-vtd-iommufd"])
def test_a_run_with_dma_replays_and_is_compared(ran, machine):
    found = ran("""
given = struct.pack("i", event)
say(dma_map(c, 0, 4096, m), fill(b"x" * 8), irqs(d, 0x24, 1, 0, 1, given), do(6, 0, 8), counted(), do(1, 0x8000, 8))
""", machine, None)  # fmt: skip
    assert [[0, 8, 0, 1, 1, 3]] == found.said
    text = trace_text(found.host, "toy")
    scenarios, there = read_trace(text), read_machine("\n".join(line[3:] for line in text.split("\n") if line.startswith("#| ")))
    assert [] == compare(scenarios, carry_out(questions(scenarios), there), there).divergences
    assert "dma_write 0000:01:00.0" in text
    rows = [row for row in elsewhere(text, names=[machine, "amd-renoir-laptop"]) if "6.12" in row.kernels]
    assert {machine: "", "amd-renoir-laptop": ""} == {row.machine: row.call for row in rows}


def test_the_toy_keeps_the_machines_groups_and_says_what_it_is():
    plain = open_machine("intel-vtd-39bit")
    toy = with_edu(plain, "01:00.0")
    assert str(plain.host("6.12").groups) == str(toy.host("6.12").groups)
    assert f"{A}: vfiolab-edu, a toy device of this kit and no real hardware, stands in the place of the function" == toy.notes[-1]


@pytest.mark.parametrize(("device", "said"), [("ff:1f.7", "no such function"), ("00:03.0", "a bridge"), ("x", "PCI address 'x'")])
def test_a_toy_needs_the_place_of_an_endpoint(capfd, device, said):
    assert 2 == main(["run", "--machine", "intel-vtd-39bit", "--edu", device, "--", "true"])
    assert said in capfd.readouterr().err
