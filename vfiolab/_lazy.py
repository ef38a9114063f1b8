"""What loads when it is first asked for: a package's names, listed once, in the stub beside its `__init__`, and libraries of some views."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from itertools import pairwise
from types import ModuleType

__all__ = ["attach", "library"]


def library(name: str, instead: str) -> ModuleType:
    """Return a library that only some views need. ModuleNotFoundError says how to get it, and what serves `instead`.

    A page that runs without installing has no pandas and no matplotlib: no package index carries them for it.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        package = name.partition(".")[0]
        if error.name != package:
            raise
        alone = sys.platform == "emscripten"
        advice = "a page that runs in the browser alone has none: install vfiolab" if alone else f"pip install {package}"
        raise ModuleNotFoundError(f"this needs {package} ({advice}); {instead}", name=package) from error


def attach(package: str, file: str) -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]:
    """Return `__getattr__`, `__dir__` and `__all__` of a package whose stub says `from HOME import NAME as NAME` of each public name.

    A NAME whose HOME is the package is one of its own modules. `file` is the package's `__file__`.
    """
    homes: dict[str, str] = {}
    home = ""
    with open(f"{file}i", encoding="utf-8") as stub:  # noqa: PTH123 - pathlib would double what `import vfiolab` takes
        for words in map(str.split, stub):
            if words[:1] == ["from"]:
                home = words[1]
            homes |= {name.rstrip(","): home for before, name in pairwise(words) if before == "as"}

    def load(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}; it has {', '.join(homes)}")
        home = homes[name]
        return import_module(f"{home}.{name}") if home == package else getattr(import_module(home), name)

    return load, lambda: [*homes, "__version__"] if package == "vfiolab" else [*homes], [*homes]
