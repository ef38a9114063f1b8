"""`vfiolab run`: programs that know nothing of the model, on modelled machines."""

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from run_possible import possible
from tools import running

import vfiolab as vl
from vfiolab.__main__ import main
from vfiolab.client import run as carry_out
from vfiolab.model.uapi.ioctls import IOCTLS
from vfiolab.readers.machinefile import read_machine
from vfiolab.readers.sysfs import read_sysfs
from vfiolab.readers.trace import questions, read_trace
from vfiolab.replay import compare
from vfiolab.run import run_program
from vfiolab.run.memfds import Files
from vfiolab.run.memory import Areas
from vfiolab.run.report import elsewhere, picture, trace_text
from vfiolab.run.tree import Tree

CLIENT = (Path(__file__).parent / "run_client.py").read_text()
A, B = "0000:01:00.0", "0000:02:00.0"
pytestmark = possible


class Ran:
    """A client that ran: what it said, line by line, how it ended, the lines that were told, and the host."""

    def __init__(self, tmp_path, body, machine="intel-vtd-39bit", kernel=None, bind=(A, B), params=(), *, keep=True, seconds=30):
        self.host = vl.load(machine, kernel=kernel)
        for name, value in dict(params).items():
            self.host.set_param(name, value)
        for device in bind:
            self.host.bind(device)
        self.lines, said = [], tmp_path / "said"
        command = [sys.executable, "-S", "-E", "-c", CLIENT + body, str(said)]
        self.outcome = run_program(self.host, command, tell=self.lines.extend if keep else None, keep=keep, seconds=seconds)
        self.said = [json.loads(line) for line in said.read_text().splitlines()]
        for process in self.host.processes.values():
            process._check()
        self.host.drivers._check()

    @property
    def ended_well(self):
        return (self.outcome.status, self.outcome.ended) == (0, "")


@pytest.fixture
def ran(tmp_path):
    def run(body, *args, **more):
        found = Ran(tmp_path, body, *args, **more)
        assert found.ended_well, (found.outcome, found.said)
        return found

    return run


# containers


def test_a_container_answers_its_calls(ran):
    found = ran("""
c = opened("/dev/vfio/vfio")
say(call(c, 0x3b64), call(c, 0x3b65, 3), call(c, 0x3b65, 77), call(c, 0x3b66, 3), call(c, 0x3bff))
c, g = attached(A)
info = bytearray(struct.pack("IIQII", 24, 0, 0, 0, 0))
say(call(c, 0x3b70, info), struct.unpack("IIQII", info)[:2])
info = bytearray(struct.pack("IIQII", 120, 0, 0, 0, 0) + bytes(96))
say(call(c, 0x3b70, info), info[24:].hex())
m = memory(1 << 20)
say(dma_map(c, 0x4000_0000, 1 << 20, m), dma_map(c, 0x4000_0000, 1 << 20, m), dma_map(c, 0xfee0_0000, 4096, m), dma_map(c, 0, 0, m))
say(dma_unmap(c, 0x4000_0000, 1 << 20), dma_unmap(c, 0x4000_0000, 1 << 20), dma_unmap(c, 0, 1))
""")
    info = found.host.address_space()
    info.attach(A)
    chain = info.container.get_info(120).pack()[24:].hex()
    assert [
        [0, 1, 0, "EINVAL", "EINVAL"],
        [0, [120, 3]],
        [0, chain],
        [0, "EEXIST", "EINVAL", "EINVAL"],
        [1 << 20, 0, "EINVAL"],
    ] == found.said


def test_a_dirty_bitmap_comes_into_the_programs_memory(ran):
    found = ran("""
c, g = attached(A)
m = memory(1 << 16)
room = memory(4096)
say(dma_map(c, 0x10000, 1 << 16, m))
say(call(c, 0x3b75, bytearray(struct.pack("IIQQQQQ", 8, 1, 0, 0, 0, 0, 0)[:8])))
get = lambda at: bytearray(struct.pack("IIQQQQQ", 48, 4, 0x10000, 1 << 16, 4096, 8, at))
say(call(c, 0x3b75, get(room)), ctypes.string_at(room, 3).hex(), call(c, 0x3b75, get(16)))
""")
    assert [0, 0, [0, "ffff00", "EFAULT"]] == found.said


