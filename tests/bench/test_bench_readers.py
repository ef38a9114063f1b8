"""How long readers take for what nobody means well, and for large hosts: in proportion to the input."""

from __future__ import annotations

import gc
from contextlib import suppress
from time import process_time

import pytest
from hostile import HOSTILE, many_devices

from vfiolab.readers.errors import InputError
from vfiolab.readers.lspci import read_lspci
from vfiolab.readers.pcifile import read_pci_text

pytestmark = pytest.mark.bench

BAR = 1.6  # exponent: 1 is in proportion, 2 is quadratic; caches take their part of large inputs


def reading(read, text):
    """Return an action: read the text; it gives its CPU seconds, without the garbage collector's, which grow with all that lives."""

    def act():
        gc.disable()
        start = process_time()
        with suppress(InputError):
            read(text)
        seconds = process_time() - start
        gc.enable()
        return seconds

    return act


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_input_takes_time_in_proportion(beside, name):
    small, large = (reading(lambda text: read_pci_text(text, source="hostile"), HOSTILE[name](size)) for size in (1, 8))
    beside(f"{name}, 8 times as much", large, "once", small, within=8**BAR, rounds=3)


def test_a_listing_of_many_devices_is_read_in_proportion(beside):
    small, large = (reading(read_lspci, many_devices(segments)) for segments in (1, 4))
    beside("a listing of 32,768 devices", large, "8,192", small, within=4**BAR, rounds=3)
