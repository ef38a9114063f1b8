"""Measure beside a peer, in one run: milliseconds depend on the machine, their ratio much less.

    def test_import(beside):
        beside("import vfiolab", subject, "import ipywidgets", peer, within=0.25)

Subject and peer take turns, the best time of each counts, and the ratio of the two has to stay within the bar. What else
runs on the machine only ever adds to a time: where the ratio is over its bar, more rounds are run, up to three times as
many. A table is printed at the end of the run. pytest-benchmark runs the rounds: `--benchmark-json` keeps the times, the peer's and the
ratio among them, `--benchmark-compare` sets a run beside an earlier one.
"""

from __future__ import annotations

import gc
from dataclasses import dataclass
from time import perf_counter

import pytest

RESULTS = pytest.StashKey[list]()


@dataclass(frozen=True, slots=True)
class Measured:
    """Best seconds of a subject and of its peer, and the ratio that may not be exceeded."""

    name: str
    seconds: float
    peer: str
    peer_seconds: float
    within: float

    @property
    def ratio(self) -> float:
        return self.seconds / self.peer_seconds

    def __str__(self) -> str:
        return (
            f"{self.name:<48} {self.seconds * 1e3:10.3f} ms   {self.peer:<36} {self.peer_seconds * 1e3:10.3f} ms"
            f"   {self.ratio:6.2f}x of {self.within:g}x"
        )


def once(action) -> float:
    """Time one call in seconds; an action that returns a float has timed itself."""
    gc.collect()
    start = perf_counter()
    result = action()
    elapsed = perf_counter() - start
    return result if isinstance(result, float) else elapsed


@pytest.fixture
def beside(request, benchmark):
    """Return the function that measures a subject beside its peer and checks the bar; one use a test."""

    def measure(name, subject, peer_name, peer, *, within, rounds=7) -> Measured:
        times: list[float] = []
        peer_times: list[float] = []
        benchmark.name = name
        benchmark.pedantic(lambda: times.append(once(subject)), setup=lambda: peer_times.append(once(peer)), rounds=rounds)
        while min(times) > within * min(peer_times) and len(times) < 3 * rounds:
            peer_times.append(once(peer))
            times.append(once(subject))
        measured = Measured(name, min(times), peer_name, min(peer_times), within)
        benchmark.extra_info.update(
            seconds=measured.seconds, peer=peer_name, peer_seconds=measured.peer_seconds, ratio=measured.ratio, bar=within
        )
        request.config.stash.setdefault(RESULTS, []).append(measured)
        assert measured.ratio <= within, str(measured)
        return measured

    return measure


def pytest_terminal_summary(terminalreporter, config):
    if measured := config.stash.get(RESULTS, []):
        terminalreporter.section("measured beside a peer")
        for line in measured:
            terminalreporter.write_line(str(line))
