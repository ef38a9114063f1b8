"""The glossary: a plain sentence for each word, found by any of its names, and a page that says the same."""

import re

import nbformat
import pytest
from tools import glossary as tool
from tools import made, notebooks

import vfiolab as vl
from vfiolab.course.questions import questions

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
    monkeypatch.setattr(made, "notebooks_dir", lambda: tmp_path)
    monkeypatch.setattr(tool, "notebooks_dir", lambda: tmp_path)
    assert 1 == tool.main(["--check"])
    assert [] == list(tmp_path.iterdir())
    assert 0 == tool.main([])
    assert 0 == tool.main(["--check"])
    assert "stale" in capsys.readouterr().out


def texts_of(path):
    return [cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "markdown"]


BOOKS = [path for path in notebooks.find() if re.match(r"\d\d-", path.name)]


@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
def test_the_first_use_of_a_word_in_a_notebook_is_its_definition_or_a_link_with_its_meaning(path):
    texts = texts_of(path)
    terms = [term for term in TERMS if term.word not in tool.AMBIGUOUS]
    places = {term.word: tool.first_use(texts, term) for term in terms}
    assert [] == [word for word, place in places.items() if place is not None and place[1] is not None]
    assert texts == tool.linked(texts)


def test_no_question_uses_a_word_before_a_text_has_explained_it():
    known, early = set(), []
    for path in BOOKS:
        for cell in nbformat.read(path, 4).cells:
            asked = re.fullmatch(r'vl\.ask\("([\w-]+)"\)', cell.source)
            text = questions()[asked[1]]["question"] if asked else cell.source if cell.cell_type == "markdown" else ""
            used = {term.word for term in TERMS if term.word not in tool.AMBIGUOUS and tool.first_use([text], term)}
            early += [(asked[1], word) for word in used - known] if asked else []
            known |= used
    assert [] == early


def test_a_word_is_linked_where_it_is_used_first_and_not_where_it_is_code_a_heading_or_part_of_another_word():
    texts = ["# The domain", "`domain` and subdomain-x", "Two Domains, and **container**. A domain."]
    text = tool.linked(texts)[2]
    assert text.startswith('Two [Domains](glossary.md#domain "One page table')
    assert text.endswith("A domain.")
    assert "[container]" not in text
    assert texts[:2] == tool.linked(texts)[:2]
    assert tool.linked(texts) == tool.linked(tool.linked(texts))
