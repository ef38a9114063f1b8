"""The debate of December 2015, run: the whole table, what each cell rests on, the layers, and a ninth proposal."""

from __future__ import annotations

import json
import re

import pytest

import vfiolab as vl
from vfiolab.__main__ import main
from vfiolab.course import carry_out
from vfiolab.model.iommu.doorbells import Reached
from vfiolab.model.irq.delivery import OUTCOMES
from vfiolab.proposals import PROMISES, PROPOSALS, SCENARIOS, debate
from vfiolab.proposals.designs import KERNEL, P3, P4, P6, P7

# scenario: what became of P0 ... P7, "ok" for delivered, else the errno and when it shows, or the outcome
TABLE = """
x86-guest      ok          ok           ok           ok             ok           ok             ok           ok
foreign-guest  lost        lost         lost         lost           lost         EINVAL:map     lost         EINVAL:map
arm-v2m        lost        ok           ok           ok             ok           ok             ok           ok
arm-its        lost        ok           ok           ok             ok           ok             ok           ok
own-layout     corrupts    EEXIST:setup EEXIST:setup EEXIST:map     EEXIST:setup EINVAL:map     ok           EINVAL:map
hot-add        corrupts    EEXIST:setup EEXIST:setup EEXIST:attach  EEXIST:setup EINVAL:attach  ok           EINVAL:attach
two-domains    lost        ok           ok           ok             ok           ok             ok           ok
two-containers lost        ok           ok           ok             ok           ok             ok           ok
shared-group   EBUSY:attach EBUSY:attach EBUSY:attach EBUSY:attach  EBUSY:attach EBUSY:attach   EBUSY:attach EBUSY:attach
many-doorbells lost        ok           ok           ok             ok           ok             ENOSPC:setup EEXIST:map
late-doorbell  corrupts    EEXIST:setup EEXIST:setup corrupts       EEXIST:setup ENOSPC:setup   ok           ok
64k-pages      lost        ok           ok           ok             ok           ok             ok           ok
"""
EXPECTED = {(f"P{n}", row[0]): word for row in map(str.split, TABLE.split("\n")[1:-1]) for n, word in enumerate(row[1:])}
# P0 and P7 where the model's own experiments speak of the same: scenario -> (machine, experiment)
EXPERIMENTS = {
    "x86-guest": ("x86-remapping", "raise vector"),
    "foreign-guest": ("x86-remapping", "DMA to RAM put there"),
    "arm-v2m": ("smmu-v2m-unsafe", "raise vector"),
    "arm-its": ("smmu-its", "raise vector"),
    "own-layout": ("smmu-its", "raise vector, RAM put there"),
}
WHOLE = debate()


def short(cell):
    return "ok" if cell.outcome == "delivered" else f"{cell.errno}:{cell.when}" if cell.errno else cell.outcome


# The table.


def test_the_table_has_eight_proposals_on_twelve_scenarios():
    assert (8, 12, 96) == (len(PROPOSALS), len(SCENARIOS), len(WHOLE.cells))
    assert {(name, scenario) for name in PROPOSALS for scenario in SCENARIOS} == EXPECTED.keys()


@pytest.mark.parametrize("key", EXPECTED, ids="-".join)
def test_each_cell_is_as_expected_with_a_reason_and_a_mark(key):
    cell = WHOLE[key]
    assert EXPECTED[key] == short(cell)
    assert cell.why
    assert cell.outcome in {*OUTCOMES, "unknown"}
    assert cell.when in {"attach", "map", "setup", "raised", "never"}
    assert cell.rests in {"recording", "reading", "inference", "choice"}
    assert set(cell.broken) <= set(PROMISES)
    assert (cell.errno is None) == (cell.call is None)


@pytest.mark.parametrize("name", ["P0", "P7"])
@pytest.mark.parametrize("scenario", EXPERIMENTS)
def test_nothing_and_what_landed_are_the_model_itself(name, scenario):
    machine, experiment = EXPERIMENTS[scenario]
    result = carry_out(machine, PROPOSALS[name].kernel_version, experiment)
    cell = WHOLE[name, scenario]
    assert (result.outcome, result.rests or "recording") == (cell.outcome, cell.rests)


