# The public names: a type checker reads them here, and so does the package (`_lazy`).

from vfiolab import course as course, draw as draw, lab as lab, proposals as proposals
from vfiolab.course import (
    answer as answer,
    ask as ask,
    check as check,
    exercise as exercise,
    outcomes as outcomes,
    predict as predict,
    problem as problem,
)
from vfiolab.course.glossary import glossary as glossary
from vfiolab.course.progress import progress as progress
from vfiolab.proposals import Proposal as Proposal, ProposalError as ProposalError, debate as debate
from vfiolab.draw import (
    Picture as Picture,
    chain as chain,
    compare as compare,
    info_reply as info_reply,
    page_table as page_table,
    pages as pages,
    timeline as timeline,
    topology as topology,
)
from vfiolab.detective import explain as explain, explain_map as explain_map
from vfiolab.kit import (
    AddressSpace as AddressSpace,
    Host as Host,
    Journey as Journey,
    Machine as Machine,
    MachineBuilder as MachineBuilder,
    Table as Table,
    assumptions as assumptions,
    here as here,
    load as load,
    loads as loads,
    machines as machines,
    plot as plot,
)
from vfiolab.kit.capture import open_capture as open_capture
from vfiolab.kit.isolation import WhatIf as WhatIf, Why as Why
from vfiolab.kit.saved import open_session as open_session
from vfiolab.kit.session import Session as Session
from vfiolab.kit.plan import Plan as Plan, plan as plan
from vfiolab.model.address import Span as Span, hexa as hexa, human_size as human_size, parse_size as parse_size
from vfiolab.model.errors import (
    KernelCrashError as KernelCrashError,
    NotModelledError as NotModelledError,
    Obstacle as Obstacle,
    Refusal as Refusal,
    VfioError as VfioError,
    WouldBlockError as WouldBlockError,
)
from vfiolab.model.iommu.doorbells import Reached as Reached
from vfiolab.model.irq.msi import InterruptController as InterruptController
from vfiolab.model.kernel import Kernel as Kernel
from vfiolab.model.pci.grouping import GroupingOptions as GroupingOptions, NotComputableError as NotComputableError
from vfiolab.model.pci.topology import Acs as Acs
from vfiolab.readers.errors import InputError as InputError
from vfiolab.readers.qemu import read_qemu_trace as read_qemu_trace

__version__: str
