"""What is built: a wheel that carries data and notebooks, an sdist that builds the same wheel, a Binder image's recipe."""

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.package


def run(*argv, cwd=ROOT, **environment):
    done = subprocess.run(argv, cwd=cwd, env=os.environ | environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def tracked(folder):
    """List what git would ship of a folder, so that a stray file in the work tree does not count as expected."""
    names = run("git", "ls-files", "--cached", "--others", "--exclude-standard", "--", folder).splitlines()
    return {name.removeprefix(f"{folder}/") for name in names if (ROOT / name).exists()}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Build the sdist from the checkout, and the wheel from the sdist, as an index's users get it."""
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out))
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return wheel, sdist


@pytest.fixture(scope="module")
def wheel(built):
    with zipfile.ZipFile(built[0]) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """Unpack the wheel where no checkout is near."""
    site = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(built[0]) as archive:
        archive.extractall(site)
    return site


def below(names, folder):
    return {name.removeprefix(folder) for name in names if name.startswith(folder)}


def test_the_wheel_carries_the_data(wheel):
    assert tracked("data") == below(wheel, "vfiolab/_data/")


def test_the_wheel_carries_the_notebooks_and_nothing_that_jupyter_left_behind(wheel):
    assert tracked("notebooks") == below(wheel, "vfiolab/_notebooks/")


def test_the_wheel_carries_the_package_with_its_types_and_licence(wheel):
    code = {name for name in below(wheel, "vfiolab/") if not name.startswith(("_data/", "_notebooks/"))}
    assert tracked("vfiolab") == code
    assert "py.typed" in code
    assert any(name.endswith("licenses/LICENSE") for name in wheel)


def test_the_wheel_holds_nothing_at_its_top_but_the_package(wheel):
    assert {"vfiolab"} == {name.partition("/")[0] for name in wheel if ".dist-info/" not in name}


def test_the_sdist_holds_what_is_needed_to_build_and_to_test(built):
    with tarfile.open(built[1]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for folder in ("data", "notebooks", "vfiolab", "tests", "binder", ".ci"):
        assert tracked(folder) == below(names, f"{folder}/")
    assert {"pyproject.toml", "README.md", "LICENSE"} <= names


def test_an_installed_wheel_finds_its_own_data_and_notebooks(installed, tmp_path):
    code = "from vfiolab import _paths as p; print(p.data_dir(), p.notebooks_dir())"
    shown = run(sys.executable, "-c", code, cwd=tmp_path, PYTHONPATH=str(installed)).split()
    assert [str(installed / "vfiolab" / "_data"), str(installed / "vfiolab" / "_notebooks")] == shown


def test_an_installed_wheel_loads_each_of_its_machines(installed, tmp_path):
    code = "import vfiolab as vl; names = list(vl.machines()); [vl.load(str(name)) for name in names]; print(len(names))"
    assert int(run(sys.executable, "-c", code, cwd=tmp_path, PYTHONPATH=str(installed))) >= 4


def test_binders_recipe_installs_the_lock_then_vfiolab_and_opens_notebook_00():
    recipe = run(sys.executable, "-m", "repo2docker", "--no-build", "--debug", ".")
    assert "Building conda environment for python=3.11" in recipe
    steps = ['install --no-cache-dir -r "binder/requirements.txt"', "COPY --chown=0:0 src/ ", "RUN ./binder/postBuild", "/binder/start"]
    places = [recipe.find(step.replace("--chown=0:0", re.search(r"--chown=\d+:\d+", recipe)[0])) for step in steps]
    assert -1 not in places
    assert sorted(places) == places