def test_memory_is_judged_as_the_kernel_pins_it(ran):
    body = """
c, g = attached(A)
m, r, n = memory(3 << 12), memory(1 << 12, 1), memory(1 << 12, 0)
say(dma_map(c, 0, 4096, m), dma_map(c, 0x10000, 4096, r), dma_map(c, 0x10000, 4096, r, 1), dma_map(c, 0x20000, 4096, n, 1))
libc.munmap(ctypes.c_void_p(m + 4096), 4096)
say(dma_map(c, 0x30000, 3 << 12, m), dma_map(c, 0x30000, 4096, m + 8192), dma_map(c, 0x40000, 4096, 0x1000))
"""
    expected = [[0, "EFAULT", 0, "EFAULT"], ["EFAULT", 0, "EFAULT"]]
    assert expected == ran(body).said
    Areas.queries = False  # as before Linux 6.11
    try:
        assert expected == ran(body).said
    finally:
        Areas.queries = True


# groups


def test_a_group_answers_its_calls(ran):
    found = ran("""
number = group_of(A)
g = opened(f"/dev/vfio/{number}")
say(sorted(os.listdir("/dev/vfio")) == sorted(["vfio", number, group_of(B)]), opened(f"/dev/vfio/{number}"), opened("/dev/vfio/999"))
status = bytearray(struct.pack("II", 8, 0))
say(call(g, 0x3b67, status), struct.unpack("II", status)[1], call(g, 0x3b67, bytearray(struct.pack("II", 7, 0))), call(g, 0x3b69))
c = opened("/dev/vfio/vfio")
join = lambda fd: call(g, 0x3b68, bytearray(struct.pack("i", fd)))
say(join(-1), join(1000), join(out.fileno()), join(g), join(c), join(c))
say(call(c, 0x3b66, 3), device_of(g, B), call(g, 0x3b6a, bytearray(b"x" * 5000)))
d = device_of(g, A)
say(call(g, 0x3b69), os.close(d), call(g, 0x3b69), call(g, 0x3b69))
""")
    assert [
        [True, "EBUSY", "ENOENT"],
        [0, 1, "EINVAL", "EINVAL"],
        ["EBADF", "EBADF", "EBADFD", "EBADFD", 0, "EINVAL"],
        [0, "ENODEV", "EINVAL"],
        ["EBUSY", None, 0, "EINVAL"],
    ] == found.said


# devices


def test_a_device_answers_its_questions(ran):
    found = ran("""
c, g = attached(A)
d = device_of(g, A)
info = bytearray(struct.pack("IIII", 16, 0, 0, 0))
say(call(d, 0x3b6b, info), struct.unpack("IIII", info))
for argsz, index in ((32, 0), (32, 3), (40, 3), (32, 7), (32, 9), (31, 0)):
    data = bytearray(struct.pack("IIIIQQ", argsz, 0, index, 0, 0, 0) + bytes(8))
    say(call(d, 0x3b6c, data), struct.unpack_from("IIIIQ", data), data[32:].hex())
for index in range(6):
    data = bytearray(struct.pack("IIII", 16, 0, index, 0))
    say(call(d, 0x3b6d, data), struct.unpack("IIII", data)[3])
say(call(d, 0x3b6f), call(d, 0x3b75, bytearray(struct.pack("II", 8, 0x40001))), call(d, 0x3b75, bytearray(struct.pack("II", 7, 0x40001))))
reset = bytearray(struct.pack("III", 12, 0, 0) + bytes(12))
say(call(d, 0x3b70, reset), struct.unpack_from("III", reset)[2])
reset[:4] = struct.pack("I", 24)
say(call(d, 0x3b70, reset), struct.unpack_from("IIIIHBB", reset)[2:])
say([call(d, 0x3b71, bytearray(struct.pack("IIIi", 12, 0, 1, fd))) for fd in (g, c)])
""")
    assert [
        [0, [16, 3, 9, 5]],
        [0, [32, 7, 0, 0, 128 << 10], "00" * 8],
        [0, [40, 15, 3, 0, 16 << 10], "00" * 8],
        [0, [40, 15, 3, 32, 16 << 10], "0300010000000000"],
        [0, [32, 3, 7, 0, 4096], "00" * 8],
        ["EINVAL", [32, 0, 9, 0, 0], "00" * 8],
        ["EINVAL", [31, 0, 0, 0, 0], "00" * 8],
        [0, 1], [0, 1], [0, 5], [0, 1], [0, 1], ["EINVAL", 0],
        [0, "ENOTTY", "EINVAL"],
        ["ENOSPC", 1],
        [0, [1, 17, 0, 1, 0]],
        [0, "EBADF"],
    ] == found.said  # fmt: skip


