"""Ctrl-C at any moment: a call is done or not begun, and the model goes on."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
from itertools import count

import pytest
from model_world import invariants

import vfiolab as vl
from vfiolab.model.errors import VfioError
from vfiolab.model.signals import HOLD, whole

DEVICES = ("0000:01:00.0", "0000:21:00.0", "0000:04:00.0")


class Storm:
    """Sends SIGINT at random moments of a block, one at a time."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def __enter__(self):
        self.alarm = signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
        self.interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
        return self

    def __exit__(self, *_):
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self.alarm)
        signal.signal(signal.SIGINT, self.interrupt)

    def arm(self):
        """Interrupt soon; again after half a second, because Python drops what a collector's callback or a finalizer raises."""
        signal.setitimer(signal.ITIMER_REAL, self.random.uniform(2e-6, 6e-4), 0.5)

    def disarm(self):
        signal.setitimer(signal.ITIMER_REAL, 0)


def act(space, rng):
    """Do one thing that a learner does."""
    device = rng.choice(DEVICES)
    slot = 0x1_0000_0000 + 0x1000 * rng.randrange(64)
    verb = rng.choice(("map", "map", "map", "unmap", "unmap", "attach", "detach", "msi", "all", "process", "bind"))
    try:
        if verb == "map":
            space.map(slot, 0x1000 * rng.randint(1, 4))
        elif verb == "unmap":
            space.unmap(slot & ~0x3FFF, 0x4000)
        elif verb == "attach":
            space.attach(device)
        elif verb == "detach":
            space.detach(device)
        elif verb == "msi":
            space.enable_msi(device, 1)
        elif verb == "all" and rng.random() < 0.1:
            space.unmap_all()
        elif verb == "bind" and not space.groups:
            space.host.bind(device, rng.choice(("vfio-pci", "pci-stub")))
    except (VfioError, ValueError):
        pass


def interrupted(number, seed=7):
    """Interrupt a user of the model so often; every interrupt ends one verb, and leaves what holds after every verb."""
    rng, seen, host = random.Random(seed), 0, None
    with Storm(seed) as storm:
        while seen < number:
            if host is None or seen % 200 == 0:
                host = vl.load("two-smmu-server")
                space = host.address_space()
            try:
                storm.arm()
                for _ in count():
                    act(space, rng)
            except KeyboardInterrupt:
                storm.disarm()
                seen += 1
            assert [] == host.log.running
            invariants(host)
            host.log.calls.clear()
            host.log.landmarks.clear()
            host.log.changed.clear()
    return seen


# Hypothesis counts the collector's time in a callback; an interrupt that falls there is dropped by Python, and comes again.
@pytest.mark.filterwarnings("ignore:Exception ignored in")
def test_a_thousand_interrupts_leave_a_model_that_holds():
    assert 1_000 == interrupted(1_000)


@pytest.mark.slow
def test_a_hundred_thousand_interrupts_leave_a_model_that_holds():
    assert 100_000 == interrupted(100_000, seed=20151203)


def test_an_interrupt_comes_when_the_call_is_done():
    host = vl.load("two-smmu-server")

    def call():
        with host.log.call("map") as record:
            signal.raise_signal(signal.SIGINT)
            record.output = {"went": "on"}

    with Storm(0), pytest.raises(KeyboardInterrupt):
        call()
    assert ({"went": "on"}, []) == (host.log.calls[-1].output, host.log.running)


def test_a_verb_of_several_calls_is_not_cut_in_two():
    space = vl.load("two-smmu-server").address_space()
    open_group = space.process.open_group

    def open_and_interrupt(name):
        signal.raise_signal(signal.SIGINT)
        return open_group(name)

    space.process.open_group = open_and_interrupt
    with Storm(0), pytest.raises(KeyboardInterrupt):
        space.attach(DEVICES[0])
    assert 1 == len(space.groups)


def test_the_handler_that_was_there_gets_what_comes_in_a_call_and_between_calls():
    seen = []
    before = signal.signal(signal.SIGINT, lambda *_: seen.append("mine"))
    try:
        whole(lambda: signal.raise_signal(signal.SIGINT))()
        assert ["mine"] == seen
        signal.raise_signal(signal.SIGINT)
        assert ["mine", "mine"] == seen
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_handler_that_is_set_later_gets_it_and_so_does_one_that_is_put_back():
    seen = []
    before = signal.signal(signal.SIGINT, lambda *_: seen.append("first"))
    act = whole(lambda: signal.raise_signal(signal.SIGINT))
    try:
        act()
        first = signal.signal(signal.SIGINT, lambda *_: seen.append("second"))
        act()
        signal.raise_signal(signal.SIGINT)
        signal.signal(signal.SIGINT, first)  # as a library does that saved it
        act()
        signal.raise_signal(signal.SIGINT)
        assert ["first", "second", "second", "first", "first"] == seen
    finally:
        signal.signal(signal.SIGINT, before)


def test_where_the_default_is_to_end_the_process_it_ends():
    code = """
import signal, vfiolab as vl
signal.signal(signal.SIGINT, signal.SIG_DFL)
vl.load("one-smmu-its").address_space()
signal.raise_signal(signal.SIGINT)
print("still here")
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (-signal.SIGINT, "") == (ended.returncode, ended.stdout)


def test_other_threads_and_an_ignored_interrupt_are_left_alone():
    found = []
    thread = threading.Thread(target=lambda: found.append(HOLD.enter()))
    thread.start()
    thread.join()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        found.append(HOLD.enter())
    finally:
        signal.signal(signal.SIGINT, before)
    assert [False, False] == found
