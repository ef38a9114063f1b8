"""The words of VFIO, as data: each with a plain sentence, the kernel's own name for it, what that rests on, and where it is explained."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from textwrap import wrap
from typing import Any

from vfiolab._paths import data_dir
from vfiolab._table import Table
from vfiolab._text import page_text
from vfiolab.course.words import plain

__all__ = ["Glossary", "Term", "glossary"]


@dataclass(frozen=True, slots=True, repr=False)
class Term:
    """One word: what it `means` in a sentence, what there is to know next, the `kernel`'s own name, and the `source` of all that.

    `also`: other names for it. `notebook`: the number of the one that explains it.
    """

    word: str
    means: str
    more: str
    kernel: str
    source: tuple[str, ...]
    notebook: str
    also: tuple[str, ...] = ()

    @property
    def rests_on(self) -> str:
        """The source as a reader is told it.

        >>> glossary["ITS"].rests_on.partition(";")[0]
        'its_irq_compose_msi_msg, drivers/irqchip/irq-gic-v3-its.c (4.4)'
        """
        return "; ".join(text.removeprefix("function: ").replace(": ", " ", 1) for text in self.source)

    def _parts(self) -> list[tuple[str, str]]:
        also = [("also", ", ".join(self.also))] if self.also else []
        named = [("kernel", self.kernel), ("source", self.rests_on), ("see", f"notebook {self.notebook}")]
        return [("means", plain(self.means)), ("more", plain(self.more)), *also, *named]

    def __repr__(self) -> str:
        lines = [self.word]
        for name, text in self._parts():
            lines += wrap(text, 100, initial_indent=f"  {name + ':':<9}", subsequent_indent=" " * 11, break_on_hyphens=False)
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><th scope="row" style="text-align:left">{name}</th><td style="text-align:left">{page_text(text)}</td></tr>'
            for name, text in self._parts()
        )
        return f'<table><caption style="text-align:left"><b>{page_text(self.word)}</b></caption><tbody>{rows}</tbody></table>'


class Glossary(Mapping[str, Term]):
    """The words, by name: upper case or lower, and by their other names too. In a cell it shows itself as a table.

    >>> import vfiolab as vl
    >>> vl.glossary["domain"]
    domain
      means:   One page table in memory, which an IOMMU walks for the devices that are attached to it.
      more:    A container has as few as the kernel and the drivers allow, often one. A domain is neither an
               IOMMU nor a device.
      also:    IOMMU domain
      kernel:  struct iommu_domain
      source:  vfio_iommu_type1_attach_group, drivers/vfio/vfio_iommu_type1.c (4.4, 6.1, 6.12, 6.19)
      see:     notebook 03
    >>> vl.glossary["msi-x"].word, "EINVAL" in vl.glossary
    ('MSI', True)
    """

    def __init__(self, terms: Mapping[str, Term]) -> None:
        self._terms = dict(terms)
        self._words = {name.casefold(): word for word, term in self._terms.items() for name in (word, *term.also)}

    def __getitem__(self, word: str) -> Term:
        """Return a word's entry. KeyError names the nearest words if there is none."""
        found = self._find(word)
        if found is None:
            near = [self._words[name] for name in get_close_matches(str(word).casefold(), self._words)]
            raise KeyError(f"no entry for {word!r}; {'the nearest' if near else 'words'}: {', '.join(dict.fromkeys(near or self._terms))}")
        return self._terms[found]

    def __contains__(self, word: object) -> bool:
        return self._find(word) is not None

    def _find(self, word: object) -> str | None:
        return self._words.get(word.casefold()) if isinstance(word, str) else None

    def __iter__(self) -> Iterator[str]:
        return iter(self._terms)

    def __len__(self) -> int:
        return len(self._terms)

    @property
    def table(self) -> Table:
        """All words with what they mean, the kernel's name and the notebook, in alphabetical order.

        >>> import vfiolab as vl
        >>> vl.glossary.table[["word", "notebook"]][:2]
        word          notebook
        ACS           01
        ACS override  01
        """
        terms = sorted(self._terms.values(), key=lambda term: term.word.casefold())
        rows = [(term.word, plain(term.means), term.kernel, term.notebook) for term in terms]
        return Table(["word", "means", "kernel", "notebook"], rows)

    def __repr__(self) -> str:
        return repr(self.table[["word", "means"]])

    def _repr_html_(self) -> str:
        return self.table._repr_html_()


def _read() -> Glossary:
    """Read `data/course/glossary.toml`."""
    entries = tomllib.loads((data_dir() / "course" / "glossary.toml").read_text(encoding="utf-8"))
    rows: dict[str, dict[str, Any]] = {
        word: {key: tuple(said) if isinstance(said, list) else said for key, said in entry.items()} for word, entry in entries.items()
    }
    return Glossary({word: Term(word, **row) for word, row in rows.items()})


glossary = _read()
