"""Inputs that nobody means well, of any size: each is answered, and in a time in proportion."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import product


def many_devices(segments: int) -> str:
    """Return a listing with 8,192 devices a segment."""
    places = product(range(segments), range(256), range(32))
    return "".join(f"{segment:04x}:{bus:02x}:{slot:02x}.0 Host bridge: Device\n" for segment, bus, slot in places)


HOSTILE: dict[str, Callable[[float], str]] = {
    "braces": lambda size: "{" * int(100_000 * size),
    "brackets": lambda size: "[" * int(100_000 * size),
    "nested": lambda size: '{"a":' * int(50_000 * size),
    "long line": lambda size: "00:00.0 " + "x" * int(2_000_000 * size),
    "long offset": lambda size: ("00:00.0 Host bridge: x\n\tCapabilities: [" + "9" * 5000 + "] y\n") * int(50 * size),
    "long number": lambda size: "IOMMU Group " + "9" * int(100_000 * size),
    "doubles": lambda size: json.dumps({"devices": [{"bdf": "0000:00:02.0"}] * int(5000 * size)}),
}
