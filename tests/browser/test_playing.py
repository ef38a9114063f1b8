"""Playing leaves the project as it was: a notebook opened from a checkout, run and saved, changes nothing that git or the tests see."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.browser

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = "00-start-here.ipynb"


def git(folder, *words):
    return subprocess.run(["git", "-C", folder, *words], check=True, capture_output=True, text=True, timeout=60).stdout


@pytest.fixture
def checkout(tmp_path):
    """Copy what git ships of this project to a new repository."""
    folder = tmp_path / "checkout"
    for name in git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-q", "-m", "as cloned")
    return folder


def test_after_running_and_saving_a_notebook_the_tree_is_clean_and_its_tests_pass(checkout, browser):
    from browser.harness import js, serving

    with serving(checkout=checkout) as address:
        page = browser.open(address, NOTEBOOK)
        page.run_all()
        js(page.page, "panel.context.model.sharedModel.insertCell(0, {cell_type: 'code', source: 'mine'}); await panel.context.save()")
        page.page.close()
    copies = [path for path in checkout.rglob(NOTEBOOK) if '"mine"' in path.read_text(encoding="utf-8")]
    assert [checkout / "vfiolab-notebooks" / NOTEBOOK] == copies
    assert "" == git(checkout, "status", "--porcelain")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"notebooks/{NOTEBOOK}"],
        cwd=checkout, env=os.environ | {"PYTHONPATH": str(checkout)}, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert 0 == done.returncode, done.stdout[-3000:]
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--collect-only", "--no-header", "."],
        cwd=checkout, env=os.environ | {"PYTHONPATH": str(checkout)}, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert NOTEBOOK in found.stdout
    assert "vfiolab-notebooks" not in found.stdout
