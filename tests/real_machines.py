"""The real machines in data/, read once."""

from __future__ import annotations

import json
from functools import lru_cache

from vfiolab._paths import data_dir
from vfiolab.model.kernel import Kernel
from vfiolab.model.pci.grouping import iommu_groups
from vfiolab.readers.lspci import read_lspci
from vfiolab.readers.pcijson import read_pci_json

NAMES = sorted(path.stem for path in (data_dir() / "lspci").glob("*.txt"))


def listing(name):
    return (data_dir() / "lspci" / f"{name}.txt").read_text(encoding="utf-8")


@lru_cache(maxsize=64)
def machine(name):
    path = data_dir() / "machines" / f"{name}.json"
    return read_pci_json(path.read_text(encoding="utf-8"), source=path.name)


@lru_cache(maxsize=64)
def from_lspci(name):
    return read_lspci(listing(name), source=name)


def kernel(found):
    return Kernel(found.kernel) if found.kernel else Kernel()


def grouping(found, **options):
    return iommu_groups(found.topology, kernel(found), participants=found.participants, **options)


def partition(groups, only=None):
    """Return groups as a set of frozensets, cut down to some devices."""
    kept = (frozenset(bdf for bdf in members if only is None or bdf in only) for members in groups)
    return {members for members in kept if members}


def recorded_devices(found):
    return {bdf for members in found.recorded for bdf in members}


def computable_files():
    """Return every machine file in data/ whose groups follow from its topology."""
    paths = sorted(data_dir().rglob("*.json"))
    return [path for path in paths if '"groups_from": "topology"' in path.read_text(encoding="utf-8")]


def without_groups(text):
    """Return a machine file's text with its recorded groups taken out."""
    return json.dumps(json.loads(text) | {"groups": []})
