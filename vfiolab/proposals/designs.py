"""Who may put the doorbell of a device's interrupts into a user's address space? Every design of the debate, one class each.

P0 and P7 are what Linux did before and does since: the model itself. P1 to P6 are told by one mail, and by one later series of patches;
what each class had to choose, because the source leaves it open, it says in `chosen`.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, ClassVar, NoReturn

from vfiolab.model.address import U64, Span, hexa
from vfiolab.model.errors import ERRNO, VfioError
from vfiolab.model.events import EventLog
from vfiolab.model.iommu.domain import Domain, Doorbell
from vfiolab.model.iommu.doorbells import Doorbells, Landed, Reached
from vfiolab.model.iommu.group import IommuGroup
from vfiolab.model.iommu.unit import SOFTWARE_MSI, IommuUnit, ReservedRegion
from vfiolab.model.kernel import Kernel
from vfiolab.proposals.layers import RESTS, VFIO, Edges, ProposalError

if TYPE_CHECKING:
    from vfiolab.model.machine import Host

HOOKS = ("unit_starts", "domain_made", "group_joins", "user_maps", "requested", "prepare")
NOBODY, HOST, USER, KERNEL = "nobody", "the host's address map", "the user", "the kernel"


class Vfio:
    """What VFIO knows and others do not: which domains one container has."""

    host: Host | None = None

    def domains_beside(self, domain: Domain) -> list[Domain]:
        """Return every domain of the container that a domain belongs to."""
        for process in self.host.processes.values() if self.host is not None else ():
            for handle in process.descriptors.values():
                domains: list[Domain] = list(getattr(getattr(handle, "backend", None), "domains", ()))
                if domain in domains:
                    return domains
        return [domain]


class Proposal(Doorbells):
    """A design for doorbells, on a kernel. Override hooks; each does what 4.4 does until you do: nothing.

    unit_starts(unit) -> tuple of reserved regions · domain_made(domain, group, beside): the container's other domains are `beside` ·
    group_joins(domain, group) -> whether it may come into that domain, or gets its own · user_maps(domain, span) -> why not, or None ·
    requested(domain, group, doorbell) -> Reached(address, why): where the device will write. It is called for each vector, so for one
    doorbell many times, and never on x86; without a domain (None) return super().requested(...). Names of your own begin with `_`.

    A domain has `doorbells` (iova, physical, size), `aperture`, `overlaps(iova, size)`, `unit`, `number`; a group `devices`, `reserved`.
    Helpers: `page(doorbell)`; `place(domain, iova, doorbell)`, which does nothing if the page is there already; `refuse(errno, why)`,
    which does not return; `known`, the doorbells known at boot; `vfio.domains_beside(domain)`, every domain of the container: only VFIO
    may ask it. `prepare(domains, wanted)` is what a user does besides.

    `kernel_version` and `switches` say on which Linux it stands. `chooser`: nobody, the host's address map, the user or the kernel chooses
    the iova; it is checked, as are the layers' edges. `mail`, `reading` and `chosen` say what of it is in the mail, what is our reading,
    and what we had to choose; `rests`: choice, inference, reading.

    >>> import vfiolab as vl
    >>> class Mine(vl.Proposal):
    ...     title = "one page at 4 GiB"
    ...     def requested(self, domain, group, doorbell):
    ...         self.place(domain, 0x1_0000_0000, doorbell)
    ...         return vl.Reached(0x1_0000_0000 + doorbell % self.page_size, "the page at 4 GiB is the doorbell's")
    >>> vl.debate(Mine)["Mine", "arm-its"].outcome
    'delivered'
    """

    title: ClassVar[str] = ""
    kernel_version: ClassVar[str] = "4.4"
    switches: ClassVar[tuple[str, ...]] = ()
    chooser: ClassVar[str] = ""
    rests: ClassVar[str] = "choice"
    mail: ClassVar[str] = ""
    reading: ClassVar[str] = ""
    chosen: ClassVar[str] = ""

    def __init__(self, kernel: Kernel, page_size: int, log: EventLog, known: Sequence[int] = ()) -> None:
        self.edges = Edges()
        super().__init__(kernel, page_size, log, known)
        self.windows: dict[int, Span] = {}
        self.demanded: set[Span] = set()
        self._vfio = Vfio()

    @classmethod
    def on(cls) -> Kernel:
        """Return the kernel that it stands on."""
        kernel = Kernel(cls.kernel_version)
        return kernel.flipped(*cls.switches) if cls.switches else kernel

    @classmethod
    def owns(cls, hook: str) -> bool:
        """Say whether a hook is the proposal's own, and not what Linux did or does."""
        return getattr(cls, hook) not in (getattr(Doorbells, hook), getattr(Landed, hook))

    @property
    def vfio(self) -> Vfio:
        """VFIO itself: only VFIO's own code should need it."""
        self.edges.touch(VFIO, "vfio")
        return self._vfio

    def booted(self, host: Host) -> None:
        """Take note of the host, once it runs."""
        self._vfio.host = host

    def prepare(self, domains: Sequence[Domain], wanted: Sequence[Span]) -> None:
        """Do what a user must do beyond the usual calls, once its groups are in; `wanted` are the iovas that it means to use."""

    def page(self, doorbell: int) -> int:
        """Return the physical address of the doorbell's page."""
        return doorbell & -self.page_size

    def place(self, domain: Domain, iova: int, doorbell: int) -> None:
        """Map a doorbell's page at an iova of a domain. EEXIST if something else is mapped there (what Arm's page tables answer)."""
        if iova % self.page_size or not 0 <= iova < U64:
            raise ProposalError(f"no page can be placed at {hexa(iova)}: an iova is a multiple of {self.page_size:#_x} from 0 to 2^64")
        bell = Doorbell(iova, self.page(doorbell), self.page_size)
        self.demanded.add(Span.sized(iova, self.page_size))
        if bell in domain.doorbells:
            return
        if iova + self.page_size > domain.aperture.end:
            self.refuse("ERANGE", f"{hexa(iova)} is past the last iova of D{domain.number}, {hexa(domain.aperture.last)}")
        if domain.overlaps(iova, self.page_size) or any(other.iova == iova for other in domain.doorbells):
            self.refuse("EEXIST", f"the doorbell's page cannot be mapped at {hexa(iova)} of D{domain.number}: something is mapped there")
        self.map_page(domain, iova, bell.physical)

    def refuse(self, errno: str, why: str) -> NoReturn:
        """Refuse the call that is running, with an errno's name; this does not return."""
        if errno not in ERRNO:
            raise ProposalError(f"refuse({errno!r}): no errno has that name; {', '.join(ERRNO)}")
        raise VfioError(errno, why, f"the proposal {type(self).__name__}: {self.title}")

    def chosen_by(self, domain: Domain | None, doorbell: int, address: int) -> str:
        """Return who chose an address, found by looking at it."""
        if domain is None or not any(bell.iova <= address < bell.iova + bell.size for bell in domain.doorbells):
            return NOBODY
        if address == doorbell:
            return HOST
        return USER if domain.number in self.windows else KERNEL


