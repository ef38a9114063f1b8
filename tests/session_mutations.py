"""Session files with something wrong in them: bytes, lines, numbers, and steps that are what somebody would like to run."""

from __future__ import annotations

import random
import re

#: Steps that would do something else than a session does, or take for ever.
HOSTILE = [
    *"""\
__import__("os").system("touch {marker}")
space.__class__.__init__("x")
space.map(__import__("os").system("touch {marker}"))
host.process.system("x")
space.map(**{"a": 1})
space.map(*[1] * 10**9)
space.map(10**10**10, 1)
space.map(0, -1)
space.map(0, 2**64)
space.map(0, 0xFFFFFFFFFFFFF000)
space.map(1e400, 1)
space.map(True, None)
space.map(b'x', 1)
space.map(0, 4096, vaddr=0xFFFFFFFFFFFFF000)
space.map(0, 0x3fff_ffff_f000)
space.map(0, "4K", "\\ud800")
space.map(0, "4K", name=7)
space.map(0, "4K", rights=7)
space.map(0, "4K", vaddr="x")
space.enable_msi("01:00.0", 10**9)
space.enable_msi("01:00.0", 1000000000)
space.enable_msi("01:00.0", 0xFFFF_FFFF)
space.enable_msi("01:00.0", 2048, index=1)
space.enable_msi("01:00.0", -1)
space.enable_msi("01:00.0", 1, index=0)
space.dma_write("01:00.0", 0, -1, 0x7FFF_FFFF)
space.dma_write("01:00.0", 0x4000_0000, 1, "3G")
space.dma_read("01:00.0", 0, 0xFFFF_FFFF)
space.dma_read("01:00.0", 0, -5)
space.dma_read("01:00.0", 0, "4K")
space.raise_msi("01:00.0", 0xFFFF_FFFF)
space.raise_msi("01:00.0", -1)
space.raise_msi(7)
space.fork("host")
space.fork("P; import os")
space.fork(1)
space.fork("")
space.attach(None)
space.attach()
space.attach("")
space.attach("99:99.9")
space.detach(None)
space.open(None)
space.open(5)
space.close(1)
space.unmap(0, 2**70)
space.unmap("x")
space.unmap(None)
space.unmap_all(1)
space.process.exit()
host.process.exit()
space.process.exit("x")
space.process.set_memlock(-1)
space.process.set_memlock("x")
space.process.set_memlock(2**70)
space.process.drop_capability(-1)
space.process.drop_capability("x")
space.process.drop_capability(14, keep=0)
space.process.remove(5)
space.process.remove("01:00.0")
space.process.rescan()
host.bind(5)
host.bind("01:00.0", 5)
host.bind("01:00.0", "")
host.bind(None, None)
host.unbind(None)
host.set_param("x", None)
host.set_param(1, 2)
host.set_param("vfio_iommu_type1.dma_entry_limit", -1)
host.set_param("vfio_iommu_type1.dma_entry_limit", "9" )
host.address_space(2**40)
host.address_space("x")
host.address_space(-1)
host.address_space(None)
lambda: 0
space.map_program(7)
space.map_program("dpdk-2M", "64T")
space.map_program("dpdk-2M", "64M")
space.map_program("qemu-q35", "200T")
space.map_program("nvme", -1)
space.map_program("1G", "1T", "4K")
space.map_program(0, 2**64, 1)
""".splitlines(),
    "space.map(" + "(" * 5000,
    "space.map(" + "-" * 20000 + "1)",
    "space.map([" * 900,
    "space.map(" + "9" * 5000 + ", 1)",
    "space.map(0x" + "f" * 20000 + ", 1)",
    'space.map(0, "' + "9" * 5000 + '")',
    f'space.dma_write("01:00.0", 0, 0x{"f" * 200}, 0xFFFF_FFFF)',
    "x" * 70000,
]
#: Lines of a trace that say too much, too little, or something else.
OPERATIONS = [
    *"""\
open_container A
map A iova=0 size=0xffffffffffffffff
map A iova=0 size=0x1000 vaddr=@0
map Z iova=0
set_irqs D1 index=2 count=0xffffffff
fork P
fork a();b
new_process a();b
new_process host
host: bind dev=x
kill P
wait P
exit
P: exit
status
mem vaddr=0 size=0
mem vaddr=@0 size=0xffffffffffffffff
mem vaddr=0xffffffffffffffff size=0xffffffffffffffff kind=hole
rlimit_memlock x
rlimit_memlock
param name=dma_entry_limit value=x
pwrite D1 len=0xffffffff
pwrite D1 region=7 off=4 len=0xffffffff val=2
raw_ioctl A cmd=0x3b71
dirty A flags=4 iova=0 size=0xffffffffffff bm_size=0xffffffffffff bm_pgsize=1
unmap A flags=1 bm_size=-1 bm_pgsize=4096 size=-1
dirty A flags=1
dma_write 0000:01:00.0 iova=0 size=0xffffffff data=-1
dma_read 0000:01:00.0 iova=0 size=-1
raise_msi x vector=-1
sysfs path=/sys/bus/pci/rescan value=1
sysfs path=/etc/passwd value=x
mmapdev D1 size=0xffffffffffffffff vaddr=0xffffffffffffffff
set_irqs2 D1 data=eventfd action=x
get_info A argsz=x
get_info A argsz=99999999999999999999999
unknown
open_group G9
get_device_fd D9 G1
map A size=%00 iova=%ff
close
a: b: c
-> 0
set_container G1 A B C
set_iommu A type=-1
open_container B -> 0 {}{}
    map D1 0 0 7
# calls
# step
#| {
# kernel 9.9
## two
""".splitlines(),
    "open_group G9 grp=" + "9" * 5000,
    'open_container B -> 0 {"a":' + "[" * 3000,
]
NUMBERS = (
    "0",
    "-1",
    "1",
    "4096",
    "65535",
    "1000000000",
    "0xffffffff",
    "0xffffffffffffffff",
    "0x" + "f" * 400,
    "9" * 5000,
    "1e9",
    "",
    "NaN",
    "null",
    "[]",
)
_NUMBER = re.compile(r"0x[0-9a-fA-F_]+|\d+")


