"""Where the real sets and the small trained policy lie: ``shared/`` beside the checkout."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[1].parent / "shared"


def shared(path: str) -> Path:
    """A file or folder of ``../shared``; where it is missing, CI fails and a person's run skips the test."""
    found = SHARED / path
    if not found.exists():
        if os.environ.get("CI") == "true":
            raise FileNotFoundError(f"../shared/{path} is missing beside the checkout")
        pytest.skip(f"../shared/{path} is not beside the checkout")
    return found
