"""Operations and arguments of the trace format that the recordings do not hold: they get an answer, never a traceback."""

from __future__ import annotations

import pytest
from recorded import machine

from vfiolab.client import run
from vfiolab.readers.trace import questions, read_trace
from vfiolab.replay import compare

UP = "bind dev=0000:01:00.0\nopen_container A\nopen_group G dev=0000:01:00.0\nset_container G A\nset_iommu A type=3\n"


def answers(text, environment="intel-6.12-ir", **change):
    from dataclasses import replace

    one = replace(machine(environment), **change)
    done, = run(questions(read_trace(f"## one\n{text}")), one)  # fmt: skip
    return [one.result for one in done], done


@pytest.mark.parametrize(
    ("line", "result"),
    [
        ("open_container N path=/dev/null\nset_container G N", "EINVAL"),
        ("map A iova=-4096 size=0x1000 flags=-1", "EINVAL"),
        ("map A iova=0x1000 size=0x1000 argsz=-1", "0"),
        ("map A iova=010 size=4096", "EINVAL"),
        ("map A iova=@0x1000 size=0x1000", "EINVAL"),
        ("get_info A argsz=-1", "0"),
        ("unmap A flags=-1", "EINVAL"),
        ("dirty A", "0"),
        ("dirty A flags=-1", "EINVAL"),
        ("group_status G argsz=-1", "0"),
        ("set_iommu A type=9", "EINVAL"),
        ("bind dev=0000:02:00.0 drv=nosuch", "ENOENT"),
        ("unbind dev=0000:77:00.0", "0"),
        ("drop_cap cap=14\ndrop_cap keep=1 restore=1", "EPERM"),
        ("drop_cap keep=1\ndrop_cap keep=1 restore=1", "0"),
        ("drop_cap restore=1", "EPERM"),
        ("open_group N grp=noiommu-0", "ENOENT"),
        ("no_such_word A", "skipped"),
        ("rlimit_memlock @0x10", "0"),
        ("mem vaddr=@0x0 size=0x1000 kind=hole\nmap A iova=0x1000 size=0x1000", "EFAULT"),
        ("raw_ioctl A cmd=0x3b64", "0"),
        ("map G iova=0 size=0x1000", "ENOTTY"),
        ("close A\nmap A iova=0 size=0x1000", "skipped"),
    ],
)
def test_it_gets_the_kernels_answer(line, result):
    results, done = answers(UP + line)
    assert result == results[-1], done[-1].why


def test_a_fresh_file_is_no_container_from_6_2_on():
    before = "bind dev=0000:01:00.0\nopen_group G dev=0000:01:00.0\nopen_container N path=/dev/null\nset_container G N"
    assert "EBADFD" == answers(before)[0][-1]
    assert "EINVAL" == answers(before, "intel-6.1-ir")[0][-1]


@pytest.mark.parametrize(
    ("count", "result"), [("count=0", "EINVAL"), ("count=1\nset_irqs D index=3 count=0", "0"), ("count=1 flags=0x21", "EINVAL")]
)
def test_an_error_interrupt_is_signalled_or_disabled_only_when_it_is_enabled(count, result):
    assert result == answers(f"{UP}get_device_fd D G name=0000:01:00.0\nset_irqs D index=3 {count}")[0][-1]


def test_msi_is_not_signalled_before_it_is_enabled():
    assert "EINVAL" == answers(f"{UP}get_device_fd D G name=0000:01:00.0\nset_irqs D index=1 count=1 flags=0x21")[0][-1]


def test_an_arena_address_as_an_iova_is_compared():
    scenarios = read_trace(f"## one\n{UP}map A iova=@0x1000 size=0x1000 -> 0\n")
    report = compare(scenarios, run(questions(scenarios), machine("amd-6.1")), machine("amd-6.1"))
    assert (1, 0) == (report.operations, len(report.divergences))
