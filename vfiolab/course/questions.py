"""The course's questions: data, so that a notebook's cell does not show the answer before it is revealed."""

from __future__ import annotations

import tomllib
from functools import cache, partial
from typing import Any

from vfiolab._paths import data_dir
from vfiolab.course.predict import Option, Prediction
from vfiolab.course.seeded import problem
from vfiolab.model.address import human_size


@cache
def questions() -> dict[str, dict[str, Any]]:
    """Read `data/course/questions*.toml`: name -> question, options (`sizes`: bytes), because, why others are wrong.

    `experiment`: code that asks the model; it leaves the answer in `truth`. `shows`: what of it is drawn. `twin`: the seeded kind
    that has the same rule, or a question of its own, whose twin is this one again.
    """
    files = sorted((data_dir() / "course").glob("questions*.toml"))
    return {name: entry for path in files for name, entry in tomllib.loads(path.read_text(encoding="utf-8")).items()}


def ask(name: str) -> Prediction:
    """Ask a question of the course; choose, and the answer that the model gives, its reasons and its picture appear in the same place.

    >>> ask("two-units")
    Prediction('After the second device has joined, how many domains will the container have?', (1, 2, 3), answer=None)
    """
    known = questions()
    if name not in known:
        raise ValueError(f"no question is called {name!r}; questions: {', '.join(known)}")
    return _asked(known[name], list(known).index(name) + 1, name)


def _asked(entry: dict[str, Any], seed: int, name: str = "") -> Prediction:
    """Make a question of its entry; `seed` is that of its first twin."""
    options: tuple[Option, ...] = tuple(entry["options"])
    why: dict[str, str] = entry["why"]
    sizes = {o: f"{human_size(int(o))} ({o})" for o in options if entry.get("sizes") and str(o).isdecimal() and int(o)}
    reasons = {o: why[str(o)] for o in options if str(o) in why}
    other = entry["twin"]
    twin = partial(problem, other, seed) if isinstance(other, str) else partial(_asked, {**other, "twin": entry}, seed)
    return Prediction(
        entry["question"], options, reasons, entry["because"], sizes, entry["experiment"], entry.get("shows", ""), twin=twin, name=name
    )  # fmt: skip