def test_what_was_never_recorded_does_not_rest_on_a_recording():
    assert {"P0", "P7"} >= {cell.proposal for cell in WHOLE.cells if cell.rests == "recording"}


def test_a_proposal_that_acts_rests_on_what_it_chose():
    assert all("choice" == WHOLE[f"P{n}", "arm-its"].rests for n in range(1, 7))
    assert "reading" == WHOLE["P1", "x86-guest"].rests, "on x86 there is no doorbell to map: what happens is what 4.4 does"


def test_a_map_for_each_device_or_for_one_domain_breaks_the_promise_of_one_map():
    broken = {name for name in PROPOSALS if "same-map" in WHOLE[name, "two-domains"].broken}
    assert {"P2", "P4"} == broken


def test_only_a_window_of_the_users_own_leaves_the_space_to_the_user():
    kept = {name for name in PROPOSALS if "user-owns-iova" not in WHOLE[name, "arm-its"].broken}
    assert {"P0", "P6"} == kept, "P0 takes nothing and gives nothing"


def test_what_landed_lets_a_page_past_its_window_and_says_that_the_place_is_free():
    cell = WHOLE["P7", "many-doorbells"]
    assert ("EEXIST", "map", "reading") == (cell.errno, cell.call, cell.rests)
    window, past = cell.imposed
    assert (0x0800_0000, 0x080F_FFFF) == window[:2]
    assert (0x0810_0000, 0x0810_FFFF) == past[:2], "the seventeenth page of 64 KiB"
    play = SCENARIOS["many-doorbells"]
    host = play.machine().host("6.12")
    space = vl.AddressSpace(host)
    space.attach("0000:01:00.0")
    assert any(usable.contains(past.start) for usable in space.iova_ranges)


# Layers.


def test_what_does_nothing_has_no_edge():
    assert {} == WHOLE.edges["P0"].found


def test_a_place_that_was_demanded_and_refused_is_imposed_all_the_same():
    for name, scenario in (("P1", "own-layout"), ("P3", "hot-add")):
        assert "user-owns-iova" in WHOLE[name, scenario].broken


def test_the_interrupt_code_reaches_vfio_in_one_proposal_only():
    assert {"P1"} == {name for name, edges in WHOLE.edges.items() if edges.forbidden}
    assert {"no"} == {row["allowed"] for row in WHOLE.layers if (row["from"], row["to"]) == ("interrupt code", "VFIO")}


class ThroughAFacade(P4):
    def requested(self, domain, group, doorbell):
        self.vfio.domains_beside(domain)
        return super().requested(domain, group, doorbell)


class ThroughTheOwner(P7):
    def requested(self, domain, group, doorbell):
        assert domain.groups[0].owner.backend is not None
        return super().requested(domain, group, doorbell)


class FromTheDriver(P3):
    def unit_starts(self, unit):
        self.vfio.domains_beside(None)
        return super().unit_starts(unit)


class ByTheList(vl.Proposal):
    def requested(self, domain, _group, doorbell):
        top = max((run.iova + run.size for run in domain.mappings), default=0)
        assert len(domain) == len(list(domain.mappings))
        self.place(domain, top, doorbell)
        return Reached(top | doorbell % self.page_size, "above all that is mapped, which only VFIO can list")


@pytest.mark.parametrize(("changed", "edge"), [
    (ThroughAFacade, "interrupt code -> VFIO"),
    (ThroughTheOwner, "interrupt code -> VFIO"),
    (ByTheList, "interrupt code -> VFIO"),
    (FromTheDriver, "IOMMU core -> VFIO"),
])  # fmt: skip
def test_a_proposal_that_is_changed_to_reach_vfio_from_below_is_caught(changed, edge):
    found = debate(changed, proposals=[], scenarios=["arm-its"])
    assert [edge] == sorted({way.split(" (")[0] for way in found.edges[changed.__name__].forbidden})


