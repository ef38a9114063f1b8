"""The audit of many machines: beside loading each, and its reader beside the least that looks at every line."""

from __future__ import annotations

import pytest
from real_machines import NAMES, listing

import vfiolab as vl
from vfiolab.kit.asked import Asked
from vfiolab.kit.audit import audited
from vfiolab.kit.fleet import audit
from vfiolab.readers.lspci import read_lspci

pytestmark = pytest.mark.bench


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with each real listing ten times."""
    made = tmp_path_factory.mktemp("fleet")
    for name in NAMES:
        for n in range(10):
            (made / f"{name}-{n}.txt").write_text(listing(name))
    return made


def test_rows_and_refusals_of_a_machine_within_2_5_times_of_loading_it(beside, folder):
    files = sorted(folder.iterdir())[::5]
    beside(
        f"audit of {len(files)} listings, one process", lambda: [audited(path, Asked()) for path in files] and None, "vl.load of each",
        lambda: [vl.load(path) for path in files] and None, within=2.5,
    )  # fmt: skip


def test_all_cores_files_and_output_included_within_4_times_of_loading_one_by_one(beside, folder, tmp_path):
    beside(
        "vfiolab audit of 130 listings, all cores", lambda: audit(folder, Asked(), tmp_path / "out.csv") and None, "vl.load of each",
        lambda: [vl.load(path) for path in folder.iterdir()] and None, within=4, rounds=3,
    )  # fmt: skip


def test_a_listing_is_read_within_22_times_of_looking_at_its_lines(beside):
    texts = [listing(name) for name in NAMES]
    beside(
        f"{len(texts)} listings read", lambda: [read_lspci(text) for text in texts] and None, "their lines split at the colon",
        lambda: [line.strip().partition(":") for text in texts for line in text.splitlines()] and None, within=22,
    )  # fmt: skip