class _Identity(Proposal):
    """A design in which the interrupt code maps the doorbell's page 1:1, in one domain or in several."""

    chooser = HOST

    def requested(self, domain: Domain | None, group: IommuGroup | None, doorbell: int) -> Reached:
        """Map the page in the domains that the design reaches."""
        if domain is None:
            return super().requested(domain, group, doorbell)
        for each in self._domains(domain):
            self.place(each, self.page(doorbell), doorbell)
        return Reached(doorbell, "the doorbell's page is mapped 1:1", self.rests)

    def _domains(self, domain: Domain) -> Sequence[Domain]:
        return (domain,)


class P0(Landed, Proposal):
    """Nothing: 4.4, the kernel of the mail."""

    title = "nothing (4.4)"
    chooser = NOBODY
    rests = ""
    mail = "the state that the mail starts from"


class P1(_Identity):
    """The series under discussion: the interrupt domain's operations call back into VFIO, which maps the doorbell in every domain."""

    title = "callbacks into VFIO"
    mail = "S1, S2, S3: the callback, what it uses of VFIO, and that every domain of the container is mapped"
    reading = "transparent for the user: no call of its own"
    chosen = "the iova is the doorbell's own address; where the user has mapped it, setting the interrupt up fails with EEXIST"

    def _domains(self, domain: Domain) -> Sequence[Domain]:
        return self.vfio.domains_beside(domain)


