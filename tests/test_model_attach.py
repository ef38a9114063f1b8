"""Attaching that ends without an answer: nothing stays half done."""

import pytest
from model_steps import PAGE, A, container, fill, group, intel, snapshot
from model_world import invariants

from vfiolab.model.errors import KernelCrashError


def test_an_attach_on_which_the_kernel_dies_leaves_the_container_whole():
    host = intel({"width": 48}, mdevs=1).host("4.4")
    opened = container(host, "mdev0")
    fill(host, opened, (1 << 64) - PAGE, PAGE)
    entering = group(host, A)
    before = snapshot(host)
    with pytest.raises(KernelCrashError):
        entering.set_container(opened)
    assert before == snapshot(host)
    invariants(host)