def test_interrupts_reach_the_programs_own_eventfds(ran):
    found = ran("""
c, g = attached(A)
d = device_of(g, A)
first, second = os.eventfd(0, os.EFD_NONBLOCK), os.eventfd(0, os.EFD_NONBLOCK)
fds = lambda *numbers: struct.pack(f"{len(numbers)}i", *numbers)
def counted(fd):
    try:
        return os.eventfd_read(fd)
    except BlockingIOError:
        return 0
say(irqs(d, 0x24, 2, 0, 3, fds(first, -1, second)), irqs(d, 0x21, 2, 0, 3), counted(first), counted(second))
say(irqs(d, 0x22, 2, 0, 3, b"\\0\\1\\1"), counted(first), counted(second))
say(irqs(d, 0x24, 2, 0, 1, fds(-1)), irqs(d, 0x21, 2, 0, 3), counted(first), counted(second))
say([irqs(d, 0x24, *more) for more in
     ((2, 1, 1, fds(1000)), (2, 1, 1, fds(out.fileno())), (2, 0, 2, fds(first)), (1, 0, 1, fds(first)))])
say(irqs(d, 0x21, 2, 0, 0), irqs(d, 0x21, 2, 0, 1), counted(second))
say(irqs(d, 0x24, 0, 0, 1, fds(first)), irqs(d, 0x9, 0, 0, 1), irqs(d, 0x11, 0, 0, 1))
say(irqs(d, 0x14, 0, 0, 1, fds(second)), irqs(d, 0x14, 0, 0, 1, fds(second)), irqs(d, 0x9, 1, 0, 1))
say(irqs(d, 0x24, 4, 0, 1, fds(second)), irqs(d, 0x21, 4, 0, 1), counted(second))
""")
    assert [
        [0, 0, 1, 1],
        [0, 0, 1],
        [0, 0, 0, 1],
        ["EBADF", "EINVAL", "EINVAL", "EINVAL"],
        [0, "EINVAL", 0],
        [0, 0, 0],
        [0, "EBUSY", "ENOTTY"],
        [0, 0, 1],
    ] == found.said


def test_config_space_says_what_the_machine_file_says_and_takes_writes(ran):
    found = ran("""
c, g = attached(A)
d = device_of(g, A)
at = 7 << 40
say(os.pread(d, 4, at).hex(), len(os.pread(d, 4096, at)))
say(os.pwrite(d, b"\\xff" * 4, at + 0x10), os.pread(d, 4, at + 0x10).hex(), os.pwrite(d, b"\\0\\0", at), os.pread(d, 2, at).hex())
bar = mmap.mmap(d, 8192, offset=0)
bar[:4] = b"abcd"
say(os.pread(d, 4, 0).decode())
where = ctypes.addressof(ctypes.c_char.from_buffer(bar))
say(dma_map(c, 0x1000, 8192, where), os.pwrite(d, b"\\0\\0", at + 4), dma_map(c, 0x10000, 8192, where))
""")
    assert [["8680d310", 4096], [4, "0000feff", 2, "8680"], "abcd", [0, 2, "EFAULT"]] == found.said


def test_a_bad_pointer_is_efault_for_every_ioctl_that_takes_one(ran):
    served = {kind: IOCTLS[kind].values() for kind in ("container", "group", "device")}
    numbers = {kind: [row.number for row in rows if row.struct and "IOMMUFD" not in row.name] for kind, rows in served.items()}
    found = ran(f"""
c, g = attached(A)
d = device_of(g, A)
for kind, numbers in {numbers!r}.items():
    fd = {{"container": c, "group": g, "device": d}}[kind]
    say([call(fd, number, at) for number in numbers for at in (0, 0x10, 1 << 63, (1 << 64) - 1)])
""")
    assert [["EFAULT"] * 4 * len(every) for every in numbers.values()] == found.said


def test_a_struct_may_end_where_the_memory_ends(ran):
    found = ran("""
c, g = attached(A)
page = memory(8192)
libc.munmap(ctypes.c_void_p(page + 4096), 4096)
def put(data):
    ctypes.memmove(page + 4096 - len(data), data, len(data))
    return page + 4096 - len(data)
say(call(c, 0x3b71, put(struct.pack("IIQQQ", 32, 3, page, 0, 4096))), call(c, 0x3b71, put(struct.pack("IIQQQ", 32, 3, page, 0, 4096)) + 4))
say(call(c, 0x3b70, put(struct.pack("IIQ", 16, 0, 0))), call(g, 0x3b6a, put(b"%s\\0" % A.encode())) > 2, call(g, 0x3b6a, put(b"0000")))
libc.mprotect(ctypes.c_void_p(page), 4096, 1)
say(call(c, 0x3b70, page + 4080), call(g, 0x3b6a, page + 4092))
""")
    assert [[0, "EFAULT"], [0, True, "EFAULT"], ["EFAULT", "EFAULT"]] == found.said


