"""Seeded problems without end: a topic and a number are a problem, the same one on every machine.

What may not come in: widgets, and answers. A draft is code and options; the truth and its reasons are asked of the model.
"""

from __future__ import annotations

from functools import partial
from random import Random
from typing import Any

from vfiolab.course.predict import Option, Prediction, Told
from vfiolab.course.seeded.domains import DOMAINS
from vfiolab.course.seeded.draft import Draft, Kind
from vfiolab.course.seeded.groups import GROUPS
from vfiolab.course.seeded.iova import IOVA
from vfiolab.course.seeded.msi import MSI
from vfiolab.course.seeded.told import Names

__all__ = ["TOPICS", "problem"]

TOPICS: dict[str, dict[str, Kind]] = {"domains": DOMAINS, "iova": IOVA, "msi": MSI, "groups": GROUPS}


def problem(topic: str, seed: int) -> Prediction:
    """Return the problem of a seed: on domains, iova, msi or groups, or on one kind of them alone, such as "iova:unmap".

    The code is generated, and the truth and its reasons are the model's. As many seeds in a row as a topic has kinds meet every kind once.
    ValueError for a topic or kind that is not there, and for what is no whole number.

    >>> guess = problem("iova:unmap", 3)
    >>> guess.choose(guess.options[0])
    >>> guess.reveal().truth in guess.options
    True
    """
    name, _, kind = topic.partition(":")
    kinds = TOPICS.get(name, {})
    if not kinds or (kind and kind not in kinds):
        known = ", ".join(f"{one}:{it}" for one, all_of in TOPICS.items() for it in all_of)
        raise ValueError(f"no problems are called {topic!r}; there are: {', '.join(TOPICS)}; or one kind alone: {known}")
    if type(seed) is not int:
        raise ValueError(f"a seed is a whole number, not {seed!r}")
    block, place = divmod(seed, len(kinds))
    chosen = kind or Random(f"{topic} {block}").sample(sorted(kinds), len(kinds))[place]  # noqa: S311 - an exercise, not a secret
    draft = kinds[chosen](Random(f"{name}:{chosen} {seed}"))  # noqa: S311 - likewise
    given, asked = ("".join(f"{line}\n" for line in lines) for lines in (("import vfiolab as vl", *draft.given), draft.asked))
    twin = partial(_after, f"{name}:{chosen}", seed, given + asked)
    return Prediction(
        draft.question, draft.options, experiment=asked, shows=draft.shows, given=given, twin=twin, told=partial(_told, draft)
    )


def _after(topic: str, seed: int, code: str) -> Prediction:
    """Return the problem of the next seed whose code is another."""
    following = problem(topic, seed + 1)
    return following if following.experiment != code else _after(topic, seed + 1, code)


def _told(draft: Draft, names: Names, truth: Option) -> Told:
    """Let the draft's own explanation speak, and say of a wrong option where it is the answer."""
    because, why = draft.told(names)
    code = "\n".join(("import vfiolab as vl", *draft.given, *draft.asked))
    others = {_run(code.replace(*change)): f"So it is {words}. Here: " for words, change in (draft.others or {}).items()}
    wrong = [option for option in draft.options if option != truth]
    return because, {option: others.get(option, "") + (why if isinstance(why, str) else why(option)) for option in wrong}


def _run(code: str) -> Option:
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102 - the course's own text
    truth: Option = names["truth"]
    return truth
