"""Random walks over every verb: after each step the invariants hold, and a refused call has changed nothing.

The long run, outside Hypothesis: `python tests/test_model_walks.py 200000` (operations) `1` (first seed).
"""

import random
import sys
import time
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from model_walk import VERBS, Walk
from model_world import KERNELS, boot, invariants, machines, snapshot

PROFILE = {"derandomize": True, "deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}
LENGTH = 150


class Life(RuleBasedStateMachine):
    """A host's life: Hypothesis chooses machine, kernel, verbs and arguments, and shrinks what breaks."""

    def __init__(self):
        super().__init__()
        self.walk = None

    @initialize(data=st.data(), name=st.sampled_from(sorted(machines())), kernel=st.sampled_from(KERNELS))
    def boot(self, data, name, kernel):
        self.walk = Walk(boot(name, kernel), data.draw)
        for _ in range(2):
            self.step(data, "prepare")

    def step(self, data, verb):
        self.walk.pick = lambda choices: data.draw(st.sampled_from(tuple(choices)))
        self.walk.step(verb)

    @rule(data=st.data(), verb=st.sampled_from(VERBS))
    def one_verb(self, data, verb):
        if self.walk.dead:  # the kernel of this version died: boot it again
            self.walk = Walk(boot(self.walk.host.machine.name, str(self.walk.host.kernel)), data.draw)
        self.step(data, verb)

    def teardown(self):
        if self.walk is not None and not self.walk.dead:
            self.walk.host.process.exit()
            self.walk.after_exit()


Life.TestCase.settings = settings(max_examples=60, stateful_step_count=40, **PROFILE)
TestLife = Life.TestCase


def walk(seed, name, kernel, steps=LENGTH):
    """Walk with a seeded generator to the process's end; return the outcomes."""
    rng = random.Random(seed)
    one = Walk(boot(name, kernel), rng.choice)
    for _ in range(steps):
        one.step(rng.choice(VERBS))
        if one.dead:
            return one.outcomes
    one.host.process.exit()
    one.after_exit()
    return one.outcomes


@pytest.mark.parametrize("name", sorted(machines()))
def test_a_seeded_walk_on_each_machine_breaks_no_invariant(name):
    for seed, kernel in enumerate(KERNELS):
        walk(seed, name, kernel, steps=50)


def test_the_walks_reach_successes_and_refusals_of_every_verb():
    seen = Counter()
    for seed, name in enumerate(sorted(machines()) * 10):
        seen.update(walk(seed, name, KERNELS[seed % len(KERNELS)], steps=100))
    done = {verb for verb, outcome in seen if outcome == "0"}
    assert set(VERBS) == done
    errnos = {outcome for _, outcome in seen}
    expected = "EPERM ENOENT EBADF ENOMEM EACCES EFAULT EBUSY EEXIST ENODEV EINVAL ENOTTY ENOSPC EOVERFLOW EBADFD"
    assert set() == set(expected.split()) - errnos


# What holds of any two ways to the same state

TWO = "0000:01:00.0", "0000:11:00.0"
runs = st.lists(st.integers(0, 63), min_size=1, max_size=12, unique=True)
GOOD_NAMES = ["two smmus", "mixed stages", "48 and 40 bits", "three dmars", "amd"]


def container(name, *devices, kernel="6.12"):
    """Return a host and a container that holds these devices' groups, attached in this order."""
    host = boot(name, kernel)
    opened = host.process.open_container()
    for device in devices:
        host.process.open_group(device).set_container(opened)
        if opened.backend is None:
            opened.set_iommu(3)
    return host, opened


def fill(host, opened, slots):
    for slot in slots:
        opened.map_dma(0x4000_0000 + slot * 0x2000, 0x1000, host.machine.arena.base + slot * 0x1000)


def tables(opened):
    """Return each domain's page table by its unit, protections aside."""
    return {domain.unit.name: [(run.iova, run.size, run.physical) for run in domain.mappings] for domain in opened.backend.domains}


@settings(max_examples=40, **PROFILE)
@given(name=st.sampled_from(GOOD_NAMES), slots=runs)
def test_the_order_of_attaching_does_not_change_what_is_usable_and_mapped(name, slots):
    first, second = container(name, *TWO), container(name, *reversed(TWO))
    for host, opened in (first, second):
        fill(host, opened, slots)
    assert first[1].backend.valid_iova == second[1].backend.valid_iova
    assert [(d.iova, d.size) for d in first[1].backend.dmas] == [(d.iova, d.size) for d in second[1].backend.dmas]
    assert first[1].get_info(256).ranges == second[1].get_info(256).ranges


@settings(max_examples=40, **PROFILE)
@given(name=st.sampled_from(GOOD_NAMES), kernel=st.sampled_from(["5.10", "6.1", "6.12", "7.3"]), slots=runs)
def test_a_domain_that_joins_late_holds_what_mapping_live_would_have_put_there(name, kernel, slots):
    live, late = container(name, *TWO, kernel=kernel), container(name, TWO[0], kernel=kernel)
    for host, opened in (live, late):
        fill(host, opened, slots)
    late[0].process.open_group(TWO[1]).set_container(late[1])
    assert tables(live[1]) == tables(late[1])


@settings(max_examples=40, **PROFILE)
@given(name=st.sampled_from(GOOD_NAMES), slots=runs, extra=st.integers(64, 127))
def test_unmap_undoes_map(name, slots, extra):
    host, opened = container(name, *TWO)
    fill(host, opened, slots)
    before = snapshot(host)
    fill(host, opened, [extra])
    assert before != snapshot(host)
    assert 0x1000 == opened.unmap_dma(0x4000_0000 + extra * 0x2000, 0x1000)
    assert before == snapshot(host)


@settings(max_examples=40, **PROFILE)
@given(slots=runs, kernel=st.sampled_from(["4.4", "5.10", "6.1", "6.12", "7.3"]))
def test_all_domains_of_a_container_hold_the_same(slots, kernel):
    host, opened = container("three smmus", *TWO, "0000:21:00.0", kernel=kernel)
    fill(host, opened, slots)
    assert 3 == len(opened.backend.domains)
    assert 1 == len({tuple(table) for table in tables(opened).values()})
    for slot in slots[::2]:
        opened.unmap_dma(0x4000_0000 + slot * 0x2000, 0x1000)
    assert 1 == len({tuple(table) for table in tables(opened).values()})


@settings(max_examples=40, **PROFILE)
@given(name=st.sampled_from(GOOD_NAMES), slots=runs)
def test_attach_and_leave_is_as_if_the_group_had_never_come(name, slots):
    host, opened = container(name, TWO[0])
    fill(host, opened, slots)
    before = snapshot(host)
    group = host.process.open_group(TWO[1])
    group.set_container(opened)
    group.unset_container()
    group.close()
    after = snapshot(host)
    if name != "three dmars":  # a VT-d domain that was narrowed stays narrow
        assert before == after
    assert before["drivers"] == after["drivers"]
    invariants(host)


def long_run(operations, seed):
    """Walk until so many operations are done; print what happened."""
    start, done, hosts, seen = time.monotonic(), 0, 0, Counter()
    while done < operations:
        rng = random.Random(seed)
        name, kernel = rng.choice(sorted(machines())), rng.choice(KERNELS)
        try:
            outcomes = walk(seed, name, kernel)
        except BaseException:
            print(f"broken by walk({seed}, {name!r}, {kernel!r}), after {done} operations")
            raise
        seen.update(outcomes)
        done += sum(outcomes.values())
        seed, hosts = seed + 1, hosts + 1
    refused = sum(count for (_, outcome), count in seen.items() if outcome.startswith("E"))
    print(f"{done} operations on {hosts} hosts, {refused} refused, no invariant broken, {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    long_run(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1)
