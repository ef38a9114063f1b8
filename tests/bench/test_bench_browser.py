"""From a click in the browser to a changed picture, beside a matplotlib figure shown the usual way."""

from statistics import median

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

pytestmark = pytest.mark.bench

EXPLORER = """import vfiolab as vl
app = vl.lab.Explorer("two-smmu-server")
app.space.attach("0000:01:00.0")
app.iova.value, app.size.value = "0x1000_0000", "64K"
for number in range(8):
    app.space.map(0x4000_0000 + number * 0x20_0000, "1M", name=f"ring {number}")
app"""
MATPLOTLIB = """import ipywidgets
import matplotlib.pyplot as plt
import vfiolab as vl
out, go = ipywidgets.Output(), ipywidgets.Button(description="Redraw")
def redraw(_):
    with out:
        out.clear_output(wait=True)
        vl.plot(app.space)
        plt.show()
go.on_click(redraw)
ipywidgets.VBox([go, out])"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    from browser.harness import Browser, serving

    folder = tmp_path_factory.mktemp("bench")
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = new_notebook(cells=[new_code_cell(EXPLORER), new_code_cell(MATPLOTLIB)], metadata={"kernelspec": kernel})
    nbformat.write(notebook, folder / "bench.ipynb")
    with serving(folder) as address, Browser() as browser:
        page = browser.open(address, "bench.ipynb")
        page.run_all()
        page.time_click("Map")
        page.time_click("Unmap")
        page.time_click("Redraw")
        yield page


def test_a_click_changes_the_picture_well_before_matplotlib_would(page, beside):
    """Take the medians of 15 clicks each: what a learner feels, not the best case."""

    def explorer():
        return median(page.time_click(name) for name in ["Map", "Unmap"] * 7 + ["Map"]) / 1e3

    def matplotlib():
        return median(page.time_click("Redraw") for _ in range(15)) / 1e3

    measured = beside("click to picture, explorer", explorer, "matplotlib inline + Output", matplotlib, within=0.6, rounds=1)
    assert measured.seconds < 0.150
