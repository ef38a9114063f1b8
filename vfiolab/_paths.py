"""Where the packaged files are: the checkout first, then what the wheel carries.

In a checkout (or an editable install) `data/` and `notebooks/` stand beside the package. The build backend puts copies
of both into the wheel, inside the package.
"""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def _find(name: str, package: Path) -> Path:
    checkout = package.parent
    candidates = (checkout / name, package / f"_{name}")
    # A site-packages folder may well hold some other project's data/: only a checkout has our pyproject.toml beside it.
    if (checkout / "pyproject.toml").is_file() and candidates[0].is_dir():
        return candidates[0]
    if candidates[1].is_dir():
        return candidates[1]
    tried = " nor ".join(str(path) for path in candidates)
    raise FileNotFoundError(f"vfiolab's {name} folder is at neither {tried}; reinstall vfiolab, or run from a complete checkout")


def data_dir(package: Path = PACKAGE) -> Path:
    """Find the folder of machine files, kernel traces and captures.

    Raises FileNotFoundError that names both places when the installation is not complete.

    >>> data_dir().name in {"data", "_data"}
    True
    """
    return _find("data", package)


def notebooks_dir(package: Path = PACKAGE) -> Path:
    """Find the folder of notebooks; the checkout's own when there is one.

    Raises FileNotFoundError that names both places when the installation is not complete.
    """
    return _find("notebooks", package)


def in_checkout(package: Path = PACKAGE) -> bool:
    """Tell whether the notebooks are the checkout's own, which a learner may edit and commit."""
    return notebooks_dir(package).parent == package.parent
