"""The maker of the processor is what the system tells."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.processor import processor_maker

INFO = Path("/proc/cpuinfo")


@pytest.mark.skipif(not INFO.is_file(), reason="this system tells nothing of its processor")
def test_the_maker_is_that_of_the_system() -> None:
    told = {line.split(":")[1].strip() for line in INFO.read_text().splitlines() if line.startswith("vendor_id")}
    assert ({processor_maker()} - {None}) == told
