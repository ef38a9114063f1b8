"""The gallery: fourteen pictures, each with what it teaches, and none of them stale."""

from __future__ import annotations

import re

import pytest
from tools import gallery

from vfiolab._paths import notebooks_dir


@pytest.fixture(scope="module")
def drawn():
    return gallery.files()


@pytest.fixture(autouse=True)
def _drawn_once(monkeypatch, drawn):
    monkeypatch.setattr(gallery, "files", lambda: drawn)


def test_no_file_of_the_gallery_is_stale():
    assert [] == gallery.stale(notebooks_dir())


def test_there_are_fourteen_pictures():
    assert 14 == len(gallery.EXHIBITS) == len({exhibit.name for exhibit in gallery.EXHIBITS})


@pytest.mark.parametrize("exhibit", gallery.EXHIBITS, ids=lambda exhibit: exhibit.name)
def test_every_picture_has_words_and_a_table(exhibit):
    picture = exhibit.draw()

    assert len(picture.description) > 40
    assert picture.table
    assert len(exhibit.teaches) > 80


def test_every_picture_on_the_page_is_a_file_beside_it(drawn):
    assert {f"{gallery.FOLDER}/{exhibit.name}.svg" for exhibit in gallery.EXHIBITS} == set(re.findall(r"\]\((.*?)\)", drawn[gallery.PAGE]))


@pytest.mark.parametrize("broken", ["changed", "missing", "left over"])
def test_check_names_what_is_stale_and_changes_nothing(tmp_path, monkeypatch, capsys, broken):
    monkeypatch.setattr(gallery, "notebooks_dir", lambda: tmp_path)
    gallery.main([])
    file = tmp_path / gallery.FOLDER / ("chain.svg" if broken != "left over" else "old.svg")
    if broken == "missing":
        file.unlink()
    else:
        file.write_text("something else")

    assert 1 == gallery.main(["--check"])
    assert f"{file} is stale: run python tests/tools/gallery.py" in capsys.readouterr().err
    assert file.is_file() is (broken != "missing")


def test_writing_the_gallery_makes_it_fresh(tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "notebooks_dir", lambda: tmp_path)
    gallery.main([])

    assert 0 == gallery.main(["--check"])
