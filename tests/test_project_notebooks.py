"""What is stored in a notebook is what a reader sees first: complete, and the same on every machine."""

import json
import re
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output
from tools import notebooks

PATHS = notebooks.find()


@pytest.fixture(scope="module", params=PATHS, ids=lambda path: path.stem)
def stored(request):
    return request.param.read_text(encoding="utf-8")


def shown(text):
    """List what each output of a stored notebook shows, by kind."""
    outputs = [output for cell in nbformat.reads(text, 4).cells for output in cell.get("outputs", [])]
    return [output.data for output in outputs if "data" in output]


def test_there_are_notebooks():
    assert PATHS != []


def test_each_code_cell_was_executed_in_order(stored):
    counts = [cell.execution_count for cell in nbformat.reads(stored, 4).cells if cell.cell_type == "code"]
    assert list(range(1, len(counts) + 1)) == counts


def test_each_notebook_is_stored_in_its_canonical_form(stored):
    assert stored == nbformat.writes(notebooks.canonical(nbformat.reads(stored, 4))) + "\n"


def test_no_output_holds_what_differs_from_run_to_run(stored):
    assert [] == notebooks.volatile(stored)


def test_each_html_output_has_a_plain_text_twin(stored):
    assert [] == [data["text/html"][:80] for data in shown(stored) if "text/html" in data and not data["text/plain"]]


def test_each_stored_picture_has_an_alternative_text(stored):
    found = [tag for data in shown(stored) for tag in re.findall(r"<img [^>]*>", data.get("text/html", ""))]
    pictures = [tag for tag in found if 'alt="" inert width="0"' not in tag]  # the same picture, laid out for a narrow page
    assert len(found) == 2 * len(pictures)
    assert [] == [tag[:80] for tag in pictures if not re.search(r'\balt="[^"]{10,}"', tag)]


def test_code_cells_are_short(stored):
    cells = nbformat.reads(stored, 4).cells
    sizes = sorted(len(cell.source.splitlines()) for cell in cells if cell.cell_type == "code")
    assert sizes[int(len(sizes) * 0.9)] <= 8


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_each_link_to_a_neighbour_leads_somewhere(path):
    text = "\n".join(cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "markdown")
    links = re.findall(r"\]\(([^)#:\s]+)", text)
    assert [] == [link for link in links if not (path.parent / link).exists()]


# The tool itself.


def notebook(source, **cell):
    metadata = {"kernelspec": {"name": "other", "display_name": "?"}}
    return new_notebook(cells=[new_code_cell(source, **cell)], metadata=metadata)


def write(nb, path):
    path.write_text(nbformat.writes(nb), encoding="utf-8")
    return path


def test_storing_twice_gives_the_same_bytes(tmp_path):
    path = write(notebook("import ipywidgets\nipywidgets.Button()"), tmp_path / "a.ipynb")
    assert (True, "a.ipynb: stored") == notebooks.refresh(path, check=False)
    assert (True, "a.ipynb: as stored") == notebooks.refresh(path, check=True)


def test_a_stale_output_is_found_and_shown_and_left_as_it_was(tmp_path):
    path = write(notebook("6 * 7"), tmp_path / "a.ipynb")
    notebooks.refresh(path, check=False)
    stale = path.read_text().replace('"42"', '"41"')
    path.write_text(stale)
    good, words = notebooks.refresh(path, check=True)
    assert not good
    assert "stale" in words
    assert '-       "41"' in words
    assert '+       "42"' in words
    assert path.read_text() == stale


def test_a_cell_that_raises_fails_unless_it_is_meant_to(tmp_path):
    path = write(notebook("1/0"), tmp_path / "a.ipynb")
    good, words = notebooks.refresh(path, check=False)
    assert not good
    assert words.startswith("a.ipynb: a cell raised ZeroDivisionError: division by zero")
    path = write(notebook("1/0", metadata={"tags": ["raises-exception"]}), tmp_path / "b.ipynb")
    assert notebooks.refresh(path, check=False)[0]
    (output,) = json.loads(path.read_text())["cells"][0]["outputs"]
    assert ["ZeroDivisionError: division by zero"] == output["traceback"]


def test_an_address_in_an_output_is_refused(tmp_path):
    path = write(notebook("object()"), tmp_path / "a.ipynb")
    good, words = notebooks.refresh(path, check=False)
    assert not good
    assert "would differ on the next run" in words


def test_widget_views_go_and_their_static_twins_stay():
    data = {notebooks.WIDGET_VIEW: {"model_id": "1"}, "text/html": "<p>still</p>", "text/plain": "still"}
    nb = notebook("x", outputs=[new_output("execute_result", data=data)])
    (output,) = notebooks.canonical(nb).cells[0].outputs
    assert {"text/html": "<p>still</p>", "text/plain": "still"} == output.data


def test_a_cell_keeps_a_name_that_someone_chose():
    assert "domains-split" == notebooks.canonical(notebook("x", id="domains-split")).cells[0].id


def test_a_random_name_is_replaced_by_one_that_follows_from_the_text():
    first, second = (notebooks.canonical(notebook("x = 1")).cells[0].id for _ in range(2))
    assert first == second
    assert first.startswith("cell-")


def test_equal_cells_get_different_names():
    nb = notebooks.canonical(new_notebook(cells=[new_code_cell("x"), new_code_cell("x")]))
    assert len({cell.id for cell in nb.cells}) == 2


def test_a_cells_name_stays_when_its_text_is_edited():
    nb = notebooks.canonical(notebook("x = 1"))
    name = nb.cells[0].id
    nb.cells[0].source = "x = 2"
    assert name == notebooks.canonical(nb).cells[0].id


def test_the_command_counts_and_fails_when_one_is_stale(tmp_path, capsys):
    path = write(notebook("1"), tmp_path / "a.ipynb")
    assert notebooks.main(["--check", str(path)]) == 1
    assert "1 notebooks, 1 stale or failing" in capsys.readouterr().out
    assert notebooks.main([str(path)]) == 0
    assert notebooks.main(["--check", str(path)]) == 0


def test_the_tool_runs_the_kernel_of_this_python(tmp_path):
    path = write(notebook("import sys\nprint(sys.version)"), tmp_path / "a.ipynb")
    notebooks.refresh(path, check=False)
    assert sys.version in json.loads(path.read_text())["cells"][0]["outputs"][0]["text"][0]
