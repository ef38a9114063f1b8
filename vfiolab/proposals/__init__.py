"""The debate of December 2015, run: who may put the doorbell of a device's interrupts into a user's address space.

Proposals are policies of doorbells, scenarios are data, and the table has every one on every other. What may not come in: rules of the
kernel, which are the model's, and an answer that no run gave.
"""

from vfiolab.proposals.designs import P0, P1, P2, P3, P4, P5, P6, P7, PROPOSALS, Proposal
from vfiolab.proposals.layers import FORBIDDEN, Edges, ProposalError
from vfiolab.proposals.scenarios import SCENARIOS, Scenario
from vfiolab.proposals.table import PROMISES, Cell, Debate, Imposed, debate

__all__ = [
    "FORBIDDEN", "P0", "P1", "P2", "P3", "P4", "P5", "P6", "P7", "PROMISES", "PROPOSALS", "SCENARIOS", "Cell", "Debate", "Edges",
    "Imposed", "Proposal", "ProposalError", "Scenario", "debate",
]  # fmt: skip