class P2(_Identity):
    """Idea 1: a map for each device."""

    title = "idea 1: a map for each device"
    mail = "S10, S18: per-device mappings, as stream ids allow; the answer is that this solves nothing"
    reading = "a group is the least that can have tables of its own (S11, S12), so each group has a domain"
    chosen = "the iova is the doorbell's own address, in the table of the device that asks; a mapping of the user there: EEXIST"

    def group_joins(self, domain: Domain, group: IommuGroup) -> bool:  # noqa: ARG002 - whichever they are
        """Keep every group apart."""
        return False


class P3(Proposal):
    """Idea 2: the doorbells that are known when the IOMMU starts are mapped 1:1, for ever."""

    title = "idea 2: static 1:1 map"
    chooser = HOST
    mail = "S19: a 1:1 map of the MSI register when the IOMMU is initialised, and forgotten"
    reading = "every domain has the pages from its first moment; a doorbell that comes later is not among them"
    chosen = "a user's mapping over such a page is refused with EEXIST, whichever comes second; the hole is not described"

    def domain_made(self, domain: Domain, group: IommuGroup, beside: Sequence[Domain]) -> None:  # noqa: ARG002 - the pages are the host's
        """Map every known doorbell's page, if the unit translates messages."""
        if domain.unit.translates_msi:
            for doorbell in self.known:
                self.place(domain, self.page(doorbell), doorbell)

    def requested(self, domain: Domain | None, group: IommuGroup | None, doorbell: int) -> Reached:  # noqa: ARG002 - nothing is left to do
        """Nothing is left to do."""
        return Reached(doorbell, "the physical doorbell: it was mapped 1:1 when the IOMMU started, or never", self.rests)


class P4(_Identity):
    """Idea 3: the interrupt code gets the raw iommu_domain and maps by itself."""

    title = "idea 3: the raw domain"
    mail = "S25: pass the iommu_domain, call iommu_map and iommu_unmap; S26: more right than VFIO concepts in the MSI layer"
    reading = "the domain of the device that asks, no other: the interrupt code does not know the container"
    chosen = "without an allocator for a space that is not its own, the iova is the doorbell's address; a mapping of the user there: EEXIST"


class P5(_Identity):
    """The answer's plan: the info ioctl describes the usable space, and the interrupts' range is not in it."""

    title = "describe the usable space"
    switches = ("info_iova_ranges", "reserved_regions", "valid_iova")
    mail = "S22: the info ioctl describes the space that is left; S23: what is mapped already cannot be taken back"
    reading = "what is not described cannot be mapped, and no group comes in whose hole is mapped already: the rules of 5.4"
    chosen = "on Arm the hole is each doorbell's page that is known at boot, mapped there 1:1; another doorbell: ENOSPC"

    def unit_starts(self, unit: IommuUnit) -> tuple[ReservedRegion, ...]:
        """Describe the pages of the known doorbells as not usable, or what an x86 unit has."""
        if not unit.translates_msi:
            return super().unit_starts(unit)
        pages = sorted({self.page(doorbell) for doorbell in self.known})
        return tuple(ReservedRegion(Span.sized(page, self.page_size), "msi") for page in pages)

    def requested(self, domain: Domain | None, group: IommuGroup | None, doorbell: int) -> Reached:
        """Map the page 1:1 where it was described."""
        if group is not None and domain is not None and not any(region.span.contains(doorbell) for region in group.reserved):
            self.refuse("ENOSPC", f"no hole was described for the doorbell at {hexa(doorbell)}, and the space belongs to the user")
        return super().requested(domain, group, doorbell)


