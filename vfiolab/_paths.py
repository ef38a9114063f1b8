"""Where the packaged files are: the checkout first, then what the wheel carries.

In a checkout (or an editable install) `data/` and `notebooks/` stand beside the package. The build backend puts copies
of both into the wheel, inside the package.
"""

from __future__ import annotations

import os
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


def machine_path(name: str | Path) -> tuple[Path, str]:
    """Return the file that a name stands for, and what there is to say about the choice (mostly nothing).

    A text that is the name of one of the kit's machines is that machine, also where a file is called so too; `./name` is the file. Every
    other text, and every Path, is a file or a folder, which need not be there.

    >>> machine_path("two-smmu-server")[0].name, machine_path("./two-smmu-server")[0].name
    ('two-smmu-server.json', 'two-smmu-server')
    """
    known = data_dir() / "machines" / f"{name}.json"
    if not isinstance(name, str) or Path(name).name != name or not os.path.isfile(known):  # noqa: PTH113 # False for an impossible name too
        return Path(name), ""
    both = f"{name!r} is a machine of the kit, and here is a file of that name: the machine is taken; write './{name}' for the file"
    return known, both if os.path.exists(name) else ""  # noqa: PTH110


def notebooks_dir(package: Path = PACKAGE) -> Path:
    """Find the folder of notebooks; the checkout's own when there is one.

    Raises FileNotFoundError that names both places when the installation is not complete.
    """
    return _find("notebooks", package)
