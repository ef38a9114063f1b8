"""The course's questions: data, so that a notebook's cell does not show the answer before it is revealed."""

from __future__ import annotations

import tomllib
from functools import cache
from typing import Any

from vfiolab._paths import data_dir
from vfiolab.course.predict import Option, Prediction
from vfiolab.model.address import human_size


@cache
def questions() -> dict[str, dict[str, Any]]:
    """Read `data/course/questions*.toml`: name -> question, options (`sizes`: bytes), because, and why each wrong option is wrong."""
    files = sorted((data_dir() / "course").glob("questions*.toml"))
    return {name: entry for path in files for name, entry in tomllib.loads(path.read_text(encoding="utf-8")).items()}


def ask(name: str) -> Prediction:
    """Ask a question of the course; the answer and its reasons come with `reveal`.

    >>> ask("two-units")
    Prediction('After the second device has joined, how many domains will the container have?', (1, 2), answer=None)
    """
    known = questions()
    if name not in known:
        raise ValueError(f"no question is called {name!r}; questions: {', '.join(known)}")
    entry = known[name]
    options: tuple[Option, ...] = tuple(entry["options"])
    why: dict[str, str] = entry["why"]
    sizes = {o: f"{human_size(int(o))} ({o})" for o in options if entry.get("sizes") and str(o).isdecimal() and int(o)}
    return Prediction(entry["question"], options, {o: why[str(o)] for o in options if str(o) in why}, entry["because"], sizes)
