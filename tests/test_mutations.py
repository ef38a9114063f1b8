"""The recordings and the invariants notice when a rule of the model is broken: each mutation is made, and caught."""

import random
from dataclasses import replace

import pytest
from model_walk import VERBS, Walk
from model_world import boot
from mutations import BY_HAND, FLIPS, MUTATIONS, NOTICED_BY, every_check, restate
from recorded import ENVIRONMENTS, machine, scenarios

from vfiolab.client import run
from vfiolab.model.kernel import Kernel
from vfiolab.model.machine import Host, Machine
from vfiolab.model.switches import SWITCHES
from vfiolab.readers.trace import questions
from vfiolab.replay import compare

BROKEN = (AssertionError, AttributeError, KeyError, ValueError)  # an invariant, or something that is not there as it should be


def diverges(environment, one=None):
    """Say whether the model differs from the recording somewhere, or breaks on the way."""
    one, recorded = one or machine(environment), scenarios(environment)
    try:
        return bool(compare(recorded, run(questions(recorded), one), one).divergences)
    except BROKEN:
        return True


def walks_break():
    for seed in range(160):
        rng = random.Random(seed)
        walk = Walk(boot(("two smmus", "three smmus", "three dmars", "compat")[seed % 4], "6.12"), rng.choice)
        try:
            for _ in range(60):
                walk.step(rng.choice(VERBS))
                if walk.dead:
                    break
        except BROKEN:
            return True
    return False


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.wrong)
def test_a_broken_rule_is_noticed(mutation, monkeypatch):
    mutation.apply(monkeypatch)
    assert walks_break() if mutation.noticed_by == "walk" else diverges(mutation.noticed_by)


def test_without_a_mutation_nothing_is_noticed():
    assert not walks_break()
    assert [] == [name for name in {mutation.noticed_by for mutation in MUTATIONS} - {"walk"} if diverges(name)]


def name_of(module, table):
    return f"{module.__name__.rsplit('.', 1)[-1]}.{table}"


@pytest.mark.parametrize(("key", "environment"), NOTICED_BY.items(), ids=lambda one: ": ".join(one) if isinstance(one, tuple) else one)
def test_a_check_that_is_left_out_is_noticed(key, environment, monkeypatch):
    left_out = 0
    for module, table, check in every_check():
        if key == (name_of(module, table), check.text):
            rows = getattr(module, table)
            restate(monkeypatch, rows, tuple(other for other in rows if other is not check))
            left_out += 1
    assert left_out
    assert diverges(environment)


def test_every_check_is_noticed_by_a_recording_or_listed_as_resting_on_reading():
    every = {(name_of(module, table), check.text) for module, table, check in every_check()}
    assert every == set(NOTICED_BY) | set(BY_HAND)
    assert not set(NOTICED_BY) & set(BY_HAND)


# Versions


def without_reports(one):
    """Take out what the recorded kernel reported of the units, so that aperture and page sizes have to be derived."""
    return replace(one, units=tuple(replace(unit, reported={}) for unit in one.units))


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_derived_apertures_and_page_sizes_are_the_recorded_ones(environment):
    recorded, one = scenarios(environment), without_reports(machine(environment))
    assert [] == compare(recorded, run(questions(recorded), one), one).divergences


@pytest.mark.parametrize(("switch", "environment"), FLIPS.items())
def test_a_flipped_switch_is_noticed_by_a_recording(switch, environment, monkeypatch):
    monkeypatch.setattr(Machine, "host", lambda self, *_: Host(self, Kernel(self.kernel).flipped(switch)))
    assert diverges(environment, without_reports(machine(environment)))


def test_what_is_said_to_rest_on_a_recording_does():
    recorded = {name for name, switch in SWITCHES.items() if switch.evidence == "recording"}
    assert recorded == set(FLIPS)