# several processes


def test_a_forked_child_maps_its_own_memory_and_the_file_lives_until_both_let_go(ran):
    found = ran("""
c, g = attached(A)
number = group_of(A)
if os.fork() == 0:
    m = memory(4096)
    say(dma_map(c, 0x1000, 4096, m))
    os.close(c)
    os.close(g)
    os._exit(0)
os.wait()
say(dma_unmap(c, 0x1000, 4096), opened(f"/dev/vfio/{number}"))
pid = os.fork()
if pid == 0:
    signal.pause()
os.close(c)
os.close(g)
say(opened(f"/dev/vfio/{number}"))
os.kill(pid, signal.SIGKILL)
os.wait()
say(opened(f"/dev/vfio/{number}") > 2)
""")
    assert [0, [4096, "EBUSY"], "EBUSY", True] == found.said
    assert "P1: map A iova=0x1000" in trace_text(found.host, "forked")


def test_a_descriptor_that_was_passed_on_is_the_same_open_file(ran):
    found = ran("""
ours, theirs = socket.socketpair()
c, g = attached(A)
if os.fork() == 0:
    os.close(c)
    os.close(g)
    data, more, *_ = theirs.recvmsg(1, 64)
    got = array.array("i", more[0][2])[0]
    say(dma_map(got, 0x1000, 4096, memory(4096)), got > 2)
    os._exit(0)
ours.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [c]))])
os.wait()
say(dma_map(c, 0x1000, 4096, memory(4096)), dma_map(os.dup(c), 0x2000, 4096, memory(4096)))
""")
    assert [[0, True], ["EEXIST", 0]] == found.said


NATIVE = """
fd = os.open("/dev/iommu", os.O_RDWR)
(node,) = os.listdir(f"/sys/bus/pci/devices/{A}/vfio-dev")
device = os.open(f"/dev/vfio/devices/{node}", os.O_RDWR)
def ask(cmd, form, *values, on=None):
    data = bytearray(struct.pack(form, *values))
    value = call(fd if on is None else on, cmd, data)
    return value, struct.unpack(form, data)
"""


def test_a_program_drives_iommufd_and_a_device_by_its_own_node(ran):
    found = ran(NATIVE + """
say(call(device, 0x3b6f))
say(ask(0x3b76, "IIiI", 16, 0, fd, 0, on=device) == (0, (16, 0, fd, 1)))
say(ask(0x3b81, "III", 12, 0, 0))
say(ask(0x3b85, "IIIIQQQ", 40, 7, 2, 0, memory(8192), 8192, 0x100000))
say(ask(0x3b77, "III", 12, 0, 2, on=device)[1][2], call(device, 0x3b6f))
say(ask(0x3b85, "IIIIQQQ", 40, 7, 2, 0, memory(4096), 4096, 0xfee00000)[0], ask(0x3b85, "IIIIQQQ", 40, 7, 2, 0, 4096, 4096, 0x200000)[0])
ranges = memory(4096)
say(ask(0x3b84, "IIIIQQ", 32, 2, 8, 0, ranges, 0)[1][2], struct.unpack("4Q", ctypes.string_at(ranges, 32)))
libc.mprotect(ctypes.c_void_p(ranges), 4096, 1)
say(ask(0x3b84, "IIIIQQ", 32, 2, 8, 0, ranges, 0)[0], opened("/dev/vfio/devices/vfio7"), opened("/dev/vfio/devices/x"))
say(ask(0x3b81, f"III{8192 - 12}s", 8192, 0, 0, b"")[0], ask(0x3b81, f"III{8192 - 12}s", 8192, 0, 0, b"\\0" * 5000 + b"x")[0])
say(ask(0x3b86, "IIQQ", 24, 2, 0, (1 << 64) - 1)[1][3], ask(0x3b80, "II", 8, 7)[0], call(fd, 0x3b81, 0x10))
""", machine="intel-vtd-iommufd")  # fmt: skip
    assert "EINVAL" == found.said[0]
    assert [True, [0, [12, 0, 2]], [0, [40, 7, 2, 0, found.said[3][1][4], 8192, 0x100000]], [3, 0]] == found.said[1:5]
    assert [["EINVAL", "EFAULT"], [2, [0, 0xFEDFFFFF, 0xFEF00000, (1 << 39) - 1]]] == found.said[5:7]
    assert [["EFAULT", "ENOENT", "ENOENT"], [0, "E2BIG"], [8192, "ENOENT", "EFAULT"]] == found.said[7:]


