"""The debate of December 2015, run: who may put the doorbell of a device's interrupts into a user's address space.

Proposals are policies of doorbells, scenarios are data, and the table has every one on every other. What may not come in: rules of the
kernel, which are the model's, and an answer that no run gave.
"""

from vfiolab.proposals.designs import PROPOSALS, Proposal
from vfiolab.proposals.layers import FORBIDDEN, Edges, ProposalError
from vfiolab.proposals.scenarios import SCENARIOS, Scenario
from vfiolab.proposals.table import PROMISES, Cell, Debate, Imposed, debate

__all__ = [
    "FORBIDDEN", "PROMISES", "PROPOSALS", "SCENARIOS", "Cell", "Debate", "Edges", "Imposed", "Proposal", "ProposalError", "Scenario",
    "debate",
]  # fmt: skip
