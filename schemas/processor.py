"""Who made this machine's processor, which decides what a library of numerical routines makes of it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

INTEL = "GenuineIntel"


@cache
def processor_maker() -> str | None:
    """As the processor names its maker, for example ``GenuineIntel``; None where the system does not tell."""
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return None
    names = (line.partition(":") for line in info.read_text().splitlines())
    return next((value.strip() for name, _, value in names if name.strip() == "vendor_id"), None)