# Statements.


def test_who_chooses_the_iova_is_compared_with_what_was_seen():
    class Boasts(P4):
        chooser = KERNEL

    with pytest.raises(vl.ProposalError, match=r"Boasts says that the kernel chooses the iova; .* the host's address map"):
        debate(Boasts, scenarios=["arm-its"])


@pytest.mark.parametrize("kind", PROPOSALS.values(), ids=PROPOSALS)
def test_each_proposal_says_what_it_is(kind):
    assert kind.title
    assert kind.__doc__
    assert kind.mail or kind is P6
    assert kind.chooser
    assert bool(kind.chosen) == (kind.__name__ not in {"P0", "P7"})


# A proposal of one's own.


class Mine(vl.Proposal):
    title = "a page at 4 GiB"

    def requested(self, domain, group, doorbell):
        if domain is None:
            return super().requested(domain, group, doorbell)
        self.place(domain, 0x1_0000_0000, doorbell)
        return vl.Reached(0x1_0000_0000 + doorbell % self.page_size, "the page at 4 GiB")


def test_a_ninth_proposal_has_a_column_beside_the_others():
    found = debate(Mine)
    assert [*PROPOSALS, "Mine"] == list(found.proposals)
    assert ("delivered", "choice") == (found["Mine", "arm-its"].outcome, found["Mine", "arm-its"].rests)
    assert [row[1:] for row in found.table.rows] == [[found[name, scenario].word for name in found.proposals] for scenario in SCENARIOS]


def _fails(_):
    raise LookupError("no such thing")


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (_fails, r"Bad.requested failed with LookupError: no such thing"),
        (lambda _: 17, r"Bad.requested returned 17; expected vl.Reached\(address, why\)"),
        (lambda _: Reached(1 << 64, "too far"), r"Bad.requested returned Reached\(.*\); expected"),
        (lambda _: Reached("5", "text"), r"Bad.requested returned Reached\(.*\); expected"),
        (lambda _: Reached(5, "why", "a guess"), r"Bad.requested returned Reached\(.*\); expected"),
        (lambda domain: domain.unmap(0x4000_0000, 1 << 30), r"Bad.requested changed the user's mappings"),
    ],
)
def test_a_hook_that_breaks_something_is_told_what_and_nothing_else_is_harmed(act, said):
    class Bad(vl.Proposal):
        def requested(self, domain, _group, doorbell):
            return act(domain) or Reached(doorbell, "why")

    with pytest.raises(vl.ProposalError, match=said):
        debate(Bad, scenarios=["arm-its"])
    assert debate(proposals=["P7"], scenarios=["arm-its"]).cells == [WHOLE["P7", "arm-its"]]


def test_a_doorbell_under_a_users_mapping_breaks_an_invariant():
    class Under(vl.Proposal):
        def requested(self, domain, _group, doorbell):
            self.place(domain, 0x2000_0000, doorbell)
            bell = domain.doorbells[0]
            domain.doorbells = (bell._replace(iova=0x4000_0000),)
            return Reached(0x4000_0000, "why")

    with pytest.raises(vl.ProposalError, match=r"Under\.requested broke an invariant of the model: D1: doorbell page 0x4000_0000"):
        debate(Under, scenarios=["arm-its"])


def test_what_is_no_proposal_or_takes_a_name_is_refused():
    with pytest.raises(vl.ProposalError, match="P3 is the name of one of the debate's own"):
        debate(type("P3", (vl.Proposal,), {}))
    for thing in (dict, 3, "P7"):
        with pytest.raises(TypeError, match=r"a class made from vl\.Proposal"):
            debate(thing)
    with pytest.raises(ValueError, match="no scenario 'tea': x86-guest, "):
        debate(scenarios=["tea"])
    with pytest.raises(ValueError, match="no scenario 'hotadd', did you mean hot-add"):
        debate(scenarios=["hotadd"])
    with pytest.raises(KeyError, match="no cell"):
        WHOLE["P7", "tea"]


