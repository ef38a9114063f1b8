"""The house has floors: a room imports only from rooms below it, and no two modules of a room stand on each other."""

import ast
from pathlib import Path

import pytest

import vfiolab

ROOT = Path(vfiolab.__file__).parent
#: The rooms, ground floor first. A longer name is a room inside a room.
FLOORS = (
    "_text",
    "_paths",
    "_lazy",
    "_table",
    "model.address",
    "model.errors",
    "model.signals",
    "model.events",
    "model.switches",
    "model.kernel",
    "model.checks",
    "model.assumptions",
    "model.pci",
    "model.iommu",
    "model.irq",
    "model.uapi",
    "model.backends",
    "model.user",
    "model.machine",
    "model.builder",
    "model.whatif",
    "readers",
    "client",
    "replay",
    "draw.stage",
    "draw.calls",
    "draw.iovamap",
    "draw",
    "kit",
    "run",
    "proposals",
    "detective",
    "course",
    "lab",
    "commands",
    "__main__",
)
#: The table of contents of the whole package stands beside the house.
OUTSIDE = {"", "model"}


def modules():
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__").removesuffix("__init__"): path
        for path in sorted(ROOT.rglob("*.py"))
    }


MODULES = modules()


def room(module):
    """Return the floor of a module; the longest name that fits."""
    fitting = [name for name in FLOORS if module == name or module.startswith(f"{name}.")]
    return FLOORS.index(max(fitting, key=len)) if fitting else None


def imports(module, *, typing=True):
    """Yield what of the package a module imports; `typing`: also what only the type checker sees."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    only_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("vfiolab") or (node in only_types and not typing):
            continue
        home = node.module.removeprefix("vfiolab").removeprefix(".")
        for alias in node.names:
            inner = f"{home}.{alias.name}".removeprefix(".")
            yield inner if inner in MODULES else home


@pytest.mark.parametrize("module", [module for module in MODULES if module not in OUTSIDE])
def test_every_module_has_a_floor_and_imports_from_its_own_or_those_below(module):
    assert room(module) is not None, f"{module} is in no room"
    above = [other for other in imports(module) if other not in OUTSIDE and room(other) > room(module)]
    assert [] == above


@pytest.mark.parametrize("module", MODULES)
def test_no_module_takes_a_private_name_through_a_wall(module):
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    taken = [
        f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vfiolab")
        for alias in node.names
        if alias.name.startswith("_")
    ]
    assert [] == taken


ROOMS = [path.parent for name, path in MODULES.items() if path.name == "__init__.py" and name]


@pytest.mark.parametrize("folder", ROOMS, ids=lambda folder: folder.name)
def test_each_room_says_what_lives_in_it_and_what_may_not_come_in(folder):
    said = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or ""
    assert len(said) > 60
    assert "What may not come in:" in said
