"""Runs the main job from the command line: sets Prefect up before it is imported, then calls the flow."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flows.console import err
from flows.report import StageReport
from flows.workspace import Workspace

_PREFECT_DEFAULTS = {
    # the ephemeral server takes about 10 s to start on two cores, longer on a busy machine
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    # the stages speak for themselves; the API, where there is one, still gets every log line
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
}


def prepare_prefect() -> None:
    """Set Prefect's defaults for the command line; call it before Prefect is imported. What the user set stays."""
    for name, value in _PREFECT_DEFAULTS.items():
        os.environ.setdefault(name, value)


def run_pipeline(workspace: Path, sources: Sequence[str], **options: Any) -> list[StageReport]:
    """Run :func:`flows.curation_flow.curation`; same arguments, same result, same errors."""
    if not sources:
        Workspace.open(workspace)  # say so at once, not after Prefect has started
    prepare_prefect()
    with err.status("Starting Prefect"):
        from flows.curation_flow import curation
    result: list[StageReport] = curation(workspace, sources, **options)
    return result
