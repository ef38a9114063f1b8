"""How the notebooks teach: short cells, a prediction before each answer, a question after each widget, words that need no colour."""

import ast
import re
from statistics import median

import nbformat
import pytest
from tools import glossary, notebooks

import vfiolab as vl
from vfiolab import lab
from vfiolab.course.questions import questions
from vfiolab.course.words import plain

PATHS = [path for path in notebooks.find() if re.match(r"\d\d-", path.name)]
COLOURS = r"red|green|blue|orange|yellow|purple|pink|vermilion|magenta|cyan|violet|gr[ae]y"
APPS = [name for name in lab.__all__ if hasattr(getattr(lab, name), "_repr_mimebundle_")]
ASK = re.compile(r'vl\.ask\("([\w-]+)"\)')
PREVIEW = re.compile(r"(?!<!-- an? \w+: click to see it -->$).+")
FOLD = "<details><summary>After your choice</summary>\n\n"
WIDGET = re.compile(rf"^(?:\w+ = )?vl\.lab\.({'|'.join(APPS)})\(.*\)$", re.MULTILINE)


@pytest.fixture(scope="module", params=PATHS, ids=lambda path: path.stem)
def cells(request):
    return nbformat.read(request.param, 4).cells


def code(cells):
    return [cell for cell in cells if cell.cell_type == "code"]


def prose(cells):
    return [cell.source for cell in cells if cell.cell_type == "markdown"]


def words(text):
    """Count the words of a text cell, without headings and tables."""
    lines = [line for line in text.splitlines() if not line.startswith(("#", "|", "<details>", "</details>"))]
    return len(glossary.HOVER.sub(r"\1", " ".join(lines)).split())


def index(cells, found):
    return next(number for number, cell in enumerate(cells) if cell is found)


def test_it_has_ten_to_twenty_eight_code_cells(cells):
    assert 10 <= len(code(cells)) <= 28


def test_most_code_cells_have_at_most_three_lines_nine_of_ten_at_most_five_and_none_more_than_eight(cells):
    sizes = sorted(len(cell.source.splitlines()) for cell in code(cells))
    assert median(sizes) <= 3
    assert sizes[int(len(sizes) * 0.9)] <= 5
    assert sizes[-1] <= 8


def test_no_line_of_code_runs_out_of_its_cell(cells):
    assert max(len(line) for cell in code(cells) for line in cell.source.splitlines()) <= 127


def test_texts_between_the_cells_are_thirty_to_sixty_words_long(cells):
    sizes = [words(text) for text in prose(cells)[1:-1]]
    assert 30 <= median(sizes) <= 60
    assert max(sizes) <= 70


def test_the_first_cell_says_what_to_learn_how_long_it_takes_and_what_it_needs(cells):
    first = cells[0].source
    assert re.match(r"# .+\n", first)
    assert re.search(r"\*\*Time:\*\* \d+ minutes", first)
    assert "**You need:**" in first
    assert 3 <= len(re.findall(r"^- ", first.partition("**Afterwards you can**")[2], re.MULTILINE)) <= 5


def test_the_last_cell_has_the_key_points_and_the_way_on(cells):
    assert cells[-1].source.startswith("## Key points\n")
    assert 3 <= len(re.findall(r"^- ", cells[-1].source, re.MULTILINE)) <= 6
    assert "**Where to go next.**" in cells[-1].source


def test_the_first_code_cell_shows_the_version_and_the_kernel(cells):
    shown = code(cells)[0].outputs[0].data["text/plain"]
    assert vl.__version__ in shown
    assert re.search(r"kernel \d+\.\d+", shown)


def after_questions(cells):
    """Yield the cells that stand between a question and the next heading or question."""
    waiting = False
    for cell in cells:
        if cell.cell_type == "markdown" and cell.source.startswith("## "):
            waiting = False
        elif ASK.search(cell.source):
            waiting = True
        elif waiting:
            yield cell


def previewed(cell):
    """Return what JupyterLab shows of a folded output: the first line of the first output's richest form, and nothing of a stream."""
    data = cell.outputs[0].get("data", {}) if cell.outputs else {}
    return next((data[kind].partition("\n")[0] for kind in ("text/html", "image/svg+xml", "text/plain") if kind in data), "")


def test_a_question_is_one_line_and_needs_no_second_cell(cells):
    asked = [cell for cell in code(cells) if ASK.search(cell.source)]
    assert len(asked) >= 3
    assert [] == [cell.source for cell in asked if not ASK.fullmatch(cell.source)]
    assert [] == [cell.source for cell in code(cells) if ".reveal(" in cell.source]