@pytest.mark.parametrize(("name", "said"), [
    ("requestd", r"Typo.requestd is no hook: did you mean requested\?"),
    ("user_map", r"Typo.user_map is no hook: did you mean user_maps\?"),
    ("helper", r"Typo.helper is no hook: hooks are unit_starts, .*; names of your own begin with _"),
])  # fmt: skip
def test_a_hook_that_is_none_is_named_and_not_passed_over(name, said):
    with pytest.raises(vl.ProposalError, match=said):
        debate(type("Typo", (vl.Proposal,), {name: lambda *_: None}), scenarios=["arm-its"])


@pytest.mark.parametrize(
    ("iova", "said"),
    [
        (0x1_0000_0040, "Far.requested: no page can be placed at 0x1_0000_0040: an iova is a multiple of 0x1000"),
        (-4096, "Far.requested: no page can be placed at -0x1000"),
    ],
)
def test_a_page_is_placed_where_an_iommu_can_have_one(iova, said):
    class Far(vl.Proposal):
        def requested(self, domain, _group, doorbell):
            self.place(domain, iova, doorbell)

    with pytest.raises(vl.ProposalError, match=re.escape(said)):
        debate(Far, scenarios=["arm-its"])


def test_a_page_past_the_last_iova_is_refused():
    class Past(vl.Proposal):
        def requested(self, domain, _group, doorbell):
            self.place(domain, 1 << 60, doorbell)

    assert "ERANGE set_irqs" == debate(Past, scenarios=["arm-its"])["Past", "arm-its"].word


def test_an_errno_that_there_is_none_of_is_named():
    class Refuses(vl.Proposal):
        def requested(self, _domain, _group, _doorbell):
            self.refuse("ENOSPACE", "full")

    with pytest.raises(vl.ProposalError, match=r"Refuses.requested: refuse\('ENOSPACE'\): no errno has that name"):
        debate(Refuses, scenarios=["arm-its"])


# As text, data and picture.


def test_the_command_prints_cells_as_data(capsys):
    assert 0 == main(["debate", "--proposal", "P7", "--scenario", "hot-add", "--json"])
    [cell] = json.loads(capsys.readouterr().out)["cells"]
    assert {"start": 134217728, "end": 135266303, "what": "software MSI window"} in cell.pop("imposed")
    assert "overlaps the software MSI window" in cell.pop("why")
    assert {
        "proposal": "P7", "scenario": "hot-add", "outcome": "refused", "errno": "EINVAL", "call": "set_container", "when": "attach",
        "broken": ["user-owns-iova"], "rests": "recording",
    } == cell  # fmt: skip


def test_the_command_prints_the_whole_table_in_80_columns(capsys):
    assert 0 == main(["debate"])
    lines = capsys.readouterr().out.splitlines()
    assert 80 >= max(map(len, lines[:13]))
    assert ["P0", "P1", "P2", "P3", "P4", "P5", "P6", "P7"] == lines[0].split()
    assert list(SCENARIOS) == [line.split()[0] for line in lines[1:13]]


def test_a_word_too_many_is_answered_with_the_usage_of_its_command(capsys):
    with pytest.raises(SystemExit) as left:
        main(["debate", "P3"])
    assert 2 == left.value.code
    said = capsys.readouterr().err
    assert said.startswith("usage: vfiolab debate [-h]")
    assert "unrecognized arguments: P3" in said


def test_the_command_names_what_there_is(capsys):
    assert 2 == main(["debate", "--proposal", "P9"])
    assert "no proposal 'P9': P0, P1" in capsys.readouterr().err


def test_the_frame_and_the_picture_hold_every_cell():
    frame = WHOLE.frame()
    assert (96, 10) == frame.shape
    picture = WHOLE.picture()
    assert 96 == len(picture.table) == len(picture.narrow.table)
    assert all(f"{cell.scenario}: P0" in picture.alt for cell in WHOLE.cells)
