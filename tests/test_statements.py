"""What notebooks and reasons say about kernels: each statement has a row with its evidence, and each row is about a statement."""

import re

import nbformat
import pytest
from tools import statements
from tools.statements import Row

ROWS = statements.rows()
A_SENTENCE = ("00 title", "Linux 5.4 keeps a list.")


def test_each_statement_about_a_kernel_has_its_evidence():
    assert [] == statements.missing(ROWS)


def test_each_row_is_about_a_statement_that_is_still_there():
    assert [] == statements.idle(ROWS)


def test_the_evidence_of_each_row_is_there_or_has_the_form_that_finds_it():
    assert [] == [row for row in ROWS if not statements.resolves(row)]


def test_each_word_of_the_glossary_rests_on_evidence_that_is_there_or_has_the_form_that_finds_it():
    found = statements.defined()
    assert len(statements.glossary) == len({row.where for row in found})
    assert [] == [row for row in found if row.kind not in statements.KINDS or not statements.resolves(row)]


def test_every_switch_of_the_version_table_is_a_statement_with_its_evidence():
    found = [row for row in statements.counted() if row.where.startswith("switch ")]
    assert len(statements.SWITCHES) == len(found)
    assert [] == [row.where for row in found if not row.evidence]


@pytest.mark.parametrize("sentence", [
    "Since Linux 5.4 it is refused.", "On 4.4:", "So it was up to 6.13, and no longer.", "A mail of 3 December 2015.",
    "`vfio_dma_do_map` says so.", "It came with 492855939bdb.", "Like 4.14.177 does.",
])  # fmt: skip
def test_a_version_a_year_a_function_and_a_commit_make_a_statement(sentence):
    assert statements.NAMED.search(sentence)


@pytest.mark.parametrize("sentence", [
    "The device 0000:04:00.0 joins.", "1 GiB at 0x8000_0000.", "VT-d has 48 bits.", "It takes 25 minutes.", "A size of 536870912 bytes.",
    "The parameter vfio_iommu_type1.dma_entry_limit.",
])  # fmt: skip
def test_addresses_sizes_and_parameters_make_none(sentence):
    assert not statements.NAMED.search(sentence)


def test_a_text_is_read_by_sentence_item_and_row_without_headings_pictures_and_code():
    text = "# 5. 2015\n\nOne. (Two.) `Three`: four\n\n- five\n- six\n\n| a | b |\n\n![4.4](x.svg)\n\n```python\n4.4\n```"
    assert ["One.", "(Two.", "`Three`: four", "- five", "- six", "| a | b |"] == list(statements.sentences(text))


def test_a_statement_without_a_row_and_a_row_without_a_statement_are_named(monkeypatch):
    monkeypatch.setattr(statements, "statements", lambda: [A_SENTENCE])
    assert ["00 title: Linux 5.4 keeps a list."] == statements.missing([Row("00 other", "Linux 5.4", "commit", "v5.4")])
    assert ["00 title: Linux 5.3"] == statements.idle(
        [Row("00 title", "Linux 5.4 keeps", "commit", "v5.4"), Row("00 title", "Linux 5.3", "commit", "v5.3")]
    )


@pytest.mark.parametrize(("kind", "evidence"), [
    ("recording", "intel-4.4"), ("recording", "intel-4.4/seed-6, intel-5.10-ir"), ("recording", "qemu-listener-x86.txt"),
    ("function", "vfio_dma_do_map, drivers/vfio/vfio_iommu_type1.c (4.4, 6.12)"), ("function", "Documentation/arch/x86/iommu.rst (6.12)"),
    ("commit", "492855939bdb (v5.1-rc4)"), ("commit", "v4.4-rc3 (29 November 2015), v4.4"), ("mail", "3 December 2015, kvm"),
])  # fmt: skip
def test_evidence_of_each_form_resolves(kind, evidence):
    assert statements.resolves(Row("", "", kind, evidence))


@pytest.mark.parametrize(("kind", "evidence"), [
    ("recording", "intel-3.2"), ("recording", "intel-4.4/seed-7"), ("recording", "intel-4.4, moon"), ("function", "vfio_dma_do_map"),
    ("function", "vfio_dma_do_map, drivers/vfio/vfio_iommu_type1.c"), ("commit", "49285593"), ("commit", "4.4"), ("mail", "December 2015"),
])  # fmt: skip
def test_evidence_that_leads_nowhere_does_not(kind, evidence):
    assert not statements.resolves(Row("", "", kind, evidence))


def test_evidence_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "statements.toml"
    path.write_text('["00 title"]\n"Linux 5.4" = "hearsay: a forum"\n', encoding="utf-8")
    with pytest.raises(ValueError, match="evidence is one of recording, function, commit, mail, then a colon, not 'hearsay: a forum'"):
        statements.rows(path)


def test_the_tool_counts_by_kind_and_draws_the_same_for_the_same_seed(capsys):
    assert 0 == statements.main(["--draw", "20", "--seed", "7"])
    first = capsys.readouterr().out
    assert 0 == statements.main(["--draw", "20", "--seed", "7"])
    assert first == capsys.readouterr().out
    assert 41 == len(first.splitlines())
    assert f"{len(statements.counted())} statements (" in first


def test_the_tool_says_that_nothing_is_missing(capsys):
    assert 0 == statements.main(["--missing"])
    assert "none\n" == capsys.readouterr().out


# The page of errata.


CELLS = {path.name: {cell["id"] for cell in nbformat.read(path, 4).cells} for path in statements.NOTEBOOKS.glob("*.ipynb")}


def errata():
    lines = (statements.NOTEBOOKS / "errata.md").read_text(encoding="utf-8").splitlines()
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    return [row for row in table if row[0] != "where"]


def test_each_erratum_says_where_what_was_said_what_is_right_and_the_evidence():
    assert errata() != []
    assert [] == [row for row in errata() if len(row) != 4 or not all(row)]


@pytest.mark.parametrize("row", errata(), ids=lambda row: row[1][:40])
def test_each_link_of_an_erratum_leads_to_a_cell_and_each_recording_is_there(row):
    for name, cell in re.findall(r"\]\(([\w-]+\.ipynb)#cell-id=([\w-]+)\)", row[0]):
        assert cell in CELLS[name]
    assert [] == [name for name in re.findall(r"recording ([\w.-]+)", row[3]) if not statements.resolves(Row("", "", "recording", name))]