def mutated(text: str, rng: random.Random, marker: str) -> str:
    """Return a session's text with one to three things wrong."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        text = rng.choice(MUTATIONS)(text, rng).replace("{marker}", marker)
    return text


def _place(lines: list[str], rng: random.Random) -> int:
    """Choose a line: mostly one of the head and the steps, which are few beside the machine's."""
    own = [at for at, line in enumerate(lines) if not line.startswith("#|")]
    return rng.choice(own) if own and rng.random() < 0.7 else rng.randrange(len(lines))


def _flipped(text: str, rng: random.Random) -> str:
    raw = bytearray(text.encode(errors="surrogateescape"))
    for _ in range(rng.choice((1, 1, 2, 8))):
        if raw:
            raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    return raw.decode(errors="surrogateescape")


def _line(change):  # a mutation of one line
    def mutation(text: str, rng: random.Random) -> str:
        lines = text.split("\n")
        at = _place(lines, rng)
        lines[at : at + 1] = change(lines, at, rng)
        return "\n".join(lines)

    return mutation


def _swapped(text: str, rng: random.Random) -> str:
    lines = text.split("\n")
    one, other = _place(lines, rng), _place(lines, rng)
    lines[one], lines[other] = lines[other], lines[one]
    return "\n".join(lines)


def _number(lines: list[str], at: int, rng: random.Random) -> list[str]:
    found = list(_NUMBER.finditer(lines[at]))
    if not found:
        return [lines[at]]
    one = rng.choice(found)
    return [lines[at][: one.start()] + rng.choice(NUMBERS) + lines[at][one.end() :]]


def _step(lines: list[str], at: int, rng: random.Random) -> list[str]:
    steps = [n for n, line in enumerate(lines) if line.startswith("# step ")]
    if steps and rng.random() < 0.8:
        lines[rng.choice(steps)] = f"# step {rng.choice(HOSTILE)}"
        return [lines[at]]
    return [f"# step {rng.choice(HOSTILE)}", lines[at]]


MUTATIONS = (
    _flipped,
    _swapped,
    lambda text, rng: text[: rng.randrange(len(text) + 1)],
    _line(lambda lines, at, rng: []),  # noqa: ARG005
    _line(lambda lines, at, rng: [lines[at]] * rng.choice((2, 2, 50))),
    _line(_number), _line(_number), _line(_step), _line(_step),
    _line(lambda lines, at, rng: [lines[at], rng.choice(OPERATIONS)]), _line(lambda lines, at, rng: [rng.choice(OPERATIONS)]),  # noqa: ARG005
)  # fmt: skip