def test_where_the_kernel_has_no_iommufd_its_nodes_are_not_there(ran):
    assert ["ENOENT", False] == ran('say(opened("/dev/iommu"), os.path.exists("/dev/vfio/devices"))').said[0]


def test_what_a_killed_program_held_is_let_go(tmp_path):
    before = len(list(Path("/proc/self/fd").iterdir()))
    found = Ran(tmp_path, "c, g = attached(A)\nd = device_of(g, A)\ndma_map(c, 0, 4096, memory(4096))\nos.kill(os.getpid(), 9)\n")
    assert (137, "") == (found.outcome.status, found.outcome.ended)
    assert {} == found.host.process.descriptors
    assert 0 == found.host.process.locked_pages
    assert before == len(list(Path("/proc/self/fd").iterdir()))
    assert all(group.domain is None or group.owner is None for group in found.host.groups)


def test_a_closed_container_gives_its_group_back(ran):
    found = ran("""
c, g = attached(A)
m = memory(1 << 20)
say(dma_map(c, 0, 1 << 20, m))
os.close(g)
os.close(c)
c, g = attached(A)
say(dma_map(c, 0, 1 << 20, m))
""")
    assert [0, 0] == found.said
    assert 4 == sum(line.startswith("close(/dev/vfio/") for line in found.lines)


# sysfs


def facts(f, known):
    """Return what a machine file and configuration space both hold of a function, as far as the machine file knows it."""
    acs = f.acs and (f.acs.cap, f.acs.ctrl)
    ids, kind = f.ids if known.ids else None, f.kind if known.kind else None
    return f.bdf, ids, f.class_code, kind, acs, f.driver, f.msix, f.sriov_totalvfs, f.physfn


@pytest.mark.parametrize("name", ["intel-vtd-39bit", "two-smmu-server", "amd-matisse-desktop"])
def test_the_tree_reads_back_as_the_machine(name):
    host, files = vl.load(name), Files()
    tree = Tree(host, files.watch)
    try:
        back = read_sysfs(tree.root / "sys")
        assert [facts(f, f) for f in host.topology.values()] == [facts(back.topology[f.bdf], f) for f in host.topology.values()]
        assert [tuple(sorted(group.devices)) for group in host.groups] == [tuple(sorted(devices)) for devices in back.recorded]
    finally:
        files.close()
        tree.remove()


def test_a_script_binds_and_unbinds_as_on_a_real_machine(ran):
    found = ran(
        """
def write(path, words):
    fd = os.open(path, os.O_WRONLY | os.O_TRUNC)
    os.write(fd, words.encode())
    os.close(fd)
device = f"/sys/bus/pci/devices/{A}"
driver = lambda: os.path.exists(device + "/driver") and os.path.basename(os.path.realpath(device + "/driver"))
say(driver(), os.listdir("/dev/vfio"), open(device + "/vendor").read())
write(device + "/driver/unbind", A)
say(driver())
write(device + "/driver_override", "vfio-pci\\n")
write("/sys/bus/pci/drivers/vfio-pci/bind", A + "\\n")
say(driver(), sorted(os.listdir("/dev/vfio")) == sorted(["vfio", group_of(A)]), A in os.listdir("/sys/bus/pci/drivers/vfio-pci"))
say(open("/sys/module/vfio_iommu_type1/parameters/dma_entry_limit").read(), os.stat("/sys/bus/pci/devices").st_mode >> 12)
""",
        bind=(),
    )
    assert [["e1000e", ["vfio"], "0x8086\n"], False, ["vfio-pci", True, True], ["65535\n", 4]] == found.said


def test_where_the_kernel_would_wait_the_program_is_ended(tmp_path):
    found = Ran(tmp_path, """
c, g = attached(A)
d = device_of(g, A)
fd = os.open(f"/sys/bus/pci/devices/{A}/driver/unbind", os.O_WRONLY)
os.write(fd, A.encode())
signal.pause()
""")  # fmt: skip
    assert 137 == found.outcome.status
    assert "the real kernel waits here" in found.outcome.ended
    assert "vfio_unregister_group_dev" in found.outcome.ended


def test_what_the_model_does_not_know_is_no_errno(tmp_path):
    body = "c, g = attached(A)\nd = device_of(g, A)\nsay('before')\nsay(call(d, 0x3b74, bytearray(32)))\n"
    found = Ran(tmp_path, body)
    assert ["before"] == found.said
    assert "the model has no answer: IOEVENTFD" in found.outcome.ended


def test_a_program_without_end_is_ended(tmp_path):
    found = Ran(tmp_path, "while True: call(out.fileno(), 0)\n", seconds=0.5)
    assert "the limit of 0.5 s is over" == found.outcome.ended


