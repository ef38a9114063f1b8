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
def opened(tmp_path_factory):
    """Return a function that opens a notebook of one app and of matplotlib, with each button pressed once."""
    from browser.harness import Browser, serving

    folder = tmp_path_factory.mktemp("bench")
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    with serving(folder) as address, Browser() as browser:

        def opener(name, app):
            cells = [new_code_cell(app), new_code_cell(MATPLOTLIB)]
            nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), folder / name)
            page = browser.open(address, name)
            page.run_all()
            for button in ("Map", "Unmap", "Redraw"):
                page.time_click(button)
            return page

        yield opener


def test_a_click_changes_the_picture_well_before_matplotlib_would(opened, beside):
    """Take the medians of 15 clicks each: what a learner feels, not the best case."""
    page = opened("bench.ipynb", EXPLORER)

    def explorer():
        return median(page.time_click(name) for name in ["Map", "Unmap"] * 7 + ["Map"]) / 1e3

    def matplotlib():
        return median(page.time_click("Redraw") for _ in range(15)) / 1e3

    measured = beside("click to picture, explorer", explorer, "matplotlib inline + Output", matplotlib, within=0.6, rounds=1)
    assert measured.seconds < 0.150


LAB = """import vfiolab as vl
lab = vl.lab.Lab("two-smmu-server")
lab.do("space.attach", "01:00.0")
lab.do("space.map_program", "dpdk-2M", "127G")
lab.mode.value = "Mappings"
lab.iova.value, lab.size.value = "1T", "4K"
app = lab
lab"""


def test_a_click_in_the_lab_with_65024_mappings_changes_the_picture_well_before_matplotlib_would(opened, beside):
    full = opened("full.ipynb", LAB)

    def lab():
        return median(full.time_click(name) for name in ["Map", "Unmap"] * 3 + ["Map"]) / 1e3

    def matplotlib():
        return median(full.time_click("Redraw") for _ in range(3)) / 1e3

    beside("click to picture, lab with 65,024 mappings", lab, "matplotlib inline + Output", matplotlib, within=2 / 3, rounds=1)
