"""The log tells of each call what came of it, also where there is no answer."""

import pytest
from model_steps import A, container, fill, intel, machines

from vfiolab.draw.transcript import strace_line
from vfiolab.model.errors import NotModelledError


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
