"""`import vfiolab` is quick, and the first use of it, which brings the model and the kit, draws nothing yet."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.bench


def importing(module):
    code = f"from time import perf_counter as now; start = now(); import {module}; print(now() - start)"

    def seconds():
        return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)

    return seconds


def test_importing_vfiolab_takes_less_than_a_tenth_of_importing_ipywidgets(beside):
    beside("import vfiolab", importing("vfiolab"), "import ipywidgets", importing("ipywidgets"), within=0.1)


def test_the_first_use_takes_less_than_half_of_importing_ipywidgets(beside):
    beside("import vfiolab.kit", importing("vfiolab.kit"), "import ipywidgets", importing("ipywidgets"), within=0.6)
