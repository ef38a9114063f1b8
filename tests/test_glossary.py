"""The glossary: a plain sentence for each word, found by any of its names, and a page that says the same."""

import re

import nbformat
import pytest
from tools import glossary as tool
from tools import notebooks

import vfiolab as vl

TERMS = list(vl.glossary.values())
COLOURS = r"\b(?:red|green|blue|orange|yellow|purple|pink)\b"


@pytest.fixture(params=TERMS, ids=lambda term: term.word)
def term(request):
    return request.param


def test_the_words_that_the_course_cannot_do_without_are_there():
    words = (
        "group", "container", "domain", "iova", "doorbell", "MSI", "ACS", "BDF", "claim", "replay", "aperture", "page table", "vIOMMU",
        "SMMU", "VT-d", "AMD-Vi", "snoop", "coherency", "reserved region", "viability", "hot-add", "type1", "iommufd",
    )  # fmt: skip
    assert [] == [word for word in words if word not in vl.glossary]


def test_a_word_is_explained_in_one_sentence_of_at_most_thirty_words(term):
    assert re.fullmatch(r"[A-Z][^.?!]*(?:\.[^ ][^.?!]*)*\.", term.means)
    assert len(term.means.split()) <= 30
    assert 1 <= len(term.more.split()) <= 60


def test_no_word_leans_on_a_colour(term):
    assert not re.search(COLOURS, f"{term.means} {term.more}", re.IGNORECASE)


def test_the_notebook_that_explains_a_word_uses_it(term):
    (path,) = [path for path in notebooks.find() if path.name.startswith(f"{term.notebook}-")]
    text = " ".join(cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "markdown").casefold()
    assert any(re.search(rf"\b{re.escape(name.casefold())}", text) for name in (term.word, *term.also))


def test_no_two_words_have_the_same_name():
    names = [name.casefold() for term in TERMS for name in (term.word, *term.also)]
    assert [] == sorted({name for name in names if names.count(name) > 1})


def test_a_word_is_found_by_each_of_its_names_in_upper_and_lower_case(term):
    for name in (term.word, *term.also):
        assert term is vl.glossary[name] is vl.glossary[name.upper()]
        assert name in vl.glossary


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("dommain", "no entry for 'dommain'; the nearest: domain"),
        ("zzz", "no entry for 'zzz'; words: IOMMU, VFIO, group"),
        (7, "no entry for 7"),
    ],
)
def test_a_word_that_is_not_there_is_answered_with_those_that_are(word, told):
    with pytest.raises(KeyError) as refused:
        vl.glossary[word]
    assert refused.value.args[0].startswith(told)
    assert word not in vl.glossary


def test_a_word_shows_itself_as_text_and_as_a_table():
    term = vl.glossary["reserved region"]
    assert repr(term).startswith("reserved region\n  means:   A range of iovas")
    assert max(map(len, repr(term).splitlines())) <= 100 + len("reserved region")
    assert f"<b>{term.word}</b>" in term._repr_html_()
    assert 6 == term._repr_html_().count('<th scope="row"')


def test_the_glossary_shows_itself_as_a_table_of_all_words():
    assert len(TERMS) + 1 == len(repr(vl.glossary).splitlines())
    assert len(TERMS) + 1 == vl.glossary._repr_html_().count("<tr>")
    assert sorted(vl.glossary, key=str.casefold) == vl.glossary.table["word"]


# The page.


def test_the_page_is_as_the_data_says():
    assert 0 == tool.main(["--check"])


def test_each_jump_of_the_page_leads_to_a_heading():
    headings = {tool.anchor(heading) for heading in re.findall(r"^## (.+)$", tool.page(), re.MULTILINE)}
    assert headings == set(re.findall(r"\(#([\w-]+)\)", tool.page()))
    assert len(TERMS) == len(headings)


def test_a_stale_page_is_found_and_written_anew(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tool, "page", lambda: "fresh")
    monkeypatch.setattr(tool, "notebooks_dir", lambda: tmp_path)
    assert 1 == tool.main(["--check"])
    assert [] == list(tmp_path.iterdir())
    assert 0 == tool.main([])
    assert 0 == tool.main(["--check"])
    assert "stale" in capsys.readouterr().out
