"""A mapping that ends at 2^64: kernels up to 6.13 lose it, newer ones keep it like any other."""

from __future__ import annotations

import pytest
from model_steps import PAGE, A, amd, container, fill

from vfiolab.model.errors import VfioError

TOP = (1 << 64) - PAGE


def test_an_old_kernel_does_not_find_it_and_lets_another_lie_over_it():
    host = amd().host("6.1")
    opened = container(host, A)
    for _ in range(2):
        fill(host, opened, TOP, PAGE)
    assert [TOP, TOP] == [dma.iova for dma in opened.backend.dmas]
    host._check()


def test_a_new_kernel_finds_it():
    host = amd().host("7.3")
    opened = container(host, A)
    fill(host, opened, TOP, PAGE)
    with pytest.raises(VfioError, match="EEXIST"):
        fill(host, opened, TOP, PAGE)
    assert PAGE == opened.unmap_dma(TOP, PAGE)
    assert 0 == host.process.locked_pages


def test_an_old_kernel_leaves_its_pages_charged():
    host = amd().host("6.1")
    opened = container(host, A)
    fill(host, opened, TOP, PAGE)
    assert 0 == opened.unmap_dma(TOP, PAGE)
    opened.unmap_dma(flags=2)
    assert 1 == host.process.locked_pages
