"""From an error line to its cause: the call is made again on a machine of the kit, and the check that refuses it speaks.

So far for the line that QEMU prints most: `vfio_dma_map(0x..., 0xIOVA, 0xSIZE, 0xVADDR) = -22 (Invalid argument)`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from vfiolab.kit import AddressSpace, Host
from vfiolab.model.address import Span, hexa, human_size
from vfiolab.model.backends.type1 import Type1
from vfiolab.model.backends.type1_checks import map_tables
from vfiolab.model.errors import NAMES, STRERROR, Refusal, VfioError
from vfiolab.model.user.descriptors import MOST_FRESH
