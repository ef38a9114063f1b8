"""Which layer's code reaches which, found by looking while a proposal's hook runs; and what a hook may not leave behind.

The layers are VFIO, the IOMMU core and the interrupt code. A hook runs in the layer whose code calls it. What it reads or sets of another
layer's thing is an edge, and so is `vfio`. The doorbells known at boot are plain numbers, which belong to no layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from vfiolab.model.address import U64, Span
from vfiolab.model.errors import Refusal
from vfiolab.model.iommu.domain import Domain
from vfiolab.model.iommu.doorbells import Doorbells, Reached
from vfiolab.model.iommu.group import IommuGroup
from vfiolab.model.iommu.unit import IommuUnit, ReservedRegion

if TYPE_CHECKING:
    from vfiolab.proposals.designs import Proposal

VFIO, IOMMU, INTERRUPTS = "VFIO", "IOMMU core", "interrupt code"
ROOMS = {"backends": VFIO, "user": VFIO, "machine": VFIO, "iommu": IOMMU, "irq": INTERRUPTS}
#: Lower layers serve VFIO and know nothing of it: what the mail's answer asks for (claims S1, S2 and S26).
FORBIDDEN = ((INTERRUPTS, VFIO), (IOMMU, VFIO))
LIVE = (Domain, IommuGroup, IommuUnit)
#: What of a domain only VFIO can list: an IOMMU's table can be asked for one address, and no more.
LISTED_BY_VFIO = frozenset({"mappings", "__len__"})


REACHED = "vl.Reached(address, why): an address from 0 to 2^64 - 1, and a sentence"
RESTS = ("", "reading", "inference", "choice")


class ProposalError(ValueError):
    """A proposal's own fault: a hook failed, answered with what is no answer, or broke an invariant of the model."""

    __module__ = "vfiolab"


def layer_of(thing: object) -> str | None:
    """Return the layer whose code made a thing, None for what belongs to none.

    >>> layer_of(Span(0, 1)), layer_of(ReservedRegion(Span(0, 1), "msi"))
    (None, 'IOMMU core')
    """
    parts = type(thing).__module__.split(".")
    return ROOMS.get(parts[2]) if parts[:2] == ["vfiolab", "model"] and len(parts) > 2 else None


class Edges:
    """The edges that the hooks of one proposal made: from layer, to layer, and by what."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, str], set[str]] = {}
        self.running: tuple[str, str] | None = None

    def touch(self, layer: str | None, what: str) -> None:
        """Note that the running hook touched something of a layer."""
        if self.running is not None and layer is not None and layer != self.running[1]:
            self.found.setdefault((self.running[1], layer), set()).add(f"{self.running[0]}: {what}")

    @property
    def forbidden(self) -> list[str]:
        """What no layer may do: reach up into VFIO."""
        return [f"{low} -> {high} ({way})" for low, high in FORBIDDEN if (low, high) in self.found for way in sorted(self.found[low, high])]


class Seen:
    """A model's object in the hands of a hook: it behaves as the object, and what is read or set of it is noted."""

    __slots__ = ("_edges", "_it")

    def __init__(self, it: object, edges: Edges) -> None:
        object.__setattr__(self, "_it", it)
        object.__setattr__(self, "_edges", edges)

    def __getattribute__(self, name: str) -> Any:
        it, edges = object.__getattribute__(self, "_it"), object.__getattribute__(self, "_edges")
        if name == "__class__":
            return type(it)
        value = getattr(it, name)
        if value is not None and value != ():
            edges.touch(VFIO if name in LISTED_BY_VFIO else layer_of(it), f"{type(it).__name__}.{name}")
        return shown(value, edges, f"{type(it).__name__}.{name}")

    def __setattr__(self, name: str, value: object) -> None:
        it, edges = object.__getattribute__(self, "_it"), object.__getattribute__(self, "_edges")
        edges.touch(layer_of(it), f"{type(it).__name__}.{name}")
        setattr(it, name, value)

    def __len__(self) -> int:
        length: int = self.__getattribute__("__len__")()
        return length

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return object.__getattribute__(self, "_it") is bare(other)

    def __hash__(self) -> int:
        return hash(object.__getattribute__(self, "_it"))

    def __repr__(self) -> str:
        return repr(object.__getattribute__(self, "_it"))


def bare(thing: object) -> Any:
    """Return the object itself."""
    return object.__getattribute__(thing, "_it") if type(thing) is Seen else thing