# what is seen, and what is left


def test_a_refusal_is_printed_with_the_models_reason(ran):
    found = ran("c, g = attached(A)\nsay(dma_map(c, 0xfee00000, 4096, memory(4096)))\ndevice_of(g, A)\n")
    assert "    its BARs are assumed, by its class: the machine file does not know them" in found.lines
    at = next(n for n, line in enumerate(found.lines) if "EINVAL" in line)
    assert "ioctl(4, VFIO_IOMMU_MAP_DMA" == found.lines[at].partition(",")[0] + "," + found.lines[at].split(",")[1]
    assert "    0xfee0_0000-0xfee0_0fff overlaps the MSI window 0xfee0_0000-0xfeef_ffff" == found.lines[at + 1]
    assert "vfio_iommu_iova_dma_valid" in found.lines[at + 2]


BUSY = """
c, g = attached(A)
d = device_of(g, A)
m = memory(1 << 20)
say(dma_map(c, 0, 1 << 20, m), dma_map(c, 0xfee00000, 4096, m), dma_map(c, 0x100000, 4096, 0x10))
e = os.eventfd(0)
irqs(d, 0x24, 2, 0, 2, struct.pack("ii", e, -1))
irqs(d, 0x24, 2, 0, 2, struct.pack("ii", e, 500))
call(d, 0x3b70, bytearray(12))
call(d, 0x3b75, bytearray(struct.pack("II", 8, 0x40001)))
if os.fork() == 0:
    dma_map(c, 0x200000, 4096, memory(4096))
    os._exit(0)
os.wait()
say(dma_unmap(c, 0, 1 << 20))
"""


def test_a_trace_of_a_run_replays_with_the_same_answers(ran, tmp_path):
    text = trace_text(ran(BUSY).host, "busy")
    scenarios, machine = read_trace(text), read_machine("\n".join(line[3:] for line in text.split("\n") if line.startswith("#| ")))
    report = compare(scenarios, carry_out(questions(scenarios), machine), machine)
    assert [] == report.divergences
    assert 15 < report.compared.total()
    path = tmp_path / "busy.vfiolab"
    path.write_text(text)
    assert [] == vl.open_session(path).said
    assert [] == vl.open_capture(path).run("intel-vtd-39bit").differing


def test_a_picture_shows_what_the_program_had_before_it_let_go(ran):
    shown = picture(ran("c, g = attached(A)\nsay(dma_map(c, 0x40000000, 1 << 30, memory(1 << 30)))\n").host)
    assert "0x4000_0000" in str(shown.table)


def test_the_same_calls_elsewhere_fail_where_the_model_says(ran):
    text = trace_text(ran("c, g = attached(A)\nsay(dma_map(c, 0x8000000, 4096, memory(4096)))\n").host, "run")
    rows = {
        (row.machine, row.kernels[0]): row for row in elsewhere(text, names=["intel-vtd-39bit", "virtio-iommu-guest", "two-smmu-server"])
    }
    assert "" == rows["intel-vtd-39bit", "4.4"].call
    assert rows["virtio-iommu-guest", "4.4"].why.startswith("EPERM")
    window = [row for row in rows.values() if row.machine == "two-smmu-server"]
    assert [("4.4",), False] == [window[0].kernels[:1], bool(window[0].call)]
    assert "software MSI window" in window[-1].why


# the command


def vfiolab(*words, **more):
    return subprocess.run([sys.executable, "-m", "vfiolab", "run", *words], capture_output=True, text=True, check=False, **more)


def test_the_command_ends_as_the_program_does(tmp_path):
    done = vfiolab("--machine", "intel-vtd-39bit", "--bind", "01:00.0", "--trace", str(tmp_path / "t.trace"), "--",
                   "sh", "-c", "ls /dev/vfio; readlink /sys/bus/pci/devices/0000:01:00.0/driver; exit 7")  # fmt: skip
    assert (7, "17\nvfio\n../../../../bus/pci/drivers/vfio-pci\n", "") == (done.returncode, done.stdout, done.stderr)
    assert (tmp_path / "t.trace").read_text().startswith("# vfiolab session 1")


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--machine", "intel-vtd-39bit", "--", "/no/such/program"], 127, "/no/such/program: No such file or directory"),
        (["--machine", "no-such-machine", "--", "true"], 2, "no-such-machine"),
        (["--machine", "intel-vtd-39bit", "--bind", "00:03.0", "--", "true"], 2, "00:03.0"),
        (["--machine", "intel-vtd-39bit", "--param", "nonsense=1", "--", "true"], 2, "no module parameter"),
    ],
)
def test_the_command_says_what_is_wrong(capfd, words, status, said):
    assert status == main(["run", *words])
    assert said in capfd.readouterr().err