def test_no_prediction_is_spoiled_what_follows_a_question_is_folded_away(cells):
    following = list(after_questions(cells))
    outputs = [cell for cell in following if cell.cell_type == "code" and not WIDGET.search(cell.source)]
    assert [] == [cell.source for cell in outputs if cell.outputs and not cell.metadata.get("jupyter", {}).get("outputs_hidden")]
    assert [] == [cell.source for cell in outputs if PREVIEW.match(previewed(cell))]
    texts = [cell.source for cell in following if cell.cell_type == "markdown"]
    assert [] == [text[:80] for text in texts if not (text.startswith(FOLD) and text.endswith("</details>"))]


def test_a_stored_question_holds_its_options_and_no_reason(cells):
    for cell in code(cells):
        if found := ASK.search(cell.source):
            entry = questions()[found[1]]
            shown = cell.outputs[-1].data["text/plain"] + cell.outputs[-1].data["text/html"]
            assert all(text not in shown for text in (plain(entry["because"]), *map(plain, entry["why"].values())))
            assert "( )" in shown


def test_each_widget_shows_a_picture_before_it_is_run_and_is_followed_by_a_question(cells):
    widgets = [cell for cell in code(cells) if WIDGET.search(cell.source)]
    assert widgets != []
    for widget in widgets:
        assert '<img alt="' in widget.outputs[-1].data["text/html"]
        text, question = cells[index(cells, widget) + 1 :][:2]
        assert "question" in text.source
        assert ASK.fullmatch(question.source)


def test_a_refusal_that_is_asked_for_shows_the_whole_case():
    cells = [cell for path in PATHS for cell in nbformat.read(path, 4).cells]
    last = re.compile(r"^vl\.answer\((?!.*\banswer\().*\Z", re.MULTILINE)  # one call, not several side by side
    asked = [cell.outputs[-1].data for cell in code(cells) if last.search(cell.source)]
    refused = [data for data in asked if data["text/plain"] != "0"]
    assert 10 <= len(refused)
    for data in refused:
        for part in (r"E[A-Z]+ \(", r"\n +why: ", r"\n +source: ", r"\n +fix: "):
            assert re.search(part, data["text/plain"])
        assert data["text/html"].startswith("<!-- a refusal: click to see it -->\n<pre ")


def test_cells_import_the_public_rooms_and_nothing_deeper():
    rooms = {"vfiolab", "vfiolab.course", "vfiolab.draw", "vfiolab.lab"}
    cells = [cell for path in PATHS for cell in code(nbformat.read(path, 4).cells)]
    trees = [node for cell in cells for node in ast.walk(ast.parse(cell.source))]
    names = {alias.name for node in trees if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in trees if isinstance(node, ast.ImportFrom)}
    assert {"vfiolab"} <= names <= rooms
    attributes = {name for cell in cells for name in re.findall(r"\bvl\.([a-z]\w*\.\w+|\w+)", cell.source)}
    assert [] == [name for name in attributes if name.partition(".")[0] not in vl.__all__ and name != "__version__"]


def test_no_cell_fails_and_none_is_marked_as_one_that_may(cells):
    failed = [cell.source for cell in code(cells) if any(output.output_type == "error" for output in cell.outputs)]
    assert [] == failed + [cell.source for cell in cells if "raises-exception" in cell.metadata.get("tags", [])]


def test_no_text_leans_on_a_colour(cells):
    assert [] == [found for text in prose(cells) for found in re.findall(rf"\b(?:{COLOURS})\b", text, re.IGNORECASE)]


def test_each_cell_has_a_name_that_a_link_can_use(cells):
    assert [] == [cell.id for cell in cells if not re.fullmatch(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*", cell.id) or cell.id.startswith("cell-")]


def test_no_question_leans_on_a_colour():
    said = [text for entry in questions().values() for text in (entry["question"], entry["because"], *entry["why"].values())]
    assert [] == [found for text in said for found in re.findall(rf"\b(?:{COLOURS})\b", text, re.IGNORECASE)]


def test_the_first_screen_of_notebook_00_has_a_picture_of_who_is_who():
    from vfiolab.draw import who_is_who

    first = nbformat.read(PATHS[0], 4).cells[0].source
    assert f"![{who_is_who().alt}](pictures/who-is-who.svg)" in first
    assert first.index("pictures/who-is-who.svg") < first.index("**Time:**")
