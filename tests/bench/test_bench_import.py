"""`import vfiolab` is quick, and the first use of it, which brings the model and the kit, draws nothing yet."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.bench


@pytest.fixture
def importing(tmp_path):
    """Return what makes an action that runs some code in a fresh interpreter, compiled before as installed packages are."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment = kept | {"PYTHONPYCACHEPREFIX": str(tmp_path)}

    def action(work):
        code = f"from time import perf_counter as now; start = now(); {work}; print(now() - start)"

        def seconds():
            run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
            return float(run.stdout)

        seconds()
        return seconds

    return action


def test_importing_vfiolab_takes_less_than_a_tenth_of_importing_ipywidgets(beside, importing):
    beside("import vfiolab", importing("import vfiolab"), "import ipywidgets", importing("import ipywidgets"), within=0.1)


def test_the_first_use_takes_less_than_importing_ipywidgets(beside, importing):
    first = "import vfiolab as vl; vl.load('two-smmu-server').address_space()"
    beside("first use: load, address_space", importing(first), "import ipywidgets", importing("import ipywidgets"), within=0.85)