class P6(Proposal):
    """The series of 2016: the user registers a range of iovas for doorbells (VFIO_DMA_MAP_FLAG_MSI_RESERVED_IOVA)."""

    title = "the user registers a window"
    chooser = USER
    reading = "v14, patches 12 and 13 of 16, 12 October 2016: MAP_DMA with a flag registers the range, and the kernel allocates in it"
    chosen = "1 MiB, at the lowest place that the user does not use; without one, or if it is full, the interrupt is refused: ENOSPC"

    def prepare(self, domains: Sequence[Domain], wanted: Sequence[Span]) -> None:
        """Register the lowest free MiB in every domain whose unit translates messages."""
        size = SOFTWARE_MSI.size
        start = next(at for at in range(0, 1 << 40, size) if not any(Span.sized(at, size).overlaps(span) for span in wanted))
        self.windows |= {domain.number: Span.sized(start, size) for domain in domains if domain.unit.translates_msi}

    def domain_made(self, domain: Domain, group: IommuGroup, beside: Sequence[Domain]) -> None:  # noqa: ARG002 - the window is the container's
        """Give a new domain the container's window."""
        for window in [self.windows[other.number] for other in beside if other.number in self.windows][:1]:
            self.windows[domain.number] = window

    def user_maps(self, domain: Domain, span: Span) -> str | None:
        """Keep the window, as any mapping of the user."""
        window = self.windows.get(domain.number)
        if window is not None and window.overlaps(span):
            self.refuse("EEXIST", f"{span} overlaps the window {window} that the user registered for doorbells")
        return None

    def requested(self, domain: Domain | None, group: IommuGroup | None, doorbell: int) -> Reached:
        """Take the window's next page."""
        if domain is None:
            return super().requested(domain, group, doorbell)
        window, page = self.windows.get(domain.number), self.page(doorbell)
        held = [bell.iova for bell in domain.doorbells if bell.physical == page]
        if window is None:
            self.refuse("ENOSPC", f"the user has registered no window for doorbells in D{domain.number}")
        iova = held[0] if held else window.start + len(domain.doorbells) * self.page_size
        if iova >= window.end:
            self.refuse("ENOSPC", f"the window {window} is full: {len(domain.doorbells)} doorbell pages are in it")
        self.place(domain, iova, doorbell)
        return Reached(iova | doorbell % self.page_size, "the kernel allocated the page in the user's window", self.rests)


class P7(Landed, Proposal):
    """What landed: reserved regions and a cookie in each domain (4.11), a usable space that is described and enforced (5.4)."""

    title = "what landed (4.11, 5.4)"
    kernel_version = "6.12"
    chooser = KERNEL
    rests = ""
    mail = "S22 and S24 to S27 ask for what it became"
    reading = "the model itself, which recorded kernels check"


PROPOSALS: dict[str, type[Proposal]] = {kind.__name__: kind for kind in (P0, P1, P2, P3, P4, P5, P6, P7)}


def check_class(kind: object) -> type[Proposal]:
    """Return a proposal's class if it can be run. TypeError: no such class; ProposalError: a name that is no hook's, or is taken."""
    if not isinstance(kind, type) or not issubclass(kind, Proposal):
        raise TypeError(f"a proposal is a class made from vl.Proposal, not {kind!r}")
    name = kind.__name__
    if name in PROPOSALS and kind is not PROPOSALS[name]:
        raise ProposalError(f"{name} is the name of one of the debate's own proposals: choose another")
    for base in kind.__mro__[: kind.__mro__.index(Proposal)]:
        for found, value in vars(base).items():
            if callable(value) and found[0] != "_" and not hasattr(Proposal, found) and base not in (Landed, *PROPOSALS.values()):
                close = get_close_matches(found, HOOKS, 1)
                meant = f"did you mean {close[0]}?" if close else f"hooks are {', '.join(HOOKS)}; names of your own begin with _"
                raise ProposalError(f"{name}.{found} is no hook: {meant}")
    if kind.rests not in RESTS:
        raise ProposalError(f"{name}.rests is {kind.rests!r}: choice, inference or reading")
    return kind


def check_statements(kind: type[Proposal], choosers: set[str], resting: set[str]) -> None:
    """Compare what a proposal says of itself with what was seen. ProposalError names the statement."""
    wrong = choosers - {kind.chooser, NOBODY} if kind.chooser else set()
    if wrong:
        raise ProposalError(f"{kind.__name__} says that {kind.chooser} chooses the iova; in its runs it was {' and '.join(sorted(wrong))}")
    if "choice" in resting and kind.__name__ in PROPOSALS and not kind.chosen:
        raise ProposalError(f"cells of {kind.__name__} rest on a choice, and it does not say which")
