"""Runs the real ``winnow`` command in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def winnow(
    *arguments: str | Path, timeout: float = 600, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Result of ``winnow ARGUMENTS``; output is text, 200 columns wide and without colours."""
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb", **(env or {})},
        check=False,
    )