def test_elsewhere_than_on_linux_a_sentence_is_all(capfd, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert 2 == main(["run", "--machine", "intel-vtd-39bit", "--", "true"])
    assert "on Linux only, and this is darwin" in capfd.readouterr().err


def test_a_command_that_is_terminated_takes_the_program_along():
    words = [sys.executable, "-m", "vfiolab", "run", "--machine", "intel-vtd-39bit", "--", "sh", "-c", "echo $$; exec sleep 60"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as command:
        program = int(command.stdout.readline())
        command.terminate()
        assert 143 == command.wait(20)
    with pytest.raises(ProcessLookupError):
        os.kill(program, 0)


# random calls


def hammered(tmp_path, calls, seed):
    """Return a client after so many random calls, on random kernels' descriptors, with good, bad and odd pointers."""
    return Ran(tmp_path, f"""
import random
dice = random.Random({seed})
c, g = attached(A)
d = device_of(g, A)
m = memory(1 << 16)
edge = memory(8192)
libc.munmap(ctypes.c_void_p(edge + 4096), 4096)
fds = [c, g, d]
numbers = list(range(0x3b64, 0x3b78)) + [0x3b80, 0x3bff]
odd = [0, 1, 7, 8, 16, 20, 24, 32, 48, 4095, 4096, 1 << 20, 1 << 31, (1 << 32) - 1, 1 << 40, 1 << 63, (1 << 64) - 1, m, edge, 0x1000]
raw = ctypes.CDLL(None).ioctl
raw.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong]
made = 0
for n in range({calls}):
    cmd = dice.choice(numbers)
    fd = dice.choice(fds)
    if cmd == 0x3b6a or (fd == fds[2] and cmd in (0x3b74, 0x3b75)):
        continue  # opens without end; what the model has no answer to
    at = dice.choice([m, m, m, edge + 4096 - dice.choice([4, 8, 16, 20, 24, 32, 48]), 0, 8, 1 << 63])
    if at >= m:
        words = [dice.choice([dice.choice(odd), dice.getrandbits(64)]) for _ in range(8)]
        words[0] = dice.choice([8, 16, 20, 24, 32, 40, 48, 120, 4096]) | dice.choice([0, 1, 2, 3, 4, 0x24, 0x21, 0x11]) << 32
        data = struct.pack("8Q", *words)[: 64 if at == m else edge + 4096 - at if edge <= at < edge + 4096 else 0]
        ctypes.memmove(at, data, len(data)) if data else None
    raw(fd, cmd, at if cmd != 0x3b66 else dice.choice([1, 3, 8, 99]))
    made += 1
    if dice.random() < .01:
        for one in fds: os.close(one)
        c, g = attached(A)
        fds = [c, g, device_of(g, A)]
say(made)
""", keep=False, seconds=3000)  # fmt: skip


@pytest.mark.parametrize("calls", [1500, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_random_calls_leave_the_model_whole(tmp_path, calls):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = hammered(tmp_path, calls, seed=1)
    assert found.ended_well, found.outcome
    assert 0.8 * calls < found.said[0] <= found.outcome.calls
    assert {} == found.host.process.descriptors
    assert 2001 > len(found.host.log.calls)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10  # KiB


# other people's programs

C_CLIENT = r"""
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <linux/vfio.h>
int main(void) {
    static char memory[1 << 16] __attribute__((aligned(4096)));
    int container = open("/dev/vfio/vfio", O_RDWR), group = open("/dev/vfio/17", O_RDWR);
    struct vfio_iommu_type1_dma_map map = {sizeof map, 3, (__u64)memory, 0x100000, sizeof memory};
    struct vfio_device_info info = {sizeof info};
    ioctl(group, VFIO_GROUP_SET_CONTAINER, &container);
    ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU);
    int mapped = ioctl(container, VFIO_IOMMU_MAP_DMA, &map), device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, "0000:01:00.0");
    ioctl(device, VFIO_DEVICE_GET_INFO, &info);
    printf("%d %d %u\n", mapped, device > 2, info.num_regions);
}
"""


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
@pytest.mark.parametrize("static", [[], ["-static"]], ids=["dynamic", "static"])
def test_a_c_program_runs(capfd, tmp_path, static):
    (tmp_path / "client.c").write_text(C_CLIENT)
    if subprocess.run(["gcc", *static, "-o", tmp_path / "client", tmp_path / "client.c"], check=False, capture_output=True).returncode:
        pytest.skip("gcc finds no linux/vfio.h or no static libc")
    assert 0 == main(["run", "--machine", "intel-vtd-39bit", "--bind", "01:00.0", "--quiet", "--", str(tmp_path / "client")])
    assert ("0 1 9\n", "") == capfd.readouterr()


QEMU = ["qemu-system-x86_64", "-nographic", "-nodefaults", "-monitor", "stdio", "-S"]
#: Machine, what is set first, the options, and the errno and words of the refusal that QEMU meets ("" for none).
GUESTS = [
    ("intel-vtd-39bit", {}, ["-m", "64"], "", ""),
    ("amd-vi-server", {}, ["-m", "64"], "", ""),
    ("two-smmu-server", {}, ["-m", "64"], "", ""),
    ("two-smmu-server", {}, ["-m", "256"], "EINVAL", "overlaps the software MSI window 0x800_0000-0x80f_ffff"),
    ("virtio-iommu-guest", {"vfio_iommu_type1.allow_unsafe_interrupts": "Y"}, ["-m", "64"], "", ""),
    ("virtio-iommu-guest", {}, ["-m", "64"], "EPERM", "no interrupt remapping"),
    ("intel-vtd-kernel-4.4", {}, ["-m", "64"], "", ""),
    ("intel-vtd-iommufd", {}, ["-m", "64"], "", ""),
]


def devices_of(host):
    """Return the network cards of a machine that share their groups with bridges only."""
    users = [f.bdf for f in host.topology.values() if f.is_for_users and (f.class_code or 0) >> 16 == 2]
    groups = {bdf: host.group_of(bdf) for bdf in users}
    return [bdf for bdf, group in groups.items() if group and [one for one in group.devices if not host.topology[one].is_bridge] == [bdf]]


def guest(name, params, words, typed="quit\n", seconds=60):
    """Run QEMU with a device of a machine; return the host, the outcome, what was told and what QEMU itself said."""
    host, lines = vl.load(name), []
    for parameter, value in params.items():
        host.set_param(parameter, value)
    first, second = devices_of(host)[:2]
    host.bind(first)
    host.bind(second)
    reading, writing = os.pipe()
    kept = os.dup(0)
    os.write(writing, typed.format(second=second).encode())
    os.close(writing)
    os.dup2(reading, 0)
    try:
        command = [*QEMU, *words, "-device", f"vfio-pci,host={first}"]
        outcome = run_program(host, command, tell=lines.extend, keep=True, seconds=seconds)
    finally:
        os.dup2(kept, 0)
        os.close(kept)
        os.close(reading)
    return host, outcome, lines


@pytest.mark.program
@pytest.mark.parametrize(("name", "params", "words", "errno", "why"), GUESTS)
def test_qemu_starts_or_is_refused_as_on_the_real_machine(capfd, name, params, words, errno, why):
    _, outcome, lines = guest(name, params, words)
    said = capfd.readouterr().err
    assert "" == outcome.ended
    if errno:
        assert 1 == outcome.status
        assert "vfio" in said
        at = next(n for n, line in enumerate(lines) if f"-1 {errno} " in line)
        assert why in lines[at + 1]
    else:
        refused = [line for line in lines if "-1 E" in line and "GET_IRQ_INFO" not in line]
        assert (0, []) == (outcome.status, refused), "\n".join(lines[-30:])
        assert any("VFIO_DEVICE_RESET" in line for line in lines)


@pytest.mark.program
def test_a_trace_of_qemu_replays_with_the_same_answers():
    host, outcome, _ = guest("intel-vtd-39bit", {}, ["-m", "64"])
    text = trace_text(host, "qemu")
    scenarios = read_trace(text)
    machine = read_machine("\n".join(line[3:] for line in text.split("\n") if line.startswith("#| ")))
    assert [] == compare(scenarios, carry_out(questions(scenarios), machine), machine).divergences
    assert 0 == outcome.status


@pytest.mark.program
def test_qemu_adds_a_device_to_the_live_container():
    _, outcome, lines = guest("two-smmu-server", {}, ["-m", "64"], "device_add vfio-pci,host={second}\nquit\n")
    assert (0, "") == (outcome.status, outcome.ended)
    assert 2 == sum("VFIO_GROUP_SET_CONTAINER" in line for line in lines)
    assert 1 == sum("VFIO_SET_IOMMU" in line for line in lines)
    assert 2 == sum("VFIO_GROUP_GET_DEVICE_FD" in line for line in lines)


@pytest.mark.program
def test_the_page_of_runs_says_what_is_printed():
    assert 0 == running.main(["--check"])
