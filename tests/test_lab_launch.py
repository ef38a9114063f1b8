"""`vfiolab lab` opens a checkout's notebooks in place, else a copy, and never overwrites."""

import sys

import pytest

from vfiolab.lab import launch


@pytest.fixture
def packaged(tmp_path, monkeypatch):
    """Pretend to be installed from a wheel that carries one notebook."""
    source = tmp_path / "site" / "_notebooks"
    (source / ".ipynb_checkpoints").mkdir(parents=True)
    (source / launch.START).write_text("packaged")
    monkeypatch.setattr(launch, "notebooks_dir", lambda: source)
    monkeypatch.setattr(launch, "in_checkout", lambda: False)
    return source


def test_in_a_checkout_its_own_notebooks_are_opened():
    assert launch.workspace() == launch.notebooks_dir()


@pytest.mark.usefixtures("packaged")
def test_from_a_wheel_the_notebooks_are_copied_to_a_new_folder(tmp_path):
    folder = launch.workspace(tmp_path)
    assert folder == tmp_path / "vfiolab-notebooks"
    assert ["00-start-here.ipynb"] == [path.name for path in folder.iterdir()]


@pytest.mark.usefixtures("packaged")
def test_a_second_start_leaves_the_first_copy_alone(tmp_path):
    first = launch.workspace(tmp_path)
    (first / launch.START).write_text("my own work")
    second = launch.workspace(tmp_path)
    assert second == tmp_path / "vfiolab-notebooks-2"
    assert (first / launch.START).read_text() == "my own work"
    assert (second / launch.START).read_text() == "packaged"


@pytest.mark.usefixtures("packaged")
def test_the_copy_is_made_where_the_command_was_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert launch.workspace() == tmp_path / "vfiolab-notebooks"


def test_notebook_00_opens_first(packaged):
    assert f"--LabApp.default_url=/lab/tree/{launch.START}" in launch.command(packaged, [])


def test_the_rest_of_the_command_line_goes_to_jupyterlab(packaged):
    assert ["--no-browser", "--port=9999"] == launch.command(packaged, ["--no-browser", "--port=9999"])[-2:]


@pytest.mark.parametrize(("user", "allowed"), [(0, True), (1000, False)])
def test_root_is_allowed_only_where_root_is_who_asks(packaged, monkeypatch, user, allowed):
    monkeypatch.setattr("os.geteuid", lambda: user, raising=False)
    assert allowed == ("--allow-root" in launch.command(packaged, []))


@pytest.mark.usefixtures("packaged")
def test_jupyterlab_is_run_by_the_python_that_has_vfiolab_and_in_the_notebooks_folder(tmp_path, monkeypatch):
    started = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launch, "find_spec", lambda _: True)
    monkeypatch.setattr(launch, "run", lambda argv: started.append((argv[:4], launch.Path.cwd())))
    launch.main([])
    assert [([sys.executable, "-P", "-m", "jupyterlab"], tmp_path / "vfiolab-notebooks")] == started


@pytest.mark.usefixtures("packaged")
def test_without_jupyterlab_the_user_is_told_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launch, "find_spec", lambda _: None)
    assert launch.main([]) == 2
    assert capsys.readouterr().err == ("vfiolab lab: JupyterLab is not installed here; try: pip install 'vfiolab[lab]'\n")
    assert not (tmp_path / "vfiolab-notebooks").exists()


def test_the_command_hands_every_option_to_jupyterlab(monkeypatch):
    from vfiolab.__main__ import main

    given = []
    monkeypatch.setattr(launch, "main", lambda options: given.extend(options) or 3)
    assert main(["lab", "--no-browser", "--port=1", "-y", "--help", "x.ipynb"]) == 3
    assert ["--no-browser", "--port=1", "-y", "--help", "x.ipynb"] == given
