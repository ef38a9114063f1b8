"""`vfiolab lab` opens a learner's copy of the notebooks, made once, and never overwrites."""

import json
import sys

import pytest

from vfiolab.lab import launch

CELL = {"cell_type": "code", "execution_count": 1, "id": "a", "metadata": {}, "outputs": [{"name": "stdout"}], "source": ["1"]}


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    """Take back what the command tells its server through the environment."""
    for name in ("VFIOLAB_PROGRESS", "JUPYTER_PATH"):
        monkeypatch.setenv(name, "so that it is taken back")
        monkeypatch.delenv(name)


@pytest.fixture
def packaged(tmp_path, monkeypatch):
    """Let one notebook, and what must not be copied beside it, be all that there is."""
    source = tmp_path / "site" / "_notebooks"
    (source / ".ipynb_checkpoints").mkdir(parents=True)
    (source / "vfiolab-notebooks").mkdir()
    (source / launch.START).write_text(json.dumps({"cells": [{"cell_type": "markdown", "source": ["é"]}, CELL]}))
    monkeypatch.setattr(launch, "notebooks_dir", lambda: source)
    return source


def test_in_a_checkout_too_a_copy_is_opened(tmp_path):
    folder = launch.workspace(tmp_path)
    assert folder == tmp_path / "vfiolab-notebooks"
    assert (folder / launch.START).read_bytes() == (launch.notebooks_dir() / launch.START).read_bytes()


@pytest.mark.usefixtures("packaged")
def test_the_copy_holds_the_notebooks_and_no_other_copy(tmp_path):
    assert ["00-start-here.ipynb"] == [path.name for path in launch.workspace(tmp_path).iterdir()]
    assert ["site", "vfiolab-notebooks"] == sorted(path.name for path in tmp_path.iterdir())


@pytest.mark.usefixtures("packaged")
def test_a_second_start_opens_the_first_copy_as_it_was_left(tmp_path):
    first = launch.workspace(tmp_path)
    (first / launch.START).write_text("my own work")
    assert first == launch.workspace(tmp_path)
    assert (first / launch.START).read_text() == "my own work"


@pytest.mark.usefixtures("packaged")
def test_a_fresh_copy_has_no_outputs_and_stands_beside_what_is_there(tmp_path):
    first = launch.workspace(tmp_path)
    (first / launch.START).write_text("my own work")
    assert [tmp_path / "vfiolab-notebooks-2", tmp_path / "vfiolab-notebooks-3"] == [launch.workspace(tmp_path, fresh=True) for _ in "12"]
    cells = json.loads((tmp_path / "vfiolab-notebooks-3" / launch.START).read_text())["cells"]
    assert [{"cell_type": "markdown", "source": ["é"]}, CELL | {"outputs": [], "execution_count": None}] == cells
    assert (first / launch.START).read_text() == "my own work"
    assert first == launch.workspace(tmp_path)


@pytest.mark.usefixtures("packaged")
def test_a_file_of_that_name_is_left_alone(tmp_path):
    (tmp_path / "vfiolab-notebooks").write_text("mine")
    assert launch.workspace(tmp_path) == tmp_path / "vfiolab-notebooks-2"
    assert (tmp_path / "vfiolab-notebooks").read_text() == "mine"


@pytest.mark.usefixtures("packaged")
def test_a_copy_that_fails_half_way_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "_clear", lambda _: (tmp_path / "no such file").read_text())
    with pytest.raises(FileNotFoundError):
        launch.workspace(tmp_path, fresh=True)
    assert ["site"] == [path.name for path in tmp_path.iterdir()]


@pytest.mark.usefixtures("packaged")
def test_where_no_copy_can_be_made_the_user_is_told_where_and_why(tmp_path, monkeypatch, capsys):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launch, "find_spec", lambda _: True)
    monkeypatch.setattr(launch.shutil, "copytree", refuse)
    assert launch.main([]) == 2
    assert f"cannot copy the notebooks to {tmp_path}: [Errno 13] Permission denied" in capsys.readouterr().err


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


def test_no_news_is_asked_about_unless_a_learner_says_where_it_is(packaged):
    said = [word for word in launch.command(packaged, ["--LabApp.news_url=mine"]) if "news" in word]
    assert ["--LabApp.news_url=None", "--LabApp.news_url=mine"] == said  # the last one counts


@pytest.mark.usefixtures("packaged")
def test_jupyterlab_is_run_by_the_python_that_has_vfiolab_and_in_the_notebooks_folder(tmp_path, monkeypatch):
    started = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launch, "find_spec", lambda _: True)
    monkeypatch.setattr(launch, "run", lambda argv: started.append((argv[:4], "--fresh" in argv, launch.Path.cwd())))
    launch.main(["--fresh"])
    assert [([sys.executable, "-P", "-m", "jupyterlab"], False, tmp_path / "vfiolab-notebooks")] == started


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
    assert main(["lab", "--no-browser", "--port=1", "-y", "--help-all", "x.ipynb"]) == 3
    assert ["--no-browser", "--port=1", "-y", "--help-all", "x.ipynb"] == given


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_is_the_commands_own_and_opens_nothing(monkeypatch, capsys, option):
    from vfiolab.__main__ import main

    monkeypatch.setattr(launch, "main", lambda _: pytest.fail("something was opened"))
    assert main(["lab", option]) == 0
    assert "usage: vfiolab lab [--fresh] [--reset NOTEBOOK] [--voila [NOTEBOOK]] [OPTION ...]" in capsys.readouterr().out


