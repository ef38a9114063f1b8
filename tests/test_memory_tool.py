"""The tool that measures what a class costs reads the kernel's own sums, and finds a server's kernels."""

import subprocess
import sys
from pathlib import Path

import pytest

ROLLUP = """55d0c0a00000-7ffd1b5fe000 ---p 00000000 00:00 0                          [rollup]
Rss:                2048 kB
Pss:                1536 kB
Pss_Dirty:           512 kB
Shared_Clean:       1024 kB
Private_Clean:       300 kB
Private_Dirty:       700 kB
"""


@pytest.fixture
def memory():
    pytest.importorskip("playwright", reason="the tool drives a browser")
    from tools import memory

    return memory


def test_what_a_process_has_for_itself_is_its_private_pages_clean_and_dirty(memory):
    assert (2048, 1536, 1000) == memory.rollup(ROLLUP)


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="only Linux has this file")
def test_kernels_are_found_below_a_server_at_any_depth_and_nothing_else_is_counted(memory):
    kernel = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()', 'ipykernel_launcher'])"
    with subprocess.Popen([sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {kernel!r}])"],
                          stdin=subprocess.PIPE) as server:  # fmt: skip
        found = []
        while not found and server.poll() is None:
            found = [pid for pid in memory.kernels(server.pid) if b"input()" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")]
        assert 1 == len(found)
        server.communicate(b"\n")
