"""One function finds data/: the checkout's first, then the wheel's."""

import pytest

from vfiolab._paths import data_dir, notebooks_dir


@pytest.fixture
def package(tmp_path):
    folder = tmp_path / "vfiolab"
    folder.mkdir()
    return folder


def make(*folders):
    for folder in folders:
        folder.mkdir()


def test_the_checkout_comes_first(package):
    make(package.parent / "data", package / "_data")
    (package.parent / "pyproject.toml").touch()
    assert data_dir(package) == package.parent / "data"


def test_a_wheel_carries_its_own_copy(package):
    make(package / "_data")
    assert data_dir(package) == package / "_data"


def test_another_projects_data_folder_in_site_packages_is_not_ours(package):
    make(package.parent / "data", package / "_data")
    assert data_dir(package) == package / "_data"


def test_a_broken_installation_is_told_where_was_looked(package):
    with pytest.raises(FileNotFoundError, match="data folder is at neither") as error:
        data_dir(package)
    assert str(package / "_data") in str(error.value)
    assert str(package.parent / "data") in str(error.value)


def test_the_notebooks_are_found_in_the_same_way(package):
    make(package / "_notebooks")
    assert notebooks_dir(package) == package / "_notebooks"


def test_a_checkouts_own_notebooks_come_first(package):
    make(package / "_notebooks")
    make(package.parent / "notebooks")
    (package.parent / "pyproject.toml").touch()
    assert notebooks_dir(package) == package.parent / "notebooks"
