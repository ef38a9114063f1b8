"""What the project is made of: licence, locks, entry points, and nothing that belongs to one machine."""

import json
import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
TEXT = {".py", ".md", ".toml", ".txt", ".json", ".yml", ".ipynb", ".trace", ""}


def pins(path):
    """Read a lock as {requirement: its hashes}."""
    text = (ROOT / path).read_text(encoding="utf-8").replace("\\\n", " ")
    return {line.split(" --hash")[0].strip(): re.findall(r"sha256:([0-9a-f]{64})", line) for line in text.splitlines()}


@pytest.mark.parametrize("lock", [".ci/requirements.txt", ".ci/lite.txt", "binder/requirements.txt"])
def test_each_locked_requirement_is_one_version_with_hashes(lock):
    assert [] == [name for name, hashes in pins(lock).items() if "==" not in name or not hashes]


@pytest.mark.parametrize("lock", [".ci/requirements.txt", ".ci/lite.txt", "binder/requirements.txt"])
def test_a_lock_names_no_place_to_download_from(lock):
    text = (ROOT / lock).read_text(encoding="utf-8")
    assert [] == re.findall(r"^-.*$|\S*://\S*", text, re.MULTILINE)


def test_binder_gets_what_ci_tested():
    tested = pins(".ci/requirements.txt")
    bare = {name.split(" ;")[0] for name in tested}
    assert [] == [name for name in pins("binder/requirements.txt") if name.split(" ;")[0] not in bare]


def test_each_dependency_is_in_the_lock():
    extras = PROJECT["project"]["optional-dependencies"].values()
    wanted = {re.match(r"[\w-]+", name)[0] for group in (PROJECT["project"]["dependencies"], *extras) for name in group}
    assert set() == wanted - {name.split("==")[0] for name in pins(".ci/requirements.txt")}


def test_the_tests_need_no_jupyterlab():
    test = PROJECT["project"]["optional-dependencies"]["test"] + PROJECT["project"]["dependencies"]
    assert [] == [name for name in test if re.match("jupyterlab|notebook|playwright", name)]


def test_binder_starts_at_notebook_00():
    from vfiolab.lab.launch import START

    assert f"start=notebooks/{START}\n" in (ROOT / "binder" / "start").read_text(encoding="utf-8")
    assert (ROOT / "notebooks" / START).is_file()


def test_binder_runs_the_python_that_the_lock_was_made_for():
    minor = (ROOT / "binder" / "runtime.txt").read_text(encoding="utf-8").strip().removeprefix("python-")
    assert f"--python-version {minor} " in (ROOT / ".ci" / "lock").read_text(encoding="utf-8")
    assert PROJECT["project"]["requires-python"] == f">={minor}"


def test_the_github_workflow_runs_the_same_script():
    assert "run: bash .ci/run" in (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")


def test_the_version_is_said_once():
    assert PROJECT["project"]["version"] == version("vfiolab")


@pytest.mark.parametrize("script", [".ci/run", ".ci/lock", "binder/postBuild", "binder/start"])
def test_scripts_can_be_run(script):
    assert (ROOT / script).stat().st_mode & 0o111


def test_licence_is_bsd_with_three_clauses():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "BSD-3-Clause" == PROJECT["project"]["license"]
    assert ["1.", "2.", "3."] == re.findall(r"^\d\.", text, re.MULTILINE)
    assert "vfiolab authors" in text


def project_files():
    """List the project's own text files, without what tools leave behind."""
    top = [path for path in ROOT.iterdir() if path.is_file() and not path.name.startswith(".coverage")]
    below = [path for name in ("vfiolab", "tests", "binder", "notebooks", "data") for path in (ROOT / name).rglob("*")]
    return [
        path
        for path in top + below
        if path.is_file() and path.suffix in TEXT and not {"__pycache__", ".ipynb_checkpoints"} & set(path.parts)
    ]


def test_no_path_of_anyones_machine_is_in_the_project():
    home = re.compile(r"/(?:home|Users)/(?!me/)\w+/|/root/|/tmp/pytest")
    found = [
        str(path.relative_to(ROOT))
        for path in project_files()
        if path != Path(__file__) and home.search(path.read_text(encoding="utf-8", errors="replace"))
    ]
    assert [] == found


@pytest.mark.parametrize("path", sorted((ROOT / "data").rglob("*.json")), ids=lambda path: path.parent.name)
def test_each_json_file_of_the_data_is_valid(path):
    assert json.loads(path.read_text(encoding="utf-8"))
