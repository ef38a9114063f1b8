"""Lines that people pasted in public threads (error_lines.tsv): each gets its cause, and the question it asks if it asks one."""

import csv
import re
from pathlib import Path

import pytest

import vfiolab as vl

with (Path(__file__).parent / "error_lines.tsv").open(encoding="utf-8") as file:
    LINES = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


@pytest.mark.parametrize("row", LINES, ids=lambda row: re.sub(r"[^\w]+", "-", row["line"])[:60])
def test_a_line_of_a_public_thread_gets_its_cause_and_its_question(row):
    found = vl.explain(row["line"])
    told = " ".join((found.what, found.cause or "", *(one["cause"] for one in found.candidates)))
    assert re.search(row["said"], told)
    assert row["question"] == str(found.question or "")
