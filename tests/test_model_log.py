"""The log tells of each call what came of it, also where there is no answer."""

from collections import Counter
from contextlib import suppress

import pytest
from model_steps import A, container, fill, intel, machines

import vfiolab as vl
from vfiolab.draw.transcript import strace_line
from vfiolab.model.errors import NotModelledError, VfioError


def test_a_call_whose_answer_the_model_does_not_know_is_no_success():
    host = machines()["three smmus"].host("6.12")
    opened = host.process.open_container()
    host.process.open_group("mdev0").set_container(opened)
    opened.set_iommu(3)
    device = next(file for file in host.process.descriptors.values() if getattr(file, "id", None) is not None).get_device_fd("mdev0")
    with pytest.raises(NotModelledError):
        device.set_irqs(1)
    assert "not modelled" == host.log.calls[-1].result
    assert "+++ the model does not know the kernel's answer here +++" in strace_line(host.log.calls[-1])


@pytest.mark.parametrize(
    "call",
    [
        lambda host, _: host.bind(7),
        lambda host, _: host.bind(A, None),
        lambda host, _: host.process.open_group(1.5),
        lambda host, _: host.process.open_group(1 << 40),
        lambda _, group: group.get_device_fd(3),
        lambda _, group: group.set_container("x"),
        lambda _, group: group.ioctl("x"),
    ],
)
def test_an_argument_that_no_kernel_ever_sees_leaves_no_call_in_the_log(call):
    host = intel().host("6.12")
    opened = container(host, A)
    fill(host, opened, 0x1000, 0x1000)
    group = next(file for file in host.process.descriptors.values() if file is not opened)
    before = len(host.log)
    with pytest.raises((TypeError, ValueError)):
        call(host, group)
    assert before == len(host.log)
    assert [] == host.log.running


def walked():
    """Make a log of every kind of call: refused and not, with faults, with arguments that no kernel sees."""
    space = vl.load("two-smmu-server").address_space()
    space.attach("0000:01:00.0", "0000:21:00.0")
    for page in range(12):
        with suppress(VfioError):
            space.map(0x7FE0000 + page * 0x10000, "64K")
    space.dma_write("0000:01:00.0", 0x7FE0000)
    space.dma_write("0000:01:00.0", 0x800)
    with suppress(VfioError):
        space.attach("0000:00:01.0")
    with suppress(TypeError):
        space.container.set_iommu("three")
    space.unmap(0x7FE0000)
    space.detach("0000:21:00.0")
    return space.log


def test_a_log_counts_as_it_goes_what_it_would_count_by_walking():
    log = walked()
    assert (
        f"EventLog({len(log.calls)} calls, {sum(call.error is not None for call in log.calls)} refused, {len(log.events)} events)"
        == repr(log)
    )
    assert Counter((call.verb, call.error is not None) for call in log.calls) == log.tally


def test_the_landmarks_of_a_log_are_what_is_refused_what_joins_and_leaves_and_where_devices_fault():
    log = walked()
    bulk = {"map", "unmap", "bind", "unbind", "dma_write", "close_device"}
    assert [
        at
        for at, call in enumerate(log.calls)
        if call.verb not in bulk or call.error is not None or any(event.kind == "fault" for event in call.events)
    ] == log.landmarks
    done = [at for at, call in enumerate(log.calls) if call.verb in ("map", "unmap") and call.error is None]
    assert {log.calls[done[-1]].target: done[-1]} == log.changed