@pytest.fixture
def started(packaged, tmp_path, monkeypatch):
    """Let two notebooks be all that there is, and keep the command that would be run, with where and what it would find."""
    (packaged / launch.PAGE).write_text(json.dumps({"cells": [CELL]}))
    commands = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JUPYTER_PATH", "mine")
    monkeypatch.setattr(launch, "find_spec", lambda _: True)
    monkeypatch.setattr(launch, "run", lambda argv: commands.append((argv, launch.Path.cwd())) or 0)
    return commands


@pytest.mark.parametrize(("given", "notebook"), [([], "lab.ipynb"), (["00-start-here.ipynb"], "00-start-here.ipynb")])
def test_voila_shows_the_notebook_that_is_named_else_the_lab_and_gets_the_other_options(started, tmp_path, given, notebook):
    assert 0 == launch.main(["--voila", *given, "--no-browser", "--port=9999"])
    ((argv, folder),) = started
    assert ([sys.executable, "-P", "-m", "voila", notebook], ["--no-browser", "--port=9999"]) == (argv[:5], argv[-2:])
    assert tmp_path / "vfiolab-notebooks" == folder
    assert [] == [word for word in argv[5:] if word.endswith(".ipynb") or word == "--voila"]


def test_voila_finds_the_projects_template_before_what_the_user_has(started):
    launch.main(["--voila"])
    share, mine = launch.os.environ["JUPYTER_PATH"].split(launch.os.pathsep)
    assert "mine" == mine
    assert (launch.Path(share) / "voila" / "templates" / "vfiolab" / "index.html.j2").is_file()
    assert "--template=vfiolab" in started[0][0]


def test_kernels_that_closed_pages_leave_behind_are_ended():
    assert [] != [word for word in launch.page_command("a.ipynb", []) if word.startswith("--MappingKernelManager.cull_idle_timeout=")]


def test_what_a_learner_chooses_for_voila_is_said_once():
    argv = launch.page_command("a.ipynb", ["--template=lab", "--show_tracebacks=False"])
    assert ["--template=lab", "--show_tracebacks=False"] == [word for word in argv if word.startswith(("--template", "--show"))]


@pytest.mark.parametrize("name", ["no-such.ipynb", "lab.ipynb"])
def test_a_notebook_that_the_copy_has_not_is_refused_with_those_it_has(started, tmp_path, capsys, name):
    folder = launch.workspace(tmp_path)
    (folder / launch.PAGE).unlink()
    assert launch.main(["--voila", name]) == 2
    assert f"{folder} has no {name}; its notebooks are: 00-start-here.ipynb; --fresh makes a new copy" in capsys.readouterr().err
    assert [] == started


def test_without_voila_the_user_is_told_what_to_install(started, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(launch, "find_spec", lambda name: None if name == "voila" else True)
    assert launch.main(["--voila"]) == 2
    assert capsys.readouterr().err == "vfiolab lab: Voila is not installed here; try: pip install 'vfiolab[voila]'\n"
    assert not (tmp_path / "vfiolab-notebooks").exists()
    assert [] == started


def test_one_notebook_is_put_back_without_touching_another_and_the_learners_own_is_kept(tmp_path):
    folder = launch.workspace(tmp_path)
    name, other = "03-containers-and-domains.ipynb", "04-iova-maps.ipynb"
    for path in (folder / name, folder / other):
        path.write_text("mine", encoding="utf-8")
    kept = [launch.reset(folder, name) for _ in range(2)]
    assert [folder / f"03-containers-and-domains-mine-{number}.ipynb" for number in (2, 3)] == kept
    assert ("mine", "mine") == (kept[0].read_text(encoding="utf-8"), (folder / other).read_text(encoding="utf-8"))
    cells = json.loads((folder / name).read_text(encoding="utf-8"))["cells"]
    assert [] == [cell for cell in cells if cell.get("outputs")]
    assert len(cells) > 20
    assert [] == [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_a_notebook_that_is_not_there_cannot_be_put_back(tmp_path):
    with pytest.raises(ValueError, match=r"no notebook 'moon.ipynb' to put back: 00-start-here"):
        launch.reset(launch.workspace(tmp_path), "moon.ipynb")


def test_reset_is_said_and_its_name_does_not_go_to_jupyterlab(tmp_path, monkeypatch, capsys):
    started = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launch, "run", started.append)
    monkeypatch.setattr(launch, "find_spec", lambda _: True)
    launch.main(["--reset", "04-iova-maps.ipynb", "--no-browser"])
    assert "04-iova-maps.ipynb is as new; yours is kept as 04-iova-maps-mine-2.ipynb" in capsys.readouterr().out
    assert "--no-browser" in started[0]
    assert "--reset" not in started[0]
    assert 2 == launch.main(["--reset"])
    assert "there is no notebook ''" in capsys.readouterr().err