def shown(thing: Any, edges: Edges, what: str) -> Any:
    """Return a thing as a hook may have it: live objects are watched, alone or in a list; VFIO's own are noted."""
    if type(thing) in (list, tuple):
        return type(thing)(shown(one, edges, what) for one in thing)
    layer = layer_of(thing)
    if layer == VFIO:
        edges.touch(layer, what)
    return Seen(thing, edges) if layer == VFIO or isinstance(thing, LIVE) else thing


class Watched(Doorbells):
    """A proposal at work: each hook is called with its layer known, its edges are noted, and what it did is checked."""

    def __init__(self, proposal: Proposal) -> None:
        super().__init__(proposal.kernel, proposal.page_size, proposal.log, proposal.known)
        self.proposal, self.edges = proposal, proposal.edges
        self.acted = False
        self.choosers: set[str] = set()

    @property
    def watches(self) -> bool:
        """Whether the proposal has something to say of a user's maps."""
        return self.proposal.watches

    @property
    def design(self) -> str:
        """The proposal's name."""
        return type(self.proposal).__name__

    def _hook(
        self, name: str, layer: str, expected: str, fits: Callable[[Any], bool], domain: Domain | None, *args: object, idle: object = None
    ) -> Any:
        """Run a hook; `fits` says whether what it returned is as `expected`, `idle` is the answer of a proposal that does nothing.

        What a hook may change of the domain are the doorbells.
        """
        at, edges = f"{type(self.proposal).__name__}.{name}", self.edges
        before = None if domain is None else (len(domain), list(domain.groups), domain.doorbells, domain.msi_base)
        edges.running = (name, layer)
        try:
            result = bare(getattr(self.proposal, name)(*(shown(one, edges, "an argument") for one in args)))
        except Refusal:
            self.acted = self.acted or self.proposal.owns(name)
            raise
        except ProposalError as error:
            raise ProposalError(f"{at}: {error}") from error
        except Exception as error:
            raise ProposalError(f"{at} failed with {type(error).__name__}: {error}") from error
        finally:
            edges.running = None
        if not fits(result):
            raise ProposalError(f"{at} returned {result!r}; expected {expected}")
        if domain is not None and before is not None:
            _check(at, domain, before)
        changed = before is not None and domain is not None and (domain.doorbells, domain.msi_base) != before[2:]
        self.acted = self.acted or (self.proposal.owns(name) and (changed or result not in (None, True, idle)))
        return result

    def unit_starts(self, unit: IommuUnit) -> tuple[ReservedRegion, ...]:
        """Run the hook in the IOMMU core."""
        answer: tuple[ReservedRegion, ...] = self._hook(
            "unit_starts", IOMMU, "a tuple of ReservedRegion", _are_regions, None, unit, idle=super().unit_starts(unit)
        )
        return answer

    def domain_made(self, domain: Domain, group: IommuGroup, beside: Sequence[Domain]) -> None:
        """Run the hook in VFIO."""
        self._hook("domain_made", VFIO, "nothing (None)", lambda answer: answer is None, domain, domain, group, list(beside))

    def group_joins(self, domain: Domain, group: IommuGroup) -> bool:
        """Run the hook in VFIO."""
        answer: bool = self._hook("group_joins", VFIO, "True or False", lambda answer: isinstance(answer, bool), domain, domain, group)
        return answer

    def user_maps(self, domain: Domain, span: Span) -> str | None:
        """Run the hook in VFIO."""
        answer: str | None = self._hook("user_maps", VFIO, "a sentence or None", _is_sentence, domain, domain, span)
        return answer

    def requested(self, domain: Domain | None, group: IommuGroup | None, doorbell: int) -> Reached:
        """Run the hook in the interrupt code."""
        reached: Reached = self._hook("requested", INTERRUPTS, REACHED, _is_reached, domain, domain, group, doorbell)
        self.choosers.add(self.proposal.chosen_by(domain, doorbell, reached.address))
        return reached


def _are_regions(answer: object) -> bool:
    return isinstance(answer, tuple) and all(isinstance(region, ReservedRegion) for region in answer)


def _is_sentence(answer: object) -> bool:
    return answer is None or isinstance(answer, str)


def _is_reached(answer: Any) -> bool:
    if not isinstance(answer, Reached) or not all(map(isinstance, answer, (int, str, str))):
        return False
    return 0 <= answer.address < U64 and answer.rests in RESTS


def _check(at: str, domain: Domain, before: tuple[Any, ...]) -> None:
    if (len(domain), list(domain.groups)) != before[:2]:
        raise ProposalError(f"{at} changed the user's mappings or the groups of D{domain.number}: a hook may add doorbells only")
    try:
        domain._check()
    except AssertionError as error:
        raise ProposalError(f"{at} broke an invariant of the model: {error}") from error
