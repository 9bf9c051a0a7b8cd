"""The maker of the processor is what the system tells, and None where it tells nothing."""

from __future__ import annotations

from pathlib import Path

from schemas.processor import processor_maker


def test_the_maker_is_that_of_the_system() -> None:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    told = {line.split(":")[1].strip() for line in lines if line.startswith("vendor_id")}
    assert ({processor_maker()} - {None}) == told
