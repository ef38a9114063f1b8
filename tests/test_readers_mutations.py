"""Ten thousand cut and edited inputs: a result or a clear error, never a traceback. (How long it takes: tests/bench.)"""

from __future__ import annotations

import random
import re
import tracemalloc

import pytest
from hostile import HOSTILE, many_devices
from pci_bytes import config_space, hex_dump
from real_machines import listing, machine

from vfiolab._paths import data_dir
from vfiolab.model.pci.grouping import NotComputableError, iommu_groups
from vfiolab.readers.errors import InputError
from vfiolab.readers.grouptext import read_groups
from vfiolab.readers.lspci import read_lspci
from vfiolab.readers.pcifile import read_pci_text

SMALL = ["radxa-orion-o6-arm64", "asmedia-switch-part", "amd-family15h-laptop", "nxp-ls1028a-enetc"]
LARGE = ["lenovo-thinkpad-amd", "loongson-desktop", "hp-elitebook-630", "amd-matisse-desktop", "intel-alderlake-vmd"]
BEARS = re.compile(r"^\s*([0-9a-f]{2,5}:|Capabilities:|ACSC|Bus:|Initial VFs|VF offset|[0-9a-f]+: )", re.IGNORECASE)
GARBAGE = ["", "\x00\x01\x02", "Bus: primary=zz, secondary=, subordinate=-1", "Capabilities: [", "ff:1f.7 ", "é" * 50, "x" * 5000,
           "\tBus: primary=00, secondary=ff, subordinate=00", "[[[[", "IOMMU group: 99999999999999999999"]  # fmt: skip


def edit_line(lines, rng, at):
    """Change one line in one of the ways that pasting, cutting and typing do."""
    line = lines[at]
    column = rng.randrange(len(line) + 1)
    kind = rng.randrange(7)
    if kind == 0:
        return lines[:at] + lines[at + 1 :]
    if kind == 1:
        return [*lines[: at + 1], line, *lines[at + 1 :]]
    if kind == 2:
        return [*lines[:at], line[:column], *lines[at + 1 :]]
    if kind == 3:
        return [*lines[:at], line[:column] + chr(rng.randrange(32, 127)) + line[column + 1 :], *lines[at + 1 :]]
    if kind == 4:
        return [*lines[:at], line[:column], line[column:], *lines[at + 1 :]]
    if kind == 5:
        return [*lines[:at], rng.choice(GARBAGE), *lines[at + 1 :]]
    other = rng.randrange(len(lines))
    swapped = list(lines)
    swapped[at], swapped[other] = swapped[other], swapped[at]
    return swapped


def outcome(text, read):
    """Return the groups, or None for an error that names where it lies; anything else fails the test."""
    try:
        found = read(text, source="input")
        if hasattr(found, "topology"):
            return iommu_groups(found.topology).groups
    except (InputError, NotComputableError) as error:
        assert len(str(error)) > 20  # noqa: PT017 - not every input fails; each failure has to say why
        return None
    else:
        return found.recorded


def with_dump():
    tree = machine("radxa-orion-o6-arm64").topology
    return "\n".join(f"{bdf} {f.name}\n{hex_dump(config_space(f, 0x160))}" for bdf, f in tree.items())


def boot_messages():
    groups = machine("amd-renoir-laptop").recorded
    return "".join(f"[    0.5] pci {bdf}: Adding to iommu group {n}\n" for n, members in enumerate(groups) for bdf in members)


SOURCES = [
    *((name, listing(name), read_pci_text, 1100 if name in SMALL else 300) for name in (*SMALL, *LARGE)),
    ("hex dump", with_dump(), read_pci_text, 900),
    (
        "machine file",
        (data_dir() / "machines/radxa-orion-o6-arm64.json").read_text(encoding="utf-8"),
        read_pci_text,
        1700,
    ),
    ("boot messages", boot_messages(), read_groups, 1500),
]


def test_ten_thousand_are_tried():
    assert 10_000 <= sum(count for *_, count in SOURCES)


@pytest.mark.parametrize(("name", "text", "read", "count"), SOURCES, ids=[source[0] for source in SOURCES])
def test_cuts_and_edits_give_a_result_or_a_clear_error(name, text, read, count):
    rng = random.Random(name)
    lines = text.splitlines()
    for n in range(count):
        if n % 4 == 0:  # cut anywhere
            mutated = text[: rng.randrange(len(text))]
        elif n % 4 == 1:  # many edits
            edited = lines
            for _ in range(rng.randrange(2, 12)):
                edited = edit_line(edited, rng, rng.randrange(len(edited)))
            mutated = "\n".join(edited)
        else:
            mutated = "\n".join(edit_line(lines, rng, rng.randrange(len(lines))))
        outcome(mutated, read)


@pytest.mark.parametrize(("name", "text", "read", "count"), SOURCES, ids=[source[0] for source in SOURCES])
def test_the_memory_for_an_edited_input_is_bounded(name, text, read, count):
    rng = random.Random(count)
    lines = text.splitlines()
    outcome(text, read)  # names are loaded once
    tracemalloc.start()
    for _ in range(10):
        outcome("\n".join(edit_line(lines, rng, rng.randrange(len(lines)))), read)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 16 << 20 > peak, name


def test_most_single_line_edits_of_a_listing_yield_groups():
    rng = random.Random(60)
    results = []
    for name in (*SMALL, *LARGE):
        lines = listing(name).splitlines()
        edits = ["\n".join(edit_line(lines, rng, rng.randrange(len(lines)))) for _ in range(60)]
        results += [outcome(edited, read_pci_text) is not None for edited in edits]
    assert 0.6 < sum(results) / len(results)


@pytest.mark.parametrize("name", [*SMALL, *LARGE])
def test_edits_outside_device_capability_and_bus_lines_leave_the_groups_unchanged(name):
    rng = random.Random(name)
    lines = listing(name).splitlines()
    harmless = [n for n, line in enumerate(lines) if line.strip() and not BEARS.match(line)]
    expected = outcome(listing(name), read_pci_text)
    for _ in range(100):
        at = rng.choice(harmless)
        line = lines[at]
        column = rng.randrange(1, len(line))
        changed = rng.choice(
            [
                "",
                line[:column],
                line[:column] + rng.choice("xyz?+-") + line[column + 1 :],
                "\tsome other words",
                line + " more",
            ]
        )
        assert expected == outcome("\n".join([*lines[:at], changed, *lines[at + 1 :]]), read_pci_text), (line, changed)


def test_every_prefix_of_a_listing_is_answered():
    lines = listing("hp-elitebook-630").splitlines()
    for end in range(1, len(lines), 3):
        outcome("\n".join(lines[:end]), read_pci_text)


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_input_is_answered(text):
    outcome(text(1), read_pci_text)


def test_a_listing_of_many_devices_is_read_whole():
    assert 32_768 == len(read_lspci(many_devices(4)).topology)
